"""Runs sse-bench against a contestant, again and again, and keeps what it reported."""

import json
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack

import peers
from peers import BUILD, CORES

TOOL = BUILD / "sse-bench"

CONTESTANTS = {
    "relay": lambda redis, **kw: peers.Relay(redis, **kw),
    "relay-memory": lambda redis, **kw: peers.Relay(None, **kw),
    "baseline": lambda redis, **kw: peers.Baseline(redis),
    "nchan-redis": lambda redis, **kw: peers.Nchan(redis),
    "nchan-memory": lambda redis, **kw: peers.Nchan(None),
}
NAMES = {
    "relay": "sse-relay",
    "relay-memory": "sse-relay, memory:",
    "baseline": "bare epoll loop",
    "nchan-redis": "nchan, Redis",
    "nchan-memory": "nchan, memory",
}


class Failed(Exception):
    """sse-bench found a fault, or could not run."""


def sse_bench(server, redis, args, core=None):
    """One run of the generator; its report."""
    command = ["taskset", "-c", core or CORES.generator, TOOL, "--quiet", "--json", "-", *args]
    command += ["--server-pid", server.pid, "--redis", redis.url if redis else "none"]
    command += ["--redis-pid", redis.pid] if redis else []
    done = subprocess.run(
        [str(c) for c in command], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode != 0 and not done.stdout:
        raise Failed(done.stderr.strip() or f"sse-bench ended with {done.returncode}")
    report = json.loads(done.stdout)
    if not report["ok"]:
        faults = [f"{name} {count}" for name, count in report["faults"].items() if count]
        raise Failed(" ".join(filter(None, [report["failure"], *faults, report["first_fault"]])))
    if report["ready"] and report["published"] and not report["storm"] and not report["run"]["deliveries"]:
        raise Failed("no event was delivered within the measured time")
    return report


def once(who, args, core=None, **config):
    """A fresh server (and Redis), one run, and all of it gone again."""
    with ExitStack() as stack:
        redis = stack.enter_context(peers.Redis()) if not who.endswith("-memory") else None
        server = stack.enter_context(CONTESTANTS[who](redis, **config))
        return sse_bench(server, redis, [*server.options(), *args], core)


class Bench:
    """The settings of this benchmark, and what it has measured so far."""

    def __init__(self, runs, seconds):
        self.runs = runs
        self.seconds = seconds
        self.results = []  # one dict for each run
        self.notes = []
        self.failed = 0  # runs
        self.fleet = None  # relays of a fleet; None: as many as fit
        self.skipped = {}

    def say(self, text):
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    def note(self, scenario, text):
        self.say(f"{scenario}: {text}")
        self.notes.append((scenario, text))

    def can(self, who):
        reason = peers.why_not(who)
        if reason and who not in self.skipped:
            self.skipped[who] = reason
            self.say(f"{NAMES[who]}: skipped: {reason}")
        return reason is None

    def run(self, scenario, who, args, label=None, figure=None, **kw):
        """One run. @figure takes from the report what the scenario is about, as {name: value}."""
        try:
            report = once(who, args, **kw)
        except (Failed, RuntimeError) as error:
            self.failed += 1
            self.note(scenario, f"{label or NAMES[who]}: a run failed: {error}")
            return None
        figures = figure(report) if figure else {}
        result = {"scenario": scenario, "who": label or NAMES[who], "figures": figures, "report": report}
        self.results.append(result)
        shown = ", ".join(f"{k} {v:.4g}" for k, v in figures.items())
        self.say(f"{scenario}: {result['who']}: {shown}")
        return report

    def alternate(self, scenario, contestants, figure, runs=None):
        """Each contestant in turn, and that again: what the machine does meanwhile hits all alike.
        @contestants: (who, label, args, config)."""
        for _ in range(runs or self.runs):
            for who, label, args, config in contestants:
                if self.can(who):
                    self.run(scenario, who, args, label, figure, **config)

    def values(self, scenario, who, name):
        return [
            r["figures"][name]
            for r in self.results
            if r["scenario"] == scenario and r["who"] == who and name in r["figures"]
        ]

    def median(self, scenario, who, name):
        values = self.values(scenario, who, name)
        return statistics.median(values) if values else None
