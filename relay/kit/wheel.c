/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/kit/wheel.h"

#include <stdlib.h>

#include "common/mem.h"

enum { SLOTS = 512 };

LIST_HEAD(wheel_list, wheel_entry);

struct wheel {
    struct wheel_list slots[SLOTS];
    uint64_t tick_ms;
    uint64_t tick; /* all ticks up to this one have been handled */
    void (*fire)(struct wheel_entry *entry, void *arg);
    void *arg;
};

struct wheel *wheel_new(uint64_t tick_ms, uint64_t now_ms,
                        void (*fire)(struct wheel_entry *entry, void *arg), void *arg)
{
    struct wheel *wheel = mem_zero(1, sizeof(*wheel));
    wheel->tick_ms = tick_ms;
    wheel->tick = now_ms / tick_ms;
    wheel->fire = fire;
    wheel->arg = arg;
    return wheel;
}

void wheel_free(struct wheel *wheel)
{
    free(wheel);
}

void wheel_cancel(struct wheel_entry *entry)
{
    if (!entry->due_ms)
        return;
    LIST_REMOVE(entry, link);
    entry->due_ms = 0;
}

void wheel_set(struct wheel *wheel, struct wheel_entry *entry, uint64_t due_ms)
{
    wheel_cancel(entry);
    uint64_t tick = (due_ms + wheel->tick_ms - 1) / wheel->tick_ms;
    if (tick <= wheel->tick)
        tick = wheel->tick + 1;
    entry->due_ms = due_ms ? due_ms : 1;
    LIST_INSERT_HEAD(&wheel->slots[tick % SLOTS], entry, link);
}

/* Handles one slot: what is due fires, what waits for a later round stays. */
static void run_slot(struct wheel *wheel, struct wheel_list *slot, uint64_t now_ms)
{
    /* Moved to a list of its own first, so that what is set again into this slot is not met twice.
     */
    struct wheel_list work = {.lh_first = slot->lh_first};
    LIST_INIT(slot);
    if (work.lh_first)
        work.lh_first->link.le_prev = &work.lh_first;

    struct wheel_entry *entry;
    while ((entry = LIST_FIRST(&work))) {
        uint64_t due_ms = entry->due_ms;
        LIST_REMOVE(entry, link);
        if (due_ms > now_ms) {
            LIST_INSERT_HEAD(slot, entry, link);
            continue;
        }
        entry->due_ms = 0;
        wheel->fire(entry, wheel->arg);
    }
}

void wheel_advance(struct wheel *wheel, uint64_t now_ms)
{
    uint64_t until = now_ms / wheel->tick_ms;
    if (until > wheel->tick + SLOTS)
        wheel->tick = until - SLOTS; /* after a long pause one round meets every slot */
    while (wheel->tick < until) {
        wheel->tick++;
        run_slot(wheel, &wheel->slots[wheel->tick % SLOTS], now_ms);
    }
}
