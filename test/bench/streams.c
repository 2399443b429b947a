/* SPDX-License-Identifier: Apache-2.0 */
#include "streams.h"
#include "common/mem.h"
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { READ_SIZE = 256 << 10 };

const char *streams_fault_name(enum stream_fault fault)
{
    static const char *const names[FAULT_KINDS] = {
        [FAULT_CONNECT] = "connect", [FAULT_STATUS] = "status", [FAULT_ENDED] = "ended",
        [FAULT_BROKEN] = "broken",   [FAULT_LOST] = "lost",     [FAULT_REPEATED] = "repeated",
        [FAULT_ORDER] = "order",     [FAULT_SIZE] = "size",     [FAULT_ALIEN] = "alien",
        [FAULT_GAP] = "gap",
    };
    return names[fault];
}

__attribute__((format(printf, 4, 5))) static void fault(struct stream *st, enum stream_fault kind,
                                                        uint64_t count, const char *format, ...)
{
    struct streams *s = st->all;
    s->faults[kind] += count;
    if (s->first_fault[0])
        return;
    int len = snprintf(s->first_fault, sizeof s->first_fault, "stream %u: ", st->number);
    va_list args;
    va_start(args, format);
    vsnprintf(s->first_fault + len, sizeof s->first_fault - (size_t)len, format, args);
    va_end(args);
}

/* What the stream would have got, and will be published from now on, does not wait for it. */
static void stop_waiting_for(struct stream *st)
{
    struct ledger *l = st->all->ledger;
    const struct options *o = st->all->options;
    uint32_t *topics = mem_alloc(topics_set_max(&o->topics) * sizeof *topics);
    size_t count = topics_set(&o->topics, st->number, topics);
    for (size_t i = 0; i < count; i++)
        st->all->receivers[topics[i]]--;
    uint64_t first = ledger_first_open(l);
    for (uint64_t g = first > st->last_g ? first : st->last_g + 1; l->open && g <= l->count; g++)
        for (size_t i = 0; i < count; i++)
            if (ledger_get(l, g)->topic == topics[i])
                ledger_receive(l, g);
    free(topics);
}

static void stream_end(struct stream *st)
{
    struct streams *s = st->all;
    if (st->phase == STREAM_CONNECTING || st->phase == STREAM_ASKING)
        s->under_way--;
    if (st->phase == STREAM_READY)
        s->ready--;
    st->phase = STREAM_ENDED;
    loop_close(s->loop, &st->source);
    sse_reader_reset(&st->reader);
    stop_waiting_for(st);
}

static void stream_is_ready(struct stream *st)
{
    struct streams *s = st->all;
    if (st->phase != STREAM_ASKING)
        return;
    st->phase = STREAM_READY;
    s->under_way--;
    s->ready++;
    s->gzip_streams += st->reader.unzip != NULL;
    s->ready_ns = s->now_ns;
    histogram_add(&s->connecting, s->now_ns - st->opened_ns);
}

static void check_caught_up(struct stream *st)
{
    struct streams *s = st->all;
    if (st->caught_up_ns || st->phase != STREAM_READY || st->count < st->to_catch)
        return;
    st->caught_up_ns = s->now_ns;
    s->caught_up++;
    s->caught_up_ns = s->now_ns;
    histogram_add(&s->catching, s->now_ns - st->opened_ns);
}

static void check_order(struct stream *st, const struct sse_event *ev)
{
    uint64_t order = st->all->options->order;
    unsigned long long g = ev->tag.g, last = st->last_g;
    if (order == ORDER_STRICT && g == last)
        fault(st, FAULT_REPEATED, 1, "event %llu twice", g);
    else if (order == ORDER_STRICT && g < last)
        fault(st, FAULT_ORDER, 1, "event %llu after %llu", g, last);
    if (order == ORDER_ID && ev->id <= st->last_id)
        fault(st, FAULT_ORDER, 1, "id %llu after %llu", (unsigned long long)ev->id,
              (unsigned long long)st->last_id);
}

static void take_tagged(struct stream *st, const struct sse_event *ev)
{
    struct streams *s = st->all;
    const struct tag *tag = &ev->tag;
    const struct ledger_event *known = ledger_get(s->ledger, tag->g);
    if (!known || known->topic != tag->topic) {
        fault(st, FAULT_ALIEN, 1, "event %llu was never published", (unsigned long long)tag->g);
        return;
    }
    check_order(st, ev);
    /* What was published before the client was live is no matter of latency. */
    if ((known->flags & LEDGER_MEASURED) && st->caught_up_ns && known->at_ns >= st->caught_up_ns)
        histogram_add(&s->latency, s->now_ns > known->at_ns ? s->now_ns - known->at_ns : 0);
    /* A tag may be longer than --size; its length is then as good a check. */
    if (ev->data_len < s->options->size)
        fault(st, FAULT_SIZE, 1, "event %llu has %zu bytes", (unsigned long long)tag->g,
              ev->data_len);
    st->last_g = tag->g > st->last_g ? tag->g : st->last_g;
    st->last_id = ev->id;
    st->count++;
    st->hash += tag_hash(tag->g);
    s->deliveries++;
    ledger_receive(s->ledger, tag->g);
}

