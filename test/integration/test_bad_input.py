# SPDX-License-Identifier: Apache-2.0
"""What others wrote into our part of Redis: counted, logged once per burst, no crash, no endless repair.

And nobody pays with an event for it: what was published is delivered once and in order, as soon as the keys
are in order again.
"""

import json
import re
import time

import pytest

from accounting import account
from relay_process import wait_until

MAX_ID = 2**53 - 1
BURST = 200
CALM = 20  # commands per second: probes, checks and a try now and then, but no loop


def complaints(relay, since=0):
    """But for the warning that there is no authentication."""
    return [li for li in relay.log[since:] if re.search(r"level=(warn|error)", li) and "everybody on this machine" not in li]


def invalid(relay):
    return relay.metric("sse_relay_events_dropped_total", reason="invalid")


def wait_calm(relay):
    """Until the relay asks Redis next to nothing for a whole second."""
    commands = lambda: relay.metric("sse_relay_redis_commands_total")  # noqa: E731

    def calm_second():
        start, count = time.monotonic(), commands()
        wait_until(lambda: time.monotonic() > start + 1)
        return commands() - count <= CALM

    wait_until(calm_second, "an end of the commands to Redis")


def envelope(id, prev, data, **more):
    return json.dumps({"sse": 1, "id": str(id), "prev": str(prev), "data": data, **more})


def cut_subscribers(doors, relay):
    before = relay.metric("sse_relay_redis_reconnects_total")
    doors.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    wait_until(lambda: relay.metric("sse_relay_redis_reconnects_total") > before, "a reconnection")


@pytest.fixture
def audience(relay, sse_connect):
    """Live streams of a topic, a pattern, and both; and of something else."""
    streams = [sse_connect(relay, *names) for names in (["t"], ["*"], ["t", "u"])]
    return relay, streams


def finish(doors, relay, streams, ids, data):
    """Ends with an event that all of @streams get, after exactly @data: once, in order, without a gap."""
    ids = [*ids, doors.fcall("t", "end")]
    for s in streams:
        s.wait_for(lambda c: "end" in c.data)
        assert s.data == [*data, "end"]
        assert s.ids == ids and s.all_ids == sorted(s.all_ids)
        assert not s.gaps and not s.closed
    return ids[-1]


# --- entries of a log that are not ours ---

