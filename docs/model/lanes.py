#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the id rule of the lanes (lanes_rule.py): a log, a connection that is cut anywhere, a client that resumes with
the last id it was sent whole. What the client got is judged against what was published.

    lanes.py                        our rule in random schedules and in all short ones; each wrong rule must be caught
    lanes.py --random 600000 --length 6
    lanes.py --schedules 100        prints schedules, one a line
    lanes.py --run 'block pub:b:A:x:w:-:n;beat' [--rule position-of-accepted]

A schedule is a policy and operations; after the last of them everything is brought to rest:

    pub:LANE:TOPIC:KEY:w|u:TTL|-:n|e   an event: i, b, c or a; wanted or not; steps until it is over; with id or ephemeral
    write:N, part, arrive:N            the socket takes N blocks, or a part of one; the client gets N blocks
    tick, beat, page                   the flush is due, a heartbeat is, a page of the log may be read
    pause, resume, cut, end, connect   end: a clean one
"""

import argparse
import itertools
import multiprocessing
import os
import random
import sys

from lanes_rule import (
    BLOCK,
    DISCONNECT,
    DROP_NEWEST,
    DROP_OLDEST,
    LIMIT,
    PAGE,
    RULES,
    WRONG,
    Event,
    Rule,
)

POLICIES = [BLOCK, BLOCK, DROP_OLDEST, DROP_NEWEST, DISCONNECT]
ALL = 99  # blocks: more than there ever are
BATCH = 5000  # random schedules of one seed
SHRUNK = 12  # violations of a kind that are made short, to print the shortest


class Violation(Exception):
    """Its first word says of which kind it is."""

    def kind(self):
        return str(self).split(":")[0]


# --- the world -------------------------------------------------------------------------------------------------------


class World:
    def __init__(self, rule, policy):
        self.rule, self.policy = rule, policy
        self.events, self.log = [], []
        self.now, self.next_id = 0, 10
        self.on_its_way = []  # blocks that the socket has, and the client has not
        self.got = []  # blocks, per connection
        self.last_id = 10  # the client's: relay.connected gave it
        self.connection = None
        self.connect()

    def step(self, operation):
        self.now += 1
        name, *args = operation
        connection = self.connection
        if name in ("tick", "beat", "pause", "resume", "page"):
            if connection and not connection.is_closed:
                getattr(connection, name)()
        elif name in ("part", "end"):
            if connection:
                getattr(self, name)()
        elif name == "connect":
            if not connection:
                self.connect()
        else:
            getattr(self, name)(*args)

    def connect(self):
        self.connection = self.rule(self, self.last_id, self.policy)
        self.got.append([])
        self.connection.page()

    def pub(self, lane, topic, key, is_wanted, ttl, is_ephemeral):
        if not is_ephemeral:
            self.next_id += 3  # not 1: positions lie between
        over_at = None if ttl is None else self.now + ttl
        id = None if is_ephemeral else self.next_id
        event = Event(len(self.events), id, lane, topic, key, is_wanted, over_at)
        self.events.append(event)
        if not is_ephemeral:
            self.log.append(event)
        if self.connection:
            self.offer(self.connection, event)

    def offer(self, connection, event):
        is_idle = connection.is_live and not connection.is_closed and not connection.queue and not connection.is_full()
        connection.offer(event)
        if is_idle and event.lane == "i" and event.is_wanted:
            if not any(event in block.events for block in connection.queue):
                raise Violation(f"instant: {event} waits though the socket is free")
        if len(connection.queue) + len(connection.pending) > 2 * LIMIT + PAGE:
            raise Violation(f"bound: {len(connection.queue)} queued, {len(connection.pending)} pending")

    def write(self, count):
        connection = self.connection
        if not connection:
            return
        for _ in range(min(count, len(connection.queue))):
            block = connection.queue.pop(0)
            if not self.is_over(block):
                self.on_its_way.append(block)
        connection.drained()
        connection.page()
        if connection.is_closed and not connection.queue:
            self.arrive(ALL)
            self.connection = None

    def is_over(self, block):
        event = block.last()
        return event is not None and not block.is_begun and has_passed(self.now, event)

    def part(self):
        queue = self.connection.queue
        if queue and not self.is_over(queue[0]):
            queue[0].is_begun = True

    def arrive(self, count):
        blocks, self.on_its_way = self.on_its_way[:count], self.on_its_way[count:]
        for block in blocks:
            self.got[-1].append(block)
            self.last_id = block.id or self.last_id

    def cut(self):
        self.on_its_way, self.connection = [], None

    def end(self):
        self.connection.end()
        self.write(ALL)
        self.arrive(ALL)
        self.cut()

    def rest(self):
        for _ in range(200):
            if not self.connection:
                self.arrive(ALL)
                self.connect()
            if self.connection.is_paused:
                self.connection.resume()
            self.connection.wants_pages = True
            self.connection.page()
            self.write(2)
            self.arrive(ALL)
            if self.connection and self.is_at_rest(self.connection):
                return
        raise Violation("rest: it never comes to rest")

    def is_at_rest(self, connection):
        connection.tick()
        if not connection.is_live or connection.queue or connection.pending:
            return False
        if connection.dropped:
            connection.tell_dropped()
            return False
        return not self.on_its_way


def has_passed(now, event):
    return event.over_at is not None and now > event.over_at


# --- the judge -------------------------------------------------------------------------------------------------------


def judge(world):
    for blocks in world.got:
        judge_order(blocks)
    events = [event for blocks in world.got for block in blocks for event in block.events]
    told = sum(block.dropped for blocks in world.got for block in blocks)
    judge_repeats(events)
    numbers = {event.number for event in events}
    missing = find_missing(world, numbers)
    if len(world.got) == 1:
        judge_ephemeral(world, numbers, told - (len(missing) if world.policy != BLOCK else 0))
    if world.policy in (DROP_OLDEST, DROP_NEWEST):
        judge_dropped(world, missing, told)
    elif missing:
        raise Violation(f"lost: {missing}")


def judge_order(blocks):
    """Of one connection. A block without id may hold what has one: that counts, too."""
    last, highest = 0, 0
    for block in blocks:
        if block.id:
            if block.id <= last:
                raise Violation(f"order: id {block.id} after {last} on one connection")
            last = block.id
        for event in block.events:
            if event.id and event.id < highest:
                raise Violation(f"overtaken: {event} comes after an event with id {highest}")
            highest = event.id or highest


def judge_repeats(events):
    seen, newest = set(), {}
    for event in events:
        if event.number in seen:
            raise Violation(f"twice: {event}")
        seen.add(event.number)
        if event.lane == "c" and event.id:
            if event.number < newest.get((event.topic, event.key), -1):
                raise Violation(f"stale: {event} comes after a newer value")
            newest[event.topic, event.key] = event.number


def find_missing(world, got):
    """What is in the log and the client should have had. An older value needs no telling where a newer one came, or
    would have come if it were not over."""
    missing, settled = [], set()
    for event in reversed(world.log):
        if not event.is_wanted:
            continue
        slot = (event.topic, event.key) if event.lane == "c" else event.number
        if slot not in settled and event.number not in got and not has_passed(world.now, event):
            missing.append(event)
        settled.add(slot)
    return missing


def judge_dropped(world, missing, told):
    """Exact where all are alike. Elsewhere a value that was dropped may have been replaced since, and be told all the
    same."""
    if len(missing) > told:
        raise Violation(f"dropped: {missing} missing, {told} told")
    is_plain = all(event.lane != "c" and event.id and event.over_at is None for event in world.events)
    if is_plain and len(missing) != told:
        raise Violation(f"dropped: {missing} missing, {told} told")


def judge_ephemeral(world, got, told):
    """On a connection that nothing has cut, what no log has is sent, or told as dropped. Coalesced ones and those that
    may be over need not be either."""
    owed = [e for e in world.events if e.id is None and e.is_wanted and e.lane != "c" and e.over_at is None]
    missing = [event for event in owed if event.number not in got]
    if len(missing) > told:
        raise Violation(f"untold: {missing} missing, {told} told")


def run(rule, policy, operations):
    world = World(rule, policy)
    for operation in operations:
        world.step(operation)
    world.rest()
    judge(world)


def violation_of(rule, policy, operations):
    try:
        run(rule, policy, operations)
    except Violation as violation:
        return violation
    return None


# --- schedules -------------------------------------------------------------------------------------------------------

MIXES = ["ibc", "ibca", "iiib", "bc", "ica", "i", "ccb", "aaab"]


def random_event(rnd, mix, is_rich):
    lane = rnd.choice(mix)
    ttl = rnd.randrange(1, 6) if is_rich and lane != "a" and rnd.random() < 0.08 else None
    is_wanted, is_ephemeral = not is_rich or rnd.random() < 0.85, is_rich and rnd.random() < 0.1
    return ("pub", lane, rnd.choice("AB"), rnd.choice("xy"), is_wanted, ttl, is_ephemeral)


def random_operations(rnd):
    """@is_rich: with all that an event may have. Without, the judge can be exact."""
    operations, mix, is_rich = [], rnd.choice(MIXES), rnd.random() < 0.7
    for _ in range(rnd.randrange(3, 26)):
        x = rnd.random()
        if x < 0.48:
            operations.append(random_event(rnd, mix, is_rich))
        elif x < 0.60:
            operations.append(("write", rnd.randrange(1, 4)))
        elif x < 0.62:
            operations.append(("part",))
        elif x < 0.76:
            operations.append(("arrive", rnd.randrange(1, 4)))
        elif x < 0.84:
            operations.append(("tick",))
        elif x < 0.88:
            operations.append(("beat",))
        elif x < 0.91:
            operations.append((rnd.choice(["pause", "resume"]),))
        elif x < 0.96:
            operations.append(("cut",) if rnd.random() < 0.85 else ("end",))
            if rnd.random() < 0.7:
                operations.append(("connect",))
        else:
            operations.append((rnd.choice(["connect", "page"]),))
    return operations


def random_schedules(count, seed):
    """In batches with seeds of their own, so that they are the same however many processes share them."""
    for first in range(0, count, BATCH):
        rnd = random.Random(f"{seed}/{first}")
        for _ in range(min(BATCH, count - first)):
            yield rnd.choice(POLICIES), random_operations(rnd)


# What the short schedules are made of, and for which policies.
STEPS = [
    ("pub", "i", "A", "x", True, None, False),
    ("pub", "b", "A", "x", True, None, False),
    ("pub", "c", "A", "x", True, None, False),
    ("pub", "a", "B", "x", True, None, False),
    ("pub", "b", "A", "x", False, None, False),
    ("tick",),
    ("beat",),
    ("write", 1),
    ("arrive", 1),
    ("cut",),
]
SHORT_POLICIES = [BLOCK, DROP_OLDEST]


def put_operation(operation):
    name, *args = operation
    if name != "pub":
        return ":".join([name, *map(str, args)])
    lane, topic, key, is_wanted, ttl, is_ephemeral = args
    return f"pub:{lane}:{topic}:{key}:{'w' if is_wanted else 'u'}:{ttl or '-'}:{'e' if is_ephemeral else 'n'}"


def put_schedule(policy, operations):
    return f"{policy} {';'.join(map(put_operation, operations))}"


def read_operation(text):
    name, *args = text.split(":")
    if name != "pub":
        return (name, *map(int, args))
    lane, topic, key, wanted, ttl, ephemeral = args
    return ("pub", lane, topic, key, wanted == "w", None if ttl == "-" else int(ttl), ephemeral == "e")


def read_schedule(line):
    policy, _, operations = line.strip().partition(" ")
    return policy, [read_operation(text) for text in operations.split(";") if text]


def shrink(rule, policy, operations, kind):
    """The same kind of violation with as few operations as leaving out one or two at a time comes to."""

    def is_it(fewer):
        violation = violation_of(rule, policy, fewer)
        return violation is not None and violation.kind() == kind

    def without(places):
        return [operation for i, operation in enumerate(operations) if i not in places]

    places = itertools.chain.from_iterable
    while True:
        ways = places(itertools.combinations(range(len(operations)), n) for n in (1, 2))
        fewer = next((without(way) for way in ways if is_it(without(way))), None)
        if fewer is None:
            return operations
        operations = fewer


# --- the check -------------------------------------------------------------------------------------------------------


def search_batch(job):
    """The violations of one batch of random schedules: [(kind, policy, operations)], of each kind a few."""
    rule, count, seed, first = job
    rnd = random.Random(f"{seed}/{first}")
    found, kinds = [], {}
    for _ in range(count):
        policy, operations = rnd.choice(POLICIES), random_operations(rnd)
        violation = violation_of(RULES[rule], policy, operations)
        if violation and kinds.setdefault(violation.kind(), 0) < SHRUNK:
            kinds[violation.kind()] += 1
            found.append((violation.kind(), policy, shrink(RULES[rule], policy, operations, violation.kind())))
    return found


def search_all(job):
    """The first violation among the short schedules that begin with @first, and how many there are."""
    rule, length, first = job
    count = 0
    for rest in itertools.product(STEPS, repeat=length - len(first)):
        operations = [*first, *rest]
        for policy in SHORT_POLICIES:
            count += 1
            violation = violation_of(RULES[rule], policy, operations)
            if violation:
                return count, [(violation.kind(), policy, operations)]
    return count, []


def shortest_of_each(found):
    shortest = {}
    for kind, policy, operations in found:
        if kind not in shortest or len(operations) < len(shortest[kind][1]):
            shortest[kind] = (policy, operations)
    return dict(sorted(shortest.items()))


def report(rule, found):
    for kind, (policy, operations) in shortest_of_each(found).items():
        print(f"         {put_schedule(policy, operations)}\n           {violation_of(RULES[rule], policy, operations)}")


def verdict(is_good, what, how):
    print(f"{'ok' if is_good else 'FAIL':6} {what:24} {how}", flush=True)
    return is_good


def batches(rule, count, seed):
    return [(rule, min(BATCH, count - first), seed, first) for first in range(0, count, BATCH)]


def check_random(pool, count, seed):
    found = list(itertools.chain.from_iterable(pool.imap_unordered(search_batch, batches(Rule.name, count, seed))))
    is_good = verdict(not found, Rule.name, f"{count} random schedules (seed {seed})")
    report(Rule.name, found)
    return is_good


def check_all(pool, length):
    jobs = [(Rule.name, length, first) for first in itertools.product(STEPS, repeat=min(2, length))]
    counts, founds = zip(*pool.imap_unordered(search_all, jobs))
    found = list(itertools.chain.from_iterable(founds))
    is_good = verdict(not found, Rule.name, f"{sum(counts)} schedules, all of {length} operations")
    report(Rule.name, found)
    return is_good


def check_wrong(pool, rule, count, seed):
    """Until it is caught: most are within the first batch."""
    jobs = batches(rule, count, seed)
    found = []
    while jobs and not found:
        now, jobs = jobs[:2], jobs[2:]
        found = list(itertools.chain.from_iterable(pool.map(search_batch, now)))
    kinds = ", ".join(sorted({kind for kind, _, _ in found}))
    is_good = verdict(bool(found), rule, f"caught: {kinds}" if found else f"not caught in {count} schedules")
    report(rule, found)
    return is_good


def check(args):
    with multiprocessing.Pool(args.jobs) as pool:
        results = [check_random(pool, args.random, args.seed), check_all(pool, args.length)]
        results += [check_wrong(pool, rule.name, args.wrong, args.seed) for rule in WRONG]
    return 0 if all(results) else 1


def run_one(args):
    policy, operations = read_schedule(args.run)
    violation = violation_of(RULES[args.rule], policy, operations)
    print(violation or "no violation")
    return 1 if violation else 0


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=300000, metavar="N", help="random schedules of our rule")
    parser.add_argument("--length", type=int, default=5, metavar="N", help="and all with so many operations")
    parser.add_argument("--wrong", type=int, default=50000, metavar="N", help="random schedules, at most, of each wrong rule")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="processes")
    parser.add_argument("--schedules", type=int, metavar="N", help="print so many random schedules, and check nothing")
    parser.add_argument("--run", metavar="SCHEDULE", help="check this one")
    parser.add_argument("--rule", default=Rule.name, choices=RULES, help="of --run")
    return parser.parse_args()


def main():
    args = parse_args()
    if args.run:
        return run_one(args)
    if args.schedules is None:
        return check(args)
    for policy, operations in random_schedules(args.schedules, args.seed):
        print(put_schedule(policy, operations))
    return 0


if __name__ == "__main__":
    sys.exit(main())
