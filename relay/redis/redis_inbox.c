/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/redis/redis_inbox.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/hash.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/kit/log.h"
#include "relay/kit/timer.h"
#include "relay/redis/redis_backoff.h"

/* How long XREAD waits: also how long a new namespace's inbox may have to wait for the next look.
 */
#define BLOCK_MS "1000"
#define DRAIN_STEP "100"
static const double RETRY_S = 1.0;

/* One namespace's. */
struct box {
    char *ns;
    bool fixed, added;  /* wanted by configuration; by clients here */
    unsigned failures;  /* drains in a row that Redis refused: it is left out until… */
    uint64_t try_at_us; /* …then */
    UT_hash_handle hh;
};

struct redis_inbox {
    struct ev_loop *loop;
    struct redis_conn *conn;
    struct config *config;
    struct metrics *metrics;
    struct box *boxes;     /* by ns */
    bool enabled, waiting; /* waiting: an XREAD is out */
    unsigned draining;     /* sse_drain calls out */
    uint64_t left;         /* in the round under way */
    char *refusal;         /* of XREAD, until it is known whose fault it was; else NULL */
    bool culprit;          /* it is */
    struct log_limit error_limit, drain_limit, refused_limit;
    ev_timer retry;
};

static struct box *box_find(struct redis_inbox *inbox, struct slice ns)
{
    struct box *box;
    HASH_FIND(hh, inbox->boxes, ns.ptr, ns.len, box);
    return box;
}

static struct box *box_get(struct redis_inbox *inbox, const char *ns)
{
    struct box *box = box_find(inbox, slice_of(ns));
    if (box)
        return box;
    box = mem_zero(1, sizeof(*box));
    box->ns = mem_dup(ns, strlen(ns));
    HASH_ADD_KEYPTR(hh, inbox->boxes, box->ns, strlen(box->ns), box);
    return box;
}

static void box_release(struct redis_inbox *inbox, struct box *box)
{
    if (box->fixed || box->added)
        return;
    HASH_DEL(inbox->boxes, box);
    free(box->ns);
    free(box);
}

/* --- one round: wait for entries, drain, again ------------------------------------------------ */

static void round_begin(struct redis_inbox *inbox);

static void retry_later(struct redis_inbox *inbox)
{
    timer_once(inbox->loop, &inbox->retry, RETRY_S);
}

static void log_unread(struct redis_inbox *inbox, const char *reply)
{
    uint64_t held;
    if (log_limit_pass(&inbox->error_limit, clock_mono_us(), &held))
        log_put(LOG_ERROR, "cannot read the inboxes, trying again", "reply", reply, "not_logged",
                log_u64(held), NULL);
}

