# SPDX-License-Identifier: Apache-2.0
"""What was revoked ends on all nodes, and stays out (protocol.md, 14.9). See also the attacks [29] and [34]."""

import time

import pytest

from auth_rig import assert_ended, assert_forbidden, assert_invalid, bearer, opening, revoke, status_at, ticket_of, with_ticket
from raw_http import assert_problem
from relay_process import wait_until
from tcp_proxy import TcpProxy
from tokens import Key

EVENTS = "/events?topic=orders.eu"


@pytest.fixture
def nodes(guarded):
    return [guarded(node=f"node{i}") for i in range(2)]


def by_http(relay, parties, doors, ns, **entry):
    revoke(relay, parties.A() if ns == "t1" else parties.J.token(sub="a", sse={"ns": ns, "admin": True}), **entry)


def by_fcall(relay, parties, doors, ns, **entry):
    args = [text for name, value in entry.items() for text in (name, value)]
    assert doors.redis.fcall("sse_revoke", 1, doors.key(ns), *args) == "OK"


@pytest.fixture(params=[by_http, by_fcall], ids=["http", "fcall"])
def revoking(request, nodes, parties, doors):
    """revoking(jti="…"): by either door, in t1."""
    return lambda ns="t1", **entry: request.param(nodes[0], parties, doors, ns, **entry)


def assert_out(node, token):
    """New requests with it are refused, by all workers; the reason is told, as its signature is right."""

    def refused():
        answers = [opening(node, EVENTS, bearer(token)) for _ in range(8)]
        return answers if all(a.status_code == 401 for a in answers) else None

    for answer in wait_until(refused, "401"):
        assert "revoked" in assert_invalid(answer)


def test_a_token_by_its_id(nodes, parties, sse_connect, revoking):
    gone, kept = parties.T(jti="one"), parties.T(jti="two")
    streams = [sse_connect(node, "orders.eu", headers=bearer(gone)) for node in nodes]
    others = [sse_connect(node, "orders.eu", headers=bearer(kept)) for node in nodes]
    revoking(jti="one")
    for stream in streams:
        assert_ended(stream, "revoked")
    for node in nodes:
        assert_out(node, gone)
        assert status_at(node, EVENTS, bearer(kept)) == 200
    assert not [s for s in others if s.closed]


def test_a_subject_before_a_moment(nodes, parties, sse_connect, revoking):
    """Tokens of that second and earlier, and those that do not say; later ones stay."""
    now = int(time.time())
    tokens = {iat: parties.T(iat=iat) for iat in (now - 100, now - 50, now - 49, now, None)}
    streams = {iat: sse_connect(nodes[n % 2], "orders.eu", headers=bearer(t)) for n, (iat, t) in enumerate(tokens.items())}
    revoking(sub="42", before=now - 50)
    for iat in (now - 100, now - 50, None):
        assert_ended(streams[iat], "revoked")
        for node in nodes:
            assert_out(node, tokens[iat])
    for iat in (now - 49, now):
        assert not streams[iat].closed and all(status_at(node, EVENTS, bearer(tokens[iat])) == 200 for node in nodes)


def test_of_two_moments_the_later_counts(nodes, parties, revoking):
    now = int(time.time())
    revoking(sub="42", before=now - 10)
    revoking(sub="42", before=now - 100)
    for node in nodes:
        assert_out(node, parties.T(iat=now - 20))
        assert status_at(node, EVENTS, bearer(parties.T(iat=now - 5))) == 200


def test_all_that_a_key_has_signed(nodes, parties, sse_connect, revoking):
    """Also what is signed after it; the tokens of another key stay."""
    leaked, fresh = parties.I.key, Key("RS256", "k2", name="k2")
    parties.I.publish_keys(leaked, fresh)
    for node in nodes:
        wait_until(lambda node=node: status_at(node, EVENTS, bearer(parties.T(key=fresh))) == 200, "the new key")
    streams = [sse_connect(node, "orders.eu", headers=bearer(parties.T())) for node in nodes]
    others = [sse_connect(node, "orders.eu", headers=bearer(parties.T(key=fresh))) for node in nodes]
    parties.I.key = fresh  # the admin's token is by the key that stays
    revoking(kid=leaked.kid)
    for stream in streams:
        assert_ended(stream, "revoked")
    for node in nodes:
        assert_out(node, parties.T(key=leaked, iat=int(time.time()) + 5))
        assert status_at(node, EVENTS, bearer(parties.T(key=fresh))) == 200
    assert not [s for s in others if s.closed]


