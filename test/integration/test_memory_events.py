# SPDX-License-Identifier: Apache-2.0
"""memory.events: the events that wait on a node take so much memory and no more (protocol.md, 4.7)."""

import itertools
import json

import pytest

from relay_process import wait_until

LIMIT = 2 << 20
# Wide enough that no queue is full by itself.
WIDE = {
    "queue.max_events": 20000,
    "queue.max_bytes": "64MB",
    "socket.unsent": "4KB",
    "log.max_events": 20000,
    "log.ttl": "1h",
    "replay.max_events": 20000,
    "slow.reads": 2000,
    "memory.events": "2MB",
}
COUNT = 1200  # of 4 KB: more than twice what may wait
PAD = "".join(chr(33 + n * 7 % 90) for n in range(4000))
FORMS = pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
PLACES = pytest.mark.parametrize("more", [{}, {"park": "handover", "io_uring": "off"}], ids=["suspended", "handover"])


@pytest.fixture
def stalled(sse_connect):
    def connect(relay, count, *topics, **kw):
        readers = [sse_connect(relay, *topics, receive_buffer=4096, **kw) for _ in range(count)]
        for reader in readers:
            reader.stop_reading()
        return readers

    return connect


def numbers(client):
    return [int(d.split()[0]) for d in client.data]


def publish(doors, first, last, topic="t", **fields):
    """In parts, as a publisher that is fast, and not a burst that fills all pipes."""
    ids = []
    for start in range(first, last + 1, 100):
        ids += doors.many(topic, [f"{n} {PAD}" for n in range(start, min(start + 100, last + 1))], **fields)
    return ids


def relieved(relay, streams):
    """All that was published has come, and an eighth is free again."""
    wait_until(lambda: relay.metric("sse_relay_events_received_total") >= COUNT, "all events")
    wait_until(lambda: relay.metric("sse_relay_memory_relieved_total") >= streams, f"{streams} streams that let go")
    wait_until(lambda: relay.metric("sse_relay_event_bytes") <= LIMIT * 7 / 8, "room")


def told_of(client):
    return sum(d["count"] for d in client.control("dropped"))


def dropped_where_told(client, ids):
    """Each block stands where its events are missing: between it and what came before, as many as it counts."""
    position = 0
    for block in client.blocks:
        if block.type == "relay.dropped":
            missing = [i for i in ids if position < i <= int(block.id)]
            assert len(missing) == json.loads(block.data)["count"] and int(block.id) == missing[-1]
        elif block.dispatched and block.type != "relay.connected" and position:
            assert not [i for i in ids if position < i < int(block.id)]
        if block.id is not None:
            position = int(block.id)


@FORMS
@PLACES
def test_under_block_all_is_read_later(relay_factory, redis, doors, stalled, sse_connect, gzip, more):
    relay = relay_factory(WIDE, compress=">", **more)
    readers, healthy = stalled(relay, 10, "t", gzip=gzip), [sse_connect(relay, "t", gzip=g) for g in (False, True)]
    ids = publish(doors, 1, COUNT)
    for client in healthy:
        assert client.wait_for(COUNT).ids == ids
    relieved(relay, 10)
    assert relay.metric("sse_relay_memory_full_total") >= 1
    assert relay.metric("sse_relay_streams_behind_total") >= 10
    for reader in readers:
        reader.start_reading()
    for reader in readers:
        assert reader.wait_for(COUNT).ids == ids
    more_ids = publish(doors, COUNT + 1, COUNT + 10)
    for client in readers + healthy:
        assert client.wait_for(COUNT + 10).ids == ids + more_ids and numbers(client) == list(range(1, COUNT + 11))
        assert not client.gaps and not client.control("dropped") and not client.closed
    assert relay.metric("sse_relay_streams_closed_total", reason="slow") == 0
    assert relay.metric("sse_relay_events_dropped_total", reason="policy") == 0
    assert len(relay.wait_log("more memory than memory.events")) > 0


