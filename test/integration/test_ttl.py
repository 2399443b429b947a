# SPDX-License-Identifier: Apache-2.0
"""An event is not handed to the socket once its ttl has passed (protocol.md, 8.1), wherever it is by then, and nobody is
told a gap. A coalesced value that is over has replaced older ones all the same: stale is worse than none.

The flush is a minute: what is pending waits until something instant takes it along.
"""

import random
import time

import pytest

from relay_process import wait_until
from tcp_proxy import TcpProxy

LANES = {"lanes": ["p.>=coalesced", "b.>=batched"], "flush": "1m", "flush.max": "1m", "compress": ">"}
FORMS = pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
LASTS = 3600000


class Store:
    """Publishing to a relay, whatever its store is, and knowing when what was published is over."""

    def __init__(self, relay, redis):
        self.relay, self.redis = relay, redis

    def now_us(self):
        if not self.redis:
            return time.time_ns() // 1000
        s, us = self.redis.time()
        return s * 1000000 + us

    def wait_over(self, id, ttl):
        """Some more: the node knows Redis's clock but nearly."""
        wait_until(lambda: self.now_us() > id + ttl * 1000 + 100000, "its end")


@pytest.fixture(params=["redis", "memory"])
def is_memory(request, redis):
    return request.param == "memory"


@pytest.fixture
def relay(is_memory, relay_factory):
    return relay_factory({**LANES, "redis": "memory:"} if is_memory else LANES)


@pytest.fixture
def store(is_memory, relay, doors):
    return Store(relay, None if is_memory else doors.redis)


@pytest.fixture
def proxied(redis, relay_factory):
    """A relay whose connections to Redis can be held up."""
    proxy = TcpProxy(redis.port)
    try:
        options = {"redis": f"redis://127.0.0.1:{proxy.port}", "redis.check": "1m"}
        yield proxy, relay_factory({**LANES, **options})
    finally:
        proxy.close()


def random_text(seed):
    """Nearly as long when it is compressed."""
    return random.Random(seed).randbytes(2000).hex()


def expired(relay):
    return relay.metric("sse_relay_events_expired_total")


def expect(client, data):
    client.wait_for(lambda c: c.data and c.data[-1] == data[-1])
    assert client.data == data and not client.gaps and not client.control("dropped")
    assert client.ids == sorted(set(client.ids))


# --- the log ---


def every_cursor(before):
    return [
        {"last_event_id": before},
        {"params": {"replay": "all"}},
        {"params": {"replay": "whole"}},
        {"params": {"replay": "100"}},
        {"params": {"since": "-1h"}},
    ]


@FORMS
def test_no_cursor_brings_what_is_over(relay, store, sse_connect, gzip):
    before = relay.publish("t", "0")
    relay.publish("t", "1", ttl=LASTS)
    short = relay.publish("t", "short", ttl=20)
    relay.publish("t", "2")
    store.wait_over(short, 20)
    for kw in every_cursor(before):
        client = sse_connect(relay, "t", gzip=gzip, **kw)
        expect(client, ["1", "2"] if "last_event_id" in kw else ["0", "1", "2"])
    expect(sse_connect(relay, "t", gzip=gzip, params={"replay": 2}), ["1", "2"])
    last = relay.publish("t", "last, short", ttl=20)
    store.wait_over(last, 20)
    expect(sse_connect(relay, "t", gzip=gzip, params={"snapshot": 1}), ["2"])
    expect(sse_connect(relay, "t", gzip=gzip, params={"replay": 1}), ["2"])


@FORMS
def test_what_a_value_that_is_over_has_replaced_does_not_come_back(relay, store, sse_connect, gzip):
    before = relay.publish("p.a", "0", key="of.another")
    relay.publish("p.a", "stale", key="k")
    over = relay.publish("p.a", "short", key="k", ttl=20)
    store.wait_over(over, 20)
    end = relay.publish("now", "end")
    for kw in every_cursor(before):
        client = sse_connect(relay, "p.a", "now", gzip=gzip, **kw)
        expect(client, ["end"] if "last_event_id" in kw else ["0", "end"])
    expect(sse_connect(relay, "p.a", "now", gzip=gzip, params={"replay": 2}), ["end"])
    client = sse_connect(relay, "p.a", "now", gzip=gzip, params={"snapshot": 1})
    expect(client, ["0", "end"])
    assert client.ids == [before, end]
    relay.publish("p.a", "fresh", key="k")
    expect(sse_connect(relay, "p.a", gzip=gzip, params={"replay": "all"}), ["0", "fresh"])


def test_a_tail_is_no_other_than_the_log(relay, store, sse_connect):
    """What a node has itself it need not ask for."""
    live = sse_connect(relay, "p.a")
    before = relay.publish("p.a", "0")
    relay.publish("p.a", "stale", key="k")
    relay.publish("p.a", "short", key="k", ttl=100)
    over = relay.publish("p.a", "short", priority="batched", ttl=100)
    relay.publish("p.a", "end", priority="instant")
    live.wait_for(lambda c: "end" in c.data)
    store.wait_over(over, 100)
    for _ in range(12):
        expect(sse_connect(relay, "p.a", last_event_id=before), ["end"])
    assert relay.metric("sse_relay_replay_reads_total", source="memory") > 0


