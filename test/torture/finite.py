# SPDX-License-Identifier: Apache-2.0
"""Topics that end (docs/protocol.md, 8.4): each round has some of its own. Who publishes to them, how they end, who
reads them until there is nothing more, and what is wrong if the answers do not agree."""

import asyncio
import json
import random

from checker import Client, Violation
from ledger import APPENDED, COALESCED, END, End
from publishers import Draft
from stream import Stream, Wishes
from wire import Redis, RedisError, http
from world import PREFIX, until

# How a topic ends. `left`: not until the round is over.
WAYS = ("event", "event", "call", "cancelled", "path", "delete", "timeout", "left")
END_AFTER_MS = 400
LATE_S = 20  # what the nodes together may take for a topic that is due: a node may just have died
REASONS = {"event": "end", "call": "end", "path": "end", "cancelled": "cancelled", "delete": "cancelled"}
# What of it a client asks for. `live`: nothing of the log.
SORTS = ("whole", "whole", "whole", "live", "typed", "snapshot", "two")


def end_key(id):
    """What the judge calls an end without data: only its id tells it from others."""
    return f"end#e{id}"


class Job:
    """A topic and its publisher."""

    def __init__(self, topic, rng, publishers):
        self.topic, self.rng, self.publishers = topic, rng, publishers
        self.way = rng.choice(WAYS)
        self.events = rng.randint(4, 30)
        self.lane = rng.choice((APPENDED, APPENDED, APPENDED, "batched", COALESCED, None))
        self.over = asyncio.Event()  # somebody has been told that it has ended
        self.answers = []  # what anybody was told of its end

    def _draft(self, more=()):
        type = "created" if self.rng.random() < 0.2 else None
        return Draft((self.topic,), type, None, self.lane, self.rng.choice((None, "k1")), more)

    async def _publish(self, more=()):
        door = self.rng.choice("FFP")
        publish = self.publishers.fcall if door == "F" else self.publishers.post
        return await self.publishers.publish(self._draft(more), door, publish)

    async def run(self):
        """Until it has ended, or the round is over. Where it is cancelled its publisher is not told."""
        running = self.publishers.running
        await running.wait()
        last = self.events - (1 if self.way == "event" else 0)
        cancel_at = self.rng.randrange(self.events) if self.way in ("cancelled", "delete") else None
        more = {"end_after": END_AFTER_MS} if self.way == "timeout" else {}
        for number in range(last):
            if not running.is_set():
                return
            if number == cancel_at:
                await self._end()
            await self._publish(more)
            await asyncio.sleep(self.rng.expovariate(25))
        if running.is_set():
            if self.way == "event":
                await self._publish({"end": True})
            elif self.way in ("call", "path"):
                await self._end()
        self.over.set()

    async def _end(self):
        self.publishers.in_flight += 1
        try:
            answer = await (self._end_by_path() if self.way in ("path", "delete") else self._end_by_call())
        except (OSError, EOFError, RedisError, asyncio.TimeoutError):
            answer = None  # nobody knows
        finally:
            self.publishers.in_flight -= 1
        if answer:
            self.answers.append(answer)

    async def _end_by_path(self):
        method, path = ("DELETE", "") if self.way == "delete" else ("POST", "/end")
        world = self.publishers.world
        status, body = await http(world.front, method, f"/topics/{self.topic}{path}", b"", self.publishers.headers)
        if status == 200:
            answer = json.loads(body)
            return End(int(answer["id"]), answer["reason"])
        if status not in (502, 503, 504):
            raise AssertionError(f"{method} /topics: {status} {body[:200]!r}")

    async def _end_by_call(self, reason=None):
        async with Redis(self.publishers.world.primary.port) as r:
            answer = await r("FCALL", "sse_end", 1, PREFIX, "topic", self.topic, "reason", reason or REASONS[self.way])
        return End(int(answer[0]), answer[1])

    async def known(self):
        """What Redis says of its end; None: it has not ended, or Redis does not say."""
        try:
            async with Redis(self.publishers.world.primary.port) as r:
                answer = await r("FCALL", "sse_ended", 1, PREFIX, "topic", self.topic)
        except (OSError, RedisError, asyncio.TimeoutError):
            return None
        return End(int(answer[1]), answer[2]) if answer else None


