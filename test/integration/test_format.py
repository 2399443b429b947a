# SPDX-License-Identifier: Apache-2.0
"""How events are shown (protocol.md, 4.9): format=json, type_from_topic; and metrics.types."""

import json
import time

import pytest

from auth_rig import bearer
from raw_http import assert_problem
from relay_process import wait_until
from test_snapshot import FORMS, begin, relay  # noqa: F401

JSON = {"format": "json"}


def publish(relay, topic, *datas, **fields):
    """The ids; None of ephemeral ones. @topic: one, or a list of them."""
    where = {"topics": topic} if isinstance(topic, list) else {"topic": topic}
    answer = relay.post("/publish", json=[{**where, "data": d, **fields} for d in datas])
    assert answer.status_code == 200, answer.text
    return [a["id"] and int(a["id"]) for a in answer.json()]


def envelope(topic, id, data, event=None):
    """As the relay writes it, but for the data's own text."""
    type = f',"event":{json.dumps(event)}' if event else ""
    return f'{{"topic":{json.dumps(topic)}{type},"time":{id // 1000},"data":{data}}}'


def shown(client):
    return [json.loads(d) for d in client.data]


# --- format=json ------------------------------------------------------------------------------------------------------

DATAS = [
    ('{"a": 1}', '{"a": 1}'),
    ("[1e400,9007199254740993,1.0]", "[1e400,9007199254740993,1.0]"),
    ("42", "42"),
    ("null", "null"),
    ('"text"', '"text"'),
    ("hello", '"hello"'),
    ("", '""'),
    ("007", '"007"'),
    ("two\r\nlines", r'"two\nlines"'),
    ('{\n  "a b": [1,\n 2.50]\n}\n', '{"a b":[1,2.50]}'),
    ('{"a":}', r'"{\"a\":}"'),
    ("\u2028\t", '"\u2028\\t"'),
]


@FORMS
def test_each_event_says_its_topic_type_and_time(relay, sse_connect, gzip):
    stream = sse_connect(relay, "t.*", "u", params=JSON, gzip=gzip)
    a = publish(relay, "t.a", "x")
    b = publish(relay, "u", {"n": 1}, event="created", retry=5000)
    stream.wait_for(2)
    assert [e.fields for e in stream.events] == [
        [("id", str(a[0])), ("data", envelope("t.a", a[0], '"x"'))],
        [("id", str(b[0])), ("event", "created"), ("retry", "5000"), ("data", envelope("u", b[0], '{"n":1}', "created"))],
    ]
    assert abs(shown(stream)[0]["time"] - time.time() * 1000) < 60_000


@FORMS
@pytest.mark.parametrize("how", ["live", "replay", "snapshot", "resume"])
def test_data_is_json_where_it_is_and_else_text(relay, sse_connect, gzip, how):
    """The same bytes whichever way they come."""
    topics = [f"t.{n}" for n in range(len(DATAS))]
    ids = []
    first = sse_connect(relay, "t.>", params=JSON, gzip=gzip)
    for topic, (data, _) in zip(topics, DATAS):
        ids += publish(relay, topic, data)
    first.wait_for(len(DATAS))
    params, more = {}, {}
    if how == "replay":
        params = {"replay": "all"}
    elif how == "snapshot":
        params = {"snapshot": 1}
    elif how == "resume":
        more = {"last_event_id": first.control("connected")[0]["id"]}
    stream = first if how == "live" else sse_connect(relay, "t.>", params={**JSON, **params}, gzip=gzip, **more)
    want = [envelope(t, id, text) for t, id, (_, text) in zip(topics, ids, DATAS)]
    assert stream.wait_for(len(DATAS)).data == want
    assert stream.ids == ids and not stream.gaps


def test_what_came_through_redis_is_shown_alike(redis, relay_factory, sse_connect, doors):
    """Doors that take any bytes, and give no id."""
    relay = relay_factory()
    stream = sse_connect(relay, "t", params=JSON)
    before = time.time() * 1000
    doors.fcall("t", b'{"a":\0 "\xff"}')
    doors.raw("t", b"\xffraw")
    doors.raw("t", b"[1]")
    doors.fcall("t", "e", ephemeral=1, event="tick")
    got = shown(stream.wait_for(4))
    assert [g["data"] for g in got] == [{"a": "\ufffd"}, "\ufffdraw", [1], "e"]
    assert [list(g) for g in got] == [["topic", "time", "data"]] * 3 + [["topic", "event", "time", "data"]]
    assert stream.ids[1:] == [None] * 3
    assert all(before - 60_000 < g["time"] < time.time() * 1000 + 60_000 for g in got)


