# SPDX-License-Identifier: Apache-2.0
"""Command line, environment, file: exit codes, and messages that name the option."""

import json
import re

import pytest

from relay_process import run_relay


def test_help():
    result = run_relay("--help")
    assert result.returncode == 0 and not result.stderr
    for key in ("listen", "redis", "prefix", "heartbeat", "queue.max_bytes", "log.ttl", "cors.origins"):
        assert f"--{key}" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 200


def test_version():
    result = run_relay("--version")
    assert result.returncode == 0
    assert re.search(r"\d+\.\d+\.\d+", result.stdout)


def test_check_config_of_the_defaults():
    assert run_relay("--check-config").returncode == 0


def test_print_config_can_be_read_again(tmp_path):
    first = run_relay("--print-config", "--heartbeat", "7s", "--cors.origins", "https://a.example")
    assert first.returncode == 0
    path = tmp_path / "relay.json"
    path.write_text(first.stdout)
    assert run_relay("--check-config", "--config", path).returncode == 0
    again = run_relay("--print-config", "--config", path)
    assert again.stdout == first.stdout
    plain = re.sub(r"^\s*//.*$", "", first.stdout, flags=re.M)
    values = json.loads(plain)
    assert values["heartbeat"] == "7s" and values["cors.origins"] == ["https://a.example"]


def test_print_config_hides_the_password():
    result = run_relay("--print-config", "--redis", "redis://me:hunter2@127.0.0.1:6379/1")
    assert result.returncode == 0 and "hunter2" not in result.stdout


@pytest.mark.parametrize(
    "args,words",
    [
        (["--no-such-key", "1"], ["no-such-key"]),
        (["--heartbeet", "1s"], ["heartbeet", "heartbeat"]),
        (["--heartbeat"], ["heartbeat", "value"]),
        (["--heartbeat", "soon"], ["heartbeat", "soon"]),
        (["--heartbeat", "-5s"], ["heartbeat", "-5s"]),
        (["--workers", "many"], ["workers", "many"]),
        (["--workers", "-1"], ["workers", "-1"]),
        (["--queue.max_bytes", "1"], ["queue.max_bytes"]),
        (["--queue.max_bytes", "999999999999999999999GB"], ["queue.max_bytes"]),
        (["--listen", "nowhere"], ["listen", "nowhere"]),
        (["--listen", "127.0.0.1:99999"], ["listen", "99999"]),
        (["--redis", "http://x"], ["redis", "http://x"]),
        (["--redis", "rediss://127.0.0.1:0"], ["redis", "rediss"]),
        (["--prefix", "a b"], ["prefix", "a b"]),
        (["--prefix", "a{b"], ["prefix", "a{b"]),
        (["--inbox.namespaces", "a b"], ["inbox.namespaces", "a b"]),
        (["--cors.origins", "https://x/path"], ["cors.origins", "https://x/path"]),
        (["--control_events", "maybe"], ["control_events", "maybe"]),
        (["--logging.level", "loud"], ["logging.level", "loud", "debug"]),
        (["--log.ttl", "2h", "--index.ttl", "1h"], ["index.ttl", "log.ttl"]),
        (["stray"], ["stray"]),
        (["--config", "/no/such/file.json"], ["/no/such/file.json"]),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
@pytest.mark.parametrize("mode", [[], ["--check-config"]], ids=["run", "check"])
def test_bad_usage_is_2_and_says_what(args, words, mode):
    result = run_relay(*mode, *args)
    assert result.returncode == 2, result
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize(
    "text,words",
    [
        ("{", []),
        ("", []),
        ("[]", []),
        ('{"heartbeet": "1s"}', ["heartbeet", "heartbeat"]),
        ('{"heartbeat": []}', ["heartbeat"]),
        ('{"heartbeat": "soon"}', ["heartbeat", "soon"]),
        ('{"queue": {"max_events": -1}}', ["queue.max_events"]),
        ('{"listen": [1]}', ["listen"]),
        ('{"prefix": "a", "prefix": "b"}', ["prefix"]),
        ('{"heartbeat": "1s"} more', []),
        ("\x00\x01\x02", []),
        ("[" * 50000, []),
    ],
)
def test_bad_file_is_2_and_says_what(tmp_path, text, words):
    path = tmp_path / "relay.json"
    path.write_text(text)
    result = run_relay("--config", path, "--check-config")
    assert result.returncode == 2, result
    for word in ["relay.json", *words]:
        assert word in result.stderr


def test_nested_and_dotted_keys_are_the_same(tmp_path):
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text('{"queue": {"max_events": 7}, "log": {"ttl": "2h"}}')
    b.write_text('{"queue.max_events": 7, "log.ttl": "2h"}')
    assert run_relay("--print-config", "--config", a).stdout == run_relay("--print-config", "--config", b).stdout


@pytest.mark.parametrize(
    "env,words",
    [
        ({"SSE_RELAY_HEARTBEET": "1s"}, ["SSE_RELAY_HEARTBEET"]),
        ({"SSE_RELAY_HEARTBEAT": "soon"}, ["heartbeat", "soon", "SSE_RELAY_HEARTBEAT"]),
        ({"SSE_RELAY_LOG_TTL": "x"}, ["log.ttl", "x"]),
    ],
)
def test_bad_environment_is_2_and_says_what(env, words):
    result = run_relay("--check-config", env=env)
    assert result.returncode == 2, result
    for word in words:
        assert word in result.stderr


def test_what_a_service_of_our_name_sets_is_no_option():
    """Kubernetes sets these in every pod of the namespace, for each Service; known options still count."""
    service = {
        "SERVICE_HOST": "10.96.0.11",
        "SERVICE_PORT": "8080",
        "SERVICE_PORT_HTTP": "8080",
        "PORT": "tcp://10.96.0.11:8080",
        "PORT_8080_TCP": "tcp://10.96.0.11:8080",
        "PORT_8080_TCP_PROTO": "tcp",
        "PORT_8080_TCP_PORT": "8080",
        "PORT_8080_TCP_ADDR": "10.96.0.11",
    }
    env = {f"SSE_RELAY_{part}{key}": v for part in ("", "FOO_", "REDIS_") for key, v in service.items()}
    result = run_relay("--print-config", env={**env, "SSE_RELAY_RETRY": "2s"})
    assert result.returncode == 0, result.stderr
    assert '"retry": "2s"' in result.stdout
    result = run_relay("--check-config", env={**env, "SSE_RELAY_RETRI": "2s"})
    assert result.returncode == 2 and "SSE_RELAY_RETRY" in result.stderr


def test_precedence(tmp_path):
    path = tmp_path / "relay.json"
    path.write_text('{"retry": "1s", "drain": "1s", "prefix": "file"}')
    env = {"SSE_RELAY_DRAIN": "2s", "SSE_RELAY_PREFIX": "env"}
    out = run_relay("--config", path, "--prefix", "flag", "--print-config", env=env).stdout
    for line in ('"retry": "1s"', '"drain": "2s"', '"prefix": "flag"', '"heartbeat": "15s"'):
        assert line in out
