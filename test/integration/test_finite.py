# SPDX-License-Identifier: Apache-2.0
"""Topics that end (protocol.md, 6.6 and 7.7), the streams that end with them, and 204 for who asks for it (4.3)."""

import hashlib
import json

import pytest
import requests

from relay_process import wait_until

FORMS = pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
TIGHT = {"queue.max_events": 16, "queue.max_bytes": "1GB", "socket.unsent": "4KB"}
FINITE = {"finite": 1}
PAD = "x" * 4000


@pytest.fixture
def relay(redis, relay_factory):
    return relay_factory(compress=">")


@pytest.fixture
def end(doors):
    """end("t", "cancelled"): FCALL sse_end; (id, whether this one ended it)."""

    def call(topic, reason="end", ns="default"):
        id, _, first = doors.redis.fcall("sse_end", 1, doors.key(ns), "topic", topic, "reason", reason)
        return int(id), first == "1"

    return call


def ends(client):
    """(topic, id, reason) of each relay.end; none of them has an id of its own."""
    blocks = [b for b in client.controls if b.type == "relay.end"]
    assert not [b for b in blocks if b.id is not None]
    return [(e["topic"], int(e["id"]), e["reason"]) for e in (json.loads(b.data) for b in blocks)]


def status(relay, *topics, method="GET", cursor=None, **params):
    headers = {} if cursor is None else {"Last-Event-ID": str(cursor)}
    query = [("topic", t) for t in topics] + list(params.items())
    with requests.Session() as session:
        session.trust_env = False
        answer = session.request(method, relay.url + "/events", params=query, headers=headers, stream=True, timeout=30)
        answer.close()
    return answer.status_code


def closed_by_end(relay):
    return relay.metric("sse_relay_streams_closed_total", reason="ended")


def counted(relay):
    """The topics whose ends it has counted, by reason, those that are not 0."""
    counts = {why: relay.metric("sse_relay_topics_ended_total", reason=why) for why in ("end", "cancelled", "timeout")}
    return {why: count for why, count in counts.items() if count}


# --- the end, live ---


@FORMS
def test_a_stream_ends_behind_its_topics_last_event(relay, doors, sse_connect, gzip):
    stream = sse_connect(relay, "t", gzip=gzip)
    ids = doors.many("t", ["1", "2"])
    ids.append(doors.fcall("t", "3", end=1))
    assert stream.wait_closed().clean and not stream.rest and stream.whole in (True, None)
    assert stream.data == ["1", "2", "3"] and stream.ids == ids
    assert ends(stream) == [("t", ids[-1], "end")]
    assert stream.blocks[-1].type == "relay.end" and stream.last_event_id == str(ids[-1])
    assert not stream.gaps and not stream.control("shutdown") and closed_by_end(relay) == 1


@pytest.mark.parametrize("reason", ["end", "cancelled", "timeout"])
def test_a_topic_that_is_ended_says_why(relay, doors, end, sse_connect, reason):
    stream = sse_connect(relay, "t")
    id, first = end("t", reason)
    assert first and stream.wait_closed().clean
    assert [(e.type, e.data, int(e.id)) for e in stream.events] == [("end", "", id)]
    assert ends(stream) == [("t", id, reason)]
    assert end("t", "end") == (id, False)
    late = sse_connect(relay, "t", params={"replay": "all"})
    assert late.wait_closed().clean and ends(late) == [("t", id, reason)] and late.ids == [id]
    assert counted(relay) == {reason: 1}


def test_what_nobody_follows_ends_by_itself_on_all_nodes(redis, relay_factory, doors, sse_connect):
    nodes = [relay_factory() for _ in range(2)]
    streams = [sse_connect(node, "t") for node in nodes]
    first = doors.fcall("t", "1", end_after=300)
    second = doors.fcall("t", "2", end_after=300)
    for stream in streams:
        assert stream.wait_closed().clean and stream.ids[:2] == [first, second] and len(stream.ids) == 3
        assert ends(stream) == [("t", stream.ids[2], "timeout")]
    assert [counted(node) for node in nodes] == [{"timeout": 1}] * 2


