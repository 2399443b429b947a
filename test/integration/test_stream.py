# SPDX-License-Identifier: Apache-2.0
"""The stream as docs/protocol.md has it: headers, first bytes, frames, topics, heartbeats."""

import json
import re

import pytest

from conftest import load_vectors
from raw_http import assert_problem, open_socket, read_head, status_of
from relay_process import wait_until
from sse_client import build_query

FRAMES = load_vectors("frames.json")
PATTERNS = load_vectors("patterns.json")
PREAMBLE = re.compile(rb":ok\nretry: (\d+)\nid: (\d+)\nevent: relay\.connected\ndata: (.*)\n\n")


def vector_name(vector):
    return vector["name"].replace(" ", "-")


# --- headers and first bytes ---


def test_headers_of_a_stream(relay, sse_connect):
    client = sse_connect(relay, "a")
    assert client.head.startswith(b"HTTP/1.1 200 ")
    assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
    cache = {v.strip() for v in client.headers["cache-control"].split(",")}
    assert cache == {"no-cache", "no-transform"}
    assert client.headers["x-accel-buffering"] == "no"
    assert client.headers["connection"].lower() == "close"
    assert client.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in client.headers


def test_first_bytes(relay_factory, redis, sse_connect):
    relay = relay_factory(node="node-a")
    client = sse_connect(relay, "a", "b.>")
    m = PREAMBLE.fullmatch(client.raw)
    assert m, client.raw
    payload = json.loads(m[3])
    assert payload["topics"] == ["a", "b.>"]
    assert payload["node"] == "node-a"
    assert re.fullmatch("[0-9a-f]{32}", payload["connection_id"])
    assert client.retry == int(m[1])


def test_retry_hint_is_jittered(relay, sse_connect):
    hints = [sse_connect(relay, "a").retry for _ in range(30)]
    assert all(2400 <= h <= 3600 for h in hints), hints
    assert len(set(hints)) > 1


def test_connection_ids_are_distinct_where_it_counts(relay, sse_connect):
    """The last 16 digits are what nobody may guess; no two streams have them alike."""
    ids = [sse_connect(relay, "a").control("connected")[0]["connection_id"] for _ in range(30)]
    assert len({id[-16:] for id in ids}) == 30


def test_http_1_0_client_gets_the_same_stream(relay, doors, clients):
    s = open_socket(relay)
    s.sendall(b"GET /events?topic=a HTTP/1.0\r\n\r\n")
    answer = read_head(s)
    assert status_of(answer) == 200
    while b"relay.connected" not in answer or not answer.endswith(b"\n\n"):
        answer += s.recv(4096)
    id = doors.fcall("a", "x")
    frame = f"id: {id}\ndata: x\n\n".encode()
    while not answer.endswith(frame):
        chunk = s.recv(4096)
        assert chunk, answer
        answer += chunk
    s.close()


# --- what is refused ---


@pytest.mark.parametrize(
    "query,names",
    [
        ("", "topic"),
        ("topic=", "topic"),
        ("topic=a..b", "topic"),
        ("topic=a%20b", "topic"),
        ("topic=a%00b", "topic"),
        ("topic=%ff", "topic"),
        ("topic=a.%3E.b", "topic"),
        ("topic=ok&topic=a*", "topic"),
        ("topic=a&replay=x", "replay"),
        ("topic=a&replay=-1", "replay"),
        ("topic=a&replay=1.5", "replay"),
        ("topic=a&replay=", "replay"),
        ("topic=a&since=yesterday", "since"),
        ("topic=a&since=-10", "since"),
        ("topic=a&since=2026-13-01T00:00:00Z", "since"),
        ("topic=a&ns=a%20b", "ns"),
        ("topic=a&ns=", "ns"),
        ("topic=a&ns=" + "n" * 65, "ns"),
        ("&".join(f"topic=t{i}" for i in range(65)), "topic"),
    ],
)
def test_bad_parameter_is_400_and_named(relay, query, names):
    detail = assert_problem(relay.get("/events?" + query), 400)
    assert names in detail, detail


def test_64_topics_are_fine(relay, sse_connect, doors):
    client = sse_connect(relay, *[f"t{i}" for i in range(64)])
    doors.fcall("t63", "last")
    assert client.wait_for(1).data == ["last"]


