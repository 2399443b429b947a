# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a private Redis, relays, stream clients, publishers, HAProxy, Chromium."""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import redis as redis_py

sys.path.insert(0, str(Path(__file__).resolve().parent))

import relay_process  # noqa: E402
import sse_client  # noqa: E402
import swarm as swarm_module  # noqa: E402
from auth_rig import attack_number, guarded, parties  # noqa: E402, F401
from redis_server import RedisServer, free_port  # noqa: E402
from relay_process import BINARY, ROOT, Relay, wait_until  # noqa: E402
from sse_client import SSEClient  # noqa: E402

VECTORS = ROOT / "test" / "vectors"

if BINARY.exists() and swarm_module.sanitized(BINARY):
    for module in (sse_client, relay_process, swarm_module):
        module.TIMEOUT_S *= 4  # such a build is that much slower


def pytest_configure(config):
    if not BINARY.exists() and not config.getoption("collectonly"):
        print(f"warning: {BINARY} is missing: run make first", file=sys.stderr)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for log in getattr(item, "relay_logs", []):
            text = log.read_text(errors="replace") if log.exists() else ""
            report.sections.append((f"{log.name}", text[-6000:]))


def load_vectors(name):
    return json.loads((VECTORS / name).read_text())


# --- Redis ---


@pytest.fixture(scope="session")
def redis_process():
    with tempfile.TemporaryDirectory(prefix="sse-relay-redis-") as directory:
        unix = Path(directory) / "redis.sock"
        server = RedisServer(directory, args=["--unixsocket", unix, "--repl-diskless-sync-delay", "0"])
        server.unix = unix
        server.start()
        yield server
        server.stop()


@pytest.fixture
def redis(redis_process):
    """A running, empty Redis server. Whatever a test does to it is undone for the next."""
    server = redis_process
    for saved in server.dir.glob("*.rdb"):
        saved.unlink()  # or a restart would bring back what an earlier test has saved
    alive = server.process is not None and server.process.poll() is None
    if not alive:
        server.stop()
        server.start()
    admin = server.client()
    admin.flushall()
    admin.function_flush()
    yield server
    if server.process is not None and server.process.poll() is None:
        r = redis_py.Redis(port=server.port, password=getattr(server, "password", None))
        if getattr(server, "password", None):
            r.config_set("requirepass", "")
        r.config_set("maxmemory", 0)
        for user in r.acl_users():
            user = user.decode() if isinstance(user, bytes) else user
            if user != "default":
                r.acl_deluser(user)
        r.close()
    server.password = None


