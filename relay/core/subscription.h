/* What a stream asks for: immutable once made, shared by reference count between a worker's client
 * and the bus. */
#pragma once
#include "relay/http/request.h"

struct subscription;

/* Takes over @request's contents (and leaves it empty). One reference for the caller. */
struct subscription *subscription_new(struct stream_request *request);
struct subscription *subscription_ref(struct subscription *s);
void subscription_unref(struct subscription *s); /* any thread; NULL is fine */

const struct stream_request *subscription_request(const struct subscription *s);
struct slice subscription_ns(const struct subscription *s);
/* Whether one of its topics and patterns matches. */
bool subscription_wants_topic(const struct subscription *s, struct slice topic);
/* Whether it wants events of this type (SLICE_NONE: the event has none). */
bool subscription_wants_type(const struct subscription *s, struct slice type);
