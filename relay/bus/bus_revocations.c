/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/bus/bus_revocations.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/hash.h"
#include "common/json.h"
#include "common/mem.h"
#include "relay/kit/log.h"
#include "relay/kit/timer.h"

enum {
    KNOWN_MAX = 10000,       /* beyond, one without watchers is forgotten for each new one */
    FORGET_STEP = 16,        /* looked at for that */
    LOADS_MAX = 64,          /* at once */
    ENTRIES_PER_NOTE = 4096, /* so that a worker takes a long list in bites */
    TRIES_MAX = 5,           /* then its streams can do without better than all can without it */
    TOLD_BYTES_MAX = 65536,
};
static const double AGAIN_S = 0.2;

/* A namespace that some worker has asked about. */
struct trusted {
    struct store_call call; /* first */
    struct bus_revocations *all;
    struct store_name name; /* its channel; its ns is ours */
    bool known;             /* the workers have been told so */
    bool asked;             /* it is being loaded … */
    bool again;             /* … and then again: that may have begun too early */
    bool queued;
    bool awaited; /* bus_revocations_begin() waits for it */
    unsigned tries;
    TAILQ_ENTRY(trusted) by_age, queue;
    UT_hash_handle hh;
};

TAILQ_HEAD(trusted_list, trusted);

struct bus_revocations {
    const struct bus_base *base;
    struct bus_outbox *outbox;
    struct bus_spaces *spaces;
    void (*current)(void *arg);
    void *arg;
    struct trusted *by_name;
    struct trusted_list by_age, queue;
    size_t loads, awaited;
    bool up, beginning;
    struct log_limit invalid_limit, failed_limit;
    ev_timer again;
};

/* --- telling the workers ---------------------------------------------------------------------- */

static void tell(struct bus_revocations *r, const struct note_revoked *like)
{
    for (unsigned w = 0; w < bus_outbox_workers(r->outbox); w++) {
        struct note_revoked *note = mem_alloc(sizeof(*note));
        *note = *like;
        note->note.kind = NOTE_REVOKED;
        note->ns = mem_dup(like->ns, strlen(like->ns));
        note->entries = mem_zero(like->count ? like->count : 1, sizeof(*note->entries));
        for (size_t i = 0; i < like->count; i++) {
            note->entries[i] = like->entries[i];
            note->entries[i].value =
                mem_dup(like->entries[i].value, strlen(like->entries[i].value));
        }
        bus_outbox_post(r->outbox, w, &note->note);
    }
}

static void count_invalid(struct bus_revocations *r, const char *ns)
{
    uint64_t held;
    metrics_add(r->base->metrics, M_DROPPED_INVALID, 1);
    if (log_limit_pass(&r->invalid_limit, clock_mono_us(), &held))
        log_put(LOG_WARN, "passed over a revocation that is not valid", "ns", ns, "not_logged",
                log_u64(held), NULL);
}

static struct slice member(const cJSON *tree, const char *name)
{
    return slice_of(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(tree, name)));
}

void bus_revocations_told(struct bus_revocations *r, const struct store_name *name,
                          struct slice text)
{
    struct revoked_entry entry;
    cJSON *tree = NULL;
    enum err e = text.len > TOLD_BYTES_MAX ? ERR_RANGE : json_parse_lenient(text, &tree);
    if (!e)
        e = revoked_entry_make(member(tree, "kind"), member(tree, "value"), member(tree, "before"),
                               member(tree, "expires"), &entry);
    cJSON_Delete(tree);
    if (e) {
        count_invalid(r, name->ns);
        return;
    }
    tell(r, &(struct note_revoked){.ns = name->ns, .entries = &entry, .count = 1});
    revoked_entry_reset(&entry);
}

/* What was loaded, in several notes if it is much. */
static void tell_loaded(struct bus_revocations *r, const struct trusted *t)
{
    const struct strings *answer = &t->call.answer;
    struct revoked_entry *entries = mem_zero(ENTRIES_PER_NOTE, sizeof(*entries));
    struct note_revoked note = {.ns = t->name.ns, .entries = entries};
    for (size_t i = 0; i + 3 < answer->count; i += 4) {
        char **item = &answer->items[i];
        if (revoked_entry_make(slice_of(item[0]), slice_of(item[1]), slice_of(item[2]),
                               slice_of(item[3]), &entries[note.count]))
            count_invalid(r, t->name.ns);
        else
            note.count++;
        if (note.count < ENTRIES_PER_NOTE && i + 7 < answer->count)
            continue;
        tell(r, &note);
        while (note.count)
            revoked_entry_reset(&entries[--note.count]);
    }
    free(entries);
}

