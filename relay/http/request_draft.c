/* SPDX-License-Identifier: Apache-2.0 */
/* One event to publish while it is filled: what core says about a field, as a problem of HTTP. */
#include "common/event.h"
#include "relay/http/request_parts.h"

enum err request_draft_end(struct request_draft *d, enum err e)
{
    struct problem *problem = d->problem;
    struct buf detail = {0};
    if (e == OK)
        return OK;
    buf_puts(&detail, d->place);
    buf_put_slice(&detail, buf_slice(&problem->detail));
    buf_reset(&problem->detail);
    problem->detail = detail;
    problem->status = e == ERR_RANGE ? 413 : 400;
    return ERR_INVALID;
}

enum err request_draft_refuse(struct request_draft *d, enum publication_field field,
                              const char *expected)
{
    return request_refuse(d->problem, 400, "%s%s: expected %s", d->place,
                          publication_field_name(field), expected);
}

enum err request_draft_check(struct request_draft *d)
{
    const struct publication_bounds bounds = {.log_max = d->config->log_max_events_limit,
                                              .log_ttl_ms = d->config->index_ttl_ms};
    return request_draft_end(d, publication_check(d->event, &bounds, &d->problem->detail));
}

enum err request_draft_set(struct request_draft *d, enum publication_field field, struct slice text)
{
    struct buf *why = &d->problem->detail;
    if (field == FIELD_EVENT && event_type_is_reserved(text, d->config->control_prefix))
        return request_draft_refuse(d, field,
                                    "a type that does not begin with relay. or control_prefix, "
                                    "like those of the relay's own events");
    enum err e = publication_field_kind(field) == KIND_DATA
                     ? publication_set_data(d->event, text, d->config->max_event_bytes, why)
                     : publication_set(d->event, field, text, why);
    return request_draft_end(d, e);
}
