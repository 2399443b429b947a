# SPDX-License-Identifier: Apache-2.0
"""The auth file and key files: what starts, what does not, what changes while streams are open (protocol.md, 14.4 to 14.6, 14.11)."""

import json
import signal
import threading

import pytest

from auth_rig import COOKIE, PAGE, assert_forbidden, assert_invalid, assert_nobody, bearer, opening, status_at, ticket_of
from relay_process import run_relay, wait_until
from tcp_proxy import TcpProxy
from tokens import Issuer, Key, replace, static_key

EVENTS = "/events?topic=orders.eu"


@pytest.fixture
def relay(guarded):
    return guarded()


@pytest.fixture(params=["watched", "SIGHUP"])
def nudge(request):
    """nudge(relay): what an operator does after he has changed a file: nothing, or SIGHUP."""
    return lambda relay: relay.signal(signal.SIGHUP) if request.param == "SIGHUP" else None


def wait_status(relay, status, headers, path=EVENTS):
    wait_until(lambda: status_at(relay, path, headers) == status, f"{status} of {path}")


# --- key files ---


def test_keys_rotate_without_a_lost_stream(relay, parties, sse_connect, doors, publishing, nudge):
    """Old, old and new, new: new tokens count from when their key is there, old ones until it is gone; streams go on."""
    old, new = parties.I.key, Key("RS256", "k2", name="rotated")
    stream = sse_connect(relay, "orders.eu", headers=bearer(parties.T()))
    publisher = publishing(lambda n: doors.fcall("orders.eu", n, ns="t1"), pause=0.002)
    by_old, by_new = parties.T(), parties.T(key=new)
    assert status_at(relay, EVENTS, bearer(by_old)) == 200
    assert_invalid(opening(relay, EVENTS, bearer(by_new)))
    parties.I.publish_keys(old, new)
    nudge(relay)
    wait_status(relay, 200, bearer(by_new))
    assert status_at(relay, EVENTS, bearer(by_old)) == 200
    parties.I.publish_keys(new)
    nudge(relay)
    wait_status(relay, 401, bearer(by_old))  # although it was in the cache
    assert status_at(relay, EVENTS, bearer(by_new)) == 200
    total = publisher.stop()
    assert stream.wait_for(total).ids == publisher.ids and not stream.gaps and not stream.closed


BROKEN_KEYS = {
    "nothing": "",
    "garbage": "x\n",
    "half": '{"keys":[{"kty":"RSA"',
    "no keys": '{"keys":[]}',
    "weak": '{"keys":[{"kty":"oct","k":"AAAA"}]}',
}


@pytest.mark.parametrize("kind", BROKEN_KEYS)
def test_a_key_file_that_breaks_leaves_the_old_keys(relay, parties, sse_connect, kind, nudge):
    stream = sse_connect(relay, "orders.eu", headers=bearer(parties.T()))
    good = parties.I.path.read_bytes()
    before = len(relay.log)
    replace(parties.I.path, BROKEN_KEYS[kind])
    nudge(relay)
    wait_until(lambda: any("issuers[0].keys" in li and "level=error" in li for li in relay.log[before:]), "a line")
    assert status_at(relay, EVENTS, bearer(parties.T())) == 200 and not stream.closed
    new = Key("RS256", "k2", name="rotated")
    replace(parties.I.path, good)
    parties.I.publish_keys(parties.I.key, new)
    nudge(relay)
    wait_status(relay, 200, bearer(parties.T(key=new)))


def test_a_key_file_that_is_gone_leaves_the_old_keys(relay, parties, nudge):
    before = len(relay.log)
    good = parties.I.path.read_bytes()
    parties.I.path.unlink()
    nudge(relay)
    wait_until(lambda: any(parties.I.path.name in li for li in relay.log[before:]), "a line")
    assert status_at(relay, EVENTS, bearer(parties.T())) == 200
    replace(parties.I.path, good)


def test_a_secret_that_changes(redis, relay_factory, tmp_path, parties):
    """The short form, too."""
    first, second = Key("HS256", None, name="first"), Key("HS256", None, name="second")
    secret = tmp_path / "secret.txt"
    replace(secret, first.secret)
    relay = relay_factory({"auth.key_file": secret, "auth.algs": "HS256"})
    claims = {**parties.I.claims(), "sse": {"ns": "t1", "subscribe": ["orders.*"]}}
    headers = [bearer(k.sign(claims)) for k in (first, second)]
    assert status_at(relay, EVENTS, headers[0]) == 200
    replace(secret, second.secret)
    wait_status(relay, 200, headers[1])
    assert status_at(relay, EVENTS, headers[0]) == 401


