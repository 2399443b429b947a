/* SPDX-License-Identifier: Apache-2.0 */
#include "test/unit/keys_rig.h"

#include <check.h>
#include <stdio.h>

EVP_PKEY *keys_rig_rsa, *keys_rig_p256;

void keys_rig_setup(void)
{
    keys_rig_rsa = token_rig_key("RSA", 2048);
    keys_rig_p256 = token_rig_key("P-256", 0);
}

void keys_rig_teardown(void)
{
    EVP_PKEY_free(keys_rig_rsa);
    EVP_PKEY_free(keys_rig_p256);
}

struct keys *keys_rig_parse(struct slice bytes, uint32_t algs)
{
    struct keys *keys = NULL;
    struct buf why = {0};
    enum err e = keys_parse(bytes, algs, &keys, &why);
    ck_assert_msg(e == OK && why.len == 0, "%.*s", (int)why.len, why.ptr);
    return keys;
}

void keys_rig_expect_refused(struct slice bytes, uint32_t algs, const char *expected)
{
    struct keys *keys = NULL;
    struct buf why = {0};
    ck_assert_int_eq(keys_parse(bytes, algs, &keys, &why), ERR_INVALID);
    ck_assert_ptr_null(keys);
    ck_assert_msg(slice_is(buf_slice(&why), expected), "%.*s", (int)why.len, why.ptr);
    buf_reset(&why);
}

/* Why the keys do not verify @token, which is used up; NULL: they do. */
const char *keys_rig_refusal_of(const struct keys *keys, struct buf *token)
{
    struct jws jws;
    ck_assert_ptr_null(jws_parse(buf_slice(token), &jws));
    const char *why = keys_verify(keys, &jws);
    jws_reset(&jws);
    buf_reset(token);
    return why;
}

const char *keys_rig_header(enum alg alg, const char *kid)
{
    static char text[128];
    if (kid)
        snprintf(text, sizeof(text), "{\"alg\":\"%s\",\"kid\":\"%s\"}", alg_row(alg)->name, kid);
    else
        snprintf(text, sizeof(text), "{\"alg\":\"%s\"}", alg_row(alg)->name);
    return text;
}

const char *keys_rig_refusal(const struct keys *keys, EVP_PKEY *key, enum alg alg, const char *kid)
{
    struct buf token = {0};
    token_rig_sign(&token, key, alg, keys_rig_header(alg, kid), "{}");
    return keys_rig_refusal_of(keys, &token);
}

const char *keys_rig_refusal_by_secret(const struct keys *keys, struct slice secret, enum alg alg,
                                       const char *kid)
{
    struct buf token = {0};
    token_rig_sign_secret(&token, secret, alg, keys_rig_header(alg, kid), "{}");
    return keys_rig_refusal_of(keys, &token);
}
