/* SPDX-License-Identifier: Apache-2.0 */
/* The limit of one write per event: a bare epoll loop that subscribes to a Redis channel and writes
 * each message, as one preformatted event, once to each socket. No topics, no ids from the log, no
 * queues: a socket that is full loses its client. Usage: epoll_baseline PORT REDIS-PORT CHANNEL */
#include "common/mem.h"
#include "loop.h"
#include <arpa/inet.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS_MAX = 20000, BACKLOG = 4096 };

struct client {
    struct source source; /* first */
    size_t place;         /* in server.clients */
    bool streaming;
};

static struct {
    struct loop loop;
    struct source listener, redis_source;
    redisContext *redis;
    struct client *clients[CLIENTS_MAX];
    size_t count;
    unsigned long long id;
} server;

static void client_end(struct client *c)
{
    if (c->streaming) {
        server.clients[c->place] = server.clients[--server.count];
        server.clients[c->place]->place = c->place;
    }
    loop_close(&server.loop, &c->source);
    free(c);
}

static void on_client(struct source *source, uint32_t events)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                               "Cache-Control: no-cache\r\nConnection: close\r\n\r\n:ok\n\n";
    struct client *c = (struct client *)source;
    char request[8192];
    ssize_t n = recv(source->fd, request, sizeof request, MSG_DONTWAIT);
    (void)events;
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 || server.count == CLIENTS_MAX ||
        (!c->streaming && send(source->fd, head, sizeof head - 1, MSG_NOSIGNAL) < 0)) {
        client_end(c);
        return;
    }
    if (!c->streaming) {
        c->streaming = true;
        c->place = server.count;
        server.clients[server.count++] = c;
    }
}

static void on_accept(struct source *source, uint32_t events)
{
    int fd, on = 1;
    (void)events;
    while ((fd = accept4(source->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct client *c = mem_zero(1, sizeof *c);
        c->source = (struct source){.fd = fd, .ready = on_client};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        loop_add(&server.loop, &c->source, EPOLLIN);
    }
}

static void deliver(const char *data, size_t len)
{
    char *frame = mem_alloc(len + 64);
    size_t size = (size_t)sprintf(frame, "id: %llu\ndata: ", ++server.id);
    memcpy(frame + size, data, len);
    memcpy(frame + size + len, "\n\n", 2);
    size += len + 2;
    for (size_t i = server.count; i-- > 0;)
        if (send(server.clients[i]->source.fd, frame, size, MSG_NOSIGNAL | MSG_DONTWAIT) !=
            (ssize_t)size)
            shutdown(server.clients[i]->source.fd, SHUT_RDWR);
    free(frame);
}

static void on_redis(struct source *source, uint32_t events)
{
    void *next = NULL;
    (void)source;
    (void)events;
    if (redisBufferRead(server.redis) != REDIS_OK) {
        fprintf(stderr, "epoll_baseline: redis: %s\n", server.redis->errstr);
        exit(EXIT_FAILURE);
    }
    while (redisGetReplyFromReader(server.redis, &next) == REDIS_OK && next) {
        redisReply *reply = next;
        if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 3 &&
            strcmp(reply->element[0]->str, "message") == 0)
            deliver(reply->element[2]->str, reply->element[2]->len);
        freeReplyObject(reply);
        next = NULL;
    }
}

static bool start(int port, int redis_port, const char *channel)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&sa, sizeof sa) != 0 || listen(fd, BACKLOG) != 0) {
        perror("epoll_baseline: listen");
        return false;
    }
    server.redis = redisConnect("127.0.0.1", redis_port);
    redisReply *reply = server.redis && !server.redis->err
                            ? redisCommand(server.redis, "SUBSCRIBE %s", channel)
                            : NULL;
    if (!reply) {
        fprintf(stderr, "epoll_baseline: no Redis on port %d\n", redis_port);
        return false;
    }
    freeReplyObject(reply);
    server.listener = (struct source){fd, on_accept};
    server.redis_source = (struct source){server.redis->fd, on_redis};
    loop_init(&server.loop);
    loop_add(&server.loop, &server.listener, EPOLLIN);
    loop_add(&server.loop, &server.redis_source, EPOLLIN);
    return true;
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (argc != 4) {
        fprintf(stderr, "Usage: %s PORT REDIS-PORT CHANNEL\n", argv[0]);
        return 2;
    }
    if (!start(atoi(argv[1]), atoi(argv[2]), argv[3]))
        return EXIT_FAILURE;
    for (;;)
        loop_turn(&server.loop, loop_now_ns() + 1000000000);
}
