/* SPDX-License-Identifier: Apache-2.0 */
#include "common/sse.h"
#include <string.h>
#include "common/json.h"

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

/* --- in another form -------------------------------------------------------------------------- */

/* The text that a client makes of the data. @joined: where it has lines; to be reset. */
static struct slice text_of(struct slice frame, struct buf *joined)
{
    static const char between[] = "\ndata: ";
    struct slice rest = data_of(frame);
    const char *end;
    if (!memchr(rest.ptr, '\n', rest.len))
        return rest;
    while ((end = memchr(rest.ptr, '\n', rest.len))) {
        size_t len = (size_t)(end - rest.ptr);
        buf_put(joined, rest.ptr, len + 1);
        rest = skip(rest, len + sizeof(between) - 1);
    }
    buf_put_slice(joined, rest);
    return buf_slice(joined);
}

/* False: it is none, or something of it was appended. One line is taken as it is. */
static bool put_json(struct buf *b, struct slice text)
{
    if (!json_is_valid(text))
        return false;
    if (memchr(text.ptr, '\n', text.len))
        return json_put_dense(b, text) == OK;
    buf_put_slice(b, text);
    return true;
}

static void put_value(struct buf *b, struct slice text, bool is_piece)
{
    size_t at = b->len;
    if (!is_piece && put_json(b, text))
        return;
    b->len = at;
    json_put_string(b, text);
}

static void put_envelope(struct buf *b, struct slice frame, struct slice type,
                         const struct sse_form *form)
{
    struct buf joined = {0};
    struct slice text = text_of(frame, &joined);
    buf_puts(b, "data: {\"topic\":");
    json_put_string(b, form->topic);
    if (type.ptr) {
        buf_puts(b, ",\"event\":");
        json_put_string(b, type);
    }
    buf_puts(b, ",\"time\":");
    buf_put_u64(b, form->time_ms);
    buf_puts(b, ",\"data\":");
    put_value(b, text, form->is_piece);
    buf_puts(b, "}\n\n");
    buf_reset(&joined);
}

/* Of a line of a frame; SLICE_NONE: there is none. */
static struct slice value_of(struct slice line, size_t name_len)
{
    return line.len ? (struct slice){line.ptr + name_len, line.len - name_len - 1} : SLICE_NONE;
}

void sse_put_form(struct buf *b, struct slice frame, const struct sse_form *form)
{
    struct slice data = data_of(frame);
    struct slice type = value_of(line_of(frame, SLICE_LIT("event: ")), 7);
    if (form->swaps_type)
        type = type.ptr ? SLICE_NONE : form->topic;
    buf_reserve(b, frame.len + 2 * form->topic.len + 80);
    buf_put_slice(b, line_of(frame, SLICE_LIT("id: ")));
    if (type.ptr)
        put_type(b, type);
    buf_put_slice(b, line_of(frame, SLICE_LIT("retry: ")));
    if (form->as_json) {
        put_envelope(b, frame, type, form);
        return;
    }
    buf_put(b, "data: ", 6);
    buf_put(b, data.ptr, data.len + 2); /* with the blank line */
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
