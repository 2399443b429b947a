# SPDX-License-Identifier: Apache-2.0
"""replay=whole (protocol.md, 7.5): topics from their first event on, or one gap that tells what their logs lack."""

import pytest

from raw_http import assert_problem

FORMS = pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
WHOLE = {"replay": "whole"}


@pytest.fixture(params=["redis", "memory"])
def begin(request, relay_factory):
    def start(config=None, **more):
        store = {"redis": "memory:"} if request.param == "memory" else {}
        return relay_factory({"compress": ">", "log.max_events": 10, **store, **(config or {})}, **more)

    return start


def publish(relay, topic, *datas, **fields):
    events = [{"topic": topic, "data": str(d), **fields} for d in datas]
    return [int(a["id"]) for a in relay.post("/publish", json=events).json()]


def check_beginning(stream, ids):
    """One gap, from 0 to the last event that is not there; it comes before the first event, and its id is not 0."""
    assert len(stream.gaps) == 1, stream.describe()
    gap = stream.gaps[0]
    missing = [i for i in ids if i not in stream.ids]
    assert gap["from"] == "0" and int(gap["to"]) == missing[-1] and stream.ids == ids[len(missing) :]
    blocks = [b.type for b in stream.blocks if b.dispatched]
    assert blocks[:2] == ["relay.connected", "relay.gap"]
    assert int(stream.control("connected")[0]["id"]) < int(gap["to"])
    assert stream.all_ids == sorted(stream.all_ids) and len(set(stream.all_ids)) == len(stream.all_ids)
    return gap


@FORMS
def test_a_log_that_has_all_is_given_as_it_is(begin, sse_connect, gzip):
    relay = begin()
    ids = publish(relay, "a", *range(8))
    stream = sse_connect(relay, "a", params=WHOLE, gzip=gzip)
    stream.wait_for(8)
    ids += publish(relay, "a", "live")
    assert stream.wait_for(9).ids == ids and not stream.gaps
    assert int(stream.control("connected")[0]["id"]) < ids[0]


@FORMS
def test_a_trimmed_beginning_is_one_gap(begin, sse_connect, gzip):
    relay = begin()
    ids = publish(relay, "a", *range(300))
    stream = sse_connect(relay, "a", params=WHOLE, gzip=gzip)
    stream.wait_for(lambda c: ids[-1] in c.ids)
    ids += publish(relay, "a", "live")
    stream.wait_for(lambda c: ids[-1] in c.ids)
    gap = check_beginning(stream, ids)
    assert gap["reason"] == "trimmed" and gap["id"] == gap["to"]


def test_of_many_pages_the_first_tells_it(begin, sse_connect):
    relay = begin({"log.max_events": 200, "queue.max_events": 8})
    ids = publish(relay, "a", *range(900))
    stream = sse_connect(relay, "a", params=WHOLE)
    stream.wait_for(lambda c: ids[-1] in c.ids)
    check_beginning(stream, ids)


def test_who_is_cut_off_before_the_gap_is_told_of_it_and_who_had_it_is_not(begin, sse_connect):
    relay = begin()
    ids = publish(relay, "a", *range(300))
    stream = sse_connect(relay, "a", params=WHOLE)
    stream.wait_for(lambda c: ids[-1] in c.ids)
    start = stream.control("connected")[0]["id"]
    again = sse_connect(relay, "a", params=WHOLE, last_event_id=start)
    again.wait_for(lambda c: ids[-1] in c.ids)
    assert len(again.gaps) == 1 and again.gaps[0]["to"] == stream.gaps[0]["to"] and again.ids == stream.ids
    behind = sse_connect(relay, "a", params=WHOLE, last_event_id=stream.gaps[0]["id"])
    behind.wait_for(lambda c: ids[-1] in c.ids)
    assert not behind.gaps and behind.ids == stream.ids


def test_of_several_topics_it_is_one_gap_that_covers_them(begin, sse_connect):
    relay = begin()
    a = publish(relay, "a", *range(200))
    b = publish(relay, "b", *range(200))
    c = publish(relay, "c", *range(3))
    stream = sse_connect(relay, "a", "b", "c", params=WHOLE)
    stream.wait_for(lambda s: c[-1] in s.ids)
    assert len(stream.gaps) == 1 and stream.gaps[0]["from"] == "0"
    lost = [i for i in a + b if i not in stream.ids]
    assert set(lost) == stream.told(a + b) - set(stream.ids) and int(stream.gaps[0]["to"]) == max(lost)
    assert stream.ids == sorted(set(a + b + c) - set(lost))
    assert stream.all_ids == sorted(stream.all_ids)
    assert [x.type for x in stream.blocks if x.dispatched][:2] == ["relay.connected", "relay.gap"]