static void on_event(void *arg, const struct sse_event *ev)
{
    struct stream *st = arg;
    stream_is_ready(st);
    if (ev->kind == SSE_GAP || ev->kind == SSE_DROPPED)
        fault(st, FAULT_GAP, 1, "the server announced a gap");
    if (ev->has_tag && ev->tag.run == st->all->ledger->run)
        take_tagged(st, ev);
    check_caught_up(st);
}

static void make_room(struct streams *s, size_t kept)
{
    if (kept + READ_SIZE > s->scratch_size) {
        s->scratch_size = kept + READ_SIZE;
        s->scratch = mem_resize(s->scratch, s->scratch_size);
    }
}

static void stream_read(struct stream *st)
{
    struct streams *s = st->all;
    make_room(s, sse_reader_kept(&st->reader));
    size_t kept = sse_reader_resume(&st->reader, s->scratch);
    ssize_t n = recv(st->source.fd, s->scratch + kept, READ_SIZE, MSG_DONTWAIT);
    s->now_ns = loop_now_ns();
    bool ended = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
    if (ended)
        fault(st, FAULT_ENDED, 1, "%s", n ? strerror(errno) : "ended by the server");
    s->bytes += n > 0 ? (size_t)n : 0;
    s->plain_bytes += sse_reader_take(&st->reader, s->scratch, kept, kept + (size_t)(n > 0 ? n : 0),
                                      on_event, st);
    if (st->reader.phase == SSE_REFUSED)
        fault(st, FAULT_STATUS, 1, "status %u", st->reader.status);
    else if (st->reader.phase == SSE_BROKEN)
        fault(st, FAULT_BROKEN, 1, "%s", st->reader.error);
    else if (st->reader.phase == SSE_BODY && s->options->ready == READY_HEAD)
        stream_is_ready(st);
    check_caught_up(st);
    if (ended || st->reader.phase == SSE_REFUSED || st->reader.phase == SSE_BROKEN)
        stream_end(st);
}

static void put_request(struct stream *st, struct buf *out)
{
    const struct options *o = st->all->options;
    buf_puts(out, "GET ");
    topics_put_target(&o->topics, o->path, st->number, out);
    buf_printf(out, " HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n", o->host);
    const struct ledger_event *last = ledger_get(st->all->ledger, st->after);
    if (last)
        buf_printf(out, "Last-Event-ID: %llu\r\n", (unsigned long long)last->id);
    if (o->gzip)
        buf_puts(out, "Accept-Encoding: gzip\r\n");
    tokens_put(&o->tokens, st->number, out);
    for (uint32_t i = 0; i < o->headers.count; i++)
        buf_printf(out, "%s\r\n", o->headers.items[i]);
    buf_puts(out, "\r\n");
}

static void stream_ask(struct stream *st)
{
    int error = 0;
    socklen_t len = sizeof error;
    getsockopt(st->source.fd, SOL_SOCKET, SO_ERROR, &error, &len);
    struct buf request = {0};
    put_request(st, &request);
    if (error == 0 && send(st->source.fd, request.ptr, request.len, MSG_NOSIGNAL | MSG_DONTWAIT) !=
                          (ssize_t)request.len)
        error = errno ? errno : EMSGSIZE;
    buf_reset(&request);
    if (error) {
        fault(st, FAULT_CONNECT, 1, "connect: %s", strerror(error));
        stream_end(st);
        return;
    }
    st->phase = STREAM_ASKING;
    loop_change(st->all->loop, &st->source, EPOLLIN);
}

static void stream_on_io(struct source *source, uint32_t events)
{
    struct stream *st = (struct stream *)source;
    (void)events;
    if (st->phase == STREAM_CONNECTING)
        stream_ask(st);
    else
        stream_read(st);
}

/* Returns the file, or -1 with errno. */
static int dial(const struct options *o, uint32_t number)
{
    const struct address *to = &o->targets.items[number % o->targets.count];
    int on = 1;
    int fd = socket(to->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (o->sources.count) {
        /* The port is chosen at connect(), so that each pair of addresses has all of them. */
        const struct address *from =
            &o->sources.items[number / o->targets.count % o->sources.count];
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(fd, (const struct sockaddr *)&from->sa, from->len) != 0)
            goto failed;
    }
    if (connect(fd, (const struct sockaddr *)&to->sa, to->len) == 0 || errno == EINPROGRESS)
        return fd;
failed:
    on = errno;
    close(fd);
    errno = on;
    return -1;
}

