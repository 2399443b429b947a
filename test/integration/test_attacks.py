# SPDX-License-Identifier: Apache-2.0
"""Attacks on tokens, tenants and rights, each under its number: what is asked, and what must come back.

The others: [1] test_tokens, [20] to [27] test_attacks_http, [28] to [35] test_attacks_time, [26] also test_hosts.
"""

import json
import selectors
import socket
from urllib.parse import quote

import pytest

from auth_rig import (
    COOKIE,
    assert_forbidden,
    assert_invalid,
    assert_nothing,
    attack,
    bearer,
    opening,
    raw_status,
    status_at,
)
from raw_http import assert_problem, status_of
from tokens import Issuer, Key, base64url, forge, openssl, unsigned

EVENTS = "/events?topic=orders.eu"
GET = "GET /events?topic=orders.eu HTTP/1.1"


@pytest.fixture
def relay(guarded):
    return guarded()


def nothing_of(doors, ns):
    """Nothing was published there, and nobody listens."""
    channels = [c for c in doors.redis.pubsub_channels("*") if f"{{{ns}}}:ch:" in c]
    return list(doors.redis.scan_iter(doors.key(ns, "log", "*"))) == channels == []


# --- tokens ---


def rsa_public_key_as_secret(issuer, claims):
    pem = issuer.key.public
    der = openssl("pkey", "-pubin", "-outform", "DER", stdin=pem)
    modulus = issuer.key.jwk()["n"]
    jwks = issuer.path.read_bytes()
    header = {"alg": "HS256", "kid": issuer.key.kid, "typ": "JWT"}
    return [forge(header, claims, secret) for secret in (pem, pem.strip(), der, modulus.encode(), jwks, b"")]


def alg_none(issuer, claims):
    kid = issuer.key.kid
    heads = [{"alg": text, "kid": kid} for text in ("none", "None", "nOnE", "NONE", "", " none", 0, None, [], "HS0")]
    heads += [{"kid": kid}, {}]
    good = issuer.key.sign(claims).rpartition(".")[2]
    return [unsigned(head, claims) + "." + signature for head in heads for signature in ("", good)]


def alg_twice(issuer, claims):
    signature = issuer.key.sign(claims).rpartition(".")[2]
    heads = ['{"alg":"none","alg":"RS256"}', '{"alg":"RS256","alg":"none"}', '{"alg":"RS256","alg":"RS256"}']
    return [unsigned(head, claims) + "." + end for head in heads for end in ("", signature)]


@pytest.mark.parametrize("make", [rsa_public_key_as_secret, alg_none, alg_twice])
@pytest.mark.parametrize("algs", [["RS256"], ["RS256", "HS256"]], ids=["rs", "rs-hs"])
@attack(2)
def test_forged_algorithms(parties, guarded, algs, make):
    """Whatever the operator allows: a key serves its own family only, and a token names one algorithm."""
    parties.I.algs = algs
    parties.file.write(issuers=[parties.I.entry()])
    relay = guarded()
    claims = parties.I.claims(sub="42", sse={"ns": "t1", "subscribe": ["orders.*"]})
    assert status_at(relay, EVENTS, bearer(parties.I.key.sign(claims))) == 200
    for token in make(parties.I, claims):
        assert_invalid(opening(relay, EVENTS, bearer(token)))


@attack(3)
def test_keys_are_not_pooled(parties, guarded):
    """Signed well by J, called I, with a kid that both have."""
    assert parties.I.key.kid == parties.J.key.kid
    relay = guarded()
    for kid in (parties.I.key.kid, None):
        token = parties.I.token(key=parties.J.key, headers={"kid": kid}, sub="42", sse={"ns": "t1", "subscribe": [">"]})
        assert_invalid(opening(relay, EVENTS, bearer(token)))
    assert status_at(relay, EVENTS, bearer(parties.T())) == 200


