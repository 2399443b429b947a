# SPDX-License-Identifier: Apache-2.0
"""Bridges (protocol.md, 9.1): channels and streams of others in Redis become events."""

import json
import random
import re
import signal

import pytest
import redis as redis_py

from redis_server import RedisServer
from relay_process import ROOT, run_relay, wait_until
from tcp_proxy import TcpProxy

STREAM = {"stream": "orders", "group": "sse", "topic": "o"}


def bridges(*rules):
    return {"bridges": json.dumps(rules)}


def types(stream):
    return [e.type for e in stream.events]


def messages(relay, outcome="published"):
    return relay.metric("sse_relay_bridged_messages_total", outcome=outcome)


def entries(relay, outcome="published"):
    return relay.metric("sse_relay_bridged_entries_total", outcome=outcome)


def reading(*relays):
    """The one of them that reads the stream."""
    readers = lambda: [r for r in relays if r.metric("sse_relay_bridges_reading") == 1]  # noqa: E731
    wait_until(lambda: len(readers()) == 1, "a relay that reads the stream")
    return readers()[0]


def group_is_made(r, stream="orders", group="sse"):
    def made():
        try:
            return any(g["name"] == group for g in r.xinfo_groups(stream))
        except redis_py.ResponseError:
            return False

    wait_until(made, f"the group {group} of {stream}")


def add(r, *datas, stream="orders", **fields):
    pipe = r.pipeline(transaction=False)
    for data in datas:
        pipe.xadd(stream, {"data": data, **fields})
    return pipe.execute()


def is_acknowledged(r, stream="orders", group="sse"):
    wait_until(lambda: r.xpending(stream, group)["pending"] == 0, "all to be acknowledged")


# --- channels ---


def test_a_message_becomes_a_live_event_on_every_node_once(redis, relay_factory, sse_connect):
    rules = bridges({"channel": "events:orders", "topic": "orders.all", "event": "order"})
    relays = [relay_factory(rules) for _ in range(2)]
    streams = [sse_connect(relay, topic) for relay in relays for topic in ("orders.all", "orders.*")]
    r = redis.client()
    assert r.publish("events:orders", "one") == 2
    assert r.publish("events:orders", "two\nlines") == 2
    for stream in streams:
        assert stream.wait_for(2).data == ["one", "two\nlines"]
        assert types(stream) == ["order", "order"] and stream.ids == [None, None]
    assert [messages(relay) for relay in relays] == [2, 2]
    assert not r.exists("sse:{default}:log:orders.all")


def test_envelopes_and_bytes_are_as_at_door_3(redis, relay_factory, sse_connect):
    relay = relay_factory(bridges({"channel": "c", "topic": "t", "event": "e"}))
    stream = sse_connect(relay, "t")
    r = redis.client(decode_responses=False)
    r.publish("c", b"a\xffb")
    r.publish("c", json.dumps({"sse": 1, "data": "d", "event": "own", "id": "5", "topic": "x"}))
    r.publish("c", json.dumps({"sse": 1, "event": "no data"}))
    r.publish("c", json.dumps({"sse": 2, "data": "d"}))
    stream.wait_for(3)
    assert stream.data == ["a\ufffdb", "d", '{"sse": 2, "data": "d"}']
    assert types(stream) == ["e", "own", "e"] and stream.ids == [None, None, None]
    assert messages(relay, "dropped") == 1
    assert relay.metric("sse_relay_events_dropped_total", reason="bridge") == 1
    relay.wait_log("dropped a message of a bridged channel that is no event.*envelope")


