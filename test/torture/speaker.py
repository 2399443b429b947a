# SPDX-License-Identifier: Apache-2.0
"""A publisher that speaks to one connection: on the topic connection.<connection_id> (docs/protocol.md, 4.8)."""

import random

from ledger import APPENDED, COALESCED
from publishers import LANES, TYPES, Draft
from terms import own_topic

DOOR, RATE = "C", 6.0  # a second


class Speaker:
    def __init__(self, publishers, streams, seed):
        self.publishers, self.streams = publishers, streams
        self.rng = random.Random(f"{seed}/speaker")
        self.topics = {}  # of this round and the one before; what a publish was unsure of may come late
        self._older = {}
        self._nobody = own_topic("0" * 32)

    async def run(self):
        await self.publishers._door(DOOR, RATE, self._publish, self._draft)

    async def _publish(self, draft):
        doors = self.publishers
        return await self.rng.choice((doors.fcall, doors._xadd, doors.post))(draft)

    def _draft(self, door):
        rng = self.rng
        live = [s for s in self.streams if s.live]
        topic = own_topic(rng.choice(live).connection_id) if live else self._nobody
        lane = rng.choice(LANES)
        slot = rng.choice((None, "k1")) if lane in (COALESCED, APPENDED) else None
        match = self.publishers.choose_match() if rng.random() < 0.2 else None
        self.topics[topic] = True
        return Draft((topic,), rng.choice(TYPES), match, lane, slot)

    def known_topics(self):
        return [*self._older, *(t for t in self.topics if t not in self._older)]

    def forget_old(self):
        self._older, self.topics = self.topics, {}
