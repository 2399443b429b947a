# SPDX-License-Identifier: Apache-2.0
"""The faults: each is prepared while nobody publishes, and injected while everybody does.

A fault is a coroutine function of a Round. It returns when its cause is gone (the process runs again, the network is
as before); what it broke need not be mended yet. What it may take from the logs it says in round.loss.
"""

import asyncio
import signal

from checker import FORGOTTEN, LOST
from wire import Redis, RedisError
from world import IMPATIENT_MS, PATIENT_MS, PREFIX, free_port, until

BIG_TOPIC = "burst.big"
TRIM_TOPIC = "burst.trim"


class Loss:
    """@state: what lost events are to clients. @topics: None for all. @reset: Redis as a whole lost its data, or a part."""

    def __init__(self, state, topics=None, reset=False):
        self.state = state
        self.topics = topics
        self.reset = reset

    def may_take(self, topics):
        return self.topics is None or any(t in self.topics for t in topics)


# --- relays ---


async def relay_kill(round):
    relay = round.rng.choice(round.world.relays)
    await relay.kill()
    await round.sleep(0, 1.5)
    relay.start()
    await until(relay.is_ready, f"{relay.name} to be ready")


async def relay_term(round):
    relay = round.rng.choice(round.world.relays)
    relay.signal(signal.SIGTERM)
    status = await relay.ended()
    if status != 0:
        round.complain(f"{relay.name} ended with status {status} after SIGTERM")
    await round.sleep(0, 0.5)
    relay.start()
    await until(relay.is_ready, f"{relay.name} to be ready")


async def relay_stop(round):
    relay = round.rng.choice(round.world.relays)
    relay.signal(signal.SIGSTOP)
    try:
        await round.sleep(0.3, 4)
    finally:
        relay.signal(signal.SIGCONT)


# --- Redis dies ---


async def redis_kill_keep(round):
    await round.world.primary.kill()
    await round.sleep(0, 1.5)
    await round.world.primary.start()


async def redis_kill_empty(round):
    round.loss = Loss(LOST, reset=True)
    await round.archive()
    await round.world.primary.kill()
    round.world.primary.forget()
    await round.sleep(0, 1)
    await round.world.primary.start()


async def redis_stop(round):
    round.world.primary.signal(signal.SIGSTOP)
    try:
        await round.sleep(0.2, 3)
    finally:
        round.world.primary.signal(signal.SIGCONT)


async def failover_possible(round):
    await until(round.world.is_replicated, "the replica", 60)
    await until(round.world.sentinels_agree, "the Sentinels to agree", 60)


async def _promoted(round, new):
    """The Sentinels have made @new the primary, and the relays' way leads there."""
    world = round.world

    async def done():
        try:
            return (
                await world.sentinels[0].primary_port() == new.port and (await new.info())["role"] == "master"
            )
        except (OSError, RedisError):
            return False

    try:
        await until(done, "the Sentinels to promote the replica", 90)
    finally:
        await world.sentinel_patience(PATIENT_MS)
    world.primary = new
    # A proxy in front of Redis may keep connections to the old one, or cut them.
    world.point(new, cut=round.rng.random() < 0.7)


async def failover(round):
    """kill -9 of the primary; the replica is as late as replication makes it."""
    world = round.world
    old, new = world.primary, world.replica
    round.loss = Loss(FORGOTTEN, reset=True)
    await round.archive()
    await world.sentinel_patience(IMPATIENT_MS)
    await old.kill()
    await _promoted(round, new)
    await _autopsy(round, old)
    await old.start(new)


async def failover_lagged(round):
    """The replica's link is cut some time before; what is published meanwhile is forgotten."""
    world = round.world
    old, new = world.primary, world.replica
    round.loss = Loss(FORGOTTEN, reset=True)
    async with Redis(new.port) as r:
        await r("CONFIG", "SET", "masterauth", "wrong")  # so that it cannot come back
        await r("CLIENT", "KILL", "TYPE", "master")
    await round.sleep(0.3, 2.5)
    await world.sentinel_patience(IMPATIENT_MS)
    await old.kill()
    await _promoted(round, new)
    await new.call("CONFIG", "SET", "masterauth", "")
    await _autopsy(round, old)
    await old.start(new)


async def failover_asked(round):
    """An operator's failover: the old primary lives, and becomes the replica."""
    world = round.world
    new = world.replica
    round.loss = Loss(FORGOTTEN, reset=True)
    await round.archive()
    await world.sentinels[0].call("SENTINEL", "FAILOVER", "main")
    await _promoted(round, new)
    await round.sleep(0, 1)


async def _autopsy(round, dead):
    """What the dead primary had: its file tells. On a port that nobody knows."""
    port = free_port()
    await dead.start(port=port)
    await round.archive(port)
    await dead.kill()


# --- connections ---


def client_kill(*types):
    async def kill(round):
        for _ in range(round.rng.randint(1, 4)):
            for type in types:
                await round.world.primary.call("CLIENT", "KILL", "TYPE", type, "SKIPME", "yes")
            await round.sleep(0, 0.6)

    return kill