static void stream_open(struct stream *st)
{
    struct streams *s = st->all;
    s->opened++;
    s->under_way++;
    st->phase = STREAM_CONNECTING;
    st->opened_ns = loop_now_ns();
    st->source.fd = dial(s->options, st->number);
    if (st->source.fd < 0) {
        fault(st, FAULT_CONNECT, 1, "connect: %s", strerror(errno));
        stream_end(st);
        return;
    }
    loop_add(s->loop, &st->source, EPOLLIN | EPOLLOUT);
}

/* How many are to be open by @now_ns. */
static uint64_t due(const struct streams *s, uint64_t now_ns)
{
    uint64_t over_ns = s->options->over_ms * 1000000, all = s->options->clients;
    if (over_ns == 0 || now_ns - s->start_ns >= over_ns)
        return all;
    return (uint64_t)((double)all * (double)(now_ns - s->start_ns) / (double)over_ns) + 1;
}

void streams_open(struct streams *s, uint64_t now_ns)
{
    if (s->start_ns == 0)
        s->start_ns = now_ns;
    uint64_t wanted = due(s, now_ns);
    /* Not all at once: those that are connected want to be served meanwhile. */
    for (unsigned turn = 0; turn < 64 && s->opened < wanted && s->opened < s->options->clients &&
                            s->under_way < s->options->concurrency;
         turn++)
        stream_open(&s->items[s->opened]);
}

uint64_t streams_wake_ns(const struct streams *s)
{
    if (s->opened == s->options->clients || s->under_way >= s->options->concurrency)
        return UINT64_MAX;
    uint64_t over_ns = s->options->over_ms * 1000000;
    return s->start_ns +
           (uint64_t)((double)over_ns * (double)s->opened / (double)s->options->clients);
}

bool streams_settled(const struct streams *s)
{
    return s->opened == s->options->clients && s->under_way == 0;
}

uint64_t streams_failed(const struct streams *s)
{
    return s->opened - s->under_way - s->ready;
}

static uint32_t *count_receivers(const struct options *o)
{
    uint32_t *receivers = mem_zero(o->topics.count, sizeof *receivers);
    uint32_t *topics = mem_alloc(topics_set_max(&o->topics) * sizeof *topics);
    for (uint32_t i = 0; i < o->clients; i++) {
        size_t count = topics_set(&o->topics, i, topics);
        for (size_t k = 0; k < count; k++)
            receivers[topics[k]]++;
    }
    free(topics);
    return receivers;
}

void streams_init(struct streams *s, struct loop *loop, const struct options *o,
                  struct ledger *ledger)
{
    *s = (struct streams){.loop = loop, .options = o, .ledger = ledger};
    s->items = mem_zero(o->clients + 1, sizeof *s->items);
    s->receivers = count_receivers(o);
    for (uint32_t i = 0; i < o->clients; i++) {
        s->items[i].source = (struct source){.fd = -1, .ready = stream_on_io};
        s->items[i].all = s;
        s->items[i].number = i;
    }
}

void streams_reset(struct streams *s)
{
    for (uint64_t i = 0; s->items && i < s->options->clients; i++) {
        loop_close(s->loop, &s->items[i].source);
        sse_reader_reset(&s->items[i].reader);
    }
    free(s->items);
    free(s->scratch);
    free(s->receivers);
    s->receivers = NULL;
    s->items = NULL;
    s->scratch = NULL;
}

static void verify_stream(struct stream *st, const struct ledger_index *index, uint32_t *topics)
{
    const struct options *o = st->all->options;
    size_t count = topics_set(&o->topics, st->number, topics);
    struct ledger_sum sum =
        ledger_index_sum(index, topics, count, st->after, st->all->ledger->count);
    if (st->count < sum.count)
        fault(st, FAULT_LOST, sum.count - st->count, "%llu events did not come",
              (unsigned long long)(sum.count - st->count));
    else if (st->count > sum.count)
        fault(st, FAULT_REPEATED, st->count - sum.count, "%llu events too many",
              (unsigned long long)(st->count - sum.count));
    else if (st->hash != sum.hash)
        fault(st, FAULT_ALIEN, 1, "other events than were published for it");
}

void streams_verify(struct streams *s)
{
    const struct options *o = s->options;
    struct ledger_index *index = ledger_index_new(s->ledger, o->topics.count);
    uint32_t *topics = mem_alloc(topics_set_max(&o->topics) * sizeof *topics);
    for (uint64_t i = 0; i < o->clients; i++)
        if (s->items[i].phase == STREAM_READY)
            verify_stream(&s->items[i], index, topics);
    free(topics);
    ledger_index_free(index);
}
