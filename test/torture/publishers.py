# SPDX-License-Identifier: Apache-2.0
"""Publishers through all four doors. Each publish has a key, topic#<door><number>, that is part of its data; what
became of it is kept: acked (with its id), queued (in the inbox), refused, or unknown."""

import asyncio
import json
import random
import time

from checker import Publish
from wire import Redis, RedisError, data_of, http
from world import PREFIX

TYPES = [None, None, "created", "updated", "noise"]
RATES = {"f": 40, "x": 25, "p": 20, "r": 15}  # a second: FCALL, XADD, POST, raw PUBLISH
PAUSE_S = 0.05  # after a failure


class Publishers:
    def __init__(self, world, topics, pairs, seed, rate, choose_match=lambda: None, key=None):
        self.world = world
        self.choose_match = choose_match  # for whom an event is; None: for all
        self.headers = (f"Authorization: Bearer {key}",) if key else ()
        self.topics = topics
        self.pairs = pairs  # topics that may share an event
        self.rng = random.Random(seed)
        self.rate = rate
        self.published = {}  # key → Publish, of the whole run's last rounds
        self.outcomes = {}  # key → (outcome, id, topics), of this round; raw events excluded
        self.running = asyncio.Event()
        self.in_flight = 0
        self.number = 0
        self._connections = {}

    def start(self):
        doors = {"f": self._fcall, "x": self._xadd, "p": self._post, "r": self._raw}
        return [asyncio.create_task(self._door(d, doors[d])) for d in RATES]

    async def pause(self, timeout=40):
        """Returns when the outcome of everything is known as far as it ever will be."""
        self.running.clear()
        for _ in range(int(timeout / 0.01)):
            if not self.in_flight:
                return
            await asyncio.sleep(0.01)
        raise TimeoutError("publishers still wait for an answer")

    async def _door(self, door, publish):
        while True:
            await self.running.wait()
            topics = self._choose_topics(door)
            type = None if door == "r" else self.rng.choice(TYPES)
            match = self.choose_match()
            key = self.new_key(topics, door, type, match)
            data = data_of(key, self.rng.choice((0, 60, 200)) if self.rng.random() > 0.03 else 8000)
            self.in_flight += 1
            try:
                outcome, id = await publish(topics, type, data, match)
            finally:
                self.in_flight -= 1
            if door != "r":
                self.outcomes[key] = (outcome, id, topics)
            pause = PAUSE_S if outcome in ("refused", "unknown") else 0
            await asyncio.sleep(pause + self.rng.expovariate(RATES[door] * self.rate))

    def _choose_topics(self, door):
        if door in "fp" and self.rng.random() < 0.1:
            return tuple(self.rng.sample(self.pairs, 2))
        return (self.rng.choice(self.topics),)

    def new_key(self, topics, door, type, match=None):
        self.number += 1
        key = f"{topics[0]}#{door}{self.number}"
        self.published[key] = Publish(topics, type, match, time.time())
        return key

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

    async def _fcall(self, topics, type, data, match):
        outcome, id = await self._redis("f", "FCALL", "sse_publish", 1, PREFIX, *fields(topics, type, data, match))
        return outcome, id and int(id)

    async def _xadd(self, topics, type, data, match):
        outcome, _ = await self._redis("x", "XADD", f"{PREFIX}:inbox", "*", *fields(topics, type, data, match))
        return "queued" if outcome == "acked" else outcome, None

    async def _raw(self, topics, type, data, match):
        if match:  # only an envelope can say so
            data = json.dumps({"sse": 1, "topic": topics[0], "data": data, "match": match})
        return await self._redis("r", "PUBLISH", f"{PREFIX}:ch:{topics[0]}", data)

    async def _post(self, topics, type, data, match):
        body = {"topics": topics, "data": data, **({"event": type} if type else {}), **({"match": match} if match else {})}
        try:
            status, answer = await http(
                self.world.front,
                "POST",
                "/publish",
                json.dumps(body).encode(),
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
        raise AssertionError(f"POST /publish: {status} {answer[:200]!r}")


def fields(topics, type, data, match=None):
    names = [part for topic in topics for part in ("topic", topic)] + ["data", data]
    return names + (["event", type] if type else []) + (["match", json.dumps(match)] if match else [])
