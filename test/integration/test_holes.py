# SPDX-License-Identifier: Apache-2.0
"""Events that the live path does not bring although the connection stands: found, and read from the log."""

import json
from urllib.parse import urlsplit

import pytest

from relay_process import wait_until
from tcp_proxy import TcpProxy


class Silent:
    """Writes an event into log and index as the functions do, but for its PUBLISH; and the other way round."""

    def __init__(self, doors):
        self.doors = doors

    def log(self, topic, data, **more):
        return self.doors.silently(topic, data=data, **more)

    def envelope(self, topic, id, prev, data):
        self.doors.raw(topic, json.dumps({"sse": 1, "id": str(id), "prev": str(prev), "topic": topic, "data": data}))


@pytest.fixture
def silent(doors):
    return Silent(doors)




def test_a_lost_message_is_brought_before_the_next(relay, sse_connect, doors, silent):
    clients = [sse_connect(relay, *names) for names in (["t"], ["*"], ["t", "*"])]
    ids = [doors.fcall("t", "1"), silent.log("t", "2"), silent.log("t", "3"), doors.fcall("t", "4")]
    for client in clients:
        client.wait_for(4)
        assert client.data == ["1", "2", "3", "4"] and client.ids == ids and not client.gaps
    assert relay.metric("sse_relay_holes_total") == 1


def test_the_first_message_lost_is_found_by_the_index(redis, relay_factory, sse_connect, silent):
    relay = relay_factory({"redis.check": "100ms"})
    clients = [sse_connect(relay, *names) for names in (["t"], ["*"])]
    id = silent.log("t", "1")
    for client in clients:
        client.wait_for(1)
        assert client.ids == [id] and not client.gaps


def test_the_index_is_asked_where_an_event_came_before_the_first_page(
    redis, relay_factory, sse_connect, doors, silent
):
    proxy = TcpProxy(redis.port)
    try:
        relay = relay_factory({"redis": f"redis://127.0.0.1:{proxy.port}", "redis.check": "100ms"})
        proxy.freeze("commands", "answers")
        client = sse_connect(relay, "t", wait=False)
        channel = doors.key("default", "ch", "t")
        wait_until(lambda: doors.redis.pubsub_numsub(channel)[0][1], "the subscription")
        ids = [doors.fcall("t", "1")]
        wait_until(lambda: relay.metric("sse_relay_events_received_total"), "the event")
        proxy.thaw("commands")
        client.wait_connected()
        ids += [doors.fcall("t", "2"), silent.log("t", "3")]
        client.wait_for(lambda c: "3" in c.data)
        assert client.ids[-2:] == ids[-2:] and not client.gaps
    finally:
        proxy.close()


def test_events_before_the_first_subscription_are_not_missing(redis, relay_factory, sse_connect, doors, silent):
    relay = relay_factory({"redis.check": "100ms"})
    sse_connect(relay, "opens.the.namespace")
    doors.many("t", ["1", "2"])
    clients = [sse_connect(relay, "t"), sse_connect(relay, "*")]
    lost = silent.log("u", "3")  # is found by a check that came after those
    clients[1].wait_for(1)
    assert clients[1].ids == [lost] and not clients[0].events
    assert relay.metric("sse_relay_holes_total") == 1


def test_a_lost_tail_is_found_by_the_index(redis, relay_factory, sse_connect, doors, silent):
    relay = relay_factory({"redis.check": "100ms"})
    clients = [sse_connect(relay, *names) for names in (["t"], ["*"])]
    ids = [doors.fcall("t", "1"), silent.log("t", "2")]
    for client in clients:
        client.wait_for(2)
        assert client.ids == ids and not client.gaps
    ids.append(doors.fcall("t", "3"))
    for client in clients:
        client.wait_for(3)
        assert client.ids == ids and not client.gaps


TOPICS = [f"u.{n}" for n in range(900)]
MANY_NAMES = [TOPICS[n : n + 150 : 3] for n in range(0, 900, 150)]


@pytest.mark.parametrize("names", [[["u.*"]], [["u.*", "v.*", "w"]], MANY_NAMES], ids=["pattern", "patterns", "names"])
def test_lost_tails_are_found_among_very_many_topics(redis, relay_factory, sse_connect, doors, silent, names):
    """Then the index is asked page by page; some of those that moved are nobody's here."""
    relay = relay_factory({"redis.check": "100ms"})
    clients = [sse_connect(relay, *some) for some in names]
    pipe = doors.redis.pipeline(transaction=False)
    for i in range(0, len(TOPICS), 60):
        args = [x for t in TOPICS[i : i + 60] for x in ("topic", t)]
        pipe.fcall("sse_publish", 1, doors.key(), *args, "data", "1")
    pipe.execute()
    lost = [silent.log(topic, "2") for topic in ("u.0", "u.897", "nobodys")][:2]
    for client, id in ((clients[0], lost[0]), (clients[-1], lost[1])):
        client.wait_for(lambda c, id=id: id in c.ids)
        assert client.ids == sorted({*client.ids}) and not client.gaps
    assert relay.metric("sse_relay_holes_total") == 2


