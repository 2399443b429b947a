# SPDX-License-Identifier: Apache-2.0
"""POST /topics/{topic}/pipe (protocol.md, 8.5): a body is published as it arrives, in order, and its topic ends with it."""

import json
import signal
import subprocess
import threading

import pytest

from auth_rig import bearer
from pipe_rig import EVENTS, LINES, TEXT, Pipe, block, ids_of, openai_stream, text_of
from raw_http import exchange, status_of
from relay_process import wait_until
from tcp_proxy import TcpProxy

TOKENS = [f"wörd{i} " for i in range(100)]
LONG = {"publish.timeout": "120s"}
OPEN = "sse_relay_pipes"
ENDED = "sse_relay_pipes_ended_total"


@pytest.fixture(params=["redis", "memory"])
def relay(request, relay_factory):
    if request.param == "memory":
        return relay_factory(redis="memory:")
    request.getfixturevalue("redis")
    return relay_factory()


def whole(sse_connect, relay, topic="t", **params):
    """A late visitor of a topic that has ended: what he has of it, and why it ended."""
    stream = sse_connect(relay, topic, params={"replay": "whole", **params}).wait_closed()
    assert stream.clean and not stream.gaps
    (end,) = [json.loads(b.data) for b in stream.controls if b.type == "relay.end"]
    return stream, end["reason"]


def still_live(sse_connect, relay, topic="t"):
    stream = sse_connect(relay, topic, params={"replay": "all"})
    assert not stream.closed
    return stream


def check_problem(answer, status, count, ids, published):
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json" and answer.headers["connection"] == "close"
    problem = answer.json
    assert problem["status"] == status and problem["title"] and problem["published"] is published
    assert ids_of(problem) == (count, ids[0] if ids else None, ids[-1] if ids else None)
    return problem


# --- what is published ---


def test_each_block_is_an_event_as_it_arrives(relay, sse_connect):
    live = sse_connect(relay, "t")
    with Pipe(relay, "t") as pipe:
        pipe.send(":hello\n\nid: 77\nretry: 1\nevent: a\ndata: 1\n\n")
        assert live.wait_for(1).data == ["1"]
        assert not pipe.answered
        pipe.send("data: two\nda", "ta: lines\r\n", "\r\nevent: nothing\n\ndata\n\n")
        assert live.wait_for(3).data == ["1", "two\nlines", ""]
        answer = pipe.done()
    assert live.wait_closed().clean
    assert [e.type for e in live.events] == ["a", "message", "message", "end"]
    assert ids_of(answer) == (3, live.ids[0], live.ids[2]) and live.retry != 1
    assert relay.metric(ENDED, outcome="done") == 1 and relay.metric("sse_relay_pipe_events_total") == 3
    assert relay.metric(OPEN) == 0


def test_a_models_stream(relay, sse_connect):
    with Pipe(relay, "chat.7") as pipe:
        pipe.send(*openai_stream(TOKENS))
        answer = pipe.done()
    stream, reason = whole(sse_connect, relay, "chat.7")
    assert text_of(stream.data[:-1]) == "".join(TOKENS) and reason == "end"
    assert ids_of(answer) == (len(TOKENS) + 2, stream.ids[0], stream.ids[-2])
    assert [e.type for e in stream.events[-2:]] == ["message", "end"]


def test_each_line_is_an_event(relay, sse_connect):
    with Pipe(relay, "t", LINES + "; charset=utf-8", event="row") as pipe:
        pipe.send('{"n":1}\n{"n"', ':2}\r\n\n\n{"n":3}')
        assert pipe.done()["count"] == 3
    stream, _ = whole(sse_connect, relay)
    assert stream.data[:-1] == ['{"n":1}', '{"n":2}', '{"n":3}']
    assert [e.type for e in stream.events] == ["row"] * 3 + ["end"]


@pytest.mark.parametrize("type", [TEXT, None, "application/octet-stream", "application/x-www-form-urlencoded"])
def test_each_chunk_is_an_event_of_whole_characters(relay, sse_connect, type):
    live = sse_connect(relay, "t")
    text = "ä€😀".encode()
    with Pipe(relay, "t", type) as pipe:
        for n in range(len(text)):
            pipe.send(text[n : n + 1])
        live.wait_for(3)
        assert pipe.done()["count"] == 3
    assert live.wait_closed().data == ["ä", "€", "😀", ""]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_body_of_known_length(relay, sse_connect, version):
    body = "".join(openai_stream(TOKENS)).encode()
    with Pipe(relay, "t", length=len(body), version=version) as pipe:
        pipe.send(body[:1000], body[1000:])
        assert pipe.answer().json["count"] == len(TOKENS) + 2
    stream, _ = whole(sse_connect, relay)
    assert text_of(stream.data[:-1]) == "".join(TOKENS)


