# SPDX-License-Identifier: Apache-2.0
"""Start, drain, reload, end."""

import json
import signal
import socket
import subprocess

import pytest

from redis_server import free_port
from relay_process import BINARY, clean_environment, json_lines, run_relay, wait_until
from stepped_clock import SteppedClock

# --- drain ---


def test_drain(redis, relay_factory, sse_connect, doors):
    relay = relay_factory(drain="2s", retry="3s")
    clients = [sse_connect(relay, "t") for _ in range(20)]
    ids = doors.many("t", [str(n) for n in range(50)])
    relay.terminate()
    wait_until(lambda: relay.ready()[0] != 200, "/ready to turn")
    status, body = relay.ready()
    assert (status, body["status"]) == (503, "draining")
    assert relay.get("/health").status_code == 200
    late = sse_connect(relay, "t", wait=False).wait_closed()
    assert late.status == 200 and late.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert late.retry is not None and late.clean and not late.reset
    assert late.rest == f"retry: {late.retry}" and not late.blocks and late.raw.endswith(b"\n")
    for client in clients:
        client.wait_closed()
        assert client.clean and not client.reset
        assert client.ids == ids, "queued events were not flushed"
        assert client.controls[-1].type == "relay.shutdown"
        assert client.raw.endswith(b"\n\n") and client.rest == ""
    assert relay.wait() == 0


def test_stream_refused_by_a_draining_node_keeps_its_cursor(redis, relay_factory, sse_connect, doors):
    """WHATWG: each connection's last-event-id buffer begins empty, and a blank line copies it. So a block
    without an id, before any with one, would make a client forget where it was: a silent hole."""
    relay = relay_factory(drain="1h")
    sse_connect(relay, "t")
    id = doors.fcall("t", "x")
    relay.terminate()
    wait_until(lambda: relay.ready()[0] == 503, "the drain")
    late = sse_connect(relay, "t", last_event_id=id, wait=False).wait_closed()
    assert late.status == 200 and late.retry
    assert all(block.last_event_id == str(id) for block in late.blocks), late.raw
    relay.terminate()
    relay.wait()


def test_held_stream_keeps_its_cursor_over_heartbeats_and_drain(redis, relay_factory, sse_connect, doors):
    relay = relay_factory({"heartbeat": "1s", "heartbeat.event": "beat"})
    id = doors.fcall("t", "x")
    redis.kill()
    wait_until(lambda: relay.ready()[0] == 503, "redis-down")
    held = sse_connect(relay, "t", last_event_id=id, wait=False)
    witness = sse_connect(relay, "t", last_event_id=id, wait=False)
    begun = len(held.wait_head().raw)
    held.wait_for(lambda c: len(c.raw) > begun)  # something is sent, to keep proxies content
    relay.terminate()
    for client in (held, witness):
        client.wait_closed()
        assert all(block.last_event_id == str(id) for block in client.blocks), client.raw


def test_shutdown_event_leaves_the_cursor(redis, relay_factory, sse_connect, doors):
    relay = relay_factory()
    client = sse_connect(relay, "t")
    id = doors.fcall("t", "x")
    client.wait_for(1)
    relay.terminate()
    client.wait_closed()
    assert client.controls[-1].type == "relay.shutdown"
    assert client.control("shutdown") == [{"id": None, "reason": "drain"}]
    assert client.last_event_id == str(id)


def test_drain_without_clients_ends_at_once(redis, relay_factory):
    relay = relay_factory(drain="1h")
    relay.terminate()
    assert relay.wait() == 0


def test_drain_zero_ends_streams_at_once(redis, relay_factory, sse_connect):
    relay = relay_factory(drain="0s")
    client = sse_connect(relay, "t")
    relay.terminate()
    client.wait_closed()
    assert client.clean and client.control("shutdown")
    assert relay.wait() == 0


def test_second_sigterm_ends_at_once(redis, relay_factory, sse_connect):
    relay = relay_factory(drain="1h")
    clients = [sse_connect(relay, "t") for _ in range(5)]
    relay.terminate()
    wait_until(lambda: relay.ready()[0] == 503, "the drain")
    relay.terminate()
    assert relay.wait() == 0
    for client in clients:
        client.wait_closed()
        assert not client.clean, "it was cut off, and should know"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_up_to_the_last_moment_leave_the_exit_code(redis, relay_factory, number):
    """An orchestrator may ask again just when the relay has drained: that is still a clean end."""
    for _ in range(5):
        relay = relay_factory()
        relay.terminate()
        while relay.running:
            relay.signal(number)
        assert relay.wait() == 0


