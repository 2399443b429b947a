# SPDX-License-Identifier: Apache-2.0
"""The configurations in deploy/ stream correctly: at once, through a failover, and back."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from raw_http import read_all, status_of
from relay_process import wait_until
from sse_client import TIMEOUT_S


@pytest.fixture(params=["haproxy", "nginx"])
def front(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def nodes(redis, relay_factory):
    return [relay_factory(retry="100ms", node=f"node{i}") for i in range(2)]


def test_events_pass_one_by_one(nodes, front, sse_connect, doors):
    """Each is seen before the next is published: nothing on the way collects them."""
    client = sse_connect(front(*nodes), "t")
    assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
    for n in range(1, 21):
        doors.fcall("t", n)
        assert client.wait_for(n).data[-1] == str(n)


def test_heartbeats_pass(redis, relay_factory, front, sse_connect):
    nodes = [relay_factory(heartbeat="1s") for _ in range(2)]
    client = sse_connect(front(*nodes), "t")
    seen = len(client.raw)
    client.wait_for(lambda c: c.raw[seen:].startswith(b":\n"))


def test_publish_and_resume_through_the_proxy(nodes, front, sse_connect, doors):
    base = front(*nodes)
    first = sse_connect(base, "t")
    doors.many("t", ["1", "2"])
    first.wait_for(2)
    first.close()
    doors.many("t", ["3", "4"])
    again = sse_connect(base, "t", last_event_id=first.last_event_id)
    assert again.wait_for(2).data == ["3", "4"] and not again.gaps


def test_a_client_that_leaves_is_noticed_behind_the_proxy(nodes, front, sse_connect):
    base = front(*nodes)
    clients = [sse_connect(base, "t") for _ in range(6)]
    assert sum(n.stats()["clients"] for n in nodes) == 6
    for client in clients:
        client.close()
    wait_until(lambda: sum(n.stats()["clients"] for n in nodes) == 0, "no clients")


def test_kill_9_behind_the_proxy(nodes, front, swarm, doors, publishing):
    s = swarm([front(*nodes)], 30, "t", resume=True).wait_connected()
    publisher = publishing(lambda n: doors.fcall("t", n), total=600, pause=0.002)
    publisher.wait_for(200)
    nodes[0].kill()
    publisher.finish()
    s.wait(lambda c: len(c.data) >= 600)
    for c in s.clients:
        assert c.data == [str(n) for n in range(1, 601)] and not c.gaps
    nodes[1].wait_clients(30)


def test_drain_behind_the_proxy(nodes, front, swarm, doors, publishing):
    s = swarm([front(*nodes)], 30, "t", resume=True).wait_connected()
    publisher = publishing(lambda n: doors.fcall("t", n), pause=0.002)
    publisher.wait_for(100)
    nodes[0].terminate()
    assert nodes[0].wait() == 0
    publisher.wait_for(publisher.count + 100)
    total = publisher.stop()
    s.wait(lambda c: len(c.data) >= total)
    assert all(c.data == [str(n) for n in range(1, total + 1)] and not c.gaps for c in s.clients)


def test_stream_is_answered_with_200_while_redis_is_down(redis, nodes, front, sse_connect):
    base = front(*nodes)
    redis.kill()
    for node in nodes:
        wait_until(lambda: node.ready()[0] == 503, "redis-down")

    def accepted():
        client = sse_connect(base, "t", wait=False).wait_head()
        return client if client.status == 200 else client.close()

    client = wait_until(accepted, "a stream that is held")
    redis.start()
    client.wait_for(lambda c: c.control("connected") or c.closed)


def test_no_relay_left_is_still_no_final_answer(nodes, front, sse_connect):
    """An EventSource that meets a proxy without relays must come again: 200 and a hint, not 502."""
    base = front(*nodes)
    for node in nodes:
        node.kill()

    def told():
        client = sse_connect(base, "t", wait=False).wait_closed()
        return client.status == 200 and client.retry

    wait_until(told, "retry:")


def test_a_rule_about_a_path_holds_however_the_path_is_written(nodes, haproxy):
    """Where haproxy.cfg denies publishing, an encoded letter does not get by."""
    rule = "# http-request deny if { path /publish } !{ src 10.0.0.0/8 }"
    base = haproxy(*nodes, replace=(rule, rule.lstrip("# ")))
    port = base.rsplit(":", 1)[1]
    for path in ("/publish", "/%70ublish", "/publis%68", "/%70%75%62%6C%69%73%68", "//publish", "/publish%2F", "/x/../publish"):
        with socket.create_connection(("127.0.0.1", int(port)), timeout=TIMEOUT_S) as s:
            s.sendall(f"POST {path}?topic=t HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx".encode())
            assert status_of(read_all(s)) in (403, 404), path
    assert [node.metric("sse_relay_events_published_total") for node in nodes] == [0, 0]


# --- what they log ---


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_no_ticket_or_token_stands_in_an_access_log(nodes, name, request, tmp_path):
    """With the format that the configurations have for it; where in the query it stands does not matter."""
    log, replace = {
        "haproxy": (tmp_path / "haproxy.log", ("daemon notice", "daemon info")),
        "nginx": (
            tmp_path / "access.log",
            (
                "access_log off;\n    # access_log /var/log/nginx/sse-relay.log",
                f"access_log {tmp_path}/access.log",
            ),
        ),
    }[name]
    base = request.getfixturevalue(name)(*nodes, replace=replace)
    secret = "N0tForTheLog"
    queries = [
        f"ticket={secret}",
        f"topic=t&ticket=shop~{secret}&replay=1",
        f"ticket={secret}&ticket={secret}",
        f"topic=t&access_token={secret}.e.f&ticket={secret}",
        f"Ticket={secret}&topic=t",
        "topic=ticket&last=1",
    ]
    for path in ("/events", "/projects/1/events"):
        for query in queries:
            requests.head(f"{base}{path}?{query}", timeout=TIMEOUT_S)
    wait_until(lambda: log.read_text().count("topic=ticket&last=1") == 2, "the last line")
    assert log.read_text().count("icket=-") >= 8 and secret not in log.read_text()


# --- nodes that are full ---


@pytest.fixture
def uneven(redis, relay_factory):
    """One that has a place for a single stream, says 503 to others, and is ready all the same; one that has many."""
    small = relay_factory({"max_clients": 1, "full.rate": 0, "full.percent": 0}, node="small")
    large = relay_factory({"max_clients": 20, "full.rate": 0, "full.percent": 0}, node="large")
    return small, large


def test_a_full_node_sends_streams_to_the_next_one(uneven, front, sse_connect, doors):
    """What it refuses is asked for again elsewhere; no client sees a 503."""
    small, large = uneven
    base = front(*uneven)
    clients = [sse_connect(base, "t") for _ in range(12)]
    assert small.stats()["clients"] == 1 and large.stats()["clients"] == 11
    assert small.metric("sse_relay_full_answers_total", status="503") > 0
    doors.fcall("t", "x")
    for client in clients:
        assert client.wait_for(1).data == ["x"]


def test_when_all_are_full_a_client_is_told_to_come_again(redis, relay_factory, front, sse_connect):
    nodes = [relay_factory({"max_clients": 1, "full.rate": 0, "full.percent": 0}) for _ in range(2)]
    base = front(*nodes)
    for node in nodes:
        sse_connect(node, "t")
    late = sse_connect(base, "t", wait=False).wait_closed()
    assert late.status == 200 and late.retry and not late.blocks
    assert sum(n.metric("sse_relay_full_answers_total", status="503") for n in nodes) >= 2


class Stub:
    """What is no relay: it notes each POST, and answers it with a status or with the end of the connection."""

    def __init__(self, posts, status):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def do_POST(self):
                posts.append(self.path)
                self.rfile.read(int(self.headers["Content-Length"]))
                if status == "reset":
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.parametrize("status", [503, "reset"])
def test_a_post_is_never_sent_twice(front, status):
    """Neither after a 503 nor after a connection that broke: it may have been published."""
    posts = []
    stubs = [Stub(posts, status) for _ in range(2)]
    base = front(*stubs)
    answer = requests.post(base + "/publish?topic=t", data="x", timeout=TIMEOUT_S)
    assert answer.status_code >= 500 and len(posts) == 1
    assert requests.get(base + "/events?topic=t", timeout=TIMEOUT_S).status_code == 200
    assert len(posts) == 1
    for stub in stubs:
        stub.stop()


def test_a_full_node_is_taken_out_by_ready(redis, relay_factory, haproxy, sse_connect):
    full, free = [relay_factory({"max_clients": n, "full.percent": 50}) for n in (4, 200)]
    base = haproxy(full, free)
    for _ in range(4):
        sse_connect(full, "t")

    def is_out():
        """Whether five streams in a row have met the node that has room."""
        asked = full.metric("sse_relay_full_answers_total", status="200")
        for _ in range(5):
            sse_connect(base, "t", wait=False).wait_head()
        return full.metric("sse_relay_full_answers_total", status="200") == asked

    wait_until(is_out, "the check")
    assert full.ready()[1]["status"] == "full" and free.ready()[0] == 200


def test_a_post_that_could_not_be_sent_goes_to_the_next_node(nodes, front, doors):
    base = front(*nodes)
    nodes[0].kill()
    for n in range(6):
        assert requests.post(base + "/publish?topic=t", data=str(n), timeout=TIMEOUT_S).status_code == 200
    entries = doors.redis.xrange(doors.key("default", "log", "t"))
    assert len(entries) == 6


def test_streams_are_told_to_come_again_when_no_node_is_ready_for_want_of_room(
    redis, relay_factory, haproxy, sse_connect
):
    nodes = [relay_factory(max_clients=1) for _ in range(2)]
    base = haproxy(*nodes)
    for node in nodes:
        sse_connect(node, "t")
        assert node.ready()[1]["status"] == "full"

    def told():
        late = sse_connect(base, "t", wait=False).wait_closed()
        return late.status == 200 and late.retry and late.raw.startswith(b":ok")

    for _ in range(20):  # before the checks have seen it and after
        wait_until(told, "an answer of a node")