def test_what_ended_while_nobody_listened_has_ended(relay, doors, sse_connect):
    first = doors.fcall("t", "1", end_after=50)
    wait_until(lambda: doors.fcall("clock", "tick") > first + 200_000, "its time to pass")
    stream = sse_connect(relay, "t", params={"replay": "all"})
    assert stream.wait_closed().clean and stream.ids[0] == first and ends(stream)[0][2] == "timeout"


@FORMS
@pytest.mark.parametrize("park", ["suspended", "handover"])
def test_a_late_visitor_has_the_rest_and_the_same_end(relay_factory, redis, doors, sse_connect, gzip, park):
    relay = relay_factory(compress=">", park=park)
    ids = doors.many("t", map(str, range(500)))
    ids.append(doors.fcall("t", "last", end=1))
    asks = [({"params": {"replay": "all"}}, ids), ({"params": {"replay": "whole"}}, ids), ({"params": {"replay": 3}}, ids[-3:]),
            ({"params": {"snapshot": 1}}, ids[-1:]), ({"params": {"since": 0}}, ids), ({"last_event_id": ids[9]}, ids[10:]),
            ({"last_event_id": ids[-2]}, ids[-1:]), ({"last_event_id": ids[-1]}, []), ({}, [])]  # fmt: skip
    for ask, owed in asks:
        stream = sse_connect(relay, "t", gzip=gzip, **ask)
        assert stream.wait_closed().clean and stream.whole in (True, None), ask
        assert stream.ids == owed and ends(stream) == [("t", ids[-1], "end")] and not stream.gaps, ask


def test_who_comes_with_a_cursor_of_nobody_is_told_and_has_the_end(relay, doors, sse_connect):
    doors.fcall("t", "1")
    last = doors.fcall("t", "2", end=1)
    stream = sse_connect(relay, "t", last_event_id="nobody's")
    assert stream.wait_closed().clean and [g["reason"] for g in stream.gaps] == ["unknown-id"]
    assert ends(stream) == [("t", last, "end")]


def test_of_several_topics_the_last_end_is_the_streams(relay, doors, end, sse_connect):
    stream = sse_connect(relay, "a", "b", "c")
    a = doors.fcall("a", "a", end=1)
    more = doors.fcall("b", "b")
    c, _ = end("c", "cancelled")
    b = doors.fcall("b", "b", end=1)
    assert stream.wait_closed().clean and stream.ids == [a, more, c, b]
    assert ends(stream) == [("a", a, "end"), ("c", c, "cancelled"), ("b", b, "end")]
    late = sse_connect(relay, "a", "b", "c", last_event_id=more)
    assert late.wait_closed().clean and late.ids == [c, b] and sorted(ends(late)) == sorted(ends(stream))


def test_one_event_may_end_several_topics(relay, doors, sse_connect):
    both, pattern = sse_connect(relay, "a", "b"), sse_connect(relay, "*")
    id = doors.fcall(["a", "b"], "x", end=1)
    assert both.wait_closed().clean and both.ids == [id]
    assert sorted(ends(both)) == [("a", id, "end"), ("b", id, "end")]
    pattern.wait_for(lambda c: len(ends(c)) == 2)
    assert sorted(ends(pattern)) == [("a", id, "end"), ("b", id, "end")] and not pattern.closed
    assert counted(relay) == {"end": 2}


def test_who_came_while_one_topic_had_ended_is_told_and_goes_on(relay, doors, sse_connect):
    a = doors.fcall("a", "a", end=1)
    stream = sse_connect(relay, "a", "b")
    stream.wait_for(lambda c: ends(c) == [("a", a, "end")])
    ids = [doors.fcall("b", "b"), doors.fcall("b", "b", end=1)]
    assert stream.wait_closed().clean and stream.ids == ids and len(ends(stream)) == 2


