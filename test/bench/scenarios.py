"""The scenarios, in the order of the report. Each has a name, a title, run(bench) and targets(bench):
what must be reached, as (what, measured, limit, True if more is better)."""

import json
import subprocess

from fleet import Fleet, RedisNodes
from measure import NAMES
from peers import BUILD, CORES

RELAY, BASE = NAMES["relay"], NAMES["baseline"]
NCHAN, NCHAN_MEMORY = NAMES["nchan-redis"], NAMES["nchan-memory"]


def duration(bench):
    return ["--duration", f"{bench.seconds}s", "--warmup", "1s"]


def cpu(span, whose="server"):
    return span[f"{whose}_user_s"] + span[f"{whose}_system_s"]


def ratio(a, b):
    return a / b if a is not None and b else None


def delivery_figures(report):
    run, ms = report["run"], report["latency_ms"]
    return {
        "CPU µs/delivery": run["server_us_per_delivery"],
        "deliveries/s": run["deliveries_per_second"],
        "p50 ms": ms["p50"],
        "p99 ms": ms["p99"],
        "p99.9 ms": ms["p999"],
        "max ms": ms["max"],
        "Redis µs/event": run["redis_us_per_event"],
    }


class FanOut:
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
        cost = {who: bench.median(self.name, who, "CPU µs/delivery") for who in NAMES.values()}
        for other, limit in self.limits.items():
            if other == "deliveries/s":
                rate = bench.median(self.name, RELAY, "deliveries/s")
                yield "deliveries/s", rate, limit, True
            else:
                yield f"CPU per delivery, × {other}", ratio(cost[RELAY], cost[other]), limit, False


class Targeted:
    name = "targeted"
    title = "15,000 clients with a topic each, events to random topics"
    crowds = (1000, 15000)

    def run(self, bench):
        def crowd(n, *more):
            return ["-n", n, "--topics", "each", *more, *duration(bench)]

        for n in self.crowds:
            contestants = [("relay", f"{n:,} clients, 256 in flight", crowd(n, "--window", 256), {})]
            bench.alternate(self.name, contestants, delivery_figures)
        full = bench.median(self.name, "15,000 clients, 256 in flight", "deliveries/s")
        self.rate = int(min(20000, full / 2)) if full else 5000
        bench.note(self.name, f"half of saturation, at most 20,000: {self.rate:,} events/s")
        paced = [
            ("relay", f"{n:,} clients, paced", crowd(n, "--rate", self.rate), {}) for n in self.crowds
        ]
        bench.alternate(self.name, paced, delivery_figures)

    def targets(self, bench):
        few, many = (f"{n:,} clients, paced" for n in self.crowds)
        yield "p99 ms, 15,000 clients, paced", bench.median(self.name, many, "p99 ms"), 5, False
        cost = [bench.median(self.name, w, "CPU µs/delivery") for w in (many, few)]
        yield "CPU per delivery, 15,000 clients × 1,000 clients", ratio(*cost), 1.25, False


