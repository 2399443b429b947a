/* SPDX-License-Identifier: Apache-2.0 */
/* What came of a publish: docs/protocol.md, 8.2. */
#include "relay/http/routes_parts.h"

static void put_id(struct buf *b, uint64_t id)
{
    if (id)
        buf_printf(b, "{\"id\":\"%llu\"}", (unsigned long long)id);
    else
        buf_puts(b, "{\"id\":null}");
}

static void put_ids(struct buf *b, const struct note_publish *note)
{
    buf_puts(b, note->request.batch ? "[" : "");
    for (size_t i = 0; i < note->request.count; i++) {
        buf_puts(b, i ? "," : "");
        put_id(b, note->ids[i]);
    }
    buf_puts(b, note->request.batch ? "]" : "");
}

/* Members beside those of RFC 9457: whether it was published, and then with which ids. */
static void reply_problem(struct routes *r, const struct note_publish *note,
                          struct front_call *call, const struct routes_headers *extra)
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
    if (note->outcome == PUBLISH_DONE) {
        buf_puts(&body, ",\"events\":");
        put_ids(&body, note);
    }
    buf_putc(&body, '}');
    routes_reply(r, call, note->status, "application/problem+json", &body, &h);
}

void routes_reply_unpublished(struct routes *r, struct front_call *call, unsigned status,
                              struct slice detail, const struct routes_headers *extra)
{
    struct note_publish note = {.status = status, .outcome = PUBLISH_NOT};
    buf_put(&note.detail, detail.ptr, detail.len);
    reply_problem(r, &note, call, extra);
    buf_reset(&note.detail);
}

void routes_reply_outcome(struct routes *r, struct front_call *call,
                          const struct note_publish *note)
{
    if (note->status != 200) {
        reply_problem(r, note, call, NULL);
        return;
    }
    struct buf body = {0};
    put_ids(&body, note);
    routes_reply(r, call, 200, "application/json", &body, NULL);
}
