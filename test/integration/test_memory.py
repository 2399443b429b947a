# SPDX-License-Identifier: Apache-2.0
"""redis = memory: — one node without Redis, the same promises."""

import time

import pytest

from accounting import account
from relay_process import wait_until


@pytest.fixture
def relay(relay_factory):
    return relay_factory(redis="memory:")


def publish_many(relay, topic, datas):
    batch = [{"topic": topic, "data": d} for d in datas]
    answer = relay.post("/publish", json=batch)
    assert answer.status_code == 200
    return [int(e["id"]) for e in answer.json()]


def numbers(total):
    return [str(n) for n in range(1, total + 1)]


def test_publish_and_stream(relay, sse_connect):
    streams = [sse_connect(relay, *names) for names in (["t"], ["*"], ["t", ">"])]
    id = relay.publish("t", "a\nb", event="e", retry=1500)
    relay.publish(["t", "u"], "2")
    for s in streams:
        assert s.wait_for(2).data == ["a\nb", "2"]
        assert s.ids[0] == id
    assert streams[0].raw.endswith(f"id: {streams[0].ids[1]}\ndata: 2\n\n".encode())
    assert f"id: {id}\nevent: e\nretry: 1500\ndata: a\ndata: b\n\n".encode() in streams[0].raw


def test_ready_says_memory_is_up(relay):
    status, body = relay.ready()
    assert status == 200 and body["status"] == "ready"


def test_resume(relay, sse_connect):
    first = sse_connect(relay, "t", "x.*")
    first.close()
    ids = publish_many(relay, "t", numbers(4))
    relay.publish("x.y", "5")
    again = sse_connect(relay, "t", "x.*", last_event_id=first.last_event_id)
    assert again.wait_for(5).data == numbers(5) and not again.gaps
    middle = sse_connect(relay, "*", "x.>", last_event_id=ids[1])
    assert middle.wait_for(3).data == ["3", "4", "5"]


@pytest.mark.parametrize("params,want", [({"replay": 2}, ["4", "5"]), ({"replay": "all"}, None), ({"since": "-1h"}, None)])
def test_replay(relay, sse_connect, params, want):
    publish_many(relay, "t", numbers(5))
    client = sse_connect(relay, "t", params=params)
    relay.publish("t", "live")
    assert client.wait_for(lambda c: "live" in c.data).data == [*(want or numbers(5)), "live"]


def test_ephemeral_and_once(relay, sse_connect):
    client = sse_connect(relay, "t")
    assert relay.publish("t", "e", ephemeral=True) is None
    id = relay.publish("t", "1", once="k")
    assert relay.publish("t", "2", once="k") == id
    relay.publish("t", "end")
    assert client.wait_for(3).data == ["e", "1", "end"]
    again = sse_connect(relay, "t", params={"replay": "all"})
    assert again.wait_for(2).data == ["1", "end"]


def test_namespaces(relay, sse_connect):
    one = sse_connect(relay, ">", params={"ns": "one"})
    two = sse_connect(relay, ">")
    assert relay.post("/publish?ns=one", json={"topic": "a", "data": "1"}).status_code == 200
    relay.publish("a", "2")
    assert one.wait_for(1).data == ["1"]
    assert two.wait_for(1).data == ["2"]


def test_gap_trimmed(relay_factory, sse_connect):
    relay = relay_factory({"redis": "memory:", "log.max_events": 10})
    ids = publish_many(relay, "t", numbers(60))
    client = sse_connect(relay, "t", last_event_id=ids[0])
    live = relay.publish("t", "live")
    client.wait_for(lambda c: "live" in c.data)
    account(client, [*ids, live], ids[0], 1, "trimmed")
    assert len(client.data) >= 10


