/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/hub.h"

#include <errno.h>
#include <ev.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "common/clock.h"
#include "common/mem.h"
#include "relay/core/pressure.h"
#include "relay/kit/heap.h"
#include "relay/kit/listener.h"
#include "relay/kit/log.h"
#include "relay/memory/store_memory.h"
#include "relay/redis/store_redis.h"
#include "relay/auth_watch.h"
#include "relay/worker.h"

/* What is open beside HTTP connections. */
enum {
    FILES_RESERVED = 64, /* Redis and its reconnects, the log, the bus's loop, /proc for /metrics */
    FILES_PER_WORKER = 8, /* its loop's and libmicrohttpd's epoll and wake-up files */
    OTHERS_MAX = 4096,    /* HTTP connections that are not streams */
};
enum { DRAIN_GRACE_MS = 6000 }; /* for the last streams' last bytes */
static const double DRAIN_POLL_S = 0.05;
static const double HEAP_POLL_S = 2.0;

struct hub {
    struct config *config;
    hub_reload reload;
    void *reload_arg;
    struct ev_loop *loop;
    struct node node;
    struct worker **workers;
    struct listener *listeners;
    size_t listener_count;
    pthread_t *threads; /* workers, then the bus */
    unsigned started;
    uint64_t drain_deadline_ms; /* monotonic clock: libev's own time is the wall's */
    ev_signal terminate, interrupt, hangup;
    ev_timer drain_poll, heap_poll;
    struct heap heap;
    struct auth_watch *auth;
};

/* --- limits ---------------------------------------------------------------------------------- */

static size_t raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return 1024;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur == RLIM_INFINITY ? 1 << 20 : (size_t)limit.rlim_cur;
}

/* Shares the files out. Streams are what they are for; an eighth, within bounds, is for connections
 * that publish, ask, or have not said yet what they want. */
static void set_limits(struct hub *hub)
{
    struct node *node = &hub->node;
    const struct config *config = hub->config;
    size_t files = node->files = raise_file_limit();
    size_t reserved = FILES_RESERVED + config->workers * (FILES_PER_WORKER + config->listen.count);
    if (reserved > files / 2)
        reserved = files / 2;
    size_t least = 8 * config->workers, others = files / 8;
    others = others > OTHERS_MAX ? OTHERS_MAX : others < least ? least : others;
    if (others > (files - reserved) / 2)
        others = (files - reserved) / 2;
    size_t fit = files - reserved - others, asked = config->max_clients;
    if (asked > fit)
        log_put(LOG_WARN, "max_clients is more than the open-file limit allows; using what fits",
                "max_clients", log_u64(asked), "fits", log_u64(fit), "hint",
                "raise LimitNOFILE= (systemd) or ulimit -n", NULL);
    node->max_others = others;
    node->max_clients = asked && asked < fit ? asked : fit;
    node->full_late = (unsigned)(random() % 1001);
    log_put(LOG_INFO, "limits", "open_files", log_u64(files), "max_clients",
            log_u64(node->max_clients), "other_connections", log_u64(others), NULL);
}

/* --- signals --------------------------------------------------------------------------------- */

static void post(struct inbox *inbox, enum note_kind kind)
{
    struct note *note = mem_zero(1, sizeof(*note));
    note->kind = kind;
    inbox_push(inbox, &note->item);
}

static void post_all(struct hub *hub, enum note_kind kind)
{
    for (unsigned i = 0; i < hub->node.workers; i++)
        post(hub->node.inboxes[i], kind);
    post(bus_inbox(hub->node.bus), kind);
}

static void on_drain_poll(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)revents;
    struct hub *hub = w->data;
    bool late = clock_mono_ms() > hub->drain_deadline_ms;
    if (late)
        log_put(LOG_WARN, "some streams did not end in time", "clients",
                log_u64(atomic_load(&hub->node.clients)), NULL);
    if (late || atomic_load(&hub->node.drained) == hub->node.workers)
        ev_break(loop, EVBREAK_ALL);
}

