# SPDX-License-Identifier: Apache-2.0
"""Publishers through all four doors. Each publish has a key, topic#<door><number>, that is part of its data; what
became of it is kept: acked (with its id), queued (in the inbox), refused, or unknown."""

import asyncio
import json
import random
import time

from ledger import APPENDED, COALESCED, End, Publish
from wire import Redis, RedisError, data_of, http
from world import PREFIX

TYPES = [None, None, "created", "updated", "noise"]
RATES = {"f": 40, "x": 25, "p": 20, "r": 15}  # a second: FCALL, XADD, POST, raw PUBLISH
PAUSE_S = 0.05  # after a failure
# The same doors again for topics with lanes, in capital letters.
LANE_RATES = {"F": 35, "X": 15, "P": 10}
LANES = [None, "instant", "batched", COALESCED, COALESCED, COALESCED, APPENDED, APPENDED, APPENDED]
SLOTS = [None, "k1", "k2"]


class Draft:
    """An event that is about to be published."""

    def __init__(self, topics, type=None, match=None, lane=None, slot=None, more=()):
        self.topics, self.type, self.match, self.lane, self.slot = topics, type, match, lane, slot
        self.more = dict(more)  # further fields: `end`, `end_after`
        self.key = self.data = None

    def fields(self):
        """Of FCALL sse_publish and XADD."""
        names = [part for topic in self.topics for part in ("topic", topic)] + ["data", self.data]
        for name, value in self._options():
            names += [name, json.dumps(value) if name == "match" else int(value) if value is True else value]
        return names

    def body(self):
        """Of POST /publish."""
        return {"topics": self.topics, "data": self.data, **dict(self._options())}

    def _options(self):
        found = {"event": self.type, "match": self.match, "priority": self.lane, "key": self.slot, **self.more}
        return [(name, value) for name, value in found.items() if value]