@pytest.mark.parametrize("names", [["*"], [">"], ["t.1", "t.*"], ["t.1", "u.*"]])
def test_patterns_never_end(relay, doors, sse_connect, names):
    stream = sse_connect(relay, *names)
    last = doors.fcall("t.1", "x", end=1)
    other = doors.fcall("u.1", "x")
    one = doors.fcall("one", "x")
    if names[0] != "*":
        stream.wait_for(lambda c: ends(c) == [("t.1", last, "end")])
    wanted = {"*": one, ">": one, "t.1": last}[names[0]]
    wanted = other if names[-1] == "u.*" else wanted
    stream.wait_for(lambda c: wanted in c.ids)
    late = sse_connect(relay, *names, params={**FINITE, "replay": "all"})
    late.wait_for(lambda c: wanted in c.ids)
    if names[0] != "*":
        late.wait_for(lambda c: ends(c) == [("t.1", last, "end")])
    assert not stream.closed and not late.closed and closed_by_end(relay) == 0


def test_an_ended_topic_takes_no_more(relay, doors, end, sse_connect):
    last = doors.fcall("t", "1", end=1)
    with pytest.raises(Exception, match="topic: ended"):
        doors.fcall("t", "2")
    stream = sse_connect(relay, "t", params={"replay": "all"})
    assert stream.wait_closed().ids == [last]


# --- filters and control events ---


@FORMS
def test_an_end_that_a_filter_leaves_out_tells_its_id_alone(relay, doors, sse_connect, gzip):
    asks = {"params": {"event": "state"}, "gzip": gzip}
    stream = sse_connect(relay, "t", **asks)
    first = doors.fcall("t", "1", event="state")
    doors.many("t", ["no"] * 3, event="other")
    last = doors.fcall("t", "no", event="other", end=1)
    assert stream.wait_closed().clean and stream.ids == [first]
    position, told = stream.blocks[-2:]
    assert not position.dispatched and int(position.id) == last and told.type == "relay.end"
    late = sse_connect(relay, "t", last_event_id=first, **asks)
    assert late.wait_closed().clean and late.ids == [] and late.last_event_id == str(last)
    for cursor in (first, last):
        assert status(relay, "t", cursor=cursor, event="state", finite=1) == 204


def test_without_control_events_it_ends_as_silently_as_it_began(relay, doors, sse_connect):
    stream = sse_connect(relay, "t", params={"control": "off"}, wait=False)
    wait_until(lambda: relay.metric("sse_relay_clients", state="live") == 1, "a live stream")
    ids = [doors.fcall("t", "1"), doors.fcall("t", "2", end=1)]
    assert stream.wait_closed().clean and stream.ids == ids and len(stream.blocks) == 2
    late = sse_connect(relay, "t", params={"control": "off", "replay": "all"}, wait=False)
    assert late.wait_closed().clean and late.ids == ids and len(late.blocks) == 2
    filtered = sse_connect(relay, "t", params={"control": "off", "event": "none"}, wait=False)
    assert filtered.wait_closed().clean and not filtered.blocks and b"id:" not in filtered.raw


def test_where_positions_are_told_the_end_tells_one(relay_factory, redis, doors, sse_connect):
    relay = relay_factory(control_events="id")
    stream = sse_connect(relay, "t", params={"event": "none"}, wait=False)
    wait_until(lambda: relay.metric("sse_relay_clients", state="live") == 1, "a live stream")
    last = doors.fcall("t", "1", end=1)
    assert stream.wait_closed().clean and not stream.controls and stream.all_ids[-1] == last


# --- slow readers, lanes, ttl ---


