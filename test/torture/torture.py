#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Nothing lost, nothing twice: relays under every failure, judged from outside. See docs/torture.md.

    test/torture/torture.py --seconds 120 --seed 7
    test/torture/torture.py --seeds regression
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[1] / "integration"))

import faults  # noqa: E402
from audience import LANED, MARKER, PAIRS, RULED, SINGLE, TOPICS, make_streams  # noqa: E402
from access import TWO_STREAMS  # noqa: E402
from checker import FORGOTTEN, LOST, Event, Judge, Ledger, Violation  # noqa: E402
from checker import judge_log, outstanding, show  # noqa: E402
from finite import Jobs, end_key
from ledger import Publish
from logins import GROUPS, Logins  # noqa: E402
from publishers import Draft, Publishers  # noqa: E402
from report import merge, print_auth_table, print_flow_table, print_table  # noqa: E402
from wire import Redis, RedisError, data_of, key_of  # noqa: E402
from world import PREFIX, World, knows_sentinel, pairs, until  # noqa: E402

LONG_S = 6  # then it is told who was the last to settle
PATIENCE_S = 3  # how long a stream may go on, when all else has settled, that should have ended
MAX_BAD_ROUNDS = 3
MAX_EVENTS = 200

class Stuck(Exception):
    pass


def event_of(id, topics, values):
    """Of an entry of a log."""
    match = json.loads(values["match"]) if "match" in values else None
    key = key_of(values["data"].encode()) if values["data"] else end_key(id)
    lane, slot = ruled(topics, values.get("priority")), values.get("key")
    return Event(id, key, topics, values.get("event"), match=match, lane=lane, slot=slot)


def known_event(id, key, known):
    """Of what was published."""
    lane = ruled(known.topics, known.lane)
    return Event(id, key, known.topics, known.type, match=known.match, lane=lane, slot=known.slot)


def ruled(topics, lane):
    """An event's priority: its publisher's, or that of the relays' rules."""
    return lane or (RULED.get(topics[0]) if len(topics) == 1 else None)


# --- one round ---


