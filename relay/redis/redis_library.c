/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/redis/redis_library.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/lua_library.h"
#include "common/mem.h"
#include "common/names.h"
#include "relay/kit/log.h"
#include "relay/kit/timer.h"

enum { REDIS_MAJOR_MIN = 7 };
static const double RETRY_S = 3.0;
static const double RETRY_SOON_S = 0.2; /* what passes by itself */

struct redis_library {
    struct ev_loop *loop;
    struct redis_conn *conn;
    char *prefix;
    void (*ready)(void *arg);
    void (*failed)(void *arg, const char *why);
    void *arg;
    int64_t version; /* of the embedded text */
    bool busy;
    char server[64]; /* run_id */
    bool complained; /* about what is being retried */
    bool cluster;    /* this is a node of a cluster */
    ev_timer retry;
};

static int64_t embedded_version(void)
{
    static const char mark[] = "local VERSION = ";
    const char *at = strstr(sse_relay_lua, mark);
    return at ? strtol(at + sizeof(mark) - 1, NULL, 10) : 0;
}

static void retry_in(struct redis_library *library, double seconds)
{
    timer_once(library->loop, &library->retry, seconds);
}

/* A Redis that still loads its data, and the like: publishers wait for it, so it is asked often. */
static bool is_passing(struct redis_library *library, const struct redis_reply *reply)
{
    if (redis_reply_type(reply) != REDIS_ERROR || redis_reply_is_error(reply, "READONLY ") ||
        !redis_error_is_passing(redis_reply_text(reply)))
        return false;
    char *text = slice_dup(redis_reply_text(reply));
    if (!library->complained)
        log_put(LOG_WARN, "Redis is there, but does not answer calls yet", "reply", text, NULL);
    library->complained = true;
    library->failed(library->arg, text);
    free(text);
    retry_in(library, RETRY_SOON_S);
    return true;
}

static void complain(struct redis_library *library, const struct redis_reply *reply,
                     const char *problem, const char *hint)
{
    char *text = reply ? slice_dup(redis_reply_text(reply)) : NULL;
    if (!library->complained)
        log_put(LOG_ERROR, problem, "reply", text ? text : "", "hint", hint, NULL);
    library->complained = true;
    library->failed(library->arg, text ? text : problem);
    free(text);
    retry_in(library, RETRY_S);
}

static void complain_of_cluster(struct redis_library *library)
{
    library->cluster = true;
    complain(library, NULL, "this Redis is in cluster mode",
             "this version does not follow a cluster (redis+cluster:// comes with a later one): "
             "give it a Redis that is not in cluster mode; Sentinels are what moves it to another "
             "primary (redis+sentinel://)");
}

static void finish(struct redis_library *library)
{
    library->busy = false;
    library->complained = false;
    library->ready(library->arg);
}

static void ask_version(struct redis_library *library);

static void on_loaded(void *arg, const struct redis_reply *reply)
{
    struct redis_library *library = arg;
    if (!reply ||
        redis_reply_is_unusable(reply)) /* the connection goes, this is tried on the next */
        return;
    if (redis_reply_type(reply) != REDIS_ERROR) {
        log_put(LOG_INFO, "loaded the function library into Redis", "version",
                log_u64((uint64_t)library->version), NULL);
        ask_version(library);
        return;
    }
    struct slice text = redis_reply_text(reply);
    if (memmem(text.ptr, text.len, "already exists", 14)) { /* another node was faster */
        ask_version(library);
        return;
    }
    if (is_passing(library, reply))
        return;
    complain(library, reply, "Redis did not accept the function library",
             "load it by hand as a user who may: redis-cli -x FUNCTION LOAD REPLACE < "
             "sse_relay.lua (in share/sse-relay or common/ of the sources); the relay goes on "
             "by itself");
}

static void load(struct redis_library *library, bool replace)
{
    struct slice argv[4] = {SLICE_LIT("FUNCTION"), SLICE_LIT("LOAD"), SLICE_LIT("REPLACE")};
    size_t argc = replace ? 3 : 2;
    argv[argc++] = (struct slice){sse_relay_lua, sse_relay_lua_len};
    redis_conn_send(library->conn, argv, argc, on_loaded, library);
}

static void on_version(void *arg, const struct redis_reply *reply)
{
    struct redis_library *library = arg;
    if (!reply ||
        redis_reply_is_unusable(reply)) /* the connection goes, this is tried on the next */
        return;
    if (library->cluster) {
        complain_of_cluster(library);
        return;
    }
    if (redis_reply_type(reply) == REDIS_INTEGER) {
        if (redis_reply_number(reply) >= library->version)
            finish(library);
        else
            load(library, true);
        return;
    }
    if (redis_reply_type(reply) == REDIS_ERROR &&
        redis_error_is_missing_function(redis_reply_text(reply))) {
        load(library, false);
        return;
    }
    if (is_passing(library, reply))
        return;
    complain(
        library, reply, "Redis does not let the relay call its functions",
        "the Redis user needs +fcall, what the functions call, and the keys of the prefix (ACL "
        "SETUSER ... +fcall ~sse:*; docs/operations.md has the whole line)");
}

