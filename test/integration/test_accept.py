# SPDX-License-Identifier: Apache-2.0
"""More connections, bodies or files than there may be: who waits, who is refused, and who does not notice."""

import json
import os
import resource
import signal
import time

import pytest
import requests

from raw_http import open_socket, read_all, read_head, status_of
from relay_process import wait_until
from sse_client import TIMEOUT_S
from swarm import raise_file_limit

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
BYE = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture
def sockets():
    """sockets(relay, 40, bytes): so many connections that have sent these."""
    raise_file_limit()
    opened = []

    def open_some(relay, count, request=b""):
        some = []
        for _ in range(count):
            some.append(open_socket(relay))
            opened.append(some[-1])
            some[-1].sendall(request)
        return some

    yield open_some
    for s in opened:
        s.close()


@pytest.fixture
def asking(clients):
    """asking(address): a kept connection to that address of a relay, for what new ones would wait for."""
    sessions = []

    def connect(address):
        session = requests.Session()
        session.trust_env = False
        sessions.append(session)
        return lambda path: session.get(f"http://{address}{path}", timeout=TIMEOUT_S)

    yield connect
    for session in sessions:
        session.close()


def metric_of(text, name):
    return sum(float(li.rsplit(" ", 1)[1]) for li in text.splitlines() if li.startswith(name))


def is_closed(s):
    s.setblocking(False)
    try:
        return s.recv(65536) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        s.settimeout(TIMEOUT_S)


# --- the rate ---


def test_storm_is_delayed_and_nobody_refused(redis, relay_factory, sockets):
    relay = relay_factory({"accept.rate": 40}, workers=1)
    before = relay.metric("sse_relay_connections_accepted_total")
    storm = sockets(relay, 120, BYE)  # faster than the rate, however busy this machine is
    assert [status_of(read_all(s)) for s in storm] == [200] * 120
    assert relay.metric("sse_relay_connections_accepted_total") >= before + 120
    assert relay.metric("sse_relay_accept_pauses_total", reason="rate") >= 1


def test_no_rate_no_delay(redis, relay_factory, sockets):
    relay = relay_factory({"accept.rate": 0})
    storm = sockets(relay, 200, BYE)
    assert [status_of(read_all(s)) for s in storm] == [200] * 200
    assert relay.metric("sse_relay_accept_pauses_total", reason="rate") == 0


def test_probes_have_an_address_of_their_own(redis, relay_factory, sockets, asking):
    """Each address has a queue and a budget of its own: a storm at one is not felt at the other."""
    relay = relay_factory({"accept.rate": 1, "listen": ["127.0.0.1:0", "127.0.0.1:0"]}, workers=1)
    sockets(relay, 60, HEALTH)
    probe = asking(relay.addresses[1])
    assert probe("/ready").status_code == 200
    text = probe("/metrics").text
    assert metric_of(text, "sse_relay_connections_accepted_total") < 60, "the storm is over already"


def test_rate_is_reloadable(redis, relay_factory, sockets, tmp_path):
    path = tmp_path / "relay.json"
    path.write_text(json.dumps({"accept.rate": 1}))
    relay = relay_factory(args=["--config", path], workers=1)
    storm = sockets(relay, 120, BYE)  # would take two minutes
    path.write_text(json.dumps({"accept.rate": 0}))
    relay.signal(signal.SIGHUP)
    assert [status_of(read_all(s)) for s in storm] == [200] * 120


def test_streams_get_their_events_during_a_storm(redis, relay_factory, sse_connect, sockets, doors):
    relay = relay_factory({"accept.rate": 2}, workers=1)
    client = sse_connect(relay, "t")
    sockets(relay, 60, HEALTH)
    for n in range(20):
        doors.fcall("t", n)
    assert client.wait_for(20).data == [str(n) for n in range(20)]


# --- connections ---


def test_idle_connections_make_room_oldest_first(redis, relay_factory, sockets):
    relay = relay_factory(workers=1, files=300)
    kept = []
    for _ in range(150):
        (s,) = sockets(relay, 1, HEALTH)
        assert status_of(read_head(s)) == 200
        kept.append(s)
    closed = [is_closed(s) for s in kept]
    assert closed == sorted(closed, reverse=True), "not the oldest first"
    assert closed[0] and not any(closed[-10:])
    kept[-1].sendall(BYE)
    assert status_of(read_all(kept[-1])) == 200
    assert relay.metric("sse_relay_http_evicted_total") >= sum(closed)


