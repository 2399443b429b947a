# SPDX-License-Identifier: Apache-2.0
"""What is batched, coalesced or appended (protocol.md, 4.7): sent with the stream's flush, and never overtaken.

The flush is a minute where it must not come by itself: then an instant event, or the stream's end, brings what waits.
"""

import pytest

from relay_process import wait_until

LANES = {"lanes": ["p.>=coalesced", "b.>=batched", "a.>=appended"], "flush": "1m", "flush.max": "1m"}
FORMS = pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])


class Store:
    """Publishing to a relay, whatever its store is."""

    def __init__(self, relay):
        self.relay = relay

    def each(self, topic, datas, **fields):
        events = [{"topic": topic, "data": d, **fields} for d in datas]
        answer = self.relay.post("/publish", json=events).json()
        return [int(a["id"]) for a in answer]

    def one(self, topic, data, **fields):
        return self.each(topic, [data], **fields)[0]


@pytest.fixture(params=["redis", "memory"])
def relay(request, relay_factory, redis):
    more = {"redis": "memory:"} if request.param == "memory" else {}
    return relay_factory({**LANES, **more, "compress": ">"})


@pytest.fixture
def store(relay):
    return Store(relay)


def pending(relay, count):
    wait_until(lambda: relay.metric("sse_relay_pending_events") == count, f"{count} pending events")


@FORMS
def test_of_many_values_the_first_comes_at_once_and_the_last_always(relay, store, sse_connect, gzip):
    stream = sse_connect(relay, "p.a", "now", gzip=gzip)
    ids = store.each("p.a", map(str, range(1000)))
    stream.wait_for(1)
    pending(relay, 1)
    assert relay.metric("sse_relay_pending_bytes") == len(f"id: {ids[-1]}\ndata: 999\n\n")
    end = store.one("now", "x")
    assert stream.wait_for(3).data == ["0", "999", "x"]
    pending(relay, 0)
    assert relay.metric("sse_relay_pending_bytes") == 0
    assert stream.ids == [ids[0], ids[-1], end] and not stream.gaps
    assert relay.metric("sse_relay_events_merged_total") == 998


@FORMS
def test_values_are_told_apart_by_topic_key_and_else_type(relay, store, sse_connect, gzip):
    stream = sse_connect(relay, "p.>", "now", gzip=gzip)
    store.one("p.first", "at once")
    for n in range(3):
        store.one("p.a", f"a{n}")
        store.one("p.b", f"b{n}")
        store.one("p.a", f"a-k{n}", key="k")
        store.one("p.a", f"a-t{n}", event="t")
        store.one("p.a", f"a-tk{n}", event="t", key="k2")
    pending(relay, 5)
    store.one("now", "x")
    assert stream.wait_for(7).data == ["at once", "a2", "b2", "a-k2", "a-t2", "a-tk2", "x"]
    assert stream.ids == sorted(stream.ids)


@FORMS
def test_what_is_batched_comes_whole_and_in_order_before_the_instant(relay, store, sse_connect, gzip):
    stream = sse_connect(relay, "b.a", "now", gzip=gzip)
    ids = store.each("b.a", ["1", "2", "3"]) + [store.one("now", "x")]
    assert stream.wait_for(4).data == ["1", "2", "3", "x"] and stream.ids == ids


@FORMS
def test_neighbours_are_joined_to_the_text_that_they_are(relay, store, sse_connect, gzip):
    stream = sse_connect(relay, "a.>", "now", gzip=gzip)
    store.one("a.0", "at once")
    ids = store.each("a.1", ["Hel", "lo", "", " wo\nrld", "\r", "\nend"], event="delta")
    other = store.one("a.2", "between", event="delta")
    last = store.each("a.1", ["x", "y"], event="delta")
    store.one("now", "!")
    stream.wait_for(5)
    assert [(e.data, e.type, int(e.id)) for e in stream.events[1:4]] == [
        ("Hello wo\nrld\n\nend", "delta", ids[-1]),
        ("between", "delta", other),
        ("xy", "delta", last[-1]),
    ]
    assert relay.metric("sse_relay_events_joined_total") == 6


@pytest.mark.parametrize("ephemeral", [False, True], ids=["logged", "ephemeral"])
@FORMS
def test_an_event_on_several_topics_is_never_merged(relay, store, sse_connect, gzip, ephemeral):
    """A rule for its first topic must not take it from who has it through the second."""
    stream = sse_connect(relay, "b.a", "p.a", "now", gzip=gzip)
    store.one("b.a", "at once")
    for n in range(3):
        fields = {"topics": ["p.a", "a.a", "now"], "data": f"shared {n}", "ephemeral": ephemeral}
        assert relay.post("/publish", json=fields).status_code == 200
        alone = {"topic": "p.a", "data": f"alone {n}", "ephemeral": ephemeral}
        assert relay.post("/publish", json=alone).status_code == 200
    store.one("now", "x")
    expected = ["at once"] + [f"{what} {n}" for n in range(3) for what in ("shared", "alone")] + ["x"]
    assert stream.wait_for(len(expected)).data == expected
    if not ephemeral:
        again = sse_connect(relay, "b.a", "p.a", "now", params={"replay": "all"}, gzip=gzip)
        again.wait_for(lambda c: c.data and c.data[-1] == "x")
        assert [d for d in again.data if d.startswith("shared")] == [f"shared {n}" for n in range(3)]


@FORMS
def test_what_is_batched_on_several_topics_waits_and_comes_once(relay, store, sse_connect, gzip):
    stream = sse_connect(relay, "p.a", "q", "now", gzip=gzip)
    store.one("p.a", "at once")
    for n in range(3):
        fields = {"topics": ["p.a", "q"], "data": str(n), "priority": "batched"}
        assert relay.post("/publish", json=fields).status_code == 200
    pending(relay, 3)
    store.one("now", "x")
    assert stream.wait_for(5).data == ["at once", "0", "1", "2", "x"]


