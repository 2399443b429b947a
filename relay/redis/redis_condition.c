/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/redis/redis_condition.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/kit/log.h"

struct redis_condition {
    atomic_int condition; /* enum store_condition */
    bool told;            /* that it refuses writes */
    struct log_limit limit;
};

enum store_condition redis_condition(const struct redis_condition *c)
{
    return (enum store_condition)atomic_load_explicit(&c->condition, memory_order_relaxed);
}

void redis_condition_set(struct redis_condition *c, enum store_condition condition)
{
    atomic_store_explicit(&c->condition, (int)condition, memory_order_relaxed);
}

static enum redis_writes hear_refused(struct redis_condition *c, struct slice error)
{
    uint64_t held;
    bool news = redis_condition(c) != STORE_READ_ONLY;
    redis_condition_set(c, STORE_READ_ONLY);
    if (news && log_limit_pass(&c->limit, clock_mono_us(), &held)) {
        char *text = slice_dup(error);
        log_put(LOG_WARN, "Redis refuses writes; streams are served from what it holds", "reply",
                text, "not_logged", log_u64(held), NULL);
        free(text);
        c->told = true;
    }
    return WRITES_REFUSED;
}

enum redis_writes redis_condition_hear(struct redis_condition *c, const struct redis_reply *reply)
{
    bool error = redis_reply_type(reply) == REDIS_ERROR;
    if (error && redis_error_refuses_writes(redis_reply_text(reply)))
        return hear_refused(c, redis_reply_text(reply));
    if (error || redis_condition(c) != STORE_READ_ONLY)
        return WRITES_TAKEN;
    redis_condition_set(c, STORE_GOOD);
    if (c->told)
        log_put(LOG_INFO, "Redis takes writes again", NULL);
    c->told = false;
    return WRITES_BACK;
}

struct redis_condition *redis_condition_new(void)
{
    return mem_zero(1, sizeof(struct redis_condition));
}

void redis_condition_free(struct redis_condition *c)
{
    free(c);
}