def test_sigint_is_like_sigterm(redis, relay_factory, sse_connect):
    relay = relay_factory()
    client = sse_connect(relay, "t")
    relay.signal(signal.SIGINT)
    client.wait_closed()
    assert client.control("shutdown")
    assert relay.wait() == 0


# --- the wall clock is set ---


@pytest.fixture
def clock(tmp_path):
    return SteppedClock(tmp_path)


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_uptime_does_not_follow_the_wall_clock(relay_factory, clock, seconds):
    relay = relay_factory(redis="memory:", env=clock.env)
    before = relay.publish("t", "x")
    clock.step(seconds)
    after = relay.publish("t", "x")
    assert after > before and (after - before > 3e9) == (seconds > 0)  # it has seen the step
    assert 0 <= relay.stats()["uptime_seconds"] < 600


def test_drain_does_not_follow_the_wall_clock(relay_factory, sse_connect, clock):
    relay = relay_factory(redis="memory:", drain="2s", env=clock.env)
    clients = [sse_connect(relay, "t") for _ in range(20)]
    relay.terminate()
    relay.wait_log("msg=draining")
    clock.step(3600)
    assert relay.wait() == 0
    assert "some streams did not end in time" not in relay.log_text
    for client in clients:
        client.wait_closed()
        assert client.control("shutdown")


@pytest.mark.parametrize("door", ["fcall", "post"])
def test_drain_under_load_loses_nothing(redis, relay_factory, swarm, doors, publishing, door):
    old = relay_factory(drain="1s", retry="100ms")
    new = relay_factory(retry="100ms")
    s = swarm([old, new], 60, "t", resume=True).wait_connected()
    publish = doors.fcall if door == "fcall" else new.publish
    publisher = publishing(lambda n: publish("t", n), pause=0.001)
    publisher.wait_for(100)
    old.terminate()
    assert old.wait() == 0
    publisher.wait_for(publisher.count + 100)
    total = publisher.stop()
    want = [str(n) for n in range(1, total + 1)]
    s.wait(lambda c: len(c.data) >= total)
    for c in s.clients:
        assert c.data == want and not c.gaps
    new.wait_clients(60)


def test_drain_with_redis_down(redis, relay_factory, sse_connect):
    relay = relay_factory()
    live = sse_connect(relay, "t")
    redis.kill()
    wait_until(lambda: relay.ready()[0] == 503, "redis-down")
    held = sse_connect(relay, "t", wait=False).wait_head()
    relay.terminate()
    live.wait_closed()
    held.wait_closed()
    assert held.clean and held.raw.endswith(b"\n") and held.rest == f"retry: {held.retry}"
    assert relay.wait() == 0


def test_drain_with_a_stalled_reader_ends(redis, relay_factory, sse_connect, doors):
    """Nobody can keep a node from ending by not reading."""
    relay = relay_factory(drain="1s")
    stalled = sse_connect(relay, "t", receive_buffer=4096)
    stalled.stop_reading()
    for n in range(10):
        doors.fcall("t", "x" * 900_000)
    wait_until(lambda: relay.metric("sse_relay_events_received_total") >= 10)
    relay.terminate()
    assert relay.wait(timeout=60) == 0


def test_end_during_connects_and_posts(redis, relay_factory, swarm, publishing):
    """No crash and exit code 0, whatever is under way."""
    for _ in range(3):
        relay = relay_factory(drain="0s")
        s = swarm([relay], 100, "t", "u.*", params={"replay": "all"})
        publisher = publishing(lambda n: relay.publish("t", n))
        publisher.wait_for(5)
        relay.terminate()
        assert relay.wait() == 0
        s.close()
        publisher._stop.set()
        publisher.error = None


# --- reload ---


def write_config(path, **config):
    path.write_text("// a comment\n" + json.dumps(config))


