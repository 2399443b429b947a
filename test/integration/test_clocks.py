# SPDX-License-Identifier: Apache-2.0
"""Redis's clock gives the ids, so it judges ages: nodes whose clocks are off bring the same for since= and ttl."""

import re
import struct
import subprocess
from pathlib import Path

import pytest

from lua_rig import LIBRARY
from redis_server import RedisServer
from relay_process import wait_until

HOUR = 3600
DIFFER = "the clocks of Redis and of this machine differ"
OFFSET = "sse_relay_redis_clock_offset_seconds"


@pytest.fixture(scope="session")
def shifted_clock(tmp_path_factory):
    """The library that shifts the clock of a process it is preloaded into."""
    target = tmp_path_factory.mktemp("clock") / "shifted_clock.so"
    source = Path(__file__).with_name("shifted_clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", target, source, "-ldl"], check=True)
    return target


class ShiftedRedis(RedisServer):
    def __init__(self, directory, library):
        directory.mkdir()
        self.file = directory / "shift"
        self.shift(0)
        super().__init__(directory, env={"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(self.file)})

    def shift(self, seconds):
        """Against the clock of this machine, from now on."""
        with open(self.file, "r+b" if self.file.exists() else "wb") as f:  # it is mapped: never truncated
            f.write(struct.pack("=q", int(seconds * 1e6)))


@pytest.fixture
def shifted(tmp_path, shifted_clock):
    with ShiftedRedis(tmp_path / "shifted", shifted_clock) as server:
        server.client().function_load(LIBRARY.read_text("utf-8"))
        yield server


def publish_at(server, shift, *datas):
    """Events that are so old to a Redis whose clock is an hour further on; an hour that a log outlives."""
    server.shift(shift)
    r = server.client()
    call = ("sse_publish", 1, "sse:{default}", "topic", "t", "data")
    return [int(r.fcall(*call, data, *(["ttl", 60000] if "ttl" in data else []))) for data in datas]


@pytest.fixture(params=[2 * HOUR, -2 * HOUR], ids=["ahead", "behind"])
def apart(request, shifted):
    """A Redis whose clock is two hours off, with events that are 30 minutes old to it, and new ones."""
    shifted.apart = request.param
    publish_at(shifted, request.param - HOUR / 2, "old", "old, ttl")
    publish_at(shifted, request.param, "new", "new, ttl")
    return shifted


def test_ages_go_by_the_clock_of_redis(apart, relay_factory, sse_connect):
    relay = relay_factory({"redis": apart.url})
    for params, expected in (
        ({"since": "-10m"}, ["new", "new, ttl"]),
        ({"since": "-1h"}, ["old", "new", "new, ttl"]),
        ({"replay": "all"}, ["old", "new", "new, ttl"]),
        ({"replay": 3}, ["old", "new", "new, ttl"]),
    ):
        stream = sse_connect(relay, "t", params=params)
        assert stream.wait_for(len(expected)).data == expected, params
    id = relay.publish("t", "live")
    assert stream.wait_for(4).ids[-1] == id
    metrics = relay.metrics()
    assert metrics[OFFSET] == pytest.approx(apart.apart, abs=2)
    assert 0 < metrics["sse_relay_latency_seconds_sum"] < 60 * metrics["sse_relay_latency_seconds_count"]
    told = re.search(r"redis_ahead_seconds=(\S+)", relay.wait_log(DIFFER))
    assert float(told[1]) == pytest.approx(apart.apart, abs=2)
    assert relay.log_text.count(DIFFER) == 1


def test_an_age_asked_for_before_redis_was_there_goes_by_its_clock(apart, relay_factory, sse_connect):
    apart.client().save()
    apart.stop()
    relay = relay_factory({"redis": apart.url}, ready=False)
    stream = sse_connect(relay, "t", params={"since": "-10m"}, wait=False).wait_head()
    apart.start()
    assert stream.wait_for(2).data == ["new", "new, ttl"]


def test_a_clock_that_is_set_is_noticed_and_told_once_for_each_time(shifted, relay_factory, sse_connect):
    relay = relay_factory({"redis": shifted.url, "redis.probe": "100ms"})
    assert abs(relay.metric(OFFSET)) < 2 and DIFFER not in relay.log_text
    shifted.shift(-HOUR)
    wait_until(lambda: relay.metric(OFFSET) == pytest.approx(-HOUR, abs=2), "the offset")
    wait_until(lambda: relay.log_text.count(DIFFER) == 1, "the warning")
    new = relay.publish("t", "x")
    assert sse_connect(relay, "t", params={"since": "-10m"}).wait_for(1).ids == [new]
    shifted.shift(0)
    wait_until(lambda: abs(relay.metric(OFFSET)) < 2, "the offset")
    assert relay.log_text.count(DIFFER) == 1