@FORMS
@pytest.mark.parametrize("policy", ["block", "drop-oldest", "drop-newest"])
def test_however_slow_a_reader_is_it_has_the_end(relay_factory, redis, doors, sse_connect, policy, gzip):
    relay = relay_factory(TIGHT, compress=">")
    stream = sse_connect(relay, "t", params={"slow": policy}, gzip=gzip, receive_buffer=4096)
    stream.stop_reading()
    ids = doors.many("t", [f"{n} {PAD}" for n in range(300)])
    ids.append(doors.fcall("t", "end", end=1))
    wait_until(lambda: relay.metric("sse_relay_streams_behind_total") + relay.metric("sse_relay_events_dropped_total", reason="policy"),
               "a stream that is full")  # fmt: skip
    stream.start_reading()
    assert stream.wait_closed().clean and not stream.rest
    assert stream.ids[-1] == ids[-1] and ends(stream) == [("t", ids[-1], "end")]
    assert len(stream.ids) + sum(d["count"] for d in stream.control("dropped")) == 301
    assert stream.ids == ids if policy == "block" else len(stream.ids) < 301
    assert stream.all_ids == sorted(stream.all_ids) and not stream.gaps


def test_who_is_cut_off_as_too_slow_comes_back_for_the_end(relay_factory, redis, doors, sse_connect):
    relay = relay_factory(TIGHT, slow="disconnect")
    stream = sse_connect(relay, "t", receive_buffer=4096)
    stream.stop_reading()
    ids = doors.many("t", [f"{n} {PAD}" for n in range(300)])
    ids.append(doors.fcall("t", "end", end=1))
    wait_until(lambda: relay.metric("sse_relay_streams_closed_total", reason="slow") == 1, "its end")
    stream.start_reading()
    got = stream.wait_closed().ids
    again = sse_connect(relay, "t", last_event_id=stream.last_event_id)
    assert again.wait_closed().clean and got + again.ids == ids and ends(again) == [("t", ids[-1], "end")]


@FORMS
@pytest.mark.parametrize("priority", ["batched", "coalesced", "appended"])
def test_what_is_pending_comes_before_the_end(relay_factory, redis, doors, sse_connect, priority, gzip):
    relay = relay_factory(compress=">", flush="1m", **{"flush.max": "1m"})
    stream = sse_connect(relay, "t", "u", gzip=gzip)
    first = doors.fcall("t", "a", priority=priority)
    stream.wait_for(1)
    waits = doors.many("t", ["b", "c"], priority=priority)
    last = doors.fcall("t", "d", priority=priority, end=1)
    stream.wait_for(lambda c: ends(c) == [("t", last, "end")])
    owed = {"batched": [first, *waits, last], "coalesced": [first, waits[-1], last], "appended": [first, waits[-1], last]}
    assert stream.ids == owed[priority] and stream.all_ids == sorted(stream.all_ids)
    waits = doors.many("u", ["b", "c"], priority="batched")
    over = doors.fcall("u", "d", end=1)
    assert stream.wait_closed().clean and stream.ids == [*owed[priority], *waits, over]
    late = sse_connect(relay, "t", gzip=gzip, params={"replay": "all"})
    assert late.wait_closed().clean and late.ids[-1] == last and ends(late) == [("t", last, "end")]


def test_an_end_that_has_expired_is_told_all_the_same(relay, doors, sse_connect):
    last = doors.fcall("t", "over", end=1, ttl=1)
    wait_until(lambda: doors.fcall("clock", "tick") > last + 100_000, "its ttl to pass")
    stream = sse_connect(relay, "t", params={"replay": "all"})
    assert stream.wait_closed().clean and not stream.events and ends(stream) == [("t", last, "end")]
    assert status(relay, "t", replay="all", finite=1) == 204


# --- 204 ---


