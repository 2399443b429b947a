# SPDX-License-Identifier: Apache-2.0
"""One round of the torture test: everybody publishes, something breaks, everything settles, and is judged."""

import asyncio
import json
import random
import time
from collections import Counter

import faults
from audience import MARKER, RULED, SINGLE, TOPICS
from checker import FORGOTTEN, LOST, Event, Judge, Ledger, Violation, judge_log, outstanding, show
from finite import Jobs, end_key
from ledger import Publish
from publishers import Draft
from wire import Redis, RedisError, data_of, key_of
from world import PREFIX, pairs, until

LONG_S = 6  # then it is told who was the last to settle
PATIENCE_S = 3  # how long a stream may go on, when all else has settled, that should have ended
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
        self.topics = TOPICS + self.jobs.topics + (run.bridge.topics if run.bridge else [])
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

    def _dump(self):
        """(topics, commands): what to read."""
        topics = self.topics + self.run.speaker.known_topics()
        commands = [("XRANGE", f"{PREFIX}:log:{t}", f"({self.base}-0", "+") for t in topics]
        return topics, commands + (self.run.bridge.dump_commands() if self.run.bridge else [])

    def _take_dump(self, topics, answers):
        found = {}
        if self.run.bridge:
            self.run.bridge.take_dump(answers[len(topics) :])
        for topic, entries in zip(topics, answers):
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
        topics, commands = self._dump()
        async with Redis(port or self.world.primary.port) as r:
            return self._take_dump(topics, await r.many(commands))

    async def archive_and(self, r, *commands):
        """The same, and @commands in the same atomic step."""
        topics, dump = self._dump()
        answers = await r.many([("MULTI",), *dump, *commands, ("EXEC",)])
        self._take_dump(topics, answers[-1][: len(dump)])

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
        await self.run.changes.calm()
        await self._settle_logins()
        await until(self._inbox_empty, "the inbox to be emptied", max(1, deadline - time.monotonic()))
        self.violations += await self.jobs.finish(deadline - time.monotonic(), bool(self.loss and self.loss.reset))
        await until(self._inbox_empty, "the inbox to be emptied", max(1, deadline - time.monotonic()))
        if self.run.bridge:
            await until(self.run.bridge.is_empty, "the bridged stream to be emptied", max(1, deadline - time.monotonic()))
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
                f"{stream.judged.name} ({stream.request_query()}): {'settled' if stream.settled else 'not settled'}, "
                f"{vars(stream.habits)}, waits for "
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
            for topic in TOPICS + (self.run.bridge.topics if self.run.bridge else []):
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
            if not stream.slow and not stream.habits.pauses and any(c in stream.query for c in "*>"):
                table["silence"] = max(table["silence"], stream.silence)
        may_lose = self.loss.may_take if self.loss else None
        self.violations += judge_log(
            ledger.events, publishers.outcomes, may_lose, {e.id for e in self.lost} if self.loss else ()
        )
        self.violations += run.changes.judge(self.kind)
        if run.bridge:
            self.violations += run.bridge.judge(ledger.events, may_lose)
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
        run.speaker.forget_old()
        now = time.monotonic()
        for stream in run.streams:
            stream.records = []
            stream.silence = 0.0
            stream.last_delivery = now
