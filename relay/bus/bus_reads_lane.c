/* SPDX-License-Identifier: Apache-2.0 */
/* Which reads are one: what they must have in common; and of live-only ones, which need not ask for
 * the same, the topics of all of them, as one look tells where they begin, and which have ended. */
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/bus/bus_reads_parts.h"

/* What is read depends on who wants which events. */
static bool is_choosy(const struct note_read *note)
{
    return note->kind == CURSOR_LAST || note->kind == CURSOR_SNAPSHOT;
}

/* Of the last N events, other claims have others. Behind a NUL, which no name has, and with one
 * behind each text: no two grants' claims look alike. */
static void put_claims(struct buf *key, const struct grant_fields *fields)
{
    if (fields->match_count)
        buf_putc(key, '\0');
    for (size_t i = 0; i < fields->match_count; i++) {
        const struct grant_claim *claim = &fields->match[i];
        buf_putc(key, '=');
        buf_put(key, claim->name, strlen(claim->name) + 1);
        for (size_t j = 0; j < claim->values.count; j++) {
            buf_putc(key, '+');
            buf_put(key, claim->values.items[j], strlen(claim->values.items[j]) + 1);
        }
    }
}

void bus_reads_put_key(struct buf *key, const struct note_read *note)
{
    const struct subscription_request *request = subscription_request(note->sub);
    buf_printf(key, "%d%s %s", (int)note->kind, note->looks ? "?" : "", request->ns);
    if (cursor_is_live_only(note->kind))
        return;
    if (note->kind != CURSOR_ID)
        buf_printf(key, " %llu", (unsigned long long)note->cursor);
    if (note->horizon)
        buf_printf(key, " ^%llu", (unsigned long long)note->horizon);
    if (note->budget < note->max_events) /* where its page ends is its own matter */
        buf_printf(key, " %p", (const void *)note);
    for (size_t i = 0; i < request->topics.count; i++)
        buf_printf(key, "\n%s", request->topics.items[i]);
    for (size_t i = 0; i < request->types.count && is_choosy(note); i++)
        buf_printf(key, "\n %s", request->types.items[i]);
    if (request->types.count && is_choosy(note) && request->event_format & EVENT_SWAPS_TYPE)
        buf_puts(key, "\n ~"); /* types are looked for among other ones */
    if (request->grant && is_choosy(note))
        put_claims(key, grant_fields(request->grant));
}

/* --- the topics of many ---------------------------------------------------------------------- */

enum { NAMES_MAX = 1024 }; /* in one look */

struct bus_reads_name {
    char *text; /* borrowed */
    UT_hash_handle hh;
};

static void add(struct bus_reads_names *names, char *text)
{
    struct bus_reads_name *name;
    HASH_FIND(hh, names->set, text, strlen(text), name);
    if (name)
        return;
    name = mem_zero(1, sizeof(*name));
    name->text = text;
    HASH_ADD_KEYPTR(hh, names->set, name->text, strlen(name->text), name);
    names->list.items = mem_grow(names->list.items, names->list.count, sizeof(char *));
    names->list.items[names->list.count++] = text;
}

void bus_reads_names_add(struct bus_reads_names *names, const struct strings *topics)
{
    for (size_t i = 0; i < topics->count; i++)
        if (!name_is_pattern(slice_of(topics->items[i])))
            add(names, topics->items[i]);
}

bool bus_reads_names_are_full(const struct bus_reads_names *names)
{
    return names->list.count >= NAMES_MAX;
}

void bus_reads_names_reset(struct bus_reads_names *names)
{
    struct bus_reads_name *name, *next;
    HASH_ITER (hh, names->set, name, next) {
        HASH_DEL(names->set, name);
        free(name);
    }
    free(names->list.items);
    *names = (struct bus_reads_names){0};
}