def test_all_has_ended_and_nothing_is_left(relay, doors):
    a = doors.many("a", ["1", "2", "3"])
    last = doors.fcall("b", "4", end=1)
    ended = doors.fcall("a", "5", end=1)
    for method in ("GET", "HEAD"):
        assert status(relay, "a", "b", method=method, cursor=ended, finite=1) == 204
        assert status(relay, "a", "b", method=method, cursor=ended, finite="true", replay="all") == 204
        assert status(relay, "a", "b", method=method, finite=1) == 204  # it asks for nothing of the log
        assert status(relay, "b", method=method, cursor=last, finite=1) == 204
        assert status(relay, "b", method=method, cursor=ended, finite=1) == 204
        # Not where it did not ask,
        assert status(relay, "a", "b", method=method, cursor=ended) == 200
        assert status(relay, "a", "b", method=method, cursor=ended, finite=0) == 200
        # where something is left,
        assert status(relay, "a", "b", method=method, cursor=last, finite=1) == 200
        assert status(relay, "a", method=method, cursor=a[0], finite=1) == 200
        for asks in ({"replay": "all"}, {"replay": "whole"}, {"replay": 1}, {"since": 0}, {"snapshot": 1}):
            assert status(relay, "a", "b", method=method, finite=1, **asks) == 200
        assert status(relay, "a", "b", method=method, cursor="nobody's", finite=1) == 200
        # where something has not ended, or may never,
        assert status(relay, "a", "c", method=method, cursor=ended, finite=1) == 200
        assert status(relay, "a", "b*", method=method, cursor=ended, finite=1) == 400
        assert status(relay, "a", "*", method=method, cursor=ended, finite=1) == 200
        assert status(relay, ">", method=method, cursor=ended, finite=1) == 200
        # or where the question is wrong.
        assert status(relay, "a", "b", method=method, cursor=ended, finite="yes") == 400
    assert relay.metric("sse_relay_streams_over_total") >= 10
    assert relay.metric("sse_relay_clients", state="live") == 0


def test_an_answer_of_204_is_nothing_but_that(relay, doors):
    doors.fcall("t", "1", end=1)
    answer = relay.get("/events?topic=t&finite=1", headers={"Origin": "http://x"})
    assert answer.status_code == 204 and not answer.content and "Content-Type" not in answer.headers


def test_a_gap_is_something_to_come(relay_factory, redis, doors):
    relay = relay_factory({"tail.max_events": 0})
    first = doors.fcall("t", "1")
    last = doors.fcall("t", "2", end=1)
    redis.client().delete(doors.key("default", "log", "t"))
    assert status(relay, "t", cursor=first, finite=1) == 200
    assert status(relay, "t", finite=1, replay="whole") == 200
    assert status(relay, "t", cursor=last, finite=1) == 204


def test_a_gap_that_nobody_is_told_of_keeps_no_client_coming(relay_factory, redis, doors):
    """Its cursor would stay where it is: it would come back for ever."""
    relay = relay_factory({"tail.max_events": 0})
    first = doors.fcall("t", "1")
    doors.fcall("t", "2", end=1)
    assert status(relay, "t", cursor="nobody's", finite=1, control="off") == 204
    assert status(relay, "t", cursor=first, finite=1, control="off") == 200
    redis.client().delete(doors.key("default", "log", "t"))
    assert status(relay, "t", cursor=first, finite=1) == 200
    assert status(relay, "t", cursor=first, finite=1, control="off") == 204


def test_more_unwanted_events_than_one_look_sees_do_not_keep_a_client_coming(relay, doors):
    first = doors.fcall("t", "1", event="state")
    doors.many("t", ["no"] * 700, event="other")
    doors.fcall("t", "no", event="other", end=1)
    for method in ("GET", "HEAD"):
        assert status(relay, "t", method=method, cursor=first, event="state", finite=1) == 204
        assert status(relay, "t", method=method, replay="all", event="none", finite=1) == 204
        assert status(relay, "t", method=method, replay="all", event="state", finite=1) == 200


def test_on_every_node_it_is_over(relay_factory, redis, doors, sse_connect):
    nodes = [relay_factory() for _ in range(2)]
    tabs = [sse_connect(node, "t", params=FINITE) for node in nodes for _ in range(2)]
    ids = doors.many("t", map(str, range(50)))
    reload = sse_connect(nodes[1], "t", params={**FINITE, "replay": "whole"})
    ids.append(doors.fcall("t", "end", end=1))
    for stream in [*tabs, reload]:
        assert stream.wait_closed().clean and stream.ids == ids and ends(stream) == [("t", ids[-1], "end")]
    for node in nodes:
        assert status(node, "t", cursor=ids[-1], finite=1, replay="whole") == 204
        late = sse_connect(node, "t", params={**FINITE, "replay": "whole"})
        assert late.wait_closed().clean and late.ids == ids


