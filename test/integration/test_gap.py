# SPDX-License-Identifier: Apache-2.0
"""relay.gap: exact, truthful, told once, and never without a cause."""

import json
import time

import pytest

from accounting import account
from relay_process import wait_until


@pytest.fixture
def keep(redis, relay_factory, sse_connect, doors):
    """keep({"log.ttl": "1s"}): a relay whose retention settings have reached Redis."""

    def start(config):
        relay = relay_factory(config)
        sse_connect(relay, "opens.the.namespace").close()
        return relay

    return start


def publish_for_long(doors, topic, data):
    """The id of an event that is there when a reader comes, whatever log.ttl is."""
    with doors.redis.pipeline(transaction=True) as pipe:
        pipe.fcall("sse_publish", 1, doors.key(), "topic", topic, "data", data)
        pipe.persist(doors.key("default", "log", topic))
        return int(pipe.execute()[0])


def test_trimmed(keep, sse_connect, doors):
    relay = keep({"log.max_events": 10})
    ids = doors.many("t", [str(i) for i in range(450)])
    log = [int(e[0].split("-")[0]) for e in doors.redis.xrange(doors.key("default", "log", "t"))]
    kept = len(log)
    assert kept < 449, "nothing was trimmed"
    cursor = ids[0]
    client = sse_connect(relay, "t", last_event_id=cursor).wait_for(kept)
    live = doors.fcall("t", "live")
    client.wait_for(lambda c: "live" in c.data)
    told = account(client, [*ids, live], cursor, 1, "trimmed")
    assert told == [(cursor, ids[-kept - 1], "trimmed")]
    assert relay.metric("sse_relay_gaps_total", reason="trimmed") == 1


def test_cursor_at_the_edge_of_the_trimmed_part_is_no_gap(keep, sse_connect, doors):
    relay = keep({"log.max_events": 10})
    ids = doors.many("t", [str(i) for i in range(450)])
    kept = doors.redis.xlen(doors.key("default", "log", "t"))
    edge = ids[-kept - 1]  # the last one lost: whoever has it has lost nothing
    client = sse_connect(relay, "t", last_event_id=edge).wait_for(kept)
    account(client, ids, edge, gaps=0)
    before = ids[-kept - 2]
    client = sse_connect(relay, "t", last_event_id=before).wait_for(kept)
    account(client, ids, before, 1, "trimmed")


def test_trimmed_away_wholly(redis, relay_factory, sse_connect, doors):
    relay = relay_factory()
    ids = doors.many("t", ["1", "2", "3"])
    doors.redis.xtrim(doors.key("default", "log", "t"), maxlen=0, approximate=False)
    client = sse_connect(relay, "t", last_event_id=ids[0])
    client.wait_for(lambda c: c.gaps)
    account(client, ids, ids[0], 1)
    assert client.last_event_id == str(ids[-1])


def test_expired(keep, sse_connect, doors):
    relay = keep({"log.ttl": "1s"})
    doors.fcall("other", "x")
    ids = doors.many("t", ["1", "2", "3"])
    wait_until(lambda: not doors.redis.exists(doors.key("default", "log", "t")), "expiry")
    client = sse_connect(relay, "t", last_event_id=ids[0])
    client.wait_for(lambda c: c.gaps)
    live = doors.fcall("t", "4")
    client.wait_for(1)
    assert account(client, [*ids, live], ids[0], 1) == [(ids[0], ids[2], "expired")]
    assert relay.metric("sse_relay_gaps_total", reason="expired") == 1


def test_expired_log_of_a_pattern(keep, sse_connect, doors):
    relay = keep({"log.ttl": "1s"})
    cursor = doors.fcall("t.0", "0")
    lost = doors.many("t.a", ["1", "2"]) + doors.many("t.b", ["3"])
    gone = [doors.key("default", "log", t) for t in ("t.a", "t.b")]
    wait_until(lambda: not doors.redis.exists(*gone), "expiry")
    kept = publish_for_long(doors, "t.c", "4")
    client = sse_connect(relay, "t.*", last_event_id=cursor).wait_for(1)
    account(client, [*lost, kept], cursor, 1, "expired")


