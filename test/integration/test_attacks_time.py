# SPDX-License-Identifier: Apache-2.0
"""Attacks on tickets, and those that are a matter of time and state, each under its number: [28] to [35]."""

import re
import secrets
import threading
import time
from pathlib import Path

import pytest
import requests

from auth_rig import (
    COOKIE,
    assert_ended,
    assert_invalid,
    attack,
    bearer,
    connection_of,
    cookie,
    opening,
    renew,
    revoke,
    status_at,
    ticket_of,
    wait_subscribed,
    wait_unspent_gone,
    with_ticket,
)
from raw_http import open_socket, read_head, status_of
from relay_process import wait_until
from sse_client import TIMEOUT_S
from stepped_clock import SteppedClock
from tcp_proxy import TcpProxy
from tokens import Key

EVENTS = "/events?topic=orders.eu"


@pytest.fixture
def nodes(guarded):
    return [guarded({"retry": "100ms"}, node=f"node{i}") for i in range(2)]


@pytest.fixture
def relay(guarded):
    return guarded()


# --- tickets ---


def at_once(nodes, request):
    """The heads of the answers to one request that is sent to all nodes at the same instant; the sockets stay open."""
    sockets = [open_socket(node) for node in nodes]
    start = threading.Barrier(len(sockets))

    def send(s):
        start.wait()
        s.sendall(request)

    threads = [threading.Thread(target=send, args=(s,)) for s in sockets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sockets, [read_head(s) for s in sockets]


@pytest.mark.slow
@attack(28)
def test_a_ticket_is_spent_once_over_all_nodes(parties, nodes):
    """A thousand times on two nodes at the same instant: one stream and one 401."""
    token = parties.T()
    with requests.Session() as session:
        for n in range(1000):
            answer = session.post(nodes[n % 2].url + "/tickets", headers=bearer(token), timeout=TIMEOUT_S)
            request = f"GET {EVENTS}&ticket={answer.json()['ticket']} HTTP/1.1\r\nHost: x\r\n\r\n"
            sockets, heads = at_once(nodes, request.encode())
            for s in sockets:
                s.close()
            assert sorted(status_of(head) for head in heads) == [200, 401], n


@attack(28)
def test_a_ticket_that_comes_again_twice_has_one_stream(parties, nodes, sse_connect, doors):
    """With a cursor on two nodes at the same time, again and again: in the end exactly one stream is open."""
    token = parties.T()
    cursor = doors.fcall("orders.eu", "first", ns="t1")
    ticket = ticket_of(nodes[0], token)
    streams = [sse_connect(nodes[0], "orders.eu", **with_ticket(ticket))]
    for _ in range(20):
        streams += [
            sse_connect(node, "orders.eu", wait=False, last_event_id=cursor, **with_ticket(ticket)) for node in nodes
        ]
    for stream in streams:
        stream.wait_head()
    is_open = lambda s: s.status == 200 and not s.closed  # noqa: E731
    wait_until(lambda: sum(map(is_open, streams)) == 1, "one stream")
    doors.fcall("orders.eu", "second", ns="t1")
    left = next(filter(is_open, streams)).wait_for(lambda c: "second" in c.data)
    assert not left.closed and sum(map(is_open, streams)) == 1
    assert {s.status for s in streams} <= {200, 401}
    for stream in streams:
        if stream is not left and stream.control("connected") and stream.control("shutdown"):
            assert stream.control("shutdown")[0]["reason"] == "replaced"


def spent(relay, sse_connect, token, *topics):
    """(ticket, its stream that is open)."""
    ticket = ticket_of(relay, token)
    return ticket, sse_connect(relay, *(topics or ["orders.eu"]), **with_ticket(ticket))


def assert_worthless(relay, ticket, cursor=None):
    headers = {} if cursor is None else {"Last-Event-ID": str(cursor)}
    assert_invalid(opening(relay, f"{EVENTS}&ticket={ticket}", headers))


@attack(29)
def test_a_spent_ticket_without_a_cursor(parties, nodes, sse_connect):
    ticket, stream = spent(nodes[0], sse_connect, parties.T())
    for node in nodes:
        assert_worthless(node, ticket)
    stream.close()
    wait_subscribed(nodes[0], "orders.eu", count=0)
    for node in nodes:
        assert_worthless(node, ticket)


@attack(29)
def test_a_ticket_after_its_grace(parties, guarded, sse_connect, doors):
    relay = guarded({"ticket.reconnect_grace": "1s"})
    ticket, stream = spent(relay, sse_connect, parties.T())
    cursor = stream.last_event_id
    stream.close()
    wait_unspent_gone(doors.redis)
    assert_worthless(relay, ticket, cursor)


@attack(29)
def test_a_ticket_after_the_end_of_its_token(parties, guarded, sse_connect):
    relay = guarded({"auth.leeway": 0})
    ticket, stream = spent(relay, sse_connect, parties.T(life=3))
    unused = ticket_of(relay, parties.T(life=3))
    assert_ended(stream, "token-expired")
    wait_until(lambda: status_at(relay, f"{EVENTS}&ticket={ticket}", {"Last-Event-ID": stream.last_event_id}) == 401)
    wait_until(lambda: status_at(relay, f"{EVENTS}&ticket={unused}") == 401)


@attack(29)
def test_a_ticket_after_a_revocation(parties, nodes, sse_connect):
    ticket, stream = spent(nodes[0], sse_connect, parties.T())
    unused = ticket_of(nodes[1], parties.T())
    revoke(nodes[1], parties.A(), sub="42")
    assert_ended(stream, "revoked")
    for node in nodes:
        wait_until(lambda node=node: status_at(node, EVENTS, bearer(parties.T(iat=1))) == 401, "the revocation")
        assert_worthless(node, unused)
        assert_worthless(node, ticket, stream.last_event_id)


@attack(29)
def test_a_ticket_whose_text_was_changed(parties, relay, doors):
    ticket = ticket_of(relay, parties.T())
    ns, _, rest = ticket.partition("~")
    assert ns == "t1" and len(rest) == 32
    other = "A" if rest[-1] != "A" else "B"
    for text in (f"t2~{rest}", f"t1~{rest[:-1]}{other}", f"default~{rest}", f"~{rest}", rest, f"t1~{rest}A", f"t1~{rest}%3D", f"t1~{rest}%00",
                 f"t1~~{rest}", f"T1~{rest}", "t1~", "~", "", "t1", "x" * 4000, f"{{t1}}:~{rest}", "t1~" + "*" * 32):  # fmt: skip
        assert status_at(relay, f"{EVENTS}&ticket={text}") == 401, text
    assert status_at(relay, f"{EVENTS}&ticket={ticket}&ns=t2") == 403
    assert status_at(relay, f"{EVENTS}&ticket={ticket}&ticket={ticket}") == 400
    assert status_at(relay, f"{EVENTS}&ticket={ticket}") == 200, "not spent by all this"


@attack(30)
def test_a_ticket_opens_streams_only(parties, relay, sse_connect, doors):
    stream = sse_connect(relay, "orders.eu", headers=bearer(parties.T()))
    id = connection_of(stream)
    for token in (parties.T(), parties.A()):
        ticket = ticket_of(relay, token)
        for path, body in (
            ("/publish?topic=orders.eu&", b"x"),
            ("/publish?", b"x"),
            ("/tickets?", b""),
            ("/revoke?", b'{"sub":"42"}'),
            (f"/connections/{id}/token?", b""),
        ):
            answer = relay.post(f"{path}ticket={ticket}", body)
            assert answer.status_code == 401, (path, answer.text)
            assert_invalid(relay.post(path.rstrip("?&"), body, headers=bearer(ticket)))
        assert_invalid(relay.get("/stats", headers=bearer(ticket)))
        assert relay.get(f"/stats?ticket={ticket}").status_code == 401
        assert_invalid(relay.post(f"/connections/{id}/token", json={"token": ticket}))
        assert_invalid(opening(relay, EVENTS, bearer(ticket)))
        assert status_at(relay, f"{EVENTS}&ticket={ticket}") == 200, "not spent by all this"
    assert not stream.closed and not doors.redis.exists(doors.key("t1", "log", "orders.eu"))


def assert_unspent(node, ticket, sse_connect):
    """It opens its first stream, without a cursor, here."""
    sse_connect(node, "orders.eu", **with_ticket(ticket)).close()


@attack(31)
def test_a_draining_node_spends_no_ticket(parties, guarded, sse_connect):
    draining, other = guarded({"drain": "1h"}), guarded()
    sse_connect(draining, "orders.eu", headers=bearer(parties.T()))
    ticket = ticket_of(other, parties.T())
    draining.terminate()
    wait_until(lambda: draining.ready()[0] == 503, "the drain")
    late = sse_connect(draining, "orders.eu", wait=False, **with_ticket(ticket)).wait_closed()
    assert late.status == 200 and late.retry and not late.blocks
    assert_unspent(other, ticket, sse_connect)
    draining.terminate()
    draining.wait()


@pytest.mark.parametrize("rate,status", [(None, 200), (0, 503)], ids=["200", "503"])
@attack(31)
def test_a_full_node_spends_no_ticket(parties, guarded, sse_connect, rate, status):
    full, other = guarded({"max_clients": 1, **({} if rate is None else {"full.rate": rate})}), guarded()
    sse_connect(full, "orders.eu", headers=bearer(parties.T()))
    ticket = ticket_of(other, parties.T())
    late = sse_connect(full, "orders.eu", wait=False, **with_ticket(ticket)).wait_closed()
    assert late.status == status and not late.blocks
    assert_unspent(other, ticket, sse_connect)


@attack(31)
def test_what_is_refused_spends_no_ticket(parties, relay, sse_connect):
    ticket = ticket_of(relay, parties.T())
    query = f"{EVENTS}&ticket={ticket}"
    for method, path, status in (
        ("HEAD", query, 200),
        ("OPTIONS", query, 204),
        ("POST", query, 405),
        ("GET", f"/nope?ticket={ticket}", 404),
        ("GET", f"{query}&replay=x", 400),
        ("GET", f"/events?topic=a..b&ticket={ticket}", 400),
        ("GET", f"/events?topic=billing&ticket={ticket}", 403),
        ("HEAD", f"/events?topic=billing&ticket={ticket}", 403),
        ("GET", f"{query}&ns=t2", 403),
        ("GET", f"/health?ticket={ticket}", 200),
    ):
        assert opening(relay, path, method=method).status_code == status, (method, path)
    late = sse_connect(relay, "billing", wait=False, **with_ticket(ticket, errors="event")).wait_closed()
    assert [b.type for b in late.blocks] == ["relay.error"]
    assert_unspent(relay, ticket, sse_connect)


# --- secrets ---


class Ears:
    """All that anybody tells a Redis, from now on."""

    def __init__(self, client):
        self.lines = []
        self._monitor = client.monitor()
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(client,), daemon=True)
        self._thread.start()
        assert self._ready.wait(TIMEOUT_S)

    def _run(self, client):
        with self._monitor as m:
            self._ready.set()
            for command in m.listen():
                self.lines.append(command["command"])
                if "the end of the test" in command["command"]:
                    return

    def finish(self, client):
        client.echo("the end of the test")
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()
        return self.lines


