/* SPDX-License-Identifier: Apache-2.0 */
/* publish.wait_replicas: posts go out on a connection of their own, those of one turn together,
 * with one WAIT behind them; nothing more goes out until it is answered, as it would wait behind
 * it. So the more posts there are, the more share a WAIT. */
#include <stdlib.h>

#include "common/clock.h"
#include "relay/kit/log.h"
#include "relay/redis/redis_posts_parts.h"

/* A WAIT blocks its connection: in slices, so that new posts are published while a replica is away,
 * and each is answered in its own time. */
enum { SLICE_MS = 250 };

bool redis_posts_confirms(const struct redis_posts *posts)
{
    return posts->config->publish_wait_replicas > 0;
}

static void confirm_all(struct redis_posts *posts)
{
    struct posting *p;
    while ((p = TAILQ_FIRST(&posts->lists[POSTING_UNCONFIRMED])))
        redis_posts_answer(p, 200, PUBLISH_DONE);
}

/* They are published again, which their keys make harmless: that tells whether this Redis, perhaps
 * another one, still has them, and a WAIT on the new connection is for them, as for what the old
 * one wrote it is not. Whether a WAIT was out when the connection broke does not matter. */
void redis_posts_unconfirm(struct redis_posts *posts)
{
    struct posting *p;
    while ((p = TAILQ_FIRST(&posts->lists[POSTING_UNCONFIRMED]))) {
        redis_posts_move(p, POSTING_LOOSE);
        redis_posts_wait(p);
    }
}

static void on_failed(struct redis_posts *posts, const struct redis_reply *reply)
{
    uint64_t held;
    char *text = slice_dup(redis_reply_text(reply));
    if (log_limit_pass(&posts->confirm_limit, clock_mono_us(), &held))
        log_put(LOG_ERROR, "cannot wait for replicas", "reply", text, "not_logged", log_u64(held),
                NULL);
    free(text);
    posts->wait_paused = true;
    ev_timer_again(posts->loop, &posts->again);
}

/* Everything unconfirmed was published before the WAIT that is answered here. */
static void on_waited(void *arg, const struct redis_reply *reply)
{
    struct redis_posts *posts = arg;
    posts->wait_out = false;
    if (posts->ended)
        return;
    if (!reply)
        return; /* redis_posts_unconfirm() follows */
    if (redis_reply_type(reply) != REDIS_INTEGER) {
        on_failed(posts, reply);
        return;
    }
    posts->confirmed = redis_reply_number(reply);
    if (posts->confirmed >= (int64_t)posts->config->publish_wait_replicas)
        confirm_all(posts);
}

static uint64_t time_left_ms(const struct redis_posts *posts)
{
    uint64_t now = clock_mono_us(), left = SLICE_MS;
    for (int i = POSTING_SENT; i < POSTING_STATES; i++) {
        const struct posting *p = TAILQ_FIRST(&posts->lists[i]);
        uint64_t due = p ? p->arrived_us + posts->config->publish_timeout_ms * 1000 : UINT64_MAX;
        if (p && due < now + left * 1000)
            left = due > now ? (due - now) / 1000 : 0;
    }
    return left ? left : 1; /* 0 would wait for ever */
}

void redis_posts_confirm(struct redis_posts *posts)
{
    if (posts->wait_out || posts->wait_paused ||
        (TAILQ_EMPTY(&posts->lists[POSTING_SENT]) &&
         TAILQ_EMPTY(&posts->lists[POSTING_UNCONFIRMED])))
        return;
    struct slice argv[] = {SLICE_LIT("WAIT"),
                           slice_of(log_u64(posts->config->publish_wait_replicas)),
                           slice_of(log_u64(time_left_ms(posts)))};
    posts->wait_out = redis_conn_send(posts->conn, argv, 3, on_waited, posts);
}
