"""common/sse_relay.lua against a real Redis: what its functions promise to publishers and relays."""

import json
import random
import re
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from redis_server import RedisServer

LIBRARY = Path(__file__).resolve().parents[2] / "common" / "sse_relay.lua"
KEY = "sse:{default}"
MAX_ID = 2**53 - 1
DAY_US = 86400 * 10**6


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis")) as s:
        s.client().function_load(LIBRARY.read_text("utf-8"))
        yield s


@pytest.fixture
def r(server):
    client = server.client()
    client.flushall()
    yield client
    client.config_set("maxmemory", 0)


@pytest.fixture
def raw(server, r):
    """The same Redis, bytes in and out."""
    return server.client(decode_responses=False)


def publish(r, *topics, data="x", space=KEY, **options):
    args = [a for t in topics for a in ("topic", t)] + ["data", data]
    args += [a for pair in options.items() for a in pair]
    return r.fcall("sse_publish", 1, space, *args)


def position(r, *args, space=KEY):
    return found(r, *args, space=space)[:2]


def found(r, *args, space=KEY):
    """All three: position, horizon, and the counter as sse_position found it."""
    return [int(x) for x in r.fcall("sse_position", 1, space, *args)]


def since(r, *args):
    p, horizon, pruned, flat = r.fcall("sse_since", 1, KEY, *args)
    return int(p), int(horizon), int(pruned), dict(zip(flat[::2], flat[1::2])), flat[::2]


def drain(r, *args):
    return r.fcall("sse_drain", 1, KEY, *args)


def log(r, topic, space=KEY):
    """[(id, fields)] of a topic's replay log."""
    entries = r.xrange(f"{space}:log:{topic}")
    assert all(eid.endswith("-0") for eid, _ in entries)
    return [(int(eid[:-2]), fields) for eid, fields in entries]


def index(r):
    return {t: int(score) for t, score in r.zrange(f"{KEY}:topics", 0, -1, withscores=True)}


def now_us(r):
    seconds, micros = r.time()
    return seconds * 10**6 + micros


def snapshot(raw):
    """Everything Redis holds, byte for byte."""
    return {k: raw.dump(k) for k in sorted(raw.scan_iter())}


