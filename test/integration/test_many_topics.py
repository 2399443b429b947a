# SPDX-License-Identifier: Apache-2.0
"""Reads of the log over very many topics: each of them is read as often as it has something to give, not for each page."""

import signal

import pytest

TOPICS = [f"m.{n}" for n in range(1500)]


def ranges(doors):
    return doors.redis.info("commandstats").get("cmdstat_xrange", {"calls": 0})["calls"]


@pytest.fixture
def relay(redis, relay_factory):
    """Its pages are small."""
    return relay_factory({"queue.max_events": "50", "replay.max_events": "100000"})


def test_resume_reads_no_topic_for_each_page(relay, sse_connect, doors):
    cursor = doors.each(TOPICS, "1")[-1]
    missed = [*doors.each(TOPICS, "2"), *doors.each(TOPICS, "3")]
    before = ranges(doors)
    client = sse_connect(relay, "m.>", last_event_id=cursor)
    client.wait_for(len(missed))
    assert client.ids == missed and not client.gaps
    assert ranges(doors) - before < 2 * (len(TOPICS) + len(missed)), "not 60 pages of 1500 topics"
    live = doors.fcall("m.0", "live")
    client.wait_for(len(missed) + 1)
    assert client.ids[-1] == live


def test_clients_that_resume_from_different_places_get_each_its_own(relay, sse_connect, doors):
    ids = [*doors.each(TOPICS, "1"), *doors.each(TOPICS, "2")]
    cursors = [ids[n] for n in (0, 10, 700, 1499, 1500, 2100, 2990)]
    clients = [sse_connect(relay, "m.>", last_event_id=c, wait=False) for c in (*cursors, *reversed(cursors))]
    for client, cursor in zip(clients, (*cursors, *reversed(cursors))):
        missed = [id for id in ids if id > cursor]
        client.wait_for(len(missed))
        assert client.ids == missed and not client.gaps


def test_resume_while_events_come_and_logs_go(relay, sse_connect, doors):
    """What is published between two pages comes, and what is lost between them is told, once."""
    cursor = doors.each(TOPICS, "1")[-1]
    ids = [*doors.each(TOPICS, "2"), *doors.each(TOPICS, "3")]
    client = sse_connect(relay, "m.>", last_event_id=cursor, wait=False)
    client.wait_for(1)
    doors.redis.delete(*(doors.key("default", "log", f"m.{n}") for n in range(0, len(TOPICS), 100)))
    with_live = ids + [doors.fcall(f"m.{n}", "live") for n in range(40)] + [doors.fcall("m.new", "end")]
    client.wait_for(lambda c: "end" in c.data)
    assert client.ids == sorted(set(client.ids))
    missing = {*with_live} - {*client.ids}
    assert client.told(missing) == missing
    lost = {id for n in range(0, len(TOPICS), 100) for id in (ids[n], ids[len(TOPICS) + n])}
    assert missing <= lost


def test_repair_reads_no_topic_for_each_page(redis, relay_factory, sse_connect, doors):
    relay = relay_factory()
    client = sse_connect(relay, "m.>")
    first = doors.each(TOPICS, "1")
    client.wait_for(len(TOPICS))
    relay.signal(signal.SIGSTOP)
    doors.redis.client_kill_filter(_type="pubsub")
    missed = [id for data in "2345" for id in doors.each(TOPICS, data)]
    before = ranges(doors)
    relay.signal(signal.SIGCONT)
    client.wait_for(len(first) + len(missed))
    assert client.ids == first + missed and not client.gaps
    assert ranges(doors) - before < 2 * (len(TOPICS) + len(missed)), "not 12 pages of 1500 topics"