def test_an_empty_body_ends_its_topic(relay, sse_connect):
    with Pipe(relay, "t", length=0) as pipe:
        assert pipe.answer().json == {"count": 0, "first": None, "last": None}
    with Pipe(relay, "u") as pipe:
        assert pipe.done() == {"count": 0, "first": None, "last": None}
    for topic in "tu":
        assert whole(sse_connect, relay, topic)[0].data == [""]


def test_more_than_fits_anywhere_at_once(relay, sse_connect):
    """Far beyond the queue of a pipe, and its pieces at any place."""
    live = sse_connect(relay, "t", params={"flush": "20ms"})
    lines = [f'{{"n":{n},"pad":"{"x" * (n % 997)}"}}' for n in range(5000)]
    body = "\n".join(lines).encode()
    with Pipe(relay, "t", LINES, log_max=10000) as pipe:
        for at in range(0, len(body), 7919):
            pipe.send(body[at : at + 7919])
        answer = pipe.done()
    assert live.wait_closed().data[:-1] == lines
    assert ids_of(answer) == (5000, live.ids[0], live.ids[-2])


def test_the_query_is_every_events(redis, relay_factory, doors, sse_connect):
    relay = relay_factory()
    live = sse_connect(relay, "t", params={"ns": "other"})
    with Pipe(relay, "t", event="delta", priority="appended", key="k", log_max=2, log_ttl=60000, end=0, ns="other") as pipe:
        pipe.send(block("1"), block("2", "own"), block("3"))
        assert pipe.done()["count"] == 3
    log = doors.redis.xrange(doors.key("other", "log", "t"))
    text = lambda v: v.decode() if isinstance(v, bytes) else v  # noqa: E731
    entries = [{text(k): text(v) for k, v in fields.items()} for _, fields in log]
    assert [(e["data"], e["event"], e["priority"], e["key"]) for e in entries[-2:]] == [
        ("2", "own", "appended", "k"), ("3", "delta", "appended", "k")]  # fmt: skip
    assert 0 < doors.redis.pttl(doors.key("other", "log", "t")) <= 60000
    live.wait_for(lambda c: "".join(c.data).replace("\n", "").endswith("3"))
    assert not live.closed, "end=0"
    with Pipe(relay, "short", LINES, log_max=2) as pipe:
        pipe.send("x\n" * 1000)
        assert pipe.done()["count"] == 1000
    assert doors.redis.xlen(doors.key("default", "log", "short")) < 500, "log_max"


def test_two_nodes_and_a_reload_have_the_same(redis, relay_factory, sse_connect):
    nodes = [relay_factory() for _ in range(2)]
    live = [sse_connect(node, "t") for node in nodes]
    with Pipe(nodes[0], "t", log_max=1000) as pipe:
        blocks = list(openai_stream(TOKENS))
        pipe.send(*blocks[:50])
        live[1].wait_for(50)
        late = sse_connect(nodes[1], "t", params={"replay": "whole"})
        pipe.send(*blocks[50:])
        pipe.done()
    streams = [*(c.wait_closed() for c in live), late.wait_closed(), whole(sse_connect, nodes[1])[0]]
    assert all(c.ids == streams[0].ids and c.data == streams[0].data for c in streams)
    assert text_of(streams[0].data[:-1]) == "".join(TOKENS)


# --- how it ends ---


def test_a_body_that_breaks_ends_nothing(relay, sse_connect):
    live = sse_connect(relay, "t")
    with Pipe(relay, "t") as pipe:
        pipe.send(block("1"), "data: half")
        live.wait_for(1)
    wait_until(lambda: relay.metric(ENDED, outcome="broken") == 1, "the broken pipe")
    with Pipe(relay, "t") as pipe:
        pipe.send(block("2")).raw(b"zz\r\nno chunk\r\n\r\n")
        assert pipe.is_closed()
    with Pipe(relay, "t", length=1000) as pipe:
        pipe.send(block("3"))
        live.wait_for(3)
    wait_until(lambda: relay.metric(ENDED, outcome="broken") == 3 and relay.metric(OPEN) == 0, "all broken")
    with Pipe(relay, "t") as pipe:
        pipe.send(block("4"))
        pipe.done()
    assert live.wait_closed().data == ["1", "2", "3", "4", ""]