static void on_terminate(struct ev_loop *loop, ev_signal *w, int revents)
{
    (void)revents;
    struct hub *hub = w->data;
    if (atomic_exchange(&hub->node.draining, true)) {
        log_put(LOG_INFO, "told twice to end: ending at once", NULL);
        ev_break(loop, EVBREAK_ALL);
        return;
    }
    log_put(LOG_INFO, "draining", "clients", log_u64(atomic_load(&hub->node.clients)), "over_ms",
            log_u64(hub->config->drain_ms), NULL);
    metrics_set(hub->node.metrics[hub->node.workers], M_DRAINING, 1);
    post_all(hub, NOTE_DRAIN);
    hub->drain_deadline_ms = clock_mono_ms() + hub->config->drain_ms + DRAIN_GRACE_MS;
    ev_timer_again(loop, &hub->drain_poll);
}

/* Here, since nobody waits for this thread: with 10,000 clients that have left it takes 10 to 50
 * ms. What is given back is not only the system's again: the next pool that libmicrohttpd makes of
 * it is of zeros, so that front_memory can give it back in turn, and not of what was there. */
static void on_heap_poll(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    struct hub *hub = w->data;
    heap_trim(&hub->heap, metrics_total(hub->node.metrics, hub->node.workers, M_CONNECTIONS));
}

static void send_config(struct inbox *inbox, struct config *config)
{
    struct note_config *note = mem_zero(1, sizeof(*note));
    note->note.kind = NOTE_CONFIG;
    note->config = config_ref(config);
    inbox_push(inbox, &note->note.item);
}

static void on_hangup(struct ev_loop *loop, ev_signal *w, int revents)
{
    (void)loop, (void)revents;
    struct hub *hub = w->data;
    struct buf restart = {0};
    struct config *merged = hub->reload(hub->reload_arg, hub->config, &restart);
    if (!merged) {
        buf_reset(&restart);
        return;
    }
    config_unref(hub->config);
    hub->config = merged;
    log_setup(merged->logging_level, merged->logging_format);
    for (unsigned i = 0; i < hub->node.workers; i++)
        send_config(hub->node.inboxes[i], merged);
    send_config(bus_inbox(hub->node.bus), merged);
    auth_watch_configure(hub->auth, merged);
    buf_putc(&restart, '\0');
    log_put(LOG_INFO, "configuration read again", "needs_restart",
            restart.len > 1 ? restart.ptr : "nothing", NULL);
    buf_reset(&restart);
}

static void signals_start(struct hub *hub)
{
    ev_signal_init(&hub->terminate, on_terminate, SIGTERM);
    ev_signal_init(&hub->interrupt, on_terminate, SIGINT);
    ev_signal_init(&hub->hangup, on_hangup, SIGHUP);
    ev_init(&hub->drain_poll, on_drain_poll);
    hub->drain_poll.repeat = DRAIN_POLL_S;
    hub->terminate.data = hub->interrupt.data = hub->hangup.data = hub->drain_poll.data = hub;
    ev_signal_start(hub->loop, &hub->terminate);
    ev_signal_start(hub->loop, &hub->interrupt);
    ev_signal_start(hub->loop, &hub->hangup);
}

/* Stopping a watcher brings back what the signal did before: SIGTERM would kill a process that has
 * just drained, and its exit code would say that it failed. So they stay blocked until the exit. */
static void signals_stop(struct hub *hub)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    ev_signal_stop(hub->loop, &hub->terminate);
    ev_signal_stop(hub->loop, &hub->interrupt);
    ev_signal_stop(hub->loop, &hub->hangup);
}

/* --- threads --------------------------------------------------------------------------------- */

static void *worker_main(void *arg)
{
    worker_run(arg);
    return NULL;
}

static void *bus_main(void *arg)
{
    bus_run(arg);
    return NULL;
}

static enum err threads_start(struct hub *hub)
{
    sigset_t all, before;
    int rc = 0;
    unsigned total = hub->node.workers + 1;
    hub->threads = mem_zero(total, sizeof(*hub->threads));
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the main thread's */
    for (unsigned i = 0; i < total && rc == 0; i++) {
        bool bus = i == hub->node.workers;
        rc = pthread_create(&hub->threads[i], NULL, bus ? bus_main : worker_main,
                            bus ? (void *)hub->node.bus : (void *)hub->workers[i]);
        hub->started += rc == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc)
        log_put(LOG_ERROR, "cannot start a thread", "error", strerror(rc), NULL);
    return rc ? ERR_IO : OK;
}

