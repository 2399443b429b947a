/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/crypto.h>
#include <string.h>

#include "common/base64url.h"
#include "common/mem.h"
#include "relay/auth/keys_parts.h"
#include "relay/auth/members.h"

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static bool is_text(const cJSON *item, const char *text)
{
    return cJSON_IsString(item) && strcmp(item->valuestring, text) == 0;
}

/* RFC 7517, 4.2 and 4.3: what it was made for. */
static bool is_for_verifying(const cJSON *jwk)
{
    const cJSON *use = member(jwk, "use"), *operations = member(jwk, "key_ops"), *operation;
    if (use && !is_text(use, "sig"))
        return false;
    if (!operations)
        return true;
    if (cJSON_IsArray(operations))
        cJSON_ArrayForEach(operation, operations)
        {
            if (is_text(operation, "verify"))
                return true;
        }
    return false;
}

/* Leaves in *algs what the key's own `alg` allows. */
static bool take_alg(const cJSON *jwk, uint32_t *algs, struct buf *why)
{
    const cJSON *item = member(jwk, "alg");
    enum alg alg;
    if (!item)
        return true;
    if (!cJSON_IsString(item) || alg_find(slice_of(item->valuestring), &alg) != OK) {
        buf_puts(why, "a key whose alg signs no tokens");
        return false;
    }
    if (*algs & ALG_BIT(alg)) {
        *algs = ALG_BIT(alg);
        return true;
    }
    buf_printf(why, "a key for %s, and none of ", alg_row(alg)->name);
    alg_put_set(why, *algs);
    return false;
}

static enum err take_secret(struct key *key, struct keys *keys, const cJSON *jwk, uint32_t algs,
                            struct buf *why)
{
    const char *text = member_text(jwk, "k");
    struct buf secret = {0};
    enum err e = text ? base64url_decode(slice_of(text), &secret) : ERR_INVALID;
    if (e == OK)
        e = key_take_secret(key, keys, buf_slice(&secret), algs, why);
    else
        buf_puts(why, "a secret whose k is not base64url");
    if (secret.ptr)
        OPENSSL_cleanse(secret.ptr, secret.cap);
    buf_reset(&secret);
    return e;
}

static enum err take_material(struct key *key, struct keys *keys, const cJSON *jwk, uint32_t algs,
                              struct buf *why)
{
    if (is_text(member(jwk, "kty"), "oct"))
        return take_secret(key, keys, jwk, algs, why);
    EVP_PKEY *public_key = key_jwk_public(jwk, why);
    return public_key ? key_take_public(key, keys, public_key, algs, why) : ERR_INVALID;
}

static enum err take_jwk(struct key *key, struct keys *keys, const cJSON *jwk, uint32_t algs,
                         struct buf *why)
{
    const cJSON *kid = member(jwk, "kid");
    if (!cJSON_IsObject(jwk)) {
        buf_puts(why, "no JSON object");
        return ERR_INVALID;
    }
    if (!is_for_verifying(jwk)) {
        buf_puts(why, "a key that is not for verifying (use, key_ops)");
        return ERR_INVALID;
    }
    if (kid && !cJSON_IsString(kid)) {
        buf_puts(why, "a key whose kid is no text");
        return ERR_INVALID;
    }
    if (!take_alg(jwk, &algs, why))
        return ERR_INVALID;
    enum err e = take_material(key, keys, jwk, algs, why);
    if (e == OK && kid)
        key->kid = mem_dup(kid->valuestring, strlen(kid->valuestring));
    return e;
}

static enum err add_jwk(struct keys *keys, const cJSON *jwk, uint32_t algs, struct buf *why)
{
    struct key *key = &keys->items[keys->count];
    enum err e = take_jwk(key, keys, jwk, algs, why);
    if (e == OK)
        keys->count++;
    else
        key_reset(key);
    return e;
}

/* A kid is no secret, but a stranger's text. */
static void skip(struct keys *keys, size_t index, const cJSON *jwk, struct slice reason)
{
    struct buf line = {0};
    const char *kid = member_text(jwk, "kid");
    struct slice shown = slice_of(kid);
    if (shown.len > 64)
        shown.len = 64;
    buf_printf(&line, "keys[%zu]", index);
    if (kid) {
        buf_puts(&line, " (kid ");
        json_put_string(&line, shown);
        buf_putc(&line, ')');
    }
    buf_puts(&line, ": ");
    buf_put_slice(&line, reason);
    strings_add(&keys->skipped, buf_slice(&line));
    buf_reset(&line);
}

static enum err add_set(struct keys *keys, const cJSON *set, uint32_t algs, struct buf *why)
{
    struct buf reason = {0};
    const cJSON *jwk;
    size_t index = 0;
    if (!cJSON_IsArray(set) || cJSON_GetArraySize(set) > KEYS_MAX) {
        buf_printf(why, "a JWKS whose keys are no list of up to %d", KEYS_MAX);
        return ERR_INVALID;
    }
    cJSON_ArrayForEach(jwk, set)
    {
        buf_clear(&reason);
        if (add_jwk(keys, jwk, algs, &reason) != OK)
            skip(keys, index, jwk, buf_slice(&reason));
        index++;
    }
    buf_reset(&reason);
    if (keys->count > 0)
        return OK;
    buf_printf(why, "a JWKS of %zu keys, none of which can be used", index);
    if (keys->skipped.count > 0)
        buf_printf(why, "; %s", keys->skipped.items[0]);
    return ERR_INVALID;
}

/* The secrets in it. */
static void wipe(cJSON *tree)
{
    cJSON *child;
    if (cJSON_IsString(tree))
        OPENSSL_cleanse(tree->valuestring, strlen(tree->valuestring));
    cJSON_ArrayForEach(child, tree) wipe(child);
}

enum err keys_parse_json(struct keys *keys, struct slice bytes, uint32_t algs, struct buf *why)
{
    cJSON *tree;
    const char *wrong;
    if (members_parse(bytes, &tree, &wrong) != OK) {
        buf_printf(why, "a JWK or JWKS that %s", wrong);
        return ERR_INVALID;
    }
    const cJSON *set = member(tree, "keys");
    enum err e = set ? add_set(keys, set, algs, why) : add_jwk(keys, tree, algs, why);
    wipe(tree);
    cJSON_Delete(tree);
    return e;
}