def test_end_after_ends_what_broke(relay, sse_connect):
    live = sse_connect(relay, "t")
    with Pipe(relay, "t", end_after=300) as pipe:
        pipe.send(block("1"), block("2"))
        live.wait_for(2)
    assert live.wait_closed().data == ["1", "2", ""]
    assert whole(sse_connect, relay)[1] == "timeout"


def test_cancelled_while_it_is_sent(relay, sse_connect):
    live = sse_connect(relay, "t")
    with Pipe(relay, "t") as pipe:
        pipe.send(block("1"), block("2"))
        live.wait_for(2)
        ended = relay.request("DELETE", "/topics/t").json()
        pipe.send(block("3"))
        problem = check_problem(pipe.answer(), 409, 2, live.ids[:2], True)
        assert problem["ended"] == ended["id"] and problem["reason"] == "cancelled"
        assert pipe.is_closed()
    assert live.wait_closed().data == ["1", "2", ""]
    assert relay.metric(ENDED, outcome="ended") == 1
    wait_until(lambda: relay.metric(OPEN) == 0, "it is gone")


def test_cancelled_while_it_is_silent(relay, sse_connect):
    """A model that thinks is stopped, too: nothing more of the body is needed."""
    with Pipe(relay, "t") as pipe:
        pipe.send(block("1"))
        still_live(sse_connect, relay).wait_for(1)
        ended = relay.request("DELETE", "/topics/t").json()
        problem = pipe.wait_answered().answer().json
        assert problem["ended"] == ended["id"] and problem["count"] == 1 and problem["published"] is True


def test_a_topic_that_had_ended_before(relay):
    ended = relay.request("POST", "/topics/t/end").json()
    with Pipe(relay, "t") as pipe:
        pipe.send(block("1"))
        problem = check_problem(pipe.answer(), 409, 0, [], False)
        assert problem["ended"] == ended["id"] and problem["reason"] == "end"


def test_who_cancels_just_before_the_end_is_heard(relay, sse_connect):
    with Pipe(relay, "t") as pipe:
        pipe.send(block("1"))
        still_live(sse_connect, relay).wait_for(1)
        ended = relay.request("DELETE", "/topics/t").json()
        answer = pipe.end().answer()
        assert answer.status == 409 and answer.json["count"] == 1 and answer.json["ended"] == ended["id"], answer


def test_a_sender_that_goes_on_is_cut_off(relay, sse_connect):
    """It has its answer, and time to read it; then the connection is gone, whatever it sends."""
    with Pipe(relay, "t") as pipe:
        pipe.send(block("1"))
        still_live(sse_connect, relay).wait_for(1)
        relay.request("DELETE", "/topics/t")
        pipe.send(block("2"))
        assert pipe.answer().status == 409

        def refused():
            try:
                return pipe.send(block("x" * 1000)) and False
            except ConnectionError:
                return True

        wait_until(refused, "the end of the connection")


# --- what is refused ---


def refused(relay, to="t", query=None, **kw):
    """Status and detail of the answer, which comes without any of the body."""
    with Pipe(relay, to, **kw, **{"query": query or {}}) as pipe:
        answer = pipe.answer()
        assert answer.headers["content-type"] == "application/problem+json" and answer.json["published"] is False
        return answer.status, answer.json["detail"]


@pytest.mark.parametrize(
    "query, says",
    [
        ({"data": "x"}, "unknown parameter"),
        ({"topic": "x"}, "unknown parameter"),
        ({"ttl": 5}, "unknown parameter"),
        ({"once": "k"}, "unknown parameter"),
        ({"ephemeral": 1}, "unknown parameter"),
        ({"wat": 1}, "unknown parameter"),
        ({"priority": "high"}, "priority: expected"),
        ({"event": "relay.x"}, "event: expected"),
        ({"event": ""}, "event: expected"),
        ({"end": "maybe"}, "end: expected"),
        ({"end_after": 0}, "end_after: expected"),
        ({"log_max": 10**9}, "log_max: expected at most"),
        ({"log_ttl": 10**15}, "log_ttl: expected at most"),
        ({"ns": "a b"}, "ns: expected"),
    ],
)
def test_a_bad_query(relay, query, says):
    status, detail = refused(relay, query=query)
    assert status == 400 and detail.startswith(says)


