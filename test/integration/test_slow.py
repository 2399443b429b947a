# SPDX-License-Identifier: Apache-2.0
"""Readers that do not keep up (protocol.md, 4.7): what each policy lets go, and what is told of it."""

import pytest

from raw_http import assert_problem
from relay_process import wait_until

TIGHT = {"queue.max_events": 16, "queue.max_bytes": "1GB", "socket.unsent": "4KB"}
PAD = "x" * 4000
FORMS = pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])


@pytest.fixture
def stalled(sse_connect):
    def connect(relay, *topics, **kw):
        client = sse_connect(relay, *topics, receive_buffer=4096, **kw)
        client.stop_reading()
        return client

    return connect


def numbers(client):
    return [int(d.split()[0]) for d in client.data]


def publish(doors, first, last, **fields):
    return doors.many("t", [f"{n} {PAD}" for n in range(first, last + 1)], **fields)


def is_behind(relay):
    wait_until(lambda: relay.metric("sse_relay_streams_behind_total") >= 1, "a stream that is behind")


@FORMS
@pytest.mark.parametrize("park", ["suspended", "handover"])
def test_block_loses_nothing(relay_factory, redis, doors, stalled, sse_connect, gzip, park):
    relay = relay_factory(TIGHT, compress=">", park=park)
    client, witness = stalled(relay, "t", gzip=gzip), sse_connect(relay, "t")
    ids = publish(doors, 1, 500)
    witness.wait_for(500)
    is_behind(relay)
    assert relay.metric("sse_relay_queued_events") <= 16
    client.start_reading()
    assert client.wait_for(500).ids == ids and numbers(client) == list(range(1, 501))
    more = publish(doors, 501, 510)
    assert client.wait_for(510).ids == ids + more
    assert not client.gaps and not client.control("dropped") and not client.closed


def test_what_retention_overtakes_is_one_exact_gap(relay_factory, redis, doors, stalled):
    relay = relay_factory(TIGHT, **{"log.max_events": 50})
    client = stalled(relay, "t")
    ids = publish(doors, 1, 600)
    is_behind(relay)
    client.start_reading()
    client.wait_for(lambda c: c.ids and c.ids[-1] == ids[-1])
    assert len(client.gaps) == 1 and client.gaps[0]["reason"] == "trimmed"
    got = set(client.ids)
    assert len(got) == len(client.ids) and client.told(ids) == set(ids) - got


def test_replay_max_events_bounds_one_catching_up_and_not_a_life(relay_factory, redis, doors, stalled):
    relay = relay_factory(TIGHT, **{"replay.max_events": 300})
    client = stalled(relay, "t")
    for n in range(5):
        publish(doors, n * 200 + 1, n * 200 + 200)
        wait_until(lambda n=n: relay.metric("sse_relay_streams_behind_total") > n, "behind")
        client.start_reading()
        client.wait_for(n * 200 + 200)
        client.stop_reading()
    assert numbers(client) == list(range(1, 1001)) and not client.gaps


def test_block_tells_what_it_cannot_read_again(relay_factory, redis, doors, stalled):
    relay = relay_factory(TIGHT)
    client = stalled(relay, "t")
    publish(doors, 1, 300)
    is_behind(relay)
    doors.many("t", [f"e{n} {PAD}" for n in range(100)], ephemeral=1)
    wait_until(lambda: relay.metric("sse_relay_events_dropped_total", reason="policy") > 0, "drops")
    client.start_reading()
    client.wait_for(lambda c: len(c.events) + sum(d["count"] for d in c.control("dropped")) == 400)
    assert [int(d.split()[0]) for d in client.data if d[0] != "e"] == list(range(1, 301))
    assert all(d["id"] is None for d in client.control("dropped"))


def test_block_loses_none_without_an_id_while_it_reads_on(relay_factory, redis, doors, stalled):
    """They come while pages of the log are under way, too: each is sent, or told."""
    relay = relay_factory(TIGHT)
    client = stalled(relay, "t", "live")
    ids = publish(doors, 1, 1000)
    is_behind(relay)
    client.start_reading()
    count = 0
    while ids[-1] not in client.ids:
        doors.many("live", ["live"] * 10, ephemeral=1)
        count += 10
    last = doors.fcall("t", "the end")
    client.wait_for(lambda c: last in c.ids)
    assert [i for i in client.ids if i] == ids + [last]
    assert client.data.count("live") + sum(d["count"] for d in client.control("dropped")) == count
    assert {d["id"] for d in client.control("dropped")} <= {None}