def test_sighup_applies_what_is_safe(redis, relay_factory, sse_connect, tmp_path):
    path = tmp_path / "relay.json"
    write_config(path, **{"heartbeat.event": "", "heartbeat": "1h", "max_topics": 5})
    relay = relay_factory(args=["--config", path])
    old = sse_connect(relay, "t")
    write_config(path, **{"heartbeat.event": "beat", "heartbeat": "1s", "max_topics": 1})
    relay.signal(signal.SIGHUP)
    wait_until(lambda: relay.get("/events?topic=a&topic=b&topic=a..b").status_code == 400)
    new = sse_connect(relay, "t")
    new.wait_for(lambda c: c.events and c.events[0].type == "beat")
    assert not old.closed


def test_sighup_names_what_needs_a_restart(redis, relay_factory, tmp_path):
    path = tmp_path / "relay.json"
    write_config(path, prefix="sse", **{"logging.level": "info"})
    relay = relay_factory(args=["--config", path])
    write_config(path, prefix="other", **{"logging.level": "debug"})
    relay.signal(signal.SIGHUP)
    relay.wait_log(r"restart.*prefix|prefix.*restart")
    assert relay.publish("t", "x") > 0


@pytest.mark.parametrize("content", ["{", '{"no.such.key": 1}', '{"heartbeat": "soon"}', None])
def test_sighup_with_a_bad_file_changes_nothing(redis, relay_factory, sse_connect, tmp_path, content):
    path = tmp_path / "relay.json"
    write_config(path, max_topics=2)
    relay = relay_factory(args=["--config", path])
    client = sse_connect(relay, "t")
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    relay.signal(signal.SIGHUP)
    relay.wait_log(r"level=(error|warn).*(relay\.json|configuration)")
    relay.publish("t", "x")
    assert client.wait_for(1).data == ["x"]
    assert relay.get("/events?topic=a&topic=b&topic=c").status_code == 400


def test_sighup_checks_what_will_run(redis, relay_factory, tmp_path):
    """The file is valid; but wait_replicas needs a restart, so that it would stay without the timeout it needs."""
    path = tmp_path / "relay.json"
    write_config(path, max_topics=2, **{"publish.wait_replicas": 1, "publish.timeout": "300ms"})
    relay = relay_factory(args=["--config", path])
    write_config(path, max_topics=1, **{"publish.wait_replicas": 0, "publish.timeout": 0})
    relay.signal(signal.SIGHUP)
    line = relay.wait_log(r"level=(error|info).*the configuration|configuration read again")
    assert "not read again" in line and "needs_restart=publish.wait_replicas" in line
    assert "publish.wait_replicas needs a publish.timeout" in line
    answer = relay.post("/publish", json={"topic": "t", "data": "x"}, timeout=5)
    assert answer.status_code == 504 and answer.json()["published"] is True  # there is no replica
    assert relay.get("/events?topic=a&topic=b&event=e", stream=True).status_code == 200


def test_sighup_without_a_file_is_harmless(relay, sse_connect):
    client = sse_connect(relay, "t")
    relay.signal(signal.SIGHUP)
    relay.publish("t", "x")
    assert client.wait_for(1).data == ["x"]
    assert relay.running


# --- start ---


def test_port_in_use(redis, relay_factory):
    first = relay_factory()
    result = run_relay("--listen", f"127.0.0.1:{first.port}", "--redis", redis.url)
    assert result.returncode in (1, 2)
    assert str(first.port) in result.stderr and "in use" in result.stderr


def test_port_in_use_by_another_program(redis):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run_relay("--listen", f"127.0.0.1:{port}", "--redis", redis.url)
    assert result.returncode in (1, 2)
    assert str(port) in result.stderr and "in use" in result.stderr


def test_address_that_is_not_ours(redis):
    result = run_relay("--listen", "192.0.2.1:8080", "--redis", redis.url)
    assert result.returncode in (1, 2) and "192.0.2.1" in result.stderr


def test_several_addresses(redis, relay_factory, sse_connect):
    relay = relay_factory(listen=["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"])
    wait_until(lambda: relay._has_address() and len(relay.addresses) == 3, "three addresses")
    hosts = sorted(a.rsplit(":", 1)[0] for a in relay.addresses)
    assert hosts == ["127.0.0.1", "127.0.0.2", "[::1]"]
    clients = [sse_connect(f"http://{a}", "t") for a in relay.addresses]
    relay.publish("t", "x")
    for client in clients:
        assert client.wait_for(1).data == ["x"]


def test_chosen_port(redis, relay_factory):
    port = free_port()
    assert relay_factory(listen=f"127.0.0.1:{port}").port == port