async def output_buffer(round):
    """One transaction with more than a subscriber may have waiting: Redis closes it."""
    async with Redis(round.world.primary.port) as r:
        await r("CONFIG", "SET", "client-output-buffer-limit", "pubsub 256kb 128kb 1")
        try:
            for _ in range(round.rng.randint(1, 2)):
                await round.publish_at_once(r, BIG_TOPIC, 16, 32000, atomic=True)
                await round.sleep(0.1, 0.6)
        finally:
            await r("CONFIG", "SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60")


def _some_forwarders(round):
    all = round.world.forwarders
    return all if round.rng.random() < 0.4 else round.rng.sample(all, round.rng.randint(1, 2))


async def cut(round):
    chosen = _some_forwarders(round)
    for forwarder in chosen:
        forwarder.target = None
        forwarder.cut()
    await round.sleep(0, 2.5)
    for forwarder in chosen:
        forwarder.target = round.world.primary.port


async def stall(round):
    """Nothing gets through and no one is told; then all of it arrives, or the connections break."""
    chosen = _some_forwarders(round)
    for forwarder in chosen:
        forwarder.stall(True)
    await round.sleep(0.3, 4)
    for forwarder in chosen:
        if round.rng.random() < 0.5:
            forwarder.cut()
        forwarder.stall(False)


async def delay(round):
    chosen = _some_forwarders(round)
    for forwarder in chosen:
        forwarder.delay = round.rng.uniform(0.01, 0.4)
    await round.sleep(1, 3)
    for forwarder in chosen:
        forwarder.delay = 0.0


# --- data ---


async def del_seq(round):
    for _ in range(round.rng.randint(1, 3)):
        await round.world.primary.call("DEL", f"{PREFIX}:seq")
        await round.sleep(0, 0.4)


async def del_log(round):
    topics = round.rng.sample(round.single_topics, round.rng.randint(1, 4))
    round.loss = Loss(LOST, topics)
    async with Redis(round.world.primary.port) as r:
        await round.archive_and(r, *(("DEL", f"{PREFIX}:log:{t}") for t in topics))


async def flushall(round):
    round.loss = Loss(LOST, reset=True)
    async with Redis(round.world.primary.port) as r:
        await round.archive_and(r, ("FLUSHALL",))


async def trim(round):
    """More events than the log holds, while a relay is away."""
    round.loss = Loss(LOST, [TRIM_TOPIC])
    relay = round.rng.choice(round.world.relays)
    forwarder = round.rng.choice(round.world.forwarders)
    way = round.rng.choice(("stop", "cut", "none"))
    if way == "stop":
        relay.signal(signal.SIGSTOP)
    elif way == "cut":
        forwarder.target = None
        forwarder.cut()
    try:
        async with Redis(round.world.primary.port) as r:
            for _ in range(5):
                await round.publish_at_once(r, TRIM_TOPIC, round.max_events // 2, 0)
                await asyncio.sleep(0.02)
    finally:
        relay.signal(signal.SIGCONT)
        forwarder.target = round.world.primary.port


async def pile(round):
    """Two at once that take nothing."""
    names = round.rng.sample(
        ["relay-kill", "relay-stop", "kill-pubsub", "kill-normal", "kill-both", "cut", "delay", "del-seq"], 2
    )
    round.note(f"pile: {names[0]} and {names[1]}")
    await asyncio.gather(*(FAULTS[n][1](round) for n in names))


async def pile_lost(round):
    """Data is lost while something else is broken, too."""
    what = round.rng.choice(["redis-kill-empty", "flushall", "del-log", "failover", "failover-lagged"])
    beside = round.rng.choice(["relay-kill", "relay-stop", "kill-both", "kill-pubsub", "cut", "stall", "delay"])
    round.note(f"pile: {what} and {beside}")
    await asyncio.gather(FAULTS[what][1](round), _soon(round, beside))


async def _soon(round, name):
    """Sometimes before the other, sometimes in the middle of it. What meets a dead Redis has nothing to do there."""
    await round.sleep(0, 0.8)
    try:
        await FAULTS[name][1](round)
    except (OSError, RedisError):
        pass


async def nothing(round):
    await round.sleep(0.5, 1)


# name → (prepare or None, inject)
FAULTS = {
    "none": (None, nothing),
    "relay-kill": (None, relay_kill),
    "relay-term": (None, relay_term),
    "relay-stop": (None, relay_stop),
    "redis-kill-keep": (None, redis_kill_keep),
    "redis-kill-empty": (None, redis_kill_empty),
    "redis-stop": (None, redis_stop),
    "failover": (failover_possible, failover),
    "failover-lagged": (failover_possible, failover_lagged),
    "failover-asked": (failover_possible, failover_asked),
    "kill-pubsub": (None, client_kill("pubsub")),
    "kill-normal": (None, client_kill("normal")),
    "kill-both": (None, client_kill("pubsub", "normal")),
    "output-buffer": (None, output_buffer),
    "cut": (None, cut),
    "stall": (None, stall),
    "delay": (None, delay),
    "del-seq": (None, del_seq),
    "del-log": (None, del_log),
    "flushall": (None, flushall),
    "trim": (None, trim),
    "pile": (None, pile),
    "pile-lost": (failover_possible, pile_lost),
}
# Those that need the forwarders between relays and Redis.
NETWORK = ("cut", "stall", "delay")
