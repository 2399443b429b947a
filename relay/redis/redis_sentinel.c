/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/redis/redis_sentinel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/mem.h"
#include "relay/kit/timer.h"

static const double POLL_S = 2.0;       /* in case an announcement was missed */
static const double ASK_AGAIN_S = 0.1;  /* at most that often while connections fail */
static const double NEXT_FIRST_S = 0.1; /* before the next Sentinel, once all have been asked… */
static const double NEXT_MAX_S = 2.0;   /* …growing up to this */

struct redis_sentinel {
    struct ev_loop *loop;
    const struct redis_url *url;
    struct redis_target *primary;
    struct redis_target *target; /* the Sentinel that is asked now */
    struct redis_conn *questions, *announcements;
    struct redis_address known[REDIS_SENTINELS_MAX]; /* the URL's, and whom those know */
    size_t known_count, current;
    unsigned failures;    /* since one gave the address */
    bool asking, leaving; /* leaving: it goes to the next, what is dropped now has not failed */
    double next_s;
    struct log_limit unreachable_limit, unknown_limit;
    ev_timer poll; /* asks again */
    ev_timer next; /* goes on to the next Sentinel */
};

static void set_timer(struct redis_sentinel *s, ev_timer *timer, double seconds)
{
    /* Between half and all of it: many nodes lose the same primary. */
    timer_once(s->loop, timer, seconds * (0.5 + 0.5 * (double)(random() % 1000) / 1000.0));
}

static void put_address(struct buf *out, const char *host, unsigned port)
{
    bool v6 = strchr(host, ':') != NULL;
    buf_printf(out, v6 ? "[%s]:%u" : "%s:%u", host, port);
    buf_putc(out, '\0');
}

/* --- the answer ------------------------------------------------------------------------------ */

static void take_address(struct redis_sentinel *s, struct slice host, struct slice port,
                         const char *how)
{
    uint64_t n;
    if (!host.len || slice_u64(port, 65535, &n) || n == 0)
        return;
    char *name = slice_dup(host);
    if (!redis_target_is_at(s->primary, name, (unsigned)n)) {
        struct buf now = {0}, asked = {0};
        put_address(&now, name, (unsigned)n);
        put_address(&asked, s->target->host, s->target->port);
        log_put(LOG_INFO, "Sentinel names the primary", "master", s->url->master, "address",
                now.ptr, "sentinel", asked.ptr, "by", how, NULL);
        buf_reset(&now);
        buf_reset(&asked);
        redis_target_move(s->primary, name, (unsigned)n, "Sentinel names another primary");
    }
    free(name);
}

/* --- from one Sentinel to the next ------------------------------------------------------------ */

static void tell_failures(struct redis_sentinel *s, const char *why)
{
    uint64_t held;
    if (s->failures < s->known_count ||
        !log_limit_pass(&s->unreachable_limit, clock_mono_us(), &held))
        return;
    log_put(LOG_WARN, "no Sentinel tells where the primary is, trying on", "master", s->url->master,
            "last_reason", why, "not_logged", log_u64(held), NULL);
}

/* This one is of no use: the next, at once while there are some that have not been asked. */
static void fail(struct redis_sentinel *s, const char *why)
{
    if (ev_is_active(&s->next))
        return;
    s->asking = false;
    ev_timer_stop(s->loop, &s->poll);
    s->failures++;
    tell_failures(s, why);
    if (s->failures < s->known_count) {
        set_timer(s, &s->next, 0.);
        return;
    }
    set_timer(s, &s->next, s->next_s);
    s->next_s = s->next_s * 2 > NEXT_MAX_S ? NEXT_MAX_S : s->next_s * 2;
}

static void on_next(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct redis_sentinel *s = w->data;
    s->current = (s->current + 1) % s->known_count;
    const struct redis_address *address = &s->known[s->current];
    s->leaving = true;
    redis_target_move(s->target, address->host, address->port, "asking the next Sentinel");
    s->leaving = false;
}