def everything_in(r):
    """All keys of a Redis with what they hold, as text."""
    read = {
        "string": r.get,
        "hash": r.hgetall,
        "zset": lambda k: r.zrange(k, 0, -1, withscores=True),
        "stream": r.xrange,
        "set": r.smembers,
        "list": lambda k: r.lrange(k, 0, -1),
    }
    return [f"{key} {read[r.type(key)](key)}" for key in r.scan_iter("*") if r.type(key) in read]


def command_lines():
    """Of all processes of the machine."""
    found = b""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += file.read_bytes()
        except OSError:
            pass  # it has ended meanwhile
    return found.decode(errors="replace")


@attack(32)
def test_secrets_are_told_nobody(parties, guarded, sse_connect, doors):
    config = {"logging.level": "debug", "auth.cookie": COOKIE, "auth.query": "on", "cors.origins": "https://app.example"}
    nodes = [guarded(config, node=f"node{i}") for i in range(2)]
    ears = Ears(doors.redis)
    told, kept = [], {"ops": parties.ops}

    def use(name, token):
        kept[name] = token
        for node in nodes:
            for path in (EVENTS, "/events?topic=billing", EVENTS + "&errors=event", f"{EVENTS}&replay=x", "/stats", "/nope"):
                told.append(opening(node, path, bearer(token)))
                told.append(opening(node, path, cookie(token)))
                told.append(opening(node, f"{path}{'&' if '?' in path else '?'}access_token={token}"))
                told.append(opening(node, f"{path}{'&' if '?' in path else '?'}ticket={token}"))
            told.append(node.post("/publish?topic=orders.eu", "x", headers=bearer(token)))

    use("good", parties.T())
    use("expired", parties.T(life=-3600))
    use("forged", parties.I.token(key=Key("RS256", parties.I.key.kid, name="stranger"), sub="42"))
    use("unknown issuer", Key("RS256", "k9", name="stranger").sign({"iss": "https://x.example", "exp": 4102444800}))
    use("no token", "no-token-" + secrets.token_hex(30))
    kept["ticket"] = ticket_of(nodes[0], kept["good"])
    stream = sse_connect(nodes[1], "orders.eu", **with_ticket(kept["ticket"]))
    use("ticket used", kept["ticket"])
    kept["renewed"] = parties.T(life=7200)
    told.append(renew(nodes[0], connection_of(stream), kept["renewed"]))
    kept["in the body"] = parties.T(life=7201)
    told.append(nodes[0].post(f"/connections/{connection_of(stream)}/token", json={"token": kept["in the body"]}))
    kept["admin"] = parties.A()
    kept["unspent"] = ticket_of(nodes[0], kept["good"])
    keys = everything_in(doors.redis)
    revoke(nodes[0], kept["admin"], sub="42")
    assert_ended(stream, "revoked")
    told += [node.get(path, headers=node.credentials) for node in nodes for path in ("/metrics", "/stats", "/ready")]
    pages = {
        "logs": "".join(node.log_text for node in nodes),
        "command lines": command_lines(),
        "keys": "\n".join(keys + everything_in(doors.redis)),
        "commands": "\n".join(ears.finish(doors.redis)),
        "answers": "\n".join(f"{a.headers} {a.text if a.status_code != 200 or 'event-stream' not in a.headers['Content-Type'] else ''}"
                             for a in told if a.status_code != 204),
        "stream": stream.raw.decode(),
    }  # fmt: skip
    assert re.search("sse_ticket", pages["commands"]) and "ticket:" in pages["keys"] and pages["logs"]
    for name, secret in kept.items():
        parts = {secret, secret.rpartition(".")[2], secret.rpartition("~")[2]}
        assert [page for page, text in pages.items() if any(part in text for part in parts)] == [], name


