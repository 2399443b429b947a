/* SPDX-License-Identifier: Apache-2.0 */
/* What compressed streams of a worker share (common/gzip.h), while there are any. */
#include "relay/fanout/stream_parts.h"

struct gzip *stream_gzip_join(struct stream_shared *shared)
{
    if (!shared->gzip)
        shared->gzip = gzip_new();
    shared->gzip_streams++;
    metrics_add(shared->metrics, M_CLIENTS_GZIP, 1);
    return shared->gzip;
}

void stream_gzip_leave(struct stream *s)
{
    struct stream_shared *shared = s->shared;
    if (!s->client.out.gzip)
        return;
    metrics_sub(shared->metrics, M_CLIENTS_GZIP, 1);
    if (--shared->gzip_streams > 0)
        return;
    gzip_free(shared->gzip);
    shared->gzip = NULL;
}

void stream_gzip_account(struct stream_shared *shared)
{
    struct gzip_counts counts = gzip_take_counts(shared->gzip);
    if (!counts.frames)
        return;
    metrics_add(shared->metrics, M_GZIP_FRAMES, counts.frames);
    metrics_add(shared->metrics, M_GZIP_PLAIN_BYTES, counts.plain_bytes);
    metrics_add(shared->metrics, M_GZIP_PACKED_BYTES, counts.packed_bytes);
}