def test_the_text_of_a_key_file_is_told_nowhere(parties, redis, tmp_path):
    """An error names the file and says what is expected; a secret in the wrong place stays secret."""
    secret = "s3cret-" + "z" * 20
    replace(parties.I.path, secret)
    ended = start(parties, redis)
    assert ended.returncode != 0 and secret not in ended.stderr + ended.stdout and "zzzz" not in ended.stderr + ended.stdout


# --- the auth file ---


def test_rights_change_with_the_file(relay, parties, nudge):
    """Rules and static keys count from the next request on, for tokens that were seen before, too."""
    token = bearer(parties.I.token(sub="42", roles="viewer"))
    assert_forbidden(opening(relay, EVENTS, token))
    parties.file.write(rules=[{"if": {"/roles": ["viewer"]}, "subscribe": ["orders.*"]}])
    nudge(relay)
    wait_status(relay, 200, token)
    parties.file.write(rules=[{"if": {"/roles": ["editor"]}, "subscribe": ["orders.*"]}])
    nudge(relay)
    wait_status(relay, 403, token)


def test_issuers_come_and_go(relay, parties, sse_connect, nudge):
    stream = sse_connect(relay, "orders.eu", headers=bearer(parties.X()))
    parties.file.write(issuers=[parties.I.entry()])
    nudge(relay)
    wait_status(relay, 401, bearer(parties.X()))
    assert not stream.closed and status_at(relay, EVENTS, bearer(parties.T())) == 200
    parties.file.write(issuers=[parties.I.entry(), parties.J.entry()])
    nudge(relay)
    wait_status(relay, 200, bearer(parties.X()))


BROKEN = ["", "{", "[]", '{"issuers":[]} x', '{"issuers":"x"}', '{"issuerz":[]}', '{"issuers":[{"iss":"https://i.example"}]}']


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_a_file_that_breaks_leaves_the_old_one(relay, parties, sse_connect, text, nudge):
    stream = sse_connect(relay, "orders.eu", headers=bearer(parties.T()))
    before = len(relay.log)
    replace(parties.file.path, text)
    nudge(relay)
    wait_until(lambda: any(parties.file.path.name in li and "level=error" in li for li in relay.log[before:]), "a line")
    assert status_at(relay, EVENTS, bearer(parties.T())) == 200 and not stream.closed
    assert relay.get("/ready").status_code == 200
    parties.file.write(rules=[{"subscribe": ["late.*"]}])
    nudge(relay)
    wait_status(relay, 200, bearer(parties.I.token(sub="42")), "/events?topic=late.x")


def test_comments_are_allowed(parties, guarded):
    text = json.dumps(parties.file.members, indent=1)
    replace(parties.file.path, "// who may what\n/* and\nmore */\n" + text.replace("\n", " // x\n", 1))
    assert status_at(guarded(), EVENTS, bearer(parties.T())) == 200


def test_keys_beside_the_file(parties, guarded):
    """A relative path is one from the folder of the auth file, wherever the relay was started."""
    parties.file.write(issuers=[parties.I.entry(keys=parties.I.path.name)])
    assert status_at(guarded(), EVENTS, bearer(parties.T())) == 200


def start(parties, redis, *args, **flags):
    more = [x for name, value in flags.items() for x in (f"--{name.replace('__', '.')}", value)]
    return run_relay("--auth.file", parties.file.path, "--redis", redis.url, "--listen", "127.0.0.1:0", *more, *args)


def issuer(**changed):
    return lambda p: {"issuers": [p.I.entry(**changed)]}