static void set_known(struct trusted *t, bool known)
{
    if (known || t->known)
        tell(t->all,
             &(struct note_revoked){.ns = t->name.ns, .loaded = known, .forgotten = !known});
    t->known = known;
}

/* --- loading ---------------------------------------------------------------------------------- */

static void check_current(struct bus_revocations *r)
{
    if (!r->beginning || r->awaited)
        return;
    r->beginning = false;
    r->current(r->arg);
}

static void await_no_more(struct trusted *t)
{
    t->all->awaited -= t->awaited;
    t->awaited = false;
}

static void enqueue(struct trusted *t)
{
    if (t->queued)
        return;
    t->queued = true;
    TAILQ_INSERT_TAIL(&t->all->queue, t, queue);
}

static void dequeue(struct trusted *t)
{
    if (!t->queued)
        return;
    t->queued = false;
    TAILQ_REMOVE(&t->all->queue, t, queue);
}

static void trusted_free(struct trusted *t)
{
    struct bus_revocations *r = t->all;
    HASH_DEL(r->by_name, t);
    TAILQ_REMOVE(&r->by_age, t, by_age);
    dequeue(t);
    await_no_more(t);
    strings_reset(&t->call.answer);
    free(t->name.ns);
    free(t);
}

/* Nobody listens for it any more; a worker that needs it asks again. */
static void forget(struct trusted *t)
{
    const struct store *store = &t->all->base->store;
    set_known(t, false);
    store->ops->unwatch(store->impl, &t->name);
    trusted_free(t);
}

static void load_some(struct bus_revocations *r);

/* A name that the store has refused is heard later, or never: without that it is not known what was
 * revoked since. */
static void on_loaded(struct trusted *t)
{
    tell_loaded(t->all, t);
    if (!t->all->up)
        return; /* bus_revocations_begin() */
    set_known(t, t->name.heard);
    t->tries = 0;
    await_no_more(t);
}

static void on_failed(struct trusted *t, enum err e)
{
    struct bus_revocations *r = t->all;
    uint64_t held;
    if (!r->up)
        return; /* bus_revocations_begin() */
    if (e != ERR_DENIED && ++t->tries < TRIES_MAX) {
        enqueue(t);
        timer_once(r->base->loop, &r->again, AGAIN_S);
        return;
    }
    if (log_limit_pass(&r->failed_limit, clock_mono_us(), &held)) /* each request asks again */
        log_put(LOG_ERROR, "cannot load what was revoked; the namespace's streams cannot start",
                "ns", t->name.ns, "reply",
                t->call.answer.count ? t->call.answer.items[0] : err_text(e), "not_logged",
                log_u64(held), NULL);
    forget(t);
}

static void on_called(struct store_call *call, enum err e)
{
    struct trusted *t = (struct trusted *)call;
    struct bus_revocations *r = t->all;
    bool again = t->again && r->up;
    t->asked = t->again = false;
    r->loads--;
    if (again) {
        tell_loaded(r, t); /* what it says is true, but may not be all */
        enqueue(t);
    } else if (e) {
        on_failed(t, e);
    } else {
        on_loaded(t);
    }
    load_some(r);
    check_current(r);
}

static void load(struct trusted *t)
{
    static const struct strings none;
    const struct store *store = &t->all->base->store;
    strings_reset(&t->call.answer);
    t->call = (struct store_call){
        .function = "sse_revoked", .ns = t->name.ns, .args = &none, .done = on_called};
    t->asked = true;
    t->all->loads++;
    store->ops->call(store->impl, &t->call);
}

static void load_some(struct bus_revocations *r)
{
    struct trusted *t;
    while (r->up && r->loads < LOADS_MAX && !ev_is_active(&r->again) &&
           (t = TAILQ_FIRST(&r->queue))) {
        dequeue(t);
        load(t);
    }
}

static void on_again(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    load_some(w->data);
}

