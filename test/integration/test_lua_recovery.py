# SPDX-License-Identifier: Apache-2.0
"""The functions after a failover, an eviction, or a stranger's hand: nothing is hidden from a cursor."""

import json
import random

import pytest
import redis

from lua_rig import (  # noqa: F401
    DAY_US, KEY, LIBRARY, MAX_ID, Listener, assert_chain, found, index, log, now_us, position, publish, r, raw,
    server, since,
)
from redis_server import RedisServer


# ---- Horizon ----


def test_first_event_of_a_namespace_is_just_above_the_horizon(r):
    first = int(publish(r, "a", "b"))
    assert int(r.get(f"{KEY}:horizon")) == first - 1
    publish(r, "c")
    assert int(r.get(f"{KEY}:horizon")) == first - 1
    assert r.get(f"{KEY}:pruned") is None


def test_horizon_after_position_created_the_counter_is_that_position(r):
    p, horizon = position(r)
    assert p == horizon
    assert int(publish(r, "a")) > p
    assert position(r)[1] == horizon


def test_flushall_moves_the_horizon(r):
    last = int(publish(r, "a"))
    r.flushall()
    new = int(publish(r, "a"))
    assert int(r.get(f"{KEY}:horizon")) == new - 1 >= last


def test_lost_counter_and_index_move_a_horizon_that_is_left(r):
    old = int(publish(r, "a")) - 1
    r.delete(f"{KEY}:seq", f"{KEY}:topics", f"{KEY}:log:a")
    new = int(publish(r, "a"))
    assert old < int(r.get(f"{KEY}:horizon")) == new - 1


def test_horizon_is_set_when_somebody_made_the_counter_by_hand(r):
    ahead = now_us(r) + DAY_US
    r.set(f"{KEY}:seq", ahead)
    publish(r, "a")
    assert position(r) == [ahead + 1, ahead]


def test_lost_horizon_is_replaced_by_the_position(r):
    publish(r, "a")
    r.delete(f"{KEY}:horizon")
    p, horizon = position(r)
    assert horizon == p


# ---- What a failover, an eviction or a stranger does to a namespace's keys ----
#
# Ids never repeat and never go back as far as anything in Redis remembers, and a cursor is never left
# with a hole that nothing tells of: either what it asks with leads to all that is there, or the
# horizon is above it.

DUMPED = ("seq", "horizon", "pruned", "topics", "log:a", "log:b")


def ahead_of_clock(r, distance_us=365 * DAY_US):
    """A counter that the clock will not help: as if this Redis' clock were behind."""
    position(r)
    top = now_us(r) + distance_us
    r.set(f"{KEY}:seq", top)
    r.set(f"{KEY}:horizon", top)
    return top


def told(r, cursor, topic):
    """Whether a client of @topic with @cursor learns of a loss: how relays decide it."""
    p, horizon, _, last, _ = since(r, "cursor", cursor, "topic", topic)
    newer = [f for i, f in log(r, topic) if cursor < i <= p]
    if newer and newer[0]["prev"] != "0":
        return int(newer[0]["prev"]) > cursor
    return int(last[topic]) > cursor if not newer and last[topic] != "0" else horizon > cursor


def test_position_tells_the_counter_as_it_was(r):
    assert found(r)[2] == 0
    p = found(r)[0]
    assert found(r) == [p, p, p]
    assert found(r, "seen", p + 5)[2] == p
    assert found(r, "seen", p)[2] == p + 5
    r.delete(f"{KEY}:seq")
    assert found(r)[2] == 0
    r.flushall()
    assert found(r, "seen", MAX_ID - 1) == [MAX_ID - 1, MAX_ID - 1, 0]


def test_replica_promoted_late_is_raised_to_what_a_relay_has_seen(r, raw):
    ahead_of_clock(r)
    first = int(publish(r, "a", "b"))
    old = {k: v for k in DUMPED if (v := raw.dump(f"{KEY}:{k}"))}
    lost = [int(publish(r, "a")), int(publish(r, "b"))]
    r.flushall()
    for k, v in old.items():
        raw.restore(f"{KEY}:{k}", 0, v)
    assert found(r, "seen", lost[1])[::2] == [lost[1], first], "the caller learns that ids were lost"
    assert int(publish(r, "b")) == lost[1] + 1
    assert [f["prev"] for _, f in log(r, "b")] == ["0", str(first)]