def test_max_topics_is_configurable(relay_factory, redis):
    relay = relay_factory(max_topics=2)
    assert_problem(relay.get("/events?topic=a&topic=b&topic=c"), 400)


def test_unknown_parameters_are_ignored(relay, sse_connect):
    sse_connect(relay, "a", params={"_": "1", "cachebuster": "x y"})


@pytest.mark.parametrize("pattern", PATTERNS["invalid_patterns"])
def test_invalid_pattern_is_refused(relay, pattern):
    detail = assert_problem(relay.get("/events?" + build_query([pattern], {})), 400)
    assert "topic" in detail


# --- full ---


def test_more_clients_than_allowed_are_told_to_come_again(relay_factory, redis, sse_connect, doors):
    """Like a draining node, with a longer time; no blank line, so that the client keeps its cursor."""
    relay = relay_factory(max_clients=3, workers=1, retry="1s")
    cursor = doors.fcall("a", "x")
    open_streams = [sse_connect(relay, "a") for _ in range(3)]
    late = sse_connect(relay, "a", last_event_id=cursor, wait=False).wait_closed()
    assert late.status == 200 and late.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert re.fullmatch(rb":ok\nretry: \d+\n", late.raw) and 4000 <= late.retry <= 6000
    assert late.clean and not late.blocks
    assert relay.metric("sse_relay_full_answers_total", status="200") == 1
    assert relay.log_text.count("full: new streams are told") == 1
    open_streams[0].close()
    relay.wait_clients(2)
    doors.fcall("a", "y")
    again = sse_connect(relay, "a", last_event_id=cursor)
    assert again.wait_for(1).data == ["y"] and not again.gaps


def test_beyond_a_bound_a_full_node_answers_503(relay_factory, redis, sse_connect):
    relay = relay_factory({"max_clients": 1, "full.rate": 10}, workers=1)
    sse_connect(relay, "a")
    answers = [sse_connect(relay, "a", wait=False) for _ in range(30)]
    statuses = [answer.wait_head().status for answer in answers]
    assert set(statuses) == {200, 503}
    refused = answers[statuses.index(503)]
    assert int(refused.headers["retry-after"]) > 0
    told = relay.metric("sse_relay_full_answers_total", status="200")
    assert told == statuses.count(200)
    assert relay.metric("sse_relay_full_answers_total", status="503") == 30 - told
    wait_until(lambda: sse_connect(relay, "a", wait=False).wait_head().status == 200, "a new second")


def test_a_bound_of_zero_always_answers_503(relay_factory, redis, sse_connect):
    relay = relay_factory({"max_clients": 1, "full.rate": 0})
    sse_connect(relay, "a")
    assert relay.get("/events?topic=a").status_code == 503
    assert relay.request("HEAD", "/events?topic=a").status_code == 200


def test_ready_says_full_until_there_is_room_again(relay_factory, redis, sse_connect):
    """Not at the least change: a twentieth must be free."""
    relay = relay_factory({"max_clients": 40, "full.percent": 50})
    streams = []

    def fill(ready):
        while (relay.ready()[0] == 200) == ready:
            streams.append(sse_connect(relay, "a"))
        return len(streams)

    full = fill(True)
    assert 20 <= full <= 30, "from half of them on, or a little later"
    assert relay.ready() == (503, {**relay.ready()[1], "status": "full", "clients": full})
    assert relay.get("/health").status_code == 200
    assert sse_connect(relay, "a").status == 200, "who comes all the same is served"
    for left in range(full, full - 2, -1):
        streams.pop().close()
        relay.wait_clients(left)
        assert relay.ready()[0] == 503
    streams.pop().close()
    relay.wait_clients(full - 2)
    streams.pop().close()
    relay.wait_clients(full - 3)
    assert relay.ready()[0] == 200


def test_ready_may_never_say_full(relay_factory, redis, sse_connect):
    relay = relay_factory({"max_clients": 2, "full.percent": 0})
    for _ in range(2):
        sse_connect(relay, "a")
    assert relay.ready()[0] == 200


# --- frames ---