class Publishers:
    def __init__(self, world, topics, pairs, laned, seed, rate, choose_match=lambda: None, key=None):
        self.world = world
        self.choose_match = choose_match  # for whom an event is; None: for all
        self.headers = (f"Authorization: Bearer {key}",) if key else ()
        self.topics = topics
        self.pairs = pairs  # topics that may share an event
        self.laned = laned  # topics of events with priorities
        self.rng = random.Random(seed)
        self.lane_rng = random.Random(f"{seed}/lanes")
        self.rate = rate
        self.large = 0.03  # how many are of some KB
        self.published = {}  # key → Publish, of the whole run's last rounds
        self.outcomes = {}  # key → (outcome, id, topics), of this round; raw events excluded
        self.running = asyncio.Event()
        self.refusals = []  # (topic, End): what 409 said
        self.in_flight = 0
        self.number = 0
        self._connections = {}

    def start(self):
        doors = {"f": self.fcall, "x": self._xadd, "p": self.post, "r": self._raw}
        found = [asyncio.create_task(self._door(d, r, doors[d], self._draft)) for d, r in RATES.items()]
        for door, rate in LANE_RATES.items() if self.laned else ():
            found.append(asyncio.create_task(self._door(door, rate, doors[door.lower()], self._draft_with_lane)))
        return found

    async def pause(self, timeout=40):
        """Returns when the outcome of everything is known as far as it ever will be."""
        self.running.clear()
        for _ in range(int(timeout / 0.01)):
            if not self.in_flight:
                return
            await asyncio.sleep(0.01)
        raise TimeoutError("publishers still wait for an answer")

    async def _door(self, door, rate, publish, make):
        while True:
            await self.running.wait()
            draft = make(door)
            outcome = await self.publish(draft, door, publish)
            pause = PAUSE_S if outcome in ("refused", "unknown") else 0
            await asyncio.sleep(pause + self.rng.expovariate(rate * self.rate))

    async def publish(self, draft, door, publish):
        """Writes down what becomes of it; returns the outcome."""
        self.take(draft, door)
        if draft.data is None:
            draft.data = data_of(draft.key, self._choose_size())
        self.in_flight += 1
        try:
            outcome, id = await publish(draft)
        finally:
            self.in_flight -= 1
        if door != "r":
            self.outcomes[draft.key] = (outcome, id, draft.topics)
        return outcome

    def _choose_size(self):
        return self.rng.choice((0, 60, 200)) if self.rng.random() > self.large else 8000

    def _draft(self, door):
        topics = self._choose_topics(door)
        type = None if door == "r" else self.rng.choice(TYPES)
        return Draft(topics, type, self.choose_match())

    def _draft_with_lane(self, door):
        """What is appended is of few types: else nothing would have a neighbour."""
        rng = self.lane_rng
        lane = rng.choice(LANES)
        few = lane == APPENDED
        return Draft(
            (rng.choice(self.laned),),
            rng.choice((None, None, None, "created")) if few else rng.choice(TYPES),
            self.choose_match() if rng.random() < 0.3 else None,
            lane,
            rng.choice(SLOTS[:2] if few else SLOTS) if lane in (COALESCED, APPENDED) else None,
        )

    def _choose_topics(self, door):
        if door in "fp" and self.rng.random() < 0.1:
            return tuple(self.rng.sample(self.pairs, 2))
        return (self.rng.choice(self.topics),)

    def take(self, draft, door):
        """Gives it its key."""
        self.number += 1
        draft.key = f"{draft.topics[0]}#{door}{self.number}"
        self.published[draft.key] = Publish(
            draft.topics, draft.type, draft.match, time.time(), draft.lane, draft.slot
        )
        return draft.key

    def forget_old(self):
        """The round is over. What it published may still come late, what was before it may not."""
        self.outcomes = {}
        if len(self.published) > 100000:
            for key in list(self.published)[:50000]:
                del self.published[key]

    # --- the doors: (outcome, id) ---

    async def _redis(self, door, *command):
        """Through a connection of its own to whatever is the primary now."""
        connection = self._connections.get(door)
        if connection is None or connection.writer is None or connection.port != self.world.primary.port:
            if connection:
                connection.close()
            connection = self._connections[door] = Redis(self.world.primary.port)
            try:
                await connection.connect()
            except (OSError, asyncio.TimeoutError):
                return "refused", None
        try:
            return "acked", await connection(*command)
        except RedisError:
            return "refused", None
        except OSError:
            return "unknown", None

    async def fcall(self, draft):
        outcome, id = await self._redis("f", "FCALL", "sse_publish", 1, PREFIX, *draft.fields())
        return outcome, id and int(id)

    async def _xadd(self, draft):
        outcome, _ = await self._redis("x", "XADD", f"{PREFIX}:inbox", "*", *draft.fields())
        return "queued" if outcome == "acked" else outcome, None

    async def _raw(self, draft):
        data = draft.data
        if draft.match:  # only an envelope can say so
            data = json.dumps({"sse": 1, "topic": draft.topics[0], "data": data, "match": draft.match})
        return await self._redis("r", "PUBLISH", f"{PREFIX}:ch:{draft.topics[0]}", data)

    async def post(self, draft):
        try:
            status, answer = await http(
                self.world.front,
                "POST",
                "/publish",
                json.dumps(draft.body()).encode(),
                ("Content-Type: application/json", *self.headers),
            )
        except (OSError, EOFError, asyncio.TimeoutError):
            return "unknown", None
        if status == 200:
            return "acked", int(json.loads(answer)["id"])
        if status == 503:
            return "unknown" if b'"published":null' in answer else "refused", None
        if status in (502, 504):  # the proxy's: the relay died under it
            return "unknown", None
        if status == 409:
            answer = json.loads(answer)
            if answer["published"] is False and answer["ended"]:
                self.refusals.append((draft.topics[0], End(int(answer["ended"]), answer["reason"])))
            return "refused", None
        raise AssertionError(f"POST /publish: {status} {answer[:200]!r}")
