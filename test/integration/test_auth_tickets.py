# SPDX-License-Identifier: Apache-2.0
"""Tickets: issued, narrowed, spent once, and good for a reconnect (protocol.md, 14.7). See also the attacks [28] to [31]."""

import hashlib
import time

import pytest

from auth_rig import (
    COOKIE,
    PAGE,
    assert_ended,
    assert_forbidden,
    assert_invalid,
    assert_nobody,
    bearer,
    connection_of,
    cookie,
    opening,
    status_at,
    ticket_of,
    wait_subscribed,
    wait_unspent_gone,
    with_ticket,
)
from raw_http import assert_problem
from relay_process import wait_until
from tcp_proxy import TcpProxy
from tokens import static_key

EVENTS = "/events?topic=orders.eu"


@pytest.fixture
def nodes(guarded):
    return [guarded({"retry": "100ms"}, node=f"node{i}") for i in range(2)]


@pytest.fixture
def relay(guarded):
    return guarded()


# --- issued ---


def test_a_ticket_and_what_redis_has_of_it(relay, parties, doors):
    """The namespace and 24 random bytes; in Redis only their SHA-256, for 30 s."""
    answer = relay.post("/tickets", headers=bearer(parties.T()))
    assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-store"
    ticket = answer.json()["ticket"]
    assert answer.json() == {"ticket": ticket, "expires_in": 30}
    ns, _, rest = ticket.partition("~")
    assert ns == "t1" and len(rest) == 32
    keys = list(doors.redis.scan_iter("*:ticket:*"))
    assert keys == [doors.key("t1", "ticket", hashlib.sha256(ticket.encode()).hexdigest())]
    assert 0 < doors.redis.pttl(keys[0]) <= 30000


def test_tickets_are_all_different(relay, parties):
    assert len({ticket_of(relay, parties.T()) for _ in range(50)}) == 50


@pytest.mark.parametrize("body", [b"", b" ", b"{}"])
def test_nothing_need_be_said(relay, parties, sse_connect, body):
    answer = relay.post("/tickets", body, headers=bearer(parties.T()))
    assert answer.status_code == 200
    sse_connect(relay, "orders.eu", "user.42", **with_ticket(answer.json()["ticket"]))


@pytest.mark.parametrize("how", ["static key", "cookie"])
def test_other_credentials_that_may_ask_for_one(guarded, parties, sse_connect, how, doors):
    key = "backend-" + "k" * 32
    parties.file.write(keys=[*parties.keys, static_key("backend", key, ns="t1", subscribe=["orders.*"])])
    relay = guarded({"auth.cookie": COOKIE, "cors.origins": PAGE})
    headers = bearer(key) if how == "static key" else cookie(parties.T(), PAGE)
    answer = relay.post("/tickets", headers=headers)
    assert answer.status_code == 200
    stream = sse_connect(relay, "orders.eu", **with_ticket(answer.json()["ticket"]))
    doors.fcall("orders.eu", "x", ns="t1")
    assert stream.wait_for(1).data == ["x"]


def test_who_may_not_have_one(relay, parties):
    assert_nobody(relay.post("/tickets"))
    assert_invalid(relay.post("/tickets", headers=bearer("x")))
    assert_forbidden(relay.post("/tickets", headers=bearer(parties.ops)))  # of no namespace


def test_a_ticket_issued_by_a_backend(relay, parties, sse_connect, doors):
    """With an account at Redis: the grant of another ticket under a hash of its own."""
    ticket = ticket_of(relay, parties.T())
    grant = None
    for key in doors.redis.scan_iter("*:ticket:*"):
        held = doors.redis.hgetall(key) if doors.redis.type(key) == "hash" else {"grant": doors.redis.get(key)}
        grant = held["grant"]
    own = "t1~" + "B" * 32
    args = [hashlib.sha256(own.encode()).hexdigest(), "grant", grant, "ttl", 10000, "until", 0]
    assert doors.redis.fcall("sse_ticket", 1, doors.key("t1"), *args) == "OK"
    sse_connect(relay, "orders.eu", **with_ticket(own))
    sse_connect(relay, "orders.eu", **with_ticket(ticket))


