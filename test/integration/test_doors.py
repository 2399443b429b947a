# SPDX-License-Identifier: Apache-2.0
"""Four doors, one result: on two nodes, once, in order. And the inbox."""

import random

import pytest

from relay_process import wait_until


def wait_moved(relays, count):
    """A relay counts what it has moved when Redis has answered, which may be after the streams have it."""
    moved = lambda: sum(relay.metric("sse_relay_inbox_moved_total") for relay in relays)  # noqa: E731
    wait_until(lambda: moved() >= count, f"{count} moved")
    assert moved() == count


def test_each_door_on_every_node_once(redis, relay_factory, sse_connect, doors):
    nodes = [relay_factory(), relay_factory()]
    streams = [sse_connect(node, *names) for node in nodes for names in (["t"], ["*"], ["t", ">"])]
    doors.fcall("t", "by fcall", event="e")
    streams[0].wait_for(1)  # doors 2 and 3 promise no order against the others
    doors.xadd("t", "by xadd", event="e")
    streams[0].wait_for(2)
    doors.raw("t", "by publish")
    streams[0].wait_for(3)
    nodes[0].publish("t", "by post", event="e")
    nodes[1].publish("t", "end")
    for s in streams:
        s.wait_for(5)
        assert s.data == ["by fcall", "by xadd", "by publish", "by post", "end"]
        assert [e.type for e in s.events] == ["e", "e", "message", "e", "message"]
        assert s.ids == streams[0].ids and s.ids[2] is None