def test_a_rare_event_is_not_delayed(relay, store, sse_connect):
    for topic in ("b.a", "p.a", "a.a"):
        stream = sse_connect(relay, topic)
        store.one(topic, "x")
        assert stream.wait_for(1).data == ["x"]


def test_a_flush_brings_what_waits(relay, store, sse_connect):
    stream = sse_connect(relay, "p.a", params={"flush": "100ms"})
    for n in range(200):
        store.one("p.a", str(n))
    stream.wait_for(lambda c: "199" in c.data)
    assert stream.ids == sorted(set(stream.ids)) and stream.data[0] == "0"


def test_who_does_not_want_a_value_keeps_the_one_before(relay, store, sse_connect):
    stream = sse_connect(relay, "p.a", "now", params={"event": ["wanted", "x"]})
    store.one("p.a", "at once", event="wanted")
    store.one("p.a", "kept", event="wanted", key="k")
    store.one("p.a", "for others", event="other", key="k")
    store.one("now", "end", event="x")
    assert stream.wait_for(3).data == ["at once", "kept", "end"]


@FORMS
def test_a_position_lies_below_what_waits_and_a_resume_brings_it(relay, store, sse_connect, gzip):
    stream = sse_connect(relay, "b.a", "other", params={"heartbeat": "1s", "event": "y"}, gzip=gzip)
    first = store.one("b.a", "1", event="y")
    stream.wait_for(1)
    second = store.one("b.a", "2", event="y")
    pending(relay, 1)
    passed = store.one("other", "of another type", event="x")
    blocks = len(stream.blocks)
    stream.wait_for(lambda c: len(c.blocks) >= blocks + 1 or b":\n" in c.raw[-2:])
    assert stream.data == ["1"] and first <= int(stream.last_event_id) < second < passed
    stream.close()
    again = sse_connect(relay, "b.a", last_event_id=stream.last_event_id)
    assert again.wait_for(1).ids == [second] and not again.gaps


@FORMS
def test_a_replay_is_merged_page_by_page(relay, store, sse_connect, gzip):
    for n in range(100):
        store.one("p.a", f"p{n}")
        store.one("a.a", f"<{n}>")
    last = store.one("now", "x")
    stream = sse_connect(relay, "p.a", "a.a", "now", params={"replay": "all"}, gzip=gzip)
    stream.wait_for(lambda c: last in c.ids)
    values = [d for d in stream.data if d.startswith("p")]
    assert values[-1] == "p99" and len(values) < 100
    texts = "".join(d for d in stream.data if d.startswith("<"))
    assert texts == "".join(f"<{n}>" for n in range(100))
    assert stream.ids == sorted(set(stream.ids)) and not stream.gaps


def test_a_clean_end_brings_what_waits(relay, store, sse_connect):
    stream = sse_connect(relay, "b.a")
    ids = store.each("b.a", ["1", "2", "3"])
    pending(relay, 2)
    relay.terminate()
    assert stream.wait_closed().ids == ids and stream.clean


def test_a_cut_anywhere_loses_nothing(relay, store, sse_connect):
    """Values that come are the latest: after all cuts the client has the last of each key."""
    seen, cursor = {}, sse_connect(relay, "p.>", "now").last_event_id
    for n in range(30):
        stream = sse_connect(relay, "p.>", "now", last_event_id=cursor, params={"flush": "20ms"})
        for key in "abc":
            store.each("p.x", [f"{key}{n}.{m}" for m in range(5)], key=key)
        mark = store.one("now", "n")
        if n % 3:
            stream.wait_for(lambda c, mark=mark: mark in c.ids)
        else:
            stream.wait_for(lambda c: c.blocks)
        stream.close()
        cursor = stream.last_event_id or cursor
        for event in stream.events:
            seen[event.data[0]] = event.data
    last = sse_connect(relay, "p.>", "now", last_event_id=cursor)
    store.one("now", "the end")
    last.wait_for(lambda c: "the end" in c.data)
    for event in last.events:
        seen[event.data[0]] = event.data
    assert [seen[k] for k in "abc"] == ["a29.4", "b29.4", "c29.4"] and not last.gaps


def test_what_a_publisher_says_wins_over_the_option(relay, sse_connect, doors):
    if relay.config["redis"] == "memory:":
        pytest.skip("there is no such door")
    stream = sse_connect(relay, "b.a", "other")
    doors.fcall("b.a", "at once")
    stream.wait_for(1)
    doors.fcall("b.a", "instant", priority="instant")
    assert stream.wait_for(2).data == ["at once", "instant"]
    for n in range(3):
        doors.fcall("other", f"v{n}", priority="coalesced")
    doors.fcall("other", "end", priority="instant")
    assert stream.wait_for(4).data == ["at once", "instant", "v2", "end"]


def test_two_nodes_tell_the_same(relay_factory, redis, sse_connect):
    nodes = [relay_factory(LANES) for _ in range(2)]
    streams = [sse_connect(node, "p.>", "b.>", "now") for node in nodes]
    store = Store(nodes[0])
    for n in range(20):
        store.one("p.a", f"{n}")
        store.one("b.a", f"{n}")
    last = store.one("now", "x")
    for stream in streams:
        stream.wait_for(lambda c: last in c.ids)
        batched = [e.data for e in stream.events if int(e.id) != last]
        assert batched[-1] == "19" and stream.ids == sorted(set(stream.ids))
        assert [d for d in stream.data if d == "19"] == ["19", "19"]
