/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "common/sse.h"
#include "lanes_world.h"

enum { PAGE_EVENTS = 3 };

/* Some that are not wanted have another type; the others are for other people. */
static struct event *make_event(struct lanes_world *w, const struct lanes_step *step, uint64_t id)
{
    char data[24];
    bool other_type = !step->wanted && w->count % 2 && !w->schedule->all_types,
         for_others = !step->wanted && !other_type;
    snprintf(data, sizeof(data), "%zu;", w->count);
    struct event_fields fields = {.id = id,
                                  .retry_ms = -1,
                                  .ttl_ms = step->act == ACT_LATE ? 0 : step->ttl,
                                  .has_match = for_others,
                                  .ns = SLICE_LIT("default"),
                                  .topic = {&step->topic, 1},
                                  .type = slice_of(other_type ? "other" : "wanted"),
                                  .data = slice_of(data),
                                  .lane = step->lane,
                                  .has_lane = step->lane != LANE_INSTANT,
                                  .key = {&step->key, 1},
                                  .end = step->ends ? END_DONE : END_NONE};
    return event_new(&fields, w->now_us);
}

static void log_insert(struct lanes_world *w, size_t number)
{
    size_t at = w->logged++;
    while (at > 0 && w->events[w->log[at - 1]].id > w->events[number].id) {
        w->log[at] = w->log[at - 1];
        at--;
    }
    w->log[at] = number;
}

/* Ids are times in microseconds. A late one lies between those of two steps. */
static uint64_t id_of(const struct lanes_world *w, const struct lanes_step *step)
{
    if (step->ephemeral)
        return 0;
    if (step->act != ACT_LATE)
        return w->now_us;
    uint64_t id = w->now_us - step->ttl * LANES_STEP_US - LANES_STEP_US / 2 + w->count;
    return id > LANES_START_US ? id : LANES_START_US + 1 + w->count;
}

struct lanes_event *lanes_make(struct lanes_world *w, const struct lanes_step *step)
{
    uint64_t id = id_of(w, step);
    struct lanes_event *e = &w->events[w->count];
    *e = (struct lanes_event){.event = make_event(w, step, id), .id = id, .step = *step};
    if (step->ttl && step->act != ACT_LATE)
        e->over_us = w->now_us + step->ttl * LANES_STEP_US;
    if (id)
        log_insert(w, w->count);
    w->count++;
    return e;
}

struct lanes_event *lanes_find(struct lanes_world *w, const struct event *ev)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->events[i].event == ev)
            return &w->events[i];
    return NULL;
}

bool lanes_is_over(const struct lanes_world *w, const struct lanes_event *e)
{
    return e->over_us && w->now_us > e->over_us;
}

/* --- reads, as of fanout/stream.c and the bus
 * ---------------------------------------------------*/

void lanes_ask(struct lanes_world *w)
{
    struct client *c = &w->client;
    if (c->state == CLIENT_LIVE || c->state == CLIENT_CLOSING || c->reading || c->rests ||
        !client_has_room(c, &w->limits))
        return;
    client_read_begin(c);
    w->page = (struct lanes_page){.read = false};
}

/* The log as it is now. What is over is not brought, but for what has replaced others; what is not
 * wanted is, and left out there. */
static void read_log(struct lanes_world *w)
{
    struct lanes_page *page = &w->page;
    uint32_t most;
    size_t bytes, sum = 0;
    client_room(&w->client, &w->limits, &most, &bytes);
    most = most < PAGE_EVENTS ? most : PAGE_EVENTS;
    page->read = page->final = true;
    page->cursor = w->client.cursor;
    for (size_t i = 0; i < w->logged; i++) {
        const struct lanes_event *e = &w->events[w->log[i]];
        if (e->id <= w->client.cursor)
            continue;
        sum += event_frame(e->event).len;
        if (page->count && (page->count >= most || sum > bytes)) {
            page->final = false;
            return;
        }
        page->cursor = e->id;
        if (!lanes_is_over(w, e) || e->step.lane == LANE_COALESCED)
            page->events[page->count++] = w->log[i];
    }
}

static void put_connected(struct lanes_world *w)
{
    struct buf frame = {0};
    if (w->config.control_events != CONTROL_ON) {
        client_stand_at(&w->client, w->asked);
        return;
    }
    sse_put_control(&frame, w->asked, w->config.control_prefix, "connected", SLICE_LIT("{}"));
    client_put_control(&w->client, event_new_frame(w->asked, buf_slice(&frame)));
    buf_reset(&frame);
}

static void take_page(struct lanes_world *w)
{
    struct event *events[LANES_STEPS_MAX];
    struct lanes_page *page = &w->page;
    for (size_t i = 0; i < page->count; i++)
        events[i] = w->events[page->events[i]].event;
    if (w->client.state == CLIENT_OPENING)
        put_connected(w);
    client_page(&w->client, &w->limits, events, page->count, page->cursor, page->final);
    lanes_judge_page(w);
    page->read = false;
    lanes_ask(w);
}

void lanes_page(struct lanes_world *w)
{
    do {
        if (!w->client.reading)
            return;
        if (w->page.read)
            take_page(w);
        else
            read_log(w);
    } while (!w->schedule->slow_log);
}
