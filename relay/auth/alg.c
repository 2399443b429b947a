/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/alg.h"

static const struct alg_row table[ALG_COUNT] = {
    [ALG_HS256] = {"HS256", ALG_HMAC, "SHA256", 32, 0, NULL},
    [ALG_HS384] = {"HS384", ALG_HMAC, "SHA384", 48, 0, NULL},
    [ALG_HS512] = {"HS512", ALG_HMAC, "SHA512", 64, 0, NULL},
    [ALG_RS256] = {"RS256", ALG_PKCS1, "SHA256", 32, 0, NULL},
    [ALG_RS384] = {"RS384", ALG_PKCS1, "SHA384", 48, 0, NULL},
    [ALG_RS512] = {"RS512", ALG_PKCS1, "SHA512", 64, 0, NULL},
    [ALG_PS256] = {"PS256", ALG_PSS, "SHA256", 32, 0, NULL},
    [ALG_PS384] = {"PS384", ALG_PSS, "SHA384", 48, 0, NULL},
    [ALG_PS512] = {"PS512", ALG_PSS, "SHA512", 64, 0, NULL},
    [ALG_ES256] = {"ES256", ALG_ECDSA, "SHA256", 32, 32, "P-256"},
    [ALG_ES384] = {"ES384", ALG_ECDSA, "SHA384", 48, 48, "P-384"},
    [ALG_ES512] = {"ES512", ALG_ECDSA, "SHA512", 64, 66, "P-521"},
    [ALG_EDDSA] = {"EdDSA", ALG_EDWARDS, NULL, 0, 0, NULL},
};

const struct alg_row *alg_row(enum alg alg)
{
    return &table[alg];
}

enum err alg_find(struct slice name, enum alg *out)
{
    for (enum alg alg = 0; alg < ALG_COUNT; alg++) {
        if (slice_is(name, table[alg].name)) {
            *out = alg;
            return OK;
        }
    }
    return ERR_NOT_FOUND;
}

void alg_put_set(struct buf *b, uint32_t set)
{
    const char *comma = "";
    for (enum alg alg = 0; alg < ALG_COUNT; alg++) {
        if (!(set & ALG_BIT(alg)))
            continue;
        buf_printf(b, "%s%s", comma, table[alg].name);
        comma = ", ";
    }
}

enum err alg_parse_set(const struct strings *names, uint32_t *out, struct buf *why)
{
    uint32_t set = 0;
    for (size_t i = 0; i < names->count; i++) {
        enum alg alg;
        if (alg_find(slice_of(names->items[i]), &alg) != OK) {
            buf_printf(why, "\"%.32s\" is no algorithm; expected some of ", names->items[i]);
            alg_put_set(why, UINT32_MAX);
            return ERR_INVALID;
        }
        set |= ALG_BIT(alg);
    }
    if (set == 0) {
        buf_puts(why, "no algorithm is named; expected some of ");
        alg_put_set(why, UINT32_MAX);
        return ERR_INVALID;
    }
    *out = set;
    return OK;
}