def test_what_comes_too_late_for_a_stream_is_told_to_it(redis, relay_factory, sse_connect, doors, silent):
    relay = relay_factory({"redis.check": "100ms"})
    both = sse_connect(relay, "a", "b")
    one = sse_connect(relay, "a")
    doors.fcall("a", "1")
    lost, passed = silent.log("a", "2", then=[("b", "3", {})])  # no check of the index comes in between
    both.wait_for(lambda c: c.gaps)
    gap = both.gaps[0]
    assert (gap["to"], gap["id"]) == (str(lost), None) and int(gap["from"]) < lost
    assert both.data == ["1", "3"] and one.wait_for(2).data == ["1", "2"] and not one.gaps
    again = sse_connect(relay, "a", "b", last_event_id=both.last_event_id)
    mark = doors.fcall("b", "mark")
    assert again.wait_for(1).ids == [mark] and not again.gaps
    assert passed > lost


@pytest.mark.parametrize("before", ["heard", "new"])
def test_more_holes_at_a_time_than_are_read_one_by_one(redis, relay_factory, sse_connect, doors, silent, before):
    """The bound on single repairs must not make the others silent losses: then all is read."""
    relay = relay_factory()
    client, last = sse_connect(relay, "h.*"), sse_connect(relay, "h.199")
    topics = [f"h.{n}" for n in range(200)]
    ids = [doors.fcall(topic, "1") for topic in topics if before == "heard"]
    client.wait_for(len(ids))
    ids += [silent.log(topic, "2") for topic in topics]
    ids += doors.each(topics, "3")
    ids.append(doors.fcall("h.0", "end"))
    client.wait_for(lambda c: len({*c.ids} | c.told(ids)) == len(ids))
    assert client.all_ids == sorted(client.all_ids) and len(set(client.ids)) == len(client.ids)
    last.wait_for(lambda c: "3" in c.data)
    assert last.data[-2:] == ["2", "3"] and not last.gaps


@pytest.mark.parametrize("reach", ["256", "0"])
def test_more_late_events_at_a_time_than_are_read_one_by_one(redis, relay_factory, sse_connect, doors, silent, reach):
    """Also where the tail does not reach back to them."""
    relay = relay_factory({"redis.check": "1h", "tail.max_events": reach})  # or that might find them first
    client = sse_connect(relay, "h.*")
    topics = [f"h.{n}" for n in range(200)]
    first = doors.each(topics, "1")
    late = [silent.log(topic, "2") for topic in topics]
    later = [silent.log(topic, "3") for topic in topics]
    for data, ids in (("3", later), ("2", late)):
        for topic, id, prev in zip(topics, ids, first):
            silent.envelope(topic, id, prev, data)
    client.wait_for(lambda c: c.told(late) == {*late})
    assert client.ids == first + later
    doors.fcall("h.0", "end")
    client.wait_for(lambda c: "end" in c.data)


def test_the_same_message_twice_is_delivered_once(relay, sse_connect, doors, silent):
    client = sse_connect(relay, "t")
    first = doors.fcall("t", "1")
    second = doors.fcall("t", "2")
    silent.envelope("t", second, first, "2")
    silent.envelope("t", first, 0, "1")
    doors.fcall("t", "3")
    assert client.wait_for(3).data == ["1", "2", "3"]


def test_an_envelope_with_an_invented_predecessor_is_delivered(relay, sse_connect, doors, silent):
    client = sse_connect(relay, "t")
    first = doors.fcall("t", "1")
    silent.envelope("t", first + 20, first + 10, "2")  # the log knows neither
    assert client.wait_for(2).data == ["1", "2"] and not client.gaps
    doors.fcall("t", "3")
    assert client.wait_for(3).data == ["1", "2", "3"]


def test_an_absurd_predecessor_is_counted_and_dropped(relay, sse_connect, doors, silent):
    client = sse_connect(relay, "t")
    first = doors.fcall("t", "1")
    silent.envelope("t", first + 1, first + 1000, "forged")
    doors.fcall("t", "2")
    assert client.wait_for(2).data == ["1", "2"] and not client.gaps
    assert relay.metric("sse_relay_events_dropped_total", reason="invalid") == 1