def test_all_doors_at_once_from_many_publishers(redis, relay_factory, sse_connect, publishing):
    from conftest import Doors

    nodes = [relay_factory(), relay_factory()]
    streams = [sse_connect(nodes[i % 2], ["t", "*"][i // 2]) for i in range(4)]
    ways = {
        "f": lambda d: d.fcall,
        "x": lambda d: d.xadd,
        "p": lambda d: nodes[0].publish,
        "q": lambda d: nodes[1].publish,
    }
    running = []
    for name, way in ways.items():
        publish = way(Doors(redis.client()))
        running.append(publishing(lambda n, p=publish, w=name: p("t", f"{w}{n}"), total=100))
    for p in running:
        p.finish()
    for s in streams:
        s.wait_for(400)
        assert s.ids == sorted(set(s.ids)) and len(s.ids) == 400
        for name in ways:  # each publisher's own order is kept
            assert [d for d in s.data if d[0] == name] == [f"{name}{n}" for n in range(1, 101)]
    assert len({tuple(s.data) for s in streams}) == 1


def test_an_envelope_published_by_hand_is_an_event(relay, sse_connect, doors):
    """Channel messages with "sse":1 are envelopes; anything else is data."""
    stream = sse_connect(relay, "t")
    doors.raw("t", '{"sse":1,"topic":"t","data":"enveloped","event":"e"}')
    doors.raw("t", '{"sse":2,"topic":"t","data":"x"}')
    doors.raw("t", '{"data":"x"}')
    doors.raw("t", "[1]")
    doors.raw("t", "")
    stream.wait_for(5)
    assert stream.data == [
        "enveloped", '{"sse":2,"topic":"t","data":"x"}', '{"data":"x"}', "[1]", ""
    ]  # fmt: skip
    assert stream.events[0].type == "e"
    assert set(stream.ids) == {None}


@pytest.mark.parametrize("topic", ["a\u0085b", "\u00a0", "a\u200bb", "\U0001f600.x", "a?b[c]\\d^e-f", "x" * 512])
def test_any_topic_is_refused_or_delivered_the_same_at_all_doors(relay, sse_connect, doors, topic):
    """What one door takes, all take, and streams hear it; what one refuses, all refuse."""
    import redis as redis_py

    def accepted(publish):
        try:
            publish()
            return True
        except (redis_py.ResponseError, AssertionError):
            return False

    stream = sse_connect(relay, topic, wait=False).wait_head()
    everything = sse_connect(relay, ">")
    posted = accepted(lambda: relay.publish(topic, "posted"))
    called = accepted(lambda: doors.fcall(topic, "called"))
    assert posted == called == (stream.status == 200)
    if posted:
        for s in (stream, everything):
            assert s.wait_for(2).data == ["posted", "called"]


# --- the inbox ---


def test_inbox_order_and_emptiness(redis, relay_factory, sse_connect, doors):
    relay = relay_factory()
    stream = sse_connect(relay, "t", "u")
    for i in range(300):
        doors.xadd("tu"[i % 2], i)
    assert stream.wait_for(300).data == [str(i) for i in range(300)]
    wait_until(lambda: doors.redis.xlen(doors.key("default", "inbox")) == 0, "an empty inbox")
    wait_moved([relay], 300)


def test_inbox_is_moved_on_without_clients(relay, doors):
    doors.xadd("t", "x")
    wait_until(lambda: doors.redis.exists(doors.key("default", "log", "t")), "the log")


def test_inbox_filled_before_the_relay_started(redis, relay_factory, sse_connect, doors):
    for i in range(500):
        doors.xadd("t", i)
    relay = relay_factory()
    stream = sse_connect(relay, "t", params={"replay": "all"})
    assert stream.wait_for(500).data == [str(i) for i in range(500)]


def test_inbox_of_a_namespace_with_clients(relay, sse_connect, doors):
    doors.xadd("t", "early", ns="tenant")
    stream = sse_connect(relay, "t", params={"ns": "tenant"})
    doors.xadd("t", "1", ns="tenant")
    doors.xadd("t", "2", ns="tenant")
    stream.wait_for(lambda c: "2" in c.data)
    assert [d for d in stream.data if d != "early"] == ["1", "2"]


def test_inbox_namespaces_are_configurable(redis, relay_factory, doors):
    relay_factory({"inbox.namespaces": ["one", "two"]})
    for ns in ("one", "two"):
        doors.xadd("t", "x", ns=ns)
    for ns in ("one", "two"):
        wait_until(lambda: doors.redis.exists(doors.key(ns, "log", "t")), ns)


def test_inbox_options(relay, sse_connect, doors):
    stream = sse_connect(relay, "t", "u")
    doors.xadd(["t", "u"], "a\nb", event="e", retry=1234)
    doors.xadd("t", "gone", ephemeral=1)
    doors.xadd("t", "end")
    stream.wait_for(3)
    assert stream.data == ["a\nb", "gone", "end"]
    assert (stream.events[0].type, stream.events[0].retry) == ("e", 1234)
    assert stream.ids[1] is None


@pytest.mark.parametrize(
    "fields",
    [
        ["nonsense", "x"],
        ["topic", "t"],
        ["data", "x"],
        ["topic", "a b", "data", "x"],
        ["topic", "t", "data", "x", "retry", "soon"],
        ["topic", "t", "data", "x", "unknown", "y"],
        ["", ""],
    ],
)
def test_malformed_inbox_entry_is_counted_and_does_not_block(relay, sse_connect, doors, fields):
    stream = sse_connect(relay, "t")
    inbox = doors.key("default", "inbox")
    doors.xadd("t", "1")
    doors.redis.execute_command("XADD", inbox, "*", *fields)
    doors.xadd("t", "2")
    assert stream.wait_for(2).data == ["1", "2"]
    wait_until(lambda: relay.metric("sse_relay_events_dropped_total", reason="inbox") == 1)
    assert doors.redis.xlen(inbox) == 0


def test_two_nodes_drain_one_inbox_exactly_once(redis, relay_factory, sse_connect, doors):
    nodes = [relay_factory() for _ in range(3)]
    streams = [sse_connect(n, "t") for n in nodes]
    random.seed(3)
    pipe = doors.redis.pipeline(transaction=False)
    for i in range(1, 2001):
        pipe.execute_command("XADD", doors.key("default", "inbox"), "*", "topic", "t", "data", i)
        if random.random() < 0.05:
            pipe.execute()
    pipe.execute()
    want = [str(i) for i in range(1, 2001)]
    for s in streams:
        assert s.wait_for(2000).data == want
    wait_moved(nodes, 2000)


def test_inbox_key_of_another_type_disturbs_nothing_else(relay, sse_connect, doors):
    stream = sse_connect(relay, "t")
    doors.redis.set(doors.key("default", "inbox"), "not a stream")
    relay.publish("t", "1")
    assert stream.wait_for(1).data == ["1"]
    doors.redis.delete(doors.key("default", "inbox"))
    doors.xadd("t", "2")
    assert stream.wait_for(2, timeout=60).data == ["1", "2"]


def test_ephemeral_event_on_several_topics_comes_once(relay, sse_connect, doors):
    """It has no id to know it by; a subscriber of two of its topics still gets it once."""
    client = sse_connect(relay, "a", "b", "c.*")
    for data in ("1", "2", "2"):
        doors.redis.fcall(
            "sse_publish", 1, doors.key("default"), "topic", "a", "topic", "b", "topic", "c.d",
            "data", data, "ephemeral", "1",
        )
    doors.fcall("a", "end")
    client.wait_for(lambda c: "end" in c.data)
    assert client.data == ["1", "2", "2", "end"]
