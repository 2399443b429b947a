# SPDX-License-Identifier: Apache-2.0
"""socket.unsent: what a client does not read waits in the relay's queue, where it is counted, and not in the kernel."""

import json
import random
import signal
import socket
import zlib

import pytest

from http_body import Body, parse_head
from raw_http import read_head
from relay_process import wait_until
from sse_client import TIMEOUT_S
from sse_parser import Parser

COUNT, SIZE = 1000, 4000  # 4 MB, of which compression leaves a half
EVENTS = {"queue.max_events": 65536, "queue.max_bytes": "1GB"}
KERNEL_MOST = 300_000  # 64 KB, what a packet is above that, what the reader's own buffer takes, headers
NOISE = random.Random(13)
DATA = [f"{n} " + NOISE.randbytes(SIZE // 2).hex() for n in range(COUNT)]


class Reader:
    """A raw stream that reads nothing of its own accord."""

    def __init__(self, relay, version="1.1", gzip=False):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(("127.0.0.1", relay.port))
        coding = "Accept-Encoding: gzip\r\n" if gzip else ""
        self.socket.sendall(f"GET /events?topic=t HTTP/{version}\r\nHost: x\r\n{coding}\r\n".encode())
        self.inflate = zlib.decompressobj(31) if gzip else None
        head, _, rest = read_head(self.socket).partition(b"\r\n\r\n")
        self.body = Body(parse_head(head)[1])
        self.parser = Parser()
        self.events = []
        self.take(rest)

    def close(self):
        self.socket.close()

    def unacknowledged(self, relay):
        """The bytes that the relay's end of this connection has taken, and this end has not."""
        here, there = f":{self.socket.getsockname()[1]:04X}", f":{relay.port:04X}"
        with open("/proc/net/tcp") as table:
            for line in table:
                fields = line.split()
                if fields[1].endswith(there) and fields[2].endswith(here):
                    return int(fields[4].split(":")[0], 16)
        raise AssertionError("the connection is not there")

    def take(self, received):
        plain = self.body.feed(received)
        plain = self.inflate.decompress(plain) if self.inflate else plain
        self.events += [b for b in self.parser.feed(plain) if b.dispatched and not b.type.startswith("relay.")]

    def read_events(self, count):
        """Reads on until so many have come."""
        while len(self.events) < count:
            received = self.socket.recv(65536)
            assert received, "it has ended"
            self.take(received)
        return self.events


@pytest.fixture
def reader(clients):
    def open_reader(relay, **kw):
        live = relay.metric("sse_relay_clients", state="live")
        clients.append(Reader(relay, **kw))
        wait_until(lambda: relay.metric("sse_relay_clients", state="live") == live + 1, "a live stream")
        return clients[-1]

    return open_reader


def publish_all(relay, doors, streams=1):
    """Returns the ids, once every event is, for each stream, either with the kernel or in a queue."""
    before = relay.metrics()
    ids = doors.many("t", DATA)

    def settled():
        now = relay.metrics()
        delivered = now["sse_relay_events_delivered_total"] - before["sse_relay_events_delivered_total"]
        return delivered + now["sse_relay_queued_events"] >= streams * COUNT

    wait_until(settled, "all events offered")
    return ids


@pytest.mark.parametrize("park", ["suspended", "handover"])
@pytest.mark.parametrize("form", [{}, {"gzip": True}, {"version": "1.0"}], ids=["plain", "gzip", "http-1.0"])
def test_what_a_client_does_not_read_waits_in_the_queue(relay_factory, redis, doors, reader, park, form):
    relay = relay_factory(EVENTS, park=park, compress=">" if form.get("gzip") else "", workers=1)
    client = reader(relay, **form)
    ids = publish_all(relay, doors)
    metrics = relay.metrics()
    assert metrics["sse_relay_sent_bytes_total"] <= KERNEL_MOST
    assert client.unacknowledged(relay) <= KERNEL_MOST
    assert metrics["sse_relay_queued_bytes"] >= COUNT * SIZE - KERNEL_MOST * 2
    got = client.read_events(COUNT)
    assert [int(e.id) for e in got] == ids
    assert [e.data for e in got] == DATA
    wait_until(lambda: relay.metric("sse_relay_queued_events") == 0, "an empty queue")


@pytest.mark.parametrize("park", ["suspended", "handover"])
def test_zero_leaves_it_to_the_system(relay_factory, redis, doors, reader, park):
    relay = relay_factory({**EVENTS, "socket.unsent": 0}, park=park, workers=1)
    client = reader(relay)
    ids = publish_all(relay, doors)
    assert client.unacknowledged(relay) >= 3 * KERNEL_MOST  # megabytes, by tcp_wmem
    assert [int(e.id) for e in client.read_events(COUNT)] == ids


def test_a_reload_counts_from_the_next_stream_on(relay_factory, redis, doors, reader, tmp_path):
    config = tmp_path / "relay.json"
    config.write_text(json.dumps({"socket.unsent": 0}))
    relay = relay_factory(EVENTS, workers=1, args=["--config", config])
    before = reader(relay)
    config.write_text(json.dumps({"socket.unsent": "4KB"}))
    relay.signal(signal.SIGHUP)
    relay.wait_log("configuration read again")
    after = reader(relay)
    publish_all(relay, doors, streams=2)
    assert before.unacknowledged(relay) >= 3 * KERNEL_MOST
    assert 0 < after.unacknowledged(relay) <= KERNEL_MOST
    for client in (before, after):
        assert [e.data for e in client.read_events(COUNT)] == DATA
