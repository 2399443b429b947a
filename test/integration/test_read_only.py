# SPDX-License-Identifier: Apache-2.0
"""A Redis that refuses writes only: its disk is full, a save has failed, its replicas are too few. Streams go on."""

import shutil

import pytest

from raw_http import assert_problem
from redis_server import RedisServer
from relay_process import wait_until

REFUSES = "Redis refuses writes"


class Misconf:
    """It could not save, as its directory is gone: MISCONF. A full disk is told in the same way."""

    word = "MISCONF"

    def __init__(self, tmp_path):
        self.server = RedisServer(
            tmp_path / "unsaved", args=["--save", "3600 1", "--enable-protected-configs", "yes"]
        ).start()
        self.client = self.server.client()

    def begin(self):
        self.client.set("a change", 1)
        shutil.move(self.server.dir, f"{self.server.dir}.gone")
        shutil.rmtree(f"{self.server.dir}.gone")
        self._save(lambda: self.client.info("persistence")["rdb_last_bgsave_status"] == "err")

    def end(self):
        self.server.dir.mkdir()
        self.client.config_set("dir", str(self.server.dir))
        self._save(lambda: self.client.info("persistence")["rdb_last_bgsave_status"] == "ok")

    def _save(self, done):
        self.client.bgsave()
        wait_until(done, "the save")


class NoReplicas:
    word = "NOREPLICAS"

    def __init__(self, tmp_path):
        self.server = RedisServer(tmp_path / "alone").start()
        self.client = self.server.client()

    def begin(self):
        self.client.config_set("min-replicas-to-write", 1)

    def end(self):
        self.client.config_set("min-replicas-to-write", 0)


@pytest.fixture(params=[Misconf, NoReplicas], ids=lambda kind: kind.word)
def refusing(request, tmp_path):
    kind = request.param(tmp_path)
    yield kind
    kind.server.stop()


def redis_of(relay):
    status, body = relay.ready()
    return status, body["status"], body["redis"]


def test_streams_are_served_while_nothing_can_be_written(refusing, relay_factory, sse_connect):
    config = {"redis": refusing.server.url, "publish.timeout": "300ms"}
    relay = relay_factory(config)
    ids = [relay.publish("t", n) for n in range(5)]
    live = sse_connect(relay, "t")
    refusing.begin()
    other = relay_factory(config, ready=False)  # knows nothing from before
    other.wait_ready()
    for node in (relay, other):
        assert sse_connect(node, "t").last_event_id == str(ids[4])
        assert sse_connect(node, "t", last_event_id=ids[1]).wait_for(3).ids == ids[2:]
        assert sse_connect(node, ">", params={"replay": "all"}).wait_for(5).ids == ids
        wait_until(lambda: redis_of(node) == (200, "ready", "read-only"), "read-only")
        assert node.get("/stats").json()["redis"]["status"] == "read-only"
        detail = assert_problem(node.post("/publish", json={"topic": "t", "data": "x"}), 503)
        assert refusing.word in detail
        node.wait_log(f"{REFUSES}.*{refusing.word}")
    refusing.end()
    for node in (relay, other):
        wait_until(lambda: redis_of(node) == (200, "ready", "up"), "up")
        node.wait_log("Redis takes writes again")
        assert node.log_text.count(REFUSES) == 1
        assert "cannot look at a namespace" not in node.log_text
    after = other.publish("t", "after")
    assert live.wait_for(1).ids == [after]


def test_a_broken_connection_is_repaired_while_nothing_can_be_written(refusing, relay_factory, sse_connect):
    relay = relay_factory({"redis": refusing.server.url})
    stream = sse_connect(relay, "t")
    first = relay.publish("t", 1)
    refusing.begin()
    refusing.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    relay.wait_log("Redis connection is back.*subscriber")
    wait_until(lambda: redis_of(relay) == (200, "ready", "read-only"), "read-only")
    refusing.end()
    second = relay.publish("t", 2)
    assert stream.wait_for(2).ids == [first, second]


def test_a_cursor_above_the_position_waits_until_the_counter_can_be_raised(refusing, relay_factory, sse_connect):
    """It may be of a primary that was ahead of this one; only a write makes sure."""
    relay = relay_factory({"redis": refusing.server.url})
    last = relay.publish("t", 1)
    refusing.begin()
    ahead = sse_connect(relay, "t", last_event_id=last + 1000, wait=False)
    assert sse_connect(relay, "t").last_event_id == str(last)
    assert not ahead.blocks
    refusing.end()
    ahead.wait_for(lambda c: c.gaps)
    assert ahead.gaps[0]["reason"] == "unknown-id"


def test_a_namespace_that_is_new_waits(refusing, relay_factory, sse_connect):
    relay = relay_factory({"redis": refusing.server.url})
    refusing.begin()
    stream = sse_connect(relay, "t", params={"ns": "new"}, wait=False)
    relay.wait_log("cannot look at a namespace; its streams wait.*has to be written first")
    refusing.end()
    stream.wait_connected()
