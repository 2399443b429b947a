/* SPDX-License-Identifier: Apache-2.0 */
#include "sse_reader.h"
#include "common/mem.h"
#include <stdlib.h>
#include <string.h>

enum { INFLATED_AT_ONCE = 64 << 10 };
enum chunk { CHUNK_NONE, CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_BYTES, CHUNK_END, CHUNK_LAST };

void sse_reader_reset(struct sse_reader *r)
{
    free(r->kept);
    unzip_free(r->unzip);
    *r = (struct sse_reader){0};
}

size_t sse_reader_kept(const struct sse_reader *r)
{
    return r->kept_len;
}

size_t sse_reader_resume(struct sse_reader *r, char *scratch)
{
    size_t len = r->kept_len;
    if (len) {
        memcpy(scratch, r->kept, len);
        free(r->kept); /* an idle stream keeps nothing */
        r->kept = NULL;
        r->kept_len = 0;
    }
    return len;
}

static void fail(struct sse_reader *r, const char *error)
{
    r->phase = SSE_BROKEN;
    r->error = error;
}

static void keep(struct sse_reader *r, const char *bytes, size_t len, size_t max)
{
    if (len > max) {
        fail(r, "no end of a line");
        return;
    }
    if (len)
        r->kept = mem_dup(bytes, len);
    r->kept_len = len;
}

/* --- HTTP head --- */

/* The value of a header, or NULL. @head ends with a blank line. */
static const char *find_header(const char *head, const char *end, const char *name)
{
    size_t len = strlen(name);
    for (const char *p = head; p < end;) {
        if ((size_t)(end - p) > len && strncasecmp(p, name, len) == 0 && p[len] == ':') {
            p += len + 1;
            while (p < end && *p == ' ')
                p++;
            return p;
        }
        p = memchr(p, '\n', (size_t)(end - p));
        if (!p)
            return NULL;
        p++;
    }
    return NULL;
}

static void choose_encoding(struct sse_reader *r, const char *encoding)
{
    if (!encoding || strncasecmp(encoding, "identity", 8) == 0)
        return;
    if (strncasecmp(encoding, "gzip", 4) == 0)
        r->unzip = unzip_new();
    else
        fail(r, "a content encoding that was not asked for");
}

/* Returns the length of the head, 0 if it is not complete. */
static size_t take_head(struct sse_reader *r, const char *bytes, size_t len)
{
    const char *end = memmem(bytes, len, "\r\n\r\n", 4);
    if (!end) {
        keep(r, bytes, len, SSE_READER_HEAD_MAX);
        return 0;
    }
    end += 4;
    if (len < 12 || memcmp(bytes, "HTTP/1.", 7) != 0) {
        fail(r, "not HTTP");
        return 0;
    }
    r->status = (uint16_t)strtoul(bytes + 9, NULL, 10);
    const char *coding = find_header(bytes, end, "transfer-encoding");
    if (coding && strncasecmp(coding, "chunked", 7) == 0)
        r->chunk = CHUNK_SIZE;
    r->phase = r->status == 200 ? SSE_BODY : SSE_REFUSED;
    if (r->phase == SSE_BODY)
        choose_encoding(r, find_header(bytes, end, "content-encoding"));
    return (size_t)(end - bytes);
}

/* --- chunked coding --- */

static void take_size_digit(struct sse_reader *r, char c)
{
    if (r->chunk_left > SIZE_MAX >> 8)
        fail(r, "a chunk's size is absurd");
    else if (c >= '0' && c <= '9')
        r->chunk_left = r->chunk_left * 16 + (size_t)(c - '0');
    else if ((c | 32) >= 'a' && (c | 32) <= 'f')
        r->chunk_left = r->chunk_left * 16 + (size_t)((c | 32) - 'a' + 10);
    else if (c == '\r' || c == '\n' || c == ';' || c == ' ')
        r->chunk = CHUNK_EXTENSION;
    else
        fail(r, "a chunk's size is no number");
}

/* Takes one byte that is not of a chunk's content. */
static void take_chunk_byte(struct sse_reader *r, char c)
{
    if (r->chunk == CHUNK_SIZE)
        take_size_digit(r, c);
    if (r->chunk == CHUNK_END && c != '\r' && c != '\n')
        fail(r, "a chunk is longer than its size");
    if (c != '\n')
        return;
    if (r->chunk == CHUNK_END)
        r->chunk = CHUNK_SIZE;
    else if (r->chunk != CHUNK_LAST)
        r->chunk = r->chunk_left ? CHUNK_BYTES : CHUNK_LAST;
}

/* Moves the content of the chunks together; returns its length. */
static size_t unchunk(struct sse_reader *r, char *bytes, size_t len)
{
    size_t in = 0, out = 0;
    while (in < len && r->phase == SSE_BODY) {
        if (r->chunk != CHUNK_BYTES) {
            take_chunk_byte(r, bytes[in++]);
            continue;
        }
        size_t part = len - in < r->chunk_left ? len - in : r->chunk_left;
        memmove(bytes + out, bytes + in, part);
        in += part;
        out += part;
        r->chunk_left -= part;
        if (r->chunk_left == 0)
            r->chunk = CHUNK_END;
    }
    return out;
}

/* --- lines and blocks --- */