def wait_until(condition, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


class Listener:
    """Hears channels of a namespace. next() fails on silence; pending() is exact thanks to a marker message."""

    def __init__(self, client, *channels, pattern=None):
        self.client = client
        self.pubsub = client.pubsub(ignore_subscribe_messages=False)
        self.pubsub.subscribe("marker", *channels)
        if pattern:
            self.pubsub.psubscribe(pattern)
        for _ in range(len(channels) + 1 + bool(pattern)):
            assert self.pubsub.get_message(timeout=10)["type"] in ("subscribe", "psubscribe")

    def _next(self):
        message = self.pubsub.get_message(timeout=10)
        assert message is not None, "nothing was published"
        return message

    def pending(self):
        """(channel, bytes) of everything published so far and not yet heard."""
        self.client.publish("marker", "")
        heard = []
        while (m := self._next())["channel"] not in ("marker", b"marker"):
            heard.append((m["channel"], m["data"]))
        return heard


def assert_chain(entries):
    """Ids increase, and each entry names the one before it."""
    ids = [eid for eid, _ in entries]
    assert ids == sorted(set(ids))
    assert [int(f["prev"]) for _, f in entries] == [0] + ids[:-1]


# ---- The library itself ----


def test_library_loads_and_tells_its_version(r):
    assert LIBRARY.read_text("utf-8").startswith("#!lua name=sse_relay\n")
    in_text = int(re.search(r"^local VERSION = (\d+)$", LIBRARY.read_text("utf-8"), re.M).group(1))
    assert r.fcall("sse_version", 0) == in_text
    assert r.fcall("sse_version", 1, KEY) == in_text
    assert r.function_load(LIBRARY.read_text("utf-8"), replace=True) == "sse_relay"


def test_version_can_be_asked_without_writing(r):
    assert r.execute_command("FCALL_RO", "sse_version", 0) >= 1
    with pytest.raises(redis.ResponseError, match="write"):
        r.execute_command("FCALL_RO", "sse_publish", 1, KEY, "topic", "a", "data", "x")


# ---- Ids ----


def test_id_is_text_and_follows_the_servers_clock(r):
    before = now_us(r)
    first, second = publish(r, "a"), publish(r, "a")
    assert isinstance(first, str) and first.isdigit()
    assert before < int(first) < int(second) <= now_us(r) + 1
    assert r.get(f"{KEY}:seq") == second
    before = now_us(r)
    assert int(publish(r, "a")) >= before


def _publish_many(port, count):
    with redis.Redis(host="127.0.0.1", port=port, decode_responses=True) as r:
        return [int(publish(r, "shared", data=i)) for i in range(count)]


def test_ids_strictly_increase_with_many_parallel_publishers(server, r):
    with ProcessPoolExecutor(6) as pool:
        runs = [f.result() for f in [pool.submit(_publish_many, server.port, 400) for _ in range(6)]]
    for ids in runs:
        assert ids == sorted(ids)
    all_ids = sorted(i for ids in runs for i in ids)
    assert len(set(all_ids)) == 2400
    entries = log(r, "shared")
    assert [i for i, _ in entries] == all_ids[-len(entries) :]
    assert [int(f["prev"]) for _, f in entries[1:]] == [i for i, _ in entries[:-1]]


def test_ids_increase_over_flushall(r):
    last = int(publish(r, "a"))
    for _ in range(20):
        r.flushall()
        new = int(publish(r, "a"))
        assert new > last
        last = new


def test_ids_increase_one_by_one_while_the_counter_is_ahead_of_the_clock(r):
    ahead = now_us(r) + 365 * DAY_US
    publish(r, "a")
    r.set(f"{KEY}:seq", ahead)
    assert [int(publish(r, "a")) for _ in range(3)] == [ahead + 1, ahead + 2, ahead + 3]
    assert_chain(log(r, "a"))


def test_lost_counter_restarts_above_the_index(r):
    ahead = now_us(r) + 365 * DAY_US
    position(r)
    r.set(f"{KEY}:seq", ahead)
    publish(r, "a")
    horizon = r.get(f"{KEY}:horizon")
    r.delete(f"{KEY}:seq")
    assert int(publish(r, "other")) > ahead + 1
    assert r.get(f"{KEY}:horizon") == horizon, "the index still knows what was published"
    r.delete(f"{KEY}:seq")
    assert position(r)[0] > ahead + 1


def test_lost_counter_and_index_restart_above_the_logs(r):
    ahead = now_us(r) + 365 * DAY_US
    r.set(f"{KEY}:seq", ahead)
    last = int(publish(r, "a", "b"))
    r.delete(f"{KEY}:seq", f"{KEY}:topics", f"{KEY}:horizon")
    new = int(publish(r, "c", "b"))
    assert new == last + 1
    assert [i for i, _ in log(r, "b")] == [last, new]
    assert log(r, "b")[1][1]["prev"] == str(last)
    assert log(r, "c")[0][1]["prev"] == "0"
    assert int(r.get(f"{KEY}:horizon")) == new - 1


def test_lost_counter_looks_at_a_logs_last_id_even_if_that_entry_is_gone(r):
    ahead = now_us(r) + 365 * DAY_US
    r.set(f"{KEY}:seq", ahead)
    publish(r, "a")
    last = publish(r, "a")
    r.xdel(f"{KEY}:log:a", f"{last}-0")
    r.delete(f"{KEY}:seq", f"{KEY}:topics", f"{KEY}:horizon")
    assert int(publish(r, "a")) == int(last) + 1


def test_lost_counter_and_index_restart_above_the_horizon(r):
    ahead = now_us(r) + 365 * DAY_US
    r.set(f"{KEY}:horizon", ahead)
    assert int(publish(r, "a")) == ahead + 1
    assert int(r.get(f"{KEY}:horizon")) == ahead


def test_counter_set_back_never_reuses_an_id(r):
    ahead = now_us(r) + 365 * DAY_US
    r.set(f"{KEY}:seq", ahead)
    publish(r, "a")
    r.set(f"{KEY}:seq", 5)
    assert int(publish(r, "b", "a")) == ahead + 2
    r.set(f"{KEY}:seq", ahead + 1)
    assert int(publish(r, "a")) == ahead + 3
    assert_chain(log(r, "a"))


def test_last_id_below_2_to_the_53_is_given_and_the_next_refused_whole(r, raw):
    r.set(f"{KEY}:seq", MAX_ID - 1)
    assert publish(r, "a") == str(MAX_ID)
    before = snapshot(raw)
    with pytest.raises(redis.ResponseError, match="no id is left"):
        publish(r, "a")
    assert snapshot(raw) == before
    assert log(r, "a")[0][0] == MAX_ID
    assert position(r)[0] == MAX_ID
    assert since(r, "cursor", "0", "topic", "a")[3] == {"a": str(MAX_ID)}


def test_namespace_survives_a_restart_with_its_data(tmp_path):
    with RedisServer(tmp_path) as s:
        r = s.client()
        r.function_load(LIBRARY.read_text("utf-8"))
        first = publish(r, "a")
        s.restart()
        second = publish(r, "a")
        assert int(second) > int(first)
        assert_chain(log(r, "a"))


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
    r.execute_command("ACL", "SETUSER", "backend", "reset", "on", ">pw", "~sse:*", "&*", "+@all", "-xsetid", "-xrange")
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


# ---- Log, index, prev ----


def test_prev_chains_each_topic_on_its_own(r):
    for topic in "aabababbba":
        publish(r, topic)
    publish(r, "a", "b")
    for topic in "ab":
        assert_chain(log(r, topic))
    assert index(r) == {t: log(r, t)[-1][0] for t in "ab"}


def test_several_topics_share_one_id(r):
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    publish(r, "b")
    listener.pending()
    new = publish(r, "a", "b", "c", "b")
    assert [log(r, t)[-1][0] for t in "abc"] == [int(new)] * 3
    assert [log(r, t)[-1][1]["prev"] == "0" for t in "abc"] == [True, False, True]
    heard = [(c.rsplit(":", 1)[1], json.loads(d)) for c, d in listener.pending()]
    assert [c for c, _ in heard] == ["a", "b", "c"], "a topic given twice is one topic"
    assert all(m["topic"] == c and m["id"] == new for c, m in heard)
    assert {m["prev"] for c, m in heard if c != "b"} == {"0"}


def test_64_topics_are_taken(r):
    topics = [f"t.{i}" for i in range(64)]
    new = int(publish(r, *topics))
    assert index(r) == {t: new for t in topics}


def test_log_entry_holds_every_option(r):
    new = publish(r, "a", data="D", event="E", retry="0150", priority="high", key="K", ttl="60000",
                  match=' {"user_id" : "42"} ')  # fmt: skip
    assert log(r, "a") == [
        (int(new), {"data": "D", "prev": "0", "event": "E", "retry": "150", "priority": "high",
                    "key": "K", "ttl": "60000", "match": '{"user_id":"42"}'})]  # fmt: skip


def test_event_names_lose_what_could_break_a_frame(r):
    listener = Listener(r, f"{KEY}:ch:a")
    publish(r, "a", event="e\r\nid: 9\0x")
    publish(r, "a", event="\r\n\0")
    publish(r, "a", event="")
    assert [f.get("event") for _, f in log(r, "a")] == ["eid: 9x", None, None]
    assert [json.loads(d).get("event") for _, d in listener.pending()] == ["eid: 9x", None, None]


# ---- Envelope ----


def test_envelope_holds_the_whole_event(r):
    listener = Listener(r, f"{KEY}:ch:a.b")
    first = publish(r, "a.b", data="1")
    second = publish(r, "a.b", data='é"\\/\n\t', event="E\u2028", retry="1500", priority="2",
                     key="K", ttl="9007199254740991", match='{"user_id":"42","n":7,"ok":true,"in":["a",null]}',
                     ephemeral="0")  # fmt: skip
    heard = [json.loads(d) for _, d in listener.pending()]
    assert heard[0] == {"sse": 1, "id": first, "prev": "0", "topic": "a.b", "data": "1"}
    assert heard[1] == {
        "sse": 1, "id": second, "prev": first, "topic": "a.b", "data": 'é"\\/\n\t', "event": "E\u2028",
        "retry": 1500, "priority": 2, "key": "K", "ttl": MAX_ID,
        "match": {"user_id": "42", "n": 7, "ok": True, "in": ["a", None]},
    }  # fmt: skip


def test_any_bytes_survive_as_data(raw):
    data = bytes(range(256)) * 3 + "\u20ac\U0001f600".encode() + b"\xff\xc0\x80"
    listener = Listener(raw, f"{KEY}:ch:a")
    new = publish(raw, "a", data=data)
    assert raw.xrange(f"{KEY}:log:a") == [(new + b"-0", {b"data": data, b"prev": b"0"})]
    ((_, envelope),) = listener.pending()
    assert b"\0" not in envelope and b"\\u0000" in envelope and b"\n" not in envelope
    # Not UTF-8 is no JSON, strictly: the bytes are there as they were, and relays read them so.
    assert json.loads(envelope.decode("utf-8", "surrogateescape"))["data"].encode(
        "utf-8", "surrogateescape"
    ) == data


def test_data_may_be_empty_or_large(raw):
    listener = Listener(raw, f"{KEY}:ch:a")
    for data in (b"", b"x" * (4 << 20)):
        publish(raw, "a", data=data)
        ((_, envelope),) = listener.pending()
        assert json.loads(envelope)["data"].encode() == data
        assert raw.xrevrange(f"{KEY}:log:a", count=1)[0][1][b"data"] == data


def test_topics_may_hold_what_is_special_elsewhere(r):
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    topics = ["é.x", "https://x/1", "a[b]", "a?", "a\\b", 'q"q', "{x}", "x" * 512, "€", "😀"]
    publish(r, *topics)
    assert [(c.removeprefix(f"{KEY}:ch:"), json.loads(d)["topic"]) for c, d in listener.pending()] == [
        (t, t) for t in topics
    ]
    assert set(index(r)) == set(topics)


# ---- Ephemeral ----


def test_ephemeral_event_is_live_only(r, raw):
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    before = snapshot(raw)
    for flag in ("1", "true"):
        assert publish(r, "a", "b", data="D", event="E", ephemeral=flag) is None
    assert snapshot(raw) == before == {}
    heard = [json.loads(d) for _, d in listener.pending()]
    twins = [message.pop("twin") for message in heard]
    assert twins[0] == twins[1] != twins[2] == twins[3]
    assert heard == [{"sse": 1, "topic": t, "data": "D", "event": "E"} for t in "abab"]


def test_ephemeral_event_with_once_is_sent_once(r):
    listener = Listener(r, f"{KEY}:ch:a")
    for _ in range(3):
        assert publish(r, "a", once="k", ephemeral="true") is None
    assert len(listener.pending()) == 1
    assert 0 < r.pttl(f"{KEY}:once:k") <= 86400000


# ---- Once ----


def test_once_publishes_once_and_returns_the_first_id(r):
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    first = publish(r, "a", data="1", once="order 7\n")
    assert publish(r, "a", data="2", once="order 7\n") == first
    assert publish(r, "b", data="3", once="order 7\n") == first
    assert int(publish(r, "a", data="4", once="order 8")) > int(first)
    assert [f["data"] for _, f in log(r, "a")] == ["1", "4"]
    assert log(r, "b") == []
    assert len(listener.pending()) == 2


def test_once_publishes_once_when_many_try_at_the_same_time(server, r):
    def attempt(_):
        return publish(server.client(), "a", once="k")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(attempt, range(64)))) == 1
    assert len(log(r, "a")) == 1