@pytest.mark.parametrize("vector", FRAMES, ids=vector_name)
def test_frame_is_exact_when_it_came_through_redis(relay, sse_connect, doors, vector):
    client = sse_connect(relay, "t")
    fields = dict(vector["event"])
    wants_id, data = fields.pop("id", None), fields.pop("data")
    if wants_id is None:
        fields["ephemeral"] = "1"
    before = len(client.raw)
    id = doors.fcall("t", data, **fields)
    client.wait_for(1)
    wire = vector["wire"].replace(f"id: {wants_id}\n", f"id: {id}\n", 1) if id else vector["wire"]
    assert client.raw[before:] == wire.encode()
    if id:  # and the same from the log
        again = sse_connect(relay, "t", params={"replay": "all"}).wait_for(1)
        assert again.raw.endswith(b"\n\n" + wire.encode())


@pytest.mark.parametrize("vector", FRAMES, ids=vector_name)
def test_frame_is_exact_when_it_was_posted(relay, sse_connect, vector):
    fields = dict(vector["event"])
    wants_id = fields.pop("id", None)
    if wants_id is None:
        fields["ephemeral"] = True
    client = sse_connect(relay, "t")
    before = len(client.raw)
    if "\n" in fields.get("event", ""):
        assert "event" in assert_problem(relay.post("/publish", json={"topic": "t", **fields}), 400)
        return
    id = relay.publish("t", **fields)
    client.wait_for(1)
    wire = vector["wire"].replace(f"id: {wants_id}\n", f"id: {id}\n", 1) if id else vector["wire"]
    assert client.raw[before:] == wire.encode()


def test_megabyte_of_data_arrives_whole(relay, sse_connect, doors):
    data = "".join(f"{i:07d}\n" for i in range(128 * 1024))[: 1024 * 1024 - 1]
    client = sse_connect(relay, "t")
    doors.fcall("t", data)
    assert client.wait_for(1).data == [data]


def test_bytes_that_are_not_utf8_cannot_break_the_stream(relay, sse_connect, doors):
    client = sse_connect(relay, "t")
    doors.fcall("t", b"a\xff\xc3\nb", event=b"x\xe2\x82")
    doors.fcall("t", "after")
    client.wait_for(2)
    client.raw.decode("utf-8")  # strict
    assert client.data[0] == "a\ufffd\ufffd\nb"
    assert client.data[1] == "after"


# --- topics and patterns ---


def test_patterns_select_live_what_the_vectors_say(relay, sse_connect, doors):
    patterns = sorted({v["pattern"] for v in PATTERNS["match"]})
    topics = sorted({v["topic"] for v in PATTERNS["match"]})
    streams = {p: sse_connect(relay, p) for p in patterns}
    for topic in topics:
        doors.fcall(topic, topic)
        doors.raw(topic, "raw " + topic)
    doors.fcall(["end", *[p for p in patterns if "*" not in p and ">" not in p]], "end")
    doors.fcall(sorted({t.replace("*", "z").replace(">", "z") for t in patterns}), "end")
    for pattern, client in streams.items():
        client.wait_for(lambda c: "end" in c.data)
    for v in PATTERNS["match"]:
        got = streams[v["pattern"]].data
        assert got.count(v["topic"]) == got.count("raw " + v["topic"]) == int(v["match"]), v


def test_patterns_select_in_replay_what_the_vectors_say(relay, sse_connect, doors):
    topics = sorted({v["topic"] for v in PATTERNS["match"]})
    for topic in topics:
        doors.fcall(topic, topic)
    for pattern in sorted({v["pattern"] for v in PATTERNS["match"]}):
        want = {v["topic"]: v["match"] for v in PATTERNS["match"] if v["pattern"] == pattern}
        client = sse_connect(relay, pattern, params={"replay": "all"})
        client.wait_for(sum(want.values()))
        live = "live " + pattern
        doors.fcall(pattern.replace("*", "z").replace(">", "z"), live)
        client.wait_for(lambda c: live in c.data)
        for topic, matches in want.items():
            assert client.data.count(topic) == int(matches), (pattern, topic)
        client.close()


@pytest.mark.parametrize("topic", PATTERNS["invalid_topics"])
def test_invalid_topic_is_not_published_to(relay, topic):
    assert "topic" in assert_problem(relay.post("/publish", json={"topic": topic, "data": ""}), 400)