def test_a_made_up_ticket_leaves_nothing(relay, doors):
    """Whoever shows one names any namespace: neither Redis nor a node remembers it."""
    before = set(doors.redis.keys("*"))
    for n in range(50):
        assert_invalid(opening(relay, f"{EVENTS}&ticket=guess{n}~{'A' * 32}"))
    assert set(doors.redis.keys("*")) == before
    assert not doors.redis.pubsub_channels("*guess*")


# --- narrowed ---


def test_narrowed_topics(relay, parties, sse_connect, doors):
    """They are all that it may ask for, and what it asks for when it names none."""
    ticket = lambda: ticket_of(relay, parties.T(), topics=["orders.eu", "user.42"])  # noqa: E731
    for topic in ("orders.us", "orders.*", "billing"):
        assert_forbidden(opening(relay, f"/events?topic={topic}&ticket={ticket()}"), topic)
    assert status_at(relay, f"/events?topic=user.42&ticket={ticket()}") == 200
    stream = sse_connect(relay, **with_ticket(ticket()))
    assert sorted(stream.control("connected")[0]["topics"]) == ["orders.eu", "user.42"]
    for topic in ("orders.us", "user.42", "orders.eu"):
        doors.fcall(topic, topic, ns="t1")
    assert stream.wait_for(2).data == ["user.42", "orders.eu"]


def test_narrowed_match(relay, parties, sse_connect, doors):
    """The pairs that it names are all that its stream has."""
    token = parties.T(rights={"match": {"user_id": ["42", "43"], "role": "a"}})
    ticket = ticket_of(relay, token, match={"user_id": "43"})
    stream = sse_connect(relay, "orders.eu", **with_ticket(ticket))
    for match in ('{"user_id":"42"}', '{"role":"a"}', '{"user_id":"43","role":"a"}', '{"user_id":"43"}'):
        doors.fcall("orders.eu", match, ns="t1", match=match)
    doors.fcall("orders.eu", "end", ns="t1")
    assert stream.wait_for(lambda c: "end" in c.data).data == ['{"user_id":"43"}', "end"]


WIDER = [{"topics": [">"]}, {"topics": ["orders.>"]}, {"topics": ["orders.eu", "billing"]}, {"match": {"user_id": "43"}}, {"match": {"x": "y"}}]


@pytest.mark.parametrize("body", WIDER, ids=str)
def test_nothing_can_be_widened(relay, parties, body, doors):
    assert_forbidden(relay.post("/tickets", json=body, headers=bearer(parties.T())))
    assert not list(doors.redis.scan_iter("*:ticket:*"))


BAD = ['"x"', "[]", "{", "{}x", '{"topic":["orders.eu"]}', '{"topics":"orders.eu"}', '{"topics":[]}', '{"topics":[1]}', '{"topics":["a..b"]}',
       '{"match":[]}', '{"match":{"user_id":42}}', '{"match":"x"}', '{"ns":"t2"}', '{"topics":["orders.eu"],"topics":["orders.us"]}']  # fmt: skip


@pytest.mark.parametrize("body", BAD)
def test_bodies_that_say_something_else(relay, parties, body, doors):
    assert_problem(relay.post("/tickets", body, headers=bearer(parties.T())), 400)
    assert not list(doors.redis.scan_iter("*:ticket:*"))


# --- spent ---


def test_a_ticket_is_worth_what_it_was_issued_for(relay, parties, sse_connect, doors):
    stream = sse_connect(relay, "orders.*", **with_ticket(ticket_of(relay, parties.T())))
    doors.fcall("orders.eu", "43", ns="t1", match='{"user_id":"43"}')
    doors.fcall("orders.eu", "42", ns="t1", match='{"user_id":"42"}')
    assert stream.wait_for(1).data == ["42"]
    assert status_at(relay, f"/events?topic=user.43&ticket={ticket_of(relay, parties.T())}") == 403


def test_an_unused_ticket_ends(relay, parties, doors):
    ticket = ticket_of(relay, parties.T())
    (key,) = doors.redis.scan_iter("*:ticket:*")
    doors.redis.pexpire(key, 1)
    wait_unspent_gone(doors.redis)
    assert_invalid(opening(relay, f"{EVENTS}&ticket={ticket}"))