class Doors:
    """The ways to publish that go through Redis."""

    def __init__(self, client, prefix="sse"):
        self.redis = client
        self.prefix = prefix

    def key(self, ns="default", *rest):
        return ":".join([f"{self.prefix}:{{{ns}}}", *rest])

    @staticmethod
    def _args(topic, data, options):
        topics = topic if isinstance(topic, (list, tuple)) else [topic]
        args = [a for t in topics for a in ("topic", t)] + ["data", data]
        for name, value in options.items():
            args += [name, value]
        return args

    def fcall(self, topic, data="", ns="default", **options):
        """FCALL sse_publish: the id, None for an ephemeral event."""
        id = self.redis.fcall("sse_publish", 1, self.key(ns), *self._args(topic, data, options))
        return int(id) if id else None

    def many(self, topic, datas, ns="default", **options):
        """The same for many at once, pipelined: the ids."""
        return self._pipelined(ns, [self._args(topic, data, options) for data in datas])

    def each(self, topics, data):
        """An event on each topic, pipelined: the ids."""
        return self._pipelined("default", [self._args(topic, data, {}) for topic in topics])

    def _pipelined(self, ns, calls):
        pipe = self.redis.pipeline(transaction=False)
        for args in calls:
            pipe.fcall("sse_publish", 1, self.key(ns), *args)
        return [int(id) if id else None for id in pipe.execute()]

    def xadd(self, topic, data="", ns="default", **options):
        flat = self._args(topic, data, options)
        return self.redis.execute_command("XADD", self.key(ns, "inbox"), "*", *flat)

    def silently(self, *topics, data="", id=None, then=(), ns="default", **fields):
        """What FCALL sse_publish writes of an event, without its PUBLISH: the id. @id: not the next of the counter.
        @then: (topic, data, options) of events that are published right behind it; their ids follow.

        All in one step, as the functions do it: a relay that looks in between must not see half an event."""
        seq, index = self.key(ns, "seq"), self.key(ns, "topics")
        with self.redis.pipeline(transaction=True) as pipe:
            while True:
                try:
                    pipe.watch(seq, index)
                    eid = id or int(pipe.get(seq) or 0) + 1
                    last = {t: int(pipe.zscore(index, t) or 0) for t in topics}
                    pipe.multi()
                    if not id:
                        pipe.incr(seq)
                    for t in topics:
                        pipe.xadd(self.key(ns, "log", t), {"data": data, "prev": last[t], **fields}, id=f"{eid}-0")
                        pipe.zadd(index, {t: eid})
                    for topic, text, options in then:
                        pipe.fcall("sse_publish", 1, self.key(ns), *self._args(topic, text, options))
                    answers = pipe.execute()
                    return [eid, *map(int, answers[-len(then) :])] if then else eid
                except redis_py.WatchError:
                    pass  # somebody has published meanwhile

    def spoil(self, key, kept=None):
        """Makes somebody's list of a key, in one step. @kept: what it was is called this, if it was anything."""
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.rename(key, kept) if kept else pipe.delete(key)
            pipe.rpush(key, "what")
            pipe.execute()

    def mend(self, key, kept=None):
        """What spoil() has made goes; what it has kept is back."""
        self.redis.rename(kept, key) if kept else self.redis.delete(key)

    def raw(self, topic, data, ns="default"):
        """PUBLISH of bytes: how many subscriptions heard it."""
        return self.redis.publish(self.key(ns, "ch", topic), data)


@pytest.fixture
def doors(redis):
    return Doors(redis.client())


class Publishing:
    """A thread that publishes "1", "2", … until it is stopped or has published all."""

    def __init__(self, publish, total=None, pause=0.0, every=None):
        self._publish = publish
        self._total = total
        self._pause = pause
        self._every = every or (lambda n: None)
        self._stop = threading.Event()
        self.ids = []
        self.error = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        n = 0
        try:
            while not self._stop.is_set() and n != self._total:
                n += 1
                self.ids.append(self._publish(str(n)))
                self._every(n)
                if self._pause:
                    self._stop.wait(self._pause)
        except Exception as error:  # shown by stop()
            self.error = error

    @property
    def count(self):
        return len(self.ids)

    def wait_for(self, count):
        wait_until(lambda: self.error or self.count >= count, f"{count} published")
        return self

    def stop(self):
        """Ends it, and returns how many were published."""
        self._stop.set()
        self._thread.join(sse_client.TIMEOUT_S)
        assert not self._thread.is_alive()
        if self.error:
            raise self.error
        return self.count

    def finish(self, timeout=60):
        self._thread.join(timeout)
        assert not self._thread.is_alive(), f"published {self.count} only"
        return self.stop()


@pytest.fixture
def publishing():
    running = []

    def start(publish, **kw):
        running.append(Publishing(publish, **kw))
        return running[-1]

    yield start
    for p in running:
        p._stop.set()
        p._thread.join(5)


# --- relays and clients ---


@pytest.fixture
def clients():
    """Everything that holds streams open, so that it is gone before the relays end."""
    open_clients = []
    yield open_clients
    sse_client.close_all(open_clients)
    assert not [c.malformed for c in open_clients if getattr(c, "malformed", None)]


@pytest.fixture
def relay_factory(request, tmp_path, clients):
    """relay_factory({"queue.max_events": 5}, workers=1, …) starts a relay and waits for /ready. @files: its limit."""
    relays = []
    request.node.relay_logs = []

    def start(config=None, ready=True, args=(), env=None, files=None, **more):
        config = {
            "listen": "127.0.0.1:0",
            "workers": 2,
            "drain": "200ms",
            **({"compress": ">"} if sse_client.GZIP else {}),
            **(config or {}),
            **more,
        }
        if "redis" not in config:
            config["redis"] = request.getfixturevalue("redis").url
        config = {k: v for k, v in config.items() if v is not None}
        relay = Relay(tmp_path, config, args, env, files)
        relays.append(relay)
        request.node.relay_logs.append(relay.log_path)
        return relay.start(ready)

    yield start
    for client in clients:
        client.close()
    problems = []
    for relay in relays:
        try:
            relay.stop()
        except AssertionError as e:
            problems.append(str(e))
    assert not problems, "\n".join(problems)