def test_start_says_how_many_clients_fit(relay):
    relay.wait_log(r"(?i)clients")


def test_open_files_limit_is_raised_to_the_hard_one(redis, tmp_path):
    log = tmp_path / "limited.log"
    shell = 'ulimit -S -n 64; ulimit -H -n 4096; exec "$@"'
    with open(log, "wb") as out:
        process = subprocess.Popen(
            ["sh", "-c", shell, "sh", str(BINARY), "--listen", "127.0.0.1:0", "--redis", redis.url],
            stderr=out,
            stdout=out,
            env=clean_environment(),
        )
    try:
        wait_until(lambda: "msg=listening" in log.read_text(), "the start")
        limits = open(f"/proc/{process.pid}/limits").read()
        (line,) = [li for li in limits.splitlines() if li.startswith("Max open files")]
        assert line.split()[3:5] == ["4096", "4096"]
    finally:
        process.terminate()
        assert process.wait() == 0


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers(redis, relay_factory, swarm, doors, workers):
    relay = relay_factory(workers=workers)
    s = swarm([relay], 40, "t").wait_connected()
    for n in range(200):
        doors.fcall("t", n)
    s.wait(lambda c: len(c.data) >= 200)
    assert all(c.data == [str(n) for n in range(200)] for c in s.clients)
    assert relay.stats()["clients"] == 40


def test_environment_file_and_flags_in_order(redis, relay_factory, tmp_path):
    path = tmp_path / "relay.json"
    write_config(path, node="from-file", max_topics=3, retry="7s")
    env = {"SSE_RELAY_MAX_TOPICS": "4", "SSE_RELAY_NODE": "from-env", "SSE_RELAY_CONFIG": str(path)}
    relay = relay_factory(node="from-flag", env=env)
    assert relay.stats()["node"] == "from-flag"
    five, four = ("/events?" + "&".join(f"topic=t{i}" for i in range(n)) for n in (5, 4))
    assert relay.request("HEAD", five).status_code == 400
    assert relay.request("HEAD", four).status_code == 200


# --- logs ---


def test_json_logs_parse(redis, relay_factory, sse_connect, doors):
    relay = relay_factory({"logging.format": "json", "logging.level": "debug"})
    client = sse_connect(relay, "t", last_event_id='odd "id"\\')
    doors.redis.publish("sse:{default}:ch:t", b'{"sse":1,"id":"\xff\n\x00"}')
    relay.get('/"quoted"\\path')
    doors.fcall("t", "x")
    client.wait_for(1)
    client.close()
    relay.terminate()
    assert relay.wait() == 0
    lines = json_lines(relay.log_text)
    assert lines
    for line in lines:
        assert line["level"] in ("debug", "info", "warn", "error") and line["msg"]


def test_logfmt_is_one_line_per_message(redis, relay_factory, sse_connect, doors):
    relay = relay_factory({"logging.level": "debug"})
    sse_connect(relay, "t", last_event_id="x=1 msg=forged")
    relay.get("/nothing%0Amsg=forged")
    doors.redis.publish("sse:{default}:ch:t", '{"sse":1,"id":"x\nmsg=forged"}')
    relay.publish("t", "x")
    for line in relay.log:
        assert line.startswith("ts="), line
        assert " level=" in line and " msg=" in line


def test_logging_level(redis, relay_factory):
    loud = relay_factory()
    assert "level=info" in loud.log_text and "level=debug" not in loud.log_text
    port = free_port()
    silent = subprocess.Popen(
        [str(BINARY), "--listen", f"127.0.0.1:{port}", "--redis", redis.url, "--logging.level", "error"],
        env=clean_environment(),
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "its port")
    silent.terminate()
    assert silent.communicate()[1] == b"" and silent.returncode == 0


def test_no_log_line_per_event_or_stream(relay, sse_connect, doors):
    """At info, traffic is silent: what a client can cause, it cannot fill a disk with."""
    before = len(relay.log)
    for n in range(20):
        client = sse_connect(relay, "t", last_event_id="bad")
        doors.fcall("t", n)
        doors.raw("t", '{"sse":1}')
        relay.post("/publish", data="x")
        client.wait_for(1)
        client.close()
    relay.wait_clients(0)
    assert len(relay.log) - before < 10, relay.log[before:]
