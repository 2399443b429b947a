# SPDX-License-Identifier: Apache-2.0
"""An open stream is paused, resumed, and given other topics, through any node (protocol.md, 4.8)."""

import pytest

from auth_rig import connection_of
from raw_http import assert_problem
from relay_process import wait_until
from tcp_proxy import TcpProxy

LANES = {"lanes": ["p.>=coalesced", "b.>=batched", "a.>=appended"], "flush": "20ms"}
FORMS = pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])


class Nodes:
    """The node that has the streams, and the one that is asked for something of them."""

    def __init__(self, own, asked):
        self.own, self.asked = own, asked

    def ask(self, stream, action, status=200, **kw):
        answer = self.asked.post(f"/connections/{connection_of(stream)}/{action}", **kw)
        assert answer.status_code == status, answer.text
        return answer

    def pause(self, stream):
        assert self.ask(stream, "pause").json() == {"paused": True}

    def resume(self, stream):
        assert self.ask(stream, "resume").json() == {"paused": False}

    def change(self, stream, **lists):
        answer = self.asked.request("PATCH", f"/connections/{connection_of(stream)}", json=lists)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def publish(self, topic, data, **fields):
        return self.own.publish(topic, data, **fields)

    def many(self, topic, datas, **fields):
        answer = self.own.post("/publish", json=[{"topic": topic, "data": d, **fields} for d in datas])
        return [int(a["id"]) for a in answer.json()]


@pytest.fixture(params=["same", "other", "memory"])
def make(request, relay_factory, redis):
    """make(options): the nodes; of `memory:` there is one."""

    def nodes(options=None):
        options = {**LANES, "compress": ">", **(options or {})}
        if request.param == "memory":
            options["redis"] = "memory:"
        own = relay_factory(options)
        return Nodes(own, relay_factory(options) if request.param == "other" else own)

    return nodes


def received(relay, count):
    wait_until(lambda: relay.metric("sse_relay_events_received_total") >= count, f"{count} events")


# --- a pause ---


@FORMS
def test_what_is_paused_waits_and_is_merged(make, sse_connect, gzip):
    nodes = make()
    stream = sse_connect(nodes.own, "p.a", gzip=gzip)
    nodes.pause(stream)
    ids = nodes.many("p.a", map(str, range(50)))
    wait_until(lambda: nodes.own.metric("sse_relay_pending_events") == 1, "the last one")
    assert nodes.own.metric("sse_relay_paused_streams") == 1
    assert not stream.data and stream.control("paused") == [{"id": None}]
    nodes.resume(stream)
    assert stream.wait_for(1).ids == [ids[-1]] and not stream.gaps
    assert stream.control("resumed") == [{"id": None}]
    assert nodes.own.metric("sse_relay_paused_streams") == 0
    more = nodes.publish("p.a", "more")
    assert stream.wait_for(2).ids == [ids[-1], more]


def test_an_instant_event_flows_and_takes_along_what_waits(make, sse_connect):
    nodes = make()
    stream = sse_connect(nodes.own, "b.a", "now")
    nodes.pause(stream)
    ids = nodes.many("b.a", ["1", "2"])
    ids.append(nodes.publish("now", "3"))
    assert stream.wait_for(3).ids == ids
    nodes.many("b.a", ["4"])
    wait_until(lambda: nodes.own.metric("sse_relay_pending_events") == 1, "the one that waits")
    assert stream.data == ["1", "2", "3"]


