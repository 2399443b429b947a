# SPDX-License-Identifier: Apache-2.0
"""Who listens, and to what."""

import faults
from changes import Habits
from checker import Client
from stream import Stream, Wishes

MARKER = "marker"  # the type of an event that every client takes

SINGLE = [f"g{i}.t{j}" for i in range(4) for j in range(4)] + ["g0.t0.deep", "solo"]
PAIRS = [f"pair.p{i}" for i in range(4)]
LANED = [f"lane.l{i}" for i in range(4)]
TOPICS = SINGLE + PAIRS + [faults.BIG_TOPIC, faults.TRIM_TOPIC] + LANED
# Of these the relays say the priority where the publisher does not (`lanes`).
RULED = {"g2.t0": "batched", "g3.t3": "coalesced"}
# What slow clients ask for: enough to be slow at.
MUCH = [
    [">"], ["*.*"], ["lane.>"], ["fin.>", "lane.>"], ["lane.*", "g0.*", "g1.*"], ["lane.l0", "lane.l1", "lane.l2", "g2.t1"],
]  # fmt: skip
TYPED = ["created", "updated", "noise"]  # without events that have no id


def make_streams(count, world, rng, visas, flow, habit, more=()):
    """@visas: one for each, None for those who need none. @flow: chance, for what concerns flow control. @habit: the
    same, for what they do with open streams. @more: a pattern that some have besides."""
    streams = []
    direct = [r.port for r in world.relays]
    for i in range(count):
        names, types, slow = choose_wishes(i, rng)
        # A third goes through the proxy; the others come back to any node.
        targets = [world.front] if rng.random() < 0.34 else direct
        roving = rng.random() < 0.2
        names, types, slow, asked, drops, snapshot, wishes, kind = choose_flow(names, types, slow, flow)
        names = [*names, *(n for n in more if n not in names and habit.random() < 0.1)]
        query = "&".join([f"topic={n}" for n in names] + [f"event={t}" for t in types] + asked)
        visa = visas[i]
        habits = choose_habits(names, more, habit)
        if not visa and any(visas):
            habits = Habits()  # where there are tokens only a subject can ask something of a stream
        match = visa and visa.match
        client = Client(f"client-{i}", names, types, match, drops=drops, snapshot=snapshot, extras=habits.pool)
        if visa:
            visa.take_wishes([*names, *habits.pool])
        stream = Stream(client, query, targets, rng, slow, roving or snapshot > 0, visa, wishes, habits)
        stream.kind = kind
        streams.append(stream)
    return streams


def choose_habits(names, more, rng):
    """A third has other topics now and then, and a third pauses."""
    pool = []
    if rng.random() < 0.35:
        some = [*SINGLE, *PAIRS, *LANED, *LANED, "g0.*", "g1.>", "pair.*", "*.t1", "lane.*", "lane.>", *more]
        pool = [n for n in dict.fromkeys(rng.sample(some, rng.randint(1, 5))) if n not in names]
    return Habits(pool, rng.random() < 0.35)


def choose_flow(names, types, slow, rng):
    """What a client asks of flow control: most of them nothing."""
    asked, drops, snapshot, pace, anew, kind = [], False, 0, 0, 0.15, "slow" if slow else "plain"
    place = rng.random()
    if slow or place >= 0.4:
        pass
    elif place < 0.12:  # reads on from the log
        kind, slow, pace = "blocked", True, rng.choice((2000, 4000, 8000))
        names = rng.choice(MUCH)
        asked += rng.choice(([], ["slow=block"]))
    elif place < 0.28:
        kind, slow, pace, drops = "dropping", True, rng.choice((1000, 2000, 4000, 8000)), True
        names = rng.choice(MUCH)
        types = [*TYPED, MARKER] if rng.random() < 0.7 else []
        asked.append("slow=" + rng.choice(("drop-oldest", "drop-newest")))
    elif place < 0.31:
        kind, slow, pace = "ended", True, 2000
        names = rng.choice(MUCH)
        asked.append("slow=disconnect")
    else:
        kind, anew = "snapshot", 0.5
        snapshot = 2 * len(TOPICS)
        asked.append("snapshot=1")
    if slow and kind != "slow" and rng.random() < 0.8:
        asked.append(f"buffer={rng.choice((4, 16, 64, 128))}")
    if rng.random() < 0.3:
        asked.append("flush=" + rng.choice(("20ms", "100ms", "1s")))
    return names, types, slow, asked, drops, snapshot, Wishes(rng.random() < 0.3, pace, anew), kind


def choose_wishes(i, rng):
    """(topics and patterns, types, slow)"""
    place = i % 20
    exact = SINGLE + PAIRS + LANED
    if place < 7:
        return [rng.choice(TOPICS)], [], False
    if place < 9:
        return [rng.choice(LANED)], [], False
    if place < 12:
        return rng.sample(exact, rng.randint(2, 5)), [], False
    if place < 14:
        return [rng.choice(["g0.*", "g1.*", "g2.*", "g3.>", "pair.*", "*.t1", "burst.*", "lane.*"])], [], False
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