def test_a_topic_that_never_was_lacks_nothing(begin, sse_connect):
    relay = begin()
    publish(relay, "other", *range(50))
    stream = sse_connect(relay, "a", params=WHOLE)
    ids = publish(relay, "a", "live")
    assert stream.wait_for(1).ids == ids and not stream.gaps


def test_all_tells_no_such_gap(begin, sse_connect):
    relay = begin()
    ids = publish(relay, "a", *range(300))
    stream = sse_connect(relay, "a", params={"replay": "all"})
    stream.wait_for(lambda c: ids[-1] in c.ids)
    assert not stream.gaps


@pytest.mark.parametrize("names", [["a.*"], [">"], ["a", "b.>"]])
def test_it_is_not_for_patterns(begin, names):
    relay = begin()
    query = "&".join(f"topic={n}" for n in names)
    for method in ("GET", "HEAD"):
        assert relay.request(method, f"/events?{query}&replay=whole").status_code == 400
    assert assert_problem(relay.get(f"/events?{query}&replay=whole"), 400).startswith("replay")


def test_a_publisher_says_how_much_is_kept(redis, relay_factory, doors, sse_connect):
    relay = relay_factory({"log.max_events": 10})
    ids = doors.many("kept", map(str, range(1500)), log_max=2000)
    stream = sse_connect(relay, "kept", params=WHOLE)
    assert stream.wait_for(1500).ids == ids and not stream.gaps
    ids = doors.many("short", map(str, range(300)), log_max=3)
    stream = sse_connect(relay, "short", params=WHOLE)
    stream.wait_for(lambda c: ids[-1] in c.ids)
    assert check_beginning(stream, ids)["reason"] == "trimmed"


def test_a_log_that_is_gone_is_told_as_expired(redis, relay_factory, doors, sse_connect):
    relay = relay_factory({"tail.max_events": 0})
    ids = doors.many("a", map(str, range(20)))
    redis.client().delete(doors.key("default", "log", "a"))
    stream = sse_connect(relay, "a", params=WHOLE)
    gap = stream.wait_for(lambda c: c.gaps).gaps[0]
    live = doors.fcall("a", "live")
    assert stream.wait_for(1).ids == [live] and len(stream.gaps) == 1
    assert (gap["from"], gap["to"], gap["reason"]) == ("0", str(ids[-1]), "expired")
    again = sse_connect(relay, "a", params=WHOLE, last_event_id=stream.control("connected")[0]["id"])
    again.wait_for(1)
    assert again.gaps and again.gaps[0]["to"] == str(ids[-1])


@pytest.mark.parametrize("asks", [WHOLE, {"replay": "all"}, {"since": 0}, {"replay": 90}])
def test_what_was_forgotten_of_other_topics_is_told_on_no_page(redis, relay_factory, doors, sse_connect, asks):
    """As on one page, so on many. Who comes with a cursor cannot be told apart from those who were there before."""
    relay = relay_factory({"queue.max_events": 16})
    ids = doors.many("a", map(str, range(100)))
    doors.redis.set(doors.key("default", "horizon"), ids[50])
    doors.redis.set(doors.key("default", "pruned"), ids[50])
    stream = sse_connect(relay, "a", "b", params=asks)
    stream.wait_for(lambda c: ids[-1] in c.ids)
    ids += [doors.fcall("b", "new"), doors.fcall("a", "live")]
    stream.wait_for(lambda c: ids[-1] in c.ids)
    assert stream.ids == ids[-len(stream.ids) :] and len(stream.ids) >= 92 and not stream.gaps
    late = sse_connect(relay, "a", "b", last_event_id=ids[20])
    late.wait_for(lambda c: ids[-1] in c.ids)
    assert late.ids == ids[21:] and [g["reason"] for g in late.gaps] == ["expired"]


def test_an_ended_topic_is_whole_or_says_what_it_lacks(redis, relay_factory, doors, sse_connect):
    relay = relay_factory({"log.max_events": 10})
    ids = doors.many("a", map(str, range(300)))
    ids.append(doors.fcall("a", "last", end=1))
    stream = sse_connect(relay, "a", params=WHOLE)
    assert stream.wait_closed().clean
    check_beginning(stream, ids)
    assert [e["reason"] for e in stream.control("end")] == ["end"]


def test_without_control_events_nothing_is_told_and_all_that_is_there_comes(begin, sse_connect):
    relay = begin()
    ids = publish(relay, "a", *range(300))
    stream = sse_connect(relay, "a", params={**WHOLE, "control": "off"})
    stream.wait_for(lambda c: ids[-1] in c.ids)
    assert not stream.controls and stream.ids == ids[-len(stream.ids) :]