static void ask_version(struct redis_library *library)
{
    static const struct slice argv[] = {SLICE_LIT("FCALL"), SLICE_LIT("sse_version"),
                                        SLICE_LIT("0")};
    redis_conn_send(library->conn, argv, 3, on_version, library);
}

static void on_slots(void *arg, const struct redis_reply *reply)
{
    struct redis_library *library = arg;
    library->cluster = reply && (redis_reply_is_error(reply, "CROSSSLOT ") ||
                                 redis_reply_is_error(reply, "MOVED "));
}

/* Where INFO is forbidden: only a cluster minds two keys of different slots. */
static void ask_slots(struct redis_library *library)
{
    struct buf one = {0}, other = {0};
    name_put_key(&one, library->prefix, SLICE_LIT("a"));
    name_put_key(&other, library->prefix, SLICE_LIT("b"));
    struct slice argv[] = {SLICE_LIT("FCALL"), SLICE_LIT("sse_version"), SLICE_LIT("2"),
                           buf_slice(&one), buf_slice(&other)};
    redis_conn_send(library->conn, argv, 5, on_slots, library);
    buf_reset(&one);
    buf_reset(&other);
}

/* The value of a line "name:value" of INFO; SLICE_NONE: there is none. */
static struct slice info_field(struct slice text, const char *mark)
{
    const char *at = text.ptr ? memmem(text.ptr, text.len, mark, strlen(mark)) : NULL;
    if (!at)
        return SLICE_NONE;
    struct slice value = {at + strlen(mark), 0};
    while (value.ptr + value.len < text.ptr + text.len && value.ptr[value.len] != '\r')
        value.len++;
    return value;
}

/* Valkey tells the Redis version that it is compatible with in the same field. */
static void on_info(void *arg, const struct redis_reply *reply)
{
    struct redis_library *library = arg;
    if (!reply ||
        redis_reply_is_unusable(reply)) /* the connection goes, this is tried on the next */
        return;
    bool known = redis_reply_type(reply) == REDIS_STRING;
    struct slice text = known ? redis_reply_text(reply) : SLICE_NONE;
    struct slice version = info_field(text, "redis_version:"), run = info_field(text, "run_id:");
    snprintf(library->server, sizeof(library->server), "%.*s", (int)run.len,
             run.len ? run.ptr : "");
    if (version.len && strtol(version.ptr, NULL, 10) < REDIS_MAJOR_MIN) {
        complain(
            library, NULL, "this Redis is too old",
            "sse-relay needs Redis 7.0 or newer, or Valkey: it publishes through Redis Functions");
        return;
    }
    library->cluster = slice_is(info_field(text, "redis_mode:"), "cluster") ||
                       slice_is(info_field(text, "server_mode:"), "cluster");
    if (library->cluster) {
        complain_of_cluster(library);
        return;
    }
    if (!known)
        ask_slots(library);
    ask_version(library); /* where INFO is forbidden, the functions tell */
}

void redis_library_ensure(struct redis_library *library)
{
    if (library->busy)
        return;
    static const struct slice argv[] = {SLICE_LIT("INFO"), SLICE_LIT("server")};
    library->busy = redis_conn_send(library->conn, argv, 2, on_info, library);
}

static void on_retry(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct redis_library *library = w->data;
    library->busy = false;
    redis_library_ensure(library);
}

struct redis_library *redis_library_new(struct ev_loop *loop, struct redis_conn *conn,
                                        const char *prefix, void (*ready)(void *arg),
                                        void (*failed)(void *arg, const char *why), void *arg)
{
    struct redis_library *library = mem_zero(1, sizeof(*library));
    library->loop = loop;
    library->conn = conn;
    library->prefix = mem_dup(prefix, strlen(prefix));
    library->ready = ready;
    library->failed = failed;
    library->arg = arg;
    library->version = embedded_version();
    ev_init(&library->retry, on_retry);
    library->retry.data = library;
    return library;
}

const char *redis_library_server(const struct redis_library *library)
{
    return library->server;
}

bool redis_library_is_in_cluster(const struct redis_library *library)
{
    return library->cluster;
}

void redis_library_stop(struct redis_library *library)
{
    library->busy = false;
    ev_timer_stop(library->loop, &library->retry);
}

void redis_library_free(struct redis_library *library)
{
    if (!library)
        return;
    redis_library_stop(library);
    free(library->prefix);
    free(library);
}
