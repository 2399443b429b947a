/* SPDX-License-Identifier: Apache-2.0 */
/* Time. The wall clock may be set at any moment, so it is only for what is compared with event ids,
 * which follow Redis's wall clock: `since`, an event's ttl, the logs of the memory store, latency.
 * Everything that waits or lasts uses the monotonic one. */
#pragma once
#include <stdint.h>
#include "common/slice.h"

uint64_t clock_wall_us(void);
uint64_t clock_mono_us(void);
uint64_t clock_mono_ms(void);
/* RFC 3339 date-time, e.g. 2026-01-02T03:04:05.678Z or with +01:00 (section 5.6). Result: Unix time
 * in microseconds. */
NODISCARD enum err clock_parse_rfc3339(struct slice s, uint64_t *out_us);
