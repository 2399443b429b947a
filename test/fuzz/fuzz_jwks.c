/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are said to hold keys: secrets, PEM, JWK, JWKS. */
#include "relay/auth/keys.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* A signature of zeros verifies with no key. */
static void check_verify(const struct keys *keys)
{
    static const size_t lengths[] = {32, 48, 64, 96, 114, 132, 256, 512};
    char zeros[512] = {0};
    for (enum alg alg = 0; alg < ALG_COUNT; alg++) {
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
            struct jws jws = {
                .alg = alg, .kid = i % 2 ? "a" : NULL, .signed_text = SLICE_LIT("e30.e30")};
            jws.signature = (struct buf){.ptr = zeros, .len = lengths[i]};
            if (!keys_verify(keys, &jws))
                abort();
        }
    }
}

static void parse(struct slice input, uint32_t algs)
{
    struct keys *keys = NULL;
    struct buf why = {0};
    if (keys_parse(input, algs, &keys, &why) != OK) {
        if (why.len == 0 || keys)
            abort();
    } else {
        if (keys_count(keys) == 0 || keys_count(keys) + keys_skipped(keys)->count > KEYS_MAX ||
            keys_algs(keys) == 0 || (keys_algs(keys) & ~algs) != 0)
            abort();
        check_verify(keys);
    }
    keys_free(keys);
    buf_reset(&why);
}

/* The first byte is how many algorithms are allowed. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len == 0)
        return 0;
    struct slice input = {(const char *)bytes + 1, len - 1};
    parse(input, bytes[0] % 2 ? (1U << ALG_COUNT) - 1 : ALG_BIT(bytes[0] / 2 % ALG_COUNT));
    return 0;
}
