/* SPDX-License-Identifier: Apache-2.0 */
/* Streams that are read too slowly: N of them, each at BYTES a second, 0: not at all, until a line
 * "LAST" comes on stdin: then all read as fast as they can, until each has got, or was told of, the
 * event that has this number in its topic. Keeps for each what it got and what it was told, and
 * prints the sums. Usage: slow_readers PORT TARGET N BYTES */
#include "common/mem.h"
#include "loop.h"
#include "sse_reader.h"
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    TICK_MS = 100, /* a stream is read ten times a second */
    READ_MAX = 64 << 10,
    RECEIVE_BUFFER = 16 << 10, /* so that what waits does so at the server, which is looked at */
    TIMEOUT_S = 60,            /* in which nothing comes */
};

struct reader {
    int fd; /* -1: ended */
    struct sse_reader sse;
    bool connected;
    uint64_t last_s, last_id;
    uint64_t owed; /* told to be dropped since the last event */
    bool gap;      /* since the last event */
};

static struct {
    struct reader *items;
    size_t count, bytes; /* of a stream and tick */
    uint64_t events, dropped, gaps, in_gaps, wrong_gaps, untold, overtold, repeated, ended;
    char scratch[READ_MAX + SSE_READER_HEAD_MAX + (64 << 10)];
} all;

static void take_event(struct reader *r, const struct sse_event *ev)
{
    if (ev->tag.s <= r->last_s || ev->id <= r->last_id) {
        all.repeated++;
        return;
    }
    uint64_t missing = ev->tag.s - r->last_s - 1;
    if (r->gap)
        all.in_gaps += missing - (missing < r->owed ? missing : r->owed);
    else if (missing > r->owed)
        all.untold += missing - r->owed;
    if (missing < r->owed)
        all.overtold += r->owed - missing;
    all.events++;
    r->last_s = ev->tag.s;
    r->last_id = ev->id;
    r->owed = 0;
    r->gap = false;
}

static void on_event(void *arg, const struct sse_event *ev)
{
    struct reader *r = arg;
    switch (ev->kind) {
    case SSE_EVENT:
        if (ev->has_tag)
            take_event(r, ev);
        break;
    case SSE_CONNECTED:
        r->connected = true;
        break;
    case SSE_GAP:
        all.gaps++;
        all.wrong_gaps += r->last_id && ev->from != r->last_id;
        r->gap = true;
        break;
    case SSE_DROPPED:
        all.dropped += ev->count;
        r->owed += ev->count;
        break;
    case SSE_SHUTDOWN:
        break;
    }
}

static void end(struct reader *r)
{
    close(r->fd);
    r->fd = -1;
    all.ended++;
}

/* Reads at most @bytes; returns whether there was anything. */
static bool read_some(struct reader *r, size_t bytes)
{
    if (r->fd < 0)
        return false;
    size_t kept = sse_reader_kept(&r->sse);
    if (kept + bytes > sizeof all.scratch) {
        end(r);
        return false;
    }
    ssize_t n = recv(r->fd, all.scratch + kept, bytes, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        end(r);
        return false;
    }
    sse_reader_resume(&r->sse, all.scratch);
    sse_reader_take(&r->sse, all.scratch, kept, kept + (size_t)n, on_event, r);
    if (r->sse.phase == SSE_REFUSED || r->sse.phase == SSE_BROKEN)
        end(r);
    return true;
}

static bool open_one(struct reader *r, uint16_t port, const char *target)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
    int size = RECEIVE_BUFFER;
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    r->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (r->fd < 0)
        return false;
    setsockopt(r->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (connect(r->fd, (struct sockaddr *)&sa, sizeof sa) != 0)
        return false;
    return dprintf(r->fd, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", target) > 0;
}

static bool open_all(uint16_t port, const char *target)
{
    uint64_t deadline = loop_now_ns() + TIMEOUT_S * UINT64_C(1000000000);
    for (size_t i = 0; i < all.count; i++) {
        if (!open_one(&all.items[i], port, target)) {
            perror("slow_readers: connect");
            return false;
        }
    }
    for (size_t i = 0; i < all.count;) {
        struct reader *r = &all.items[i];
        if (r->connected)
            i++;
        else if (r->fd < 0 || loop_now_ns() > deadline)
            return false;
        else if (!read_some(r, READ_MAX))
            poll(&(struct pollfd){.fd = r->fd, .events = POLLIN}, 1, TICK_MS);
    }
    return true;
}

static bool stdin_is_ready(int ms)
{
    return poll(&(struct pollfd){.fd = STDIN_FILENO, .events = POLLIN}, 1, ms) > 0;
}

/* Until a line comes: its number. */
static uint64_t read_slowly(void)
{
    unsigned long long last = 0;
    uint64_t tick = TICK_MS * UINT64_C(1000000), due = loop_now_ns() + tick;
    for (;; due += tick) {
        uint64_t now = loop_now_ns();
        if (stdin_is_ready(now < due ? (int)((due - now) / 1000000) : 0))
            return scanf("%llu", &last) == 1 ? last : 0;
        for (size_t i = 0; all.bytes && i < all.count; i++)
            read_some(&all.items[i], all.bytes);
    }
}

static bool has(const struct reader *r, uint64_t last)
{
    return r->fd < 0 || r->last_s + r->owed >= last;
}

/* Returns how many streams did not come to the end. */
static size_t read_on(uint64_t last)
{
    uint64_t deadline = loop_now_ns() + TIMEOUT_S * UINT64_C(1000000000);
    size_t late;
    do {
        bool any = false;
        late = 0;
        for (size_t i = 0; i < all.count; i++) {
            any |= read_some(&all.items[i], READ_MAX);
            late += !has(&all.items[i], last);
        }
        if (any)
            deadline = loop_now_ns() + TIMEOUT_S * UINT64_C(1000000000);
        else
            poll(NULL, 0, 2);
    } while (late && loop_now_ns() < deadline);
    return late;
}

static void print_account(size_t late, uint64_t ns)
{
    printf("{\"streams\":%zu,\"late\":%zu,\"ended\":%llu,\"events\":%llu,\"dropped\":%llu,"
           "\"gaps\":%llu,\"in_gaps\":%llu,\"wrong_gaps\":%llu,\"untold\":%llu,\"overtold\":%llu,"
           "\"repeated\":%llu,\"seconds\":%.3f}\n",
           all.count, late, (unsigned long long)all.ended, (unsigned long long)all.events,
           (unsigned long long)all.dropped, (unsigned long long)all.gaps,
           (unsigned long long)all.in_gaps, (unsigned long long)all.wrong_gaps,
           (unsigned long long)all.untold, (unsigned long long)all.overtold,
           (unsigned long long)all.repeated, (double)ns / 1e9);
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (argc != 5) {
        fprintf(stderr, "Usage: %s PORT TARGET N BYTES\n", argv[0]);
        return 2;
    }
    all.count = strtoul(argv[3], NULL, 10);
    all.bytes = strtoul(argv[4], NULL, 10) * TICK_MS / 1000;
    if (all.bytes > READ_MAX)
        all.bytes = READ_MAX;
    all.items = mem_zero(all.count ? all.count : 1, sizeof *all.items);
    if (!open_all((uint16_t)strtoul(argv[1], NULL, 10), argv[2])) {
        fprintf(stderr, "slow_readers: not all streams were opened\n");
        return EXIT_FAILURE;
    }
    puts("open");
    fflush(stdout);
    uint64_t last = read_slowly(), began = loop_now_ns();
    size_t late = read_on(last);
    print_account(late, loop_now_ns() - began);
    return EXIT_SUCCESS;
}