@pytest.mark.parametrize("policy", ["block", "drop-oldest", "drop-newest", "disconnect"])
@pytest.mark.parametrize("by", ["resume", "instant"])
def test_more_than_a_stream_may_hold_is_read_from_the_log(make, sse_connect, policy, by):
    """Whatever its policy: nothing is lost while it is paused, and nothing held."""
    nodes = make({"queue.max_events": 8})
    stream = sse_connect(nodes.own, "b.a", "now", params={"slow": policy})
    nodes.pause(stream)
    ids = nodes.many("b.a", map(str, range(100)))
    wait_until(lambda: nodes.own.metric("sse_relay_streams_behind_total") == 1, "that it is let go")
    assert nodes.own.metric("sse_relay_pending_events") == 0
    assert not stream.data
    if by == "resume":
        nodes.resume(stream)
    else:
        ids.append(nodes.publish("now", "x"))
    stream.wait_for(len(ids))
    assert stream.ids == ids and not stream.gaps and not stream.control("dropped")
    assert not stream.closed


def test_what_no_log_has_waits_too_and_wakes_what_was_let_go(make, sse_connect):
    nodes = make({"queue.max_events": 8})
    stream = sse_connect(nodes.own, "b.a", "now")
    nodes.pause(stream)
    nodes.many("b.a", map(str, range(20)))
    wait_until(lambda: nodes.own.metric("sse_relay_streams_behind_total") == 1, "that it is let go")
    nodes.publish("b.a", "batched", ephemeral=True)
    nodes.publish("now", "instant", ephemeral=True)
    stream.wait_for(22)
    assert [d for d in stream.data if d.isdigit()] == [*map(str, range(20))]
    assert stream.data.index("batched") < stream.data.index("instant") and not stream.control("dropped")


def test_a_paused_stream_has_heartbeats_and_goes_on_after_a_reconnect(make, sse_connect):
    nodes = make({"heartbeat": "1s", "heartbeat.event": "beat"})
    stream = sse_connect(nodes.own, "b.a")
    nodes.pause(stream)
    [id] = nodes.many("b.a", ["1"])
    stream.wait_for(lambda c: [e for e in c.events if e.type == "beat"])
    assert not stream.data or stream.data == ["{}"]
    again = sse_connect(nodes.own, "b.a", last_event_id=stream.last_event_id)
    assert again.wait_for(1).ids == [id], "it is not paused"


def test_twice_is_once(make, sse_connect):
    nodes = make()
    stream = sse_connect(nodes.own, "p.a")
    for _ in range(2):
        nodes.pause(stream)
    for _ in range(2):
        nodes.resume(stream)
    nodes.publish("p.a", "x")
    stream.wait_for(1)
    assert len(stream.control("paused")) == len(stream.control("resumed")) == 1


def test_the_pause_of_a_stream_that_ends_is_over(make, sse_connect):
    nodes = make()
    stream = sse_connect(nodes.own, "p.a")
    nodes.pause(stream)
    nodes.publish("p.a", "x")
    stream.close()
    wait_until(lambda: nodes.own.metric("sse_relay_paused_streams") == 0, "its end")
    wait_until(lambda: nodes.own.metric("sse_relay_pending_events") == 0, "its end")


def test_an_end_comes_to_a_paused_stream_with_all_before_it(make, sse_connect):
    nodes = make()
    stream = sse_connect(nodes.own, "b.a")
    nodes.pause(stream)
    ids = nodes.many("b.a", ["1", "2"])
    nodes.own.post("/topics/b.a/end")
    stream.wait_closed()
    assert stream.ids[:2] == ids and stream.control("end")


# --- topics ---


def test_new_topics_on_an_open_stream(make, sse_connect):
    nodes = make()
    stream = sse_connect(nodes.own, "a1")
    before = nodes.publish("c1", "before")
    answer = nodes.change(stream, subscribe=["c1", "c.*"])
    assert answer == {"topics": ["a1", "c1", "c.*"], "query": "topic=a1&topic=c1&topic=c.%2A"}
    ids = [nodes.publish(topic, topic) for topic in ("a1", "c1", "c.x", "other", "a1")]
    assert stream.wait_for(4).ids == ids[:3] + ids[4:] and not stream.gaps
    stream.wait_for(lambda c: c.control("subscribed"))
    [told] = stream.control("subscribed")
    assert told["topics"] == ["c1", "c.*"] and before <= int(told["from"]) < ids[0]


