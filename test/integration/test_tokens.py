# SPDX-License-Identifier: Apache-2.0
"""Every token of test/vectors/tokens.json at every door that takes one: what is forged opens none [1]."""

import json
import time
from urllib.parse import quote

import pytest

from auth_rig import COOKIE, attack, assert_invalid, bearer, opening, status_at
from conftest import load_vectors
from tokens import LIBRARIES, AuthFile, Key, replace

VECTORS = load_vectors("tokens.json")
CASES = VECTORS["cases"]
EVENTS = "/events?topic=orders.eu"


@pytest.fixture
def relay(redis, relay_factory, tmp_path):
    """One that knows the issuer of the vectors."""
    keys = tmp_path / "jwks.json"
    replace(keys, json.dumps(VECTORS["jwks"]))
    issuer = {name: VECTORS[name] for name in ("iss", "aud", "algs")}
    file = AuthFile(tmp_path / "auth.json", issuers=[{**issuer, "keys": str(keys), "namespaces": ["t1"]}])
    return relay_factory({"auth.file": file.path, "auth.max_token_life": 0, "auth.cookie": COOKIE, "auth.query": "on"})


DOORS = {
    "bearer": lambda relay, token: opening(relay, EVENTS, bearer(token)),
    "cookie": lambda relay, token: opening(relay, EVENTS, {"Cookie": f"{COOKIE}={token}"}),
    "query": lambda relay, token: opening(relay, f"{EVENTS}&access_token={quote(token, safe='')}"),
    "publish": lambda relay, token: relay.post("/publish?topic=orders.eu", "x", headers=bearer(token)),
    "tickets": lambda relay, token: relay.post("/tickets", headers=bearer(token)),
}


def test_there_are_76_of_them():
    assert len(CASES) == 76 and {case["expect"] for case in CASES} == {200, 401}


@pytest.mark.parametrize("door", DOORS)
@attack(1)
def test_all_vectors(relay, doors, door):
    """Each has its answer at each door, and what was refused has done nothing."""
    answers = {case["name"]: DOORS[door](relay, case["token"]) for case in CASES}
    wrong = [(c["name"], answers[c["name"]].status_code) for c in CASES if answers[c["name"]].status_code != c["expect"]]
    assert wrong == []
    for case in CASES:
        if case["expect"] == 401:
            assert_invalid(answers[case["name"]])
            assert case["token"] not in answers[case["name"]].text
    accepted = sum(case["expect"] == 200 for case in CASES)
    assert doors.redis.xlen(doors.key("t1", "log", "orders.eu")) == (accepted if door == "publish" else 0)
    assert len(list(doors.redis.scan_iter(doors.key("t1", "ticket", "*")))) == (accepted if door == "tickets" else 0)
    assert relay.get("/health").status_code == 200 and relay.running


NO_TOKENS = [".", "...", "a.b.c", "e30.e30.", "e30.e30.e30", "x" * 4000, "\x80.\xff.\xfe", "%00", '"', "a,b"]


@pytest.mark.parametrize("text", NO_TOKENS, ids=range(len(NO_TOKENS)))
def test_what_is_no_token_is_401(relay, text):
    answer = opening(relay, EVENTS, {"Authorization": b"Bearer " + text.encode("latin-1")})
    assert_invalid(answer)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    "alg", ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed448"]
)
def test_tokens_of_other_libraries(redis, relay_factory, parties, library, alg):
    """Every algorithm, by two libraries, from a JWKS and from a file with the one key as PEM or as secret."""
    issuer, other = parties.I, parties.J
    name = "EdDSA" if alg == "Ed448" else alg
    issuer.key = Key(name, "k1", name="one", kind=alg)
    other.key = Key(name, "k1", name="two", kind=alg)
    issuer.algs = other.algs = [name]
    issuer.publish_keys(issuer.key)
    replace(other.path, other.key.public)
    parties.file.write(issuers=[issuer.entry(), other.entry()])
    relay = relay_factory({"auth.file": parties.file.path})
    sse = {"subscribe": ["orders.*"]}
    for ours, ns in ((issuer, "t1"), (other, "t2")):
        token = ours.token(library=library, sub="42", sse={"ns": ns, **sse})
        assert status_at(relay, EVENTS, bearer(token)) == 200
        stranger = ours.token(library=library, sub="42", sse={"ns": ns, **sse}, key=other.key if ours is issuer else issuer.key)
        assert_invalid(opening(relay, EVENTS, bearer(stranger)))
        cut = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
        assert_invalid(opening(relay, EVENTS, bearer(cut)))


def test_one_minute(redis, relay_factory, tmp_path, sse_connect, doors):
    """The short form: a secret and its algorithm, and the token's claim says everything else."""
    key = Key("HS256")
    secret = tmp_path / "secret.txt"
    secret.write_bytes(key.secret + b"\n")
    relay = relay_factory({"auth.key_file": secret, "auth.algs": "HS256"})
    token = key.sign({"exp": int(time.time()) + 600, "sse": {"ns": "any-at-all", "subscribe": ["a.*"]}}, {"kid": None})
    stream = sse_connect(relay, "a.b", headers=bearer(token))
    doors.fcall("a.b", "x", ns="any-at-all")
    assert stream.wait_for(1).data == ["x"]
    assert status_at(relay, "/events?topic=b", bearer(token)) == 403
    assert status_at(relay, "/events?topic=a.b") == 401