@FORMS
@pytest.mark.parametrize("policy", ["drop-oldest", "drop-newest"])
def test_what_is_dropped_is_told_where_it_is_missing(relay_factory, redis, doors, stalled, sse_connect, policy, gzip):
    relay = relay_factory(WIDE, compress=">", slow=policy)
    readers, healthy = stalled(relay, 6, "t", gzip=gzip), sse_connect(relay, "t")
    ids = publish(doors, 1, COUNT)
    assert healthy.wait_for(COUNT).ids == ids
    relieved(relay, 6)
    for reader in readers:
        reader.start_reading()
    last = publish(doors, COUNT + 1, COUNT + 1)
    for reader in readers:
        reader.wait_for(lambda c: len(c.events) + told_of(c) >= COUNT + 1)
        assert told_of(reader) > 0 and len(reader.events) + told_of(reader) == COUNT + 1
        assert reader.all_ids[-1] == last[0]
        assert reader.all_ids == sorted(reader.all_ids) and not reader.gaps
        dropped_where_told(reader, ids + last)
    assert relay.metric("sse_relay_events_dropped_total", reason="policy") == sum(map(told_of, readers))
    assert relay.metric("sse_relay_streams_behind_total") == 0
    assert not healthy.control("dropped") and not healthy.closed


@pytest.mark.parametrize("policy", ["drop-oldest", "drop-newest"])
def test_a_resume_brings_nothing_that_was_dropped(relay_factory, redis, doors, stalled, sse_connect, policy):
    relay = relay_factory(WIDE, slow=policy)
    (reader,) = stalled(relay, 1, "t")
    ids = publish(doors, 1, COUNT)
    relieved(relay, 1)
    reader.start_reading()
    reader.wait_for(lambda c: c.last_event_id and int(c.last_event_id) == ids[-1])
    reader.close()
    again = sse_connect(relay, "t", last_event_id=reader.last_event_id)
    more = publish(doors, COUNT + 1, COUNT + 3)
    assert again.wait_for(3).ids == more
    assert len(reader.events) + told_of(reader) == COUNT


def test_without_control_events_drops_are_only_counted(relay_factory, redis, doors, stalled):
    relay = relay_factory(WIDE, slow="drop-oldest")
    (reader,) = stalled(relay, 1, "t", params={"control": "off"}, wait=False)
    wait_until(lambda: relay.metric("sse_relay_clients", state="live") == 1, "a live stream")
    publish(doors, 1, COUNT)
    relieved(relay, 1)
    reader.start_reading()

    def dropped():
        return relay.metric("sse_relay_events_dropped_total", reason="policy")

    wait_until(lambda: len(reader.events) + dropped() >= COUNT, "each event, or that it was dropped")
    assert len(reader.events) + dropped() == COUNT and 0 < dropped() < COUNT
    assert not reader.controls and reader.ids == sorted(set(reader.ids))


def test_under_disconnect_the_slow_ones_end(relay_factory, redis, doors, stalled, sse_connect):
    relay = relay_factory(WIDE, slow="disconnect")
    readers, healthy = stalled(relay, 5, "t"), sse_connect(relay, "t")
    ids = publish(doors, 1, COUNT)
    assert healthy.wait_for(COUNT).ids == ids
    relieved(relay, 5)
    assert relay.metric("sse_relay_streams_closed_total", reason="slow") == 5
    for reader in readers:
        reader.start_reading()
        reader.wait_closed()
        assert reader.clean and not reader.rest and reader.ids == ids[: len(reader.ids)] and len(reader.ids) < COUNT
    assert not healthy.closed


def test_each_goes_by_its_own_policy(relay_factory, redis, doors, stalled, sse_connect):
    relay = relay_factory(WIDE)
    policies = ["block", "drop-oldest", "drop-newest", "disconnect"]
    readers = {p: stalled(relay, 1, "t", params={"slow": p})[0] for p in policies}
    ids = publish(doors, 1, COUNT)
    relieved(relay, 4)
    for reader in readers.values():
        reader.start_reading()
    assert readers["block"].wait_for(COUNT).ids == ids
    for p in ("drop-oldest", "drop-newest"):
        readers[p].wait_for(lambda c: len(c.events) + told_of(c) == COUNT)
        dropped_where_told(readers[p], ids)
    assert readers["disconnect"].wait_closed().clean


def test_the_oldest_goes_first_on_whichever_worker_it_is(relay_factory, redis, doors, stalled, sse_connect):
    relay = relay_factory(WIDE)
    (old,), (young,) = stalled(relay, 1, "old"), stalled(relay, 1, "young")
    ids = publish(doors, 1, 300, "old")

    def age():
        seconds, micros = doors.redis.time()
        return seconds + micros / 1e6 - ids[-1] / 1e6

    wait_until(lambda: age() > 4, "events that are old")
    assert relay.metric("sse_relay_memory_full_total") == 0
    others = publish(doors, 1, 300, "young")
    wait_until(lambda: relay.metric("sse_relay_events_received_total") == 600, "all events")
    wait_until(lambda: relay.metric("sse_relay_event_bytes") <= LIMIT * 7 / 8, "room")
    assert relay.metric("sse_relay_memory_relieved_total") == 1 == relay.metric("sse_relay_streams_behind_total")
    assert relay.metric("sse_relay_clients", state="replay") == 1 and relay.metric("sse_relay_queued_events") > 200
    for client, expected in ((old, ids), (young, others)):
        client.start_reading()
        assert client.wait_for(300).ids == expected and not client.gaps


