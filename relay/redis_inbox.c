#include "relay/redis_inbox.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/log.h"

/* How long XREAD waits: also how long a new namespace's inbox may have to wait for the next look.
 */
#define BLOCK_MS "1000"
#define DRAIN_STEP "100"
static const double RETRY_S = 1.0;

struct redis_inbox {
    struct ev_loop *loop;
    struct redis_conn *conn;
    struct config *config;
    struct metrics *metrics;
    struct strings added;  /* namespaces with clients */
    bool enabled, waiting; /* waiting: an XREAD is out */
    unsigned draining;     /* sse_drain calls out */
    uint64_t left;         /* in the round under way */
    struct log_limit error_limit, refused_limit;
    ev_timer retry;
};

static bool strings_have(const struct strings *list, const char *text)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i], text) == 0)
            return true;
    return false;
}

/* --- one round: wait for entries, drain, again ------------------------------------------------ */

static void round_begin(struct redis_inbox *inbox);

static void retry_later(struct redis_inbox *inbox)
{
    ev_timer_stop(inbox->loop, &inbox->retry);
    ev_timer_set(&inbox->retry, RETRY_S, 0.);
    ev_timer_start(inbox->loop, &inbox->retry);
}

static void log_error(struct redis_inbox *inbox, const char *what, const struct redis_reply *reply)
{
    uint64_t held;
    if (!log_limit_pass(&inbox->error_limit, clock_mono_us(), &held))
        return;
    char *text = slice_dup(redis_reply_text(reply));
    log_put(LOG_ERROR, what, "reply", text, "not_logged", log_u64(held), NULL);
    free(text);
}

/* {published, rejected, left, text of the last rejection} */
static void count_drained(struct redis_inbox *inbox, const struct redis_reply *reply)
{
    int64_t published = redis_reply_number(redis_reply_at(reply, 0));
    int64_t rejected = redis_reply_number(redis_reply_at(reply, 1));
    int64_t left = redis_reply_number(redis_reply_at(reply, 2));
    if (published > 0)
        metrics_add(inbox->metrics, M_INBOX_MOVED, (uint64_t)published);
    if (left > 0)
        inbox->left += (uint64_t)left;
    uint64_t held;
    if (rejected <= 0)
        return;
    metrics_add(inbox->metrics, M_DROPPED_INBOX, (uint64_t)rejected);
    if (log_limit_pass(&inbox->refused_limit, clock_mono_us(), &held)) {
        char *why = slice_dup(redis_reply_text(redis_reply_at(reply, 3)));
        log_put(LOG_WARN, "dropped inbox entries that are not valid events", "count",
                log_u64((uint64_t)rejected), "last_reason", why ? why : "", "not_logged",
                log_u64(held), NULL);
        free(why);
    }
}

static void on_drained(void *arg, const struct redis_reply *reply)
{
    struct redis_inbox *inbox = arg;
    inbox->draining--;
    if (!reply)
        return;
    bool ok = redis_reply_count(reply) >= 4;
    if (ok)
        count_drained(inbox, reply);
    else
        log_error(inbox, "cannot drain an inbox, trying again", reply);
    if (!ok)
        retry_later(inbox);
    if (inbox->draining == 0) {
        metrics_set(inbox->metrics, M_INBOX_LAG, inbox->left);
        if (!ev_is_active(&inbox->retry))
            round_begin(inbox);
    }
}

static void drain(struct redis_inbox *inbox, struct slice ns)
{
    struct buf key = {0};
    name_put_key(&key, inbox->config->prefix, ns);
    struct slice argv[] = {SLICE_LIT("FCALL"), SLICE_LIT("sse_drain"), SLICE_LIT("1"),
                           buf_slice(&key),    SLICE_LIT("count"),     SLICE_LIT(DRAIN_STEP)};
    if (redis_conn_send(inbox->conn, argv, 6, on_drained, inbox))
        inbox->draining++;
    buf_reset(&key);
}

/* One inbox that is no stream makes XREAD fail for all: then each is drained without waiting. */
static void drain_all(struct redis_inbox *inbox)
{
    const struct strings *fixed = &inbox->config->inbox_namespaces;
    for (size_t i = 0; i < fixed->count; i++)
        drain(inbox, slice_of(fixed->items[i]));
    for (size_t i = 0; i < inbox->added.count; i++)
        if (!strings_have(fixed, inbox->added.items[i]))
            drain(inbox, slice_of(inbox->added.items[i]));
}

/* P:{ns}:inbox to ns. */
static struct slice inbox_ns(struct slice key)
{
    const char *open = memchr(key.ptr, '{', key.len);
    const char *close = memchr(key.ptr, '}', key.len);
    if (!open || !close || close < open)
        return SLICE_NONE;
    return (struct slice){open + 1, (size_t)(close - open - 1)};
}

