/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_redis.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/mem.h"

enum { ARGS_MAX = 600 };

static void say(struct fake_conn *c, const char *text)
{
    size_t len = strlen(text);
    /* A peer that has gone is no failure of the test. */
    if (send(c->fd, text, len, MSG_NOSIGNAL) != (ssize_t)len)
        c->in_len = 0;
}

static void say_array(struct fake_conn *c, const char *const *texts, size_t count, int number)
{
    char out[1024];
    size_t len = (size_t)snprintf(out, sizeof(out), "*%zu\r\n", count + (number >= 0));
    for (size_t i = 0; i < count; i++)
        len += (size_t)snprintf(out + len, sizeof(out) - len, "$%zu\r\n%s\r\n", strlen(texts[i]),
                                texts[i]);
    if (number >= 0)
        snprintf(out + len, sizeof(out) - len, ":%d\r\n", number);
    say(c, out);
}

static char **slot_of(struct fake_conn *c, const char *channel)
{
    for (size_t i = 0; i < FAKE_CHANNELS; i++)
        if (c->channels[i] && strcmp(c->channels[i], channel) == 0)
            return &c->channels[i];
    return NULL;
}

static void set_channel(struct fake_conn *c, const char *channel, bool wanted)
{
    char **slot = slot_of(c, channel);
    if (slot && !wanted) {
        free(*slot);
        *slot = NULL;
    }
    for (size_t i = 0; wanted && !slot && i < FAKE_CHANNELS; i++)
        if (!c->channels[i]) {
            slot = &c->channels[i];
            *slot = mem_dup(channel, strlen(channel));
        }
    ck_assert(slot || !wanted);
}

static void subscribe(struct fake_conn *c, char **argv, size_t argc, bool leave)
{
    struct fake_redis *redis = c->redis;
    if (leave)
        redis->unsubscribes++;
    else
        redis->subscribes++;
    if (redis->silent)
        return;
    for (size_t i = 1; i < argc && !leave && redis->refused; i++)
        if (strstr(argv[i], redis->refused)) {
            say(c, "-NOPERM No permissions to access a channel\r\n");
            return;
        }
    for (char *p = argv[0]; *p; p++)
        *p = (char)(*p | 0x20);
    for (size_t i = 1; i < argc; i++) {
        set_channel(c, argv[i], !leave);
        say_array(c, (const char *[]){argv[0], argv[i]}, 2, 1);
    }
}

void fake_redis_message(struct fake_redis *redis, const char *channel, const char *payload)
{
    for (size_t i = 0; i < FAKE_CONNECTIONS; i++) {
        struct fake_conn *c = &redis->conns[i];
        if (!c->redis || redis->mute || redis->silent)
            continue;
        if (slot_of(c, channel))
            say_array(c, (const char *[]){"message", channel, payload}, 3, -1);
        if (slot_of(c, "*"))
            say_array(c, (const char *[]){"pmessage", "*", channel, payload}, 4, -1);
    }
}

static void run(struct fake_conn *c, char **argv, size_t argc)
{
    struct fake_redis *redis = c->redis;
    const char *name = argv[0];
    if (strcmp(name, "SUBSCRIBE") == 0 || strcmp(name, "PSUBSCRIBE") == 0) {
        subscribe(c, argv, argc, false);
    } else if (strcmp(name, "UNSUBSCRIBE") == 0 || strcmp(name, "PUNSUBSCRIBE") == 0) {
        subscribe(c, argv, argc, true);
    } else if (strcmp(name, "PUBLISH") == 0) {
        redis->publishes++;
        snprintf(redis->published, sizeof(redis->published), "%s", argv[1]);
        if (redis->no_publish) {
            say(c, "-NOPERM User relay has no permissions to run the 'publish' command\r\n");
            return;
        }
        fake_redis_message(redis, argv[1], argv[2]);
        say(c, ":1\r\n");
    } else if (strcmp(name, "ROLE") == 0) {
        say_array(c, &redis->role, 1, 0);
    } else if (strcmp(name, "FCALL") == 0 && redis->called) {
        redis->call[0] = '\0';
        for (size_t i = 1, len = 0; i < argc; i++, len = strlen(redis->call))
            snprintf(redis->call + len, sizeof(redis->call) - len, " %s", argv[i]);
        if (*redis->called)
            say(c, redis->called);
    } else {
        if (argc == 3 && strcasecmp(argv[1], "SETNAME") == 0) {
            snprintf(c->name, sizeof(c->name), "%s", argv[2]);
            redis->logins += strstr(c->name, "subscriber") != NULL;
        }
        say(c, "+OK\r\n");
    }
}

