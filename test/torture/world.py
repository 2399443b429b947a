# SPDX-License-Identifier: Apache-2.0
"""The processes of a run: relays, HAProxy, Redis with a replica, Sentinels. Free ports, own directories, own pids."""

import asyncio
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from forwarder import Forwarder
from wire import Redis, RedisError, http

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("SSE_RELAY_BIN") or ROOT / "build" / "sse-relay").resolve()
PREFIX = "sse:{default}"
START_S = 20
# A busy machine must not look like a dead server to Sentinels: they are impatient only while a failover is wanted.
PATIENT_MS = 60000
IMPATIENT_MS = 1000

_taken = set()
_libc = ctypes.CDLL(None)


def free_port():
    """Below the range from which the kernel takes ports of its own, so that it stays ours while a server is down."""
    while True:
        port = random.SystemRandom().randrange(12000, 32000)
        if port in _taken:
            continue
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        _taken.add(port)
        return port


def knows_sentinel():
    """Whether this relay can ask Sentinels itself."""
    return b"redis+sentinel" in subprocess.run([str(BINARY), "--help"], stdout=subprocess.PIPE).stdout


def _die_with_parent():
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


async def until(test, what, timeout=START_S):
    """Awaits @test() until it is true; returns what it returned."""
    deadline = time.monotonic() + timeout
    while True:
        result = await test()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain for {what}")
        await asyncio.sleep(0.02)


class Process:
    def __init__(self, name, directory):
        self.name = name
        self.dir = Path(directory) / name
        self.dir.mkdir(parents=True)
        self.process = None

    def spawn(self, command, env=None):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SSE_RELAY_")}
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen(
                [str(c) for c in command],
                env={**clean, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
            )

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        if self.alive:
            os.kill(self.process.pid, number)

    async def ended(self, timeout=START_S):
        async def gone():
            return not self.alive

        await until(gone, f"{self.name} to end", timeout)
        return self.process.returncode

    async def kill(self):
        self.signal(signal.SIGKILL)
        if self.process:
            await self.ended()


class RedisNode(Process):
    ARGS = [
        "--bind", "127.0.0.1", "--daemonize", "no", "--save", "", "--logfile", "",
        # What is written before the answer survives the end of the process: exact, without waiting for a disk.
        "--appendonly", "yes", "--appendfsync", "no", "--auto-aof-rewrite-percentage", "0",
        "--repl-diskless-sync-delay", "0", "--repl-backlog-size", "16mb", "--repl-ping-replica-period", "1",
    ]  # fmt: skip

    def __init__(self, name, directory):
        super().__init__(name, directory)
        self.port = free_port()

    async def start(self, primary=None, port=None):
        port = port or self.port
        command = [shutil.which("redis-server"), "--port", port, "--dir", self.dir, *self.ARGS]
        if primary:
            command += ["--replicaof", f"127.0.0.1 {primary.port}"]
        self.spawn(command)
        await until(lambda: self._answers(port), f"{self.name} to answer")

    async def _answers(self, port):
        if not self.alive:
            raise RuntimeError(f"{self.name} ended at its start, see {self.dir}/log")
        try:
            async with Redis(port) as r:
                ours = f"process_id:{self.process.pid}\r" in await r("INFO", "server")
                return ours and await r("PING")  # an error while the data is read
        except (OSError, RedisError):
            return False

    def forget(self):
        for path in self.dir.iterdir():
            if path.name == "log":
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    async def info(self, section="replication"):
        async with Redis(self.port) as r:
            text = await r("INFO", section)
        return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)

    async def call(self, *args):
        """For what may be done twice: another fault may close the connection under it."""
        for left in range(4, -1, -1):
            try:
                async with Redis(self.port) as r:
                    return await r(*args)
            except OSError:
                if not left:
                    raise
                await asyncio.sleep(0.05)


class Sentinel(Process):
    def __init__(self, name, directory, primary):
        super().__init__(name, directory)
        self.port = free_port()
        (self.dir / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.dir}\n"
            f"sentinel monitor main 127.0.0.1 {primary.port} 2\n"
            f"sentinel down-after-milliseconds main {PATIENT_MS}\n"
            "sentinel failover-timeout main 2500\n"
        )

    def start(self):
        self.spawn([shutil.which("redis-server"), self.dir / "sentinel.conf", "--sentinel"])

    async def call(self, *args):
        async with Redis(self.port) as r:
            return await r(*args)

    async def primary_port(self):
        try:
            answer = await self.call("SENTINEL", "get-master-addr-by-name", "main")
        except (OSError, RedisError):
            return None
        return int(answer[1]) if answer else None


class RelayNode(Process):
    def __init__(self, name, directory, url, options):
        super().__init__(name, directory)
        self.port = free_port()
        self.url = url
        self.options = options
        self.core = []

    def start(self):
        command = [BINARY, "--listen", f"127.0.0.1:{self.port}", "--redis", self.url, "--node", self.name]
        for key, value in self.options.items():
            command += [f"--{key}", value]
        self.spawn(command)

    async def get(self, path):
        try:
            return await http(self.port, "GET", path, timeout=5)
        except (OSError, EOFError, asyncio.TimeoutError):
            return 0, b""

    async def is_ready(self):
        return (await self.get("/ready"))[0] == 200

    def complaints(self):
        text = (self.dir / "log").read_text(errors="replace")
        marks = ("Sanitizer", "runtime error:", "Assertion")
        return [line for line in text.splitlines() if any(m in line for m in marks)]


