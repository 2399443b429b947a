# SPDX-License-Identifier: Apache-2.0
"""Last-Event-ID, replay=, since=: what was missed, in order, once, without a hole."""

import random
import socket
import threading
import time
from datetime import datetime, timedelta, timezone

import pytest

from accounting import account
from sse_client import TIMEOUT_S

# --- Last-Event-ID ---


@pytest.mark.parametrize("how", ["header", "lastEventId", "lastEventID", "last_event_id"])
def test_resume_with_the_last_id(relay, sse_connect, doors, how):
    ids = doors.many("t", ["1", "2", "3", "4"])
    if how == "header":
        client = sse_connect(relay, "t", last_event_id=ids[1])
    else:
        client = sse_connect(relay, "t", params={how: ids[1]})
    client.wait_for(2)
    doors.fcall("t", "5")
    assert client.wait_for(3).data == ["3", "4", "5"]
    assert client.control("connected")[0]["id"] == str(ids[1])
    assert not client.gaps


@pytest.mark.parametrize("names", [["t"], ["t", "u"], [">"]], ids=["one", "two", "pattern"])
def test_a_cursor_of_zero_asks_for_all_and_misses_nothing(relay, sse_connect, doors, names):
    """No event has it, and yet connected carries the cursor that was given: the block before the first id ends no earlier."""
    ids = [doors.fcall("t", "1"), doors.fcall("t", "2"), doors.fcall("u", "3")]
    client = sse_connect(relay, *names, last_event_id="0")
    wanted = ids[:2] if names == ["t"] else ids
    assert client.wait_for(len(wanted)).ids == wanted
    assert client.control("connected")[0]["id"] == "0"
    assert not client.gaps


def test_a_cursor_of_zero_tells_of_no_loss_before_the_log(redis, relay_factory, sse_connect, doors):
    """As replay=all: what was trimmed, or expired, before its first entry was nobody's. But what is missing between is."""
    relay = relay_factory({"log.max_events": 1})
    first = doors.many("t", range(300))
    doors.fcall("expired", "x")
    doors.redis.delete(doors.key("default", "log", "expired"))
    held = [int(entry.split("-")[0]) for entry, _ in doors.redis.xrange(doors.key("default", "log", "t"))]
    assert len(held) < 300 and held[-1] == first[-1]
    for names in (["t", "expired", "never"], [">"]):
        client = sse_connect(relay, *names, last_event_id="0")
        assert client.wait_for(len(held)).ids == held and not client.gaps

    def told(client):
        return [(int(g["from"]), int(g["to"]), g["reason"]) for g in client.gaps]

    was_there = sse_connect(relay, "t", last_event_id=first[0]).wait_for(len(held))
    assert told(was_there) == [(first[0], first[first.index(held[0]) - 1], "trimmed")]
    doors.redis.xdel(doors.key("default", "log", "t"), f"{held[2]}-0")
    client = sse_connect(relay, "t", last_event_id="0")
    assert told(client.wait_for(len(held) - 1)) == [(held[1], held[2], "trimmed")]


def test_a_cursor_of_zero_is_left_once_the_stream_is_there(redis, relay_factory, sse_connect, doors):
    """Else what is trimmed while it is away would be missed without a word."""
    relay = relay_factory({"log.max_events": 1})
    position = sse_connect(relay, "t").last_event_id
    client = sse_connect(relay, "t", last_event_id="0")
    assert client.control("connected")[0]["id"] == position
    client.close()
    doors.many("t", range(300))
    again = sse_connect(relay, "t", last_event_id=client.last_event_id)
    again.wait_for(lambda c: "299" in c.data)
    assert again.gaps[0]["from"] == position and again.gaps[0]["reason"] == "trimmed"


def test_header_beats_the_query(relay, sse_connect, doors):
    ids = doors.many("t", ["1", "2", "3"])
    client = sse_connect(relay, "t", last_event_id=ids[1], params={"lastEventId": ids[0]})
    doors.fcall("t", "4")
    assert client.wait_for(2).data == ["3", "4"]


def test_cursor_beats_replay(relay, sse_connect, doors):
    ids = doors.many("t", ["1", "2", "3"])
    client = sse_connect(relay, "t", last_event_id=ids[1], params={"replay": "all"})
    doors.fcall("t", "4")
    assert client.wait_for(2).data == ["3", "4"]


def test_resume_on_another_node(redis, relay_factory, sse_connect, doors):
    one, two = relay_factory(), relay_factory()
    first = sse_connect(one, "t")
    doors.many("t", ["1", "2"])
    first.wait_for(2)
    first.close()
    doors.many("t", ["3", "4"])
    again = sse_connect(two, "t", last_event_id=first.last_event_id)
    doors.fcall("t", "5")
    assert again.wait_for(3).data == ["3", "4", "5"]


