# SPDX-License-Identifier: Apache-2.0
"""Compressed streams: the same events, each decodable as soon as it has come, compressed once for all."""

import json
import os
import random
import shutil
import subprocess
import threading
import zlib

import pytest

from conftest import load_vectors
from raw_http import exchange
from relay_process import wait_until
from sse_parser import Parser
from test_hostile import read_once_it_is_ended

WORDS = ("order", "price", "currency", "customer", "created", "eu-west-1", "pending", "EUR")


def order(n):
    """About 1 KB of JSON such as an application would send."""
    r = random.Random(n)
    items = [{"sku": f"{r.choice(WORDS)}-{r.randrange(10**6)}", "price": r.randrange(10**4), "state": r.choice(WORDS)}
             for _ in range(16)]  # fmt: skip
    return json.dumps({"number": n, "items": items})


@pytest.fixture
def relay(redis, relay_factory):
    return relay_factory({"compress": "z,z.>", "retry": "100ms"})


def test_headers(relay, sse_connect):
    client = sse_connect(relay, "z", gzip=True)
    assert client.headers["content-encoding"] == "gzip"
    assert client.headers["vary"] == "Accept-Encoding"
    assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert client.headers["transfer-encoding"] == "chunked" and "content-length" not in client.headers
    assert client.control("connected")


@pytest.mark.parametrize(
    "topics, accept, encoding, vary",
    [
        (["z"], "gzip, deflate, br", "gzip", "Accept-Encoding"),
        (["z.a.b"], "gzip", "gzip", "Accept-Encoding"),
        (["z", "z.*", "z.a.>"], "gzip", "gzip", "Accept-Encoding"),
        (["z"], "gzip;q=0", None, "Accept-Encoding"),
        (["z"], "identity, gzip;q=0.5", None, "Accept-Encoding"),
        (["z"], "br", None, "Accept-Encoding"),
        (["z"], None, None, "Accept-Encoding"),
        (["a"], "gzip", None, None),
        (["z", "a"], "gzip", None, None),
        (["*"], "gzip", None, None),
        ([">"], "gzip", None, None),
    ],
)
def test_who_gets_gzip(relay, sse_connect, doors, topics, accept, encoding, vary):
    headers = {"Accept-Encoding": accept} if accept else {}
    client = sse_connect(relay, *topics, headers=headers, gzip=False)
    assert client.headers.get("content-encoding") == encoding
    assert client.headers.get("vary") == vary
    exact = [t for t in topics if ">" not in t and "*" not in t]
    doors.fcall(exact[0] if exact else "q", "seen")
    assert client.wait_for(1).data == ["seen"]


def test_head_says_what_get_would(relay):
    request = b"HEAD /events?topic=%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept-Encoding: gzip\r\n\r\n"
    for topic, compressed in ((b"z", True), (b"a", False)):
        head, _, body = exchange(relay, request % topic).partition(b"\r\n\r\n")
        assert (b"Content-Encoding: gzip" in head) == (b"Vary: Accept-Encoding" in head) == compressed
        assert body == b""


def test_one_vary_with_cors(redis, relay_factory, sse_connect):
    relay = relay_factory({"compress": ">", "cors.origins": "https://a.example"})
    for gzip in (True, False):
        client = sse_connect(relay, "z", gzip=gzip, headers={"Origin": "https://a.example"})
        assert client.head.count(b"Vary") == 1 and client.headers["vary"] == "Origin, Accept-Encoding"


def test_by_default_nothing_is_compressed(redis, relay_factory, sse_connect):
    client = sse_connect(relay_factory({"compress": ""}), "z", gzip=True)
    assert "content-encoding" not in client.headers and "vary" not in client.headers


def test_errors_are_plain(relay):
    answer = relay.get("/events?topic=z&replay=x", headers={"Accept-Encoding": "gzip"})
    assert answer.status_code == 400 and "content-encoding" not in answer.headers


def test_each_event_is_there_before_the_next_is_published(relay, sse_connect, doors):
    client = sse_connect(relay, "z", gzip=True)
    want = [order(n) if n % 3 else str(n) for n in range(100)]
    for n, data in enumerate(want):
        doors.fcall("z", data)
        client.wait_for(n + 1)
    assert client.data == want
    assert client.wire < len(client.raw) / 2