def test_what_a_star_stood_for_is_one_token(redis, relay_factory, sse_connect):
    relay = relay_factory(bridges({"channel": "events:*:[ab]?", "topic": "e.{1}.x"}))
    stream = sse_connect(relay, "e.*.x")
    r = redis.client(decode_responses=False)
    for name in (b"eu", b"a.b c", b"*", b">", b"100%", b"a:b", b"\xc3\xa9", b"\xff", b"\n", b"x" * 600, b""):
        r.publish(b"events:" + name + b":a1", name[:9])
    r.publish(b"events:eu:c1", "another")
    r.publish(b"events:last:b2", "last")
    wanted = ["eu", "a%2Eb%20c", "%2A", "%3E", "100%25", "a:b", "é", "%FF", "%0A", "last"]
    stream.wait_for(len(wanted))
    assert messages(relay, "dropped") == 2  # too long, and empty
    sent = (b"eu", b"a.b c", b"*", b">", b"100%", b"a:b", b"\xc3\xa9", b"\xff", b"\n", b"last")
    for name, token in zip(sent, wanted):
        one = sse_connect(relay, f"e.{token}.x")
        r.publish(b"events:" + name + b":b9", name)
        one.wait_for(1)


def test_globs_are_those_of_redis(redis, relay_factory):
    """Whatever Redis takes for a match of a glob is one here, too: 64 globs, and channels of the same few characters."""
    rng = random.Random(14)
    parts = ["a", "b", "-", "]", "^", "*", "?", "[ab]", "[^a]", "[b-a]", "[a-]", "[\\]]", "\\*", "\\", "["]
    globs = set()
    while len(globs) < 64:
        glob = "".join(rng.choices(parts, k=rng.randint(1, 5)))
        if set("*?[\\") & set(glob):
            globs.add(glob)
    relay = relay_factory(bridges(*({"channel": glob, "topic": "t"} for glob in sorted(globs))))
    r = redis.client()
    wait_until(lambda: r.pubsub_numpat() == 64)
    texts = {"".join(rng.choices("ab-]^*\\[", k=rng.randint(1, 6))) for _ in range(2000)}
    heard = sum(r.publish(text, "x") for text in sorted(texts))
    assert heard > 1000
    wait_until(lambda: messages(relay) + messages(relay, "dropped") == heard)
    assert messages(relay, "dropped") == 0


def test_a_glob_that_matches_all_brings_nothing_of_the_relays_own(redis, relay_factory, sse_connect, doors):
    relay = relay_factory(bridges({"channel": "*", "topic": "all"}), workers=1)
    both, own = sse_connect(relay, "all", "t"), sse_connect(relay, "t", "*", ">")
    for n in range(3):
        doors.fcall("t", f"{n}")
        doors.raw("t", f"raw {n}")
    redis.client().publish("foreign", "x")
    assert both.wait_for(7).data == ["0", "raw 0", "1", "raw 1", "2", "raw 2", "x"]
    assert own.wait_for(7).data == ["0", "raw 0", "1", "raw 1", "2", "raw 2", "x"]
    assert messages(relay) == 1


def test_pointers_into_a_message(redis, relay_factory, sse_connect):
    rule = {"channel": "c", "topic_field": "/order/region", "event_field": "/kind", "data_field": "/order"}
    relay = relay_factory(bridges({**rule, "ns": "shop"}))
    stream = sse_connect(relay, ">", params={"ns": "shop"})
    r = redis.client()
    r.publish("c", '{"order": {"region": "eu", "no": 12345678901234567890}, "kind": "made"}')
    r.publish("c", '{"order": {"no": 1}}')
    r.publish("c", "no JSON")
    r.publish("c", '{"order": {"region": "us.west"}}')
    stream.wait_for(2)
    assert stream.data == ['{"region":"eu","no":12345678901234567890}', '{"region":"us.west"}']
    assert types(stream) == ["made", "message"]
    assert messages(relay, "dropped") == 2


def test_types_are_as_at_the_other_doors_of_redis(redis, relay_factory, sse_connect):
    pointed = {"channel": "c", "topic": "o", "event_field": "/e"}
    relay = relay_factory(bridges({**STREAM, "event_field": "e"}, pointed, {"channel": "d", "topic": "o"}))
    r = redis.client(decode_responses=False)
    group_is_made(redis.client())
    stream = sse_connect(relay, "o")
    given = ["a\tb", "a\nb", "a\0b", "\r\n", "x" * 256, "x" * 257, "r\nelay.x", "last"]
    wanted = ["a\tb", "ab", "ab", "message", "x" * 256, "last"]
    for type in given:
        r.xadd("orders", {"data": "d", "e": type})
    stream.wait_for(len(wanted))
    for type in given:
        r.publish("c", json.dumps({"e": type}))
    stream.wait_for(2 * len(wanted))
    for type in given:
        r.publish("d", json.dumps({"sse": 1, "event": type, "data": "d"}))
    assert types(stream.wait_for(3 * len(wanted))) == wanted * 3
    assert entries(relay, "dropped") == 2 and messages(relay, "dropped") == 4


