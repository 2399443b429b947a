# SPDX-License-Identifier: Apache-2.0
"""snapshot=1 (protocol.md, 7.6): a stream begins with the latest event of each topic, then it is live."""

import pytest

from raw_http import assert_problem
from relay_process import wait_until

FORMS = pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
SNAPSHOT = {"snapshot": 1}


@pytest.fixture(params=["redis", "memory"])
def begin(request, relay_factory):
    """begin({"queue.max_events": 8}): a relay with that store."""

    def start(config=None, **more):
        store = {"redis": "memory:"} if request.param == "memory" else {}
        return relay_factory({"compress": ">", **store, **(config or {})}, **more)

    return start


@pytest.fixture
def relay(begin):
    return begin()


def publish(relay, topic, *datas, **fields):
    """The ids; in one request, so that many cost little."""
    events = [{"topic": topic, "data": d, **fields} for d in datas]
    return [int(a["id"]) for a in relay.post("/publish", json=events).json()]


def each(relay, topics, data):
    events = [{"topic": t, "data": f"{t} {data}"} for t in topics]
    return [int(a["id"]) for a in relay.post("/publish", json=events).json()]


def connected_id(client):
    return int(client.control("connected")[0]["id"])


@FORMS
@pytest.mark.parametrize("asked", [["a", "b", "c"], [">"], ["a", "*"]], ids=["names", "pattern", "both"])
def test_the_latest_of_each_topic_in_order_then_live(relay, sse_connect, gzip, asked):
    publish(relay, "a", *map(str, range(50)))
    b = publish(relay, "b", "b1", "b2")
    a = publish(relay, "a", "the last of a")
    stream = sse_connect(relay, *asked, params=SNAPSHOT, gzip=gzip)
    assert stream.wait_for(2).data == ["b2", "the last of a"]
    live = publish(relay, "c", "c1", "c2") + publish(relay, "b", "b3")
    assert stream.wait_for(5).data == ["b2", "the last of a", "c1", "c2", "b3"]
    assert stream.ids == [b[1], a[0], *live] and not stream.gaps
    assert connected_id(stream) < b[1]


def test_of_nothing_there_is_none(relay, sse_connect):
    stream = sse_connect(relay, "never", "x.>", params=SNAPSHOT)
    ids = publish(relay, "never", "now")
    assert stream.wait_for(1).ids == ids and not stream.gaps


def test_an_event_on_several_topics_comes_once(relay, sse_connect):
    both = relay.publish(["a", "b"], "both")
    other = publish(relay, "c", "c")
    stream = sse_connect(relay, "a", "b", "c", params=SNAPSHOT)
    live = publish(relay, "a", "more")
    assert stream.wait_for(3).ids == [both, *other, *live]


def test_without_it_and_with_it_off_there_is_none(relay, sse_connect):
    publish(relay, "a", "old")
    for value in ("0", "false"):
        stream = sse_connect(relay, "a", params={"snapshot": value})
        ids = publish(relay, "a", "new")
        assert stream.wait_for(1).ids == ids


def test_the_latest_is_the_latest_of_the_types_that_are_asked_for(relay, sse_connect):
    wanted = publish(relay, "a", "1", "2", event="state")
    publish(relay, "a", *["noise"] * 31, event="noise")
    publish(relay, "b", "b", event="state")
    publish(relay, "b", *["noise"] * 32, event="noise")
    stream = sse_connect(relay, "a", "b", params={**SNAPSHOT, "event": "state"})
    live = publish(relay, "b", "live", event="state")
    assert stream.wait_for(2).ids == [wanted[1], *live] and not stream.gaps
    assert sse_connect(relay, "b", params=SNAPSHOT).wait_for(1).ids == live


def test_what_has_expired_is_not_the_latest(relay, sse_connect):
    kept = publish(relay, "a", "kept")
    over = publish(relay, "a", "over", ttl=1)[0]
    wait_until(lambda: publish(relay, "clock", "tick")[0] > over + 100_000, "its ttl to pass")
    stream = sse_connect(relay, "a", params=SNAPSHOT)
    live = publish(relay, "a", "live")
    assert stream.wait_for(2).ids == kept + live and not stream.gaps


def test_a_cursor_wins(relay, sse_connect):
    ids = publish(relay, "a", "1", "2", "3", "4")
    stream = sse_connect(relay, "a", params=SNAPSHOT, last_event_id=ids[0])
    assert stream.wait_for(3).ids == ids[1:]
    stream = sse_connect(relay, "a", params={**SNAPSHOT, "lastEventId": ids[1]})
    assert stream.wait_for(2).ids == ids[2:]
    assert sse_connect(relay, "a", params=SNAPSHOT, last_event_id="nobody's").wait_for(lambda c: c.gaps)


@pytest.mark.parametrize(
    "query",
    ["snapshot=1&replay=5", "snapshot=1&replay=all", "snapshot=1&since=0", "snapshot=true&replay=whole", "snapshot=yes", "snapshot=",
     "snapshot=1&snapshot=1"],
)  # fmt: skip
def test_what_is_refused(relay, query):
    for method in ("GET", "HEAD"):
        assert relay.request(method, f"/events?topic=a&{query}").status_code == 400
    assert assert_problem(relay.get(f"/events?topic=a&{query}"), 400).startswith("snapshot")


