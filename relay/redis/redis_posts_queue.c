/* SPDX-License-Identifier: Apache-2.0 */
/* Who waits: the lists, the time that each has, and what those are told that it runs out for. */
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "relay/redis/redis_posts_parts.h"
#include "relay/kit/timer.h"

/* At the end of a drain, for the answers that are on their way; less than the node's own grace. */
enum { END_GRACE_US = 2000000 };

/* --- the lists ------------------------------------------------------------------------------- */

static void list_insert(struct posting_list *list, struct posting *p)
{
    struct posting *before = TAILQ_LAST(list, posting_list);
    while (before && before->number > p->number)
        before = TAILQ_PREV(before, posting_list, link);
    if (before)
        TAILQ_INSERT_AFTER(list, before, p, link);
    else
        TAILQ_INSERT_HEAD(list, p, link);
}

void redis_posts_move(struct posting *p, enum posting_state state)
{
    struct redis_posts *posts = p->posts;
    if (p->state != POSTING_LOOSE)
        TAILQ_REMOVE(&posts->lists[p->state], p, link);
    posts->waiting -= p->state == POSTING_WAITING;
    p->state = state;
    posts->waiting += p->state == POSTING_WAITING;
    if (p->state != POSTING_LOOSE)
        list_insert(&posts->lists[p->state], p);
    metrics_set(posts->metrics, M_PUBLISH_WAITING, posts->waiting);
}

void redis_posts_forget(struct posting *p)
{
    free(p->refusal);
    free(p);
}

void redis_posts_answer(struct posting *p, unsigned status, enum publish_outcome outcome)
{
    struct redis_posts *posts = p->posts;
    struct note_publish *note = p->note;
    bool due = p->state == POSTING_SENT;
    redis_posts_move(p, POSTING_LOOSE);
    posts->count--;
    posts->bytes -= p->bytes;
    note->status = status;
    note->outcome = outcome;
    if (status == 200)
        note_publish_settle(note);
    p->note = NULL;
    if (!due)
        redis_posts_forget(p);
    posts->handler->answered(posts->arg, note);
}

/* --- giving up ------------------------------------------------------------------------------- */

static void put_ids(struct buf *b, const struct note_publish *note)
{
    for (size_t i = 0; i < note->request.count && i < 3; i++)
        if (note->ids[i] == NOTE_ID_ENDED)
            buf_printf(b, "%snothing (its topic has ended)", i ? ", " : "");
        else
            buf_printf(b, "%s%llu", i ? ", " : "", (unsigned long long)note->ids[i]);
    buf_puts(b, note->request.count > 3 ? ", …" : "");
}

void redis_posts_give_up(struct posting *p, const char *when)
{
    struct redis_posts *posts = p->posts;
    struct buf *b = &p->note->detail;
    const char *obstacle = posts->obstacle[0] ? posts->obstacle : "Redis cannot be reached";
    buf_clear(b);
    if (p->published) {
        buf_puts(b, "published as ");
        put_ids(b, p->note);
        buf_printf(b,
                   ", but not confirmed %s: %lld of %llu replicas have it; it is lost if the "
                   "primary fails before they do",
                   when, (long long)posts->confirmed,
                   (unsigned long long)posts->config->publish_wait_replicas);
        redis_posts_answer(p, 504, PUBLISH_DONE);
    } else if (p->unknown || p->state == POSTING_SENT) {
        buf_printf(b,
                   "whether the event was published is not known: it was sent, but Redis did not "
                   "answer %s (%s); publish again with the same \"once\" key, or without one at "
                   "the risk of a second event",
                   when, p->unknown ? obstacle : "it is there, but silent");
        redis_posts_answer(p, 503, PUBLISH_UNKNOWN);
    } else {
        buf_printf(b, "nothing was published: Redis did not take it %s (%s)", when, obstacle);
        redis_posts_answer(p, 503, PUBLISH_NOT);
    }
}

