/* SPDX-License-Identifier: Apache-2.0 */
#include "common/sse.h"
#include <string.h>

static bool is_break(char c)
{
    return c == '\n' || c == '\r' || c == '\0';
}

/* Length of the run before the next CR, LF or NUL. Eight bytes at a time while none of them is
 * below 0x0E: those three are, and of what else is there only the tab is common. */
static size_t plain_run(struct slice s)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = UINT64_C(0x8080808080808080);
    size_t i = 0;
    while (i < s.len) {
        uint64_t word;
        while (s.len - i >= sizeof word) {
            memcpy(&word, s.ptr + i, sizeof word);
            if (((word - ones * 0x0E) & ~word & tops) != 0)
                break;
            i += sizeof word;
        }
        for (size_t end = s.len - i > sizeof word ? i + sizeof word : s.len; i < end; i++)
            if (is_break(s.ptr[i]))
                return i;
    }
    return i;
}

static struct slice skip(struct slice s, size_t len)
{
    return (struct slice){s.ptr + len, s.len - len};
}

static void put_id(struct buf *b, uint64_t id)
{
    if (id == 0)
        return;
    buf_put(b, "id: ", 4);
    buf_put_u64(b, id);
    buf_putc(b, '\n');
}

static void put_type(struct buf *b, struct slice type)
{
    size_t start = b->len;
    buf_put(b, "event: ", 7);
    size_t text = b->len;
    while (type.len > 0) {
        size_t run = plain_run(type);
        buf_put_utf8(b, (struct slice){type.ptr, run});
        type = skip(type, run < type.len ? run + 1 : run);
    }
    if (b->len == text)
        b->len = start;
    else
        buf_putc(b, '\n');
}

static void put_data(struct buf *b, struct slice data)
{
    buf_put(b, "data: ", 6);
    for (;;) {
        size_t run = plain_run(data);
        buf_put_utf8(b, (struct slice){data.ptr, run});
        if (run == data.len)
            break;
        char c = data.ptr[run];
        data = skip(data, run + 1);
        if (c == '\0')
            continue;
        if (c == '\r' && data.len > 0 && data.ptr[0] == '\n')
            data = skip(data, 1);
        buf_put(b, "\ndata: ", 7);
    }
    buf_putc(b, '\n');
}

void sse_put_frame(struct buf *b, const struct event_fields *fields)
{
    buf_reserve(b, fields->type.len + fields->data.len + 80);
    put_id(b, fields->id);
    put_type(b, fields->type);
    if (fields->retry_ms >= 0) {
        buf_put(b, "retry: ", 7);
        buf_put_u64(b, (uint64_t)fields->retry_ms);
        buf_putc(b, '\n');
    }
    put_data(b, fields->data);
    buf_putc(b, '\n');
}

void sse_put_control(struct buf *b, uint64_t id, const char *prefix, const char *name,
                     struct slice json)
{
    put_id(b, id);
    buf_put(b, "event: ", 7);
    buf_puts(b, prefix);
    buf_puts(b, name);
    buf_putc(b, '\n');
    put_data(b, json);
    buf_putc(b, '\n');
}

void sse_put_position(struct buf *b, uint64_t id)
{
    buf_put(b, "id: ", 4);
    buf_put_u64(b, id);
    buf_put(b, "\n\n", 2);
}

/* The first line that begins with @name, with its end; empty: there is none. */
static struct slice line_of(struct slice frame, struct slice name)
{
    while (frame.len > 1) {
        const char *end = memchr(frame.ptr, '\n', frame.len);
        size_t len = end ? (size_t)(end - frame.ptr) + 1 : frame.len;
        if (slice_has_prefix(frame, name))
            return (struct slice){frame.ptr, len};
        if (slice_has_prefix(frame, SLICE_LIT("data:")))
            break;
        frame = skip(frame, len);
    }
    return SLICE_NONE;
}

/* From the text of its first data line to the end of its last, without that. */
static struct slice data_of(struct slice frame)
{
    struct slice first = line_of(frame, SLICE_LIT("data: "));
    const char *text = first.ptr + 6, *end = frame.ptr + frame.len - 2;
    return (struct slice){text, (size_t)(end - text)};
}

void sse_put_joined(struct buf *b, const struct slice *frames, size_t count)
{
    buf_put_slice(b, line_of(frames[count - 1], SLICE_LIT("id: ")));
    buf_put_slice(b, line_of(frames[0], SLICE_LIT("event: ")));
    buf_put(b, "data: ", 6);
    for (size_t i = 0; i < count; i++)
        buf_put_slice(b, data_of(frames[i]));
    buf_put(b, "\n\n", 2);
}

bool sse_frame_id(struct slice frame, uint64_t *id)
{
    if (!slice_has_prefix(frame, SLICE_LIT("id: ")))
        return false;
    struct slice digits = skip(frame, 4);
    const char *end = memchr(digits.ptr, '\n', digits.len);
    if (!end)
        return false;
    digits.len = (size_t)(end - digits.ptr);
    return slice_u64(digits, UINT64_MAX, id) == OK;
}