def test_event_of_several_topics_comes_once(relay, sse_connect, doors):
    client = sse_connect(relay, "a", "b", "*", ">")
    other = sse_connect(relay, "b")
    id = doors.fcall(["a", "b", "c.d"], "x")
    doors.fcall(["a", "b"], "y")
    assert client.wait_for(2).data == ["x", "y"]
    assert client.ids[0] == id
    assert other.wait_for(2).data == ["x", "y"]


def test_raw_message_of_several_matches_comes_once_per_publish(relay, sse_connect, doors):
    client = sse_connect(relay, "a.b", "a.*", "a.>")
    for _ in range(2):
        doors.raw("a.b", "same bytes")
    doors.fcall("a.b", "end")
    assert client.wait_for(lambda c: "end" in c.data).data == ["same bytes", "same bytes", "end"]
    assert client.events[0].id is None


def test_topics_in_several_streams_of_one_worker_stay_apart(relay_factory, redis, sse_connect, doors):
    relay = relay_factory(workers=1)
    a, b, both = (sse_connect(relay, *t) for t in (["a"], ["b"], ["a", "b"]))
    doors.fcall("a", "1")
    doors.fcall("b", "2")
    assert both.wait_for(2).data == ["1", "2"]
    assert (a.wait_for(1).data, b.wait_for(1).data) == (["1"], ["2"])


def test_namespaces_do_not_mix(relay, sse_connect, doors):
    one, two = sse_connect(relay, ">", params={"ns": "one"}), sse_connect(relay, ">")
    doors.fcall("a", "in one", ns="one")
    doors.fcall("a", "in default")
    assert relay.post("/publish?ns=one", json={"topic": "a", "data": "posted"}).status_code == 200
    assert one.wait_for(2).data == ["in one", "posted"]
    doors.fcall("a", "end")
    assert two.wait_for(2).data == ["in default", "end"]
    assert one.data == ["in one", "posted"]


def test_prefix_separates_relays_on_one_redis(relay_factory, redis, sse_connect, doors):
    from conftest import Doors

    other = relay_factory(prefix="other-app")
    mine = relay_factory()
    far, near = sse_connect(other, "a"), sse_connect(mine, "a")
    doors.fcall("a", "sse")
    Doors(redis.client(), "other-app").fcall("a", "other")
    assert far.wait_for(1).data == ["other"]
    assert near.wait_for(1).data == ["sse"]


def test_event_filter_live_and_in_replay(relay, sse_connect, doors):
    doors.fcall("t", "1", event="x")
    doors.fcall("t", "2", event="y")
    doors.fcall("t", "3")
    client = sse_connect(relay, "t", params={"event": ["x", "z"], "replay": "all"})
    doors.fcall("t", "4", event="z")
    doors.fcall("t", "5", event="X")
    doors.fcall("t", "6")
    doors.fcall("t", "7", event="x")
    assert client.wait_for(3).data == ["1", "4", "7"]


def test_event_filter_message_means_events_without_a_type_or_nothing(relay, sse_connect, doors):
    """A type that nobody publishes: the stream stays silent, and alive."""
    client = sse_connect(relay, "t", "ctl", params={"event": "nobody"})
    doors.fcall("t", "1", event="somebody")
    doors.fcall("t", "2", event="nobody")
    assert client.wait_for(1).data == ["2"]


def test_ephemeral_event_has_no_id_and_no_replay(relay, sse_connect, doors):
    client = sse_connect(relay, "t")
    cursor = client.last_event_id
    assert relay.publish("t", "gone", ephemeral=True) is None
    id = doors.fcall("t", "kept")
    assert client.wait_for(2).data == ["gone", "kept"]
    assert client.ids == [None, id]
    assert client.events[0].last_event_id == cursor
    again = sse_connect(relay, "t", params={"replay": "all"}).wait_for(1)
    doors.fcall("t", "end")
    assert again.wait_for(2).data == ["kept", "end"]


def test_type_from_topic(relay_factory, redis, sse_connect, doors):
    relay = relay_factory({"events.type_from_topic": "on"})
    client = sse_connect(relay, "a.b")
    doors.fcall("a.b", "1")
    doors.fcall("a.b", "2", event="own")
    doors.raw("a.b", "3")
    client.wait_for(3)
    assert [e.type for e in client.events] == ["a.b", "own", "a.b"]


# --- control events ---


def wait_live(relay, streams=1):
    wait_until(lambda: relay.metric("sse_relay_clients", state="live") == streams, "live streams")