def test_nothing_missed_means_nothing_sent(relay, sse_connect, doors):
    ids = doors.many("t", ["1", "2"])
    client = sse_connect(relay, "t", last_event_id=ids[-1])
    doors.fcall("t", "3")
    assert client.wait_for(1).data == ["3"]
    assert not client.gaps


def test_replayed_frames_equal_live_ones(relay, sse_connect, doors):
    live = sse_connect(relay, "t")
    cut = len(live.raw)
    doors.fcall("t", "a\nb", event="x", retry="1234")
    doors.fcall("t", "", event="y")
    live.wait_for(2)
    again = sse_connect(relay, "t", last_event_id=live.control("connected")[0]["id"]).wait_for(2)
    assert again.raw.endswith(b"\n\n" + live.raw[cut:])


def test_several_topics_are_merged_by_id(relay, sse_connect, doors):
    start = sse_connect(relay, "a").last_event_id
    random.seed(7)
    ids = [doors.fcall(random.choice("abcd"), i) for i in range(400)]
    client = sse_connect(relay, "a", "b", "c", "d", last_event_id=start).wait_for(400)
    assert client.ids == ids


def test_replay_of_several_topics_brings_a_shared_event_once(relay, sse_connect, doors):
    start = sse_connect(relay, "a").last_event_id
    doors.fcall("a", "1")
    doors.fcall(["a", "b"], "2")
    doors.fcall(["b", "c", "a"], "3")
    client = sse_connect(relay, "a", "b", "*", last_event_id=start)
    doors.fcall("c", "4")
    assert client.wait_for(4).data == ["1", "2", "3", "4"]


def test_patterns_replay_topics_that_nobody_listened_to(relay, sse_connect, doors):
    start = sse_connect(relay, "x").last_event_id
    for i in range(30):
        doors.fcall(f"orders.{i % 7}.made", i)
    doors.fcall("orders.made", "no")
    client = sse_connect(relay, "orders.*.made", last_event_id=start)
    doors.fcall("orders.new.made", "live")
    assert client.wait_for(31).data == [*map(str, range(30)), "live"]


def test_long_replay_in_pages_meets_the_live_tail(relay, sse_connect, doors, publishing):
    relay.post("/publish", json={"topic": "warm", "data": ""})
    start = sse_connect(relay, "t").last_event_id
    publisher = publishing(lambda n: doors.fcall("t", n), total=950)
    publisher.wait_for(700)
    client = sse_connect(relay, "t", last_event_id=start)
    publisher.finish()
    assert client.wait_for(950).data == [str(n) for n in range(1, 951)]


# --- the position in relay.connected ---


def test_cut_before_the_first_event_loses_nothing(relay, sse_connect, doors):
    client = sse_connect(relay, "t")
    client.close()
    doors.many("t", ["1", "2"])
    again = sse_connect(relay, "t", last_event_id=client.last_event_id)
    assert again.wait_for(2).data == ["1", "2"]
    assert not again.gaps


def test_connected_moves_the_cursor_past_other_topics(relay, sse_connect, doors):
    """The position is the namespace's, so that an old cursor of a silent topic does not grow old."""
    id = doors.many("other", ["1", "2", "3"])[-1]
    client = sse_connect(relay, "silent")
    assert int(client.last_event_id) >= id


def test_fresh_namespace_tells_no_false_gap(relay, sse_connect, doors):
    for n, topics in enumerate([["t"], ["*"], ["a", ">"]]):
        ns = f"fresh{n}"
        client = sse_connect(relay, *topics, params={"ns": ns})
        client.close()
        ids = doors.many(topics[0].replace("*", "t"), ["1", "2", "3"], ns=ns)
        again = sse_connect(relay, *topics, params={"ns": ns}, last_event_id=client.last_event_id)
        again.wait_for(3)
        account(again, ids, int(client.last_event_id), gaps=0)


def test_topic_that_first_speaks_after_the_cursor_is_no_gap(relay, sse_connect, doors):
    cursor = doors.many("old", ["1", "2"])[-1]
    ids = doors.many("new", ["3", "4"])
    client = sse_connect(relay, "new", last_event_id=cursor).wait_for(2)
    account(client, ids, cursor, gaps=0)
    pattern = sse_connect(relay, "*", last_event_id=cursor).wait_for(2)
    account(pattern, ids, cursor, gaps=0)