def test_a_null_is_data_like_any_json(redis, relay_factory, sse_connect):
    relay = relay_factory(bridges({**STREAM, "data_field": "/d"}, {"channel": "c", "topic": "o", "data_field": "/d"}))
    r = redis.client()
    group_is_made(r)
    stream = sse_connect(relay, "o")
    add(r, '{"d":null}', "{}", '{"d":1}')
    stream.wait_for(2)
    for text in ('{"d": null}', "{}", '{"d":1}'):
        r.publish("c", text)
    assert stream.wait_for(4).data == ["null", "1"] * 2


def test_a_lane_for_what_is_bridged(redis, relay_factory, sse_connect):
    rule = {"channel": "p:*", "topic": "p.{1}", "priority": "coalesced", "key": "k"}
    relay = relay_factory({**bridges(rule), "flush": "1m", "flush.max": "1m"})
    stream = sse_connect(relay, "p.a", "now")
    r = redis.client()
    for n in range(50):
        r.publish("p:a", n)
    wait_until(lambda: messages(relay) == 50)
    relay.publish("now", "x")
    assert stream.wait_for(3).data == ["0", "49", "x"]


def test_two_bridges_on_one_channel(redis, relay_factory, sse_connect):
    relay = relay_factory(bridges({"channel": "c*", "topic": "one"}, {"channel": "c*", "topic": "two.{1}"}))
    one, two = sse_connect(relay, "one"), sse_connect(relay, "two.x")
    redis.client().publish("cx", "y")
    assert one.wait_for(1).data == ["y"] and two.wait_for(1).data == ["y"]


def test_channels_are_heard_again_after_redis_was_away(redis, relay_factory, sse_connect):
    relay = relay_factory(bridges({"channel": "c", "topic": "t"}))
    stream = sse_connect(relay, "t")
    redis.restart()
    relay.wait_ready()
    assert redis.client().publish("c", "x") == 1
    assert stream.wait_for(1).data == ["x"]


# --- streams ---


def test_entries_become_logged_events(redis, relay_factory, sse_connect):
    r = redis.client()
    add(r, "before")
    relay = relay_factory(bridges({**STREAM, "event": "order"}))
    stream = sse_connect(relay, "o")
    group_is_made(r)
    ids = add(r, "1", "2", "3")
    assert stream.wait_for(3).data == ["1", "2", "3"] and types(stream) == ["order"] * 3
    is_acknowledged(r)
    assert stream.ids == sorted(stream.ids)
    late = sse_connect(relay, "o", params={"replay": "all"})
    assert late.wait_for(3).ids == stream.ids
    assert r.get(f"sse:{{default}}:once:bridge:sse:orders:{ids[0]}") == str(stream.ids[0])
    assert entries(relay) == 3 and r.xlen("orders") == 4  # the stream is left as it is


def test_an_existing_group_goes_on_where_it_was(redis, relay_factory, sse_connect):
    r = redis.client()
    ids = add(r, "0", "1", "2")
    r.xgroup_create("orders", "sse", ids[0])
    relay = relay_factory(bridges(STREAM))
    assert sse_connect(relay, "o", params={"replay": "all"}).wait_for(2).data == ["1", "2"]


