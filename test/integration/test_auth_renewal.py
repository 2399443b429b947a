# SPDX-License-Identifier: Apache-2.0
"""A new token for an open stream, on its own node and through another one (protocol.md, 14.8)."""

import time

import pytest

from auth_rig import assert_ended, assert_forbidden, bearer, connection_of, cookie, renew, revoke, ticket_of, with_ticket
from raw_http import assert_problem
from relay_process import wait_until
from tcp_proxy import TcpProxy

PAGE = "https://app.example"


@pytest.fixture
def nodes(guarded):
    return [guarded({"auth.leeway": 0, "auth.notice": "1s"}, node=f"node{i}") for i in range(2)]


@pytest.fixture(params=["same", "other"])
def pair(nodes, request):
    """The node that has the stream, and the one that is asked."""
    return nodes[0], nodes[0 if request.param == "same" else 1]


def renewed(answer):
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body.keys() == {"renewed", "expires_in"} and body["renewed"] is True
    return body["expires_in"]


def test_a_stream_outlives_its_first_token(pair, parties, sse_connect, publishing, doors):
    """Nothing is lost and nothing comes twice, and the second token's end is the stream's."""
    node, asked = pair
    stream = sse_connect(node, "orders.eu", headers=bearer(parties.T(life=4)))
    publisher = publishing(lambda n: doors.fcall("orders.eu", n, ns="t1"), pause=0.005)
    stream.wait_for(lambda c: c.control("expiring"))
    end = int(time.time()) + 4
    assert 2 <= renewed(renew(asked, connection_of(stream), parties.T(exp=end))) <= 4
    assert_ended(stream, "token-expired")
    assert time.time() >= end
    publisher.stop()
    assert stream.ids == publisher.ids[: len(stream.ids)] and not stream.gaps
    assert len(stream.control("expiring")) == 2, "the notice of the second end, too"


def test_renewed_again_and_again(pair, parties, sse_connect, publishing, doors):
    node, asked = pair
    stream = sse_connect(node, "orders.eu", headers=bearer(parties.T()))
    publisher = publishing(lambda n: doors.fcall("orders.eu", n, ns="t1"))
    for n in range(100):
        renewed(renew(asked, connection_of(stream), parties.T(life=100 + n)))
    total = publisher.stop()
    assert stream.wait_for(total).ids == publisher.ids and not stream.gaps and not stream.closed


@pytest.mark.parametrize("how", ["bearer", "body", "cookie", "query"])
def test_ways_to_bring_the_token(guarded, parties, sse_connect, how):
    relay = guarded({"auth.cookie": "__Host-sse", "auth.query": "on", "cors.origins": PAGE})
    stream = sse_connect(relay, "orders.eu", headers=bearer(parties.T()))
    path, token = f"/connections/{connection_of(stream)}/token", parties.T(life=1000)
    answer = {
        "bearer": lambda: relay.post(path, headers=bearer(token)),
        "body": lambda: relay.post(path, json={"token": token}),
        "cookie": lambda: relay.post(path, headers=cookie(token, PAGE)),
        "query": lambda: relay.post(f"{path}?access_token={token}"),
    }[how]()
    assert 990 <= renewed(answer) <= 1000


def test_a_token_without_an_end(guarded, parties, sse_connect):
    parties.file.write(issuers=[parties.I.entry(exp="optional")])
    relay = guarded({"auth.leeway": 0})
    stream = sse_connect(relay, "orders.eu", headers=bearer(parties.T(life=3)))
    brief = sse_connect(relay, "orders.eu", headers=bearer(parties.T(life=3)))
    assert renewed(renew(relay, connection_of(stream), parties.T(exp=None))) is None
    assert_ended(brief, "token-expired")
    assert not stream.closed


def test_rights_change_with_the_token(pair, parties, sse_connect, doors):
    """Another match from the next event on; what is asked for stays."""
    node, asked = pair
    stream = sse_connect(node, "orders.eu", headers=bearer(parties.T()))
    doors.fcall("orders.eu", "a for 42", ns="t1", match='{"user_id":"42"}')
    doors.fcall("orders.eu", "b for 9", ns="t1", match='{"user_id":"9"}')
    stream.wait_for(1)
    renewed(renew(asked, connection_of(stream), parties.T(rights={"match": {"user_id": "9"}})))
    doors.fcall("orders.eu", "c for 42", ns="t1", match='{"user_id":"42"}')
    doors.fcall("orders.eu", "d for 9", ns="t1", match='{"user_id":"9"}')
    doors.fcall("orders.eu", "for all", ns="t1")
    assert stream.wait_for(lambda c: "for all" in c.data).data == ["a for 42", "d for 9", "for all"]