static void on_entries(void *arg, const struct redis_reply *reply)
{
    struct redis_inbox *inbox = arg;
    inbox->waiting = false;
    if (!reply || !inbox->enabled)
        return;
    inbox->left = 0;
    if (redis_reply_type(reply) == REDIS_ERROR) {
        log_error(inbox, "cannot read the inboxes, trying again", reply);
        drain_all(inbox);
        retry_later(inbox);
        return;
    }
    for (size_t i = 0; i < redis_reply_count(reply); i++) {
        const struct redis_reply *stream = redis_reply_at(reply, i);
        if (redis_reply_count(stream) == 2)
            drain(inbox, inbox_ns(redis_reply_text(redis_reply_at(stream, 0))));
    }
    if (!inbox->draining)
        round_begin(inbox);
}

static char *inbox_key(struct redis_inbox *inbox, const char *ns)
{
    struct buf key = {0};
    size_t len;
    name_put_key(&key, inbox->config->prefix, slice_of(ns));
    buf_puts(&key, ":inbox");
    return buf_take(&key, &len);
}

static void round_begin(struct redis_inbox *inbox)
{
    static const struct slice head[] = {SLICE_LIT("XREAD"),  SLICE_LIT("COUNT"),
                                        SLICE_LIT("1"),      SLICE_LIT("BLOCK"),
                                        SLICE_LIT(BLOCK_MS), SLICE_LIT("STREAMS")};
    const struct strings *fixed = &inbox->config->inbox_namespaces;
    if (inbox->waiting || inbox->draining || !inbox->enabled || !redis_conn_is_up(inbox->conn))
        return;
    size_t max = fixed->count + inbox->added.count, count = 0;
    if (!max) {
        retry_later(inbox);
        return;
    }
    struct slice *argv = mem_alloc((6 + 2 * max) * sizeof(*argv));
    memcpy(argv, head, sizeof(head));
    for (size_t i = 0; i < fixed->count; i++)
        argv[6 + count++] = slice_of(inbox_key(inbox, fixed->items[i]));
    for (size_t i = 0; i < inbox->added.count; i++)
        if (!strings_have(fixed, inbox->added.items[i]))
            argv[6 + count++] = slice_of(inbox_key(inbox, inbox->added.items[i]));
    for (size_t i = 0; i < count; i++)
        argv[6 + count + i] = SLICE_LIT("0");
    inbox->waiting = redis_conn_send(inbox->conn, argv, 6 + 2 * count, on_entries, inbox);
    for (size_t i = 0; i < count; i++)
        free((char *)(uintptr_t)argv[6 + i].ptr);
    free(argv);
}

/* --- the rest -------------------------------------------------------------------------------- */

static void on_retry(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    round_begin(w->data);
}

static void on_up(void *arg)
{
    struct redis_inbox *inbox = arg;
    metrics_set(inbox->metrics, M_REDIS_UP_INBOX, 1);
    round_begin(inbox);
}

static void on_down(void *arg, const char *why)
{
    (void)why;
    struct redis_inbox *inbox = arg;
    metrics_set(inbox->metrics, M_REDIS_UP_INBOX, 0);
    ev_timer_stop(inbox->loop, &inbox->retry);
}

struct redis_inbox *redis_inbox_new(struct ev_loop *loop, const struct redis_url *url,
                                    struct config *config, struct metrics *metrics)
{
    static const struct redis_conn_handler handler = {on_up, on_down, NULL};
    struct redis_inbox *inbox = mem_zero(1, sizeof(*inbox));
    inbox->loop = loop;
    inbox->config = config_ref(config);
    inbox->metrics = metrics;
    inbox->conn = redis_conn_new(loop, url, "inbox", &handler, inbox, metrics);
    ev_init(&inbox->retry, on_retry);
    inbox->retry.data = inbox;
    return inbox;
}

void redis_inbox_free(struct redis_inbox *inbox)
{
    if (!inbox)
        return;
    inbox->enabled = false;
    redis_conn_free(inbox->conn);
    ev_timer_stop(inbox->loop, &inbox->retry);
    for (size_t i = 0; i < inbox->added.count; i++)
        free(inbox->added.items[i]);
    free(inbox->added.items);
    config_unref(inbox->config);
    free(inbox);
}

void redis_inbox_start(struct redis_inbox *inbox)
{
    redis_conn_start(inbox->conn);
}

void redis_inbox_configure(struct redis_inbox *inbox, struct config *config)
{
    config_unref(inbox->config);
    inbox->config = config_ref(config);
}

void redis_inbox_enable(struct redis_inbox *inbox, bool enabled)
{
    inbox->enabled = enabled;
    if (enabled)
        round_begin(inbox);
}

void redis_inbox_add(struct redis_inbox *inbox, const char *ns)
{
    if (strings_have(&inbox->added, ns))
        return;
    inbox->added.items = mem_resize(inbox->added.items, (inbox->added.count + 1) * sizeof(char *));
    inbox->added.items[inbox->added.count++] = mem_dup(ns, strlen(ns));
}

void redis_inbox_remove(struct redis_inbox *inbox, const char *ns)
{
    for (size_t i = 0; i < inbox->added.count; i++) {
        if (strcmp(inbox->added.items[i], ns) != 0)
            continue;
        free(inbox->added.items[i]);
        inbox->added.items[i] = inbox->added.items[--inbox->added.count];
        return;
    }
}