def test_fields_of_an_entry(redis, relay_factory, sse_connect):
    plain = {"stream": "s1", "group": "g", "topic_field": "where", "event_field": "what", "data_field": "payload"}
    pointed = {"stream": "s2", "group": "g", "topic_field": "/order/region", "data_field": "payload"}
    inner = {"stream": "s3", "group": "g", "topic_field": "/t", "data_field": "/d", "key": "k"}
    relay = relay_factory(bridges(plain, pointed, inner))
    r = redis.client()
    for stream in ("s1", "s2", "s3"):
        group_is_made(r, stream, "g")
    client = sse_connect(relay, "a.b", "eu", "in")
    r.xadd("s1", {"where": "a.b", "what": "made", "payload": "P", "data": "no"})
    client.wait_for(1)
    r.xadd("s2", {"payload": '{"order":{"region":"eu"}}'})
    client.wait_for(2)
    r.xadd("s3", {"data": '{"t":"in","d":[1, 2]}'})
    client.wait_for(3)
    assert client.data == ["P", '{"order":{"region":"eu"}}', "[1,2]"]
    assert types(client) == ["made", "message", "message"]


def test_what_is_no_event_is_counted_and_acknowledged(redis, relay_factory, sse_connect, doors):
    rule = {"stream": "orders", "group": "sse", "topic_field": "t"}
    relay = relay_factory({**bridges(rule), "max_event_bytes": "1KB"})
    r = redis.client()
    group_is_made(r)
    stream = sse_connect(relay, "a")
    doors.fcall("over", "x", end="1")
    r.xadd("orders", {"data": "no topic"})
    r.xadd("orders", {"t": "a b", "data": "x"})
    r.xadd("orders", {"t": "a"})
    r.xadd("orders", {"t": "a", "data": "x" * 2000})
    r.xadd("orders", {"t": "over", "data": "x"})
    r.xadd("orders", {"t": "a", "data": "good"})
    assert stream.wait_for(1).data == ["good"]
    is_acknowledged(r)
    assert (entries(relay), entries(relay, "dropped"), entries(relay, "ended")) == (1, 4, 1)
    assert relay.metric("sse_relay_events_dropped_total", reason="bridge") == 4
    relay.wait_log("dropped entries of a bridged stream that are no events.*stream=orders")


def test_one_of_two_nodes_reads_and_both_deliver(redis, relay_factory, sse_connect):
    relays = [relay_factory(bridges(STREAM)) for _ in range(2)]
    reader = reading(*relays)
    streams = [sse_connect(relay, "o") for relay in relays]
    wanted = [str(n) for n in range(500)]
    add(redis.client(), *wanted)
    for stream in streams:
        assert stream.wait_for(500).data == wanted
    assert [entries(relay) for relay in relays] == [500 if relay is reader else 0 for relay in relays]


def test_a_node_that_ends_gives_the_stream_back(redis, relay_factory):
    relays = [relay_factory(bridges(STREAM)) for _ in range(2)]
    reader = reading(*relays)
    other = relays[1 - relays.index(reader)]
    reader.stop()
    assert reading(other) is other


def rolling(r, publishing, total):
    """Adds entries all the time: 1, 2, …, for four topics in turn."""
    return publishing(lambda n: r.xadd("orders", {"data": n, "t": f"o.{int(n) % 4}"}), total=total, pause=0.0005)


ROUTED = {"stream": "orders", "group": "sse", "topic_field": "t"}


def test_kill_of_the_node_that_reads_loses_and_repeats_nothing(redis, relay_factory, sse_connect, publishing):
    """In the order of the stream, whatever the topics."""
    relays = [relay_factory(bridges(ROUTED)) for _ in range(2)]
    reader = reading(*relays)
    other = relays[1 - relays.index(reader)]
    r = redis.client()
    stream = sse_connect(other, "o.*")
    adding = rolling(r, publishing, 3000)
    wait_until(lambda: entries(reader) > 300)
    reader.kill()
    adding.finish()
    assert stream.wait_for(3000).data == [str(n) for n in range(1, 3001)]
    assert stream.ids == sorted(stream.ids)
    is_acknowledged(r)
    assert sum(r.xlen(f"sse:{{default}}:log:o.{n}") for n in range(4)) == 3000


