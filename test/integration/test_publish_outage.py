# SPDX-License-Identifier: Apache-2.0
"""POST /publish while Redis is away, silent or unwilling, and when its connection breaks: published exactly once, or
the answer says what is known."""

import os
import re
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from lua_rig import LIBRARY
from raw_http import assert_problem, open_socket, read_all, status_of
from redis_server import RedisServer
from relay_process import run_relay, wait_until
from test_faults import make_user

WAITING = "sse_relay_publish_waiting"
RETRIED = "sse_relay_publish_retried_total"
LONG = {"publish.timeout": "120s"}  # longer than a test takes


@pytest.fixture
def pool():
    with ThreadPoolExecutor(64) as executor:
        yield executor


@pytest.fixture
def durable(tmp_path):
    """A Redis that has on disk what it has answered, whatever happens to it."""
    with RedisServer(tmp_path / "durable", args=["--appendonly", "yes", "--appendfsync", "always"]) as server:
        yield server


def post(relay, data, **fields):
    return relay.post("/publish", json={"topic": "t", "data": str(data), **fields})


def logged(server, topic="t"):
    return [fields["data"] for _, fields in server.client().xrange("sse:{default}:log:" + topic)]


def lose(redis, relay):
    redis.kill()
    wait_until(lambda: relay.ready()[0] == 503, "redis-down")


def wait_waiting(relay, count):
    wait_until(lambda: relay.metric(WAITING) == count, f"{count} waiting")


def check_not_published(answer):
    """A 503 that says so; the detail."""
    detail = assert_problem(answer, 503)
    assert answer.json()["published"] is False
    assert "nothing was published" in detail
    assert int(answer.headers["Retry-After"]) > 0
    return detail


# --- Redis is away ---


def test_post_waits_for_redis_to_come_back(redis, relay_factory, pool):
    relay = relay_factory(LONG)
    post(relay, 1)
    redis.restart(keep_data=True)
    lose(redis, relay)
    answer = pool.submit(post, relay, 2)
    wait_waiting(relay, 1)
    redis.start()
    assert answer.result().status_code == 200
    entry = redis.client().xrevrange("sse:{default}:log:t", count=1)[0]
    assert entry[0] == answer.result().json()["id"] + "-0"
    assert logged(redis) == ["1", "2"]
    assert relay.metric(WAITING) == 0
    relay.wait_log("publish requests wait for Redis")
    relay.wait_log("publish requests that waited for Redis are sent.*count=1")


def test_post_to_a_relay_that_starts_before_redis(redis, relay_factory, pool):
    redis.kill()
    relay = relay_factory(LONG, ready=False)
    answer = pool.submit(post, relay, 1)
    wait_waiting(relay, 1)
    redis.start()
    assert answer.result().status_code == 200
    assert logged(redis) == ["1"]


def test_post_that_waited_gets_no_id_again_from_a_redis_without_data(redis, relay_factory, sse_connect, doors, pool):
    """The ids were ahead of the clock: without the node's knowledge the new Redis would start below them."""
    relay = relay_factory(LONG)
    stream = sse_connect(relay, "t")
    doors.redis.incrby(doors.key("default", "seq"), 3600 * 10**6)
    last = relay.publish("t", 1)
    stream.wait_for(1)
    lose(redis, relay)
    answer = pool.submit(post, relay, 2)
    wait_waiting(relay, 1)
    redis.restart(keep_data=False)
    assert int(answer.result().json()["id"]) > last
    assert stream.wait_for(2).data == ["1", "2"]


def test_post_that_waited_is_kept_as_long_as_configured(redis, relay_factory, pool):
    """Nobody listens to its namespace here, and the Redis that comes back knows no settings."""
    relay = relay_factory(LONG, **{"log.ttl": "3h"})
    lose(redis, relay)
    answers = [pool.submit(relay.post, f"/publish?ns={ns}", json={"topic": "t", "data": "x"}) for ns in "abab"]
    wait_waiting(relay, 4)
    redis.restart(keep_data=False)
    assert [a.result().status_code for a in answers] == [200] * 4
    assert all(redis.client().pttl(f"sse:{{{ns}}}:log:t") > 2 * 3600 * 1000 for ns in "ab")