def test_a_key_is_revoked_also_where_tokens_do_not_name_it(nodes, parties, sse_connect, revoking):
    """Without kid in the header the only key that fits is meant: to leave it out is no way around."""
    token = parties.T(headers={"kid": None})
    stream = sse_connect(nodes[1], "orders.eu", headers=bearer(token))
    revoking(kid=parties.I.key.kid)
    assert_ended(stream, "revoked")
    for node in nodes:
        assert_out(node, token)
        assert_out(node, parties.T(headers={"kid": None}))


def test_only_one_namespace_is_concerned(nodes, parties, sse_connect, revoking):
    theirs = sse_connect(nodes[1], "orders.eu", headers=bearer(parties.X(jti="same")))
    mine = sse_connect(nodes[1], "orders.eu", headers=bearer(parties.T(jti="same")))
    admin = parties.A()
    for entry in ({"jti": "same"}, {"sub": "42"}, {"sub": "43"}):
        revoking(ns="t1", **entry)
    assert_ended(mine, "revoked")
    assert_out(nodes[1], parties.U(iat=1))
    assert not theirs.closed and status_at(nodes[0], EVENTS, bearer(parties.X(jti="same"))) == 200
    revoke(nodes[0], admin, kid=parties.J.key.kid)  # which is the name of I's key, too
    assert_out(nodes[1], admin)
    assert not theirs.closed and status_at(nodes[0], EVENTS, bearer(parties.X())) == 200


def test_a_node_that_starts_later_knows(nodes, guarded, parties, revoking):
    token = parties.T(jti="one")
    revoking(jti="one")
    late = guarded(node="late")
    assert status_at(late, EVENTS, bearer(token)) == 401
    assert status_at(late, EVENTS, bearer(parties.T())) == 200


def test_no_event_after_it(nodes, parties, sse_connect, doors, publishing, revoking):
    """What is published once the revocation is acknowledged and has come reaches nobody whom it concerns."""
    streams = [sse_connect(node, "orders.eu", headers=bearer(parties.T())) for node in nodes for _ in range(10)]
    publisher = publishing(lambda n: doors.fcall("orders.eu", n, ns="t1"))
    publisher.wait_for(50)
    revoking(sub="42")
    for stream in streams:
        assert_ended(stream, "revoked")
    publisher.wait_for(publisher.count + 50)
    publisher.stop()
    for stream in streams:
        assert stream.ids == publisher.ids[: len(stream.ids)] and not stream.gaps


def test_tickets_too(nodes, parties, sse_connect, revoking):
    unused = ticket_of(nodes[0], parties.T(jti="one"))
    stream = sse_connect(nodes[1], "orders.eu", **with_ticket(ticket_of(nodes[0], parties.T(jti="one"))))
    revoking(jti="one")
    assert_ended(stream, "revoked")
    for node in nodes:
        assert_out(node, parties.T(jti="one"))
        assert status_at(node, f"{EVENTS}&ticket={unused}") == 401


def test_redis_away_in_between(guarded, redis, parties, sse_connect, doors):
    """Each kind, while a node is cut off: when it is back, its streams end before they get an event of that time."""
    proxy = TcpProxy(redis.port)
    try:
        far = guarded(redis=proxy.url)
        now = int(time.time())
        concerned = [parties.T(jti="one"), parties.U(iat=now - 100), parties.T(key=Key("RS256", "k2", name="k2"), sub="44")]
        parties.I.publish_keys(parties.I.key, Key("RS256", "k2", name="k2"))
        wait_until(lambda: status_at(far, EVENTS, bearer(concerned[2])) == 200, "the new key")
        streams = [sse_connect(far, "orders.eu", headers=bearer(t)) for t in concerned]
        witness = sse_connect(far, "orders.eu", headers=bearer(parties.T(sub="45")))
        proxy.sever()
        wait_until(lambda: far.ready()[0] == 503, "the cut")
        for entry in ({"jti": "one"}, {"sub": "43", "before": now - 50}, {"kid": "k2"}):
            by_fcall(far, parties, doors, "t1", **entry)
        ids = doors.many("orders.eu", ["meanwhile"] * 50, ns="t1")
        proxy.mend()
        assert witness.wait_for(50).ids == ids and not witness.gaps
        for stream in streams:
            assert assert_ended(stream, "revoked").data == []
    finally:
        proxy.close()