def test_topics_that_are_not_wanted_any_more(make, sse_connect):
    nodes = make()
    stream = sse_connect(nodes.own, "a1", "c1")
    assert nodes.change(stream, unsubscribe=["c1", "never.there"])["topics"] == ["a1"]
    nodes.publish("c1", "unwanted")
    id = nodes.publish("a1", "wanted")
    assert stream.wait_for(1).ids == [id]
    assert stream.control("unsubscribed") == [{"topics": ["c1"], "id": None}]


def test_in_exchange(make, sse_connect):
    nodes = make()
    stream = sse_connect(nodes.own, "a1", "b1")
    assert nodes.change(stream, unsubscribe=["a1", "b1"], subscribe=["b1", "c1", "c1"])["topics"] == ["b1", "c1"]
    nodes.publish("a1", "unwanted")
    ids = [nodes.publish("b1", "1"), nodes.publish("c1", "2")]
    assert stream.wait_for(2).ids == ids
    assert stream.control("subscribed")[0]["topics"] == ["c1"]


def test_without_any_topic_it_stays_open_and_silent(make, sse_connect):
    nodes = make({"heartbeat": "1s", "heartbeat.event": "beat"})
    stream = sse_connect(nodes.own, "a1")
    assert nodes.change(stream, unsubscribe=["a1"]) == {"topics": [], "query": ""}
    nodes.publish("a1", "unwanted")
    stream.wait_for(lambda c: [e for e in c.events if e.type == "beat"])
    assert nodes.change(stream, subscribe=["b1"])["topics"] == ["b1"]
    id = nodes.publish("b1", "wanted")
    stream.wait_for(lambda c: id in c.ids)
    assert [i for i in stream.ids if i] == [id] and not stream.closed


def test_again_and_again(make, sse_connect):
    nodes = make()
    stream = sse_connect(nodes.own, "t0")
    ids = []
    for n in range(30):
        nodes.change(stream, subscribe=[f"t{n + 1}"], unsubscribe=[f"t{n}"])
        nodes.publish(f"t{n}", "unwanted")
        ids.append(nodes.publish(f"t{n + 1}", str(n)))
        stream.wait_for(len(ids))
    assert stream.ids == ids and not stream.gaps


def test_while_events_come_nothing_of_the_old_topics_is_lost(make, sse_connect, publishing):
    nodes = make()
    stream = sse_connect(nodes.own, "a1")
    publisher = publishing(lambda n: nodes.publish("a1", n))
    for n in range(20):
        nodes.change(stream, subscribe=[f"x{n}"])
    total = publisher.stop()
    assert stream.wait_for(total).ids == publisher.ids and not stream.gaps


def test_while_it_reads_the_log(make, sse_connect):
    """It is behind, and the pages that it reads on have the new topic, too."""
    nodes = make({"queue.max_events": 16, "socket.unsent": "4KB", "log.max_events": 5000})
    stream = sse_connect(nodes.own, "a1", receive_buffer=4096)
    stream.stop_reading()
    old = nodes.many("a1", [f"{n} {'x' * 4000}" for n in range(400)])
    wait_until(lambda: nodes.own.metric("sse_relay_streams_behind_total") == 1, "that it is behind")
    answer = nodes.change(stream, subscribe=["c1"])
    new = nodes.many("c1", map(str, range(40)))
    assert answer["topics"] == ["a1", "c1"]
    stream.start_reading()
    stream.wait_for(len(old) + len(new))
    assert stream.ids == old + new and not stream.gaps


def test_the_new_topic_has_ended(make, sse_connect):
    nodes = make()
    stream = sse_connect(nodes.own, "a1")
    nodes.publish("over", "x")
    nodes.own.post("/topics/over/end")
    nodes.change(stream, subscribe=["over"])
    stream.wait_for(lambda c: c.control("end"))
    assert stream.control("end")[0]["topic"] == "over" and not stream.closed
    nodes.change(stream, unsubscribe=["a1"])
    stream.wait_closed()