def test_a_node_that_stands_still_for_longer_than_its_lease(redis, relay_factory, sse_connect, publishing):
    """It may have read what the next one does not know of; that goes first, and comes once."""
    relays = [relay_factory(bridges(STREAM)) for _ in range(2)]
    reader = reading(*relays)
    other = relays[1 - relays.index(reader)]
    r = redis.client()
    stream = sse_connect(other, "o")
    adding = rolling(r, publishing, 4000)
    wait_until(lambda: entries(reader) > 100)
    reader.signal(signal.SIGSTOP)
    try:
        reading(other)
        wait_until(lambda: entries(other) > 100)
    finally:
        reader.signal(signal.SIGCONT)
    adding.finish()
    assert stream.wait_for(4000).data == [str(n) for n in range(1, 4001)]
    is_acknowledged(r)


def test_an_answer_that_is_lost_repeats_nothing(redis, relay_factory, sse_connect):
    """Published and acknowledged in one step; whether it was is asked of the group."""
    proxy = TcpProxy(redis.port)
    try:
        relay = relay_factory(bridges(STREAM), redis=proxy.url)
        reading(relay)
        r = redis.client()
        group_is_made(r)
        stream = sse_connect(relay, "o")
        for n in range(5):
            proxy.freeze("bridge", "answers" if n % 2 else "commands")
            add(r, f"{n}a", f"{n}b")
            wait_until(lambda: n % 2 == 0 or r.info("clients")["blocked_clients"] <= 1)
            proxy.cut("bridge")
            proxy.thaw("bridge")
            stream.wait_for(2 * n + 2)
        assert stream.data == [f"{n}{ab}" for n in range(5) for ab in "ab"]
        is_acknowledged(r)
    finally:
        proxy.close()


def test_a_publish_whose_acknowledgement_was_forgotten_is_not_repeated(redis, relay_factory, sse_connect):
    """The once key of the entry: as after a failover that knows of the event, and not of the acknowledgement."""
    relay = relay_factory(bridges(STREAM))
    r = redis.client()
    group_is_made(r)
    stream = sse_connect(relay, "o")
    ids = add(r, "1", "2")
    stream.wait_for(2)
    is_acknowledged(r)
    r.xgroup_setid("orders", "sse", "0")
    add(r, "3")
    assert stream.wait_for(3).data == ["1", "2", "3"]
    is_acknowledged(r)
    assert len(ids) == 2 and r.xlen("sse:{default}:log:o") == 3


def test_redis_is_restarted_in_the_middle(tmp_path, relay_factory, sse_connect, publishing):
    with RedisServer(tmp_path / "aof", args=["--appendonly", "yes", "--appendfsync", "always"]) as server:
        relays = [relay_factory(bridges(STREAM), redis=server.url) for _ in range(2)]
        reading(*relays)
        r = server.client()
        group_is_made(r)
        stream = sse_connect(relays[0], "o")
        added = add(r, *map(str, range(1000)))
        wait_until(lambda: sum(entries(relay) for relay in relays) > 50)
        server.kill()
        server.start()
        r = server.client()
        assert len(added) == 1000
        assert stream.wait_for(1000).data == [str(n) for n in range(1000)]
        is_acknowledged(r)


def test_failover_to_a_replica(tmp_path, relay_factory, sse_connect):
    """The entries are read again, as their group says; what the new primary knows as published is not published twice."""
    with RedisServer(tmp_path / "a") as one, RedisServer(tmp_path / "b") as two:
        replica = two.client()
        replica.replicaof("127.0.0.1", one.port)
        wait_until(lambda: replica.info("replication")["master_link_status"] == "up")
        proxy = TcpProxy(one.port)
        try:
            relay = relay_factory(bridges(STREAM), redis=proxy.url)
            reading(relay)
            r = one.client()
            group_is_made(r)
            stream = sse_connect(relay, "o")
            add(r, *map(str, range(300)))
            stream.wait_for(300)
            r.wait(1, 5000)
            one.kill()
            replica.replicaof("NO", "ONE")
            proxy.target = ("127.0.0.1", two.port)
            add(replica, *map(str, range(300, 400)))
            relay.wait_ready()
            assert stream.wait_for(400).data == [str(n) for n in range(400)]
            is_acknowledged(replica)
        finally:
            proxy.close()