def test_redis_that_lost_all_starts_above_what_a_relay_has_seen_and_says_so(r):
    ahead_of_clock(r)
    last = int(publish(r, "a"))
    r.flushall()
    assert found(r, "seen", last) == [last, last, 0]
    assert int(publish(r, "a")) == last + 1
    assert told(r, last - 1, "a") and not told(r, last, "a")


def test_flushall_is_told_even_when_a_publisher_comes_first(r):
    cursors = [int(publish(r, "a")), position(r)[0]]
    r.flushall()
    publish(r, "b")
    publish(r, "a")
    for cursor in cursors:
        assert told(r, cursor, "a") and told(r, cursor, "b") and told(r, cursor, "c")


def test_lost_counter_alone_loses_nothing(r):
    ahead_of_clock(r)
    ids = [int(publish(r, t)) for t in "abcab"]
    for revive in (lambda: position(r), lambda: publish(r, "a"), lambda: since(r, "cursor", "0")):
        r.delete(f"{KEY}:seq")
        revive()
        assert int(r.get(f"{KEY}:seq")) >= ids[-1]
        ids.append(int(publish(r, "b")))
    assert ids == sorted(set(ids))
    assert not told(r, ids[3], "a") and not told(r, ids[0], "b") and not told(r, ids[2], "c")
    assert told(r, ids[0] - 2, "c"), "the horizon has not moved"
    assert_chain(log(r, "b"))


@pytest.mark.parametrize("first", ["position", "since", "publish a", "publish new"])
def test_lost_index_is_told_where_no_chain_tells(r, first):
    ids = [int(publish(r, t)) for t in "aab"]
    r.delete(f"{KEY}:topics")
    if first == "position":
        position(r)
    elif first == "since":
        since(r, "cursor", "0")
    else:
        publish(r, first.split()[1])
    horizon = position(r)[1]
    assert horizon >= ids[2], "patterns, and topics that are unknown now"
    assert told(r, ids[1], "never.seen")
    assert not told(r, ids[0], "a") and not told(r, ids[2], "b"), "the logs still have their chains"
    assert since(r, "cursor", ids[0], "topic", "b")[3] == {"b": str(ids[2])}
    publish(r, "a", "b")
    assert_chain(log(r, "a"))
    assert_chain(log(r, "b"))
    assert position(r)[1] == horizon, "told once"


def test_index_that_never_was_is_not_lost(r):
    p, horizon = position(r)
    publish(r, "a", ephemeral="1")
    r.set(f"{KEY}:log:b", "no stream")
    with pytest.raises(redis.ResponseError):
        publish(r, "a", "b")
    assert position(r) == [p, horizon] == list(since(r, "cursor", "0")[:2])


@pytest.mark.parametrize("left", [(), ("horizon",), ("log:b",), ("horizon", "log:b"), ("pruned", "horizon")])
def test_evicted_counter_and_index_are_told_and_ids_go_on(r, left):
    """As far as what is left remembers; `log:b` where it is asked."""
    ahead = ahead_of_clock(r) if left else now_us(r)
    r.set(f"{KEY}:pruned", 1)
    last = int(publish(r, "a", "b"))
    r.delete(*(f"{KEY}:{k}" for k in DUMPED if k not in left))
    new = [int(publish(r, "b")), int(publish(r, "a"))]
    assert new == sorted(new)
    assert new[0] > (last if "log:b" in left or not left else ahead)
    for topic in "ac":
        assert told(r, min(last, new[0] - 2), topic)
    assert position(r)[1] >= new[0] - 1


def test_lost_log_is_told_by_the_chain(r):
    ids = [int(publish(r, "a")) for _ in range(3)]
    r.delete(f"{KEY}:log:a")
    assert told(r, ids[1], "a") and not told(r, ids[2], "a")
    new = publish(r, "a")
    assert log(r, "a") == [(int(new), {"data": "x", "prev": str(ids[2])})]
    assert told(r, ids[1], "a") and not told(r, ids[2], "a")


