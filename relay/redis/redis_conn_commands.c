/* SPDX-License-Identifier: Apache-2.0 */
/* What is sent, and who waits for the answers; the login. */
#include <stdio.h>
#include <stdlib.h>

#include "common/mem.h"
#include "relay/redis/redis_conn_parts.h"
#include "relay/kit/timer.h"

void redis_conn_set_timer(struct redis_conn *conn, double seconds)
{
    timer_once(conn->loop, &conn->timer, seconds);
}

/* --- pending answers ------------------------------------------------------------------------ */

enum { PENDING_START = 64 };

static void expect(struct redis_conn *conn, struct pending p)
{
    struct ring *ring = &conn->pending_ring;
    if (ring->count == ring->cap)
        conn->pending = ring_grow(ring, conn->pending, sizeof(*conn->pending), PENDING_START);
    conn->pending[ring_push(ring)] = p;
}

struct pending redis_conn_next(struct redis_conn *conn)
{
    return conn->pending[ring_pop(&conn->pending_ring)];
}

/* --- sending --- */

static bool append(struct redis_conn *conn, const struct slice *argv, size_t argc)
{
    const char *small_ptr[32] = {NULL};
    size_t small_len[32] = {0};
    const char **ptr = argc > 32 ? mem_alloc(argc * sizeof(*ptr)) : small_ptr;
    size_t *len = argc > 32 ? mem_alloc(argc * sizeof(*len)) : small_len;
    for (size_t i = 0; i < argc; i++) {
        ptr[i] = argv[i].ptr;
        len[i] = argv[i].len;
    }
    int rc = redisAppendCommandArgv(conn->ctx, (int)argc, ptr, len);
    if (argc > 32) {
        free(ptr);
        free(len);
    }
    metrics_add(conn->metrics, M_REDIS_COMMANDS, 1);
    conn->unsent = true;
    return rc == REDIS_OK;
}

bool redis_conn_send(struct redis_conn *conn, const struct slice *argv, size_t argc,
                     redis_done done, void *arg)
{
    if (conn->state != CONN_UP || !append(conn, argv, argc))
        return false;
    if (conn->pending_ring.count == 0)
        redis_conn_set_timer(conn, conn->target->reply_timeout_s);
    expect(conn, (struct pending){done, arg});
    return true;
}

bool redis_conn_send_push(struct redis_conn *conn, const struct slice *argv, size_t argc)
{
    return conn->state == CONN_UP && append(conn, argv, argc);
}

/* --- login --- */

static void login_fails(struct redis_conn *conn, const char *what, struct slice text)
{
    snprintf(conn->why, sizeof(conn->why), "%s%.*s", what, (int)text.len, text.ptr ? text.ptr : "");
    conn->drop_wanted = true;
}

static void on_login(void *arg, const struct redis_reply *reply)
{
    struct redis_conn *conn = arg;
    if (reply && redis_reply_type(reply) == REDIS_ERROR)
        login_fails(conn, "Redis refused the login: ", redis_reply_text(reply));
}

static void on_named(void *arg, const struct redis_reply *reply)
{
    (void)arg, (void)reply; /* a courtesy: an ACL may forbid it */
}

/* What is no primary is left alone. An ACL may forbid the question. */
static void on_role(void *arg, const struct redis_reply *reply)
{
    struct redis_conn *conn = arg;
    if (!reply || redis_reply_count(reply) == 0 || !conn->target->primary_only)
        return;
    struct slice role = redis_reply_text(redis_reply_at(reply, 0));
    if (!slice_is(role, "master") && !conn->drop_wanted)
        login_fails(conn, "this Redis is no primary, its role is ", role);
}

/* The last of the login. Refused (LOADING) while Redis still reads its data, unlike what is before
 * it. */
static void on_ping(void *arg, const struct redis_reply *reply)
{
    struct redis_conn *conn = arg;
    if (!reply || conn->state != CONN_LOGIN || conn->drop_wanted)
        return;
    if (redis_reply_is_unusable(reply))
        login_fails(conn, "", redis_reply_text(reply));
    else
        conn->state = CONN_UP;
}

static void login_send(struct redis_conn *conn, const struct slice *argv, size_t argc,
                       redis_done done)
{
    if (append(conn, argv, argc))
        expect(conn, (struct pending){done, conn});
}

void redis_conn_login(struct redis_conn *conn)
{
    const struct redis_target *target = conn->target;
    struct slice user = slice_of(target->user), password = slice_of(target->password);
    conn->state = CONN_LOGIN;
    if (target->password && target->user)
        login_send(conn, (struct slice[]){SLICE_LIT("AUTH"), user, password}, 3, on_login);
    else if (target->password)
        login_send(conn, (struct slice[]){SLICE_LIT("AUTH"), password}, 2, on_login);
    if (target->db) {
        char db[16];
        snprintf(db, sizeof(db), "%u", target->db);
        login_send(conn, (struct slice[]){SLICE_LIT("SELECT"), slice_of(db)}, 2, on_login);
    }
    char name[64];
    snprintf(name, sizeof(name), "sse-relay-%s", conn->name);
    login_send(conn, (struct slice[]){SLICE_LIT("CLIENT"), SLICE_LIT("SETNAME"), slice_of(name)}, 3,
               on_named);
    login_send(conn, (struct slice[]){SLICE_LIT("ROLE")}, 1, on_role);
    login_send(conn, (struct slice[]){SLICE_LIT("PING")}, 1, on_ping);
}