def test_topics_no_longer_covered(pair, parties, sse_connect, doors):
    node, asked = pair
    stream = sse_connect(node, "orders.eu", "user.42", headers=bearer(parties.T(life=600)))
    assert_forbidden(renew(asked, connection_of(stream), parties.T(rights={"subscribe": ["orders.eu"]})), "user.42")
    for topic in ("orders.eu", "user.42"):
        doors.fcall(topic, topic, ns="t1")
    assert stream.wait_for(2).data == ["orders.eu", "user.42"], "the old grant stays"
    wider = parties.T(rights={"subscribe": [">"]})
    renewed(renew(asked, connection_of(stream), wider))


def test_a_stream_that_a_ticket_opened(pair, parties, sse_connect):
    node, asked = pair
    ticket = ticket_of(asked, parties.T(life=3))
    stream = sse_connect(node, "orders.eu", **with_ticket(ticket))
    brief = sse_connect(node, "orders.eu", headers=bearer(parties.T(life=3)))
    assert renew(asked, connection_of(stream), parties.U()).status_code == 403
    renewed(renew(asked, connection_of(stream), parties.T()))
    assert_ended(brief, "token-expired")
    assert not stream.closed


def test_a_stream_that_is_gone(nodes, parties, sse_connect):
    stream = sse_connect(nodes[0], "orders.eu", headers=bearer(parties.T()))
    id = connection_of(stream)
    stream.close()
    wait_until(lambda: nodes[0].stats()["clients"] == 0)
    for node in nodes:
        assert_problem(renew(node, id, parties.T()), 404)


def test_a_node_that_is_gone(nodes, parties, sse_connect):
    """Nobody hears its channel any more."""
    stream = sse_connect(nodes[0], "orders.eu", headers=bearer(parties.T()))
    nodes[0].kill()
    wait_until(lambda: renew(nodes[1], connection_of(stream), parties.T()).status_code == 404, "404")


def test_a_node_that_does_not_answer(guarded, redis, parties, sse_connect):
    """It is cut off, and Redis has not noticed: 504, nobody knows; and its stream is unharmed."""
    proxy = TcpProxy(redis.port)
    try:
        mute, node = guarded(redis=proxy.url), guarded()
        stream = sse_connect(mute, "orders.eu", headers=bearer(parties.T()))
        proxy.freeze("subscriber")
        assert_problem(renew(node, connection_of(stream), parties.T()), 504)
        proxy.thaw("subscriber")
        wait_until(lambda: renew(node, connection_of(stream), parties.T()).status_code == 200, "an answer")
        assert not stream.closed
    finally:
        proxy.close()


def test_a_token_that_is_revoked(pair, parties, sse_connect):
    node, asked = pair
    stream = sse_connect(node, "orders.eu", headers=bearer(parties.T()))
    gone = parties.T(jti="gone")
    revoke(asked, parties.A(), jti="gone")
    for relay in pair:  # before a node knows, it would be a renewal
        wait_until(lambda: relay.post("/tickets", headers=bearer(gone)).status_code == 401)
    assert renew(asked, connection_of(stream), gone).status_code == 401
    assert not stream.closed


def test_the_new_token_is_the_one_that_is_revoked(pair, parties, sse_connect):
    """Of a stream that was renewed its new token counts."""
    node, asked = pair
    stream = sse_connect(node, "orders.eu", headers=bearer(parties.T(jti="first")))
    renewed(renew(asked, connection_of(stream), parties.T(jti="second")))
    revoke(asked, parties.A(), jti="first")
    watched = sse_connect(node, "orders.eu", headers=bearer(parties.T(jti="third")))
    revoke(asked, parties.A(), jti="third")
    assert_ended(watched, "revoked")
    assert not stream.closed
    revoke(asked, parties.A(), jti="second")
    assert_ended(stream, "revoked")


@pytest.mark.parametrize("body", ["", "{", "[]", "{}", '{"token":1}', '{"token":""}', '{"token":"x","more":1}', '{"token":"a","token":"b"}'])
def test_bodies_that_bring_no_token(guarded, parties, sse_connect, body):
    relay = guarded()
    stream = sse_connect(relay, "orders.eu", headers=bearer(parties.T()))
    answer = relay.post(f"/connections/{connection_of(stream)}/token", body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 401), answer.text
    assert not stream.closed


def test_while_the_log_is_still_being_read(guarded, parties, sse_connect, doors):
    """A renewal between two pages of a replay: nothing is lost, and the new rights count at the latest behind it."""
    relay = guarded({"queue.max_events": 64}, env={"SSE_RELAY_QUEUE_MAX_EVENTS": None})
    ids = doors.many("orders.eu", [str(n) for n in range(900)], ns="t1")
    stream = sse_connect(relay, "orders.eu", headers=bearer(parties.T()), params={"replay": "all"}, reading=False, wait=False)
    while not stream.control("connected"):
        stream.read_some(400)
    renewed(renew(relay, connection_of(stream), parties.T(rights={"match": {"user_id": "9"}})))
    stream.start_reading()
    last = doors.fcall("orders.eu", "for 9", ns="t1", match='{"user_id":"9"}')
    assert stream.wait_for(901).ids == [*ids, last] and not stream.gaps
