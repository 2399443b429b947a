/* SPDX-License-Identifier: Apache-2.0 */
/* What comes in, when it is sent, and the life of it all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/core/publication_arguments.h"
#include "relay/kit/log.h"
#include "relay/kit/random.h"
#include "relay/redis/redis_posts_parts.h"

static const char REFUSED[] = "and will not";
static const double AGAIN_S = 0.1; /* after an answer that said "not now" */

/* --- sending ---------------------------------------------------------------------------------- */

static bool is_reachable(const struct redis_posts *posts)
{
    return redis_conn_is_up(posts->conn) && posts->enabled;
}

static bool can_send(const struct redis_posts *posts)
{
    return is_reachable(posts) && !posts->held && !posts->wait_out;
}

static void release(struct redis_posts *posts);

static void on_posted(void *arg, const struct redis_reply *reply)
{
    struct posting *p = arg;
    struct redis_posts *posts = p->posts;
    bool was_held = posts->held;
    redis_posts_take(p, reply);
    if (was_held && !posts->held)
        release(posts);
}

static bool send_or_wait(struct posting *p)
{
    if (redis_posts_send(p, on_posted)) {
        redis_posts_watch_due(p->posts);
        return true;
    }
    redis_posts_wait(p);
    return false;
}

/* False: the connection is gone. */
static bool send_waiting(struct posting *p)
{
    struct redis_posts *posts = p->posts;
    redis_posts_move(p, POSTING_LOOSE);
    if (atomic_load_explicit(&p->note->cancelled, memory_order_relaxed)) {
        redis_posts_give_up(p, "before its client hung up");
        return true;
    }
    metrics_add(posts->metrics, M_PUBLISH_RETRIED, p->unknown || p->published);
    bool sent = send_or_wait(p);
    posts->waited += sent;
    return sent;
}

static void send_all_waiting(struct redis_posts *posts)
{
    struct posting_list *waiting = &posts->lists[POSTING_WAITING];
    char ns[NAME_NS_MAX + 1] = "";
    struct posting *p;
    while (can_send(posts) && (p = TAILQ_FIRST(waiting))) {
        /* Redis may have lost the retention settings meanwhile. */
        if (posts->outage && strcmp(ns, p->note->request.ns) != 0) {
            snprintf(ns, sizeof(ns), "%s", p->note->request.ns);
            posts->handler->open(posts->arg, ns);
        }
        if (!send_waiting(p))
            break;
    }
    if (!TAILQ_EMPTY(waiting))
        return;
    if (posts->told && posts->waited)
        log_put(LOG_INFO, "publish requests that waited for Redis are sent", "count",
                log_u64(posts->waited), NULL);
    posts->told = posts->outage = false;
    posts->waited = 0;
}

/* Where replicas must confirm, posts go out at the end of the turn, all together. */
static void release(struct redis_posts *posts)
{
    if (!posts->ended && !redis_posts_confirms(posts))
        send_all_waiting(posts);
}

static void on_again(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)revents;
    struct redis_posts *posts = w->data;
    struct posting *first = TAILQ_FIRST(&posts->lists[POSTING_WAITING]);
    posts->wait_paused = false;
    if (!posts->held || !first) {
        posts->held = false;
        ev_timer_stop(loop, w);
    } else if (is_reachable(posts) && !posts->wait_out) {
        send_waiting(first); /* its answer ends the hold, or says "not now" again */
    }
}

static void on_turn_end(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)loop, (void)revents;
    struct redis_posts *posts = w->data;
    if (!posts->waiting && TAILQ_EMPTY(&posts->lists[POSTING_SENT]) &&
        TAILQ_EMPTY(&posts->lists[POSTING_UNCONFIRMED]))
        return;
    send_all_waiting(posts);
    redis_posts_confirm(posts);
}

/* --- in ------------------------------------------------------------------------------------- */

static struct posting *posting_new(struct redis_posts *posts, struct note_publish *note)
{
    struct posting *p = mem_zero(1, sizeof(*p));
    p->posts = posts;
    p->note = note;
    p->number = ++posts->last_number;
    p->arrived_us = clock_mono_us();
    p->keyed = posts->config->publish_timeout_ms > 0;
    for (size_t i = 0; i < note->request.count; i++)
        p->bytes += publication_bytes(&note->request.items[i]);
    note->ids = mem_zero(note->request.count, sizeof(*note->ids));
    posts->count++;
    posts->bytes += p->bytes;
    return p;
}

