/* SPDX-License-Identifier: Apache-2.0 */
/* POST /publish: which format the body has, and those that are not JSON. */
#include <stdlib.h>
#include <string.h>
#include "common/mem.h"
#include "common/url.h"
#include "relay/http/request_parts.h"

bool request_charset_accepted(struct slice parameters)
{
    while (parameters.ptr) {
        struct slice value = slice_cut(&parameters, ';'), name = slice_trim(slice_cut(&value, '='));
        if (!slice_eq_nocase(name, "charset"))
            continue;
        value = value.ptr ? slice_trim(value) : SLICE_LIT("");
        if (value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"')
            value = (struct slice){value.ptr + 1, value.len - 2};
        if (!slice_eq_nocase(value, "utf-8") && !slice_eq_nocase(value, "utf8") &&
            !slice_eq_nocase(value, "us-ascii"))
            return false;
    }
    return true;
}

/* @source: "form" or "query"; @hint: what the sentence goes on with where the name is unknown. */
static enum err draft_pair(struct request_draft *d, const char *source, const char *hint,
                           struct slice name, struct slice value)
{
    enum publication_field field = publication_field_find(name);
    if (field != FIELD_COUNT)
        return request_draft_set(d, field, value.ptr ? value : SLICE_LIT(""));
    enum err e = request_refuse(d->problem, 400, "unknown field in the %s: ", source);
    request_show(d->problem, name);
    buf_puts(&d->problem->detail, hint);
    return e;
}

/* What curl and many libraries say of a body unless they are told otherwise. */
#define FORM_HINT                                                                                  \
    "; if the body is the data, and no form, send Content-Type: text/plain (curl: -H "             \
    "'Content-Type: text/plain')"

bool request_is_own(const struct request_view *view, struct slice name)
{
    return slice_is(name, "ns") ||
           (view->grant && (slice_is(name, "access_token") || slice_is(name, "ticket")));
}

/* With JSON and forms the query has the namespace only: an option that stands there would be lost.
 * @hint: the sentence goes on with it. */
static enum err check_query(const struct request_view *view, const char *hint,
                            struct problem *problem)
{
    for (size_t i = 0; i < view->query_count; i++) {
        struct slice name = view->query[i].name;
        if (request_is_own(view, name))
            continue;
        enum publication_field field = publication_field_find(name);
        if (field != FIELD_COUNT)
            return request_refuse(problem, 400,
                                  "%s: expected in the body, not in the query, with this "
                                  "Content-Type%s",
                                  publication_field_name(field), hint);
        (void)request_refuse(problem, 400, "unknown parameter in the query: ");
        request_show(problem, name);
        buf_puts(&problem->detail, "; with this Content-Type there is only ns");
        return ERR_INVALID;
    }
    return OK;
}

/* --- application/x-www-form-urlencoded --- */

static enum err parse_form(struct request_draft *d, struct slice body)
{
    char *room = mem_alloc(body.len + 1);
    enum err e = OK;
    for (struct slice rest = body; rest.ptr && e == OK;) {
        struct slice value = slice_cut(&rest, '&'), name = slice_cut(&value, '=');
        struct slice plain_name, plain_value = SLICE_LIT("");
        if (name.len == 0 && !value.ptr)
            continue; /* nothing between two & */
        e = url_decode(name, URL_PLUS_IS_SPACE, room, &plain_name);
        if (e == OK && value.ptr)
            e = url_decode(value, URL_PLUS_IS_SPACE, room + plain_name.len, &plain_value);
        if (e != OK)
            e = request_refuse(d->problem, 400, "body: expected two hexadecimal digits after %%");
        else
            e = draft_pair(d, "form", FORM_HINT, plain_name, plain_value);
    }
    free(room);
    return e;
}

/* --- any other type: the body is the data --- */

static enum err parse_raw(struct request_draft *d, const struct request_view *view)
{
    enum err e = OK;
    for (size_t i = 0; i < view->query_count && e == OK; i++) {
        if (request_is_own(view, view->query[i].name))
            continue;
        if (slice_is(view->query[i].name, "data"))
            e = request_refuse(d->problem, 400,
                               "data: expected in the body, not in the query, with this "
                               "Content-Type");
        else
            e = draft_pair(d, "query", "", view->query[i].name, view->query[i].value);
    }
    struct slice data = view->body.ptr ? view->body : SLICE_LIT("");
    return e == OK ? request_draft_set(d, FIELD_DATA, data) : e;
}

static enum err parse_single(const struct request_view *view, const struct config *config,
                             bool form, struct publication_request *out, struct problem *problem)
{
    out->items = mem_zero(1, sizeof(*out->items));
    out->count = 1;
    struct request_draft d = {.config = config, .problem = problem, .event = out->items};
    enum err e = form ? parse_form(&d, view->body) : parse_raw(&d, view);
    if (e == OK && form)
        e = check_query(view, FORM_HINT, problem);
    return e == OK ? request_draft_check(&d) : e;
}

static enum err parse_body(const struct request_view *view, const struct config *config,
                           struct slice type, struct publication_request *out,
                           struct problem *problem)
{
    if (!slice_eq_nocase(type, "application/json"))
        return parse_single(
            view, config, slice_eq_nocase(type, "application/x-www-form-urlencoded"), out, problem);
    enum err e = check_query(view, "", problem);
    return e == OK ? request_parse_json(view, config, out, problem) : e;
}

enum err request_parse_publish(const struct request_view *view, const struct config *config,
                               struct publication_request *out, struct problem *problem)
{
    struct publication_request r = {0};
    struct slice parameters = view->content_type;
    struct slice type = slice_trim(slice_cut(&parameters, ';'));
    enum err e = request_parse_ns(view, &r.ns, problem);
    if (e == OK && !request_charset_accepted(parameters))
        e = request_refuse(problem, 415, "Content-Type: expected charset=utf-8 or none");
    if (e == OK && slice_eq_nocase(type, "multipart/form-data"))
        e = request_refuse(problem, 415,
                           "Content-Type: multipart/form-data is not taken; expected "
                           "application/json, application/x-www-form-urlencoded, or another type, "
                           "whose body is the data");
    if (e == OK)
        e = parse_body(view, config, type, &r, problem);
    if (e == OK)
        e = request_check_publish(view, &r, problem);
    if (e != OK) {
        publication_request_reset(&r);
        return e;
    }
    *out = r;
    return OK;
}

/* --- the end of a topic ---------------------------------------------------------------------- */

enum err request_parse_topic(struct slice raw, struct publication *p, struct problem *problem)
{
    char *room = mem_alloc(raw.len + 1);
    struct slice name;
    enum err e = url_decode(raw, URL_PLUS_IS_PLUS, room, &name);
    if (e)
        e = request_refuse(problem, 400, "topic: expected two hexadecimal digits after %%");
    else if ((e = publication_set(p, FIELD_TOPIC, name, &problem->detail)))
        problem->status = 400;
    free(room);
    return e;
}

/* An end has no data and no fields: one that somebody gives it would be lost. */
static enum err check_end_query(const struct request_view *view, struct problem *problem)
{
    for (size_t i = 0; i < view->query_count; i++) {
        if (request_is_own(view, view->query[i].name))
            continue;
        (void)request_refuse(problem, 400, "unknown parameter in the query: ");
        request_show(problem, view->query[i].name);
        buf_puts(&problem->detail, "; the end of a topic takes only ns: an event with data and "
                                   "fields, which ends its topic, is published with end");
        return ERR_INVALID;
    }
    return OK;
}

enum err request_parse_end(const struct request_view *view, struct slice raw,
                           struct publication_request *out, struct problem *problem)
{
    struct publication_request r = {.count = 1};
    r.items = mem_zero(1, sizeof(*r.items));
    enum err e = check_end_query(view, problem);
    if (e == OK)
        e = request_parse_ns(view, &r.ns, problem);
    if (e == OK)
        e = request_parse_topic(raw, r.items, problem);
    if (e == OK)
        e = request_check_publish(view, &r, problem);
    if (e != OK) {
        publication_request_reset(&r);
        return e;
    }
    *out = r;
    return OK;
}