/* With @doubt one that is being loaded is loaded once more: that may have been asked for too early.
 */
static void want(struct trusted *t, bool doubt)
{
    t->tries = 0;
    if (!t->asked)
        enqueue(t);
    else
        t->again |= doubt;
}

void bus_revocations_begin(struct bus_revocations *r, bool doubt)
{
    struct trusted *t;
    bool reload = doubt && !r->beginning;
    r->up = r->beginning = true;
    TAILQ_FOREACH (t, &r->by_age, by_age) {
        if (!(t->known ? reload : t->name.heard))
            continue;
        r->awaited += t->known && !t->awaited;
        t->awaited |= t->known;
        want(t, reload);
    }
    load_some(r);
    check_current(r);
}

void bus_revocations_end(struct bus_revocations *r)
{
    struct trusted *t;
    r->up = r->beginning = false;
    ev_timer_stop(r->base->loop, &r->again);
    TAILQ_FOREACH (t, &r->by_age, by_age) {
        dequeue(t);
        await_no_more(t);
    }
}

void bus_revocations_heard(struct bus_revocations *r, struct store_name *name)
{
    struct trusted *t = (struct trusted *)((char *)name - offsetof(struct trusted, name));
    if (t->known || !r->up)
        return;
    want(t, false);
    load_some(r);
}

/* --- which ones ------------------------------------------------------------------------------- */

/* Those that are watched, or being loaded, come to be the newest. */
static void forget_one(struct bus_revocations *r)
{
    for (unsigned i = 0; i < FORGET_STEP; i++) {
        struct trusted *t = TAILQ_FIRST(&r->by_age);
        if (!t->asked && !bus_spaces_find(r->spaces, slice_of(t->name.ns))) {
            forget(t);
            return;
        }
        TAILQ_REMOVE(&r->by_age, t, by_age);
        TAILQ_INSERT_TAIL(&r->by_age, t, by_age);
    }
}

/* The settings of one that nobody watches here may not be in the store yet, and they say how long
 * revocations are kept. */
static void open_unwatched(struct bus_revocations *r, const struct trusted *t)
{
    const struct store *store = &r->base->store;
    if (!bus_spaces_find(r->spaces, slice_of(t->name.ns)))
        store->ops->open(store->impl, t->name.ns, 0, false);
}

void bus_revocations_open(struct bus_revocations *r)
{
    const struct trusted *t;
    TAILQ_FOREACH (t, &r->by_age, by_age)
        open_unwatched(r, t);
}

void bus_revocations_trust(struct bus_revocations *r, const struct note_trust *note)
{
    const struct store *store = &r->base->store;
    struct trusted *t;
    HASH_FIND(hh, r->by_name, note->ns, strlen(note->ns), t);
    if (t)
        return; /* it is known, or will be */
    if (HASH_COUNT(r->by_name) >= KNOWN_MAX)
        forget_one(r);
    t = mem_zero(1, sizeof(*t));
    t->all = r;
    t->name =
        (struct store_name){.subject = STORE_REVOKED, .ns = mem_dup(note->ns, strlen(note->ns))};
    HASH_ADD_KEYPTR(hh, r->by_name, t->name.ns, strlen(t->name.ns), t);
    TAILQ_INSERT_TAIL(&r->by_age, t, by_age);
    open_unwatched(r, t);
    store->ops->watch(store->impl, &t->name); /* and once it is heard it is loaded */
}

struct bus_revocations *bus_revocations_new(const struct bus_base *base, struct bus_outbox *outbox,
                                            struct bus_spaces *spaces, void (*current)(void *arg),
                                            void *arg)
{
    struct bus_revocations *r = mem_zero(1, sizeof(*r));
    r->base = base;
    r->outbox = outbox;
    r->spaces = spaces;
    r->current = current;
    r->arg = arg;
    TAILQ_INIT(&r->by_age);
    TAILQ_INIT(&r->queue);
    ev_init(&r->again, on_again);
    r->again.data = r;
    return r;
}

void bus_revocations_free(struct bus_revocations *r)
{
    struct trusted *t;
    if (!r)
        return;
    while ((t = TAILQ_FIRST(&r->by_age)))
        trusted_free(t);
    ev_timer_stop(r->base->loop, &r->again);
    free(r);
}
