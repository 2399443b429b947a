# SPDX-License-Identifier: Apache-2.0
"""What speaks to the outside: a Redis connection, an EventSource, a small HTTP client. asyncio, one thread."""

import asyncio
import json
import random
import socket
import time

from http_body import Body


# --- Redis ---


class RedisError(Exception):
    """An answer that is an error: the command was not done."""


class Redis:
    """One connection, commands one at a time. A broken one raises OSError: nobody knows what was done."""

    def __init__(self, port):
        self.port = port
        self.reader = self.writer = None
        self._turn = asyncio.Lock()

    async def connect(self):
        self.reader, self.writer = await asyncio.wait_for(
            asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20), 5
        )
        return self

    def close(self):
        if self.writer:
            self.writer.close()
        self.reader = self.writer = None

    async def __aenter__(self):
        return await self.connect()

    async def __aexit__(self, *exc):
        self.close()

    async def __call__(self, *args, timeout=20):
        return (await self.many([args], timeout))[0]

    async def many(self, commands, timeout=20):
        """Pipelined. An error among the answers of several is returned, not raised."""
        async with self._turn:
            if not self.writer:
                raise ConnectionError("not connected")
            try:
                self.writer.write(b"".join(map(encode, commands)))
                answers = [await asyncio.wait_for(self._read(), timeout) for _ in commands]
            except (OSError, EOFError, asyncio.TimeoutError, asyncio.CancelledError) as error:
                self.close()
                if isinstance(error, asyncio.CancelledError):
                    raise
                raise ConnectionError(f"Redis at {self.port}: {error!r}") from error
        if len(answers) == 1 and isinstance(answers[0], RedisError):
            raise answers[0]
        return answers

    async def _read(self):
        line = await self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else (await self.reader.readexactly(size + 2))[:-2].decode()
        if kind == b"*":
            return None if rest == b"-1" else [await self._read() for _ in range(int(rest))]
        if kind == b":":
            return int(rest)
        return RedisError(rest.decode()) if kind == b"-" else rest.decode()


def encode(args):
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        arg = arg if isinstance(arg, bytes) else str(arg).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(arg), arg))
    return b"".join(parts)


# --- HTTP ---


async def http(port, method, path, body=b"", headers=(), timeout=30):
    """(status, body). OSError or EOFError: no whole answer."""
    reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 5)
    try:
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        answer = await asyncio.wait_for(reader.read(-1), timeout)
    finally:
        writer.close()
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        raise EOFError("no answer")
    return int(head.split(None, 2)[1]), body


# --- an EventSource ---


class Stream(asyncio.Protocol):
    """One client over its whole life. It keeps `records`, the transcript of the round, in the form of checker.py."""

    def __init__(self, judged, query, targets, rng, slow=False, roving=False):
        self.judged = judged  # checker.Client
        self.query = query
        self.targets = targets  # ports; the first is tried first
        self.rng = random.Random(rng.random())
        self.slow = slow
        self.roving = roving
        self.records = []
        self.log = None  # of everything that came, for the kept directory
        self.cursor = None
        self.retry = 0.2
        self.transport = None
        self.live = False  # relay.connected has come on this connection
        self.stopping = False
        self.hurry = False  # a slow client reads on: the round wants to end
        self.last_delivery = time.monotonic()
        self.silence = 0.0
        self._closed = None
        self._rove = None

    # --- its life ---

    async def run(self):
        loop = asyncio.get_running_loop()
        while not self.stopping:
            port = self.rng.choice(self.targets)
            self._closed = loop.create_future()
            sock = socket.socket()
            sock.setblocking(False)
            if self.slow:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            try:
                await asyncio.wait_for(loop.sock_connect(sock, ("127.0.0.1", port)), 3)
                await loop.create_connection(lambda: self, sock=sock)
            except (OSError, asyncio.TimeoutError):
                sock.close()
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
            if self.rng.random() < 0.15:
                self.cursor = None
            self._end("left")
            self.transport.abort()

    def connection_made(self, transport):
        self.transport = transport
        self._buffer = b""
        self._head = True
        self.live = False
        self._over = False
        self.records.append(("open", self.cursor))
        extra = "" if self.cursor is None else f"Last-Event-ID: {self.cursor}\r\n"
        transport.write(f"GET /events?{self.query} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n".encode())

    def connection_lost(self, exc):
        self._end("reset" if exc else "closed")
        self.transport = None
        if not self._closed.done():
            self._closed.set_result(None)

    def _end(self, why):
        if not self._over:
            self._over = True
            self.live = False
            self.records.append(("close", why))

    # --- what it is sent ---

    def data_received(self, chunk):
        if self._over:
            return
        if self._head:
            self._buffer += chunk
            chunk = self._take_head()
            if chunk is None:
                return
            self._buffer = b""
        self._buffer += self._body.feed(chunk)
        blocks = self._buffer.split(b"\n\n")
        self._buffer = blocks.pop()
        if blocks:
            now = time.monotonic()
            self.silence = max(self.silence, now - self.last_delivery)
            self.last_delivery = now
            for block in blocks:
                self._take(block)
        if self._body.ended:
            self._end("complete")
            self.transport.close()
        elif self.slow and not self.hurry and self.rng.random() < 0.05:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(self.rng.uniform(0.2, 4), self.read_on)

    def read_on(self):
        if self.transport and not self.transport.is_closing():
            self.transport.resume_reading()

    def _take_head(self):
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return None
        if not head.startswith(b"HTTP/1.1 200 "):  # a full node, a proxy without nodes: it comes again
            self._end(head.split(b"\r\n", 1)[0].decode("latin-1"))
            self.transport.abort()
            return None
        lines = head.lower().split(b"\r\n")
        self._body = Body(dict(l.decode("latin-1").split(": ", 1) for l in lines[1:]))
        self._head = False
        return rest

    def _take(self, block):
        id = type = data = None
        for line in block.split(b"\n"):
            name, _, value = line.partition(b": ")
            if name == b"data":
                data = value if data is None else data + b"\n" + value
            elif name == b"id":
                id = int(value)
            elif name == b"event":
                type = value.decode()
            elif name == b"retry":
                self.retry = int(value) / 1000
        if id is not None:
            self.cursor = id
        if data is None:
            if id is not None:
                self.records.append(("position", id))
            return
        if type is None or not type.startswith("relay."):
            self.records.append(("event", id, type, key_of(data)))
        elif type == "relay.connected":
            self.live = True
            self.records.append(("connected", id))
        elif type == "relay.gap":
            gap = json.loads(data)
            low = None if gap["from"] is None else int(gap["from"])
            self.records.append(("gap", id, low, int(gap["to"]), gap["reason"]))


def data_of(key, size):
    """The data of an event: its key, and padding whose length it tells."""
    pad = "x" * max(0, size - len(key) - 8)
    return f"{key} {len(pad)} {pad}"


def key_of(data):
    key, size, pad = data.decode().split(" ", 2)
    return key if int(size) == len(pad) else f"{key}?damaged#r-1"
