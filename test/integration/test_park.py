# SPDX-License-Identifier: Apache-2.0
"""Both ways to park a stream's connection: the same seen from outside, at the price that is promised."""

import os
import re
import resource
import socket
import struct
import threading
import time

import pytest

from preload import preload
from raw_http import open_socket, read_all, read_head, status_of, take_apart
from relay_process import BINARY, wait_until
from sse_client import TIMEOUT_S
from swarm import raise_file_limit, sanitized
from test_bench import TOOL, bench, of_relay

REQUEST = b"GET /events?topic=t HTTP/1.1\r\nHost: x\r\n"
PREAMBLE = re.compile(rb"HTTP/1\.1 200 [^\r]*\r\n(?:[^\r\n]+\r\n)+\r\n:ok\nretry: \d+\n(?:id: \d+\nevent: relay\.connected\n)?")


@pytest.fixture(params=["suspended", "handover"])
def park(request):
    return request.param


@pytest.fixture
def relay(redis, relay_factory, park):
    return relay_factory(park=park, workers=1)


@pytest.fixture
def opened(clients):
    """opened(relay, bytes): a connection that has sent these."""

    def connect(relay, request=REQUEST + b"\r\n"):
        s = open_socket(relay)
        clients.append(s)
        s.sendall(request)
        return s

    return connect


def read_until(s, wanted):
    received, deadline = b"", time.monotonic() + TIMEOUT_S
    while wanted not in received:
        assert time.monotonic() < deadline, received
        chunk = s.recv(65536)
        assert chunk, received
        received += chunk
    return received


def files_of(relay):
    return {int(name) for name in os.listdir(f"/proc/{relay.pid}/fd")}


# --- what it costs ---


@pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built")
@pytest.mark.skipif(bool(BINARY.exists() and sanitized(BINARY)), reason="a sanitizer's memory says nothing")
def test_memory_of_an_idle_client(relay, park):
    raise_file_limit()
    report = bench(
        *of_relay(relay, None), "-p", "none", "-n", 3000, "-d", 0, "--idle", "500ms", "-P", relay.pid,
        "-H", "Cookie: " + "c" * 500,
    )  # fmt: skip
    assert report["ready"] == 3000
    assert report["bytes_per_client"] < {"suspended": 9500, "handover": 2000}[park]


OTHER_LAYOUT = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <microhttpd.h>

const union MHD_ConnectionInfo *MHD_get_connection_info(struct MHD_Connection *connection,
                                                        enum MHD_ConnectionInfoType type, ...)
{
    static __thread union MHD_ConnectionInfo other;
    const union MHD_ConnectionInfo *(*next)(struct MHD_Connection *, enum MHD_ConnectionInfoType, ...);
    *(void **)&next = dlsym(RTLD_NEXT, "MHD_get_connection_info");
    const union MHD_ConnectionInfo *info = next(connection, type);
    if (type != MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE || !info)
        return info;
    other.header_size = info->header_size + 1;
    return &other;
}
"""


def test_a_libmicrohttpd_that_is_not_as_known_is_left_alone(redis, relay_factory, park, tmp_path, sse_connect, doors):
    """It counts a header's bytes in another way: said once, and everything else works."""
    env = preload(tmp_path, "other_layout", OTHER_LAYOUT)
    relay = relay_factory(park=park, workers=2, env=env)
    told = [line for line in relay.log if "lay its memory out" in line]
    assert len(told) == 1 and "level=warn" in told[0] and "version=" in told[0]
    clients = [sse_connect(relay, "t") for _ in range(20)]
    doors.fcall("t", "x")
    assert all(client.wait_for(1).data == ["x"] for client in clients)


def test_the_libmicrohttpd_that_is_there_is_as_known(relay):
    assert "lay its memory out" not in relay.log_text


# --- every byte once ---


def test_a_stream_begins_once_and_goes_on_from_there(relay, doors, publishing, opened):
    """Events come while connections are parked: each stream has its preamble, and then every event that came after."""
    events = publishing(lambda data: doors.fcall("t", data))
    streams = [opened(relay) for _ in range(50)]
    begun = [read_until(s, b"relay.connected") for s in streams]
    events.stop()
    last = doors.fcall("t", "end")
    for s, head in zip(streams, begun):
        received = head + read_until(s, b"data: end\n\n")
        answer, body, whole = take_apart(received)
        assert not whole
        received = answer + body
        assert PREAMBLE.match(received), received[:500]
        assert received.count(b":ok\n") == 1 and received.count(b"relay.connected") == 1
        ids = [int(i) for i in re.findall(rb"^id: (\d+)\ndata:", received, re.MULTILINE)]
        assert ids == [i for i in events.ids if i >= ids[0]] + [last]
        assert received.endswith(b"\n\n")


def test_a_slow_reader_of_its_first_bytes(relay, doors, clients):
    """A receive buffer so small that much is still in the relay's socket when the connection is parked."""
    ids = doors.many("t", ["x" * 5000 + str(n) for n in range(100)])
    s = socket.socket()
    clients.append(s)
    s.settimeout(TIMEOUT_S)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    s.connect(("127.0.0.1", relay.port))
    s.sendall(b"GET /events?topic=t&replay=all HTTP/1.1\r\nHost: x\r\n\r\n")
    received = read_until(s, b"x99\n\n")
    received = b"".join(take_apart(received)[:2])
    assert PREAMBLE.match(received)
    assert [int(i) for i in re.findall(rb"^id: (\d+)\ndata:", received, re.MULTILINE)] == ids