def test_post_that_waited_too_long_is_503_and_never_published(redis, relay_factory):
    relay = relay_factory({"publish.timeout": "300ms"})
    lose(redis, relay)
    detail = check_not_published(post(relay, "late"))
    assert "publish.timeout" in detail and "refused" in detail, "the reason"
    assert relay.metric("sse_relay_publish_timed_out_total") == 1
    assert relay.metric(WAITING) == 0
    redis.start()
    relay.wait_ready()
    assert relay.publish("t", "next") > 0
    assert logged(redis) == ["next"]


def test_timeout_of_0_does_not_wait(redis, relay_factory, doors):
    relay = relay_factory({"publish.timeout": "0"})
    relay.publish("t", "1")
    assert not doors.redis.keys("*:once:*"), "what is never sent again needs no key"
    lose(redis, relay)
    check_not_published(post(relay, "x"))
    assert relay.metric(WAITING) == 0


def test_waiting_posts_go_out_in_order_of_arrival(redis, relay_factory, pool):
    relay = relay_factory(LONG)
    lose(redis, relay)
    answers = []
    for n in range(12):
        if n % 3:
            answers.append(pool.submit(post, relay, n))
        else:  # a batch in between
            answers.append(pool.submit(relay.post, "/publish", json=[{"topic": "t", "data": f"{n}"}] * 2))
        wait_waiting(relay, n + 1)
    redis.start()
    assert [a.result().status_code for a in answers] == [200] * 12
    assert logged(redis) == [str(n) for n in range(12) for _ in range(1 if n % 3 else 2)]


def test_waiting_posts_are_bounded_in_number(redis, relay_factory, pool):
    relay = relay_factory(LONG, **{"publish.max_waiting": 3})
    lose(redis, relay)
    answers = [pool.submit(post, relay, n) for n in range(3)]
    wait_waiting(relay, 3)
    assert "publish.max_waiting" in check_not_published(post(relay, "too many"))
    assert relay.metric(WAITING) == 3
    redis.start()
    assert [a.result().status_code for a in answers] == [200] * 3
    relay.publish("t", "room again")
    assert sorted(logged(redis)) == ["0", "1", "2", "room again"]


def test_waiting_posts_are_bounded_in_bytes(redis, relay_factory, pool):
    relay = relay_factory(LONG, **{"publish.max_waiting_bytes": "64KB"})
    lose(redis, relay)
    first = pool.submit(post, relay, "x" * 100000)  # one alone always fits
    wait_waiting(relay, 1)
    assert "publish.max_waiting_bytes" in check_not_published(post(relay, "x"))
    redis.start()
    assert first.result().status_code == 200


def raw_post(data, connection=b"keep-alive"):
    head = b"POST /publish?topic=t HTTP/1.1\r\nHost: x\r\nConnection: %s\r\nContent-Length: %d\r\n\r\n"
    return head % (connection, len(data)) + data


@pytest.mark.parametrize("half", [False, True], ids=["gone", "sends no more"])
def test_post_of_a_client_that_hung_up_is_not_published(redis, relay_factory, pool, half):
    relay = relay_factory(LONG)
    lose(redis, relay)
    s = open_socket(relay)
    s.sendall(raw_post(b"gone", b"close"))
    wait_waiting(relay, 1)
    patient = pool.submit(post, relay, "patient")
    wait_waiting(relay, 2)
    if half:
        s.shutdown(socket.SHUT_WR)
    else:
        s.close()
    redis.start()
    assert patient.result().status_code == 200
    assert logged(redis) == ["patient"]
    if half:  # cannot be told from one that is gone, so it must be told
        got = read_all(s)
        assert status_of(got) == 503 and b'"published":false' in got
        s.close()


def test_next_request_on_the_connection_of_a_post_that_waits(redis, relay_factory):
    """Looking for a hang-up takes no byte of it, and does not take it for one."""
    relay = relay_factory(LONG)
    lose(redis, relay)
    with open_socket(relay) as s:
        s.sendall(raw_post(b"1"))
        wait_waiting(relay, 1)
        s.sendall(raw_post(b"2", b"close"))
        redis.start()
        assert read_all(s).count(b"HTTP/1.1 200") == 2
    assert logged(redis) == ["1", "2"]


