# SPDX-License-Identifier: Apache-2.0
"""The scenarios, in the order of the report. Each has a name, a title, the minutes it takes with the defaults, run(bench), and
targets(bench): what must be reached, as (what, values measured, limit or None, True if more is better). Targets come from
bench.results alone, so that a report can be made of an earlier run's. `chart` is the figure that is drawn, if not the first;
`extra` scenarios run only when they are named."""

import json
import subprocess

from auth_scenarios import AuthConnect, AuthMemory, AuthRevoke
from fleet import Fleet, RedisNodes
from flow_scenarios import Pipes, Slow, Tokens
from measure import NAMES
from peers import BUILD, CORES

ASKED_BY_THE_TOOL = ("info", "config|resetstat", "hello", "auth", "select")
RELAY, BASE = NAMES["relay"], NAMES["baseline"]
NCHAN, NCHAN_MEMORY = NAMES["nchan-redis"], NAMES["nchan-memory"]


def duration(bench):
    return ["--duration", f"{bench.seconds}s", "--warmup", "1s"]


def cpu(span, whose="server"):
    return span[f"{whose}_user_s"] + span[f"{whose}_system_s"]


def delivery_figures(report):
    run, ms = report["run"], report["latency_ms"]
    deliveries = max(run["deliveries"], 1)
    return {
        "CPU µs/delivery": run["server_us_per_delivery"],
        "user µs": 1e6 * run["server_user_s"] / deliveries,
        "system µs": 1e6 * run["server_system_s"] / deliveries,
        "deliveries/s": run["deliveries_per_second"],
        **latency_figures(report),
        "Redis µs/event": run["redis_us_per_event"],
        "generator, cores": cpu(run, "own") / run["seconds"],
    }


def latency_figures(report):
    names = {"p50": "p50 ms", "p90": "p90 ms", "p99": "p99 ms", "p999": "p99.9 ms", "max": "max ms"}
    return {shown: report["latency_ms"][name] for name, shown in names.items()}


class FanOut:
    minutes = 2.4
    clients = 5000
    peers = ["relay", "baseline", "nchan-redis", "nchan-memory"]

    def __init__(self, size, window, targets):
        self.name = f"fanout-{size}-{window}"
        self.title = f"{self.clients:,} clients, one topic, {size} B, {window} in flight"
        self.size, self.window, self.limits = size, window, targets

    def run(self, bench):
        args = ["-n", self.clients, "--size", self.size, "--window", self.window, *duration(bench)]
        bench.alternate(self.name, [(p, None, args, {}) for p in self.peers], delivery_figures)

    def targets(self, bench):
        for other, limit in self.limits.items():
            if other == "deliveries/s":
                yield "deliveries/s", bench.values(self.name, RELAY, "deliveries/s"), limit, True
            else:
                ratios = bench.ratios(self.name, "CPU µs/delivery", RELAY, other)
                yield f"CPU per delivery, × {other}", ratios, limit, False


class Targeted:
    name = "targeted"
    title = "15,000 clients with a topic each, events to random topics"
    minutes = 2.5
    chart = "p99 ms"
    few, many = 1000, 15000
    full = f"{many:,} clients, 1,000 in flight"

    def run(self, bench):
        def crowd(n, *more):
            return ["-n", n, "--topics", "each", *more, *duration(bench)]

        bench.alternate(self.name, [("relay", self.full, crowd(self.many, "--window", 1000), {})], delivery_figures)
        full = bench.median(self.name, self.full, "deliveries/s")
        rate = int(min(20000, full / 2)) if full else 5000
        bench.note(self.name, f"paced: half of saturation, at most 20,000: {rate:,} events/s")
        paced = [("relay", f"{n:,} clients, paced", crowd(n, "--rate", rate), {}) for n in (self.few, self.many)]
        bench.alternate(self.name, paced, delivery_figures)

    def targets(self, bench):
        few, many = (f"{n:,} clients, paced" for n in (self.few, self.many))
        yield "p99 ms at half of saturation", bench.values(self.name, many, "p99 ms"), 5, False
        cost = bench.ratios(self.name, "CPU µs/delivery", many, few)
        yield "CPU per delivery, 15,000 clients × 1,000 clients", cost, 1.25, False
        yield "deliveries/s, paced", bench.values(self.name, many, "deliveries/s"), None, True
        yield "deliveries/s, saturated", bench.values(self.name, self.full, "deliveries/s"), None, True


