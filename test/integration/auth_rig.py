# SPDX-License-Identifier: Apache-2.0
"""Two tenants under test, and what everybody does with tokens: the fixtures `parties` and `guarded`.

Issuer I (RS256) may speak for namespace t1, issuer J for t2. Tokens: T (sub 42, t1), U (sub 43, t1), A (admin of t1),
X (sub 42 of J, t2). The static key `ops` is an admin of all namespaces, for the test itself.
"""

import json
import re
import secrets

import pytest

from raw_http import assert_problem, exchange
from relay_process import wait_until
from tokens import AuthFile, Issuer, static_key

COOKIE = "__Host-sse"
PAGE = "https://app.example"  # a page that is listed where a test lists one
NOT_PRESENTED = "Bearer"


class Parties:
    def __init__(self, directory):
        self.dir = directory
        self.ops = "ops-" + secrets.token_hex(20)
        self.I = Issuer(directory, "https://i.example", namespaces=["t1"])
        self.J = Issuer(directory, "https://j.example", namespaces=["t2"])
        self.keys = [static_key("ops", self.ops, admin=True)]
        self.file = AuthFile(directory / "auth.json", issuers=[self.I.entry(), self.J.entry()], keys=self.keys)

    @staticmethod
    def _rights(ns, user, more):
        rights = {"ns": ns, "subscribe": ["orders.*", "user.{sub}"], "publish": ["orders.>"], "match": {"user_id": user}}
        return {**rights, **more}

    def T(self, life=3600, rights=None, **claims):
        return self.I.token(life, **{"sub": "42", "sse": self._rights("t1", "42", rights or {}), **claims})

    def U(self, life=3600, rights=None, **claims):
        return self.I.token(life, **{"sub": "43", "sse": self._rights("t1", "43", rights or {}), **claims})

    def A(self, life=3600, **claims):
        rights = {"ns": "t1", "admin": True, "subscribe": ["orders.*"]}
        return self.I.token(life, **{"sub": "admin", "sse": rights, **claims})

    def X(self, life=3600, rights=None, **claims):
        return self.J.token(life, **{"sub": "42", "sse": self._rights("t2", "42", rights or {}), **claims})


@pytest.fixture
def parties(tmp_path):
    return Parties(tmp_path / "auth")


@pytest.fixture
def guarded(relay_factory, parties):
    """guarded({"auth.leeway": 0}, …): a relay with the auth file of `parties`; its stats() are asked for as `ops`."""

    def start(config=None, **more):
        relay = relay_factory({"auth.file": parties.file.path, **(config or {})}, **more)
        relay.credentials = bearer(parties.ops)
        return relay

    return start


# --- who asks ---


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def cookie(token, origin=None):
    return {"Cookie": f"{COOKIE}={token}", **({"Origin": origin} if origin else {})}


def opening(relay, path, headers=None, method="GET"):
    """The answer to the request, without the body of a stream: that is closed at once."""
    answer = relay.request(method, path, headers=headers, stream=True)
    if answer.status_code == 200:
        answer.close()
    return answer


def status_at(relay, path, headers=None):
    return opening(relay, path, headers).status_code


# --- what comes back ---


def challenge_of(answer):
    """(error, the other parameters) of WWW-Authenticate; error None: it is the bare challenge."""
    header = answer.headers["WWW-Authenticate"]
    scheme, _, rest = header.partition(" ")
    assert scheme == "Bearer", header
    found = dict(re.findall(r'([a-z_]+)="([^"\\]*)"', rest))
    assert re.sub(r'[a-z_]+="[^"\\]*"', "", rest).replace(",", "").strip() == "", header
    return found.pop("error", None), found


def assert_invalid(answer):
    """401 for a credential that is none. Returns its detail."""
    detail = assert_problem(answer, 401)
    assert challenge_of(answer)[0] == "invalid_token"
    return detail


def assert_nobody(answer):
    """401 for a request without credentials."""
    detail = assert_problem(answer, 401)
    assert answer.headers["WWW-Authenticate"] == NOT_PRESENTED
    return detail


def assert_forbidden(answer, *words):
    """403 of somebody who is known. @words: all in its detail."""
    detail = assert_problem(answer, 403)
    assert challenge_of(answer)[0] == "insufficient_scope"
    assert [w for w in words if w not in detail] == [], detail
    return detail


def error_block(client):
    """The problem in the one block of a stream that was asked for with errors=event, and that block."""
    client.wait_closed()
    assert client.status == 200 and client.clean and client.retry, client.describe()
    assert [b.type for b in client.blocks] == ["relay.error"], client.describe()
    problem = json.loads(client.blocks[0].data)
    assert problem["title"] and isinstance(problem["detail"], str)
    return problem, client.blocks[0]


def connection_of(client):
    return client.control("connected")[0]["connection_id"]


def assert_ended(client, reason):
    """The relay has ended it in good order, and has said why."""
    client.wait_closed()
    told = client.control("shutdown")
    assert [(t["reason"], t["id"]) for t in told] == [(reason, None)] and client.clean, client.describe()
    assert client.controls[-1].type == "relay.shutdown" and client.blocks[-1] is client.controls[-1]
    return client


# --- what is done ---


def ticket_of(relay, token, **body):
    """A new ticket."""
    answer = relay.post("/tickets", headers=bearer(token), **({"json": body} if body else {}))
    assert answer.status_code == 200, answer.text
    given = answer.json()
    assert set(given) == {"ticket", "expires_in"}
    return given["ticket"]


def with_ticket(ticket, **more):
    """params= of sse_connect."""
    return {"params": {"ticket": ticket, **more}}


def revoke(relay, token, **body):
    answer = relay.post("/revoke", json=body, headers=bearer(token))
    assert answer.status_code == 200 and answer.json() == {"revoked": True}, answer.text


def renew(relay, connection, token):
    """The answer to a renewal of the connection with that id."""
    return relay.post(f"/connections/{connection}/token", headers=bearer(token))


def wait_unspent_gone(redis, ns="t1"):
    """Until Redis has no ticket of the namespace left."""
    wait_until(lambda: not list(redis.scan_iter(f"sse:{{{ns}}}:ticket:*")), "no ticket in Redis")


def wait_subscribed(relay, topic, ns="t1", count=1):
    wait_until(lambda: relay.subscribers(topic, ns) == count, f"{count} on {topic}")


def raw_status(relay, lines, body=b""):
    """The whole answer to a request of these header lines."""
    text = "\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n"
    return exchange(relay, text.encode("latin-1") + body)


def assert_nothing(client, *words):
    """Not a byte of somebody else's."""
    seen = client.head + client.raw
    assert [w for w in words if w.encode() in seen] == [], client.describe()


def attack(number):
    """The test's id begins with its number in the table of attacks."""

    def mark(test):
        test = pytest.mark.parametrize("attack_number", [number], ids=[str(number)], indirect=True)(test)
        return pytest.mark.usefixtures("attack_number")(test)

    return mark


@pytest.fixture
def attack_number(request):
    return request.param