def test_replay_position_is_not_ahead_of_what_was_sent(relay, sse_connect, doors):
    """A client cut right after relay.connected of a replay must not lose the replay."""
    ids = doors.many("t", [str(i) for i in range(20)])
    for params in ({"replay": "all"}, {"replay": 5}, {"since": "-10m"}):
        client = sse_connect(relay, "t", params=params).wait_for(5)
        first = client.ids[0]
        connected = client.control("connected")[0]["id"]
        assert connected is None or int(connected) < first
        rest = ids[ids.index(first) :]
        client.wait_for(len(rest))
        assert client.ids == rest and not client.gaps


# --- replay= and since= ---


@pytest.mark.parametrize("n,want", [("0", []), ("1", ["5"]), ("3", ["3", "4", "5"]), ("99", None)])
def test_replay_last_n(relay, sse_connect, doors, n, want):
    datas = ["1", "2", "3", "4", "5"]
    doors.many("t", datas)
    client = sse_connect(relay, "t", params={"replay": n})
    doors.fcall("t", "live")
    want = datas if want is None else want
    assert client.wait_for(lambda c: "live" in c.data).data == [*want, "live"]
    assert not client.gaps


def test_replay_all(relay, sse_connect, doors):
    doors.many("t", ["1", "2", "3"])
    client = sse_connect(relay, "t", params={"replay": "all"})
    doors.fcall("t", "live")
    assert client.wait_for(4).data == ["1", "2", "3", "live"]


def test_replay_last_n_over_several_topics_is_the_last_n_of_all(relay, sse_connect, doors):
    for i in range(12):
        doors.fcall(f"t.{i % 3}", i)
    for topics in (["t.0", "t.1", "t.2"], ["t.*"], ["t.0", "t.>"]):
        client = sse_connect(relay, *topics, params={"replay": 5})
        doors.fcall("t.2", "live", ephemeral=1)
        client.wait_for(lambda c: "live" in c.data)
        assert client.data == ["7", "8", "9", "10", "11", "live"]


def test_replay_of_nothing_is_just_live(relay, sse_connect, doors):
    for params in ({"replay": 10}, {"replay": "all"}, {"since": "-1h"}):
        client = sse_connect(relay, "quiet", params=params)
        doors.fcall("quiet", "live", ephemeral=1)
        assert client.wait_for(1).data == ["live"]
        assert not client.gaps


def wait_next_ms():
    now = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 <= now + 1:
        pass


@pytest.mark.parametrize("form", ["ms", "Z", "offset", "fraction"])
def test_since_a_moment(relay, sse_connect, doors, form):
    doors.many("t", ["1", "2"])
    wait_next_ms()
    ms = time.time_ns() // 1_000_000
    if form in ("Z", "offset"):  # whole seconds only: wait for the next one
        while time.time_ns() // 1_000_000_000 <= ms // 1000:
            time.sleep(0.005)
        ms = time.time_ns() // 1_000_000_000 * 1000
    else:
        wait_next_ms()
    moment = datetime.fromtimestamp(ms / 1000, timezone.utc)
    since = {
        "ms": str(ms),
        "Z": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "offset": moment.astimezone(timezone(timedelta(hours=-5, minutes=-30))).isoformat(),
        "fraction": moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z",
    }[form]
    doors.many("t", ["3", "4"])
    client = sse_connect(relay, "t", params={"since": since})
    doors.fcall("t", "5")
    assert client.wait_for(3).data == ["3", "4", "5"]


@pytest.mark.parametrize("since", ["-10m", "-1h", "-3600s", "-2d", "-500000ms", "0"])
def test_since_long_ago_is_all(relay, sse_connect, doors, since):
    doors.many("t", ["1", "2"])
    client = sse_connect(relay, "t", params={"since": since})
    doors.fcall("t", "3")
    assert client.wait_for(3).data == ["1", "2", "3"]


def test_since_the_future_is_just_live(relay, sse_connect, doors):
    doors.many("t", ["1", "2"])
    ms = time.time_ns() // 1_000_000 + 60_000
    client = sse_connect(relay, "t", params={"since": ms})
    doors.fcall("t", "3")
    assert client.wait_for(1).data == ["3"]
    assert not client.gaps


# --- races ---