def test_gap_expired(relay_factory, sse_connect):
    """From the log alone: a node that remembers what the log has lost brings it, and tells no gap."""
    relay = relay_factory({"redis": "memory:", "log.ttl": "1s", "tail.max_events": 0})
    ids = publish_many(relay, "t", numbers(3))

    def told():
        """The first client that is told; another after it may be served from the recent events of the topic."""
        client = sse_connect(relay, "t", last_event_id=ids[0])
        relay.publish("u", "x")
        client.wait_for(lambda c: c.gaps or c.events)
        if client.gaps:
            return client
        return client.close()

    client = wait_until(told, "expiry")
    live = relay.publish("t", "live")
    client.wait_for(1)
    account(client, [*ids, live], ids[0], 1, "expired")


@pytest.mark.parametrize("store", ["redis", "memory"])
def test_an_event_past_its_ttl_is_not_replayed_from_memory(request, relay_factory, sse_connect, store):
    relay = relay_factory(redis="memory:" if store == "memory" else request.getfixturevalue("redis").url)
    live = sse_connect(relay, "t")
    first = relay.publish("t", "1")
    relay.publish("t", "2", ttl=300)
    relay.publish("t", "3", ttl=3600000)
    assert live.wait_for(3).data == numbers(3)  # the node has all of them
    ends = time.monotonic() + 0.4
    wait_until(lambda: time.monotonic() > ends)
    for _ in range(12):  # the more come, the fewer are answered from the log
        client = sse_connect(relay, "t", last_event_id=first)
        client.wait_for(lambda c: "3" in c.data)
        assert client.data == ["3"] and not client.gaps
    assert relay.metric("sse_relay_replay_reads_total", source="memory") > 0


def test_gap_unknown_id_and_after_a_restart(relay_factory, relay, sse_connect):
    id = relay.publish("t", "1")
    client = sse_connect(relay, "t", last_event_id="no")
    client.wait_for(lambda c: c.gaps)
    assert client.gaps[0]["reason"] == "unknown-id"
    other = relay_factory(redis="memory:")  # a new process: the log is gone
    client = sse_connect(other, "t", last_event_id=id)
    other.publish("t", "2")
    client.wait_for(1)
    assert [g["reason"] for g in client.gaps] == ["redis-lost"]


def test_gap_overflow(relay_factory, sse_connect):
    relay = relay_factory({"redis": "memory:", "replay.max_events": 20})
    cursor = relay.publish("t", "0")
    ids = publish_many(relay, "t", numbers(100))
    client = sse_connect(relay, "t", last_event_id=cursor)
    live = relay.publish("t", "live")
    client.wait_for(lambda c: "live" in c.data)
    account(client, [*ids, live], cursor, 1, "overflow")


def test_publish_between_subscribe_and_replay(relay, sse_connect, publishing):
    publisher = publishing(lambda n: relay.publish("t", n)).wait_for(20)
    for _ in range(60):
        start = publisher.count - 10
        stream = sse_connect(relay, "t", last_event_id=publisher.ids[start]).wait_for(15)
        stream.close()
        got = [int(d) for d in stream.data]
        assert got == list(range(start + 2, start + 2 + len(got))) and not stream.gaps
    publisher.stop()


def test_500_clients_resume_over_lifetimes(relay_factory, swarm, publishing):
    relay = relay_factory(redis="memory:", max_lifetime="1s", retry="100ms")
    s = swarm([relay], 100, "t", resume=True).wait_connected()
    publisher = publishing(lambda n: relay.publish("t", n), pause=0.002)
    s.wait(lambda c: len(c.starts) >= 3)
    total = publisher.stop()
    s.wait(lambda c: len(c.data) >= total)
    assert all(c.data == numbers(total) and not c.gaps for c in s.clients)


def test_drain(relay, sse_connect):
    clients = [sse_connect(relay, "t") for _ in range(5)]
    relay.publish("t", "x")
    relay.terminate()
    for client in clients:
        client.wait_closed()
        assert client.data == ["x"] and client.control("shutdown")
    assert relay.wait() == 0
