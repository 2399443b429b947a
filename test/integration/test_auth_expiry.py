# SPDX-License-Identifier: Apache-2.0
"""The end of a token under an open stream, and what is told before it (protocol.md, 14.8)."""

import time

import pytest

from auth_rig import assert_ended, assert_invalid, bearer, opening, status_at, ticket_of, with_ticket
from relay_process import wait_until
from stepped_clock import SteppedClock

EVENTS = "/events?topic=orders.eu"
PARK = ["suspended", "handover"]


@pytest.fixture
def brief(guarded):
    """A relay for which a token is over when it is."""
    return guarded({"auth.leeway": 0, "auth.notice": "1s"})


@pytest.mark.parametrize("park", PARK)
def test_a_stream_ends_with_its_token(guarded, parties, sse_connect, doors, park):
    """All that was published before comes, then relay.shutdown says why, and the end is clean."""
    relay = guarded({"auth.leeway": 0, "park": park})
    end = int(time.time()) + 3
    stream = sse_connect(relay, "orders.eu", headers=bearer(parties.T(exp=end)))
    ids = [doors.fcall("orders.eu", str(n), ns="t1") for n in range(5)]
    assert_ended(stream, "token-expired")
    assert time.time() >= end, "earlier than the token's end"
    assert stream.ids == ids and stream.last_event_id == str(ids[-1])
    assert_invalid(opening(relay, EVENTS, bearer(parties.T(exp=end))))


def test_the_leeway_counts_on_open_streams_as_at_the_door(guarded, parties, sse_connect, doors):
    """Streams of one token end at moments of their own within it; until then each gets everything."""
    relay = guarded({"auth.leeway": "3s"})
    token, end = parties.T(life=1), int(time.time()) + 1
    streams = [sse_connect(relay, "orders.eu", headers=bearer(token)) for _ in range(20)]
    ended_at = {}

    def look():
        for n, stream in enumerate(streams):
            if stream.closed:
                ended_at.setdefault(n, time.time())
        return len(ended_at) == len(streams)

    wait_until(look, "the end of all")
    for stream in streams:
        assert_ended(stream, "token-expired")
    assert min(ended_at.values()) >= end and max(ended_at.values()) - min(ended_at.values()) > 0.3
    wait_until(lambda: status_at(relay, EVENTS, bearer(token)) == 401)
    assert time.time() >= end + 3, "the door is open until exp and leeway"


def test_expiring_is_told_before(brief, parties, sse_connect):
    """Once, after relay.connected, without an id, with the milliseconds that are left."""
    stream = sse_connect(brief, "orders.eu", headers=bearer(parties.T(life=4)))
    assert_ended(stream, "token-expired")
    names = [b.type for b in stream.controls]
    assert names == ["relay.connected", "relay.expiring", "relay.shutdown"]
    told = stream.control("expiring")[0]
    assert told["id"] is None and 0 <= told["in"] <= 1000
    assert stream.last_event_id == stream.controls[0].id


def test_expiring_at_once_where_the_token_is_nearly_over(guarded, parties, sse_connect):
    relay = guarded({"auth.notice": "1h"})
    stream = sse_connect(relay, "orders.eu", headers=bearer(parties.T(life=60)))
    stream.wait_for(lambda c: c.control("expiring"))
    assert [b.type for b in stream.controls] == ["relay.connected", "relay.expiring"]
    assert 0 < stream.control("expiring")[0]["in"] <= 60000


@pytest.mark.parametrize("config", [{"auth.notice": 0}, {"control_events": "off"}], ids=["notice 0", "control off"])
def test_no_notice_where_none_is_wanted(guarded, parties, sse_connect, config):
    relay = guarded({"auth.leeway": 0, "auth.notice": "1s", **config})
    stream = sse_connect(relay, "orders.eu", headers=bearer(parties.T(life=3)), wait=False).wait_closed()
    assert stream.clean and b"expiring" not in stream.raw
    assert ("relay.shutdown" in [b.type for b in stream.controls]) == ("control_events" not in config)


