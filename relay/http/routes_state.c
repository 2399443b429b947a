/* SPDX-License-Identifier: Apache-2.0 */
/* What a node tells of itself: health, readiness, figures. */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/mem.h"
#include "relay/http/routes_parts.h"

static const char *redis_status(const struct node *node)
{
    enum store_condition condition = bus_condition(node->bus);
    if (!bus_is_up(node->bus))
        return condition == STORE_CLUSTER ? "cluster" : "down";
    return condition == STORE_READ_ONLY ? "read-only" : "up";
}

void routes_serve_health(struct routes *r, struct routes_visit *v)
{
    struct front_call *call = v->call;
    struct buf body = {0};
    buf_puts(&body, "{\"status\":\"ok\"}");
    routes_reply(r, call, 200, "application/json", &body, NULL);
}

/* The connections stand, but what is published does not come back on them. */
static bool is_deaf(const struct node *node)
{
    return strcmp(bus_kind(node->bus), "redis") == 0 &&
           metrics_total(node->metrics, node->workers + 1, M_REDIS_HEARD) == 0;
}

/* Where balancers should look elsewhere, before streams are turned away. Nodes that fill up evenly
 * do not say so all at once: each is up to half of the rest later than full.percent. A twentieth
 * must be free again before it takes that back. */
static bool is_full(struct node *node, uint64_t percent)
{
    size_t max = node->max_clients, clients = atomic_load(&node->clients);
    size_t from = (max * percent + 99) / 100;
    from += (max - from) * node->full_late / 2000;
    if (atomic_load(&node->full))
        from -= max / 20 < from ? max / 20 : 0;
    bool full = percent && clients >= from;
    atomic_store(&node->full, full);
    return full;
}

void routes_serve_ready(struct routes *r, struct routes_visit *v)
{
    struct front_call *call = v->call;
    bool draining = atomic_load(&r->node->draining), up = bus_is_up(r->node->bus);
    bool deaf = up && is_deaf(r->node), full = is_full(r->node, r->config->full_percent);
    bool cluster = !up && bus_condition(r->node->bus) == STORE_CLUSTER;
    struct buf body = {0};
    buf_printf(&body, "{\"status\":\"%s\",\"redis\":\"%s\",\"clients\":%zu,\"node\":",
               draining  ? "draining"
               : cluster ? "redis-cluster"
               : !up     ? "redis-down"
               : deaf    ? "redis-deaf"
               : full    ? "full"
                         : "ready",
               redis_status(r->node), atomic_load(&r->node->clients));
    json_put_string(&body, slice_of(r->node->name));
    buf_printf(&body, ",\"version\":\"%s\"}", r->node->version);
    routes_reply(r, call, up && !deaf && !draining && !full ? 200 : 503, "application/json", &body,
                 NULL);
}

/* What no thread counts for itself: whoever is asked looks. No other metric is written by several,
 * and of this one any store is right. */
static void look_at_memory(const struct node *node)
{
    metrics_set(node->metrics[0], M_EVENT_BYTES, event_live_bytes());
}

void routes_serve_metrics(struct routes *r, struct routes_visit *v)
{
    struct front_call *call = v->call;
    struct node *node = r->node;
    struct buf body = {0};
    look_at_memory(node);
    metrics_put_prometheus(&body, node->metrics, node->workers + 1, node->version, node->name,
                           bus_kind(node->bus));
    routes_reply(r, call, 200, "text/plain; version=0.0.4; charset=utf-8", &body, NULL);
}

void routes_serve_stats(struct routes *r, struct routes_visit *v)
{
    struct front_call *call = v->call;
    struct routes_exchange *x = mem_zero(1, sizeof(*x));
    struct note_census *note = mem_zero(1, sizeof(*note));
    note->note.kind = NOTE_CENSUS;
    note->first = r->worker;
    note->owner = x;
    note->counts = census_new();
    note->ns = v->grant ? slice_dup(slice_of(grant_fields(v->grant)->ns)) : NULL;
    x->routes = r;
    x->call = call;
    x->census = note;
    x->visit.grant = v->grant ? grant_ref(v->grant) : NULL;
    front_set_user(call, x);
    routes_take_census(r, note);
}

static void reply_stats(struct routes *r, struct front_call *call, struct census *census)
{
    struct node *node = r->node;
    struct buf body = {0};
    buf_printf(&body, "{\"version\":\"%s\",\"node\":", node->version);
    json_put_string(&body, slice_of(node->name));
    buf_printf(&body,
               ",\"uptime_seconds\":%llu,\"redis\":{\"kind\":\"%s\",\"status\":\"%s\"},"
               "\"draining\":%s,\"clients\":%zu,\"max_clients\":%zu,\"topics\":",
               (unsigned long long)((clock_mono_ms() - node->started_ms) / 1000),
               bus_kind(node->bus), redis_status(node),
               atomic_load(&node->draining) ? "true" : "false", atomic_load(&node->clients),
               node->max_clients);
    census_put_json(census, &body);
    buf_printf(&body, ",\"topics_left_out\":%zu,\"metrics\":", census_left_out(census));
    look_at_memory(node);
    metrics_put_json(&body, node->metrics, node->workers + 1);
    buf_putc(&body, '}');
    routes_reply(r, call, 200, "application/json", &body, NULL);
}

/* Goes round all workers and ends where it began. */
void routes_take_census(struct routes *r, struct note_census *note)
{
    if (note->visits < r->node->workers) {
        fanout_count(r->fanout, note->counts, slice_of(note->ns));
        note->visits++;
    }
    unsigned next =
        note->visits < r->node->workers ? (r->worker + 1) % r->node->workers : note->first;
    if (next != r->worker) {
        inbox_push(r->node->inboxes[next], &note->note.item);
        return;
    }
    struct routes_exchange *x = note->owner;
    if (x) {
        x->census = NULL;
        reply_stats(r, x->call, note->counts);
    }
    census_free(note->counts);
    note_free(&note->note);
}
