# SPDX-License-Identifier: Apache-2.0
"""What who may see of a node; a relay without authentication; and tokens, tickets and revocations in memory."""

import pytest

from auth_rig import (
    assert_ended,
    assert_forbidden,
    assert_invalid,
    assert_nobody,
    bearer,
    connection_of,
    opening,
    renew,
    revoke,
    status_at,
    ticket_of,
    with_ticket,
)
from prometheus import parse_prometheus
from raw_http import assert_problem
from relay_process import wait_until
from tokens import static_key

EVENTS = "/events?topic=orders.eu"


# --- /stats and /metrics ---


def test_stats_by_grant(parties, guarded, sse_connect):
    """An admin of a namespace sees that one only, an admin of none sees all, and nobody else anything."""
    relay = guarded()
    sse_connect(relay, "orders.eu", "user.42", headers=bearer(parties.T()))
    sse_connect(relay, "orders.hidden", headers=bearer(parties.X()))
    seen = relay.get("/stats", headers=bearer(parties.A())).json()
    assert {(t["ns"], t["topic"]) for t in seen["topics"]} == {("t1", "orders.eu"), ("t1", "user.42")}
    assert "hidden" not in str(seen) and "t2" not in str(seen)
    everything = relay.stats()
    assert {t["ns"] for t in everything["topics"]} == {"t1", "t2"} and everything["clients"] == 2
    assert_nobody(relay.get("/stats"))
    assert_invalid(relay.get("/stats", headers=bearer("x")))
    assert_forbidden(relay.get("/stats", headers=bearer(parties.T())))


def test_what_a_tenant_may_not_learn_of_others_from_stats(parties, guarded, sse_connect):
    """Figures of the whole node are the operator's: how many streams others have is not for the admin of one tenant."""
    relay = guarded()
    mine = bearer(parties.A())
    before = relay.get("/stats", headers=mine).json()
    for _ in range(3):
        sse_connect(relay, "orders.eu", headers=bearer(parties.X()))
    after = relay.get("/stats", headers=mine).json()
    assert before["topics"] == after["topics"] == []


@pytest.mark.parametrize("rights", [{"ns": "t2"}, {"ns": "no such name"}, {}], ids=["another's", "none", "unsaid"])
def test_an_admin_of_no_namespace_is_none_of_all(guarded, parties, rights):
    """A token without a namespace that its issuer may speak for administrates nothing, and so not that of others."""
    parties.file.write(issuers=[parties.I.entry(namespaces=["t1", "t3"]), parties.J.entry()])
    relay = guarded()
    token = parties.I.token(sub="a", sse={"admin": True, "subscribe": ["orders.*"], **rights})
    assert_forbidden(relay.get("/stats", headers=bearer(token)), "admin")
    for ns in ("t1", "t2"):
        assert_forbidden(relay.post(f"/revoke?ns={ns}", json={"sub": "42"}, headers=bearer(token)), "admin")
    assert status_at(relay, EVENTS, bearer(parties.X())) == 200


def test_metrics_are_open_by_default_and_have_no_names(parties, guarded, sse_connect):
    relay = guarded()
    sse_connect(relay, "orders.hidden", headers=bearer(parties.X()))
    text = relay.get("/metrics").text
    parse_prometheus(text)
    assert not [w for w in ("hidden", "t2", "example", "orders") if w in text]


def test_metrics_for_who_may(parties, guarded):
    """auth.metrics=on: any valid credential, a scraper's key that grants nothing else among them."""
    scraper = "scraper-" + "k" * 32
    parties.file.write(keys=[*parties.keys, static_key("scraper", scraper)])
    relay = guarded({"auth.metrics": "on"})
    assert_nobody(relay.get("/metrics"))
    assert_invalid(relay.get("/metrics", headers=bearer("x")))
    for token in (scraper, parties.T()):
        assert relay.get("/metrics", headers=bearer(token)).status_code == 200
    assert status_at(relay, EVENTS, bearer(scraper)) == 403
    assert relay.get("/stats", headers=bearer(scraper)).status_code == 403


def test_refusals_are_counted(parties, guarded):
    relay = guarded()
    before = relay.metrics()
    for headers in ({}, bearer("x"), bearer(parties.T(life=-3600))):
        assert status_at(relay, EVENTS, headers) == 401
    assert status_at(relay, "/events?topic=billing", bearer(parties.T())) == 403
    after = relay.metrics()
    grown = {name: after[name] - before.get(name, 0) for name in after if "auth" in name or "refus" in name}
    assert sum(n > 0 for n in grown.values()) >= 3, grown
    assert max(grown.values()) <= 4


# --- off ---

CONNECTION = "/connections/" + "0" * 32 + "/token"


@pytest.mark.parametrize("path", ["/tickets", "/revoke", CONNECTION])
def test_without_authentication_there_are_no_such_paths(relay, parties, path):
    for method in ("POST", "GET"):
        assert_problem(relay.request(method, path, headers=bearer(parties.T())), 404)