class World:
    def __init__(self, directory, options):
        self.dir = Path(directory)
        self.options = options
        self.redis = [RedisNode(f"redis-{i}", directory) for i in (1, 2)]
        self.primary = self.redis[0]
        self.sentinels = [Sentinel(f"sentinel-{i}", directory, self.primary) for i in (1, 2, 3)]
        self.use_sentinel = options["sentinel"]
        self.forwarders = [Forwarder(free_port(), self.primary.port) for _ in range(3)]
        self.relays = []
        for i in range(3):
            url = f"redis://127.0.0.1:{self.forwarders[i].port}"
            if self.use_sentinel:
                url = "redis+sentinel://" + ",".join(f"127.0.0.1:{s.port}" for s in self.sentinels) + "/main"
            self.relays.append(RelayNode(f"relay-{i + 1}", directory, url, options["relay"]))
        self.haproxy = Process("haproxy", directory)
        self.front = free_port()

    @property
    def replica(self):
        return self.redis[1] if self.primary is self.redis[0] else self.redis[0]

    async def start(self):
        await self.primary.start()
        await self.replica.start(self.primary)
        for sentinel in self.sentinels:
            sentinel.start()
        for forwarder in self.forwarders:
            await forwarder.start()
        for relay in self.relays:
            relay.start()
        self._start_haproxy()
        for relay in self.relays:
            await until(relay.is_ready, f"{relay.name} to be ready")
        await until(self.is_replicated, "the replica")
        await until(self.sentinels_agree, "the Sentinels")
        await until(self.front_ready, "HAProxy")

    def _start_haproxy(self):
        """The configuration that is shipped, with a third relay."""
        text = (ROOT / "deploy" / "haproxy.cfg").read_text()
        line = '    server relay-2 "${RELAY_2}"\n'
        assert text.count(line) == 2
        path = self.haproxy.dir / "haproxy.cfg"
        text = text.replace(line, line + "    server relay-3 \"${RELAY_3}\"\n")
        path.write_text(text.replace("global\n", f"global\n    stats socket {self.haproxy.dir}/stats level admin\n", 1))
        env = {"FRONT_BIND": f"127.0.0.1:{self.front}"}
        for i, relay in enumerate(self.relays, 1):
            env[f"RELAY_{i}"] = f"127.0.0.1:{relay.port}"
        self.haproxy.spawn([shutil.which("haproxy") or "/usr/sbin/haproxy", "-db", "-f", path], env)

    async def front_ready(self):
        try:
            return (await http(self.front, "GET", "/ready", timeout=5))[0] == 200
        except (OSError, EOFError, asyncio.TimeoutError):
            return False

    async def is_replicated(self):
        """The replica has all that the primary has."""
        try:
            info = await self.primary.info()
            return (
                info["role"] == "master"
                and f"port={self.replica.port},state=online" in info.get("slave0", "")
                and info["slave0"].split("offset=")[1].split(",")[0] == info["master_repl_offset"]
            )
        except (OSError, RedisError):
            return False

    async def sentinels_agree(self):
        """All three know the primary, each other and the replica, and find nothing wrong: a failover would work."""
        for sentinel in self.sentinels:
            try:
                state = pairs(await sentinel.call("SENTINEL", "MASTER", "main"))
                replicas = [pairs(r) for r in await sentinel.call("SENTINEL", "REPLICAS", "main")]
            except (OSError, RedisError):
                return False
            fine = (
                int(state["port"]) == self.primary.port
                and state["flags"] == "master"
                and state["num-other-sentinels"] == "2"
                and any(
                    int(r["port"]) == self.replica.port
                    and r["flags"] == "slave"
                    and r["master-link-status"] == "ok"
                    and int(r["master-port"]) == self.primary.port
                    for r in replicas
                )
            )
            if not fine:
                return False
        return True

    async def sentinel_patience(self, milliseconds):
        for sentinel in self.sentinels:
            await sentinel.call("SENTINEL", "SET", "main", "down-after-milliseconds", milliseconds)

    def point(self, node, cut=True):
        """The relays' way to Redis leads to @node."""
        for forwarder in self.forwarders:
            forwarder.target = node.port
            if cut:
                forwarder.cut()

    async def stop(self):
        """Returns what went wrong at the end."""
        problems = []
        for relay in self.relays:
            relay.signal(signal.SIGCONT)
            relay.signal(signal.SIGTERM)
        for relay in self.relays:
            try:
                code = await relay.ended()
                if code != 0:
                    problems.append(f"{relay.name} ended with status {code}")
            except TimeoutError as error:
                problems.append(str(error))
            problems += [f"{relay.name}: {line}" for line in relay.complaints()]
        await self.kill()
        return problems

    async def kill(self):
        for forwarder in self.forwarders:
            forwarder.stop()
        for process in [*self.relays, self.haproxy, *self.sentinels, *self.redis]:
            process.signal(signal.SIGCONT)
            await process.kill()


def pairs(flat):
    return dict(zip(flat[::2], flat[1::2]))
