# SPDX-License-Identifier: Apache-2.0
"""sse-bench: its verdict on a server that is right, and on one that is not."""

import json
import os
import socketserver
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from relay_process import ROOT, clean_environment
from sse_client import TIMEOUT_S

TOOL = Path(os.environ.get("SSE_BENCH_BIN") or ROOT / "build" / "sse-bench").resolve()

pytestmark = pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built")


def bench(*args, status=0):
    """Runs it; its report."""
    done = subprocess.run(
        [str(TOOL), "--quiet", "--json", "-", *map(str, args)],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=2 * TIMEOUT_S,
        text=True,
    )
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout) if done.stdout else done.stderr


def of_relay(relay, redis):
    url = f"{relay.url}/events?topic=%t"
    return ["--url", url, "--redis", redis.url if redis else "none"]


def brief(count=50):
    return ["-n", count, "-d", "300ms", "--warmup", "50ms"]


# --- a server that is right ---


@pytest.mark.parametrize("door", ["fcall", "inbox", "channel", "http"])
def test_every_door(relay, redis, door):
    report = bench(*of_relay(relay, redis), *brief(), "-p", door, "-w", 4, "-P", relay.pid)
    assert report["ok"] and report["ready"] == 50
    assert report["deliveries"] == 50 * report["published"] > 0
    run = report["run"]
    if run["events"]:  # a busy machine may not get to one within the measured time
        assert run["server_user_s"] + run["server_system_s"] > 0
        assert run["commands"]["publish"] > 0


def test_a_rate_is_kept_and_latency_counts_from_when_an_event_was_due(relay, redis):
    report = bench(*of_relay(relay, redis), *brief(), "-r", 200)
    assert report["ok"] and report["published"] >= 350 * 200 / 1000
    ms = report["latency_ms"]
    assert ms["count"] >= 50 * 59  # all that were due in the measured time, however late
    assert 0 < ms["min"] <= ms["p50"] <= ms["p99"] <= ms["p999"] <= ms["max"]


def test_a_burst_is_published_when_the_one_before_is_received(relay, redis):
    report = bench(*of_relay(relay, redis), *brief(), "-w", 7, "--burst")
    assert report["ok"] and report["published"] % 7 == 0 and report["published"] > 7


def test_topics_and_patterns(relay, redis):
    some = ["--topics", 40, "-k", 6, "--patterns", 2, "-w", 8]
    report = bench(*of_relay(relay, redis), *brief(), *some)
    assert report["ok"] and report["published"] < report["deliveries"] < 50 * report["published"]


def test_without_redis(relay_factory):
    relay = relay_factory(redis="memory:")
    several = ["-p", "http", "--publish-connections", 4, "-w", 8]
    report = bench(*of_relay(relay, None), *brief(), *several)
    assert report["ok"] and report["deliveries"] == 50 * report["published"]


def test_compressed_streams_are_inflated_and_verified(relay_factory):
    relay = relay_factory(redis="memory:", compress=">")
    json_events = ["-p", "http", "--payload", "json", "--size", 1024]
    plain = bench(*of_relay(relay, None), *brief(), *json_events)
    packed = bench(*of_relay(relay, None), *brief(), *json_events, "--gzip")
    for report, streams in ((plain, 0), (packed, 50)):
        assert report["ok"] and report["deliveries"] == 50 * report["published"]
        assert report["gzip_streams"] == streams
    frames = plain["run"]["bytes"] - plain["run"]["plain_bytes"]  # of HTTP's chunks: 7 bytes for each event
    assert 0 < frames < 8 * plain["run"]["deliveries"]
    assert packed["run"]["bytes"] < packed["run"]["plain_bytes"] / 2


def test_a_server_that_does_not_compress_is_named(relay):
    report = bench(*of_relay(relay, None), *brief(), "-p", "http", "--gzip")
    assert report["ok"] and report["gzip"] and report["gzip_streams"] == 0
    text = subprocess.run(
        [str(TOOL), *map(str, of_relay(relay, None)), "-n", "5", "-d", "0", "--gzip", "-p", "none"],
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    ).stdout
    assert "the server sent plain streams" in text