def test_a_group_that_is_gone_is_made_again_where_it_was(redis, relay_factory, sse_connect):
    relay = relay_factory(bridges(STREAM))
    r = redis.client()
    group_is_made(r)
    stream = sse_connect(relay, "o")
    add(r, "1", "2")
    stream.wait_for(2)
    is_acknowledged(r)
    with r.pipeline(transaction=True) as pipe:
        pipe.xgroup_destroy("orders", "sse")
        pipe.xadd("orders", {"data": "3"})
        pipe.execute()
    assert stream.wait_for(3).data == ["1", "2", "3"]
    with r.pipeline(transaction=True) as pipe:
        last = int(r.xinfo_stream("orders")["last-generated-id"].split("-")[0])
        pipe.delete("orders")
        pipe.xadd("orders", {"data": "4"}, id=f"{last + 1}-0")
        pipe.execute()
    assert stream.wait_for(4).data == ["1", "2", "3", "4"]
    is_acknowledged(r)
    wait_until(lambda: r.info("clients")["blocked_clients"] == 2)  # that of the inbox is one
    r.delete("orders")
    group_is_made(r)
    assert "lost" not in relay.log_text


def test_functions_that_are_flushed_come_back(redis, relay_factory, sse_connect):
    relay = relay_factory(bridges(STREAM))
    r = redis.client()
    group_is_made(r)
    stream = sse_connect(relay, "o")
    r.function_flush()
    add(r, "1")
    assert stream.wait_for(1).data == ["1"]


def test_while_memory_is_out_entries_wait(redis, relay_factory, sse_connect):
    relay = relay_factory(bridges(STREAM))
    r = redis.client()
    group_is_made(r)
    stream = sse_connect(relay, "o")
    add(r, "1")
    stream.wait_for(1)
    r.config_set("maxmemory", 1)
    relay.wait_log("bridged stream, trying again.*OOM")
    r.config_set("maxmemory", 0)
    add(r, "2")
    assert stream.wait_for(2).data == ["1", "2"]


def test_entries_deleted_before_they_were_published_are_told(redis, relay_factory):
    r = redis.client()
    r.xgroup_create("orders", "sse", "$", mkstream=True)
    ids = add(r, "1", "2")
    r.xreadgroup("sse", "somebody", {"orders": ">"})
    r.xdel("orders", ids[0])
    relay = relay_factory(bridges(STREAM))
    wait_until(lambda: entries(relay) == 1)
    assert entries(relay, "dropped") == 1
    relay.wait_log("were deleted there before they could be published")


def test_how_much_waits_is_measured(redis, relay_factory):
    r = redis.client()
    r.set("orders", "no stream")
    relay = relay_factory(bridges(STREAM))
    relay.wait_log("cannot read a bridged stream, trying again.*WRONGTYPE")
    assert relay.ready()[0] == 200
    r.delete("orders")
    group_is_made(r)
    add(r, "1")
    wait_until(lambda: entries(relay) == 1)
    assert relay.metric("sse_relay_bridge_waiting_entries") == 0


# --- configuration ---


@pytest.fixture
def reload(tmp_path):
    """reload(relay, rules…): as its file says now."""

    def write(*rules):
        (tmp_path / "relay.json").write_text(json.dumps({"bridges": rules}))

    def again(relay, *rules):
        write(*rules)
        told = relay.log_text.count("configuration read again")
        relay.signal(signal.SIGHUP)
        wait_until(lambda: relay.log_text.count("configuration read again") > told)

    again.write = write
    again.path = tmp_path / "relay.json"
    return again


