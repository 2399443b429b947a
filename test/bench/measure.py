# SPDX-License-Identifier: Apache-2.0
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


def sse_bench(server, redis, args, generator=None):
    """One run of the generator, on its core unless @generator says another; its report."""
    command = ["taskset", "-c", generator or CORES.generator, TOOL, "--quiet", "--json", "-", *args]
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
    if report["gzip"] and report["gzip_streams"] < report["ready"]:
        raise Failed("the server sent plain streams")
    return report


def once(who, args, generator=None, **config):
    """A fresh server (and Redis), one run, and all of it gone again."""
    with ExitStack() as stack:
        redis = stack.enter_context(peers.Redis()) if not who.endswith("-memory") else None
        server = stack.enter_context(CONTESTANTS[who](redis, **config))
        return sse_bench(server, redis, [*server.options(), *args], generator)


class Bench:
    """The settings of this benchmark, and what it has measured so far."""

    def __init__(self, runs, seconds):
        self.runs = runs
        self.seconds = seconds
        self.machine = {}
        self.commands = []  # a dict for each time it was started
        self.results = []  # a dict for each run
        self.notes = []  # (scenario, text)
        self.fleet = None  # relays of a fleet; None: as many as fit
        self.scale = 1  # by what the scenarios of flow control are made smaller
        self.skipped = {}
        self.failed = 0  # runs

    def say(self, text):
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    def note(self, scenario, text):
        self.say(f"{scenario}: {text}")
        self.notes.append([scenario, text])

    def can(self, who):
        reason = peers.why_not(who)
        if reason and who not in self.skipped:
            self.skipped[who] = reason
            self.say(f"{NAMES[who]}: skipped: {reason}")
        return reason is None

    def add(self, scenario, who, figures, turn=0, report=None):
        result = {"scenario": scenario, "who": who, "turn": turn, "figures": figures, "report": report}
        self.results.append(result)
        shown = ", ".join(f"{k} {v:.4g}" for k, v in figures.items())
        self.say(f"{scenario}: {who}: {shown}")

    def run(self, scenario, who, args, label=None, figure=None, turn=0, **kw):
        """One run. @figure takes from the report what the scenario is about, as {name: value}."""
        try:
            report = once(who, args, **kw)
        except (Failed, RuntimeError) as error:
            self.failed += 1
            self.note(scenario, f"{label or NAMES[who]}: a run failed: {error}")
            return None
        self.add(scenario, label or NAMES[who], figure(report) if figure else {}, turn, report)
        return report

    def alternate(self, scenario, contestants, figure, runs=None):
        """Each contestant in turn, and that again: what the machine does meanwhile hits all alike.
        @contestants: (who, label, args, config)."""
        for turn in range(runs or self.runs):
            for who, label, args, config in contestants:
                if self.can(who):
                    self.run(scenario, who, args, label, figure, turn, **config)

    def runs_with(self, scenario, who, name):
        return [r for r in self.results if r["scenario"] == scenario and r["who"] == who and name in r["figures"]]

    def values(self, scenario, who, name):
        return [r["figures"][name] for r in self.runs_with(scenario, who, name)]

    def by_turn(self, scenario, who, name):
        return {r["turn"]: r["figures"][name] for r in self.runs_with(scenario, who, name)}

    def ratios(self, scenario, name, who, other):
        """Of @who's figure to @other's, turn by turn: both had the same machine."""
        ours, theirs = self.by_turn(scenario, who, name), self.by_turn(scenario, other, name)
        return [ours[turn] / theirs[turn] for turn in ours if theirs.get(turn)]

    def median(self, scenario, who, name):
        values = self.values(scenario, who, name)
        return statistics.median(values) if values else None