def test_once_ttl_is_of_this_publish_alone(r):
    listener = Listener(r, f"{KEY}:ch:a")
    publish(r, "a", once="k", once_ttl="60000")
    publish(r, "a", once="live", once_ttl="70000", ephemeral="1")
    publish(r, "a", once="usual")
    publish(r, "a", once="forever", once_ttl=MAX_ID)
    ttl = {k: r.pttl(f"{KEY}:once:{k}") for k in ("k", "live", "usual", "forever")}
    assert 0 < ttl["k"] <= 60000 < ttl["live"] <= 70000 < ttl["usual"] <= DAY_US / 1000 < ttl["forever"]
    assert all("once_ttl" not in f for _, f in log(r, "a"))
    assert all("once_ttl" not in d for _, d in listener.pending())
    r.execute_command("XADD", f"{KEY}:inbox", "*", "topic", "a", "data", "x", "once", "in", "once_ttl", "60000")
    assert drain(r)[:2] == [1, 0]
    assert 0 < r.pttl(f"{KEY}:once:in") <= 60000


def test_once_is_forgotten_after_its_time(r):
    position(r, "once_ttl", "30")
    first = publish(r, "a", once="k")
    wait_until(lambda: not r.exists(f"{KEY}:once:k"))
    assert int(publish(r, "a", once="k")) > int(first)


# ---- Bad arguments ----

