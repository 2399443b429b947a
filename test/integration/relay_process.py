# SPDX-License-Identifier: Apache-2.0
"""A relay under test: started on a free port, its log kept, ended by its own pid."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import requests

from prometheus import parse_prometheus
from sse_client import TIMEOUT_S

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("SSE_RELAY_BIN") or ROOT / "build" / "sse-relay").resolve()
LISTENING = re.compile(r'msg"?[=:]\s*"?listening"?.*?address"?[=:]\s*"?([^\s",]+)')
COMPLAINTS = ("AddressSanitizer", "LeakSanitizer", "ThreadSanitizer", "runtime error:")


def wait_until(test, what="", timeout=None):
    """Polls until @test() is true and returns what it returned."""
    deadline = time.monotonic() + (timeout or TIMEOUT_S)
    while True:
        result = test()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what or test}: {result!r}")
        time.sleep(0.01)


def flags_of(config):
    """{"queue.max_events": 5, "listen": [a, b]} as flags; a list repeats its flag."""
    flags = []
    for key, value in config.items():
        for v in value if isinstance(value, (list, tuple)) else [value]:
            flags += [f"--{key}", str(v).lower() if isinstance(v, bool) else str(v)]
    return flags


def clean_environment(extra=None):
    """Without what would configure the relay; SSE_RELAY_TEST_OPTIONS="name=value …" runs every test with these."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("SSE_RELAY_")}
    for option in os.environ.get("SSE_RELAY_TEST_OPTIONS", "").split():
        name, _, value = option.partition("=")
        env[f"SSE_RELAY_{name.upper()}"] = value
    return {**env, **(extra or {})}


def run_relay(*args, env=None, timeout=None):
    """Runs it to its end; for --help and the like, and for starts that must fail."""
    return subprocess.run(
        [str(BINARY), *map(str, args)],
        env=clean_environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=timeout or TIMEOUT_S,
        text=True,
        errors="replace",
    )


class Relay:
    # What tests write into Host; and a reader of a busy machine is not slow, unless a test says so: what comes at once
    # fits. None in @env: as if the variable were not there.
    ENVIRONMENT = {
        "SSE_RELAY_HOSTS": "x,relay",
        "SSE_RELAY_QUEUE_MAX_EVENTS": "1024",
        "SSE_RELAY_QUEUE_MAX_BYTES": "64MB",
    }

    def __init__(self, directory, config, args=(), env=None, files=None):
        self.config = config
        self.command = ["prlimit", f"--nofile={files}:{files}"] if files else []
        self.args = [*flags_of(config), *map(str, args)]
        self.env = {k: v for k, v in {**self.ENVIRONMENT, **(env or {})}.items() if v is not None}
        self.log_path = Path(directory) / f"relay-{len(list(Path(directory).glob('relay-*')))}.log"
        self.process = None
        self.addresses = []
        self.credentials = {}  # headers, where /stats is not for everybody
        self.killed = False

    def start(self, ready=True):
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*self.command, str(BINARY), *self.args],
                env=clean_environment(self.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._has_address, "the line msg=listening")
        if ready:
            self.wait_ready()
        return self

    def _has_address(self):
        self.addresses = LISTENING.findall(self.log_text)
        if self.process.poll() is not None:
            raise AssertionError(
                f"the relay ended at its start with {self.process.returncode}:\n{self.log_text}"
            )
        return bool(self.addresses)

    # --- where it is ---

    @property
    def pid(self):
        return self.process.pid

    @property
    def port(self):
        return int(self.addresses[0].rsplit(":", 1)[1])

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_text(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def log(self):
        return self.log_text.splitlines()

    @property
    def running(self):
        return self.process.poll() is None

    def wait_log(self, pattern, timeout=None):
        """Until a line of the log matches the regular expression; returns it."""
        found = lambda: next((li for li in self.log if re.search(pattern, li)), None)  # noqa: E731
        return wait_until(found, f"a log line like {pattern!r}", timeout)

    # --- HTTP ---

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, path, data=None, **kw):
        return self.request("POST", path, data=data, **kw)

    def request(self, method, path, **kw):
        kw.setdefault("timeout", TIMEOUT_S)
        kw.setdefault("allow_redirects", False)
        with requests.Session() as session:
            session.trust_env = False  # no proxy of the machine's
            return session.request(method, self.url + path, **kw)

    def publish(self, topic, data="", **fields):
        """POST /publish of one JSON event; the id as an integer, None for an ephemeral one."""
        names = {"topics": topic} if isinstance(topic, (list, tuple)) else {"topic": topic}
        answer = self.post("/publish", json={**names, "data": data, **fields})
        assert answer.status_code == 200, (answer.status_code, answer.text)
        id = answer.json()["id"]
        return None if id is None else int(id)

    def ready(self):
        """Status and body of /ready; (0, {}) when nobody answers."""
        try:
            answer = self.get("/ready")
            return answer.status_code, answer.json()
        except requests.RequestException:
            return 0, {}

    def wait_ready(self):
        wait_until(lambda: self.ready()[0] == 200, "/ready")
        return self

    def stats(self):
        answer = self.get("/stats", headers=self.credentials)
        assert answer.status_code == 200
        return answer.json()

    def subscribers(self, topic, ns="default"):
        for entry in self.stats()["topics"]:
            if (entry["ns"], entry["topic"]) == (ns, topic):
                return entry["subscribers"]
        return 0

    def metrics(self):
        """Samples by name and labels: {'sse_relay_clients{state="live"}': 3.0, …}."""
        answer = self.get("/metrics", headers=self.credentials)
        assert answer.status_code == 200
        return parse_prometheus(answer.text)

    def metric(self, name, **labels):
        text = ",".join(f'{k}="{v}"' for k, v in labels.items())
        return self.metrics()[f"{name}{{{text}}}" if text else name]

    def wait_clients(self, count):
        wait_until(lambda: self.stats()["clients"] == count, f"{count} clients")

    # --- its end ---

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.killed = True
        self.process.kill()
        self.process.wait()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout=None):
        return self.process.wait(timeout or TIMEOUT_S)

    def stop(self):
        """A clean end, and everything that a clean end promises. Fine if it has ended already."""
        if self.process is None:
            return
        if self.running:
            self.terminate()
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGABRT)  # leaves a core for whoever wants one
                self.process.wait()
        complaints = [li for li in self.log if any(c in li for c in COMPLAINTS)]
        assert not complaints, f"a sanitizer complained:\n{self.log_text}"
        if not self.killed:
            code = self.process.returncode
            assert code == 0, f"the relay ended with {code}:\n{self.log_text[-4000:]}"


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]
