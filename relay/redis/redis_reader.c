/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/redis/redis_reader.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/envelope.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/kit/log.h"

struct redis_reader {
    struct redis_conn *conn;
    const struct redis_clock *clock;
    struct config *config;
    const struct redis_reader_handler *handler;
    void *arg;
    struct metrics *metrics;
    struct log_limit invalid_limit;
    struct envelope envelope;
};

/* --- what is not as it should be ------------------------------------------------------------- */

static void say_no(struct redis_reader *r, const char *what, const struct redis_reply *reply)
{
    r->handler->refused(r->arg, what, reply);
}

/* What is not ours: an entry, a log that is no stream, a name in the index. Counted, logged once in
 * a while, and passed over. */
static void count_invalid(struct redis_reader *r, const char *ns, const char *topic,
                          const char *what)
{
    uint64_t held;
    metrics_add(r->metrics, M_DROPPED_INVALID, 1);
    if (log_limit_pass(&r->invalid_limit, clock_mono_us(), &held))
        log_put(LOG_WARN, what, "ns", ns, "topic", topic, "not_logged", log_u64(held), NULL);
}

/* --- look ------------------------------------------------------------------------------------ */

struct look_call {
    struct redis_reader *reader;
    struct store_look *look;
};

/* Anybody can write a name into the index that is no topic: nobody may ask for it, and what looks
 * topics up relies on their bounds. */
static void look_add(struct redis_reader *r, struct store_look *look, struct slice topic,
                     uint64_t last, enum topic_end end)
{
    if (name_topic_valid(topic)) {
        store_look_add(look, topic, last, end);
        return;
    }
    char *name = slice_dup(topic);
    count_invalid(r, look->ns, name ? name : "",
                  "passed over a name in the index that is no topic");
    free(name);
}

/* Of topics that have ended: topic, reason, …, in the order of all that are told. */
struct ends {
    const struct redis_reply *reply; /* NULL: the library is an older one, and none has */
    size_t next;
};

static enum topic_end ends_take(struct ends *ends, struct slice topic)
{
    enum topic_end end = END_NONE;
    const struct redis_reply *reply = ends->reply;
    if (!reply || ends->next + 1 >= redis_reply_count(reply) ||
        !slice_eq(redis_reply_text(redis_reply_at(reply, ends->next)), topic))
        return END_NONE;
    if (topic_end_parse(redis_reply_text(redis_reply_at(reply, ends->next + 1)), &end))
        end = END_DONE; /* by a newer library, for a reason of its own */
    ends->next += 2;
    return end;
}

static void look_fill(struct redis_reader *r, struct store_look *look,
                      const struct redis_reply *reply)
{
    struct ends ends = {redis_reply_count(reply) > 5 ? redis_reply_at(reply, 5) : NULL, 0};
    look->position = (uint64_t)redis_reply_number(redis_reply_at(reply, 0));
    look->horizon = (uint64_t)redis_reply_number(redis_reply_at(reply, 1));
    look->pruned = redis_reply_number(redis_reply_at(reply, 2)) == (int64_t)look->horizon;
    look->upto =
        look->limit ? (uint64_t)redis_reply_number(redis_reply_at(reply, 4)) : look->position;
    const struct redis_reply *topics = redis_reply_at(reply, 3);
    for (size_t i = 0; i + 1 < redis_reply_count(topics); i += 2) {
        int64_t last = redis_reply_number(redis_reply_at(topics, i + 1));
        struct slice topic = redis_reply_text(redis_reply_at(topics, i));
        enum topic_end end = ends_take(&ends, topic);
        if (last > 0)
            look_add(r, look, topic, (uint64_t)last, end);
    }
    if (look->names)
        store_look_settle(look);
}

static bool refuses_writes(const struct redis_reply *reply)
{
    return redis_reply_type(reply) == REDIS_ERROR &&
           redis_error_refuses_writes(redis_reply_text(reply));
}

static void look_send(struct redis_reader *r, struct store_look *look);