def test_keys_lost_at_random_leave_no_silent_hole(r):
    """A client of each topic that reads now and then must get, or be told of, all that was published."""
    rng = random.Random(7)
    cursor, published, last = {t: position(r)[0] for t in "abc"}, {}, 0
    for _ in range(2000):
        kind = rng.random()
        if kind < 0.1:
            r.delete(*(f"{KEY}:{k}" for k in rng.sample(DUMPED, rng.choice((1, 1, 2, 3)))))
        elif kind < 0.7:
            topics = rng.sample("abc", rng.choice((1, 2)))
            new = int(publish(r, *topics))
            assert new > last
            last = new
            published[new] = topics
        else:
            topic = rng.choice("abc")
            at = cursor[topic]
            got = [i for i, _ in log(r, topic) if i > at]
            missed = [i for i, topics in published.items() if topic in topics and i > at]
            assert got == missed or told(r, at, topic), (at, got, missed)
            cursor[topic] = since(r, "cursor", at, "topic", topic)[0]
            published = {i: t for i, t in published.items() if i > min(cursor.values())}


# ---- What a stranger wrote ----


@pytest.mark.parametrize("score", ["inf", "-inf", "-5", "1.5", "1e17", MAX_ID + 1])
def test_index_score_that_is_no_id_is_replaced(r, score):
    ids = [int(publish(r, "a")), int(publish(r, "b"))]
    r.zadd(f"{KEY}:topics", {"a": score})
    assert since(r, "cursor", "0", "topic", "a", "prefix", "")[3] == {"a": str(ids[0]), "b": str(ids[1])}
    assert position(r)[0] == ids[1]
    r.zadd(f"{KEY}:topics", {"a": score, "c": score})
    ids.append(int(publish(r, "a")))
    assert ids[2] <= now_us(r) + 1
    assert_chain(log(r, "a"))
    assert index(r)["a"] == ids[2]
    publish(r, "c")
    assert log(r, "c")[0][1]["prev"] == "0"


def test_index_score_above_the_counter_raises_the_counter(r):
    last = int(publish(r, "a"))
    absurd = last + 10**15
    r.zadd(f"{KEY}:topics", {"a": absurd})
    p, *_ = since(r, "cursor", "0", "topic", "a")
    assert p == position(r)[0] == absurd, "or a client that is told of it would take what follows for old"
    assert int(publish(r, "b")) == absurd + 1
    assert [f["prev"] for _, f in log(r, "a")] == ["0"]
    publish(r, "a")
    assert log(r, "a")[1][1]["prev"] == str(absurd), "a loss that is told, as nobody knows better"


@pytest.mark.parametrize("key", ["horizon", "pruned"])
def test_horizon_above_the_counter_raises_the_counter(r, key):
    last = int(publish(r, "a"))
    r.set(f"{KEY}:{key}", last + 10**15)
    assert since(r, "cursor", "0")[0] == last + 10**15
    assert int(publish(r, "a")) == last + 10**15 + 1


@pytest.mark.parametrize("key", ["seq", "horizon", "pruned"])
@pytest.mark.parametrize("junk", ["abc", "-1", "1.5", "1e300", str(MAX_ID + 2)])
def test_key_that_holds_no_id_is_named_and_works_again_once_mended(r, key, junk):
    publish(r, "a")
    r.set(f"{KEY}:{key}", junk)
    for call in (lambda: position(r), lambda: since(r, "cursor", "0")):
        with pytest.raises(redis.ResponseError, match=f"{key} does not hold an id"):
            call()
    r.delete(f"{KEY}:{key}")
    new = int(publish(r, "a"))
    assert since(r, "cursor", "0", "topic", "a")[::3] == (new, {"a": str(new)})


def foreign(r, eid, topic="a", **fields):
    return r.xadd(f"{KEY}:log:{topic}", fields or {"data": "by hand"}, id=eid)


def test_log_entry_with_redis_own_id_is_no_obstacle(r):
    foreign(r, "*")
    ids = [int(publish(r, "a"))]
    assert log(r, "a")[1][1]["prev"] == "0", "its time in ms is no event's id, and below every cursor"
    foreign(r, "*")
    ids.append(int(publish(r, "a")))
    r.zrem(f"{KEY}:topics", "a")
    foreign(r, "*")
    ids.append(int(publish(r, "a")))
    ours = [(i, f["prev"]) for i, f in r.xrange(f"{KEY}:log:a") if "prev" in f]
    assert ours == [(f"{i}-0", str(p)) for i, p in zip(ids, [0] + ids)]