@FORMS
@pytest.mark.parametrize("policy", ["drop-oldest", "drop-newest"])
@pytest.mark.parametrize("by", ["query", "header", "option"])
def test_what_is_dropped_is_told_where_it_is_missing(relay_factory, redis, doors, stalled, sse_connect, policy, by, gzip):
    relay = relay_factory(TIGHT, compress=">", **({"slow": policy} if by == "option" else {}))
    asks = {"query": {"params": {"slow": policy}}, "header": {"headers": {"X-SSE-Slow": policy}}, "option": {}}[by]
    client = stalled(relay, "t", gzip=gzip, **asks)
    ids = publish(doors, 1, 400)
    wait_until(lambda: relay.metric("sse_relay_events_dropped_total", reason="policy") > 0, "drops")
    client.start_reading()
    client.wait_for(lambda c: len(c.events) + sum(d["count"] for d in c.control("dropped")) == 400)
    ids += publish(doors, 401, 401)
    client.wait_for(lambda c: "401" in [d.split()[0] for d in c.data])
    told = client.control("dropped")
    assert len(client.events) + sum(d["count"] for d in told) == 401
    assert client.all_ids == sorted(client.all_ids) and not client.gaps
    # Each stands where its events are missing: between it and what came before, as many as it counts.
    position = 0
    for block in client.blocks:
        if block.type == "relay.dropped":
            missing = [i for i in ids if position < i <= int(block.id)]
            assert len(missing) == told.pop(0)["count"] and int(block.id) == missing[-1]
        if block.id is not None:
            position = int(block.id)
    assert relay.metric("sse_relay_streams_behind_total") == 0


@pytest.mark.parametrize("policy", ["drop-oldest", "drop-newest"])
def test_a_resume_brings_nothing_that_was_dropped(relay_factory, redis, doors, stalled, sse_connect, policy):
    relay = relay_factory(TIGHT, slow=policy)
    client = stalled(relay, "t")
    ids = publish(doors, 1, 200)
    wait_until(lambda: relay.metric("sse_relay_events_dropped_total", reason="policy") > 0, "drops")
    client.start_reading()
    client.wait_for(lambda c: c.last_event_id and int(c.last_event_id) == ids[-1])
    client.close()
    again = sse_connect(relay, "t", last_event_id=client.last_event_id)
    more = publish(doors, 201, 203)
    assert again.wait_for(3).ids == more
    assert len(client.events) + sum(d["count"] for d in client.control("dropped")) == 200


def test_dropped_events_without_ids_are_told_without_one(relay_factory, redis, doors, stalled):
    relay = relay_factory(TIGHT, slow="drop-newest")
    client = stalled(relay, "t")
    doors.many("t", [f"{n} {PAD}" for n in range(300)], ephemeral=1)
    wait_until(lambda: relay.metric("sse_relay_events_dropped_total", reason="policy") > 0, "drops")
    client.start_reading()
    client.wait_for(lambda c: len(c.events) + sum(d["count"] for d in c.control("dropped")) == 300)
    assert [d["id"] for d in client.control("dropped")] == [None] * len(client.control("dropped"))


def test_without_control_events_it_is_only_counted(relay_factory, redis, doors, stalled):
    relay = relay_factory(TIGHT, slow="drop-oldest")
    client = stalled(relay, "t", params={"control": "off"}, wait=False)
    wait_until(lambda: relay.metric("sse_relay_clients", state="live") == 1, "a live stream")
    ids = publish(doors, 1, 200)
    wait_until(lambda: relay.metric("sse_relay_events_dropped_total", reason="policy") > 0, "drops")
    client.start_reading()
    client.wait_for(lambda c: c.ids and c.ids[-1] == ids[-1])
    dropped = relay.metric("sse_relay_events_dropped_total", reason="policy")
    assert not client.controls and len(client.events) + dropped == 200


def test_disconnect_may_be_asked_for(relay_factory, redis, doors, stalled):
    relay = relay_factory(TIGHT)
    client = stalled(relay, "t", params={"slow": "disconnect"})
    ids = publish(doors, 1, 200)
    wait_until(lambda: relay.metric("sse_relay_streams_closed_total", reason="slow") == 1, "its end")
    client.start_reading()
    client.wait_closed()
    assert client.clean and not client.rest and client.ids == ids[: len(client.ids)]


