/* SPDX-License-Identifier: Apache-2.0 */
/* Whether somebody may what he asks for. docs/protocol.md, 14.4. */
#include "relay/http/request_parts.h"

enum err request_check_ns(const struct request_view *view, const char *ns, struct problem *problem)
{
    if (!view->grant)
        return OK;
    const char *granted = grant_fields(view->grant)->ns;
    if (!granted)
        return request_refuse(problem, 403,
                              "your credentials name no namespace that their issuer may speak for");
    if (slice_is(slice_of(ns), granted))
        return OK;
    (void)request_refuse(problem, 403, "ns: your credentials are not for ");
    request_show(problem, slice_of(ns));
    return ERR_INVALID;
}

static enum err refuse_topic(struct problem *problem, struct slice topic)
{
    request_show(problem, topic);
    buf_puts(&problem->detail, " does not lie within what your credentials grant");
    return ERR_INVALID;
}

enum err request_check_stream(const struct request_view *view, const struct subscription_request *r,
                              struct problem *problem)
{
    enum err e = request_check_ns(view, r->ns, problem);
    if (e || !view->grant || view->topics_are_granted)
        return e;
    for (size_t i = 0; i < r->topics.count; i++) {
        struct slice topic = slice_of(r->topics.items[i]);
        if (grant_may_subscribe(view->grant, topic))
            continue;
        (void)request_refuse(problem, 403, "topic: ");
        return refuse_topic(problem, topic);
    }
    return OK;
}

/* "[3].topics[1]: ", as in refusals of what is not well formed. */
static void put_place(struct problem *problem, const struct publication_request *r, size_t item,
                      size_t topic)
{
    struct buf *b = &problem->detail;
    if (r->batch)
        buf_printf(b, "[%zu].", item);
    if (r->items[item].given & 1u << FIELD_TOPICS)
        buf_printf(b, "topics[%zu]: ", topic);
    else
        buf_puts(b, "topic: ");
}

enum err request_check_publish(const struct request_view *view, const struct publication_request *r,
                               struct problem *problem)
{
    enum err e = request_check_ns(view, r->ns, problem);
    if (e || !view->grant)
        return e;
    for (size_t i = 0; i < r->count; i++) {
        const struct strings *topics = &r->items[i].topics;
        for (size_t t = 0; t < topics->count; t++) {
            struct slice topic = slice_of(topics->items[t]);
            if (grant_may_publish(view->grant, topic))
                continue;
            (void)request_refuse(problem, 403, "%s", "");
            put_place(problem, r, i, t);
            return refuse_topic(problem, topic);
        }
    }
    return OK;
}