@FORMS
def test_control_events_and_heartbeats_stay_as_they_are(begin, sse_connect, gzip):
    relay = begin({"heartbeat": "1s", "heartbeat.event": "beat"})
    stream = sse_connect(relay, "t", params=JSON, gzip=gzip)
    publish(relay, "t", "x", end=True)
    stream.wait_closed()
    assert stream.control("end") and stream.control("connected")[0]["topics"] == ["t"]
    other = sse_connect(relay, "u", params=JSON, gzip=gzip, last_event_id="unknown")
    assert other.gaps[0]["reason"] == "unknown-id"
    other.wait_for(lambda c: any(b.type == "beat" for b in c.blocks), timeout=30)
    assert next(b for b in other.blocks if b.type == "beat").data == "{}"


@FORMS
def test_without_control_events_ids_are_carried_all_the_same(relay, sse_connect, gzip):
    """A block that tells the id of one before it is a copy, which has a form of its own."""
    ids = publish(relay, "t", "a", "b", event="other")
    stream = sse_connect(relay, "t", params={**JSON, "control": "off"}, last_event_id=ids[0], gzip=gzip, wait=False)
    stream.wait_for(1)
    publish(relay, "t", "e", ephemeral=True)
    stream.wait_for(2)
    assert [g["data"] for g in shown(stream)] == ["b", "e"]
    last = publish(relay, "t", "c")[0]
    again = sse_connect(relay, "t", params={**JSON, "control": "off"}, last_event_id=last, gzip=gzip, wait=False)
    wait_until(lambda: relay.metric("sse_relay_clients", state="live") == 2, "two live streams")
    publish(relay, "t", "first", ephemeral=True)
    again.wait_for(1)
    assert again.events[0].id == str(last) and shown(again)[0]["data"] == "first"


def test_the_plain_stream_beside_it_has_what_it_always_had(relay, sse_connect):
    plain, asked = sse_connect(relay, "t"), sse_connect(relay, "t", params={"format": "plain"})
    other = sse_connect(relay, "t", params=JSON)
    publish(relay, "t", '{"a": 1}', "x\ny", event="e")
    other.wait_for(2)
    first, second = [c.wait_for(2).raw.partition(b"\n\n")[2] for c in (plain, asked)]
    assert first == second and plain.data == ['{"a": 1}', "x\ny"]


def test_compressed_or_not_a_stream_says_the_same(relay, sse_connect):
    both = [sse_connect(relay, "t.>", params={**JSON, "type_from_topic": 1}, gzip=gzip) for gzip in (True, False)]
    for n in range(100):
        publish(relay, f"t.{n}", {"n": n, "text": "some words " * (n % 70)})
    packed, plain = [c.wait_for(100).raw.partition(b"\n\n")[2] for c in both]
    assert packed == plain and both[0].wire < len(both[0].raw) / 2


# --- events on several topics -----------------------------------------------------------------------------------------


@FORMS
def test_of_several_topics_it_is_the_first_that_was_asked_for(relay, sse_connect, gzip):
    """In the order of their bytes, however they were published, live as replayed, on a page of one topic or of many."""
    asked = {("z", "b", "m"): "b", ("m", "z"): "m", ("z",): "z", ("*",): "B", (">", "b"): "B", ("*.*", "z"): "a.x"}
    live = {names: sse_connect(relay, *names, params=JSON, gzip=gzip) for names in asked}
    ids = [publish(relay, ["z", "m", "a.x", "b", "B"], data)[0] for data in ("1", "2")]
    publish(relay, ["z", "m", "a.x", "b", "B"], "3", ephemeral=True)
    for names, topic in asked.items():
        assert [(g["topic"], g["data"]) for g in shown(live[names].wait_for(3))] == [(topic, n) for n in (1, 2, 3)]
        for params, more in (({"replay": "all"}, {}), ({"replay": 2}, {}), ({}, {"last_event_id": ids[0] - 1})):
            stream = sse_connect(relay, *names, params={**JSON, **params}, gzip=gzip, **more)
            assert [g["topic"] for g in shown(stream.wait_for(2))] == [topic] * 2, (names, params)
        stream = sse_connect(relay, *names, params={**JSON, "snapshot": 1}, gzip=gzip)
        assert [(g["topic"], g["data"]) for g in shown(stream.wait_for(1))] == [(topic, 2)]