def test_expired_before_the_cursor_is_no_gap(keep, sse_connect, doors):
    relay = keep({"log.ttl": "1s"})
    ids = doors.many("t", ["1", "2", "3"])
    wait_until(lambda: not doors.redis.exists(doors.key("default", "log", "t")), "expiry")
    client = sse_connect(relay, "t", last_event_id=ids[2])
    live = doors.fcall("t", "4")
    client.wait_for(1)
    account(client, [*ids, live], ids[2], gaps=0)


def test_silent_topic_is_no_gap(relay, sse_connect, doors):
    cursor = doors.many("busy", ["1", "2"])[-1]
    for topics in (["silent"], ["silent.*"], ["silent", "s.>"]):
        client = sse_connect(relay, *topics, last_event_id=cursor)
        doors.fcall(topics[0].replace("*", "x"), "live", ephemeral=1)
        assert client.wait_for(1).data == ["live"]
        assert not client.gaps


def test_gap_of_one_topic_among_others_keeps_the_order(redis, relay_factory, sse_connect, doors):
    """One topic lost its early events; the others' are all delivered, and the cursor never goes back."""
    relay = relay_factory()
    cursor = doors.fcall("a", "0")
    ids = [doors.fcall("ab"[i % 2], i) for i in range(1, 61)]
    doors.redis.xtrim(doors.key("default", "log", "a"), maxlen=10, approximate=False)
    client = sse_connect(relay, "a", "b", last_event_id=cursor)
    live = doors.fcall("b", "live")
    client.wait_for(lambda c: "live" in c.data)
    moves = client.all_ids
    assert moves == sorted(moves), moves
    lost = set(ids) - set(client.ids)
    assert client.gaps and all(g["reason"] == "trimmed" for g in client.gaps)
    assert client.told(lost) == lost
    wanted = {int(e[0].split("-")[0]) for t in "ab" for e in doors.redis.xrange(doors.key("default", "log", t))}
    assert wanted - {cursor} <= set(client.ids), "what the log still holds was not delivered"
    assert live in client.ids


@pytest.mark.parametrize("topics", [["a", "b"], ["*"], ["b", "a", "c.>"]], ids=" ".join)
def test_no_cut_can_hide_a_gap(relay, sse_connect, doors, topics):
    """Cut after any block and resumed: every event has come exactly once, or a gap was told over it."""
    cursor = doors.fcall("a", "0")
    ids = [doors.fcall("ab"[i % 2], i) for i in range(1, 25)]
    for topic, keep in (("a", 4), ("b", 9)):
        doors.redis.xtrim(doors.key("default", "log", topic), maxlen=keep, approximate=False)
    whole = sse_connect(relay, *topics, last_event_id=cursor)
    whole.wait_for(lambda c: c.ids and c.ids[-1] == ids[-1])
    for cut in range(len(whole.blocks) + 1):
        before = whole.blocks[:cut]
        at = before[-1].last_event_id if before else str(cursor)
        again = sse_connect(relay, *topics, last_event_id=at)
        doors.fcall("b", "end", ephemeral=1)
        again.wait_for(lambda c: "end" in c.data)
        again.close()
        blocks = [b for b in [*before, *again.blocks] if b.dispatched]
        got = [int(b.id) for b in blocks if b.type == "message" and b.id]
        gaps = [json.loads(b.data) for b in blocks if b.type == "relay.gap"]
        assert len(got) == len(set(got)), (cut, at)
        for id in ids:
            told = any(int(g["from"]) < id <= int(g["to"]) for g in gaps)
            assert id in got or told, (cut, at, id, gaps)
        assert set(whole.ids) <= {*got, None}, f"cut {cut}: what was in the log did not come"