BAD_TOPICS = ["", "a..b", ".a", "a.", "a.*", "a.>", "*", ">", "a b", "a\tb", "a\nb", "a\0b", "a\x7fb", "x" * 513]
BAD_UTF8 = [b"\xff", b"a\x80", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82",
            b"\xc3\xf0\x9f\x98\x80\xa9", b"\xf0\x9f\xc3\xa9\x98\x80", b"\xf8\x88\x80\x80\x80", b"\xe0\x80\x80"]  # fmt: skip
GOOD = ["topic", "a", "data", "x"]
BAD_PUBLISH = (
    [("topic", ["topic", "ok", "topic", t, "data", "x"]) for t in BAD_TOPICS + BAD_UTF8]
    + [("topic", ["data", "x"]), ("data", ["topic", "a"]), ("topic", [])]
    + [("topic", [a for i in range(65) for a in ("topic", f"t{i}")] + ["data", "x"])]
    + [("data", ["topic", "a", "data"]), ("data", GOOD + ["data", "y"])]
    + [("retry", GOOD + ["retry", v]) for v in ("", "-1", "1.5", "1e3", "0x10", " 5", "9" * 16, "1" * 400)]
    + [("ttl", GOOD + ["ttl", v]) for v in ("soon", "-1", "9007199254740992")]
    + [("priority", GOOD + ["priority", v]) for v in ("", "urgent", "1.0", "10", "-1", "-")]
    + [("ephemeral", GOOD + ["ephemeral", v]) for v in ("", "yes", "TRUE", "2")]
    + [("once", GOOD + ["once", v]) for v in ("", "k" * 513)]
    + [("once_ttl", GOOD + ["once", "k", "once_ttl", v]) for v in ("", "0", "-1", "1.5", "x", 2**53)]
    + [("once_ttl", GOOD + ["once_ttl", "5"])]
    + [("key", GOOD + ["key", v]) for v in ("", "k" * 513)]
    + [("match", GOOD + ["match", v]) for v in ("", "x", "[]", '["a"]', '"a"', "{", '{"a":NaN}', '{"a":0x10',
       '{"a":12345678901234567}', '{"a":[]}', '{"a":{}}', '{"a":1}}', "{" * 2000, '{"a":1e999}')]
    + [(n, GOOD + [n, "1"]) for n in ("max_events", "log_ttl", "index_ttl", "id", "prev", "Topic", "__index")]
    + [("event", GOOD + ["event", "a", "event", "b"]), ("retry", GOOD + ["retry", "1", "retry", "1"])]
    + [("unknown", GOOD + ["unknown"])]
)  # fmt: skip


@pytest.mark.parametrize("field,args", BAD_PUBLISH)
def test_publish_with_a_bad_argument_names_it_and_changes_nothing(r, raw, field, args):
    publish(r, "a")
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    before = snapshot(raw)
    with pytest.raises(redis.ResponseError) as refusal:
        r.fcall("sse_publish", 1, KEY, *args)
    assert str(refusal.value).startswith(f"sse_publish: {field}: ")
    assert snapshot(raw) == before
    assert listener.pending() == []


def test_names_from_strangers_are_shortened_and_cleaned_in_errors(raw):
    with pytest.raises(redis.ResponseError) as refusal:
        raw.fcall("sse_publish", 1, KEY, *GOOD, b"\xff\r\n" + b"n" * 500, "1")
    assert str(refusal.value) == "sse_publish: ???" + "n" * 29 + ": unknown argument"


BAD_KEYS = [[], ["default"], ["sse:default"], ["sse:{}"], ["{default}"], ["sse:{a b}"], ["sse:{a}:x"], [":{a}:{b}"],
            ["sse:{" + "n" * 65 + "}"], ["p" * 65 + ":{a}"], ["s*e:{a}"], [KEY, KEY], [KEY, "sse:{b}"]]  # fmt: skip


@pytest.mark.parametrize("function", ["sse_publish", "sse_drain", "sse_position", "sse_since"])
@pytest.mark.parametrize("keys", BAD_KEYS)
def test_keys_of_another_form_are_refused(r, function, keys):
    position(r)  # so that the namespace is one that was just used
    r.flushall()
    with pytest.raises(redis.ResponseError, match=f"^{function}: key: "):
        r.fcall(function, len(keys), *keys, *(GOOD if function == "sse_publish" else []))
    assert r.dbsize() == 0


BAD_POSITION = [("seen", ["seen", v]) for v in ("", "-1", "x", "1.5", "9007199254740992")]
BAD_POSITION += [(n, [n, v]) for n in ("max_events", "log_ttl", "index_ttl", "once_ttl") for v in ("0", "-5", "1s")]
BAD_POSITION += [("seen", ["seen"]), ("log_ttl", ["max_events", "5", "log_ttl", "1", "log_ttl", "2"]), ("x", ["x", "1"])]
BAD_SINCE = [("cursor", []), ("cursor", ["cursor", "-1"]), ("cursor", ["cursor"]), ("cursor", ["cursor", "1"] * 2),
             ("topic", ["cursor", "1", "topic", "a.*"]), ("topic", ["cursor", "1", "topic", ""]),
             ("limit", ["cursor", "1", "limit", "127"]), ("limit", ["cursor", "1", "limit"]),
             ("limit", ["cursor", "1", "limit", "128", "limit", "128"]),
             ("prefix", ["cursor", "1", "prefix"]), ("pattern", ["cursor", "1", "pattern", "a.*"])]  # fmt: skip
BAD_DRAIN = [("count", ["count", v]) for v in ("0", "-1", "x", "10001")]
BAD_DRAIN += [("count", ["count"]), ("n", ["n", "1"]), ("x", ["count", "1", "x", "2"])]
BAD_OTHERS = (
    [("sse_position", *b) for b in BAD_POSITION]
    + [("sse_since", *b) for b in BAD_SINCE]
    + [("sse_drain", *b) for b in BAD_DRAIN]
)


