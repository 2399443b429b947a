# SPDX-License-Identifier: Apache-2.0
"""A primary, replicas and Sentinels for tests: 127.0.0.1, free ports, ended by their own pids.

    group = SentinelGroup(tmpdir, sentinels=3, replicas=1).start()
    group.url                         # redis+sentinel://127.0.0.1:p1,127.0.0.1:p2,127.0.0.1:p3/mymaster
    group.primary().kill()            # the RedisServer that is the primary now
    group.wait_primary(not_port=old)  # until all Sentinels agree on another one
    group.failover()                  # SENTINEL FAILOVER, and waits for the same
    group.stop()
"""

import shutil
import subprocess
import time
from pathlib import Path

import redis

from redis_server import RedisServer, START_TIMEOUT_S, free_port

NAME = "mymaster"
# What takes seconds by default takes tenths: a test waits for conditions, but it does wait. Not much less between
# announcements: four times that is how long a Sentinel that is behind lets a new primary be one. Nor between pings: with a
# primary down, replicas are asked once a second whatever these say, and one that has said nothing for five pings is not
# good enough to be promoted. The next try is six seconds later.
PERIODS = ("info-period", 200, "ping-period", 300, "publish-period", 1000, "ask-period", 200)
REPLICATION = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")


def poll(test, what, timeout=START_TIMEOUT_S):
    """Until @test() is true; an error of Redis counts as not yet."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            result = test()
        except redis.RedisError as error:
            result, last = None, error
        else:
            last = result
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}: {last!r}")
        time.sleep(0.02)


class Sentinel:
    """One `redis-server --sentinel`. It rewrites its own configuration, which survives a restart."""

    def __init__(self, directory, primary_port, quorum, down_after_ms, password=None, lines=()):
        self.dir = Path(directory)
        self.port = free_port()
        self.process = None
        self.dir.mkdir(parents=True, exist_ok=True)
        self.config = self.dir / "sentinel.conf"
        text = [
            f"sentinel monitor {NAME} 127.0.0.1 {primary_port} {quorum}",
            f"sentinel down-after-milliseconds {NAME} {down_after_ms}",
            f"sentinel failover-timeout {NAME} 3000",
            *([f"sentinel auth-pass {NAME} {password}"] if password else []),
            *lines,
        ]
        self.config.write_text("\n".join(text) + "\n")

    def start(self):
        assert self.process is None, "already running"
        binary = shutil.which("redis-server") or shutil.which("valkey-server")
        command = [binary, str(self.config), "--sentinel", "--bind", "127.0.0.1", "--port", str(self.port)]
        command += ["--dir", str(self.dir), "--daemonize", "no", "--logfile", "", "--protected-mode", "no"]
        with open(self.dir / "sentinel.log", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        poll(self._answers, "a Sentinel")
        return self

    def _answers(self):
        assert self.process.poll() is None, (self.dir / "sentinel.log").read_text()[-2000:]
        with self.client() as c:
            try:
                c.execute_command("SENTINEL", "DEBUG", *PERIODS)
            except redis.AuthenticationError:
                return True  # it answers
        return True

    def client(self, **kw):
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=5, decode_responses=True, **kw)

    def ask(self, *command, **kw):
        with self.client(**kw) as c:
            return c.execute_command("SENTINEL", *command)

    def kill(self):
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    stop = kill  # it has nothing to save


class SentinelGroup:
    """@args go to every Redis, @lines into every Sentinel's configuration.

    @down_after_ms: so long that a busy machine is not taken for a dead Redis; who kills one chooses a shorter time."""

    def __init__(self, directory, sentinels=3, replicas=1, down_after_ms=10000, args=(), password=None, lines=()):
        self.dir = Path(directory)
        self.password = password
        args = [*args, *REPLICATION]
        if password:
            args += ["--requirepass", password, "--masterauth", password]
        self.servers = [RedisServer(self.dir / f"redis-{i}", args=args) for i in range(1 + replicas)]
        self._sentinel_args = (sentinels // 2 + 1, down_after_ms, password, lines)
        first = self.servers[0].port
        self.sentinels = [
            Sentinel(self.dir / f"sentinel-{i}", first, *self._sentinel_args) for i in range(sentinels)
        ]

    @property
    def url(self):
        return self.url_of(self.sentinels)

    def url_of(self, sentinels, login=""):
        return f"redis+sentinel://{login}" + ",".join(f"127.0.0.1:{s.port}" for s in sentinels) + "/" + NAME

    def start(self):
        """Returns self once the replicas are in step and every Sentinel knows all of it."""
        self.start_redis()
        self.start_sentinels()
        return self

    def start_redis(self):
        first = self.servers[0].start()
        for replica in self.servers[1:]:
            replica.start()
            self.admin(replica).replicaof("127.0.0.1", first.port)
        self.wait_replicas()

    def start_sentinels(self):
        for sentinel in self.sentinels:
            sentinel.start()
        self.wait_sentinels()

    def admin(self, server, **kw):
        return server.client(password=self.password, **kw)

    def wait_replicas(self):
        """Until every running server but the primary is a replica that has all that the primary had when asked."""
        running = [s for s in self.servers if s.process]
        wanted = []

        def in_step():
            info = self.primary_info()
            if info["connected_slaves"] != len(running) - 1:
                return False
            wanted.append(info["master_repl_offset"])
            others = [self.admin(s).info("replication") for s in running]
            others = [i for i in others if i["role"] == "slave"]
            return len(others) == len(running) - 1 and all(
                i["master_link_status"] == "up" and i["slave_repl_offset"] >= wanted[0] for i in others
            )

        poll(in_step, "the replicas")

    def primary_info(self):
        for server in self.servers:
            if server.process:
                info = self.admin(server).info("replication")
                if info["role"] == "master":
                    return info
        return {"connected_slaves": -1}

    def wait_sentinels(self):
        """Until every running Sentinel knows the others and the replicas, and nobody is thought to be down."""

        def knows(sentinel):
            m = sentinel.client().sentinel_master(NAME)
            running = sum(1 for s in self.sentinels if s.process)
            replicas = sentinel.client().sentinel_slaves(NAME)
            return (
                m["num-other-sentinels"] >= running - 1
                and sum(not r["is_sdown"] and not r["is_disconnected"] for r in replicas)
                >= sum(1 for s in self.servers if s.process) - 1
                and not m["is_sdown"]
            )

        for sentinel in self.sentinels:
            if sentinel.process:
                poll(lambda s=sentinel: knows(s), "the Sentinels to know each other")

    def primary_port(self):
        """What the Sentinels that run say; None while they disagree."""
        said = {s.ask("get-master-addr-by-name", NAME)[1] for s in self.sentinels if s.process}
        return int(said.pop()) if len(said) == 1 else None

    def server_at(self, port):
        return next(s for s in self.servers if s.port == port)

    def primary(self):
        return self.server_at(poll(self.primary_port, "the Sentinels to agree"))

    def replicas(self):
        primary = self.primary()
        return [s for s in self.servers if s is not primary and s.process]

    def wait_primary(self, not_port=None):
        """Until all agree on a primary (other than @not_port) that says so itself; returns it."""

        def settled():
            port = self.primary_port()
            if not port or port == not_port:
                return None
            server = self.server_at(port)
            return server if server.process and self.admin(server).role()[0] in (b"master", "master") else None

        return poll(settled, "a new primary", timeout=90)  # an election that ties is held again after twice failover-timeout

    def failover(self):
        """SENTINEL FAILOVER to a replica that has what was published before this call; returns the new primary."""
        self.wait_replicas()
        old = self.primary().port
        sentinel = next(s for s in self.sentinels if s.process)

        def moved():  # refused while it does not know a good replica; given up when that is lost meanwhile
            try:
                sentinel.ask("failover", NAME)
            except redis.ResponseError:
                pass
            try:
                return poll(lambda: self.primary_port() not in (None, old), "the switch", timeout=4)
            except AssertionError:
                return False

        poll(moved, "a failover", timeout=40)
        return self.wait_primary(not_port=old)

    def stop(self):
        for sentinel in self.sentinels:
            sentinel.stop()
        for server in self.servers:
            server.stop()
