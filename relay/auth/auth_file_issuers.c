/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/auth_file_parts.h"

#include <stdlib.h>
#include <string.h>

#include "common/json_pointer.h"
#include "common/mem.h"
#include "relay/config/config_check.h"

struct reader {
    struct auth_file_keys *keys;
    struct auth_file *out;
    struct buf *warnings;
};

/* --- its members ------------------------------------------------------------------------------ */

static const char *check_ns(const char *item)
{
    if (strcmp(item, "*") == 0)
        return NULL;
    return config_check_namespace(item) ? "expected namespaces, of 1 to 64 characters of A-Z a-z "
                                          "0-9 _ - each, or \"*\" for every one"
                                        : NULL;
}

static enum err read_namespaces(struct issuer_fields *f, const struct place *at, const cJSON *value,
                                struct buf *why)
{
    struct place here = place_member(at, "namespaces");
    enum err e = place_read_texts(at, value, "namespaces", check_ns, &f->namespaces, why);
    if (e)
        return e;
    if (!f->namespaces.count)
        return place_refuse(&here, why,
                            "expected the namespaces that it may speak for, such as [\"shop\"], or "
                            "\"*\" for every one");
    f->any_namespace = strings_have(&f->namespaces, SLICE_LIT("*"));
    if (f->any_namespace && f->namespaces.count > 1)
        return place_refuse(&here, why, "expected \"*\" to stand alone");
    if (f->any_namespace)
        strings_reset(&f->namespaces);
    return OK;
}

static enum err read_exp(struct issuer_fields *f, const struct place *at, const cJSON *value,
                         struct buf *why)
{
    struct place here = place_member(at, "exp");
    char *text = NULL;
    enum err e = place_read_text(at, value, "exp", &text, why);
    if (e == OK && text && strcmp(text, "optional") != 0)
        e = place_refuse(&here, why, "expected \"optional\", or nothing: required");
    f->exp_optional = e == OK && text;
    free(text);
    return e;
}

static enum err read_typ(struct issuer_fields *f, const struct place *at, const cJSON *value,
                         struct buf *why)
{
    struct place here = place_member(at, "typ");
    char *text = NULL;
    enum err e = place_read_text(at, value, "typ", &text, why);
    if (e == OK && text && strcmp(text, "at+jwt") != 0)
        e = place_refuse(&here, why, "expected \"at+jwt\", or nothing: any");
    f->at_jwt = e == OK && text;
    free(text);
    return e;
}

static enum err read_audience(struct issuer_fields *f, const struct place *at, const cJSON *value,
                              struct buf *why)
{
    struct place here = place_member(at, "aud_claim");
    enum err e = place_read_text(at, value, "aud", &f->aud, why);
    if (e == OK)
        e = place_read_text(at, value, "aud_claim", &f->aud_claim, why);
    if (e || !f->aud_claim)
        return e;
    if (!json_pointer_is_setting(slice_of(f->aud_claim)))
        return place_refuse(&here, why, "expected a JSON Pointer, such as \"/client_id\"");
    if (!f->aud)
        return place_refuse(&here, why, "expected aud beside it: what that claim must be");
    return OK;
}

static enum err read_fields(struct issuer_fields *f, const struct place *at, const cJSON *value,
                            struct buf *why)
{
    struct place algs = place_member(at, "algs");
    enum err e = place_read_text(at, value, "iss", &f->iss, why);
    if (e == OK)
        e = read_audience(f, at, value, why);
    if (e == OK)
        e = place_read_texts(at, value, "algs", config_check_alg, &f->algs, why);
    if (e == OK && !f->algs.count)
        e = place_refuse(
            &algs, why, "expected the algorithms that its tokens may be signed with: " CONFIG_ALGS);
    if (e == OK)
        e = read_namespaces(f, at, value, why);
    if (e == OK)
        e = read_exp(f, at, value, why);
    return e == OK ? read_typ(f, at, value, why) : e;
}

/* --- its keys --------------------------------------------------------------------------------- */

/* *path is the caller's to free. */
static enum err read_keys(struct auth_file_keys *keys, const struct place *at, const cJSON *value,
                          char **path, struct buf *bytes, struct buf *why)
{
    struct place here = place_member(at, "keys");
    struct buf reason = {0};
    enum err e = place_read_text(at, value, "keys", path, why);
    if (e == OK && !*path)
        e = place_refuse(&here, why,
                         "expected the path of a file with a secret, a PEM public key, a JWK or a "
                         "JWKS");
    if (e == OK && keys->read(keys->arg, *path, bytes, &reason)) {
        buf_putc(&reason, '\0');
        e = place_refuse(&here, why, "%s", reason.ptr);
    }
    buf_reset(&reason);
    return e;
}

