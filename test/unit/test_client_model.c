/* SPDX-License-Identifier: Apache-2.0 */
/* A publisher, a log that keeps all, a bus that answers when it likes, a socket that drains when it
 * likes, a client that resumes when it is dropped: it has seen all that is for it once, in order.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "client_rig.h"
#include "common/mem.h"
#include "grant_rig.h"
#include "rng.h"
#include "test/unit/tests_run.h"

enum { MODEL_EVENTS = 400, MODEL_INBOX = 4096 };

enum parcel_kind { PARCEL_EVENT, PARCEL_PAGE };

/* What is on its way from the bus to the worker, in order. */
struct parcel {
    enum parcel_kind kind;
    struct event *event;
    struct event *events[64];
    size_t count;
    uint64_t cursor;
    bool final;
};

struct model {
    struct rng rng;
    struct client client;
    const char *type;    /* the only one wanted; NULL: all */
    struct grant *grant; /* user 1 of org a and b; NULL: none */
    struct client_limits limits;
    struct event *log[MODEL_EVENTS];
    bool wanted[MODEL_EVENTS];
    size_t published;
    uint64_t ids, ephemerals;
    struct parcel *inbox;
    size_t first, last;
    bool asked; /* the bus has been asked for a page */
    uint64_t ask_cursor;
    uint32_t ask_events;
    size_t ask_bytes;
    struct buf wire; /* of all connections so far */
    unsigned connections;
};

static void model_ask(struct model *m)
{
    m->asked = true;
    m->ask_cursor = m->client.cursor;
    client_room(&m->client, &m->limits, &m->ask_events, &m->ask_bytes);
    client_read_begin(&m->client);
}

/* What the client at the other end has seen whole, as its Last-Event-ID; cuts off what is not. */
static uint64_t model_last_id(struct model *m)
{
    uint64_t last = 0;
    size_t whole = 0;
    for (size_t i = 1; i < m->wire.len; i++)
        if (m->wire.ptr[i] == '\n' && m->wire.ptr[i - 1] == '\n')
            whole = i + 1;
    m->wire.len = whole;
    for (size_t i = 0; i + 4 < whole; i++)
        if ((i == 0 || m->wire.ptr[i - 1] == '\n') && memcmp(m->wire.ptr + i, "id: ", 4) == 0)
            last = strtoull(m->wire.ptr + i + 4, NULL, 10);
    return last;
}

static void model_reconnect(struct model *m)
{
    uint64_t last = model_last_id(m);
    client_reset(&m->client);
    client_start_with(&m->client, m->type, m->grant);
    m->client.cursor = last;
    m->connections++;
    /* Pages that are on their way belong to the old stream. */
    for (size_t i = m->first; i < m->last; i++) {
        struct parcel *p = &m->inbox[i];
        for (size_t j = 0; p->kind == PARCEL_PAGE && j < p->count; j++)
            event_unref(p->events[j]);
        if (p->kind == PARCEL_PAGE)
            p->count = SIZE_MAX;
    }
    model_ask(m);
}

/* What events are for: NULL is everybody, the first two a client with the grant. */
static const char *const matches[] = {"{\"user\":\"1\"}",  "{\"org\":\"b\",\"user\":\"1\"}",
                                      "{\"user\":\"2\"}",  "{\"user\":\"1\",\"org\":\"c\"}",
                                      "{\"other\":\"1\"}", "{\"user\":[\"1\"]}"};

static void model_publish(struct model *m)
{
    size_t kind = rng_below(&m->rng, 10), whose = rng_below(&m->rng, 12);
    const char *match = whose < 6 ? matches[whose] : NULL;
    bool is_for_it = !match || (m->grant && whose < 2);
    char data[128];
    if (m->published == MODEL_EVENTS)
        return;
    m->wanted[m->published] = is_for_it && (kind < 7 || !m->type);
    uint64_t id = kind == 9 ? 0 : (m->ids += 1 + rng_below(&m->rng, 5));
    if (id == 0)
        snprintf(data, sizeof(data), "%c%llu", is_for_it ? 'e' : '!',
                 (unsigned long long)++m->ephemerals);
    else
        snprintf(data, sizeof(data), "%.*s", (int)rng_below(&m->rng, 90),
                 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                 "xxxxxxxxx");
    struct event *ev = event_make_for(id, kind < 7 || kind == 9 ? "tick" : "tock", data, match);
    m->log[m->published++] = ev;
    m->inbox[m->last++] = (struct parcel){.kind = PARCEL_EVENT, .event = ev};
}

/* The bus reads the log as it is now: pages end where the room ends, sometimes before. */
static void model_serve(struct model *m)
{
    if (!m->asked)
        return;
    m->asked = false;
    struct parcel *p = &m->inbox[m->last++];
    *p = (struct parcel){.kind = PARCEL_PAGE, .cursor = m->ask_cursor, .final = true};
    size_t bytes = 0, most = rng_below(&m->rng, 3) ? 64 : 1 + rng_below(&m->rng, 4);
    for (size_t i = 0; i < m->published; i++) {
        struct event *ev = m->log[i];
        if (event_id(ev) <= m->ask_cursor)
            continue;
        bytes += event_frame(ev).len;
        if (p->count && (p->count >= m->ask_events || p->count >= most || bytes > m->ask_bytes)) {
            p->final = false;
            return;
        }
        p->events[p->count++] = event_ref(ev);
        p->cursor = event_id(ev);
    }
}