@pytest.mark.slow
def test_an_unused_ticket_ends_after_30_s(relay, parties, doors):
    ticket, start = ticket_of(relay, parties.T()), time.monotonic()
    wait_until(lambda: not list(doors.redis.scan_iter("*:ticket:*")), "its end", 40)
    assert time.monotonic() - start >= 29
    assert_invalid(opening(relay, f"{EVENTS}&ticket={ticket}"))


def test_a_reconnect_takes_the_place_of_a_stream_that_is_half_dead(nodes, parties, sse_connect, doors):
    """On the other node, with a cursor, while the first is still open: that one ends, and nothing is lost."""
    ticket = ticket_of(nodes[0], parties.T())
    first = sse_connect(nodes[0], "orders.eu", **with_ticket(ticket))
    ids = [doors.fcall("orders.eu", str(n), ns="t1") for n in range(3)]
    first.wait_for(3)
    second = sse_connect(nodes[1], "orders.eu", last_event_id=ids[0], **with_ticket(ticket))
    assert_ended(first, "replaced")
    ids.append(doors.fcall("orders.eu", "3", ns="t1"))
    assert second.wait_for(3).ids == ids[1:] and not second.closed
    third = sse_connect(nodes[1], "orders.eu", last_event_id=ids[-1], **with_ticket(ticket))
    assert_ended(second, "replaced")
    assert not third.closed and len({connection_of(s) for s in (first, second, third)}) == 3


def test_takeovers_are_counted(nodes, parties, sse_connect):
    ticket = ticket_of(nodes[0], parties.T())
    first = sse_connect(nodes[0], "orders.eu", **with_ticket(ticket))
    sse_connect(nodes[0], "orders.eu", last_event_id=first.last_event_id, **with_ticket(ticket))
    assert_ended(first, "replaced")
    counted = {name: n for name, n in nodes[0].metrics().items() if "replaced" in name or "takeover" in name}
    assert sum(counted.values()) >= 1, nodes[0].metrics().keys()


def test_reconnects_within_the_grace(nodes, parties, sse_connect, doors):
    """After its end, again and again, on either node; each time with the latest cursor, and nothing is lost."""
    ticket = ticket_of(nodes[0], parties.T())
    stream = sse_connect(nodes[0], "orders.eu", **with_ticket(ticket))
    for n in range(6):
        id = doors.fcall("orders.eu", f"open {n}", ns="t1")
        assert stream.wait_for(lambda c, id=id: id in c.ids)
        stream.close()
        missed = doors.fcall("orders.eu", f"closed {n}", ns="t1")
        cursor = stream.last_event_id
        stream = sse_connect(nodes[(n + 1) % 2], "orders.eu", last_event_id=cursor, **with_ticket(ticket))
        assert stream.wait_for(1).ids == [missed]


@pytest.mark.parametrize("where", ["lastEventId", "header"])
def test_a_cursor_anywhere_counts(relay, parties, sse_connect, where):
    ticket = ticket_of(relay, parties.T())
    first = sse_connect(relay, "orders.eu", **with_ticket(ticket))
    cursor = first.last_event_id
    first.close()
    if where == "header":
        sse_connect(relay, "orders.eu", last_event_id=cursor, **with_ticket(ticket))
    else:
        sse_connect(relay, "orders.eu", **with_ticket(ticket, lastEventId=cursor))


def test_no_grace_is_strictly_once(guarded, parties, sse_connect):
    relay = guarded({"ticket.reconnect_grace": 0})
    ticket = ticket_of(relay, parties.T())
    stream = sse_connect(relay, "orders.eu", **with_ticket(ticket))
    cursor = {"Last-Event-ID": stream.last_event_id}
    assert_invalid(opening(relay, f"{EVENTS}&ticket={ticket}", cursor))
    stream.close()
    wait_subscribed(relay, "orders.eu", count=0)
    assert_invalid(opening(relay, f"{EVENTS}&ticket={ticket}", cursor))


