# SPDX-License-Identifier: Apache-2.0
"""What Redis, or who administers it, may do to a relay: close idle connections, refuse new ones, stop for a while, move
its keys about. Streams and POSTs go on."""

import threading
import time

import pytest

from redis_server import RedisServer
from relay_process import wait_until
from test_publish_outage import wait_replica


@pytest.mark.parametrize("replicas", [0, 1])
def test_a_redis_that_closes_idle_connections(tmp_path, relay_factory, sse_connect, replicas):
    """`timeout 1`: the connection for commands goes between two POSTs, again and again."""
    with RedisServer(tmp_path / "redis", args=["--timeout", "1"]) as server:
        args = ["--replicaof", f"127.0.0.1 {server.port}"]
        with RedisServer(tmp_path / "replica", args=args if replicas else []) as replica:
            if replicas:
                wait_replica(server, replica)
            relay = relay_factory({"redis": server.url, "publish.wait_replicas": replicas})
            stream = sse_connect(relay, "t")
            for n in range(4):
                relay.publish("t", n)
                time.sleep(1.3)
            relay.wait_log("Redis connection lost.*commands")
            relay.wait_ready()
            assert stream.wait_for(4).data == ["0", "1", "2", "3"] and not stream.gaps


def test_a_redis_that_takes_no_more_connections_at_the_start(redis, relay_factory, sse_connect):
    admin = redis.client()
    admin.config_set("maxclients", 1)
    try:
        relay = relay_factory(ready=False)
        held = sse_connect(relay, "t", wait=False).wait_head()
        assert held.status == 200
        relay.wait_log("cannot reach Redis yet")
    finally:
        admin.config_set("maxclients", 10000)
    relay.wait_ready()
    held.wait_connected()
    assert relay.publish("t", "x") == held.wait_for(1).ids[0]


@pytest.mark.parametrize("kind", ["WRITE", "ALL"])
def test_a_redis_that_is_paused_keeps_a_post_waiting(relay, redis, sse_connect, kind):
    stream = sse_connect(relay, "t")
    relay.publish("t", "before")
    redis.client().execute_command("CLIENT", "PAUSE", 1500, kind)
    begin = time.monotonic()
    id = relay.publish("t", "while")
    assert time.monotonic() - begin > 0.7
    assert stream.wait_for(2).ids[1] == id and not stream.gaps


def rename(r, log):
    r.rename(log, log + ".away")


MOVES = {
    "XTRIM": (lambda r, log: r.xtrim(log, maxlen=0, approximate=False), "trimmed"),
    "DEL": (lambda r, log: r.delete(log), "trimmed"),
    "RENAME": (rename, "trimmed"),
    "SWAPDB": (lambda r, log: r.swapdb(0, 1), "redis-lost"),
}


@pytest.mark.parametrize("kind", MOVES)
def test_a_log_that_is_taken_away_under_a_live_stream(relay, redis, sse_connect, doors, kind):
    """The live stream misses nothing; who resumes is told what nobody can bring."""
    take, reason = MOVES[kind]
    live = sse_connect(relay, "t")
    ids = doors.many("t", ["d0", "d1", "d2", "d3"])
    live.wait_for(4)
    take(doors.redis, doors.key("default", "log", "t"))
    ids.append(doors.fcall("t", "d4"))
    assert live.wait_for(5).ids == ids and not live.gaps
    resumed = sse_connect(relay, "t", last_event_id=ids[1])
    assert resumed.wait_for(1).data == ["d4"]
    (gap,) = resumed.gaps
    assert (int(gap["from"]), gap["reason"]) == (ids[1], reason)
    assert int(gap["to"]) == ids[3] if reason == "trimmed" else ids[3] <= int(gap["to"]) < ids[4]


def test_replay_counts_what_can_be_had(relay, sse_connect, doors):
    """The last of 8 have expired by their ttl, one is for others: replay=3 goes further back."""
    doors.many("t", ["1", "2", "3", "4", "5"])
    doors.fcall("t", "6", match='{"who":"else"}')
    doors.many("t", ["7", "8"], ttl=1)
    time.sleep(0.05)
    assert sse_connect(relay, "t", params={"replay": 3}).wait_for(3).data == ["3", "4", "5"]


def test_writes_that_are_refused_now_and_then_lose_nothing(relay, redis, sse_connect):
    """Fewer replicas than wanted, and enough again, under a stream of POSTs."""
    stream = sse_connect(relay, "t")
    admin, done = redis.client(), threading.Event()

    def flap():
        while not done.wait(0.1):
            admin.config_set("min-replicas-to-write", 1)
            time.sleep(0.1)
            admin.config_set("min-replicas-to-write", 0)

    thread = threading.Thread(target=flap)
    thread.start()
    try:
        ids = [relay.publish("t", n) for n in range(30)]
    finally:
        done.set()
        thread.join()
    assert stream.wait_for(30).ids == ids and not stream.gaps
    wait_until(lambda: relay.ready()[1]["redis"] == "up", "up")
