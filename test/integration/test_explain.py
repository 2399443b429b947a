# SPDX-License-Identifier: Apache-2.0
"""--explain and --check-config with an auth file: what a person is told, and the exit codes."""

import hashlib
import json
import subprocess
import time

import jwt
import pytest

from relay_process import BINARY, clean_environment, run_relay

SECRET = "0123456789abcdef0123456789abcdef"
ISSUER = {"iss": "https://idp.example/", "aud": "sse-relay", "algs": ["HS256"], "keys": "secret", "namespaces": ["shop"]}
RULES = [
    {"if": {"/realm_access/roles": ["viewer"]}, "subscribe": ["item.*", "user.{sub}"], "match": {"org": "{/org_id}"}},
    {"if": {"/realm_access/roles": ["admin"]}, "admin": True},
]
ROUTE = {"path": "/api/events", "topics": ["item.*"], "require": {"/realm_access/roles": ["viewer"]}, "grants": True}


@pytest.fixture
def write(tmp_path):
    """Writes an auth file beside its key; returns its path."""

    def write(text=None, **members):
        (tmp_path / "secret").write_text(SECRET + "\n")
        path = tmp_path / "auth.json"
        path.write_text(text if text is not None else json.dumps({"issuers": [ISSUER], **members}))
        return path

    return write


def token(secret=SECRET, alg="HS256", **claims):
    claims = {"iss": ISSUER["iss"], "aud": "sse-relay", "sub": "a.b", "exp": int(time.time()) + 300, **claims}
    return jwt.encode(claims, secret, alg)


def explain(path, text, *args):
    result = run_relay("--auth.file", path, "--explain", text, *args)
    assert not result.stderr
    assert text not in result.stdout and SECRET not in result.stdout
    return result.returncode, [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_what_a_token_gets_and_why(write):
    path = write(rules=RULES, routes=[ROUTE])
    code, lines = explain(path, token(realm_access={"roles": ["viewer"]}, org_id=7))
    assert code == 0 and lines[0].startswith("accepted")
    for line in (
        "issuer https://idp.example/",
        "known as issuers[0]",
        "subject a.b",
        "namespace shop (the only one of its issuer)",
        "subscribe item.* (rules[0].subscribe[0])",
        "subscribe user.a%2Eb (rules[0].subscribe[1])",
        "match org = 7 (rules[0].match.org)",
        "route /api/events (open)",
    ):
        assert line in lines
    assert any(line.startswith("rule (rules[1]: does not apply") for line in lines)


def test_what_a_token_does_not_get_and_why(write):
    path = write(rules=RULES, routes=[ROUTE])
    code, lines = explain(path, token(sse={"ns": "other", "subscribe": ["a", "b..c"]}))
    assert code == 0
    assert "namespace none (/sse/ns: its issuer may not speak for it)" in lines
    assert "subscribe a (/sse/subscribe[0])" in lines
    assert any(line.startswith("nothing b..c (/sse/subscribe[1]:") for line in lines)
    assert "route /api/events (closed: /realm_access/roles has none of what it requires)" in lines


def test_refused_with_a_good_signature(write):
    code, lines = explain(write(), token(exp=int(time.time()) - 3600, sse={"subscribe": ["a"]}))
    assert code == 1 and lines[0].startswith("refused: its signature is right, but") and "expired" in lines[0]
    assert "subscribe a (/sse/subscribe[0])" in lines


@pytest.mark.parametrize(
    "text",
    [
        token(secret="another secret of thirty-two bytes"),
        token(iss="https://other.example/"),
        token(alg="HS384"),
        "eyJ.eyJ.x",
        "nonsense",
    ],
    ids=["key", "issuer", "alg", "form", "text"],
)
def test_refused_without(write, text):
    code, lines = explain(write(), text)
    assert code == 1 and lines[0].startswith("refused: ") and "signature is right" not in lines[0]
    assert not any(line.startswith(("subscribe", "namespace", "route")) for line in lines)


def test_a_static_key(write):
    digest = hashlib.sha256(b"letmein").hexdigest()
    path = write(keys=[{"name": "billing", "sha256": digest, "ns": "shop", "publish": ["orders.>"]}])
    code, lines = explain(path, "letmein")
    assert code == 0 and "key billing (keys[0])" in lines and "publish orders.> (keys[0].publish[0])" in lines
    assert explain(path, "letmeout")[0] == 1


def test_the_token_from_standard_input(write):
    path, text = write(rules=RULES), token(realm_access={"roles": ["viewer"]})
    command = [str(BINARY), "--auth.file", str(path), "--explain", "-"]
    result = subprocess.run(command, input=f" {text}\r\n", env=clean_environment(None), capture_output=True, text=True)
    assert result.returncode == 0 and "subscribe   item.*" in result.stdout and text not in result.stdout
    result = subprocess.run(command, input="", env=clean_environment(None), capture_output=True, text=True)
    assert result.returncode == 1 and result.stdout.startswith("refused: ")


def test_the_short_form(write, tmp_path):
    write()
    args = ("--auth.key_file", tmp_path / "secret", "--auth.algs", "HS256")
    result = run_relay(*args, "--explain", token(sse={"ns": "any", "subscribe": ["a.>"]}))
    assert result.returncode == 0 and "namespace   any" in result.stdout and "a.>" in result.stdout
    result = run_relay(*args, "--auth.audience", "another", "--explain", token())
    assert result.returncode == 1 and "aud" in result.stdout


def test_public_keys(write, tmp_path):
    key = tmp_path / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-out", key], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", tmp_path / "public.pem"], check=True)
    path = write(issuers=[{**ISSUER, "algs": ["RS256"], "keys": str(tmp_path / "public.pem")}])
    code, lines = explain(path, token(key.read_text(), "RS256"))
    assert code == 0 and "algorithm RS256" in lines
    assert explain(path, token())[0] == 1