def test_lower_ids_are_counted_and_ask_the_log_not_for_ever(relay, sse_connect, doors, silent):
    client = sse_connect(relay, "t")
    ids = [doors.fcall("t", str(n)) for n in range(3)]
    client.wait_for(3)
    for n in range(200):
        silent.envelope("t", ids[2] - 1 - n, 0, "forged")
    doors.fcall("t", "end")
    client.wait_for(lambda c: "end" in c.data)
    assert client.data == ["0", "1", "2", "end"]
    assert relay.metric("sse_relay_events_dropped_total", reason="invalid") >= 1
    asked = relay.metric("sse_relay_holes_total")
    silent.envelope("t", ids[0], 0, "0")  # known: no reason to ask
    doors.fcall("t", "very end")
    client.wait_for(lambda c: "very end" in c.data)
    assert relay.metric("sse_relay_holes_total") == asked


def test_a_storm_of_resumes_costs_few_commands(redis, relay_factory, sse_connect, doors, swarm):
    old, new = relay_factory(), relay_factory()
    clients = swarm([old], 300, "t", resume=True)
    clients.wait_connected()
    doors.many("t", [str(n) for n in range(20)])
    clients.wait(lambda c: len(c.data) == 20)
    clients.targets = [urlsplit(new.url)]

    def reads():
        stats = doors.redis.info("commandstats")
        return sum(stats.get(f"cmdstat_{n}", {}).get("calls", 0) for n in ("fcall", "xrange", "xrevrange"))

    before = reads()
    old.kill()
    doors.many("t", [str(n) for n in range(20, 25)])
    clients.wait(lambda c: len(c.data) == 25)
    expected = [str(n) for n in range(25)]
    assert all(c.data == expected and not c.gaps for c in clients.clients)
    own = 5 + 6  # our publishes; both relays' looks for namespaces and the index
    assert reads() - before <= 20 + own
    assert new.metric("sse_relay_replay_reads_total", source="memory") > 0


def test_what_redis_forgot_is_told_to_a_storm_of_resumes(redis, relay_factory, sse_connect, doors, swarm):
    relay = relay_factory()
    live = sse_connect(relay, "t")
    last = doors.many("t", ["1", "2"])[-1]
    live.wait_for(2)
    doors.redis.flushall()
    doors.redis.client_kill_filter(_type="pubsub")
    live.wait_for(lambda c: c.gaps)
    clients = swarm([relay], 100, "t", params={"lastEventId": last})
    clients.wait_connected()
    doors.fcall("t", "3")
    clients.wait(lambda c: "3" in c.data)
    assert {tuple(json.loads(g)["reason"] for g in c.gaps) for c in clients.clients} == {("redis-lost",)}


def test_a_resume_between_the_two_messages_of_an_event_gets_it(
    redis, relay_factory, sse_connect, doors, silent, swarm
):
    relay = relay_factory()
    live = sse_connect(relay, "a", "b")
    first = doors.fcall("b", "1")
    live.wait_for(1)
    id = doors.silently("a", "b", data="2")
    silent.envelope("a", id, 0, "2")
    live.wait_for(2)
    clients = swarm([relay], 100, "b", params={"lastEventId": first})
    clients.wait_connected()
    silent.envelope("b", id, first, "2")
    doors.fcall("b", "3")
    clients.wait(lambda c: "3" in c.data)
    assert {tuple(c.data) for c in clients.clients} == {("2", "3")}
    assert relay.metric("sse_relay_replay_reads_total", source="memory") > 0


def test_a_repair_does_not_overtake_other_topics(redis, relay_factory, sse_connect, doors, silent):
    """What is on its way behind the event that showed the hole comes behind it."""
    proxy = TcpProxy(redis.port)
    try:
        relay = relay_factory({"redis": f"redis://127.0.0.1:{proxy.port}"})
        clients = [sse_connect(relay, "a", "b"), sse_connect(relay, "*")]
        doors.fcall("a", "1")
        doors.fcall("b", "2")
        for client in clients:
            client.wait_for(2)
        proxy.freeze("subscriber", "answers")
        silent.log("a", "3")
        for topic, data in (("a", "4"), ("b", "5"), ("a", "6"), ("b", "7")):
            doors.fcall(topic, data)
        proxy.thaw("subscriber")
        for client in clients:
            client.wait_for(lambda c: "7" in c.data)
            assert client.data == [str(n) for n in range(1, 8)] and not client.gaps
    finally:
        proxy.close()


def test_ids_below_the_last_after_a_failover_are_told(redis, relay_factory, sse_connect, doors, silent):
    """The old primary gave higher ids to the end than the new one at first: what nobody can be given in order is told."""
    relay = relay_factory()
    both, one = sse_connect(relay, "a", "b"), sse_connect(relay, "b")
    doors.fcall("b", "1")
    low = doors.redis.incr(doors.key("default", "seq"))
    high = doors.fcall("a", "2")  # of the old primary; the new one never had it
    both.wait_for(2)
    one.wait_for(1)
    silent.log("b", "3", id=low)
    redis.restart(keep_data=True)  # another process: as after a failover
    both.wait_for(lambda c: c.gaps)
    assert [(int(g["from"]) < low, g["to"], g["id"]) for g in both.gaps] == [(True, str(low), None)]
    assert one.wait_for(2).data == ["1", "3"] and not one.gaps
    assert low < high
    doors.fcall("a", "4")
    assert both.wait_for(3).data == ["1", "2", "4"]


