/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/http/credential.h"

#include <string.h>

#include "common/names.h"

/* RFC 9110, 11.2 token68, without white space or quotes; "~" (RFC 6750, 2.1) is in a ticket. By a
 * table and to the end, whatever comes: a token's bytes are random to a processor that guesses. */
static bool is_form(struct slice text)
{
    static const bool allowed[256] = {
        ['0' ... '9'] = true, ['A' ... 'Z'] = true, ['a' ... 'z'] = true, ['-'] = true,
        ['.'] = true,         ['_'] = true,         ['~'] = true,         ['+'] = true,
        ['/'] = true,         ['='] = true};
    bool all = text.len > 0;
    for (size_t i = 0; i < text.len; i++)
        all &= allowed[(unsigned char)text.ptr[i]];
    return all;
}

static enum err take(struct credential *out, enum credential_kind kind, struct slice text,
                     const char **why)
{
    if (!is_form(text)) {
        *why = "the credential has characters that none has, or is empty";
        return ERR_INVALID;
    }
    *out = (struct credential){kind, text};
    return OK;
}

static enum err take_bearer(struct slice header, struct credential *out, const char **why)
{
    struct slice rest = header, scheme = slice_cut(&rest, ' ');
    if (!slice_eq_nocase(scheme, "Bearer") || !rest.ptr) {
        *why = "Authorization: expected Bearer and a token or key";
        return ERR_INVALID;
    }
    return take(out, CREDENTIAL_BEARER, slice_trim(rest), why);
}

/* The parameter's value, empty where it has none; SLICE_NONE: it is not there. */
static enum err find_parameter(const struct request_view *view, const char *name, struct slice *out,
                               const char *twice, const char **why)
{
    *out = SLICE_NONE;
    for (size_t i = 0; i < view->query_count; i++) {
        if (!slice_is(view->query[i].name, name))
            continue;
        if (out->ptr) {
            *why = twice;
            return ERR_RANGE;
        }
        *out = view->query[i].value.ptr ? view->query[i].value : SLICE_LIT("");
    }
    return OK;
}

/* RFC 6265, 4.2.1 and 5.4: pairs between semicolons. */
static enum err find_cookie(const struct credential_sources *from, struct slice *out,
                            const char **why)
{
    *out = SLICE_NONE;
    if (from->cookie_count > CREDENTIAL_COOKIES_MAX) {
        *why = "Cookie: stands too often";
        return ERR_RANGE;
    }
    for (size_t i = 0; i < from->cookie_count; i++) {
        struct slice rest = from->cookies[i];
        while (rest.ptr) {
            struct slice value = slice_cut(&rest, ';'), name = slice_trim(slice_cut(&value, '='));
            if (!slice_is(name, from->cookie_name))
                continue;
            if (out->ptr) {
                *why = "Cookie: the cookie with the token stands twice";
                return ERR_RANGE;
            }
            *out = value.ptr ? slice_trim(value) : SLICE_LIT("");
        }
    }
    return OK;
}

enum err credential_find(const struct credential_sources *from, struct credential *out,
                         const char **why)
{
    struct slice ticket, cookie = SLICE_NONE, token = SLICE_NONE;
    *out = (struct credential){CREDENTIAL_NONE, SLICE_NONE};
    enum err e =
        find_parameter(from->view, "ticket", &ticket, "ticket: stands twice in the query", why);
    if (!e && from->cookie_name[0])
        e = find_cookie(from, &cookie, why);
    if (!e && from->query)
        e = find_parameter(from->view, "access_token", &token,
                           "access_token: stands twice in the query", why);
    if (e)
        return e;
    if (from->authorization.ptr)
        return take_bearer(from->authorization, out, why);
    if (ticket.ptr)
        return take(out, CREDENTIAL_TICKET, ticket, why);
    if (cookie.ptr)
        return take(out, CREDENTIAL_COOKIE, cookie, why);
    if (token.ptr)
        return take(out, CREDENTIAL_QUERY, token, why);
    return OK;
}

enum err credential_ticket_ns(struct slice ticket, struct slice *ns)
{
    struct slice rest = ticket, name = slice_cut(&rest, '~');
    if (!rest.ptr || !rest.len || !name_ns_valid(name))
        return ERR_INVALID;
    *ns = name;
    return OK;
}
