# SPDX-License-Identifier: Apache-2.0
"""Own URLs with own rights (protocol.md, 14.10). See also the attacks [20] and [21]."""

import pytest

from auth_rig import assert_forbidden, assert_invalid, assert_nobody, bearer, connection_of, opening, renew, status_at, ticket_of, with_ticket
from raw_http import assert_problem
from relay_process import run_relay

ROUTES = [
    {"path": "/projects/{id}/events", "topics": ["project.{id}"], "require": {"/projects": ["{id}"]}},
    {"path": "/{table}/_events", "topics": ["entity.{table}.*"]},
    {"path": "/api/events", "topics": ["item.*", "revision.*", "server.state"], "require": {"/roles": ["viewer", "editor", "admin"]},
     "grants": True, "heartbeat_event": "heartbeat"},
    {"path": "/board", "topics": ["board.>"], "grants": True, "public": True},
]  # fmt: skip


@pytest.fixture
def relay(parties, guarded):
    parties.file.write(routes=ROUTES, anonymous={"ns": "t1", "subscribe": ["status.*"]})
    return guarded({"heartbeat": "1s"})


def member(parties, *projects, **claims):
    rights = {"ns": "t1", "subscribe": ["project.*", "entity.orders.*"]}
    return bearer(parties.I.token(sub="42", projects=list(projects), sse=rights, **claims))


def topics_of(stream):
    return stream.control("connected")[0]["topics"]


def test_a_capture_fills_topics_and_requirements(relay, parties, sse_connect, doors):
    stream = sse_connect(relay, path="/projects/p1/events", headers=member(parties, "p0", "p1"))
    assert topics_of(stream) == ["project.p1"]
    for topic in ("project.p2", "project.p1", "project.p1.x"):
        doors.fcall(topic, topic, ns="t1")
    doors.fcall("project.p1", "elsewhere", ns="t2")
    doors.fcall("project.p1", "end", ns="t1")
    assert stream.wait_for(2).data == ["project.p1", "end"]


def test_a_requirement_that_is_not_met(relay, parties):
    """His token grants all projects; the route asks for this one."""
    assert_forbidden(opening(relay, "/projects/p2/events", member(parties, "p0", "p1")))
    assert_forbidden(opening(relay, "/projects/p2/events", member(parties)))
    assert_forbidden(opening(relay, "/projects/p2/events", bearer(parties.I.token(sub="42", projects="p2x", sse={"subscribe": [">"]}))))
    assert status_at(relay, "/projects/p2/events", bearer(parties.I.token(sub="42", projects="p2", sse={"subscribe": [">"]}))) == 200


def test_topics_must_lie_within_the_grant(relay, parties, sse_connect):
    assert topics_of(sse_connect(relay, path="/orders/_events", headers=member(parties))) == ["entity.orders.*"]
    assert_forbidden(opening(relay, "/users/_events", member(parties)), "entity.users.*")
    assert_forbidden(opening(relay, "/projects/p1/events", bearer(parties.I.token(projects=["p1"], sse={"subscribe": ["project.p2"]}))), "project.p1")


ROLES = [(["viewer"], 200), ("admin", 200), (["x", "editor"], 200), (["Viewer"], 403), ([], 403), (None, 403), ("viewer editor", 403)]


@pytest.mark.parametrize("roles,status", ROLES)
def test_a_route_that_grants(relay, parties, roles, status):
    token = parties.I.token(sub="42", roles=roles, sse={"ns": "t1", "subscribe": ["nothing"]})
    assert status_at(relay, "/api/events", bearer(token)) == status
    assert status_at(relay, "/events?topic=item.1", bearer(token)) == 403, "only there"