@pytest.mark.parametrize("function,field,args", BAD_OTHERS)
def test_other_functions_with_a_bad_argument_name_it_and_change_nothing(r, raw, function, field, args):
    r.xadd(f"{KEY}:inbox", {"topic": "a", "data": "x"})
    before = snapshot(raw)
    with pytest.raises(redis.ResponseError, match=f"^{function}: {field}: "):
        r.fcall(function, 1, KEY, *args)
    assert snapshot(raw) == before


# ---- What else can fail, half-way ----


def test_publish_is_refused_whole_when_memory_is_out(r, raw):
    publish(r, "a")
    r.xadd(f"{KEY}:inbox", {"topic": "a", "data": "x"})
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    before = snapshot(raw)
    r.config_set("maxmemory-policy", "noeviction")
    r.config_set("maxmemory", 1)
    with pytest.raises(redis.ResponseError, match="OOM|maxmemory"):
        publish(r, "a", "b", once="k")
    with pytest.raises(redis.ResponseError, match="OOM|maxmemory"):
        drain(r)
    assert snapshot(raw) == before
    # Streams are served from the log meanwhile.
    assert r.fcall("sse_version", 0) >= 1
    assert position(r)[0] == log(r, "a")[0][0]
    assert since(r, "cursor", "0", "prefix", "")[4] == ["a"]
    r.config_set("maxmemory", 0)
    assert listener.pending() == []
    assert publish(r, "a", "b", once="k")


def without_counter(snap):
    return {k: v for k, v in snap.items() if not k.endswith(b":seq")}


def test_log_of_a_wrong_type_undoes_the_topics_before_it(r, raw):
    publish(r, "a")
    r.set(f"{KEY}:log:c", "not a stream")
    r.zadd(f"{KEY}:topics", {"c": 5})
    before, ttl = without_counter(snapshot(raw)), r.pttl(f"{KEY}:log:a")
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        publish(r, "b", "c", once="k")
    assert without_counter(snapshot(raw)) == before
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        publish(r, "a", "c", once="k")
    assert index(r) == {"a": log(r, "a")[-1][0], "c": 5} and len(log(r, "a")) == 1
    assert r.pttl(f"{KEY}:log:a") > ttl - 60000
    assert listener.pending() == []
    assert int(publish(r, "a")) > 0
    assert_chain(log(r, "a"))


@pytest.mark.parametrize("name", ["seq", "topics", "config", "horizon", "inbox"])
def test_namespace_keys_of_a_wrong_type_are_left_alone(r, raw, name):
    r.xadd(f"{KEY}:inbox", {"topic": "a", "data": "x"})
    r.delete(f"{KEY}:{name}")
    r.rpush(f"{KEY}:{name}", "somebody's list")
    before = snapshot(raw)
    calls = [lambda: drain(r)]
    if name != "inbox":
        calls.append(lambda: publish(r, "b"))
    for call in calls:
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            call()
        assert snapshot(raw) == before


def test_counter_that_is_no_number_is_left_alone(r, raw):
    for junk in ("abc", "-1", "1.5", "nan", "inf"):
        r.set(f"{KEY}:seq", junk)
        before = snapshot(raw)
        for call in (publish, lambda r, _: position(r), lambda r, _: since(r, "cursor", "1")):
            with pytest.raises(redis.ResponseError, match="seq does not hold an id"):
                call(r, "a")
        assert snapshot(raw) == before


@pytest.mark.parametrize("rule", [["resetchannels"], ["-zadd"], ["-xadd"], ["-set"], ["-pexpire"],
                                  ["resetchannels", f"&{KEY}:ch:a"]])  # fmt: skip
@pytest.mark.parametrize("options", [{}, {"ephemeral": "1"}])
def test_user_without_a_permission_leaves_no_half_publish(server, r, raw, rule, options):
    r.execute_command("ACL", "SETUSER", "backend", "reset", "on", ">pw", "~sse:*", "&*", "+@all", *rule)
    backend = server.client(username="backend", password="pw")
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    publish(r, "old")
    listener.pending()
    before = without_counter(snapshot(raw))
    try:
        if options and rule in (["-zadd"], ["-xadd"], ["-pexpire"]):
            return  # an ephemeral event needs none of these
        for topics in (["b"], ["a", "b"]):
            with pytest.raises(redis.ResponseError, match="permission|The user executing the script can't"):
                publish(backend, *topics, once="k", **options)
        assert without_counter(snapshot(raw)) == before
        assert listener.pending() == []
    finally:
        r.execute_command("ACL", "DELUSER", "backend")


# ---- Inbox ----


def inbox(r, *fields):
    return r.execute_command("XADD", f"{KEY}:inbox", "*", *fields)


def test_drain_publishes_in_order_and_deletes(r):
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    for i in range(25):
        inbox(r, "topic", f"t{i % 3}", "data", i)
    assert drain(r, "count", "10") == [10, 0, 15, ""]
    assert drain(r) == [15, 0, 0, ""]
    assert drain(r) == [0, 0, 0, ""]
    heard = [json.loads(d) for _, d in listener.pending()]
    assert [int(m["data"]) for m in heard] == list(range(25))
    assert [int(m["id"]) for m in heard] == sorted(int(m["id"]) for m in heard)
    for t in ("t0", "t1", "t2"):
        assert_chain(log(r, t))
    assert r.xlen(f"{KEY}:inbox") == 0


def test_drain_moves_100_entries_unless_told_otherwise(r):
    for i in range(101):
        inbox(r, "topic", "a", "data", i)
    assert drain(r) == [100, 0, 1, ""]


