/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/keys.h"

#include <openssl/err.h>
#include <stdlib.h>

#include "common/mem.h"
#include "relay/auth/keys_parts.h"

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_json(struct slice bytes)
{
    size_t at = slice_has_prefix(bytes, SLICE_LIT("\xEF\xBB\xBF")) ? 3 : 0;
    while (at < bytes.len && is_space(bytes.ptr[at]))
        at++;
    return at < bytes.len && (bytes.ptr[at] == '{' || bytes.ptr[at] == '[');
}

/* Editors and echo(1) put one there. */
static struct slice without_line_end(struct slice secret)
{
    if (secret.len == 0 || secret.ptr[secret.len - 1] != '\n')
        return secret;
    secret.len--;
    if (secret.len > 0 && secret.ptr[secret.len - 1] == '\r')
        secret.len--;
    return secret;
}

static enum err parse_secret(struct keys *keys, struct slice secret, uint32_t algs, struct buf *why)
{
    secret = without_line_end(secret);
    struct key *key = &keys->items[keys->count];
    enum err e = key_take_secret(key, keys, secret, algs, why);
    if (e == OK)
        keys->count++;
    else
        buf_puts(why, " (it is neither PEM nor JSON, so it is taken for a secret)");
    return e;
}

static enum err parse(struct keys *keys, struct slice bytes, uint32_t algs, struct buf *why)
{
    if (bytes.len > KEYS_BYTES_MAX) {
        buf_puts(why, "longer than 1 MB");
        return ERR_INVALID;
    }
    if (keys_is_pem(bytes))
        return keys_parse_pem(keys, bytes, algs, why);
    if (is_json(bytes))
        return keys_parse_json(keys, bytes, algs, why);
    /* Everybody may know it, so as a secret it would be a hole. */
    if (keys_is_other_public(bytes)) {
        buf_puts(why,
                 "a public key as DER or for SSH; expected PEM (openssl pkey -pubin -inform DER, "
                 "ssh-keygen -e -m PKCS8)");
        return ERR_INVALID;
    }
    return parse_secret(keys, bytes, algs, why);
}

enum err keys_parse(struct slice bytes, uint32_t algs, struct keys **out, struct buf *why)
{
    struct keys *keys = mem_zero(1, sizeof(*keys));
    /* What OpenSSL complains of is nobody else's business on this thread. */
    ERR_set_mark();
    enum err e = parse(keys, bytes, algs, why);
    ERR_pop_to_mark();
    if (e == OK)
        *out = keys;
    else
        keys_free(keys);
    return e;
}

void keys_free(struct keys *keys)
{
    if (!keys)
        return;
    for (size_t i = 0; i < keys->count; i++)
        key_reset(&keys->items[i]);
    for (enum alg alg = 0; alg < ALG_COUNT; alg++)
        EVP_MD_free(keys->hash[alg]);
    EVP_MAC_free(keys->hmac);
    strings_reset(&keys->skipped);
    free(keys);
}

size_t keys_count(const struct keys *keys)
{
    return keys->count;
}

const struct strings *keys_skipped(const struct keys *keys)
{
    return &keys->skipped;
}

uint32_t keys_algs(const struct keys *keys)
{
    uint32_t algs = 0;
    for (size_t i = 0; i < keys->count; i++)
        algs |= keys->items[i].algs;
    return algs;
}
