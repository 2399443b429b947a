# SPDX-License-Identifier: Apache-2.0
"""sse_drain against a real Redis: the inbox."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from lua_rig import (  # noqa: F401
    KEY, Listener, assert_chain, drain, log, publish, r, raw, server, snapshot,
)


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
    options = ["event", "e", "retry", "5", "priority", "batched", "key", "k", "ttl", "9", "match", '{"u":"1"}']
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