def test_what_no_log_has_is_told_as_dropped(relay_factory, redis, doors, stalled):
    relay = relay_factory(WIDE)
    (reader,) = stalled(relay, 1, "t")
    ids = []
    for n in range(1, COUNT, 100):
        ids += publish(doors, n, n + 89)
        publish(doors, 900000 + n, 900009 + n, ephemeral=1)
    relieved(relay, 1)
    reader.start_reading()
    reader.wait_for(lambda c: len(c.events) + told_of(c) == COUNT)
    assert [i for i in reader.ids if i is not None] == ids and not reader.gaps
    assert told_of(reader) > 0 and all(d["id"] is None for d in reader.control("dropped"))


def test_who_catches_up_reads_on_in_its_own_time(relay_factory, redis, doors, stalled):
    """Pages of the log count, too: each reader here has its own part of it in memory."""
    relay = relay_factory(WIDE, slow="disconnect")
    ids = publish(doors, 1, COUNT)
    readers = [stalled(relay, 1, "t", last_event_id=ids[n] - 1)[0] for n in range(6)]
    wait_until(lambda: relay.metric("sse_relay_memory_relieved_total") >= 1, "a stream that lets go")
    wait_until(lambda: relay.metric("sse_relay_event_bytes") <= LIMIT, "the events to take no more than they may")
    for reader in readers:
        reader.start_reading()
    for n, reader in enumerate(readers):
        assert reader.wait_for(COUNT - n).ids == ids[n:] and not reader.gaps and not reader.closed


@pytest.mark.parametrize("lane", ["batched", "coalesced"])
def test_what_waits_for_a_flush_goes_as_well(relay_factory, redis, doors, stalled, sse_connect, lane):
    relay = relay_factory(WIDE, flush="20ms")
    readers, healthy = stalled(relay, 3, "t"), sse_connect(relay, "t")
    ids, keys = [], itertools.count()
    for start in range(1, COUNT, 100):
        for n in range(start, start + 100):
            ids.append(doors.fcall("t", f"{n} {PAD}", priority=lane, key=f"k{next(keys)}"))
    assert healthy.wait_for(COUNT).ids == ids
    relieved(relay, 3)
    for reader in readers:
        reader.start_reading()
    for reader in readers:
        assert reader.wait_for(COUNT).ids == ids and not reader.gaps and not reader.control("dropped")


def test_a_store_in_this_process(relay_factory, stalled, sse_connect):
    relay = relay_factory(WIDE, redis="memory:")
    readers, healthy = stalled(relay, 4, "t"), sse_connect(relay, "t")
    for start in range(0, COUNT, 50):
        events = [{"topic": "t", "data": f"{n} {PAD}"} for n in range(start + 1, start + 51)]
        assert relay.post("/publish", json=events).status_code == 200
    assert numbers(healthy.wait_for(COUNT)) == list(range(1, COUNT + 1))
    relieved(relay, 4)
    for reader in readers:
        reader.start_reading()
    for reader in readers:
        assert numbers(reader.wait_for(COUNT)) == list(range(1, COUNT + 1)) and not reader.gaps


def test_it_may_be_off_and_changes_with_a_reload(relay_factory, redis, doors, stalled, sse_connect, tmp_path):
    path = tmp_path / "reloaded.json"
    path.write_text(json.dumps({**WIDE, "memory.events": 0}))
    relay = relay_factory({}, args=("--config", str(path)))
    (reader,), healthy = stalled(relay, 1, "t"), sse_connect(relay, "t")
    ids = publish(doors, 1, COUNT)
    assert healthy.wait_for(COUNT).ids == ids
    wait_until(lambda: relay.metric("sse_relay_event_bytes") > 2 * LIMIT, "the gauge")
    assert relay.metric("sse_relay_memory_full_total") == 0
    path.write_text(json.dumps(WIDE))
    relay.signal(1)
    relieved(relay, 1)
    assert relay.metric("sse_relay_memory_full_total") == 1
    reader.start_reading()
    assert reader.wait_for(COUNT).ids == ids


def test_stats_tell(relay_factory, redis):
    stats = json.dumps(relay_factory({}).stats())
    for name in ("event_bytes", "memory_full_total", "memory_relieved_total"):
        assert f'"sse_relay_{name}": ' in stats
