/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/kit/writer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#ifdef SSE_RELAY_IO_URING
#include <liburing.h>
#endif

#include "common/mem.h"
#include "relay/kit/log.h"

enum {
    SEND_FLAGS = MSG_NOSIGNAL | MSG_DONTWAIT,
    RING_LEAST = 4, /* writes for which a ring is worth while */
};

/* In the order in which they are tried. */
enum ring_state { RING_UNTRIED, RING_READY, RING_NONE };

struct writer {
    enum ring_state state;
#ifdef SSE_RELAY_IO_URING
    struct io_uring ring;
    struct msghdr messages[WRITER_BATCH];
#endif
};

struct writer *writer_new(bool io_uring)
{
    struct writer *writer = mem_zero(1, sizeof(*writer));
    writer->state = io_uring ? RING_UNTRIED : RING_NONE;
    return writer;
}

/* --- one by one ------------------------------------------------------------------------------- */

/* send() is for one frame what sendmsg() is for several, and the kernel does it with less. */
static void send_one(struct writer_write *w)
{
    struct msghdr msg = {.msg_iov = w->iov, .msg_iovlen = (size_t)w->count};
    ssize_t n = w->count == 1 ? send(w->fd, w->iov[0].iov_base, w->iov[0].iov_len, SEND_FLAGS)
                              : sendmsg(w->fd, &msg, SEND_FLAGS);
    w->result = n < 0 ? -errno : n;
}

/* --- by io_uring ------------------------------------------------------------------------------ */

#ifdef SSE_RELAY_IO_URING

/* By the thread that will use it, which io_uring holds us to; that is what makes it cheap. Older
 * kernels than 6.1, a seccomp filter or the sysctl kernel.io_uring_disabled refuse it. */
static void ring_open(struct writer *writer)
{
    struct io_uring_params params = {.flags =
                                         IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    int rc = io_uring_queue_init_params(WRITER_BATCH, &writer->ring, &params);
    writer->state = rc ? RING_NONE : RING_READY;
    if (rc)
        log_put(LOG_INFO, "io_uring is not to be had, writing socket by socket", "reason",
                strerror(-rc), NULL);
}

static void ring_put(struct writer *writer, struct writer_write *w, size_t i)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&writer->ring);
    assert(sqe); /* there are as many as writes */
    if (w->count == 1) {
        io_uring_prep_send(sqe, w->fd, w->iov[0].iov_base, w->iov[0].iov_len, SEND_FLAGS);
    } else {
        struct msghdr *msg = &writer->messages[i];
        *msg = (struct msghdr){.msg_iov = w->iov, .msg_iovlen = (size_t)w->count};
        io_uring_prep_sendmsg(sqe, w->fd, msg, SEND_FLAGS);
    }
    io_uring_sqe_set_data64(sqe, i);
}

static size_t ring_take(struct writer *writer, struct writer_write *writes)
{
    struct io_uring_cqe *cqe;
    unsigned head, taken = 0;
    io_uring_for_each_cqe(&writer->ring, head, cqe)
    {
        writes[cqe->user_data].result = cqe->res;
        taken++;
    }
    io_uring_cq_advance(&writer->ring, taken);
    return taken;
}

static void ring_write(struct writer *writer, struct writer_write *writes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ring_put(writer, &writes[i], i);
    for (size_t done = 0; done < count; done += ring_take(writer, writes)) {
        int rc = io_uring_submit_and_wait(&writer->ring, (unsigned)(count - done));
        if (rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY)
            abort(); /* only a ring that is used wrongly says anything else */
    }
}

static void ring_close(struct writer *writer)
{
    if (writer->state == RING_READY)
        io_uring_queue_exit(&writer->ring);
}

#else

static void ring_open(struct writer *writer)
{
    writer->state = RING_NONE;
}

static void ring_write(struct writer *writer, struct writer_write *writes, size_t count)
{
    (void)writer, (void)writes, (void)count;
    abort(); /* there is none */
}

static void ring_close(struct writer *writer)
{
    (void)writer;
}

#endif

/* --- either ----------------------------------------------------------------------------------- */

void writer_write(struct writer *writer, struct writer_write *writes, size_t count)
{
    assert(count <= WRITER_BATCH);
    if (count >= RING_LEAST) {
        if (writer->state == RING_UNTRIED)
            ring_open(writer);
        if (writer->state == RING_READY) {
            ring_write(writer, writes, count);
            return;
        }
    }
    for (size_t i = 0; i < count; i++)
        send_one(&writes[i]);
}

void writer_free(struct writer *writer)
{
    if (!writer)
        return;
    ring_close(writer);
    free(writer);
}
