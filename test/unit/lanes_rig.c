/* SPDX-License-Identifier: Apache-2.0 */
#include "lanes_rig.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/sse.h"
#include "lanes_world.h"

enum { FRAMES_PER_WRITE = 16, RESTS_MAX = 400 };

void lanes_violated(struct lanes_world *w, const char *format, ...)
{
    va_list args;
    if (w->result.violation[0])
        return;
    va_start(args, format);
    vsnprintf(w->result.violation, sizeof(w->result.violation), format, args);
    va_end(args);
}

/* --- connections
 * --------------------------------------------------------------------------------*/

static struct subscription *subscribe(const struct lanes_schedule *s)
{
    struct subscription_request request = {.ns = mem_dup("default", 7),
                                           .flow = {.has_slow = true,
                                                    .slow = s->policy,
                                                    .buffer = s->max_events,
                                                    .no_controls = s->control != CONTROL_ON}};
    request.topics.items = mem_zero(2, sizeof(char *));
    request.topics.items[request.topics.count++] = mem_dup("A", 1);
    request.topics.items[request.topics.count++] = mem_dup("B", 1);
    if (s->all_types)
        return subscription_new(&request);
    request.types.items = mem_zero(1, sizeof(char *));
    request.types.items[request.types.count++] = mem_dup("wanted", 6);
    return subscription_new(&request);
}

static void connect_client(struct lanes_world *w)
{
    struct outbox_form form = {.chunked = w->schedule->chunked};
    struct subscription *sub = subscribe(w->schedule);
    client_init(&w->client, sub, &form);
    subscription_unref(sub);
    w->client.cursor = w->asked = w->last_id;
    w->connected = true;
    w->wire.len = w->arrived = w->frames = 0;
    w->block_id = w->event_id = 0;
    lanes_reader_begin(&w->reader, w->schedule->chunked);
    w->result.connections++;
    lanes_ask(w);
    lanes_page(w);
}

static void cut(struct lanes_world *w)
{
    if (!w->connected)
        return;
    client_reset(&w->client);
    w->connected = false;
}

/* What the socket has taken arrives, up to @until. */
static void land(struct lanes_world *w, size_t until)
{
    while (w->connected && w->arrived < until && w->arrived < w->wire.len) {
        if (lanes_reader_take(&w->reader, w->wire.ptr[w->arrived++])) {
            w->result.blocks++;
            lanes_judge_block(w, &w->reader.block);
        }
        if (w->reader.broken)
            lanes_violated(w, "broken: after %zu bytes of a connection", w->arrived);
        if (++w->result.arrived == w->cut_at)
            cut(w);
    }
}

/* --- the socket, as in fanout/stream.c
 * ----------------------------------------------------------*/

/* What has to be done first where not all is plain. */
static void prepare(struct lanes_world *w)
{
    struct outbox *out = &w->client.out;
    struct event_clock now = {w->now_us, w->now_us};
    if (!out->has_ttl && !out->has_hole)
        return;
    client_settle(&w->client, &w->limits);
    outbox_expire(out, &now, FRAMES_PER_WRITE);
}

/* The first byte of @ev goes now. */
static void judge_begun(struct lanes_world *w, const struct event *ev)
{
    const struct lanes_event *e = lanes_find(w, ev);
    if (e && lanes_is_over(w, e))
        lanes_violated(w, "over: event %zu is begun after its ttl", (size_t)(e - w->events));
}

static size_t write_frames(struct lanes_world *w, uint32_t frames, size_t bytes)
{
    struct iovec iov[FRAMES_PER_WRITE];
    struct outbox *out = &w->client.out;
    int most = frames < FRAMES_PER_WRITE ? (int)frames : FRAMES_PER_WRITE;
    prepare(w);
    if (!outbox_has_output(out))
        return 0;
    int count = outbox_frames(out, iov, most, 2000);
    size_t taken = 0;
    for (int i = 0; i < count && taken < bytes; i++) {
        size_t n = iov[i].iov_len < bytes - taken ? iov[i].iov_len : bytes - taken;
        if ((uint32_t)i < out->queue.ring.count && (i || !out->head_sent))
            judge_begun(w, frame_queue_at(&out->queue, (uint32_t)i));
        buf_put(&w->wire, iov[i].iov_base, n);
        taken += n;
        if (n == iov[i].iov_len && w->frames < LANES_FRAMES_MAX)
            w->ends[w->frames++] = w->wire.len;
    }
    outbox_sent(out, taken);
    outbox_moves(out);
    return taken;
}

static void hang_up(struct lanes_world *w)
{
    land(w, SIZE_MAX);
    cut(w);
}

static void settle(struct lanes_world *w)
{
    struct client *c = &w->client;
    if (c->out.is_due && !c->out.queue.ring.count)
        client_commit(c);
    if (c->state == CLIENT_CLOSING && !outbox_has_output(&c->out)) {
        hang_up(w);
        return;
    }
    lanes_ask(w);
    if (!w->schedule->slow_log)
        lanes_page(w);
}