def test_drain_is_the_same_as_publish(r):
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    options = ["event", "e", "retry", "5", "priority", "1", "key", "k", "ttl", "9", "match", '{"u":"1"}']
    inbox(r, "topic", "a", "data", "D", "topic", "b", *options)
    publish(r, "a", "b", data="D", **dict(zip(options[::2], options[1::2])))
    drain(r)
    heard = [json.loads(d) for _, d in listener.pending()]
    for m in heard:
        m.pop("id"), m.pop("prev")
    assert heard[:2] == heard[2:]
    for t in "ab":
        (_, one), (_, two) = log(r, t)
        one.pop("prev"), two.pop("prev")
        assert one == two


def test_drain_is_exactly_once_and_in_order_with_several_drainers(server, r):
    listener = Listener(r, f"{KEY}:ch:a")
    total, writers = 1500, 3

    def write(w):
        c = server.client()
        for i in range(total // writers):
            c.xadd(f"{KEY}:inbox", {"topic": "a", "data": f"{w}:{i}"})

    def pump(_):
        c, published = server.client(), 0
        while not (written.is_set() and c.xlen(f"{KEY}:inbox") == 0):
            n, rejected, _, _ = c.fcall("sse_drain", 1, KEY, "count", "7")
            assert rejected == 0
            published += n
        return published

    written = threading.Event()
    with ThreadPoolExecutor(8) as pool:
        pumps = [pool.submit(pump, i) for i in range(4)]
        for w in [pool.submit(write, w) for w in range(writers)]:
            w.result()
        written.set()
        assert sum(p.result() for p in pumps) == total
    heard = [json.loads(d) for _, d in listener.pending()]
    ids = [int(m["id"]) for m in heard]
    assert len(ids) == total and ids == sorted(set(ids))
    for w in range(writers):
        mine = [m["data"] for m in heard if m["data"].startswith(f"{w}:")]
        assert mine == [f"{w}:{i}" for i in range(total // writers)]


BAD_ENTRIES = [
    (["data", "x"], "topic: missing"),
    (["topic", "a"], "data: missing"),
    (["topic", "a.*", "data", "x"], "topic: "),
    (["topic", b"\xff", "data", "x"], "topic: not UTF-8"),
    (["topic", "a", "data", "x", "retry", "soon"], "retry: "),
    (["topic", "a", "data", "x", "colour", "red"], "colour: unknown argument"),
    (["topic", "a", "data", "x", "data", "y"], "data: given twice"),
    (["topic", "wrong", "data", "x"], "WRONGTYPE"),
    (["topic", "a", "data", "x", "once", "wrong"], "WRONGTYPE"),
]


def test_malformed_entries_are_dropped_and_never_block_those_behind(r):
    r.set(f"{KEY}:log:wrong", "not a stream")
    r.rpush(f"{KEY}:once:wrong", "not a string")
    for i, (fields, _) in enumerate(BAD_ENTRIES):
        inbox(r, *fields)
        inbox(r, "topic", "a", "data", i)
    assert drain(r)[:3] == [len(BAD_ENTRIES), len(BAD_ENTRIES), 0]
    assert [f["data"] for _, f in log(r, "a")] == [str(i) for i in range(len(BAD_ENTRIES))]
    assert_chain(log(r, "a"))


@pytest.mark.parametrize("fields,reason", BAD_ENTRIES)
def test_drain_says_which_entry_it_dropped_and_why(r, fields, reason):
    r.set(f"{KEY}:log:wrong", "not a stream")
    r.rpush(f"{KEY}:once:wrong", "not a string")
    entry = inbox(r, *fields)
    published, rejected, left, text = drain(r)
    assert (published, rejected, left) == (0, 1, 0)
    assert text.startswith(f"{entry}: {reason}")
    assert r.zcard(f"{KEY}:topics") == 0


def test_drain_counts_repeats_and_ephemeral_events_as_published(r):
    for i in range(3):
        inbox(r, "topic", "a", "data", i, "once", "k")
    inbox(r, "topic", "a", "data", "e", "ephemeral", "1")
    assert drain(r) == [4, 0, 0, ""]
    assert [f["data"] for _, f in log(r, "a")] == ["0"]


def test_drainer_that_may_not_delete_publishes_nothing(server, r, raw):
    r.execute_command("ACL", "SETUSER", "relay", "reset", "on", ">pw", "~sse:*", "&*", "+@all", "-xdel")
    inbox(r, "topic", "a", "data", "x")
    before = snapshot(raw)
    try:
        with pytest.raises(redis.ResponseError):
            drain(server.client(username="relay", password="pw"))
        assert snapshot(raw) == before
    finally:
        r.execute_command("ACL", "DELUSER", "relay")


def test_drain_keeps_entries_that_only_this_drainer_may_not_publish(server, r):
    r.execute_command("ACL", "SETUSER", "relay", "reset", "on", ">pw", "~sse:*", f"&{KEY}:ch:a", "+@all")
    for topic in "aba":
        inbox(r, "topic", topic, "data", "x")
    try:
        with pytest.raises(redis.ResponseError, match="permission|The user executing the script can't"):
            drain(server.client(username="relay", password="pw"))
    finally:
        r.execute_command("ACL", "DELUSER", "relay")
    assert r.xlen(f"{KEY}:inbox") == 2, "the first went out, once"
    assert drain(r) == [2, 0, 0, ""]
    assert_chain(log(r, "a"))
    assert (len(log(r, "a")), len(log(r, "b"))) == (2, 1)


# ---- Position ----


def test_position_works_first_on_an_empty_redis_and_then_stays(r):
    before = now_us(r)
    p, horizon = position(r)
    assert before <= p == horizon <= now_us(r)
    assert position(r) == [p, horizon]
    new = int(publish(r, "a"))
    assert position(r) == [new, horizon]
    assert set(r.keys()) == {f"{KEY}:{k}" for k in ("seq", "horizon", "topics", "log:a")}


def test_position_returns_exactly_three_strings(r):
    reply = r.fcall("sse_position", 1, KEY, "seen", "0", "max_events", "7")
    assert len(reply) == 3 and all(isinstance(x, str) and x.isdigit() for x in reply)


def test_position_raises_the_counter_to_what_a_relay_has_seen(r):
    ahead = now_us(r) + DAY_US
    p, horizon = position(r)
    publish(r, "a")
    assert position(r, "seen", ahead) == [ahead, horizon]
    assert position(r, "seen", p) == [ahead, horizon], "never lowered"
    assert int(publish(r, "a")) == ahead + 1
    r.flushall()
    assert position(r, "seen", ahead + 1) == [ahead + 1, ahead + 1]
    assert int(publish(r, "a")) == ahead + 2


def test_position_writes_the_settings_only_where_they_differ(r):
    position(r, "max_events", "5", "log_ttl", "1000", "index_ttl", "2000", "once_ttl", "3000")
    assert r.hgetall(f"{KEY}:config") == {
        "max_events": "5", "log_ttl": "1000", "index_ttl": "2000", "once_ttl": "3000"}  # fmt: skip
    changes = lambda: r.info("persistence")["rdb_changes_since_last_save"]  # noqa: E731
    before = changes()
    position(r, "max_events", "5", "log_ttl", "1000")
    assert changes() == before
    position(r, "max_events", "6")
    assert r.hget(f"{KEY}:config", "max_events") == "6"
    assert r.hget(f"{KEY}:config", "log_ttl") == "1000"


# ---- Retention ----


def test_log_keeps_about_max_events_and_the_chain_tells_what_is_gone(r):
    position(r, "max_events", "50")
    ids = [int(publish(r, "a")) for _ in range(1000)]
    entries = log(r, "a")
    assert 50 <= len(entries) < 50 + 200
    assert [i for i, _ in entries] == ids[-len(entries) :]
    assert int(entries[0][1]["prev"]) == ids[-len(entries) - 1]


def test_settings_default_when_there_are_none_or_they_are_junk(r):
    for junk in (None, "0", "-5", "x", "1.5", "0" * 5, "", "9" * 30):
        r.flushall()
        if junk is not None:
            r.hset(f"{KEY}:config", mapping={k: junk for k in ("max_events", "log_ttl", "index_ttl", "once_ttl")})
        position(r)  # reads them at once
        publish(r, "a", once="k")
        assert 3500000 < r.pttl(f"{KEY}:log:a") <= 3600000
        assert 86000000 < r.pttl(f"{KEY}:once:k") <= 86400000
    r.hset(f"{KEY}:config", "log_ttl", "0070000")
    wait_until(lambda: publish(r, "a") and r.pttl(f"{KEY}:log:a") <= 70000)
    assert 60000 < r.pttl(f"{KEY}:log:a")


def test_settings_take_effect_at_the_next_publish(r):
    for ttl in (50000, 20000, 90000):
        position(r, "log_ttl", ttl)
        publish(r, "a")
        assert ttl - 10000 < r.pttl(f"{KEY}:log:a") <= ttl


def test_index_outlives_an_expired_log_and_the_chain_goes_on(r):
    position(r, "log_ttl", "30")
    first = publish(r, "a")
    wait_until(lambda: not r.exists(f"{KEY}:log:a"))
    assert since(r, "cursor", "0", "topic", "a")[3] == {"a": first}
    position(r, "log_ttl", "60000")
    publish(r, "a")
    assert log(r, "a")[0][1]["prev"] == first


def make_old(r, count, horizon=1):
    """@count topics of the index silent for more than index_ttl. Returns their last ids."""
    position(r)
    r.set(f"{KEY}:horizon", horizon)
    start = now_us(r) - 8 * DAY_US
    old = {f"old.{i}": start + i for i in range(count)}
    r.zadd(f"{KEY}:topics", old)
    return list(old.values())


@pytest.mark.parametrize("call", [lambda r: publish(r, "new"), position], ids=["new topic", "position"])
def test_pruning_forgets_a_few_silent_topics_and_raises_the_horizon(r, call):
    old = make_old(r, 11)
    call(r)
    left = {t for t in index(r) if t.startswith("old.")}
    assert left == {"old.8", "old.9", "old.10"}
    assert r.get(f"{KEY}:horizon") == r.get(f"{KEY}:pruned") == str(old[7])
    assert since(r, "cursor", "0")[1:3] == (old[7], old[7])
    position(r)
    assert int(r.get(f"{KEY}:horizon")) == int(r.get(f"{KEY}:pruned")) >= old[9]


def test_position_tells_the_horizon_after_pruning(r):
    old = make_old(r, 3)
    assert position(r)[1] == old[1]


def test_pruning_never_empties_the_index(r):
    """One that is gone has been lost, then."""
    old = make_old(r, 3)
    for _ in range(3):
        horizon = position(r)[1]
    assert index(r) == {"old.2": old[2]} and horizon == old[1]


def test_publishing_to_known_topics_does_not_prune(r):
    publish(r, "known")
    make_old(r, 3)
    publish(r, "known")
    assert len(index(r)) == 4 and r.get(f"{KEY}:horizon") == "1"


def test_pruning_never_lowers_the_horizon(r):
    ids = make_old(r, 3)
    r.set(f"{KEY}:horizon", ids[2] + 5)
    position(r)
    assert set(index(r)) == {"old.2"}
    assert r.get(f"{KEY}:horizon") == str(ids[2] + 5)
    assert r.get(f"{KEY}:pruned") is None


def test_pruning_spares_what_is_being_published_and_what_is_young(r):
    old = make_old(r, 2)
    r.zadd(f"{KEY}:topics", {"young": now_us(r) - 6 * DAY_US})
    new = int(publish(r, "old.1", "new"))
    assert set(index(r)) == {"old.1", "young", "new"}
    assert log(r, "old.1") == [(new, {"data": "x", "prev": str(old[1])})]
    assert r.get(f"{KEY}:horizon") == str(old[0])


def test_pruned_topic_that_returns_starts_a_new_chain_above_the_horizon(r):
    old = make_old(r, 1)
    publish(r, "other")
    new = int(publish(r, "old.0"))
    assert log(r, "old.0") == [(new, {"data": "x", "prev": "0"})]
    assert int(r.get(f"{KEY}:horizon")) == old[0] < new


def test_topic_whose_log_outlived_its_index_entry_goes_on_with_its_chain(r):
    publish(r, "a")
    r.zrem(f"{KEY}:topics", "a")
    publish(r, "a")
    assert_chain(log(r, "a"))


# ---- Since ----


def test_since_tells_last_ids_of_topics_and_of_prefixes(r):
    ids = {t: publish(r, t) for t in ("orders.eu.x", "orders.us.x", "ordersX", "other")}
    p, horizon, pruned, last, order = since(r, "cursor", "0", "topic", "silent", "topic", "other", "prefix", "orders.")
    assert p == int(ids["other"]) and horizon == int(ids["orders.eu.x"]) - 1 and pruned == 0
    assert last == {"silent": "0", "other": ids["other"], "orders.eu.x": ids["orders.eu.x"],
                    "orders.us.x": ids["orders.us.x"]}  # fmt: skip
    assert order[:2] == ["silent", "other"]


def test_since_leaves_out_what_prefixes_find_at_or_below_the_cursor(r):
    ids = [publish(r, t) for t in ("a.1", "a.2", "a.3")]
    assert since(r, "cursor", ids[1], "prefix", "a.")[4] == ["a.3"]
    assert since(r, "cursor", ids[1], "prefix", "")[4] == ["a.3"]
    assert since(r, "cursor", ids[2], "prefix", "")[4] == []
    assert since(r, "cursor", ids[2], "topic", "a.1")[3] == {"a.1": ids[0]}, "asked for by name"


def test_since_lists_each_topic_once_and_takes_prefixes_literally(r):
    for t in ("a%.b", "a.b", "[x]", "é.1"):
        publish(r, t)
    assert sorted(since(r, "cursor", "0", "topic", "a.b", "topic", "a.b", "prefix", "a", "prefix", "")[4]) == sorted(
        ["a.b", "a%.b", "[x]", "é.1"]
    )
    assert since(r, "cursor", "0", "prefix", "a.")[4] == ["a.b"]
    assert since(r, "cursor", "0", "prefix", "a%")[4] == ["a%.b"]
    assert since(r, "cursor", "0", "prefix", "é")[4] == ["é.1"]
    assert since(r, "cursor", "0", "prefix", "a.b.c.d")[4] == []


def pages(r, cursor, limit, *args):
    """Each page's topics, and the ids up to which they are all there was."""
    while True:
        position, _, _, flat, upto = r.fcall("sse_since", 1, KEY, "cursor", cursor, "limit", limit, *args)
        assert int(upto) <= int(position)
        yield dict(zip(flat[::2], flat[1::2])), upto
        if upto == position:
            return
        assert int(upto) > int(cursor)
        cursor = upto


@pytest.mark.parametrize("prefix", ["", "a."])
def test_since_by_pages_tells_all_that_moved(r, prefix):
    """An event on many topics gives all of them one id: no page may end among these."""
    start = position(r)[0]
    topics = [f"a.{n}" for n in range(600)]
    last = {}
    for i in range(0, 600, 60):
        last |= dict.fromkeys(topics[i : i + 60], publish(r, *topics[i : i + 60]))
    publish(r, "other")
    found, cursor = {}, start
    for page, upto in pages(r, start, 128, "prefix", prefix):
        assert all(int(cursor) < int(id) <= int(upto) for id in page.values())
        found |= page
        cursor = upto
    assert len(found) == (601 if prefix == "" else 600) and last.items() <= found.items()


def test_since_by_pages_gets_past_scores_that_are_no_ids(r):
    start = position(r)[0]
    low = publish(r, "low")
    r.zadd(f"{KEY}:topics", {f"forged.{n}": int(low) + 0.5 for n in range(200)})
    publish(r, "next")
    high, found = publish(r, "high"), {}
    for page, _ in pages(r, start, 128, "prefix", ""):
        found |= page
    assert (found["low"], found["high"]) == (low, high)


def test_since_without_prefix_tells_the_position_as_complete(r):
    publish(r, "a")
    p, *_, upto = r.fcall("sse_since", 1, KEY, "cursor", "0", "topic", "a", "limit", "128")
    assert upto == p


def test_since_creates_the_counter_like_position(r):
    p, horizon, pruned, last, _ = since(r, "cursor", "5", "topic", "a")
    assert (p, pruned, last) == (horizon, 0, {"a": "0"})
    assert position(r) == [p, horizon]


# ---- Namespaces ----


def test_namespaces_and_prefixes_do_not_cross(r):
    keys = ["sse:{a}", "sse:{b}", "other.app:{a}"]
    listeners = {k: Listener(r, pattern=f"{k}:ch:*") for k in keys}
    for i in range(6):
        publish(r, "t", data=i, once="k" if i < 3 else f"k{i}", space=keys[i % 3])
    for n, k in enumerate(keys):
        assert [f["data"] for _, f in log(r, "t", k)] == [str(n), str(n + 3)]
        assert_chain(log(r, "t", k))
        assert [json.loads(d)["data"] for _, d in listeners[k].pending()] == [str(n), str(n + 3)]
        r.delete(*r.keys(k.replace("{", "\\{") + ":*"))
    assert r.keys() == []


def test_settings_of_one_namespace_are_not_anothers(r):
    position(r, "log_ttl", "5000", space="sse:{a}")
    for _ in range(2):
        publish(r, "t", space="sse:{a}")
        publish(r, "t", space="sse:{b}")
    assert r.pttl("sse:{a}:log:t") <= 5000
    assert r.pttl("sse:{b}:log:t") > 3500000