def test_what_it_grants_is_streamed(relay, parties, sse_connect, doors):
    token = parties.I.token(sub="42", roles=["viewer"], sse={"ns": "t1"})
    stream = sse_connect(relay, path="/api/events", headers=bearer(token))
    for topic in ("item.1", "other", "revision.7", "server.state"):
        doors.fcall(topic, topic, ns="t1")
    doors.fcall("item.1", "foreign", ns="t2")
    doors.fcall("item.1", "grouped", ns="t1", match='{"user_id":"42"}')
    doors.fcall("item.2", "end", ns="t1")
    assert stream.wait_for(4).data == ["item.1", "revision.7", "server.state", "end"]


def test_its_heartbeats_have_a_name(relay, parties, sse_connect):
    token = bearer(parties.I.token(sub="42", roles=["viewer"], sse={"ns": "t1"}))
    stream = sse_connect(relay, path="/api/events", headers=token)
    stream.wait_for(lambda c: any(b.type == "heartbeat" for b in c.blocks))
    beat = next(b for b in stream.blocks if b.type == "heartbeat")
    assert beat.id is None
    plain = sse_connect(relay, path="/orders/_events", headers=member(parties))
    seen = len(plain.raw)
    plain.wait_for(lambda c: c.raw[seen:].startswith(b":\n"))


def test_a_public_route_asks_nobody(relay, parties, sse_connect, doors):
    """Nor does it look at what is shown: the grant is that of `anonymous`, and these topics."""
    streams = [sse_connect(relay, path="/board", headers=h) for h in ({}, bearer("x"), bearer(parties.X()))]
    doors.fcall("board.news", "x", ns="t1")
    doors.fcall("board.news", "foreign", ns="t2")
    doors.fcall("board.news", "y", ns="t1")
    for stream in streams:
        assert stream.wait_for(2).data == ["x", "y"]
    assert status_at(relay, "/events?topic=board.news") == 403
    assert status_at(relay, "/events?topic=status.x") == 200


def test_all_parameters_but_topics(relay, parties, sse_connect, doors):
    headers = member(parties)
    ids = doors.many("entity.orders.eu", ["1", "2", "3"], ns="t1")
    stream = sse_connect(relay, path="/orders/_events", headers=headers, params={"replay": 2})
    assert stream.wait_for(2).ids == ids[1:]
    again = sse_connect(relay, path="/orders/_events", headers=headers, last_event_id=ids[1])
    assert again.wait_for(1).ids == ids[2:]
    assert assert_problem(opening(relay, "/orders/_events?topic=x", headers), 400).startswith("topic")
    assert assert_problem(opening(relay, "/orders/_events?replay=x", headers), 400).startswith("replay")
    assert status_at(relay, "/orders/_events?ns=t2", headers) == 403


def test_order_of_decisions_on_a_route(relay, parties):
    assert_problem(opening(relay, "/a.b/_events"), 400)
    assert_problem(relay.post("/projects/p1/events", "x", headers=member(parties)), 405)
    assert opening(relay, "/projects/p1/events", method="OPTIONS").status_code == 204
    token = bearer(parties.I.token(sse={"ns": "t1"}, roles=["x"]))
    assert_forbidden(opening(relay, "/api/events", token))
    assert_invalid(opening(relay, "/api/events", bearer("x")))
    assert opening(relay, "/orders/_events", member(parties), "HEAD").status_code == 200


def test_nobody_on_a_route(parties, guarded):
    parties.file.write(routes=ROUTES[:3])
    assert_nobody(opening(guarded(), "/api/events"))


def test_a_narrowed_ticket_gets_no_more_by_a_route(relay, parties, sse_connect):
    """Its topics are all that it may ask for: not what a path would grant for the roles of its token."""
    token = parties.I.token(sub="42", roles=["viewer"], sse={"subscribe": ["item.1", "entity.orders.*"]})
    assert status_at(relay, f"/api/events?ticket={ticket_of(relay, token)}") == 200
    narrow = lambda: ticket_of(relay, token, topics=["item.1", "entity.orders.*"])  # noqa: E731
    assert_forbidden(opening(relay, f"/api/events?ticket={narrow()}"))
    assert topics_of(sse_connect(relay, path="/orders/_events", **with_ticket(narrow()))) == ["entity.orders.*"]


