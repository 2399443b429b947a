/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"
#include "common/mem.h"
#include "link_parts.h"
#include "redis_client.h"
#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { OUT_SOFT_MAX = 256 << 10, READ_SIZE = 64 << 10 };

static void queue_push(struct queue *q, uint64_t g)
{
    if (q->ring.count == q->ring.cap)
        q->items = ring_grow(&q->ring, q->items, sizeof *q->items, 256);
    q->items[ring_push(&q->ring)] = g;
}

static uint64_t queue_pop(struct queue *q)
{
    return q->items[ring_pop(&q->ring)];
}

/* A broken connection leaves it unknown what was published: nothing after that can be verified. */
static void link_break(struct link *link, const char *why)
{
    if (link->down)
        return;
    fprintf(stderr, "sse-bench: publishing connection: %s\n", why);
    link->down = true;
    if (link->redis) {
        epoll_ctl(link->loop->fd, EPOLL_CTL_DEL, link->source.fd, NULL);
        link->source.fd = -1; /* hiredis closes it */
    } else {
        loop_close(link->loop, &link->source);
    }
}

void link_answered(struct link *link, bool ok, uint64_t id, const char *error)
{
    if (link->sent.ring.count == 0) {
        link_break(link, "an answer to nothing");
        return;
    }
    if (!ok && !link->owner->error)
        link->owner->error = mem_dup(error, strlen(error));
    link->owner->answer(link->owner->arg, queue_pop(&link->sent), ok, id);
}

static void link_read(struct link *link)
{
    char bytes[READ_SIZE];
    ssize_t n = recv(link->source.fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        link_break(link, n < 0 ? strerror(errno) : "closed by the other side");
    else if (!(link->redis ? link_take_redis : link_take_http)(link, bytes, (size_t)n))
        link_break(link, "an answer that is not understood");
}

static void link_write(struct link *link)
{
    size_t left = link->out.len - link->out_at;
    ssize_t n = left ? send(link->source.fd, link->out.ptr + link->out_at, left,
                            MSG_DONTWAIT | MSG_NOSIGNAL)
                     : 0;
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        link_break(link, strerror(errno));
        return;
    }
    link->out_at += n > 0 ? (size_t)n : 0;
    bool more = link->out_at < link->out.len;
    if (!more) {
        buf_clear(&link->out);
        link->out_at = 0;
    }
    if (more != link->writing) {
        link->writing = more;
        loop_change(link->loop, &link->source, EPOLLIN | (more ? EPOLLOUT : 0u));
    }
}

void link_flush(struct link *link)
{
    if (link->down)
        return;
    while (link->waiting.ring.count && link->sent.ring.count < link->depth &&
           link->out.len < OUT_SOFT_MAX) {
        uint64_t g = queue_pop(&link->waiting);
        link->owner->format(link->owner->arg, g, &link->out);
        queue_push(&link->sent, g);
    }
    if (link->out.len)
        link_write(link);
}

static void link_ready(struct source *source, uint32_t events)
{
    struct link *link = (struct link *)source;
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        link_read(link);
    link_flush(link);
}

static int dial_http(const struct options *o)
{
    const struct address *to = &o->publish_target.items[0];
    int fd = socket(to->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0 || connect(fd, (const struct sockaddr *)&to->sa, to->len) != 0) {
        fprintf(stderr, "sse-bench: %s: %s\n", o->publish_host, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

struct link *link_new(struct loop *loop, const struct options *o, struct link_owner *owner)
{
    struct link *link = mem_zero(1, sizeof *link);
    link->source.ready = link_ready;
    link->loop = loop;
    link->options = o;
    link->owner = owner;
    link->depth = o->publish_depth;
    if (o->publish == PUBLISH_HTTP) {
        link->source.fd = dial_http(o);
    } else {
        link->redis = redis_dial(o->redis);
        link->source.fd = link->redis ? link->redis->fd : -1;
        link->replies = redisReaderCreate();
    }
    if (link->source.fd < 0) {
        link_free(link);
        return NULL;
    }
    loop_add(loop, &link->source, EPOLLIN);
    return link;
}

void link_submit(struct link *link, uint64_t g)
{
    queue_push(&link->waiting, g);
}

size_t link_load(const struct link *link)
{
    return link->waiting.ring.count + link->sent.ring.count;
}

bool link_is_down(const struct link *link)
{
    return link->down;
}

void link_free(struct link *link)
{
    if (!link)
        return;
    if (link->redis)
        redisFree(link->redis);
    else if (link->source.fd >= 0)
        loop_close(link->loop, &link->source);
    if (link->replies)
        redisReaderFree(link->replies);
    buf_reset(&link->out);
    buf_reset(&link->in);
    free(link->waiting.items);
    free(link->sent.items);
    free(link);
}