@pytest.mark.parametrize("names", [["t"], ["*"], ["t", "*"]])
def test_the_first_message_of_a_topic_lost_before_its_second(relay, sse_connect, doors, silent, names):
    doors.fcall("t", "0")
    client = sse_connect(relay, *names)
    ids = [silent.log("t", "1"), doors.fcall("t", "2")]
    assert client.wait_for(2).ids == ids and not client.gaps


def test_what_was_before_a_stream_is_no_hole(relay, sse_connect, doors):
    """Nor a reason to read the log: the topic's last event is just older than the stream."""
    first = sse_connect(relay, "other")
    doors.fcall("other", "x")
    first.wait_for(1)
    for name in ("t", "u.*"):
        doors.fcall(name.replace("*", "v"), "before")
        client = sse_connect(relay, name)
        id = doors.fcall(name.replace("*", "v"), "after")
        assert client.wait_for(1).ids == [id]
    assert relay.metric("sse_relay_holes_total") == 0


def test_what_comes_late_for_one_type_is_not_told_to_another(redis, relay_factory, sse_connect, doors, silent):
    relay = relay_factory({"redis.check": "100ms"})
    all_types, other = sse_connect(relay, "a", "b"), sse_connect(relay, "a", "b", params={"event": "other"})
    doors.fcall("a", "1", event="other")
    silent.log("a", "2", then=[("b", "3", {"event": "other"})])
    all_types.wait_for(lambda c: c.gaps)
    doors.fcall("b", "4", event="other")
    assert other.wait_for(3).data == ["1", "3", "4"] and not other.gaps


def test_what_comes_late_is_given_to_who_has_had_nothing_since(redis, relay_factory, sse_connect, doors, silent):
    relay = relay_factory({"redis.check": "100ms"})
    client = sse_connect(relay, "a", "b", params={"event": "wanted"})
    doors.fcall("a", "1", event="wanted")
    silent.log("a", "2", event="wanted", then=[("b", "3", {"event": "unwanted"})])
    assert client.wait_for(2).data == ["1", "2"] and not client.gaps


def test_a_resume_hides_no_lost_event_from_who_is_live(redis, relay_factory, sse_connect, doors, silent):
    """It reads what a check has found missing, just before the repair reads it for those who are live."""
    proxy = TcpProxy(redis.port)
    try:
        relay = relay_factory({"redis": f"redis://127.0.0.1:{proxy.port}", "redis.check": "200ms"})
        live = sse_connect(relay, "t")
        proxy.freeze("subscriber", "answers")
        asked = lambda: doors.redis.info("commandstats")["cmdstat_publish"]["calls"]  # noqa: E731
        before = asked()
        lost = silent.log("t", "1")
        wait_until(lambda: asked() > before, "the mark that the check sends")
        proxy.freeze("commands", "answers")
        looks = lambda: doors.redis.info("commandstats")["cmdstat_fcall"]["calls"]  # noqa: E731
        before = looks()
        resumed = sse_connect(relay, "t", last_event_id=lost - 1, wait=False)
        wait_until(lambda: looks() > before, "the look of the resume")
        before = looks()
        proxy.thaw("subscriber")
        wait_until(lambda: looks() > before, "the look of the repair")
        proxy.thaw("commands")
        assert resumed.wait_for(1).ids == [lost]
        assert live.wait_for(1).ids == [lost]
    finally:
        proxy.close()


def test_a_live_message_that_is_too_large_is_looked_for_at_once(redis, relay_factory, sse_connect, doors):
    """Not only when the index is checked the next time. Also of several, of which the first is being looked for."""
    relay = relay_factory({"redis.check": "1h", "max_event_bytes": "64KB"})
    streams = [sse_connect(relay, name) for name in ("t", "*", "other")]
    large = "x" * (9 * 65536)
    ids = [doors.fcall("t", large + str(n)) for n in range(3)]
    for stream in streams[:2]:
        assert stream.wait_for(3).ids == ids
        assert [d[len(large) :] for d in stream.data] == ["0", "1", "2"] and not stream.gaps
    relay.wait_log("dropped a live message that is too large; looking for it in the log")
    doors.raw("t", large)  # is nowhere
    assert doors.fcall("other", "end") == streams[2].wait_for(1).ids[0]
    assert [len(s.wait_for(3 + (s is streams[1])).ids) for s in streams[:2]] == [3, 4]
