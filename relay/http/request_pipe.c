/* SPDX-License-Identifier: Apache-2.0 */
/* POST /topics/{topic}/pipe: what its query asks for, and the events that its body is cut into. */
#include <stdlib.h>

#include "common/mem.h"
#include "relay/http/request_parts.h"

void request_pipe_reset(struct request_pipe *pipe)
{
    publication_reset(&pipe->event);
    free(pipe->ns);
    *pipe = (struct request_pipe){0};
}

/* --- the query -------------------------------------------------------------------------------- */

static bool takes(enum publication_field field)
{
    return field == FIELD_EVENT || field == FIELD_PRIORITY || field == FIELD_KEY ||
           field == FIELD_LOG_MAX || field == FIELD_LOG_TTL || field == FIELD_END_AFTER ||
           field == FIELD_END;
}

static enum err refuse_name(struct problem *problem, struct slice name)
{
    (void)request_refuse(problem, 400, "unknown parameter in the query: ");
    request_show(problem, name);
    buf_puts(&problem->detail, "; a pipe takes event, priority, key, log_max, log_ttl, end_after, "
                               "end and ns");
    return ERR_INVALID;
}

static enum err parse_query(const struct request_view *view, struct request_draft *d)
{
    for (size_t i = 0; i < view->query_count; i++) {
        struct slice name = view->query[i].name;
        enum publication_field field = publication_field_find(name);
        if (request_is_own(view, name))
            continue;
        if (field == FIELD_COUNT || !takes(field))
            return refuse_name(d->problem, name);
        enum err e = request_draft_set(d, field, view->query[i].value);
        if (e)
            return e;
    }
    return OK;
}

/* `end` is about the body's end: no event of it has that. */
static bool take_end(struct publication *p)
{
    bool ends = p->ends || !(p->given & 1u << FIELD_END);
    p->given &= ~(1u << FIELD_END);
    p->ends = false;
    return ends;
}

/* The rules about the whole, as if it had data. */
static enum err check(const struct request_draft *d)
{
    struct publication probe = *d->event;
    struct request_draft with_data = *d;
    probe.data = SLICE_LIT("");
    with_data.event = &probe;
    return request_draft_check(&with_data);
}

static enum err parse_type(const struct request_view *view, enum cutter_kind *kind,
                           struct problem *problem)
{
    struct slice parameters = view->content_type;
    struct slice type = slice_trim(slice_cut(&parameters, ';'));
    if (!request_charset_accepted(parameters))
        return request_refuse(problem, 415, "Content-Type: expected charset=utf-8 or none");
    if (slice_eq_nocase(type, "multipart/form-data"))
        return request_refuse(problem, 415,
                              "Content-Type: multipart/form-data is not taken; expected "
                              "text/event-stream, application/x-ndjson, or another type, whose "
                              "chunks are the data");
    *kind = slice_eq_nocase(type, "text/event-stream")      ? CUTTER_SSE
            : slice_eq_nocase(type, "application/x-ndjson") ? CUTTER_LINES
                                                            : CUTTER_CHUNKS;
    return OK;
}

enum err request_parse_pipe(const struct request_view *view, const struct config *config,
                            struct slice raw, struct request_pipe *out, struct problem *problem)
{
    struct request_pipe pipe = {0};
    struct request_draft d = {.config = config, .problem = problem, .event = &pipe.event};
    enum err e = request_parse_ns(view, &pipe.ns, problem);
    if (e == OK)
        e = parse_type(view, &pipe.kind, problem);
    if (e == OK)
        e = request_parse_topic(raw, &pipe.event, problem);
    if (e == OK)
        e = parse_query(view, &d);
    pipe.ends = take_end(&pipe.event);
    if (e == OK)
        e = check(&d);
    if (e == OK) {
        struct publication_request one = {.ns = pipe.ns, .items = &pipe.event, .count = 1};
        e = request_check_publish(view, &one, problem);
    }
    if (e) {
        request_pipe_reset(&pipe);
        return e;
    }
    *out = pipe;
    return OK;
}

/* --- its events ------------------------------------------------------------------------------- */

static struct slice text_copy(struct slice text)
{
    return text.ptr ? (struct slice){mem_dup(text.ptr, text.len), text.len} : SLICE_NONE;
}

/* A type of the event's own stands in place of the query's. */
static void copy_event(const struct publication *from, bool typed, struct publication *to)
{
    *to = *from;
    to->topics = (struct strings){0};
    strings_add(&to->topics, slice_of(from->topics.items[0]));
    to->key = text_copy(from->key);
    to->event = typed ? SLICE_NONE : text_copy(from->event);
    to->given &= typed ? ~(1u << FIELD_EVENT) : ~0u;
}

enum err request_pipe_item(const struct request_pipe *pipe, const struct config *config,
                           const struct cut *cut, struct publication *out, struct problem *problem)
{
    struct publication event;
    struct request_draft d = {.config = config, .problem = problem, .event = &event};
    copy_event(&pipe->event, cut->type.ptr, &event);
    enum err e = cut->type.ptr ? request_draft_set(&d, FIELD_EVENT, cut->type) : OK;
    if (e == OK)
        e = request_draft_set(&d, FIELD_DATA, cut->data);
    if (e) {
        publication_reset(&event);
        return e;
    }
    *out = event;
    return OK;
}
