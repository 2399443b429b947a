# SPDX-License-Identifier: Apache-2.0
"""A stream of somebody else that the relays bridge (docs/protocol.md, 9.1): who writes to it, and what must have become
of its entries: each is an event once, and all are in the order of the stream."""

import json
import os
import subprocess

from client import Violation
from ledger import BRIDGE
from publishers import Draft
from wire import Redis, RedisError, key_of
from world import BINARY, pairs

STREAM, GROUP = "orders", "sse"
OPTION = [{"stream": STREAM, "group": GROUP, "ns": "default", "topic_field": "topic", "data_field": "data"}]
TOPICS = [f"orders.o{i}" for i in range(3)]
DOOR, RATE = "o", 12.0  # a second


def options():
    """Of a relay."""
    return {"bridges": json.dumps(OPTION)}


def why_not():
    """Why this relay cannot have it; None: it can."""
    command = [str(BINARY), "--check-config", "--redis", "redis://127.0.0.1:1", "--bridges", json.dumps(OPTION)]
    env = {k: v for k, v in os.environ.items() if not k.startswith("SSE_RELAY_")}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return None if done.returncode == 0 else (done.stdout.strip().splitlines() or ["no reason given"])[-1]


def place_of(entry):
    """Of an entry's id, which can be compared."""
    first, _, second = entry.partition("-")
    return int(first), int(second)


class Bridge:
    def __init__(self, publishers, rng):
        self.publishers, self.rng = publishers, rng
        self.topics = list(TOPICS)
        self.entries = {}  # key → its place in the stream, of this round
        self.there = []  # keys that the stream has now
        self.base = "0-0"

    async def run(self):
        await self.publishers._door(DOOR, RATE, self._publish, self._draft)

    def _draft(self, door):
        return Draft((self.rng.choice(self.topics),))

    async def _publish(self, draft):
        fields = ("topic", draft.topics[0], "data", draft.data)
        outcome, _ = await self.publishers._redis(DOOR, "XADD", STREAM, "*", *fields)
        return "queued" if outcome == "acked" else outcome, None

    # --- what Redis has of it ---

    async def is_read(self):
        """Whether the relays have made their group."""
        return await self._group() is not None

    async def _group(self):
        try:
            async with Redis(self.publishers.world.primary.port) as r:
                groups = [pairs(g) for g in await r("XINFO", "GROUPS", STREAM)]
        except (OSError, RedisError):
            return None
        return next((g for g in groups if g["name"] == GROUP), None)

    async def is_empty(self):
        """Whether all entries have been read, and acknowledged."""
        group = await self._group()
        if not group or group["pending"]:
            return False
        try:
            async with Redis(self.publishers.world.primary.port) as r:
                left = await r("XRANGE", STREAM, f"({group['last-delivered-id']}", "+", "COUNT", 1)
        except (OSError, RedisError):
            return False
        return not left

    def dump_commands(self):
        return [("XRANGE", STREAM, f"({self.base}", "+")]

    def take_dump(self, answers):
        if isinstance(answers[0], RedisError):
            raise answers[0]
        found = {key_of(pairs(flat)["data"].encode()): entry for entry, flat in answers[0]}
        self.entries.update((key, place_of(entry)) for key, entry in found.items())
        self.there = list(found)

    # --- a round ---

    def judge(self, events, may_lose):
        found = judge_entries(self.entries, self.there, events, may_lose)
        if self.entries:
            self.base = "%d-%d" % max(self.entries.values())
        self.entries, self.there = {}, []
        return [Violation(BRIDGE, STREAM, text) for text in found]


def judge_entries(entries, there, events, may_lose):
    """@entries: key → place, of all that were ever seen in the stream; @there: keys that it has at the end; @events: of
    all logs; @may_lose: as in judge_log(), which finds what was acknowledged and is lost, and what is there twice."""
    bridged = [e for e in sorted(events, key=lambda e: e.id) if e.key in entries]
    known = {e.key for e in bridged}
    found = []
    for key in there:
        if key not in known and not (may_lose and may_lose((key.partition("#")[0],))):
            found.append(f"the entry {key} is in the stream, and is no event")
    kept = [e for e in bridged if e.state == "kept"]
    for before, after in zip(kept, kept[1:]):
        if entries[after.key] < entries[before.key]:
            found.append(f"{after} came after {before}, and stood before it in the stream")
    return found