@pytest.mark.parametrize("park", ["suspended", "handover"])
def test_while_redis_is_away_it_is_held_and_ended_later(relay_factory, redis, doors, sse_connect, park):
    relay = relay_factory(park=park)
    ids = [doors.fcall("t", "1"), doors.fcall("t", "2", end=1)]
    redis.client().save()
    redis.stop()
    wait_until(lambda: relay.ready()[0] == 503, "a relay without Redis")
    over = sse_connect(relay, "t", params=FINITE, last_event_id=ids[-1], wait=False)
    rest = sse_connect(relay, "t", params=FINITE, last_event_id=ids[0], wait=False)
    for stream in (over, rest):
        stream.wait_head()
        assert stream.status == 200 and not stream.closed
    redis.start()
    assert over.wait_closed().clean and over.ids == [] and rest.wait_closed().clean and rest.ids == ids[1:]
    assert ends(over) == ends(rest) == [("t", ids[-1], "end")]
    relay.wait_ready()
    assert status(relay, "t", cursor=ids[-1], finite=1) == 204


def test_streams_that_stood_open_while_redis_was_away_hear_of_the_end(relay_factory, redis, doors, sse_connect):
    relay = relay_factory()
    stream = sse_connect(relay, "t")
    first = doors.fcall("t", "1")
    stream.wait_for(1)
    admin = redis.client()
    admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    last = doors.fcall("t", "2", end=1)
    assert stream.wait_closed().clean and stream.ids == [first, last] and ends(stream) == [("t", last, "end")]


