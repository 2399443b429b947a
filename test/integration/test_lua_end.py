# SPDX-License-Identifier: Apache-2.0
"""Topics that end, against a real Redis: end, sse_end, sse_ended; what fails half-way; what it costs."""

import socket

import pytest
import redis

from lua_ends_rig import (
    ENDED, DAY_MS, LATER_MS, end, ended, due, ended_index, heard, refused, settings, wait_until_over,
)
from lua_rig import (  # noqa: F401
    KEY, MAX_ID, Listener, assert_chain, drain, index, log, publish, r, raw, server, snapshot,
)
from relay_process import wait_until


# ---- end ----


@pytest.mark.parametrize("flag", ["1", "true"])
def test_the_last_event_says_so_in_log_and_envelope(r, flag):
    publish(r, "a")
    listener = Listener(r, f"{KEY}:ch:a")
    last = publish(r, "a", data="bye", event="done", end=flag)
    (m,) = heard(listener)
    assert (m["id"], m["data"], m["event"], m["end"]) == (last, "bye", "done", "end")
    entry = log(r, "a")[-1]
    assert entry == (int(last), {"data": "bye", "prev": m["prev"], "event": "done", "end": "end"})
    assert_chain(log(r, "a"))
    assert ended(r, "a") == {"a": (last, "end")}


@pytest.mark.parametrize("flag", ["0", "false"])
def test_a_flag_that_is_off_ends_nothing(r, flag):
    listener = Listener(r, f"{KEY}:ch:a")
    publish(r, "a", end=flag)
    publish(r, "a", ephemeral=1, end=flag)
    publish(r, "a", match='{"u":"1"}', end=flag)
    assert all("end" not in m for m in heard(listener))
    assert all("end" not in fields for _, fields in log(r, "a"))
    assert ended(r, "a") == {}


def test_an_event_ends_all_of_its_topics(r):
    publish(r, "b")
    last = publish(r, "a", "b", "c", end=1)
    assert ended(r, "a", "b", "c", "d") == {t: (last, "end") for t in "abc"}
    for t in "abc":
        with pytest.raises(redis.ResponseError, match=ENDED):
            publish(r, t)


def test_an_ended_topic_moves_from_one_index_to_the_other(r):
    publish(r, "a")
    last = publish(r, "b", end=1)
    assert index(r).keys() == {"a"}
    assert ended_index(r) == {"b": int(last)}


@pytest.mark.parametrize(
    "field,options",
    [
        ("end", {"end": "1", "ephemeral": "1"}),
        ("end", {"end": "1", "match": '{"u":"1"}'}),
        ("end", {"end": "yes"}),
        ("end", {"end": "end"}),
        ("end", {"end": ""}),
        ("end_after", {"end_after": "5", "ephemeral": "1"}),
        ("log_max", {"log_max": "5", "ephemeral": "1"}),
        ("log_ttl", {"log_ttl": "5", "ephemeral": "1"}),
        *(("end_after", {"end_after": v}) for v in ("0", "-1", "1.5", "x", "", "05", str(DAY_MS + 1))),
        *(("log_max", {"log_max": v}) for v in ("0", "-1", "1.5", "x", "", "05", "100001")),
        *(("log_ttl", {"log_ttl": v}) for v in ("0", "-1", "1.5", "x", "", "05", str(7 * DAY_MS + 1))),
    ],
)
def test_what_is_wrong_is_named_and_changes_nothing(r, raw, field, options):
    publish(r, "a")
    refused(r, raw, f"^sse_publish: {field}: ", "a", **options)


@pytest.mark.parametrize("name", ["end", "end_after", "log_max", "log_ttl"])
def test_given_twice_is_refused(r, raw, name):
    before = snapshot(raw)
    with pytest.raises(redis.ResponseError, match=f"^sse_publish: {name}: given twice$"):
        r.fcall("sse_publish", 1, KEY, "topic", "a", "data", "x", name, "1", name, "1")
    assert snapshot(raw) == before


def test_the_greatest_values_are_taken(r):
    publish(r, "a", end_after=DAY_MS, log_max=100000, log_ttl=7 * DAY_MS)
    settings(r, max_events_limit=7, index_ttl=5000)
    publish(r, "a", log_max=7, log_ttl=5000)
    for name, value in (("log_max", 8), ("log_ttl", 5001)):
        with pytest.raises(redis.ResponseError, match=f"^sse_publish: {name}: not a number.* from 1 to "):
            publish(r, "a", **{name: value})