def test_what_a_restart_of_redis_forgets(redis, guarded, parties, revoking, sse_connect):
    """It has kept its data: what was revoked stays so."""
    relay = guarded()
    token = parties.T(jti="one")
    revoking(jti="one")
    assert_out(relay, token)
    redis.restart(keep_data=True)
    relay.wait_ready()
    assert status_at(relay, EVENTS, bearer(token)) == 401


# --- who may ---


def test_who_may_revoke(nodes, parties):
    node = nodes[0]
    assert_problem(node.post("/revoke", json={"sub": "42"}), 401)
    assert_forbidden(node.post("/revoke", json={"sub": "42"}, headers=bearer(parties.T())))
    assert_forbidden(node.post("/revoke?ns=t2", json={"sub": "42"}, headers=bearer(parties.A())))
    assert status_at(node, EVENTS, bearer(parties.T())) == 200
    assert status_at(node, EVENTS, bearer(parties.X())) == 200


def test_an_admin_of_all_says_which_namespace(nodes, parties):
    ops, token = bearer(parties.ops), parties.X()
    assert nodes[0].post("/revoke", json={"sub": "42"}, headers=ops).status_code in (400, 403)
    assert nodes[0].post("/revoke?ns=t2", json={"sub": "42"}, headers=ops).json() == {"revoked": True}
    for node in nodes:
        assert_out(node, token)
        assert status_at(node, EVENTS, bearer(parties.T())) == 200


BAD = ["", "{}", "[]", '{"sub":1}', '{"sub":""}', '{"jti":"a","sub":"b"}', '{"jti":"a","before":1}', '{"kid":"a","before":1}', '{"before":1}',
       '{"sub":"a","before":"x"}', '{"sub":"a","before":-1}', '{"sub":"a","more":1}', '{"sub":null}', '{"sub":"a","sub":"b"}',
       '{"sub":"' + "a" * 5000 + '"}']  # fmt: skip


@pytest.mark.parametrize("body", BAD, ids=range(len(BAD)))
def test_what_is_no_revocation(guarded, parties, doors, body):
    relay = guarded()
    assert_problem(relay.post("/revoke", body, headers=bearer(parties.A())), 400)
    assert not doors.redis.exists(doors.key("t1", "revoked"))


def test_to_revoke_twice_does_no_harm(nodes, parties, revoking):
    for _ in range(3):
        revoking(jti="one")
    assert_out(nodes[1], parties.T(jti="one"))


@pytest.mark.slow
def test_full_is_told_and_nothing_is_forgotten(guarded, parties, doors):
    """100,000 of a kind: one more is refused; the others are still there, and other kinds still go."""
    relay = guarded()
    pipe = doors.redis.pipeline(transaction=False)
    for n in range(100_000):
        pipe.fcall("sse_revoke", 1, doors.key("t1"), "jti", f"j{n}")
        if n % 5000 == 4999:
            assert set(pipe.execute()) == {"OK"}
    size = doors.redis.fcall("sse_revoked", 1, doors.key("t1"))
    answer = relay.post("/revoke", json={"jti": "one more"}, headers=bearer(parties.A()))
    assert_problem(answer, 507)
    assert doors.redis.fcall("sse_revoked", 1, doors.key("t1")) == size
    revoke(relay, parties.A(), jti="j5")
    revoke(relay, parties.A(), sub="44")
    for jti in ("j0", "j99999"):
        assert_out(relay, parties.T(jti=jti))
    assert status_at(relay, EVENTS, bearer(parties.T(jti="one more"))) == 200