def test_the_doors_of_redis_publish_in_the_same_order(redis, relay_factory, sse_connect, doors):
    nodes = [relay_factory() for _ in range(2)]
    streams = [sse_connect(node, ">", params=JSON) for node in nodes]
    topics = ["é", "a.b", "a", "z", "Z", "a-b", "aa"]
    doors.fcall(topics, "x")
    doors.xadd(topics, "y")
    doors.fcall(topics, "e", ephemeral=1)
    for stream in streams:
        assert [g["topic"] for g in shown(stream.wait_for(3))] == ["Z"] * 3
    other = sse_connect(nodes[1], "é", "aa", "a.b", "a-b", params={**JSON, "replay": "all"})
    assert [g["topic"] for g in shown(other.wait_for(2))] == ["a-b"] * 2


# --- lanes and slow readers -------------------------------------------------------------------------------------------

LANES = {"lanes": ["p.>=coalesced", "b.>=batched", "a.>=appended"], "flush": "1m", "flush.max": "1m"}


@FORMS
def test_pieces_of_a_text_are_joined_as_text(begin, sse_connect, gzip):
    relay = begin(LANES)
    stream = sse_connect(relay, "a.*", "now", params=JSON, gzip=gzip)
    first = publish(relay, "a.1", "4")
    ids = publish(relay, "a.1", "2", "\r", '\n"', "null", event="delta")
    last = publish(relay, "now", "0")
    stream.wait_for(3)
    assert stream.data == [
        envelope("a.1", first[0], '"4"'),
        envelope("a.1", ids[-1], r'"2\n\n\"null"', "delta"),
        envelope("now", last[0], "0"),
    ]
    assert stream.ids == [first[0], ids[-1], last[0]]
    replayed = sse_connect(relay, "a.*", "now", params={**JSON, "replay": "all"}, gzip=gzip)
    assert replayed.wait_for(3).data == stream.data


@FORMS
def test_coalesced_and_batched_events_are_whole(begin, sse_connect, gzip):
    relay = begin(LANES)
    stream = sse_connect(relay, "p.*", "b.*", "now", params=JSON, gzip=gzip)
    publish(relay, "now", "go")
    publish(relay, "p.0", "0")  # at once
    for n in range(5):
        publish(relay, "p.1", n)
    publish(relay, "b.1", {"n": 1}, {"n": 2})
    publish(relay, "now", "end")
    stream.wait_for(6)
    assert [(g["topic"], g["data"]) for g in shown(stream)] == [
        ("now", "go"), ("p.0", 0), ("p.1", 4), ("b.1", {"n": 1}), ("b.1", {"n": 2}), ("now", "end")]  # fmt: skip


@pytest.mark.parametrize("slow", ["block", "drop-oldest"])
def test_a_slow_reader_loses_nothing_or_is_told(begin, sse_connect, slow):
    relay = begin({"queue.max_events": 16, "log.max_events": 10000, "slow.reads": 100000}, workers=1)
    stream = sse_connect(relay, "t", params={**JSON, "slow": slow}, receive_buffer=8192)
    beside = sse_connect(relay, "t", params=JSON)
    stream.stop_reading()
    for n in range(40):
        publish(relay, "t", *[{"n": n * 20 + k, "fill": "x" * 2000} for k in range(20)])
        beside.wait_for(20 * (n + 1))
    stream.start_reading()
    publish(relay, "t", "end")
    stream.wait_for(lambda c: c.data and json.loads(c.data[-1])["data"] == "end")
    got = [g["data"]["n"] for g in shown(stream)[:-1]]
    lost = sum(d["count"] for d in stream.control("dropped"))
    assert got == sorted(set(got)) and len(got) + lost == 800 and not stream.gaps
    assert (lost == 0) == (slow == "block")
    assert [g["data"]["n"] for g in shown(beside)[:800]] == list(range(800))


def test_a_form_is_made_once_for_a_node(begin, swarm):
    relay = begin(workers=4)
    s = swarm([relay], 40, "t", params=JSON, gzip=True).wait_connected()
    ids = []
    for n in range(50):
        ids += publish(relay, "t", {"n": n, "text": "words " * 20})
    s.wait(lambda c: len(c.data) == 50)
    assert all([json.loads(d)["data"]["n"] for d in c.data] == list(range(50)) for c in s.clients)
    assert relay.metric("sse_relay_gzip_frames_total") == 50


