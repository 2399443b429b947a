# SPDX-License-Identifier: Apache-2.0
"""test/bench/capacity.py: its arithmetic, what it refuses, and that docs/scaling.md quotes what it prints."""

import json
import math
import subprocess
import sys

import pytest

from relay_process import ROOT

sys.path.insert(0, str(ROOT / "test" / "bench"))

import capacity  # noqa: E402

SCRIPT = ROOT / "test" / "bench" / "capacity.py"
SCALING = ROOT / "docs" / "scaling.md"


def ask(line):
    return capacity.capacity(capacity.arguments(line.split()))


def value(name):
    return capacity.CONSTANTS[name].value


def run(*args):
    return subprocess.run([sys.executable, "-B", str(SCRIPT), *args], capture_output=True, text=True)


# --- what was measured comes back ---


@pytest.mark.parametrize("clients", [1000, 5000, 15000])
def test_a_delivery_by_itself_costs_what_was_measured(clients):
    node = ask(f"--clients {clients} --nodes 1 --cores 2 --heartbeat 0 --reconnects 0 --traffic 4:all:64")["node"]
    cost = node["cpu_deliveries_cores"] / node["deliveries_per_second"] * 1e6
    assert cost == pytest.approx(value(f"fanout_1_{clients}"), rel=0.02)
    assert node["deliveries_per_write"] == 1 and node["turn_s"] == 0


def test_sixteen_in_a_write_cost_what_was_measured():
    costs = capacity.Costs(capacity.CONSTANTS)
    assert costs.write(5000) / 16 + costs.frame == pytest.approx(value("fanout_16_5000"), rel=1e-6)


def test_idle_clients_cost_what_was_measured():
    r = ask("--clients 15000 --nodes 1 --cores 2 --reconnects 0 --traffic 0.0001:all:0 --slow 0")
    node = r["node"]
    assert node["cpu_heartbeats_connects_cores"] == pytest.approx(0.0096, rel=0.01)
    assert node["memory_relay_bytes"] - value("memory_node") == pytest.approx(15000 * 6200, rel=0.01)
    assert node["memory_kernel_bytes"] == 15000 * value("memory_kernel")


def test_redis_publishes_alone_what_was_measured():
    r = ask("--clients 1 --nodes 1 --traffic 1:1:0 --turn 100")
    most = r["each_redis"]["events_per_second"] * r["resources"]["Redis thread"]["may_grow"]
    assert most == pytest.approx(1e6 / value("redis_event"), rel=0.05)


@pytest.mark.parametrize(
    "node, size, events, measured",
    [
        (512, 64, 1, 955), (512, 300, 1, 956), (512, 1000, 1, 1725), (512, 64, 1000, 114018), (512, 100, 1000, 168126),
        (512, 300, 1000, 440402), (512, 1000, 1000, 1335644),
        (4096, 64, 1, 4540), (4096, 1000, 1, 4541), (4096, 64, 1000, 91569), (4096, 300, 1000, 350097),
        (4096, 1000, 1000, 1218826),
    ],
)  # fmt: skip
def test_a_log_takes_about_what_was_measured(node, size, events, measured):
    """Of one topic; rather more than less, as allocators round up."""
    line = f"--clients 1 --nodes 1 --stream-node {node} --keep-seconds {events} --traffic 1:1:{size}"
    log = ask(line)["resources"]["Redis memory"]["load"] * 1e9 - value("redis_channel")
    assert 0.8 * measured < log < 1.25 * measured


# --- how things grow ---


def test_twice_the_clients_twice_the_memory():
    one, two = (ask(f"--clients {n} --traffic 0.01:all:0")["node"] for n in (60000, 120000))
    of_clients = [n["memory_relay_bytes"] - value("memory_node") for n in (one, two)]
    assert of_clients[1] == pytest.approx(2 * of_clients[0], rel=0.001)
    assert two["memory_kernel_bytes"] == 2 * one["memory_kernel_bytes"]


def test_turns_merge_only_above_one_core():
    """The delay grows with the load, the cost of a delivery falls, and the growth told is where the delay is at its limit."""
    line = "--clients 10000 --nodes 1 --cores 2 --heartbeat 0 --reconnects 0 --turn 0.5 --traffic {}:all:64"
    low = ask(line.format(10))
    assert low["node"]["turn_s"] == 0
    busy = [ask(line.format(rate))["node"] for rate in (20, 40, 80)]
    assert 0 < busy[0]["turn_s"] < busy[1]["turn_s"] < busy[2]["turn_s"] < 0.5
    assert 1 < busy[0]["deliveries_per_write"] < busy[2]["deliveries_per_write"] <= capacity.MERGE_MAX
    limit = 10 * low["resources"]["workers"]["may_grow"]
    assert ask(line.format(0.99 * limit))["node"]["turn_s"] <= 0.5 < (ask(line.format(1.01 * limit))["node"]["turn_s"])
    assert ask(line.format(1000000))["node"]["turn_s"] == math.inf


def test_more_nodes_relieve_the_nodes_and_burden_redis():
    few, many = (ask(f"--clients 1M --nodes {n} --traffic 5k:100:200") for n in (10, 100))
    assert many["resources"]["workers"]["used"] < few["resources"]["workers"]["used"]
    assert many["each_redis"]["cpu_cores"] > few["each_redis"]["cpu_cores"]
    assert few["traffic"][0]["nodes_that_hear_it"] == pytest.approx(10, rel=0.001)


