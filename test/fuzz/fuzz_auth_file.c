/* SPDX-License-Identifier: Apache-2.0 */
/* The auth file: taken as a whole or refused with a reason; and what is taken can be used. */
#include "common/names.h"
#include "relay/auth/auth_file.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static enum err read_keys(void *arg, const char *path, struct buf *bytes, struct buf *why)
{
    (void)arg;
    if (strcmp(path, "none") == 0) {
        buf_puts(why, "cannot read it");
        return ERR_IO;
    }
    buf_puts(bytes, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
    return OK;
}

static void use(const struct auth_file *file)
{
    static const char claims_text[] =
        "{\"sub\":\"a.b\",\"r\":[\"a\",\"b\"],\"sse\":{\"ns\":\"x\",\"subscribe\":[\"a.{sub}\"]}}";
    static const uint8_t sha256[STATIC_KEY_SHA256_BYTES];
    cJSON *claims = NULL;
    struct buf out = {0};
    struct draft d = {.trail = &out};
    size_t index;
    if (json_parse(slice_of(claims_text), &claims) != OK)
        abort();
    rules_put(file->rules, claims, &d);
    for (size_t i = 0; i < file->issuer_count; i++)
        claim_form_put(file->issuers[i].form, claims, &d);
    for (size_t i = 0; i < d.fields.subscribe.count; i++)
        if (!name_pattern_valid(slice_of(d.fields.subscribe.items[i])))
            abort();
    static_keys_find(file->keys, sha256, &index);
    struct grant *grant = grant_new(&d.fields);
    route_map_explain(file->routes, grant, &out);
    grant_unref(grant);
    draft_reset(&d);
    buf_reset(&out);
    cJSON_Delete(claims);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct auth_file file = {0};
    struct buf text = {0}, why = {0}, warnings = {0};
    buf_put(&text, bytes, len);
    if (auth_file_parse(&text, read_keys, NULL, &file, &why, &warnings) == OK) {
        if (!file.issuer_count && !static_keys_count(file.keys) && !file.anonymous)
            abort();
        use(&file);
    } else if (why.len == 0 || file.issuers || file.rules || file.routes) {
        abort();
    }
    auth_file_reset(&file);
    buf_reset(&text);
    buf_reset(&why);
    buf_reset(&warnings);
    return 0;
}
