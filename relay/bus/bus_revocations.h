/* SPDX-License-Identifier: Apache-2.0 */
/* What was revoked in the namespaces that workers have asked about: listened for, loaded, and told
 * to every worker. A namespace is known from the note with `loaded` on, until one with `forgotten`.
 * After the connection was broken all that are known are loaded again before anything else of the
 * log reaches the workers. Bus thread. */
#pragma once
#include "relay/bus/bus_outbox.h"
#include "relay/bus/bus_spaces.h"

struct bus_revocations;

/* @current: what bus_revocations_begin() waits for has been told. */
struct bus_revocations *bus_revocations_new(const struct bus_base *base, struct bus_outbox *outbox,
                                            struct bus_spaces *spaces, void (*current)(void *arg),
                                            void *arg);
void bus_revocations_free(struct bus_revocations *revocations); /* after the store has gone */

/* A worker needs to know; @note is borrowed. */
void bus_revocations_trust(struct bus_revocations *revocations, const struct note_trust *note);
/* The store is up. @doubt: something may have been missed, so whatever is known is loaded again;
 * then current() is called, perhaps at once. While that is under way it is not begun anew. */
void bus_revocations_begin(struct bus_revocations *revocations, bool doubt);
void bus_revocations_end(struct bus_revocations *revocations); /* the store is down */

/* From the store: names whose subject is STORE_REVOKED. */
void bus_revocations_heard(struct bus_revocations *revocations, struct store_name *name);
void bus_revocations_told(struct bus_revocations *revocations, const struct store_name *name,
                          struct slice text);
/* The settings have changed: hands them over for namespaces that nobody watches here. */
void bus_revocations_open(struct bus_revocations *revocations);
