/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/kit/inbox.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "common/mem.h"

struct inbox {
    _Atomic(struct inbox_item *) pushed; /* newest first */
    struct inbox_item *ordered;          /* consumer thread only: oldest first */
    atomic_size_t depth;
    struct ev_loop *loop;
    ev_async wake;
    void (*ready)(void *arg);
    void *arg;
};

static void on_wake(struct ev_loop *loop, ev_async *w, int revents)
{
    (void)loop, (void)revents;
    struct inbox *inbox = w->data;
    inbox->ready(inbox->arg);
}

struct inbox *inbox_new(struct ev_loop *loop, void (*ready)(void *arg), void *arg)
{
    struct inbox *inbox = mem_zero(1, sizeof(*inbox));
    inbox->loop = loop;
    inbox->ready = ready;
    inbox->arg = arg;
    ev_async_init(&inbox->wake, on_wake);
    inbox->wake.data = inbox;
    ev_async_start(loop, &inbox->wake);
    return inbox;
}

void inbox_free(struct inbox *inbox)
{
    if (!inbox)
        return;
    ev_async_stop(inbox->loop, &inbox->wake);
    free(inbox);
}

void inbox_push(struct inbox *inbox, struct inbox_item *item)
{
    atomic_fetch_add_explicit(&inbox->depth, 1, memory_order_relaxed);
    struct inbox_item *head = atomic_load_explicit(&inbox->pushed, memory_order_relaxed);
    do {
        item->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&inbox->pushed, &head, item,
                                                    memory_order_release, memory_order_relaxed));
    /* Only the push that finds the queue empty wakes: the consumer takes all there is, and what
     * comes after that take finds it empty again. */
    if (!head)
        inbox_wake(inbox);
}

struct inbox_item *inbox_pop(struct inbox *inbox)
{
    if (!inbox->ordered) {
        struct inbox_item *item =
            atomic_exchange_explicit(&inbox->pushed, NULL, memory_order_acquire);
        while (item) {
            struct inbox_item *next = item->next;
            item->next = inbox->ordered;
            inbox->ordered = item;
            item = next;
        }
    }
    struct inbox_item *first = inbox->ordered;
    if (first) {
        inbox->ordered = first->next;
        first->next = NULL;
        atomic_fetch_sub_explicit(&inbox->depth, 1, memory_order_relaxed);
    }
    return first;
}

void inbox_wake(struct inbox *inbox)
{
    ev_async_send(inbox->loop, &inbox->wake);
}

size_t inbox_depth(const struct inbox *inbox)
{
    return atomic_load_explicit(&inbox->depth, memory_order_relaxed);
}
