/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/jws.h"

#include "common/base64url.h"
#include "relay/auth/members.h"

/* What would bring a key along, or say where one is: a token is not asked which key to believe. */
static const char *const key_sources[] = {"jwk", "jku", "x5c", "x5u"};

static bool has(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name) != NULL;
}

/* An optional text. */
static bool take_text(const cJSON *object, const char *name, const char **out)
{
    *out = member_text(object, name);
    return *out || !has(object, name);
}

/* `crit` asks for extensions, of which we have none; `b64` is one that changes what is signed. */
static const char *read_header(struct jws *jws)
{
    const cJSON *header = jws->header;
    const char *alg = member_text(header, "alg");
    if (!alg || alg_find(slice_of(alg), &jws->alg) != OK)
        return "its alg is none that is known";
    if (has(header, "crit") || has(header, "b64"))
        return "its header asks for an extension (crit, b64)";
    for (size_t i = 0; i < sizeof(key_sources) / sizeof(key_sources[0]); i++)
        if (has(header, key_sources[i]))
            return "its header brings a key along (jwk, jku, x5c, x5u)";
    if (!take_text(header, "kid", &jws->kid))
        return "its kid is no text";
    if (!take_text(header, "typ", &jws->typ))
        return "its typ is no text";
    return NULL;
}

static bool parse_part(struct slice part, cJSON **out)
{
    struct buf text = {0};
    const char *why;
    bool ok =
        base64url_decode(part, &text) == OK && members_parse(buf_slice(&text), out, &why) == OK;
    buf_reset(&text);
    return ok;
}

static const char *parse_parts(struct slice header, struct slice claims, struct slice signature,
                               struct jws *jws)
{
    if (!parse_part(header, &jws->header))
        return "its header cannot be read";
    const char *why = read_header(jws);
    if (why)
        return why;
    if (!parse_part(claims, &jws->claims))
        return "its claims cannot be read";
    if (base64url_decode(signature, &jws->signature) != OK || jws->signature.len == 0)
        return "its signature cannot be read";
    return NULL;
}

const char *jws_parse(struct slice text, struct jws *out)
{
    *out = (struct jws){0};
    if (text.len > JWS_TEXT_MAX)
        return "longer than 8 KB";
    struct slice rest = text;
    struct slice header = slice_cut(&rest, '.');
    struct slice claims = slice_cut(&rest, '.');
    /* A fourth part would be a dot in the third, which is no digit. */
    if (!rest.ptr)
        return "not a token of three parts";
    out->signed_text = (struct slice){text.ptr, header.len + 1 + claims.len};
    const char *why = parse_parts(header, claims, rest, out);
    if (why)
        jws_reset(out);
    return why;
}

void jws_reset(struct jws *jws)
{
    cJSON_Delete(jws->header);
    cJSON_Delete(jws->claims);
    buf_reset(&jws->signature);
    *jws = (struct jws){0};
}