static uint64_t number_of(const char *p, size_t len)
{
    uint64_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (p[i] < '0' || p[i] > '9' || len > 19)
            return 0;
        n = n * 10 + (uint64_t)(p[i] - '0');
    }
    return n;
}

static enum sse_kind kind_of(const char *type, size_t len)
{
    static const struct {
        const char *end;
        enum sse_kind kind;
    } kinds[] = {
        {".connected", SSE_CONNECTED},
        {".gap", SSE_GAP},
        {".dropped", SSE_DROPPED},
        {".shutdown", SSE_SHUTDOWN},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        size_t n = strlen(kinds[i].end);
        if (len >= n && memcmp(type + len - n, kinds[i].end, n) == 0)
            return kinds[i].kind;
    }
    return SSE_EVENT;
}

/* A field's value, without the one space that may stand before it. */
static bool field_is(const char *line, size_t len, const char *name, size_t name_len,
                     const char **value, size_t *value_len)
{
    if (len <= name_len || memcmp(line, name, name_len) != 0 || line[name_len] != ':')
        return false;
    size_t at = name_len + 1;
    if (at < len && line[at] == ' ')
        at++;
    *value = line + at;
    *value_len = len - at;
    return true;
}

/* The number behind @name in a control event's JSON; 0 if there is none. */
static uint64_t member_of(const char *json, size_t len, const char *name)
{
    const char *end = json + len, *p = memmem(json, len, name, strlen(name));
    if (!p)
        return 0;
    p += strlen(name);
    while (p < end && (*p < '0' || *p > '9'))
        p++;
    const char *start = p;
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return number_of(start, (size_t)(p - start));
}

/* Data of numbers, each with a comma behind it; anything else has none. */
static void take_numbers(struct sse_event *ev, const char *p, size_t len)
{
    const char *end = p + len;
    while (p < end) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        uint64_t n = comma ? number_of(p, (size_t)(comma - p)) : 0;
        if (n == 0 || n <= ev->last_number)
            return;
        if (ev->numbers++ == 0)
            ev->first_number = n;
        ev->last_number = n;
        p = comma + 1;
    }
}

static void take_line(struct sse_reader *r, const char *line, size_t len)
{
    struct sse_event *ev = &r->event;
    const char *value;
    size_t n;
    if (field_is(line, len, "data", 4, &value, &n)) {
        ev->has_data = true;
        ev->data_len = n;
        ev->has_tag |= tag_read(value, n, &ev->tag);
        if (ev->kind == SSE_DROPPED)
            ev->count = member_of(value, n, "\"count\":");
        else if (ev->kind == SSE_GAP)
            ev->from = member_of(value, n, "\"from\":");
        else if (!ev->has_tag)
            take_numbers(ev, value, n);
    } else if (field_is(line, len, "id", 2, &value, &n)) {
        ev->has_id = true;
        ev->id = number_of(value, n);
    } else if (field_is(line, len, "event", 5, &value, &n)) {
        ev->kind = kind_of(value, n);
    }
}

static void take_lines(struct sse_reader *r, char *bytes, size_t len, sse_on_event *on_event,
                       void *arg)
{
    char *p = bytes, *end = bytes + len;
    while (p < end) {
        char *stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop)
            break;
        size_t line = (size_t)(stop - p);
        if (line && p[line - 1] == '\r')
            line--;
        if (line) {
            take_line(r, p, line);
        } else {
            if (r->event.has_id || r->event.has_data)
                on_event(arg, &r->event);
            r->event = (struct sse_event){0};
        }
        p = stop + 1;
    }
    keep(r, p, (size_t)(end - p), SSE_READER_LINE_MAX);
}

/* As take_lines, after inflating the @len bytes: the @resumed ones before them are inflated. */
static size_t take_zipped(struct sse_reader *r, const char *bytes, size_t resumed, size_t len,
                          sse_on_event *on_event, void *arg)
{
    char *plain = mem_alloc(resumed + INFLATED_AT_ONCE);
    size_t part, sum = 0;
    memcpy(plain, bytes, resumed);
    unzip_feed(r->unzip, bytes + resumed, len);
    do {
        part = unzip_take(r->unzip, plain + resumed, INFLATED_AT_ONCE);
        sum += part;
        take_lines(r, plain, resumed + part, on_event, arg);
        if (part < INFLATED_AT_ONCE)
            break;
        plain = mem_resize(plain, sse_reader_kept(r) + INFLATED_AT_ONCE);
        resumed = sse_reader_resume(r, plain);
    } while (r->phase == SSE_BODY);
    free(plain);
    if (unzip_error(r->unzip))
        fail(r, unzip_error(r->unzip));
    return sum;
}

size_t sse_reader_take(struct sse_reader *r, char *scratch, size_t resumed, size_t len,
                       sse_on_event *on_event, void *arg)
{
    if (r->phase == SSE_HEAD) {
        size_t head = take_head(r, scratch, len);
        if (r->phase != SSE_BODY)
            return 0;
        scratch += head;
        len -= head;
        resumed = 0; /* a head that was cut off is behind us */
    }
    if (r->phase != SSE_BODY)
        return 0;
    if (r->chunk != CHUNK_NONE)
        len = resumed + unchunk(r, scratch + resumed, len - resumed);
    if (r->unzip)
        return take_zipped(r, scratch, resumed, len - resumed, on_event, arg);
    take_lines(r, scratch, len, on_event, arg);
    return len - resumed;
}
