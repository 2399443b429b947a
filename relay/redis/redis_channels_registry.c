/* SPDX-License-Identifier: Apache-2.0 */
/* The channels and globs by their text, and what is to be asked about them. */
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

struct channel *redis_channels_get(struct redis_channels *ch, const struct store_name *name)
{
    bool glob = name_is_pattern(slice_of(name->name));
    struct buf text = {0};
    if (glob)
        name_put_glob(&text, ch->config->prefix, slice_of(name->ns), slice_of(name->name));
    else
        name_put_channel(&text, ch->config->prefix, slice_of(name->ns), slice_of(name->name));
    struct channel *c = redis_channels_find(ch, glob, buf_slice(&text));
    if (!c) {
        c = mem_zero(1, sizeof(*c));
        c->text = mem_dup(text.ptr, text.len);
        c->glob = glob;
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