class Matching:
    name = "matching"
    title = "Matching: cost of an event by the number of patterns; 5,000 clients × 20 topics"
    minutes = 1.1
    counts = (10, 100, 1000, 10000, 100000)
    mixed = "5,000 × 20 in the relay"

    def run(self, bench):
        for turn in range(bench.runs):
            out = subprocess.run(
                ["taskset", "-c", CORES.server, BUILD / "normal/test/bench/match"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for point in map(json.loads, out.splitlines()):
                figures = {"µs/event": point["ns_per_event"] / 1e3, "matches": point["hits_per_event"]}
                bench.add(self.name, f"{point['patterns']:,} patterns", figures, turn)
        args = ["-n", 5000, "-k", 20, "--patterns", 5, "--topics", 50000, "--window", 16]
        bench.alternate(self.name, [("relay", self.mixed, [*args, *duration(bench)], {})], delivery_figures)

    def curve(self, bench):
        points = {n: bench.values(self.name, f"{n:,} patterns", "µs/event") for n in self.counts}
        return "µs/event", {n: values for n, values in points.items() if values}, 1

    def targets(self, bench):
        for n in self.counts:
            yield f"µs/event, {n:,} patterns", bench.values(self.name, f"{n:,} patterns", "µs/event"), 1, False
        cost = bench.values(self.name, self.mixed, "CPU µs/delivery")
        yield "CPU µs/delivery, 5,000 clients × 20 topics", cost, None, False


class Sustained:
    name = "sustained"
    title = "1,000 clients, events at a fixed rate for 60 s (1,000/s: 1 M deliveries/s)"
    minutes = 5.3
    chart = "p99 ms"
    rates = [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100]

    def run(self, bench):
        """Each turn begins with the rate that held in the one before."""
        seconds, rates = 60 if bench.seconds > 2 else 6, list(self.rates)
        for turn in range(bench.runs):
            while rates and not self.holds(bench, rates[0], seconds, turn):
                bench.note(self.name, f"{rates.pop(0):,} events/s did not hold")

    def holds(self, bench, rate, seconds, turn):
        def figures(report):
            # What was due came, and at the end no later than at the beginning.
            came, p99 = report["run"]["events_per_second"], report["latency_ms"]["p99"]
            held = came > 0.99 * rate and p99 < 1000
            return {"events/s that held": rate if held else 0, "events/s": came, **delivery_figures(report)}

        failed = bench.failed
        args = ["-n", 1000, "--rate", rate, "--duration", f"{seconds}s"]
        bench.run(self.name, "relay", args, f"{rate:,} events/s", figures, turn)
        bench.failed = failed  # what does not hold is what is looked for
        return bench.by_turn(self.name, f"{rate:,} events/s", "events/s that held").get(turn)

    def targets(self, bench):
        held = {}
        for rate in reversed(self.rates):
            turns = bench.by_turn(self.name, f"{rate:,} events/s", "events/s that held")
            held.update({turn: rate for turn, value in turns.items() if value})
        yield "events/s that held", list(held.values()), 1000, True
        late = [bench.by_turn(self.name, f"{rate:,} events/s", "p99 ms")[turn] for turn, rate in held.items()]
        yield "p99 ms at that rate", late, None, False


class Idle:
    name = "idle"
    title = "15,000 idle clients, heartbeat 15 s: memory and CPU"
    minutes = 3.5
    clients = 15000
    handover = "sse-relay, park=handover"

    def run(self, bench):
        def figures(report):
            idle = report["idle"]
            return {
                "KB/client": report["bytes_per_client"] / 1000,
                "% of a core": 100 * cpu(idle) / idle["seconds"],
                "connects/s": report["connects_per_second"],
            }

        seconds = max(16, 3 * bench.seconds)
        args = ["-n", self.clients, "--idle", f"{seconds}s", "--duration", "0"]
        ways = [("relay", None, args, {}), ("relay", self.handover, args, {"park": "handover"})]
        bench.alternate(self.name, ways, figures)

    def targets(self, bench):
        yield "KB a client, park=suspended", bench.values(self.name, RELAY, "KB/client"), 9.5, False
        yield "KB a client, park=handover", bench.values(self.name, self.handover, "KB/client"), 1.5, False
        yield "% of a core, park=suspended", bench.values(self.name, RELAY, "% of a core"), 2, False
        yield "% of a core, park=handover", bench.values(self.name, self.handover, "% of a core"), 2, False


class Storm:
    name = "storm"
    title = "Connect storm: 10,000 clients with a Last-Event-ID"
    minutes = 1.3
    one, spread = "10 missed, one cursor", "100 missed, spread cursors"
    unlimited = "100 missed, spread cursors, accept.rate=0"

    def run(self, bench):
        def figures(report):
            commands = {k: v for k, v in report["run"]["commands"].items() if k not in ASKED_BY_THE_TOOL}
            return {
                "s until all live": report["live_seconds"],
                "s until caught up": report["caught_up_seconds"],
                "connects/s": report["connects_per_second"],
                "CPU µs/client": 1e6 * cpu(report["run"]) / report["clients"],
                "p99 ms": report["catching_up_ms"]["p99"],
                "Redis commands": sum(commands.values()),
                **{f"Redis {k}": v for k, v in commands.items()},
            }

        args = ["--storm", "-n", 10000, "--missed"]
        ways = [
            ("relay", self.one, [*args, 10, "--cursor", "one"], {}),
            ("relay", self.spread, [*args, 100, "--cursor", "spread"], {}),
            ("relay", self.unlimited, [*args, 100, "--cursor", "spread"], {"accept.rate": 0}),
        ]
        bench.alternate(self.name, ways, figures)

    def targets(self, bench):
        for who in (self.one, self.spread, self.unlimited):
            yield f"s until all live, {who}", bench.values(self.name, who, "s until all live"), 2, False
        for who in (self.one, self.spread):
            yield f"Redis commands (with those within functions), {who}", bench.values(self.name, who, "Redis commands"), None, False


class Workers:
    name = "workers"
    title = "One worker and two on the same two cores, generator and Redis beside them; 16 in flight"
    minutes = 1.4
    chart = "deliveries/s"

    def run(self, bench):
        def figures(report):
            return {**delivery_figures(report), "server, cores": cpu(report["run"]) / report["run"]["seconds"]}

        args = ["-n", 5000, "--window", 16, *duration(bench)]
        here = {"core": CORES.all, "generator": CORES.all}
        ways = [("relay", f"{n} worker{'s' * (n > 1)}", args, {"workers": n, **here}) for n in (1, 2)]
        bench.alternate(self.name, ways, figures)

    def targets(self, bench):
        ratios = bench.ratios(self.name, "deliveries/s", "2 workers", "1 worker")
        yield "deliveries/s, two workers × one", ratios, None, True
        for part in ("server", "generator"):
            used = bench.values(self.name, "2 workers", f"{part}, cores")
            yield f"cores that the {part} had, two workers", used, None, False


class Publish:
    name = "publish"
    title = "Publishing: events/s by door, without and with 1,000 subscribers"
    minutes = 5.1
    doors = {  # the last --window counts
        "FCALL, pipelined": ["--publish", "fcall", "--window", 1000],
        "POST, 16 connections": ["--publish", "http", "--publish-connections", 16, "--window", 16],
        "inbox": ["--publish", "inbox", "--window", 1000],
    }

    def run(self, bench):
        def figures(report):
            run = report["run"]
            return {
                "events/s": run["events_per_second"],
                "Redis µs/event": run["redis_us_per_event"],
                "relay µs/event": 1e6 * cpu(run) / max(run["events"], 1),
                "p99 ms to the answer": report["publish_ms"]["p99"],
            }

        ways = []
        for clients in (0, 1000):
            for door, args in self.doors.items():
                # No more in flight than half a client's queue: who overflows is disconnected.
                flags = ["-n", clients, *args, *(["--window", 128] if clients else []), *duration(bench)]
                # Where the relay has nothing to do, Redis has a core to itself, and the generator the relay's.
                where = {} if clients or door.startswith("POST") else {"generator": CORES.server}
                ways.append(("relay", f"{door}, {clients:,} subscribers", flags, where))
        bench.alternate(self.name, ways, figures)
        paced = [
            ("relay", f"{door}, 1,000/s", ["-n", 1, *args, "--rate", 1000, *duration(bench)], {})
            for door, args in self.doors.items()
        ]
        bench.alternate(self.name, paced, latency_figures)

    def targets(self, bench):
        for clients, limits in ((0, (90000, 15000, None)), (1000, (None, None, None))):
            for door, limit in zip(self.doors, limits):
                rate = bench.values(self.name, f"{door}, {clients:,} subscribers", "events/s")
                yield f"events/s, {door}, {clients:,} subscribers", rate, limit, True
        for door in self.doors:
            p99 = bench.values(self.name, f"{door}, 1,000/s", "p99 ms")
            yield f"p99 ms publish → receipt, {door}, 1,000/s", p99, 3, False


class Compressed:
    name = "compressed"
    title = "Compressed streams: 5,000 clients, one topic, 1 KB of JSON, each event another"
    minutes = 2.7

    def run(self, bench):
        def figures(report):
            shown = ("CPU µs/delivery", "user µs", "system µs", "deliveries/s", "generator, cores")
            figures = delivery_figures(report)
            return {"bytes/delivery": report["run"]["bytes_per_delivery"], **{name: figures[name] for name in shown}}

        # In bursts: a generator that inflates is slow, and would publish the events one by one as they are received.
        args = ["-n", 5000, "--size", 1024, "--payload", "json", "--burst"]
        ways = [
            ("relay", f"{kind}, {window} at once", [*args, *how, "--window", window, *duration(bench)], config)
            for window in (1, 16)
            for kind, how, config in (("plain", [], {}), ("gzip", ["--gzip"], {"compress": ">"}))
        ]
        bench.alternate(self.name, ways, figures)

    def targets(self, bench):
        for figure, what in (("bytes/delivery", "bytes on the wire"), ("CPU µs/delivery", "CPU per delivery")):
            for window in (1, 16):
                ratios = bench.ratios(self.name, figure, f"gzip, {window} at once", f"plain, {window} at once")
                yield f"{what}, gzip × plain, {window} at once", ratios, None, False


SCENARIOS = [
    FanOut(64, 1, {BASE: 1.10, NCHAN: 0.62}),
    FanOut(64, 16, {NCHAN: 0.10, "deliveries/s": 1.5e6}),
    FanOut(1024, 1, {BASE: None, NCHAN: 0.7}),
    FanOut(16384, 1, {BASE: None, NCHAN: 0.7}),
    Targeted(),
    Matching(),
    Sustained(),
    Idle(),
    Storm(),
    Workers(),
    Publish(),
    Compressed(),
    AuthConnect(),
    AuthMemory(),
    AuthRevoke(),
    RedisNodes(),
    Fleet(),
    Slow(),
    Tokens(),
    Pipes(),
]
