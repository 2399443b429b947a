# SPDX-License-Identifier: Apache-2.0
"""What speaks to the outside: a Redis connection, an EventSource, a small HTTP client. asyncio, one thread."""

import asyncio
import json
import re
import socket
import time
import zlib

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
        if not self.reader:  # somebody has closed it in between
            raise EOFError("closed")
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


class Connection(asyncio.Protocol):
    """A response with a stream of events, in whole blocks, and what they say as records of checker.py."""

    def reset(self, transport):
        self.transport = transport
        self._buffer = b""
        self._head = True
        self._over = False
        self._body = None
        self._inflate = None  # where the stream is compressed

    def adopt(self, other):
        """Goes on reading where @other has stopped; that has nothing to do with the connection any more."""
        self.transport, self._buffer, self._head = other.transport, other._buffer, other._head
        self._over, self._body, self._inflate = other._over, other._body, other._inflate
        self.transport.set_protocol(self)

    def connection_lost(self, exc):
        self.end("reset" if exc else "closed")

    def end(self, why):
        if not self._over:
            self._over = True
            self.record("close", why)
            self.ended()

    def data_received(self, chunk):
        if self._over:
            return
        if self._head:
            self._buffer += chunk
            chunk = self._take_head()
            if chunk is None:
                return
            self._buffer = b""
        plain = self._body.feed(chunk)
        self._buffer += self._inflate.decompress(plain) if self._inflate else plain
        blocks = self._buffer.split(b"\n\n")
        self._buffer = blocks.pop()
        if blocks:
            self.came()
            for block in blocks:
                self._take(block)
        if self._body.ended:
            if self._inflate and not self._inflate.eof:
                self.record("broken", "a clean end, and no whole gzip stream")
            self.end("complete")
            self.transport.close()

    def _take_head(self):
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return None
        if not head.startswith(b"HTTP/1.1 200 "):  # a full node, a proxy without nodes: it comes again
            status = int(head.split(None, 2)[1])
            if status == 204:
                self.record("over")
                self.over()
            if status in (401, 403):
                self.record("refused", status, time.time())
                self.refused()
            why = head.split(b"\r\n", 1)[0] + (b" " + rest if rest else b"")
            self.end(why.decode("latin-1"))
            self.transport.abort()
            return None
        lines = head.lower().split(b"\r\n")
        headers = dict(l.decode("latin-1").split(": ", 1) for l in lines[1:])
        self._body = Body(headers)
        if headers.get("content-encoding") == "gzip":
            self._inflate = zlib.decompressobj(31)
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
                self.record("position", id)
        elif type is None or not type.startswith("relay."):
            *joined, key = keys_of(data) if data or type != "end" else [f"end#e{id}"]
            self.record("event", id, type, key, *([tuple(joined)] if joined else []))
            for text in (*joined, key):
                self.event(text)
        else:
            self._control(id, type, json.loads(data))

    def _control(self, id, type, data):
        if type == "relay.connected":
            self.record("connected", id, data["connection_id"])
            self.connected(data["connection_id"])
        elif type == "relay.gap":
            low = None if data["from"] is None else int(data["from"])
            self.record("gap", id, low, int(data["to"]), data["reason"])
        elif type == "relay.dropped":
            self.record("dropped", id, data["count"])
        elif type == "relay.end":
            self.record("end", data["topic"], int(data["id"]), data["reason"])
            self.told_end(data["topic"])
        elif type == "relay.subscribed":
            self.record("subscribed", tuple(data["topics"]), int(data["from"]))
            self.subscribed(data["topics"])
        elif type == "relay.unsubscribed":
            self.record("unsubscribed", tuple(data["topics"]), time.time())
            self.unsubscribed(data["topics"])
        elif type in ("relay.paused", "relay.resumed"):
            self.record(type[6:])
            self.paused(type == "relay.paused")
        elif type == "relay.expiring":
            self.record("expiring", data["in"])
            self.expiring()
        elif type == "relay.shutdown":
            self.record("shutdown", data["reason"], time.time())
            self.shutdown(data["reason"])

    def record(self, *record):
        self.records.append(record)

    # --- what may be of interest ---

    def ended(self):
        pass

    def came(self):
        pass

    def refused(self):
        pass

    def over(self):
        pass

    def told_end(self, topic):
        pass

    def event(self, key):
        pass

    def connected(self, connection_id):
        pass

    def subscribed(self, names):
        pass

    def unsubscribed(self, names):
        pass

    def paused(self, is_paused):
        pass

    def expiring(self):
        pass

    def shutdown(self, reason):
        pass


async def connect(port, protocol, slow=False):
    """False: nobody answers there."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    if slow:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    try:
        await asyncio.wait_for(loop.sock_connect(sock, ("127.0.0.1", port)), 3)
        await loop.create_connection(protocol, sock=sock)
    except (OSError, asyncio.TimeoutError):
        sock.close()
        return False
    return True


# A piece of data is its key, the length of its padding, and that. A text that may be joined to others (its key's door
# is a capital letter) has line ends of all kinds, also where it begins and ends: a CR and a LF of two stay two.
PIECE = re.compile(r"(\n?)(\S+#[A-Za-z]\d+) (\d+) ")


def data_of(key, size):
    """The data of an event: its key, and padding whose length it tells, line ends counted as one."""
    lead, pad = frame_of(key, max(0, size - len(key) - 8))
    return f"{lead}{key} {len(normalized(pad))} {pad}"


def frame_of(key, size):
    """(what is before the key, the padding)"""
    door, number = key.partition("#")[2][0], int(key.partition("#")[2][1:])
    if not door.isupper():
        return "", "x" * size
    ends = ("", "\r", "\n", "\r\n", "x\n\ny", "\r\r")
    pad = "y" * (size // 2) + ends[number % 6] + "z" * (size - size // 2) + ends[number % 5]
    return "\n" if number % 3 == 0 else "", pad


def normalized(text):
    return text.replace("\r\n", "\n").replace("\r", "\n")


def keys_of(data):
    """The keys of all texts that a client got as one, or of the one. What is not just what was published is damaged."""
    text, at, keys = normalized(data.decode()), 0, []
    while at < len(text) or not keys:
        piece = PIECE.match(text, at)
        if not piece:
            return [*keys, f"{text[at : at + 40]!r}?damaged#r1"]
        lead, key, length = piece[1], piece[2], int(piece[3])
        end = piece.end() + length
        if end > len(text) or not is_piece(lead, key, text[piece.end() : end]):
            return [*keys, f"{key}?damaged#r1"]
        keys.append(key)
        at = end
    return keys


def is_piece(lead, key, pad):
    """Whether this is what data_of() makes of some size."""
    letters = sum(pad.count(c) for c in "xyz")
    if not key.partition("#")[2][0].isupper():
        return not lead and letters == len(pad)
    # Some of its line ends have letters between them.
    possible = [frame_of(key, size) for size in range(max(0, letters - 4), letters + 1)]
    return (lead, pad) in [(first, normalized(rest)) for first, rest in possible]


def key_of(data):
    keys = keys_of(data)
    return keys[0] if len(keys) == 1 else f"{keys}?damaged#r1"
