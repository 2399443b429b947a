# SPDX-License-Identifier: Apache-2.0
"""Events with `match` reach exactly those whose grant has every pair (protocol.md, 14.5). See also the attack [16]."""

import json

import pytest

from auth_rig import bearer
from relay_process import wait_until

A, B = {"org": "a"}, {"org": "b"}
MATCHES = {
    "for all": None,
    "a": {"org": "a"},
    "b": {"org": "b"},
    "c": {"org": "c"},
    "a and 42": {"org": "a", "user_id": "42"},
    "42": {"user_id": "42"},
    "a and more": {"org": "a", "team": "x"},
    "A": {"org": "A"},
    "empty": {"org": ""},
    "number": {"level": "7"},
}
WHO = {
    "a": ({"org": "a"}, ["for all", "a"]),
    "a or b": ({"org": ["a", "b"]}, ["for all", "a", "b"]),
    "a and 42": ({"org": "a", "user_id": "42"}, ["for all", "a", "a and 42", "42"]),
    "b and 42": ({"org": ["b"], "user_id": ["41", "42"]}, ["for all", "b", "42"]),
    "level 7": ({"level": 7}, ["for all", "number"]),
    "nobody": ({}, ["for all"]),
    "all teams": ({"org": ["a", "b", "c"], "team": ["x", "y"]}, ["for all", "a", "b", "c", "a and more"]),
}


def options(name):
    return {"match": json.dumps(MATCHES[name])} if MATCHES[name] else {}


def member(parties, who):
    return bearer(parties.I.token(sub=who, sse={"ns": "t1", "subscribe": ["g", "h"], "publish": ["g"], "match": WHO[who][0]}))


def by_fcall(relay, doors, parties, name, **more):
    doors.fcall("g", name, ns="t1", **options(name), **more)


def by_inbox(relay, doors, parties, name, **more):
    doors.xadd("g", name, ns="t1", **options(name), **more)


def by_http(relay, doors, parties, name, **more):
    body = {"topic": "g", "data": name, **({"match": MATCHES[name]} if MATCHES[name] else {}), **{k: True for k in more}}
    assert relay.post("/publish", json=body, headers=member(parties, "a")).status_code == 200


def by_envelope(relay, doors, parties, name, **more):
    match = {"match": MATCHES[name]} if MATCHES[name] else {}
    doors.raw("g", json.dumps({"sse": 1, "topic": "g", "data": name, **match}), ns="t1")


DOORS = [by_fcall, by_inbox, by_http, by_envelope]


@pytest.fixture
def audience(parties, guarded, sse_connect):
    """(relay, a live stream for each of WHO)."""
    relay = guarded()
    return relay, {who: sse_connect(relay, "g", headers=member(parties, who)) for who in WHO}


@pytest.mark.parametrize("more", [{}, {"ephemeral": "1"}], ids=["logged", "ephemeral"])
@pytest.mark.parametrize("door", DOORS)
def test_exactly_those(audience, parties, doors, door, more):
    """Live, through each door, in the order of publishing."""
    relay, streams = audience
    for name in MATCHES:
        door(relay, doors, parties, name, **more)
    wait_until(lambda: doors.redis.xlen(doors.key("t1", "inbox")) == 0)
    doors.fcall("g", "end", ns="t1")
    for who, stream in streams.items():
        stream.wait_for(lambda c: "end" in c.data)
        assert stream.data == [*WHO[who][1], "end"], who
        assert not stream.gaps


@pytest.fixture
def logged(parties, guarded, doors):
    """(relay, the ids in the log by what they are for), three rounds of all matches."""
    relay = guarded()
    ids = [(name, doors.fcall("g", name, ns="t1", **options(name))) for _ in range(3) for name in MATCHES]
    return relay, ids


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("params", [{"replay": "all"}, {"replay": 1}, {"replay": 5}, {"since": "-1h"}, {"lastEventId": "0"}], ids=str)
def test_from_the_log(logged, parties, sse_connect, who, params):
    """replay=N are the latest N of what is for him."""
    relay, ids = logged
    wanted = [id for name, id in ids if name in WHO[who][1]]
    if isinstance(params.get("replay"), int):
        wanted = wanted[-params["replay"] :]
    stream = sse_connect(relay, "g", headers=member(parties, who), params=params)
    assert stream.wait_for(len(wanted)).ids == wanted and not stream.gaps


