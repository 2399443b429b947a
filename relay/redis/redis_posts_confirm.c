/* publish.wait_replicas: posts go out on a connection of their own, those of one turn together,
 * with one WAIT behind them; nothing more goes out until it is answered, as it would wait behind
 * it. So the more posts there are, the more share a WAIT. */
#include <stdlib.h>

#include "common/clock.h"
#include "relay/kit/log.h"
#include "relay/redis/store_redis_parts.h"

/* A WAIT blocks its connection: in slices, so that new posts are published while a replica is away,
 * and each is answered in its own time. */
enum { SLICE_MS = 250 };

bool store_redis_waits(const struct store_redis *s)
{
    return s->config->publish_wait_replicas > 0;
}

static void confirm_all(struct store_redis *s)
{
    struct posting *p;
    while ((p = TAILQ_FIRST(&s->posts.lists[POSTING_UNCONFIRMED])))
        store_redis_posts_answer(p, 200, PUBLISH_DONE);
}

/* On a new connection they are published again, which their keys make harmless: that tells whether
 * this Redis, perhaps another one, still has them. */
static void wait_again_all(struct store_redis *s)
{
    struct posting *p;
    while ((p = TAILQ_FIRST(&s->posts.lists[POSTING_UNCONFIRMED]))) {
        store_redis_posts_move(p, POSTING_LOOSE);
        store_redis_posts_wait(p);
    }
}

static void on_failed(struct store_redis *s, const struct redis_reply *reply)
{
    uint64_t held;
    char *text = slice_dup(redis_reply_text(reply));
    if (log_limit_pass(&s->posts.confirm_limit, clock_mono_us(), &held))
        log_put(LOG_ERROR, "cannot wait for replicas", "reply", text, "not_logged", log_u64(held),
                NULL);
    free(text);
    s->posts.wait_paused = true;
    ev_timer_again(s->loop, &s->posts.again);
}

/* Everything unconfirmed was published before the WAIT that is answered here. */
static void on_waited(void *arg, const struct redis_reply *reply)
{
    struct store_redis *s = arg;
    s->posts.wait_out = false;
    if (s->posts.ended)
        return;
    if (!reply) {
        wait_again_all(s);
        return;
    }
    if (redis_reply_type(reply) != REDIS_INTEGER) {
        on_failed(s, reply);
        return;
    }
    s->posts.confirmed = redis_reply_number(reply);
    if (s->posts.confirmed >= (int64_t)s->config->publish_wait_replicas)
        confirm_all(s);
}

static uint64_t time_left_ms(const struct store_redis *s)
{
    uint64_t now = clock_mono_us(), left = SLICE_MS;
    for (int i = POSTING_SENT; i < POSTING_STATES; i++) {
        const struct posting *p = TAILQ_FIRST(&s->posts.lists[i]);
        uint64_t due = p ? p->arrived_us + s->config->publish_timeout_ms * 1000 : UINT64_MAX;
        if (p && due < now + left * 1000)
            left = due > now ? (due - now) / 1000 : 0;
    }
    return left ? left : 1; /* 0 would wait for ever */
}

void store_redis_wait_send(struct store_redis *s)
{
    if (s->posts.wait_out || s->posts.wait_paused ||
        (TAILQ_EMPTY(&s->posts.lists[POSTING_SENT]) &&
         TAILQ_EMPTY(&s->posts.lists[POSTING_UNCONFIRMED])))
        return;
    struct slice argv[] = {SLICE_LIT("WAIT"), slice_of(log_u64(s->config->publish_wait_replicas)),
                           slice_of(log_u64(time_left_ms(s)))};
    s->posts.wait_out = redis_conn_send(s->posts.conn, argv, 3, on_waited, s);
}

static void on_up(void *arg)
{
    store_redis_posts_release(arg);
}

static void on_down(void *arg, const char *why)
{
    store_redis_posts_obstacle(arg, "Redis cannot be reached", why);
}

void store_redis_wait_init(struct store_redis *s)
{
    static const struct redis_conn_handler handler = {on_up, on_down, NULL};
    s->posts.conn = s->commands;
    if (store_redis_waits(s))
        s->posts.conn = redis_conn_new(s->loop, s->target, "publisher", &handler, s, s->metrics);
}

void store_redis_wait_end(struct store_redis *s)
{
    if (s->posts.conn != s->commands)
        redis_conn_free(s->posts.conn);
    s->posts.conn = s->commands;
}
