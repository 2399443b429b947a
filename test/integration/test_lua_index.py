# SPDX-License-Identifier: Apache-2.0
"""sse_position and sse_since against a real Redis: what relays ask, and what is kept for how long."""

import json

import pytest
import redis

from lua_rig import (  # noqa: F401
    DAY_US, KEY, MAX_ID, Listener, assert_chain, found, index, log, now_us, position, publish, r, raw, server, since,
    snapshot,
)
from relay_process import wait_until


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
    assert log(r, "old.1") == [(new, {"data": "x", "prev": str(old[1]), "priority": "instant"})]
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
        position, _, _, flat, upto, _ = r.fcall("sse_since", 1, KEY, "cursor", cursor, "limit", limit, *args)
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
    p, *_, upto, _ = r.fcall("sse_since", 1, KEY, "cursor", "0", "topic", "a", "limit", "128")
    assert upto == p


def test_since_creates_the_counter_like_position(r):
    p, horizon, pruned, last, _ = since(r, "cursor", "5", "topic", "a")
    assert (p, pruned, last) == (horizon, 0, {"a": "0"})
    assert position(r) == [p, horizon]


# ---- Look: since, for a Redis that refuses writes ----


@pytest.fixture
def refusing(r):
    """Refuses every write, as when its disk is full: replicas are easier to miss."""
    yield lambda: r.config_set("min-replicas-to-write", 1)
    r.config_set("min-replicas-to-write", 0)


QUESTIONS = [
    ("cursor", "0", "topic", "a.1", "topic", "silent", "prefix", "b."),
    ("cursor", "0", "prefix", ""),
    ("cursor", "0", "prefix", "", "limit", "128"),
    ("cursor", str(MAX_ID), "topic", "a.1"),
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_look_answers_as_since_does_while_all_writes_are_refused(r, raw, refusing, question):
    for topic in ("a.1", "b.1", "a.1", "b.2"):
        publish(r, topic)
    expected = r.fcall("sse_since", 1, KEY, *question)
    before = snapshot(raw)
    refusing()
    for function in ("sse_since", "sse_position", "sse_publish"):
        with pytest.raises(redis.ResponseError, match="^(NOREPLICAS )?Not enough good replicas"):
            r.fcall(function, 1, KEY, *question)
    assert r.fcall("sse_look", 1, KEY, *question) == expected
    assert r.execute_command("FCALL_RO", "sse_look", 1, KEY, *question) == expected
    assert snapshot(raw) == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: r.delete(f"{KEY}:seq"),
        lambda r: r.delete(f"{KEY}:horizon"),
        lambda r: r.delete(f"{KEY}:topics"),
        lambda r: r.set(f"{KEY}:seq", 5),
        lambda r: r.flushall(),
    ],
    ids=["counter", "horizon", "index", "counter set back", "all"],
)
def test_look_is_refused_where_since_would_have_to_write(r, raw, spoil):
    publish(r, "a")
    publish(r, "a")
    spoil(r)
    before = snapshot(raw)
    with pytest.raises(redis.ResponseError, match="^sse_look: key: .* has to be written first"):
        r.fcall("sse_look", 1, KEY, "cursor", "0", "topic", "a")
    assert snapshot(raw) == before
    since(r, "cursor", "0", "topic", "a")
    assert r.fcall("sse_look", 1, KEY, "cursor", "0", "topic", "a") == r.fcall(
        "sse_since", 1, KEY, "cursor", "0", "topic", "a"
    )


def test_look_passes_over_what_is_no_id(r, raw):
    publish(r, "a")
    r.zadd(f"{KEY}:topics", {"forged": MAX_ID + 1, "half": 1e15 + 0.5})
    before = snapshot(raw)
    looked = r.fcall("sse_look", 1, KEY, "cursor", "0", "topic", "a")
    assert snapshot(raw) == before
    assert looked == r.fcall("sse_since", 1, KEY, "cursor", "0", "topic", "a")


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