WRONG = {
    "no algs": (issuer(algs=None), "algs"),
    "empty algs": (issuer(algs=[]), "algs"),
    "unknown alg": (issuer(algs=["RS255"]), "algs"),
    "none": (issuer(algs=["none"]), "algs"),
    "no keys": (issuer(keys=None), "keys"),
    "no such file": (issuer(keys="/nope/jwks.json"), "/nope/jwks.json"),
    "no namespaces": (issuer(namespaces=None), "namespaces"),
    "bad namespace": (issuer(namespaces=["a b"]), "namespaces"),
    "misspelt": (issuer(audience="x"), "audience"),
    "aud a list": (issuer(aud=["x"]), "aud"),
    "exp sometimes": (issuer(exp="sometimes"), "exp"),
    "two of one name": (lambda p: {"issuers": [p.I.entry(), p.I.entry()]}, "iss"),
    "rule with a part of a token": (lambda p: {"rules": [{"subscribe": ["user-{sub}"]}]}, "rules"),
    "rule with a bad pattern": (lambda p: {"rules": [{"subscribe": ["a..b"]}]}, "rules"),
    "rule with a bad pointer": (lambda p: {"rules": [{"if": {"roles": ["x"]}, "subscribe": ["a"]}]}, "rules"),
    "rule misspelt": (lambda p: {"rules": [{"subscripe": ["a"]}]}, "subscribe"),
    "key without a hash": (lambda p: {"keys": [{"name": "a", "publish": ["a"]}]}, "sha256"),
    "key with a short hash": (lambda p: {"keys": [{"name": "a", "sha256": "abc", "publish": ["a"]}]}, "sha256"),
    "keys of one name": (lambda p: {"keys": [static_key("a", t, ns="t1", publish=["a"]) for t in "xy"]}, "name"),
    "anonymous without a namespace": (lambda p: {"anonymous": {"subscribe": ["a"]}}, "anonymous"),
    "not built": (lambda p: {"webhook": "http://127.0.0.1/"}, "webhook"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("check", [False, True], ids=["start", "check"])
def test_a_file_that_does_not_start(parties, redis, kind, check):
    """As a whole; the error names the file and the place."""
    make, named = WRONG[kind]
    parties.file.write(**make(parties))
    ended = start(parties, redis, *(["--check-config"] if check else []))
    told = ended.stderr + ended.stdout
    assert ended.returncode != 0
    assert str(parties.file.path) in told and named in told, told


@pytest.mark.parametrize(
    "flags,named",
    [
        ({"auth__key_file": "KEY"}, "auth.algs"),
        ({"auth__algs": "HS256"}, "auth.key_file"),
        ({"auth__issuer": "x"}, "auth.key_file"),
        ({"auth__audience": "x"}, "auth.key_file"),
        ({"auth__key_file": "/nope", "auth__algs": "HS256"}, "/nope"),
        ({"auth__key_file": "KEY", "auth__algs": "HS257"}, "auth.algs"),
        ({"auth__file": "FILE", "auth__key_file": "KEY", "auth__algs": "HS256"}, "auth."),
        ({"auth__file": "/nope/auth.json"}, "/nope/auth.json"),
        ({"auth__file": "FILE", "auth__cookie": "a b"}, "auth.cookie"),
        ({"auth__file": "FILE", "auth__cookie": COOKIE, "cors__origins": "*"}, "cors.origins"),
    ],
    ids=str,
)
def test_half_a_configuration_does_not_start(parties, redis, tmp_path, flags, named):
    secret = tmp_path / "secret.txt"
    replace(secret, "s" * 64)
    known = {"KEY": secret, "FILE": parties.file.path}
    more = [x for name, value in flags.items() for x in (f"--{name.replace('__', '.')}", known.get(value, value))]
    ended = run_relay("--redis", redis.url, "--listen", "127.0.0.1:0", *more)
    assert ended.returncode != 0 and named in ended.stderr + ended.stdout, ended.stderr + ended.stdout


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "0.0.0.0:0"])
def test_without_authentication_one_warning(redis, relay_factory, listen):
    """Louder where others than this machine's own may come."""
    relay = relay_factory({"listen": listen})
    (line,) = (li for li in relay.log if "level=warn" in li and "may read and publish everything" in li.lower())
    assert ("on this machine" in line) == listen.startswith("127") and "auth.file" in line


def test_with_authentication_no_such_warning(relay):
    assert "may read and publish everything" not in relay.log_text.lower()


# --- static keys, anonymous ---


def test_static_keys(parties, guarded, sse_connect, doors):
    """Each with what stands beside it, within its tenant."""
    key, other = "billing-" + "k" * 32, "reader._~+/=="
    parties.file.write(
        keys=[
            *parties.keys,
            static_key("billing", key, ns="t1", publish=["orders.>"]),
            static_key("reader", other, ns="t2", subscribe=["orders.*"], topics=["orders.eu"], match={"user_id": ["1", "2"]}),
        ]
    )
    relay = guarded()
    stream = sse_connect(relay, headers=bearer(other))
    assert stream.control("connected")[0]["topics"] == ["orders.eu"]
    assert relay.post("/publish?topic=orders.a.b", "x", headers=bearer(key)).status_code == 200
    assert relay.post("/publish?topic=orders.a&ns=t1", "x", headers=bearer(key)).status_code == 200
    assert_forbidden(relay.post("/publish?topic=orders.a&ns=t2", "x", headers=bearer(key)))
    assert_forbidden(relay.post("/publish?topic=user.42", "x", headers=bearer(key)), "user.42")
    assert_forbidden(opening(relay, EVENTS, bearer(key)))
    assert_forbidden(relay.post("/publish?topic=orders.a", "x", headers=bearer(other)))
    for match in ('{"user_id":"3"}', '{"user_id":"2"}'):
        doors.fcall("orders.eu", match, ns="t2", match=match)
    assert stream.wait_for(1).data == ['{"user_id":"2"}']
    for near in (key[:-1], key + "k", key.upper(), "billing", key.replace("-", "_")):
        assert_invalid(opening(relay, EVENTS, bearer(near)))


