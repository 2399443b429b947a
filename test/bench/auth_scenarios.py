# SPDX-License-Identifier: Apache-2.0
"""What authentication costs: a connect, an idle client's memory, a revocation. Run only when named."""

import json
import math
import select
import socket
import statistics
import subprocess
import time
import urllib.request
from contextlib import ExitStack

import credentials
import peers
from credentials import Credentials
from measure import TOOL, Failed, sse_bench

CLIENTS = 10000
TOKENS = 1000
EACH = CLIENTS
PATIENCE_S = 30
OPEN = {"accept.rate": 0}  # as fast as they are accepted
CONNECTS = ["--storm", "--cursor", "none", "--publish", "none"]  # opened, and that is all


def cpu_us(report):
    run = report["run"]
    return 1e6 * (run["server_user_s"] + run["server_system_s"]) / report["ready"]


class Way:
    """@alg: None without authentication. @before: so many connects are made first, which show the first tokens. @shown: tokens of this algorithm
    are sent to a relay that asks for none. @config: more of the relay's options."""

    def __init__(self, label, alg=None, tokens=TOKENS, before=0, shown=None, **config):
        self.label, self.alg, self.count, self.before, self.shown = label, alg, tokens, before, shown
        self.config = config

    def of(self, all_credentials):
        return all_credentials.get(self.alg or self.shown)


class Scenario:
    """Contestants in turn, and that again, over the memory store."""

    extra = True
    ways = []

    def run(self, bench):
        reason = credentials.why_not()
        if reason:
            bench.note(self.name, f"skipped: {reason}")
            return
        with ExitStack() as stack:
            algs = {alg for way in self.ways for alg in (way.alg, way.shown) if alg}
            made = {alg: stack.enter_context(Credentials(alg)) for alg in sorted(algs)}
            for turn in range(bench.runs):
                for way in self.ways:
                    self.one(bench, way, way.of(made), turn)

    def one(self, bench, way, made, turn):
        try:
            report = self.measure(way, made)
        except (Failed, RuntimeError) as error:
            bench.failed += 1
            bench.note(self.name, f"{way.label}: a run failed: {error}")
            return
        bench.add(self.name, way.label, self.figures(report), turn, report)

    def measure(self, way, made):
        shown = ["--tokens", made.tokens(way.count)] if made else []
        with peers.Relay(None, **OPEN, **way.config, **(made.config() if way.alg else {})) as relay:
            if way.before:
                sse_bench(relay, None, [*relay.options(), *CONNECTS, "-n", way.before, *shown])
            return sse_bench(relay, None, [*relay.options(), *self.flags, *shown])


class AuthConnect(Scenario):
    name = "auth-connect"
    title = f"Authentication: CPU of the relay for each of {CLIENTS:,} connects with {TOKENS:,} tokens"
    minutes = 4
    flags = [*CONNECTS, "-n", CLIENTS]
    off, warm = "off", "off, {:,} connects before".format(TOKENS)
    cold = {alg: f"{alg}, none known" for alg in ("HS256", "RS256", "ES256")}
    known = {alg: f"{alg}, all known" for alg in ("HS256", "RS256")}
    each = {alg: f"{alg}, none known, a token each" for alg in cold}
    ways = [
        Way(off),
        *(Way(label, alg) for alg, label in cold.items()),
        *(Way(label, alg, EACH) for alg, label in each.items()),
        Way(warm, before=TOKENS),
        *(Way(label, alg, before=TOKENS) for alg, label in known.items()),
    ]

    def figures(self, report):
        return {"CPU µs/connect": cpu_us(report), "connects/s": report["connects_per_second"]}

    def targets(self, bench):
        limits = {"HS256": 1.15, "RS256": 1.5}
        for alg, label in self.known.items():
            ratios = bench.ratios(self.name, "CPU µs/connect", label, self.warm)
            yield f"CPU per connect, {label}, × off", ratios, 1.1, False
        for alg, label in self.cold.items():
            ratios = bench.ratios(self.name, "CPU µs/connect", label, self.off)
            yield f"CPU per connect, {label}, × off", ratios, limits.get(alg), False
        for label in self.each.values():
            ratios = bench.ratios(self.name, "CPU µs/connect", label, self.off)
            yield f"CPU per connect, {label}, × off", ratios, None, False


class AuthMemory(Scenario):
    name = "auth-memory"
    title = f"Authentication: memory of each of {CLIENTS:,} idle clients"
    minutes = 3
    flags = ["-n", CLIENTS, "--publish", "none", "--duration", "0"]
    # A client before: what OpenSSL keeps once it was used is no client's.
    parks = ("suspended", "handover")
    off, limits = "off, {}", {"one token, {}": 64, "a token each, {}": 600}

    def __init__(self):
        kinds = list(zip([self.off, *self.limits], (None, "HS256", "HS256"), (1, 1, EACH)))
        self.ways = [
            Way(label.format(park), alg, count, before=1, shown="HS256", park=park)
            for park in self.parks
            for label, alg, count in kinds
        ]

    def figures(self, report):
        return {"bytes/client": report["bytes_per_client"]}

    def targets(self, bench):
        for park in self.parks:
            off = bench.by_turn(self.name, self.off.format(park), "bytes/client")
            for label, limit in self.limits.items():
                turns = bench.by_turn(self.name, label.format(park), "bytes/client")
                more = [turns[turn] - off[turn] for turn in turns if turn in off]
                yield f"bytes more for each client, {label.format(park)}", more, limit, False


