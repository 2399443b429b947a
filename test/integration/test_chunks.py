# SPDX-License-Identifier: Apache-2.0
"""How a stream's body travels: in HTTP/1.1 chunks, byte for byte, that end where the stream does and only there."""

import random
import re
import zlib

import pytest
import requests

from raw_http import exchange, open_socket, read_all, take_apart
from relay_process import wait_until
from sse_client import TIMEOUT_S

REQUEST = b"GET /events?topic=t HTTP/1.1\r\nHost: x\r\n"
HEAD = rb"HTTP/1\.1 200 [^\r]*\r\n(?:[^\r\n]+\r\n)+\r\n"
CONNECTED = rb"id: \d+\nevent: relay\.connected\ndata: [^\n]+\n\n"
SHUTDOWN = rb'event: relay\.shutdown\ndata: {"reason":"drain"}\n\n'


@pytest.fixture(params=["suspended", "handover"])
def park(request):
    return request.param


@pytest.fixture
def relay(redis, relay_factory, park):
    return relay_factory(park=park, compress="z", workers=1)


@pytest.fixture
def opened(clients):
    """opened(relay, bytes): a connection that has sent these, and what has come up to relay.connected."""

    def connect(relay, request=REQUEST + b"\r\n", until=b"relay.connected"):
        s = open_socket(relay)
        clients.append(s)
        s.sendall(request)
        got = b""
        while until not in got:
            got += s.recv(65536)
        return s, got

    return connect


def chunk_pattern(content):
    return rb"[0-9A-Fa-f]+\r\n" + content + rb"\r\n"


def after_drain(relay, s, got):
    """All that the connection was sent, its end included."""
    relay.terminate()
    got += read_all(s)
    assert relay.wait() == 0
    return got


# --- byte for byte ---


def test_a_stream_is_chunks_from_its_first_byte_to_its_last(relay, doors, opened):
    """The first is libmicrohttpd's, the others are ours; nothing stands between them or behind the last one."""
    s, got = opened(relay)
    frames = [b"id: %d\ndata: %d\n\n" % (doors.fcall("t", n), n) for n in range(3)]
    got = after_drain(relay, s, got)
    contents = [rb":ok\nretry: \d+\n", CONNECTED, *map(re.escape, frames), SHUTDOWN]
    assert re.fullmatch(HEAD + b"".join(map(chunk_pattern, contents)) + rb"0\r\n\r\n", got), got
    assert take_apart(got)[2]
    assert got.lower().count(b"transfer-encoding: chunked\r\n") == 1
    assert got.lower().count(b"connection: close\r\n") == 1 and b"content-length" not in got.lower()


def test_a_compressed_stream_is_chunks_of_a_gzip_stream(relay, doors, opened):
    s, got = opened(relay, REQUEST.replace(b"=t", b"=z") + b"Accept-Encoding: gzip\r\n\r\n")
    id = doors.fcall("z", "y" * 500)
    head, body, whole = take_apart(after_drain(relay, s, got))
    assert whole and b"chunked" in head and b"gzip" in head
    inflate = zlib.decompressobj(31)
    plain = inflate.decompress(body)
    assert inflate.eof and not inflate.unused_data
    event = rb"id: %d\ndata: y{500}\n\n" % id
    assert re.fullmatch(rb":ok\nretry: \d+\n" + CONNECTED + event + SHUTDOWN, plain)


@pytest.mark.parametrize("extra", [b"", b"Connection: keep-alive\r\n", b"Host: x\r\n"])
def test_a_client_of_http_1_0_gets_no_chunks(relay, doors, opened, extra):
    """Its body ends with the connection."""
    s, got = opened(relay, b"GET /events?topic=t HTTP/1.0\r\n" + extra + b"\r\n")
    id = doors.fcall("t", "x")
    got = after_drain(relay, s, got)
    event = rb"id: %d\ndata: x\n\n" % id
    assert re.fullmatch(HEAD + rb":ok\nretry: \d+\n" + CONNECTED + event + SHUTDOWN, got), got
    assert b"transfer-encoding" not in got.lower() and b"\r\nConnection: close\r\n" in got


def test_gzip_for_a_client_of_http_1_0(relay, doors, opened):
    s, got = opened(relay, b"GET /events?topic=z HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n")
    doors.fcall("z", "x")
    head, end, body = after_drain(relay, s, got).partition(b"\r\n\r\n")
    inflate = zlib.decompressobj(31)
    assert inflate.decompress(body).endswith(b'event: relay.shutdown\ndata: {"reason":"drain"}\n\n')
    assert inflate.eof and not inflate.unused_data and b"chunked" not in head


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_head_has_no_body_and_no_last_chunk(relay, version):
    answer = exchange(relay, b"HEAD /events?topic=t HTTP/" + version + b"\r\nHost: x\r\n\r\n")
    assert re.fullmatch(HEAD, answer), answer
    assert b"\r\nConnection: close\r\n" in answer