/* Bounds what is not answered, whether it waits or was sent to a Redis that is silent. One alone
 * always fits. */
static bool is_over_bound(const struct redis_posts *posts)
{
    return posts->count > posts->config->publish_max_waiting ||
           (posts->count > 1 && posts->bytes > posts->config->publish_max_waiting_bytes);
}

void redis_posts_publish(struct redis_posts *posts, struct note_publish *note)
{
    struct posting *p = posting_new(posts, note);
    if (is_over_bound(posts)) {
        buf_puts(&note->detail, "nothing was published: too much waits for Redis already "
                                "(publish.max_waiting, publish.max_waiting_bytes)");
        redis_posts_answer(p, 503, PUBLISH_NOT);
    } else if (posts->refused) {
        redis_posts_give_up(p, REFUSED);
    } else if (redis_posts_confirms(posts) && is_reachable(posts) && !posts->held) {
        redis_posts_move(p, POSTING_WAITING); /* for the end of the turn, or of a WAIT */
        redis_posts_watch_due(posts);
    } else if (can_send(posts) && !posts->waiting) {
        send_or_wait(p);
    } else {
        redis_posts_wait(p);
    }
}

/* --- life ------------------------------------------------------------------------------------ */

void redis_posts_enable(struct redis_posts *posts, bool enabled)
{
    posts->enabled = enabled;
    if (enabled)
        release(posts);
}

void redis_posts_refuse(struct redis_posts *posts, bool refused)
{
    struct posting *p;
    posts->refused = refused;
    while (refused && (p = TAILQ_FIRST(&posts->lists[POSTING_WAITING])))
        redis_posts_give_up(p, REFUSED);
}

static void on_up(void *arg)
{
    release(arg);
}

static void on_down(void *arg, const char *why)
{
    redis_posts_obstacle(arg, "Redis cannot be reached", why);
    redis_posts_unconfirm(arg);
}

struct redis_posts *redis_posts_new(struct ev_loop *loop, struct redis_target *target,
                                    struct redis_conn *commands, struct config *config,
                                    const struct redis_posts_handler *handler, void *arg,
                                    struct metrics *metrics)
{
    static const struct redis_conn_handler conn_handler = {on_up, on_down, NULL};
    struct redis_posts *posts = mem_zero(1, sizeof(*posts));
    posts->loop = loop;
    posts->commands = posts->conn = commands;
    posts->config = config_ref(config);
    posts->handler = handler;
    posts->arg = arg;
    posts->metrics = metrics;
    random_token(posts->token);
    redis_posts_queue_init(posts);
    ev_init(&posts->again, on_again);
    posts->again.repeat = AGAIN_S;
    ev_prepare_init(&posts->turn_end, on_turn_end);
    posts->again.data = posts->turn_end.data = posts;
    if (redis_posts_confirms(posts))
        posts->conn = redis_conn_new(loop, target, "publisher", &conn_handler, posts, metrics);
    return posts;
}

void redis_posts_start(struct redis_posts *posts)
{
    if (!redis_posts_confirms(posts))
        return;
    redis_conn_start(posts->conn);
    ev_prepare_start(posts->loop, &posts->turn_end);
}

void redis_posts_configure(struct redis_posts *posts, struct config *config)
{
    config_unref(posts->config);
    posts->config = config_ref(config);
    redis_posts_set_due(posts);
}

void redis_posts_drain(struct redis_posts *posts)
{
    posts->end_us = clock_mono_us() + posts->config->drain_ms * 1000;
    redis_posts_set_due(posts);
}

void redis_posts_end(struct redis_posts *posts)
{
    posts->ended = true;
    for (int i = POSTING_WAITING; i < POSTING_STATES; i++) {
        struct posting *p;
        while ((p = TAILQ_FIRST(&posts->lists[i])))
            redis_posts_give_up(p, "before this node ended");
    }
    ev_timer_stop(posts->loop, &posts->due);
    ev_timer_stop(posts->loop, &posts->again);
    ev_prepare_stop(posts->loop, &posts->turn_end);
    if (posts->conn != posts->commands)
        redis_conn_free(posts->conn);
    posts->conn = posts->commands;
}

void redis_posts_free(struct redis_posts *posts)
{
    if (!posts)
        return;
    config_unref(posts->config);
    free(posts);
}
