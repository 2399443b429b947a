#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a fleet of relays needs, and what breaks first: processors, memory, network, Redis.

Give the clients, the nodes, and the traffic: one --traffic for each kind of event,

    RATE:RECEIVERS:BYTES[:TOPICS]

RATE: events a second, over all topics of that kind. RECEIVERS: how many clients get each of them, or
"all". BYTES of data. TOPICS: how many topics these events are spread over (clients / RECEIVERS, so
that each client has one of them; 1 for all).

The model is docs/scaling.md; what its costs were measured on is there, too. Your machines differ:
measure them (make bench), and change the table at the top of this file. (One file, to be copied.)"""

import argparse
import json
import math
import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple


class Constant(NamedTuple):
    value: float
    unit: str
    measured: bool  # or else assumed
    source: str


# What was measured, as it was measured; what the model makes of it is class Costs.
CONSTANTS = {
    # name: Constant(value, unit, measured, where from). "performance 1": docs/performance.md, section 1.
    "fanout_1_1000": Constant(4.9, "µs", True, "CPU of a delivery, 1,000 clients of a worker, 64 B, 1 in flight; scaling 4"),
    "fanout_1_5000": Constant(5.8, "µs", True, "the same, 5,000 clients: fanout-64-1"),
    "fanout_1_15000": Constant(8.2, "µs", True, "the same, 15,000 clients: more sockets than caches hold; scaling 4"),
    "fanout_16_5000": Constant(0.40, "µs", True, "5,000 clients, 16 in flight: fanout-64-16"),
    "delivery_byte": Constant(0.00016, "µs", True, "more for each byte of data, 15 KB against 1 KB; performance 6"),
    "deflate_byte": Constant(0.011, "µs", True, "compress: deflating, once per event and node; performance 6"),
    "bus_event": Constant(5.2, "µs", True, "bus thread, an event among many, 15,000 topics; scaling 4"),
    "bus_alone": Constant(22.0, "µs", True, "more for an event that comes by itself and wakes the thread; scaling 4"),
    "bus_byte": Constant(0.0024, "µs", True, "more for each byte of data; scaling 4"),
    "worker_event": Constant(4.0, "µs", True, "worker, an event among many, besides its deliveries; scaling 4"),
    "worker_alone": Constant(14.0, "µs", True, "more for an event that wakes the worker; scaling 4"),
    "heartbeat": Constant(9.6, "µs", True, "0.96 % of a core, 15,000 clients, 15 s; performance 7"),
    "connect_suspended": Constant(70.0, "µs", True, "to accept, subscribe and park a client; performance 7"),
    "connect_handover": Constant(56.0, "µs", True, "the same with park=handover; performance 7"),
    "connect_own": Constant(12.0, "µs", True, "more for a client with a topic of its own; scaling 4"),
    "post_relay": Constant(26.0, "µs", True, "POST /publish on 16 connections, relay; scaling 4"),
    "memory_suspended": Constant(6200, "B", True, "PSS of an idle client; performance 7"),
    "memory_handover": Constant(760, "B", True, "the same with park=handover; performance 7"),
    "memory_topic": Constant(500, "B", True, "more for a topic that the node hears; performance 7"),
    "memory_kernel": Constant(4000, "B", True, "slab objects of an idle TCP connection and its epoll item; scaling 4"),
    "memory_node": Constant(20e6, "B", False, "a relay without clients, and a full tail (tail.max_bytes, 16 MB)"),
    "memory_system": Constant(500e6, "B", False, "the rest of the machine"),
    "memory_slow": Constant(64e3, "B", False, "queued in relay and kernel for a client that reads slowly"),
    "file_reserve": Constant(4500, "files", True, "of a process, not for streams; operations 6"),
    "redis_event": Constant(11.1, "µs", True, "sse_publish pipelined, 64 B: 90,000/s, in good hours (15 in bad ones)"),
    "redis_alone": Constant(10.8, "µs", True, "more for one that comes by itself (its read and its answer); scaling 4"),
    "redis_byte": Constant(0.0068, "µs", True, "more for each byte of data; scaling 4"),
    "redis_post": Constant(10.0, "µs", True, "more for the relay's own once key of a POST; scaling 4"),
    "redis_inbox": Constant(6.2, "µs", True, "more for XADD and sse_drain of an inbox; scaling 4"),
    "redis_message": Constant(0.16, "µs", True, "to append a message to the output of one node; scaling 4"),
    "redis_message_byte": Constant(0.0003, "µs", True, "more for each byte of it; scaling 4"),
    "redis_write": Constant(2.6, "µs", True, "to write to one node, however many messages; scaling 4"),
    "redis_pattern": Constant(0.047, "µs", True, "each pattern that some node listens to, for each PUBLISH; scaling 4"),
    "redis_connect": Constant(21.6, "µs", True, "a client with a topic of its own comes: SUBSCRIBE, FCALL, XRANGE; scaling 4"),
    "redis_check": Constant(12.0, "µs", True, "a node asks the index for what has moved (redis.check), each namespace; scaling 4"),
    "redis_check_name": Constant(2.5, "µs", True, "more for each topic that the node hears, up to 256; scaling 4"),
    "redis_check_moved": Constant(1.2, "µs", True, "where it hears more than 256: for each that has moved, in pages; scaling 4"),
    "redis_channel": Constant(218, "B", True, "memory for a channel that a node listens to; scaling 4"),
    "log_topic": Constant(450, "B", True, "of a topic in the log besides its entries, index included; scaling 4"),
    "log_least_512": Constant(960, "B", True, "but at least, stream-node-max-bytes 512; scaling 4"),
    "log_least_4096": Constant(4540, "B", True, "but at least, stream-node-max-bytes 4096 (Redis's own default); scaling 4"),
    "log_entry_512": Constant(70, "B", True, "of an entry besides its data, in a full log, 512; scaling 4"),
    "log_entry_4096": Constant(45, "B", True, "the same, 4096; scaling 4"),
    "log_ratio": Constant(1.4, "", True, "bytes of an entry for a byte of data, where that is more; scaling 4"),
    "frame_bytes": Constant(29, "B", True, "of a frame besides its data: id, data:, blank line; protocol"),
    "envelope": Constant(170, "B", False, "of a message from Redis besides its data, with a topic of 20 bytes: counted"),
    "segment": Constant(90, "B", False, "Ethernet, IP and TCP headers with timestamps, gaps included"),
    "segment_data": Constant(1448, "B", False, "in one segment"),
}
DOORS = {"fcall": None, "post": "redis_post", "inbox": "redis_inbox"}
NEVER = math.inf
MERGE_MAX = 16  # deliveries in a write: as many as were measured; a relay puts up to 64 into one

THEN = {
    "workers": "Turns grow beyond --turn: everybody's events come late, slow queues overflow (those streams end and resume), "
    "and the bus stops reading Redis. More nodes or cores; fewer, larger events.",
    "bus thread": "Events wait in Redis's output buffer, at its limit Redis cuts the connection, and the node repairs from the "
    "log, again and again. More nodes do not help: split the namespaces over several Redis (--redis).",
    "memory": "The kernel ends the relay; its clients go to the other nodes, which are then worse off. Set max_clients; park=handover; "
    "more nodes.",
    "files": "A stream beyond max_clients is told to come again later. Raise LimitNOFILE and fs.nr_open, or more nodes.",
    "network": "The kernel's send queues fill, clients look slow, queues overflow. compress; more nodes.",
    "Redis thread": "Publishing waits, latency grows for everybody of this Redis. More nodes make it worse: split the namespaces over "
    "several Redis (--redis).",
    "Redis memory": "With noeviction it refuses to publish (503); streams stay. Shorten log.ttl first, then log.max_events; or split.",
    "Redis network": "The nodes' messages wait in output buffers until Redis cuts connections. Fewer patterns that every node hears; split.",
}


class Costs:
    """The two-constant model of each stage, from CONSTANTS: a write, and what is in it."""

    def __init__(self, constants):
        self.k = {name: c.value for name, c in constants.items()}
        # fanout_1 = write + frame; fanout_16 = write / 16 + frame, both at 5,000 clients.
        self.frame = (16 * self.k["fanout_16_5000"] - self.k["fanout_1_5000"]) / 15
        self.points = sorted(
            (int(name.rsplit("_", 1)[1]), value) for name, value in self.k.items() if name.startswith("fanout_1_")
        )

    def __getattr__(self, name):
        return self.k[name]

    def write(self, clients):
        """µs, by the clients of the worker: straight lines over the logarithm between what was measured."""
        points = self.points
        for (x0, y0), (x1, y1) in zip(points, points[1:]):
            if clients <= x1:
                share = max(0, math.log(max(clients, 1) / x0) / math.log(x1 / x0))
                return y0 + (y1 - y0) * share - self.frame
        return points[-1][1] - self.frame


class Stage(NamedTuple):
    """A thread that handles events in turns, for one second of load, in seconds of CPU: what must be done for each event
    (must), what each turn costs (turn), what each write costs, how many events and deliveries come, and to how many
    receivers it writes at most in a turn. What comes during a turn is handled by the next, together."""

    must: float
    turn: float
    write: float
    events: float
    deliveries: float
    receivers: float
    other: float = 0.0  # that does not grow with events

    def as_it_comes(self):
        """Cores, while each event is a turn of its own and each delivery a write."""
        return self.other + self.must + self.events * self.turn + self.deliveries * self.write

    def period(self):
        """How long a turn takes once they merge; 0 while they need not."""
        if self.as_it_comes() <= 1:
            return 0.0
        each = self.deliveries / max(self.receivers, 1)  # a receiver gets so many a second
        free = 1 - self.other - self.must - self.deliveries * self.write
        if free > 0 and each * self.turn / free <= 1:
            return self.turn / free
        free = 1 - self.other - self.must
        period = (self.turn + self.receivers * self.write) / free if free > 0 else NEVER
        if each * period <= MERGE_MAX:
            return period
        free -= self.deliveries * self.write / MERGE_MAX
        return max(period, self.turn / free) if free > 0 else NEVER

    def merged(self):
        """Deliveries in one write."""
        return max(1.0, min(MERGE_MAX, self.deliveries / max(self.receivers, 1) * self.period()))

    def growth(self, longest):
        """By what factor the events may grow until a turn takes @longest seconds; 0: not even now."""
        room = 1 - self.other
        if room <= 0:
            return 0.0
        writes = self.deliveries * self.write

        def fits(have, need):
            return have / need if need > 0 else NEVER

        ways = [
            fits(room, self.must + self.events * self.turn + writes),
            fits(room - self.turn / longest, self.must + writes),
            min(
                fits(room - (self.turn + self.receivers * self.write) / longest, self.must),
                fits(room - self.turn / longest, self.must + writes / MERGE_MAX),
            ),
        ]
        return max(0.0, *ways)


def nodes_hearing(receivers, clients, nodes):
    """Of @nodes, those with one of the receivers, who are where chance put them."""
    return nodes if receivers >= clients else nodes * (1 - (1 - 1 / nodes) ** receivers)


class Kind(NamedTuple):
    rate: float
    receivers: float
    bytes: float
    topics: float


class Fleet:
    """One Redis, its nodes and their clients: everything is a share of the whole, as namespaces divide it."""

    def __init__(self, o, costs, nodes, constants=None):
        self.o, self.c = o, costs
        part = o.redis
        self.nodes, self.clients = nodes / part, o.clients / part
        self.kinds = [
            Kind(k.rate / part, min(k.receivers, self.clients), k.bytes, max(1, k.topics / part)) for k in o.traffic
        ]
        self.node_clients = self.clients / self.nodes
        self.namespaces = o.namespaces / part
        self.hearing = [nodes_hearing(k.receivers, self.clients, self.nodes) for k in self.kinds]
        self.deliveries = sum(k.rate * k.receivers for k in self.kinds)  # a second
        self.events = sum(k.rate for k in self.kinds)
        self.heard = sum(k.rate * h for k, h in zip(self.kinds, self.hearing)) / self.nodes  # by a node
        self.messages = sum(k.rate * h for k, h in zip(self.kinds, self.hearing))  # out of Redis
        self.own_topics = any(k.topics > self.nodes * 100 for k in self.kinds)
        self.connects = self.clients * o.reconnects / 3600

    def worker(self):
        o, c, workers = self.o, self.c, self.o.workers
        clients = self.node_clients / workers
        share = self.nodes * workers
        per_client = self.deliveries / self.clients
        beat = o.heartbeat and heartbeats(per_client, o.heartbeat)
        connect = c.k[f"connect_{o.park}"] + (c.connect_own if self.own_topics else 0)
        must = events = 0.0
        for k in self.kinds:
            heard = k.rate * nodes_hearing(k.receivers, self.clients, share) / share
            events += heard
            delivered = k.rate * k.receivers / share
            must += heard * (c.worker_event + (c.deflate_byte * k.bytes if o.compress < 1 else 0))
            must += delivered * (c.frame + c.delivery_byte * k.bytes * o.compress)
        must += self.events / share * (c.post_relay if o.door == "post" else 0)
        other = clients * beat * c.heartbeat + self.connects / share * connect
        return Stage(
            must / 1e6, c.worker_alone / 1e6, c.write(clients) / 1e6, events, self.deliveries / share, clients, other / 1e6
        )

    def bus(self):
        c = self.c
        must = sum(
            k.rate * h / self.nodes * (c.bus_event + c.bus_byte * k.bytes) for k, h in zip(self.kinds, self.hearing)
        )
        return Stage(must / 1e6, c.bus_alone / 1e6, 0, self.heard, 0, 1)

    def redis(self):
        c, o = self.c, self.o
        door = c.k[DOORS[o.door]] if DOORS[o.door] else 0
        must = 0.0
        for k, hearing in zip(self.kinds, self.hearing):
            each = c.redis_event + door + c.redis_byte * k.bytes + o.patterns * c.redis_pattern
            must += k.rate * (each + hearing * (c.redis_message + c.redis_message_byte * (k.bytes + c.envelope)))
        other = self.connects * c.redis_connect if self.own_topics else 0
        other += self.nodes * self.namespaces * self.check() / o.check
        return Stage(
            must / 1e6, c.redis_alone / 1e6, c.redis_write / 1e6, self.events, self.messages, self.nodes, other / 1e6
        )

    def check(self):
        """µs of Redis for one look at one namespace by one node: by names, or in pages of 256 topics."""
        c = self.c
        names = sum(k.topics * h for k, h in zip(self.kinds, self.hearing)) / self.nodes / self.namespaces
        if names <= 256:
            return c.redis_check + names * c.redis_check_name
        moved = sum(min(k.topics, k.rate * self.o.check) for k in self.kinds) / self.namespaces
        return c.redis_check + moved * c.redis_check_moved

    def memory(self):
        c, o = self.c, self.o
        topics = sum(k.topics * h for k, h in zip(self.kinds, self.hearing)) / self.nodes
        client = c.k[f"memory_{o.park}"] + c.memory_kernel + o.slow / 100 * c.memory_slow
        return c.memory_node, self.node_clients * client + topics * c.memory_topic

    def network(self):
        """Bits a second out of a node."""
        c, o, out = self.c, self.o, 0.0
        merged = self.worker().merged()
        for k in self.kinds:
            size = (k.bytes + c.frame_bytes) * o.compress
            segments = math.ceil(size * merged / c.segment_data) / merged
            out += k.rate * k.receivers / self.nodes * (size + segments * c.segment)
        beats = self.node_clients * (o.heartbeat and heartbeats(self.deliveries / self.clients, o.heartbeat))
        return 8 * (out + beats * (2 + c.segment))

    def redis_memory(self):
        c, o, total = self.c, self.o, 0.0
        for k, hearing in zip(self.kinds, self.hearing):
            kept = min(o.keep_events, k.rate / k.topics * o.keep_seconds)
            active = min(1.0, k.rate / k.topics * o.keep_seconds)  # share of the topics with an event within log.ttl
            entry = max(k.bytes + c.k[f"log_entry_{o.stream_node}"], c.log_ratio * k.bytes)
            log = max(c.k[f"log_least_{o.stream_node}"], c.log_topic + kept * entry)
            total += k.topics * (active * log + hearing * c.redis_channel)
        return total

    def redis_network(self):
        c = self.c
        return 8 * sum(
            k.rate * h * (k.bytes + c.envelope) * (1 + c.segment / c.segment_data) for k, h in zip(self.kinds, self.hearing)
        )

    def resources(self):
        """{name: (load, limit, unit, by what factor it may grow)}"""
        o, c = self.o, self.c
        worker, bus, redis = self.worker(), self.bus(), self.redis()
        fixed, grows = self.memory()
        plain = {
            "memory": (fixed + grows, o.memory - c.memory_system, "GB", 1e9, fixed),
            "files": (self.node_clients, o.files - c.file_reserve, "files", 1, 0),
            "network": (self.network(), o.network * 1e9, "Gbit/s", 1e9, 0),
            "Redis memory": (self.redis_memory(), o.redis_memory, "GB", 1e9, 0),
            "Redis network": (self.redis_network(), o.redis_network * 1e9, "Gbit/s", 1e9, 0),
        }
        out = {
            "workers": (worker.as_it_comes() * o.workers, o.workers, "cores", worker.growth(o.turn)),
            "bus thread": (bus.as_it_comes(), 1, "cores", bus.growth(o.turn)),
            "Redis thread": (redis.as_it_comes(), 1, "cores", redis.growth(o.turn)),
        }
        for name, (load, limit, unit, scale, base) in plain.items():
            growth = (limit - base) / (load - base) if load > base else NEVER
            out[name] = (load / scale, limit / scale, unit, max(0.0, growth))
        return {name: out[name] for name in THEN}


def heartbeats(rate, seconds):
    """A second, of a client that gets @rate events a second at random times: after so many seconds of silence."""
    silent = rate * seconds
    return 1 / seconds if silent < 1e-9 else rate * math.exp(-silent) / -math.expm1(-silent)


def storm(o, lost):
    """When a node is gone: its clients come to the others within 0.4 × retry, as fast as accept.rate lets them."""
    if o.nodes / o.redis <= lost:
        return None
    clients, left = o.clients / o.nodes, o.nodes / o.redis - lost
    spread = 0.4 * o.retry
    seconds = max(spread, clients / (left * o.accept))
    connect = CONSTANTS[f"connect_{o.park}"].value + CONSTANTS["connect_own"].value
    waiting = max(0.0, clients / left - o.accept * spread)
    return {
        "clients": clients,
        "to_each_node": clients / left,
        "all_back_after_s": 0.8 * o.retry + seconds,
        "waiting_at_a_node": waiting,
        "cores_meanwhile": clients / left / seconds * connect / 1e6,
    }


def number(text):
    """5000, 5k, 1.5M, 2G."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kMG]?)", text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 500, 10k or 1.5M")
    return float(found[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[found[2]]


def positive(text):
    value = number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: must be above 0")
    return value


def whole(text):
    value = positive(text)
    if value % 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number")
    return int(value)


def kind(text):
    parts = text.split(":")
    if len(parts) not in (3, 4):
        raise argparse.ArgumentTypeError(f"{text!r} is not RATE:RECEIVERS:BYTES[:TOPICS], for example 100:50:200")
    receivers = math.inf if parts[1] == "all" else positive(parts[1])
    return Kind(positive(parts[0]), receivers, number(parts[2]), positive(parts[3]) if parts[3:] else 0)


def arguments(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = p.add_argument
    add("--clients", type=whole, default=100000, help="streams that are open, in all (100k)")
    add("--nodes", type=whole, default=3, help="machines with a relay each, in all (3)")
    add("--cores", type=whole, default=4, help="of a node; one is for the bus thread and the kernel (4)")
    add("--traffic", type=kind, action="append", metavar="RATE:RECEIVERS:BYTES[:TOPICS]", help="repeatable (1:all:200)")
    add("--redis", type=whole, default=1, metavar="N",
        help="independent Redis, each with its share of namespaces, nodes, clients and traffic (1)")  # fmt: skip
    add("--namespaces", type=whole, default=0, metavar="N", help="in all, alike, with clients on every node (one for each Redis)")
    add("--check", type=positive, default=10, metavar="SECONDS", help="option redis.check (10)")
    add("--patterns", type=number, default=0, help="different patterns that clients of one Redis subscribe to (0)")
    add("--door", choices=DOORS, default="fcall", help="how events are published (fcall)")
    add("--park", choices=("suspended", "handover"), default="suspended", help="option park of the relays (suspended)")
    add("--heartbeat", type=number, default=15, metavar="SECONDS", help="of silence; 0: none (15)")
    add("--reconnects", type=number, default=1, help="of a client in an hour, max_lifetime included (1)")
    add("--retry", type=positive, default=3, metavar="SECONDS", help="option retry (3)")
    add("--accept", type=positive, default=8000, metavar="N", help="option accept.rate (8000)")
    add("--compress", type=positive, default=1, metavar="RATIO", help="bytes sent for a byte, 0.34 for JSON of 1 KB (1)")
    add("--slow", type=number, default=1, metavar="PERCENT", help="of clients that read slowly (1)")
    add("--turn", type=positive, default=0.5, metavar="SECONDS",
        help="longest turn of an event loop that is borne, so the delay when everything is busy (0.5)")  # fmt: skip
    add("--keep-events", type=positive, default=1000, help="option log.max_events (1000)")
    add("--keep-seconds", type=positive, default=3600, help="option log.ttl (3600)")
    add("--stream-node", type=int, choices=(512, 4096), default=512, metavar="BYTES",
        help="stream-node-max-bytes of Redis: 512, as recommended, or its default of 4096 (512)")  # fmt: skip
    add("--memory", type=positive, default=16e9, metavar="BYTES", help="of a node (16G)")
    add("--files", type=positive, default=1048576, help="limit of open files of a relay (1048576)")
    add("--network", type=positive, default=10, metavar="GBIT", help="of a node, out (10)")
    add("--redis-memory", type=positive, default=16e9, metavar="BYTES", help="of a Redis (16G)")
    add("--redis-network", type=positive, default=10, metavar="GBIT", help="of a Redis, out (10)")
    add("--json", action="store_true", help="as JSON")
    add("--constants", action="store_true", help="only print what the costs are, and whether they were measured")
    add("--write-docs", type=Path, metavar="FILE", help="run the examples in this document again (make docs does it)")
    o = p.parse_args(argv)
    o.workers = max(1, o.cores - 1)
    if o.nodes % o.redis:
        p.error(f"--nodes {o.nodes} cannot be shared evenly by --redis {o.redis}")
    o.namespaces = o.namespaces or o.redis
    if o.namespaces % o.redis:
        p.error(f"--namespaces {o.namespaces} cannot be shared evenly by --redis {o.redis}")
    if o.compress > 1:
        p.error("--compress is at most 1")
    kinds = o.traffic or [kind("1:all:200")]
    for k in kinds:
        if math.isfinite(k.receivers) and k.receivers > o.clients / o.redis:
            p.error(f"--traffic: {k.receivers:,.0f} receivers, but {o.clients / o.redis:,.0f} clients (of one Redis)")
    o.traffic = [
        k._replace(
            receivers=min(k.receivers, o.clients),
            topics=k.topics or (o.redis if k.receivers == math.inf else max(1, o.clients / k.receivers)),
        )
        for k in kinds
    ]
    return o


def capacity(o):
    """Everything, as a dict."""
    costs = Costs(CONSTANTS)
    fleet = Fleet(o, costs, o.nodes)
    lost = Fleet(o, costs, o.nodes - o.redis) if o.nodes > o.redis else None
    worker, redis = fleet.worker(), fleet.redis()
    rows = {}
    after = lost.resources() if lost else {}
    for name, (load, limit, unit, growth) in fleet.resources().items():
        rows[name] = {"load": load, "limit": limit, "unit": unit, "used": 1 / growth if growth else NEVER, "may_grow": growth}
        if lost:
            rows[name]["used_with_a_node_lost"] = 1 / after[name][3] if after[name][3] else NEVER
    first = min(rows, key=lambda name: (rows[name]["may_grow"], -rows[name]["load"] / rows[name]["limit"]))
    return {
        "clients": o.clients, "nodes": o.nodes, "cores": o.cores, "redis": o.redis,
        "traffic": [
            {
                "events_per_second": k.rate, "receivers": k.receivers, "bytes": k.bytes, "topics": k.topics,
                "topics_per_client": k.topics * k.receivers / o.clients, "deliveries_per_second": k.rate * k.receivers,
                "nodes_that_hear_it": hearing,
            }
            for k, hearing in zip(o.traffic, fleet.hearing)
        ],
        "node": {
            "clients": fleet.node_clients,
            "events_heard_per_second": fleet.heard,
            "deliveries_per_second": fleet.deliveries / fleet.nodes,
            "cpu_deliveries_cores": o.workers * (worker.as_it_comes() - worker.other),
            "cpu_heartbeats_connects_cores": o.workers * worker.other,
            "cpu_bus_cores": fleet.bus().as_it_comes(),
            "us_per_write": worker.write * 1e6,
            "us_per_frame": costs.frame,
            "deliveries_per_write": worker.merged(),
            "turn_s": worker.period(),
            "all_have_it_after_s": worker.receivers * worker.write,
            "memory_relay_bytes": fleet.memory()[0] + fleet.memory()[1] - fleet.node_clients * costs.memory_kernel,
            "memory_kernel_bytes": fleet.node_clients * costs.memory_kernel,
        },
        "each_redis": {
            "events_per_second": fleet.events,
            "messages_per_second": fleet.messages,
            "cpu_cores": redis.as_it_comes(),
            "messages_per_write": redis.merged(),
        },
        "resources": rows,
        "first": first,
        "then": THEN[first],
        "node_lost": storm(o, 1),
    }  # fmt: skip


def figure(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return "<0.001" if 0 < value < 0.001 else f"{value:.3g}"


def percent(value):
    if value == NEVER:
        return "over"
    return "<1%" if value < 0.01 else f"{value:.0%}"


def factor(value):
    if value < 1:
        return "not at all"
    return f"x {value:.3g}" if value < 1000 else "> x 1,000"


def table(head, rows):
    rows = [head, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return [
        "  " + "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    ]


def wrap(text, width=100):
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return [f"  {line}" for line in lines]


def text_of(r):
    node, redis = r["node"], r["each_redis"]
    lines = [
        f"{r['clients']:,} clients, {r['nodes']} nodes of {r['cores']} cores, {r['redis']} Redis"
        + (" (each with an equal share of everything)" if r["redis"] > 1 else ""),
        "",
    ]
    lines += table(
        ["traffic: events/s", "receivers", "bytes", "topics", "a client has", "deliveries/s", "nodes that hear it"],
        [
            [figure(k[name]) for name in ("events_per_second", "receivers", "bytes", "topics", "topics_per_client",
                                         "deliveries_per_second", "nodes_that_hear_it")]
            for k in r["traffic"]
        ],
    )  # fmt: skip
    lines += ["", f"a node: {figure(node['clients'])} clients, hears {figure(node['events_heard_per_second'])} events/s, makes "
              f"{figure(node['deliveries_per_second'])} deliveries/s"]  # fmt: skip
    lines += [f"  cores: {figure(node['cpu_deliveries_cores'])} deliveries, {figure(node['cpu_heartbeats_connects_cores'])} heartbeats "
              f"and reconnects, {figure(node['cpu_bus_cores'])} bus thread"]  # fmt: skip
    lines += [f"  a write costs {figure(node['us_per_write'])} µs, a frame in it {figure(node['us_per_frame'])} µs; an event for all is "
              f"with the last client after {figure(1000 * node['all_have_it_after_s'])} ms"]  # fmt: skip
    if node["turn_s"]:
        turn = "without end" if node["turn_s"] == NEVER else f"of {figure(1000 * node['turn_s'])} ms"
        lines += [f"  busy: turns {turn}, {figure(node['deliveries_per_write'])} deliveries in a write"]
    lines += [f"  memory: {figure(node['memory_relay_bytes'] / 1e6)} MB relay, {figure(node['memory_kernel_bytes'] / 1e6)} MB kernel"]
    lines += [f"{'each' if r['redis'] > 1 else 'the'} Redis: {figure(redis['events_per_second'])} events/s in, "
              f"{figure(redis['messages_per_second'])} messages/s out, {figure(redis['cpu_cores'])} cores"]  # fmt: skip
    lines += [""]
    lines += table(
        ["resource", "load", "limit", "", "used", "a node lost", "may grow"],
        [
            [name, figure(row["load"]), figure(row["limit"]), row["unit"], percent(row["used"]),
             percent(row["used_with_a_node_lost"]) if "used_with_a_node_lost" in row else "-",
             factor(row["may_grow"])]
            for name, row in r["resources"].items()
        ],
    )  # fmt: skip
    lines += ["", f"breaks first: {r['first']}", *wrap(r["then"])]
    lost = r["node_lost"]
    if lost:
        lines += [f"a node lost: {figure(lost['clients'])} clients, {figure(lost['to_each_node'])} to each other node, all back after "
                  f"{figure(lost['all_back_after_s'])} s",
              f"  meanwhile {figure(lost['cores_meanwhile'])} cores of a node for connects, up to {figure(lost['waiting_at_a_node'])} "
              f"connections waiting at it"]  # fmt: skip
    else:
        lines += ["a node lost: there is no other"]
    return "\n".join(lines)


def constants_text():
    rows = [[n, f"{c.value:g} {c.unit}".strip(), "measured" if c.measured else "assumed", c.source] for n, c in CONSTANTS.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join("  ".join([*(c.ljust(w) for c, w in zip(row, widths)), row[3]]) for row in rows)


def plain(value):
    """For JSON, which knows no infinity."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return None if value == NEVER else value


EXAMPLE = re.compile(r"(?<=^```\n)\$ test/bench/capacity\.py(.*)\n(?:.*\n)*?(?=```$)", re.MULTILINE)


def with_examples_fresh(text):
    """@text, with what this prints today below each command in a block that begins with one."""
    return EXAMPLE.sub(lambda m: f"{m[0].splitlines()[0]}\n{output(shlex.split(m[1]))}\n", text)


def output(argv):
    o = arguments(argv)
    if o.constants:
        return constants_text()
    result = capacity(o)
    return json.dumps(plain(result), indent=1, ensure_ascii=False) if o.json else text_of(result)


def main():
    o = arguments()
    if o.write_docs:
        o.write_docs.write_text(with_examples_fresh(o.write_docs.read_text()))
    else:
        print(output(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