def start_load(pool, relay, publishers=8):
    """Publishers that POST one after the other: {data: answer} so far, and what ends them."""
    ended = threading.Event()
    answers = {}

    def publisher(who):
        n = 0
        while not ended.is_set():
            n += 1
            answers[f"{who}.{n}"] = post(relay, f"{who}.{n}")

    running = [pool.submit(publisher, who) for who in range(publishers)]

    def stop():
        ended.set()
        [r.result() for r in running]

    return answers, stop


def test_restart_under_a_stream_of_posts(durable, relay_factory, pool):
    """Killed twice under load: each POST that got 200 is in the log once; each that was told that it is not, is not."""
    relay = relay_factory({**LONG, "log.max_events": 100000}, redis=durable.url)
    answers, stop = start_load(pool, relay)
    for _ in range(2):
        before = len(answers)
        wait_until(lambda: len(answers) > before + 100, "load")
        durable.kill()
        wait_until(lambda: relay.metric(WAITING) == 8, "all to wait")
        durable.start()
    before = len(answers)
    wait_until(lambda: len(answers) > before + 100, "load")
    stop()
    assert {a.status_code for a in answers.values()} == {200}
    entries = {f["data"]: i for i, f in durable.client().xrange("sse:{default}:log:t")}
    all_data = logged(durable)
    assert sorted(all_data) == sorted(answers), "each once"
    assert all(entries[d] == a.json()["id"] + "-0" for d, a in answers.items())


def test_restart_with_a_short_timeout_under_a_stream_of_posts(durable, relay_factory, pool):
    relay = relay_factory({"publish.timeout": "100ms", "log.max_events": 100000}, redis=durable.url)
    answers, stop = start_load(pool, relay)
    for _ in range(3):
        refused = sum(a.status_code == 503 for a in list(answers.values()))
        wait_until(lambda: len(answers) > 50, "load")
        durable.kill()
        wait_until(lambda: sum(a.status_code == 503 for a in list(answers.values())) > refused + 8, "refusals")
        durable.start()
        relay.wait_ready()
    stop()
    found = logged(durable)
    assert len(found) == len(set(found)), "nothing twice"
    for data, answer in answers.items():
        if answer.status_code == 200:
            assert data in found
        else:
            assert answer.status_code == 503
            published = answer.json()["published"]
            assert published is None or (published is False and data not in found)


# --- the connection breaks between the request and its answer ---


class Cutter:
    """A TCP proxy in front of Redis. After cut(): the next request with a publish in it gets through, its answer does
    not; the connection is closed, or, with @silent, stays open and silent. With @refuse new ones are closed at once."""

    word = b"sse_publish"

    def __init__(self, port):
        self.target = port
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.socket.getsockname()[1]}"
        self._armed = False
        self._silent = False
        self.refuse = False
        self.cuts = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self, silent=False, refuse=False):
        self._silent, self._refuse_after, self._armed = silent, refuse, True

    def close(self):
        self.socket.close()

    def _serve(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            if self.refuse:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self.target))
            link = {"mute": False}
            threading.Thread(target=self._requests, args=(client, server, link), daemon=True).start()
            threading.Thread(target=self._answers, args=(server, client, link), daemon=True).start()

    def _requests(self, client, server, link):
        try:
            while data := client.recv(1 << 16):
                with self._lock:
                    hit = self._armed and self.word in data
                    self._armed &= not hit
                if hit:
                    link["mute"] = True
                    self.refuse |= self._refuse_after
                    self._deliver(server, data)
                    self.cuts += 1
                    if not self._silent:
                        break
                else:
                    server.sendall(data)
        except OSError:
            pass
        for s in (client, server):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _deliver(self, server, data):
        """Returns when Redis has done it: it has answered then, which _answers() swallows."""
        self.answered = threading.Event()
        server.sendall(data)
        assert self.answered.wait(20)

    def _answers(self, server, client, link):
        try:
            while data := server.recv(1 << 16):
                if link["mute"]:
                    self.answered.set()
                else:
                    client.sendall(data)
        except OSError:
            pass