def test_many_that_are_for_others_are_no_obstacle(parties, guarded, sse_connect, doors):
    """A page of the log without a single event for him is followed by the next; and replay=1 finds the one."""
    relay = guarded()
    (mine,) = doors.many("g", ["mine"], ns="t1", match=json.dumps(A))
    doors.many("g", ["theirs"] * 900, ns="t1", match=json.dumps(B))
    for params in ({"replay": 1}, {"replay": "all"}, {"since": "-1h"}):
        stream = sse_connect(relay, "g", headers=member(parties, "a"), params=params)
        assert stream.wait_for(1).ids == [mine] and not stream.gaps
    stream = sse_connect(relay, "g", headers=member(parties, "a"), last_event_id=mine)
    last = doors.fcall("g", "last", ns="t1", match=json.dumps(A))
    assert stream.wait_for(1).ids == [last] and not stream.gaps


def test_a_resume_from_every_place(logged, parties, sse_connect, doors):
    """Many at the same time, of different people: one page of the log serves them, each with what is his."""
    relay, ids = logged
    streams = [
        (who, cursor, sse_connect(relay, "g", headers=member(parties, who), last_event_id=cursor, wait=False))
        for _, cursor in ids[::3]
        for who in WHO
    ]
    end = doors.fcall("g", "end", ns="t1")
    for who, cursor, stream in streams:
        wanted = [id for name, id in ids if name in WHO[who][1] and id > cursor] + [end]
        assert stream.wait_for(len(wanted)).ids == wanted and not stream.gaps, who


def test_published_while_the_log_is_read(parties, guarded, sse_connect, doors, publishing):
    relay = guarded({"log.max_events": 100000})
    sse_connect(relay, "g", headers=member(parties, "nobody"))  # so the namespace has that setting
    names = list(MATCHES)
    published = []

    def publish(n):
        name = names[int(n) % len(names)]
        published.append((name, doors.fcall("g", n, ns="t1", **options(name))))
        return published[-1][1]

    publisher = publishing(publish)
    publisher.wait_for(100)
    streams = [(who, sse_connect(relay, "g", headers=member(parties, who), params={"replay": "all"}, wait=False)) for _ in range(5) for who in WHO]
    publisher.wait_for(publisher.count + 100)
    publisher.stop()
    end = doors.fcall("g", "end", ns="t1")
    for who, stream in streams:
        wanted = [id for name, id in published if name in WHO[who][1]] + [end]
        assert stream.wait_for(lambda c: end in c.ids).ids == wanted and not stream.gaps, who


def test_what_the_live_path_lost(parties, guarded, sse_connect, doors):
    """An event that is in the log only: repaired for whom it is for, and no gap for the others."""
    relay = guarded({"redis.check": "1s"})
    mine, theirs = (sse_connect(relay, "g", headers=member(parties, who)) for who in ("a", "nobody"))
    lost = doors.silently("g", data="lost", ns="t1", match=json.dumps(A))
    last = doors.fcall("g", "end", ns="t1")
    assert mine.wait_for(2).ids == [lost, last]
    assert theirs.wait_for(1).ids == [last]
    assert not mine.gaps and not theirs.gaps