@pytest.mark.parametrize("off", ["off", "false", "no"])
def test_control_events_off_sends_events_only(relay_factory, redis, sse_connect, doors, off):
    """No block with nothing but an id: many clients take one for an event."""
    relay = relay_factory(control_events=off, heartbeat="1s")
    client = sse_connect(relay, "a", wait=False)
    wait_live(relay)
    client.wait_for(lambda c: c.raw.endswith(b":\n:\n"))
    assert re.fullmatch(rb":ok\nretry: \d+\n(:\n)+", client.raw), client.raw
    id = doors.fcall("a", "x")
    doors.fcall("a", "e", ephemeral=1)
    client.wait_for(2)
    assert [b.fields for b in client.blocks] == [
        [("retry", str(client.retry)), ("id", str(id)), ("data", "x")],
        [("data", "e")],
    ]
    client.close()
    doors.fcall("a", "missed")
    again = sse_connect(relay, "a", last_event_id=client.last_event_id)
    assert again.wait_for(1).data == ["missed"]
    assert b"relay." not in again.raw


def test_control_events_off_keeps_the_cursor_over_what_has_no_id(relay_factory, redis, sse_connect, doors):
    """The first block of a connection without an id would make an EventSource forget the one it came with."""
    relay = relay_factory({"heartbeat": "1s", "heartbeat.event": "beat"}, control_events="off")
    cursor = doors.fcall("a", "x")
    silent = sse_connect(relay, "b", last_event_id=cursor, wait=False)
    client = sse_connect(relay, "a", last_event_id=cursor, wait=False)
    wait_live(relay, 2)
    doors.fcall("a", "e", ephemeral=1)
    client.wait_for(1)
    assert client.blocks[0].id == client.last_event_id == str(cursor)
    silent.wait_for(lambda c: len(c.blocks) >= 2)
    assert [b.type for b in silent.blocks[:2]] == ["beat", "beat"]
    assert silent.blocks[0].id == str(cursor) and silent.blocks[1].id is None


@pytest.mark.parametrize("given, stays", [("never-ours", None), ("7", "7")])
def test_control_events_off_tells_no_gap(relay_factory, redis, sse_connect, doors, given, stays):
    """A cursor that is not ours, or too old, is forgotten with the next event, and not before."""
    relay = relay_factory(control_events="off", heartbeat="1s")
    doors.fcall("a", "before")
    client = sse_connect(relay, "a", last_event_id=given, wait=False)
    wait_live(relay)
    client.wait_for(lambda c: c.raw.endswith(b":\n:\n"))
    first = client.data
    id = doors.fcall("a", "x")
    client.wait_for(lambda c: c.ids and c.ids[-1] == id)
    assert not client.controls and all(b.dispatched for b in client.blocks)
    assert first == ([] if stays is None else ["before"])


def test_control_events_id_tells_the_position_with_a_heartbeat(relay_factory, redis, sse_connect, doors):
    relay = relay_factory(control_events="id", heartbeat="1s")
    position = doors.fcall("b", "x")
    client = sse_connect(relay, "a", wait=False)
    wait_live(relay)
    client.wait_for(lambda c: c.raw.endswith(b":\n:\n"))
    assert re.fullmatch(rb":ok\nretry: \d+\nid: %d\n\n(:\n)+" % position, client.raw), client.raw
    client.close()
    doors.fcall("a", "missed")
    again = sse_connect(relay, "a", last_event_id=client.last_event_id)
    assert again.wait_for(1).data == ["missed"]
    assert b"relay." not in again.raw


def test_control_events_id_sends_no_position_that_an_event_brings(relay_factory, redis, sse_connect, doors):
    relay = relay_factory(control_events="id", heartbeat="1h")
    client = sse_connect(relay, "a", wait=False)
    wait_live(relay)
    doors.many("a", ["1", "2"])
    client.wait_for(2)
    assert len(client.blocks) == 2


def test_control_events_id_tells_the_end_of_a_gap(relay_factory, redis, sse_connect, doors):
    relay = relay_factory(control_events="id", heartbeat="1s")
    position = doors.fcall("a", "x")
    client = sse_connect(relay, "a", last_event_id="never-ours")
    assert not client.controls and not client.events
    assert client.last_event_id == str(position)