static void on_looked(void *arg, const struct redis_reply *reply)
{
    struct look_call *call = arg;
    struct store_look *look = call->look;
    struct redis_reader *r = call->reader;
    free(call);
    if (!reply) {
        look->done(look, ERR_AGAIN);
        return;
    }
    if (!look->frozen) {
        r->handler->looked(r->arg, reply);
        look->frozen = refuses_writes(reply);
        if (look->frozen) {
            look_send(r, look);
            return;
        }
    }
    size_t numbers = look->limit ? 5 : 4;
    bool valid = redis_reply_count(reply) >= numbers &&
                 redis_reply_number(redis_reply_at(reply, 0)) > 0 &&
                 redis_reply_number(redis_reply_at(reply, 1)) >= 0 &&
                 (!look->limit || redis_reply_number(redis_reply_at(reply, 4)) >= 0);
    if (!valid) {
        say_no(r, "cannot look at a namespace; its streams wait", reply);
        look->done(look, ERR_AGAIN);
        return;
    }
    look_fill(r, look, reply);
    look->done(look, OK);
}

/* The part of a pattern before its first wildcard. */
static struct slice literal_prefix(const char *pattern)
{
    struct slice s = slice_of(pattern);
    size_t i = 0;
    while (i < s.len && s.ptr[i] != '*' && s.ptr[i] != '>')
        i++;
    return (struct slice){s.ptr, i};
}

/* Both functions take the same and answer the same (before version 6 of the library: four elements,
 * with a limit five). */
static void look_send(struct redis_reader *r, struct store_look *look)
{
    const struct strings *names = look->moved_only ? NULL : look->names;
    size_t count = names ? names->count : 0;
    struct buf key = {0};
    name_put_key(&key, r->config->prefix, slice_of(look->ns));
    struct slice *argv = mem_alloc((6 + 2 * count + 4) * sizeof(*argv));
    size_t argc = 0;
    argv[argc++] = SLICE_LIT("FCALL");
    argv[argc++] = look->frozen ? SLICE_LIT("sse_look") : SLICE_LIT("sse_since");
    argv[argc++] = SLICE_LIT("1");
    argv[argc++] = buf_slice(&key);
    argv[argc++] = SLICE_LIT("cursor");
    argv[argc++] = slice_of(log_u64(look->cursor));
    for (size_t i = 0; i < count; i++) {
        bool pattern = name_is_pattern(slice_of(names->items[i]));
        argv[argc++] = pattern ? SLICE_LIT("prefix") : SLICE_LIT("topic");
        argv[argc++] = pattern ? literal_prefix(names->items[i]) : slice_of(names->items[i]);
    }
    if (!names) {
        argv[argc++] = SLICE_LIT("prefix");
        argv[argc++] = SLICE_LIT("");
    }
    if (look->limit) {
        argv[argc++] = SLICE_LIT("limit");
        argv[argc++] = slice_of(log_u64(look->limit));
    }
    struct look_call *call = mem_alloc(sizeof(*call));
    *call = (struct look_call){r, look};
    bool sent = redis_conn_send(r->conn, argv, argc, on_looked, call);
    free(argv);
    buf_reset(&key);
    if (!sent) {
        free(call);
        look->done(look, ERR_AGAIN);
    }
}

void redis_reader_look(struct redis_reader *r, struct store_look *look)
{
    look->frozen = false;
    look_send(r, look);
}

/* --- range ----------------------------------------------------------------------------------- */

struct range_call {
    struct redis_reader *reader;
    struct store_range *range;
};

/* NULL: only a link of the chain. Judged as an event: its lane may be the configuration's. */
static struct event *entry_event(const struct redis_reader *r, const struct event_fields *fields)
{
    if (event_type_is_reserved(fields->type, r->config->control_prefix))
        return NULL;
    struct event *ev = store_event(r->config, fields, 0);
    if (!event_has_ttl(ev))
        return ev;
    struct event_clock now = {.wall_us = redis_clock_now_us(r->clock)};
    if (!event_is_spent(ev, &now))
        return ev;
    event_unref(ev);
    return NULL;
}

static bool entry_fill(struct redis_reader *r, const struct store_range *range,
                       const struct redis_reply *reply, struct store_entry *out)
{
    if (redis_reply_count(reply) != 2)
        return false;
    const struct redis_reply *pairs = redis_reply_at(reply, 1);
    size_t count = redis_reply_count(pairs);
    struct slice fields[64];
    if (count > sizeof(fields) / sizeof(fields[0]))
        return false;
    for (size_t i = 0; i < count; i++)
        fields[i] = redis_reply_text(redis_reply_at(pairs, i));
    struct event_fields event;
    if (envelope_from_entry(&r->envelope, redis_reply_text(redis_reply_at(reply, 0)), fields, count,
                            slice_of(range->ns), slice_of(range->topic), &event))
        return false;
    *out = (struct store_entry){.event = entry_event(r, &event),
                                .id = event.id,
                                .prev = event.prev,
                                .has_prev = event.has_prev};
    return true;
}