def silent_end(doors, topic, then=()):
    """The end of @topic as a function writes it, without its message: its id."""
    key = doors.key
    last = int(doors.redis.zscore(key("default", "topics"), topic))
    with doors.redis.pipeline(transaction=True) as pipe:
        pipe.incr(key("default", "seq"))
        id = int(doors.redis.get(key("default", "seq"))) + 1
        pipe.xadd(key("default", "log", topic), {"data": "over", "prev": last, "end": "end"}, id=f"{id}-0")
        pipe.zrem(key("default", "topics"), topic)
        pipe.zadd(key("default", "ended"), {topic: id})
        pipe.zadd(key("default", "ended", "until"), {topic: (id // 1000 + 1_000_000) * 10 + 1})
        for other in then:
            pipe.fcall("sse_publish", 1, key(), "topic", other, "data", "later")
        pipe.execute()
    return id


@pytest.mark.parametrize("slow", ["block", "drop-newest"])
def test_an_end_whose_message_was_lost_is_found(relay_factory, redis, doors, sse_connect, slow):
    relay = relay_factory({"slow": slow, "redis.check": "100ms"})
    alone, both, pattern = sse_connect(relay, "t"), sse_connect(relay, "t", "u"), sse_connect(relay, ">")
    first = doors.fcall("t", "1")
    for stream in (alone, both, pattern):
        stream.wait_for(1)
    last = silent_end(doors, "t", then=["u"])
    assert alone.wait_closed().clean and alone.ids == [first, last] and ends(alone) == [("t", last, "end")]
    for stream in (both, pattern):
        stream.wait_for(lambda c: ends(c) == [("t", last, "end")])
        assert counted(relay) == {"end": 1}
        assert last in stream.ids or last in stream.told([last])
        assert not stream.closed and stream.all_ids == sorted(stream.all_ids)
    over = doors.fcall("u", "over", end=1)
    assert both.wait_closed().clean and both.ids[-1] == over and len(ends(both)) == 2
    assert status(relay, "t", "u", cursor=over, finite=1) == 204


def test_visitors_come_while_it_ends(relay_factory, redis, doors, sse_connect):
    """Whenever a visitor comes, it has all of it, and its end, once."""
    nodes = [relay_factory() for _ in range(2)]
    for n in range(30):
        topic = f"t.{n}"
        ids, streams = [], []
        for i in range(6):
            ids.append(doors.fcall(topic, str(i)))
            streams.append(sse_connect(nodes[i % 2], topic, params={"replay": "all", **FINITE}, wait=False))
        ids.append(doors.fcall(topic, "end", end=1))
        streams += [sse_connect(node, topic, params={"replay": "all"}, wait=False) for node in nodes]
        for stream in streams:
            assert stream.wait_closed().clean and stream.ids == ids, stream.describe()
            assert ends(stream) == [(topic, ids[-1], "end")] and not stream.gaps


# --- in memory as in Redis ---


@pytest.fixture(params=["redis", "memory"])
def either(request, relay_factory):
    store = {"redis": "memory:"} if request.param == "memory" else {}
    return lambda config=None: relay_factory({"compress": ">", **store, **(config or {})})


def post(relay, topic, *datas, **fields):
    events = [{"topic": topic, "data": data, **fields} for data in datas]
    return [int(answer["id"]) for answer in relay.post("/publish", json=events).json()]


@FORMS
@pytest.mark.parametrize("way", ["end", "cancelled", "timeout", "event"])
def test_whichever_store_there_is_it_ends(either, sse_connect, gzip, way):
    relay = either()
    streams = [sse_connect(relay, "t", params=asks, gzip=gzip) for asks in (FINITE, {"snapshot": 1}, {"replay": "whole"})]
    slow = sse_connect(relay, "t", "u", gzip=gzip)
    ids = post(relay, "t", "1", "2", end_after=86400000)
    if way == "end":
        relay.post("/topics/t/end")
    elif way == "cancelled":
        relay.request("DELETE", "/topics/t")
    elif way == "timeout":
        ids += post(relay, "t", "3", end_after=100)
    else:
        ids += post(relay, "t", "3", end=True)
    for stream in streams:
        assert stream.wait_closed().clean and stream.ids[: len(ids)] == ids
        assert ends(stream) == [("t", stream.ids[-1], "end" if way == "event" else way)]
    last = streams[0].ids[-1]
    assert (last == ids[-1]) == (way == "event") and counted(relay) == {"end" if way == "event" else way: 1}
    asks = [({"replay": "whole"}, [*ids, last]), ({"replay": 1}, [last]), ({"snapshot": 1}, [last]), ({}, [])]
    for params, owed in asks:
        late = sse_connect(relay, "t", params={**params, **(FINITE if owed else {})}, gzip=gzip)
        assert late.wait_closed().clean and late.ids == sorted(set(owed)) and ends(late) == ends(streams[0])
    assert status(relay, "t", finite=1) == status(relay, "t", cursor=last, finite=1) == 204
    assert status(relay, "t", cursor=ids[0], finite=1) == status(relay, "t", "u", cursor=last, finite=1) == 200
    over = post(relay, "u", "over", end=True)
    assert slow.wait_closed().clean and len(ends(slow)) == 2 and slow.ids[-1:] == over
    assert status(relay, "t", "u", cursor=over[0], finite=1) == 204


@pytest.mark.parametrize("ns", ["default", "other"])
def test_what_nobody_listens_to_ends_by_itself(either, ns):
    """Its node has published it, and asks. The test may not: an event that is refused because of `over` tells of `t`."""
    relay = either()
    path = f"/publish?ns={ns}"
    events = [{"topic": "t", "data": "x", "end_after": 100}, {"topic": "u", "data": "x"}, {"topic": "over", "data": "", "end": True}]
    before = [int(each["id"]) for each in relay.post(path, json=events).json()]
    ask = lambda topic: relay.post(path, json={"topics": [topic, "over"], "data": ""}).json()  # noqa: E731
    wait_until(lambda: ask("t")["reason"] == "timeout", "its end")
    assert ask("u")["ended"] == str(before[2])
    refused = relay.post(path, json={"topic": "t", "data": "more"})
    assert refused.status_code == 409 and int(refused.json()["ended"]) > before[0]


def test_whichever_store_there_is_a_reload_knows_what_it_lacks(either, sse_connect):
    relay = either({"log.max_events": 10})
    ids = post(relay, "t", *map(str, range(300)), log_max=400)
    ids += post(relay, "t", "end", end=True, log_max=400)
    whole = sse_connect(relay, "t", params={**FINITE, "replay": "whole"})
    assert whole.wait_closed().clean and whole.ids == ids and not whole.gaps
    ids = post(relay, "u", *map(str, range(300)), log_max=20)
    ids += post(relay, "u", "end", end=True, log_max=20)
    short = sse_connect(relay, "u", params={**FINITE, "replay": "whole"})
    assert short.wait_closed().clean and [g["reason"] for g in short.gaps] == ["trimmed"]
    assert len(short.ids) >= 20 and short.ids == ids[-len(short.ids) :]
    assert int(short.gaps[0]["to"]) == ids[-len(short.ids) - 1]


# --- tickets and browsers ---


def test_a_ticket_is_not_spent_by_204(relay_factory, redis, doors, tmp_path):
    auth = tmp_path / "auth.json"
    key = hashlib.sha256(b"backend").hexdigest()
    auth.write_text(json.dumps({"keys": [{"name": "b", "sha256": key, "ns": "default", "subscribe": [">"]}]}))
    relay = relay_factory({"auth.file": auth})
    relay.credentials = {"Authorization": "Bearer backend"}
    last = doors.fcall("t", "1", end=1)
    ticket = relay.post("/tickets", headers=relay.credentials).json()["ticket"]
    assert status(relay, "t", ticket=ticket, finite=1) == 204
    assert status(relay, "t", ticket=ticket, finite=1, replay="all") == 200  # it is good for this stream, and no other
    assert status(relay, "t", ticket=ticket, replay="all") == 401
    assert status(relay, "t", finite=1) == 401
    assert last


OPEN = """
window.got = []; window.over = []; window.errors = 0; window.gaps = 0;
window.source = new EventSource(arguments[0]);
source.onmessage = e => got.push(e.data);
source.onerror = () => errors++;
source.addEventListener('relay.gap', () => gaps++);
source.addEventListener('relay.end', e => over.push(JSON.parse(e.data).reason));
"""
STATE = "return {got, over, errors, gaps, state: source.readyState};"
CLOSED = 2


@pytest.mark.browser
@pytest.mark.parametrize("control", ["on", "off"])
def test_an_eventsource_stops_for_good_on_any_node(redis, relay_factory, haproxy, browser, doors, control):
    nodes = [relay_factory(retry="100ms") for _ in range(2)]
    base = haproxy(*nodes)
    path = f"/events?topic=t&replay=whole&finite=1&control={control}"
    for n in range(50):
        doors.fcall("t", str(n))

    def over():
        return sum(int(node.metric("sse_relay_streams_over_total")) for node in nodes)

    def stopped():
        state = browser.execute_script(STATE)
        return state if state["state"] == CLOSED else None

    browser.get(base + "/health")
    browser.execute_script(OPEN, path)
    wait_until(lambda: len(browser.execute_script(STATE)["got"]) == 50, "50 events")
    doors.fcall("t", "50", end=1)
    state = wait_until(stopped, "an EventSource that gives up")
    assert state["got"] == [str(n) for n in range(51)] and not state["gaps"]
    assert state["over"] == (["end"] if control == "on" else []) and over() == 1
    # A reload, or another tab: the same again.
    browser.refresh()
    browser.execute_script(OPEN, path)
    state = wait_until(stopped, "an EventSource that gives up")
    assert state["got"] == [str(n) for n in range(51)] and not state["gaps"] and over() == 2
    # One that was there before, and asks for nothing of the log.
    browser.execute_script(OPEN, "/events?topic=t&finite=1")
    assert wait_until(stopped, "an EventSource that gives up")["got"] == [] and over() == 3
