# SPDX-License-Identifier: Apache-2.0
"""control=off: a stream that has only events, on a node that tells others more (protocol.md, 4.7 and 6)."""

import re

import pytest

from auth_rig import assert_ended, bearer, revoke
from relay_process import wait_until

OFF = {"params": {"control": "off"}, "wait": False}


def live(relay, streams):
    wait_until(lambda: relay.metric("sse_relay_clients", state="live") == streams, "live streams")


def quiet(client):
    """Two heartbeats have come since the last block."""
    return client.wait_for(lambda c: c.raw.endswith(b":\n:\n"))


@pytest.mark.parametrize("configured", ["on", "id", "off"])
def test_only_events(relay_factory, redis, sse_connect, doors, configured):
    relay = relay_factory(control_events=configured, heartbeat="1s")
    client = sse_connect(relay, "a", **OFF)
    live(relay, 1)
    quiet(client)
    assert re.fullmatch(rb":ok\nretry: \d+\n(:\n)+", client.raw), client.raw
    id = doors.fcall("a", "x")
    doors.fcall("a", "e", ephemeral=1)
    client.wait_for(2)
    assert [b.fields for b in client.blocks] == [
        [("retry", str(client.retry)), ("id", str(id)), ("data", "x")],
        [("data", "e")],
    ]
    client.close()
    missed = [doors.fcall("a", "missed"), doors.fcall("a", "too")]
    again = sse_connect(relay, "a", last_event_id=client.last_event_id, **OFF)
    assert again.wait_for(2).data == ["missed", "too"] and again.ids == missed
    assert b"relay." not in again.raw


def test_its_neighbour_is_told_all(relay_factory, redis, sse_connect, doors):
    relay = relay_factory(heartbeat="1s")
    doors.fcall("a", "before")
    told = sse_connect(relay, "a", last_event_id="never-ours")
    untold = sse_connect(relay, "a", last_event_id="never-ours", **OFF)
    live(relay, 2)
    quiet(untold)
    id = doors.fcall("a", "x")
    for client in (told, untold):
        client.wait_for(lambda c: c.ids and c.ids[-1] == id)
    assert [b.type for b in told.controls] == ["relay.connected", "relay.gap"]
    assert not untold.controls and untold.data == ["x"] == told.data


def test_the_cursor_stays_over_what_has_no_id(relay_factory, redis, sse_connect, doors):
    """The first block of a connection without an id would make an EventSource forget the one it came with."""
    relay = relay_factory(heartbeat="1s")
    cursor = doors.fcall("a", "x")
    client = sse_connect(relay, "a", last_event_id=cursor, **OFF)
    live(relay, 1)
    doors.fcall("a", "e", ephemeral=1)
    client.wait_for(1)
    assert client.blocks[0].id == client.last_event_id == str(cursor)


def test_no_gap_is_told_and_what_is_there_comes(relay_factory, redis, sse_connect, doors):
    relay = relay_factory({"log.max_events": 5})
    ids = doors.many("a", [str(n) for n in range(2000)])
    kept = doors.redis.xlen("sse:{default}:log:a")
    assert kept < 1000
    client = sse_connect(relay, "a", last_event_id=ids[0], **OFF)
    client.wait_for(kept)
    told = sse_connect(relay, "a", last_event_id=ids[0]).wait_for(kept)
    assert client.ids == told.ids == ids[-kept:]
    assert told.gaps and not client.controls and b"relay." not in client.raw


def test_position_is_not_told_behind_a_type_filter(relay_factory, redis, sse_connect, doors):
    relay = relay_factory(heartbeat="1s")
    told = sse_connect(relay, "a", params={"event": "t"})
    untold = sse_connect(relay, "a", params={"event": "t", "control": "off"}, wait=False)
    live(relay, 2)
    last = doors.many("a", ["1", "2"])[-1]
    told.wait_for(lambda c: c.last_event_id == str(last))
    assert not quiet(untold).blocks


def test_it_ends_without_a_word_and_cleanly(relay_factory, redis, sse_connect, doors):
    relay = relay_factory()
    told, untold = sse_connect(relay, "a"), sse_connect(relay, "a", **OFF)
    live(relay, 2)
    doors.fcall("a", "x")
    for client in (told, untold):
        client.wait_for(1)
    relay.terminate()
    assert_ended(told, "drain")
    assert untold.wait_closed().clean and untold.data == ["x"] and len(untold.blocks) == 1


def test_a_revocation_ends_it_all_the_same(parties, guarded, sse_connect):
    relay = guarded({"heartbeat": "1s", "auth.notice": "1h"})
    headers = bearer(parties.T())
    told = sse_connect(relay, "orders.eu", headers=headers)
    untold = sse_connect(relay, "orders.eu", headers=headers, **OFF)
    quiet(untold)
    revoke(relay, parties.A(), sub="42")
    assert_ended(told, "revoked")
    assert untold.wait_closed().clean and not untold.blocks


def test_memory_too(relay_factory, sse_connect):
    relay = relay_factory(redis="memory:", heartbeat="1s")
    relay.publish("a", "1")
    client = sse_connect(relay, "a", params={"control": "off", "replay": "all"}, wait=False)
    assert client.wait_for(1).data == ["1"]
    relay.publish("a", "2")
    assert client.wait_for(2).data == ["1", "2"] and not client.controls
