# SPDX-License-Identifier: Apache-2.0
"""A private redis-server for tests: 127.0.0.1, a free port, its own directory, ended by its own pid.

    server = RedisServer(tmpdir)      # not started yet; port and url are known already
    server.start(); r = server.client(); ...; server.stop()

Nothing is persisted unless @args say so, except across restart(keep_data=True), which saves first.
"""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import redis

START_TIMEOUT_S = 20


def free_port():
    """A TCP port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class RedisServer:
    """One redis-server process. The port stays the same over stop, kill and restart."""

    def __init__(self, tmpdir, port=None, args=(), env=None):
        self._chosen = port is None
        self.port = port or free_port()
        self.dir = Path(tmpdir)
        self.args = [str(a) for a in args]
        self.env = {**os.environ, **env} if env else None
        self.process = None
        self._clients = []

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self.process.pid if self.process else None

    def start(self):
        """Starts the server and returns self once it answers with its data loaded."""
        assert self.process is None, "already running"
        tries = 5 if self._chosen else 1
        for left in range(tries - 1, -1, -1):
            self._spawn()
            if self._wait_until_ready():
                self._chosen = False
                return self
            if left:  # somebody took the free port between our look and the bind
                self.port = free_port()
        raise RuntimeError(f"redis-server did not start:\n{self._log_tail()}")

    def stop(self):
        """A clean end (SIGTERM); what @args asked to be persisted is. Fine if it is not running."""
        self._end(lambda p: p.terminate())

    def kill(self):
        """SIGKILL: whatever is not on disk is lost. Fine if it is not running."""
        self._end(lambda p: p.kill())

    def restart(self, keep_data=True):
        """Stops and starts on the same port: with what it held, or empty (functions gone, too)."""
        if keep_data:
            if self.process is not None:
                self._save()
            self.kill()
        else:
            self.kill()
            self._forget()
        return self.start()

    def client(self, **kw):
        """A redis.Redis of this server, strings decoded unless told otherwise. Closed at stop."""
        kw.setdefault("decode_responses", True)
        kw.setdefault("socket_timeout", 30)
        c = redis.Redis(host="127.0.0.1", port=self.port, **kw)
        self._clients.append(c)
        return c

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    def _spawn(self):
        binary = shutil.which("redis-server") or shutil.which("valkey-server")
        assert binary, "no redis-server in PATH"
        self.dir.mkdir(parents=True, exist_ok=True)
        command = [binary, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.dir)]
        command += ["--daemonize", "no", "--save", "", "--appendonly", "no", "--logfile", ""]
        with open(self.dir / "redis.log", "ab") as log:
            self.process = subprocess.Popen(
                command + self.args, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _wait_until_ready(self):
        """False if the process ended (port taken, bad argument)."""
        deadline = time.monotonic() + START_TIMEOUT_S
        probe = redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=2)
        password = self.arg("--requirepass")
        if password:
            probe = redis.Redis(host="127.0.0.1", port=self.port, password=password)
        try:
            while time.monotonic() < deadline:
                if self.process.poll() is not None:
                    self.process = None
                    return False
                try:  # the pid tells our own server from a stranger on the same port
                    if probe.info("server")["process_id"] == self.process.pid:
                        probe.ping()  # -LOADING while the data is read
                        return True
                except redis.RedisError:
                    pass
                time.sleep(0.01)
        finally:
            probe.close()
        self.kill()
        return False

    def _end(self, how):
        for c in self._clients:
            c.connection_pool.disconnect()
        process, self.process = self.process, None
        if process is None:
            return
        if process.poll() is None:
            how(process)
        try:
            process.wait(timeout=START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _save(self):
        r = redis.Redis(host="127.0.0.1", port=self.port, password=self.arg("--requirepass"))
        try:
            if r.config_get("appendonly")["appendonly"] == "no":
                r.save()
        finally:
            r.close()

    def _forget(self):
        for path in [*self.dir.glob("*.rdb"), self.dir / "appendonlydir"]:
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()

    def arg(self, name):
        """The value of one of @args, None without it."""
        return self.args[self.args.index(name) + 1] if name in self.args else None

    def _log_tail(self):
        path = self.dir / "redis.log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""