def test_what_is_held_for_formats_is_given_back(begin, sse_connect):
    """The bytes of forms count as those of events, and go with them. (A node keeps the last event of a topic.)"""
    relay = begin({"tail.max_events": 0})
    before = relay.metric("sse_relay_event_bytes")
    stream = sse_connect(relay, "t", params=JSON)
    publish(relay, "t", *["x" * 10000] * 100)
    stream.wait_for(100)
    wait_until(lambda: before + 20000 < relay.metric("sse_relay_event_bytes") <= before + 25000, "all but one to be gone")


# --- type_from_topic --------------------------------------------------------------------------------------------------


@FORMS
def test_the_topic_is_the_type_of_who_asks_for_it(relay, sse_connect, gzip):
    named = sse_connect(relay, "t.*", params={"type_from_topic": 1}, gzip=gzip)
    both = sse_connect(relay, "t.*", params={"type_from_topic": "true", **JSON}, gzip=gzip)
    plain = sse_connect(relay, "t.*", params={"type_from_topic": 0}, gzip=gzip)
    publish(relay, "t.a", "1")
    publish(relay, "t.b", "x\ny", event="own")
    publish(relay, "t.c", "e", ephemeral=True)
    assert [(e.type, e.data) for e in named.wait_for(3).events] == [("t.a", "1"), ("own", "x\ny"), ("t.c", "e")]
    assert [(e.type, e.data) for e in plain.wait_for(3).events] == [("message", "1"), ("own", "x\ny"), ("message", "e")]
    assert [(e.type, g["event"], g["data"]) for e, g in zip(both.wait_for(3).events, shown(both))] == [
        ("t.a", "t.a", 1), ("own", "own", "x\ny"), ("t.c", "t.c", "e")]  # fmt: skip
    again = sse_connect(relay, "t.*", params={"type_from_topic": 1, "replay": "all"}, gzip=gzip)
    assert [e.type for e in again.wait_for(2).events] == ["t.a", "own"]


@pytest.mark.parametrize("option", [False, True])
@pytest.mark.parametrize("asked", [None, 0, 1])
def test_a_filter_goes_by_the_type_that_is_shown(begin, sse_connect, option, asked):
    relay = begin({"events.type_from_topic": option})
    params = {"event": ["t.a", "own"], **({} if asked is None else {"type_from_topic": asked})}
    live = sse_connect(relay, "t.*", params=params)
    publish(relay, "t.a", "1", "2")
    publish(relay, "t.b", "3")
    publish(relay, "t.b", "4", event="own")
    publish(relay, "t.b", "5", event="t.a")
    named = option if asked is None else bool(asked)
    want = [("t.a", "1"), ("t.a", "2")] * named + [("own", "4"), ("t.a", "5")]
    for stream in (
        live,
        sse_connect(relay, "t.*", params={**params, "replay": "all"}),
        sse_connect(relay, "t.*", params={**params, "replay": 4 if named else 2}),
        sse_connect(relay, "t.*", params=params, last_event_id=live.control("connected")[0]["id"]),
    ):
        stream.wait_for(len(want))
        assert [(e.type, e.data) for e in stream.events] == want
    latest = sse_connect(relay, "t.*", params={**params, "snapshot": 1})
    assert latest.wait_for(2 if named else 1).data == (["2", "5"] if named else ["5"])


def test_who_asks_for_other_types_of_the_last_is_given_others(relay, sse_connect):
    """Reads of the last N are shared by those who ask the same only."""
    publish(relay, "t.a", "1")
    publish(relay, "t.b", "2", event="t.a")
    publish(relay, "t.a", "3")
    params = {"event": "t.a", "replay": 1}
    streams = [sse_connect(relay, "t.*", params={**params, "type_from_topic": n % 2}) for n in range(6)]
    assert [s.wait_for(1).data for s in streams] == [["2"], ["3"]] * 3


def test_a_topic_named_as_a_control_event_is_no_type(begin, sse_connect):
    relay = begin({"control_prefix": "x-"})
    stream = sse_connect(relay, ">", params={"type_from_topic": 1}, control_prefix="x-")
    for topic in ("relay.gap", "x-gap", "fine"):
        publish(relay, topic, topic)
    assert [e.type for e in stream.wait_for(3).events] == ["message", "message", "fine"]