static void threads_stop(struct hub *hub)
{
    /* The bus last: the workers' last notes go to it, and it may still answer them. */
    for (unsigned i = 0; i < hub->started; i++) {
        struct note *note = mem_zero(1, sizeof(*note));
        note->kind = NOTE_STOP;
        bool bus = i == hub->node.workers;
        inbox_push(bus ? bus_inbox(hub->node.bus) : hub->node.inboxes[i], &note->item);
        pthread_join(hub->threads[i], NULL);
    }
    hub->started = 0;
}

/* --- life ------------------------------------------------------------------------------------ */

static enum err listeners_open(struct hub *hub)
{
    const struct strings *addresses = &hub->config->listen;
    hub->listeners = mem_zero(addresses->count, sizeof(*hub->listeners));
    for (size_t i = 0; i < addresses->count; i++) {
        struct buf why = {0};
        if (listener_open(addresses->items[i], hub->node.workers, &hub->listeners[i], &why)) {
            buf_putc(&why, '\0');
            log_put(LOG_ERROR, why.ptr, NULL);
            buf_reset(&why);
            return ERR_IO;
        }
        hub->listener_count++;
    }
    return OK;
}

/* Two nodes of one Redis must not have the same. Without entropy the clock has to do. */
static uint32_t tag_random(void)
{
    uint32_t tag;
    if (getrandom(&tag, sizeof(tag), 0) != (ssize_t)sizeof(tag))
        tag = (uint32_t)clock_wall_us();
    return tag;
}

static void node_init(struct hub *hub, const char *version)
{
    struct node *node = &hub->node;
    node->name = hub->config->node;
    node->version = version;
    node->tag = tag_random();
    node->started_ms = clock_mono_ms();
    node->workers = (unsigned)hub->config->workers;
    node->inboxes = mem_zero(node->workers, sizeof(struct inbox *));
    node->metrics = mem_zero(node->workers + 1, sizeof(struct metrics *));
    node->pressure = pressure_new(node->workers);
    hub->workers = mem_zero(node->workers, sizeof(struct worker *));
    for (unsigned i = 0; i <= node->workers; i++) {
        node->metrics[i] = metrics_new();
        metrics_set_types(node->metrics[i], &hub->config->metrics_types);
    }
    for (unsigned i = 0; i < node->workers; i++) {
        hub->workers[i] = worker_new(i);
        node->inboxes[i] = worker_inbox(hub->workers[i]);
    }
    bool memory = strcmp(hub->config->redis, "memory:") == 0;
    node->bus = bus_new(hub->config, node->inboxes, node->workers, node->tag,
                        node->metrics[node->workers], memory ? store_memory_new : store_redis_new);
}

/* The first comes before the workers run, so that no request is served without. */
static void on_auth(void *arg, struct auth *auth)
{
    struct hub *hub = arg;
    for (unsigned i = 0; i < hub->node.workers; i++) {
        struct auth *ref = auth ? auth_ref(auth) : NULL;
        if (hub->started) {
            struct note_auth *note = mem_zero(1, sizeof(*note));
            note->note.kind = NOTE_AUTH;
            note->auth = ref;
            inbox_push(hub->node.inboxes[i], &note->note.item);
        } else {
            worker_set_auth(hub->workers[i], ref);
        }
    }
    auth_unref(auth);
}

/* Off means off; but whoever did not mean it should know. */
static void warn_of_everybody(const struct hub *hub)
{
    if (hub->config->auth_file[0] || hub->config->auth_key_file[0])
        return;
    if (hub->node.beyond_loopback)
        log_put(
            LOG_WARN,
            "ANYBODY who reaches this relay may read and publish EVERYTHING, and other machines "
            "reach it",
            "hint", "set auth.key_file or auth.file, or let a proxy decide who comes in", NULL);
    else
        log_put(LOG_WARN, "everybody on this machine may read and publish everything", "hint",
                "set auth.key_file or auth.file", NULL);
}

