# SPDX-License-Identifier: Apache-2.0
"""Who somebody is, by which of his credentials, and in which order a request is judged (protocol.md, 14.1 and 14.2)."""

import pytest

from auth_rig import (
    COOKIE,
    PAGE,
    assert_forbidden,
    assert_invalid,
    assert_nobody,
    bearer,
    cookie,
    opening,
    status_at,
    ticket_of,
    with_ticket,
)
from raw_http import assert_problem, open_socket, read_all, status_of
from relay_process import wait_until

EVENTS = "/events?topic=orders.eu"
CONNECTION = "/connections/" + "0" * 32 + "/token"


@pytest.fixture
def relay(guarded):
    return guarded({"auth.cookie": COOKIE, "auth.query": "on", "cors.origins": PAGE})


# --- which credential counts ---


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_scheme_is_in_any_case(relay, parties, scheme):
    assert status_at(relay, EVENTS, {"Authorization": f"{scheme} {parties.T()}"}) == 200


def test_the_first_that_is_present_counts(relay, parties):
    """Header, ticket, cookie, query: what comes later is not looked at, be it good or bad."""
    good, bad = parties.T(), parties.T(life=-3600)

    def asked(header=None, ticket=None, biscuit=None, query=None):
        path = EVENTS + (f"&ticket={ticket}" if ticket else "") + (f"&access_token={query}" if query else "")
        headers = {**(bearer(header) if header else {}), **(cookie(biscuit) if biscuit else {})}
        return status_at(relay, path, headers)

    new = lambda: ticket_of(relay, good)  # noqa: E731
    for first, rest in (
        ("header", {"ticket": "x", "biscuit": bad, "query": bad}),
        ("biscuit", {"query": bad}),
        ("query", {}),
    ):
        assert asked(**{first: good, **rest}) == 200, first
    assert asked(ticket=new(), biscuit=bad, query=bad) == 200
    assert asked(header=bad, ticket=new(), biscuit=good, query=good) == 401
    assert asked(ticket="t1~x", biscuit=good, query=good) == 401
    assert asked(biscuit=bad, query=good) == 401
    assert asked(query=bad) == 401


@pytest.mark.parametrize("tail,body", [
    ("/publish", {"json": {"topic": "orders.eu", "data": "x"}}),
    ("/publish", {"data": {"topic": "orders.eu", "data": "x"}}),
    ("/publish?topic=orders.eu", {"data": b"x", "headers": {"Content-Type": "text/plain"}}),
    ("/topics/orders.eu/end", {}),
])  # fmt: skip
def test_a_publisher_may_have_its_token_in_the_query(relay, parties, tail, body):
    joint = "&" if "?" in tail else "?"
    assert relay.post(f"{tail}{joint}access_token={parties.T(life=-3600)}", **body).status_code == 401
    answer = relay.post(f"{tail}{joint}access_token={parties.T()}", **body)
    assert answer.status_code == 200, answer.text


def test_a_ticket_that_another_credential_beats_is_not_spent(relay, parties, sse_connect):
    ticket = ticket_of(relay, parties.T())
    assert status_at(relay, f"{EVENTS}&ticket={ticket}", bearer(parties.T())) == 200
    sse_connect(relay, "orders.eu", **with_ticket(ticket))


def test_cookies_and_queries_are_off_by_default(guarded, parties):
    relay = guarded()
    assert_nobody(opening(relay, EVENTS, cookie(parties.T())))
    assert_nobody(opening(relay, f"{EVENTS}&access_token={parties.T()}"))


def test_other_cookies_are_none_of_ours(relay, parties):
    token = parties.T()
    for text in (f"a=b; {COOKIE}={token}", f"{COOKIE}={token}; z", f"{COOKIE}2=x; {COOKIE}={token}", f"x{COOKIE}=y;{COOKIE}={token}"):
        assert status_at(relay, EVENTS, {"Cookie": text}) == 200, text
    for text in (f"{COOKIE}2={token}", f"x{COOKIE}={token}", f"a={COOKIE}={token}", COOKIE.lower() + f"={token}"):
        assert_nobody(opening(relay, EVENTS, {"Cookie": text}))


def test_a_token_in_a_query_opens_streams(relay, parties, sse_connect, doors):
    stream = sse_connect(relay, "orders.eu", params={"access_token": parties.T()})
    doors.fcall("orders.eu", "x", ns="t1")
    assert stream.wait_for(1).data == ["x"]


@pytest.mark.parametrize("name", ["ticket", "access_token"])
def test_a_credential_stands_once_in_a_query(relay, parties, name):
    value = ticket_of(relay, parties.T()) if name == "ticket" else parties.T()
    answer = opening(relay, f"{EVENTS}&{name}={value}&{name}={value}")
    assert assert_problem(answer, 400).startswith(name)
    assert value not in answer.text


def test_errors_stands_once_in_a_query(relay, parties):
    answer = opening(relay, f"{EVENTS}&errors=event&errors=event", bearer(parties.T()))
    assert assert_problem(answer, 400).startswith("errors")


# --- the order of decisions ---


def test_the_message_comes_before_all(relay):
    for line in (b"Host: x\r\nHost: y", b"Host: x\r\nA : b"):
        with open_socket(relay) as s:
            s.sendall(b"GET /nope HTTP/1.1\r\n" + line + b"\r\n\r\n")
            assert status_of(read_all(s)) == 400


