/* SPDX-License-Identifier: Apache-2.0 */
/* Of OpenSSL's functions for SHA-256 only those of old take no memory and no lock for each digest,
 * and every request with a token makes one. */
#define OPENSSL_API_COMPAT 10101
#include "relay/http/digest.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include "common/base64url.h"

void digest_of(struct slice bytes, uint8_t out[DIGEST_BYTES])
{
    SHA256_CTX ctx;
    SHA256_Init(&ctx);
    SHA256_Update(&ctx, bytes.ptr, bytes.len);
    SHA256_Final(out, &ctx); /* leaves nothing of the bytes in ctx */
}

void digest_put_hex(struct buf *b, struct slice bytes)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t digest[DIGEST_BYTES];
    digest_of(bytes, digest);
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        buf_putc(b, hex[digest[i] >> 4]);
        buf_putc(b, hex[digest[i] & 15]);
    }
}

bool digest_is_same(const uint8_t a[DIGEST_BYTES], const uint8_t b[DIGEST_BYTES])
{
    return CRYPTO_memcmp(a, b, DIGEST_BYTES) == 0;
}

enum err digest_put_random(struct buf *b, size_t count)
{
    uint8_t bytes[DIGEST_RANDOM_MAX];
    assert(count <= sizeof(bytes));
    if (RAND_bytes(bytes, (int)count) != 1)
        return ERR_IO;
    base64url_put(b, bytes, count);
    OPENSSL_cleanse(bytes, sizeof(bytes));
    return OK;
}
