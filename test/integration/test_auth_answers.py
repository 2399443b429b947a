# SPDX-License-Identifier: Apache-2.0
"""What somebody is told who may not: challenges, reasons, errors=event, and what nobody can decide now (14.3)."""

import json
import time

import pytest

from auth_rig import (
    PAGE,
    assert_forbidden,
    assert_invalid,
    assert_nobody,
    bearer,
    error_block,
    opening,
    status_at,
    ticket_of,
    with_ticket,
)
from raw_http import assert_problem
from relay_process import wait_until
from tcp_proxy import TcpProxy
from tokens import Key

EVENTS = "/events?topic=orders.eu"


@pytest.fixture
def relay(guarded):
    return guarded({"retry": "100ms"})


# --- why ---


def test_nothing_presented(relay):
    assert_nobody(opening(relay, EVENTS))


REASONS = {
    "expired": lambda p: p.T(life=-3600),
    "another audience": lambda p: p.T(aud="somebody-else"),
    "not yet": lambda p: p.T(nbf=int(time.time()) + 3600),
    "issued ahead": lambda p: p.T(iat=int(time.time()) + 3600),
    "no end": lambda p: p.T(exp=None),
    "an end too far": lambda p: p.T(life=400 * 86400),
}


@pytest.mark.parametrize("reason", REASONS)
def test_the_reason_is_told_to_who_has_a_right_signature(relay, parties, reason):
    """To others nothing is told but that it is not valid: the same for each of them."""
    token = REASONS[reason](parties)
    told = assert_invalid(opening(relay, EVENTS, bearer(token)))
    head, claims, _ = token.split(".")
    forged = assert_invalid(opening(relay, EVENTS, bearer(f"{head}.{claims}.{parties.T().rpartition('.')[2]}")))
    nonsense = assert_invalid(opening(relay, EVENTS, bearer("x")))
    assert forged == nonsense != told


def test_reasons_differ(relay, parties):
    details = {assert_invalid(opening(relay, EVENTS, bearer(REASONS[r](parties)))) for r in REASONS}
    assert len(details) == len(REASONS)


def test_a_refusal_is_logged_and_not_too_often(relay, parties):
    """With reason, issuer, key, subject and address; a flood of them makes no flood of lines."""
    forged = parties.I.token(key=Key("RS256", parties.I.key.kid, name="stranger"), sub="somebody")
    before = len(relay.log)
    for _ in range(200):
        assert_invalid(opening(relay, EVENTS, bearer(forged)))
    lines = relay.log[before:]
    named = [li for li in lines if parties.I.iss in li and "somebody" in li and parties.I.key.kid in li and "127.0.0.1" in li]
    assert named and len(lines) < 50


def test_what_is_logged_of_a_token_is_clean(relay, parties):
    """Bytes of an unverified token make no second line and no field."""
    evil = "x\nlevel=error msg=forged\r\x1b[31m\" a=b"
    token = Key("RS256", "k\nv=1", name="stranger").sign({"iss": parties.I.iss, "sub": evil, "exp": 4102444800})
    before = len(relay.log)
    assert_invalid(opening(relay, EVENTS, bearer(token)))
    assert_invalid(opening(relay, EVENTS, bearer(parties.T(sub=evil, aud="other"))))
    wait_until(lambda: len(relay.log) > before, "a line")
    assert not [li for li in relay.log[before:] if li.startswith("level=error") or "\x1b" in li or "\r" in li]


def test_a_topic_that_is_not_granted_is_named(relay, parties):
    assert_forbidden(opening(relay, "/events?topic=orders.eu&topic=billing.eu", bearer(parties.T())), "topic", "billing.eu")
    assert_forbidden(opening(relay, f"{EVENTS}&ns=t2", bearer(parties.T())), "ns")


# --- errors=event ---


REFUSED = [
    ("topic=orders.eu", None, 401),
    ("topic=orders.eu", "bad", 401),
    ("topic=billing", "T", 403),
    ("topic=orders.eu&ns=t2", "T", 403),
]


