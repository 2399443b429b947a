/* SPDX-License-Identifier: Apache-2.0 */
/* One-shot timers of libev. */
#pragma once
#include <ev.h>

/* Fires once, @seconds from ev_now(@loop); if it is set already, then instead of that. Loop's
 * thread. */
static inline void timer_once(struct ev_loop *loop, ev_timer *timer, double seconds)
{
    ev_timer_stop(loop, timer);
    ev_timer_set(timer, seconds, 0.);
    ev_timer_start(loop, timer);
}
