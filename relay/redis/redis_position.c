/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/redis/redis_position.h"

#include "common/names.h"
#include "relay/kit/log.h"

bool redis_position_ask(struct redis_conn *conn, const struct config *config, const char *ns,
                        uint64_t seen, redis_done done, void *arg)
{
    struct buf key = {0};
    name_put_key(&key, config->prefix, slice_of(ns));
    struct slice argv[20] = {SLICE_LIT("FCALL"),
                             SLICE_LIT("sse_position"),
                             SLICE_LIT("1"),
                             buf_slice(&key),
                             SLICE_LIT("max_events"),
                             slice_of(log_u64(config->log_max_events)),
                             SLICE_LIT("max_events_limit"),
                             slice_of(log_u64(config->log_max_events_limit)),
                             SLICE_LIT("log_ttl"),
                             slice_of(log_u64(config->log_ttl_ms)),
                             SLICE_LIT("index_ttl"),
                             slice_of(log_u64(config->index_ttl_ms)),
                             SLICE_LIT("once_ttl"),
                             slice_of(log_u64(config->once_ttl_ms)),
                             SLICE_LIT("control_prefix"),
                             slice_of(config->control_prefix)};
    size_t argc = 16;
    if (config_has_auth(config)) { /* a node without has nothing to say about it */
        argv[argc++] = SLICE_LIT("max_token_life");
        argv[argc++] = slice_of(log_u64(config->auth_max_token_life_ms));
    }
    if (seen) {
        argv[argc++] = SLICE_LIT("seen");
        argv[argc++] = slice_of(log_u64(seen));
    }
    bool sent = redis_conn_send(conn, argv, argc, done, arg);
    buf_reset(&key);
    return sent;
}
