/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/fanout/census.h"

#include <stdlib.h>

#include "common/hash.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/names.h"

struct census_name {
    char *key; /* ns, NUL, name */
    size_t ns_len, key_len, subscribers;
    UT_hash_handle hh;
};

struct census {
    struct census_name *names;
    size_t left_out;
};

struct census *census_new(void)
{
    return mem_zero(1, sizeof(struct census));
}

void census_free(struct census *census)
{
    if (!census)
        return;
    struct census_name *name, *tmp;
    HASH_ITER (hh, census->names, name, tmp) {
        HASH_DEL(census->names, name);
        free(name->key);
        free(name);
    }
    free(census);
}

void census_add(struct census *census, struct slice ns, struct slice text, size_t subscribers)
{
    struct buf key = {0};
    struct census_name *name;
    name_put_lookup(&key, ns, text);
    HASH_FIND(hh, census->names, key.ptr, key.len, name);
    if (!name && HASH_COUNT(census->names) >= CENSUS_NAMES_MAX) {
        census->left_out++;
        buf_reset(&key);
        return;
    }
    if (!name) {
        name = mem_zero(1, sizeof(*name));
        name->ns_len = ns.len;
        name->key_len = key.len;
        name->key = mem_dup(key.ptr, key.len);
        HASH_ADD_KEYPTR(hh, census->names, name->key, name->key_len, name);
    }
    name->subscribers += subscribers;
    buf_reset(&key);
}

static int most_first(struct census_name *a, struct census_name *b)
{
    if (a->subscribers != b->subscribers)
        return a->subscribers < b->subscribers ? 1 : -1;
    return strcmp(a->key + a->ns_len + 1, b->key + b->ns_len + 1);
}

void census_put_json(struct census *census, struct buf *b)
{
    HASH_SORT(census->names, most_first);
    const char *separator = "";
    buf_putc(b, '[');
    for (struct census_name *name = census->names; name; name = name->hh.next) {
        buf_puts(b, separator);
        buf_puts(b, "{\"ns\":");
        json_put_string(b, (struct slice){name->key, name->ns_len});
        buf_puts(b, ",\"topic\":");
        json_put_string(
            b, (struct slice){name->key + name->ns_len + 1, name->key_len - name->ns_len - 1});
        buf_printf(b, ",\"subscribers\":%zu}", name->subscribers);
        separator = ",";
    }
    buf_putc(b, ']');
}

size_t census_left_out(const struct census *census)
{
    return census->left_out;
}
