# SPDX-License-Identifier: Apache-2.0
"""Many stream clients in one asyncio thread, that may resume after a cut as an EventSource would."""

import asyncio
import os
import resource
import threading
import time
import zlib
from urllib.parse import urlsplit

from http_body import Body, Malformed, parse_head
from sse_client import GZIP, TIMEOUT_S, build_query
from sse_parser import Parser


def raise_file_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class SwarmClient(asyncio.Protocol):
    """Keeps the data of all events, over all its connections."""

    def __init__(self, swarm, number):
        self.swarm = swarm
        self.number = number
        self.data = []
        self.ids = []
        self.gaps = []
        self.connected = 0  # times relay.connected came
        self.whole = 0  # compressed streams that came to their end
        self.starts = []  # per connection: how many events there were before
        self.last_event_id = ""
        self.transport = None
        self.is_open = False

    def connection_made(self, transport):
        self.transport = transport
        self.parser = Parser()
        self.head = b""
        self.starts.append(len(self.data))
        self.inflate = None
        extra = f"Last-Event-ID: {self.last_event_id}\r\n" if self.last_event_id else ""
        if self.swarm.gzip:
            extra += "Accept-Encoding: gzip\r\n"
        path = "/events?" + self.swarm.query
        transport.write(f"GET {path} HTTP/1.1\r\nHost: relay\r\n{extra}\r\n".encode())

    def data_received(self, chunk):
        if self.head is not None:
            self.head += chunk
            head, end, chunk = self.head.partition(b"\r\n\r\n")
            if not end:
                return
            status, headers = parse_head(head)
            self.is_open = status == 200
            self.body = Body(headers)
            if headers.get("content-encoding") == "gzip":
                self.inflate = zlib.decompressobj(31)
            self.head = None
        try:
            chunk = self.body.feed(chunk)
        except Malformed as error:
            self.swarm.malformed.append(str(error))
            self.transport.abort()
            return
        if self.inflate:
            chunk = self.inflate.decompress(chunk)
        for block in self.parser.feed(chunk):
            self.last_event_id = block.last_event_id
            if not block.dispatched:
                continue
            if block.type.startswith("relay."):
                self.connected += block.type == "relay.connected"
                if block.type == "relay.gap":
                    self.gaps.append(block.data)
            else:
                self.data.append(block.data)
                self.ids.append(int(block.id) if block.id is not None else None)
        if self.body.ended:
            self.transport.close()

    def connection_lost(self, exc):
        self.is_open = False
        self.whole += bool(self.inflate and self.inflate.eof)
        if self.swarm.resume and not self.swarm.closing:
            self.swarm.loop.call_later(0.02, self.swarm._connect_soon, self)


class Swarm:
    """@targets: base URLs, clients spread over them. A client that lost one goes on to the next."""

    def __init__(self, targets, count, query="", topics=(), params=None, resume=False, gzip=GZIP):
        raise_file_limit()
        self.targets = [urlsplit(t) for t in targets]
        self.query = query or build_query(topics, params or {})
        self.resume = resume
        self.gzip = gzip
        self.closing = False
        self.malformed = []  # bodies: why
        self.clients = [SwarmClient(self, i) for i in range(count)]
        self.error = None  # of a client, in the loop's thread
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._failed)
        self._limit = asyncio.Semaphore(100)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        asyncio.set_event_loop(self.loop)
        for client in self.clients:
            self._connect_soon(client)
        self.loop.run_forever()

    def _connect_soon(self, client):
        if not self.closing:
            self.loop.create_task(self._connect(client))

    async def _connect(self, client):
        turn = 0
        while not self.closing:
            i = (client.number + len(client.starts) + turn) % len(self.targets)
            target = self.targets[i]
            try:
                async with self._limit:
                    await self.loop.create_connection(
                        lambda: client, target.hostname, target.port
                    )
                return
            except OSError:
                turn += 1
                await asyncio.sleep(0.02)

    def wait(self, test, timeout=None):
        """@test: of one client; all must pass. Cheap tests only."""
        deadline = time.monotonic() + (timeout or TIMEOUT_S)
        late = self.clients
        while True:
            self.raise_error()
            assert not self.malformed, self.malformed[:3]
            late = [c for c in late if not test(c)]
            if not late:
                late = [c for c in self.clients if not test(c)]
                if not late:
                    return self
            if time.monotonic() > deadline:
                c = late[0]
                raise AssertionError(
                    f"{len(late)} of {len(self.clients)} clients waited in vain; the first: "
                    f"{len(c.data)} events, connected {c.connected}, open {c.is_open}, "
                    f"gaps {c.gaps[:3]}, data {c.data[-3:]}"
                )
            time.sleep(0.01)

    def wait_connected(self, timeout=None):
        return self.wait(lambda c: c.connected > 0, timeout)

    def raise_error(self):
        """Raises the first error of a client, with its traceback; once only."""
        error, self.error = self.error, None
        if error:
            raise error

    def _failed(self, loop, context):
        if self.error is None and not self.closing:
            self.error = context.get("exception") or RuntimeError(context["message"])

    def close(self):
        if self.closing:
            return
        self.closing = True
        self.loop.call_soon_threadsafe(self._close)
        self._thread.join(TIMEOUT_S)
        self.loop.close()

    def _close(self):
        for client in self.clients:
            if client.transport:
                client.transport.abort()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        # Two turns: the first lets cancelled tasks and lost connections finish.
        self.loop.call_later(0.05, self.loop.stop)


def sanitized(binary):
    """Which sanitizer a binary was built with, or ''. Such builds are many times slower."""
    with open(os.fspath(binary), "rb") as f:
        image = f.read()
    for mark, name in ((b"__tsan_init", "thread"), (b"__asan_init", "address")):
        if mark in image:
            return name
    return ""