@attack(4)
def test_a_namespace_that_the_issuer_may_not_speak_for(parties, guarded, doors):
    both = Issuer(parties.dir, "https://both.example", namespaces=["t1", "t3"])
    parties.file.write(issuers=[parties.I.entry(), parties.J.entry(), both.entry()])
    relay = guarded()
    rights = {"subscribe": [">"], "publish": [">"]}
    foreign = parties.I.token(sub="42", sse={"ns": "t2", **rights})
    unnamed = both.token(sub="42", sse=rights)
    default = both.token(sub="42", sse={"ns": "default", **rights})
    for token in (foreign, unnamed, default):
        assert_forbidden(opening(relay, EVENTS, bearer(token)))
        assert_forbidden(relay.post("/publish?topic=orders.eu", "x", headers=bearer(token)))
        for ns in ("default", "t1", "t2", "t3"):
            assert status_at(relay, f"{EVENTS}&ns={ns}", bearer(token)) == 403
    for ns in ("t2", "t3", "default"):
        assert nothing_of(doors, ns)
    assert status_at(relay, EVENTS, bearer(parties.I.token(sub="42", sse=rights))) == 200, "the issuer's only namespace"


@pytest.fixture
def listener():
    """A port that nobody must come to."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        s.setblocking(False)
        yield s


@attack(5)
def test_a_key_that_the_token_names_is_never_fetched(parties, relay, listener):
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/jwks.json"
    stranger = Key("RS256", parties.I.key.kid, name="stranger")
    certificate = base64url(openssl("pkey", "-pubin", "-outform", "DER", stdin=stranger.public))
    for named in ({"jku": url}, {"x5u": url}, {"jwk": stranger.jwk()}, {"x5c": [certificate]}, {"jku": url, "x5u": url}):
        for key in (stranger, parties.I.key):
            token = parties.I.token(key=key, headers=named, sub="42", sse={"ns": "t1", "subscribe": ["orders.*"]})
            assert_invalid(opening(relay, EVENTS, bearer(token)))
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    relay.get("/health")
    assert selector.select(0) == [], "somebody has come"


@attack(9)
def test_headers_that_are_too_large_or_no_credentials(parties, relay):
    token = parties.T()
    assert status_of(raw_status(relay, [GET, "Host: x", "Authorization: Bearer " + "a" * 9000])) == 431
    assert status_of(raw_status(relay, [GET, "Host: x", f"Authorization: Bearer {token}", "X: " + "a" * 2_000_000])) in (431, None)
    many = [f"X-{n}: y" for n in range(64)]
    assert status_at(relay, EVENTS, {**bearer(token), **dict(h.split(": ") for h in many)}) == 200
    for value in ("Bearer", "Bearer ", f"Bearer {token} b", f"Bearer {token},{token}", f"Basic {token}", "Basic dTpw", token, ""):
        answer = opening(relay, EVENTS, {"Authorization": value})
        assert_problem(answer, 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer"), value
    assert relay.running and relay.get("/health").status_code == 200


@attack(9)
def test_a_token_above_8_kb_is_none_where_headers_may_be_larger(parties, guarded):
    relay = guarded({"max_header_bytes": "32KB"})
    assert_invalid(opening(relay, EVENTS, bearer(parties.T(padding="x" * 9000))))
    assert status_at(relay, EVENTS, bearer(parties.T(padding="x" * 4000))) == 200


@attack(10)
def test_credentials_that_contradict_each_other(parties, guarded):
    relay = guarded({"auth.cookie": COOKIE, "auth.query": "on"})
    token = parties.T()
    good = {"Cookie": f"{COOKIE}={token}"}
    assert status_at(relay, EVENTS, good) == 200
    for bad in ("Bearer x", "Bearer", "Basic dTpw"):
        assert status_at(relay, EVENTS, {**good, "Authorization": bad}) == 401
    assert_invalid(opening(relay, f"{EVENTS}&access_token={token}", {"Cookie": f"{COOKIE}=x"}))
    twice = [
        [f"Authorization: Bearer {token}", f"Authorization: Bearer {token}"],
        [f"Authorization: Bearer {token}", "Authorization: Basic dTpw"],
        [f"Authorization: Bearer {token}", "authorization: Bearer x"],
        [f"Cookie: {COOKIE}={token}; {COOKIE}={token}"],
        [f"Cookie: {COOKIE}={token}; a=b; {COOKIE}=x"],
        [f"Cookie: {COOKIE}={token}", f"Cookie: {COOKIE}={token}"],
        ["Authorization: Bearer", f" {token}"],
        [f"Authorization: Bearer {token}", "\tx"],
    ]
    for lines in twice:
        assert status_of(raw_status(relay, [GET, "Host: x", *lines])) == 400, lines
    assert status_of(raw_status(relay, [f"GET {EVENTS}&access_token={token}&access_token={token} HTTP/1.1", "Host: x"])) == 400


# --- tenants and rights ---


@attack(11)
def test_a_namespace_of_others_in_the_query(parties, relay, doors):
    token = parties.T()
    assert_forbidden(opening(relay, f"{EVENTS}&ns=t2", bearer(token)))
    assert_forbidden(relay.post("/publish?topic=orders.eu&ns=t2", "x", headers=bearer(token)))
    assert_forbidden(relay.post("/publish?ns=t2", json={"topic": "orders.eu", "data": "x"}, headers=bearer(token)))
    assert_forbidden(opening(relay, f"{EVENTS}&ns=default", bearer(token)))
    assert nothing_of(doors, "t2") and nothing_of(doors, "default")
    assert status_at(relay, f"{EVENTS}&ns=t1", bearer(token)) == 200


OUTSIDE = ["orders.>", ">", "*.*", "*.eu", "orders", "orders.eu.x", "user.43", "user.*", "user.>", "user.42.x", "Orders.eu"]


@pytest.mark.parametrize("topic", OUTSIDE)
@attack(12)
def test_a_topic_outside_the_grant(parties, relay, topic):
    for query in (f"topic={topic}", f"topic=orders.eu&topic={topic}", f"topic={topic}&topic=orders.eu"):
        assert_forbidden(opening(relay, f"/events?{query}", bearer(parties.T())), topic)
    assert relay.stats()["topics"] == [] and relay.stats()["clients"] == 0


@attack(12)
def test_what_lies_within_the_grant(parties, relay):
    for topic in ("orders.*", "orders.eu", "orders.%2A", "user.42"):
        assert status_at(relay, f"/events?topic={topic}", bearer(parties.T())) == 200


@attack(13)
def test_answers_tell_nothing_of_others(parties, relay, sse_connect, doors):
    others = sse_connect(relay, "orders.hidden2", headers=bearer(parties.X()))
    same = sse_connect(relay, "user.43", "orders.hidden1", headers=bearer(parties.U()))
    doors.fcall("orders.hidden2", "told2", ns="t2")
    doors.fcall("orders.hidden1", "told1", ns="t1")
    others.wait_for(1)
    same.wait_for(1)
    token = parties.T()
    answers = [
        opening(relay, "/events?topic=user.43", bearer(token)),
        opening(relay, f"{EVENTS}&ns=t2", bearer(token)),
        relay.post("/publish?topic=billing.x", "x", headers=bearer(token)),
        relay.get("/stats", headers=bearer(token)),
        relay.get("/stats?ns=t2", headers=bearer(token)),
        relay.get("/metrics", headers=bearer(token)),
        relay.get("/metrics"),
        relay.get("/ready"),
    ]
    assert [a.status_code for a in answers] == [403, 403, 403, 403, 403, 200, 200, 200]
    for answer in answers:
        seen = answer.text + str(answer.headers)
        assert not [w for w in ("hidden", "told1", "told2", "i.example", "j.example", "admin.t") if w in seen]
    for answer in answers[5:]:
        assert "t2" not in answer.text and "user." not in answer.text


@attack(14)
def test_one_foreign_topic_publishes_nothing(parties, relay, doors):
    headers = bearer(parties.T())
    assert relay.post("/publish?topic=orders.a", "x", headers=headers).status_code == 200
    position = doors.redis.get(doors.key("t1", "seq"))
    answer = relay.post("/publish", json={"topics": ["orders.a", "billing.b"], "data": "x"}, headers=headers)
    assert_forbidden(answer, "billing.b")
    assert answer.json()["published"] is False
    batch = [{"topic": "orders.a", "data": str(n)} for n in range(9999)] + [{"topic": "billing.b", "data": "x"}]
    answer = relay.post("/publish", json=batch, headers=headers)
    assert_forbidden(answer, "[9999]", "billing.b")
    assert answer.json()["published"] is False
    assert_forbidden(relay.post("/publish?topic=orders.a&topic=user.42", "x", headers=headers), "user.42")
    assert doors.redis.get(doors.key("t1", "seq")) == position
    assert [t for t, _ in doors.redis.zscan_iter(doors.key("t1", "topics"))] == ["orders.a"]


@attack(15)
def test_once_keys_are_the_tenants_own(parties, relay, doors):
    ids = {}
    for name, token in (("t1", parties.T()), ("t2", parties.X())):
        answers = [relay.post("/publish?topic=orders.a&once=k", name, headers=bearer(token)).json() for _ in range(2)]
        assert answers[0] == answers[1]
        ids[name] = answers[0]["id"]
        log = doors.redis.xrange(doors.key(name, "log", "orders.a"))
        assert [(id.split("-")[0], entry["data"]) for id, entry in log] == [(ids[name], name)]


FOR_43 = {"user_id": "43"}


@pytest.mark.parametrize("options", [{}, {"ephemeral": "1"}], ids=["logged", "ephemeral"])
@pytest.mark.parametrize("door", ["fcall", "inbox", "http", "raw"])
@attack(16)
def test_events_for_somebody_else_live(parties, relay, sse_connect, doors, door, options):
    """T gets nothing of what is for 43, and U all of it; then both get what is for all."""
    mine = sse_connect(relay, "orders.eu", headers=bearer(parties.T()))
    theirs = sse_connect(relay, "orders.eu", headers=bearer(parties.U()))
    if door == "http":
        writer = bearer(parties.T())
        body = {"topic": "orders.eu", "data": "secret", "match": FOR_43, **({"ephemeral": True} if options else {})}
        assert relay.post("/publish", json=body, headers=writer).status_code == 200
    elif door == "raw":
        envelope = {"sse": 1, "topic": "orders.eu", "data": "secret", "match": FOR_43}
        if not options:  # with an id, as if it was logged
            envelope.update(id=str(int(doors.fcall("orders.eu", "first", ns="t1")) + 1), prev="0")
        doors.raw("orders.eu", json.dumps(envelope), ns="t1")
    else:
        getattr(doors, "xadd" if door == "inbox" else "fcall")(
            "orders.eu", "secret", ns="t1", match=json.dumps(FOR_43), **options
        )
    theirs.wait_for(lambda c: "secret" in c.data)
    doors.fcall("orders.eu", "for all", ns="t1")
    for stream in (mine, theirs):
        stream.wait_for(lambda c: "for all" in c.data)
    assert "secret" not in mine.data and not mine.gaps
    assert_nothing(mine, "secret")


@pytest.fixture
def mixed(parties, guarded, sse_connect, doors):
    """A log with events for all, for 42 and for 43 in turn; (relay, ids by whom they are for)."""
    relay = guarded()
    ids = {None: [], "42": [], "43": []}
    for n in range(30):
        user = [None, "42", "43"][n % 3]
        match = {"match": json.dumps({"user_id": user})} if user else {}
        ids[user].append(doors.fcall("orders.eu", f"for {user or 'all'} {n}", ns="t1", **match))
    return relay, ids


@pytest.mark.parametrize("params", [{"replay": "all"}, {"replay": 1}, {"replay": 7}, {"since": "-10m"}, {"lastEventId": 0}], ids=str)
@attack(16)
def test_events_for_somebody_else_from_the_log(mixed, parties, sse_connect, doors, params):
    relay, ids = mixed
    mine = sse_connect(relay, "orders.eu", headers=bearer(parties.T()), params=params)
    live = doors.fcall("orders.eu", "end", ns="t1")
    mine.wait_for(lambda c: "end" in c.data)
    wanted = sorted(ids[None] + ids["42"])
    if isinstance(params.get("replay"), int):
        wanted = wanted[-params["replay"] :]
    assert mine.ids == [*wanted, live] and not mine.gaps
    assert_nothing(mine, "for 43")


@attack(16)
def test_events_for_somebody_else_over_a_resume(mixed, parties, sse_connect, doors):
    """From each place in the log, one after the other and many at once: by the log and by the tail."""
    relay, ids = mixed
    everything = sorted(ids[None] + ids["42"] + ids["43"])
    wanted = sorted(ids[None] + ids["42"])
    for _ in range(2):
        streams = {
            cursor: sse_connect(relay, "orders.eu", headers=bearer(parties.T()), last_event_id=cursor, wait=False)
            for cursor in everything
        }
        for cursor, stream in streams.items():
            rest = [id for id in wanted if id > cursor]
            stream.wait_connected().wait_for(len(rest))
            assert stream.ids == rest and not stream.gaps
            assert_nothing(stream, "for 43")
            stream.close()


@attack(16)
def test_events_for_somebody_else_trimmed_are_no_gap(parties, guarded, sse_connect, doors):
    """What the log lost behind the cursor is told as today; what is in it and for others is no loss."""
    relay = guarded()
    cursor = doors.fcall("orders.eu", "first", ns="t1")
    theirs = doors.many("orders.eu", ["for 43"] * 300, ns="t1", match=json.dumps(FOR_43))
    mine = sse_connect(relay, "orders.eu", headers=bearer(parties.T()), last_event_id=cursor)
    id = doors.fcall("orders.eu", "last", ns="t1")
    assert mine.wait_for(1).ids == [id] and not mine.gaps
    assert not set(mine.all_ids) & set(theirs), "an id that is not mine"


@attack(17)
def test_cursors_of_another_namespace(parties, relay, sse_connect, doors):
    ours = [doors.fcall("orders.eu", f"t1-{n}", ns="t1") for n in range(3)]
    theirs = [doors.fcall("orders.eu", f"t2-{n}", ns="t2") for n in range(3)]
    headers = bearer(parties.T())
    beyond = sse_connect(relay, "orders.eu", headers=headers, last_event_id=theirs[-1] + 10)
    assert [g["reason"] for g in beyond.gaps] == ["unknown-id"] and beyond.data == []
    foreign = sse_connect(relay, "orders.eu", headers=headers, last_event_id=theirs[0])
    foreign.wait_for(lambda c: c.gaps or c.control("connected"))
    assert [g["reason"] for g in foreign.gaps] == ["unknown-id"], "above the position of t1"
    for params in ({"lastEventId": 0}, {"replay": "all"}):
        stream = sse_connect(relay, "orders.eu", headers=headers, params=params)
        assert stream.wait_for(3).ids == ours and stream.data == ["t1-0", "t1-1", "t1-2"]
        assert_nothing(stream, "t2")
    assert_nothing(foreign, "t2-")


FILLED = {
    "plain": ("abc", "user.abc"),
    "star": ("*", "user.%2A"),
    "greater": (">", "user.%3E"),
    "dot": ("a.b", "user.a%2Eb"),
    "path": ("a/../b", "user.a/%2E%2E/b"),
    "percent": ("%2E", "user.%252E"),
    "space": ("a b", "user.a%20b"),
    "newline": ("a\r\nb", "user.a%0D%0Ab"),
    "mail": ("a.b@x.com", "user.a%2Eb@x%2Ecom"),
    "number": (42, "user.42"),
    "utf8": ("ä", "user.ä"),
    "dots": ("..", "user.%2E%2E"),
    "delete": ("a\x7fb", "user.a%7Fb"),
}


@pytest.mark.parametrize("value", FILLED)
@attack(18)
def test_what_fills_a_pattern_is_one_token(parties, relay, sse_connect, doors, value):
    """It opens exactly the topic that it spells, and none of what the others spell."""
    text, topic = FILLED[value]
    headers = bearer(parties.I.token(uid=text, sse={"subscribe": ["user.{uid}"]}))
    stream = sse_connect(relay, topic, headers=headers)
    doors.fcall(topic, "mine", ns="t1")
    assert stream.wait_for(1).data == ["mine"]
    spelled = {other for _, other in FILLED.values()} | {"user.*", "user.>", "user.a.b", "user.a.x"}
    for other in spelled - {topic}:
        assert status_at(relay, f"/events?topic={quote(other, safe='')}", headers) == 403, other


@pytest.mark.parametrize("value", ["", "x" * 600, "." * 200, None, [], {}, True, {"a": "b"}, [[]], ["", None]], ids=lambda v: repr(v)[:12])
@attack(18)
def test_what_cannot_fill_a_pattern_grants_nothing(parties, relay, value):
    headers = bearer(parties.I.token(uid=value, sse={"subscribe": ["user.{uid}"]}))
    for topic in ("user.x", "user.*", "user", "user.%252E", "user." + "x" * 300, "user.true", "user.null", "user.b"):
        assert status_at(relay, f"/events?topic={topic}", headers) == 403, topic


@attack(18)
def test_a_nul_in_a_claim_cuts_nothing_off(parties, guarded):
    """It is no end of a text: who is called "42\\0x" is not 42, and no viewer."""
    parties.file.write(rules=[{"if": {"/roles": ["viewer"]}, "subscribe": ["orders.*"]}])
    relay = guarded()
    filled = parties.I.token(sub="42\0x", sse={"subscribe": ["user.{sub}"]})
    named = parties.I.token(sub="42", roles=["viewer\0"])
    pattern = parties.I.token(sub="42", sse={"subscribe": ["orders.eu\0x"], "ns": "t1"})
    for token, topic in ((filled, "user.42"), (named, "orders.eu"), (pattern, "orders.eu")):
        assert status_at(relay, f"/events?topic={topic}", bearer(token)) in (401, 403)


SHAPES = {
    "text": "viewerX",
    "prefix": "view",
    "case": "Viewer",
    "spaces": "viewer editor",
    "lists": [["viewer"]],
    "number": 1,
    "object": {"viewer": True},
    "object in list": [{"viewer": "viewer"}],
    "true": True,
    "null": None,
    "empty": [],
    "65th": ["x"] * 64 + ["viewer"],
}


@pytest.mark.parametrize("shape", SHAPES)
@attack(19)
def test_no_rule_applies_by_accident(parties, guarded, shape):
    parties.file.write(rules=[{"if": {"/roles": ["viewer"]}, "subscribe": ["orders.*"]}])
    relay = guarded()
    assert_forbidden(opening(relay, EVENTS, bearer(parties.I.token(sub="42", roles=SHAPES[shape]))))


@pytest.mark.parametrize("roles", ["viewer", ["viewer"], ["a", "viewer"], ["x"] * 63 + ["viewer"]], ids=["text", "list", "second", "64th"])
@attack(19)
def test_a_rule_applies(parties, guarded, roles):
    parties.file.write(rules=[{"if": {"/roles": ["viewer"]}, "subscribe": ["orders.*"]}])
    assert status_at(guarded(), EVENTS, bearer(parties.I.token(sub="42", roles=roles))) == 200
