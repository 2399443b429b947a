# SPDX-License-Identifier: Apache-2.0
"""Flow control under load: readers that are too slow beside ones that are not, and streams of tokens."""

import json
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import peers
from fleet import cpu
from measure import Failed, sse_bench
from peers import BUILD, CORES

HELPERS = BUILD / "normal" / "test" / "bench"
PAGE = 4096
MB = 1e6
UNSENT = 64 * 1024  # socket.unsent, the default
SLOW_READS = 200  # slow.reads, the default


def metrics(relay):
    with urllib.request.urlopen(f"http://127.0.0.1:{relay.port}/stats", timeout=30) as answer:
        return json.load(answer)["metrics"]


def total(values, name):
    """Of a metric, over its labels."""
    return sum(v for k, v in values.items() if k == name or k.startswith(name + "{"))


def rss(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def tcp_memory():
    """Of all sockets of this machine (network namespace): what the kernel has for TCP now."""
    line = next(x for x in open("/proc/net/sockstat") if x.startswith("TCP:")).split()
    return int(line[line.index("mem") + 1]) * PAGE


def log_end(redis, topic):
    """How many events @topic's log has had."""
    command = ["redis-cli", "-p", redis.port, "XINFO", "STREAM", f"sse:{{default}}:log:{topic}"]
    lines = subprocess.run([str(c) for c in command], capture_output=True, text=True).stdout.split("\n")
    return int(lines[lines.index("entries-added") + 1])


class SlowReaders:
    """One process of them."""

    def __init__(self, relay, target, count, rate):
        command = ["taskset", "-c", CORES.generator, HELPERS / "slow_readers", relay.port, target, count, rate]
        self.process = subprocess.Popen(
            [str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_open(self):
        if self.process.stdout.readline() != "open\n":
            raise Failed(self.process.stderr.read().strip() or "slow readers did not open")

    def read_on(self, last):
        self.process.stdin.write(f"{last}\n")
        self.process.stdin.flush()

    def account(self):
        out, error = self.process.communicate()
        if self.process.returncode != 0:
            raise Failed(error.strip() or f"slow_readers ended with {self.process.returncode}")
        return json.loads(out)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Watch:
    """Looks at memory and reads of the log, once a second, until it is left."""

    def __init__(self, relay):
        self.relay, self.memory, self.reads, self.done = relay, [], [], threading.Event()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.base = rss(self.relay.pid), tcp_memory()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def _run(self):
        at, before = time.monotonic(), None
        while not self.done.wait(1):
            try:
                now, reads = time.monotonic(), metrics(self.relay)["sse_relay_slow_reads_total"]
            except OSError:
                continue
            if before is not None:
                self.reads.append((reads - before) / (now - at))
            at, before = now, reads
            self.memory.append((rss(self.relay.pid), tcp_memory()))

    def figures(self):
        if not self.memory:
            raise Failed("no second in which to look at memory: measure longer")
        return {
            "relay MB": max(m[0] for m in self.memory) / MB,
            "kernel MB": max(m[1] - self.base[1] for m in self.memory) / MB,
            "slow reads/s": max(self.reads, default=0.0),
        }


FAULTS = ("late", "ended", "wrong_gaps", "untold", "overtold", "repeated")


class Slow:
    """Healthy streams by themselves, then the same with others that stall or dawdle, under each policy."""

    name = "slow-readers"
    title = "Stalled and slow readers beside healthy ones, 200 B"
    minutes = 40  # most of it: reading on, at slow.reads pages a second
    extra = True
    chart = "p99 ms"
    policies = ("block", "drop-oldest", "drop-newest")

    def __init__(self, clients=1000, rate=1000, slow_rate=50000):
        self.clients, self.rate, self.slow_rate = clients, rate, slow_rate

    def scaled(self, bench):
        """--scale divides streams and events, for a machine that is too small for them."""
        scale = bench.scale or 1
        return max(1, int(self.clients / scale)), max(1, int(self.rate / scale))

    def run(self, bench):
        clients, rate = self.scaled(bench)
        bench.note(self.name, f"{clients} healthy, {clients} stalled, {clients} at {self.slow_rate // 1000} KB/s; "
                   f"{rate} events/s for {bench.seconds} s")  # fmt: skip
        for turn in range(bench.runs):
            for policy in (None, *self.policies):
                label = f"with slow ones, {policy}" if policy else "healthy alone"
                try:
                    bench.add(self.name, label, self.once(clients, rate, bench.seconds, policy), turn)
                except (Failed, RuntimeError, OSError) as error:
                    bench.failed += 1
                    bench.note(self.name, f"{label}: a run failed: {error}")

    def once(self, clients, rate, seconds, policy):
        with ExitStack() as stack:
            redis = stack.enter_context(peers.Redis())
            # The log has all, and no stalled stream is ended: each is to be told exactly what it misses.
            keep = {"log.max_events": 2 * (seconds + 2) * rate + 1000, "replay.max_events": 2 * (seconds + 2) * rate + 1000}
            relay = stack.enter_context(peers.Relay(redis, stall_timeout="1h", **keep))
            watch = Watch(relay)
            groups = []
            for slow_rate in (0, self.slow_rate) if policy else ():
                groups.append(SlowReaders(relay, f"/events?topic=bench&slow={policy}", clients, slow_rate))
                stack.callback(groups[-1].stop)
            for group in groups:
                group.wait_open()
            before = metrics(relay)
            with watch:
                args = [*relay.options(), "-n", clients, "--size", 200, "--rate", rate, "--duration", f"{seconds}s"]
                report = sse_bench(relay, redis, [*args, "--timeout", "60s"])
                last = log_end(redis, "bench")
                accounts = []
                for group in groups:
                    group.read_on(last)
                    accounts.append(group.account())
            after = metrics(relay)
        run = report["run"]
        figures = {
            "p99 ms": report["latency_ms"]["p99"],
            "p50 ms": report["latency_ms"]["p50"],
            "events/s": run["events_per_second"],
            "FCALL p99 ms": report["publish_ms"]["p99"],
            "relay core": (run["server_user_s"] + run["server_system_s"]) / run["seconds"],
            **watch.figures(),
        }
        if policy:
            figures["bound MB"] = self.bound(clients * 3)
            figures["fell behind"] = total(after, "sse_relay_streams_behind_total") - total(before, "sse_relay_streams_behind_total")
            figures.update(self.judge(accounts, policy, clients, last))
        return figures

    @staticmethod
    def bound(clients):
        """Clients × (socket.unsent + 16 KB); memory.events comes on top."""
        return clients * (UNSENT + 16 * 1024) / MB

    @staticmethod
    def judge(accounts, policy, clients, last):
        """Each stream had, or was told of, each of the @last events."""
        for account in accounts:
            faults = {name: account[name] for name in FAULTS if account[name]}
            have = account["events"] + account["dropped"] + account["in_gaps"]
            if have != clients * last:
                faults["not accounted for"] = clients * last - have
            if policy == "block" and account["dropped"]:
                faults["dropped"] = account["dropped"]
            if faults:
                raise Failed(f"{faults} of {account}")
        return {
            "read": sum(a["events"] for a in accounts),
            "told dropped": sum(a["dropped"] for a in accounts),
            "gaps": sum(a["gaps"] for a in accounts),
            "s to catch up": max(a["seconds"] for a in accounts),
        }

    def targets(self, bench):
        alone = "healthy alone"
        for policy in self.policies:
            who = f"with slow ones, {policy}"
            yield f"p99 of the healthy, {policy} × alone", bench.ratios(self.name, "p99 ms", who, alone), 1.2, False
        who = "with slow ones, block"
        yield "events/s, block × alone", bench.ratios(self.name, "events/s", who, alone), 0.98, True
        reads = bench.values(self.name, who, "slow reads/s")
        yield "pages read of slow ones, × slow.reads", [r / SLOW_READS for r in reads], 1.05, False


class Tokens:
    """What models write, one topic each, reloaded once; token by token, and joined by a flush."""

    name = "llm"
    title = "Streams of 60 tokens/s, each reloaded once with replay=whole"
    minutes = 2
    extra = True
    chart = "relay µs/token"
    ways = {"instant": ("", ()), "appended, flush=100ms": ("&flush=100ms", ("appended",))}
    faults = ("refused", "lost", "repeated", "gaps", "unended", "not over", "broken", "unanswered")

    def __init__(self, streams=500, rate=60):
        self.streams, self.rate = streams, rate

    def run(self, bench):
        streams = max(1, int(self.streams / (bench.scale or 1)))
        bench.note(self.name, f"{streams} streams × {self.rate} tokens/s × {bench.seconds} s")
        for turn in range(bench.runs):
            for label, (query, priority) in self.ways.items():
                try:
                    bench.add(self.name, label, self.once(streams, bench.seconds, query, priority), turn)
                except (Failed, RuntimeError, OSError) as error:
                    bench.failed += 1
                    bench.note(self.name, f"{label}: a run failed: {error}")

    def once(self, streams, seconds, query, priority):
        tokens = self.rate * seconds
        with ExitStack() as stack:
            redis = stack.enter_context(peers.Redis())
            relay = stack.enter_context(peers.Relay(redis))
            command = ["taskset", "-c", CORES.generator, HELPERS / "token_streams", relay.port, redis.port]
            command += [streams, self.rate, tokens, query, *priority]
            process = subprocess.Popen(
                [str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            stack.callback(lambda: process.poll() is None and process.kill())
            relay_s, redis_s = (-s for s in self.step(process, "open", relay, redis))
            used = self.step(process, "ended", relay, redis)
            out, error = process.communicate()
        if process.returncode != 0 or not out:
            raise Failed(error.strip() or f"token_streams ended with {process.returncode}")
        account = json.loads(out)
        faults = {name: account[name] for name in self.faults if account[name]}
        for name, want in (("published", streams * tokens), ("reloads", streams), ("over", streams)):
            if account[name] != want:
                faults[name] = f"{account[name]} of {want}"
        if faults:
            raise Failed(f"{faults} {error.strip()}")
        relay_s, redis_s = relay_s + used[0], redis_s + used[1]
        return {
            "relay µs/token": 1e6 * relay_s / account["published"],
            "relay core": relay_s / account["seconds"],
            "Redis core": redis_s / account["seconds"],
            "caught up p50 ms": account["p50_ms"],
            "caught up p99 ms": account["p99_ms"],
            "tokens/s": account["published"] / account["seconds"],
            "blocks": account["blocks"],
            "publisher late ms": account["late_ms"],
        }

    @staticmethod
    def step(process, word, relay, redis):
        """Once it says @word: CPU of both so far; then it may go on."""
        if process.stdout.readline().strip() != word:
            raise Failed(process.communicate()[1].strip() or "token_streams ended early")
        used = cpu(relay.pid), cpu(redis.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        return used

    def targets(self, bench):
        joined = "appended, flush=100ms"
        yield "CPU of the relay, appended × instant", bench.ratios(self.name, "relay µs/token", joined, "instant"), 0.6, False
        yield "tokens/s, instant", bench.values(self.name, "instant", "tokens/s"), None, True


class Pipes(Tokens):
    """The same tokens as the bodies of requests, against calls of Redis by one publisher that pipelines."""

    name = "pipe"
    title = "Streams of 60 tokens/s by POST /topics/{topic}/pipe, and by FCALL"
    chart = "relay and Redis µs/token"
    ways = {"FCALL": ("", ()), "pipe": ("", ("pipe",))}

    def once(self, *args):
        figures = super().once(*args)
        both = figures["relay core"] + figures["Redis core"]
        return {"relay and Redis µs/token": 1e6 * both / figures["tokens/s"], **figures}

    def targets(self, bench):
        yield "CPU of relay and Redis, pipe × FCALL", bench.ratios(self.name, "relay and Redis µs/token", "pipe", "FCALL"), 1.3, False
