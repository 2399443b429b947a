# SPDX-License-Identifier: Apache-2.0
"""Topics that end by silence, against a real Redis: end_after, sse_due."""

import pytest
import redis

from lua_ends_rig import (
    HOUR_MS, DAY_MS, SOON_MS, LATER_MS, end, ended, due, kept_ms, heard, settings,
)
from lua_rig import (  # noqa: F401
    KEY, MAX_ID, Listener, log, now_us, position, publish, r, raw, server, since,
)
from relay_process import wait_until


def test_end_after_stands_in_log_and_envelope(r):
    listener = Listener(r, f"{KEY}:ch:a")
    before = now_us(r) // 1000
    publish(r, "a", end_after=LATER_MS)
    (m,) = heard(listener)
    assert m["end_after"] == LATER_MS and log(r, "a")[0][1]["end_after"] == str(LATER_MS)
    assert before + LATER_MS <= due(r) <= now_us(r) // 1000 + 1 + LATER_MS
    assert ended(r, "a") == {}


def test_nothing_is_due(r):
    assert due(r) == 0
    publish(r, "a")
    assert due(r) == 0


NOTICE = {
    "sse_due": lambda r: r.fcall("sse_due", 1, KEY),
    "sse_position": lambda r: r.fcall("sse_position", 1, KEY),
    "sse_since": lambda r: r.fcall("sse_since", 1, KEY, "cursor", "0"),
}


