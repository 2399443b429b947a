/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/redis/redis_tls.h"

#ifdef SSE_RELAY_REDIS_TLS

#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

struct redis_tls {
    SSL_CTX *ctx;
    char *name;    /* NULL: the host's */
    long verified; /* of the last session that failed at its beginning */
};

/* An SSL by another name: the header knows nothing of OpenSSL. */
static SSL *ssl_of(const struct redis_tls_session *session)
{
    return (SSL *)(uintptr_t)session;
}

bool redis_tls_is_built_in(void)
{
    return true;
}

/* Nobody sits at a terminal to type it. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
    (void)buf, (void)size, (void)rwflag, (void)arg;
    return 0;
}

static const char *last_error(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason ? reason : "unknown error";
}

static enum err load_files(SSL_CTX *ctx, const struct redis_tls_files *files, struct buf *why)
{
    bool ca = files->ca[0];
    if (ca ? SSL_CTX_load_verify_locations(ctx, files->ca, NULL) != 1
           : SSL_CTX_set_default_verify_paths(ctx) != 1) {
        buf_printf(why, "redis.ca: cannot read certificates from %s: %s",
                   ca ? files->ca : "the system's store", last_error());
        return ERR_INVALID;
    }
    if (!files->cert[0] && !files->key[0])
        return OK;
    if (!files->cert[0] || !files->key[0]) {
        buf_puts(why, "redis.cert and redis.key: a client certificate needs both");
        return ERR_INVALID;
    }
    if (SSL_CTX_use_certificate_chain_file(ctx, files->cert) != 1) {
        buf_printf(why, "redis.cert: cannot read a certificate from %s: %s", files->cert,
                   last_error());
        return ERR_INVALID;
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, files->key, SSL_FILETYPE_PEM) != 1) {
        buf_printf(why,
                   "redis.key: %s holds no key of the certificate in redis.cert (%s); it must "
                   "not need a passphrase",
                   files->key, last_error());
        return ERR_INVALID;
    }
    return OK;
}

enum err redis_tls_new(const struct redis_tls_files *files, struct redis_tls **out, struct buf *why)
{
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (!ctx)
        abort();
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    enum err e = load_files(ctx, files, why);
    ERR_clear_error();
    if (e) {
        SSL_CTX_free(ctx);
        return e;
    }
    struct redis_tls *tls = mem_zero(1, sizeof(*tls));
    tls->ctx = ctx;
    tls->name = files->name[0] ? mem_dup(files->name, strlen(files->name)) : NULL;
    *out = tls;
    return OK;
}

void redis_tls_free(struct redis_tls *tls)
{
    if (!tls)
        return;
    SSL_CTX_free(tls->ctx); /* sessions have references of their own */
    free(tls->name);
    free(tls);
}

static bool expect_name(SSL *ssl, const char *name)
{
    unsigned char address[sizeof(struct in6_addr)];
    if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

/* hiredis's own way to make the SSL (redisInitiateSSLWithContext) never compares the host's name
 * with the certificate's. */
struct redis_tls_session *redis_tls_begin(struct redis_tls *tls, void *redis_context,
                                          const char *host)
{
    redisContext *ctx = redis_context;
    ERR_clear_error();
    SSL *ssl = SSL_new(tls->ctx);
    if (!ssl || !expect_name(ssl, tls->name ? tls->name : host) ||
        redisInitiateSSL(ctx, ssl) != REDIS_OK) {
        tls->verified = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;
        SSL_free(ssl);
        return NULL;
    }
    return (struct redis_tls_session *)(void *)ssl;
}

enum redis_tls_progress redis_tls_handshake(struct redis_tls_session *session)
{
    SSL *ssl = ssl_of(session);
    ERR_clear_error();
    int rc = SSL_do_handshake(ssl);
    if (rc == 1)
        return TLS_DONE;
    switch (SSL_get_error(ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return TLS_WANTS_READ;
    case SSL_ERROR_WANT_WRITE:
        return TLS_WANTS_WRITE;
    default: /* OpenSSL's own numbers: all others are failures */
        return TLS_FAILED;
    }
}

bool redis_tls_has_pending(const struct redis_tls_session *session)
{
    return SSL_pending(ssl_of(session)) > 0;
}

void redis_tls_put_error(const struct redis_tls *tls, const struct redis_tls_session *session,
                         struct buf *out)
{
    unsigned long error = ERR_peek_last_error();
    long verified = session ? SSL_get_verify_result(ssl_of(session)) : tls->verified;
    if (!error)
        return; /* a plain error of the socket */
    buf_puts(out, "TLS: ");
    buf_puts(out, last_error());
    if (verified != X509_V_OK) {
        buf_puts(out, ": ");
        buf_puts(out, X509_verify_cert_error_string(verified));
    }
    ERR_clear_error(); /* or the next session would be thought to have failed */
}

#else /* a hiredis without TLS (before 1.0) */

bool redis_tls_is_built_in(void)
{
    return false;
}

enum err redis_tls_new(const struct redis_tls_files *files, struct redis_tls **out, struct buf *why)
{
    (void)files, (void)out;
    buf_puts(why, "this build cannot use TLS to Redis");
    return ERR_INVALID;
}

void redis_tls_free(struct redis_tls *tls)
{
    (void)tls;
}

struct redis_tls_session *redis_tls_begin(struct redis_tls *tls, void *redis_context,
                                          const char *host)
{
    (void)tls, (void)redis_context, (void)host;
    return NULL;
}

enum redis_tls_progress redis_tls_handshake(struct redis_tls_session *session)
{
    (void)session;
    return TLS_FAILED;
}

bool redis_tls_has_pending(const struct redis_tls_session *session)
{
    (void)session;
    return false;
}

void redis_tls_put_error(const struct redis_tls *tls, const struct redis_tls_session *session,
                         struct buf *out)
{
    (void)tls, (void)session, (void)out;
}

#endif