def test_finite_has_nothing_to_come_where_all_is_over(redis, relay_factory, doors):
    relay = relay_factory(LANES)
    store = Store(relay, doors.redis)
    doors.fcall("p.a", "short", key="k", ttl=20)
    last = doors.fcall("p.a", "short", ttl=20, end=1)
    store.wait_over(last, 20)
    assert relay.get("/events?topic=p.a&finite=1&replay=all").status_code == 204


# --- the stream ---


@FORMS
def test_what_is_over_while_pending_is_not_sent(relay, store, sse_connect, gzip):
    stream = sse_connect(relay, "b.a", "p.a", "now", gzip=gzip)
    relay.publish("b.a", "at once")
    relay.publish("b.a", "kept")
    relay.publish("p.a", "stale")
    wait_until(lambda: relay.metric("sse_relay_pending_events") == 2, "what is pending")
    relay.publish("p.a", "short", ttl=200)
    relay.publish("b.a", "short", ttl=200, ephemeral=True)
    last = relay.publish("b.a", "short", ttl=200)
    wait_until(lambda: relay.metric("sse_relay_pending_events") == 4, "what is pending")
    store.wait_over(last, 200)
    relay.publish("now", "x")
    expect(stream, ["at once", "kept", "x"])
    assert expired(relay) == 3


@FORMS
@pytest.mark.parametrize("park", ["suspended", "handover"])
def test_what_is_over_behind_a_stalled_reader_is_not_sent(is_memory, relay_factory, doors, sse_connect, gzip, park):
    more = {"redis": "memory:"} if is_memory else {}
    relay = relay_factory({**LANES, **more, "socket.unsent": "4KB", "park": park})
    store = Store(relay, None if is_memory else doors.redis)
    stream = sse_connect(relay, "t", "p.a", receive_buffer=4096, gzip=gzip)
    stream.stop_reading()
    for n in range(200):
        relay.publish("t", f"{n} {random_text(n)}", ttl=2000)
    relay.publish("p.a", "stale")
    last = relay.publish("p.a", "short", ttl=100)
    store.wait_over(last, 2000)
    relay.publish("t", "last")
    stream.start_reading()
    stream.wait_for(lambda c: c.data and c.data[-1] == "last")
    got = [int(d.split()[0]) for d in stream.data if d[0].isdigit()]
    assert got == list(range(len(got))) and 0 < len(got) < 200
    assert len(stream.data) == len(got) + 1, "neither value of p.a"
    assert not stream.gaps and not stream.control("dropped")
    assert expired(relay) == 200 - len(got) + 1


@FORMS
def test_what_comes_when_it_is_over_is_not_sent(proxied, doors, sse_connect, gzip):
    proxy, relay = proxied
    store = Store(relay, doors.redis)
    stream = sse_connect(relay, "t", "p.a", "now", gzip=gzip)
    doors.fcall("p.a", "at once")
    doors.fcall("p.a", "stale")
    wait_until(lambda: relay.metric("sse_relay_pending_events") == 1, "what is pending")
    proxy.freeze("subscriber", "answers")
    doors.fcall("t", "short", ttl=20)
    last = doors.fcall("p.a", "short", ttl=20)
    doors.fcall("now", "x", ttl=LASTS)
    store.wait_over(last, 20)
    proxy.thaw("subscriber")
    expect(stream, ["at once", "x"])
    assert expired(relay) == 2 and relay.metric("sse_relay_pending_events") == 0


@FORMS
@pytest.mark.parametrize("how", ["over by then", "over when it comes"])
def test_what_is_held_during_a_read_is_judged_again(proxied, doors, sse_connect, gzip, how):
    proxy, relay = proxied
    store = Store(relay, doors.redis)
    witness = sse_connect(relay, "t", "p.a", "b.a", "now")
    doors.fcall("t", "read")
    witness.wait_for(1)
    looks = lambda: sum(s["calls"] for n, s in doors.redis.info("commandstats").items() if "fcall" in n)  # noqa: E731
    before = looks()
    proxy.freeze("commands", "answers")
    stream = sse_connect(relay, "t", "p.a", "b.a", "now", params={"replay": "all"}, gzip=gzip, wait=False)
    wait_until(lambda: looks() > before, "the look, which says where its pages end and live events begin")
    doors.fcall("p.a", "stale")
    doors.fcall("b.a", "kept")
    if how == "over when it comes":
        proxy.freeze("subscriber", "answers")
    doors.fcall("b.a", "short", ttl=200)
    last = doors.fcall("p.a", "short", ttl=200)
    doors.fcall("now", "x")
    if how == "over by then":
        witness.wait_for(lambda c: "x" in c.data)
    store.wait_over(last, 200)
    proxy.thaw("subscriber")
    witness.wait_for(lambda c: "x" in c.data)
    proxy.thaw("commands")
    expect(stream, ["read", "kept", "x"])
