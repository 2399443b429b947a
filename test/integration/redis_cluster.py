# SPDX-License-Identifier: Apache-2.0
"""A Redis Cluster of a few primaries for tests, and a publisher that follows its redirections.

    with RedisCluster(tmpdir, slots=[(0, 999), (1000, 16383)]) as cluster:   # a primary for each range
        cluster.nodes[1].client()
        publisher = Publisher(cluster); publisher.publish("sse:{default}", "topic", "a", "data", "x")
"""

import subprocess
import time

import redis

from redis_server import RedisServer, free_port
from relay_process import ROOT, wait_until

LIBRARY = ROOT / "common" / "sse_relay.lua"


def error_text(error):
    """What Redis said. Newer versions of redis-py take the first word off some errors, and make a class of it."""
    words = {"MovedError": "MOVED", "AskError": "ASK", "TryAgainError": "TRYAGAIN", "ClusterDownError": "CLUSTERDOWN"}
    word, text = words.get(type(error).__name__, ""), str(error)
    return text if text.startswith(word) else f"{word} {text}"


class RedisCluster:
    """Primaries without replicas. All slots are covered, by ranges of (first, last)."""

    def __init__(self, tmpdir, slots):
        self.slots = slots
        self.nodes = []
        for i in range(len(slots)):
            args = ["--cluster-enabled", "yes", "--cluster-port", free_port(), "--cluster-node-timeout", "5000"]
            self.nodes.append(RedisServer(tmpdir / f"node{i}", args=args))

    def __enter__(self):
        first = self.nodes[0]
        for node, (low, high) in zip(self.nodes, self.slots):
            node.start()
            r = node.client()
            r.execute_command("CLUSTER", "ADDSLOTSRANGE", low, high)
            r.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port, first.arg("--cluster-port"))
        for node in self.nodes:
            wait_until(lambda: self._knows_all(node), f"{node.port} knows the whole cluster")
            node.client().function_load(LIBRARY.read_text("utf-8"))
        return self

    def __exit__(self, *exc):
        for node in self.nodes:
            node.stop()

    def _knows_all(self, node):
        text = node.client().execute_command("CLUSTER", "INFO")
        return "cluster_state:ok" in text and f"cluster_known_nodes:{len(self.nodes)}" in text

    def id(self, node):
        return node.client().execute_command("CLUSTER", "MYID")

    def reshard(self, source, target, count, *args):
        """Moves the first @count slots of @source with redis-cli, and returns what that prints; fails as it does."""
        command = ["redis-cli", "--cluster", "reshard", f"127.0.0.1:{source.port}", "--cluster-from", self.id(source)]
        command += ["--cluster-to", self.id(target), "--cluster-slots", str(count), "--cluster-yes", *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def open_slots(self):
        """What each node says of slots of its own that are being moved; empty when none is."""
        lines = [line for node in self.nodes for line in node.client().execute_command("CLUSTER", "NODES").splitlines()]
        return [word for line in lines if "myself" in line for word in line.split() if word.startswith("[")]


class Publisher:
    """Calls sse_publish like the cluster clients of this world: goes where MOVED and ASK say, and tries again later
    at TRYAGAIN and CLUSTERDOWN."""

    def __init__(self, cluster):
        self.clients = {node.port: node.client(single_connection_client=True) for node in cluster.nodes}
        self.port = cluster.nodes[0].port
        self.asked = self.tried_again = 0

    def publish(self, key, *args, timeout_s=30):
        deadline = time.monotonic() + timeout_s
        port, asking = self.port, False
        while True:
            try:
                return self._call(port, asking, key, args)
            except redis.exceptions.ResponseError as e:
                word, *rest = error_text(e).split()
                if word in ("ASK", "MOVED"):
                    port, asking = int(rest[1].rpartition(":")[2]), word == "ASK"
                    self.port = self.port if asking else port
                    self.asked += asking
                    continue
                if word not in ("TRYAGAIN", "CLUSTERDOWN"):
                    raise
            assert time.monotonic() < deadline, "Redis has not taken the event in time"
            self.tried_again += 1
            port, asking = self.port, False
            time.sleep(0.005)

    def _call(self, port, asking, key, args):
        call = ("FCALL", "sse_publish", 1, key, *args)
        if asking:
            self.clients[port].execute_command("ASKING")
        return self.clients[port].execute_command(*call)