def test_each_way_to_show_it_ends_alike(guarded, parties, sse_connect):
    relay = guarded({"auth.leeway": 0, "auth.query": "on", "auth.cookie": "c"})
    token = parties.T(life=3)
    ticket = ticket_of(relay, token)
    streams = [
        sse_connect(relay, "orders.eu", headers=bearer(token)),
        sse_connect(relay, "orders.eu", headers={"Cookie": f"c={token}"}),
        sse_connect(relay, "orders.eu", params={"access_token": token}),
        sse_connect(relay, "orders.eu", **with_ticket(ticket)),
    ]
    for stream in streams:
        assert_ended(stream, "token-expired")


def test_the_cache_keeps_nobody_longer(brief, parties):
    """What was verified before is judged by its end all the same."""
    token, end = parties.T(life=2), int(time.time()) + 2
    assert status_at(brief, EVENTS, bearer(token)) == 200
    wait_until(lambda: status_at(brief, EVENTS, bearer(token)) == 401)
    assert time.time() >= end


def test_streams_without_an_end_do_not_end(guarded, parties, sse_connect, doors):
    """A static key has none, nor a token whose issuer says that exp is optional."""
    parties.file.write(issuers=[parties.I.entry(exp="optional"), parties.J.entry()])
    relay = guarded({"auth.leeway": 0})
    brief = sse_connect(relay, "orders.eu", headers=bearer(parties.T(life=2)))
    lasting = sse_connect(relay, "orders.eu", headers=bearer(parties.T(exp=None)))
    assert_ended(brief, "token-expired")
    doors.fcall("orders.eu", "x", ns="t1")
    assert lasting.wait_for(1).data == ["x"] and not lasting.closed


def test_a_held_stream_ends_too(redis, guarded, parties, sse_connect, doors):
    """Redis is away until after its end: it gets not one event."""
    relay = guarded({"auth.leeway": 0})
    cursor = sse_connect(relay, "orders.eu", headers=bearer(parties.U())).last_event_id
    redis.kill()
    wait_until(lambda: relay.ready()[0] == 503, "redis-down")
    held = sse_connect(relay, "orders.eu", headers=bearer(parties.T(life=2)), last_event_id=cursor, wait=False)
    held.wait_closed()
    assert held.status == 200 and held.clean and not held.events
    redis.start()
    relay.wait_ready()


@pytest.mark.parametrize("step", [3600, -3600])
def test_a_clock_that_is_set_meanwhile(guarded, parties, sse_connect, doors, tmp_path, step):
    """The end is a time of day: a clock that was wrong and is put right decides by what it says then."""
    clock = SteppedClock(tmp_path)
    relay = guarded({"auth.leeway": 0}, env=clock.env)
    stream = sse_connect(relay, "orders.eu", headers=bearer(parties.T(life=3)))
    lasting = sse_connect(relay, "orders.eu", headers=bearer(parties.U(life=7200)))
    clock.step(step)
    if step > 0:
        assert_ended(stream, "token-expired")
    else:
        past = time.time() + 4  # its end by the clock that was: nothing happens then
        wait_until(lambda: time.time() > past)
        doors.fcall("orders.eu", "x", ns="t1")
        assert stream.wait_for(1).data == ["x"] and not stream.closed
    doors.fcall("orders.eu", "y", ns="t1")
    lasting.wait_for(lambda c: "y" in c.data)
    assert not lasting.closed


def test_max_lifetime_and_the_token_whichever_is_first(guarded, parties, sse_connect):
    relay = guarded({"auth.leeway": 0, "max_lifetime": "1h"})
    assert_ended(sse_connect(relay, "orders.eu", headers=bearer(parties.T(life=2))), "token-expired")
    assert relay.metric("sse_relay_clients", state="live") == 0


def test_a_drain_says_drain(guarded, parties, sse_connect):
    relay = guarded()
    stream = sse_connect(relay, "orders.eu", headers=bearer(parties.T()))
    relay.terminate()
    assert_ended(stream, "drain")
    assert relay.wait() == 0


def test_a_drain_says_drain_without_authentication(relay, sse_connect):
    stream = sse_connect(relay, "t")
    relay.terminate()
    assert_ended(stream, "drain")
