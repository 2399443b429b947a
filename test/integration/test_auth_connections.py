# SPDX-License-Identifier: Apache-2.0
"""Who may pause a stream and change its topics (protocol.md, 4.8): whoever could open it, and nobody else."""

import pytest

from auth_rig import assert_forbidden, assert_invalid, assert_nobody, bearer, connection_of, renew, revoke
from auth_rig import ticket_of, with_ticket
from relay_process import wait_until


@pytest.fixture(params=["same", "other"])
def pair(guarded, request):
    """The node that has the stream, and the one that is asked."""
    nodes = [guarded(node=f"node{i}") for i in range(2)]
    return nodes[0], nodes[0 if request.param == "same" else 1]


def ask(relay, stream, action, **kw):
    return relay.post(f"/connections/{connection_of(stream)}/{action}", **kw)


def change(relay, stream, topics, **kw):
    body = {"subscribe": topics}
    return relay.request("PATCH", f"/connections/{connection_of(stream)}", json=body, **kw)


def test_the_same_subject_may(pair, parties, sse_connect, doors):
    node, asked = pair
    stream = sse_connect(node, "orders.eu", headers=bearer(parties.T()))
    other_token = bearer(parties.T(life=100))
    assert ask(asked, stream, "pause", headers=other_token).json() == {"paused": True}
    assert ask(asked, stream, "resume", headers=other_token).json() == {"paused": False}
    assert change(asked, stream, ["orders.us", "user.42"], headers=other_token).status_code == 200
    ids = [doors.fcall(topic, "x", ns="t1") for topic in ("orders.us", "user.42")]
    assert stream.wait_for(2).ids == ids


@pytest.mark.parametrize("who", ["U", "A", "X", "ops"])
def test_another_subject_may_not(pair, parties, sse_connect, doors, who):
    node, asked = pair
    stream = sse_connect(node, "orders.eu", headers=bearer(parties.T()))
    token = bearer(parties.ops if who == "ops" else getattr(parties, who)())
    for action in ("pause", "resume"):
        assert_forbidden(ask(asked, stream, action, headers=token))
    assert_forbidden(change(asked, stream, ["orders.us"], headers=token))
    doors.fcall("orders.us", "unwanted", ns="t1")
    id = doors.fcall("orders.eu", "x", ns="t1")
    assert stream.wait_for(1).ids == [id] and not stream.control("paused")


def test_who_was_spoken_to_is_renewed(pair, parties, sse_connect, doors):
    """The topic of its connection is no matter of the new grant, neither before nor after."""
    node, asked = pair
    stream = sse_connect(node, "orders.eu", headers=bearer(parties.T()))
    ids = [doors.fcall(f"connection.{connection_of(stream)}", "one", ns="t1")]
    stream.wait_for(1)
    answer = renew(asked, connection_of(stream), parties.T(rights={"subscribe": ["orders.eu"]}, life=100))
    assert answer.status_code == 200, answer.text
    ids.append(doors.fcall(f"connection.{connection_of(stream)}", "two", ns="t1"))
    assert stream.wait_for(2).ids == ids
    assert_forbidden(renew(asked, connection_of(stream), parties.T(rights={"subscribe": ["user.42"]})), "orders.eu")


def test_nobody_may_not(pair, parties, sse_connect):
    node, asked = pair
    stream = sse_connect(node, "orders.eu", headers=bearer(parties.T()))
    assert_nobody(ask(asked, stream, "pause"))
    assert_nobody(change(asked, stream, ["orders.us"]))
    assert_invalid(ask(asked, stream, "pause", headers=bearer("no.token.atall")))


def test_a_token_that_was_revoked_may_not(pair, parties, sse_connect):
    node, asked = pair
    stream = sse_connect(node, "orders.eu", headers=bearer(parties.T(jti="one")))
    revoke(asked, parties.A(), jti="two")
    wait_until(lambda: ask(asked, stream, "pause", headers=bearer(parties.T(jti="two"))).status_code == 401, "401")