@pytest.mark.parametrize(
    "cursor",
    ["abc", "12x", "-5", "1e9", "99999999999999999999999999", "9007199254740991", "\u00e9", "a b", "0x10", "1.5"],
)
def test_unknown_id(relay, sse_connect, doors, cursor):
    position = doors.fcall("t", "before")
    client = sse_connect(relay, "t", last_event_id=cursor)
    client.wait_for(lambda c: c.gaps)
    doors.fcall("t", "after")
    assert client.wait_for(1).data == ["after"]
    gap = client.gaps[0]
    assert (gap["reason"], gap["from"], gap["to"]) == ("unknown-id", None, str(position))
    assert gap["id"] == str(position)
    assert len(client.gaps) == 1


def test_unknown_id_in_the_query(relay, sse_connect, doors):
    doors.fcall("t", "before")
    client = sse_connect(relay, "t", params={"lastEventId": "5f3a-uuid"})
    doors.fcall("t", "after")
    assert client.wait_for(1).data == ["after"]
    assert [g["reason"] for g in client.gaps] == ["unknown-id"]


def test_unknown_id_in_an_empty_namespace_is_not_fatal(relay, sse_connect, doors):
    client = sse_connect(relay, "t", last_event_id="abc", params={"ns": "never-used"})
    doors.fcall("t", "x", ns="never-used")
    assert client.wait_for(1).data == ["x"]
    assert [g["reason"] for g in client.gaps] == ["unknown-id"]


def test_redis_lost_by_flushall(relay, sse_connect, doors):
    old = doors.many("t", ["1", "2", "3"])
    doors.redis.flushall()
    new = doors.many("t", ["4", "5"])
    assert new[0] > old[-1], "an id was used again"
    client = sse_connect(relay, "t", last_event_id=old[0]).wait_for(2)
    (gap,) = account(client, [*old, *new], old[0], 1, "redis-lost")
    assert client.data == ["4", "5"]
    assert old[-1] <= gap[1] < new[0]


def test_redis_lost_is_told_to_patterns_and_silent_topics(relay, sse_connect, doors):
    """Nothing is left to tell which topics existed: who is older than the counter may have missed some."""
    old = doors.many("t", ["1", "2"])
    doors.redis.flushall()
    doors.fcall("u", "3")
    for topics in (["*"], ["t"], ["silent"]):
        client = sse_connect(relay, *topics, last_event_id=old[0])
        client.wait_for(lambda c: c.gaps)
        assert [g["reason"] for g in client.gaps] == ["redis-lost"]


def test_redis_restarted_empty(redis, relay_factory, sse_connect, doors):
    relay = relay_factory()
    old = doors.many("t", ["1", "2", "3"])
    redis.restart(keep_data=False)
    relay.wait_ready()
    new = [relay.publish("t", "4"), relay.publish("t", "5")]
    client = sse_connect(relay, "t", last_event_id=old[1]).wait_for(2)
    account(client, [*old, *new], old[1], 1, "redis-lost")
    assert client.data == ["4", "5"]


def test_overflow(redis, relay_factory, sse_connect, doors):
    relay = relay_factory({"replay.max_events": 20})
    cursor = doors.fcall("t", "0")
    ids = doors.many("t", [str(i) for i in range(1, 101)])
    client = sse_connect(relay, "t", last_event_id=cursor)
    live = doors.fcall("t", "live")
    client.wait_for(lambda c: "live" in c.data and c.gaps)
    account(client, [*ids, live], cursor, 1, "overflow")
    assert len([i for i in client.ids if i in ids]) == 20
    assert relay.metric("sse_relay_gaps_total", reason="overflow") == 1


def test_exactly_as_many_as_allowed_is_no_overflow(redis, relay_factory, sse_connect, doors):
    relay = relay_factory({"replay.max_events": 20})
    cursor = doors.fcall("t", "0")
    ids = doors.many("t", [str(i) for i in range(20)])
    client = sse_connect(relay, "t", last_event_id=cursor).wait_for(20)
    live = doors.fcall("t", "live")
    client.wait_for(21)
    account(client, [*ids, live], cursor, gaps=0)