# ---- after the end ----


def test_a_later_publish_is_refused_and_changes_nothing(r, raw):
    publish(r, "open")
    last = publish(r, "a", end=1)
    for options in ({}, {"once": "k"}, {"end": "1"}, {"end_after": "5"}, {"log_max": "5"}, {"priority": "batched"}):
        refused(r, raw, ENDED, "a", **options)
    assert ended(r, "a") == {"a": (last, "end")}
    assert r.get(f"{KEY}:seq") == last


@pytest.mark.parametrize("topics", [("open", "a"), ("a", "open"), ("new", "a"), ("a", "new"), ("x", "y", "z", "a")])
def test_one_ended_topic_of_several_refuses_the_event(r, raw, topics):
    publish(r, "open")
    publish(r, "a", end=1)
    refused(r, raw, ENDED, *topics)


def test_the_refusal_is_exactly_this(server, r):
    publish(r, "a", end=1)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as s, s.makefile("rb") as answers:
        s.sendall(f"FCALL sse_publish 1 {KEY} topic a data x\r\n".encode())  # redis-py takes the ERR for itself
        assert answers.readline() == b"-ERR sse_publish: topic: ended\r\n"


def test_a_key_that_was_seen_is_answered_as_ever(r, raw):
    first = publish(r, "a", once="k")
    last = publish(r, "a", once="last", end=1)
    before = snapshot(raw)
    assert publish(r, "a", once="k") == first
    assert publish(r, "a", once="last", end=1) == last
    assert {k: v for k, v in snapshot(raw).items() if b":once:" not in k} == {
        k: v for k, v in before.items() if b":once:" not in k
    }
    with pytest.raises(redis.ResponseError, match=ENDED):
        publish(r, "a", once="new")
    assert not r.exists(f"{KEY}:once:new")


def test_an_ephemeral_event_still_goes(r):
    publish(r, "a", end=1)
    listener = Listener(r, f"{KEY}:ch:a")
    assert publish(r, "a", data="live", ephemeral=1) is None
    assert [m["data"] for m in heard(listener)] == ["live"]


def test_the_inbox_rejects_it_like_any_that_is_wrong(r):
    def add(*fields):
        return r.execute_command("XADD", f"{KEY}:inbox", "*", *fields)

    add("topic", "a", "data", "1")
    add("topic", "a", "data", "2", "end", "1")
    entry = add("topic", "a", "data", "3")
    add("topic", "b", "data", "4")
    assert drain(r) == [3, 1, 0, f"{entry}: topic: ended"]
    assert [f["data"] for _, f in log(r, "a")] == ["1", "2"]
    assert log(r, "a")[-1][1]["end"] == "end"
    assert [f["data"] for _, f in log(r, "b")] == ["4"]


def test_an_end_in_the_log_is_known_where_the_indexes_are_lost(r):
    last = publish(r, "a", end=1)
    timeout = end(r, "b", "reason", "timeout")[0]
    r.delete(f"{KEY}:ended", f"{KEY}:ended:until")
    publish(r, "other")
    assert ended(r, "a", "b") == {"a": (last, "end"), "b": (timeout, "timeout")}
    with pytest.raises(redis.ResponseError, match=ENDED):
        publish(r, "a")


# ---- sse_end ----


@pytest.mark.parametrize("args,reason", [((), "end")] + [(("reason", x), x) for x in ("end", "cancelled", "timeout")])
def test_sse_end_publishes_the_event_of_the_end(r, args, reason):
    first = publish(r, "a")
    listener = Listener(r, f"{KEY}:ch:a")
    last, why, by_us = end(r, "a", *args)
    assert (why, by_us) == (reason, "1") and int(last) > int(first)
    assert log(r, "a")[-1] == (int(last), {"data": "", "prev": first, "event": "end", "end": reason})
    assert heard(listener) == [
        {"sse": 1, "id": last, "prev": first, "topic": "a", "data": "", "event": "end", "end": reason}
    ]
    assert ended(r, "a") == {"a": (last, reason)}
    assert r.get(f"{KEY}:seq") == last


def test_the_first_end_counts(r, raw):
    last = end(r, "a", "reason", "cancelled")[0]
    by_event = publish(r, "b", end=1)
    before = snapshot(raw)
    for args in ((), ("reason", "end"), ("reason", "timeout"), ("last", "5"), ("last", last)):
        assert end(r, "a", *args) == [last, "cancelled", "0"]
    assert end(r, "b", "reason", "cancelled") == [by_event, "end", "0"]
    assert snapshot(raw) == before