@pytest.mark.parametrize("query,who,status", REFUSED)
def test_a_refusal_as_an_event(relay, parties, sse_connect, query, who, status):
    headers = {None: {}, "bad": bearer("x"), "T": bearer(parties.T())}[who]
    strict = opening(relay, f"/events?{query}", headers)
    assert strict.status_code == status
    refused = sse_connect(relay, raw_query=f"{query}&errors=event", headers=headers, wait=False)
    problem, block = error_block(refused)
    assert problem == strict.json() and block.id is None
    assert refused.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("cursor", ["1", "1767225600123456", str(2**53 - 1)])
@pytest.mark.parametrize("how", ["header", "query"])
def test_the_block_keeps_the_cursor(relay, sse_connect, cursor, how):
    """A block without an id, before any with one, would make an EventSource forget where it was."""
    given = {"last_event_id": cursor} if how == "header" else {}
    params = {"errors": "event", **({"lastEventId": cursor} if how == "query" else {})}
    refused = sse_connect(relay, "orders.eu", params=params, wait=False, **given)
    _, block = error_block(refused)
    assert block.id == cursor and refused.last_event_id == cursor


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", str(2**53), "9" * 30, "1 2", "ä"])
def test_a_cursor_that_is_none_of_ours_is_not_repeated(relay, sse_connect, cursor):
    refused = sse_connect(relay, "orders.eu", params={"errors": "event", "lastEventId": cursor}, wait=False)
    assert error_block(refused)[1].id is None


@pytest.mark.parametrize("config", [{"control_events": "off"}, {"control_prefix": "x-"}, {"control_events": "id"}], ids=str)
def test_it_is_sent_as_it_was_asked_for(guarded, sse_connect, config):
    relay = guarded(config)
    refused = sse_connect(relay, "orders.eu", params={"errors": "event"}, wait=False).wait_closed()
    prefix = config.get("control_prefix", "relay.")
    assert [(b.type, json.loads(b.data)["status"]) for b in refused.blocks] == [(prefix + "error", 401)]


def test_other_statuses_stay_as_they_are(relay, parties):
    for path, method, status in (
        ("/events?errors=event", "GET", 400),
        ("/events?topic=orders.eu&errors=event&replay=x", "GET", 400),
        ("/nope?errors=event", "GET", 404),
        ("/stats?errors=event", "GET", 401),
        ("/events?topic=orders.eu&errors=event", "POST", 405),
    ):
        headers = {} if status == 401 else bearer(parties.T())
        assert opening(relay, path, headers, method).status_code == status, path


def test_nothing_changes_for_who_may(relay, parties, sse_connect, doors):
    stream = sse_connect(relay, "orders.eu", params={"errors": "event"}, headers=bearer(parties.T()))
    doors.fcall("orders.eu", "x", ns="t1")
    assert stream.wait_for(1).data == ["x"] and not stream.closed


def test_a_full_node_as_an_event(guarded, parties, sse_connect):
    relay = guarded({"max_clients": 1, "full.rate": 0})
    sse_connect(relay, "orders.eu", headers=bearer(parties.T()))
    late = sse_connect(relay, "orders.eu", params={"errors": "event"}, headers=bearer(parties.T()), wait=False)
    assert error_block(late)[0]["status"] == 503


def test_a_page_elsewhere_can_read_it(guarded, sse_connect):
    relay = guarded({"cors.origins": PAGE})
    refused = sse_connect(relay, "orders.eu", params={"errors": "event"}, headers={"Origin": PAGE}, wait=False)
    error_block(refused)
    assert refused.headers["access-control-allow-origin"] == PAGE


def test_head_of_a_refusal_as_an_event(relay):
    answer = opening(relay, f"{EVENTS}&errors=event", method="HEAD")
    assert answer.status_code == 200 and not answer.content


# --- what cannot be decided now ---


@pytest.fixture
def far(guarded, redis):
    """far(): a relay and the proxy between it and its Redis."""
    proxies = []

    def start(config=None):
        proxies.append(TcpProxy(redis.port))
        return guarded({"auth.timeout": "500ms", "retry": "100ms", **(config or {})}, redis=proxies[-1].url), proxies[-1]

    yield start
    for proxy in proxies:
        proxy.close()


def severed(far):
    relay, proxy = far()
    proxy.sever()
    wait_until(lambda: relay.ready()[0] == 503, "the cut")
    return relay, proxy


def assert_come_again(client):
    """What a draining node sends: 200, retry, a clean end, and nothing that moves a cursor."""
    client.wait_closed()
    assert client.status == 200 and client.retry and client.clean and not client.blocks, client.describe()


