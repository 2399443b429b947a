# SPDX-License-Identifier: Apache-2.0
"""A raw-socket client of event streams: keeps every byte, parses as a browser would, can stall.

All clients are read by one thread, so that hundreds cost little. Use through the fixture sse_connect.
"""

import json
import os
import selectors
import socket
import threading
import time
import zlib
from urllib.parse import quote, urlsplit

from http_body import Body, Malformed, parse_head
from sse_parser import Parser

# Every stream of every test compressed, where the tests do not say otherwise: SSE_RELAY_TEST_GZIP=1.
GZIP = bool(os.environ.get("SSE_RELAY_TEST_GZIP"))
TIMEOUT_S = float(os.environ.get("SSE_RELAY_TEST_TIMEOUT", "20"))


def build_query(topics, params):
    pairs = [("topic", t) for t in topics]
    for name, value in params.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        pairs += [(name, v) for v in values]
    return "&".join(f"{quote(str(n))}={quote(str(v), safe='')}" for n, v in pairs)


class Reactor:
    """One thread that reads all registered clients. An error of one of them is that client's: it ends no other."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.changed = threading.Condition()
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self.selector.register(self._wake_r, selectors.EVENT_READ)
        self._todo = []
        threading.Thread(target=self._run, daemon=True).start()

    def call(self, function):
        """Runs @function in the reactor's thread, waits for it, and raises here what it raises there."""
        done = threading.Event()
        errors = []
        with self.changed:
            self._todo.append((function, done, errors))
        self._wake_w.send(b"x")
        assert done.wait(TIMEOUT_S)
        if errors:
            raise errors[0]

    def _run(self):
        while True:
            ready = self.selector.select()
            with self.changed:
                for key, _ in ready:
                    if key.data is None:
                        key.fileobj.recv(4096)
                    else:
                        self._read(key.data)
                todo, self._todo = self._todo, []
                for function, _, errors in todo:
                    try:
                        function()
                    except Exception as error:  # raised by call()
                        errors.append(error)
                self.changed.notify_all()
            for _, done, _ in todo:
                done.set()

    def _read(self, client):
        try:
            client._readable()
        except Exception as error:  # raised in the test: by wait_for(), or by close_all() at its end
            client.error = error
            client._unregister()


_reactor = None


def reactor():
    global _reactor
    if _reactor is None:
        _reactor = Reactor()
    return _reactor


