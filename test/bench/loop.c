/* SPDX-License-Identifier: Apache-2.0 */
#include "loop.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { READY_MAX = 1024 }; /* sources served in one turn */

static void change(struct loop *loop, int op, struct source *source, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = source};
    if (epoll_ctl(loop->fd, op, source->fd, &ev) != 0) {
        perror("epoll_ctl");
        abort();
    }
}

void loop_init(struct loop *loop)
{
    loop->fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->fd < 0) {
        perror("epoll_create1");
        abort();
    }
}

void loop_add(struct loop *loop, struct source *source, uint32_t events)
{
    change(loop, EPOLL_CTL_ADD, source, events);
}

void loop_change(struct loop *loop, struct source *source, uint32_t events)
{
    change(loop, EPOLL_CTL_MOD, source, events);
}

void loop_close(struct loop *loop, struct source *source)
{
    (void)loop; /* the kernel forgets a closed file */
    if (source->fd >= 0)
        close(source->fd);
    source->fd = -1;
}

void loop_turn(struct loop *loop, uint64_t until_ns)
{
    struct epoll_event ready[READY_MAX];
    uint64_t now = loop_now_ns(), wait = until_ns > now ? until_ns - now : 0;
    struct timespec limit = {(time_t)(wait / 1000000000), (long)(wait % 1000000000)};
    int n = epoll_pwait2(loop->fd, ready, READY_MAX, &limit, NULL);
    for (int i = 0; i < n; i++) {
        struct source *source = ready[i].data.ptr;
        if (source->fd >= 0)
            source->ready(source, ready[i].events);
    }
}

void loop_reset(struct loop *loop)
{
    close(loop->fd);
    loop->fd = -1;
}

uint64_t loop_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}
