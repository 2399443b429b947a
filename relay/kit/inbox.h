/* SPDX-License-Identifier: Apache-2.0 */
/* How threads meet: a lock-free queue with many producers and one consumer, which wakes the
 * consumer's loop. */
#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stddef.h>

/* Embed as the first member of what is sent. */
struct inbox_item {
    struct inbox_item *next;
};

struct inbox;

/* @ready runs on @loop's thread once after one or more pushes; it should pop until NULL, or call
 * inbox_wake() to go on in the next turn. */
struct inbox *inbox_new(struct ev_loop *loop, void (*ready)(void *arg), void *arg);
/* Consumer thread, once no producer is left. What was not popped is the caller's to pop first. */
void inbox_free(struct inbox *inbox);

/* Any thread; never blocks, never fails. Order is kept per producer. The item belongs to the
 * consumer from here on. */
void inbox_push(struct inbox *inbox, struct inbox_item *item);
/* Consumer thread. NULL when empty. */
struct inbox_item *inbox_pop(struct inbox *inbox);
/* Any thread: run @ready again soon. */
void inbox_wake(struct inbox *inbox);
/* Any thread: pushed and not yet popped. Producers that can wait slow down by this: that is the
 * queue's bound. */
size_t inbox_depth(const struct inbox *inbox);