def test_a_draining_node_answers_in_whole(redis, relay_factory, park, opened):
    relay = relay_factory(park=park, drain="1h")
    opened(relay)
    relay.terminate()
    wait_until(lambda: relay.ready()[0] == 503, "the drain")
    head, body, whole = take_apart(exchange(relay, REQUEST + b"\r\n"))
    assert whole and re.fullmatch(rb":ok\nretry: \d+\n", body) and b"chunked" not in head
    relay.terminate()
    relay.wait()


# --- whatever the socket takes, and however it ends ---


@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("io_uring", ["on", "off"])
def test_chunks_that_the_socket_takes_in_pieces(redis, relay_factory, park, sse_connect, doors, io_uring, gzip):
    """Events larger than any socket's buffer, to many at a time, so that io_uring writes them where there is one."""
    relay = relay_factory(
        park=park, io_uring=io_uring, compress=">", workers=1
    )
    readers = [sse_connect(relay, "t", receive_buffer=4096, gzip=gzip) for _ in range(8)]
    want = [f"{n} " + bytes(range(97, 123)).decode() * 40_000 for n in range(4)] + ["end"]
    doors.many("t", want)
    for reader in readers:
        assert reader.wait_for(len(want), timeout=60).data == want
    relay.terminate()
    for reader in readers:
        reader.wait_closed()
        assert reader.clean and reader.rest == "" and reader.chunks[-1] == 0


@pytest.mark.parametrize("gzip", [False, True])
def test_who_is_too_slow_has_the_chunk_it_began_and_a_clean_end(redis, relay_factory, park, sse_connect, doors, gzip):
    relay = relay_factory({"queue.max_bytes": "64KB"}, park=park, compress=">", slow="disconnect")
    slow = sse_connect(relay, "t", receive_buffer=4096, gzip=gzip)
    slow.stop_reading()
    noise = random.Random(3)  # which compression cannot make small
    for n in range(400):
        doors.fcall("t", f"{n} " + noise.randbytes(50_000).hex(), ephemeral=1)
        if relay.metric("sse_relay_streams_closed_total", reason="slow"):
            break
    assert relay.metric("sse_relay_streams_closed_total", reason="slow") == 1
    slow.start_reading()
    slow.wait_closed()
    assert slow.clean and not slow.rest and slow.chunks[-1] == 0


def test_end_of_life_is_a_clean_end(redis, relay_factory, park, sse_connect):
    client = sse_connect(relay_factory(park=park, max_lifetime="1s"), "t").wait_closed()
    assert client.clean and client.chunks[-1] == 0


def test_kill_9_is_no_clean_end(relay, sse_connect, doors):
    clients = [sse_connect(relay, "t", gzip=False), sse_connect(relay, "z", gzip=True)]
    doors.fcall("t", "x")
    clients[0].wait_for(1)
    relay.kill()
    for client in clients:
        assert not client.wait_closed().clean and client.chunks[-1] != 0


# --- as a client of somebody else's sees it: python3-requests, on urllib3 ---


def get(relay, **kw):
    return requests.get(relay.url + "/events?topic=t", stream=True, timeout=TIMEOUT_S, **kw)


@pytest.mark.parametrize("way", ["iter_content", "iter_lines"])
@pytest.mark.parametrize("accept", ["identity", "gzip"])
def test_events_come_one_by_one(redis, relay_factory, park, doors, way, accept):
    """Unless the body is chunked urllib3 waits until hundreds of bytes have come. No time-out but the test's own."""
    relay = relay_factory(park=park, compress=">", heartbeat="0")
    with get(relay, headers={"Accept-Encoding": accept}) as answer:
        assert answer.headers.get("Content-Encoding") == (None if accept == "identity" else "gzip")
        pieces = answer.iter_content(None) if way == "iter_content" else answer.iter_lines()

        def until(text):
            for piece in pieces:
                if text in piece:
                    return
            raise AssertionError(f"no {text}")

        until(b"data: {")
        for n in range(20):
            doors.fcall("t", f"event {n}")
            until(b"data: event %d" % n)


def test_a_node_that_dies_is_an_error(relay, doors):
    with get(relay) as answer:
        pieces = answer.iter_content(None)
        next(pieces)
        relay.kill()
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            for _ in pieces:
                pass


def test_a_node_that_drains_is_a_clean_end(relay, doors):
    with get(relay) as answer:
        pieces = answer.iter_content(None)
        got = next(pieces)
        relay.terminate()
        assert (got + b"".join(pieces)).endswith(b'event: relay.shutdown\ndata: {"reason":"drain"}\n\n')