def test_finite_knows_what_the_filter_lets_pass(begin, sse_connect):
    """What was published without a type has one for whom its topic is one."""
    relay = begin()
    first = publish(relay, "t", "0")[0]
    publish(relay, "t", "1")
    publish(relay, "t", "bye", event="over", end=True)
    path = f"/events?topic=t&finite=1&lastEventId={first}&event=t"
    assert relay.get(path + "&type_from_topic=0").status_code == 204
    stream = sse_connect(relay, raw_query=path.partition("?")[2] + "&type_from_topic=1", wait=False)
    assert stream.wait_closed().data == ["1"]


# --- asking -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["format=JSON", "format=", "format=xml", "format=json&format=json", "type_from_topic=on",
                                   "type_from_topic=", "type_from_topic=1&type_from_topic=0"])  # fmt: skip
def test_what_is_wrong_is_refused_by_name(relay, query):
    detail = assert_problem(relay.get("/events?topic=t&" + query), 400)
    assert detail.startswith(query.partition("=")[0] + ": ")


def test_a_route_says_how_and_the_query_wins(parties, guarded, sse_connect, doors):
    route = {"topics": ["board.>"], "grants": True, "public": True}
    routes = [
        {"path": "/json", "format": "json", "type_from_topic": True, **route},
        {"path": "/plain", "format": "plain", "type_from_topic": 0, **route},
    ]
    parties.file.write(routes=routes, anonymous={"ns": "t1"})
    relay = guarded({"events.type_from_topic": True})
    asked = [
        sse_connect(relay, path="/json"),
        sse_connect(relay, path="/json", params={"format": "plain", "type_from_topic": 0}),
        sse_connect(relay, path="/plain"),
        sse_connect(relay, path="/plain", params=JSON),
    ]
    id = doors.fcall("board.a", "[1]", ns="t1")
    got = [(c.wait_for(1).events[0].type, c.data[0]) for c in asked]
    assert got == [
        ("board.a", envelope("board.a", id, "[1]", "board.a")),
        ("message", "[1]"),
        ("message", "[1]"),
        ("message", envelope("board.a", id, "[1]")),
    ]


def test_match_is_for_who_may_have_it(parties, guarded, sse_connect, doors):
    relay = guarded()
    mine, other = [
        sse_connect(relay, "a", params=JSON, headers=bearer(parties.I.token(sse={"ns": "t1", "subscribe": ["a"], "match": match})))
        for match in ({"user": "1"}, {"user": "2"})
    ]
    doors.fcall("a", "secret", ns="t1", match='{"user":"1"}')
    doors.fcall("a", "all", ns="t1")
    assert [g["data"] for g in shown(mine.wait_for(2))] == ["secret", "all"]
    assert [g["data"] for g in shown(other.wait_for(1))] == ["all"]


# --- metrics.types ----------------------------------------------------------------------------------------------------

BY_TYPE = "sse_relay_events_delivered_by_type_total"


def test_listed_types_are_counted_and_all_others_as_other(begin, sse_connect):
    relay = begin({"metrics.types": 'tick,tock,a"b'})
    plain, other = sse_connect(relay, "t"), sse_connect(relay, "t", params={**JSON, "type_from_topic": 1})
    publish(relay, "t", "1", "2", event="tick")
    publish(relay, "t", "3", event="tack")
    publish(relay, "t", "4")
    publish(relay, "t", "5", event='a"b')
    for stream in (plain, other):
        stream.wait_for(5)
    wait_until(lambda: relay.metric("sse_relay_events_delivered_total") == 10, "all are counted")
    want = {"tick": 4, "tock": 0, 'a"b': 2, "other": 4}
    assert {type: relay.metric(BY_TYPE, type=type.replace('"', r"\"")) for type in want} == want
    assert relay.stats()["metrics"][BY_TYPE] == want


def test_joined_events_are_counted_one_by_one(begin, sse_connect):
    relay = begin({**LANES, "metrics.types": ["delta"]})
    stream = sse_connect(relay, "a", "now", params=JSON)
    publish(relay, "a", *"abcdef", event="delta", priority="appended")
    publish(relay, "now", "x")
    stream.wait_for(lambda c: c.data and shown(c)[-1]["data"] == "x")
    wait_until(lambda: relay.metric("sse_relay_events_delivered_total") == 7, "all are counted")
    assert relay.metric(BY_TYPE, type="delta") == 6 and relay.metric(BY_TYPE, type="other") == 1


def test_without_the_option_there_is_no_such_series(relay):
    assert BY_TYPE not in relay.get("/metrics").text and BY_TYPE not in relay.stats()["metrics"]