@pytest.fixture
def relay(redis, relay_factory):
    return relay_factory()


@pytest.fixture
def sse_connect(clients):
    """sse_connect(relay, "a", "b.*", last_event_id=7, params={"replay": 3}): a stream, subscribed."""

    def connect(target, *topics, wait=True, path="/events", **kw):
        base = target if isinstance(target, str) else target.url
        client = SSEClient(base + path, topics, **kw)
        clients.append(client)
        return client.wait_connected() if wait else client

    return connect


@pytest.fixture
def swarm(clients):
    """swarm([relay, …], 50, "topic", resume=True): many streams."""

    def start(targets, count, *topics, **kw):
        urls = [t if isinstance(t, str) else t.url for t in targets]
        s = swarm_module.Swarm(urls, count, topics=topics, **kw)
        clients.append(s)
        return s

    return start


# --- in front of the relays ---


@pytest.fixture
def haproxy(tmp_path):
    """haproxy(relay, relay): HAProxy with the configuration of deploy/ in front of them; its base URL. @replace: a
    text of the configuration, and another in its place."""
    running = []

    def start(first, second, replace=("", "")):
        text = (ROOT / "deploy" / "haproxy.cfg").read_text()
        assert replace[0] in text
        path = tmp_path / "haproxy.cfg"
        path.write_text(text.replace(*replace) if replace[0] else text)
        binary = shutil.which("haproxy") or "/usr/sbin/haproxy"
        port = free_port()
        env = {
            **relay_process.clean_environment(),
            "FRONT_BIND": f"127.0.0.1:{port}",
            "RELAY_1": f"127.0.0.1:{first.port}",
            "RELAY_2": f"127.0.0.1:{second.port}",
        }
        command = [binary, "-db", "-f", str(path)]
        with open(tmp_path / "haproxy.log", "wb") as log:
            running.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
        return wait_front(port, "HAProxy")

    yield start
    for process in running:
        process.terminate()
        process.wait()


@pytest.fixture
def nginx(tmp_path):
    """The same with nginx, whose configuration has fixed addresses: they are replaced."""
    running = []

    def start(first, second, replace=("", "")):
        binary = shutil.which("nginx") or "/usr/sbin/nginx"
        port = free_port()
        text = (ROOT / "deploy" / "nginx.conf").read_text()
        assert replace[0] in text
        text = text.replace(*replace) if replace[0] else text
        own_paths = "".join(
            f" {kind}_temp_path {tmp_path}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        for old, new in (
            ("127.0.0.1:8081", f"127.0.0.1:{first.port}"),
            ("127.0.0.1:8082", f"127.0.0.1:{second.port}"),
            ("listen 8080;", f"listen 127.0.0.1:{port};"),
            ("pid /run/nginx-sse-relay.pid;", f"pid {tmp_path}/nginx.pid; daemon off;"),
            ("http {", "http {" + own_paths),  # an ordinary user may not write to the packaged ones
        ):
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / "nginx.conf"
        path.write_text(text)
        with open(tmp_path / "nginx.log", "wb") as log:
            command = [binary, "-e", "stderr", "-p", str(tmp_path), "-c", str(path)]
            running.append(subprocess.Popen(command, stdout=log, stderr=log))
        return wait_front(port, "nginx")

    yield start
    for process in running:
        process.terminate()
        process.wait()


def wait_front(port, name):
    front = Relay.__new__(Relay)
    front.addresses = [f"127.0.0.1:{port}"]
    wait_until(lambda: front.ready()[0] == 200, name)
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def browser(tmp_path):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "/usr/bin/chromium"
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path / 'chromium'}",
    ):
        options.add_argument(flag)
    service = Service(shutil.which("chromedriver") or "/usr/bin/chromedriver")
    driver = webdriver.Chrome(service=service, options=options)
    driver.set_script_timeout(60)
    yield driver
    driver.quit()