FOREIGN = {
    "no data": {"a": "b"},
    "data only": {"data": "forged"},
    "bad prev": {"data": "forged", "prev": "x"},
    "prev above its id": {"data": "forged", "prev": str(MAX_ID)},
    "many fields": {f"f{i}": "x" for i in range(200)},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_log_entry_is_passed_over(audience, sse_connect, doors, kind):
    relay, streams = audience
    log, cursor = doors.key("default", "log", "t"), streams[0].last_event_id
    ids = []
    for n in range(3):
        ids.append(doors.fcall("t", str(n)))
        for _ in range(20):
            doors.redis.xadd(log, FOREIGN[kind])  # Redis' choice of id: "<our last one>-1", -2, …
    finish(doors, relay, streams, ids, ["0", "1", "2"])
    before = len(relay.log)
    again = sse_connect(relay, "t", last_event_id=cursor)
    again.wait_for(lambda c: "end" in c.data)
    assert again.data == ["0", "1", "2", "end"] and not again.gaps
    assert invalid(relay) > 0  # a page may skip those with the same number before the dash
    assert len(complaints(relay, before)) == 1
    cut_subscribers(doors, relay)
    doors.fcall("t", "after")
    for s in [*streams, again]:
        s.wait_for(lambda c: "after" in c.data)
        assert s.data == ["0", "1", "2", "end", "after"] and not s.gaps
    wait_calm(relay)


@pytest.mark.parametrize("eid", ["*", "9999999999999999-0"])
def test_foreign_entry_in_an_empty_log_is_no_obstacle(audience, sse_connect, doors, eid):
    relay, streams = audience
    cursor = streams[0].last_event_id
    doors.redis.xadd(doors.key("default", "log", "t"), {"data": "forged"}, id=eid)
    ids = [doors.fcall("t", "1"), relay.publish("t", "2"), doors.fcall("t", "3")]
    ids.append(finish(doors, relay, streams, ids, ["1", "2", "3"]))
    again = sse_connect(relay, "t", last_event_id=cursor)
    again.wait_for(4)
    account(again, ids, int(cursor), gaps=0)
    wait_calm(relay)


def test_page_full_of_foreign_entries_hides_nothing_behind_it(audience, sse_connect, doors):
    relay, streams = audience
    log, cursor = doors.key("default", "log", "t"), streams[0].last_event_id
    doors.fcall("t", "first")
    pipe = doors.redis.pipeline(transaction=False)
    for _ in range(500):
        pipe.xadd(log, {"not": "ours"})
    pipe.execute()
    doors.fcall("t", "last")
    again = sse_connect(relay, "t", last_event_id=cursor)
    assert again.wait_for(2).data == ["first", "last"] and not again.gaps
    wait_calm(relay)


# --- envelopes ---


BROKEN_MATCH = ["{}", "[]", "0", '""', "false", '{"user":42}', '{"user":["42"]}', '{"user":"42","user":"42"}',
                '{"user":"4\\u00002"}', 'null,"match":{"user":"42"}', '{"user":"42"},"match":null']  # fmt: skip


def test_an_envelope_with_a_broken_match_reaches_nobody_and_is_counted(audience, doors):
    """Whom it is for, nobody can tell: so not everybody."""
    relay, streams = audience
    before = len(relay.log)
    for match in BROKEN_MATCH:
        doors.raw("t", '{"sse":1,"topic":"t","data":"secret","match":%s}' % match)
    doors.raw("t", '{"sse":1,"topic":"t","data":"public","match":null}')
    for s in streams:
        assert s.wait_for(1).data == ["public"] and not s.gaps
    assert relay.metric("sse_relay_events_dropped_total", reason="match") == len(BROKEN_MATCH)
    assert [line for line in relay.log[before:] if "match cannot be read" in line]


@pytest.mark.parametrize("which", ["seen before", "never seen", "older than all"])
def test_envelope_below_the_last_goes_nowhere(audience, doors, which):
    """What was seen comes again after each break of a connection: no fault. What is new to the topic is one."""
    relay, streams = audience
    older = doors.fcall("elsewhere.on.earth", "")
    ids = [doors.fcall("t", "1")]
    never = doors.fcall("elsewhere.on.earth", "")
    ids += doors.many("t", ["2", "3"])
    for s in streams:
        s.wait_for(3)
    for n in range(BURST):
        id = {"seen before": ids[n % 3], "never seen": never, "older than all": older}[which]
        doors.raw("t", envelope(id, 0, "forged"))
    finish(doors, relay, streams, ids, ["1", "2", "3"])
    wait_calm(relay)
    faults = BURST if which == "never seen" else 0
    assert invalid(relay) == faults
    assert len(complaints(relay)) == (2 if faults else 0)  # what came, and that the log is asked


@pytest.mark.parametrize("above", [0, 1, 10**9, "max"])
def test_envelope_with_a_prev_not_below_its_id_goes_nowhere(audience, doors, above):
    relay, streams = audience
    ids = [doors.fcall("t", "1")]
    for s in streams:
        s.wait_for(1)
    for _ in range(BURST):
        id = doors.fcall("unheard.of", "")
        doors.raw("t", envelope(id, MAX_ID if above == "max" else id + above, "forged"))
    finish(doors, relay, streams, ids, ["1"])
    assert invalid(relay) == BURST, "once each, however many subscriptions they came by"
    assert len(complaints(relay)) == 1
    wait_calm(relay)


def test_prev_that_no_log_has_is_told_at_most_once_and_repaired_once(audience, sse_connect, doors):
    """It says that something came between. The log knows of nothing, so there is nothing to be repaired."""
    relay, streams = audience
    first = doors.fcall("t", "1")
    for s in streams:
        s.wait_for(1)
    for n in range(BURST):
        absent, id = doors.fcall("unheard.of", ""), doors.fcall("unheard.of", "")
        doors.raw("t", envelope(id, absent, f"forged {n}"))
    last = doors.fcall("t", "end")
    for s in streams:
        s.wait_for(lambda c: "end" in c.data)
        got = [i for i in s.ids if i is not None]
        assert got == sorted(set(got)) and got[0] == first and got[-1] == last
        assert s.all_ids == sorted(s.all_ids) and not s.closed
        assert [d for d in s.data if not d.startswith("forged")] == ["1", "end"]
        assert len(s.gaps) <= BURST
    wait_calm(relay)
    assert len(complaints(relay)) <= 1
    follow = doors.fcall("t", "follow")
    for s in streams:
        s.wait_for(lambda c: "follow" in c.data)
        assert s.data.count("follow") == 1 and s.ids[-1] == follow


def test_lost_log_under_a_live_stream_is_no_loss_for_it(audience, doors):
    """DEL of the log: who was connected has everything; the chain goes on by the index."""
    relay, streams = audience
    ids = [doors.fcall("t", "1")]
    for s in streams:
        s.wait_for(1)
    doors.redis.delete(doors.key("default", "log", "t"))
    ids.append(doors.fcall("t", "2"))
    finish(doors, relay, streams, ids, ["1", "2"])
    wait_calm(relay)


# --- keys of the wrong type ---

KEYS = ["seq", "horizon", "pruned", "config", "topics", "inbox", "log:t"]
NEEDED_TO_PUBLISH = ["seq", "config", "topics", "log:t"]


def spoil(doors, name):
    """Makes somebody's list of a key. Returns how to mend it: what was there comes back."""
    key = doors.key("default", name)
    kept = f"kept:{name}" if doors.redis.exists(key) else None
    doors.spoil(key, kept)
    return lambda: doors.mend(key, kept)


@pytest.mark.parametrize("name", KEYS)
def test_key_of_the_wrong_type_harms_only_what_needs_it(audience, sse_connect, doors, name):
    relay, streams = audience
    ids = doors.many("t", ["1", "2"])
    for s in streams:
        s.wait_for(2)
    cursor = ids[0]
    mend = spoil(doors, name)
    start = len(relay.log)

    def is_refused():
        post = relay.post("/publish", json={"topic": "t", "data": "3"})
        if post.status_code == 200:
            ids.append(int(post.json()["id"]))
        return post.status_code == 503

    if name == "config":  # publishing reads it once a second
        wait_until(is_refused)

    # a publish, a stream and an inbox entry meanwhile
    posts = [relay.post("/publish", json={"topic": "t", "data": "3"}) for _ in range(20)]
    assert {p.status_code for p in posts} == ({503} if name in NEEDED_TO_PUBLISH else {200})
    ids += [int(p.json()["id"]) for p in posts if p.status_code == 200]
    held = [sse_connect(relay, "t", last_event_id=cursor, wait=False).wait_head() for _ in range(20)]
    assert {s.status for s in held} == {200}
    wait_calm(relay)
    assert len(complaints(relay, start)) <= 4, relay.log[start:]
    assert relay.get("/health").status_code == 200
    for s in streams:
        assert not s.closed

    mend()
    data = ["1", "2"] + ["3"] * (len(ids) - 2)
    wait_until(lambda: relay.post("/publish", json={"topic": "u", "data": ""}).status_code == 200)
    finish(doors, relay, streams[:1], ids, data)
    for s in held:
        s.wait_for(lambda c: "end" in c.data)
        if name != "log:t":  # it was read while it was unreadable: that may be told as a loss
            assert s.data == [*data[1:], "end"] and not s.gaps
    wait_calm(relay)


@pytest.mark.parametrize("name", KEYS)
def test_repair_with_a_key_of_the_wrong_type_waits_until_it_is_mended(audience, doors, name):
    """The subscriber connection breaks while the log cannot be read: nothing is lost, only later."""
    relay, streams = audience
    stream = streams[0]
    ids = [doors.fcall("t", "1")]
    stream.wait_for(1)
    mend = spoil(doors, name)
    start = len(relay.log)
    cut_subscribers(doors, relay)
    wait_until(lambda: relay.ready()[0] in (200, 503))
    wait_calm(relay)
    assert len(complaints(relay, start)) <= 5, relay.log[start:]
    assert not stream.closed
    mend()
    ids.append(doors.fcall("t", "2"))
    stream.wait_for(lambda c: "2" in c.data)
    relay.wait_ready()
    finish(doors, relay, [stream], ids, ["1", "2"])
    wait_calm(relay)


@pytest.mark.parametrize("name", ["seq", "horizon", "pruned"])
@pytest.mark.parametrize("value", ["", "abc", "-1", "1e300", str(2**63)])
def test_key_that_holds_no_id_is_waited_for(audience, sse_connect, doors, name, value):
    relay, streams = audience
    ids = [doors.fcall("t", "1")]
    streams[0].wait_for(1)
    key = doors.key("default", name)
    was = doors.redis.get(key)
    doors.redis.set(key, value)
    start = len(relay.log)
    held = sse_connect(relay, "t", last_event_id=ids[0], wait=False).wait_head()
    wait_calm(relay)
    assert len(complaints(relay, start)) == 1, relay.log[start:]
    assert held.status == 200 and not held.control("relay.connected")
    doors.redis.set(key, was) if was else doors.redis.delete(key)
    held.wait_connected()
    finish(doors, relay, streams[:1], ids, ["1"])
    held.wait_for(1)
    assert held.data == ["end"] and not held.gaps


@pytest.mark.parametrize("score", ["inf", "-inf", "-1", "0.5", 2**53])
def test_index_score_that_is_no_id_costs_nobody_an_event(audience, sse_connect, doors, score):
    relay, streams = audience
    ids = [doors.fcall("t", "1")]
    cursor = streams[0].wait_for(1).last_event_id
    doors.redis.zadd(doors.key("default", "topics"), {"t": score, "somebody": score})
    resumed = [sse_connect(relay, *names, last_event_id=cursor) for names in (["t"], ["*"])]
    cut_subscribers(doors, relay)
    ids.append(doors.fcall("t", "2"))
    streams[0].wait_for(2)
    finish(doors, relay, streams[:1], ids, ["1", "2"])
    for s in resumed:
        s.wait_for(lambda c: "end" in c.data)
        assert s.data == ["2", "end"] and not s.gaps
    wait_calm(relay)


NO_TOPICS = {"long": "x" * 600, "long token": "p." + "x" * 600, "many tokens": ".".join("x" * 300), "empty token": "a..b"}


@pytest.mark.parametrize("names", [["*", ">"], [f"p{i}.*" for i in range(20)] + [">"]], ids=["few", "many"])
@pytest.mark.parametrize("kind", NO_TOPICS)
def test_index_name_that_is_no_topic_is_passed_over(redis, relay_factory, sse_connect, doors, kind, names):
    """By resumes, by the check of the index, and by the repair of a namespace."""
    relay = relay_factory({"redis.check": "100ms"})
    stream = sse_connect(relay, *names)
    ids = [doors.fcall("t", "1")]
    stream.wait_for(1)
    doors.silently(NO_TOPICS[kind], data="forged")
    wait_until(lambda: invalid(relay), "the check of the index")
    ids.append(doors.fcall("t", "2"))
    resumed = sse_connect(relay, *names, last_event_id=ids[0])
    assert resumed.wait_for(1).ids == ids[1:]
    cut_subscribers(doors, relay)
    ids.append(doors.fcall("t", "3"))
    assert stream.wait_for(3).ids == ids and resumed.wait_for(2).ids == ids[1:]
    assert not stream.gaps and not resumed.gaps
    assert len([li for li in complaints(relay) if "no topic" in li]) == 1


@pytest.mark.parametrize("names", [["t"], ["*"]])
def test_index_score_above_the_counter_hides_no_event(audience, sse_connect, doors, names):
    """It may be told as a loss (the index says that there was something); what follows must come."""
    relay, _ = audience
    ids = [doors.fcall("t", "1")]
    doors.redis.zadd(doors.key("default", "topics"), {"t": ids[0] + 10**12})
    s = sse_connect(relay, *names, last_event_id=ids[0])
    ids += [doors.fcall("t", "2"), doors.fcall("u", "other"), doors.fcall("t", "3")]
    s.wait_for(lambda c: "3" in c.data)
    assert [d for d in s.data if d != "other"] == ["2", "3"]
    assert len(s.gaps) <= 1 and s.all_ids == sorted(s.all_ids)
    wait_calm(relay)


def test_horizon_above_the_counter_hides_no_event(audience, sse_connect, doors):
    relay, _ = audience
    first = doors.fcall("t", "1")
    doors.redis.set(doors.key("default", "horizon"), first + 10**12)
    s = sse_connect(relay, "*", last_event_id=first)
    doors.fcall("t", "2")
    s.wait_for(lambda c: "2" in c.data)
    assert s.all_ids == sorted(s.all_ids) and len(s.gaps) == 1
    assert sse_connect(relay, "*", last_event_id=s.last_event_id).gaps == []


@pytest.mark.parametrize("name", KEYS)
def test_relay_that_starts_on_a_spoilt_namespace_serves_once_it_is_mended(redis, relay_factory, sse_connect, doors, name):
    doors.redis.rpush(doors.key("default", name), "what")
    relay = relay_factory(ready=False)
    wait_until(lambda: relay.get("/health").status_code == 200)
    client = sse_connect(relay, "t", wait=False).wait_head()
    other = sse_connect(relay, "t", params={"ns": "other"}, wait=False).wait_head()
    other.wait_connected()
    wait_calm(relay)
    assert len(complaints(relay)) <= 4, relay.log
    doors.redis.delete(doors.key("default", name))
    client.wait_connected()
    relay.wait_ready()
    doors.xadd("t", "by the inbox")
    client.wait_for(lambda c: "by the inbox" in c.data)
    assert other.data == [] and not other.closed