class SSEClient:
    """One stream. Lists grow in another thread: look at them through wait_for(), or after it."""

    def __init__(
        self,
        url,
        topics=(),
        last_event_id=None,
        headers=None,
        params=None,
        raw_query=None,
        receive_buffer=None,
        control_prefix="relay.",
        reading=True,
        gzip=GZIP,
    ):
        parts = urlsplit(url)
        self.address = (parts.hostname, parts.port)
        self.control_prefix = control_prefix
        self.status = None
        self.headers = {}
        self.raw = b""  # the body, decompressed
        self.wire = 0  # its bytes as they came
        self.whole = None  # a compressed body: its end has come, with the right check sum
        self.malformed = None  # why its chunks are none
        self._inflate = None
        self.head = b""
        self.blocks = []
        self.closed = False  # by the other side, or by an error
        self.reset = False  # ended by an error
        self.error = None  # what was wrong with what came; nothing is read after it
        self._parser = Parser()
        self._reactor = reactor()
        self._reading = False
        self._gone = False
        self._heads = b""
        query = build_query(topics, params or {}) if raw_query is None else raw_query
        path = (parts.path or "/events") + ("?" + query if query else "")
        lines = [f"GET {path} HTTP/1.1", f"Host: {parts.netloc}", "Accept: text/event-stream"]
        if last_event_id is not None:
            lines.append(f"Last-Event-ID: {last_event_id}")
        if gzip:
            lines.append("Accept-Encoding: gzip")
        lines += [f"{n}: {v}" for n, v in (headers or {}).items()]
        self.sock = socket.socket(socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self.address)
        self.sock.sendall("\r\n".join(lines).encode("utf-8") + b"\r\n\r\n")
        self.sock.setblocking(False)
        if reading:
            self.start_reading()

    # --- control ---

    def start_reading(self):
        assert not self._reading
        self._reading = True
        self._reactor.call(
            lambda: self._reactor.selector.register(self.sock, selectors.EVENT_READ, self)
        )

    def stop_reading(self):
        if self._reading:
            self._reading = False
            self._reactor.call(self._unregister)

    def read_some(self, size):
        """Reads at most @size bytes now, of a client that does not read by itself."""
        assert not self._reading
        with self._reactor.changed:
            self._receive(size)

    def close(self):
        self.stop_reading()
        if not self._gone:
            self._gone = True
            self.sock.close()

    def raise_error(self):
        """Raises what went wrong in the reactor's thread, with its traceback; once only."""
        error, self.error = self.error, None
        if error:
            raise error

    def reset_connection(self):
        """Ends the connection with a TCP reset, as a dying machine's kernel would."""
        self.stop_reading()
        linger = b"\x01\0\0\0\0\0\0\0"
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close()

    # --- what came ---

    @property
    def events(self):
        return [b for b in self.blocks if b.dispatched and not self._is_control(b)]

    @property
    def controls(self):
        return [b for b in self.blocks if b.dispatched and self._is_control(b)]

    @property
    def data(self):
        return [e.data for e in self.events]

    @property
    def ids(self):
        """Of the events, as integers; None for an event without one."""
        return [None if e.id is None else int(e.id) for e in self.events]

    @property
    def all_ids(self):
        """Of every block that has one, control events and position blocks among them."""
        return [int(b.id) for b in self.blocks if b.id is not None]

    @property
    def last_event_id(self):
        """What an EventSource would send after a reconnect; None if nothing."""
        return (self.blocks[-1].last_event_id or None) if self.blocks else None

    @property
    def retry(self):
        return self._parser.retry

    @property
    def rest(self):
        return self._parser.rest

    @property
    def chunks(self):
        """The sizes of the body's chunks; None: it has none."""
        return self._body.chunks if self._body.chunked else None

    @property
    def clean(self):
        """The end was told: by a last chunk, or a length."""
        return self._body.whole

    def control(self, name):
        """The payloads of the control events called @name, as {"id": …, …}."""
        found = [b for b in self.controls if b.type == self.control_prefix + name]
        return [dict(json.loads(b.data), id=b.id) for b in found]

    @property
    def gaps(self):
        return self.control("gap")

    def told(self, ids):
        """Those of @ids that a gap covers."""
        return {id for id in ids if any(int(g["from"]) < id <= int(g["to"]) for g in self.gaps)}

    # --- waiting ---

    def wait_for(self, what, timeout=None):
        """@what: a number of events, or a function of this client that becomes true. Returns self."""
        test = what if callable(what) else lambda c: len(c.events) >= what
        deadline = time.monotonic() + (timeout or TIMEOUT_S)
        with self._reactor.changed:
            while True:
                self.raise_error()
                if test(self):
                    return self
                assert not self.malformed, self.describe()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"waited in vain: {self.describe()}")
                self._reactor.changed.wait(left)

    def wait_head(self):
        return self.wait_for(lambda c: c.status is not None or c.closed)

    def wait_connected(self):
        """Until relay.connected (or, without control events, the first position) is there."""
        self.wait_for(lambda c: any(b.id is not None for b in c.blocks) or c.closed)
        assert self.status == 200, self.describe()
        return self

    def wait_closed(self, timeout=None):
        return self.wait_for(lambda c: c.closed, timeout)

    def describe(self):
        return (
            f"status {self.status}, {len(self.events)} events, closed={self.closed}, "
            f"reset={self.reset}, malformed={self.malformed}, {len(self.raw)} bytes, the last {self.raw[-400:]!r}, "
            f"controls {self.controls[:8]}"
        )

    # --- reactor thread ---

    def _is_control(self, block):
        return block.type.startswith(self.control_prefix)

    def _unregister(self):
        try:
            self._reactor.selector.unregister(self.sock)
        except KeyError:
            pass

    def _readable(self):
        self._receive(262144)
        if self.closed:
            self._unregister()

    def _receive(self, size):
        try:
            chunk = self.sock.recv(size)
        except BlockingIOError:
            return
        except OSError:
            chunk, self.reset = b"", True
        if not chunk:
            self.closed = True
            return
        try:
            self._take(chunk)
        except Malformed as error:
            self.malformed, self.closed = str(error), True

    def _take(self, chunk):
        if self.status is None:
            chunk = self._head(chunk)
        if chunk:
            chunk = self._body.feed(chunk)
            self.wire += len(chunk)
            if self._inflate:
                chunk = self._inflate.decompress(chunk)
                self.whole = self._inflate.eof
                assert not self._inflate.unused_data
            self.raw += chunk
            self.blocks += self._parser.feed(chunk)
        if self.status is not None and self._body.ended:
            self.closed = True

    def _head(self, chunk):
        self._heads += chunk
        head, end, body = self._heads.partition(b"\r\n\r\n")
        if not end:
            return b""
        self.head = head + end
        status, self.headers = parse_head(head)
        self._body = Body(self.headers)
        if self.headers.get("content-encoding") == "gzip":
            self._inflate = zlib.decompressobj(31)
        self.status = status
        return body


def close_all(clients):
    """The end of a test: closes all that holds a stream open, then raises the first error that no wait has met."""
    for client in clients:
        client.close()
    for client in clients:
        if isinstance(getattr(client, "error", None), Exception):
            client.raise_error()
