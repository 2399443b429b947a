/* SPDX-License-Identifier: Apache-2.0 */
/* Publish requests that Redis has not answered: which wait, for how long, in which order. Each is
 * answered within publish.timeout, and none is sent once it has been answered. There are at most
 * publish.max_waiting of them, with publish.max_waiting_bytes. Bus thread. */
#pragma once
#include "relay/core/note.h"
#include "relay/redis/redis_conn.h"

struct redis_posts;

struct redis_posts_handler {
    /* This Redis may have lost the namespace's settings: they go ahead of what waited for it. */
    void (*open)(void *arg, const char *ns);
    /* An answer says that the functions are gone: redis_posts_enable(false), until they are back.
     */
    void (*library_lost)(void *arg);
    /* Hands @note back: its status, outcome, detail and ids are filled. */
    void (*answered)(void *arg, struct note_publish *note);
};

/* Sends on @commands; where replicas have to confirm (publish.wait_replicas) on a connection of its
 * own to @target, as WAIT holds up what is behind it. Both are borrowed. */
struct redis_posts *redis_posts_new(struct ev_loop *loop, struct redis_target *target,
                                    struct redis_conn *commands, struct config *config,
                                    const struct redis_posts_handler *handler, void *arg,
                                    struct metrics *metrics);
void redis_posts_start(struct redis_posts *posts);
void redis_posts_configure(struct redis_posts *posts, struct config *config);
/* The node ends within drain: what waits is answered by then. */
void redis_posts_drain(struct redis_posts *posts);
/* Answers all; before @commands is closed. Then nothing may be published any more. */
void redis_posts_end(struct redis_posts *posts);
/* After redis_posts_end(), and after @commands is closed: it has answers for us until then. */
void redis_posts_free(struct redis_posts *posts);

/* Takes @note, which `answered` gives back: perhaps before this returns. */
void redis_posts_publish(struct redis_posts *posts, struct note_publish *note);
/* The functions can be called (or not, for now): what waits is sent. */
void redis_posts_enable(struct redis_posts *posts, bool enabled);
/* Whether it makes no sense to wait (redis_posts_obstacle() says why): what waits, and what comes,
 * is answered at once. */
void redis_posts_refuse(struct redis_posts *posts, bool refused);
/* Remembers why publishing does not work, for answers and log. */
void redis_posts_obstacle(struct redis_posts *posts, const char *what, const char *why);