def test_request_under_way_is_not_closed_for_others(redis, relay_factory, sockets):
    relay = relay_factory(workers=1, files=300)
    (post,) = sockets(
        relay, 1, b"POST /publish?topic=t HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nab"
    )
    wait_until(lambda: relay.metric("sse_relay_http_body_bytes") == 2)
    for _ in range(100):
        (s,) = sockets(relay, 1, HEALTH)
        assert status_of(read_head(s)) == 200
    post.sendall(b"cd")
    assert status_of(read_all(post)) == 200


def test_connections_that_say_nothing_make_room(redis, relay_factory, sockets, sse_connect, doors):
    relay = relay_factory(workers=1, files=300)
    sockets(relay, 60)
    client = sse_connect(relay, "t")
    doors.fcall("t", "x")
    assert client.wait_for(1).data == ["x"]
    assert relay.metric("sse_relay_accept_pauses_total", reason="connections") > 0


@pytest.mark.slow
def test_idle_connections_are_closed_in_time(redis, relay_factory, sockets, tmp_path):
    """After http.idle_timeout, a SIGHUP included: it counts from the next answer on. Until then they can be used."""
    path = tmp_path / "relay.json"
    path.write_text(json.dumps({"http.idle_timeout": "1h"}))
    relay = relay_factory(args=["--config", path], workers=1)
    (old,) = sockets(relay, 1, HEALTH)
    assert status_of(read_head(old)) == 200
    path.write_text(json.dumps({"http.idle_timeout": "1s"}))
    relay.signal(signal.SIGHUP)
    relay.wait_log("configuration read again")
    relay.stats()  # goes through the worker, behind the configuration
    begin = time.monotonic()
    (new,) = sockets(relay, 1, HEALTH)
    assert status_of(read_head(new)) == 200
    read_all(new)
    assert 1 <= time.monotonic() - begin < 10
    assert relay.metric("sse_relay_http_timeouts_total") == 1
    old.sendall(BYE)
    assert status_of(read_all(old)) == 200


def test_all_streams_fit_beside_a_thousand_idle_connections(redis, relay_factory, sockets, swarm, doors):
    relay = relay_factory(files=700)
    most = relay.stats()["max_clients"]
    assert most >= 450
    for _ in range(20):
        for s in sockets(relay, 50, HEALTH):
            assert status_of(read_head(s)) == 200
    crowd = swarm([relay], most, "t", resume=True).wait_connected(timeout=60)
    assert relay.ready()[1]["status"] == "full"
    assert relay.stats()["clients"] == most
    told = relay.get("/events?topic=t")
    assert told.status_code == 200 and "retry: " in told.text and "\n\n" not in told.text
    doors.fcall("t", "x")
    crowd.wait(lambda c: c.data == ["x"])
    assert relay.publish("t", "y") > 0
    crowd.wait(lambda c: c.data == ["x", "y"])
    assert relay.metric("sse_relay_accept_pauses_total", reason="files") == 0


def test_streams_that_end_together_give_their_places_back(redis, relay_factory, swarm):
    relay = relay_factory(workers=1, files=700)
    most = relay.stats()["max_clients"]
    for _ in range(5):
        crowd = swarm([relay], most, "t", resume=True).wait_connected(timeout=60)
        crowd.close()
        relay.wait_clients(0)
        wait_until(lambda: relay.metric("sse_relay_connections") == 1, "the closed connections to be gone")
    assert relay.ready()[0] == 200


# --- files ---