def test_reload_adds_removes_and_changes(redis, relay_factory, sse_connect, reload):
    a, b = {"channel": "a", "topic": "t"}, {"channel": "b*", "topic": "t"}
    reload.write(a)
    relay = relay_factory({"config": str(reload.path)})
    r = redis.client()
    stream = sse_connect(relay, "t", "u", "o")
    reload(relay, a, b, STREAM)
    group_is_made(r)
    wait_until(lambda: r.pubsub_numpat() == 1)
    assert r.publish("a", "1") == 1 and r.publish("bx", "2") == 1
    stream.wait_for(2)
    add(r, "3")
    stream.wait_for(3)
    reload(relay, {**a, "topic": "u"}, {**STREAM, "topic": "u"})
    wait_until(lambda: r.pubsub_numpat() == 0)
    assert r.publish("a", "4") == 1  # it was heard all the time
    stream.wait_for(4)
    add(r, "5")
    stream.wait_for(5)
    reload(relay)
    wait_until(lambda: r.pubsub_numsub("a")[0][1] == 0)
    wait_until(lambda: relay.metric("sse_relay_bridges_reading") == 0)
    assert [g["name"] for g in r.xinfo_groups("orders")] == ["sse"]
    add(r, "6")
    reload(relay, STREAM)
    assert stream.wait_for(6).data == ["1", "2", "3", "4", "5", "6"]


def test_a_reload_that_is_wrong_changes_nothing(redis, relay_factory, sse_connect, reload):
    reload.write({"channel": "a", "topic": "t"})
    relay = relay_factory({"config": str(reload.path)})
    reload.write({"channel": "a", "topic": "t"}, {"channel": "b", "topic": "t.*"})
    relay.signal(signal.SIGHUP)
    relay.wait_log(r"bridges\[1\]\.topic")
    stream = sse_connect(relay, "t")
    redis.client().publish("a", "x")
    assert stream.wait_for(1).data == ["x"]


def test_check_config_names_the_bridge(tmp_path):
    path = tmp_path / "relay.json"
    path.write_text(json.dumps({"bridges": [{"channel": "a", "topic": "t"}, {"stream": "s", "topic": "t"}]}))
    done = run_relay("--config", path, "--check-config")
    assert done.returncode == 2 and "bridges[1].group: missing" in done.stderr and str(path) in done.stderr
    path.write_text(json.dumps({"bridges": [{"channel": "a", "topic": "t"}]}))
    assert run_relay("--config", path, "--check-config").returncode == 0
    done = run_relay("--config", path, "--check-config", "--redis", "memory:")
    assert done.returncode == 2 and "bridges[0]: with redis=memory:" in done.stderr


# --- accounts ---


def account():
    """The lines of docs/operations.md that make a relay's account, and what bridges need beside it."""
    text = (ROOT / "docs" / "operations.md").read_text()
    base = re.search(r"^ACL SETUSER relay on .*$", text, re.MULTILINE).group()
    more = re.search(r"^ACL SETUSER relay ~orders .*$", text, re.MULTILINE).group()
    return base, more


def test_the_account_of_the_docs_is_enough_and_without_it_the_log_says_so(redis, relay_factory, sse_connect):
    base, more = account()
    r = redis.client()
    r.execute_command(*base.split())
    url = f"redis://relay:a-long-password@127.0.0.1:{redis.port}"
    relay = relay_factory(bridges(STREAM, {"channel": "events:*", "topic": "e.{1}"}), redis=url)
    relay.wait_log(r"bridged stream, trying again.*stream=orders.*(NOPERM|permission)")
    stream = sse_connect(relay, "o", "e.x")
    r.execute_command(*more.split())
    group_is_made(r)
    add(r, "1")
    stream.wait_for(1)
    r.publish("events:x", "2")
    assert stream.wait_for(2).data == ["1", "2"]
    is_acknowledged(r)


def test_a_channel_that_may_not_be_heard_is_told(redis, relay_factory):
    base, _ = account()
    r = redis.client()
    r.execute_command(*base.replace("&*", "&sse:*").split())
    url = f"redis://relay:a-long-password@127.0.0.1:{redis.port}"
    relay = relay_factory(bridges({"channel": "events:*", "topic": "t"}), redis=url)
    relay.wait_log("Redis refused a subscription; what is published there is not bridged.*channel=events")
    assert relay.ready()[0] == 200
