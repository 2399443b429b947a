# SPDX-License-Identifier: Apache-2.0
"""Redis through TLS, where the relay has it built in; passwords from files and the environment everywhere."""

import json
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from redis_server import RedisServer, free_port
from relay_process import BINARY, run_relay, wait_until
from sentinel_process import NAME, SentinelGroup

def is_built_in():
    asked = ("--redis", "rediss://127.0.0.1:1", "--check-config")
    return BINARY.exists() and "cannot use TLS" not in run_relay(*asked).stderr


BUILT_IN = is_built_in()
needs_tls = pytest.mark.skipif(not BUILT_IN, reason="this relay is built with a hiredis without TLS (before 1.0)")


def openssl(*args):
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, directory, name):
        self.dir = directory
        self.name = name
        self.cert, self._key = self.dir / f"{name}.crt", self.dir / f"{name}.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2,
                "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.cert)  # fmt: skip

    def issue(self, name, subject_alt_name):
        """(certificate, key) for somebody."""
        cert, key, request = (self.dir / f"{name}.{end}" for end in ("crt", "key", "csr"))
        extensions = self.dir / f"{name}.ext"
        extensions.write_text(f"subjectAltName={subject_alt_name}\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                "-keyout", key, "-out", request)  # fmt: skip
        openssl("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self._key, "-CAcreateserial", "-days", 2,
                "-extfile", extensions, "-out", cert)  # fmt: skip
        return cert, key


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    assert shutil.which("openssl"), "the openssl program makes the certificates of this test"
    return Authority(tmp_path_factory.mktemp("ca"), "test-ca")


@pytest.fixture(scope="module")
def client_cert(authority):
    return authority.issue("relay", "DNS:relay.test")


def tls_args(port, authority, cert, key, clients="no"):
    return [
        *("--tls-port", port, "--tls-ca-cert-file", authority.cert, "--tls-cert-file", cert, "--tls-key-file", key),
        *("--tls-auth-clients", clients),
    ]


@pytest.fixture
def tls_redis(authority, tmp_path):
    """tls_redis("IP:127.0.0.1"): a Redis with a plain port for the test and tls_port for the relay."""
    servers = []

    def start(subject_alt_name="IP:127.0.0.1,DNS:localhost", clients="no", ca=None):
        cert, key = (ca or authority).issue(f"server-{len(servers)}", subject_alt_name)
        port = free_port()
        directory = tmp_path / f"tls-{len(servers)}"
        servers.append(RedisServer(directory, args=tls_args(port, authority, cert, key, clients)).start())
        servers[-1].tls_url = f"rediss://127.0.0.1:{port}"
        servers[-1].tls_port = port
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def is_ssl(server):
    """Whether all of the relay's connections are at the TLS port."""
    ours = [c for c in server.client().client_list() if c["name"].startswith("sse-relay-")]
    return len(ours) == 3 and all(c["laddr"].endswith(f":{server.tls_port}") for c in ours)


@needs_tls
def test_events_and_publishing_through_tls(tls_redis, authority, relay_factory, sse_connect):
    server = tls_redis()
    relay = relay_factory({"redis": server.tls_url, "redis.ca": authority.cert})
    client = sse_connect(relay, "t", "p.*")
    relay.publish("t", "x")
    big = "y" * 900_000  # many TLS records, in both directions
    relay.publish("p.q", big)
    assert client.wait_for(2).data == ["x", big]
    assert is_ssl(server)
    for n in range(500):
        server.client().fcall("sse_publish", 1, "sse:{default}", "topic", "t", "data", str(n))
    assert client.wait_for(502).data[2:] == [str(n) for n in range(500)]
    server.client().client_kill_filter(_type="pubsub")
    relay.publish("t", "after")
    assert client.wait_for(503).data[-1] == "after"
    resumed = sse_connect(relay, "t", last_event_id=client.ids[0])
    assert resumed.wait_for(501).data[-1] == "after"


@needs_tls
def test_unknown_authority_is_refused(tls_redis, tmp_path, relay_factory):
    server = tls_redis()
    other = Authority(tmp_path, "other-ca")
    relay = relay_factory({"redis": server.tls_url, "redis.ca": other.cert}, ready=False)
    assert "certificate verify failed" in relay.wait_log("cannot reach Redis yet")
    assert relay.ready()[0] == 503
    system = relay_factory({"redis": server.tls_url}, ready=False)
    system.wait_log("certificate verify failed")


@needs_tls
@pytest.mark.parametrize("names", ["DNS:redis.other", "IP:127.0.0.2,DNS:127.0.0.1"])
def test_certificate_for_somebody_else_is_refused(tls_redis, authority, relay_factory, names):
    """The right authority is not enough: the name must be the host's."""
    server = tls_redis(names)
    relay = relay_factory({"redis": server.tls_url, "redis.ca": authority.cert}, ready=False)
    assert "mismatch" in relay.wait_log("cannot reach Redis yet")
    assert relay.ready()[0] == 503
    assert not [c for c in server.client().client_list() if c["name"].startswith("sse-relay")]


@needs_tls
def test_expected_name_can_be_told(tls_redis, authority, relay_factory):
    server = tls_redis("DNS:redis.internal")
    relay = relay_factory(
        {"redis": server.tls_url, "redis.ca": authority.cert, "redis.tls_name": "redis.internal"}
    )
    relay.publish("t", "x")


@needs_tls
def test_client_certificate(tls_redis, authority, client_cert, relay_factory):
    server = tls_redis(clients="yes")
    config = {"redis": server.tls_url, "redis.ca": authority.cert}
    without = relay_factory(config, ready=False)
    without.wait_log("TLS|closed|reset")
    assert without.ready()[0] == 503
    cert, key = client_cert
    relay = relay_factory({**config, "redis.cert": cert, "redis.key": key})
    relay.publish("t", "x")
    assert without.ready()[0] == 503


@needs_tls
def test_renewed_certificates_are_read_at_sighup(tls_redis, authority, client_cert, relay_factory, tmp_path):
    server = tls_redis()
    ca = tmp_path / "ca.pem"
    ca.write_text(Authority(tmp_path, "old-ca").cert.read_text())
    relay = relay_factory({"redis": server.tls_url, "redis.ca": ca}, ready=False)
    relay.wait_log("certificate verify failed")
    ca.write_text(authority.cert.read_text())
    relay.signal(signal.SIGHUP)
    relay.wait_ready()


@needs_tls
def test_server_without_tls_gets_no_plain_text(tmp_path, authority, relay_factory):
    """Nothing that looks like a command, above all no password, leaves before the handshake is done."""
    received = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                received.append(connection.recv(65536))
                connection.sendall(b"-ERR what is that\r\n")

    threading.Thread(target=serve, daemon=True).start()
    port = listener.getsockname()[1]
    relay = relay_factory(
        {"redis": f"rediss://u@127.0.0.1:{port}", "redis.ca": authority.cert},
        env={"SSE_RELAY_REDIS_PASSWORD": "s3cret"},
        ready=False,
    )
    assert "TLS" in relay.wait_log("cannot reach Redis yet")
    wait_until(lambda: len(received) > 3, "some attempts")
    listener.close()
    for data in received:
        assert data[:2] == b"\x16\x03", data  # a handshake record
        assert b"s3cret" not in data and b"AUTH" not in data


@needs_tls
def test_hanging_handshake_is_given_up(relay_factory, authority):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        relay = relay_factory(
            {"redis": f"rediss://127.0.0.1:{port}", "redis.ca": authority.cert}, ready=False
        )
        relay.wait_log("the TLS handshake took too long")
        assert relay.get("/health").status_code == 200


@needs_tls
def test_sentinels_and_redis_through_tls(authority, relay_factory, tmp_path, sse_connect):
    cert, key = authority.issue("group", "IP:127.0.0.1")
    common = ["tls-replication yes", "tls-auth-clients no"]
    common += [f"tls-ca-cert-file {authority.cert}", f"tls-cert-file {cert}", f"tls-key-file {key}"]
    primary = RedisServer(tmp_path / "primary")
    tls = free_port()
    primary.args = list(map(str, tls_args(tls, authority, cert, key)))
    group = SentinelGroup(tmp_path / "group", sentinels=1, replicas=0, lines=common)
    sentinel_tls = free_port()
    sentinel = group.sentinels[0]
    text = sentinel.config.read_text().replace(f" {group.servers[0].port} ", f" {tls} ")
    sentinel.config.write_text(text + f"tls-port {sentinel_tls}\n")
    try:
        primary.start()
        sentinel.start()
        url = f"rediss+sentinel://127.0.0.1:{sentinel_tls}/{NAME}"
        relay = relay_factory({"redis": url, "redis.ca": authority.cert})
        client = sse_connect(relay, "t")
        relay.publish("t", "x")
        assert client.wait_for(1).data == ["x"]
    finally:
        group.stop()
        primary.stop()


@needs_tls
def test_files_are_checked_at_the_start(authority, client_cert, tmp_path):
    cert, key = client_cert
    _, other_key = authority.issue("another", "DNS:x")
    nothing = tmp_path / "empty.pem"
    nothing.write_text("")
    for extra, word in (
        (["--redis.ca", "/nonexistent"], "redis.ca"),
        (["--redis.ca", nothing], "redis.ca"),
        (["--redis.cert", cert], "redis.key"),
        (["--redis.key", key], "redis.cert"),
        (["--redis.cert", nothing, "--redis.key", key], "redis.cert"),
        (["--redis.cert", cert, "--redis.key", other_key], "redis.key"),
        (["--redis.cert", cert, "--redis.key", nothing], "redis.key"),
    ):
        done = run_relay("--redis", "rediss://127.0.0.1:1", *extra)
        assert done.returncode == 2 and word in done.stderr, done.stderr


@needs_tls
def test_certificates_that_go_bad_are_refused_at_sighup(tls_redis, authority, relay_factory, tmp_path):
    server = tls_redis()
    ca = tmp_path / "ca.pem"
    ca.write_text(authority.cert.read_text())
    relay = relay_factory({"redis": server.tls_url, "redis.ca": ca})
    ca.write_text("")
    relay.signal(signal.SIGHUP)
    assert "redis.ca" in relay.wait_log("the configuration was not read again")
    server.client().client_kill_filter(_type="pubsub")
    relay.publish("t", "x")
    relay.wait_ready()


@pytest.mark.skipif(BUILT_IN, reason="this relay has TLS built in")
def test_build_without_tls_refuses_it_at_sighup(redis, relay_factory, tmp_path):
    path = tmp_path / "relay.json"
    path.write_text(json.dumps({"redis": redis.url}))
    relay = relay_factory(args=["--config", path], redis=None)
    path.write_text(json.dumps({"redis": "rediss://127.0.0.1:1"}))
    relay.signal(signal.SIGHUP)
    assert "this build cannot use TLS" in relay.wait_log("the configuration was not read again")
    relay.publish("t", "x")


@pytest.mark.skipif(BUILT_IN, reason="this relay has TLS built in")
@pytest.mark.parametrize("url", ["rediss://127.0.0.1:1", "rediss+sentinel://127.0.0.1:1/m"])
def test_build_without_tls_says_so_and_what_to_do(url):
    done = run_relay("--redis", url)
    assert done.returncode == 2
    for word in ("this build cannot use TLS", "hiredis", "Debian 13", "stunnel"):
        assert word in done.stderr


# --- passwords ---


@pytest.fixture
def locked(redis):
    redis.client().execute_command("ACL", "SETUSER", "someone", "on", ">s3cret pass", "~*", "&*", "+@all")
    return f"redis://someone@127.0.0.1:{redis.port}"


def command_line(relay):
    with open(f"/proc/{relay.pid}/cmdline", "rb") as file:
        return file.read()


def test_password_from_a_file(locked, relay_factory, tmp_path):
    file = tmp_path / "password"
    file.write_text("s3cret pass\n")
    relay = relay_factory({"redis": locked, "redis.password_file": file})
    relay.publish("t", "x")
    assert b"s3cret" not in command_line(relay) and "s3cret" not in relay.log_text
    assert "command line" not in relay.log_text


def test_password_and_user_from_the_environment(redis, locked, relay_factory):
    env = {"SSE_RELAY_REDIS_PASSWORD": "s3cret pass", "SSE_RELAY_REDIS_USER": "someone"}
    relay = relay_factory(redis=redis.url, env=env)
    relay.publish("t", "x")
    assert b"s3cret" not in command_line(relay) and "s3cret" not in relay.log_text
    shown = run_relay("--print-config", env=env)
    assert shown.returncode == 0 and "s3cret" not in shown.stdout and '"***"' in shown.stdout


def test_url_from_the_environment(locked, relay_factory):
    url = locked.replace("@", ":s3cret%20pass@")
    relay = relay_factory(redis=None, env={"SSE_RELAY_REDIS": url})
    relay.publish("t", "x")
    assert "s3cret" not in relay.log_text and "command line" not in relay.log_text


def test_password_on_the_command_line_works_and_is_warned_of(locked, relay_factory):
    relay = relay_factory(redis=locked.replace("@", ":s3cret%20pass@"))
    relay.publish("t", "x")
    assert "level=warn" in relay.wait_log("a password stands on the command line")
    assert "s3cret" not in relay.log_text


def test_new_password_is_read_at_sighup(redis, locked, relay_factory, tmp_path, sse_connect):
    file = tmp_path / "password"
    file.write_text("s3cret pass\n")
    relay = relay_factory({"redis": locked, "redis.password_file": file})
    client = sse_connect(relay, "t")
    admin = redis.client()
    admin.execute_command("ACL", "SETUSER", "someone", "<s3cret pass", ">another")
    for connection in admin.client_list():
        if connection["user"] == "someone":
            admin.client_kill_filter(_id=connection["id"])
    relay.wait_log("WRONGPASS")
    assert relay.ready()[0] == 503
    file.write_text("another")
    relay.signal(signal.SIGHUP)
    relay.wait_ready()
    relay.publish("t", "x")
    assert client.wait_for(1).data == ["x"]


def test_unreadable_or_empty_password_file_stops_the_start(tmp_path):
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for path in (tmp_path / "none", empty, tmp_path):
        done = run_relay("--redis.password_file", path)
        assert done.returncode == 2
        assert "redis.password_file" in done.stderr and str(path) in done.stderr, done.stderr


def test_password_file_that_goes_bad_keeps_the_old_one(locked, relay_factory, tmp_path):
    file = tmp_path / "password"
    file.write_text("s3cret pass")
    relay = relay_factory({"redis": locked, "redis.password_file": file})
    file.write_text("")
    relay.signal(signal.SIGHUP)
    assert "redis.password_file" in relay.wait_log("the configuration was not read again")
    relay.publish("t", "x")
