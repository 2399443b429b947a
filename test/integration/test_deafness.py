# SPDX-License-Identifier: Apache-2.0
"""A subscriber connection that stands but does not hear: found, told, mended. Subscriptions and inboxes that Redis refuses."""

import time

import pytest

from relay_process import wait_until
from tcp_proxy import TcpProxy
from test_docs import ACL_LINE, OPERATIONS

PROBE = {"redis.probe": "300ms"}


@pytest.fixture
def proxy(redis):
    p = TcpProxy(redis.port)
    yield p
    p.close()


def through(proxy):
    return {"redis": f"redis://127.0.0.1:{proxy.port}", **PROBE}


def numbers(first, last):
    return [str(n) for n in range(first, last + 1)]


@pytest.mark.parametrize("direction", ["both", "answers"])
def test_a_hung_subscriber_connection_is_found_and_nothing_is_lost(
    redis, relay_factory, sse_connect, doors, proxy, direction
):
    relay = relay_factory(through(proxy))
    streams = [sse_connect(relay, *names) for names in (["t"], ["*"], ["t", "u.>"])]
    first = doors.many("t", numbers(1, 3))
    for s in streams:
        s.wait_for(3)
    wait_until(lambda: relay.metric("sse_relay_redis_heard") == 1, "a probe")
    proxy.freeze("subscriber", direction)  # also the connections to come
    meanwhile = doors.many("t", numbers(4, 13))
    seen = set()

    def told():
        status, body = relay.ready()
        seen.add((status, body["status"], body["redis"]))
        return status == 503

    wait_until(told, "/ready to be 503")
    line = relay.wait_log("Redis connection lost.*subscriber")
    assert "deaf" in line
    assert relay.metric("sse_relay_redis_probe_misses_total") >= 2
    assert relay.metric("sse_relay_redis_heard") == 0
    assert seen <= {(200, "ready", "up"), (503, "redis-deaf", "up"), (503, "redis-down", "down")}
    assert relay.publish("t", "14")  # whoever publishes is not concerned
    proxy.thaw("subscriber")
    relay.wait_ready()
    last = relay.publish("t", "15")
    for s in streams:
        assert s.wait_for(15).data == numbers(1, 15)
        assert not s.gaps and not s.closed
        assert s.ids[:3] == first and s.ids[3:13] == meanwhile and s.ids[-1] == last


def test_deafness_is_told_before_the_connection_is_given_up(redis, relay_factory, sse_connect, doors, proxy):
    """After the first miss, and what was held back only for a while is not lost, nor told twice."""
    relay = relay_factory({**through(proxy), "redis.probe": "2s"})
    stream = sse_connect(relay, "t")
    proxy.freeze("subscriber")
    doors.many("t", numbers(1, 5))

    def told():
        status, body = relay.ready()
        return (status, body["redis"]) if body.get("status") == "redis-deaf" else None

    assert wait_until(told, "redis-deaf") == (503, "up")
    assert relay.get("/health").status_code == 200
    proxy.thaw("subscriber")
    relay.wait_ready()
    assert stream.wait_for(5).data == numbers(1, 5)
    assert not stream.gaps and not stream.closed


def test_commands_that_do_not_arrive_are_found(redis, relay_factory, sse_connect, proxy):
    """Only the way to Redis is blocked: old subscriptions deliver, and probes come back, but new ones wait forever."""
    relay = relay_factory(through(proxy))
    old = sse_connect(relay, "t")
    proxy.freeze("subscriber", "commands")
    new = sse_connect(relay, "new", wait=False)
    relay.wait_log("Redis connection lost.*subscriber.*no answer to a subscription")
    proxy.thaw("subscriber")
    new.wait_connected()
    relay.wait_ready()
    relay.publish("new", "1")
    relay.publish("t", "1")
    assert new.wait_for(1).data == ["1"] and old.wait_for(1).data == ["1"]
    assert not old.closed and not old.gaps


def test_a_relay_is_not_ready_before_it_hears(redis, relay_factory, sse_connect, proxy):
    """It connects and logs in, and that is all it gets."""
    proxy.freeze("subscriber")
    relay = relay_factory(through(proxy), ready=False)
    relay.wait_log("Redis connection lost.*subscriber")  # and again and again
    assert relay.ready()[0] == 503
    stream = sse_connect(relay, "t", wait=False)
    assert stream.wait_head().status == 200
    proxy.thaw("subscriber")
    relay.wait_ready()
    stream.wait_connected()


def test_a_frozen_commands_connection_is_not_taken_for_deafness(redis, relay_factory, sse_connect, doors, proxy):
    relay = relay_factory({**through(proxy), "redis.probe": "100ms"})
    stream = sse_connect(relay, "t")
    proxy.freeze("commands")
    doors.fcall("t", "1")
    assert stream.wait_for(1).data == ["1"]
    before = doors.redis.info("stats")["total_connections_received"]
    misses = relay.metric("sse_relay_redis_probe_misses_total")  # a busy machine may have missed one before
    begin = time.monotonic()
    for n in range(2, 12):  # a second, ten probes, while events come
        doors.fcall("t", str(n))
        stream.wait_for(n)
        wait_until(lambda n=n: time.monotonic() > begin + n / 10)
    assert relay.metric("sse_relay_redis_probe_misses_total") == misses
    assert doors.redis.info("stats")["total_connections_received"] == before
    proxy.thaw("commands")
    assert relay.publish("t", "12") and stream.wait_for(12)