def test_of_too_many_topics_there_is_none(begin, sse_connect):
    relay = begin({"snapshot.max": 3})
    names = [f"t.{n}" for n in range(4)]
    ids = each(relay, names, "old")
    query = "&".join(f"topic={n}" for n in names)
    assert "snapshot.max" in assert_problem(relay.get(f"/events?{query}&snapshot=1"), 400)
    assert sse_connect(relay, *names[1:], params=SNAPSHOT).wait_for(3).ids == ids[1:]
    stream = sse_connect(relay, "t.*", params=SNAPSHOT, wait=False)
    gap = stream.wait_for(lambda c: c.gaps).gaps[0]
    live = publish(relay, "t.9", "live")
    assert stream.wait_for(1).ids == live and len(stream.gaps) == 1
    assert gap["reason"] == "overflow" and ids[-1] <= int(gap["to"]) < live[0] and gap["id"] == gap["to"]
    assert stream.control("connected")[0]["id"] is None


@FORMS
def test_one_longer_than_the_queue_comes_at_the_clients_pace(begin, sse_connect, gzip):
    relay = begin({"queue.max_events": 8, "queue.max_bytes": "64KB", "socket.unsent": "4KB"})
    names = [f"t.{n}" for n in range(300)]
    pad = "x" * 2000
    first = dict(zip(names, each(relay, names, pad)))
    stream = sse_connect(relay, "t.*", params=SNAPSHOT, gzip=gzip, receive_buffer=4096, reading=False, wait=False)
    wait_until(lambda: relay.metric("sse_relay_clients", state="replay") == 1, "it to wait for its reader")
    moved = dict(zip(names[200:210], each(relay, names[200:210], "moved")))
    live = publish(relay, "t.new", "live")[0]
    stream.start_reading()
    stream.wait_for(lambda c: live in c.ids)
    latest = {**first, **moved}
    assert set(latest.values()) <= set(stream.ids)  # of each topic its newest
    assert set(stream.ids) <= {*first.values(), *moved.values(), live}
    assert stream.all_ids == sorted(stream.all_ids) and len(set(stream.ids)) == len(stream.ids) and not stream.gaps


def test_who_is_cut_off_in_it_resumes_with_all_that_came_after(begin, sse_connect):
    relay = begin({"queue.max_events": 8})
    names = [f"t.{n}" for n in range(40)]
    each(relay, names, "old")
    latest = each(relay, names, "latest")
    stream = sse_connect(relay, "t.*", params=SNAPSHOT)
    stream.wait_for(40)
    assert stream.ids == latest
    again = sse_connect(relay, "t.*", params=SNAPSHOT, last_event_id=latest[9])
    assert again.wait_for(30).ids == latest[10:] and not again.gaps
    start = sse_connect(relay, "t.*", params=SNAPSHOT, last_event_id=connected_id(stream))
    assert start.wait_for(40).ids == latest and not start.gaps


def test_without_control_events_it_is_the_same(relay, sse_connect):
    publish(relay, "a", "old")
    last = publish(relay, "a", "latest")
    stream = sse_connect(relay, "a", params={**SNAPSHOT, "control": "off"})
    live = publish(relay, "a", "live")
    assert stream.wait_for(2).ids == last + live and not stream.controls


def test_a_topic_whose_log_is_gone_adds_nothing(redis, relay_factory, doors, sse_connect):
    relay = relay_factory()
    doors.fcall("a", "gone")
    b = doors.fcall("b", "b")
    redis.client().delete(doors.key("default", "log", "a"))
    stream = sse_connect(relay, "a", "b", params=SNAPSHOT)
    live = doors.fcall("a", "live")
    assert stream.wait_for(2).ids == [b, live] and not stream.gaps


def test_an_ended_topic_has_a_latest_event_too(redis, relay_factory, doors, sse_connect):
    relay = relay_factory()
    doors.many("a", ["1", "2"])
    last = doors.fcall("a", "the end", end=1)
    for names in (["a"], [">"]):
        stream = sse_connect(relay, *names, params=SNAPSHOT)
        assert stream.wait_for(1).ids == [last]
        end = stream.wait_for(lambda c: c.control("end")).control("end")
        assert [(e["topic"], e["reason"]) for e in end] == [("a", "end")]
        assert stream.wait_closed().clean if names == ["a"] else not stream.closed


def test_what_is_published_meanwhile_is_in_it_or_follows_it(relay_factory, redis, doors, publishing, sse_connect):
    """Visitors on two nodes, while all topics move: of each topic, from what a visitor has first, nothing is missing."""
    nodes = [relay_factory() for _ in range(2)]
    names = [f"t.{n}" for n in range(5)]
    for name in names:
        doors.fcall(name, "0")
    publisher = publishing(lambda n: doors.fcall(names[int(n) % 5], n))
    streams = []
    for visitor in range(16):
        streams.append(sse_connect(nodes[visitor % 2], "t.*", params=SNAPSHOT))
        publisher.wait_for(publisher.count + 50)
    last = publisher.stop()
    for stream in streams:
        stream.wait_for(lambda c: str(last) in c.data)
        seen = [int(d) for d in stream.data if d != "0"]
        assert stream.all_ids == sorted(stream.all_ids) and not stream.gaps
        last_of_snapshot = {n % 5: n for n in seen[:5]}
        begun = max(last_of_snapshot.values())
        assert [n for n in seen if n > begun] == list(range(begun + 1, last + 1))
