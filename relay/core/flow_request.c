/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/flow_request.h"

#include <string.h>

#include "relay/config/config_check.h"
#include "relay/config/config_table.h"

/* What the relay's owner may give the option, and so a stream of a route, too. */
static const struct config_option *option(const char *name)
{
    return config_table_find(slice_of(name));
}

static bool is_allowed(const struct config *config, const char *word)
{
    return !config || strings_have(&config->slow_allowed, slice_of(word));
}

static enum err set_slow(struct flow_request *f, struct slice text, const struct config *config,
                         struct buf *why)
{
    for (size_t i = 0; i < SLOW_COUNT; i++)
        if (slice_is(text, config_check_slow_words[i]) &&
            is_allowed(config, config_check_slow_words[i])) {
            f->slow = (enum slow_policy)i;
            f->has_slow = true;
            return OK;
        }
    const char *sep = "expected ";
    for (size_t i = 0; i < SLOW_COUNT; i++)
        if (is_allowed(config, config_check_slow_words[i])) {
            buf_puts(why, sep);
            buf_puts(why, config_check_slow_words[i]);
            sep = " or ";
        }
    if (sep[0] == 'e')
        buf_puts(why, "expected none, as slow.allowed is empty");
    return ERR_INVALID;
}

static enum err set_buffer(struct flow_request *f, struct slice text, const struct config *config,
                           struct buf *why)
{
    uint64_t n, most = config ? config->queue_max_events : option("queue.max_events")->max;
    if (slice_u64(text, most, &n) == OK && n > 0) {
        f->buffer = (uint32_t)n;
        return OK;
    }
    buf_printf(why, "expected a number of events from 1 to %llu", (unsigned long long)most);
    return ERR_INVALID;
}

static enum err set_flush(struct flow_request *f, struct slice text, const struct config *config,
                          struct buf *why)
{
    uint64_t ms, least = config ? config->flush_min_ms : option("flush")->min;
    uint64_t most = config ? config->flush_max_ms : option("flush")->max;
    if (slice_duration_ms(text, &ms) == OK && ms >= least && ms <= most) {
        f->flush_ms = (uint32_t)ms;
        return OK;
    }
    buf_printf(why, "expected a duration such as 500ms, from %llums to %llums",
               (unsigned long long)least, (unsigned long long)most);
    return ERR_INVALID;
}

enum err flow_request_set(struct flow_request *f, const char *name, struct slice text,
                          const struct config *config, struct buf *why)
{
    if (strcmp(name, "slow") == 0)
        return set_slow(f, text, config, why);
    if (strcmp(name, "buffer") == 0)
        return set_buffer(f, text, config, why);
    if (strcmp(name, "flush") == 0)
        return set_flush(f, text, config, why);
    f->has_control = true;
    f->no_controls = slice_is(text, "off");
    if (f->no_controls || slice_is(text, "on"))
        return OK;
    buf_puts(why, "expected on or off");
    return ERR_INVALID;
}

void flow_request_put(const struct flow_request *f, struct buf *out)
{
    if (f->has_slow)
        buf_printf(out, "; slow %s", config_check_slow_words[f->slow]);
    if (f->buffer)
        buf_printf(out, "; buffer %u", f->buffer);
    if (f->flush_ms)
        buf_printf(out, "; flush %ums", f->flush_ms);
    if (f->has_control)
        buf_puts(out, f->no_controls ? "; control off" : "; control on");
}

void flow_request_merge(struct flow_request *f, const struct flow_request *other)
{
    f->flush_ms = f->flush_ms ? f->flush_ms : other->flush_ms;
    f->buffer = f->buffer ? f->buffer : other->buffer;
    if (!f->has_slow) {
        f->slow = other->slow;
        f->has_slow = other->has_slow;
    }
    if (!f->has_control) {
        f->no_controls = other->no_controls;
        f->has_control = other->has_control;
    }
}