@pytest.fixture
def cutter(redis):
    c = Cutter(redis.port)
    yield c
    c.close()


BODIES = {
    "one": ({"topic": "t", "data": "x"}, ["x"]),
    "several topics": ({"topics": ["t", "u"], "data": "x"}, ["x"]),
    "own once": ({"topic": "t", "data": "x", "once": "mine"}, ["x"]),
    "batch": ([{"topic": "t", "data": "x"}, {"topic": "t", "data": "y", "once": "k"}, {"topic": "t", "data": "x"}],
              ["x", "y", "x"]),
    "ephemeral": ({"topic": "t", "data": "x", "ephemeral": True}, ["x"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", BODIES)
def test_cut_before_the_answer_publishes_once(redis, relay_factory, sse_connect, cutter, kind):
    body, data = BODIES[kind]
    relay = relay_factory(LONG, redis=cutter.url)
    other = relay_factory()  # its streams do not go through the proxy
    stream = sse_connect(other, "t")
    cutter.cut()
    answer = relay.post("/publish", json=body)
    assert answer.status_code == 200, answer.text
    assert cutter.cuts == 1 and relay.metric(RETRIED) == 1
    relay.publish("t", "end")
    stream.wait_for(lambda c: "end" in c.data)
    assert stream.data == [*data, "end"]
    answers = answer.json() if isinstance(body, list) else [answer.json()]
    assert [a["id"] and int(a["id"]) for a in answers] == stream.ids[:-1]


def test_own_keys_are_short_lived_and_different(redis, relay_factory, doors):
    relay = relay_factory({"publish.timeout": "5s"})
    for n in range(3):
        relay.publish("t", n)
    relay.publish("t", "x", once="mine")
    relay.post("/publish", json=[{"topic": "t", "data": "a"}, {"topic": "t", "data": "b"}])
    keys = doors.redis.keys(doors.key("default", "once", "*"))
    own = [k for k in keys if ":once:~" in k]
    assert len(own) == 5 and len(keys) == 6
    assert all(0 < doors.redis.pttl(k) <= 20000 for k in own)
    assert doors.redis.pttl(doors.key("default", "once", "mine")) > 20000
    assert len({re.search(r"once:~([0-9a-f]{32})-", k)[1] for k in own}) == 1
    assert relay_factory().publish("t", 1) > 0
    tokens = {k.split("~")[1][:32] for k in doors.redis.keys("*:once:~*")}
    assert len(tokens) == 2, "another process has another"


def test_cut_and_no_way_back_is_503_outcome_unknown(redis, relay_factory, cutter):
    relay = relay_factory({"publish.timeout": "300ms"}, redis=cutter.url)
    cutter.cut(refuse=True)
    answer = post(relay, "x")
    assert "not known" in assert_problem(answer, 503)
    assert answer.json()["published"] is None
    assert "Retry-After" not in answer.headers, "no invitation to publish twice"
    wait_until(lambda: logged(redis) == ["x"], "what was on its way")


def test_silent_redis_is_503_outcome_unknown_in_time(redis, relay_factory, cutter):
    """The connection stands, so that it would be waited for longer than the publisher is kept waiting."""
    relay = relay_factory({"publish.timeout": "300ms"}, redis=cutter.url)
    cutter.cut(silent=True)
    answer = post(relay, "x")
    assert "not known" in assert_problem(answer, 503)
    assert answer.json()["published"] is None


def test_stopped_redis(redis, relay_factory, pool):
    relay = relay_factory({"publish.timeout": "2s", "publish.max_waiting": 4})  # time for the one after it, too
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        answers = [pool.submit(post, relay, n) for n in range(4)]
        assert [a.result().json()["published"] for a in answers] == [None] * 4
    finally:
        os.kill(redis.pid, signal.SIGCONT)
    assert relay.publish("t", "after") > 0
    assert sorted(logged(redis)) == ["0", "1", "2", "3", "after"]


@pytest.mark.parametrize("replicas", [0, 1])
def test_connections_killed_in_a_loop_under_load(redis, relay_factory, pool, tmp_path, replicas):
    """Sequence numbers of eight publishers: all get 200, each number is in the log exactly once, in order."""
    relay = relay_factory({**LONG, "log.max_events": 100000, "publish.wait_replicas": replicas})
    admin = redis.client()
    with RedisServer(tmp_path / "replica", args=["--replicaof", f"127.0.0.1 {redis.port}"]) as replica:
        wait_replica(redis, replica)
        done = threading.Event()

        def publisher(who):
            for n in range(100):
                answer = post(relay, f"{who}.{n}")
                assert answer.status_code == 200, answer.text

        def killer():
            while not done.is_set():
                admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                wait_until(lambda: relay.ready()[0] == 200 or done.is_set(), "ready")

        kills = pool.submit(killer)
        running = [pool.submit(publisher, who) for who in range(8)]
        try:
            [r.result() for r in running]
        finally:
            done.set()
        kills.result()
    found = logged(redis)
    for who in range(8):
        assert [d for d in found if d.startswith(f"{who}.")] == [f"{who}.{n}" for n in range(100)]
    assert len(found) == 800
    assert relay.metric("sse_relay_redis_reconnects_total") > 0


# --- Redis says "not now" ---


def test_read_only_replica_is_waited_for(redis, relay_factory, pool, doors):
    relay = relay_factory(LONG)
    relay.publish("t", "0")
    doors.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        answers = [pool.submit(post, relay, n) for n in range(1, 4)]
        items = [{"topic": "b", "data": n} for n in range(3)]
        batch = pool.submit(relay.post, "/publish", json=items)
        wait_waiting(relay, 4)
        relay.wait_log("publish requests wait for Redis.*(replica|primary|READONLY)")
    finally:
        doors.redis.execute_command("REPLICAOF", "NO", "ONE")
    assert [a.result().status_code for a in [*answers, batch]] == [200] * 4
    assert sorted(logged(redis)) == ["0", "1", "2", "3"] and logged(redis, "b") == ["0", "1", "2"]


def test_read_only_replica_for_too_long(redis, relay_factory, doors):
    relay = relay_factory({"publish.timeout": "300ms"})
    doors.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        wait_until(lambda: relay.ready()[0] == 503, "noticed: of what is sent before, nobody knows")
        detail = check_not_published(post(relay, "x"))
        assert "READONLY" in detail or "primary" in detail or "replica" in detail
    finally:
        doors.redis.execute_command("REPLICAOF", "NO", "ONE")
    assert logged(redis) == []


def test_too_few_replicas_are_waited_for(redis, relay_factory, pool, doors):
    relay = relay_factory(LONG)
    doors.redis.config_set("min-replicas-to-write", 1)
    try:
        one = pool.submit(post, relay, "1")
        batch = pool.submit(relay.post, "/publish", json=[{"topic": "b", "data": n} for n in range(3)])
        relay.wait_log("publish requests wait for Redis.*NOREPLICAS")
    finally:
        doors.redis.config_set("min-replicas-to-write", 0)
    assert one.result().status_code == batch.result().status_code == 200
    assert logged(redis) == ["1"] and logged(redis, "b") == ["0", "1", "2"]


def test_hang_up_is_noticed_while_redis_is_up_and_unwilling(redis, relay_factory, doors):
    relay = relay_factory(LONG)

    def refused():
        return relay.metric("sse_relay_http_responses_total", **{"class": "5xx"})

    before = refused()
    doors.redis.config_set("min-replicas-to-write", 1)
    try:
        with open_socket(relay) as s:
            s.sendall(raw_post(b"gone"))
            relay.wait_log("publish requests wait for Redis.*NOREPLICAS")
        wait_until(lambda: refused() == before + 1, "its answer, which nobody takes")
    finally:
        doors.redis.config_set("min-replicas-to-write", 0)
    relay.publish("t", "next")
    assert logged(redis) == ["next"]


def test_redis_that_loads_its_data_is_waited_for(relay_factory, pool, tmp_path):
    with RedisServer(tmp_path / "slow", args=["--loading-process-events-interval-bytes", "1024"]) as server:
        relay = relay_factory(LONG, redis=server.url)
        relay.publish("t", "1")
        server.client().mset({f"k{n}": "x" * 1024 for n in range(100)})
        server.client().save()
        server.kill()
        answer = pool.submit(post, relay, "2")
        wait_waiting(relay, 1)
        server.args += ["--key-load-delay", "150000"]  # of 100 keys: until the relay has noticed
        started = pool.submit(server.start)
        relay.wait_log("LOADING")
        server.client().config_set("key-load-delay", 0)
        started.result()
        assert answer.result().status_code == 200
        assert logged(server) == ["1", "2"]


def test_library_that_may_not_be_loaded_is_waited_for(redis, relay_factory, pool):
    redis.client().function_load(LIBRARY.read_text())
    relay = relay_factory(LONG, redis=make_user(redis, "strict", "-function|load"))
    redis.client().function_flush()
    answers = [pool.submit(post, relay, n) for n in range(3)]
    wait_waiting(relay, 3)
    redis.client().function_load(LIBRARY.read_text())
    assert [a.result().status_code for a in answers] == [200] * 3
    assert sorted(logged(redis)) == ["0", "1", "2"]


def test_library_that_may_not_be_loaded_is_named(redis, relay_factory):
    redis.client().function_load(LIBRARY.read_text())
    relay = relay_factory({"publish.timeout": "300ms"}, redis=make_user(redis, "strict", "-function|load"))
    redis.client().function_flush()
    detail = check_not_published(post(relay, "x"))
    assert "NOPERM" in detail and "library" in detail


def test_library_flushed_under_load(redis, relay_factory, pool, doors):
    relay = relay_factory(LONG)

    def publisher(who):
        for n in range(100):
            assert post(relay, f"{who}.{n}").status_code == 200
            if n % 10 == who:
                doors.redis.function_flush()

    [r.result() for r in [pool.submit(publisher, who) for who in range(4)]]
    assert sorted(logged(redis)) == sorted(f"{who}.{n}" for who in range(4) for n in range(100))


def test_out_of_memory_is_not_waited_for(redis, relay_factory, doors):
    relay = relay_factory(LONG)
    doors.redis.config_set("maxmemory", 1)
    for body in ({"topic": "t", "data": "x"}, [{"topic": "t", "data": "x"}, {"topic": "t", "data": "y"}]):
        answer = relay.post("/publish", json=body)
        assert "memory" in assert_problem(answer, 503)
        assert answer.json()["published"] is False
    doors.redis.config_set("maxmemory", 0)
    assert logged(redis) == []


# --- replicas must confirm ---


def wait_replica(primary, replica):
    """Until both call it connected: only then a WAIT counts it."""
    one, two = primary.client(), replica.client()
    wait_until(lambda: two.info("replication")["master_link_status"] == "up", "the replica")
    wait_until(lambda: one.info("replication")["slave0"]["state"] == "online", "the replica")


@pytest.fixture
def replica(redis, tmp_path):
    with RedisServer(tmp_path / "replica", args=["--replicaof", f"127.0.0.1 {redis.port}"]) as server:
        wait_replica(redis, server)
        yield server


def wait_calls(r):
    return r.info("commandstats").get("cmdstat_wait", {"calls": 0})["calls"]


def test_200_means_that_the_replica_has_it(redis, replica, relay_factory, pool):
    relay = relay_factory(LONG, **{"publish.wait_replicas": 1})
    r = replica.client()
    for n in range(20):
        id = relay.publish("t", n)
        last = r.xrevrange("sse:{default}:log:t", count=1)[0]
        assert last == (f"{id}-0", {**last[1], "data": str(n)})
    body = [{"topic": "t", "data": n} for n in range(5)]
    assert relay.post("/publish", json=body).status_code == 200
    assert len(logged(replica)) == 25


def test_posts_share_a_wait(redis, replica, relay_factory, pool):
    relay = relay_factory(LONG, **{"publish.wait_replicas": 1})
    redis.client().config_resetstat()
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        answers = [pool.submit(post, relay, n) for n in range(60)]
        wait_until(lambda: len(logged(redis)) == 60, "all to be published")
    finally:
        os.kill(replica.pid, signal.SIGCONT)
    assert {a.result().status_code for a in answers} == {200}
    assert 1 <= wait_calls(redis.client()) < 40


def test_replica_that_does_not_confirm_is_504_and_says_that_it_is_published(redis, replica, relay_factory):
    relay = relay_factory({"publish.timeout": "300ms", "publish.wait_replicas": 1})
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        answer = post(relay, "1")
        detail = assert_problem(answer, 504)
        assert answer.json()["published"] is True and "0 of 1" in detail
        id = answer.json()["events"]["id"]
        assert id in detail
        assert redis.client().xrevrange("sse:{default}:log:t", count=1)[0][0] == f"{id}-0"
        batch = relay.post("/publish", json=[{"topic": "t", "data": n} for n in (2, 3)])
        assert batch.status_code == 504 and len(batch.json()["events"]) == 2
    finally:
        os.kill(replica.pid, signal.SIGCONT)
    wait_until(lambda: post(relay, "4").status_code == 200, "confirmation")
    assert logged(redis)[:4] == ["1", "2", "3", "4"]


def test_replica_that_comes_back_in_time(redis, replica, relay_factory, pool):
    relay = relay_factory(LONG, **{"publish.wait_replicas": 1})
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        answer = pool.submit(post, relay, "x")
        wait_until(lambda: logged(redis) == ["x"], "the publish")
        assert not answer.done()
    finally:
        os.kill(replica.pid, signal.SIGCONT)
    assert answer.result().status_code == 200
    assert logged(replica) == ["x"] == logged(redis)


def test_cut_while_waiting_for_the_replica(redis, replica, relay_factory, pool):
    """The new connection knows nothing of the old one's WAIT: it is asked again, and nothing is published twice."""
    relay = relay_factory(LONG, **{"publish.wait_replicas": 1})
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        answers = [pool.submit(post, relay, n) for n in range(5)]
        wait_until(lambda: len(logged(redis)) == 5, "the publish")
        redis.client().execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        wait_until(lambda: relay.metric(RETRIED) == 5, "the second attempt")
        assert not any(a.done() for a in answers)
    finally:
        os.kill(replica.pid, signal.SIGCONT)
    assert {a.result().status_code for a in answers} == {200}
    assert sorted(logged(redis)) == list("01234") == sorted(logged(replica))


REPEATED = {
    "one": {"topic": "t", "data": "x", "once": "k"},
    "batch": [{"topic": "t", "data": "x", "once": "k"}, {"topic": "t", "data": "y", "once": "l"}],
    "batch, half of it new": [{"topic": "t", "data": "x", "once": "k"}, {"topic": "t", "data": "new"}],
}


@pytest.mark.parametrize("kind", REPEATED)
def test_repeated_post_is_not_confirmed_by_a_replica_that_lacks_the_first(redis, replica, relay_factory, doors, kind):
    """Newer servers let WAIT count only what its own connection wrote, so a post that finds its key has to write."""
    relay = relay_factory({"publish.timeout": "500ms", "publish.wait_replicas": 1})
    wait_until(lambda: relay.post("/publish", json={"topic": "u", "data": "0"}).status_code == 200, "confirmation")
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        for once in ("k", "l"):  # by other connections
            doors.fcall("t", "x", once=once)
        answer = relay.post("/publish", json=REPEATED[kind])
        assert_problem(answer, 504)
        assert answer.json()["published"] is True
    finally:
        os.kill(replica.pid, signal.SIGCONT)
    wait_until(lambda: relay.post("/publish", json=REPEATED[kind]).status_code == 200, "confirmation")
    assert logged(redis)[:2] == ["x", "x"]


@pytest.mark.parametrize("kind", BODIES)
def test_cut_while_the_replica_is_stopped_confirms_nothing(redis, replica, relay_factory, pool, kind):
    relay = relay_factory({"publish.timeout": "1500ms", "publish.wait_replicas": 1})
    body, data = BODIES[kind]
    wait_until(lambda: relay.post("/publish", json={"topic": "u", "data": "0"}).status_code == 200, "confirmation")
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        before = wait_calls(redis.client())
        answer = pool.submit(relay.post, "/publish", json=body)
        wait_until(lambda: wait_calls(redis.client()) > before, "its WAIT to be over or asked again")
        redis.client().execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert answer.result().status_code == 504, answer.result().text
        assert answer.result().json()["published"] is True
        assert relay.metric(RETRIED) >= 1
    finally:
        os.kill(replica.pid, signal.SIGCONT)
    assert logged(redis) == ([] if kind == "ephemeral" else data)


def test_wait_that_is_not_allowed(redis, relay_factory):
    relay = relay_factory(
        {"publish.timeout": "300ms", "publish.wait_replicas": 1}, redis=make_user(redis, "strict", "-wait")
    )
    assert_problem(post(relay, "x"), 504)
    relay.wait_log("cannot wait for replicas.*NOPERM")


def test_cut_between_two_waits_is_no_confirmation(redis, replica, relay_factory, pool):
    """No WAIT is out at that moment that could break: what it was for must be published again all the same."""
    relay = relay_factory(
        {"publish.timeout": "2s", "publish.wait_replicas": 1}, redis=make_user(redis, "strict", "-wait")
    )
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        answer = pool.submit(post, relay, "x")
        relay.wait_log("cannot wait for replicas.*NOPERM")  # it is asked again every 100 ms
        pipe = redis.client().pipeline(transaction=True)
        pipe.execute_command("ACL", "SETUSER", "strict", "+wait")
        pipe.execute_command("CLIENT", "KILL", "USER", "strict")
        pipe.execute()
        assert answer.result().status_code == 504, answer.result().text
        assert relay.metric(RETRIED) == 1
    finally:
        os.kill(replica.pid, signal.SIGCONT)
    assert logged(redis) == ["x"]


def test_wait_replicas_needs_a_timeout():
    done = run_relay("--publish.wait_replicas", 1, "--publish.timeout", 0, "--check-config")
    assert done.returncode == 2 and "publish.wait_replicas" in done.stderr


# --- the node ends ---


@pytest.mark.parametrize("drain", ["0", "500ms"])
def test_waiting_posts_get_their_answer_before_a_draining_node_ends(redis, relay_factory, pool, drain):
    relay = relay_factory(LONG, drain=drain)
    lose(redis, relay)
    answers = [pool.submit(post, relay, n) for n in range(4)]
    wait_waiting(relay, 4)
    relay.terminate()
    for answer in answers:
        assert "before this node ends" in check_not_published(answer.result())
    assert relay.wait() == 0


def test_posts_on_a_draining_node_are_published(relay, redis, sse_connect):
    """Its drain is over, and a stream that does not read keeps it for a moment: what comes then is published, too."""
    stream = sse_connect(relay, "t")
    relay.terminate()
    outcomes = []
    while relay.running:
        try:
            outcomes.append(post(relay, len(outcomes)).status_code)
        except requests.RequestException:
            break
    assert relay.wait() == 0
    assert set(outcomes) <= {200}
    assert len(logged(redis)) >= len(outcomes)
    stream.close()


def test_redis_that_comes_back_while_the_node_drains(redis, relay_factory, pool):
    relay = relay_factory(LONG, drain="60s")
    lose(redis, relay)
    answers = [pool.submit(post, relay, n) for n in range(4)]
    wait_waiting(relay, 4)
    relay.terminate()
    relay.wait_log("msg=draining")
    redis.start()
    assert [a.result().status_code for a in answers] == [200] * 4
    assert relay.wait() == 0
    assert sorted(logged(redis)) == list("0123")


def test_reload_shortens_the_wait(redis, relay_factory, pool, tmp_path):
    path = tmp_path / "relay.json"
    path.write_text('{"publish": {"timeout": "2m"}}')
    relay = relay_factory(args=["--config", path])
    lose(redis, relay)
    answer = pool.submit(post, relay, "x")
    wait_waiting(relay, 1)
    path.write_text('{"publish": {"timeout": "100ms"}}')
    relay.signal(signal.SIGHUP)
    check_not_published(answer.result())
