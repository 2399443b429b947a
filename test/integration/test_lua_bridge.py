# SPDX-License-Identifier: Apache-2.0
"""sse_bridge against a real Redis: the lease, and entries of a foreign stream that are published and acknowledged."""

import json
import re

import pytest
import redis

from lua_rig import KEY, Listener, log, publish, r, raw, server, snapshot  # noqa: F401

LEASE, STREAM, GROUP = "sse:bridge:g:s", "s", "g"
HEAD = ("stream", STREAM, "group", GROUP)


def bridge(r, *args, owner="me", ttl=5000):
    return r.fcall("sse_bridge", 1, KEY, "lease", LEASE, "owner", owner, "ttl", ttl, *HEAD, *args)


def entry(id, *fields):
    return ["entry", id, len(fields), *fields]


def event(id, data, *more):
    return entry(id, "topic", "a", "data", data, *more)


@pytest.fixture
def read(r):
    """read("x", "y"): adds such entries, reads them by the group, and returns their ids."""
    r.xgroup_create(STREAM, GROUP, "$", mkstream=True)

    def add_and_read(*texts):
        for text in texts:
            r.xadd(STREAM, {"data": text})
        return [id for id, _ in r.xreadgroup(GROUP, "c", {STREAM: ">"}, count=len(texts))[0][1]]

    return add_and_read


def pending(r):
    return r.xpending(STREAM, GROUP)["pending"]


def test_one_has_the_lease_until_it_ends_or_is_given_back(r):
    assert bridge(r) == [1, 0]
    assert 0 < r.pttl(LEASE) <= 5000
    state, left = bridge(r, owner="other")
    assert state == 0 and 0 < left <= 5000
    assert bridge(r, owner="other", ttl=0)[0] == 0 and r.get(LEASE) == "me"
    assert bridge(r, ttl=9000) == [1, 0] and r.pttl(LEASE) > 5000
    assert bridge(r, ttl=0) == [1, 0] and not r.exists(LEASE)
    assert bridge(r, owner="other") == [1, 0] and bridge(r)[0] == 0


def test_entries_are_published_in_order_and_acknowledged(r, read):
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    ids = read("1", "2", "3")
    assert bridge(r) == [1, 3]
    more = ("event", "e", "key", "k", "priority", "batched", "once", "bridge:g:s:1")
    args = event(ids[0], "1", *more) + event(ids[1], "2") + event(ids[2], "3")
    assert bridge(r, *args) == [1, 3, 3, 0, 0, "", "", 0]
    assert pending(r) == 0
    heard = [json.loads(d) for _, d in listener.pending()]
    assert [m["data"] for m in heard] == ["1", "2", "3"]
    assert [str(id) for id, _ in log(r, "a")] == [m["id"] for m in heard]
    first = log(r, "a")[0][1]
    assert (first["event"], first["key"], first["priority"]) == ("e", "k", "batched")
    assert r.get(f"{KEY}:once:bridge:g:s:1") == heard[0]["id"]


def test_the_same_once_is_one_event(r, read):
    ids = read("1", "2")
    bridge(r)
    once = ("once", "bridge:g:s:x")
    assert bridge(r, *event(ids[0], "1", *once), *event(ids[1], "1", *once))[1:3] == [2, 2]
    assert len(log(r, "a")) == 1 and pending(r) == 0


def test_what_is_no_event_is_acknowledged_and_told(r, read):
    ids = read("1", "2", "3", "4", "5")
    publish(r, "over", data="x", end="1")
    r.set(f"{KEY}:log:list", "of another type")
    bridge(r)
    args = entry(ids[0]) + entry(ids[1], "topic", "over", "data", "x") + event(ids[2], "3")
    args += entry(ids[3], "topic", "a.*", "data", "x") + entry(ids[4], "topic", "list", "data", "x")
    state, done, published, ended, refused, why, stopped, skipped = bridge(r, *args)
    assert (state, done, published, ended, refused, stopped, skipped) == (1, 5, 1, 1, 2, "", 1)
    assert why.startswith(f"{ids[4]}: WRONGTYPE")
    assert pending(r) == 0 and [f["data"] for _, f in log(r, "a")] == ["3"]


