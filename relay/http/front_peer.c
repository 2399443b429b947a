/* SPDX-License-Identifier: Apache-2.0 */
/* Connections: what each is doing, how long it may, and which are closed to make room for others.
 */
#include <stdlib.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/http/front_parts.h"

enum {
    FRESH_GRACE_MS = 3000,    /* a new connection may take this long to make its request, so that
                                 one lost packet is forgiven… */
    ANSWERED_GRACE_MS = 5000, /* …and to take its answer, even when others wait */
};

/* --- connections ----------------------------------------------------------------------------- */

static void others_add(struct front_peer *peer)
{
    TAILQ_INSERT_TAIL(&peer->front->others, peer, other_link);
    peer->front->other_count++;
}

static void others_remove(struct front_peer *peer)
{
    TAILQ_REMOVE(&peer->front->others, peer, other_link);
    peer->front->other_count--;
}

void front_peer_set_state(struct front_peer *peer, enum front_peer_state state)
{
    if (peer->state != PEER_STREAM)
        others_remove(peer);
    peer->state = state;
    peer->since_ms = clock_mono_ms();
    if (state != PEER_STREAM)
        others_add(peer);
}

static struct front_peer *peer_new(struct front *front, struct MHD_Connection *connection)
{
    struct front_peer *peer = mem_zero(1, sizeof(*peer));
    peer->front = front;
    peer->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    peer->state = PEER_FRESH;
    peer->since_ms = clock_mono_ms();
    others_add(peer);
    wheel_set(front->wheel, &peer->deadline, peer->since_ms + HEADER_DEADLINE_MS);
    metrics_add(front->metrics, M_CONNECTIONS, 1);
    return peer;
}

static void peer_free(struct front_peer *peer)
{
    if (peer->state != PEER_STREAM)
        others_remove(peer);
    wheel_cancel(&peer->deadline);
    metrics_sub(peer->front->metrics, M_CONNECTIONS, 1);
    free(peer->target);
    free(peer);
}

void front_peer_on_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
                              enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *socket_context = peer_new(cls, connection);
    } else if (*socket_context) {
        peer_free(*socket_context);
        *socket_context = NULL;
    }
}

/* --- deadlines ------------------------------------------------------------------------------- */

void front_peer_on_deadline(struct wheel_entry *entry, void *arg)
{
    struct front *front = arg;
    struct front_peer *peer = (struct front_peer *)entry;
    if (peer->call && peer->call->suspended) {
        front_hangup_watch(peer->call);
        return;
    }
    bool lingers = peer->call && peer->call->request && peer->call->request->early;
    metrics_add(front->metrics, M_HTTP_TIMEOUTS, !lingers);
    shutdown(peer->fd, SHUT_RDWR); /* libmicrohttpd notices, and closes */
}

/* --- making room ----------------------------------------------------------------------------- */

static bool is_idle(const struct front_peer *peer)
{
    char byte; /* a request that has arrived in between is not cut off */
    return peer->state == PEER_IDLE && recv(peer->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

static bool is_late(const struct front_peer *peer, uint64_t now_ms)
{
    if (peer->state == PEER_FRESH)
        return now_ms - peer->since_ms >= FRESH_GRACE_MS;
    return peer->state == PEER_BUSY && peer->call && peer->call->state == CALL_ANSWERED &&
           now_ms - peer->since_ms >= ANSWERED_GRACE_MS;
}

size_t front_peer_evict(struct front *front)
{
    size_t wanted = front->limits.max_others / 16 + 1, done = 0;
    uint64_t now_ms = clock_mono_ms();
    for (int pass = 0; pass < 2 && done == 0; pass++) {
        struct front_peer *peer;
        TAILQ_FOREACH (peer, &front->others, other_link) {
            if (done == wanted)
                break;
            if (peer->evicted || !(pass ? is_late(peer, now_ms) : is_idle(peer)))
                continue;
            peer->evicted = true;
            shutdown(peer->fd, SHUT_RDWR);
            done++;
        }
    }
    metrics_add(front->metrics, M_HTTP_EVICTED, done);
    front_drive_run_soon(front);
    return done;
}
