/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/bus/bus_checks.h"

#include <assert.h>
#include <stdlib.h>

#include "common/mem.h"

/* Every now and then the index is asked what has moved since the last time. What has moved but has
 * not been heard may be on its way: so a mark is sent after it by the live path, and what has not
 * come when that has is read from the log. */

enum {
    NAMES_MAX = 256,   /* up to here the index is asked for the names … */
    PAGE_TOPICS = 256, /* … above for all topics, in pages that nobody has to wait for long for */
};

struct check {
    struct store_look look; /* one page */
    struct bus_checks *all;
    struct bus_space *space;
    struct strings names;      /* copies */
    uint64_t from;             /* what the index has up to here had been heard before */
    uint64_t upto;             /* and it has been asked up to here */
    struct store_look missing; /* what of all pages is missing, perhaps */
    uint64_t mark;             /* 0: the index has not answered all yet */
    LIST_ENTRY(check) link;
};
LIST_HEAD(check_list, check);

struct bus_checks {
    const struct bus_base *base;
    struct bus_spaces *spaces;
    struct bus_repairs *repairs;
    struct check_list under_way;
    bool missed; /* some namespace has: bus_checks_turn() */
};

static void check_end(struct check *check)
{
    LIST_REMOVE(check, link);
    store_look_reset(&check->look);
    strings_reset(&check->names);
    store_look_reset(&check->missing);
    bus_space_set_checking(check->space, false);
    bus_space_release(check->all->spaces, check->space);
    free(check);
}

static void check_passed(struct check *check)
{
    bus_space_confirm(check->space, check->upto);
    check_end(check);
}

/* The last id of a topic that has come here; 0: none is known. */
static uint64_t last_heard(const struct check *check, const struct store_topic *topic)
{
    return tails_last(check->all->base->tails, slice_of(bus_space_ns(check->space)),
                      slice_of(topic->name));
}

static bool is_missing(const struct check *check, const struct store_topic *topic)
{
    return topic->last > check->from && topic->last > last_heard(check, topic) &&
           topic->last > bus_space_known_up_to(check->space, slice_of(topic->name));
}

/* All that was published before the look has come, or never will. */
static void confirm(struct check *check)
{
    struct strings lost = {mem_alloc((check->missing.count + 1) * sizeof(char *)), 0};
    uint64_t cursor = UINT64_MAX;
    for (size_t i = 0; i < check->missing.count; i++) {
        struct store_topic *topic = &check->missing.topics[i];
        if (!is_missing(check, topic))
            continue;
        uint64_t last = last_heard(check, topic);
        lost.items[lost.count++] = topic->name;
        last = last ? last : check->from;
        cursor = last < cursor ? last : cursor;
    }
    bool whole = !lost.count;
    if (!whole)
        (void)bus_repairs_read_missing(check->all->repairs, check->space, &lost, cursor,
                                       check->upto);
    free(lost.items);
    if (whole)
        check_passed(check);
    else
        check_end(check);
}

void bus_checks_passed(struct bus_checks *checks, uint64_t mark)
{
    struct check *check, *next;
    for (check = LIST_FIRST(&checks->under_way); check; check = next) {
        next = LIST_NEXT(check, link);
        if (check->mark && check->mark <= mark)
            confirm(check);
    }
}

/* Keeps what may be missing of a page. A topic that moves on meanwhile may come twice. */
static void take_page(struct check *check)
{
    struct store_look *look = &check->look;
    for (size_t i = 0; i < look->count; i++) {
        struct store_topic *topic = &look->topics[i];
        if (is_missing(check, topic))
            store_look_add(&check->missing, slice_of(topic->name), topic->last, topic->end);
    }
    store_look_reset(look);
}

static void on_page(struct store_look *look, enum err e);

static void ask_page(struct check *check, bool by_name)
{
    const struct store *store = &check->all->base->store;
    check->look = (struct store_look){.ns = bus_space_ns(check->space),
                                      .names = by_name ? &check->names : NULL,
                                      .limit = by_name ? 0 : PAGE_TOPICS,
                                      .cursor = check->upto,
                                      .done = on_page,
                                      .arg = check};
    store->ops->look(store->impl, &check->look);
}

static void on_page(struct store_look *look, enum err e)
{
    struct check *check = look->arg;
    const struct store *store = &check->all->base->store;
    if (e) {
        check_end(check);
        return;
    }
    bool more = look->upto < look->position && look->upto > check->upto;
    check->upto = look->upto;
    take_page(check);
    if (more) {
        ask_page(check, false);
        return;
    }
    if (!check->missing.count) {
        check_passed(check);
        return;
    }
    check->mark = store->ops->mark(store->impl);
    if (!check->mark)
        check_end(check);
}

static void check_start(struct bus_checks *checks, struct bus_space *space)
{
    struct check *check = mem_zero(1, sizeof(*check));
    const struct bus_names *names = bus_space_names(space);
    bool by_name = bus_names_count(names) <= NAMES_MAX && !bus_names_have_patterns(names);
    check->all = checks;
    check->space = space;
    check->from = check->upto = bus_space_checked(space);
    if (by_name)
        bus_names_copy(names, &check->names);
    LIST_INSERT_HEAD(&checks->under_way, check, link);
    bus_space_set_checking(space, true);
    bus_space_use(space);
    ask_page(check, by_name);
}

static bool may_check(struct bus_space *space)
{
    return bus_space_checked(space) && bus_names_count(bus_space_names(space)) &&
           !bus_space_is_unrepaired(space) && !bus_space_is_checking(space);
}

static bool may_check_any(const struct bus_checks *checks)
{
    return bus_spaces_are_up(checks->spaces) && !bus_repairs_are_under_way(checks->repairs);
}

void bus_checks_start(struct bus_checks *checks)
{
    struct bus_space *space, *next;
    if (!may_check_any(checks))
        return;
    for (space = bus_spaces_first(checks->spaces); space; space = next) {
        next = bus_space_next(space);
        if (may_check(space))
            check_start(checks, space);
    }
}

void bus_checks_miss(struct bus_checks *checks, struct slice ns)
{
    struct bus_space *space = bus_spaces_find(checks->spaces, ns);
    if (!space)
        return;
    bus_space_set_missing_some(space, true);
    checks->missed = true;
}

/* A check that is under way may have looked before it was published: another follows it. */
void bus_checks_turn(struct bus_checks *checks)
{
    struct bus_space *space, *next;
    if (!checks->missed || !may_check_any(checks))
        return;
    checks->missed = false;
    for (space = bus_spaces_first(checks->spaces); space; space = next) {
        next = bus_space_next(space);
        if (!bus_space_is_missing_some(space))
            continue;
        if (bus_space_is_checking(space)) {
            checks->missed = true;
            continue;
        }
        bus_space_set_missing_some(space, false);
        if (may_check(space))
            check_start(checks, space);
    }
}

void bus_checks_drop(struct bus_checks *checks)
{
    struct check *check, *next;
    for (check = LIST_FIRST(&checks->under_way); check; check = next) {
        next = LIST_NEXT(check, link);
        if (check->mark)
            check_end(check);
    }
}

struct bus_checks *bus_checks_new(const struct bus_base *base, struct bus_spaces *spaces,
                                  struct bus_repairs *repairs)
{
    struct bus_checks *checks = mem_zero(1, sizeof(*checks));
    checks->base = base;
    checks->spaces = spaces;
    checks->repairs = repairs;
    LIST_INIT(&checks->under_way);
    return checks;
}

void bus_checks_free(struct bus_checks *checks)
{
    assert(!checks || LIST_EMPTY(&checks->under_way));
    free(checks);
}