def test_an_event_for_one_client_is_heard_by_one_node():
    r = ask("--clients 1M --nodes 200 --traffic 1k:1:200")
    assert r["traffic"][0]["nodes_that_hear_it"] == pytest.approx(1)
    assert r["each_redis"]["messages_per_second"] == pytest.approx(1000)


def test_checks_of_the_index_grow_with_nodes_and_namespaces():
    def cores(nodes, namespaces, *more):
        line = f"--clients 100k --nodes {nodes} --namespaces {namespaces} --traffic 0.001:100:1 {' '.join(more)}"
        return ask(line)["each_redis"]["cpu_cores"]

    base = cores(10, 100)
    assert cores(20, 100) == pytest.approx(2 * base, rel=0.6) and cores(20, 100) > 1.4 * base
    assert cores(10, 1000) > 2 * base
    assert cores(10, 100, "--check 20") == pytest.approx(base / 2, rel=0.05)


def test_each_redis_has_an_equal_share():
    whole, tenth = (ask(f"--clients {c} --nodes {n} --redis {r} --traffic {rate}:100:200")
                    for c, n, r, rate in ((10000000, 200, 10, 100000), (1000000, 20, 1, 10000)))  # fmt: skip
    for name, row in tenth["resources"].items():
        assert whole["resources"][name]["used"] == pytest.approx(row["used"]), name


def test_a_lost_node_is_carried_by_the_others():
    r = ask("--clients 30000 --nodes 3 --accept 5000 --retry 5")
    assert r["node_lost"]["to_each_node"] == 5000
    assert r["node_lost"]["all_back_after_s"] == pytest.approx(0.8 * 5 + 0.4 * 5)
    files = r["resources"]["files"]
    assert files["used_with_a_node_lost"] == pytest.approx(1.5 * files["used"])
    assert ask("--nodes 1")["node_lost"] is None


@pytest.mark.parametrize(
    "line, first",
    [
        ("--clients 100k --nodes 3 --traffic 200:all:64", "workers"),
        ("--clients 100k --nodes 3 --traffic 20:all:4k", "network"),
        ("--clients 1M --nodes 20 --cores 8 --traffic 10k:100:200 --keep-events 100", "Redis thread"),
        ("--clients 1M --nodes 20 --traffic 1k:1:200", "Redis memory"),
        ("--clients 100k --nodes 3 --files 40k --traffic 0.01:all:64", "files"),
        ("--clients 1M --nodes 3 --memory 4G --traffic 0.01:all:64", "memory"),
    ],
)
def test_what_breaks_first(line, first):
    r = ask(line)
    assert r["first"] == first
    assert all(row["may_grow"] >= r["resources"][first]["may_grow"] for row in r["resources"].values())
    assert first in capacity.text_of(r) and r["then"].split()[0] in capacity.text_of(r)


# --- how it is used ---


@pytest.mark.parametrize(
    "args, complaint",
    [
        (["--traffic", "1:2"], "RATE:RECEIVERS:BYTES"),
        (["--traffic", "1:1000:64", "--clients", "10"], "1,000 receivers, but 10 clients"),
        (["--traffic", "x:all:64"], "'x' is not a number"),
        (["--clients", "0"], "must be above 0"),
        (["--nodes", "1.5"], "must be a whole number"),
        (["--nodes", "3", "--redis", "2"], "cannot be shared evenly"),
        (["--compress", "2"], "at most 1"),
        (["--door", "window"], "invalid choice"),
        (["--client", "5", "--frobnicate"], "unrecognized"),
    ],
)
def test_wrong_use_is_told(args, complaint):
    done = run(*args)
    assert done.returncode == 2 and complaint in done.stderr and not done.stdout


def test_json_is_what_the_text_is_made_of():
    done = run("--json", "--clients", "1M", "--nodes", "20", "--traffic", "100k:100:200")
    r = json.loads(done.stdout)  # no Infinity in it
    assert r["clients"] == 1000000 and r["first"] == "Redis thread"


def test_help_names_every_option():
    done = run("--help")
    assert done.returncode == 0 and "RATE:RECEIVERS:BYTES[:TOPICS]" in done.stdout


def test_every_constant_is_used_and_says_where_it_is_from():
    source = SCRIPT.read_text()
    made = ("fanout_1_", "connect_", "memory_", "log_least_", "log_entry_")  # names put together
    for name, c in capacity.CONSTANTS.items():
        used = source.count(name) > 1 or name.startswith(made)
        assert used and c.source and isinstance(c.measured, bool), name


# --- the document ---


def test_examples_of_the_document_are_fresh():
    text = SCALING.read_text()
    assert len(capacity.EXAMPLE.findall(text)) >= 5
    assert capacity.with_examples_fresh(text) == text, "make docs writes them anew"


def test_figures_in_the_text_are_those_of_the_table():
    text = SCALING.read_text()
    costs = capacity.Costs(capacity.CONSTANTS)
    one, sixteen = value("fanout_1_5000"), value("fanout_16_5000")
    for quoted in (
        f"write + frame = {one:g} µs      write / 16 + frame = {sixteen:g} µs      "
        f"→  write = {costs.write(5000):.2f} µs, frame = {costs.frame:.2f} µs",
        f"**Events cost Redis**: {value('redis_event'):.0f} µs each, and {value('redis_write'):g} µs for every node",
        f"an event costs {value('redis_event'):g} µs (id, log, index, PUBLISH), {value('redis_alone'):g} more",
        f"each node that hears it {value('redis_message'):g} µs, and each write to a node {value('redis_write'):g} µs",
    ):
        assert quoted in text, quoted