# --- whatever the client sent ---


@pytest.mark.parametrize("lines", [0, 1, 40, 500])
@pytest.mark.parametrize("behind", [0, 50, 3000])
def test_bytes_around_the_request(relay, doors, opened, lines, behind):
    s = opened(relay, b"\r\n" * lines + REQUEST + b"\r\n" + b"x" * behind)
    head = read_head(s)
    if lines and status_of(head) == 400:
        return  # blank lines before a request are libmicrohttpd's to refuse
    assert status_of(head) == 200
    if b"relay.connected" not in head:
        read_until(s, b"relay.connected")
    doors.fcall("t", "hello")
    read_until(s, b"data: hello\n\n")


def test_a_stream_on_a_connection_that_was_used_before(relay, doors, opened):
    s = opened(relay, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    read_until(s, b'{"status":"ok"}')
    s.sendall(REQUEST + b"Cookie: " + b"c" * 2000 + b"\r\n\r\n")
    read_until(s, b"relay.connected")
    doors.fcall("t", "hello")
    read_until(s, b"data: hello\n\n")


@pytest.mark.parametrize("count", [1, 20, 50])
def test_headers_up_to_the_limit(relay, doors, opened, count):
    """8 KB of them by default, in few long ones or in many."""
    room = 8192 - len(REQUEST) - 2
    each = room // count - len(b"X-Filler-00: \r\n")
    headers = b"".join(b"X-Filler-%02d: %s\r\n" % (n, b"h" * each) for n in range(count))
    s = opened(relay, REQUEST + headers + b"\r\n")
    read_until(s, b"relay.connected")
    doors.fcall("t", "hello")
    read_until(s, b"data: hello\n\n")


# --- ends ---


def hang_up(s, how):
    if how == "reset":
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how == "half":
        s.shutdown(socket.SHUT_WR)
        read_all(s)
    if how == "begun":
        s.recv(20)
    s.close()


@pytest.mark.parametrize("how", ["close", "half", "reset", "begun"])
def test_clients_that_hang_up_while_they_are_parked_leave_nothing(relay, opened, how):
    first = opened(relay)
    read_until(first, b"relay.connected")
    files = len(files_of(relay))
    for _ in range(10):
        some = [opened(relay) for _ in range(15)]
        for s in some:
            hang_up(s, how)
    relay.wait_clients(1)
    wait_until(lambda: relay.metric("sse_relay_connections") <= 2, "the connections to end")
    wait_until(lambda: len(files_of(relay)) <= files + 1, "the files to be closed")
    first.close()
    relay.wait_clients(0)


def test_a_connection_that_idles_keeps_no_stream_from_its_end(redis, relay_factory, park, opened):
    """libmicrohttpd looks after closed connections only up to the oldest that is open."""
    relay = relay_factory(park=park, workers=1, max_lifetime="1s")
    idle = opened(relay, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    read_until(idle, b'{"status":"ok"}')
    relay.wait_clients(0)
    files = len(files_of(relay))
    streams = [opened(relay) for _ in range(20)]
    for s in streams:
        read_until(s, b"relay.connected")
    assert len(files_of(relay)) < files + 30
    for s in streams:
        read_all(s)
    wait_until(lambda: len(files_of(relay)) <= files + 1, "the files of streams whose clients have not hung up")


def test_no_file_left_for_a_duplicate(relay, doors, opened):
    """Then the connection is parked the other way, and nobody notices."""
    other = opened(relay, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    read_until(other, b'{"status":"ok"}')
    used = files_of(relay)
    free = next(n for n in range(len(used) + 1) if n not in used)
    limits = resource.prlimit(relay.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (free + 1, limits[1]))
    try:
        s = opened(relay)
        read_until(s, b"relay.connected")
    finally:
        resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, limits)
    doors.fcall("t", "hello")
    read_until(s, b"data: hello\n\n")
    more = opened(relay)
    read_until(more, b"relay.connected")
    s.close()
    relay.wait_clients(1)
    relay.terminate()
    assert b"relay.shutdown" in read_all(more)
    assert relay.wait() == 0


def test_drain_ends_each_stream_in_order(relay, doors, opened):
    streams = [opened(relay) for _ in range(30)]
    begun = [read_until(s, b"relay.connected") for s in streams]
    doors.many("t", [str(n) for n in range(50)])
    relay.terminate()
    for s, head in zip(streams, begun):
        _, body, whole = take_apart(head + read_all(s))
        assert whole
        assert re.findall(rb"^data: (\d+)$", body, re.MULTILINE) == [b"%d" % n for n in range(50)]
        assert body.endswith(b'event: relay.shutdown\ndata: {"reason":"drain"}\n\n')
    assert relay.wait() == 0


@pytest.mark.parametrize("signals", [1, 2])
def test_the_end_while_streams_begin(redis, relay_factory, park, signals):
    """A second signal ends the process at once, whatever is under way."""
    relay = relay_factory(park=park, workers=2, drain="300ms")
    stop, streams = threading.Event(), []

    def open_some():
        while not stop.is_set():
            try:
                s = open_socket(relay)
                streams.append(s)
                s.sendall(REQUEST + b"\r\n")
            except OSError:
                stop.wait(0.01)

    threads = [threading.Thread(target=open_some) for _ in range(3)]
    for t in threads:
        t.start()
    wait_until(lambda: len(streams) > 200, "streams")
    for _ in range(signals):
        relay.terminate()
    code = relay.wait()
    stop.set()
    for t in threads:
        t.join()
    for s in streams:
        s.close()
    assert code == 0
