/* SPDX-License-Identifier: Apache-2.0 */
/* A worker: a thread with a loop, its HTTP daemon, its clients and its topic index. Nothing of it
 * is touched by other threads but its inbox. */
#pragma once
#include "relay/config/config.h"
#include "relay/core/node.h"

struct auth;
struct worker;

/* Its inbox exists from here on; the bus needs it. */
struct worker *worker_new(unsigned number);
struct inbox *worker_inbox(struct worker *worker);
/* Takes listening sockets over and makes ready; number 0 first. ERR_IO: libmicrohttpd refused;
 * errno says why. */
NODISCARD enum err worker_setup(struct worker *worker, struct node *node, struct config *config,
                                const int *listen_fds, size_t count);
/* Who may what, from the first request on; before worker_run(). Takes the reference over. */
void worker_set_auth(struct worker *worker, struct auth *auth);
/* The thread's body: returns after NOTE_STOP. */
void worker_run(struct worker *worker);
/* After worker_run() has returned, or was never called: ends its calls, which may hold notes of
 * others. All workers are closed before any is freed. */
void worker_close(struct worker *worker);
void worker_free(struct worker *worker);
