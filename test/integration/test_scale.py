# SPDX-License-Identifier: Apache-2.0
"""Thousands of clients on one node: each gets each event, once, in order."""

import json
import os
import time

import pytest

from relay_process import BINARY
from swarm import sanitized

CLIENTS = int(os.environ.get("SSE_RELAY_TEST_CLIENTS", "0")) or (
    1000 if BINARY.exists() and sanitized(BINARY) else 5000
)
EVENTS = 30


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kb(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1])


@pytest.mark.slow
def test_5000_clients_each_get_every_event_in_order(redis, relay_factory, swarm, doors, record_property):
    relay = relay_factory(heartbeat="0s")
    empty = resident_kb(relay.pid)
    s = swarm([relay], CLIENTS, "t").wait_connected(timeout=60)
    assert relay.stats()["clients"] == CLIENTS
    idle = resident_kb(relay.pid)
    cpu, begin = cpu_seconds(relay.pid), time.monotonic()
    ids = [doors.fcall("t", n) for n in range(EVENTS)]
    want = [str(n) for n in range(EVENTS)]
    s.wait(lambda c: len(c.data) >= EVENTS, timeout=60)
    took, cpu = time.monotonic() - begin, cpu_seconds(relay.pid) - cpu
    for c in s.clients:
        assert c.data == want and c.ids == ids and len(c.starts) == 1
    figures = {
        "clients": CLIENTS,
        "deliveries": CLIENTS * EVENTS,
        "deliveries_per_second_with_this_slow_reader": round(CLIENTS * EVENTS / took),
        "relay_cpu_us_per_delivery": round(cpu * 1e6 / (CLIENTS * EVENTS), 2),
        "kb_per_idle_client": round((idle - empty) / CLIENTS, 2),
    }
    record_property("figures", json.dumps(figures))
    print(json.dumps(figures))


@pytest.mark.slow
def test_clients_come_and_go_while_others_listen(redis, relay_factory, swarm, doors, publishing):
    relay = relay_factory()
    steady = swarm([relay], 50, "t").wait_connected()
    publisher = publishing(lambda n: doors.fcall("t", n), pause=0.001)
    for _ in range(5):
        passing = swarm([relay], 100, "t", "u.*").wait_connected()
        passing.close()
    total = publisher.stop()
    steady.wait(lambda c: len(c.data) >= total)
    assert all(c.data == [str(n) for n in range(1, total + 1)] for c in steady.clients)
    relay.wait_clients(50)