def test_a_late_event_is_told_only_to_whom_it_is_for(parties, guarded, sse_connect, doors):
    """Found when streams of two topics have had later ones: an event or a gap for whom it is, and silence for the others."""
    relay = guarded({"redis.check": "1s"})
    mine, theirs = (sse_connect(relay, "g", "h", headers=member(parties, who)) for who in ("a", "nobody"))
    grouped = json.dumps(A)
    lost, passed = doors.silently("g", data="lost", ns="t1", match=grouped, then=[("h", "passes it", {})])
    mine.wait_for(lambda c: lost in c.ids or c.told([lost]))
    end = doors.fcall("g", "end", ns="t1")
    assert theirs.wait_for(lambda c: end in c.ids).ids == [passed, end]
    assert not theirs.gaps


@pytest.mark.parametrize("match", ["x", "[]", "1", '{"org":1}', '{"org":null}', "{}", '{"org":"a"', '{"org":["a"]}', '{"org":"a","org":"a"}', '"a"'])
def test_a_match_that_cannot_be_read_reaches_nobody(audience, parties, doors, sse_connect, match):
    """As others may write it into the log or onto the channel: never wider than it was meant."""
    relay, streams = audience
    doors.silently("g", data="logged", ns="t1", match=match)
    try:
        json.loads(match)
        raw = match
    except ValueError:
        raw = json.dumps(match)
    doors.raw("g", f'{{"sse":1,"topic":"g","data":"raw","match":{raw}}}', ns="t1")
    doors.fcall("g", "end", ns="t1")
    late = sse_connect(relay, "g", headers=member(parties, "all teams"), params={"replay": "all"})
    for stream in [*streams.values(), late]:
        stream.wait_for(lambda c: "end" in c.data)
        assert stream.data == ["end"] and not stream.gaps


def test_over_two_nodes(parties, guarded, sse_connect, doors):
    nodes = [guarded(node=f"node{i}") for i in range(2)]
    streams = [(who, sse_connect(node, "g", headers=member(parties, who))) for node in nodes for who in WHO]
    for name in MATCHES:
        by_http(nodes[0], doors, parties, name)
    doors.fcall("g", "end", ns="t1")
    for who, stream in streams:
        stream.wait_for(lambda c: "end" in c.data)
        assert stream.data == [*WHO[who][1], "end"]


def test_anonymous_has_its_groups(parties, guarded, sse_connect, doors):
    parties.file.write(anonymous={"ns": "t1", "subscribe": ["g"], "match": {"org": "a"}})
    relay = guarded()
    stream = sse_connect(relay, "g")
    for name in MATCHES:
        doors.fcall("g", name, ns="t1", **options(name))
    doors.fcall("g", "end", ns="t1")
    assert stream.wait_for(lambda c: "end" in c.data).data == ["for all", "a", "end"]


def test_without_authentication_it_reaches_nobody(relay, sse_connect, doors):
    """There is no grant that could have a pair; it is counted, as before."""
    stream = sse_connect(relay, "g")
    doors.fcall("g", "x", match=json.dumps(A))
    doors.fcall("g", "end")
    assert stream.wait_for(1).data == ["end"]
    assert relay.metric("sse_relay_events_dropped_total", reason="match") >= 1


def test_with_authentication_it_is_nothing_dropped(audience, parties, doors):
    relay, streams = audience
    doors.fcall("g", "b", ns="t1", match=json.dumps(B))
    doors.fcall("g", "end", ns="t1")
    for stream in streams.values():
        stream.wait_for(lambda c: "end" in c.data)
    assert relay.metric("sse_relay_events_dropped_total", reason="match") == 0


def test_compressed_streams(parties, guarded, sse_connect, doors):
    """The same blocks are compressed once for all: who must not have one has not a byte of it."""
    relay = guarded({"compress": ">"})
    streams = {who: sse_connect(relay, "g", headers=member(parties, who), gzip=True) for who in WHO}
    for name in MATCHES:
        doors.fcall("g", name, ns="t1", **options(name))
    doors.fcall("g", "end", ns="t1")
    for who, stream in streams.items():
        stream.wait_for(lambda c: "end" in c.data)
        assert stream.headers["content-encoding"] == "gzip" and stream.data == [*WHO[who][1], "end"]