def test_a_renewal_has_what_the_path_requires(relay, parties, sse_connect):
    """Also where the path grants nothing: without it nobody could open it either."""
    stream = sse_connect(relay, path="/projects/p1/events", headers=member(parties, "p1"))
    without = member(parties, "p2")["Authorization"].split()[1]
    assert_forbidden(renew(relay, connection_of(stream), without), "role")
    assert renew(relay, connection_of(stream), member(parties, "p1", "p2")["Authorization"].split()[1]).status_code == 200
    assert not stream.closed


def test_tickets_on_a_route(relay, parties, sse_connect, doors):
    """The ticket has the roles that its token had."""
    token = parties.I.token(sub="42", roles=["viewer"], projects=["p1"], sse={"ns": "t1", "subscribe": ["project.*"]})
    sse_connect(relay, path="/api/events", **with_ticket(ticket_of(relay, token)))
    stream = sse_connect(relay, path="/projects/p1/events", **with_ticket(ticket_of(relay, token)))
    assert status_at(relay, f"/projects/p2/events?ticket={ticket_of(relay, token)}") == 403
    doors.fcall("project.p1", "x", ns="t1")
    assert stream.wait_for(1).data == ["x"]


def test_events_may_be_switched_off(parties, guarded, sse_connect):
    parties.file.write(routes=ROUTES, events=False, anonymous={"ns": "t1"})
    relay = guarded()
    assert_problem(opening(relay, "/events?topic=orders.eu", bearer(parties.T())), 404)
    assert_problem(opening(relay, "/events?topic=orders.eu"), 404)
    sse_connect(relay, path="/orders/_events", headers=member(parties))


def test_renewal_of_a_stream_that_its_route_grants(relay, parties, sse_connect):
    stream = sse_connect(relay, path="/api/events", headers=bearer(parties.I.token(sub="42", roles=["viewer"], sse={"ns": "t1"})))
    answer = renew(relay, connection_of(stream), parties.I.token(sub="42", roles=["viewer"], sse={"ns": "t1"}))
    assert answer.status_code == 200, answer.text
    assert not stream.closed


WRONG = {
    "the relay's own path": [{"path": "/stats", "topics": ["a"]}],
    "the relay's own path, too": [{"path": "/publish", "topics": ["a"]}],
    "two for one path": [{"path": "/a/{x}", "topics": ["a"]}, {"path": "/a/{y}", "topics": ["b"]}],
    "two that cross": [{"path": "/{x}/b", "topics": ["a"]}, {"path": "/a/{y}", "topics": ["b"]}],
    "a fixed part and a capture": [{"path": "/a/{x}", "topics": ["a"]}, {"path": "/a/b", "topics": ["b"]}],
    "grants without require": [{"path": "/a", "topics": ["a"], "grants": True}],
    "no such capture": [{"path": "/a/{x}", "topics": ["a.{y}"]}],
    "a part of a token": [{"path": "/a/{x}", "topics": ["a-{x}"]}],
    "no topics": [{"path": "/a"}],
    "no valid topic": [{"path": "/a", "topics": ["a..b"]}],
    "no path": [{"topics": ["a"]}],
    "a path without a slash": [{"path": "a", "topics": ["a"]}],
    "an unknown member": [{"path": "/a", "topics": ["a"], "topic": "a"}],
}


@pytest.mark.parametrize("kind", WRONG)
def test_routes_that_do_not_start(parties, redis, kind):
    parties.file.write(routes=WRONG[kind])
    for more in ([], ["--check-config"]):
        ended = run_relay("--auth.file", parties.file.path, "--redis", redis.url, "--listen", "127.0.0.1:0", *more)
        assert ended.returncode != 0
        assert str(parties.file.path) in ended.stderr + ended.stdout and "routes[" in ended.stderr + ended.stdout
