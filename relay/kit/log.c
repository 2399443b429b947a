/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines, one write(2) each: short enough for a pipe to take whole (PIPE_BUF), so that lines of
 * several threads and processes never mix and no lock is needed. */
#include "relay/kit/log.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "common/json.h"

#define LINE_MAX_BYTES 4096 /* PIPE_BUF on Linux */
#define VALUE_MAX_BYTES 500 /* before escaping, which makes up to six of one */
#define LIMIT_PERIOD_US UINT64_C(10000000)

static atomic_int log_level = LOG_INFO;
static atomic_int log_format = LOG_LOGFMT;

void log_setup(enum log_level level, enum log_format format)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
    atomic_store_explicit(&log_format, (int)format, memory_order_relaxed);
}

bool log_on(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&log_level, memory_order_relaxed);
}

/* The beginning of what is too long for a line. */
static struct slice shorten(struct slice s)
{
    if (s.len <= VALUE_MAX_BYTES)
        return s;
    s.len = VALUE_MAX_BYTES;
    /* Not inside of a character: at most three bytes back. */
    for (int i = 0; i < 3 && ((unsigned char)s.ptr[s.len] & 0xc0) == 0x80; i++)
        s.len--;
    return s;
}

static bool needs_quotes(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
            return true;
    }
    return s.len == 0;
}

static void put_pair(struct buf *b, bool json, const char *key, const char *value)
{
    struct slice text = value ? slice_of(value) : SLICE_LIT("");
    struct slice shown = shorten(text);
    struct buf marked = {0};
    if (shown.len < text.len) {
        buf_put_slice(&marked, shown);
        buf_puts(&marked, "...");
        shown = buf_slice(&marked);
    }
    if (json) {
        buf_putc(b, b->len > 0 ? ',' : '{');
        json_put_string(b, slice_of(key));
        buf_putc(b, ':');
    } else {
        if (b->len > 0)
            buf_putc(b, ' ');
        buf_puts(b, key);
        buf_putc(b, '=');
    }
    if (json || needs_quotes(shown))
        json_put_string(b, shown);
    else
        buf_put_slice(b, shown);
    buf_reset(&marked);
}

static void put_head(struct buf *b, bool json, enum log_level level, const char *msg)
{
    static const char *const levels[] = {
        [LOG_DEBUG] = "debug", [LOG_INFO] = "info", [LOG_WARN] = "warn", [LOG_ERROR] = "error"};
    struct timespec now;
    struct tm utc;
    char stamp[32], full[48];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(full, sizeof(full), "%s.%03dZ", stamp, (int)(now.tv_nsec / 1000000));
    put_pair(b, json, "ts", full);
    put_pair(b, json, "level", levels[level]);
    put_pair(b, json, "msg", msg);
}

void log_put(enum log_level level, const char *msg, ...)
{
    struct buf line = {0};
    va_list pairs;
    bool json = atomic_load_explicit(&log_format, memory_order_relaxed) == LOG_JSON;
    const char *key;
    if (!log_on(level))
        return;
    put_head(&line, json, level, msg);
    va_start(pairs, msg);
    while ((key = va_arg(pairs, const char *)) != NULL) {
        size_t before = line.len;
        put_pair(&line, json, key, va_arg(pairs, const char *));
        if (line.len > LINE_MAX_BYTES - 24) {
            line.len = before;
            put_pair(&line, json, "truncated", "true");
            break;
        }
    }
    va_end(pairs);
    buf_puts(&line, json ? "}\n" : "\n");
    /* There is nobody to tell when stderr is gone or full. */
    ssize_t ignored = write(STDERR_FILENO, line.ptr, line.len);
    (void)ignored;
    buf_reset(&line);
}

const char *log_u64(uint64_t n)
{
    static _Thread_local char ring[16][24];
    static _Thread_local unsigned next;
    char *text = ring[next++ % 16];
    snprintf(text, sizeof(ring[0]), "%" PRIu64, n);
    return text;
}

bool log_limit_pass(struct log_limit *limit, uint64_t now_mono_us, uint64_t *skipped)
{
    if (limit->last_us != 0 && now_mono_us - limit->last_us < LIMIT_PERIOD_US) {
        limit->held++;
        return false;
    }
    *skipped = limit->held;
    limit->held = 0;
    limit->last_us = now_mono_us ? now_mono_us : 1; /* 0 means never */
    return true;
}