def test_without_authentication_credentials_are_nothing(relay, parties, sse_connect, doors):
    """As before: whatever somebody presents, he may everything."""
    doors.fcall("t", "x")
    for headers, path in (
        ({}, "/events?topic=t"),
        (bearer("x"), "/events?topic=t"),
        (bearer(parties.T()), "/events?topic=t&ns=any"),
        ({"Authorization": "Basic dTpw"}, "/events?topic=t"),
        ({}, "/events?topic=t&ticket=x&access_token=y&errors=event"),
        ({"Cookie": "__Host-sse=x"}, "/events?topic=%3E"),
    ):
        assert status_at(relay, path, headers) == 200, path
    assert relay.post("/publish?topic=t", "x", headers=bearer("x")).status_code == 200
    assert relay.get("/stats").status_code == 200
    stream = sse_connect(relay, "t", params={"replay": "all"})
    assert stream.wait_for(2).data == ["x", "x"]


# --- in memory ---


@pytest.fixture
def memory(guarded):
    return guarded(redis="memory:", **{"auth.leeway": 0})


def test_memory_streams_and_groups(memory, parties, sse_connect):
    mine, theirs = (sse_connect(memory, "orders.eu", headers=bearer(t())) for t in (parties.T, parties.U))
    other = sse_connect(memory, "orders.eu", headers=bearer(parties.X()))
    for user in ("42", "43"):
        body = {"topic": "orders.eu", "data": user, "match": {"user_id": user}}
        assert memory.post("/publish", json=body, headers=bearer(parties.T())).status_code == 200
    assert memory.post("/publish?topic=orders.eu", "all", headers=bearer(parties.T())).status_code == 200
    assert mine.wait_for(2).data == ["42", "all"] and theirs.wait_for(2).data == ["43", "all"]
    again = sse_connect(memory, "orders.eu", headers=bearer(parties.T()), params={"replay": 2})
    assert again.wait_for(2).data == ["42", "all"]
    assert other.data == []


def test_memory_tickets(memory, parties, sse_connect):
    ticket = ticket_of(memory, parties.T())
    first = sse_connect(memory, "orders.eu", **with_ticket(ticket))
    assert_invalid(opening(memory, f"{EVENTS}&ticket={ticket}"))
    second = sse_connect(memory, "orders.eu", last_event_id=first.last_event_id, **with_ticket(ticket))
    assert_ended(first, "replaced")
    second.close()
    third = sse_connect(memory, "orders.eu", last_event_id=first.last_event_id, **with_ticket(ticket))
    assert not third.closed


def test_memory_tickets_are_strictly_once_without_a_grace(guarded, parties, sse_connect):
    relay = guarded({"ticket.reconnect_grace": 0}, redis="memory:")
    ticket = ticket_of(relay, parties.T())
    stream = sse_connect(relay, "orders.eu", **with_ticket(ticket))
    assert_invalid(opening(relay, f"{EVENTS}&ticket={ticket}", {"Last-Event-ID": stream.last_event_id}))


@pytest.mark.parametrize("entry", [{"jti": "one"}, {"sub": "42"}, {"kid": "k1"}], ids=str)
def test_memory_revocations(memory, parties, sse_connect, entry):
    stream = sse_connect(memory, "orders.eu", headers=bearer(parties.T(jti="one")))
    ticket = ticket_of(memory, parties.T(jti="one"))
    other = sse_connect(memory, "orders.eu", headers=bearer(parties.X()))
    revoke(memory, parties.A(), **entry)
    assert_ended(stream, "revoked")
    assert_invalid(opening(memory, EVENTS, bearer(parties.T(jti="one", iat=1))))
    assert status_at(memory, f"{EVENTS}&ticket={ticket}") == 401
    assert not other.closed


def test_memory_renewal(memory, parties, sse_connect):
    stream = sse_connect(memory, "orders.eu", headers=bearer(parties.T(life=3)))
    brief = sse_connect(memory, "orders.eu", headers=bearer(parties.T(life=3)))
    assert renew(memory, connection_of(stream), parties.T()).status_code == 200
    assert renew(memory, connection_of(stream), parties.U()).status_code == 403
    assert_ended(brief, "token-expired")
    assert not stream.closed
    assert renew(memory, connection_of(brief), parties.T()).status_code == 404


# --- both ways to park ---


@pytest.mark.parametrize("park", ["suspended", "handover"])
def test_ends_of_every_kind(guarded, parties, sse_connect, doors, park):
    """Each stream has its last event whole, its reason, and the end of its body."""
    relay = guarded({"auth.leeway": 0}, park=park)
    ticket = ticket_of(relay, parties.U())
    streams = {
        "token-expired": sse_connect(relay, "orders.eu", headers=bearer(parties.T(life=4, sub="1"))),
        "revoked": sse_connect(relay, "orders.eu", headers=bearer(parties.T(jti="one"))),
        "replaced": sse_connect(relay, "orders.eu", **with_ticket(ticket)),
        "drain": sse_connect(relay, "orders.eu", headers=bearer(parties.T())),
    }
    id = doors.fcall("orders.eu", "x" * 100_000, ns="t1")
    for stream in streams.values():
        assert stream.wait_for(1).ids == [id]
    revoke(relay, parties.A(), jti="one")
    again = sse_connect(relay, "orders.eu", last_event_id=id, **with_ticket(ticket))
    for reason in ("token-expired", "revoked", "replaced"):
        assert_ended(streams[reason], reason)
    wait_until(lambda: relay.stats()["clients"] == 2)
    relay.terminate()
    for stream in (streams["drain"], again):
        assert_ended(stream, "drain")