def test_a_node_that_died_keeps_nobody_out(nodes, parties, sse_connect, doors):
    ticket = ticket_of(nodes[0], parties.T())
    first = sse_connect(nodes[0], "orders.eu", **with_ticket(ticket))
    id = doors.fcall("orders.eu", "1", ns="t1")
    first.wait_for(1)
    nodes[0].kill()
    missed = doors.fcall("orders.eu", "2", ns="t1")
    again = sse_connect(nodes[1], "orders.eu", last_event_id=id, **with_ticket(ticket))
    assert again.wait_for(1).ids == [missed] and not again.closed


def test_a_node_that_drains_hands_its_tickets_on(nodes, parties, sse_connect):
    ticket = ticket_of(nodes[0], parties.T())
    first = sse_connect(nodes[0], "orders.eu", **with_ticket(ticket))
    nodes[0].terminate()
    assert_ended(first, "drain")
    sse_connect(nodes[1], "orders.eu", last_event_id=first.last_event_id, **with_ticket(ticket))
    assert nodes[0].wait() == 0


def test_a_stream_that_was_told_no_id_spent_nothing(guarded, redis, parties, sse_connect, doors):
    """It ends while Redis does not answer its read of the log: its client has no cursor to come back with, and needs none."""
    proxy = TcpProxy(redis.port)
    try:
        far, near = guarded({"max_lifetime": "1h"}, redis=proxy.url), guarded()
        ticket = ticket_of(near, parties.T())
        sse_connect(far, "user.42", headers=bearer(parties.T()))
        proxy.freeze("subscriber")  # its subscription is not acknowledged: no relay.connected
        held = sse_connect(far, "orders.eu", wait=False, **with_ticket(ticket)).wait_head()
        assert held.status == 200 and not held.blocks
        assert status_at(near, f"{EVENTS}&ticket={ticket}") == 401, "spent, as long as it is open"
        held.close()
        wait_until(lambda: status_at(near, f"{EVENTS}&ticket={ticket}") == 200, "as new")
    finally:
        proxy.close()


def test_a_ticket_of_a_token_without_an_end(guarded, parties, sse_connect, doors):
    parties.file.write(issuers=[parties.I.entry(exp="optional")])
    relay = guarded()
    stream = sse_connect(relay, "orders.eu", **with_ticket(ticket_of(relay, parties.T(exp=None))))
    (key,) = doors.redis.scan_iter("*:ticket:*")
    assert 29 * 86400 < doors.redis.ttl(key) <= 30 * 86400 and not stream.closed


def test_a_page_elsewhere_asks_for_one(guarded, parties):
    relay = guarded({"cors.origins": PAGE})
    answer = relay.post("/tickets", headers={**bearer(parties.T()), "Origin": PAGE})
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE


@pytest.mark.parametrize("park", ["suspended", "handover"])
def test_both_ways_to_park(guarded, parties, sse_connect, doors, park):
    relay = guarded(park=park)
    ticket = ticket_of(relay, parties.T())
    first = sse_connect(relay, "orders.eu", **with_ticket(ticket))
    second = sse_connect(relay, "orders.eu", last_event_id=first.last_event_id, **with_ticket(ticket))
    assert_ended(first, "replaced")
    doors.fcall("orders.eu", "x", ns="t1")
    assert second.wait_for(1).data == ["x"]


def test_a_replaced_stream_ends_though_its_node_heard_nothing(guarded, redis, parties, sse_connect, doors):
    """Its node is without Redis when the ticket is taken elsewhere: it is told again when it is back."""
    proxy = TcpProxy(redis.port)
    try:
        far, near = guarded(redis=proxy.url), guarded()
        cursor = doors.fcall("orders.eu", "first", ns="t1")
        ticket = ticket_of(near, parties.T())
        old = sse_connect(far, "orders.eu", **with_ticket(ticket))
        proxy.sever()
        wait_until(lambda: far.ready()[0] == 503, "the cut")
        new = sse_connect(near, "orders.eu", last_event_id=cursor, **with_ticket(ticket))
        assert not old.closed
        proxy.mend()
        assert_ended(old, "replaced")
        second = doors.fcall("orders.eu", "second", ns="t1")
        assert new.wait_for(1).ids == [second] and second not in old.ids
    finally:
        proxy.close()
