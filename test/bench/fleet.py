# SPDX-License-Identifier: Apache-2.0
"""More than one node: a fleet of relays as large as this machine allows, and what subscribers cost Redis."""

import json
import math
import re
import resource
import select
import socket
import subprocess
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import capacity
import peers
from measure import TOOL, Failed
from peers import CORES

CLIENTS = 15000  # of a relay, where the limit of open files allows it
BYTES_BOTH_ENDS = 20000  # of memory for a client, relay, kernel and generator together: rather more than it is
MAX_RELAYS = 8
SIZE = 64


def meminfo():
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in open("/proc/meminfo")}


def own_memory(pid):
    """Without the program's pages, whose share depends on who else runs it just now."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Private_Dirty:\s+(\d+)", rollup, re.MULTILINE)[1]) * 1024


def cpu(pid):
    """Seconds of all threads, by the scheduler's nanoseconds."""
    return sum(int((t / "schedstat").read_text().split()[0]) for t in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def fitting_clients():
    """For one process, by the limit of open files: a relay keeps an eighth for others than streams."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return CLIENTS if files == resource.RLIM_INFINITY else max(1, min(CLIENTS, int(files * 0.8)))


def fitting_relays(clients):
    return max(1, min(MAX_RELAYS, int(0.6 * meminfo()["MemAvailable"] / (clients * BYTES_BOTH_ENDS))))


def topics_of(relays):
    """Of a generator: an event goes to about a quarter of its clients. A client's number decides on its relay and on its
    topic; without a common factor each topic has clients at each relay."""
    return next(n for n in (4, 5, 3, 7, 11, 13, 17) if math.gcd(n, relays) == 1)


def get(relay, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{relay.port}{path}", timeout=30) as answer:
        return json.load(answer)


class Mark:
    """Where all counters are at a moment. Busy relays take a while to answer, so all are asked at once, and a relay's CPU
    is read when it has answered."""

    def __init__(self, relays, redis):
        self.at = time.monotonic()
        self.redis_s = cpu(redis.pid)
        with ThreadPoolExecutor(len(relays)) as pool:
            answers = list(pool.map(lambda relay: (get(relay, "/stats")["metrics"], cpu(relay.pid)), relays))
        stats = [metrics for metrics, _ in answers]
        self.relay_s = sum(used for _, used in answers)
        for field, name in (
            ("deliveries", "events_delivered_total"),
            ("writes", "socket_writes_total"),
            ("events", "events_received_total"),
        ):
            setattr(self, field, sum(s[f"sse_relay_{name}"] for s in stats))

    def since(self, other):
        """The growth of each, by name."""
        return {name: value - getattr(other, name) for name, value in vars(self).items()}


class Generators:
    """As many sse-bench as there are relays. The clients of each are spread over all relays."""

    def __init__(self, relays, redis, clients, idle_s, flags):
        self.running = []
        urls = [f for relay in relays for f in ("--target", f"127.0.0.1:{relay.port}")]
        for n in range(len(relays)):
            # Addresses of its own, so that no pair of them runs out of ports.
            sources = f"127.0.{n + 1}.1-127.0.{n + 1}.8"
            command = ["taskset", "-c", CORES.generators, TOOL, "--quiet", "--json", "-", "--redis", redis.url]
            command += ["-n", clients, "--source", sources, *urls]
            command += ["--topic", f"fleet.{n}.%d", "--topics", topics_of(len(relays)), "--size", SIZE]
            command += ["--idle", f"{idle_s}s", "--warmup", "0", "--timeout", "60s", *flags]
            self.running.append(
                subprocess.Popen(
                    [str(c) for c in command],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )

    def check(self):
        for process in self.running:
            if process.poll() is not None:
                raise Failed(f"a generator ended: {process.communicate()[1].strip() or process.returncode}")

    def reports(self):
        """When they have ended by themselves."""
        out = []
        for process in self.running:
            text, error = process.communicate()
            if not text:
                raise Failed(error.strip() or f"a generator ended with {process.returncode}")
            out.append(json.loads(text))
            if not out[-1]["ok"]:
                raise Failed(" ".join(filter(None, [out[-1]["failure"], out[-1]["first_fault"]])))
        return out

    def stop(self):
        for process in self.running:
            if process.poll() is None:
                process.kill()
                process.communicate()


def model(measured, relays, clients):
    """What capacity.py says of the same fleet, given the deliveries in a write: whether events come one by one."""
    c = capacity.Costs(capacity.CONSTANTS)
    merged = measured["deliveries/write"]
    alone = merged < 1.5
    receivers = clients / topics_of(relays) / relays  # of an event, at one relay
    event = c.worker_event + c.bus_event + (c.worker_alone + c.bus_alone if alone else 0)
    message = c.redis_message + c.redis_message_byte * (SIZE + c.envelope)
    return {
        "clients": relays * clients,
        "KB/client": c.memory_suspended / 1000,
        "kernel KB/client": c.memory_kernel / 1000,
        "idle % of a core": 100 * relays * clients * capacity.heartbeats(0, 15) * c.heartbeat / 1e6,
        "CPU µs/delivery": c.write(clients) / merged + c.frame + c.delivery_byte * SIZE + event / receivers,
        "Redis µs/event": c.redis_event
        + c.redis_byte * SIZE
        + relays * message
        + (c.redis_alone + relays * c.redis_write) / (1 if alone else 16),
    }


class Fleet:
    """Relays with one Redis, opened by all generators at once; idle, then with events that every relay hears."""

    name = "fleet"
    title = "A fleet on one machine: as many relays, each with 15,000 clients, as fit; one Redis"
    minutes = 9
    extra = True
    chart = "CPU µs/delivery"

    def __init__(self, relays=None, clients=None, heartbeat_s=15):
        self.relays, self.clients, self.heartbeat_s = relays, clients, heartbeat_s

    def run(self, bench):
        clients = self.clients or fitting_clients()
        count = self.relays or bench.fleet or fitting_relays(clients)
        bench.note(self.name, f"{count} relays and {count} generators, {count * clients:,} clients")
        ways = {"paced": ["--rate", 2], "16 in flight": ["--window", 16]}
        for turn in range(min(bench.runs, 3)):
            for label, flags in ways.items():
                try:
                    figures = self.once(count, clients, bench.seconds, flags)
                except (Failed, RuntimeError, OSError) as error:
                    bench.failed += 1
                    bench.note(self.name, f"{label}: a run failed: {error}")
                    continue
                bench.add(self.name, label, figures, turn)
                bench.add(self.name, f"{label}: the model", model(figures, count, clients), turn)

    def once(self, count, clients, seconds, flags):
        # Every generator is to be idle while idleness is measured, and to publish while that is.
        spread = 5 + count * clients // 10000
        flags = ["--duration", f"{spread + seconds}s", *flags]
        with ExitStack() as stack:
            redis = stack.enter_context(peers.Redis())
            beat = {"heartbeat": f"{self.heartbeat_s}s"}
            relays = [stack.enter_context(peers.Relay(redis, CORES.servers, **beat)) for _ in range(count)]
            memory, slab = sum(own_memory(r.pid) for r in relays), meminfo()["Slab"]
            began = time.monotonic()
            generators = Generators(relays, redis, clients, spread + 2 * self.heartbeat_s, flags)
            stack.callback(generators.stop)
            total = count * clients
            self.wait(generators, lambda: sum(get(r, "/ready")["clients"] for r in relays) >= total)
            opened = time.monotonic() - began
            time.sleep(self.heartbeat_s)  # before that there are no heartbeats
            idle = self.span(relays, redis, self.heartbeat_s)
            figures = {
                "clients": total,
                "s to open": opened,
                "KB/client": (sum(own_memory(r.pid) for r in relays) - memory) / total / 1000,
                "kernel KB/client": (meminfo()["Slab"] - slab) / total / 2000,  # the generator's end is here, too
                "idle % of a core": 100 * idle["relay_s"] / idle["at"],
            }
            before = Mark(relays, redis)
            self.wait(generators, lambda: Mark(relays, redis).deliveries > before.deliveries)
            time.sleep(spread / 2)  # all publish
            run = self.span(relays, redis, seconds)
            reports = generators.reports()
        events = run["events"] / count  # each relay hears all
        redis_s = run["redis_s"] - idle["redis_s"] / idle["at"] * run["at"]  # without probes and its own clock
        return {
            **figures,
            "deliveries/s": run["deliveries"] / run["at"],
            "CPU µs/delivery": run["relay_s"] * 1e6 / max(run["deliveries"], 1),
            "deliveries/write": run["deliveries"] / max(run["writes"], 1),
            "relays, cores": run["relay_s"] / run["at"],
            "events/s": events / run["at"],
            "Redis µs/event": redis_s * 1e6 / max(events, 1),
            "p50 ms": max(r["latency_ms"]["p50"] for r in reports),
            "p99 ms": max(r["latency_ms"]["p99"] for r in reports),
        }

    @staticmethod
    def wait(generators, condition):
        deadline = time.monotonic() + 300
        while not condition():
            generators.check()
            if time.monotonic() > deadline:
                raise Failed("the streams, or the events, did not come within 5 minutes")
            time.sleep(0.2)

    @staticmethod
    def span(relays, redis, seconds):
        before = Mark(relays, redis)
        time.sleep(seconds)
        return Mark(relays, redis).since(before)

    def targets(self, bench):
        return ()


class Subscribers:
    """Connections to Redis that all want one channel, as relays do; what comes is read and thrown away."""

    def __init__(self, redis, count, channel):
        self.epoll, self.sockets, self.stopping = select.epoll(), {}, False
        for _ in range(count):
            s = socket.create_connection(("127.0.0.1", redis.port))
            s.sendall(f"SUBSCRIBE {channel}\r\n".encode())
            s.recv(4096)
            s.setblocking(False)
            self.sockets[s.fileno()] = s
            self.epoll.register(s.fileno(), select.EPOLLIN)
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self):
        room = bytearray(1 << 18)
        while not self.stopping:
            for fd, _ in self.epoll.poll(0.1, 1024):
                self.sockets[fd].recv_into(room)

    def stop(self):
        self.stopping = True
        self.thread.join()
        for s in self.sockets.values():
            s.close()


class RedisNodes:
    name = "redis-nodes"
    title = "What an event costs Redis, by the number of nodes that hear it"
    minutes = 13
    extra = True
    counts = (0, 1, 3, 20, 50, 200)

    def run(self, bench):
        for _ in range(bench.runs):
            for size in (64, 1024):
                for window in (1, 16):
                    for count in self.counts:
                        self.once(bench, count, size, window)

    def once(self, bench, count, size, window):
        with ExitStack() as stack:
            redis = stack.enter_context(peers.Redis())
            stack.enter_context(peers.Relay(redis))  # it brings the functions, and hears nothing
            stack.callback(Subscribers(redis, count, "sse:{default}:ch:bench").stop)
            command = [TOOL, "--quiet", "--json", "-", "-n", 0, "--size", size, "--window", window]
            command += ["--duration", f"{bench.seconds}s", "--redis", redis.url, "--redis-pid", redis.pid]
            done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        who = f"{count} node{'s' * (count != 1)}, {size:,} B, {window} in flight"
        if not done.stdout:
            bench.failed += 1
            bench.note(self.name, f"{who}: a run failed: {done.stderr.strip()}")
            return
        run = json.loads(done.stdout)["run"]
        figures = {"Redis µs/event": run["redis_us_per_event"], "events/s": run["events_per_second"]}
        bench.add(self.name, who, figures)

    def targets(self, bench):
        return ()
