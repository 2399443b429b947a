# SPDX-License-Identifier: Apache-2.0
"""What was published, and what became of it: the judge's side of the truth. Part of checker.py."""

from bisect import bisect_right
from collections import namedtuple

from access import ACCESS, LEAK, TWO_STREAMS, Law

KEPT, LOST, FORGOTTEN = "kept", "lost", "forgotten"
# What a verdict can be. The first three are what the issue counts by name.
HOLE, DUPLICATE, FALSE_GAP = "hole", "duplicate", "false-gap"
ORDER, STRAY, LOG = "order", "stray", "log"
# Of flow control (4.7, 8.4): a block of joined texts, a count of what was dropped, the end of a topic.
LANE, DROPPED, END = "lane", "dropped", "end"
# Of an open stream that somebody asked something of (4.8): an answer, or what it was told, is not what was asked.
CHANGE = "change"
# Of a bridged stream (9.1): an entry that is no event, or in another place.
BRIDGE = "bridge"
KINDS = (
    HOLE, DUPLICATE, FALSE_GAP, ORDER, STRAY, LOG, LANE, DROPPED, END, CHANGE, BRIDGE, LEAK, ACCESS, TWO_STREAMS,
)  # fmt: skip

# Priorities that merge: the latest only, and texts in a row.
COALESCED, APPENDED = "coalesced", "appended"

# What anybody tried to publish. @at: when it began. @lane: its priority; @slot: its key.
Publish = namedtuple("Publish", "topics type match at lane slot", defaults=(None, None, 0.0, None, None))

# How a topic ended.
End = namedtuple("End", "id reason")


def pattern_matches(pattern, topic):
    """docs/protocol.md section 2."""
    wanted, tokens = pattern.split("."), topic.split(".")
    for i, token in enumerate(wanted):
        if token == ">" and i == len(wanted) - 1:
            return len(tokens) > i
        if i >= len(tokens) or (token != "*" and token != tokens[i]):
            return False
    return len(tokens) == len(wanted)


class Event:
    __slots__ = ("id", "key", "topics", "type", "state", "match", "lane", "slot")

    def __init__(self, id, key, topics, type=None, state=KEPT, match=None, lane=None, slot=None):
        self.id = id
        self.key = key
        self.topics = tuple(topics)
        self.type = type
        self.state = state
        self.match = match
        self.lane = lane
        self.slot = (self.topics[0], slot or type)  # what it is merged with, if it is

    def __repr__(self):
        return f"{self.key}={self.id} ({self.state})"


class Ledger:
    """The events of a round. @losses: [(low, high)]: Redis lost its data (or a part of it, by an asynchronous
    failover) somewhere between these ids. @rewound: the position may have gone back in this round. @forked: for a while
    two servers took events, so that ids may have become known in another order than they were given. @older: id →
    Event of before, for what comes late or in a snapshot. @law: what is known of tokens, from access.py.
    @ends: topic → End."""

    def __init__(
        self, events=(), losses=(), rewound=False, forked=False, publishes=None, older=None, law=None, ends=None
    ):
        self.law = law or Law()
        self.ends = ends or {}
        self.forked = forked
        self.older = older
        self.events = sorted(events, key=lambda e: e.id)
        self.losses = list(losses)
        self.rewound = rewound
        # key → Publish, for everything anybody tried to publish, raw events included.
        self.publishes = publishes
        self._ids = [e.id for e in self.events]
        self._by_id = {e.id: e for e in self.events}
        self._wanted = {}
        self._by_key = {}
        self._by_topics = {}
        for event in self.events:
            self._by_key.setdefault(event.key, []).append(event)
            self._by_topics.setdefault(event.topics, []).append(event)

    def known_as(self, key):
        """All events that one publish has become: several where it was repeated after Redis had forgotten the first."""
        return self._by_key.get(key, [])

    def find(self, id):
        event = self._by_id.get(id)
        return self.older.get(id) if event is None and self.older else event

    def forgot(self, id):
        """Whether an id was given by a server whose history is gone: only where there were two."""
        event = self.find(id)
        return self.forked and (event is None or event.state == FORGOTTEN)

    def of(self, client):
        """What may concern a client by its topics, of any type: shared by clients with the same wishes."""
        wishes = client.names, client.extras
        if wishes not in self._wanted:
            groups = [events for topics, events in self._by_topics.items() if client.wants_topics(topics)]
            self._wanted[wishes] = sorted((e for events in groups for e in events), key=lambda e: e.id)
        return self._wanted[wishes]

    def on(self, topic):
        """Events on this topic alone."""
        return self._by_topics.get((topic,), [])

    def between(self, low, high):
        """Events with low < id ≤ high."""
        return self.events[bisect_right(self._ids, low) : bisect_right(self._ids, high)]
