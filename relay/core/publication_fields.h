/* SPDX-License-Identifier: Apache-2.0 */
/* The law of the fields: what each takes, and how a door sets it. Any thread, no I/O. */
#pragma once
#include "common/json.h"
#include "relay/core/publication.h"

/* What a field holds. */
enum publication_kind {
    KIND_TOPIC,
    KIND_TOPICS,
    KIND_DATA,
    KIND_TEXT,
    KIND_MS,
    KIND_COUNT,
    KIND_FLAG,
    KIND_PRIORITY,
    KIND_MATCH,
};

/* FIELD_COUNT: HTTP has no such field (`once_ttl` is for the doors in Redis only). */
enum publication_field publication_field_find(struct slice name);
const char *publication_field_name(enum publication_field field);
enum publication_kind publication_field_kind(enum publication_field field);
/* Appends what the field takes: "milliseconds from 0 to 86400000". */
void publication_put_expected(enum publication_field field, struct buf *b);
/* Whether the field was set and says something (`ephemeral` and `end` "false" do not). */
bool publication_has(const struct publication *p, enum publication_field field);
/* Whether a field of KIND_TEXT takes the text. */
bool publication_text_valid(enum publication_field field, struct slice text);

/* These fill the publication. On a refusal *why becomes the sentence, which begins with the field's
 * name; what is filled so far is the caller's to reset. ERR_INVALID, also for a field that was set
 * before. */

/* From text. FIELD_TOPIC and FIELD_TOPICS may be set again: each adds one. */
NODISCARD enum err publication_set(struct publication *p, enum publication_field field,
                                   struct slice text, struct buf *why);
/* NUL is dropped. ERR_RANGE: more than @max_bytes. */
NODISCARD enum err publication_set_data(struct publication *p, struct slice data,
                                        uint64_t max_bytes, struct buf *why);
NODISCARD enum err publication_set_match(struct publication *p, const cJSON *match,
                                         struct buf *why);

/* What the configuration allows an event to ask for. */
struct publication_bounds {
    uint64_t log_max;    /* log.max_events_limit */
    uint64_t log_ttl_ms; /* index.ttl */
};

/* The rules about the whole: what is missing, what excludes what, what is too much here. */
NODISCARD enum err publication_check(const struct publication *p,
                                     const struct publication_bounds *bounds, struct buf *why);