def test_explain_needs_authentication():
    result = run_relay("--explain", "x")
    assert result.returncode == 2 and "auth.file" in result.stderr and not result.stdout


@pytest.mark.parametrize("action", [["--check-config"], ["--explain", "x"]], ids=["check", "explain"])
@pytest.mark.parametrize(
    "text,words",
    [
        ('{\n"rules": [}', ["line 2"]),
        ('{"issuers": [{"algs": ["none"]}]}', ["issuers[0].algs[0]", "HS256"]),
        ('{"issuers": [{"algs": ["HS256"], "namespaces": ["a"], "keys": "nowhere"}]}', ["issuers[0].keys", "nowhere"]),
        ('{"rule": []}', ["rule", "rules"]),
    ],
)
def test_a_broken_auth_file(write, action, text, words):
    path = write(text)
    result = run_relay("--auth.file", path, *action)
    assert result.returncode == 2 and not result.stdout
    assert len(result.stderr.splitlines()) == 1 and str(path) in result.stderr
    assert all(word in result.stderr for word in words)


def test_check_config_of_a_good_one(write):
    result = run_relay("--auth.file", write(rules=RULES, routes=[ROUTE]), "--check-config")
    assert result.returncode == 0 and "valid" in result.stdout and not result.stderr


def test_check_config_warns(write):
    issuer = {name: value for name, value in ISSUER.items() if name != "aud"}
    public = {"path": "/open", "topics": ["status"], "grants": True, "public": True}
    path = write(issuers=[issuer], anonymous={"ns": "shop"}, routes=[ROUTE, public])
    result = run_relay("--auth.file", path, "--check-config")
    assert result.returncode == 0 and "valid" in result.stdout
    warnings = result.stderr.splitlines()
    assert len(warnings) == 2 and all("warning: " in line for line in warnings)
    assert "issuers[0]" in warnings[0] and "/open is public" in warnings[1]


def test_no_auth_file_at_all(tmp_path):
    result = run_relay("--auth.file", tmp_path / "nowhere", "--check-config")
    assert result.returncode == 2 and "nowhere" in result.stderr and "No such file" in result.stderr