static void take_blocks(struct lanes_world *w, uint32_t count)
{
    write_frames(w, count, SIZE_MAX);
    settle(w);
}

static void take_bytes(struct lanes_world *w, size_t bytes)
{
    for (size_t taken; bytes && w->connected; bytes -= taken) {
        taken = write_frames(w, FRAMES_PER_WRITE, bytes);
        settle(w);
        if (!taken)
            return;
    }
}

static void arrive(struct lanes_world *w, uint32_t blocks)
{
    size_t i = 0;
    while (i < w->frames && w->ends[i] <= w->arrived)
        i++;
    size_t last = i + blocks - 1;
    land(w, last < w->frames ? w->ends[last] : w->wire.len);
}

/* --- the steps
 * ----------------------------------------------------------------------------------*/

static void pushed(struct lanes_world *w, enum client_push result)
{
    switch (result) {
    case CLIENT_FULL:
        client_close(&w->client, false);
        settle(w);
        return;
    case CLIENT_BEHIND:
    case CLIENT_WOKEN:
        settle(w);
        return;
    case CLIENT_QUEUED:
    case CLIENT_PENDING:
    case CLIENT_FLUSHED:
    case CLIENT_HELD:
    case CLIENT_SKIPPED:
    case CLIENT_DROPPED:
        return;
    }
}

/* Nothing follows the event that ends a topic. */
static bool has_ended(const struct lanes_world *w, const struct lanes_step *step)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->events[i].step.ends && w->events[i].step.topic == step->topic)
            return true;
    return false;
}

static void publish(struct lanes_world *w, const struct lanes_step *step)
{
    if (has_ended(w, step) && !step->ephemeral)
        return;
    struct lanes_event *e = lanes_make(w, step);
    if (w->connected && w->client.state != CLIENT_CLOSING)
        pushed(w, client_push(&w->client, &w->limits, e->event));
}

/* It turns up after later ones. Whoever has had one of those cannot have it any more, which a gap
 * would tell; whoever reads the log has it from there, or the bus reads once more. */
static void publish_late(struct lanes_world *w, const struct lanes_step *step)
{
    if (has_ended(w, step))
        return;
    struct lanes_event *e = lanes_make(w, step);
    struct client *c = &w->client;
    if (!w->connected || c->state == CLIENT_CLOSING) {
        e->excused = e->id <= w->last_id || w->connected;
    } else if (c->reading) {
        e->excused = w->page.read || e->id <= c->cursor;
    } else if (c->cursor < e->id) {
        pushed(w, client_push(c, &w->limits, e->event));
    } else {
        enum client_push result = client_push_late(c, &w->limits, e->event);
        e->excused = result == CLIENT_SKIPPED;
        pushed(w, result);
    }
}

static void tick(struct lanes_world *w)
{
    struct client *c = &w->client;
    if (!c->out.waits || c->is_paused)
        return;
    if (c->out.queue.ring.count)
        c->out.is_due = true;
    else
        client_commit(c);
}

static void resume(struct lanes_world *w)
{
    struct client *c = &w->client;
    if (!c->is_paused)
        return;
    (void)client_resume(c);
    c->out.is_due |= c->out.waits;
    settle(w);
}

static void beat(struct lanes_world *w)
{
    struct client *c = &w->client;
    if (outbox_has_output(&c->out) || c->state == CLIENT_CLOSING)
        return;
    if (w->config.control_events != CONTROL_OFF && c->state == CLIENT_LIVE &&
        (c->out.told < client_position(c) || c->out.owes_id))
        client_put_position(c);
    else
        client_put_control(c, event_new_frame(0, SLICE_LIT(":\n")));
}

/* A control event; with an id only where it is live, as then it is complete up to now. */
static void put_control(struct lanes_world *w, bool has_id)
{
    struct buf frame = {0};
    struct client *c = &w->client;
    uint64_t id = has_id ? w->now_us : 0;
    bool told = w->config.control_events == CONTROL_ON;
    if (c->state == CLIENT_OPENING || c->state == CLIENT_CLOSING || (!has_id && !told) ||
        (has_id && (c->state != CLIENT_LIVE || c->reading)))
        return;
    if (told)
        sse_put_control(&frame, id, w->config.control_prefix, "note", SLICE_LIT("{}"));
    client_put_control(c, event_new_frame(id, buf_slice(&frame)));
    buf_reset(&frame);
}

static void relieve(struct lanes_world *w, uint32_t steps)
{
    uint32_t gone;
    uint64_t before_us = w->now_us - steps * LANES_STEP_US + 1;
    pushed(w, client_relieve(&w->client, &w->limits, before_us, &gone));
}