@pytest.mark.parametrize("seed", range(4))
def test_publish_between_subscribe_and_replay(redis, relay_factory, sse_connect, doors, publishing, seed):
    """Streams that begin at random ids while a publisher runs: from there on, all there is."""
    relays = [relay_factory({"log.max_events": 100000}) for _ in range(2)]
    client = redis.client()
    rng = random.Random(seed)
    topics = ["a.x", "a.y", "b"]
    doors.fcall("b", "0")

    def publish(n):
        return type(doors)(client).fcall(rng.choice([*topics, ["a.x", "b"]]), n)

    publisher = publishing(publish, pause=0.0005).wait_for(50)
    for _ in range(100):
        start = rng.randrange(max(0, publisher.count - 200), publisher.count)
        asked = rng.choice([["a.x", "a.y", "b"], [">"], ["a.*", "b"], ["*", "*.*"], ["b", ">"]])
        stream = sse_connect(rng.choice(relays), *asked, last_event_id=publisher.ids[start])
        want = publisher.count - start + rng.randrange(20)
        stream.wait_for(want)
        stream.close()
        numbers = [int(d) for d in stream.data]
        assert numbers == list(range(start + 2, start + 2 + len(numbers))), (start, numbers[:20])
        assert not stream.gaps
    publisher.stop()


def test_no_cursor_means_complete_from_connected_on(relay, sse_connect, redis, doors, publishing):
    """A new stream has no hole between its relay.connected and its first events."""
    publisher = publishing(lambda n: doors.fcall("t", n), pause=0.0005).wait_for(10)
    for _ in range(100):
        stream = sse_connect(relay, "t").wait_for(3)
        stream.close()
        position = int(stream.last_event_id if not stream.events else stream.all_ids[0])
        after = next(n for n, id in enumerate(publisher.ids, 1) if id > position)
        assert [int(d) for d in stream.data[:3]] == [after, after + 1, after + 2]
    publisher.stop()


def test_client_dying_inside_a_frame_resumes_whole(relay, sse_connect, doors):
    """Cut after every possible byte of a frame, the resumed stream brings what was not dispatched."""
    live = sse_connect(relay, "t")
    ids = doors.many("t", ["one", "two\nlines", "three"])
    live.wait_for(3)
    body = live.raw
    from sse_parser import Parser

    for cut in range(0, len(body), 7):
        blocks = Parser().feed(body[:cut])
        last = blocks[-1].last_event_id if blocks else None
        seen = [b.data for b in blocks if b.dispatched and not b.type.startswith("relay.")]
        if last is None:
            continue
        again = sse_connect(relay, "t", last_event_id=last).wait_for(3 - len(seen))
        assert seen + again.data == ["one", "two\nlines", "three"]
        assert again.ids == ids[len(seen) :]
        again.close()


def test_reset_by_the_client_disturbs_nobody(relay, sse_connect, doors):
    others = [sse_connect(relay, "t") for _ in range(3)]
    for n in range(20):
        dying = sse_connect(relay, "t")
        doors.fcall("t", f"{n}")
        dying.reset_connection()
        doors.fcall("t", f"{n}+")
    for other in others:
        assert other.wait_for(40).data == [f"{n}{s}" for n in range(20) for s in ("", "+")]
    relay.wait_clients(3)


def test_resumes_from_far_back_do_not_hold_up_others(relay, sse_connect, doors):
    """They share reads of the log, which begin at the lowest of their cursors."""
    ids = doors.many("t.a", [str(n) for n in range(900)])
    far = f"GET /events?topic=t.* HTTP/1.1\r\nHost: relay\r\nLast-Event-ID: {ids[0]}\r\n\r\n".encode()
    stop, begun = threading.Event(), threading.Event()

    def keep_coming():
        streams = []
        while not stop.wait(0.002):
            streams.append(socket.create_connection(("127.0.0.1", relay.port)))
            streams[-1].sendall(far)
            if len(streams) > 30:
                begun.set()
                streams.pop(0).close()
        for stream in streams:
            stream.close()

    others = threading.Thread(target=keep_coming)
    others.start()
    try:
        assert begun.wait(TIMEOUT_S)
        for _ in range(3):
            client = sse_connect(relay, "t.*", last_event_id=ids[-2])
            assert client.wait_for(1).ids == ids[-1:]
    finally:
        stop.set()
        others.join()


@pytest.mark.parametrize("store", ["redis", "memory"])
@pytest.mark.parametrize("params", [{"replay": "all"}, {"replay": 3}, {"since": "-10m"}], ids=["all", "last", "since"])
def test_a_log_that_begins_with_expired_events_is_replayed(request, relay_factory, sse_connect, store, params):
    redis = "memory:" if store == "memory" else request.getfixturevalue("redis").url
    relay = relay_factory(redis=redis)
    for _ in range(100):  # more than is read at once
        relay.publish("a", "gone", ttl=1)
    ids = [relay.publish(topic, "here") for topic in "aba"]
    client = sse_connect(relay, "a", "b", params=params)
    assert client.wait_for(3).ids == ids and not client.gaps
    assert client.all_ids == sorted(client.all_ids) and client.all_ids[0] < ids[0]