def test_an_unknown_topic_is_created_and_ended(r):
    last, reason, by_us = end(r, "new")
    assert (reason, by_us) == ("end", "1")
    assert log(r, "new") == [(int(last), {"data": "", "prev": "0", "event": "end", "end": "end"})]
    with pytest.raises(redis.ResponseError, match=ENDED):
        publish(r, "new")


def test_with_last_only_if_nothing_has_followed(r, raw):
    first, second = publish(r, "a"), publish(r, "a")
    before = snapshot(raw)
    assert end(r, "a", "last", first) == ["0", "", "0"]
    assert end(r, "a", "last", "0") == ["0", "", "0"]
    assert end(r, "new", "last", first) == ["0", "", "0"]
    assert snapshot(raw) == before
    assert end(r, "a", "last", second)[1:] == ["end", "1"]
    assert end(r, "new", "last", "0")[1:] == ["end", "1"]


@pytest.mark.parametrize(
    "field,args",
    [
        ("topic", []), ("topic", ["reason", "end"]), ("topic", ["topic"]), ("topic", ["topic", "a.*"]),
        ("topic", ["topic", ""]), ("topic", ["topic", "a", "topic", "b"]), ("reason", ["topic", "a", "reason", "x"]),
        ("reason", ["topic", "a", "reason", ""]), ("reason", ["topic", "a", "reason"]),
        ("last", ["topic", "a", "last", "-1"]), ("last", ["topic", "a", "last", "x"]),
        ("last", ["topic", "a", "last", str(MAX_ID + 1)]), ("data", ["topic", "a", "data", "x"]),
    ],
)  # fmt: skip
def test_sse_end_names_what_is_wrong_and_changes_nothing(r, raw, field, args):
    publish(r, "a")
    refused(r, raw, f"^sse_end: {field}: ", *args, function="sse_end")


@pytest.mark.parametrize("field,args", [("topic", []), ("topic", ["topic"]), ("topic", ["topic", "a.*"]),
                                        ("last", ["last", "1"])])  # fmt: skip
def test_sse_ended_names_what_is_wrong(r, raw, field, args):
    refused(r, raw, f"^sse_ended: {field}: ", *args, function="sse_ended")


def test_sse_due_takes_nothing(r, raw):
    refused(r, raw, "^sse_due: topic: unknown argument$", "topic", "a", function="sse_due")


def test_what_only_asks_writes_nothing(r, raw):
    publish(r, "a")
    last = publish(r, "b", end=1)
    before = snapshot(raw)
    asked = ["FCALL_RO", "sse_ended", 1, KEY, "topic", "a", "topic", "b", "topic", "c"]
    assert r.execute_command(*asked) == ["b", last, "end"]
    with pytest.raises(redis.ResponseError, match="write"):
        r.execute_command("FCALL_RO", "sse_due", 1, KEY)
    assert snapshot(raw) == before


def test_many_ends_at_the_same_time_are_one(server, r):
    clients = [server.client() for _ in range(4)]
    publish(r, "a")
    pipes = [c.pipeline(transaction=False) for c in clients]
    for p in pipes:
        for _ in range(20):
            p.fcall("sse_end", 1, KEY, "topic", "a")
    answers = [a for p in pipes for a in p.execute()]
    assert sum(a[2] == "1" for a in answers) == 1
    assert len({tuple(a[:2]) for a in answers}) == 1
    assert len(log(r, "a")) == 2


# ---- what fails half-way ----


def without(snap, *names):
    return {k: v for k, v in snap.items() if not k.endswith(tuple(b":" + n.encode() for n in names))}


@pytest.mark.parametrize("key", ["ended", "ended:until"])
def test_an_end_that_cannot_be_noted_changes_nothing(r, raw, key):
    publish(r, "a")
    r.set(f"{KEY}:{key}", "not a sorted set")
    before, listener = snapshot(raw), Listener(r, pattern=f"{KEY}:ch:*")
    for call in (lambda: publish(r, "a", end=1), lambda: publish(r, "new", end=1), lambda: end(r, "a"), lambda: end(r, "b")):
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            call()
        assert snapshot(raw) == before
    assert listener.pending() == []