class Round:
    """From one settled moment to the next, with one fault between."""

    def __init__(self, run, number, kind):
        self.run = run
        self.number = number
        self.kind = kind
        self.world = run.world
        self.rng = random.Random(f"{run.seed}/{number}")
        self.loss = None
        self.single_topics = SINGLE
        self.max_events = MAX_EVENTS
        self.known = {}  # id → Event: what was seen in any log, or acknowledged
        self.notes = []
        self.violations = []
        self.base = run.base
        self.jobs = Jobs(run, number, run.options.finite)
        self.topics = TOPICS + self.jobs.topics
        self.streams = run.streams + self.jobs.streams
        run.topics += self.jobs.topics
        for client in (s.judged for s in self.streams if s.judged.snapshot):
            client.snapshot = 2 * sum(client.wants_topic(t) for t in run.topics)
        self.started = time.time()
        self.caught_up = None
        self.last = None  # who was waited for, after a long while

    def note(self, text):
        self.notes.append(text)

    def complain(self, text):
        self.violations.append(Violation("process", "relay", text))

    async def sleep(self, low, high):
        await asyncio.sleep(self.rng.uniform(low, high))

    # --- the logs ---

    def _dump_commands(self):
        return [("XRANGE", f"{PREFIX}:log:{t}", f"({self.base}-0", "+") for t in self.topics]

    def _take_dump(self, answers):
        found = {}
        for topic, entries in zip(self.topics, answers):
            if isinstance(entries, RedisError):
                raise entries
            for entry, flat in entries:
                values = pairs(flat)
                id = int(entry.split("-")[0])
                topics = found[id].topics + (topic,) if id in found else (topic,)
                found[id] = event_of(id, topics, values)
        for event in found.values():
            self._take_end(event.key, event.topics)
        self.known.update(found)
        return found

    def _take_end(self, key, topics):
        """An end without data is published by whoever ended the topic."""
        if key.startswith("end#e"):
            self.run.publishers.published.setdefault(key, Publish(topics, "end"))

    async def archive(self, port=None):
        """Remembers what the logs hold now; returns it."""
        async with Redis(port or self.world.primary.port) as r:
            return self._take_dump(await r.many(self._dump_commands()))

    async def archive_and(self, r, *commands):
        """The same, and @commands in the same atomic step."""
        answers = await r.many([("MULTI",), *self._dump_commands(), *commands, ("EXEC",)])
        self._take_dump(answers[-1][: len(self.topics)])

    async def publish_at_once(self, r, topic, count, size, atomic=False, type=None):
        publishers = self.run.publishers
        drafts = [Draft((topic,), type) for _ in range(count)]
        keys = [publishers.take(draft, "b") for draft in drafts]
        for draft in drafts:
            draft.data = data_of(draft.key, size)
        commands = [("FCALL", "sse_publish", 1, PREFIX, *draft.fields()) for draft in drafts]
        if atomic:
            answers = (await r.many([("MULTI",), *commands, ("EXEC",)]))[-1]
        else:
            answers = await r.many(commands)
            answers = answers if isinstance(answers, list) else [answers]
        for key, answer in zip(keys, answers):
            if isinstance(answer, RedisError):
                publishers.outcomes[key] = ("refused", None, (topic,))
            else:
                publishers.outcomes[key] = ("acked", int(answer), (topic,))

    # --- the course of it ---

    async def go(self):
        prepare, inject = faults.FAULTS[self.kind]
        run = self.run
        if prepare:
            await prepare(self)
        self.jobs.start()
        run.publishers.running.set()
        await self.sleep(0.3, 0.8)
        await inject(self)
        ended = time.monotonic()
        await self.sleep(0.2, 0.8)
        for stream in self.streams:
            stream.hurry = True
            stream.read_on()
        try:
            await self._settle(ended)
        except (Stuck, TimeoutError) as error:
            self.violations.append(Violation("stuck", "round", str(error)))
        self.recovery = time.monotonic() - ended
        self.jobs.stop()
        await self._judge()
        for stream in run.streams:
            stream.hurry = False

    async def _settle(self, ended):
        """Until every client has had, or been told of, all that it is owed."""
        deadline = ended + self.run.options.settle
        publishers = self.run.publishers
        await publishers.pause()
        await self._settle_logins()
        await until(self._inbox_empty, "the inbox to be emptied", max(1, deadline - time.monotonic()))
        self.violations += await self.jobs.finish(deadline - time.monotonic(), bool(self.loss and self.loss.reset))
        await until(self._inbox_empty, "the inbox to be emptied", max(1, deadline - time.monotonic()))
        # Without a marker, a lost tail must be found by the relays alone.
        if self.rng.random() < 0.5:
            self.note("quiet")
        else:
            await self._mark(deadline)
        late = list(self.streams)
        late_for_marks = None
        while True:
            ledger = await self._ledger()
            late = [s for s in late if self._is_late(s, ledger)]
            if not late:
                late = [s for s in self.streams if self._is_late(s, ledger)]
                if not late and not self._is_left_open():
                    return
            if late and time.monotonic() > ended + LONG_S:
                self.last = late[0]
            if time.monotonic() > deadline:
                raise Stuck(self._describe(late, ledger))
            await asyncio.sleep(0.1)

    def _is_late(self, stream, ledger):
        return not stream.settled or outstanding(stream.judged, stream.records, ledger)

    def _is_left_open(self):
        """Whether there are streams that should have ended, and may be about to."""
        logins = self.run.logins
        self.caught_up = self.caught_up or time.time()
        return logins and logins.left_open(self.run.streams, self.caught_up, PATIENCE_S)

    async def _settle_logins(self):
        """From here on it is known who was revoked, as far as it ever will be."""
        logins = self.run.logins
        if not logins:
            return
        try:
            await logins.pause()
        finally:
            self._forget_logins()

    def _forget_logins(self):
        """What Redis has lost of them: after a failover what the old primary took, up to now."""
        if self.loss and self.loss.reset:
            since = 0.0 if self.loss.state == LOST else self.started
            self.run.logins.law.forget(since, time.time())

    def _describe(self, late, ledger):
        lines = [f"{len(late)} of {len(self.streams)} clients have not caught up in time"]
        for stream in late[:5]:
            owed = outstanding(stream.judged, stream.records, ledger)
            last = show(stream.records[-1]) if stream.records else "nothing in this round"
            lines.append(
                f"{stream.judged.name} ({stream.query}): {'settled' if stream.settled else 'not settled'}, waits for "
                f"{len(owed)} events, first {owed[:1]}; its last record: {last}"
            )
        return "\n      ".join(lines)

    async def _inbox_empty(self):
        try:
            return await self.world.primary.call("XLEN", f"{PREFIX}:inbox") == 0
        except (OSError, RedisError):
            return False

    async def _mark(self, deadline):
        """One event on every topic, of a type that every client takes."""

        async def possible():
            try:
                return await self.world.primary.call("FCALL", "sse_version", 0)
            except (OSError, RedisError):
                return False

        await until(possible, "the functions to be there again", max(1, deadline - time.monotonic()))
        async with Redis(self.world.primary.port) as r:
            for topic in TOPICS:
                await self.publish_at_once(r, topic, 1, 0, type=MARKER)

    async def _ledger(self):
        """What is known of this round's events now."""
        publishers = self.run.publishers
        try:
            self.final = await self.archive()
        except (OSError, RedisError):
            pass  # Redis is not back yet: judged by what it had
        events = dict(self.known)
        for key, (outcome, id, topics) in publishers.outcomes.items():
            if id and id not in events:
                events[id] = known_event(id, key, publishers.published[key])
        for stream in self.streams:
            for record in stream.records:
                if record[0] == "end":
                    self._take_end(end_key(record[2]), (record[1],))
            for record in stream.records:
                if record[0] == "event" and record[1] and record[1] > self.base and record[1] not in events:
                    known = publishers.published.get(record[3])
                    if known:
                        events[record[1]] = known_event(record[1], record[3], known)
        self.lost = [e for e in events.values() if e.id not in self.final]
        if not self.loss:
            # Nothing may be missing. What is missing is told by judge_log(), and by clients that had it as strays.
            events = dict(self.final)
        else:
            for event in self.lost:
                if self.loss.may_take(event.topics):
                    event.state = self.loss.state
        losses = self.run.losses + self._reset(events)
        return Ledger(
            events.values(),
            losses,
            rewound=bool(self.loss and self.loss.reset) or self.run.rewound,
            forked=bool(self.loss and self.loss.state == FORGOTTEN),
            publishes=publishers.published,
            older=self.run.history,
            law=self.run.logins and self.run.logins.law,
            ends={**self.run.ends, **self.jobs.ends},
        )

    def _reset(self, events):
        """The range of ids in which Redis lost data as a whole, if it did."""
        if not self.loss or not self.loss.reset:
            return []
        unknown = any(o[0] == "unknown" for o in self.run.publishers.outcomes.values())
        if not self.lost and not unknown and self.loss.state != LOST:
            return []
        top = max([self.base, *(e.id for e in self.lost)])
        later = [id for id in self.final if id > top]
        return [(self.base, min(later) - 1 if later else top + 10**9)]

    async def _judge(self):
        run = self.run
        publishers = run.publishers
        ledger = await self._ledger()
        run.losses += self._reset(None)
        run.rewound = bool(self.loss and self.loss.reset)
        table = run.table.setdefault(self.kind, Counter())
        table["rounds"] += 1
        if run.logins:
            run.logins.law.settle(time.time() + 1)
            self._forget_logins()
            found = run.logins.judge(ledger)
            tolerated = [v for v in found if v.kind in run.options.tolerate]
            table["tolerated"] += len(tolerated)
            self.violations += [v for v in found if v not in tolerated]
            run.logins.count_into(table)
        bad = []
        for stream in self.streams:
            judge = Judge(stream.judged, stream.records, ledger)
            table["delivered"] += judge.delivered
            table["gaps"] += judge.gaps
            run.count_flow(stream, judge)
            for what, count in judge.forgotten.items():
                table[f"forgotten-{what}"] += count
            if judge.violations:
                bad.append((stream, judge.violations, stream.records))
                self.violations += judge.violations
            if not stream.slow and any(c in stream.query for c in "*>"):
                table["silence"] = max(table["silence"], stream.silence)
        may_lose = self.loss.may_take if self.loss else None
        self.violations += judge_log(
            ledger.events, publishers.outcomes, may_lose, {e.id for e in self.lost} if self.loss else ()
        )
        for violation in self.violations:
            table[violation.kind] += 1
        table["recovery"] = max(table["recovery"], self.recovery)
        table["forgotten"] += sum(e.state == FORGOTTEN for e in ledger.events)
        table["lost"] += sum(e.state == LOST for e in ledger.events)
        if self.violations:
            run.keep(self, bad, ledger)
        run.base = max([self.base, *(e.id for e in ledger.events)])
        run.ledger = ledger
        run.ends.update(self.jobs.ends)
        run.history.update((e.id, e) for e in ledger.events)
        publishers.forget_old()
        now = time.monotonic()
        for stream in run.streams:
            stream.records = []
            stream.silence = 0.0
            stream.last_delivery = now