# --- revocations ---


class Victim:
    """A subject that is going to be revoked: a stream on each relay."""

    def __init__(self, relays, token):
        self.sockets = [self._open(relay, token) for relay in relays]
        self.text = {s: b"" for s in self.sockets}

    @staticmethod
    def _open(relay, token):
        s = socket.create_connection(("127.0.0.1", relay.port), PATIENCE_S)
        head = f"GET /events?topic=bench.0 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        s.sendall(head.encode())
        text = b""
        while b"relay.connected" not in text:
            chunk = s.recv(4096)
            text += chunk
            if not chunk:
                raise Failed(f"a stream was not opened: {text[:200]!r}")
        return s

    def wait_for_end(self):
        """Until both have ended, and have said why."""
        open_ones, deadline = list(self.sockets), time.monotonic() + PATIENCE_S
        while open_ones:
            ready, _, _ = select.select(open_ones, [], [], deadline - time.monotonic())
            if not ready:
                raise Failed("a stream that was revoked goes on")
            for s in ready:
                chunk = s.recv(1 << 16)
                self.text[s] += chunk
                if not chunk:
                    open_ones.remove(s)
        if not all(b'"reason":"revoked"' in text for text in self.text.values()):
            raise Failed("a stream ended without saying that it was revoked")

    def close(self):
        for s in self.sockets:
            s.close()


def revoke(relay, key, subject):
    body = json.dumps({"sub": subject}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{relay.port}/revoke", data=body)
    request.add_header("Authorization", f"Bearer {key}")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        answer.read()


class AuthRevoke:
    """Two relays, one Redis: streams of 10,000 subjects, half of them on each relay, hear events at a fixed rate; a
    hundred further subjects have a stream on each, and are revoked one after the other, ten a second. The same without
    revocations, in turns."""

    name = "auth-revoke"
    title = f"Authentication: streams of one of {CLIENTS:,} subjects end on two nodes, which serve the others meanwhile"
    minutes = 7
    extra = True
    chart = "p99 ms of the others"
    victims = 100
    period_s = 0.1
    quiet, busy = "nobody is revoked", "a hundred are revoked"
    load = ["-n", CLIENTS, "--topics", 100, "--rate", 50, "--warmup", "2s", "--duration", "12s"]

    def run(self, bench):
        reason = credentials.why_not()
        if reason:
            bench.note(self.name, f"skipped: {reason}")
            return
        for turn in range(bench.runs):
            for label in (self.quiet, self.busy) if turn % 2 == 0 else (self.busy, self.quiet):
                try:
                    figures, report = self.one(label)
                except (Failed, OSError, RuntimeError) as error:
                    bench.failed += 1
                    bench.note(self.name, f"{label}: a run failed: {error}")
                    continue
                bench.add(self.name, label, figures, turn, report)

    def one(self, label):
        with ExitStack() as stack:
            made = stack.enter_context(Credentials("HS256"))
            redis = stack.enter_context(peers.Redis())
            relays = [stack.enter_context(peers.Relay(redis, **OPEN, **made.config())) for _ in range(2)]
            shown = credentials.tokens("HS256", CLIENTS + self.victims)
            victims = [Victim(relays, token) for token in shown[CLIENTS:]]
            for victim in victims:
                stack.callback(victim.close)
            generator = self.start(stack, made, redis, relays)
            took = []
            for line in generator.stderr:  # what it says of its progress
                if "publishing" in line:
                    break
            if label == self.busy:
                time.sleep(2)  # its warm-up
                took = [self.end(relays, made, n, victim) for n, victim in enumerate(victims)]
            text, errors = generator.communicate(timeout=120)
        if generator.returncode != 0:
            raise Failed(errors.strip() or text[-500:])
        report = json.loads(text)
        figures = {f"{name} ms of the others": report["latency_ms"][name] for name in ("p99", "p50")}
        if took:
            figures["p99 ms until both have ended"] = sorted(took)[math.ceil(0.99 * len(took)) - 1]
            figures["p50 ms until both have ended"] = statistics.median(took)
        return figures, report

    def start(self, stack, made, redis, relays):
        command = ["taskset", "-c", peers.CORES.generator, TOOL, "--json", "-", "--redis", redis.url, *self.load]
        command += [f for relay in relays for f in ("--target", f"127.0.0.1:{relay.port}")]
        command += ["--tokens", made.tokens(CLIENTS)]
        generator = subprocess.Popen(
            [str(c) for c in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        stack.callback(lambda: generator.poll() is None and generator.kill())
        return generator

    def end(self, relays, made, n, victim):
        """Milliseconds from the request to the end of the last stream."""
        began = time.monotonic()
        revoke(relays[n % 2], made.admin, f"user-{CLIENTS + n}")
        victim.wait_for_end()
        took = time.monotonic() - began
        time.sleep(max(0, self.period_s - took))
        return 1000 * took

    def targets(self, bench):
        until = "p99 ms until both have ended"
        yield until, bench.values(self.name, self.busy, until), 1000, False
        ratios = bench.ratios(self.name, "p99 ms of the others", self.busy, self.quiet)
        yield "p99 of the others' latency, × without revocations", ratios, 1.1, False
