/* SPDX-License-Identifier: Apache-2.0 */
/* FCALL sse_bridge: what it is given, and what its answer says. */
#include <stdlib.h>

#include "common/clock.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/redis/redis_bridge_parts.h"

/* A command in the making. Texts that are made for it live until it is sent. */
struct command {
    struct slice *argv;
    size_t argc;
    struct strings texts;
};

static void put(struct command *c, struct slice arg)
{
    c->argv = mem_grow(c->argv, c->argc, sizeof(*c->argv));
    c->argv[c->argc++] = arg;
}

/* A copy. */
static void put_text(struct command *c, struct slice text)
{
    strings_add(&c->texts, text);
    put(c, (struct slice){c->texts.items[c->texts.count - 1], text.len});
}

static void put_number(struct command *c, uint64_t n)
{
    struct buf digits = {0};
    buf_put_u64(&digits, n);
    put_text(c, buf_slice(&digits));
    buf_reset(&digits);
}

static void command_begin(struct command *c, const struct redis_bridge *bridge, uint64_t ttl_ms)
{
    struct buf text = {0};
    put(c, SLICE_LIT("FCALL"));
    put(c, SLICE_LIT("sse_bridge"));
    put(c, SLICE_LIT("1"));
    name_put_key(&text, bridge->config->prefix, slice_of(bridge->rule->ns));
    put_text(c, buf_slice(&text));
    buf_clear(&text);
    buf_printf(&text, "%s:", bridge->config->prefix);
    buf_put_slice(&text, buf_slice(&bridge->id));
    put(c, SLICE_LIT("lease"));
    put_text(c, buf_slice(&text));
    put(c, SLICE_LIT("owner"));
    put(c, slice_of(bridge->owner));
    put(c, SLICE_LIT("ttl"));
    put_number(c, ttl_ms);
    put(c, SLICE_LIT("stream"));
    put(c, slice_of(bridge->rule->source));
    put(c, SLICE_LIT("group"));
    put(c, slice_of(bridge->rule->group));
    buf_reset(&text);
}

static bool command_send(struct command *c, struct redis_bridge *bridge, redis_done done)
{
    bool sent = redis_conn_send(bridge->conn, c->argv, c->argc, done, bridge);
    strings_reset(&c->texts);
    free(c->argv);
    return sent;
}

bool redis_bridge_lease(struct redis_bridge *bridge, uint64_t ttl_ms, redis_done done)
{
    struct command c = {0};
    command_begin(&c, bridge, ttl_ms);
    return command_send(&c, bridge, done);
}

/* --- entries ---------------------------------------------------------------------------------- */

static void put_pair(struct command *c, struct slice name, struct slice value)
{
    if (!value.ptr)
        return;
    put(c, name);
    put(c, value);
}

/* Publishing and acknowledging is one step: this is for what Redis forgets by a failover, and for
 * groups that are set back. For as long as once.ttl (a day) it would be 200 bytes for each entry.
 */
#define ONCE_MAX_MS UINT64_C(600000)

/* bridge:<group>:<stream>:<entry> */
static void put_once(struct command *c, const struct redis_bridge *bridge, struct slice entry)
{
    struct buf once = {0};
    buf_put_slice(&once, buf_slice(&bridge->id));
    buf_putc(&once, ':');
    buf_put_slice(&once, entry);
    put(c, SLICE_LIT("once"));
    put_text(c, buf_slice(&once));
    uint64_t ttl_ms = bridge->config->once_ttl_ms;
    put(c, SLICE_LIT("once_ttl"));
    put_number(c, ttl_ms < ONCE_MAX_MS ? ttl_ms : ONCE_MAX_MS);
    buf_reset(&once);
}

/* The data is the entry's own as long as that is only passed on. */
static void put_data(struct command *c, const struct redis_bridge *bridge, struct slice data)
{
    put(c, SLICE_LIT("data"));
    if (data.len && data.ptr == bridge->reading.data.ptr)
        put_text(c, data);
    else
        put(c, data);
}

static void put_event(struct command *c, const struct redis_bridge *bridge, struct slice entry,
                      const struct event_fields *event)
{
    const struct config_bridge *rule = bridge->rule;
    size_t at = c->argc;
    put(c, SLICE_NONE); /* the number, which comes last */
    put(c, SLICE_LIT("topic"));
    put_text(c, event->topic);
    put_data(c, bridge, event->data);
    if (event->type.len) {
        put(c, SLICE_LIT("event"));
        put_text(c, event->type);
    }
    put_pair(c, SLICE_LIT("key"), slice_of(rule->key));
    put_pair(c, SLICE_LIT("priority"),
             rule->has_lane ? slice_of(lane_name(rule->lane)) : SLICE_NONE);
    put_once(c, bridge, entry);
    uint64_t count = c->argc - at - 1;
    put_number(c, count);
    c->argv[at] = c->argv[--c->argc];
}