static void model_take(struct model *m)
{
    if (m->first == m->last)
        return;
    struct parcel *p = &m->inbox[m->first++];
    if (p->kind == PARCEL_EVENT) {
        if (client_push(&m->client, &m->limits, p->event) == CLIENT_FULL) {
            client_close(&m->client, false);
            struct buf rest = {0};
            client_drain(&m->client, &rest, 1000);
            buf_put_slice(&m->wire, buf_slice(&rest));
            buf_reset(&rest);
            model_reconnect(m);
        }
    } else if (p->count != SIZE_MAX) {
        ck_assert_uint_le(m->client.out.queue.ring.count + p->count, m->limits.max_events + 1);
        client_page(&m->client, &m->limits, p->events, p->count, p->cursor, p->final);
        for (size_t i = 0; i < p->count; i++)
            event_unref(p->events[i]);
    }
    ck_assert_uint_le(m->client.out.queue.ring.count, m->limits.max_events + 1);
    ck_assert_uint_le(m->client.held.ring.count, m->limits.max_events);
}

static void model_send(struct model *m)
{
    struct iovec iov[4];
    client_settle(&m->client, &m->limits);
    int count = outbox_frames(&m->client.out, iov, 4, 200);
    size_t offered = 0, sent = 0;
    for (int i = 0; i < count; i++)
        offered += iov[i].iov_len;
    size_t taken = rng_below(&m->rng, 3) ? offered : rng_below(&m->rng, offered + 1);
    for (int i = 0; i < count && sent < taken; i++) {
        size_t n = iov[i].iov_len < taken - sent ? iov[i].iov_len : taken - sent;
        buf_put(&m->wire, iov[i].iov_base, n);
        sent += n;
    }
    outbox_sent(&m->client.out, taken);
    if (m->client.state == CLIENT_REPLAY && !m->client.reading &&
        m->client.out.queue.ring.count < 2)
        model_ask(m);
}

/* All wanted events with an id, in order, once; those without at most once, in order; nothing of
 * what is for others. */
static void model_check(struct model *m)
{
    size_t next = 0;
    uint64_t last_ephemeral = 0;
    buf_putc(&m->wire, '\0');
    for (char *line = strtok(m->wire.ptr, "\n"); line; line = strtok(NULL, "\n")) {
        ck_assert_int_ne(strncmp(line, "data: !", 7), 0);
        if (strncmp(line, "data: e", 7) == 0) {
            uint64_t n = strtoull(line + 7, NULL, 10);
            ck_assert_uint_gt(n, last_ephemeral);
            last_ephemeral = n;
        }
        if (strncmp(line, "id: ", 4) != 0)
            continue;
        while (next < m->published && (!m->wanted[next] || !event_id(m->log[next])))
            next++;
        ck_assert_uint_lt(next, m->published);
        ck_assert_uint_eq(strtoull(line + 4, NULL, 10), event_id(m->log[next]));
        next++;
    }
    for (; next < m->published; next++)
        ck_assert(!m->wanted[next] || !event_id(m->log[next]));
}

static void model_run(struct rng rng)
{
    struct model m = {.rng = rng};
    m.limits = (struct client_limits){.max_events = (uint32_t)(2 + rng_below(&m.rng, 8)),
                                      .max_bytes = 100 + rng_below(&m.rng, 800),
                                      .slow = SLOW_DISCONNECT,
                                      .teller = {.control = CONTROL_OFF}};
    m.inbox = mem_zero(MODEL_INBOX, sizeof(*m.inbox));
    size_t pace = 1 + rng_below(&m.rng, 6);
    m.type = rng_below(&m.rng, 2) ? "tick" : NULL;
    m.grant = rng_below(&m.rng, 3) ? grant_of("user", "1", "org", "a", "org", "b", NULL) : NULL;
    client_start_with(&m.client, m.type, m.grant);
    model_ask(&m);
    while (m.published < MODEL_EVENTS || m.first < m.last || m.asked ||
           outbox_has_output(&m.client.out) || m.client.state != CLIENT_LIVE) {
        ck_assert_uint_lt(m.last, MODEL_INBOX - 2);
        size_t turn = rng_below(&m.rng, 4 + pace);
        if (turn == 0)
            model_publish(&m);
        else if (turn == 1)
            model_serve(&m);
        else if (turn < 4)
            model_take(&m);
        else
            model_send(&m);
    }
    model_check(&m);
    client_reset(&m.client);
    grant_unref(m.grant);
    for (size_t i = 0; i < m.published; i++)
        event_unref(m.log[i]);
    buf_reset(&m.wire);
    free(m.inbox);
}

START_TEST(test_model_nothing_is_lost_and_nothing_comes_twice)
{
    struct rng rng = rng_seeded("client model");
    for (int run = 0; run < 200; run++) {
        model_run(rng);
        rng_next(&rng);
    }
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("client_model");
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, test_model_nothing_is_lost_and_nothing_comes_twice);
    return tests_run(cases);
}