static void reverse_entries(struct store_range *range)
{
    for (size_t i = 0, j = range->count; i + 1 < j; i++) {
        struct store_entry entry = range->entries[i];
        range->entries[i] = range->entries[--j];
        range->entries[j] = entry;
    }
}

/* The id of any entry, ours or not: the part before the dash. */
static uint64_t entry_position(const struct redis_reply *reply)
{
    struct slice id =
        redis_reply_count(reply) ? redis_reply_text(redis_reply_at(reply, 0)) : SLICE_NONE;
    const char *dash = id.ptr ? memchr(id.ptr, '-', id.len) : NULL;
    uint64_t position = 0;
    if (!dash || slice_u64((struct slice){id.ptr, (size_t)(dash - id.ptr)}, UINT64_MAX, &position))
        return UINT64_MAX;
    return position;
}

static void on_ranged(void *arg, const struct redis_reply *reply)
{
    struct range_call *call = arg;
    struct store_range *range = call->range;
    struct redis_reader *r = call->reader;
    free(call);
    if (!reply) {
        range->done(range, ERR_AGAIN);
        return;
    }
    if (redis_reply_type(reply) == REDIS_ERROR && !redis_reply_is_error(reply, "WRONGTYPE")) {
        say_no(r, "cannot read a log; its streams wait", reply);
        range->done(range, ERR_AGAIN);
        return;
    }
    if (redis_reply_type(reply) == REDIS_ERROR)
        count_invalid(r, range->ns, range->topic, "cannot read a log; what it held counts as lost");
    size_t count = redis_reply_count(reply);
    range->entries = mem_alloc((count ? count : 1) * sizeof(*range->entries));
    for (size_t i = 0; i < count; i++) {
        if (entry_fill(r, range, redis_reply_at(reply, i), &range->entries[range->count]))
            range->count++;
        else
            count_invalid(r, range->ns, range->topic,
                          "passed over a log entry that is not an event");
    }
    range->more = count >= range->limit;
    if (count)
        range->scanned = entry_position(redis_reply_at(reply, count - 1));
    if (range->reverse)
        reverse_entries(range);
    range->done(range, OK);
}

void redis_reader_range(struct redis_reader *r, struct store_range *range)
{
    struct buf key = {0};
    name_put_log(&key, r->config->prefix, slice_of(range->ns), slice_of(range->topic));
    struct slice low = slice_of(log_u64(range->after + 1)), high = slice_of(log_u64(range->upto));
    struct slice argv[] = {range->reverse ? SLICE_LIT("XREVRANGE") : SLICE_LIT("XRANGE"),
                           buf_slice(&key),
                           range->reverse ? high : low,
                           range->reverse ? low : high,
                           SLICE_LIT("COUNT"),
                           slice_of(log_u64(range->limit))};
    struct range_call *call = mem_alloc(sizeof(*call));
    *call = (struct range_call){r, range};
    bool sent = redis_conn_send(r->conn, argv, 6, on_ranged, call);
    buf_reset(&key);
    if (!sent) {
        free(call);
        range->done(range, ERR_AGAIN);
    }
}

/* --- life ------------------------------------------------------------------------------------ */

struct redis_reader *redis_reader_new(struct redis_conn *conn, const struct redis_clock *clock,
                                      struct config *config,
                                      const struct redis_reader_handler *handler, void *arg,
                                      struct metrics *metrics)
{
    struct redis_reader *r = mem_zero(1, sizeof(*r));
    r->conn = conn;
    r->clock = clock;
    r->config = config_ref(config);
    r->handler = handler;
    r->arg = arg;
    r->metrics = metrics;
    return r;
}

void redis_reader_configure(struct redis_reader *r, struct config *config)
{
    config_unref(r->config);
    r->config = config_ref(config);
}

void redis_reader_free(struct redis_reader *r)
{
    if (!r)
        return;
    config_unref(r->config);
    envelope_reset(&r->envelope);
    free(r);
}
