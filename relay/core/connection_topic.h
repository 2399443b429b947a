/* SPDX-License-Identifier: Apache-2.0 */
/* connection.<connection_id>: a topic that one stream has without asking. No I/O. */
#pragma once
#include <string.h>

#include "relay/core/connection_id.h"

#define CONNECTION_TOPIC_PREFIX "connection."

static inline bool connection_topic_is(struct slice topic)
{
    enum { PREFIX = sizeof(CONNECTION_TOPIC_PREFIX) - 1 };
    return topic.len == PREFIX + CONNECTION_ID_CHARS &&
           memcmp(topic.ptr, CONNECTION_TOPIC_PREFIX, PREFIX) == 0;
}

/* ERR_INVALID: it is no such topic. */
NODISCARD static inline enum err connection_topic_parse(struct slice topic,
                                                        struct connection_id *out)
{
    if (!connection_topic_is(topic))
        return ERR_INVALID;
    size_t prefix = topic.len - CONNECTION_ID_CHARS;
    return connection_id_parse((struct slice){topic.ptr + prefix, CONNECTION_ID_CHARS}, out);
}

static inline void connection_topic_put(struct buf *b, const struct connection_id *id)
{
    buf_puts(b, CONNECTION_TOPIC_PREFIX);
    connection_id_put(b, id);
}