/* What a page may be that makes its own name point to this relay: docs/security.md. */
static void hosts_init(struct hub *hub)
{
    struct node *node = &hub->node;
    for (size_t i = 0; i < hub->listener_count; i++) {
        const char *text = hub->config->listen.items[i], *colon = strrchr(text, ':');
        if (colon && colon != text)
            strings_add(&node->own_hosts, (struct slice){text, (size_t)(colon - text)});
        node->beyond_loopback |= !hub->listeners[i].loopback;
    }
    if (node->beyond_loopback && !hub->config->hosts.count)
        log_put(LOG_WARN, "requests for any host name are taken", "hint",
                "list the names of this relay in hosts, or * for all", NULL);
}

static enum err workers_setup(struct hub *hub)
{
    int *fds = mem_alloc(hub->listener_count * sizeof(*fds));
    enum err e = OK;
    for (unsigned i = 0; i < hub->node.workers && !e; i++) {
        for (size_t j = 0; j < hub->listener_count; j++) {
            fds[j] = hub->listeners[j].fds[i];
            hub->listeners[j].fds[i] = -1; /* handed on */
        }
        e = worker_setup(hub->workers[i], &hub->node, hub->config, fds, hub->listener_count);
        if (e)
            log_put(LOG_ERROR, "cannot start the HTTP server", "error", strerror(errno), NULL);
    }
    free(fds);
    return e;
}

enum err hub_new(struct config *config, const char *version, hub_reload reload, void *arg,
                 struct hub **out)
{
    struct hub *hub = mem_zero(1, sizeof(*hub));
    hub->config = config_ref(config);
    hub->reload = reload;
    hub->reload_arg = arg;
    hub->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    srandom((unsigned)clock_mono_us());
    set_limits(hub);
    node_init(hub, version);
    signals_start(hub);
    enum err e = listeners_open(hub);
    if (!e) {
        hosts_init(hub);
        warn_of_everybody(hub);
        e = workers_setup(hub);
    }
    if (!e)
        e = auth_watch_new(hub->loop, config, on_auth, hub, &hub->auth);
    if (!e)
        e = threads_start(hub);
    ev_timer_init(&hub->heap_poll, on_heap_poll, HEAP_POLL_S, HEAP_POLL_S);
    hub->heap_poll.data = hub;
    ev_timer_start(hub->loop, &hub->heap_poll);
    if (e) {
        hub_free(hub);
        return e;
    }
    for (size_t i = 0; i < hub->listener_count; i++)
        log_put(LOG_INFO, "listening", "address", hub->listeners[i].address, "workers",
                log_u64(hub->node.workers), NULL);
    *out = hub;
    return OK;
}

void hub_run(struct hub *hub)
{
    ev_run(hub->loop, 0);
    log_put(LOG_INFO, "ended", "clients_cut", log_u64(atomic_load(&hub->node.clients)), NULL);
}

void hub_free(struct hub *hub)
{
    if (!hub)
        return;
    threads_stop(hub);
    auth_watch_free(hub->auth);
    /* Calls and notes point at each other: first no call is left, then the bus gives its notes back
     * to inboxes that still exist, then the workers drop them. */
    for (unsigned i = 0; i < hub->node.workers; i++)
        worker_close(hub->workers[i]);
    bus_free(hub->node.bus);
    for (unsigned i = 0; i < hub->node.workers; i++)
        worker_free(hub->workers[i]);
    for (unsigned i = 0; i <= hub->node.workers; i++)
        metrics_free(hub->node.metrics[i]);
    for (size_t i = 0; i < hub->listener_count; i++)
        listener_reset(&hub->listeners[i]);
    free(hub->listeners);
    free(hub->threads);
    free(hub->workers);
    pressure_free(hub->node.pressure);
    free(hub->node.inboxes);
    free(hub->node.metrics);
    strings_reset(&hub->node.own_hosts);
    signals_stop(hub);
    ev_loop_destroy(hub->loop);
    config_unref(hub->config);
    free(hub);
}