@pytest.fixture
def late(relay_factory, redis, doors, sse_connect):
    """A stream whose node is not told that Redis has acknowledged a subscription, until thaw()."""
    proxy = TcpProxy(redis.port)
    relay = relay_factory({"redis": proxy.url})
    nodes = Nodes(relay, relay)
    nodes.stream, nodes.thaw = sse_connect(relay, "a1"), lambda: proxy.thaw("subscriber")
    nodes.path = f"/connections/{connection_of(nodes.stream)}"
    doors.fcall("over", "x", end="true")
    proxy.freeze("subscriber", "answers")
    yield nodes
    proxy.close()


def test_who_asks_again_waits_for_redis_like_the_first(late, doors):
    for _ in range(2):
        assert_problem(late.asked.request("PATCH", late.path, json={"subscribe": ["c1"]}), 504)
    late.thaw()
    assert late.change(late.stream, subscribe=["c1"])["topics"] == ["a1", "c1"]
    id = doors.fcall("c1", "x")
    assert late.stream.wait_for(1).ids == [id]
    assert [t["topics"] for t in late.stream.control("subscribed")] == [["c1"]]


def test_what_is_taken_away_before_it_was_there_is_not_told_afterwards(late, doors):
    assert_problem(late.asked.request("PATCH", late.path, json={"subscribe": ["c1", "over", "c2"]}), 504)
    assert late.change(late.stream, unsubscribe=["c1", "over"])["topics"] == ["a1", "c2"]
    late.thaw()
    late.change(late.stream, subscribe=["c2", "c3"])
    stream = late.stream.wait_for(lambda c: len(c.control("subscribed")) == 2)
    assert [t["topics"] for t in stream.control("subscribed")] == [["c2"], ["c3"]]
    assert stream.control("unsubscribed")[0]["topics"] == ["c1", "over"] and not stream.control("end")


def test_what_was_before_a_topic_was_added_is_no_gap(relay_factory, redis, doors, sse_connect):
    """Also where the log of the new topic no longer has it, and is read after an outage."""
    proxy = TcpProxy(redis.port)
    try:
        relay = relay_factory({"redis": proxy.url, "log.max_events": 100})
        stream = sse_connect(relay, "a1")
        doors.fcall("a1", "1")
        doors.many("c1", map(str, range(1000)))
        stream.wait_for(1)
        assert Nodes(relay, relay).change(stream, subscribe=["c1"])["topics"] == ["a1", "c1"]
        proxy.sever()
        missed = doors.fcall("c1", "missed")
        proxy.mend()
        last = doors.fcall("a1", "last")
        stream.wait_for(lambda c: {missed, last} <= set(c.ids))
        assert not stream.gaps
    finally:
        proxy.close()


def test_too_many_topics_change_nothing(make, sse_connect):
    nodes = make({"max_topics": 3})
    stream = sse_connect(nodes.own, "a1")
    path = f"/connections/{connection_of(stream)}"
    answer = nodes.asked.request("PATCH", path, json={"subscribe": ["b1", "c1", "d1"]})
    assert_problem(answer, 400)
    assert "max_topics" in answer.json()["detail"]
    nodes.publish("b1", "unwanted")
    id = nodes.publish("a1", "wanted")
    assert stream.wait_for(1).ids == [id]


