# SPDX-License-Identifier: Apache-2.0
"""One client over its whole life: an EventSource that comes back. asyncio, one thread."""

import asyncio
import random
import time

from changes import Habits
from wire import Connection, connect


class Wishes:
    """How a client reads. @pace: bytes a second, where it is slow all the time; @anew: how often, when it leaves, it
    comes back without a cursor."""

    def __init__(self, gzip=False, pace=0, anew=0.15):
        self.gzip, self.pace, self.anew = gzip, pace, anew

    def headers(self):
        return "Accept-Encoding: gzip\r\n" if self.gzip else ""


class Stream(Connection):
    """One client over its whole life. It keeps `records`, the transcript of the round, in the form of checker.py."""

    def __init__(self, judged, query, targets, rng, slow=False, roving=False, visa=None, wishes=None, habits=None):
        self.judged = judged  # checker.Client
        self.query = query
        self.targets = targets  # ports; the first is tried first
        self.rng = random.Random(rng.random())
        self.slow = slow
        self.roving = roving
        self.visa = visa  # logins.Visa: how it may read; None: nobody asks
        self.habits = habits or Habits()  # what it asks of its open connection
        wishes = wishes or Wishes()
        self.headers = wishes.headers()
        self.pace = wishes.pace
        self.anew = wishes.anew
        self.records = []
        self.cursor = None
        self.retry = 0.2
        self.transport = None
        self.live = False  # relay.connected has come on this connection
        self.connection_id = None
        self.stopping = False
        self.hurry = False  # a slow client reads on: the round wants to end
        self.last_delivery = time.monotonic()
        self.silence = 0.0
        self._closed = None

    @property
    def settled(self):
        """Whether it is where it should be when nothing more happens."""
        return self.live and self.habits.quiet

    def request_query(self):
        return "&".join([self.query, *(f"topic={n}" for n in self.habits.has)])

    # --- its life ---

    async def run(self):
        while not self.stopping:
            if self.visa and not await self.visa.prepare(self):
                await asyncio.sleep(0.1)
                continue
            self._closed = asyncio.get_running_loop().create_future()
            if not await connect(self.rng.choice(self.targets), lambda: self, self.slow):
                await asyncio.sleep(0.1)
                continue
            await self._closed
            if self.stopping:
                return
            await asyncio.sleep(0 if self.rng.random() < 0.2 else self.retry)

    def stop(self):
        self.stopping = True
        if self.transport:
            self.transport.abort()

    def rove(self):
        """Leaves for another node; sometimes as somebody else, who was never there."""
        if self.transport and self.live and not self.hurry:
            if self.visa and self.visa.leave_ghost(self):
                return
            if self.rng.random() < self.anew:
                self.cursor = None
            self.end("left")
            self.transport.abort()

    def detached(self):
        """Its connection belongs to somebody else now, and it connects anew."""
        self.end("left")
        self.transport = None
        self._closed.set_result(None)

    def connection_made(self, transport):
        self.reset(transport)
        self.live = False
        extra = self.headers + ("" if self.cursor is None else f"Last-Event-ID: {self.cursor}\r\n")
        query = self.request_query()
        self.habits.opened()
        if self.visa:
            credential, more, headers = self.visa.show(self.cursor)
            self.record("open", self.cursor, credential)
            query, extra = query + more, extra + headers
        else:
            self.record("open", self.cursor)
        if self.habits.pool:
            self.record("asks", tuple(self.habits.has))
        transport.write(f"GET /events?{query} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n".encode())

    def connection_lost(self, exc):
        super().connection_lost(exc)
        self.transport = None
        if not self._closed.done():
            self._closed.set_result(None)

    def ended(self):
        self.live = False
        if self.visa:
            self.visa.ended()

    # --- what it is sent ---

    def data_received(self, chunk):
        super().data_received(chunk)
        if not self.slow or self._over or self.hurry or self.transport.is_closing():
            return
        if self.pace:
            self._rest(len(chunk) / self.pace)
        elif self.rng.random() < 0.05:
            self._rest(self.rng.uniform(0.2, 4))

    def _rest(self, seconds):
        self.transport.pause_reading()
        asyncio.get_running_loop().call_later(seconds, self.read_on)

    def read_on(self):
        if self.transport and not self.transport.is_closing():
            self.transport.resume_reading()

    def came(self):
        now = time.monotonic()
        self.silence = max(self.silence, now - self.last_delivery)
        self.last_delivery = now

    def event(self, key):
        if self.visa:
            self.visa.event(key)

    def connected(self, connection_id):
        self.live = True
        self.connection_id = connection_id
        if self.visa:
            self.visa.connected()

    def subscribed(self, names):
        self.habits.subscribed(names)

    def unsubscribed(self, names):
        self.habits.unsubscribed(names)

    def paused(self, is_paused):
        self.habits.paused = is_paused

    def refused(self):
        if self.visa:
            self.visa.refused()

    def expiring(self):
        if self.visa:
            self.visa.expiring(self)

    def shutdown(self, reason):
        if self.visa:
            self.visa.shutdown(reason)