def test_control_events_id_tells_what_the_type_filter_left_out(relay_factory, redis, sse_connect, doors):
    relays = {word: relay_factory(control_events=word, heartbeat="1s") for word in ("id", "off")}
    clients = {w: sse_connect(r, "a", params={"event": "t"}, wait=False) for w, r in relays.items()}
    for relay in relays.values():
        wait_live(relay)
    last = doors.many("a", ["1", "2"])[-1]
    clients["id"].wait_for(lambda c: c.last_event_id == str(last))
    clients["off"].wait_for(lambda c: c.raw.endswith(b":\n:\n"))
    assert not clients["off"].blocks and not clients["id"].events


def test_control_prefix(relay_factory, redis, sse_connect):
    relay = relay_factory(control_prefix="sys:")
    client = sse_connect(relay, "a", last_event_id="x", control_prefix="sys:")
    client.wait_for(lambda c: c.gaps)
    assert [b.type for b in client.controls] == ["sys:connected", "sys:gap"]
    assert b"relay." not in client.raw


# --- heartbeat and lifetime ---


def test_heartbeat_is_one_comment_line(relay_factory, redis, sse_connect):
    relay = relay_factory(heartbeat="1s")
    client = sse_connect(relay, "a")
    start = len(client.raw)
    client.wait_for(lambda c: len(c.raw) >= start + 4)
    assert client.raw[start : start + 4] == b":\n:\n"


def test_heartbeat_of_a_streams_own(relay_factory, redis, sse_connect):
    """A client with a read time-out below the configured heartbeat asks for a shorter one, and has that alone."""
    relay = relay_factory(heartbeat="1h")
    client = sse_connect(relay, "a", params={"heartbeat": "1s"})
    silent = sse_connect(relay, "a")
    start, quiet = len(client.raw), len(silent.raw)
    client.wait_for(lambda c: len(c.raw) >= start + 4)
    assert client.raw[start : start + 4] == b":\n:\n" and len(silent.raw) == quiet


@pytest.mark.parametrize("given", ["999ms", "16s", "0", "4", "x", ""])
def test_heartbeat_that_may_not_be_asked_for(relay, given):
    detail = assert_problem(relay.get("/events", params={"topic": "a", "heartbeat": given}), 400)
    assert detail.startswith("heartbeat: ")


def test_heartbeat_leaves_frames_whole(relay_factory, redis, sse_connect, doors):
    relay = relay_factory(heartbeat="1s")
    client = sse_connect(relay, "a")
    start = len(client.raw)
    client.wait_for(lambda c: len(c.raw) > start)
    id = doors.fcall("a", "x")
    client.wait_for(1)
    assert client.raw[start:].replace(b":\n", b"") == f"id: {id}\ndata: x\n\n".encode()


def test_heartbeat_as_event(relay_factory, redis, sse_connect):
    relay = relay_factory({"heartbeat": "1s", "heartbeat.event": "heartbeat"})
    client = sse_connect(relay, "a")
    start, cursor = len(client.raw), client.last_event_id
    client.wait_for(1)
    assert client.raw[start:].startswith(b"event: heartbeat\ndata: {}\n\n")
    assert client.last_event_id == cursor


@pytest.mark.slow
def test_lifetime_ends_cleanly_between_events(relay_factory, redis, swarm, doors, publishing):
    relay = relay_factory(max_lifetime="1s", retry="100ms")
    s = swarm([relay], 20, "t", resume=True).wait_connected()
    publisher = publishing(lambda n: doors.fcall("t", n), pause=0.002)
    s.wait(lambda c: len(c.starts) >= 4)
    total = publisher.stop()
    want = [str(n) for n in range(1, total + 1)]
    s.wait(lambda c: len(c.data) >= total)
    assert all(c.data == want and not c.gaps for c in s.clients)
    assert relay.metric("sse_relay_streams_closed_total", reason="lifetime") >= 60


def test_stream_ends_with_a_whole_frame_at_its_lifetime(relay_factory, redis, sse_connect, doors, publishing):
    relay = relay_factory(max_lifetime="1s")
    client = sse_connect(relay, "t")
    publishing(lambda n: doors.fcall("t", n * 50), pause=0.001)
    client.wait_closed()
    assert client.clean and client.rest == "" and client.raw.endswith(b"\n\n")