def test_a_stream_of_a_namespace_whose_revocations_are_not_known(far, parties, sse_connect):
    relay, proxy = severed(far)
    assert_come_again(sse_connect(relay, "orders.eu", headers=bearer(parties.T()), wait=False))
    assert_nobody(opening(relay, EVENTS))  # what needs no Redis is decided
    assert_invalid(opening(relay, EVENTS, bearer("x")))
    proxy.mend()
    relay.wait_ready()
    sse_connect(relay, "orders.eu", headers=bearer(parties.T()))


def test_a_ticket_without_redis(far, guarded, parties, sse_connect):
    ticket = ticket_of(guarded(), parties.T())
    relay, proxy = severed(far)
    assert_come_again(sse_connect(relay, "orders.eu", wait=False, **with_ticket(ticket)))
    proxy.mend()
    relay.wait_ready()
    sse_connect(relay, "orders.eu", **with_ticket(ticket))


@pytest.mark.parametrize("path", ["/tickets", "/revoke"])
def test_a_post_without_redis(far, parties, path):
    relay, proxy = severed(far)
    body = {"json": {"sub": "42"}} if path == "/revoke" else {}
    answer = relay.post(path, headers=bearer(parties.A()), **body)
    assert_problem(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0
    proxy.mend()
    relay.wait_ready()
    assert relay.post(path, headers=bearer(parties.A()), **body).status_code == 200


def test_it_waits_for_redis(far, guarded, parties, sse_connect):
    """Within auth.timeout Redis comes back: served as if nothing had been."""
    ticket = ticket_of(guarded(), parties.T())
    relay, proxy = far({"auth.timeout": "20s"})
    proxy.sever()
    wait_until(lambda: relay.ready()[0] == 503, "the cut")
    streams = [
        sse_connect(relay, "orders.eu", wait=False, **with_ticket(ticket)),
        sse_connect(relay, "orders.eu", wait=False, headers=bearer(parties.T())),
    ]
    proxy.mend()
    for stream in streams:
        stream.wait_connected()
        assert not stream.closed


def test_streams_of_a_known_namespace_are_held(far, parties, sse_connect, doors):
    """As without authentication: they are accepted, and served when Redis is back."""
    relay, proxy = far()
    first = sse_connect(relay, "orders.eu", headers=bearer(parties.T()))
    proxy.sever()
    wait_until(lambda: relay.ready()[0] == 503, "the cut")
    held = sse_connect(relay, "orders.eu", headers=bearer(parties.U()), wait=False).wait_head()
    assert held.status == 200
    id = doors.fcall("orders.eu", "x", ns="t1")
    again = sse_connect(relay, "orders.eu", headers=bearer(parties.U()), last_event_id=id - 1, wait=False)
    proxy.mend()
    assert first.wait_for(1).ids == [id] and again.wait_for(lambda c: c.data or c.gaps)
    held.wait_connected()
    assert not held.closed and not first.closed


def test_redis_stopped_for_real(redis, guarded, parties, sse_connect):
    relay = guarded({"auth.timeout": "300ms"})
    redis.kill()
    wait_until(lambda: relay.ready()[0] == 503, "redis-down")
    assert_come_again(sse_connect(relay, "orders.eu", headers=bearer(parties.T()), wait=False))
    assert_come_again(sse_connect(relay, "orders.eu", headers=bearer(parties.T()), params={"errors": "event"}, wait=False))
    assert relay.post("/tickets", headers=bearer(parties.T())).status_code == 503
    redis.start()
    relay.wait_ready()
    assert status_at(relay, EVENTS, bearer(parties.T())) == 200


def test_who_hangs_up_while_it_waits_spends_no_ticket(far, guarded, parties, sse_connect):
    other = guarded()
    ticket = ticket_of(other, parties.T())
    relay, proxy = far({"auth.timeout": "20s"})
    proxy.sever()
    wait_until(lambda: relay.ready()[0] == 503, "the cut")
    gone = sse_connect(relay, "orders.eu", wait=False, **with_ticket(ticket))
    gone.close()
    proxy.mend()
    relay.wait_ready()
    wait_until(lambda: relay.stats()["clients"] == 0, "nobody")
    wait_until(lambda: status_at(other, f"{EVENTS}&ticket={ticket}") == 200, "a ticket that is as before")