/* --- questions -------------------------------------------------------------------------------- */

static void on_address(void *arg, const struct redis_reply *reply)
{
    struct redis_sentinel *s = arg;
    uint64_t held;
    s->asking = false;
    if (!reply)
        return; /* on_questions_down() goes on */
    if (redis_reply_count(reply) == 2) {
        ev_timer_stop(s->loop, &s->next);
        s->failures = 0;
        s->next_s = NEXT_FIRST_S;
        s->unreachable_limit = s->unknown_limit = (struct log_limit){0};
        set_timer(s, &s->poll, POLL_S);
        take_address(s, redis_reply_text(redis_reply_at(reply, 0)),
                     redis_reply_text(redis_reply_at(reply, 1)), "question");
        return;
    }
    if (redis_reply_type(reply) != REDIS_ERROR) {
        if (log_limit_pass(&s->unknown_limit, clock_mono_us(), &held))
            log_put(LOG_ERROR, "a Sentinel does not know this master", "master", s->url->master,
                    "sentinel", s->target->host, "port", log_u64(s->target->port), "not_logged",
                    log_u64(held), NULL);
        fail(s, "it does not know a master of this name");
        return;
    }
    char *text = slice_dup(redis_reply_text(reply));
    fail(s, text);
    free(text);
}

static void know(struct redis_sentinel *s, struct slice host, struct slice port)
{
    uint64_t n;
    if (s->known_count == REDIS_SENTINELS_MAX || !host.len || slice_u64(port, 65535, &n) || !n)
        return;
    for (size_t i = 0; i < s->known_count; i++)
        if (slice_is(host, s->known[i].host) && s->known[i].port == n)
            return;
    s->known[s->known_count++] = (struct redis_address){slice_dup(host), (unsigned)n};
}

/* Whom else it knows: an array of flat lists of names and values. */
static void on_others(void *arg, const struct redis_reply *reply)
{
    struct redis_sentinel *s = arg;
    for (size_t i = 0; reply && i < redis_reply_count(reply); i++) {
        const struct redis_reply *other = redis_reply_at(reply, i);
        struct slice host = SLICE_NONE, port = SLICE_NONE;
        for (size_t j = 0; j + 1 < redis_reply_count(other); j += 2) {
            struct slice name = redis_reply_text(redis_reply_at(other, j));
            if (slice_is(name, "ip"))
                host = redis_reply_text(redis_reply_at(other, j + 1));
            else if (slice_is(name, "port"))
                port = redis_reply_text(redis_reply_at(other, j + 1));
        }
        know(s, host, port);
    }
}

static void ask(struct redis_sentinel *s)
{
    struct slice argv[] = {SLICE_LIT("SENTINEL"), SLICE_LIT("get-master-addr-by-name"),
                           slice_of(s->url->master)};
    if (!s->asking)
        s->asking = redis_conn_send(s->questions, argv, 3, on_address, s);
}

static void on_poll(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    ask(w->data);
}

/* A connection to the primary was lost: is it still the one? */
static void on_primary_lost(void *arg)
{
    struct redis_sentinel *s = arg;
    bool soon = ev_is_active(&s->poll) && ev_timer_remaining(s->loop, &s->poll) <= ASK_AGAIN_S;
    if (redis_conn_is_up(s->questions) && !s->asking && !soon)
        set_timer(s, &s->poll, ASK_AGAIN_S);
}

static void on_questions_up(void *arg)
{
    struct redis_sentinel *s = arg;
    struct slice argv[] = {SLICE_LIT("SENTINEL"), SLICE_LIT("sentinels"), slice_of(s->url->master)};
    ask(s);
    redis_conn_send(s->questions, argv, 3, on_others, s);
}

static void on_questions_down(void *arg, const char *why)
{
    struct redis_sentinel *s = arg;
    s->asking = false;
    if (!s->leaving)
        fail(s, why);
}