# --- a run: one seed ---


class Run:
    def __init__(self, seed, options):
        seed, with_auth, _ = seed.partition("+auth")
        self.seed = seed
        self.options = options
        self.rng = random.Random(seed)
        self.dir = Path(tempfile.mkdtemp(prefix=f"sse-relay-torture-{seed}-"))
        self.base = 0
        self.losses = []
        self.rewound = False
        self.ledger = None
        self.topics = list(TOPICS)  # of all rounds
        self.ends = {}  # topic → End, the same
        self.history = {}  # id → Event, of all rounds before
        self.table = {}
        self.flow = {}
        self.bad_rounds = 0
        self.problems = []
        # Its own source of chance: the schedule of a seed is the same either way.
        by_seed = random.Random(f"{seed}/sentinel").random() < 0.5 and knows_sentinel()
        by_seed = by_seed and not set(options.faults or []) & set(faults.NETWORK)
        use_sentinel = {"auto": by_seed, "yes": True, "no": False}[options.sentinel]
        relay = {
            "workers": 2,
            "retry": "200ms",
            "drain": "1s",
            "heartbeat": "5s",
            "queue.max_events": 128,
            "queue.max_bytes": "256KB",
            "log.max_events": MAX_EVENTS,
            "max_lifetime": self.rng.choice(["0", "20s"]),
            "compress": ">",
            "flush": "300ms",
            "lanes": ",".join(f"{topic}={lane}" for topic, lane in RULED.items()),
            # Little, so that it shows within a round that somebody reads slowly.
            "socket.unsent": random.Random(f"{seed}/unsent").choice(["4KB", "16KB", "64KB"]),
        }
        # Streams that hold much, on nodes that may hold little: the slowest have to go by their policies.
        self.little = random.Random(f"{seed}/memory").random() < 0.4
        if self.little:
            relay |= {"memory.events": "1MB", "queue.max_events": 2000, "queue.max_bytes": "8MB"}
        mixed = random.Random(f"{seed}/auth").random() < 0.5
        with_auth = bool(with_auth) or {"on": True, "off": False, "mix": mixed}[options.auth]
        self.logins = Logins(self.dir, seed) if with_auth else None
        self.world = World(self.dir, {"sentinel": use_sentinel, "relay": {**relay, **self._auth_options()}})
        self.match_rng = random.Random(f"{seed}/match")
        key = self.logins and self.logins.keys[1]
        self.publishers = Publishers(
            self.world, SINGLE + PAIRS, PAIRS, LANED, f"{seed}/publishers", options.rate, self._choose_match, key
        )
        self.publishers.large = 0.25 if self.little else 0.03
        visas = list(self.logins.issue_visas(options.clients)) if with_auth else [None] * options.clients
        chance = random.Random(f"{seed}/clients"), random.Random(f"{seed}/flow")
        self.streams = make_streams(options.clients, self.world, chance[0], visas, chance[1])

    def _auth_options(self):
        return self.logins.options() if self.logins else {}

    def _choose_match(self):
        """For whom an event is. Without authentication one that is for some reaches nobody."""
        rng = self.match_rng
        if rng.random() > (0.3 if self.logins else 0.05):
            return None
        names = [s.name for s in self.logins.subjects] if self.logins else ["user-1"]
        whole = {"group": rng.choice(GROUPS), "user": rng.choice(names)}
        return {k: whole[k] for k in rng.choice((("group",), ("group",), ("user",), ("group", "user")))}

    def schedule(self):
        """All kinds in a new order each time."""
        kinds = self.options.faults or [k for k in faults.FAULTS if not (self.world.use_sentinel and k in faults.NETWORK)]
        while True:
            deck = list(kinds)
            self.rng.shuffle(deck)
            yield from deck

    async def go(self):
        tasks = []
        try:
            await self.world.start()
            tasks = [asyncio.create_task(s.run()) for s in self.streams]
            tasks += self.publishers.start()
            tasks.append(asyncio.create_task(self._rove()))
            if self.logins:
                tasks += self.logins.start(self.world, self.publishers.running)
            await until(self._all_live, "all clients to be connected", 30)
            end = time.monotonic() + self.options.seconds
            for number, kind in enumerate(self.schedule(), 1):
                if time.monotonic() > end or self.bad_rounds >= MAX_BAD_ROUNDS:
                    break
                await self._round(number, kind, tasks)
        except Exception as error:  # of the harness, or a process that did not start
            self.problems.append(f"{type(error).__name__}: {error}")
            if self.options.verbose:
                import traceback

                traceback.print_exc()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for stream in self.streams:
                stream.stop()
            self.problems += await self.world.stop()
            self.problems += self.logins.spilled() if self.logins else []
        if self.little:
            print(f"seed {self.seed}: nodes had too much in memory {self.times_full()} times", flush=True)
        if self.ok:
            shutil.rmtree(self.dir)
        return self.ok

    def times_full(self):
        logs = [(relay.dir / "log").read_text(errors="replace") for relay in self.world.relays]
        return sum(text.count("events take more memory than memory.events") for text in logs)

    @property
    def ok(self):
        return not self.problems and not self.bad_rounds

    async def _round(self, number, kind, tasks):
        round = Round(self, number, kind)
        started = time.monotonic()
        await round.go()
        for task in [*tasks, *(self.logins.tasks if self.logins else ())]:
            if task.done() and task.exception():
                raise task.exception()
        self.bad_rounds += bool(round.violations)
        if any(v.kind == "stuck" for v in round.violations):
            self.bad_rounds = MAX_BAD_ROUNDS  # what is still on its way would be blamed on the next fault
        if self.options.verbose or round.violations:
            spent = time.monotonic() - started
            verdict = ", ".join(f"{k} {n}" for k, n in Counter(v.kind for v in round.violations).items()) or "ok"
            print(
                f"seed {self.seed} round {number} {kind} {' '.join(round.notes)}: {verdict}; {len(self.ledger.events)} events, "
                f"caught up {round.recovery:.1f} s, {spent:.1f} s in all"
                + (f", at last {round.last.kind} {round.last.query}" if round.last else ""),
                flush=True,
            )

    def count_flow(self, stream, judge):
        """By the kind of client: how often there was one in a round, and what it had."""
        count = self.flow.setdefault(stream.kind, Counter())
        count["clients"] += 1
        for name in ("delivered", "merged", "joined", "dropped", "gaps"):
            count[name] += getattr(judge, name)
        count["ends"] += sum(r[0] == "end" for r in stream.records)
        count["204"] += sum(r[0] == "over" for r in stream.records)

    async def _all_live(self):
        return all(s.live for s in self.streams)

    async def _rove(self):
        rng = random.Random(f"{self.seed}/rove")
        roving = [s for s in self.streams if s.roving]
        while roving:
            await asyncio.sleep(rng.uniform(0.1, 0.4))
            rng.choice(roving).rove()

    def keep(self, round, bad, ledger):
        """Shows the first violations of each kind, and writes down all that belongs to them."""
        shown = Counter()
        print(f"seed {self.seed} round {round.number} {round.kind} {' '.join(round.notes)}:", flush=True)
        for violation in round.violations:
            shown[violation.kind] += 1
            if shown[violation.kind] <= 3:
                print("  " + str(violation), flush=True)
        for kind, count in shown.items():
            if count > 3:
                print(f"  … {count - 3} more: {kind}", flush=True)
        path = self.dir / f"round-{round.number}-{round.kind}.txt"
        with open(path, "w") as out:
            print(f"seed {self.seed}, fault {round.kind}, {round.notes}", file=out)
            print(f"base {round.base}, losses {ledger.losses}, loss {vars(round.loss) if round.loss else None}", file=out)
            for violation in round.violations:
                print(violation, file=out)
            print("\nevents:", file=out)
            for event in ledger.events:
                print(" ", event, ",".join(event.topics), event.type, file=out)
            for stream, violations, records in bad[:20]:
                print(f"\n{stream.judged.name} {stream.query} slow={stream.slow} ports={stream.targets}", file=out)
                for record in records:
                    print(" ", show(record), file=out)
        print(f"  everything about it: {path}", flush=True)