def test_a_static_key_is_no_cookie_and_no_parameter(parties, guarded):
    """It is presented as Bearer: nowhere else, where a browser or a log would keep it."""
    key = "billing-" + "k" * 32
    parties.file.write(keys=[static_key("billing", key, ns="t1", subscribe=["orders.*"])])
    relay = guarded({"auth.cookie": COOKIE, "auth.query": "on"})
    assert status_at(relay, EVENTS, bearer(key)) == 200
    assert status_at(relay, EVENTS, {"Cookie": f"{COOKIE}={key}"}) == 401
    assert status_at(relay, f"{EVENTS}&access_token={key}") == 401


def test_anonymous(parties, guarded, sse_connect, doors):
    """Requests without credentials have it; a bad credential never falls back to it."""
    parties.file.write(anonymous={"ns": "t1", "subscribe": ["status.*"], "topics": ["status.all"], "publish": ["status.in"]})
    relay = guarded({"auth.cookie": COOKIE, "cors.origins": PAGE})
    stream = sse_connect(relay)
    doors.fcall("status.all", "x", ns="t1")
    assert stream.wait_for(1).data == ["x"]
    assert status_at(relay, "/events?topic=status.*") == 200
    assert_forbidden(opening(relay, EVENTS), "orders.eu")
    assert relay.post("/publish?topic=status.in", "x").status_code == 200
    assert_forbidden(relay.post("/publish?topic=status.all", "x"))
    for headers in (bearer("x"), {"Authorization": "Basic dTpw"}, {"Cookie": f"{COOKIE}=x"}):
        assert status_at(relay, "/events?topic=status.*", headers) == 401
    assert status_at(relay, "/events?topic=status.*&ticket=x") == 401
    assert status_at(relay, "/events?topic=status.*", bearer(parties.T())) == 403
    assert status_at(relay, "/events?topic=status.*&ns=t2") == 403
    assert relay.get("/stats").status_code in (401, 403)
    assert relay.post("/revoke", json={"sub": "42"}).status_code in (401, 403)


# --- where claims are ---


def test_default_topics_of_a_grant(relay, parties, sse_connect):
    token = parties.T(rights={"topics": ["orders.eu", "user.{sub}"]})
    assert sorted(sse_connect(relay, headers=bearer(token)).control("connected")[0]["topics"]) == ["orders.eu", "user.42"]
    assert sse_connect(relay, "orders.us", headers=bearer(token)).control("connected")[0]["topics"] == ["orders.us"]


def test_claims_elsewhere(parties, guarded):
    claims = {"ns": "/tenant", "subscribe": "/https:~1~1shop.example~1topics", "publish": "/scope", "admin": "/is/admin"}
    other = Issuer(parties.dir, "https://other.example", namespaces=["t1", "t3"], claims=claims)
    parties.file.write(issuers=[parties.I.entry(), other.entry()])
    relay = guarded()
    token = other.token(sub="1", tenant="t3", scope="orders.a orders.b", **{"https://shop.example/topics": ["orders.*"], "is": {"admin": True}})
    assert status_at(relay, EVENTS + "&ns=t3", bearer(token)) == 200
    assert relay.post("/publish?topic=orders.b", "x", headers=bearer(token)).status_code == 200
    assert relay.post("/publish?topic=orders.c", "x", headers=bearer(token)).status_code == 403
    assert relay.get("/stats", headers=bearer(token)).status_code == 200