/* Takes one command off the input. False: it is not all there. */
static bool take_command(struct fake_conn *c)
{
    char *argv[ARGS_MAX], *at = c->in, *end = c->in + c->in_len, *line;
    if (c->in_len == 0)
        return false;
    ck_assert_int_eq(*at, '*');
    size_t argc = strtoul(at + 1, NULL, 10);
    ck_assert_uint_le(argc, ARGS_MAX);
    if (!(line = memchr(at, '\n', c->in_len)))
        return false;
    at = line + 1;
    for (size_t i = 0; i < argc; i++) {
        if (at >= end || !(line = memchr(at, '\n', (size_t)(end - at))))
            return false;
        size_t len = strtoul(at + 1, NULL, 10);
        if ((size_t)(end - line) < len + 3)
            return false;
        argv[i] = line + 1;
        at = line + 1 + len + 2;
    }
    char *copies[ARGS_MAX];
    for (size_t i = 0; i < argc; i++)
        copies[i] = mem_dup(argv[i], (size_t)(strchr(argv[i], '\r') - argv[i]));
    c->in_len = (size_t)(end - at);
    memmove(c->in, at, c->in_len);
    run(c, copies, argc);
    for (size_t i = 0; i < argc; i++)
        free(copies[i]);
    return true;
}

static void conn_close(struct fake_conn *c)
{
    if (!c->redis)
        return;
    ev_io_stop(c->redis->loop, &c->read);
    close(c->fd);
    for (size_t i = 0; i < FAKE_CHANNELS; i++)
        free(c->channels[i]);
    memset(c, 0, sizeof(*c));
}

static void on_read(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop, (void)revents;
    struct fake_conn *c = w->data;
    ssize_t n = read(c->fd, c->in + c->in_len, sizeof(c->in) - 1 - c->in_len);
    if (n <= 0) {
        conn_close(c);
        return;
    }
    c->in_len += (size_t)n;
    c->in[c->in_len] = '\0';
    while (take_command(c))
        continue;
}

static void on_accept(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)revents;
    struct fake_redis *redis = w->data;
    int fd = accept(redis->fd, NULL, NULL);
    ck_assert_int_ge(fd, 0);
    for (size_t i = 0; i < FAKE_CONNECTIONS; i++) {
        struct fake_conn *c = &redis->conns[i];
        if (c->redis)
            continue;
        c->redis = redis;
        c->fd = fd;
        ev_io_init(&c->read, on_read, fd, EV_READ);
        c->read.data = c;
        ev_io_start(loop, &c->read);
        return;
    }
    ck_abort_msg("too many connections");
}

void fake_redis_start(struct fake_redis *redis, struct ev_loop *loop)
{
    memset(redis, 0, sizeof(*redis));
    redis->loop = loop;
    redis->role = "master";
    char directory[] = "/tmp/sse-relay-fake-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(redis->path, sizeof(redis->path), "%s/redis", directory);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", redis->path);
    redis->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(redis->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(redis->fd, 8), 0);
    ev_io_init(&redis->accept, on_accept, redis->fd, EV_READ);
    redis->accept.data = redis;
    ev_io_start(loop, &redis->accept);
}

void fake_redis_stop(struct fake_redis *redis)
{
    for (size_t i = 0; i < FAKE_CONNECTIONS; i++)
        conn_close(&redis->conns[i]);
    ev_io_stop(redis->loop, &redis->accept);
    close(redis->fd);
    unlink(redis->path);
    *strrchr(redis->path, '/') = '\0';
    rmdir(redis->path);
}

bool fake_redis_has(const struct fake_redis *redis, const char *channel)
{
    for (size_t i = 0; i < FAKE_CONNECTIONS; i++)
        if (redis->conns[i].redis && slot_of((struct fake_conn *)&redis->conns[i], channel))
            return true;
    return false;
}

size_t fake_redis_count(const struct fake_redis *redis)
{
    size_t count = 0;
    for (size_t i = 0; i < FAKE_CONNECTIONS; i++)
        for (size_t j = 0; j < FAKE_CHANNELS; j++)
            count += redis->conns[i].channels[j] != NULL;
    return count;
}

void fake_redis_cut(struct fake_redis *redis, const char *name)
{
    for (size_t i = 0; i < FAKE_CONNECTIONS; i++)
        if (redis->conns[i].redis && strstr(redis->conns[i].name, name))
            conn_close(&redis->conns[i]);
}