static void put_entry(struct command *c, struct redis_bridge *bridge,
                      const struct redis_reply *entry)
{
    struct redis_bridge_batch *batch = &bridge->batch;
    bool is_whole = redis_reply_count(entry) == 2;
    const struct redis_reply *fields = is_whole ? redis_reply_at(entry, 1) : entry;
    struct slice id = is_whole ? redis_reply_text(redis_reply_at(entry, 0)) : SLICE_LIT("");
    size_t count = redis_reply_count(fields);
    struct slice *texts = mem_alloc((count + 1) * sizeof(*texts));
    struct event_fields event;
    for (size_t i = 0; i < count; i++) {
        texts[i] = redis_reply_text(redis_reply_at(fields, i));
        batch->bytes += texts[i].len;
    }
    put(c, SLICE_LIT("entry"));
    put(c, id);
    if (bridge_read_entry(&bridge->reading, bridge->config, bridge->rule, texts, count, &event)) {
        put(c, SLICE_LIT("0"));
        batch->dropped++;
        batch->why = bridge->reading.why;
    } else {
        put_event(c, bridge, id, &event);
    }
    batch->count++;
    buf_clear(&bridge->sent_id);
    buf_put_slice(&bridge->sent_id, id);
    free(texts);
}

bool redis_bridge_move(struct redis_bridge *bridge, const struct redis_reply *entries,
                       redis_done done)
{
    struct command c = {0};
    command_begin(&c, bridge, REDIS_BRIDGE_LEASE_MS);
    bridge->batch = (struct redis_bridge_batch){0};
    for (size_t i = 0; i < redis_reply_count(entries); i++)
        put_entry(&c, bridge, redis_reply_at(entries, i));
    return command_send(&c, bridge, done);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void log_dropped(struct redis_bridge *bridge, struct log_limit *limit, const char *what,
                        size_t count, const char *why)
{
    uint64_t held;
    if (count && log_limit_pass(limit, clock_mono_us(), &held))
        log_put(LOG_WARN, what, "stream", bridge->rule->source, "group", bridge->rule->group,
                "count", log_u64(count), "last_reason", why, "not_logged", log_u64(held), NULL);
}

static uint64_t number_at(const struct redis_reply *reply, size_t i)
{
    int64_t n = redis_reply_number(redis_reply_at(reply, i));
    return n > 0 ? (uint64_t)n : 0;
}

/* {1, done, published, ended, refused, why, stopped, skipped} */
void redis_bridge_settle(struct redis_bridge *bridge, const struct redis_reply *reply,
                         struct slice *stopped)
{
    const char *own = bridge->batch.why ? bridge->batch.why : "";
    size_t refused = number_at(reply, 4), skipped = number_at(reply, 7);
    struct slice last = redis_reply_text(redis_reply_at(reply, 5));
    char *why = slice_dup(last.ptr ? last : SLICE_LIT(""));
    struct slice reason = redis_reply_text(redis_reply_at(reply, 6));
    metrics_add(bridge->metrics, M_BRIDGED_ENTRIES, number_at(reply, 2));
    metrics_add(bridge->metrics, M_BRIDGED_ENTRIES_ENDED, number_at(reply, 3));
    metrics_add(bridge->metrics, M_BRIDGED_ENTRIES_DROPPED, refused + skipped);
    metrics_add(bridge->metrics, M_DROPPED_BRIDGE, refused + skipped);
    log_dropped(bridge, &bridge->dropped_limit,
                "dropped entries of a bridged stream that are no events", refused + skipped,
                refused ? why : own);
    log_dropped(bridge, &bridge->ended_limit,
                "dropped entries of a bridged stream whose topics have ended", number_at(reply, 3),
                "topic: ended");
    free(why);
    *stopped = reason.len ? reason : SLICE_NONE;
}

void redis_bridge_count_deleted(struct redis_bridge *bridge, size_t count)
{
    metrics_add(bridge->metrics, M_BRIDGED_ENTRIES_DROPPED, count);
    metrics_add(bridge->metrics, M_DROPPED_BRIDGE, count);
    log_dropped(bridge, &bridge->deleted_limit,
                "entries of a bridged stream were deleted there before they could be published",
                count, "deleted");
}