class Matching:
    name = "matching"
    title = "Matching: cost of an event by the number of patterns; 5,000 clients × 20 topics"

    def run(self, bench):
        for _ in range(bench.runs):
            out = subprocess.run(
                ["taskset", "-c", CORES.server, BUILD / "normal/test/bench/match"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for point in map(json.loads, out.splitlines()):
                figures = {"µs/event": point["ns_per_event"] / 1e3, "matches": point["hits_per_event"]}
                who = f"{point['patterns']:,} patterns"
                bench.results.append({"scenario": self.name, "who": who, "figures": figures})
        mixed = ["-n", 5000, "-k", 20, "--patterns", 5, "--topics", 50000, "--window", 16]
        bench.alternate(
            self.name, [("relay", "5,000 × 20 in the relay", [*mixed, *duration(bench)], {})], delivery_figures
        )

    def targets(self, bench):
        for n in ("10", "100", "1,000", "10,000", "100,000"):
            yield f"µs/event, {n} patterns", bench.median(self.name, f"{n} patterns", "µs/event"), 1, False


class Sustained:
    name = "sustained"
    title = "1,000 clients, events at a fixed rate for 60 s (1,000/s: 1 M deliveries/s)"
    rates = (1000, 750, 500, 250)

    def run(self, bench):
        seconds = min(60, bench.seconds * 12)
        self.held = None
        for rate in self.rates:
            args = ["-n", 1000, "--rate", rate, "--duration", f"{seconds}s"]
            label = f"{rate:,} events/s"
            failed = bench.failed
            report = bench.run(self.name, "relay", args, label, delivery_figures)
            bench.failed = failed  # what does not hold is what is looked for
            # Held: what was due came, and the last second was no later than the first.
            if report and report["run"]["events_per_second"] > 0.99 * rate and report["latency_ms"]["p99"] < 1000:
                self.held = rate
                break

    def targets(self, bench):
        yield "events/s that held", self.held, 1000, True


class Idle:
    name = "idle"
    title = "15,000 idle clients, heartbeat 15 s: memory and CPU"
    clients = 15000

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
        ways = [("relay", None, args, {})]
        if "park" in relay_options():
            ways.append(("relay", "sse-relay, park=handover", args, {"park": "handover"}))
        bench.alternate(self.name, ways, figures)

    def targets(self, bench):
        yield "KB a client, suspended", bench.median(self.name, RELAY, "KB/client"), 9.5, False
        handover = bench.median(self.name, "sse-relay, park=handover", "KB/client")
        yield "KB a client, park=handover", handover, 1.5, False
        yield "% of a core", bench.median(self.name, RELAY, "% of a core"), 2, False


class Storm:
    name = "storm"
    title = "Connect storm: 10,000 clients with a Last-Event-ID"

    def run(self, bench):
        def figures(report):
            commands = report["run"]["commands"]
            return {
                "s until all live": report["live_seconds"],
                "s until caught up": report["caught_up_seconds"],
                "connects/s": report["connects_per_second"],
                "CPU µs/client": 1e6 * cpu(report["run"]) / report["clients"],
                "p99 ms": report["catching_up_ms"]["p99"],
                **{f"Redis {k}": v for k, v in commands.items()},
            }

        args = ["--storm", "-n", 10000, "--missed"]
        ways = [
            ("relay", "10 missed, one cursor", [*args, 10, "--cursor", "one"], {}),
            ("relay", "100 missed, spread cursors", [*args, 100, "--cursor", "spread"], {}),
        ]
        bench.alternate(self.name, ways, figures)

    def targets(self, bench):
        for who in ("10 missed, one cursor", "100 missed, spread cursors"):
            yield f"s until all live, {who}", bench.median(self.name, who, "s until all live"), 2, False


class Workers:
    name = "workers"
    title = "One worker and two on the same two cores, generator and Redis beside them; 16 in flight"

    def run(self, bench):
        def figures(report):
            run = report["run"]
            return {
                **delivery_figures(report),
                "server, cores": cpu(run) / run["seconds"],
                "generator, cores": cpu(run, "own") / run["seconds"],
            }

        args = ["-n", 5000, "--window", 16, *duration(bench)]
        here = {"core": CORES.all}
        ways = [("relay", f"{n} worker{'s' * (n > 1)}", args, {"workers": n}) for n in (1, 2)]
        for _ in range(bench.runs):
            for who, label, flags, config in ways:
                bench.run(self.name, who, flags, label, figures, **here, **config)

    def targets(self, bench):
        return ()


class Publish:
    name = "publish"
    title = "Publishing: events/s by door, without and with 1,000 subscribers"
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

        def receipt(report):
            ms = report["latency_ms"]
            return {"p50 ms": ms["p50"], "p99 ms": ms["p99"], "p99.9 ms": ms["p999"]}

        ways = []
        for clients in (0, 1000):
            for door, args in self.doors.items():
                # No more in flight than half a client's queue: who overflows is disconnected.
                flags = ["-n", clients, *args, *(["--window", 128] if clients else []), *duration(bench)]
                ways.append(("relay", f"{door}, {clients:,} subscribers", flags, {}))
        bench.alternate(self.name, ways, figures)
        paced = [
            ("relay", f"{door.split(',')[0]}, 1,000/s", ["-n", 1, *args, "--rate", 1000, *duration(bench)], {})
            for door, args in self.doors.items()
        ]
        bench.alternate(self.name, paced, receipt)

    def targets(self, bench):
        def rate(door):
            return bench.median(self.name, f"{door}, 0 subscribers", "events/s")

        yield "events/s, FCALL", rate("FCALL, pipelined"), 90000, True
        yield "events/s, POST", rate("POST, 16 connections"), 15000, True
        for door in ("FCALL", "POST"):
            p99 = bench.median(self.name, f"{door}, 1,000/s", "p99 ms")
            yield f"p99 ms publish → receipt, {door}", p99, 3, False


def relay_options():
    return subprocess.run([BUILD / "sse-relay", "--help"], capture_output=True, text=True).stdout


SCENARIOS = [
    FanOut(64, 1, {BASE: 1.10, NCHAN: 0.62}),
    FanOut(64, 16, {NCHAN: 0.10, "deliveries/s": 1.5e6}),
    FanOut(1024, 1, {NCHAN: 0.7}),
    FanOut(16384, 1, {NCHAN: 0.7}),
    Targeted(),
    Matching(),
    Sustained(),
    Idle(),
    Storm(),
    Workers(),
    Publish(),
    RedisNodes(),
    Fleet(),
]