@pytest.mark.parametrize("topics", [["orders.us", "user.43"], ["orders.>"], ["*"]])
def test_what_is_not_granted_changes_nothing(pair, parties, sse_connect, doors, topics):
    node, asked = pair
    stream = sse_connect(node, "orders.eu", headers=bearer(parties.T()))
    assert_forbidden(change(asked, stream, topics, headers=bearer(parties.T(rights={"subscribe": [">"]}))), topics[-1])
    doors.fcall("orders.us", "unwanted", ns="t1")
    id = doors.fcall("orders.eu", "x", ns="t1")
    assert stream.wait_for(1).ids == [id]


def test_the_ticket_that_opened_it_is_enough(pair, parties, sse_connect, doors):
    node, asked = pair
    ticket = ticket_of(asked, parties.T())
    stream = sse_connect(node, "orders.eu", **with_ticket(ticket))
    assert ask(asked, stream, f"pause?ticket={ticket}").json() == {"paused": True}
    assert ask(asked, stream, f"resume?ticket={ticket}").json() == {"paused": False}
    path = f"/connections/{connection_of(stream)}?ticket={ticket}"
    assert asked.request("PATCH", path, json={"subscribe": ["orders.us"]}).status_code == 200
    id = doors.fcall("orders.us", "x", ns="t1")
    assert stream.wait_for(1).ids == [id]
    assert not stream.closed


def test_another_ticket_is_not(pair, parties, sse_connect):
    """Not even one of the same subject: it is worth a stream, and nothing else."""
    node, asked = pair
    stream = sse_connect(node, "orders.eu", **with_ticket(ticket_of(asked, parties.T())))
    other = ticket_of(asked, parties.T())
    assert_forbidden(ask(asked, stream, f"pause?ticket={other}"))
    later = sse_connect(node, "orders.eu", **with_ticket(other))
    later.wait_connected()
    assert not stream.control("paused")


def test_what_a_route_grants_is_there_already(guarded, parties, sse_connect):
    route = {"path": "/projects/{id}", "topics": ["project.{id}"], "require": {"/sub": "42"}, "grants": True}
    parties.file.write(routes=[route])
    node, token = guarded(), bearer(parties.T())
    stream = sse_connect(node, path="/projects/7", headers=token)
    assert change(node, stream, ["project.7", "orders.us"], headers=token).json()["topics"] == ["project.7", "orders.us"]
    assert_forbidden(change(node, stream, ["project.7", "project.8"], headers=token), "project.8")


def test_with_groups_a_new_topic_brings_what_is_for_the_stream(pair, parties, sse_connect, doors):
    node, asked = pair
    stream = sse_connect(node, "orders.eu", headers=bearer(parties.T()))
    assert change(asked, stream, ["orders.us"], headers=bearer(parties.T())).status_code == 200
    doors.fcall("orders.us", "for 43", ns="t1", match='{"user_id":"43"}')
    id = doors.fcall("orders.us", "for 42", ns="t1", match='{"user_id":"42"}')
    assert stream.wait_for(1).ids == [id]


def test_of_an_anonymous_stream_the_id_is_enough(parties, guarded, sse_connect, doors):
    parties.file.write(anonymous={"ns": "t1", "subscribe": ["status.*"]})
    nodes = [guarded(node=f"node{i}") for i in range(2)]
    stream, other = sse_connect(nodes[0], "status.a"), sse_connect(nodes[0], "orders.eu", headers=bearer(parties.T()))
    assert ask(nodes[1], stream, "pause").json() == {"paused": True}
    assert change(nodes[1], stream, ["status.b"]).status_code == 200
    assert_forbidden(change(nodes[1], stream, ["orders.eu"]), "orders.eu")
    assert_forbidden(ask(nodes[1], stream, "pause", headers=bearer(parties.T())))
    assert_forbidden(ask(nodes[1], other, "pause"))
    id = doors.fcall("status.b", "x", ns="t1")
    assert stream.wait_for(1).ids == [id]