@pytest.mark.parametrize("cursor", ["none", "one", "spread"])
def test_storm(relay, redis, cursor):
    rate = [] if cursor == "none" else ["-r", 50]
    options = ["--storm", "-n", 300, "-m", 20, "-c", cursor, *rate]
    report = bench(*of_relay(relay, redis), *options)
    assert report["ok"]
    assert report["caught_up"] == 300 and report["live_seconds"] > 0
    if cursor == "one":  # all of the missed ones, and the marker
        assert report["deliveries"] >= 300 * 21
        assert report["run"]["commands"]["fcall"] > 0


def test_tokens_are_shown_in_turn(guarded, parties, tmp_path):
    relay = guarded(redis="memory:")
    file = tmp_path / "tokens"
    options = [*of_relay(relay, None), *brief(40), "-p", "http", "--topic", "orders.eu", "--tokens", file]
    file.write_text(f"{parties.T()}\n{parties.U()}\n")  # who publishes shows the first
    report = bench(*options)
    assert report["ok"] and report["ready"] == 40 and report["deliveries"] == 40 * report["published"] > 0
    file.write_text(f"{parties.T()}\r\n\nnone\n{parties.U()}\n{parties.U()}")
    report = bench(*options, status=1)
    assert report["ready"] == 30 and report["faults"]["status"] == 10, report


def test_wrong_usage(relay, tmp_path):
    empty = tmp_path / "empty"
    empty.write_text("\n")
    assert "there is none in it" in bench("--tokens", empty, status=2)
    assert "No such file" in bench("--tokens", tmp_path / "missing", status=2)
    assert "not understood" in bench("-n", "many", status=2)
    assert "not an option" in bench("more", status=2)
    assert "no such process" in bench("-P", 2**31 - 1, status=2)
    assert "ids" in bench("--storm", "-p", "inbox", status=2)


# --- a server that is not ---