def regression_seeds():
    """[(seed, faults or None for all)]; a seed that ends in +auth is one with tokens, the others have none."""
    lines = (Path(__file__).parent / "seeds").read_text().splitlines()
    found = [line.split()[:2] for line in lines if line.strip() and not line.startswith("#")]
    return [(seed, None if names == "all" else names.split(",")) for seed, names in found]


def main():
    parser = argparse.ArgumentParser(description="relays under every failure, judged from outside")
    parser.add_argument("--seconds", type=float, default=120, help="for each seed")
    parser.add_argument("--seed", default=None, help="a number; a random one if not given")
    parser.add_argument("--seeds", default="", help="several, separated by commas; or: regression")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--finite", type=int, default=6, help="topics of each round that end in it")
    parser.add_argument("--settle", type=float, default=30, help="seconds after which a round is stuck")
    parser.add_argument("--rate", type=float, default=1.0, help="1: about 100 events a second")
    parser.add_argument("--faults", type=lambda t: t.split(","), help="only these kinds: " + ", ".join(faults.FAULTS))
    parser.add_argument("--sentinel", choices=["auto", "yes", "no"], default="auto", help="relays use redis+sentinel://")
    parser.add_argument("--auth", choices=["mix", "on", "off"], help="mix, the default: in half of the seeds")
    parser.add_argument("--tolerate", type=lambda t: t.split(","), default=[], help="count it, and go on: " + TWO_STREAMS)
    parser.add_argument("--verbose", action="store_true", help="a line for each round")
    options = parser.parse_args()
    for kind in options.faults or []:
        if kind not in faults.FAULTS:
            parser.error(f"unknown fault {kind}")
    options.auth = options.auth or ("off" if options.seeds == "regression" else "mix")
    if options.seeds == "regression":
        seeds = regression_seeds()
    elif options.seeds:
        seeds = [(seed, options.faults) for seed in options.seeds.split(",")]
    else:
        seeds = [(options.seed or str(random.SystemRandom().randrange(1, 10**6)), options.faults)]
    total, flow, failed = {}, {}, []
    for seed, options.faults in seeds:
        run = Run(seed, options)
        how = "Sentinel" if run.world.use_sentinel else "forwarders"
        how += ", tokens" if run.logins else ""
        how += ", little memory" if run.little else ""
        print(f"seed {seed}: {options.seconds:g} s, {len(run.streams)} clients, {how}, logs in {run.dir}", flush=True)
        if not asyncio.run(run.go()):
            failed.append(seed)
            for problem in run.problems:
                print(f"seed {seed}: {problem}", flush=True)
            print(f"seed {seed}: FAILED, kept {run.dir}", flush=True)
        merge(total, run.table)
        merge(flow, run.flow)
    print_table(total)
    print_flow_table(flow)
    print_auth_table(total)
    if failed:
        print(f"FAILED: seeds {','.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