def test_centrifugo_and_mercure(parties, guarded):
    shapes = {
        "centrifugo": ({"channels": ["orders.eu"], "subs": {"user.7": {}}}, ["orders.eu", "user.7"]),
        "mercure": ({"mercure": {"subscribe": ["orders.eu"], "publish": []}}, ["orders.eu"]),
    }
    issuers = [Issuer(parties.dir, f"https://{name}.example", claims=name) for name in shapes]
    parties.file.write(issuers=[i.entry() for i in issuers])
    relay = guarded()
    for issuer_, (claims, topics) in zip(issuers, shapes.values(), strict=True):
        token = bearer(issuer_.token(sub="1", **claims))
        for topic in topics:
            assert status_at(relay, f"/events?topic={topic}", token) == 200
        for topic in ("orders.*", "orders.us", ">"):
            assert status_at(relay, f"/events?topic={topic}", token) == 403
    everything = bearer(issuers[1].token(sub="1", mercure={"subscribe": ["*"]}))
    assert status_at(relay, "/events?topic=a.b.c", everything) == 200


def test_rules_add_up(parties, guarded):
    """All that apply together; none of them for a token that says itself what it grants."""
    parties.file.write(
        rules=[
            {"subscribe": ["all.*"]},
            {"if": {"/groups": ["a"], "/level": [3]}, "subscribe": ["both.*", "user.{/profile/id}"]},
            {"if": {"/groups": ["b"]}, "subscribe": ["b.{groups}"], "publish": ["b"]},
        ]
    )
    relay = guarded()

    def seen(**claims):
        token = bearer(parties.I.token(**claims))
        return {t for t in ("all.x", "both.x", "user.9", "b.a", "b.b", "b.c") if status_at(relay, f"/events?topic={t}", token) == 200}

    assert seen(sub="1") == {"all.x"}
    assert seen(groups=["a"], level=2) == {"all.x"}
    assert seen(groups=["a"], level=3, profile={"id": 9}) == {"all.x", "both.x", "user.9"}
    assert seen(groups=["a"], level=3) == {"all.x", "both.x"}
    assert seen(groups=["a", "b"], level=3) == {"all.x", "both.x", "b.a", "b.b"}
    assert seen(groups=["b"], sse={"subscribe": ["b.c"]}) == {"b.c"}


def test_an_issuer_for_all_namespaces_is_the_short_form_only(parties, guarded, tmp_path, redis, relay_factory):
    key = Key("ES256", None, name="short")
    pem = tmp_path / "key.pem"
    replace(pem, key.public)
    relay = relay_factory({"auth.key_file": pem, "auth.algs": "ES256", "auth.issuer": "me", "auth.audience": "you"})
    claims = {**parties.I.claims(), "iss": "me", "aud": ["x", "you"]}
    rights = {"subscribe": ["orders.*"]}
    for ns in ("a", "b", "default"):
        assert status_at(relay, EVENTS, bearer(key.sign({**claims, "sse": {"ns": ns, **rights}}))) == 200
    assert_forbidden(opening(relay, EVENTS, bearer(key.sign({**claims, "sse": rights}))))
    for wrong in ({"iss": "you"}, {"aud": "me"}):
        assert_invalid(opening(relay, EVENTS, bearer(key.sign({**claims, **wrong, "sse": {"ns": "a", **rights}}))))
    assert_nobody(opening(relay, EVENTS))


# --- what waits meanwhile ---


def test_routes_that_change_while_a_request_waits(redis, guarded, parties, doors):
    """What waits for Redis goes on by the routes that there are then."""
    proxy = TcpProxy(redis.port)
    calls = lambda: doors.redis.info("commandstats")["cmdstat_fcall"]["calls"]  # noqa: E731
    route = {"path": "/mine/{id}", "topics": ["orders.{id}"], "require": {"/roles": "viewer"}, "grants": True, "heartbeat_event": "beat"}
    parties.file.write(routes=[route])
    try:
        relay = guarded({"auth.timeout": "20s"}, redis=proxy.url)
        ticket = ticket_of(relay, parties.T(roles=["viewer"]))
        proxy.freeze("commands", "answers")
        answers, before = [], calls()
        threads = [threading.Thread(target=lambda: answers.append(status_at(relay, f"/mine/eu?ticket={ticket}"))) for _ in range(5)]
        for thread in threads:
            thread.start()
        wait_until(lambda: calls() >= before + 5, "the requests at Redis")
        parties.file.write(routes=[{**route, "path": "/other/{id}"}])
        relay.wait_log("keys and rules read again")
        proxy.thaw("commands")
        for thread in threads:
            thread.join()
        assert answers == [404] * 5
        assert status_at(relay, f"/other/eu?ticket={ticket}") == 200  # nobody has spent it
    finally:
        proxy.close()