def test_pruned_index(keep, sse_connect, doors):
    relay = keep({"log.ttl": "1s", "index.ttl": "1s"})
    cursor = doors.fcall("other", "0")
    lost = doors.many("t", ["1", "2"])

    def pruned():  # a topic that is new to the index makes room in it
        doors.fcall(f"new{time.monotonic_ns()}", "x")
        return doors.redis.zscore(doors.key("default", "topics"), "t") is None

    wait_until(pruned, "the index entry to be pruned")
    for topics in (["*", "v.x"], ["t", "u"], ["t"]):
        client = sse_connect(relay, *topics, last_event_id=cursor)
        client.wait_for(lambda c: c.gaps)
        gap = client.gaps[0]
        assert gap["reason"] == "expired" and int(gap["from"]) == cursor
        assert int(gap["to"]) >= lost[-1]
    edge = client.last_event_id
    live = publish_for_long(doors, "t", "3")
    assert sse_connect(relay, "t", last_event_id=edge).wait_for(1).ids == [live]
    # Whether a gap stands before it depends on what was pruned meanwhile.


@pytest.mark.parametrize("how", ["trimmed", "expired", "unknown-id", "redis-lost", "overflow"])
def test_told_once(keep, sse_connect, doors, how):
    relay = keep({"log.ttl": "1s" if how == "expired" else "1h", "replay.max_events": 5 if how == "overflow" else 1000})
    ids = doors.many("t", [str(i) for i in range(20)])
    log = doors.key("default", "log", "t")
    if how == "trimmed":
        doors.redis.xtrim(log, maxlen=5, approximate=False)
    elif how == "expired":
        wait_until(lambda: not doors.redis.exists(log), "expiry")
    elif how == "redis-lost":
        doors.redis.flushall()
        doors.fcall("t", "new")
    client = sse_connect(relay, "t", last_event_id="x" if how == "unknown-id" else ids[2])
    client.wait_for(lambda c: c.gaps)
    doors.fcall("t", "mark")
    client.wait_for(lambda c: "mark" in c.data)
    client.close()
    assert [g["reason"] for g in client.gaps] == [how]
    again = sse_connect(relay, "t", last_event_id=client.last_event_id)
    next_id = doors.fcall("t", "next")
    again.wait_for(1)
    account(again, [next_id], int(client.last_event_id), gaps=0)


def test_resume_right_at_the_gap_does_not_tell_it_again(redis, relay_factory, sse_connect, doors):
    """A client that is cut right behind relay.gap has its `to` as cursor."""
    relay = relay_factory()
    ids = doors.many("t", [str(i) for i in range(20)])
    doors.redis.xtrim(doors.key("default", "log", "t"), maxlen=5, approximate=False)
    client = sse_connect(relay, "t", last_event_id=ids[2]).wait_for(5)
    to = client.gaps[0]["to"]
    again = sse_connect(relay, "t", last_event_id=to).wait_for(5)
    account(again, ids, int(to), gaps=0)


def test_connected_comes_before_the_gap(redis, relay, sse_connect, doors):
    ids = doors.many("t", ["1", "2", "3"])
    doors.redis.xtrim(doors.key("default", "log", "t"), maxlen=1, approximate=False)
    client = sse_connect(relay, "t", last_event_id=ids[0]).wait_for(1)
    assert [b.type for b in client.controls] == ["relay.connected", "relay.gap"]
    assert client.controls[0].id == str(ids[0])


def test_event_ttl_is_no_gap(relay, sse_connect, doors):
    """An event whose own ttl has passed is not replayed, and not missed either."""
    cursor = doors.fcall("t", "0")
    short = doors.fcall("t", "short", ttl="1")
    kept = doors.fcall("t", "kept")
    wait_until(lambda: doors.redis.time()[0] * 10**6 + doors.redis.time()[1] > short + 10_000)
    client = sse_connect(relay, "t", last_event_id=cursor).wait_for(1)
    account(client, [kept], cursor, gaps=0)
    assert client.data == ["kept"]