@pytest.mark.parametrize("who", NOTICE)
def test_whoever_notices_ends_it(r, who):
    first = publish(r, "a", end_after=SOON_MS)
    at = int(first) // 1000 + SOON_MS
    listener = Listener(r, f"{KEY}:ch:a")
    wait_until(lambda: now_us(r) // 1000 > at + 1, "it is due")
    assert ended(r, "a") == {}  # nobody looked
    NOTICE[who](r)
    (m,) = heard(listener)
    assert (m["event"], m["data"], m["end"], m["prev"]) == ("end", "", "timeout", first)
    assert ended(r, "a") == {"a": (m["id"], "timeout")}
    assert log(r, "a")[-1] == (int(m["id"]), {"data": "", "prev": first, "event": "end", "end": "timeout"})
    assert due(r) == 0
    assert not r.exists(f"{KEY}:due", f"{KEY}:due:id")
    assert r.get(f"{KEY}:seq") == m["id"]


def test_who_notices_tells_a_position_that_includes_the_end(r):
    publish(r, "a", end_after=1)
    publish(r, "b", end_after=1)
    wait_until(lambda: now_us(r) // 1000 > r.zrange(f"{KEY}:due", -1, -1, withscores=True)[0][1] + 1, "both are due")
    told = position(r)[0]
    assert told == max(int(last) for last, _ in ended(r, "a", "b").values())
    publish(r, "c", end_after=1)
    wait_until(lambda: now_us(r) // 1000 > r.zrange(f"{KEY}:due", -1, -1, withscores=True)[0][1] + 1, "c is due")
    answer = r.fcall("sse_since", 1, KEY, "cursor", told, "topic", "c", "prefix", "")
    last = ended(r, "c")["c"][0]
    assert answer[0] == last and answer[3:] == [["c", last], last, ["c", "timeout"]]


def test_it_is_not_ended_before_it_is_due(r):
    publish(r, "a", end_after=LATER_MS)
    for notice in NOTICE.values():
        notice(r)
    assert ended(r, "a") == {}


def test_what_follows_prevents_it(r):
    publish(r, "a", end_after=1)
    publish(r, "b", end_after=1)
    second = publish(r, "a")
    wait_until(lambda: due(r) == 0, "all that is due has been looked at")
    assert ended(r, "a", "b").keys() == {"b"}
    assert log(r, "a")[-1][0] == int(second)
    assert not r.exists(f"{KEY}:due:id")


def test_each_event_says_anew_how_long(r):
    publish(r, "a", end_after=1)
    publish(r, "a", end_after=LATER_MS)
    assert due(r) > now_us(r) // 1000
    assert ended(r, "a") == {}
    last = publish(r, "a", end_after=SOON_MS)
    wait_until(lambda: due(r) == 0, "it is due")
    assert ended(r, "a")["a"][1] == "timeout" and log(r, "a")[-1][1]["prev"] == last


def test_an_ephemeral_event_does_not_prevent_it(r):
    publish(r, "a", end_after=SOON_MS)
    publish(r, "a", ephemeral=1)
    wait_until(lambda: due(r) == 0, "it is due")
    assert ended(r, "a")["a"][1] == "timeout"


def test_a_topic_that_ended_is_not_ended_again(r):
    publish(r, "a", end_after=SOON_MS)
    last = end(r, "a", "reason", "cancelled")[0]
    wait_until(lambda: due(r) == 0, "it would be due")
    assert ended(r, "a") == {"a": (last, "cancelled")}
    assert log(r, "a")[-1][0] == int(last)


def test_end_with_end_after_ends_now(r):
    last = publish(r, "a", end=1, end_after=1)
    assert ended(r, "a") == {"a": (last, "end")}
    assert due(r) == 0


def test_end_after_holds_for_each_topic_of_an_event(r):
    last = publish(r, "a", "b", end_after=SOON_MS)
    second = publish(r, "b")
    wait_until(lambda: due(r) == 0, "both were due")
    assert ended(r, "a", "b").keys() == {"a"}
    assert log(r, "a")[-1][1]["prev"] == last and log(r, "b")[-1][0] == int(second)


def test_sixteen_at_a_time(r):
    for i in range(20):
        publish(r, f"t{i:02}", end_after=1)
    latest = r.zrange(f"{KEY}:due", -1, -1, withscores=True)[0][1]
    wait_until(lambda: now_us(r) // 1000 > latest, "all are due")
    assert 0 < due(r) <= latest  # of the four that are left
    assert r.zcard(f"{KEY}:ended") == 16
    assert due(r) == 0
    assert r.zcard(f"{KEY}:ended") == 20


def test_one_that_cannot_be_ended_does_not_hold_up_others(r):
    publish(r, "a", end_after=1)
    publish(r, "b", end_after=1)
    r.delete(f"{KEY}:log:a")
    r.set(f"{KEY}:log:a", "not a stream")
    wait_until(lambda: due(r) == 0, "both were due")
    assert ended(r, "a", "b").keys() == {"b"}


@pytest.mark.parametrize("who", NOTICE)
def test_one_that_is_refused_its_end_is_tried_again_and_holds_up_nothing(r, who):
    """No id is left in its log, which somebody wrote to: not to be mended, and not to be given up."""
    for i in range(3):
        publish(r, f"bad{i}", end_after=1)
    publish(r, "good", end_after=1)
    wait_until(lambda: now_us(r) // 1000 > r.zrange(f"{KEY}:due", -1, -1, withscores=True)[0][1], "all are due")
    for i in range(3):
        r.xadd(f"{KEY}:log:bad{i}", {"x": "y"}, id=f"{MAX_ID}-0")
    now = now_us(r) // 1000
    if who == "sse_due":
        with pytest.raises(redis.ResponseError, match="no id is left"):
            due(r)
    else:
        NOTICE[who](r)
    assert ended(r, "good")["good"][1] == "timeout"
    assert r.get(f"{KEY}:seq") == ended(r, "good")["good"][0]
    assert due(r) >= now + 1000  # later, and told in spite of what was refused
    assert set(r.zrange(f"{KEY}:due", 0, -1)) == set(r.zrange(f"{KEY}:due:id", 0, -1)) == {"bad0", "bad1", "bad2"}
    for i in range(3):
        r.delete(f"{KEY}:log:bad{i}")  # as an operator would
    r.zadd(f"{KEY}:due", {f"bad{i}": now for i in range(3)})
    assert due(r) == 0
    assert ended(r, *(f"bad{i}" for i in range(3))).keys() == {"bad0", "bad1", "bad2"}


def test_what_nobody_looked_at_for_an_index_ttl_is_due_no_more(r):
    settings(r, log_ttl=1, index_ttl=1)
    for i in range(30):
        publish(r, f"t{i}", f"u{i}", end_after=1)
        assert r.zcard(f"{KEY}:due") == r.zcard(f"{KEY}:due:id")
    latest = r.zrange(f"{KEY}:due", -1, -1, withscores=True)[0][1]
    wait_until(lambda: now_us(r) // 1000 > latest + 1, "all are forgotten")
    for i in range(6):
        publish(r, f"v{i}", end_after=DAY_MS)
    for key in ("due", "due:id"):
        assert set(r.zrange(f"{KEY}:{key}", 0, -1)) == {f"v{i}" for i in range(6)}


def test_what_is_due_is_kept_for_an_index_ttl(r):
    publish(r, "a", end_after=1)
    wait_until(lambda: now_us(r) // 1000 > r.zscore(f"{KEY}:due", "a") + 1, "it is due")
    publish(r, "b", end_after=LATER_MS)
    assert ended(r, "a") == {}  # a publish ends no other topic
    assert due(r) > 0 and ended(r, "a")["a"][1] == "timeout"


def test_a_topic_that_was_forgotten_before_it_was_due_does_not_end(r):
    settings(r, log_ttl=1, index_ttl=1)
    publish(r, "a", end_after=LATER_MS)
    publish(r, "b")
    wait_until(lambda: (position(r), r.zscore(f"{KEY}:topics", "a"))[1] is None, "it is pruned")
    wait_until(lambda: not r.exists(f"{KEY}:log:a"), "its log is gone")
    r.zadd(f"{KEY}:due", {"a": 1})
    assert due(r) == 0 and ended(r, "a") == {} and not r.exists(f"{KEY}:due:id")
    publish(r, "a")


def test_a_clock_that_was_ahead_delays_an_end_and_nothing_else(r):
    """Ids from a time to come: what is due goes by the clock."""
    ahead = now_us(r) + 3600 * 10**6
    position(r, "seen", ahead)
    first = publish(r, "a", end_after=1)
    assert int(first) > ahead
    wait_until(lambda: due(r) == 0, "it is due")
    last, reason = ended(r, "a")["a"]
    assert reason == "timeout" and int(last) == int(first) + 1
    assert kept_ms(r, "a") <= now_us(r) // 1000 + 1 + HOUR_MS


def test_namespaces_know_nothing_of_each_others_ends(r):
    other = "sse:{other}"
    publish(r, "a", end_after=1)
    publish(r, "a", end_after=1, space=other)
    end(r, "b")
    assert int(publish(r, "b", space=other)) > 0
    wait_until(lambda: due(r) == 0 and ended(r, "a"), "one of them has ended")
    assert r.fcall("sse_ended", 1, other, "topic", "a", "topic", "b") == []
    wait_until(lambda: r.fcall("sse_due", 1, other) == "0", "the other, too")
    assert r.fcall("sse_ended", 1, other, "topic", "a", "topic", "b")[::3] == ["a"]


def test_a_wrong_key_of_what_is_due_fails_sse_due_and_neither_position_nor_since(r):
    last = publish(r, "a")
    r.set(f"{KEY}:due", "not a sorted set")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        due(r)
    assert position(r)[0] == int(last)
    assert since(r, "cursor", "0", "topic", "a")[3] == {"a": last}
