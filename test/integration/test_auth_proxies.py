# SPDX-License-Identifier: Apache-2.0
"""Tokens and tickets through HAProxy and nginx with the configurations of deploy/, while nodes come and go."""

import pytest
import requests

from auth_rig import (
    assert_ended,
    bearer,
    connection_of,
    revoke,
    ticket_of,
    with_ticket,
)
from relay_process import wait_until
from sse_client import TIMEOUT_S


@pytest.fixture(params=["haproxy", "nginx"])
def front(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def nodes(guarded):
    return [guarded({"retry": "100ms", "auth.leeway": 0}, node=f"node{i}") for i in range(2)]


class Reader:
    """What an EventSource does: the same URL again and again, with the latest id, until all has come."""

    def __init__(self, connect, base, ticket, *topics):
        self._connect = lambda **kw: connect(base, *topics, wait=False, **with_ticket(ticket), **kw)
        self.stream = self._connect().wait_connected()
        self.nodes = [self.node]
        self._before = []

    @property
    def node(self):
        return self.stream.control("connected")[0]["node"]

    @property
    def ids(self):
        return self._before + self.stream.ids

    def follow(self):
        """Once more, if its stream has ended; an answer without relay.connected is none yet."""
        if not self.stream.closed:
            return
        assert not self.stream.gaps
        cursor = self.stream.last_event_id or self._cursor
        self._before += self.stream.ids
        self._cursor = cursor
        self.stream = self._connect(last_event_id=cursor).wait_head()
        assert self.stream.status in (200, 502, 503), self.stream.describe()
        self.stream.wait_for(lambda c: c.control("connected") or c.closed)
        if self.stream.control("connected"):
            self.nodes.append(self.node)

    def until(self, test):
        def reached():
            self.follow()
            return test()

        wait_until(reached, "what the reader waits for")


def test_a_ticket_from_node_to_node(nodes, front, parties, sse_connect, doors, publishing):
    """Issued on A, spent on B or A; its node killed under it; on to the other, with nothing lost or twice."""
    base = front(*nodes)
    ticket = ticket_of(nodes[0], parties.T())
    reader = Reader(sse_connect, base, ticket, "orders.eu")
    publisher = publishing(lambda n: doors.fcall("orders.eu", n, ns="t1"), total=400, pause=0.005)
    publisher.wait_for(100)
    first = reader.node
    nodes[int(first[-1])].kill()
    publisher.finish()
    reader.until(lambda: len(reader.ids) >= 400)
    assert reader.ids == publisher.ids
    assert reader.nodes[-1] != first and not reader.stream.closed


def test_a_ticket_through_a_drain(nodes, front, parties, sse_connect, doors, publishing):
    base = front(*nodes)
    reader = Reader(sse_connect, base, ticket_of(nodes[1], parties.T()), "orders.eu")
    publisher = publishing(lambda n: doors.fcall("orders.eu", n, ns="t1"), total=400, pause=0.005)
    publisher.wait_for(100)
    first = reader.node
    nodes[int(first[-1])].terminate()
    publisher.finish()
    reader.until(lambda: len(reader.ids) >= 400)
    assert reader.ids == publisher.ids and reader.nodes[-1] != first
    assert nodes[int(first[-1])].wait() == 0


def test_answers_pass_as_they_are(nodes, front, parties, sse_connect):
    """401 and 403 are no fault of a node: no proxy asks the next one, nor hides the body."""
    base = front(*nodes)
    for headers, status in (({}, 401), (bearer("x"), 401), (bearer(parties.T()), 403)):
        answer = requests.get(base + "/events?topic=billing", headers=headers, timeout=TIMEOUT_S)
        assert answer.status_code == status and answer.json()["status"] == status
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert answer.headers["Content-Type"].startswith("application/problem+json")
    refused = sse_connect(base, "billing", headers=bearer(parties.T()), params={"errors": "event"}, wait=False).wait_closed()
    assert refused.status == 200 and [b.type for b in refused.blocks] == ["relay.error"]


def test_renewal_and_revocation_through_it(nodes, front, parties, sse_connect, doors):
    """Whichever node the proxy asks."""
    base = front(*nodes)
    streams = [sse_connect(base, "orders.eu", headers=bearer(parties.T(jti=f"j{n}", life=600))) for n in range(4)]
    for stream in streams:
        for _ in range(2):
            path = f"/connections/{connection_of(stream)}/token"
            answer = requests.post(base + path, headers=bearer(parties.T(jti="new")), timeout=TIMEOUT_S)
            assert answer.status_code == 200 and answer.json()["renewed"] is True
    id = doors.fcall("orders.eu", "x", ns="t1")
    for stream in streams:
        assert stream.wait_for(1).ids == [id]
    revoke(nodes[0], parties.A(), jti="new")
    for stream in streams:
        assert_ended(stream, "revoked")


def test_no_ticket_in_an_access_log(nodes, front, parties, sse_connect, tmp_path):
    base = front(*nodes)
    ticket, token = ticket_of(nodes[0], parties.T()), parties.T()
    sse_connect(base, "orders.eu", **with_ticket(ticket)).close()
    requests.get(f"{base}/events?topic=orders.eu&access_token={token}", timeout=TIMEOUT_S)
    for path in tmp_path.iterdir():
        if path.is_file():
            text = path.read_text(errors="replace")
            assert ticket not in text and token not in text, path


def test_a_storm_of_expired_tokens_comes_back_with_new_ones(nodes, front, parties, sse_connect, doors):
    """Streams of one token end together; each comes again with a new one and its cursor, and misses nothing."""
    base = front(*nodes)
    brief = parties.T(life=8)
    streams = [sse_connect(base, "orders.eu", headers=bearer(brief)) for _ in range(10)]
    before = [doors.fcall("orders.eu", str(n), ns="t1") for n in range(3)]
    for stream in streams:
        assert_ended(stream, "token-expired")
    missed = [doors.fcall("orders.eu", str(n), ns="t1") for n in range(3, 6)]
    for stream in streams:
        assert stream.ids == before
        again = sse_connect(base, "orders.eu", headers=bearer(parties.T()), last_event_id=stream.last_event_id)
        assert again.wait_for(3).ids == missed and not again.gaps