static uint64_t due_us(const struct posting *p)
{
    const struct redis_posts *posts = p->posts;
    uint64_t timeout_us = posts->config->publish_timeout_ms * 1000;
    uint64_t end_us = posts->end_us ? posts->end_us : UINT64_MAX;
    uint64_t due = p->arrived_us + timeout_us;
    if (p->state == POSTING_SENT && !timeout_us)
        due = UINT64_MAX; /* told not to wait: it is answered, or its connection breaks */
    if (p->state > POSTING_WAITING && posts->end_us)
        end_us = (p->arrived_us > end_us ? p->arrived_us : end_us) + END_GRACE_US;
    return end_us < due ? end_us : due;
}

static void expire(struct posting *p)
{
    struct redis_posts *posts = p->posts;
    uint64_t held;
    metrics_add(posts->metrics, M_PUBLISH_TIMED_OUT, 1);
    if (log_limit_pass(&posts->expired_limit, clock_mono_us(), &held))
        log_put(LOG_WARN, "gave up a publish request that waited for Redis", "reason",
                posts->obstacle, "not_logged", log_u64(held), NULL);
    bool ending = posts->end_us && posts->end_us <= clock_mono_us();
    const char *timeout = posts->config->publish_timeout_ms ? "within publish.timeout" : "at once";
    redis_posts_give_up(p, ending ? "before this node ends" : timeout);
}

/* The lists are in order of arrival, so their heads are due first. */
void redis_posts_set_due(struct redis_posts *posts)
{
    uint64_t first = UINT64_MAX, now = clock_mono_us();
    for (int i = POSTING_WAITING; i < POSTING_STATES; i++) {
        struct posting *p = TAILQ_FIRST(&posts->lists[i]);
        if (p && due_us(p) < first)
            first = due_us(p);
    }
    ev_timer_stop(posts->loop, &posts->due);
    if (first == UINT64_MAX)
        return;
    ev_now_update(posts->loop);
    timer_once(posts->loop, &posts->due, first > now ? (double)(first - now) / 1e6 : 0.);
}

static void on_due(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct redis_posts *posts = w->data;
    uint64_t now = clock_mono_us();
    for (int i = POSTING_WAITING; i < POSTING_STATES; i++) {
        struct posting *p;
        while ((p = TAILQ_FIRST(&posts->lists[i])) && due_us(p) <= now)
            expire(p);
    }
    redis_posts_set_due(posts);
}

/* Set for the oldest, it comes too early for those after it, never too late. */
void redis_posts_watch_due(struct redis_posts *posts)
{
    if (!ev_is_active(&posts->due))
        redis_posts_set_due(posts);
}

/* --- waiting --------------------------------------------------------------------------------- */

void redis_posts_obstacle(struct redis_posts *posts, const char *what, const char *why)
{
    snprintf(posts->obstacle, sizeof(posts->obstacle), "%s: %s", what, why);
}

static void tell_waiting(struct redis_posts *posts)
{
    uint64_t held;
    posts->outage = true;
    if (posts->told || !log_limit_pass(&posts->wait_limit, clock_mono_us(), &held))
        return;
    posts->told = true;
    log_put(LOG_WARN, "publish requests wait for Redis", "reason", posts->obstacle, "not_logged",
            log_u64(held), NULL);
}

void redis_posts_wait(struct posting *p)
{
    struct redis_posts *posts = p->posts;
    if (posts->ended) {
        redis_posts_give_up(p, "before this node ended");
    } else if ((p->unknown || p->published) && !p->keyed) {
        redis_posts_give_up(p, "before the connection broke");
    } else if (due_us(p) <= clock_mono_us()) {
        expire(p);
    } else {
        tell_waiting(posts);
        redis_posts_move(p, POSTING_WAITING);
        redis_posts_watch_due(posts);
    }
}

void redis_posts_hold(struct posting *p, struct slice error)
{
    struct redis_posts *posts = p->posts;
    char *why = slice_dup(error);
    redis_posts_obstacle(posts, "Redis says", why);
    free(why);
    posts->held = true;
    ev_timer_again(posts->loop, &posts->again);
    redis_posts_wait(p);
}

void redis_posts_queue_init(struct redis_posts *posts)
{
    for (int i = 0; i < POSTING_STATES; i++)
        TAILQ_INIT(&posts->lists[i]);
    redis_posts_obstacle(posts, "Redis cannot be reached", "not connected yet");
    ev_init(&posts->due, on_due);
    posts->due.data = posts;
}
