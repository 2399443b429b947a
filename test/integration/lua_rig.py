# SPDX-License-Identifier: Apache-2.0
"""The function library in a Redis of its own, and its functions as Python's: for test_lua_*.py."""

import pytest

from redis_server import RedisServer
from relay_process import ROOT

LIBRARY = ROOT / "common" / "sse_relay.lua"
KEY = "sse:{default}"
MAX_ID = 2**53 - 1
DAY_US = 86400 * 10**6


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis")) as s:
        yield s


@pytest.fixture
def r(server):
    client = server.client()
    client.flushall()
    # Each test anew: the library remembers the settings of a namespace for a second.
    client.function_load(LIBRARY.read_text("utf-8"), replace=True)
    yield client
    client.config_set("maxmemory", 0)


@pytest.fixture
def raw(server, r):
    """The same Redis, bytes in and out."""
    return server.client(decode_responses=False)


def publish(r, *topics, data="x", space=KEY, **options):
    args = [a for t in topics for a in ("topic", t)] + ["data", data]
    args += [a for pair in options.items() for a in pair]
    return r.fcall("sse_publish", 1, space, *args)


def position(r, *args, space=KEY):
    return found(r, *args, space=space)[:2]


def found(r, *args, space=KEY):
    """All three: position, horizon, and the counter as sse_position found it."""
    return [int(x) for x in r.fcall("sse_position", 1, space, *args)]


def since(r, *args):
    p, horizon, pruned, flat = r.fcall("sse_since", 1, KEY, *args)[:4]
    return int(p), int(horizon), int(pruned), dict(zip(flat[::2], flat[1::2])), flat[::2]


def drain(r, *args):
    return r.fcall("sse_drain", 1, KEY, *args)


def log(r, topic, space=KEY):
    """[(id, fields)] of a topic's replay log."""
    entries = r.xrange(f"{space}:log:{topic}")
    assert all(eid.endswith("-0") for eid, _ in entries)
    return [(int(eid[:-2]), fields) for eid, fields in entries]


def index(r):
    return {t: int(score) for t, score in r.zrange(f"{KEY}:topics", 0, -1, withscores=True)}


def now_us(r):
    seconds, micros = r.time()
    return seconds * 10**6 + micros


def snapshot(raw):
    """Everything Redis holds, byte for byte."""
    return {k: raw.dump(k) for k in sorted(raw.scan_iter())}


# A PubSub that is collected gives its connection back to its pool: for ever, if that happens while the pool is locked.
_kept = []


class Listener:
    """Hears channels of a namespace. next() fails on silence; pending() is exact thanks to a marker message."""

    def __init__(self, client, *channels, pattern=None):
        self.client = client
        self.pubsub = client.pubsub(ignore_subscribe_messages=False)
        _kept.append(self.pubsub)
        self.pubsub.subscribe("marker", *channels)
        if pattern:
            self.pubsub.psubscribe(pattern)
        for _ in range(len(channels) + 1 + bool(pattern)):
            assert self.pubsub.get_message(timeout=10)["type"] in ("subscribe", "psubscribe")

    def _next(self):
        message = self.pubsub.get_message(timeout=10)
        assert message is not None, "nothing was published"
        return message

    def pending(self):
        """(channel, bytes) of everything published so far and not yet heard."""
        self.client.publish("marker", "")
        heard = []
        while (m := self._next())["channel"] not in ("marker", b"marker"):
            heard.append((m["channel"], m["data"]))
        return heard


def assert_chain(entries):
    """Ids increase, and each entry names the one before it."""
    ids = [eid for eid, _ in entries]
    assert ids == sorted(set(ids))
    assert [int(f["prev"]) for _, f in entries] == [0] + ids[:-1]