static void warn(const struct issuer_fields *f, const struct place *at, struct buf *warnings)
{
    struct buf where = {0};
    if (!warnings)
        return;
    if (at->above) {
        place_put(&where, at);
        buf_puts(&where, ": ");
    }
    if (!f->aud) {
        buf_put_slice(warnings, buf_slice(&where));
        buf_puts(warnings, "without an audience, tokens that were made for other services count "
                           "here, too\n");
    }
    const struct strings *skipped = keys_skipped(f->keys);
    for (size_t i = 0; i < skipped->count; i++) {
        buf_put_slice(warnings, buf_slice(&where));
        buf_printf(warnings, "a key is not used: %s\n", skipped->items[i]);
    }
    buf_reset(&where);
}

static enum err make_issuer(struct issuer_fields *fields, struct slice key_bytes,
                            struct issuer **out, struct buf *why)
{
    uint32_t algs = 0;
    enum err e = alg_parse_set(&fields->algs, &algs, why);
    if (e == OK)
        e = keys_parse(key_bytes, algs, &fields->keys, why);
    return e == OK ? issuer_new(fields, out, why) : e;
}

enum err auth_file_add_issuer(struct issuer_fields *fields, struct slice key_bytes,
                              const char *key_path, const struct place *at, const cJSON *claims,
                              struct auth_file *out, struct buf *why, struct buf *warnings)
{
    struct place here = place_member(at, "claims");
    struct auth_file_issuer new = {0};
    struct buf reason = {0};
    enum err e = claim_form_new(&here, claims, &new.form, why);
    if (e == OK && make_issuer(fields, key_bytes, &new.issuer, &reason)) {
        struct place keys = place_member(at, "keys");
        buf_putc(&reason, '\0');
        if (key_path)
            e = place_refuse(&keys, why, "%s: %s", key_path, reason.ptr);
        else
            e = place_refuse(at, why, "%s", reason.ptr);
    }
    buf_reset(&reason);
    if (e) {
        issuer_fields_reset(fields);
        claim_form_free(new.form);
        return e;
    }
    warn(issuer_fields(new.issuer), at, warnings);
    out->issuers = mem_grow(out->issuers, out->issuer_count, sizeof(*out->issuers));
    out->issuers[out->issuer_count++] = new;
    return OK;
}

/* --- all of them ------------------------------------------------------------------------------ */

static enum err read_issuer(void *arg, const struct place *at, const cJSON *value, struct buf *why)
{
    static const char *const known[] = {"iss",        "aud", "aud_claim", "algs",   "keys",
                                        "namespaces", "exp", "typ",       "claims", NULL};
    struct reader *reader = arg;
    struct issuer_fields fields = {0};
    struct buf bytes = {0};
    char *path = NULL;
    enum err e = place_check_object(at, value, known, why);
    if (e == OK)
        e = read_fields(&fields, at, value, why);
    if (e == OK)
        e = read_keys(reader->keys, at, value, &path, &bytes, why);
    if (e == OK)
        e = auth_file_add_issuer(&fields, buf_slice(&bytes), path, at, place_find(value, "claims"),
                                 reader->out, why, reader->warnings);
    if (bytes.ptr)
        explicit_bzero(bytes.ptr, bytes.cap);
    buf_reset(&bytes);
    free(path);
    issuer_fields_reset(&fields);
    return e;
}

/* A token is its issuer's by iss, which must therefore be each one's own. */
static enum err check_names(const struct auth_file *file, struct buf *why)
{
    struct place list = place_member(&PLACE_FILE, "issuers");
    for (size_t i = 0; i < file->issuer_count && file->issuer_count > 1; i++) {
        struct place element = place_element(&list, i), at = place_member(&element, "iss");
        const char *iss = issuer_fields(file->issuers[i].issuer)->iss;
        if (!iss)
            return place_refuse(&at, why, "expected one where there are several issuers");
        for (size_t k = 0; k < i; k++)
            if (strcmp(iss, issuer_fields(file->issuers[k].issuer)->iss) == 0)
                return place_refuse(&at, why, "issuers[%zu] has the same", k);
    }
    return OK;
}

enum err auth_file_read_issuers(const cJSON *tree, struct auth_file_keys *keys,
                                struct auth_file *out, struct buf *why, struct buf *warnings)
{
    struct reader reader = {keys, out, warnings};
    enum err e = place_read_list(&PLACE_FILE, tree, "issuers", AUTH_FILE_ISSUERS_MAX, read_issuer,
                                 &reader, why);
    return e == OK ? check_names(out, why) : e;
}
