/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/redis/redis_settings.h"

#include <stdlib.h>

#include "common/mem.h"
#include "relay/kit/log.h"

struct redis_settings {
    struct redis_conn *conn;
    bool asked; /* an answer is due, or has come */
};

/* {name, value}; nothing where the name is not known. */
static void on_node_bytes(void *arg, const struct redis_reply *reply)
{
    struct redis_settings *settings = arg;
    if (!reply) {
        settings->asked = false;
        return;
    }
    if (redis_reply_count(reply) == 2 &&
        slice_is(redis_reply_text(redis_reply_at(reply, 1)), "4096"))
        log_put(LOG_INFO, "Redis reserves 4 KB for the log of each topic, however short", "hint",
                "with many topics of few events each, stream-node-max-bytes 512 in redis.conf "
                "(CONFIG SET takes it at once) makes a topic with one event cost 1 KB instead "
                "of 4.5",
                NULL);
}

void redis_settings_look(struct redis_settings *settings)
{
    static const struct slice argv[] = {SLICE_LIT("CONFIG"), SLICE_LIT("GET"),
                                        SLICE_LIT("stream-node-max-bytes")};
    if (!settings->asked)
        settings->asked = redis_conn_send(settings->conn, argv, 3, on_node_bytes, settings);
}

struct redis_settings *redis_settings_new(struct redis_conn *conn)
{
    struct redis_settings *settings = mem_zero(1, sizeof(*settings));
    settings->conn = conn;
    return settings;
}

void redis_settings_free(struct redis_settings *settings)
{
    free(settings);
}
