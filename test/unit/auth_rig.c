/* SPDX-License-Identifier: Apache-2.0 */
#include "test/unit/auth_rig.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base64url.h"

const uint64_t rig_now_s = 1800000000;
static const char secret[] = "0123456789abcdef0123456789abcdef";

static char *with_quotes(const char *text)
{
    char *copy = strdup(text);
    for (char *p = copy; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    return copy;
}

cJSON *rig_json(const char *text)
{
    char *json = with_quotes(text);
    cJSON *tree = NULL;
    ck_assert_msg(json_parse(slice_of(json), &tree) == OK, "%s", json);
    free(json);
    return tree;
}

void rig_expect(const struct strings *list, const char *words)
{
    struct buf b = {0};
    for (size_t i = 0; i < list->count; i++)
        buf_printf(&b, "%s%s", i ? " " : "", list->items[i]);
    buf_putc(&b, '\0');
    ck_assert_str_eq(b.ptr, words);
    buf_reset(&b);
}

void rig_expect_parts(struct slice text, const char *parts)
{
    char *copy = strdup(parts), *save = NULL, *all = slice_dup(text);
    for (char *p = strtok_r(copy, "|", &save); p; p = strtok_r(NULL, "|", &save))
        ck_assert_msg(all && strstr(all, p) != NULL, "\"%s\" misses \"%s\"", all ? all : "", p);
    free(all);
    free(copy);
}

/* --- auth files ------------------------------------------------------------------------------- */

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, strlen(text), file), strlen(text));
    ck_assert_int_eq(fclose(file), 0);
}

static enum err load(const char *text, struct auth **out, struct buf *why, struct buf *warnings)
{
    char folder[] = "/tmp/sse-relay-auth-XXXXXX", path[64], key[64], empty[] = "";
    char *json = with_quotes(text);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/auth.json", folder);
    snprintf(key, sizeof key, "%s/secret", folder);
    write_file(path, json);
    write_file(key, secret);
    struct config config = {.auth_file = path,
                            .auth_key_file = empty,
                            .auth_leeway_ms = 30000,
                            .auth_max_token_life_ms = 86400000};
    enum err e = auth_load(&config, out, why, warnings);
    unlink(path);
    unlink(key);
    rmdir(folder);
    free(json);
    return e;
}

struct auth *rig_auth(const char *text)
{
    struct auth *auth = NULL;
    struct buf why = {0};
    enum err e = load(text, &auth, &why, NULL);
    buf_putc(&why, '\0');
    ck_assert_msg(e == OK, "%s: %s", text, why.ptr);
    buf_reset(&why);
    return auth;
}

struct auth *rig_auth_with(const char *more)
{
    struct buf text = {0};
    buf_printf(&text,
               "{'issuers': [{'iss': 'i', 'algs': ['HS256'], 'keys': 'secret', 'namespaces': "
               "['t1']}]%s%s}",
               more[0] ? ", " : "", more);
    buf_putc(&text, '\0');
    struct auth *auth = rig_auth(text.ptr);
    buf_reset(&text);
    return auth;
}

char *rig_refusal(const char *text)
{
    struct auth *auth = NULL;
    struct buf why = {0};
    ck_assert_msg(load(text, &auth, &why, NULL) != OK, "was accepted: %s", text);
    ck_assert_ptr_null(auth);
    ck_assert_uint_gt(why.len, 0);
    return buf_take(&why, NULL);
}

void rig_warnings(const char *text, struct buf *warnings)
{
    struct auth *auth = NULL;
    struct buf why = {0};
    ck_assert_int_eq(load(text, &auth, &why, warnings), OK);
    auth_unref(auth);
}

/* --- tokens ----------------------------------------------------------------------------------- */

char *rig_token(const char *claims)
{
    static const char header[] = "{\"alg\":\"HS256\",\"kid\":\"k1\"}";
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned mac_len = 0;
    struct buf token = {0};
    cJSON *tree = rig_json(claims);
    if (!cJSON_GetObjectItemCaseSensitive(tree, "iss"))
        cJSON_AddStringToObject(tree, "iss", "i");
    if (!cJSON_GetObjectItemCaseSensitive(tree, "exp"))
        cJSON_AddNumberToObject(tree, "exp", (double)rig_now_s + 300);
    char *json = cJSON_PrintUnformatted(tree);
    base64url_put(&token, header, sizeof header - 1);
    buf_putc(&token, '.');
    base64url_put(&token, json, strlen(json));
    ck_assert_ptr_nonnull(HMAC(EVP_sha256(), secret, (int)strlen(secret),
                               (const unsigned char *)token.ptr, token.len, mac, &mac_len));
    buf_putc(&token, '.');
    base64url_put(&token, mac, mac_len);
    cJSON_free(json);
    cJSON_Delete(tree);
    return buf_take(&token, NULL);
}

enum err rig_verify(const struct auth *auth, const char *text, struct grant **out,
                    struct auth_refusal *refusal)
{
    uint8_t sha256[EVP_MAX_MD_SIZE];
    ck_assert_int_eq(EVP_Digest(text, strlen(text), sha256, NULL, EVP_sha256(), NULL), 1);
    struct grant *key = auth_find_key(auth, sha256);
    if (key) {
        *out = grant_ref(key);
        return OK;
    }
    return auth_verify(auth, slice_of(text), rig_now_s, out, refusal);
}

struct grant *auth_rig_grant(const struct auth *auth, const char *claims)
{
    struct auth_refusal refusal = {0};
    struct grant *grant = NULL;
    char *token = rig_token(claims);
    enum err e = rig_verify(auth, token, &grant, &refusal);
    ck_assert_msg(e == OK, "%s: %s", claims, refusal.reason);
    free(token);
    return grant;
}