def test_what_no_body_can_mend(relay):
    assert refused(relay, to="a.*")[0] == 400
    assert refused(relay, type="text/plain; charset=latin1")[0] == 415
    assert refused(relay, type="multipart/form-data; boundary=x")[0] == 415
    assert refused(relay, head=["Content-Encoding: gzip"])[0] == 415
    assert refused(relay, framed=False)[0] == 411
    assert refused(relay, framed=False, version="1.0")[0] == 411
    assert status_of(exchange(relay, b"GET /topics/t/pipe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == 405
    assert relay.metric(OPEN) == 0


def test_what_cannot_be_published_ends_the_pipe_and_not_its_topic(relay, sse_connect):
    live = sse_connect(relay, "t")
    bad = [
        (EVENTS, b"data: \xff\n\n", 400, "data: expected"),
        (EVENTS, b"event: \xff\ndata: x\n\n", 400, "event: expected"),
        (EVENTS, b"event: relay.end\ndata: x\n\n", 400, "event: expected"),
        (EVENTS, b"event: " + b"e" * 300 + b"\ndata: x\n\n", 400, "event: expected"),
        (LINES, b"\xc3\x28\n", 400, "data: expected"),
        (TEXT, b"a\xff", 400, "data: expected"),
    ]
    for n, (type, body, status, says) in enumerate(bad):
        with Pipe(relay, "t", type) as pipe:
            first = {EVENTS: block(str(n)), LINES: f"{n}\n", TEXT: str(n)}[type]
            pipe.send(first)
            live.wait_for(n + 1)
            pipe.send(body)
            problem = check_problem(pipe.answer(), status, 1, live.ids[n:], True)
            assert problem["detail"].startswith(says)
    with Pipe(relay, "t", TEXT) as pipe:
        assert pipe.send(b"\xe2\x82").end().answer().status == 400
    assert relay.metric(ENDED, outcome="refused") == len(bad) + 1 and not live.closed


@pytest.mark.parametrize("type, head, tail", [(EVENTS, b"data: ", b"\n\n"), (LINES, b"", b"\n")])
def test_an_event_that_is_too_large(redis, relay_factory, sse_connect, type, head, tail):
    relay = relay_factory(max_event_bytes="2KB")
    live = sse_connect(relay, "t")
    with Pipe(relay, "t", type, end=0) as pipe:
        pipe.send(head + b"x" * 2048 + tail)
        assert live.wait_for(1).data == ["x" * 2048]
        pipe.send(head + b"y" * 2049)
        problem = check_problem(pipe.answer(), 413, 1, live.ids, True)
        assert "max_event_bytes" in problem["detail"]
    with Pipe(relay, "t", TEXT, length=5000, end=0) as pipe:
        pipe.send("z" * 5000)
        assert pipe.answer().status == 200, "text is cut"
    assert "".join(live.wait_for(lambda c: len("".join(c.data)) == 7048).data[1:]) == "z" * 5000


def test_a_body_that_waits_for_100(relay, sse_connect):
    with Pipe(relay, "t", head=["Expect: 100-continue"]) as pipe:
        assert pipe.head()[0] == 100
        pipe.send(block("1"))
        assert pipe.done()["count"] == 1
    with Pipe(relay, "u", head=["Expect: 100-continue"], priority="no") as pipe:
        assert pipe.answer().status == 400


# --- who may ---


def test_rights_are_asked_before_the_body(guarded, parties, sse_connect):
    relay = guarded()
    for topic, token, status in (("orders.1", None, 401), ("orders.1", "x.y.z", 401), ("news", parties.T(), 403),
                                 ("orders.1", parties.A(), 403)):  # fmt: skip
        with Pipe(relay, topic, head=[f"Authorization: Bearer {token}"] if token else []) as pipe:
            answer = pipe.answer()
            assert answer.status == status and answer.json["published"] is False and "www-authenticate" in answer.headers
    live = sse_connect(relay, "orders.1", headers=bearer(parties.T()))
    with Pipe(relay, "orders.1", head=[f"Authorization: Bearer {parties.T()}"]) as pipe:
        pipe.send(block("1"))
        live.wait_for(1)
        assert pipe.done()["count"] == 1
    with Pipe(relay, "orders.1", head=[f"Authorization: Bearer {parties.T()}"], ns="t2") as pipe:
        assert pipe.answer().status == 403


def test_the_first_request_of_a_namespace(guarded, parties, sse_connect):
    """It waits until the node knows the namespace, and is then read as any other."""
    relay = guarded()
    with Pipe(relay, "orders.1", head=[f"Authorization: Bearer {parties.T()}"]) as pipe:
        pipe.send(block("1"))
        live = sse_connect(relay, "orders.1", headers=bearer(parties.T()), params={"replay": "all"}).wait_for(1)
        assert not pipe.answered and pipe.done()["count"] == 1
    assert live.wait_closed().data == ["1", ""]
    with Pipe(guarded(), "orders.2", length=0, head=[f"Authorization: Bearer {parties.T()}"]) as pipe:
        assert pipe.answer().json["count"] == 0


def test_who_is_revoked_pipes_no_more(guarded, parties, sse_connect):
    relay = guarded()
    live = sse_connect(relay, "orders.1", headers=bearer(parties.U()))
    with Pipe(relay, "orders.1", head=[f"Authorization: Bearer {parties.T()}"]) as pipe:
        pipe.send(block("1"))
        live.wait_for(1)
        assert relay.post("/revoke", json={"sub": "42"}, headers=bearer(parties.A())).status_code == 200
        check_problem(pipe.answer(), 401, 1, live.ids, True)
    assert not live.closed


@pytest.mark.parametrize("head", [[], ["Expect: 100-continue"]])
def test_a_node_that_has_to_ask_first(guarded, parties, head):
    """What was revoked in the namespace is not known there yet: the body waits, and its sender is answered all the same."""
    first = guarded()
    token = parties.T()
    assert first.post("/revoke", json={"sub": "42"}, headers=bearer(parties.A())).status_code == 200
    second = guarded()
    with Pipe(second, "orders.1", head=[f"Authorization: Bearer {token}", *head]) as pipe:
        answer = pipe.answer()
        assert answer.status == 401 and answer.json["published"] is False and answer.json["detail"] == "revoked"
        assert pipe.is_closed()
    with Pipe(second, "orders.1", head=[f"Authorization: Bearer {parties.U()}"], end=0) as pipe:
        pipe.send(block("1"))
        assert pipe.done()["count"] == 1


def test_what_replicas_do_not_confirm(redis, relay_factory, sse_connect):
    relay = relay_factory({"publish.wait_replicas": 1, "publish.timeout": "300ms"})
    live = sse_connect(relay, "t")
    with Pipe(relay, "t") as pipe:
        pipe.send(block("1"))
        answer = pipe.answer()
        live.wait_for(1)
        check_problem(answer, 504, 1, live.ids, True)


def test_a_strangers_page(relay):
    with Pipe(relay, "t", head=["Origin: https://evil.example"]) as pipe:
        assert pipe.answer().status == 403


# --- bounds ---


def test_time_silence_and_number_are_bounded(redis, relay_factory, sse_connect):
    relay = relay_factory({"pipe.max": "2s", "pipe.silence": "1s", "pipe.max_open": 2})
    live = sse_connect(relay, "t")
    with Pipe(relay, "t") as silent, Pipe(relay, "t") as busy:
        silent.send(block("s"))
        wait_until(lambda: relay.metric(OPEN) == 2, "two pipes")
        with Pipe(relay, "t") as third:
            answer = third.answer()
            assert answer.status == 503 and answer.json["published"] is False and int(answer.headers["retry-after"]) > 0
        stop = threading.Event()

        def dribble():
            while not stop.wait(0.1):
                try:
                    busy.send(block("b"))
                except OSError:
                    return

        thread = threading.Thread(target=dribble)
        thread.start()
        answer = silent.answer()
        assert answer.status == 408 and "pipe.silence" in answer.json["detail"] and answer.json["count"] == 1
        answer = busy.answer()
        assert answer.status == 408 and "pipe.max" in answer.json["detail"] and answer.json["count"] >= 1
        stop.set()
        thread.join()
    relay.wait_log("too many pipes at a time")
    assert relay.metric(ENDED, outcome="timeout") == 2 and relay.metric(ENDED, outcome="full") == 1
    assert not live.closed
    wait_until(lambda: relay.metric(OPEN) == 0, "no pipe")


def test_a_slow_redis_slows_the_sender_down(redis, relay_factory, sse_connect):
    """Its bytes wait in sockets; the relay holds what it may, and nothing is lost."""
    proxy = TcpProxy(redis.port)
    relay = relay_factory(LONG, redis=f"redis://127.0.0.1:{proxy.port}", workers=1, **{"redis.probe": "60s"})
    live = sse_connect(relay, "t", params={"slow": "block"})
    lines = [f"{n} " + "x" * 1000 for n in range(20000)]
    with Pipe(relay, "t", LINES, send_buffer=65536, log_max=30000) as pipe:
        pipe.send(lines[0] + "\n")
        live.wait_for(1)
        proxy.freeze("commands")
        sent = threading.Event()

        def send_all():
            for at in range(1, len(lines), 100):
                pipe.send("".join(line + "\n" for line in lines[at : at + 100]))
            sent.set()

        thread = threading.Thread(target=send_all, daemon=True)
        thread.start()
        held = lambda: relay.metric("sse_relay_http_body_bytes")  # noqa: E731
        wait_until(lambda: held() > 64000, "a full pipe")
        assert not sent.is_set() and held() < 400_000
        proxy.thaw("commands")
        thread.join(60)
        assert sent.is_set()
        answer = pipe.done()
    assert answer["count"] == len(lines)
    assert live.wait_closed(60).data[:-1] == lines
    assert held() == 0
    proxy.close()


def test_bodies_together_are_bounded(redis, relay_factory, sse_connect):
    """Parts of large events, of which none is whole: there is room for some of them only, and the others say so."""
    relay = relay_factory({"publish.max_held_bytes": "64KB"}, workers=1)
    pipes = [Pipe(relay, f"t{n}", send_buffer=8192) for n in range(4)]
    try:
        for pipe in pipes:
            pipe.send("data: " + "x" * 30000)
        statuses = []

        def told():
            for pipe in list(pipes):
                if pipe.answered:
                    statuses.append(pipe.answer())
                    pipes.remove(pipe)
            return len(statuses) >= 2

        wait_until(told, "two that are refused")
        assert {a.status for a in statuses} == {503} and all(a.json["published"] is False for a in statuses)
        assert relay.metric("sse_relay_http_body_bytes") <= 65536
        for pipe in pipes:
            pipe.send("\n\n")
            assert pipe.done()["count"] == 1
    finally:
        for pipe in pipes:
            pipe.sock.close()
    wait_until(lambda: relay.metric("sse_relay_http_body_bytes") == 0, "nothing held")


# --- Redis away, and the end of the node ---


def test_a_pipe_waits_for_redis(redis, relay_factory, sse_connect):
    relay = relay_factory(LONG)
    with Pipe(relay, "t", log_max=1000) as pipe:
        pipe.send(block("1"))
        still_live(sse_connect, relay).wait_for(1)
        redis.restart(keep_data=True)
        redis.kill()
        wait_until(lambda: relay.ready()[0] == 503, "redis-down")
        pipe.send(*(block(str(n)) for n in range(2, 500)))
        wait_until(lambda: relay.metric("sse_relay_publish_waiting") == 1, "it waits")
        redis.start()
        pipe.send(block("500"))
        assert pipe.done()["count"] == 500
    assert whole(sse_connect, relay)[0].data[:-1] == [str(n) for n in range(1, 501)]


def test_redis_that_does_not_come_back_in_time(redis, relay_factory, sse_connect):
    relay = relay_factory({"publish.timeout": "300ms"})
    live = sse_connect(relay, "t")
    with Pipe(relay, "t") as pipe:
        pipe.send(block("1"))
        live.wait_for(1)
        redis.kill()
        wait_until(lambda: relay.ready()[0] == 503, "redis-down")
        pipe.send(block("2"))
        problem = check_problem(pipe.answer(), 503, 1, live.ids, True)
        assert "1 were published before" in problem["detail"]
    with Pipe(relay, "t") as pipe:
        pipe.send(block("3"))
        answer = pipe.answer()
        check_problem(answer, 503, 0, [], False)
        assert int(answer.headers["retry-after"]) > 0
    assert relay.metric(ENDED, outcome="failed") == 2
    redis.start()


def test_redis_that_does_not_answer(redis, relay_factory, sse_connect):
    """Whether the last events were published nobody knows, and the answer says so."""
    relay = relay_factory({"publish.timeout": "500ms", "redis.probe": "60s"})
    live = sse_connect(relay, "t")
    with Pipe(relay, "t") as pipe:
        pipe.send(block("1"))
        live.wait_for(1)
        redis.process.send_signal(signal.SIGSTOP)
        try:
            pipe.send(block("2"))
            check_problem(pipe.answer(), 503, 1, live.ids, None)
        finally:
            redis.process.send_signal(signal.SIGCONT)


def test_a_node_that_ends_tells_its_pipes(redis, relay_factory, sse_connect):
    first, second = relay_factory(drain="2s"), relay_factory()
    live = sse_connect(second, "t")
    with Pipe(first, "t") as pipe, Pipe(first, "quiet") as quiet:
        pipe.send(block("1"))
        live.wait_for(1)
        first.terminate()
        problem = check_problem(pipe.answer(), 503, 1, live.ids, True)
        assert "this node ends" in problem["detail"]
        assert quiet.answer().status == 503
    assert first.wait() == 0
    with Pipe(second, "t") as pipe:
        pipe.send(block("2"))
        assert pipe.done()["count"] == 1
    assert live.wait_closed().data == ["1", "2", ""]


def test_what_a_sender_sent_before_it_went_is_published(redis, relay_factory, sse_connect):
    """It arrived, whatever Redis was doing then."""
    relay = relay_factory(LONG)
    live = sse_connect(relay, "t")
    redis.restart(keep_data=True)
    redis.kill()
    wait_until(lambda: relay.ready()[0] == 503, "redis-down")
    with Pipe(relay, "t") as pipe:
        pipe.send(block("1"), block("2"), block("3"))
        wait_until(lambda: relay.metric("sse_relay_publish_waiting") == 1, "it waits")
    wait_until(lambda: relay.metric(OPEN) == 0, "the sender is gone")
    redis.start()
    assert live.wait_for(3).data == ["1", "2", "3"]
    with Pipe(relay, "u") as pipe:  # whole, and gone before its answer
        pipe.send(block("1")).end()
    stream = sse_connect(relay, "u", params={"replay": "all"}).wait_closed()
    assert stream.data == ["1", ""]


# --- through proxies, and as people send them ---


@pytest.mark.parametrize("front", ["haproxy", "nginx"])
def test_through_a_proxy(redis, relay_factory, sse_connect, request, front):
    nodes = [relay_factory() for _ in range(2)]
    base = request.getfixturevalue(front)(*nodes)
    live = sse_connect(nodes[1], "t")
    with Pipe(base, "t") as pipe:
        blocks = list(openai_stream(TOKENS))
        for n, piece in enumerate(blocks[:20], 1):
            pipe.send(piece)
            live.wait_for(n)  # nothing on the way collects them
        pipe.send(*blocks[20:])
        assert pipe.done()["count"] == len(blocks)
    assert text_of(live.wait_closed().data[:-1]) == "".join(TOKENS)
    watched = sse_connect(nodes[1], "u")
    with Pipe(base, "u") as pipe:
        pipe.send(block("1"))
        watched.wait_for(1)
        nodes[1].request("DELETE", "/topics/u")
        pipe.send(block("2"))
        answer = pipe.answer()
        assert answer.status == 409 and answer.json["reason"] == "cancelled" and answer.json["count"] == 1


def test_curl_reads_the_answer_though_it_has_more_to_send(relay, sse_connect):
    live = sse_connect(relay, "t")
    command = ["curl", "-sS", "--max-time", "60", "-T", ".", "-X", "POST", "-H", "Content-Type: text/event-stream",
               "-o", "-", "-w", "\n%{http_code}", relay.url + "/topics/t/pipe"]  # fmt: skip
    curl = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    out = []
    reader = threading.Thread(target=lambda: out.append(curl.stdout.read().decode()))
    reader.start()

    def write(text):  # it looks at its answers only when it has something to send
        try:
            curl.stdin.write(text.encode())
        except BrokenPipeError:
            pass
        return curl.poll() is not None

    write(block("1"))
    live.wait_for(1)
    relay.request("DELETE", "/topics/t")
    wait_until(lambda: write(block("2")), "curl to end")
    reader.join()
    curl.stdin.close()
    curl.stdout.close()
    body, _, status = out[0].rpartition("\n")
    assert status == "409" and json.loads(body)["count"] == 1
