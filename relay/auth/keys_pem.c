/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

#include "relay/auth/keys_parts.h"

static const char begin[] = "-----BEGIN ";

/* Text may stand in front, as in what `openssl x509 -text` writes. */
bool keys_is_pem(struct slice bytes)
{
    struct slice mark = SLICE_LIT("\n-----BEGIN ");
    return slice_has_prefix(bytes, slice_of(begin)) ||
           (bytes.len > 0 && memmem(bytes.ptr, bytes.len, mark.ptr, mark.len));
}

static bool is_der(struct slice bytes)
{
    const unsigned char *at = (const unsigned char *)bytes.ptr;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &at, (long)bytes.len);
    X509 *certificate = key ? NULL : d2i_X509(NULL, &at, (long)bytes.len);
    bool found = key || certificate;
    EVP_PKEY_free(key);
    X509_free(certificate);
    return found;
}

bool keys_is_other_public(struct slice bytes)
{
    static const char *const ssh[] = {"ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "---- BEGIN"};
    for (size_t i = 0; i < sizeof(ssh) / sizeof(ssh[0]); i++)
        if (slice_has_prefix(bytes, slice_of(ssh[i])))
            return true;
    return bytes.len > 0 && is_der(bytes);
}

struct block {
    char *name;
    unsigned char *data;
    long len;
};

/* A certificate is a box for a key here: neither who has signed it nor its dates count. */
static EVP_PKEY *read_certificate(const struct block *block, const unsigned char **at)
{
    X509 *certificate = d2i_X509(NULL, at, block->len);
    EVP_PKEY *key = certificate ? X509_get_pubkey(certificate) : NULL;
    X509_free(certificate);
    return key;
}

static EVP_PKEY *read_block(const struct block *block, struct buf *why)
{
    const unsigned char *at = block->data;
    EVP_PKEY *key = NULL;
    if (strstr(block->name, "PRIVATE")) {
        buf_puts(why, "a private key: the relay takes the public one, and needs no other "
                      "(openssl pkey -pubout)");
        return NULL;
    }
    if (strcmp(block->name, PEM_STRING_PUBLIC) == 0)
        key = d2i_PUBKEY(NULL, &at, block->len);
    else if (strcmp(block->name, PEM_STRING_RSA_PUBLIC) == 0)
        key = d2i_PublicKey(EVP_PKEY_RSA, NULL, &at, block->len);
    else if (strcmp(block->name, PEM_STRING_X509) == 0)
        key = read_certificate(block, &at);
    if (key && at == block->data + block->len)
        return key;
    EVP_PKEY_free(key);
    buf_puts(why, "PEM that holds no public key that can be read");
    return NULL;
}

static bool next_block(BIO *bio, struct block *block)
{
    char *header = NULL;
    bool found = PEM_read_bio(bio, &block->name, &header, &block->data, &block->len) == 1;
    OPENSSL_free(header);
    return found;
}

static void block_reset(struct block *block)
{
    OPENSSL_free(block->name);
    OPENSSL_clear_free(block->data, (size_t)block->len);
    *block = (struct block){0};
}

/* Without a kid nobody could say which of several is meant. */
static EVP_PKEY *read_only_block(BIO *bio, struct buf *why)
{
    struct block block = {0}, more = {0};
    if (!next_block(bio, &block)) {
        buf_puts(why, "PEM that cannot be read");
        return NULL;
    }
    EVP_PKEY *key = read_block(&block, why);
    if (key && next_block(bio, &more)) {
        buf_puts(why, "PEM with more than one key; for several, a JWKS says by kid which is which");
        EVP_PKEY_free(key);
        key = NULL;
    }
    block_reset(&block);
    block_reset(&more);
    return key;
}

enum err keys_parse_pem(struct keys *keys, struct slice bytes, uint32_t algs, struct buf *why)
{
    BIO *bio = BIO_new_mem_buf(bytes.ptr, (int)bytes.len);
    EVP_PKEY *public_key = bio ? read_only_block(bio, why) : NULL;
    BIO_free(bio);
    if (!public_key)
        return ERR_INVALID;
    struct key *key = &keys->items[0];
    enum err e = key_take_public(key, keys, public_key, algs, why);
    if (e == OK)
        keys->count = 1;
    else
        key_reset(key);
    return e;
}
