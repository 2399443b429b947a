# SPDX-License-Identifier: Apache-2.0
"""Bad input at every door, and clients that behave badly: counted or refused, and nobody else notices."""

import os
import random
import re
import socket
import threading
from pathlib import Path

import pytest

from raw_http import exchange, open_socket, read_all, status_of
from relay_process import wait_until

GARBAGE = [
    b"\x00" * 100,
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /events?topic=t\r\n\r\n",
    b"GET /events?topic=t HTTP/9.9\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS hello
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n",
    b"GET /events?topic=t HTTP/1.1\r\nHost: x\r\nBad Header\r\n\r\n",
    b"GET /events?topic=t HTTP/1.1\r\nHost: x\r\n: novalue\r\n\r\n",
    b"GET /events?%zz=%&topic=%e&&&=== HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nhello",
    b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 5x\r\n\r\nhello",
    b"POST /publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
    b"GET " + b"/" * 100000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
]


@pytest.fixture
def witness(relay, sse_connect, doors):
    """A well-behaved stream: after everything that a test does, it must still get each event."""
    stream = sse_connect(relay, "witness")
    yield stream
    doors.fcall("witness", "still here")
    assert stream.wait_for(1).data == ["still here"]
    assert relay.running


# --- the HTTP port ---


@pytest.mark.parametrize("bytes_", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_refused_or_closed(relay, witness, bytes_):
    with open_socket(relay) as s:
        try:
            s.sendall(bytes_)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        answer = read_all(s)
    harmless = b"topic=" in bytes_ and not bytes_.startswith(b"POST")  # read leniently: a topic "%e"
    assert answer == b"" or 400 <= status_of(answer) < 600 or harmless


def test_random_bytes_at_the_port(relay, witness):
    rng = random.Random(11)
    for _ in range(300):
        data = rng.randbytes(rng.randrange(1, 400))
        if rng.random() < 0.5:
            data = b"GET /events?topic=" + data + b" HTTP/1.1\r\nHost: x\r\n\r\n"
        with open_socket(relay) as s:
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def test_mutated_requests(relay, witness):
    rng = random.Random(12)
    seeds = [
        b"GET /events?topic=a.b&replay=5&since=-1h&event=x&ns=n HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 12\r\n\r\n",
        b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 24\r\n\r\n"
        b'{"topic":"m","data":"x"}',
    ]
    for _ in range(300):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with open_socket(relay) as s:
            try:
                s.sendall(bytes(data))
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def test_huge_query_is_a_4xx(relay, witness):
    for query in ("topic=" + "t" * 20000, "&".join(f"topic=t{i}" for i in range(3000)), "x=" + "%41" * 9000):
        answer = exchange(relay, f"GET /events?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert 400 <= status_of(answer) < 500


def test_many_parameters_within_the_header_limit_name_the_bad_one(relay):
    answer = relay.get("/events?" + "&".join(["topic=t"] + [f"p{i}=1" for i in range(100)] + ["replay=x"]))
    assert answer.status_code == 400 and "replay" in answer.json()["detail"]


@pytest.mark.slow
def test_header_dribbler_is_closed_at_the_deadline(relay, witness):
    with open_socket(relay) as s:
        s.settimeout(0.25)
        request = b"GET /events?topic=t HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 400
        ended = None
        for i in range(len(request)):
            try:
                s.sendall(request[i : i + 1])
                ended = s.recv(100)
                break
            except socket.timeout:
                continue
            except OSError:
                ended = b""
                break
        assert ended is not None, "served a dribbler for 100 seconds"
        assert ended == b"" or status_of(ended) in (400, 408)
    wait_until(lambda: relay.metric("sse_relay_http_timeouts_total") >= 1)


@pytest.mark.slow
def test_silent_connection_is_closed_at_the_deadline(relay, witness):
    with open_socket(relay) as s:
        s.settimeout(60)
        read_all(s)  # it ends: that is all that is asked


def test_stream_client_that_talks_is_ignored(relay, sse_connect, doors, witness):
    client = sse_connect(relay, "t")
    client.sock.setblocking(True)
    client.sock.sendall(b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
    doors.fcall("t", "x")
    client.wait_for(lambda c: c.data == ["x"] or c.closed)
    assert b"HTTP/1.1" not in client.raw


def test_stream_client_that_sends_without_end_is_bounded(relay, sse_connect, doors, witness):
    """Drained and discarded, or cut: in no case does it cost memory or anybody else's time."""
    client = sse_connect(relay, "t", reading=True)
    client.sock.settimeout(0.2)
    try:
        for _ in range(200):
            client.sock.send(b"x" * 65536)
    except OSError:
        pass


def test_half_closed_client_is_gone(relay, sse_connect, witness):
    client = sse_connect(relay, "t")
    relay.wait_clients(2)
    client.sock.shutdown(socket.SHUT_WR)
    client.close()
    relay.wait_clients(1)


GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /publish?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"


@pytest.mark.parametrize("requests", [[GET], [POST], [GET] * 3, [GET, POST] * 2])
def test_half_closed_requests_are_answered_and_closed(relay, requests):
    """As `nc -N` and some health checks do: the end comes with the last answer, not with a deadline."""
    for _ in range(20):
        with open_socket(relay) as s:
            s.sendall(b"".join(requests))
            s.shutdown(socket.SHUT_WR)
            assert read_all(s).count(b"HTTP/1.1 200") == len(requests)
    assert relay.metric("sse_relay_http_timeouts_total") == 0


# --- Redis ---


def test_random_bytes_as_messages(relay, sse_connect, doors, redis, witness):
    r = redis.client(decode_responses=False)
    rng = random.Random(13)
    exact, pattern = sse_connect(relay, "t"), sse_connect(relay, ">")
    for i in range(500):
        payload = rng.randbytes(rng.randrange(0, 200))
        kind = i % 5
        if kind == 1:
            payload = b'{"sse":1,' + payload
        elif kind == 2:
            payload = b'{"sse":1,"id":"' + payload[:20].hex().encode() + b'","data":"x"}'
        elif kind == 3:
            payload = b'{"sse":1,"topic":"t","data":' + rng.choice([b"{}", b"5", b"null", b"[]"]) + b"}"
        elif kind == 4:
            payload = rng.choice([b'{"sse":1}', b'{"sse":"1","data":"x"}', b'{"sse":1,"id":-1,"data":""}'])
        r.publish(b"sse:{default}:ch:t", payload)
    id = doors.fcall("t", "end")
    for client in (exact, pattern):
        client.wait_for(lambda c: "end" in c.data)
        client.raw.decode("utf-8")
        assert [i for i in client.ids if i is not None] == [id], "an id was taken from garbage"
    assert relay.metric("sse_relay_events_dropped_total", reason="invalid") > 0


def test_envelope_ids_cannot_be_forged_out_of_order(relay, sse_connect, doors, witness):
    """An envelope with an id in the past is a duplicate; it must not move anybody's cursor back."""
    client = sse_connect(relay, "t")
    ids = doors.many("t", ["1", "2"])
    client.wait_for(2)
    doors.raw("t", f'{{"sse":1,"id":"{ids[0]}","prev":"0","topic":"t","data":"again"}}')
    doors.raw("t", f'{{"sse":1,"id":"{ids[1]}","prev":"{ids[0]}","topic":"t","data":"again"}}')
    last = doors.fcall("t", "3")
    assert client.wait_for(3).data == ["1", "2", "3"]
    assert client.ids == [*ids, last]


def test_messages_on_strange_channels(redis, relay_factory, sse_connect, doors):
    relay = relay_factory()
    client = sse_connect(relay, ">")
    r = redis.client(decode_responses=False)
    for name in (b"", b"a b", b"\xff", b"a..b", b"x" * 600, b"*", b"\x00"):
        r.publish(b"sse:{default}:ch:" + name, b"x")
    for channel in (b"sse:{default}:ch", b"sse:{default}:chx:t", b"sse:{}:ch:t", b"sse:{a}b}:ch:t", b"ss:{default}:ch:t"):
        r.publish(channel, b"x")
    doors.fcall("t", "end")
    assert client.wait_for(lambda c: "end" in c.data).data == ["end"]


def test_message_that_is_too_large_is_not_taken_apart(redis, relay_factory, sse_connect, doors):
    """Its tree would take forty times its size."""
    relay = relay_factory({"max_event_bytes": "64KB"})
    client = sse_connect(relay, "t")
    status = lambda: Path(f"/proc/{relay.pid}/status").read_text()  # noqa: E731
    peak_kb = lambda: int(re.search(r"VmHWM:\s+(\d+)", status())[1])  # noqa: E731
    before = peak_kb()
    doors.raw("t", '{"sse":1,"data":"x","more":[' + "0," * 5_000_000 + "0]}")
    doors.fcall("t", "after")
    assert client.wait_for(1).data == ["after"]
    assert relay.metric("sse_relay_events_dropped_total", reason="invalid") == 1
    assert peak_kb() - before < 100_000


def test_random_entries_in_the_log(relay, sse_connect, doors, redis, witness):
    start = sse_connect(relay, "t").last_event_id
    r = redis.client(decode_responses=False)
    log = doors.key("default", "log", "t")
    rng = random.Random(14)
    doors.fcall("t", "1")
    base = doors.fcall("t", "2")
    for i in range(1, 40):
        fields = [rng.randbytes(rng.randrange(1, 30)) for _ in range(2 * rng.randrange(1, 4))]
        if i % 4 == 0:
            fields = [b"data", b"x", b"prev", rng.randbytes(8)]
        r.execute_command("XADD", log, f"{base + i // 2}-{i + 1}", *fields)
    end = doors.fcall("t", "end")
    client = sse_connect(relay, "t", last_event_id=start)
    client.wait_for(lambda c: "end" in c.data)
    client.raw.decode("utf-8")
    assert {"1", "2", "end"} <= set(client.data)
    moves = client.all_ids
    assert moves == sorted(moves) and client.ids[-1] == end


@pytest.mark.parametrize("name", ["topics", "seq", "horizon", "config"])
def test_keys_of_the_wrong_type(relay, sse_connect, doors, witness, name):
    """Somebody else's data in our keys: an error, not a crash; better again when it is gone."""
    key = doors.key("odd", name)
    doors.redis.rpush(key, "what")
    client = sse_connect(relay, "t", params={"ns": "odd"}, wait=False).wait_head()
    assert client.status == 200
    assert relay.post("/publish?ns=odd", json={"topic": "t", "data": "x"}).status_code in (200, 500, 503)
    doors.redis.delete(key)
    client.wait_connected()
    wait_until(
        lambda: relay.post("/publish?ns=odd", json={"topic": "t", "data": "y"}).status_code == 200
    )
    client.wait_for(lambda c: "y" in c.data)


def test_log_key_of_the_wrong_type(relay, sse_connect, doors, witness):
    cursor = doors.fcall("t", "1")
    key = doors.key("default", "log", "t")
    doors.spoil(key)
    client = sse_connect(relay, "t", last_event_id=cursor, wait=False).wait_head()
    assert client.status == 200
    doors.redis.delete(key)
    doors.fcall("t", "2")
    client.wait_for(lambda c: "2" in c.data)


def test_seq_that_is_not_a_number(relay, doors, witness):
    doors.redis.set(doors.key("odd", "seq"), "abc")
    answer = relay.post("/publish?ns=odd", json={"topic": "t", "data": "x"})
    assert answer.status_code in (500, 503)


# --- slow readers ---


def publish_much(doors, count, size, topic="t"):
    block = "x" * size
    pipe = doors.redis.pipeline(transaction=False)
    for n in range(1, count + 1):
        pipe.fcall("sse_publish", 1, doors.key(), "topic", topic, "data", f"{n} {block}")
        if n % 20 == 0:
            pipe.execute()
    pipe.execute()


def read_once_it_is_ended(relay, slow, most=2 * 256 * 1024):
    """True once the reader that has stopped is ended, with at most so many bytes queued. It reads on then: the rest of
    the event that it has begun to take waits for some seconds, but no longer."""
    ended = relay.metric("sse_relay_streams_closed_total", reason="slow") == 1
    if ended and not slow._reading:
        assert relay.metric("sse_relay_queued_bytes") <= most
        slow.start_reading()
    return ended


def test_reader_that_stops_is_ended_between_two_events_and_can_resume(redis, relay_factory, sse_connect, doors):
    relay = relay_factory({"queue.max_bytes": "256KB", "slow": "disconnect"})
    slow = sse_connect(relay, "t", receive_buffer=8192, gzip=False)
    fast = [sse_connect(relay, "t") for _ in range(3)]
    slow.stop_reading()
    total, size = 400, 50_000  # 20 MB: more than any socket buffer takes
    for n in range(0, total, 4):
        for m in range(n, n + 4):
            doors.fcall("t", f"{m} " + "x" * size)
        for client in fast:
            client.wait_for(n + 4)
        read_once_it_is_ended(relay, slow)
    want = [f"{n} " + "x" * size for n in range(total)]
    for client in fast:
        assert client.data == want
    wait_until(lambda: read_once_it_is_ended(relay, slow), "its end")
    slow.wait_closed()
    assert slow.clean
    assert slow.rest == "" and slow.raw.endswith(b"\n\n"), "cut inside a frame"
    assert len(slow.data) < total
    again = sse_connect(relay, "t", last_event_id=slow.last_event_id)
    again.wait_for(total - len(slow.data))
    assert slow.data + again.data == want
    assert not again.gaps


def test_reader_that_never_reads_again_costs_bounded_memory_and_goes(redis, relay_factory, sse_connect, doors):
    relay = relay_factory({"queue.max_bytes": "64KB", "slow": "disconnect"})
    stalled = [sse_connect(relay, "t", receive_buffer=4096) for _ in range(20)]
    for client in stalled:
        client.stop_reading()
    publish_much(doors, 400, 20_000)
    wait_until(
        lambda: relay.metric("sse_relay_streams_closed_total", reason="slow") == 20,
        "all stalled readers to be let go",
    )
    assert relay.metric("sse_relay_queued_bytes") <= 20 * (64 * 1024 + 30_000)
    witness = sse_connect(relay, "t")
    doors.fcall("t", "end")
    assert witness.wait_for(1).data == ["end"]
    for client in stalled:
        client.reset_connection()
    relay.wait_clients(1)


def test_slow_reader_of_a_long_replay_gets_all(redis, relay_factory, sse_connect, doors):
    """The log is read at the pace of the socket: slow is no reason to be cut."""
    relay = relay_factory({"queue.max_events": 256, "queue.max_bytes": "1MB"})
    start = sse_connect(relay, "t").last_event_id
    publish_much(doors, 300, 20_000)  # 6 MB
    client = sse_connect(relay, "t", last_event_id=start, receive_buffer=8192, wait=False)
    client.stop_reading()
    for _ in range(400):
        client.read_some(4096)
    assert relay.metric("sse_relay_queued_bytes") <= 2 * 1024 * 1024
    client.start_reading()
    client.wait_for(300)
    assert [d.split()[0] for d in client.data] == [str(n) for n in range(1, 301)]
    assert not client.gaps and not client.closed


def test_bursts_do_not_cut_a_reader_that_reads(relay, sse_connect, doors):
    client = sse_connect(relay, "t", "u")
    for n in range(1, 6):
        doors.many("t", [f"{i}" for i in range(400)])
        client.wait_for(lambda c, n=n: len(c.events) >= n * 400 or c.closed)
    assert len(client.events) == 2000 and not client.closed


def test_queue_limit_in_events(redis, relay_factory, sse_connect, doors):
    relay = relay_factory({"queue.max_events": 5, "queue.max_bytes": "64MB", "slow": "disconnect"})
    slow = sse_connect(relay, "t", receive_buffer=4096, gzip=False)
    slow.stop_reading()
    for n in range(40):
        doors.fcall("t", f"{n} " + "x" * 500_000)
        read_once_it_is_ended(relay, slow, most=64 << 20)
    wait_until(lambda: read_once_it_is_ended(relay, slow, most=64 << 20), "its end")
    slow.wait_closed()
    assert slow.clean and slow.rest == "" and slow.raw.endswith(b"\n\n")


def test_descriptors_come_back(relay, sse_connect):
    relay.wait_log("connected to Redis.*connection=inbox")  # which need not be there when the relay is ready…
    relay.publish("t", "x")  # …nor that for posts
    count = len(os.listdir(f"/proc/{relay.pid}/fd"))
    for _ in range(5):
        burst = [sse_connect(relay, "t", "u.*") for _ in range(20)]
        for client in burst:
            client.close()
        relay.wait_clients(0)
    wait_until(lambda: len(os.listdir(f"/proc/{relay.pid}/fd")) <= count + 2, "closed sockets")


# --- subscriptions ---


@pytest.mark.slow
def test_unsubscribes_some_time_after_the_last_client(relay, sse_connect, doors):
    client = sse_connect(relay, "t", "u.*")
    channel, glob = "sse:{default}:ch:t", "sse:{default}:ch:u.*"
    assert channel in doors.redis.pubsub_channels("sse:*")
    patterns = doors.redis.pubsub_numpat()
    client.close()
    relay.wait_clients(0)
    assert channel in doors.redis.pubsub_channels("sse:*"), f"gone at once ({glob})"
    wait_until(lambda: channel not in doors.redis.pubsub_channels("sse:*"), "UNSUBSCRIBE", 60)
    wait_until(lambda: doors.redis.pubsub_numpat() < patterns, "PUNSUBSCRIBE", 60)
    again = sse_connect(relay, "t", "u.*")
    doors.fcall("u.x", "1")
    doors.fcall("t", "2")
    assert again.wait_for(2).data == ["1", "2"]


def test_one_redis_subscription_for_many_clients(relay, sse_connect, doors):
    for _ in range(20):
        sse_connect(relay, "t")
    assert doors.redis.pubsub_numsub("sse:{default}:ch:t")[0][1] == 1


def test_since_beyond_all_ids_is_live(relay, sse_connect, doors):
    """Microseconds instead of milliseconds: one of our own ids, say."""
    for since in ("9007199254740991", str(doors.fcall("t", "old")), "2999-01-01T00:00:00Z"):
        client = sse_connect(relay, "t", params={"since": since})
        live = doors.fcall("t", "new")
        client.wait_for(1)
        assert client.ids == [live] and not client.gaps
        client.close()


def test_pipelined_requests_do_not_stop_the_streams(redis, relay_factory, sse_connect, doors):
    relay = relay_factory(workers=1)
    client = sse_connect(relay, "t")
    stop = threading.Event()

    def flood():
        with open_socket(relay) as s:
            s.settimeout(0.2)
            while not stop.is_set():
                try:
                    s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
                    s.recv(1 << 20)
                except socket.timeout:
                    continue
                except OSError:
                    return

    floods = [threading.Thread(target=flood) for _ in range(3)]
    for thread in floods:
        thread.start()
    try:
        ids = [doors.fcall("t", str(n)) for n in range(20)]
        client.wait_for(20)
        assert client.ids == ids
    finally:
        stop.set()
        for thread in floods:
            thread.join()


@pytest.mark.slow
def test_many_names_in_many_namespaces_do_not_hold_up_the_bus(redis, relay_factory, sse_connect, doors):
    """The check of the index goes through the names of each namespace: its own, not everybody's."""
    relay = relay_factory({"redis.check": "1s"})
    topics = "&".join(f"topic=t{n}" for n in range(64))
    streams = []
    try:
        for n in range(2000):
            streams.append(socket.create_connection(("127.0.0.1", relay.port)))
            request = f"GET /events?ns=n{n}&{topics} HTTP/1.1\r\nHost: relay\r\n\r\n"
            streams[-1].sendall(request.encode())
        live = lambda: relay.metric("sse_relay_clients", state="live") == len(streams)  # noqa: E731
        wait_until(live, "all live", timeout=120)
        client = sse_connect(relay, "t")
        for n in range(100):
            doors.fcall("t", str(n))
            client.wait_for(n + 1)
    finally:
        for stream in streams:
            stream.close()
