/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/static_keys.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "relay/auth/rights.h"
#include "relay/config/config_check.h"

struct static_key {
    uint8_t sha256[STATIC_KEY_SHA256_BYTES];
    char *name, *ns;
    struct rights *rights;
    struct grant *grant;
};

struct static_keys {
    struct static_key *items;
    size_t count;
};

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool parse_hex(struct slice text, uint8_t out[static STATIC_KEY_SHA256_BYTES])
{
    if (text.len != 2 * STATIC_KEY_SHA256_BYTES)
        return false;
    for (size_t i = 0; i < STATIC_KEY_SHA256_BYTES; i++) {
        int high = hex_digit(text.ptr[2 * i]), low = hex_digit(text.ptr[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high * 16 + low);
    }
    return true;
}

static enum err read_sha256(struct static_key *key, const struct place *above, const cJSON *value,
                            struct buf *why)
{
    struct place at = place_member(above, "sha256");
    char *text = NULL;
    enum err e = place_read_text(above, value, "sha256", &text, why);
    if (e == OK && !(text && parse_hex(slice_of(text), key->sha256)))
        e = place_refuse(&at, why,
                         "expected the SHA-256 of the key: 64 hexadecimal digits, as of "
                         "printf %%s KEY | sha256sum");
    free(text);
    return e;
}

static struct slice name_of(const struct static_key *key)
{
    return slice_of(key->name);
}

static enum err check_key(const struct static_keys *keys, const struct place *at, struct buf *why)
{
    const struct static_key *key = &keys->items[keys->count - 1];
    struct place ns = place_member(at, "ns");
    if (!key->name)
        return place_refuse(at, why, "expected a name");
    if (key->ns && config_check_namespace(key->ns))
        return place_refuse(&ns, why, "%s", config_check_namespace(key->ns));
    for (size_t i = 0; i + 1 < keys->count; i++) {
        if (slice_eq(name_of(&keys->items[i]), name_of(key)))
            return place_refuse(at, why, "keys[%zu] has the same name", i);
        if (memcmp(keys->items[i].sha256, key->sha256, sizeof(key->sha256)) == 0)
            return place_refuse(at, why, "keys[%zu] is the same key", i);
    }
    return OK;
}

/* Its subject begins in a way of its own, so that it can be revoked by it. */
static void fill_draft(const struct static_key *key, const struct place *at, struct draft *d)
{
    struct buf subject = {0};
    buf_printf(&subject, "key:%s", key->name);
    d->fields.subject = buf_take(&subject, NULL);
    d->fields.ns = slice_dup(slice_of(key->ns));
    rights_put(key->rights, NULL, at, d);
}

static enum err check_rights(const struct static_key *key, const struct place *at,
                             const struct draft *d, struct buf *why)
{
    if (!key->ns && (d->fields.subscribe.count || d->fields.publish.count))
        return place_refuse(at, why,
                            "expected ns, the namespace in which it may subscribe and publish");
    return OK;
}

static enum err read_key(void *arg, const struct place *at, const cJSON *value, struct buf *why)
{
    static const char *const known[] = {"name", "sha256", "ns", RIGHTS_MEMBERS, NULL};
    struct static_keys *keys = arg;
    struct draft draft = {0};
    keys->items = mem_grow(keys->items, keys->count, sizeof(*keys->items));
    struct static_key *key = &keys->items[keys->count++];
    *key = (struct static_key){0};
    enum err e = place_check_object(at, value, known, why);
    if (e == OK)
        e = place_read_text(at, value, "name", &key->name, why);
    if (e == OK)
        e = place_read_text(at, value, "ns", &key->ns, why);
    if (e == OK)
        e = read_sha256(key, at, value, why);
    if (e == OK)
        e = check_key(keys, at, why);
    if (e == OK)
        e = rights_new(at, value, false, &key->rights, why);
    if (e)
        return e;
    fill_draft(key, at, &draft);
    e = check_rights(key, at, &draft, why);
    if (e == OK)
        key->grant = grant_new(&draft.fields);
    draft_reset(&draft);
    return e;
}

enum err static_keys_new(const cJSON *file, struct static_keys **out, struct buf *why)
{
    struct static_keys *keys = mem_zero(1, sizeof(*keys));
    enum err e = place_read_list(&PLACE_FILE, file, "keys", STATIC_KEYS_MAX, read_key, keys, why);
    if (e == OK)
        *out = keys;
    else
        static_keys_free(keys);
    return e;
}

void static_keys_free(struct static_keys *keys)
{
    if (!keys)
        return;
    for (size_t i = 0; i < keys->count; i++) {
        free(keys->items[i].name);
        free(keys->items[i].ns);
        rights_free(keys->items[i].rights);
        grant_unref(keys->items[i].grant);
    }
    free(keys->items);
    free(keys);
}

size_t static_keys_count(const struct static_keys *keys)
{
    return keys->count;
}

struct grant *static_keys_find(const struct static_keys *keys, const uint8_t *sha256, size_t *index)
{
    struct grant *found = NULL;
    for (size_t i = 0; i < keys->count; i++) {
        bool same = CRYPTO_memcmp(keys->items[i].sha256, sha256, STATIC_KEY_SHA256_BYTES) == 0;
        found = same ? keys->items[i].grant : found;
        *index = same ? i : *index;
    }
    return found;
}

void static_keys_explain(const struct static_keys *keys, size_t index, struct buf *out)
{
    const struct static_key *key = &keys->items[index];
    struct place file = PLACE_FILE, list = place_member(&file, "keys"),
                 at = place_element(&list, index);
    struct draft draft = {.trail = out};
    draft_tell(&draft, "key", name_of(key), &at, NULL);
    draft_tell(&draft, "namespace", slice_of(key->ns ? key->ns : "none"), NULL, NULL);
    fill_draft(key, &at, &draft);
    draft_tell(&draft, "subject", slice_of(draft.fields.subject), NULL, NULL);
    draft_reset(&draft);
}