class Liar(socketserver.ThreadingTCPServer):
    """POST /pub sends its body to all streams: with a fault at the fifth. /gzip is a compressed stream."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, fault):
        super().__init__(("127.0.0.1", 0), Handler)
        self.fault = fault
        self.lock = threading.Lock()
        self.streams, self.count, self.held, self.ended = [], 0, b"", False
        self.packers = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def publish(self, data):
        with self.lock:
            self.count += 1
            frame = b"id: %d\ndata: %s\n\n" % (self.count, data)
            if self.count == 5:
                frame = self.fault(self, frame)
            elif self.held:
                frame, self.held = frame + self.held, b""
            for i, stream in enumerate(self.streams):
                good = b"id: %d\ndata: %s\n\n" % (self.count, data)
                if i > 0:  # the fault hits the first stream only
                    stream.sendall(self.pack(stream, good))
                elif frame == "end":
                    self.streams[0].shutdown(2)
                elif frame == "garble":
                    stream.sendall(b"\xff" * 50)
                elif not self.ended:
                    stream.sendall(self.pack(stream, frame))
            self.ended = self.ended or frame in ("end", "garble")

    def pack(self, stream, frame):
        packer = self.packers.get(stream)
        return packer.compress(frame) + packer.flush(zlib.Z_SYNC_FLUSH) if packer else frame


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while request := self.rfile.readline():
            length = 0
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            if request.startswith(b"POST"):
                self.server.publish(self.rfile.read(length))
                self.wfile.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            elif self.server.fault == "busy":
                self.wfile.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
            else:
                head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                if b"/gzip" in request:
                    self.server.packers[self.request] = zlib.compressobj(wbits=31)
                    head += b"Content-Encoding: gzip\r\n"
                self.wfile.write(head + b"\r\n")
                self.server.streams.append(self.request)


def lose(liar, frame):
    return b""


def repeat(liar, frame):
    return frame + frame


def swap(liar, frame):
    liar.held = frame
    return b""


def cut_short(liar, frame):
    return frame[:-4] + b"\n\n"


def gap(liar, frame):
    return b"event: x.gap\ndata: {}\n\n" + frame


def invent(liar, frame):
    return frame + frame.replace(b" 5 0 5 ", b" 5000 0 5000 ")


def end(liar, frame):
    return "end"


def garble(liar, frame):
    return "garble"


@pytest.mark.parametrize(
    "fault, name, more",
    [
        (lose, "lost", []),
        (repeat, "repeated", []),
        (swap, "order", ["-w", 4]),
        (swap, "order", ["-w", 4, "--order", "id"]),
        (cut_short, "size", []),
        (gap, "gap", []),
        (invent, "alien", []),
        (end, "ended", []),
        (garble, "broken", ["--gzip"]),
        (lose, "lost", ["--gzip"]),
        ("busy", "status", []),
    ],
)
def test_a_fault_is_found(fault, name, more):
    liar = Liar(fault)
    try:
        path = "gzip" if "--gzip" in more else "sub"
        urls = ["-u", f"{liar.url}/{path}", "--publish-url", f"{liar.url}/pub", "--redis", "none"]
        report = bench(*urls, *brief(3), "-p", "http", "--timeout", "500ms", *more, status=1)
    finally:
        liar.shutdown()
        liar.server_close()
    assert not report["ok"]
    assert report["faults"][name] > 0, report
    assert report["first_fault"]
    if fault in (end, garble):  # nothing waits for a stream that is gone
        assert not report["failure"] and report["published"] > 6


# --- the guard ---

GUARD = ROOT / "test" / "bench" / "guard.py"
BUILDER = "x86_64 gcc-12 -O2 libc-1 libmicrohttpd-1"


@pytest.fixture
def guard_module(monkeypatch):
    monkeypatch.syspath_prepend(str(GUARD.parent))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import guard

    return guard


def guard(directory, measured, committed, *args, builder=BUILDER):
    """Judges figures without measuring them: exit status and output."""
    figures, report = directory / "figures", directory / "measured.json"
    lines = [f"{name} {value}" for name, value in committed.items()]
    figures.write_text("\n".join(["# kept", "[another]", "one 5.0", "", f"[{BUILDER}]", *lines]))
    report.write_text(json.dumps({"builder": builder, "figures": measured}))
    done = subprocess.run(
        [sys.executable, str(GUARD), "--measured", str(report), "--figures", str(figures), *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "measured, status, word",
    [
        ({"one": 1000.0, "sixteen": 500.0}, 0, "none grew"),
        ({"one": 1049.0, "sixteen": 500.0}, 0, "none grew"),
        ({"one": 1051.0, "sixteen": 500.0}, 1, "FAILED: 1 of 2"),
        ({"one": 900.0, "sixteen": 530.0}, 1, "FAILED: 1 of 2"),  # a gain does not pay for a loss
        ({"one": 949.0, "sixteen": 500.0}, 0, "1 fell by more than 5%"),
        ({"one": 1000.0, "new": 1.0}, 1, "FAILED: 1 of 2"),  # nothing guards it
    ],
)
def test_guard_fails_where_a_delivery_has_become_dearer(tmp_path, measured, status, word):
    code, text = guard(tmp_path, measured, {"one": 1000.0, "sixteen": 500.0})
    assert (code, word in text) == (status, True), text


def test_guard_says_when_it_has_nothing_to_compare_with(tmp_path):
    code, text = guard(tmp_path, {"one": 9999.0}, {"one": 1.0}, builder="arm64 clang-19")
    assert code == 0 and "NOTHING COMPARED" in text and BUILDER in text, text


def test_guard_update_replaces_the_figures_of_this_compiler_only(tmp_path, guard_module):
    code, text = guard(tmp_path, {"one": 2000.0}, {"one": 1000.0, "gone": 1.0}, "--update")
    assert code == 0 and "+100.0%" in text, text
    figures = guard_module.read_figures(tmp_path / "figures")
    assert figures == {"another": {"one": 5.0}, BUILDER: {"one": 2000.0}}


def test_guard_has_committed_figures_for_what_it_measures(guard_module):
    figures = guard_module.read_figures(guard_module.FIGURES)
    names = {scenario.name for scenario in guard_module.SCENARIOS}
    assert figures and all(set(of_one) == names for of_one in figures.values())


def test_guard_counts_only_what_was_delivered_as_published(relay_factory, guard_module, monkeypatch):
    monkeypatch.setattr(guard_module, "STREAMS", 3)
    relay = relay_factory(redis="memory:")
    connection = guard_module.http.client.HTTPConnection("127.0.0.1", relay.port, timeout=TIMEOUT_S)
    (cursor,) = guard_module.post(connection, [("guard", "the first", None)])
    own = guard_module.Scenario("own", "guard.%d.*", "guard.%d.a", 2, 0, 0)
    streams = guard_module.Streams(relay.port, own.asks, cursor)
    assert guard_module.publish(connection, streams, [*guard_module.make_events(own, 0)]) == 2
    # One that the first stream gets is expected at the second.
    topic, data, _ = next(guard_module.make_events(own, 0))
    with pytest.raises(guard_module.Failed, match="stream 0 .* not its own"):
        guard_module.publish(connection, streams, [(topic, data, [1])])
    streams.close()
    connection.close()


# --- the report ---


def test_report_shows_medians_misses_and_what_was_skipped_and_a_document_takes_them_over(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "test" / "bench"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import measure
    import report
    from scenarios import SCENARIOS

    bench = measure.Bench(3, 1)
    bench.commands = [{"args": "--runs 3", "load": 3.0, "minutes": 0.5}]
    bench.skipped = {"nchan, Redis": "not installed"}
    scenario = SCENARIOS[1]
    for who, cost in (("sse-relay", 0.5), ("bare epoll loop", 4.0), ("<odd>", 1.0)):
        for turn, more in enumerate((0, 0.1, 0.2)):
            bench.add(scenario.name, who, {"CPU µs/delivery": cost + more, "deliveries/s": 1e6}, turn)
    bench.note(scenario.name, "a run failed")
    bench.note("storm", "all runs failed")
    report.write(bench, SCENARIOS, tmp_path / "out")
    text = (tmp_path / "out/report.md").read_text()
    assert "| sse-relay | 3 | 0.6 (0.5–0.7) | 1,000,000 (1,000,000–1,000,000) |" in text
    assert "|  | deliveries/s ≥ 1,500,000 | 1,000,000 (1,000,000–1,000,000) | **missed** |" in text
    assert "| not measured |" in text and "all runs failed" in text
    assert "not measured: nchan, Redis: not installed" in text
    assert "- a run failed" in text and "not idle" in text
    assert len(json.loads((tmp_path / "out/results.json").read_text())["results"]) == 9
    picture = (tmp_path / f"out/{scenario.name}.svg").read_text()
    assert "&lt;odd&gt;" in picture and picture.endswith("</svg>\n")

    document = tmp_path / "document.md"
    name = scenario.name
    document.write_text(f"1\n<!-- bench:begin -->\nold\n<!-- bench:end -->\n2\n<!-- bench:{name}:begin -->\nold\n"
                        f"<!-- bench:{name}:end -->\n<!-- bench:idle:begin -->\nkept\n<!-- bench:idle:end -->\n3\n")  # fmt: skip
    again = measure.Bench(0, 0)
    report.read(again, tmp_path / "out")
    for _ in range(2):  # once more changes nothing
        report.publish(again, SCENARIOS, tmp_path / "out", document)
        first, second, third = document.read_text().split("<!-- bench:begin -->\n")[1].split(":begin -->\n")
        assert "deliveries/s ≥ 1,500,000" in first and f"](charts/{name}.svg)" in first
        assert "| sse-relay | 3 | 0.6 (0.5–0.7) |" in second and "old" not in first + second
        assert third == "kept\n<!-- bench:idle:end -->\n3\n"
        assert (tmp_path / f"charts/{name}.svg").read_text() == picture

# --- the runner ---


def test_a_fleet_is_measured(monkeypatch):
    """The scenario with several relays and generators, small."""
    monkeypatch.syspath_prepend(str(ROOT / "test" / "bench"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import fleet

    monkeypatch.setattr(fleet, "TOOL", TOOL)
    figures = fleet.Fleet(heartbeat_s=1).once(2, 40, 1, ["--rate", 8])
    assert figures["clients"] == 80
    assert figures["deliveries/s"] > 0 and figures["deliveries/write"] > 0  # heartbeats are writes, too
    assert figures["KB/client"] > 0 and figures["CPU µs/delivery"] > 0 and figures["events/s"] > 0
    assert set(fleet.model(figures, 2, 40)) <= set(figures)
