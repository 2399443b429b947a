# SPDX-License-Identifier: Apache-2.0
"""Who listens, and to what."""

import faults
from checker import Client
from wire import Stream

MARKER = "marker"  # the type of an event that every client takes

SINGLE = [f"g{i}.t{j}" for i in range(4) for j in range(4)] + ["g0.t0.deep", "solo"]
PAIRS = [f"pair.p{i}" for i in range(4)]
TOPICS = SINGLE + PAIRS + [faults.BIG_TOPIC, faults.TRIM_TOPIC]


def make_streams(count, world, rng, visas):
    """@visas: one for each, None for those who need none."""
    streams = []
    direct = [r.port for r in world.relays]
    for i in range(count):
        names, types, slow = choose_wishes(i, rng)
        query = "&".join([f"topic={n}" for n in names] + [f"event={t}" for t in types])
        # A third goes through the proxy; the others come back to any node.
        targets = [world.front] if rng.random() < 0.34 else direct
        visa = visas[i]
        client = Client(f"client-{i}", names, types, visa and visa.match)
        if visa:
            visa.take_wishes(names)
        streams.append(Stream(client, query, targets, rng, slow, roving=rng.random() < 0.2, visa=visa))
    return streams


def choose_wishes(i, rng):
    """(topics and patterns, types, slow)"""
    place = i % 20
    exact = SINGLE + PAIRS
    if place < 9:
        return [rng.choice(TOPICS)], [], False
    if place < 12:
        return rng.sample(exact, rng.randint(2, 5)), [], False
    if place < 14:
        return [rng.choice(["g0.*", "g1.*", "g2.*", "g3.>", "pair.*", "*.t1", "burst.*"])], [], False
    if place == 14:
        return ["g0.>", rng.choice(exact), "pair.*"], [], False
    if place == 15:
        return [">"], [], False
    if place == 16:
        return [rng.choice(exact)], ["created", MARKER], False
    if place == 17:
        return [rng.choice(["g1.*", "pair.*", "*.*"])], ["updated", MARKER], False
    if place == 18:
        return rng.sample(exact, 3), [], False
    return [rng.choice([">", "*.*", "burst.>"])], [], True
