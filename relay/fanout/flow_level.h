/* SPDX-License-Identifier: Apache-2.0 */
/* How long one connection's lanes wait: the flush interval, which grows while its socket does not
 * keep up and shrinks again slowly (FLOW control, docs/protocol.md, 4.7). No I/O, no clock. */
#pragma once
#include <stdint.h>

/* Zero-initialised is not right: flow_level_start(). */
struct flow_level {
    uint8_t step; /* of a quarter, a half, 1, 2, 4 */
    uint8_t calm; /* flushes in a row that found next to nothing waiting */
};

struct flow_level flow_level_start(void);
/* The interval, given @flush_ms: never below 100 ms (or @flush_ms, if that is less), nor above 10 s
 * (or @flush_ms, if that is more). */
uint64_t flow_level_interval_ms(const struct flow_level *level, uint64_t flush_ms);
/* A flush was due, and so full (0 to 1 and more) was what holds the connection's bytes. */
void flow_level_observe(struct flow_level *level, double saturation);