WRONG = {
    "no body": "",
    "no object": "[]",
    "nothing asked": "{}",
    "another member": '{"subscribe":["b1"],"topics":["c1"]}',
    "no list": '{"subscribe":"b1"}',
    "no text": '{"subscribe":[7]}',
    "no topic": '{"subscribe":["a..b"]}',
    "twice": '{"subscribe":["b1"],"subscribe":["c1"]}',
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_understood_changes_nothing(relay, sse_connect, body):
    stream = sse_connect(relay, "a1")
    answer = relay.request("PATCH", f"/connections/{connection_of(stream)}", data=body)
    assert_problem(answer, 400)
    assert "subscribe" in answer.json()["detail"]
    relay.publish("b1", "unwanted")
    id = relay.publish("a1", "wanted")
    assert stream.wait_for(1).ids == [id] and not stream.control("subscribed")


# --- the topic of a connection ---


def own_topic(stream):
    return f"connection.{connection_of(stream)}"


@FORMS
def test_every_stream_has_a_topic_of_its_own(make, sse_connect, gzip):
    nodes = make()
    streams = [sse_connect(nodes.own, "a1", gzip=gzip) for _ in range(3)]
    ids = [nodes.publish(own_topic(streams[1]), str(n)) for n in range(3)]
    ids.append(nodes.publish("a1", "all"))
    assert streams[1].wait_for(4).ids == ids and streams[1].data == ["0", "1", "2", "all"]
    for other in (streams[0], streams[2]):
        assert other.wait_for(1).ids == ids[3:]


def test_it_is_reached_through_any_node_and_door(relay_factory, redis, doors, sse_connect):
    nodes = [relay_factory() for _ in range(2)]
    stream = sse_connect(nodes[0], "a1")
    topic = own_topic(stream)
    ids = [nodes[1].publish(topic, "POST"), doors.fcall(topic, "FCALL")]
    doors.xadd(topic, "XADD")
    assert stream.wait_for(3).data == ["POST", "FCALL", "XADD"] and stream.ids[:2] == ids


@pytest.mark.parametrize("names", [["a1", ">"], [">", "a1"], ["connection.*"]])
def test_who_subscribes_to_it_has_it_once(make, sse_connect, names):
    nodes = make()
    stream = sse_connect(nodes.own, *names)
    other = sse_connect(nodes.own, "connection.*")
    ids = [nodes.publish(own_topic(stream), str(n)) for n in range(3)]
    nodes.publish(own_topic(stream), "unlogged", ephemeral=True)
    nodes.publish("a1", "end")
    nodes.publish(own_topic(other), "end")
    for client in (stream, other):
        client.wait_for(lambda c: "end" in c.data)
        assert client.data[:4] == ["0", "1", "2", "unlogged"] and client.ids[:3] == ids
        assert client.data.count("unlogged") == 1


def test_what_has_no_id_comes_once(make, sse_connect):
    nodes = make()
    stream = sse_connect(nodes.own, "a1")
    for n in range(20):
        nodes.publish(own_topic(stream), str(n), ephemeral=True)
    nodes.publish("a1", "end")
    stream.wait_for(lambda c: "end" in c.data)
    assert stream.data == [*map(str, range(20)), "end"]


def test_it_counts_for_nothing_that_is_asked_for(make, sse_connect):
    """The answers do not name it, and the stream ends with the last topic that it asked for."""
    nodes = make({"max_topics": 2})
    stream = sse_connect(nodes.own, "a1")
    nodes.publish(own_topic(stream), "x")
    stream.wait_for(1)
    assert nodes.change(stream, subscribe=["b1"]) == {"topics": ["a1", "b1"], "query": "topic=a1&topic=b1"}
    assert nodes.change(stream, unsubscribe=["b1", own_topic(stream)])["topics"] == ["a1"]
    [y] = nodes.many(own_topic(stream), ["y"])
    stream.wait_for(lambda c: y in c.ids)
    named = [t["topic"] for t in nodes.own.get("/stats").json()["topics"]]
    assert named == ["a1"]
    nodes.own.post("/topics/a1/end")
    stream.wait_closed()


def test_without_topics_it_still_has_its_own(make, sse_connect):
    nodes = make()
    stream = sse_connect(nodes.own, "a1")
    nodes.change(stream, unsubscribe=["a1"])
    ids = nodes.many(own_topic(stream), ["1", "2"])
    assert stream.wait_for(2).ids == ids


def test_one_that_is_slow_reads_it_from_the_log(make, sse_connect):
    nodes = make({"queue.max_events": 16, "socket.unsent": "4KB", "log.max_events": 5000})
    stream = sse_connect(nodes.own, "a1", receive_buffer=4096)
    stream.stop_reading()
    ids = nodes.many("a1", [f"{n} {'x' * 4000}" for n in range(300)])
    wait_until(lambda: nodes.own.metric("sse_relay_streams_behind_total") == 1, "that it is behind")
    ids += nodes.many(own_topic(stream), map(str, range(50)))
    ids += nodes.many("a1", ["end"])
    stream.start_reading()
    assert stream.wait_for(len(ids)).ids == ids and not stream.gaps


@pytest.mark.parametrize("known", [False, True], ids=["first", "later"])
def test_what_came_while_redis_was_away_is_not_lost(relay_factory, redis, doors, sse_connect, known):
    proxy = TcpProxy(redis.port)
    try:
        relay = relay_factory({"redis": proxy.url})
        stream, witness = sse_connect(relay, "a1"), sse_connect(relay, "a1")
        first = doors.fcall("a1", "first")
        witness.wait_for(1)
        expected = [first] + ([doors.fcall(own_topic(stream), "known")] if known else [])
        stream.wait_for(len(expected))
        proxy.sever()
        expected.append(doors.fcall(own_topic(stream), "missed"))
        proxy.mend()
        wait_until(lambda: relay.get("/ready").status_code == 200, "Redis")
        last = doors.fcall("a1", "last")
        witness.wait_for(lambda c: last in c.ids)
        stream.wait_for(lambda c: set(expected) <= set(c.ids) | c.told(expected))
        assert not stream.closed
    finally:
        proxy.close()


# --- whose it is ---


@pytest.mark.parametrize("id", ["0" * 32, "x", "5f09a1c2030000172b6e0d94c8f1a37e"])
def test_connections_that_are_not_there(relay, id):
    for method, path in (("POST", "pause"), ("POST", "resume")):
        assert_problem(relay.request(method, f"/connections/{id}/{path}"), 404)
    assert_problem(relay.request("PATCH", f"/connections/{id}", json={"subscribe": ["a"]}), 404)


def test_a_stream_that_has_ended_is_gone(make, sse_connect):
    nodes = make()
    stream = sse_connect(nodes.own, "a1")
    stream.close()
    wait_until(lambda: nodes.own.metric("sse_relay_clients", state="live") == 0, "its end")
    nodes.ask(stream, "pause", status=404)


def test_ids_that_nearly_are(relay, sse_connect):
    stream = sse_connect(relay, "a1")
    id = connection_of(stream)
    for at in (0, 9, 12, 31):
        other = id[:at] + ("0" if id[at] != "0" else "1") + id[at + 1 :]
        assert relay.post(f"/connections/{other}/pause").status_code == 404


def test_methods_and_paths(relay, sse_connect):
    id = connection_of(sse_connect(relay, "a1"))
    answer = relay.get(f"/connections/{id}")
    assert_problem(answer, 405)
    assert answer.headers["Allow"] == "PATCH, OPTIONS"
    assert relay.get(f"/connections/{id}/pause").headers["Allow"] == "POST, OPTIONS"
    for path in ("/connections/", f"/connections/{id}/", f"/connections/{id}/stop", f"/connections/{id}/token"):
        assert relay.post(path).status_code == 404


def test_pages_of_strangers(relay, sse_connect):
    stream = sse_connect(relay, "a1")
    path = f"/connections/{connection_of(stream)}"
    foreign = {"Origin": "https://evil.example"}
    assert_problem(relay.post(path + "/pause", headers=foreign), 403)
    assert_problem(relay.request("PATCH", path, json={"subscribe": ["b"]}, headers=foreign), 403)
    assert not stream.control("paused")
