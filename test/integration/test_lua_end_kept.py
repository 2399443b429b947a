# SPDX-License-Identifier: Apache-2.0
"""What is left of topics that ended, against a real Redis: sse_since, log_max, log_ttl, pruning."""

import pytest
import redis

from lua_ends_rig import (
    ENDED, HOUR_MS, DAY_MS, end, ended, ends_told, ended_index, kept_ms, heard, refused, settings, wait_until_over,
)
from lua_rig import (  # noqa: F401
    KEY, Listener, index, log, now_us, position, publish, r, raw, server, since,
)
from relay_process import wait_until


# ---- sse_since, sse_look ----


@pytest.mark.parametrize("function", ["sse_since", "sse_look"])
def test_six_elements_always(r, function):
    publish(r, "a")
    for args in ((), ("topic", "a"), ("prefix", ""), ("limit", "128"), ("prefix", "", "limit", "128")):
        answer = r.fcall(function, 1, KEY, "cursor", "0", *args)
        assert len(answer) == 6 and answer[4] == answer[0] and answer[5] == []


@pytest.mark.parametrize("function", ["sse_since", "sse_look"])
def test_ended_topics_are_listed_like_others_with_their_reasons(r, function):
    a = publish(r, "a", end=1)
    b = publish(r, "b")
    c = end(r, "c", "reason", "cancelled")[0]
    d = end(r, "x.d", "reason", "timeout")[0]

    def told(*args):
        return ends_told(r, "cursor", *args, function=function)

    assert told("0", "topic", "a", "topic", "b", "topic", "no") == ({"a": "end"}, {"a": a, "b": b, "no": "0"})
    everything = {"a": a, "b": b, "c": c, "x.d": d}
    assert told("0", "prefix", "") == ({"a": "end", "c": "cancelled", "x.d": "timeout"}, everything)
    assert list(told("0", "prefix", "")[1]) == ["a", "b", "c", "x.d"]  # in order of ids
    assert told(a, "prefix", "x.", "prefix", "c") == ({"c": "cancelled", "x.d": "timeout"}, {"c": c, "x.d": d})
    assert told(c, "prefix", "", "topic", "a") == ({"a": "end", "x.d": "timeout"}, {"a": a, "x.d": d})
    assert told(d, "prefix", "") == ({}, {})


def test_pages_go_through_both_indexes(r):
    ids = {}
    for i in range(300):
        topic = f"t{i}"
        ids[topic] = end(r, topic)[0] if i % 3 == 0 else publish(r, topic)
    found, reasons, cursor = {}, {}, "0"
    for page in range(4):
        answer = r.fcall("sse_since", 1, KEY, "cursor", cursor, "prefix", "", "limit", "128")
        found.update(zip(answer[3][::2], answer[3][1::2]))
        reasons.update(zip(answer[5][::2], answer[5][1::2]))
        cursor = answer[4]
        if cursor == answer[0]:
            break
    assert page == 2 and found == ids
    assert reasons == {f"t{i}": "end" for i in range(0, 300, 3)}


def test_pages_where_a_topic_is_in_both_indexes(r):
    """Not by us; but nothing else may be passed over for it."""
    first = int(publish(r, "first"))
    live = {f"l{i}": first + 1000 + i for i in range(50)}
    over = {f"e{i}": first + 100 + i for i in range(200)}
    r.zadd(f"{KEY}:topics", live)
    r.zadd(f"{KEY}:ended", {**over, **{f"l{i}": first + 1 + i for i in range(50)}})
    topics = {**live, **over}
    position(r, "seen", first + 2000)
    found, cursor, pages = {}, first, 0
    while True:
        answer = r.fcall("sse_since", 1, KEY, "cursor", cursor, "prefix", "", "limit", "128")
        assert len(answer[3]) <= 2 * 128
        found.update({t: int(last) for t, last in zip(answer[3][::2], answer[3][1::2])})
        assert int(answer[4]) > int(cursor)
        cursor, pages = answer[4], pages + 1
        if cursor == answer[0]:
            break
    assert found == topics and pages <= 5


def test_pages_end_where_one_part_is_cut(r):
    """128 that have ended, then others: what is open stands between them, and is all of the first page."""
    for i in range(64):
        publish(r, f"open{i}")
    for i in range(200):
        end(r, f"e{i:03}")
    late = publish(r, "late")
    answer = r.fcall("sse_since", 1, KEY, "cursor", "0", "prefix", "", "limit", "128")
    assert answer[3][::2] == [f"open{i}" for i in range(64)] + [f"e{i:03}" for i in range(63)]
    assert int(answer[4]) >= int(answer[3][-1]) and answer[4] != answer[0]
    found, cursor = dict(zip(answer[3][::2], answer[3][1::2])), answer[4]
    while cursor != answer[0]:
        answer = r.fcall("sse_since", 1, KEY, "cursor", cursor, "prefix", "", "limit", "128")
        found.update(zip(answer[3][::2], answer[3][1::2]))
        cursor = answer[4]
    assert len(found) == 265 and found["late"] == late