def test_every_frame_of_the_vectors(relay, sse_connect, doors):
    """Compressed or not, a stream says the same."""
    both = [sse_connect(relay, "z", gzip=gzip) for gzip in (True, False)]
    vectors = load_vectors("frames.json")
    for v in vectors:
        doors.fcall("z", v["event"]["data"], **{k: x for k, x in v["event"].items() if k not in ("id", "data")})
    packed, plain = [c.wait_for(len(vectors)).raw.partition(b"\n\n")[2] for c in both]
    assert packed == plain


def test_events_of_all_sizes(relay, sse_connect, doors):
    """Stored in several blocks, compressed, and larger than is compressed at all."""
    client = sse_connect(relay, "z", gzip=True)
    r = random.Random(1)
    sizes = [0, 1, 50, 65_000, 65_535, 70_000, 500_000, 1_000_000, 1_500_000]
    want = [kind(n) for n in sizes for kind in (lambda n: "ab cd " * (n // 6), lambda n: r.randbytes(n // 2).hex())]
    for n, data in enumerate(want):
        doors.fcall("z", data)
        client.wait_for(n + 1)
    assert client.data == want


def test_a_plain_client_beside_compressed_ones(relay, sse_connect, doors):
    clients = [sse_connect(relay, "z", gzip=n % 2 == 0) for n in range(8)]
    want = [order(n) for n in range(50)]
    doors.many("z", want)
    for n, client in enumerate(clients):
        assert client.wait_for(50).data == want
        assert ("content-encoding" in client.headers) == (n % 2 == 0)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_frame_is_compressed_once_for_all_clients_of_a_node(redis, relay_factory, swarm, doors, workers):
    relay = relay_factory({"compress": ">", "workers": workers})
    s = swarm([relay], 40, "z", gzip=True).wait_connected()
    want = [order(n) for n in range(300)]
    for n in range(0, 300, 10):
        doors.many("z", want[n : n + 10])
    s.wait(lambda c: len(c.data) == 300)
    assert all(c.data == want for c in s.clients)
    assert relay.metric("sse_relay_gzip_clients") == 40
    assert relay.metric("sse_relay_gzip_frames_total") == 300
    before = relay.metric("sse_relay_gzip_plain_bytes_total")
    after = relay.metric("sse_relay_gzip_packed_bytes_total")
    assert before > 300 * 1000 and after < before / 2
    s.close()
    wait_until(lambda: relay.metric("sse_relay_gzip_clients") == 0, "no compressed stream")


def test_resume_and_replay(relay, sse_connect, doors):
    first = sse_connect(relay, "z", gzip=True)
    doors.many("z", [order(n) for n in range(3)])
    first.wait_for(3)
    first.close()
    doors.many("z", [order(n) for n in range(3, 600)])
    again = sse_connect(relay, "z", last_event_id=first.last_event_id, gzip=True)
    doors.fcall("z", "live")
    assert again.wait_for(598).data == [order(n) for n in range(3, 600)] + ["live"]
    assert not again.gaps
    assert sse_connect(relay, "z", params={"replay": 2}, gzip=True).wait_for(2).data == [order(599), "live"]


def test_gap(redis, relay_factory, sse_connect, doors):
    relay = relay_factory({"compress": ">", "log.max_events": 10})
    first = sse_connect(relay, "z", gzip=True)
    doors.fcall("z", "0")
    first.wait_for(1)
    first.close()
    doors.many("z", [str(n) for n in range(1, 500)])
    again = sse_connect(relay, "z", last_event_id=first.last_event_id, gzip=True)
    again.wait_for(lambda c: c.data and c.data[-1] == "499")
    assert [g["reason"] for g in again.gaps] == ["trimmed"]
    unknown = sse_connect(relay, "z", last_event_id="not-ours", gzip=True)
    assert unknown.gaps[0]["reason"] == "unknown-id"


def test_heartbeats(redis, relay_factory, sse_connect):
    for settings in ({}, {"heartbeat.event": "beat"}):
        relay = relay_factory({"compress": ">", "heartbeat": "1s", **settings})
        client = sse_connect(relay, "z", gzip=True)
        seen = len(client.raw)
        beat = b"event: beat\ndata: {}\n\n" if settings else b":\n"
        client.wait_for(lambda c: c.raw[seen:].startswith(beat * 2), timeout=30)


def test_drain_ends_a_whole_stream(relay, sse_connect, doors):
    client = sse_connect(relay, "z", gzip=True)
    doors.many("z", [order(n) for n in range(20)])
    client.wait_for(20)
    relay.terminate()
    client.wait_closed()
    assert client.whole and client.clean and not client.reset
    assert client.control("shutdown")


def test_end_of_life_is_a_whole_stream(redis, relay_factory, swarm, doors, publishing):
    relay = relay_factory({"compress": ">", "max_lifetime": "1s"})
    s = swarm([relay], 10, "z", resume=True, gzip=True).wait_connected()
    publisher = publishing(lambda n: doors.fcall("z", n), pause=0.002)
    s.wait(lambda c: len(c.starts) >= 3)
    total = publisher.stop()
    s.wait(lambda c: len(c.data) >= total)
    for c in s.clients:
        assert c.data == [str(n) for n in range(1, total + 1)] and not c.gaps
        assert c.whole == len(c.starts) - 1  # all but the one that is open


def test_slow_client_is_ended_between_two_events_and_can_resume(redis, relay_factory, sse_connect, doors):
    relay = relay_factory({"compress": ">", "queue.max_bytes": "256KB", "slow": "disconnect"})
    slow = sse_connect(relay, "z", receive_buffer=8192, gzip=True)
    fast = sse_connect(relay, "z", gzip=True)
    slow.stop_reading()
    r = random.Random(2)
    want = [f"{n} " + r.randbytes(30_000).hex() for n in range(400)]  # 12 MB also when it is compressed
    for n in range(0, 400, 4):
        doors.many("z", want[n : n + 4])
        fast.wait_for(n + 4)
        read_once_it_is_ended(relay, slow)
    wait_until(lambda: read_once_it_is_ended(relay, slow), "its end")
    slow.wait_closed()
    assert slow.whole and slow.clean and not slow.rest
    got = slow.data
    assert 0 < len(got) < 400 and got == want[: len(got)]
    again = sse_connect(relay, "z", last_event_id=slow.last_event_id, gzip=True)
    assert again.wait_for(400 - len(got)).data == want[len(got) :]


def test_reload_is_for_new_streams(redis, relay_factory, tmp_path, sse_connect, doors):
    path = tmp_path / "relay.json"
    path.write_text(json.dumps({"compress": "z"}))
    relay = relay_factory(args=["--config", path], compress=None)
    old = sse_connect(relay, "z", gzip=True)
    path.write_text(json.dumps({"compress": "y"}))
    relay.signal(1)
    relay.wait_log("configuration read again")

    def plain():
        client = sse_connect(relay, "z", gzip=True)
        return "content-encoding" not in client.headers

    wait_until(plain, "a stream that is plain")
    assert "content-encoding" in sse_connect(relay, "y", gzip=True).headers
    doors.fcall("z", "x")
    assert old.wait_for(1).data == ["x"]


def test_under_a_storm_of_everything(redis, relay_factory, swarm, doors, publishing):
    """Compressed and plain clients that resume over three nodes, one of which is killed."""
    nodes = [relay_factory({"compress": ">", "retry": "100ms"}) for _ in range(3)]
    swarms = [swarm([n.url for n in nodes], 30, "z", resume=True, gzip=gzip) for gzip in (True, False)]
    for s in swarms:
        s.wait_connected()
    publisher = publishing(lambda n: doors.fcall("z", n), total=800, pause=0.001)
    publisher.wait_for(300)
    nodes[0].kill()
    publisher.wait_for(500)
    nodes[1].terminate()
    publisher.finish()
    for s in swarms:
        s.wait(lambda c: len(c.data) >= 800)
        assert all(c.data == [str(n) for n in range(1, 801)] and not c.gaps for c in s.clients)


# --- clients of others ---


@pytest.fixture(params=["haproxy", "nginx"])
def front(request):
    return request.getfixturevalue(request.param)


def test_it_passes_proxies_event_by_event(redis, relay_factory, front, sse_connect, doors):
    nodes = [relay_factory({"compress": ">"}) for _ in range(2)]
    client = sse_connect(front(*nodes), "z", gzip=True)
    assert client.headers["content-encoding"] == "gzip"
    for n in range(50):
        doors.fcall("z", order(n))
        assert client.wait_for(n + 1).data[-1] == order(n)
    plain = sse_connect(front(*nodes), "z", gzip=False)
    assert "content-encoding" not in plain.headers
    for node in nodes:
        node.terminate()
    client.wait_closed()
    assert client.whole


class Lines:
    """A process that prints a stream: what came so far."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.blocks = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        parser = Parser()
        while chunk := os.read(self.process.stdout.fileno(), 65536):
            self.blocks += parser.feed(chunk)

    def wait_for(self, test, what):
        wait_until(lambda: test(self.blocks) or self.process.poll() is not None, what)
        assert test(self.blocks), self.process.stderr.read()

    def end(self):
        """Its exit code after a clean end of the stream."""
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()


NODE = """
fetch(process.argv[1]).then(async r => {
  if (r.headers.get('content-encoding') !== 'gzip') throw new Error('not compressed');
  for await (const chunk of r.body) process.stdout.write(chunk);
}).catch(e => { console.error(e); process.exit(1); });
"""


@pytest.mark.parametrize("kind", ["curl", "node"])
def test_stock_clients_see_each_event_at_once_and_a_clean_end(relay, doors, kind):
    url = relay.url + "/events?topic=z"
    command = ["curl", "-sSN", "--fail", "--compressed", url] if kind == "curl" else ["node", "-e", NODE, url]
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    client = Lines(command)
    client.wait_for(lambda blocks: blocks and blocks[0].type == "relay.connected", "relay.connected")
    for n in range(20):
        doors.fcall("z", order(n))
        client.wait_for(lambda blocks: blocks[-1].data == order(n), f"event {n}")
    assert relay.metric("sse_relay_gzip_clients") == 1
    relay.terminate()
    assert client.end() == 0, client.process.stderr.read()


def test_gunzip_finds_nothing_wrong(relay, doors, tmp_path):
    """The strictest reader at hand checks length and sum."""
    with open(tmp_path / "stream.gz", "wb") as file:
        command = ["curl", "-sSN", "-H", "Accept-Encoding: gzip", relay.url + "/events?topic=z"]
        with subprocess.Popen(command, stdout=file) as client:
            relay.wait_clients(1)
            wait_until(lambda: relay.metric("sse_relay_clients", state="live") == 1, "live")
            doors.many("z", [order(n) for n in range(200)])
            wait_until(lambda: relay.metric("sse_relay_events_delivered_total") == 200, "200 delivered")
            relay.terminate()
            assert client.wait(20) == 0
    packed = (tmp_path / "stream.gz").read_bytes()
    done = subprocess.run(["gzip", "-dc"], input=packed, capture_output=True, check=True)
    assert done.stderr == b"" and done.stdout == zlib.decompress(packed, 31)
    assert done.stdout.count(b"\ndata: {\"number\"") == 200


@pytest.mark.browser
def test_chromium(redis, relay_factory, browser, doors):
    relay = relay_factory({"compress": ">", "retry": "100ms", "max_lifetime": "0"})
    browser.get(relay.url + "/health")
    browser.execute_script(
        "window.got = []; window.open = false; const s = new EventSource('/events?topic=z');"
        "s.addEventListener('relay.connected', () => open = true); s.onmessage = e => got.push(e.data);"
    )
    wait_until(lambda: browser.execute_script("return open"), "relay.connected")
    assert relay.metric("sse_relay_gzip_clients") == 1
    for n in range(30):
        doors.fcall("z", order(n))
        wait_until(lambda: browser.execute_script("return got.length") == n + 1, f"event {n}")
    assert browser.execute_script("return got") == [order(n) for n in range(30)]