@pytest.mark.parametrize("path", ["/nope", "/tickets/x", "/connections", "/connections/", "/connections/x/y", "/revoke/"])
def test_a_path_comes_before_credentials(relay, path):
    for method in ("GET", "POST"):
        assert_problem(relay.request(method, path), 404)


@pytest.mark.parametrize(
    "method,path", [("GET", "/tickets"), ("GET", "/revoke"), ("GET", CONNECTION), ("POST", "/events"), ("GET", "/publish"), ("DELETE", "/stats")]
)
def test_a_method_comes_before_credentials(relay, method, path):
    answer = relay.request(method, path)
    assert_problem(answer, 405)
    assert method not in answer.headers["Allow"]


@pytest.mark.parametrize("path", ["/tickets", "/revoke", CONNECTION, "/publish", "/events"])
def test_options_needs_no_credentials(relay, path):
    answer = relay.request("OPTIONS", path)
    assert answer.status_code == 204
    assert ("POST" in answer.headers["Allow"]) == (path != "/events")


@pytest.mark.parametrize("draining", [True, False], ids=["drains", "full"])
def test_a_node_that_takes_nobody_says_so_before_it_asks_who_comes(guarded, parties, sse_connect, draining):
    """Whoever comes without a token to a node that drains or is full gets what all get there."""
    relay = guarded({"drain": "1h", "max_clients": 10 if draining else 1})
    sse_connect(relay, "orders.eu", headers=bearer(parties.T()))
    if draining:
        relay.terminate()
        wait_until(lambda: relay.ready()[0] == 503, "the drain")
    for headers in ({}, bearer("x"), bearer(parties.T(rights={"subscribe": []}))):
        late = sse_connect(relay, "orders.eu", headers=headers, wait=False).wait_closed()
        assert late.status == 200 and late.retry and not late.blocks and late.clean
    if draining:
        relay.terminate()
        relay.wait()


def test_a_full_node_says_503_before_it_asks_who_comes(guarded, parties, sse_connect):
    relay = guarded({"max_clients": 1, "full.rate": 0})
    sse_connect(relay, "orders.eu", headers=bearer(parties.T()))
    for headers in ({}, bearer("x"), bearer(parties.T())):
        answer = opening(relay, EVENTS, headers)
        assert_problem(answer, 503)
        assert "Retry-After" in answer.headers


WRONG = {
    "/events?topic=a..b": "topic",
    "/events?topic=billing&replay=x": "replay",
    "/events?topic=billing&ns=a!b": "ns",
    "/events?topic=billing&heartbeat=1": "heartbeat",
    "/events?topic=billing&errors=x": "errors",
    "/events": "topic",
}


@pytest.mark.parametrize("path", WRONG)
def test_credentials_then_parameters_then_rights(relay, parties, path):
    """401 without a token, 400 with one that would not be enough, whatever it may."""
    assert_nobody(opening(relay, path))
    assert_invalid(opening(relay, path, bearer("x")))
    assert assert_problem(opening(relay, path, bearer(parties.T())), 400).startswith(WRONG[path])


def test_publishing_in_the_same_order(relay, parties):
    for body in ('{"topic":"billing"', '{"topic":"billing","data":"x","colour":"red"}', "{}"):
        post = {"data": body, "headers": {"Content-Type": "application/json"}}
        assert_nobody(relay.post("/publish", **post))
        answer = relay.post("/publish", data=body, headers={"Content-Type": "application/json", **bearer(parties.T())})
        assert_problem(answer, 400)
        assert answer.json()["published"] is False
    json = {"topic": "billing", "data": "x"}
    answer = relay.post("/publish", json=json)
    assert_nobody(answer)
    assert answer.json()["published"] is False
    answer = relay.post("/publish", json=json, headers=bearer(parties.T()))
    assert_forbidden(answer, "billing")
    assert answer.json()["published"] is False
    assert relay.metric("sse_relay_events_published_total") == 0


@pytest.mark.parametrize("path", ["/tickets", "/revoke"])
def test_other_posts_in_the_same_order(relay, parties, path):
    for body in ("{", "[]", '{"colour":1}', '"x"', "null"):
        assert_nobody(relay.post(path, body))
        assert_invalid(relay.post(path, body, headers=bearer("x")))
        assert_problem(relay.post(path, body, headers=bearer(parties.A())), 400)


def test_head_decides_like_get_and_opens_nothing(relay, parties):
    for headers, path in (
        ({}, EVENTS),
        (bearer("x"), EVENTS),
        (bearer(parties.T()), "/events?topic=billing"),
        (bearer(parties.T()), "/events?topic=a..b"),
        (bearer(parties.T()), EVENTS),
    ):
        got, head = (opening(relay, path, headers, method) for method in ("GET", "HEAD"))
        assert head.status_code == got.status_code
        assert head.headers.get("WWW-Authenticate") == got.headers.get("WWW-Authenticate")
        assert not head.content
    wait_until(lambda: relay.stats()["clients"] == 0)


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/"])
def test_what_stays_open(relay, path):
    assert relay.get(path).status_code == 200
    assert relay.get(path, headers=bearer("x")).status_code == 200


@pytest.mark.parametrize("path", ["/events?topic=orders.eu", "/stats"])
def test_what_does_not(relay, path):
    assert_nobody(opening(relay, path))
    assert_invalid(opening(relay, path, bearer("x")))
