# SPDX-License-Identifier: Apache-2.0
"""Types that only the relay's own events have (docs/protocol.md, 6): nobody else can send one, by any door."""

import json

import pytest
import redis as redis_py

from relay_process import wait_until

REFUSED_FOR_ALL = ["relay.gap", "relay.connected", "relay."]


def invalid(relay):
    return relay.metric("sse_relay_events_dropped_total", reason="invalid")


@pytest.fixture(params=["relay.", "ours-", ""], ids=["default prefix", "own prefix", "no prefix"])
def prefix(request):
    return request.param


@pytest.fixture
def relay(redis, relay_factory, prefix):
    return relay_factory({"control_prefix": prefix})


def reserved(prefix):
    return REFUSED_FOR_ALL + ([prefix + "gap"] if prefix else [])


def shown_alike(prefix):
    """CR, LF and NUL are dropped from a type that came through Redis (section 5)."""
    return [t[:1] + hidden + t[1:] for t in reserved(prefix) for hidden in ("", "\r", "\n", "\0")]


def published(stream, last):
    """(type, data) of what was published, up to @last. (The test's client knows control events by "relay." only.)"""
    wait_until(lambda: last in stream.data, f"{last} arrives")
    return [(e.type, e.data) for e in stream.events if "connection_id" not in e.data]


def test_such_a_type_is_refused_at_each_door(relay, doors, sse_connect, prefix):
    stream = sse_connect(relay, "t", "end")
    dropped = 0
    for event in shown_alike(prefix):
        answer = relay.post("/publish", json={"topic": "t", "data": "x", "event": event})
        assert answer.status_code == 400 and "event" in answer.json()["detail"], answer.text
        with pytest.raises(redis_py.ResponseError, match="sse_publish: event: begins like"):
            doors.fcall("t", "x", event=event)
        doors.xadd("t", "x", event=event)
        dropped += 1
        wait_until(lambda: relay.metric("sse_relay_events_dropped_total", reason="inbox") == dropped, "entry refused")
    relay.publish("end", "end")
    assert published(stream, "end") == [("message", "end")]


def test_an_envelope_by_hand_with_such_a_type_is_dropped_and_counted(relay, doors, sse_connect, prefix):
    stream = sse_connect(relay, "t")
    for event in shown_alike(prefix):
        doors.raw("t", json.dumps({"sse": 1, "topic": "t", "data": "{}", "event": event}))
    relay.publish("t", "end")
    assert published(stream, "end") == [("message", "end")]
    assert invalid(relay) == len(shown_alike(prefix))


def test_an_entry_by_hand_with_such_a_type_is_a_link_of_the_chain_and_no_event(relay, doors, sse_connect, prefix):
    first = int(doors.fcall("t", "first"))  # the node has seen none of them: it reads the log
    for n, event in enumerate(shown_alike(prefix), 1):
        doors.redis.xadd("sse:{default}:log:t", {"data": "{}", "event": event, "prev": first + n - 1}, id=f"{first + n}-0")
    stream = sse_connect(relay, "t", params={"replay": "all"})
    relay.publish("t", "end")
    assert published(stream, "end") == [("message", "first"), ("message", "end")] and not stream.gaps


def test_a_topic_does_not_become_such_a_type(redis, relay_factory, sse_connect, prefix):
    relay = relay_factory({"control_prefix": prefix, "events.type_from_topic": True})
    stream = sse_connect(relay, "*", ">")
    for topic in ["relay.gap", prefix + "gap" if prefix else "relay.x", "news"]:
        relay.publish(topic, f"on {topic}")
    assert [type for type, _ in published(stream, "on news")] == ["message", "message", "news"]


def test_an_envelope_by_hand_with_a_retry_beyond_the_bound_is_dropped_and_counted(relay, doors, sse_connect):
    stream = sse_connect(relay, "t")
    doors.raw("t", '{"sse":1,"topic":"t","data":"x","retry":86400001}')
    doors.raw("t", '{"sse":1,"topic":"t","data":"y","retry":86400000}')
    assert published(stream, "y") == [("message", "y")] and invalid(relay) == 1