def test_without_the_lease_nothing_is_done(r, read, raw):  # noqa: F811
    ids = read("1")
    bridge(r, owner="other")
    before = snapshot(raw)
    assert bridge(r, *event(ids[0], "1"))[0] == 0
    assert snapshot(raw) == before
    r.delete(LEASE)  # it has ended, and nobody knows what others have left
    assert bridge(r, *event(ids[0], "1")) == [0, 0]
    assert pending(r) == 1 and not r.exists(f"{KEY}:log:a") and not r.exists(LEASE)


def test_what_others_have_read_before_goes_first(r, read):
    """A relay that stood still may have read after it lost the lease: what it has must not be overtaken."""
    stolen, ours = read("1"), read("2")
    bridge(r)
    assert bridge(r, *event(ours[0], "2")) == [2]
    assert pending(r) == 2 and not r.exists(f"{KEY}:log:a")
    assert bridge(r, *event(stolen[0], "1"), *event(ours[0], "2"))[1:3] == [2, 2]
    assert bridge(r, *event(ours[0], "2")) == [2]  # done already
    assert [f["data"] for _, f in log(r, "a")] == ["1", "2"]


def test_an_error_that_concerns_all_stops_there(r, read):
    ids = read("1", "2", "3")
    bridge(r)
    r.execute_command(
        "ACL", "SETUSER", "narrow", "on", ">p", "~*", "resetchannels", f"&{KEY}:ch:a", "+@all",
    )  # fmt: skip
    r.execute_command("ACL", "SETUSER", "narrow", "+@all")
    try:
        r.execute_command("AUTH", "narrow", "p")
        args = event(ids[0], "1") + entry(ids[1], "topic", "b", "data", "2") + event(ids[2], "3")
        state, done, published, *_, stopped, skipped = bridge(r, *args)
        assert (state, done, published) == (1, 1, 1) and re.search("permission|can.t publish", stopped, re.I)
    finally:
        r.execute_command("AUTH", "default", "")
        r.execute_command("ACL", "DELUSER", "narrow")
    assert pending(r) == 2 and [f["data"] for _, f in log(r, "a")] == ["1"]
    assert not r.exists(f"{KEY}:log:b")
    assert bridge(r, *args[len(event(ids[0], "1")) :])[1:3] == [2, 2]


def test_a_stream_that_is_none_fails_before_anything_is_published(r):
    r.set(STREAM, "text")
    bridge(r)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        bridge(r, *event("1-1", "1"))
    assert not r.exists(f"{KEY}:log:a")


WRONG = [
    (["lease", LEASE, "owner", "x", "ttl", 1, "stream", "s"], "group: missing"),
    (["lease", LEASE, "owner", "x", "ttl", 1, "group", "s"], "stream: missing"),
    (["owner", "x", "ttl", 1, *HEAD], "lease: missing"),
    (["lease", LEASE, "ttl", 1, *HEAD], "owner: missing"),
    (["lease", LEASE, "owner", "x", *HEAD], "ttl: missing"),
    (["lease", "", "owner", "x", "ttl", 1, *HEAD], "lease: empty"),
    (["lease", LEASE, "owner", "x", "ttl", -1, *HEAD], "ttl: not an integer"),
    (["lease", LEASE, "owner", "x", "ttl", 1, *HEAD, "what", 1], "what: unknown argument"),
    (["lease", LEASE, "owner", "x", "ttl"], "ttl: has no value"),
    (["lease", LEASE, "owner", "x", "ttl", 1, *HEAD, "entry"], "entry: not followed"),
    (["lease", LEASE, "owner", "x", "ttl", 1, *HEAD, "entry", "1-1", 3, "a", "b"], "entry: not followed"),
    (["lease", LEASE, "owner", "x", "ttl", 1, *HEAD, "entry", "1-1", 0, "a"], "entry: not followed"),
]


@pytest.mark.parametrize("args, text", WRONG, ids=[t for _, t in WRONG])
def test_wrong_arguments_change_nothing(r, raw, args, text):  # noqa: F811
    before = snapshot(raw)
    with pytest.raises(redis.ResponseError, match=text):
        r.fcall("sse_bridge", 1, KEY, *args)
    assert snapshot(raw) == before


def test_at_most_a_thousand_entries(r):
    with pytest.raises(redis.ResponseError, match="entry: more than 1000"):
        bridge(r, *(a for n in range(1001) for a in entry(f"{n + 1}-0")))