/* --- announcements ---------------------------------------------------------------------------- */

static void on_announcements_up(void *arg)
{
    struct redis_sentinel *s = arg;
    /* The latter two come earlier, from the Sentinel that leads the failover. */
    static const struct slice argv[] = {SLICE_LIT("SUBSCRIBE"), SLICE_LIT("+switch-master"),
                                        SLICE_LIT("+promoted-slave"),
                                        SLICE_LIT("+failover-state-reconf-slaves")};
    redis_conn_send_push(s->announcements, argv, 4);
}

static void on_announcements_down(void *arg, const char *why)
{
    (void)arg, (void)why; /* the questions go on, and their connection tells when it fails, too */
}

/* "name old-host old-port new-host new-port" */
static void on_announcement(void *arg, const struct redis_reply *reply)
{
    struct redis_sentinel *s = arg;
    if (redis_reply_count(reply) != 3 ||
        !slice_is(redis_reply_text(redis_reply_at(reply, 0)), "message"))
        return;
    if (!slice_is(redis_reply_text(redis_reply_at(reply, 1)), "+switch-master")) {
        ask(s);
        return;
    }
    struct slice rest = redis_reply_text(redis_reply_at(reply, 2)), words[5];
    for (size_t i = 0; i < 5; i++) {
        const char *space = rest.len ? memchr(rest.ptr, ' ', rest.len) : NULL;
        size_t len = space ? (size_t)(space - rest.ptr) : rest.len;
        words[i] = (struct slice){rest.ptr, len};
        rest = (struct slice){rest.ptr + len + (space != NULL), rest.len - len - (space != NULL)};
    }
    if (slice_is(words[0], s->url->master))
        take_address(s, words[3], words[4], "announcement");
}

/* --- the rest --------------------------------------------------------------------------------- */

struct redis_sentinel *redis_sentinel_new(struct ev_loop *loop, const struct redis_url *url,
                                          const struct config *config, struct redis_target *target,
                                          struct metrics *metrics)
{
    static const struct redis_conn_handler questions = {on_questions_up, on_questions_down, NULL};
    static const struct redis_conn_handler announcements = {on_announcements_up,
                                                            on_announcements_down, on_announcement};
    struct redis_sentinel *s = mem_zero(1, sizeof(*s));
    s->loop = loop;
    s->url = url;
    s->primary = target;
    s->next_s = NEXT_FIRST_S;
    for (size_t i = 0; i < url->sentinel_count; i++)
        know(s, slice_of(url->sentinels[i].host), slice_of(log_u64(url->sentinels[i].port)));
    s->current = s->known_count - 1; /* on_next() begins with the first */
    s->target = redis_target_new_sentinel(url, config);
    s->questions = redis_conn_new(loop, s->target, "sentinel", &questions, s, metrics);
    s->announcements =
        redis_conn_new(loop, s->target, "sentinel-events", &announcements, s, metrics);
    target->lost = on_primary_lost;
    target->arg = s;
    ev_init(&s->poll, on_poll);
    ev_init(&s->next, on_next);
    s->poll.data = s->next.data = s;
    return s;
}

void redis_sentinel_free(struct redis_sentinel *s)
{
    if (!s)
        return;
    s->primary->lost = NULL;
    redis_conn_free(s->questions);
    redis_conn_free(s->announcements);
    redis_target_free(s->target);
    ev_timer_stop(s->loop, &s->poll);
    ev_timer_stop(s->loop, &s->next);
    for (size_t i = 0; i < s->known_count; i++)
        free(s->known[i].host);
    free(s);
}

void redis_sentinel_start(struct redis_sentinel *s)
{
    redis_conn_start(s->questions);
    redis_conn_start(s->announcements);
    set_timer(s, &s->next, 0.);
}

void redis_sentinel_configure(struct redis_sentinel *s, const struct config *config)
{
    redis_target_configure(s->target, s->url, config);
}