def test_a_redis_that_hangs_is_not_taken_for_deafness(redis, relay_factory, sse_connect, doors):
    relay = relay_factory({"redis.probe": "100ms"})
    old = sse_connect(relay, "t")
    doors.redis.execute_command("CLIENT", "PAUSE", 1500, "ALL")
    new = sse_connect(relay, "new", wait=False)
    new.wait_connected()
    assert relay.metric("sse_relay_redis_probe_misses_total") == 0
    assert relay.metric("sse_relay_redis_reconnects_total") == 0
    relay.publish(["t", "new"], "x")
    assert old.wait_for(1).data == new.wait_for(1).data == ["x"]


def test_a_primary_that_was_demoted_is_left(redis, relay_factory, doors):
    """No connection breaks by that; the relay breaks them, to find who is the primary now."""
    relay = relay_factory(PROBE)
    doors.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        for name in ("commands", "subscriber"):
            relay.wait_log(f"Redis connection lost.*{name}.*(has become a replica|no usable primary)")
        wait_until(lambda: relay.ready()[0] == 503, "/ready to be 503")
    finally:
        doors.redis.execute_command("REPLICAOF", "NO", "ONE")
    relay.wait_ready()
    relay.publish("t", "x")


# --- Redis refuses a subscription ---


def user_with(redis, name, channels):
    """The account of the document, with other channels."""
    words = ACL_LINE.findall(OPERATIONS.read_text())[0].split()
    assert words[2] == "relay" and "&*" in words
    words[2] = name
    at = words.index("&*")
    redis.client().execute_command(*words[:at], *channels, *words[at + 1 :])
    return f"redis://{name}:a-long-password@127.0.0.1:{redis.port}"


def test_a_refused_channel_holds_up_its_own_streams_only(redis, relay_factory, sse_connect, doors):
    url = user_with(redis, "narrow", ["&sse:probe:*", "&sse:{default}:ch:ok*"])
    relay = relay_factory(redis=url, **PROBE)
    streams = [sse_connect(relay, f"ok{n}") for n in range(3)]
    held = sse_connect(relay, "forbidden", "ok1", wait=False)
    line = relay.wait_log("Redis refused a subscription")
    assert "sse:{default}:ch:forbidden" in line and "&*" in line
    doors.redis.client_kill_filter(_type="pubsub")  # all of them in one command
    wait_until(lambda: relay.metric("sse_relay_redis_reconnects_total") >= 1, "the reconnect")
    relay.wait_ready()
    for n, stream in enumerate(streams):
        relay.publish(f"ok{n}", "x")
        assert stream.wait_for(1).data == ["x"] and not stream.gaps
    assert held.status == 200 and not held.blocks and not held.closed
    doors.redis.execute_command("ACL", "SETUSER", "narrow", "&sse:{default}:ch:forbidden")
    held.wait_for(lambda c: any(b.id is not None for b in c.blocks), timeout=40)  # tried again
    relay.publish("forbidden", "y")
    assert held.wait_for(1).data == ["y"]


def test_a_relay_that_may_not_probe_works(redis, relay_factory, sse_connect):
    url = user_with(redis, "unprobed", ["&sse:{default}:*"])
    relay = relay_factory(redis=url, **PROBE)
    assert "sse:probe" not in relay.wait_log("does not let the relay probe").replace("&P:probe", "")
    stream = sse_connect(relay, "t")
    relay.publish("t", "x")
    assert stream.wait_for(1).data == ["x"]


# --- a bad inbox ---


def test_a_bad_inbox_disturbs_no_other(redis, relay_factory, doors):
    relay = relay_factory({"inbox.namespaces": ["default", "bad", "good"]})
    doors.redis.set(doors.key("bad", "inbox"), "not a stream")
    line = relay.wait_log("cannot drain an inbox")
    assert "ns=bad" in line and "WRONGTYPE" in line
    errors = relay.metric("sse_relay_redis_errors_total")
    for n in range(1, 21):
        doors.xadd("t", str(n), ns="good")
        wait_until(lambda: doors.redis.xlen(doors.key("good", "inbox")) == 0, "the good inbox")
    logged = [f["data"] for _, f in doors.redis.xrange(doors.key("good", "log", "t"))]
    assert logged == [str(n) for n in range(1, 21)]
    assert "cannot read the inboxes" not in relay.log_text
    assert relay.log_text.count("cannot drain an inbox") == 1
    assert relay.metric("sse_relay_redis_errors_total") - errors < 10
    doors.redis.delete(doors.key("bad", "inbox"))
    doors.xadd("t", "mended", ns="bad")
    wait_until(lambda: relay.metric("sse_relay_inbox_moved_total") == 21, "the mended inbox", timeout=40)


def test_an_inbox_that_may_not_be_read_disturbs_no_other(redis, relay_factory, doors):
    """By its key pattern: XREAD of all is refused."""
    words = ACL_LINE.findall(OPERATIONS.read_text())[0].split()
    words[2] = "tenant"
    at = words.index("~sse:*")
    redis.client().execute_command(*words[:at], "~sse:{default}*", "~sse:{mine}*", *words[at + 1 :])
    url = f"redis://tenant:a-long-password@127.0.0.1:{redis.port}"
    relay = relay_factory({"redis": url, "inbox.namespaces": ["default", "theirs", "mine"]})
    assert "ns=theirs" in relay.wait_log("cannot drain an inbox")
    for n in range(5):
        doors.xadd("t", str(n), ns="mine")
        wait_until(lambda: doors.redis.xlen(doors.key("mine", "inbox")) == 0, "the inbox")
    assert "cannot read the inboxes" not in relay.log_text
