#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Nothing lost, nothing twice: relays under every failure, judged from outside. See docs/torture.md.

    test/torture/torture.py --seconds 120 --seed 7
    test/torture/torture.py --seeds regression
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[1] / "integration"))

import bridge  # noqa: E402
import faults  # noqa: E402
from audience import LANED, PAIRS, RULED, SINGLE, TOPICS, make_streams  # noqa: E402
from access import TWO_STREAMS  # noqa: E402
from changes import Changes  # noqa: E402
from checker import show  # noqa: E402
from logins import GROUPS, Logins  # noqa: E402
from publishers import Publishers  # noqa: E402
from report import merge, print_asked, print_auth_table, print_flow_table, print_table  # noqa: E402
from round import MAX_EVENTS, Round  # noqa: E402
from speaker import Speaker  # noqa: E402
from world import World, knows_sentinel, until  # noqa: E402

MAX_BAD_ROUNDS = 3


# --- a run: one seed ---


class Run:
    def __init__(self, seed, options):
        seed, *flags = seed.split("+")
        with_auth = "auth" in flags
        self.seed = seed
        self.options = options
        self.rng = random.Random(seed)
        self.dir = Path(tempfile.mkdtemp(prefix=f"sse-relay-torture-{seed}-"))
        self.base = 0
        self.losses = []
        self.rewound = False
        self.ledger = None
        self.topics = list(TOPICS)  # of all rounds
        self.ends = {}  # topic → End, the same
        self.history = {}  # id → Event, of all rounds before
        self.table = {}
        self.flow = {}
        self.bad_rounds = 0
        self.problems = []
        # Its own source of chance: the schedule of a seed is the same either way.
        by_seed = random.Random(f"{seed}/sentinel").random() < 0.5 and knows_sentinel()
        by_seed = by_seed and not set(options.faults or []) & set(faults.NETWORK)
        use_sentinel = {"auto": by_seed, "yes": True, "no": False}[options.sentinel]
        relay = {
            "workers": 2,
            "retry": "200ms",
            "drain": "1s",
            "heartbeat": "5s",
            "queue.max_events": 128,
            "queue.max_bytes": "256KB",
            "log.max_events": MAX_EVENTS,
            "max_lifetime": self.rng.choice(["0", "20s"]),
            "compress": ">",
            "flush": "300ms",
            "lanes": ",".join(f"{topic}={lane}" for topic, lane in RULED.items()),
            # Little, so that it shows within a round that somebody reads slowly.
            "socket.unsent": random.Random(f"{seed}/unsent").choice(["4KB", "16KB", "64KB"]),
        }
        # Streams that hold much, on nodes that may hold little: the slowest have to go by their policies.
        self.little = random.Random(f"{seed}/memory").random() < 0.4
        if self.little:
            relay |= {"memory.events": "1MB", "queue.max_events": 2000, "queue.max_bytes": "8MB"}
        mixed = random.Random(f"{seed}/auth").random() < 0.5
        with_auth = with_auth or {"on": True, "off": False, "mix": mixed}[options.auth]
        self.logins = Logins(self.dir, seed) if with_auth else None
        bridged = self._is_bridged("bridge" in flags)
        relay |= bridge.options() if bridged else {}
        self.world = World(self.dir, {"sentinel": use_sentinel, "relay": {**relay, **self._auth_options()}})
        self.match_rng = random.Random(f"{seed}/match")
        key = self.logins and self.logins.keys[1]
        self.publishers = Publishers(
            self.world, SINGLE + PAIRS, PAIRS, LANED, f"{seed}/publishers", options.rate, self._choose_match, key
        )
        self.bridge = bridge.Bridge(self.publishers, random.Random(f"{seed}/bridge")) if bridged else None
        self.publishers.large = 0.25 if self.little else 0.03
        visas = list(self.logins.issue_visas(options.clients)) if with_auth else [None] * options.clients
        chance = random.Random(f"{seed}/clients"), random.Random(f"{seed}/flow")
        habit = random.Random(f"{seed}/habits")
        more = ["orders.*"] if self.bridge else ()
        self.streams = make_streams(options.clients, self.world, chance[0], visas, chance[1], habit, more)
        self.changes = Changes(self.world, self.streams, self.publishers.running, seed, self.logins)
        self.speaker = Speaker(self.publishers, self.streams, seed)

    def _is_bridged(self, asked):
        """In half of the seeds, where the relay can do it."""
        mixed = random.Random(f"{self.seed}/bridged").random() < 0.5
        if not asked and not {"on": True, "off": False, "mix": mixed}[self.options.bridge]:
            return False
        why_not = bridge.why_not()
        if why_not:
            print(f"seed {self.seed}: no bridged stream, as this relay refuses the option: {why_not}", flush=True)
        return not why_not

    def _auth_options(self):
        return self.logins.options() if self.logins else {}

    def _choose_match(self):
        """For whom an event is. Without authentication one that is for some reaches nobody."""
        rng = self.match_rng
        if rng.random() > (0.3 if self.logins else 0.05):
            return None
        names = [s.name for s in self.logins.subjects] if self.logins else ["user-1"]
        whole = {"group": rng.choice(GROUPS), "user": rng.choice(names)}
        return {k: whole[k] for k in rng.choice((("group",), ("group",), ("user",), ("group", "user")))}

    def schedule(self):
        """All kinds in a new order each time."""
        kinds = self.options.faults or [k for k in faults.FAULTS if not (self.world.use_sentinel and k in faults.NETWORK)]
        while True:
            deck = list(kinds)
            self.rng.shuffle(deck)
            yield from deck

    async def go(self):
        tasks = []
        try:
            await self.world.start()
            tasks = [asyncio.create_task(s.run()) for s in self.streams]
            tasks += self.publishers.start()
            tasks.append(asyncio.create_task(self._rove()))
            tasks += [*self.changes.start(), asyncio.create_task(self.speaker.run())]
            tasks += [asyncio.create_task(self.bridge.run())] if self.bridge else []
            if self.logins:
                tasks += self.logins.start(self.world, self.publishers.running)
            await until(self._all_live, "all clients to be connected", 30)
            if self.bridge:
                await until(self.bridge.is_read, "the group of the bridged stream", 30)
            end = time.monotonic() + self.options.seconds
            for number, kind in enumerate(self.schedule(), 1):
                if time.monotonic() > end or self.bad_rounds >= MAX_BAD_ROUNDS:
                    break
                await self._round(number, kind, tasks)
        except Exception as error:  # of the harness, or a process that did not start
            self.problems.append(f"{type(error).__name__}: {error}")
            if self.options.verbose:
                import traceback

                traceback.print_exc()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for stream in self.streams:
                stream.stop()
            self.problems += await self.world.stop()
            self.problems += self.logins.spilled() if self.logins else []
        if self.little:
            print(f"seed {self.seed}: nodes had too much in memory {self.times_full()} times", flush=True)
        if self.ok:
            shutil.rmtree(self.dir)
        return self.ok

    def times_full(self):
        logs = [(relay.dir / "log").read_text(errors="replace") for relay in self.world.relays]
        return sum(text.count("events take more memory than memory.events") for text in logs)

    @property
    def ok(self):
        return not self.problems and not self.bad_rounds

    async def _round(self, number, kind, tasks):
        round = Round(self, number, kind)
        started = time.monotonic()
        await round.go()
        for task in [*tasks, *self.changes.tasks, *(self.logins.tasks if self.logins else ())]:
            if task.done() and task.exception():
                raise task.exception()
        self.bad_rounds += bool(round.violations)
        if any(v.kind == "stuck" for v in round.violations):
            self.bad_rounds = MAX_BAD_ROUNDS  # what is still on its way would be blamed on the next fault
        if self.options.verbose or round.violations:
            spent = time.monotonic() - started
            verdict = ", ".join(f"{k} {n}" for k, n in Counter(v.kind for v in round.violations).items()) or "ok"
            print(
                f"seed {self.seed} round {number} {kind} {' '.join(round.notes)}: {verdict}; {len(self.ledger.events)} events, "
                f"caught up {round.recovery:.1f} s, {spent:.1f} s in all"
                + (f", at last {round.last.kind} {round.last.query}" if round.last else ""),
                flush=True,
            )

    def count_flow(self, stream, judge):
        """By the kind of client: how often there was one in a round, and what it had."""
        count = self.flow.setdefault(stream.kind, Counter())
        count["clients"] += 1
        for name in ("delivered", "merged", "joined", "dropped", "gaps"):
            count[name] += getattr(judge, name)
        count["ends"] += sum(r[0] == "end" for r in stream.records)
        count["204"] += sum(r[0] == "over" for r in stream.records)

    async def _all_live(self):
        return all(s.live for s in self.streams)

    async def _rove(self):
        rng = random.Random(f"{self.seed}/rove")
        roving = [s for s in self.streams if s.roving]
        while roving:
            await asyncio.sleep(rng.uniform(0.1, 0.4))
            rng.choice(roving).rove()

    def keep(self, round, bad, ledger):
        """Shows the first violations of each kind, and writes down all that belongs to them."""
        shown = Counter()
        print(f"seed {self.seed} round {round.number} {round.kind} {' '.join(round.notes)}:", flush=True)
        for violation in round.violations:
            shown[violation.kind] += 1
            if shown[violation.kind] <= 3:
                print("  " + str(violation), flush=True)
        for kind, count in shown.items():
            if count > 3:
                print(f"  … {count - 3} more: {kind}", flush=True)
        path = self.dir / f"round-{round.number}-{round.kind}.txt"
        with open(path, "w") as out:
            print(f"seed {self.seed}, fault {round.kind}, {round.notes}", file=out)
            print(f"base {round.base}, losses {ledger.losses}, loss {vars(round.loss) if round.loss else None}", file=out)
            for violation in round.violations:
                print(violation, file=out)
            print("\nevents:", file=out)
            for event in ledger.events:
                print(" ", event, ",".join(event.topics), event.type, file=out)
            for stream, violations, records in bad[:20]:
                print(f"\n{stream.judged.name} {stream.query} slow={stream.slow} ports={stream.targets}", file=out)
                for record in records:
                    print(" ", show(record), file=out)
        print(f"  everything about it: {path}", flush=True)


