/* What is to be published: events on their way in, whichever door they come by. */
#pragma once
#include "common/strings.h"

/* One event to publish: its parts as alternating name and value, ready for FCALL sse_publish (topic
 * first, then data, then the options that were given: event, retry, ephemeral "1", once, priority,
 * key, ttl, match as JSON text). */
struct publication {
    struct strings args; /* NUL-terminated copies; data holds no NUL (dropped), others neither */
};
struct publication_request {
    char *ns;
    struct publication *items;
    size_t count; /* at least 1 */
    bool batch;   /* the body was an array: answer with an array */
};

void publication_request_reset(struct publication_request *r);
