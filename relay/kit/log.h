/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines on stderr, as logfmt or JSON; one write per line. Any thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/slice.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_LOGFMT, LOG_JSON };

void log_setup(enum log_level level, enum log_format format); /* any time */
bool log_on(enum log_level level);

/* log_put(LOG_INFO, "listening", "address", "127.0.0.1:8080", NULL): a constant message, then pairs
 * of key and text. A value may be any bytes; it is escaped. */
void log_put(enum log_level level, const char *msg, ...) __attribute__((sentinel));

/* Text of a number for the pairs above; NUL-terminated, in a small ring of thread-local buffers (16
 * calls live). */
const char *log_u64(uint64_t n);

/* "Logged once per burst": the first time at once, then at most one line every 10 s with the number
 * of those held back. Zero-initialise one for each kind; one thread each. log_limit_pass() is true
 * when a line may go out now; *skipped tells how many were held back since the last. */
struct log_limit {
    uint64_t last_us, held;
};
bool log_limit_pass(struct log_limit *limit, uint64_t now_mono_us, uint64_t *skipped);