def test_the_reasons_of_very_many(r):
    p = r.pipeline(transaction=False)
    for i in range(1200):
        p.fcall("sse_end", 1, KEY, "topic", f"t{i}", "reason", ["end", "cancelled", "timeout"][i % 3])
    p.execute()
    over, listed = ends_told(r, "cursor", "0", "prefix", "")
    assert over == {f"t{i}": ["end", "cancelled", "timeout"][i % 3] for i in range(1200)}
    assert len(listed) == 1200


# ---- log_max, log_ttl ----


def test_log_max_holds_for_the_event_that_gives_it(r):
    p = r.pipeline(transaction=False)
    for i in range(2500):
        p.fcall("sse_publish", 1, KEY, "topic", "long", "data", i, "log_max", 5000)
    p.execute()
    assert r.xlen(f"{KEY}:log:long") == 2500  # beyond max_events
    publish(r, "long", log_max=300)
    assert 300 <= r.xlen(f"{KEY}:log:long") < 500  # whole blocks
    settings(r, max_events=150)
    publish(r, "long")
    assert 150 <= r.xlen(f"{KEY}:log:long") < 300
    assert "log_max" not in log(r, "long")[-1][1]


def test_log_ttl_holds_for_the_event_that_gives_it(r):
    publish(r, "a", log_ttl=DAY_MS)
    assert HOUR_MS < r.pttl(f"{KEY}:log:a") <= DAY_MS
    publish(r, "a")
    assert 0 < r.pttl(f"{KEY}:log:a") <= HOUR_MS
    publish(r, "a", log_ttl=5000)
    assert 0 < r.pttl(f"{KEY}:log:a") <= 5000


def test_neither_stands_in_log_or_envelope(r):
    listener = Listener(r, f"{KEY}:ch:a")
    publish(r, "a", log_max=5, log_ttl=5000)
    (m,) = heard(listener)
    assert m.keys() == {"sse", "id", "prev", "topic", "data"}
    assert log(r, "a")[0][1].keys() == {"data", "prev"}


@pytest.mark.parametrize("how", ["event", "sse_end"])
def test_an_end_neither_trims_nor_shortens_what_is_there(r, how):
    p = r.pipeline(transaction=False)
    for i in range(1500):
        p.fcall("sse_publish", 1, KEY, "topic", "a", "data", i, "log_max", 5000, "log_ttl", DAY_MS)
    p.execute()
    settings(r, max_events=100)
    publish(r, "a", end=1) if how == "event" else end(r, "a")
    assert r.xlen(f"{KEY}:log:a") == 1501
    assert HOUR_MS < r.pttl(f"{KEY}:log:a") <= DAY_MS


def test_an_end_keeps_a_log_for_log_ttl_at_least(r):
    publish(r, "a", log_ttl=5000)
    publish(r, "a", end=1)
    assert 5000 < r.pttl(f"{KEY}:log:a") <= HOUR_MS
    end(r, "new")
    assert 5000 < r.pttl(f"{KEY}:log:new") <= HOUR_MS


def test_an_end_with_them_trims_and_sets(r):
    p = r.pipeline(transaction=False)
    for i in range(900):
        p.fcall("sse_publish", 1, KEY, "topic", "a", "data", i, "log_ttl", DAY_MS)
    p.execute()
    publish(r, "a", end=1, log_max=200, log_ttl=5000)
    assert 200 <= r.xlen(f"{KEY}:log:a") < 400
    assert 0 < r.pttl(f"{KEY}:log:a") <= 5000


# ---- how long an end is kept ----


def test_kept_for_the_longest_of_the_three(r):
    settings(r, log_ttl=HOUR_MS)
    now = now_us(r) // 1000
    publish(r, "plain", end=1)
    publish(r, "short", end=1, log_ttl=1000)
    publish(r, "given", end=1, log_ttl=DAY_MS)
    publish(r, "log", log_ttl=DAY_MS)
    end(r, "log")
    slack = now_us(r) // 1000 - now + 1
    for topic, life in (("plain", HOUR_MS), ("short", HOUR_MS), ("given", DAY_MS), ("log", DAY_MS)):
        assert now + life - slack <= kept_ms(r, topic) <= now + life + slack, topic


def test_pruned_like_the_rest_once_its_time_is_over(r):
    settings(r, log_ttl=1)
    publish(r, "open", log_ttl=DAY_MS)
    last = int(publish(r, "a", end=1))
    publish(r, "open", log_ttl=DAY_MS)
    wait_until_over(r, "a")
    position(r)
    assert ended_index(r) == {} and not r.exists(f"{KEY}:ended:until")
    assert r.get(f"{KEY}:horizon") == r.get(f"{KEY}:pruned") == str(last)
    assert ended(r, "a") == {}
    assert since(r, "cursor", "0", "topic", "a")[1:4] == (last, last, {"a": "0"})
    assert int(publish(r, "a", log_ttl=DAY_MS)) > last
    assert log(r, "a")[-1][1]["prev"] == "0"