static void end_cleanly(struct lanes_world *w)
{
    client_close(&w->client, true);
    while (w->connected && outbox_has_output(&w->client.out))
        take_blocks(w, FRAMES_PER_WRITE);
    if (w->connected)
        hang_up(w);
}

static void step_client(struct lanes_world *w, const struct lanes_step *step)
{
    switch (step->act) {
    case ACT_WRITE:
        take_blocks(w, step->n);
        return;
    case ACT_TAKE:
        take_bytes(w, step->n);
        return;
    case ACT_ARRIVE:
        arrive(w, step->n);
        return;
    case ACT_LAND:
        land(w, w->arrived + step->n);
        return;
    case ACT_TICK:
        tick(w);
        return;
    case ACT_BEAT:
        beat(w);
        return;
    case ACT_PAGE:
        lanes_page(w);
        return;
    case ACT_NOTE:
    case ACT_GAP:
        put_control(w, step->act == ACT_GAP);
        return;
    case ACT_RELIEVE:
        relieve(w, step->n);
        return;
    case ACT_PAUSE:
        client_pause(&w->client);
        return;
    case ACT_RESUME:
        resume(w);
        return;
    case ACT_CUT:
        cut(w);
        return;
    case ACT_END:
        end_cleanly(w);
        return;
    case ACT_PUB:
    case ACT_LATE:
    case ACT_CONNECT:
    case ACT_COUNT:
        return;
    }
}

static void take_step(struct lanes_world *w, const struct lanes_step *step)
{
    w->now_us += LANES_STEP_US;
    if (step->act == ACT_PUB)
        publish(w, step);
    else if (step->act == ACT_LATE)
        publish_late(w, step);
    else if (w->connected)
        step_client(w, step);
    else if (step->act == ACT_CONNECT)
        connect_client(w);
    if (w->connected)
        lanes_judge_state(w);
}

static bool is_at_rest(const struct lanes_world *w)
{
    const struct client *c = &w->client;
    return w->connected && c->state == CLIENT_LIVE && !outbox_has_output(&c->out) &&
           !c->out.waits && w->arrived == w->wire.len;
}

static void rest(struct lanes_world *w)
{
    for (int i = 0; i < RESTS_MAX; i++) {
        if (!w->connected)
            connect_client(w);
        resume(w);
        lanes_page(w);
        take_blocks(w, 2);
        land(w, SIZE_MAX);
        if (w->connected)
            tick(w);
        if (!is_at_rest(w))
            continue;
        beat(w);
        take_blocks(w, 1);
        land(w, SIZE_MAX);
        if (w->connected) /* else that was the last byte before a cut */
            return;
    }
    lanes_violated(w, "rest: it never comes to rest");
}

static struct event_clock now_of(void *arg)
{
    const struct lanes_world *w = arg;
    return (struct event_clock){w->now_us, w->now_us};
}

static void begin(struct lanes_world *w, const struct lanes_schedule *s, size_t cut_at)
{
    static char prefix[] = "relay.";
    w->schedule = s;
    w->cut_at = cut_at;
    w->now_us = w->last_id = LANES_START_US;
    w->config = (struct config){.control_prefix = prefix, .control_events = s->control};
    w->limits = (struct client_limits){.max_events = 1000,
                                       .max_bytes = s->max_bytes,
                                       .slow = SLOW_BLOCK,
                                       .teller = {&w->config, s->control},
                                       .now = now_of,
                                       .arg = w};
    connect_client(w);
}

struct lanes_result lanes_run(const struct lanes_schedule *s, size_t cut_at)
{
    struct lanes_world *w = mem_zero(1, sizeof(*w));
    begin(w, s, cut_at);
    for (size_t i = 0; i < s->count && !w->result.violation[0]; i++)
        take_step(w, &s->steps[i]);
    if (!w->result.violation[0])
        rest(w);
    if (!w->result.violation[0])
        lanes_judge_end(w);
    cut(w);
    for (size_t i = 0; i < w->count; i++)
        event_unref(w->events[i].event);
    buf_reset(&w->wire);
    struct lanes_result result = w->result;
    free(w);
    return result;
}

static bool is_same_kind(const char *a, const char *b)
{
    size_t len = strcspn(a, ":");
    return a[0] && len == strcspn(b, ":") && strncmp(a, b, len) == 0;
}

void lanes_shrink(struct lanes_schedule *s, size_t cut_at)
{
    struct lanes_result before = lanes_run(s, cut_at);
    for (size_t i = 0; i < s->count;) {
        struct lanes_schedule fewer = *s;
        fewer.count--;
        memmove(&fewer.steps[i], &fewer.steps[i + 1], (fewer.count - i) * sizeof(fewer.steps[0]));
        struct lanes_result result = lanes_run(&fewer, cut_at);
        if (!is_same_kind(result.violation, before.violation)) {
            i++;
            continue;
        }
        *s = fewer;
        i = 0;
    }
}
