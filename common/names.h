/* SPDX-License-Identifier: Apache-2.0 */
/* Names of the contract: namespaces, topics, patterns, and the Redis keys and channels made of
 * them. */
#pragma once
#include "common/buf.h"
#include "common/slice.h"

#define NAME_TOPIC_MAX 512
#define NAME_NS_MAX 64

bool name_ns_valid(struct slice ns); /* [A-Za-z0-9_-]{1,64} */
bool name_prefix_valid(
    struct slice p); /* 1 to 64 bytes of [A-Za-z0-9_.:-]: needs no escaping in a glob */
bool name_topic_valid(struct slice topic);        /* docs/protocol.md, "Names" */
bool name_pattern_valid(struct slice pattern);    /* a topic is a pattern, too */
bool name_is_pattern(struct slice valid_pattern); /* has a wildcard token */

/* Appends ns, NUL, name: what tables over all namespaces are looked up by. */
void name_put_lookup(struct buf *b, struct slice ns, struct slice name);
/* Appends P:{ns} */
void name_put_key(struct buf *b, const char *prefix, struct slice ns);
/* Appends P:{ns}:log:<topic> */
void name_put_log(struct buf *b, const char *prefix, struct slice ns, struct slice topic);
/* Appends P:{ns}:ch:<topic> */
void name_put_channel(struct buf *b, const char *prefix, struct slice ns, struct slice topic);
/* Appends P:{ns}:revoked */
void name_put_revoked(struct buf *b, const char *prefix, struct slice ns);
/* Appends P:{ns}:to:<tag>: events for connections of the node with that tag. */
void name_put_to(struct buf *b, const char *prefix, struct slice ns, struct slice tag);
/* Appends P:node:<tag> */
void name_put_node(struct buf *b, const char *prefix, struct slice tag);
/* Appends bridge:<group>:<stream>, in which a : and % of the group are %3A and %25, so that no two
 * bridges have the same. */
void name_put_bridge(struct buf *b, struct slice group, struct slice stream);
/* Whether a key or channel is one of a relay's own: P:{…, P:node:…, P:probe:… or P:bridge:… */
bool name_is_own(struct slice name, const char *prefix);
/* Appends the Redis glob that matches at least the channels of a pattern's topics: P:{ns}:ch:… with
 * a * for each wildcard and Redis's other glob characters ([ ] ? \ ^ -) escaped where they would
 * mean something. */
void name_put_glob(struct buf *b, const char *prefix, struct slice ns, struct slice pattern);
/* Takes P:{ns}:ch:<topic> apart. ERR_INVALID when it is not of that form, or ns or topic are not
 * valid. */
NODISCARD enum err name_split_channel(struct slice channel, const char *prefix, struct slice *ns,
                                      struct slice *topic);