def test_a_smaller_buffer_is_full_earlier(relay_factory, redis, doors, stalled):
    relay = relay_factory({**TIGHT, "queue.max_events": 1000})
    for asks in ({"params": {"buffer": 3}}, {"headers": {"X-SSE-Buffer": "3"}}):
        client = stalled(relay, "t", params={"slow": "drop-newest", **asks.get("params", {})}, headers=asks.get("headers"))
        before = relay.metric("sse_relay_events_dropped_total", reason="policy")
        publish(doors, 1, 100)
        wait_until(lambda b=before: relay.metric("sse_relay_events_dropped_total", reason="policy") > b, "drops")
        assert relay.metric("sse_relay_queued_events") <= 10  # of 100: what tells of drops counts, and who is going
        client.close()
        wait_until(lambda: relay.metric("sse_relay_clients", state="live") == 0, "its end")


def test_too_many_drops_end_the_stream(relay_factory, redis, doors, stalled):
    relay = relay_factory(TIGHT, slow="drop-newest", **{"slow.max_dropped": 50})
    client = stalled(relay, "t")
    publish(doors, 1, 300)
    wait_until(lambda: relay.metric("sse_relay_streams_closed_total", reason="slow") == 1, "its end")
    client.start_reading()
    assert client.wait_closed().clean


def test_what_takes_nothing_is_ended(relay_factory, redis, doors, stalled, sse_connect):
    relay = relay_factory(TIGHT, stall_timeout="1s")
    client, idle = stalled(relay, "t"), sse_connect(relay, "nothing-comes")
    reading = sse_connect(relay, "t")
    publish(doors, 1, 200)
    wait_until(lambda: relay.metric("sse_relay_streams_closed_total", reason="stalled") == 1, "its end")
    assert reading.wait_for(200) and not reading.closed and not idle.closed
    client.start_reading()
    client.wait_closed()
    assert relay.metric("sse_relay_streams_closed_total", reason="stalled") == 1


def test_who_reads_slowly_is_not_stalled(relay_factory, redis, doors, stalled):
    relay = relay_factory(TIGHT, stall_timeout="1s")
    client = stalled(relay, "t")
    publish(doors, 1, 100)

    def reads():
        client.read_some(4096)
        return len(client.events) >= 100

    wait_until(reads, "all events", timeout=60)
    assert numbers(client) == list(range(1, 101)) and not client.closed


def test_slow_streams_share_their_reads(relay_factory, redis, doors, stalled):
    relay = relay_factory(TIGHT, workers=1, **{"slow.reads": 20})
    clients = [stalled(relay, "t") for _ in range(10)]
    ids = publish(doors, 1, 200)
    wait_until(lambda: relay.metric("sse_relay_streams_behind_total") == 10, "all behind")
    for client in clients:
        client.start_reading()
    for client in clients:
        assert client.wait_for(200).ids == ids and not client.gaps
    assert relay.metric("sse_relay_slow_reads_total") >= 10 * (200 // 16 - 6)


BAD = ["slow=never", "slow=", "slow=block&slow=block", "buffer=0", "buffer=17", "buffer=x", "buffer=", "flush=5ms", "flush=2m", "flush=x",
       "flush=1", "control=maybe", "control=off&control=off"]  # fmt: skip


@pytest.mark.parametrize("query", BAD)
def test_what_cannot_be_asked_for(relay_factory, redis, query):
    relay = relay_factory(TIGHT)
    for method in ("GET", "HEAD"):
        answer = relay.request(method, f"/events?topic=t&{query}")
        assert answer.status_code == 400
    assert assert_problem(relay.get(f"/events?topic=t&{query}"), 400).startswith(query.split("=")[0] + ":")


def test_what_is_not_allowed_cannot_be_asked_for(relay_factory, redis):
    relay = relay_factory(TIGHT, **{"slow.allowed": ["block", "drop-oldest"]})
    assert "block or drop-oldest" in assert_problem(relay.get("/events?topic=t&slow=disconnect"), 400)
    assert "block or drop-oldest" in assert_problem(relay.get("/events?topic=t", headers={"X-SSE-Slow": "drop-newest"}), 400)
