/* SPDX-License-Identifier: Apache-2.0 */
/* What came of a publish: docs/protocol.md, 8.2. */
#include "relay/http/routes_parts.h"

bool routes_end_valid(const char *id, const char *reason)
{
    uint64_t number;
    enum topic_end end;
    return slice_u64(slice_of(id), EVENT_ID_MAX, &number) == OK && number &&
           topic_end_parse(slice_of(reason), &end) == OK;
}

/* What is known of an end: the id and the reason of the first of the item's topics that has ended,
 * of @ended, triples of topic, id, reason. NULL: of none of them, any more. */
static char *const *find_end(const struct publication *item, const struct strings *ended)
{
    for (size_t i = 0; ended && i + 2 < ended->count; i += 3)
        if (strings_have(&item->topics, slice_of(ended->items[i])) &&
            routes_end_valid(ended->items[i + 1], ended->items[i + 2]))
            return &ended->items[i + 1];
    return NULL;
}

/* "ended":"<id>","reason":"…" */
static void put_end(struct buf *b, const struct publication *item, const struct strings *ended)
{
    char *const *end = find_end(item, ended);
    if (end)
        buf_printf(b, "\"ended\":\"%s\",\"reason\":\"%s\"", end[0], end[1]);
    else
        buf_puts(b, "\"ended\":null");
}

static void put_id(struct buf *b, uint64_t id)
{
    if (id)
        buf_printf(b, "{\"id\":\"%llu\"}", (unsigned long long)id);
    else
        buf_puts(b, "{\"id\":null}");
}

static void put_ids(struct buf *b, const struct note_publish *note, const struct strings *ended)
{
    buf_puts(b, note->request.batch ? "[" : "");
    for (size_t i = 0; i < note->request.count; i++) {
        buf_puts(b, i ? "," : "");
        if (note->ids[i] != NOTE_ID_ENDED) {
            put_id(b, note->ids[i]);
            continue;
        }
        buf_putc(b, '{');
        put_end(b, &note->request.items[i], ended);
        buf_putc(b, '}');
    }
    buf_puts(b, note->request.batch ? "]" : "");
}

/* Members beside those of RFC 9457: whether it was published, and then with which ids. */
static void reply_problem(struct routes *r, const struct note_publish *note,
                          const struct strings *ended, struct front_call *call,
                          const struct routes_headers *extra)
{
    static const char *const published[] = {
        [PUBLISH_NOT] = "false", [PUBLISH_UNKNOWN] = "null", [PUBLISH_DONE] = "true"};
    struct routes_headers h = extra ? *extra : (struct routes_headers){0};
    struct buf body = {0};
    if (!extra && note->status == 503 && note->outcome == PUBLISH_NOT)
        routes_header_add(&h, "Retry-After", "1");
    request_put_problem(&body, note->status, buf_slice(&note->detail));
    body.len--; /* the brace */
    buf_printf(&body, ",\"published\":%s", published[note->outcome]);
    if (note->outcome == PUBLISH_DONE || (note->status == 409 && note->request.batch)) {
        buf_puts(&body, ",\"events\":");
        put_ids(&body, note, ended);
    } else if (note->status == 409) {
        buf_putc(&body, ',');
        put_end(&body, note->request.items, ended);
    }
    buf_putc(&body, '}');
    routes_reply(r, call, note->status, "application/problem+json", &body, &h);
}

void routes_reply_unpublished(struct routes *r, struct front_call *call, unsigned status,
                              struct slice detail, const struct routes_headers *extra)
{
    struct note_publish note = {.status = status, .outcome = PUBLISH_NOT};
    buf_put(&note.detail, detail.ptr, detail.len);
    reply_problem(r, &note, NULL, call, extra);
    buf_reset(&note.detail);
}

void routes_reply_outcome(struct routes *r, struct front_call *call,
                          const struct note_publish *note, const struct strings *ended)
{
    if (note->status != 200) {
        reply_problem(r, note, ended, call, NULL);
        return;
    }
    struct buf body = {0};
    put_ids(&body, note, NULL);
    routes_reply(r, call, 200, "application/json", &body, NULL);
}