# --- time and state ---


@attack(33)
def test_renewal_by_others(parties, nodes, sse_connect, doors):
    stream = sse_connect(nodes[0], "orders.eu", "user.42", headers=bearer(parties.T()))
    id = connection_of(stream)
    refused = {
        "another subject": (parties.U(), 403),
        "another issuer and namespace": (parties.X(), 403),
        "no subject": (parties.T(sub=None), 403),
        "expired": (parties.T(life=-3600), 401),
        "forged": (parties.I.token(key=parties.J.key, sub="42"), 401),
        "without its topics": (parties.T(rights={"subscribe": ["user.42"]}), 403),
        "without all of its topics": (parties.T(rights={"subscribe": ["orders.*"]}), 403),
        "a part of its topics": (parties.T(rights={"subscribe": ["orders.us", "user.42"]}), 403),
        "another namespace": (parties.T(rights={"ns": "t2"}), 403),
    }
    for node in nodes:
        for name, (token, status) in refused.items():
            assert renew(node, id, token).status_code == status, name
        assert node.post(f"/connections/{id}/token").status_code == 401
    for n in range(5):
        doors.fcall("orders.eu", str(n), ns="t1")
    assert stream.wait_for(5).data == ["0", "1", "2", "3", "4"] and not stream.closed
    assert renew(nodes[1], id, parties.T()).status_code == 200, "and its own may"