def regression_seeds():
    """[(seed, faults or None for all)]; one with +auth is one with tokens, with +bridge one with a bridged stream."""
    lines = (Path(__file__).parent / "seeds").read_text().splitlines()
    found = [line.split()[:2] for line in lines if line.strip() and not line.startswith("#")]
    return [(seed, None if names == "all" else names.split(",")) for seed, names in found]


def main():
    parser = argparse.ArgumentParser(description="relays under every failure, judged from outside")
    parser.add_argument("--seconds", type=float, default=120, help="for each seed")
    parser.add_argument("--seed", default=None, help="a number; a random one if not given")
    parser.add_argument("--seeds", default="", help="several, separated by commas; or: regression")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--finite", type=int, default=6, help="topics of each round that end in it")
    parser.add_argument("--settle", type=float, default=30, help="seconds after which a round is stuck")
    parser.add_argument("--rate", type=float, default=1.0, help="1: about 100 events a second")
    parser.add_argument("--faults", type=lambda t: t.split(","), help="only these kinds: " + ", ".join(faults.FAULTS))
    parser.add_argument("--sentinel", choices=["auto", "yes", "no"], default="auto", help="relays use redis+sentinel://")
    parser.add_argument("--auth", choices=["mix", "on", "off"], help="mix, the default: in half of the seeds")
    parser.add_argument("--bridge", choices=["mix", "on", "off"], help="a bridged stream: as --auth")
    parser.add_argument("--tolerate", type=lambda t: t.split(","), default=[], help="count it, and go on: " + TWO_STREAMS)
    parser.add_argument("--verbose", action="store_true", help="a line for each round")
    options = parser.parse_args()
    for kind in options.faults or []:
        if kind not in faults.FAULTS:
            parser.error(f"unknown fault {kind}")
    by_default = "off" if options.seeds == "regression" else "mix"
    options.auth = options.auth or by_default
    options.bridge = options.bridge or by_default
    if options.seeds == "regression":
        seeds = regression_seeds()
    elif options.seeds:
        seeds = [(seed, options.faults) for seed in options.seeds.split(",")]
    else:
        seeds = [(options.seed or str(random.SystemRandom().randrange(1, 10**6)), options.faults)]
    total, flow, asked, failed = {}, {}, Counter(), []
    for seed, options.faults in seeds:
        run = Run(seed, options)
        how = "Sentinel" if run.world.use_sentinel else "forwarders"
        how += ", tokens" if run.logins else ""
        how += ", little memory" if run.little else ""
        how += ", a bridged stream" if run.bridge else ""
        print(f"seed {seed}: {options.seconds:g} s, {len(run.streams)} clients, {how}, logs in {run.dir}", flush=True)
        if not asyncio.run(run.go()):
            failed.append(seed)
            for problem in run.problems:
                print(f"seed {seed}: {problem}", flush=True)
            print(f"seed {seed}: FAILED, kept {run.dir}", flush=True)
        merge(total, run.table)
        merge(flow, run.flow)
        asked.update(run.changes.counts)
    print_table(total)
    print_flow_table(flow)
    print_asked(asked)
    print_auth_table(total)
    if failed:
        print(f"FAILED: seeds {','.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
