/* SPDX-License-Identifier: Apache-2.0 */
/* A bare epoll loop. One thread. */
#pragma once
#include <stdint.h>

struct source {
    int fd; /* -1: closed */
    void (*ready)(struct source *source, uint32_t events);
};

struct loop {
    int fd;
};

void loop_init(struct loop *loop);
void loop_add(struct loop *loop, struct source *source, uint32_t events);
void loop_change(struct loop *loop, struct source *source, uint32_t events);
/* Closes the source's file. Safe within its own ready(). */
void loop_close(struct loop *loop, struct source *source);
/* Waits until something is ready, but not beyond @until_ns of loop_now_ns(), and calls it. */
void loop_turn(struct loop *loop, uint64_t until_ns);
void loop_reset(struct loop *loop);
uint64_t loop_now_ns(void); /* CLOCK_MONOTONIC */
