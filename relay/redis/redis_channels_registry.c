/* SPDX-License-Identifier: Apache-2.0 */
/* The channels and globs by their text, and what is to be asked about them. */
#include "common/glob.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/redis/redis_channels_parts.h"

static struct channel **table_of(struct redis_channels *ch, bool glob)
{
    return glob ? &ch->globs : &ch->direct;
}

struct channel *redis_channels_find(struct redis_channels *ch, bool glob, struct slice text)
{
    struct channel *c, *table = *table_of(ch, glob);
    HASH_FIND(hh, table, text.ptr, text.len, c);
    return c;
}

static void put_text(struct buf *b, const char *prefix, const struct store_name *name, bool glob)
{
    struct slice ns = slice_of(name->ns);
    switch (name->subject) {
    case STORE_EVENTS:
        if (glob)
            name_put_glob(b, prefix, ns, slice_of(name->name));
        else
            name_put_channel(b, prefix, ns, slice_of(name->name));
        return;
    case STORE_REVOKED:
        name_put_revoked(b, prefix, ns);
        return;
    case STORE_NODE:
        name_put_node(b, prefix, ns);
        return;
    case STORE_CONNECTIONS:
        name_put_to(b, prefix, ns, slice_of(name->name));
        return;
    case STORE_BRIDGE:
        buf_put_slice(b, slice_of(name->name));
        return;
    }
}

static bool is_glob(const struct store_name *name)
{
    if (name->subject == STORE_BRIDGE)
        return glob_is_pattern(slice_of(name->name));
    return name->subject == STORE_EVENTS && name_is_pattern(slice_of(name->name));
}

struct channel *redis_channels_get(struct redis_channels *ch, const struct store_name *name)
{
    bool glob = is_glob(name);
    struct buf text = {0};
    put_text(&text, ch->config->prefix, name, glob);
    struct channel *c = redis_channels_find(ch, glob, buf_slice(&text));
    if (!c) {
        c = mem_zero(1, sizeof(*c));
        c->text = mem_dup(text.ptr, text.len);
        c->glob = glob;
        c->subject = name->subject;
        struct channel *table = *table_of(ch, glob);
        HASH_ADD_KEYPTR(hh, table, c->text, text.len, c);
        *table_of(ch, glob) = table;
        metrics_add(ch->metrics, M_CHANNELS, 1);
    }
    buf_reset(&text);
    return c;
}

void redis_channels_todo(struct redis_channels *ch, struct channel *c)
{
    if (c->in_todo)
        return;
    c->in_todo = true;
    TAILQ_INSERT_TAIL(&ch->todo, c, todo);
}

void redis_channels_remove(struct redis_channels *ch, struct channel *c)
{
    struct channel *table = *table_of(ch, c->glob);
    HASH_DEL(table, c);
    *table_of(ch, c->glob) = table;
    if (c->in_todo)
        TAILQ_REMOVE(&ch->todo, c, todo);
    ch->refused -= c->state == CHANNEL_REFUSED;
    ch->awaited -= c->awaited;
    metrics_sub(ch->metrics, M_CHANNELS, 1);
    free(c->names);
    free(c->text);
    free(c);
}

void redis_channels_release(struct redis_channels *ch, struct channel *c)
{
    bool known = c->state == CHANNEL_ASKED || c->state == CHANNEL_HEARD;
    if (!c->name_count && !c->due && !known)
        redis_channels_remove(ch, c);
}