class Jobs:
    """Those of a round."""

    def __init__(self, run, number, count):
        self.run, self.publishers = run, run.publishers
        self.rng = random.Random(f"{run.seed}/finite/{number}")
        self.jobs = [Job(f"fin.r{number}.j{i}", self.rng, run.publishers) for i in range(count)]
        self.topics = [job.topic for job in self.jobs]
        self.ends = {}
        self.streams = [self._stream(job, i) for job in self.jobs for i in range(self.rng.randint(2, 5))]
        self.tasks = []
        self.publishers.refusals = []

    def start(self):
        self.tasks = [asyncio.create_task(x.run()) for x in (*self.jobs, *self.streams)]
        self.tasks.append(asyncio.create_task(self._rove()))

    def _stream(self, job, number):
        rng = self.rng
        sort = rng.choice(SORTS)
        names, types, asked = [job.topic], [], []
        if sort == "two" and len(self.jobs) > 1:
            names.append(rng.choice([j.topic for j in self.jobs if j is not job]))
        if sort == "typed":
            types = ["created"]
        if sort in ("whole", "typed", "two"):
            asked.append("replay=whole")
        elif sort == "snapshot":
            asked.append("snapshot=1")
        finite, slow = rng.random() < 0.7, rng.random() < 0.2
        asked += ["finite=1"] if finite else []
        asked += [f"flush={rng.choice(('20ms', '100ms', '1s'))}"] if rng.random() < 0.5 else []
        asked += ["buffer=4"] if slow else []
        whole, snapshot = "replay=whole" in asked, 4 if sort == "snapshot" else 0
        client = Client(f"{job.topic}-{number}", names, types, None, snapshot=snapshot, whole=whole, finite=finite)
        query = "&".join([f"topic={n}" for n in names] + [f"event={t}" for t in types] + asked)
        targets = [self.run.world.front] if rng.random() < 0.34 else [r.port for r in self.run.world.relays]
        wishes = Wishes(rng.random() < 0.3, 3000 if slow else 0, 0.5)
        stream = FiniteStream(client, query, targets, rng, slow, rng.random() < 0.6, None, wishes)
        stream.kind = f"finite {sort}"
        stream.wait_for = job.over if rng.random() < 0.2 else None
        stream.delay = rng.uniform(0, 0.6)
        return stream

    async def _rove(self):
        """Reloads, now and then, and some more once all has come."""
        rng = random.Random(self.rng.random())
        while True:
            await asyncio.sleep(rng.uniform(0.02, 0.1))
            roving = [s for s in self.streams if s.roving and s.live]
            if roving:
                rng.choice(roving).rove()

    async def finish(self, seconds, reset):
        """Ends what has not ended. Returns what was wrong. @reset: Redis has lost data, ends among them perhaps."""
        wrong = []
        for job in self.jobs:
            if job.way == "timeout" and not reset and self._accepted(job):
                await until(lambda: job.known(), f"{job.topic} to end as nothing follows", LATE_S)

            async def end():
                try:
                    return await job._end_by_call("end")
                except (OSError, RedisError, asyncio.TimeoutError):
                    return None

            answer = await until(end, f"{job.topic} to be ended", max(1, seconds))
            self.ends[job.topic] = answer
            job.over.set()
            if not reset:
                wrong += self._disagree(job, answer)
            wrong += await self._try_again(job, answer)
        return [Violation(END, "publisher", text) for text in wrong]

    def _accepted(self, job):
        return any(o == "acked" and topics == (job.topic,) for o, _, topics in self.publishers.outcomes.values())

    def _disagree(self, job, end):
        """What anybody was told of the end, and what was taken after it."""
        told = [*job.answers, *(e for topic, e in self.publishers.refusals if topic == job.topic)]
        found = [f"{job.topic} ended as {end}, and somebody was told {other}" for other in told if other != end]
        for key, (outcome, id, topics) in self.publishers.outcomes.items():
            if outcome == "acked" and job.topic in topics and id > end.id:
                found.append(f"{key} was accepted as {id}, after {end}")
        reason = REASONS.get(job.way)
        if job.way == "timeout" and self._accepted(job):
            reason = "timeout"
        if job.answers and reason != end.reason:
            found.append(f"{job.topic} was ended by {job.way}, and {end.reason} is the reason")
        return found

    async def _try_again(self, job, end):
        """No door takes anything more. What the inbox took is judged by the log."""
        publishers, found = self.publishers, []
        publishers.refusals = []
        for door, publish in (("F", publishers.fcall), ("P", publishers.post), ("X", publishers._xadd)):
            draft = job._draft()
            outcome = await publishers.publish(draft, door, publish)
            if outcome == "acked":
                found.append(f"{draft.key} was accepted, and its topic had ended: {end}")
            if door == "X":
                publishers.outcomes[draft.key] = ("refused", None, draft.topics)
        found += [f"409 says {e} of {t}, which ended as {end}" for t, e in publishers.refusals if e != end]
        return found

    def stop(self):
        for task in self.tasks:
            task.cancel()
        for stream in self.streams:
            stream.stop()


class FiniteStream(Stream):
    """Reads until there is nothing more: until 204, if it asks for that, else until it has been told the end twice."""

    wait_for = None
    delay = 0.0

    def __init__(self, *args, **named):
        super().__init__(*args, **named)
        self.done = False
        self.ends = self.overs = 0
        self._told = set()

    @property
    def settled(self):
        return self.done

    async def run(self):
        if self.wait_for:
            await self.wait_for.wait()
        await asyncio.sleep(self.delay)
        await super().run()

    def connection_made(self, transport):
        self._told = set()
        super().connection_made(transport)

    def told_end(self, topic):
        self._told.add(topic)

    def end(self, why):
        if not self._over and why == "complete" and self._told >= set(self.judged.names):
            self.ends += 1
            if not self.judged.finite and self.ends > 1:
                self.done = self.stopping = True
                self.record("enough")
        super().end(why)

    def over(self):
        self.overs += 1
        self.done = self.stopping = True