@pytest.mark.parametrize("key", ["due", "due:id"])
def test_an_end_after_that_cannot_be_noted_changes_nothing(r, raw, key):
    publish(r, "a", end_after=LATER_MS)
    r.delete(f"{KEY}:{key}")
    r.set(f"{KEY}:{key}", "not a sorted set")
    before, listener = snapshot(raw), Listener(r, pattern=f"{KEY}:ch:*")
    for topics in (["a"], ["new"], ["new", "a"]):
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            publish(r, *topics, end_after=1)
        assert snapshot(raw) == before
    assert listener.pending() == []


def test_one_that_made_way_for_what_then_failed_is_back(r, raw):
    settings(r, log_ttl=1)
    publish(r, "a", end=1)
    wait_until_over(r, "a")
    r.set(f"{KEY}:log:c", "not a stream")
    r.zadd(f"{KEY}:topics", {"c": 5})
    before = snapshot(raw)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        publish(r, "a", "c")
    same = ("seq", "horizon", "pruned")
    assert without(snapshot(raw), *same) == without(before, *same)


@pytest.mark.parametrize(
    "missing,options", [("ended", {"end": 1}), ("ended:until", {"end": 1}), ("due", {"end_after": 5}),
                        ("due:id", {"end_after": 5})]
)  # fmt: skip
def test_who_may_not_write_the_keys_of_ends_changes_nothing(server, r, raw, missing, options):
    publish(r, "a")
    keys = [k for k in ("seq", "horizon", "pruned", "config", "topics", "guard", "log:*", "once:*", "mend", "ended",
                        "ended:until", "due", "due:id") if k != missing]  # fmt: skip
    user = ["ACL", "SETUSER", "narrow", "on", "nopass", "resetkeys", f"~{KEY}", *(f"~{KEY}:{k}" for k in keys),
            "allchannels", "+@all"]  # fmt: skip
    r.execute_command(*user)
    before, listener = snapshot(raw), Listener(r, pattern=f"{KEY}:ch:*")
    with redis.Redis(port=server.port, username="narrow", password="x") as narrow:
        with pytest.raises(redis.ResponseError, match="permission"):
            publish(narrow, "a", **options)
        assert without(snapshot(raw), "seq") == without(before, "seq")
        assert listener.pending() == []
        assert publish(narrow, "a")
    r.acl_deluser("narrow")


def test_what_ends_is_refused_when_memory_is_out_and_what_is_due_is_not(r):
    publish(r, "a", end_after=1)
    publish(r, "b")
    r.config_set("maxmemory-policy", "noeviction")
    r.config_set("maxmemory", 1)
    with pytest.raises(redis.ResponseError, match="OOM|maxmemory"):
        end(r, "b")
    assert ended(r, "b") == {}
    wait_until(lambda: due(r) == 0, "it is due")
    assert ended(r, "a")["a"][1] == "timeout"


# ---- what it costs ----


def cost(r, *topics, **options):
    """command → calls of one publish, without FCALL itself and the settings, which are read once a second."""
    r.config_resetstat()
    publish(r, *topics, **options)
    stats = r.info("commandstats")
    others = ("config|resetstat", "info", "fcall", "hmget")
    return {k[8:]: v["calls"] for k, v in stats.items() if k[8:] not in others}


def test_a_plain_publish_costs_what_it_did_before_topics_could_end(r):
    """Exactly these: the guard, the clock, the counter, the topic's last id; and six writes."""
    plain = {"exists": 1, "time": 1, "get": 1, "zscore": 1, "set": 1, "xadd": 1, "pexpire": 1, "zadd": 1, "publish": 1}
    publish(r, "a")
    assert cost(r, "a") == plain
    assert cost(r, "a", event="e", key="k", priority="coalesced", ttl=5) == plain
    assert cost(r, "a", log_max=5, log_ttl=5000) == plain
    end(r, "gone"), publish(r, "waits", end_after=1)
    assert cost(r, "a") == plain  # not even where others have ended, or are due
    per_topic = ("zscore", "xadd", "pexpire", "zadd", "publish")
    publish(r, "b")
    assert cost(r, "a", "b") == {k: n + (k in per_topic) for k, n in plain.items()}
    assert cost(r, "a", ephemeral=1) == {"exists": 1, "time": 1, "publish": 1}


def test_a_publish_on_a_new_topic_costs_no_more_commands_than_before(r):
    publish(r, "a")
    assert sum(cost(r, "b").values()) == 14
    assert sum(cost(r, "c", "d").values()) == 20
