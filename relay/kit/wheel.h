/* SPDX-License-Identifier: Apache-2.0 */
/* A timing wheel: very many coarse timers, O(1) to set and cancel, nothing to do while they wait.
 * No I/O, no clock of its own: the owner calls wheel_advance() about once a tick. One thread. */
#pragma once
#include <stdint.h>
#include <sys/queue.h>

/* Embedded in what waits. Zero-initialised: not set. */
struct wheel_entry {
    LIST_ENTRY(wheel_entry) link;
    uint64_t due_ms; /* 0: not set */
};

struct wheel;

/* @tick_ms: the grain; an entry fires up to one tick late, never early. @fire runs inside
 * wheel_advance() with the entry already unset; it may set or cancel any entry. */
struct wheel *wheel_new(uint64_t tick_ms, uint64_t now_ms,
                        void (*fire)(struct wheel_entry *entry, void *arg), void *arg);
void wheel_free(struct wheel *wheel); /* entries still set are forgotten */

void wheel_set(struct wheel *wheel, struct wheel_entry *entry,
               uint64_t due_ms); /* sets, or moves */
void wheel_cancel(struct wheel_entry *entry);
void wheel_advance(struct wheel *wheel, uint64_t now_ms);
