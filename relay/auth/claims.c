/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/claims.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json_pointer.h"

/* --- values at pointers ----------------------------------------------------------------------- */

/* Whether @token, in which / and ~ are escaped, stands for @name. */
static bool is_name(struct slice token, const char *name)
{
    size_t i = 0;
    for (; *name && i < token.len; name++, i++) {
        char c = token.ptr[i];
        if (c == '~')
            c = token.ptr[++i] == '1' ? '/' : '~';
        if (c != *name)
            return false;
    }
    return !*name && i == token.len;
}

static const cJSON *at_index(const cJSON *array, struct slice token)
{
    uint64_t index;
    /* No array has more. */
    if (slice_u64(token, JSON_VALUES_MAX, &index) != OK)
        return NULL;
    return cJSON_GetArrayItem(array, (int)index);
}

static const cJSON *at_name(const cJSON *object, struct slice token)
{
    const cJSON *member;
    cJSON_ArrayForEach(member, object)
    {
        if (is_name(token, member->string))
            return member;
    }
    return NULL;
}

const cJSON *claims_at(const cJSON *claims, const char *pointer)
{
    struct slice rest = slice_of(pointer);
    if (!json_pointer_is_valid(rest))
        return NULL;
    if (rest.len == 0)
        return claims;
    slice_cut(&rest, '/');
    while (claims && rest.ptr) {
        struct slice token = slice_cut(&rest, '/');
        if (cJSON_IsObject(claims))
            claims = at_name(claims, token);
        else
            claims = cJSON_IsArray(claims) ? at_index(claims, token) : NULL;
    }
    return claims;
}

/* --- times ------------------------------------------------------------------------------------ */

/* All whole numbers up to here are exact, and their milliseconds fit 64 bits. */
static const double time_max = 9007199254740992.0;

enum err claims_time(const cJSON *claims, const char *name, uint64_t *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(claims, name);
    if (!item)
        return ERR_NOT_FOUND;
    if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble) || item->valuedouble < 0 ||
        item->valuedouble > time_max)
        return ERR_INVALID;
    *out = (uint64_t)item->valuedouble;
    return OK;
}

static const char *check_exp(const cJSON *claims, const struct claims_wanted *w)
{
    uint64_t exp_s;
    enum err e = claims_time(claims, "exp", &exp_s);
    if (e == ERR_NOT_FOUND)
        return w->exp_optional ? NULL : "it has no exp";
    if (e != OK)
        return "its exp is no time";
    if (w->now_s >= exp_s + w->leeway_s)
        return "it has expired";
    if (w->max_life_s && exp_s > w->now_s + w->leeway_s + w->max_life_s)
        return "its exp is further ahead than auth.max_token_life";
    return NULL;
}

static bool is_ahead(const cJSON *claims, const char *name, const struct claims_wanted *w,
                     bool *is_time)
{
    uint64_t at_s;
    enum err e = claims_time(claims, name, &at_s);
    *is_time = e != ERR_INVALID;
    return e == OK && at_s > w->now_s + w->leeway_s;
}

static const char *check_times(const cJSON *claims, const struct claims_wanted *w)
{
    bool is_time;
    const char *why = check_exp(claims, w);
    if (why)
        return why;
    bool ahead = is_ahead(claims, "nbf", w, &is_time);
    if (!is_time)
        return "its nbf is no time";
    if (ahead)
        return "it is not valid yet (nbf)";
    ahead = is_ahead(claims, "iat", w, &is_time);
    if (!is_time)
        return "its iat is no time";
    return ahead ? "it was issued in the future (iat): do the clocks differ?" : NULL;
}

/* --- texts ------------------------------------------------------------------------------------ */

static bool is_text(const cJSON *item, const char *text)
{
    return cJSON_IsString(item) && strcmp(item->valuestring, text) == 0;
}

static bool is_or_has(const cJSON *item, const char *text)
{
    const cJSON *element;
    if (!cJSON_IsArray(item))
        return is_text(item, text);
    cJSON_ArrayForEach(element, item)
    {
        if (is_text(element, text))
            return true;
    }
    return false;
}

static const char *check_parties(const cJSON *claims, const struct claims_wanted *w)
{
    const cJSON *iss = cJSON_GetObjectItemCaseSensitive(claims, "iss");
    if (iss && !cJSON_IsString(iss))
        return "its iss is no text";
    if (w->iss && !is_text(iss, w->iss))
        return "its iss is another";
    if (w->aud && !is_or_has(claims_at(claims, w->aud_claim ? w->aud_claim : "/aud"), w->aud))
        return w->aud_claim ? "the claim in place of aud is another" : "its aud is another";
    return NULL;
}

const char *claims_check(const cJSON *claims, const struct claims_wanted *wanted)
{
    const char *why = check_times(claims, wanted);
    return why ? why : check_parties(claims, wanted);
}