def test_foreign_log_entry_does_not_hide_that_redis_lost_its_data(r):
    cursor = int(publish(r, "a"))
    r.flushall()
    foreign(r, "*")
    publish(r, "a")
    assert told(r, cursor, "a")


@pytest.mark.parametrize("known", [True, False], ids=["topic known", "topic new"])
def test_log_ahead_of_the_counter_is_followed(r, known):
    """An old index was brought back, or somebody wrote there: ids that were seen are not given again."""
    last = int(publish(r, "a")) if known else 0
    top = now_us(r) + DAY_US
    foreign(r, f"{top}-7")
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    new = int(publish(r, "b", "a"))
    assert new == top + 1
    assert int(publish(r, "b")) == top + 2
    assert r.xrevrange(f"{KEY}:log:a", count=1)[0][1]["prev"] == str(last)
    assert [json.loads(d)["id"] for _, d in listener.pending()] == [str(new)] * 2 + [str(new + 1)]
    assert [i for i, _ in log(r, "b")] == [new, new + 1]


ENDLESS = 2**64 - 1


@pytest.mark.parametrize("eid", [f"{MAX_ID + 2}-0", "9999999999999999-0", f"{ENDLESS}-{ENDLESS}"])
@pytest.mark.parametrize("known", [True, False], ids=["topic known", "topic new"])
@pytest.mark.parametrize("deleted", [True, False], ids=["deleted", "there"])
def test_log_above_every_id_is_mended_and_loses_no_event(r, eid, known, deleted):
    ids = [int(publish(r, "a")), int(publish(r, "a"))] if known else []
    foreign(r, f"{MAX_ID + 1}-1")
    foreign(r, eid)
    if deleted:
        r.xdel(f"{KEY}:log:a", eid)  # a stream remembers its last id
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    ids.append(int(publish(r, "b", "a", once="k")))
    assert ids[-1] <= now_us(r) + 1
    ids.append(int(publish(r, "a")))
    assert [i for i, _ in log(r, "a")] == ids
    assert_chain(log(r, "a"))
    assert [json.loads(d)["id"] for _, d in listener.pending()] == [str(i) for i in ids[-2:-1] + ids[-2:]]
    assert publish(r, "b", "a", once="k") == str(ids[-2])


def test_mended_log_survives_a_restart(tmp_path):
    with RedisServer(tmp_path) as s:
        r = s.client()
        r.function_load(LIBRARY.read_text("utf-8"))
        publish(r, "a")
        foreign(r, "9999999999999999-0")
        publish(r, "a")
        s.restart()
        publish(r, "a")
        assert len(log(r, "a")) == 3
        assert_chain(log(r, "a"))


def test_log_that_may_not_be_mended_is_named(server, r):
    publish(r, "a")
    publish(r, "b")
    foreign(r, "9999999999999999-0")
    r.execute_command("ACL", "SETUSER", "backend", "reset", "on", ">pw", "~sse:*", "&*", "+@all", "-xrange")
    before = log(r, "a"), log(r, "b"), index(r), r.get(f"{KEY}:seq")
    try:
        backend = server.client(username="backend", password="pw")
        with pytest.raises(redis.ResponseError, match=f"{KEY}:log:a is at 9999999999999999-0.*delete the key"):
            publish(backend, "b", "a", once="k")
        assert (log(r, "a"), log(r, "b"), index(r), r.get(f"{KEY}:seq")) == before
        assert publish(backend, "b")
    finally:
        r.execute_command("ACL", "DELUSER", "backend")
    assert publish(r, "b", "a")


def test_failed_publish_leaves_an_entry_with_the_same_id_alone(r):
    ahead = ahead_of_clock(r)
    publish(r, "a")
    r.set(f"{KEY}:log:c", "no stream")
    r.zadd(f"{KEY}:topics", {"c": 5})
    foreign(r, f"{ahead + 2}-0")
    entries = r.xrange(f"{KEY}:log:a")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        publish(r, "a", "c")
    assert r.xrange(f"{KEY}:log:a") == entries


def test_unreadable_log_does_not_stop_a_look(r):
    publish(r, "b")
    r.set(f"{KEY}:log:a", "no stream")
    assert since(r, "cursor", "0", "topic", "a", "topic", "b")[3]["a"] == "0"