def test_out_of_files_new_connections_wait(redis, relay_factory, sse_connect, sockets, doors):
    relay = relay_factory(workers=1)
    client = sse_connect(relay, "t")
    taken = {int(n) for n in os.listdir(f"/proc/{relay.pid}/fd")}
    first_free = next(n for n in range(len(taken) + 1) if n not in taken)
    limits = resource.prlimit(relay.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (first_free, limits[1]))
    waiting = sockets(relay, 20, BYE)
    relay.wait_log("cannot accept connections")
    doors.fcall("t", "x")
    assert client.wait_for(1).data == ["x"], "streams go on"
    resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, limits)
    assert [status_of(read_all(s)) for s in waiting] == [200] * 20
    assert relay.metric("sse_relay_accept_pauses_total", reason="files") >= 1
    assert relay.log_text.count("cannot accept connections") == 1


# --- bodies ---


def post_of(length, body, more=b"Connection: close\r\n"):
    head = b"POST /publish?topic=t HTTP/1.1\r\nHost: x\r\n" + more
    return head + b"Content-Length: %d\r\n\r\n" % length + body


def chunked(body):
    head = b"POST /publish?topic=t HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"


def test_bodies_have_a_bound_together(redis, relay_factory, sockets, sse_connect):
    relay = relay_factory({"publish.max_held_bytes": "64KB"}, workers=1)
    client = sse_connect(relay, "t")
    holders = sockets(relay, 4, post_of(15001, b"x" * 15000))
    wait_until(lambda: relay.metric("sse_relay_http_body_bytes") == 60000)
    for request in (post_of(10000, b""), chunked(b"y" * 10000)):
        (s,) = sockets(relay, 1, request)
        answer = read_all(s)
        assert status_of(answer) == 503 and b"Retry-After: 1\r\n" in answer
        assert answer.endswith(b',"published":false}')
    assert relay.metric("sse_relay_http_bodies_refused_total") == 2
    assert relay.metric("sse_relay_http_body_bytes") == 60000
    assert relay.log_text.count("too many request bodies") == 1
    assert relay.publish("t", "small") > 0
    for s in holders:
        s.sendall(b"x")
        assert status_of(read_all(s)) == 200
    for request in (post_of(10000, b"z" * 10000), chunked(b"z" * 10000)):
        (s,) = sockets(relay, 1, request)
        assert status_of(read_all(s)) == 200
    wait_until(lambda: relay.metric("sse_relay_http_body_bytes") == 0)
    client.wait_for(7)


def test_bodies_that_are_cut_off_are_given_back(redis, relay_factory, sockets):
    relay = relay_factory({"publish.max_held_bytes": "64KB"})
    for s in sockets(relay, 3, post_of(20000, b"x" * 19000)):
        wait_until(lambda: relay.metric("sse_relay_http_body_bytes") > 0)
        s.close()
    wait_until(lambda: relay.metric("sse_relay_http_body_bytes") == 0)
    assert relay.publish("t", "x" * 60000) > 0


def test_one_body_may_not_be_larger_than_all_together(redis, relay_factory):
    relay = relay_factory({"publish.max_held_bytes": "64KB"})
    assert relay.post("/publish?topic=t", "x" * 65536).status_code == 200
    assert relay.post("/publish?topic=t", "x" * 65537).status_code == 413


def test_slow_bodies_leave_room_for_streams_and_probes(redis, relay_factory, sockets, sse_connect):
    relay = relay_factory(workers=1, files=300)
    sockets(relay, 100, post_of(10, b"x"))
    wait_until(lambda: relay.metric("sse_relay_http_bodies_refused_total") > 50)
    assert relay.ready()[0] == 200
    sse_connect(relay, "t")
    assert relay.post("/publish?topic=t", "x").status_code == 503


def test_body_limit_follows_the_reload(redis, relay_factory, tmp_path):
    path = tmp_path / "relay.json"
    path.write_text(json.dumps({"max_event_bytes": "1KB"}))
    relay = relay_factory(args=["--config", path])
    assert relay.post("/publish?topic=t", "x" * 10000).status_code == 413
    path.write_text(json.dumps({"max_event_bytes": "16KB"}))
    relay.signal(signal.SIGHUP)
    wait_until(lambda: relay.post("/publish?topic=t", "x" * 10000).status_code == 200)
    path.write_text(json.dumps({"max_event_bytes": "1KB"}))
    relay.signal(signal.SIGHUP)
    wait_until(lambda: b"eight times" in relay.post("/publish?topic=t", "x" * 10000).content)
