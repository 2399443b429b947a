#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts the instructions that a delivery costs the relay, and fails where that has grown by more than 5%
against the committed figure (test/bench/guard.figures). `make bench-guard` builds and runs it; see "The guard" in
docs/performance.md.

The relay runs under valgrind's callgrind over its memory store. Each scenario is run twice, with a few events and
with many: the difference, divided by how many more deliveries the longer run had, is what a delivery costs,
publishing included; starting, connecting and ending cancel out. Only instructions in user space are counted, not
what the kernel does for a write.
"""

import argparse
import configparser
import http.client
import json
import os
import platform
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

import peers  # noqa: E402
from credentials import Credentials, tokens  # noqa: E402

LIMIT = 0.05
FIGURES = Path(__file__).resolve().with_name("guard.figures")
OUT = peers.BUILD / "bench-guard"
STREAMS = 500
DATA_BYTES = 64
PATIENCE_S = 60  # until something moves: valgrind is slow, and machines are busy
VALGRIND = ["valgrind", "--command-line-only=yes", "--tool=callgrind"]  # nobody's own settings

# Its name; what each stream asks for, and the topic of each event (%d: the stream's number, streams in turn); how
# many events a POST publishes, all at once; how many such POSTs the short run makes, and the long one; whether the
# relay asks streams for tokens: then each has one of its own. Whoever publishes needs none, as looking at it is no part
# of a delivery.
Scenario = namedtuple("Scenario", "name asks topic batch short long auth", defaults=[False])
OFF = [
    Scenario("one-in-flight", "bench", "bench", 1, 10, 210),
    Scenario("sixteen-in-flight", "bench", "bench", 16, 10, 60),
    # What an event costs rather than its delivery: to be published, to be found a receiver for.
    Scenario("one-receiver", "bench.%d.*", "bench.%d.a", 16, 10, 510),
]
SCENARIOS = OFF + [s._replace(name=f"{s.name}-auth", auth=True) for s in OFF]
ALG, ANONYMOUS = "HS256", {"publish": ["bench.>", "bench"]}

# The C library chooses its string functions by the processor: without these all processors count alike.
AVOID = "AVX2 AVX2_Usable AVX512F AVX512VL AVX512BW AVX_Fast_Unaligned_Load ERMS FSRM"
STEADY_LIBRARY = "glibc.cpu.hwcaps=" + ",".join(f"-{feature}" for feature in AVOID.split())

HEADER = """\
# Instructions per delivery that `make bench-guard` compares with, by the compiler and the libraries they hold for.
# `make bench-guard GUARD_UPDATE=1` writes those of the machine it runs on: commit them with what changed them.
"""


class Failed(Exception):
    """The run was not what it should be: its count means nothing."""


# --- one run ------------------------------------------------------------------------------------------------


class Relay(peers.Relay):
    """The relay under callgrind."""

    def __init__(self, profile, config):
        # io_uring, because not every machine that counts allows it.
        super().__init__(None, peers.CORES.all, heartbeat=0, io_uring="off", **{"accept.rate": 0}, **config)
        self.profile = profile

    def command(self):
        return [*VALGRIND, f"--callgrind-out-file={self.profile}", *super().command()]

    @staticmethod
    def environment():
        return {**peers.Server.environment(), "GLIBC_TUNABLES": STEADY_LIBRARY}

    def count(self):
        """Ends it; the instructions it took."""
        self.process.terminate()
        status = self.process.wait(PATIENCE_S)
        totals = re.search(r"^totals: (\d+)", self.profile.read_text(), re.MULTILINE)
        if status != 0 or not totals:
            log = (self.dir / "log").read_text(errors="replace")
            raise Failed(f"the relay ended with {status}:\n{log[-2000:]}")
        return int(totals[1])


class Streams:
    """Each must get, byte for byte, the frames of the events that are its own, each as an HTTP chunk.

    They are opened one after the other, so that each run does the same in the same order, and with the id of an
    event: where many begin without one, the relay lets them wait for each other."""

    def __init__(self, port, asks, cursor, shown=None):
        self.epoll = select.epoll()
        self.sockets = [self._open(port, named(asks, i), cursor, shown and shown[i]) for i in range(STREAMS)]
        self.number = {s.fileno(): i for i, s in enumerate(self.sockets)}

    def _open(self, port, topic, cursor, token):
        s = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        request = [f"GET /events?topic={topic} HTTP/1.1", "Host: localhost", f"Last-Event-ID: {cursor}"]
        request += [f"Authorization: Bearer {token}"] if token else []
        s.sendall("\r\n".join([*request, "", ""]).encode())
        head = b""
        while not re.search(rb"\nevent: relay\.connected\n.*\n\n\r\n", head):
            chunk = s.recv(4096)
            head += chunk
            if not chunk or not head.startswith(b"HTTP/1.1 200 "):
                raise Failed(f"a stream was not opened: {head!r}")
        self.epoll.register(s, select.EPOLLIN)
        return s

    def expect(self, wanted):
        """Until each stream has what @wanted has for its number, and nothing else."""
        missing = sum(map(len, wanted.values()))
        got = {}
        while missing > 0:
            ready = self.epoll.poll(PATIENCE_S, STREAMS)
            if not ready:
                raise Failed(f"{missing} bytes of events did not come")
            for fd, _ in ready:
                i = self.number[fd]
                chunk = self.sockets[i].recv(1 << 16)
                got[i] = got.get(i, b"") + chunk
                missing -= len(chunk)
                if not chunk or not wanted.get(i, b"").startswith(got[i]):
                    raise Failed(f"stream {i} ended, or got what is not its own: {got[i]!r}")

    def close(self):
        for s in self.sockets:
            s.close()
        self.epoll.close()


def named(topic, i):
    return topic % i if "%d" in topic else topic


def make_events(scenario, n):
    """What the @n-th POST publishes: (topic, data, whose)."""
    for number in range(n * scenario.batch, (n + 1) * scenario.batch):
        i = number % STREAMS
        whose = [i] if "%d" in scenario.topic else range(STREAMS)
        yield named(scenario.topic, i), f"{number:0{DATA_BYTES}}", whose


def post(connection, events):
    """The events' ids."""
    body = json.dumps([{"topic": topic, "data": data} for topic, data, _ in events])
    connection.request("POST", "/publish", body.encode(), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise Failed(f"POST /publish: {answer.status} {text!r}")
    return [event["id"] for event in json.loads(text)]


def publish(connection, streams, events):
    """Publishes them and waits until all have come. How many deliveries that were."""
    wanted, deliveries = {}, 0
    for id, (_, data, whose) in zip(post(connection, events), events):
        frame = f"id: {id}\ndata: {data}\n\n"
        chunk = f"{len(frame):x}\r\n{frame}\r\n".encode()
        for i in whose:
            wanted[i] = wanted.get(i, b"") + chunk
        deliveries += len(whose)
    streams.expect(wanted)
    return deliveries


def run(scenario, posts, profile):
    """Instructions and deliveries of one run."""
    shown = tokens(ALG, STREAMS) if scenario.auth else None
    with Credentials(ALG, ANONYMOUS) as made, Relay(profile, made.config() if scenario.auth else {}) as relay:
        connection = http.client.HTTPConnection("127.0.0.1", relay.port, timeout=PATIENCE_S)
        (cursor,) = post(connection, [("bench", "the first", None)])
        streams = Streams(relay.port, scenario.asks, cursor, shown)
        deliveries = sum(publish(connection, streams, [*make_events(scenario, n)]) for n in range(posts))
        connection.close()
        streams.close()
        return relay.count(), deliveries


def measure(scenario):
    """Instructions per delivery."""
    few = run(scenario, scenario.short, OUT / f"{scenario.name}.few.out")
    many = run(scenario, scenario.long, OUT / f"{scenario.name}.many.out")
    return round((many[0] - few[0]) / (many[1] - few[1]), 1)


def why_not():
    """Why nothing can be counted here, or None."""
    if not shutil.which("valgrind"):
        return "valgrind is not installed (deploy/install-deps guard)"
    tried = subprocess.run(
        [*VALGRIND, "--callgrind-out-file=/dev/null", "true"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if tried.returncode != 0:
        return f"valgrind does not run here: {tried.stderr.strip().splitlines()[-1:]}"
    return None


# --- the figures --------------------------------------------------------------------------------------------


def builder(cflags):
    """What the figures depend on beside our own code: processor, compiler, its options, libraries."""
    binary = os.environ.get("SSE_RELAY_BIN") or peers.BUILD / "sse-relay"

    def says(*command):
        done = subprocess.run([*map(str, command)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return done.stdout

    comment = says("readelf", "-p", ".comment", binary)
    clang, gcc = re.search(r"clang version (\d+)", comment), re.search(r"GCC: .* (\d+)\.\d+", comment)
    compiler = f"clang-{clang[1]}" if clang else f"gcc-{gcc[1]}" if gcc else "unknown-compiler"
    options = [o for o in cflags.split() if not o.startswith("-g")]
    libc = "-".join(os.confstr("CS_GNU_LIBC_VERSION").split())
    web = "libmicrohttpd-" + says("pkg-config", "--modversion", "libmicrohttpd").strip()
    return " ".join([platform.machine(), compiler, *options, libc, web])


def read_figures(path):
    """{builder: {scenario: instructions per delivery}}"""
    parser = configparser.ConfigParser(delimiters=(" ",))
    parser.read(path)
    return {name: {k: float(v) for k, v in parser[name].items()} for name in parser.sections()}


def write_figures(path, figures):
    text = HEADER
    for name, values in sorted(figures.items()):
        text += f"\n[{name}]\n" + "".join(f"{k:22} {v}\n" for k, v in values.items())
    path.write_text(text)


def judge(measured, committed):
    """Prints them side by side. How many have grown too much, or have nothing to compare with though others
    have: @committed is None where all have nothing."""
    failed = fell = 0
    for name, value in measured.items():
        line = f"  {name:22} {value:9.1f} instructions per delivery"
        before = (committed or {}).get(name)
        if before is None:
            print(line)
            failed += committed is not None
            continue
        growth = value / before - 1
        failed += growth > LIMIT
        fell += growth < -LIMIT
        word = "GREW" if growth > LIMIT else "fell" if growth < -LIMIT else "ok"
        print(f"{line}, committed {before:9.1f}, {growth:+6.1%}  {word}")
    if committed is None:
        print("bench-guard: NOTHING COMPARED: no figures are committed for what this relay was built with")
    elif failed:
        print(f"bench-guard: FAILED: {failed} of {len(measured)} grew by more than {LIMIT:.0%}, or are not committed")
        print("  What grew: make bench-guard GUARD_ARGS=--profile, with the change and without it.")
        print("  If it must be: make bench-guard GUARD_UPDATE=1; commit test/bench/guard.figures with the reason.")
    else:
        print(f"bench-guard: {len(measured)} figures, none grew by more than {LIMIT:.0%}")
    if fell:
        print(f"  {fell} fell by more than {LIMIT:.0%}. Keep that: make bench-guard GUARD_UPDATE=1, and commit it.")
    return failed


# --- what takes them ----------------------------------------------------------------------------------------


def by_function(profile, inclusive):
    """{function: instructions}"""
    command = ["callgrind_annotate", "--auto=no", "--tree=none", "--threshold=100"]
    command += [f"--inclusive={'yes' if inclusive else 'no'}", str(profile)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    counts = {}
    for count, name in re.findall(r"^ *([\d,]+) \( *[\d.]+%\)  (\S+:\S.*)$", text, re.MULTILINE):
        where = re.search(r" \[(?:.*/)?([^/]*)\]$", name)
        name = re.sub(r"'\d+| \[.*\]$", "", name).replace(f"{peers.ROOT}/", "")  # recursive calls with the others
        name = name.replace("???:", f"{where[1]}: ") if where else name
        count = int(count.replace(",", ""))
        counts[name] = max(counts.get(name, 0), count) if inclusive else counts.get(name, 0) + count
    return counts


def print_profile(scenario, rows=25):
    deliveries = scenario.batch * (scenario.long - scenario.short)
    deliveries *= 1 if "%d" in scenario.topic else STREAMS
    for inclusive, title in ((False, "in itself"), (True, "with what it calls")):
        few = by_function(OUT / f"{scenario.name}.few.out", inclusive)
        many = by_function(OUT / f"{scenario.name}.many.out", inclusive)
        each = {name: (count - few.get(name, 0)) / deliveries for name, count in many.items()}
        print(f"\n{scenario.name}: instructions per delivery of each function, {title}")
        for name in sorted(each, key=each.get, reverse=True)[:rows]:
            print(f"{each[name]:10.2f}  {name}")


# --- the command --------------------------------------------------------------------------------------------


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--figures", type=Path, default=FIGURES, help="the committed figures (%(default)s)")
    p.add_argument("--update", action="store_true", help="commit to what is measured: write it there")
    p.add_argument("--measured", type=Path, help="judge what an earlier run left here, instead of measuring")
    p.add_argument("--profile", action="store_true", help="also print which functions take the instructions")
    p.add_argument("--cflags", default="-O2", help="what the relay was compiled with (%(default)s)")
    return p.parse_args()


def leave_counts(*counts):
    """For the closing line of `make test`: passed, failed, skipped."""
    (OUT / "unit.count").write_text(" ".join(map(str, counts)) + "\n")


def measure_all(cflags):
    started, figures = time.monotonic(), {}
    for scenario in SCENARIOS:
        figures[scenario.name] = measure(scenario)
    result = {"builder": builder(cflags), "figures": figures}
    (OUT / "measured.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"bench-guard: {result['builder']} ({time.monotonic() - started:.0f} s)")
    return result


def main():
    args = arguments()
    OUT.mkdir(parents=True, exist_ok=True)
    reason = None if args.measured else why_not()
    if reason:
        print(f"bench-guard: SKIPPED: {reason}")
        leave_counts(0, 0, 1)
        return 1 if args.update else 0
    try:
        result = json.loads(args.measured.read_text()) if args.measured else measure_all(args.cflags)
    except (Failed, OSError, RuntimeError, subprocess.SubprocessError, http.client.HTTPException) as error:
        print(f"bench-guard: FAILED: {error}")
        leave_counts(0, 1, 0)
        return 1
    all_figures = read_figures(args.figures)
    committed, count = all_figures.get(result["builder"]), len(result["figures"])
    failed = judge(result["figures"], committed)
    if committed is None:
        print(f"  {args.figures.name} has figures for: {', '.join(all_figures) or 'nothing'}")
    if not args.measured:
        leave_counts(count - failed if committed else 0, failed, 0 if committed else count)
        if args.profile:
            for scenario in SCENARIOS:
                print_profile(scenario)
    if args.update:
        write_figures(args.figures, {**all_figures, result["builder"]: result["figures"]})
        print(f"bench-guard: {args.figures} has these figures now")
        return 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
