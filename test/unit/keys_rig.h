/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of keys share: reading a file's bytes, and verifying a fresh token. */
#pragma once
#include "relay/auth/keys.h"
#include "test/unit/token_rig.h"

#define KEYS_RIG_ALL UINT32_MAX /* algorithms */
#define KEYS_RIG_SECRET "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* An unchecked fixture: it takes long to make them. */
extern EVP_PKEY *keys_rig_rsa, *keys_rig_p256;
void keys_rig_setup(void);
void keys_rig_teardown(void);

/* The keys in @bytes, which must be taken. */
struct keys *keys_rig_parse(struct slice bytes, uint32_t algs);
/* Fails unless @bytes are refused, with these words. */
void keys_rig_expect_refused(struct slice bytes, uint32_t algs, const char *expected);

/* {"alg":…,"kid":…}; @kid may be NULL. Overwritten by the next call. */
const char *keys_rig_header(enum alg alg, const char *kid);
/* Why the keys do not verify @token, which is used up; NULL: they do. */
const char *keys_rig_refusal_of(const struct keys *keys, struct buf *token);
/* The same, of a token that is signed with @key. */
const char *keys_rig_refusal(const struct keys *keys, EVP_PKEY *key, enum alg alg, const char *kid);
const char *keys_rig_refusal_by_secret(const struct keys *keys, struct slice secret, enum alg alg,
                                       const char *kid);