@pytest.mark.slow
@attack(33)
def test_guessing_connection_ids(parties, nodes, sse_connect):
    """10,000 of them, near the real one and far from it: 404 each, whichever node is asked."""
    stream = sse_connect(nodes[0], "orders.eu", headers=bearer(parties.T()))
    id = connection_of(stream)
    assert re.fullmatch("[0-9a-f]{32}", id)
    headers = bearer(parties.T())
    with requests.Session() as session:
        for n in range(10000):
            kept = (0, 8, 10, 16)[n % 4]
            guess = id[:kept] + secrets.token_hex(16)[: 32 - kept]
            node = nodes[0] if n % 10 else nodes[1]
            answer = session.post(f"{node.url}/connections/{guess}/token", headers=headers, timeout=TIMEOUT_S)
            assert answer.status_code == 404, (n, guess, answer.text)
    assert not stream.closed


@attack(33)
def test_connection_ids_are_all_different(parties, relay, sse_connect):
    streams = [sse_connect(relay, "orders.eu", headers=bearer(parties.T())) for _ in range(50)]
    ids = {connection_of(s) for s in streams}
    assert len(ids) == 50 and len({id[16:] for id in ids}) == 50
    assert len({id[:8] for id in ids}) == 1, "the node's tag"
    for strange in ("", "x", "0" * 31, "0" * 33, "G" * 32, next(iter(ids)).upper() + "0"):
        assert relay.post(f"/connections/{strange}/token", headers=bearer(parties.T())).status_code in (400, 404)