static void log_undrained(struct redis_inbox *inbox, const char *ns,
                          const struct redis_reply *reply)
{
    uint64_t held;
    if (redis_reply_is_unusable(reply) || /* the connections go, which is told */
        !log_limit_pass(&inbox->drain_limit, clock_mono_us(), &held))
        return;
    char *text = slice_dup(redis_reply_text(reply));
    log_put(LOG_ERROR, "cannot drain an inbox, trying again", "ns", ns, "reply", text ? text : "",
            "not_logged", log_u64(held), NULL);
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

struct drain {
    struct redis_inbox *inbox;
    char *ns; /* its box may go meanwhile */
};

static void box_failed(struct box *box)
{
    box->try_at_us = clock_mono_us() + redis_backoff_s(box->failures++) * UINT64_C(1000000);
}

/* The last answer of a round. */
static void round_end(struct redis_inbox *inbox)
{
    metrics_set(inbox->metrics, M_INBOX_LAG, inbox->left);
    /* All could be drained, and yet XREAD was refused: by its own permission, perhaps. Then they
     * are drained without waiting for entries. */
    if (inbox->refusal && !inbox->culprit) {
        log_unread(inbox, inbox->refusal);
        retry_later(inbox);
    }
    free(inbox->refusal);
    inbox->refusal = NULL;
    if (!ev_is_active(&inbox->retry))
        round_begin(inbox);
}

static void on_drained(void *arg, const struct redis_reply *reply)
{
    struct drain *call = arg;
    struct redis_inbox *inbox = call->inbox;
    struct box *box = box_find(inbox, slice_of(call->ns));
    bool ok = reply && redis_reply_count(reply) >= 4;
    inbox->draining--;
    if (ok) {
        count_drained(inbox, reply);
        if (box)
            box->failures = 0;
    } else if (reply) {
        log_undrained(inbox, call->ns, reply);
        inbox->culprit = true;
        if (box)
            box_failed(box);
    }
    free(call->ns);
    free(call);
    if (reply && inbox->draining == 0)
        round_end(inbox);
}

static void drain(struct redis_inbox *inbox, const char *ns)
{
    struct buf key = {0};
    name_put_key(&key, inbox->config->prefix, slice_of(ns));
    struct slice argv[] = {SLICE_LIT("FCALL"), SLICE_LIT("sse_drain"), SLICE_LIT("1"),
                           buf_slice(&key),    SLICE_LIT("count"),     SLICE_LIT(DRAIN_STEP)};
    struct drain *call = mem_alloc(sizeof(*call));
    *call = (struct drain){inbox, mem_dup(ns, strlen(ns))};
    if (redis_conn_send(inbox->conn, argv, 6, on_drained, call)) {
        inbox->draining++;
    } else {
        free(call->ns);
        free(call);
    }
    buf_reset(&key);
}

/* Those that are not left out; or, of those that are, the ones whose time has come. */
static void drain_all(struct redis_inbox *inbox, bool failed)
{
    uint64_t now = clock_mono_us();
    struct box *box, *next;
    HASH_ITER (hh, inbox->boxes, box, next)
        if (failed ? box->failures && box->try_at_us <= now : !box->failures)
            drain(inbox, box->ns);
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
        /* One inbox that is no stream, or may not be read, makes XREAD fail for all. */
        inbox->culprit = false;
        inbox->refusal = slice_dup(redis_reply_text(reply));
        drain_all(inbox, false);
        if (!inbox->draining)
            round_end(inbox);
        return;
    }
    for (size_t i = 0; i < redis_reply_count(reply); i++) {
        const struct redis_reply *stream = redis_reply_at(reply, i);
        if (redis_reply_count(stream) != 2)
            continue;
        struct box *box = box_find(inbox, inbox_ns(redis_reply_text(redis_reply_at(stream, 0))));
        if (box)
            drain(inbox, box->ns);
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

/* Waits for entries in all that can be drained. False: there is none. */
static bool wait_for_entries(struct redis_inbox *inbox)
{
    static const struct slice head[] = {SLICE_LIT("XREAD"),  SLICE_LIT("COUNT"),
                                        SLICE_LIT("1"),      SLICE_LIT("BLOCK"),
                                        SLICE_LIT(BLOCK_MS), SLICE_LIT("STREAMS")};
    struct box *box, *next;
    size_t max = 0, count = 0;
    HASH_ITER (hh, inbox->boxes, box, next)
        max += box->failures == 0;
    if (!max)
        return false;
    struct slice *argv = mem_alloc((6 + 2 * max) * sizeof(*argv));
    memcpy(argv, head, sizeof(head));
    HASH_ITER (hh, inbox->boxes, box, next)
        if (box->failures == 0)
            argv[6 + count++] = slice_of(inbox_key(inbox, box->ns));
    for (size_t i = 0; i < count; i++)
        argv[6 + count + i] = SLICE_LIT("0");
    inbox->waiting = redis_conn_send(inbox->conn, argv, 6 + 2 * count, on_entries, inbox);
    for (size_t i = 0; i < count; i++)
        free((char *)(uintptr_t)argv[6 + i].ptr);
    free(argv);
    return true;
}

static void round_begin(struct redis_inbox *inbox)
{
    if (inbox->waiting || inbox->draining || !inbox->enabled || !redis_conn_is_up(inbox->conn))
        return;
    inbox->left = 0;
    drain_all(inbox, true); /* those that failed go first: with them XREAD might fail */
    if (!inbox->draining && !wait_for_entries(inbox))
        retry_later(inbox);
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
    free(inbox->refusal);
    inbox->refusal = NULL;
}

struct redis_inbox *redis_inbox_new(struct ev_loop *loop, struct redis_target *target,
                                    struct config *config, struct metrics *metrics)
{
    static const struct redis_conn_handler handler = {on_up, on_down, NULL};
    struct redis_inbox *inbox = mem_zero(1, sizeof(*inbox));
    inbox->loop = loop;
    inbox->config = config_ref(config);
    inbox->metrics = metrics;
    for (size_t i = 0; i < config->inbox_namespaces.count; i++)
        box_get(inbox, config->inbox_namespaces.items[i])->fixed = true;
    inbox->conn = redis_conn_new(loop, target, "inbox", &handler, inbox, metrics);
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
    struct box *box, *next;
    HASH_ITER (hh, inbox->boxes, box, next) {
        box->fixed = box->added = false;
        box_release(inbox, box);
    }
    free(inbox->refusal);
    config_unref(inbox->config);
    free(inbox);
}

void redis_inbox_start(struct redis_inbox *inbox)
{
    redis_conn_start(inbox->conn);
}

void redis_inbox_drop(struct redis_inbox *inbox, const char *why)
{
    redis_conn_drop(inbox->conn, why);
}

void redis_inbox_configure(struct redis_inbox *inbox, struct config *config)
{
    config_unref(inbox->config);
    inbox->config = config_ref(config);
}

void redis_inbox_enable(struct redis_inbox *inbox, bool enabled)
{
    struct box *box, *next;
    inbox->enabled = enabled;
    if (!enabled)
        return;
    HASH_ITER (hh, inbox->boxes, box, next)
        box->failures = 0; /* the functions may have been missing, no more */
    round_begin(inbox);
}

void redis_inbox_add(struct redis_inbox *inbox, const char *ns)
{
    box_get(inbox, ns)->added = true;
}

void redis_inbox_remove(struct redis_inbox *inbox, const char *ns)
{
    struct box *box = box_find(inbox, slice_of(ns));
    if (!box)
        return;
    box->added = false;
    box_release(inbox, box);
}
