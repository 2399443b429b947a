# SPDX-License-Identifier: Apache-2.0
"""A TCP forwarder between a relay and Redis, for the faults of a network: re-pointed, cut, stalled, slowed."""

import asyncio
from collections import deque


class _End(asyncio.Protocol):
    """One of the two connections of a pair."""

    def __init__(self, pair):
        self.pair = pair
        self.peer = None
        self.transport = None
        self.waiting = deque()  # (due, bytes) on their way to the peer
        self.timer = None
        self.ended = False

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, chunk):
        forwarder = self.pair.forwarder
        now = forwarder.loop.time()
        self.waiting.append((now + forwarder.delay, chunk))
        self.pump()

    def pump(self):
        """Hands on what is due, in order."""
        forwarder = self.pair.forwarder
        if self.timer:
            self.timer.cancel()
            self.timer = None
        if forwarder.stalled or not self.peer or not self.peer.transport:
            return
        now = forwarder.loop.time()
        while self.waiting and self.waiting[0][0] <= now + 0.0005:
            self.peer.transport.write(self.waiting.popleft()[1])
        if self.waiting:
            self.timer = forwarder.loop.call_at(self.waiting[0][0], self.pump)
        elif self.ended:
            self.peer.transport.close()

    def pause_writing(self):
        self.peer.transport.pause_reading()

    def resume_writing(self):
        if not self.peer.transport.is_closing():
            self.peer.transport.resume_reading()

    def connection_lost(self, exc):
        self.ended = True
        self.pair.forwarder.pairs.discard(self.pair)
        self.pump()
        if self.peer is None or self.peer.transport is None:
            self.pair.abort()


class _Pair:
    def __init__(self, forwarder):
        self.forwarder = forwarder
        self.near = _End(self)  # the relay
        self.far = _End(self)  # Redis
        self.near.peer, self.far.peer = self.far, self.near

    def abort(self):
        self.forwarder.pairs.discard(self)
        for end in (self.near, self.far):
            end.waiting.clear()
            if end.transport:
                end.transport.abort()




class Forwarder:
    """Listens on @port. `target` is a port, or None: connections are closed at once."""

    def __init__(self, port, target):
        self.port = port
        self.target = target
        self.pairs = set()
        self.stalled = False
        self.delay = 0.0
        self.server = None

    async def start(self):
        self.loop = asyncio.get_running_loop()
        self.server = await self.loop.create_server(self._accept, "127.0.0.1", self.port)

    def stop(self):
        if self.server:
            self.server.close()
        self.cut()

    def _accept(self):
        pair = _Pair(self)
        self.pairs.add(pair)
        self.loop.create_task(self._connect(pair))
        return pair.near

    async def _connect(self, pair):
        if self.target is None:
            await asyncio.sleep(0)
            pair.abort()
            return
        try:
            await self.loop.create_connection(lambda: pair.far, "127.0.0.1", self.target)
        except OSError:
            pair.abort()
            return
        if pair not in self.pairs:
            pair.abort()
        else:
            pair.near.pump()

    def cut(self):
        """Ends all connections, with what is on its way in them."""
        for pair in list(self.pairs):
            pair.abort()

    def stall(self, on):
        """Nothing gets through, nobody is told. Taken back, all of it arrives."""
        self.stalled = on
        if not on:
            for pair in list(self.pairs):
                pair.near.pump()
                pair.far.pump()