def later(token_of):
    """A token that was issued after all that was revoked by now."""
    return token_of(iat=int(time.time()) + 2)


@attack(34)
def test_a_subject_is_revoked_on_all_nodes(parties, nodes, sse_connect, doors):
    token = parties.T()
    mine = [sse_connect(node, "orders.eu", headers=bearer(token)) for node in nodes]
    others = [sse_connect(node, "orders.eu", headers=bearer(t())) for node in nodes for t in (parties.U, parties.X)]
    tickets = [ticket_of(node, token) for node in nodes]
    assert all(status_at(node, EVENTS, bearer(token)) == 200 for node in nodes), "it is in the cache"
    revoke(nodes[0], parties.A(), sub="42")
    for stream in mine:
        assert_ended(stream, "revoked")
    doors.fcall("orders.eu", "x", ns="t1")
    doors.fcall("orders.eu", "x", ns="t2")
    for stream in others:
        stream.wait_for(1)
        assert not stream.closed
    for node, ticket in zip(nodes, tickets, strict=True):
        assert_invalid(opening(node, EVENTS, bearer(token)))
        assert status_at(node, EVENTS, {**bearer(token), "Last-Event-ID": mine[0].last_event_id}) == 401
        assert status_at(node, f"{EVENTS}&ticket={ticket}") == 401
        assert node.post("/publish?topic=orders.eu", "x", headers=bearer(token)).status_code == 401
        assert node.post("/tickets", headers=bearer(token)).status_code == 401
        assert status_at(node, EVENTS, bearer(later(parties.T))) == 200
        assert status_at(node, EVENTS, bearer(parties.X())) == 200
        assert status_at(node, EVENTS, bearer(parties.U())) == 200
    for stream in mine:
        assert stream.data == []


@attack(34)
def test_a_subject_is_revoked_while_a_node_is_cut_off(parties, guarded, redis, sse_connect, doors):
    """Its held stream ends before it gets an event of the time in between."""
    proxy = TcpProxy(redis.port)
    try:
        near, far = guarded(), guarded(redis=proxy.url)
        stream = sse_connect(far, "orders.eu", headers=bearer(parties.T()))
        witness = sse_connect(far, "orders.eu", headers=bearer(parties.U()))
        proxy.sever()
        wait_until(lambda: far.ready()[0] == 503, "the cut")
        held = sse_connect(far, "orders.eu", headers=bearer(parties.T()), last_event_id=stream.last_event_id, wait=False).wait_head()
        revoke(near, parties.A(), sub="42")
        id = doors.fcall("orders.eu", "meanwhile", ns="t1")
        proxy.mend()
        assert witness.wait_for(1).ids == [id]
        assert assert_ended(stream, "revoked").data == []
        held.wait_closed()
        assert held.status == 200 and held.data == [] and str(id) not in held.raw.decode()
        far.wait_ready()
        assert_invalid(opening(far, EVENTS, bearer(parties.T(iat=1))))
    finally:
        proxy.close()


@pytest.mark.parametrize("step,status", [(25, 200), (-25, 200), (300, 401), (-300, 401)])
@attack(35)
def test_clocks_of_nodes(parties, guarded, tmp_path, step, status):
    """Up to the leeway they may differ; beyond, a log line says what was wrong with the token."""
    clock = SteppedClock(tmp_path)
    clock.step(step)
    relay = guarded(env=clock.env)
    answer = opening(relay, EVENTS, bearer(parties.T(life=60)))
    assert answer.status_code == status
    if status == 401:
        assert_invalid(answer)
        line = relay.wait_log("level=(info|warn).*reason=")
        assert parties.I.iss in line and "sub=42" in line.replace('"', "") and parties.I.key.kid in line
        assert ("expired" in line) == (step > 0) and ("ahead" in line or "iat" in line or step > 0)
        assert "127.0.0.1" in line