def test_an_end_prunes_others_on_its_way(r):
    settings(r, log_ttl=1)
    publish(r, "open", log_ttl=DAY_MS)
    last = publish(r, "a", end=1)
    wait_until_over(r, "a")
    publish(r, "b", end=1, log_ttl=DAY_MS)
    assert ended_index(r).keys() == {"b"}
    assert r.get(f"{KEY}:pruned") == last


def test_not_pruned_while_its_log_lives(r):
    settings(r, log_ttl=1)
    publish(r, "open", log_ttl=DAY_MS)
    last = publish(r, "a", end=1)
    r.persist(f"{KEY}:log:a")
    if not r.exists(f"{KEY}:log:a"):  # it was gone already
        r.xadd(f"{KEY}:log:a", {"data": "x", "prev": "0", "end": "end"}, id=f"{last}-0")
    r.pexpire(f"{KEY}:log:a", DAY_MS)
    wait_until(lambda: now_us(r) // 1000 > kept_ms(r, "a"), "its time is over")
    with pytest.raises(redis.ResponseError, match=ENDED):
        publish(r, "a")
    position(r)
    assert ended(r, "a") == {"a": (last, "end")}
    assert kept_ms(r, "a") > now_us(r) // 1000 + HOUR_MS  # as long as its log
    with pytest.raises(redis.ResponseError, match=ENDED):
        publish(r, "a")


@pytest.mark.parametrize("how", ["publish", "sse_end", "with another"])
def test_the_latest_where_all_have_ended_stays_and_makes_way(r, how):
    settings(r, log_ttl=1)
    last = int(publish(r, "a", end=1))
    wait_until_over(r, "a")
    for _ in range(3):
        position(r)  # it is all of the index, so it is not pruned, nor does that begin its time anew
    horizon = int(r.get(f"{KEY}:horizon"))
    assert horizon < last and ended_index(r) == {"a": last}
    if how == "publish":
        new = publish(r, "a", log_ttl=DAY_MS)
    elif how == "sse_end":
        new, reason, by_us = end(r, "a", "reason", "cancelled")
        assert (reason, by_us) == ("cancelled", "1")
    else:
        new = publish(r, "b", "a", log_ttl=DAY_MS)
    assert int(new) > last
    assert r.get(f"{KEY}:horizon") == r.get(f"{KEY}:pruned") == str(last)
    if how == "sse_end":
        assert ended_index(r) == {"a": int(new)}
    else:
        assert ended_index(r) == {} and not r.exists(f"{KEY}:ended:until")
        assert index(r)["a"] == int(new)
        assert log(r, "a")[-1][1]["prev"] == "0"
        assert int(publish(r, "a", log_ttl=DAY_MS)) > int(new)


def test_what_makes_way_tells_of_what_was_pruned_and_of_nothing_lost(r):
    """A relay that has seen more than the index knows raises the counter: no reason to take Redis for empty."""
    settings(r, log_ttl=1)
    last = int(publish(r, "a", end=1))
    ahead = position(r, "seen", last + 10**6)[0]
    wait_until_over(r, "a")
    assert int(publish(r, "a", log_ttl=DAY_MS)) > ahead
    assert r.get(f"{KEY}:horizon") == r.get(f"{KEY}:pruned") == str(last)


def test_an_end_with_last_on_one_whose_time_is_over(r):
    settings(r, log_ttl=1)
    last = publish(r, "a", end=1)
    wait_until_over(r, "a")
    assert end(r, "a", "last", last) == ["0", "", "0"]
    assert end(r, "a", "last", "0")[1:] == ["end", "1"]


def test_what_was_taken_out_of_the_times_is_kept_and_pruned_all_the_same(r):
    publish(r, "open", log_ttl=DAY_MS)
    last = {t: end(r, t, "reason", "cancelled")[0] for t in ("a", "b", "c")}
    r.zrem(f"{KEY}:ended:until", "a", "b")
    now = now_us(r) // 1000
    position(r)
    assert ended(r, "a", "b", "c") == {"a": (last["a"], "end"), "b": (last["b"], "end"), "c": (last["c"], "cancelled")}
    assert kept_ms(r, "a") >= now + HOUR_MS
    settings(r, log_ttl=1)
    r.delete(f"{KEY}:ended:until"), r.delete(*(f"{KEY}:log:{t}" for t in last))
    wait_until(lambda: position(r) and not r.exists(f"{KEY}:ended"), "they are pruned")
    assert r.get(f"{KEY}:horizon") == last["c"] and not r.exists(f"{KEY}:ended:until")
    assert index(r).keys() == {"open"}


def test_a_refusal_does_not_even_prune(r, raw):
    settings(r, log_ttl=1)
    publish(r, "over", end=1)
    publish(r, "open", log_ttl=DAY_MS)
    publish(r, "b", end=1, log_ttl=DAY_MS)
    r.zadd(f"{KEY}:ended", {"over": 1000}), r.zadd(f"{KEY}:ended:until", {"over": 10001})  # if that pruned it
    wait_until(lambda: not r.exists(f"{KEY}:log:over"), "its log is gone")
    refused(r, raw, ENDED, "over", "b")
    refused(r, raw, ENDED, "b", "over")
