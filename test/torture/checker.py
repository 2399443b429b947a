# SPDX-License-Identifier: Apache-2.0
"""Judges what clients were sent. Knows docs/protocol.md (sections 3, 4, 6, 7, 13; 14 in access.py) and nothing else.

It gets three things for each round of a run (a round ends when everything has settled):

- the **ledger**: the events that are known to have been given an id in this round, and what became of each:
  `kept` (still in the log), `lost` (was in the log, and is gone: deleted, trimmed, wiped), `forgotten` (by an
  asynchronous failover: nobody can tell clients of it, so it is counted apart);
- the **losses**: where Redis lost its data as a whole, as ranges of ids, from the whole run;
- each client's **transcript** of the round: a list of tuples

    ("open", cursor)                        it connected; cursor: its Last-Event-ID, None without one
    ("connected", id)                       relay.connected
    ("event", id, type, key)                id None: ephemeral; key: which publish this is
    ("gap", id, from, to, reason)           relay.gap; id None: the block had none; from None: null
    ("close", why)                          the connection ended

A client's state goes on from round to round, as its life does. What concerns tokens is in access.py.
"""

from bisect import bisect_right
from collections import namedtuple

from access import ACCESS, LEAK, TWO_STREAMS, Law, Passport

KEPT, LOST, FORGOTTEN = "kept", "lost", "forgotten"
# What a verdict can be. The first three are what the issue counts by name.
HOLE, DUPLICATE, FALSE_GAP = "hole", "duplicate", "false-gap"
ORDER, STRAY, LOG = "order", "stray", "log"
KINDS = (HOLE, DUPLICATE, FALSE_GAP, ORDER, STRAY, LOG, LEAK, ACCESS, TWO_STREAMS)

# What anybody tried to publish. @at: when it began.
Publish = namedtuple("Publish", "topics type match at", defaults=(None, None, 0.0))


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
    __slots__ = ("id", "key", "topics", "type", "state", "match")

    def __init__(self, id, key, topics, type=None, state=KEPT, match=None):
        self.id = id
        self.key = key
        self.topics = tuple(topics)
        self.type = type
        self.state = state
        self.match = match

    def __repr__(self):
        return f"{self.key}={self.id} ({self.state})"


class Violation:
    def __init__(self, kind, who, what, excerpt=()):
        self.kind = kind
        self.who = who
        self.what = what
        self.excerpt = list(excerpt)

    def __str__(self):
        lines = [f"{self.kind.upper()} {self.who}: {self.what}"]
        return "\n".join(lines + [f"      {line}" for line in self.excerpt])


class Ledger:
    """The events of a round. @losses: [(low, high)]: Redis lost its data (or a part of it, by an asynchronous
    failover) somewhere between these ids. @rewound: the position may have gone back in this round. @forked: for a while
    two servers took events, so that ids may have become known in another order than they were given. @older: a ledger
    of before, for what comes late. @law: what is known of tokens, from access.py."""

    def __init__(self, events=(), losses=(), rewound=False, forked=False, publishes=None, older=None, law=None):
        self.law = law or Law()
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

    def find(self, id):
        event = self._by_id.get(id)
        return self.older._by_id.get(id) if event is None and self.older else event

    def forgot(self, id):
        """Whether an id was given by a server whose history is gone: only where there were two."""
        event = self.find(id)
        return self.forked and (event is None or event.state == FORGOTTEN)

    def of(self, client):
        """What concerns a client by its topics, of any type: shared by clients with the same wishes."""
        if client.names not in self._wanted:
            self._wanted[client.names] = [e for e in self.events if client.wants_topics(e.topics)]
        return self._wanted[client.names]

    def between(self, low, high):
        """Events with low < id ≤ high."""
        return self.events[bisect_right(self._ids, low) : bisect_right(self._ids, high)]


class Client:
    """What a client asked for, and what of its life matters to the next round."""

    def __init__(self, name, names, types=(), match=None):
        self.name = name
        self.names = tuple(names)
        self.types = frozenset(types)
        self.match = match or {}  # of its grant: name → values
        self.passport = Passport()
        self.last_id = 0  # of an event: those must go up over the whole life
        self.since = None  # what is above it is owed; None: no stream has been complete yet
        self.passed = []  # ids of events of its topics that are not for it, above the last it had: the log may lose them, too
        self.missed = []  # ids of lost events it has not had: what may justify a gap
        self._matches = {}
        # The connection that is open.
        self.fresh = False  # it was opened without a cursor, and relay.connected has not come
        self.cursor = None  # the last id of any block on it
        self.opened_with = None
        self.ephemeral = set()
        self.ephemeral_last = {}

    def wants_topics(self, topics):
        return any(self.wants_topic(t) for t in topics)

    def wants_topic(self, topic):
        if topic not in self._matches:
            self._matches[topic] = any(pattern_matches(n, topic) for n in self.names)
        return self._matches[topic]

    def may_have(self, match):
        """Whether an event with this `match` is for it: every pair must be among those of its grant."""
        return all(value in self.match.get(name, ()) for name, value in (match or {}).items())

    def wants(self, event):
        return (
            (not self.types or event.type in self.types)
            and self.wants_topics(event.topics)
            and self.may_have(event.match)
        )


class Account:
    """What one client's transcript of a round says, without judging it."""

    def __init__(self, client, records, ledger):
        self.got = {}
        # It came with a cursor that only a forgotten server gave: up to there nobody can tell what it has had.
        self.stranded = 0
        self.gaps = []
        self.since = client.since
        fresh = client.fresh
        for record in records:
            what = record[0]
            if what == "event" and record[1] is not None:
                self.got[record[1]] = record
            elif what == "gap":
                low = -1 if record[2] is None else record[2]
                self.gaps.append((low, record[3]))
                if fresh:
                    self.since, fresh = record[3], False
            elif what == "open" and record[1] is not None:
                if ledger.forgot(record[1]):
                    self.stranded = max(self.stranded, record[1])
            elif what == "open":
                fresh = True  # it never had an id: what it had missed is not owed, and a new life begins
            elif what == "connected" and fresh:
                self.since, fresh = record[1], False
        self.fresh = fresh

    def covered(self, id):
        return any(low < id <= high for low, high in self.gaps)


def outstanding(client, records, ledger):
    """Events of the round that the client has neither had nor been told of as lost, and should have."""
    account = Account(client, records, ledger)
    if account.since is None:
        return [e for e in ledger.of(client) if client.wants(e) and e.state == KEPT]
    return [
        e
        for e in ledger.of(client)
        if e.id > account.since
        and e.state != FORGOTTEN
        and e.id not in account.got
        and e.id > account.stranded
        and client.wants(e)
        and not account.covered(e.id)
    ]


class Judge:
    """Judges one client's round; counts what is no fault, too."""

    def __init__(self, client, records, ledger):
        self.client = client
        self.records = records
        self.ledger = ledger
        self.violations = []
        self.delivered = 0
        self.gaps = 0
        # late: kept by the log of a server that was not followed yet; the client was past it, so it could only be told.
        self.forgotten = {"had": 0, "told": 0, "silent": 0, "late": 0, "stranded": 0}
        self.late = set()
        self._walk()
        self._account()

    def _fault(self, kind, what, at=None):
        excerpt = []
        if at is not None:
            low = max(0, at - 4)
            for i in range(low, min(len(self.records), at + 4)):
                excerpt.append(("> " if i == at else "  ") + show(self.records[i]))
        self.violations.append(Violation(kind, self.client.name, what, excerpt))

    # --- in the order in which it came ---

    def _try(self, at, found):
        """What the passport says."""
        if found:
            self._fault(found[0], found[1], at)

    def _walk(self):
        self.client.passport.law = self.ledger.law
        self.undelivered = set(self.client.missed)
        self.undelivered |= {e.id for e in self.ledger.of(self.client) if e.state == LOST}
        self.owed = {e.id for e in self.ledger.of(self.client) if self.client.wants(e)} if self.ledger.forked else set()
        for at, record in enumerate(self.records):
            getattr(self, "_on_" + record[0])(at, *record[1:])
        self.client.missed = sorted(self.undelivered)
        passed = [e.id for e in self.ledger.of(self.client) if not self.client.wants(e)]
        self.client.passed = [id for id in [*self.client.passed, *passed] if id > self.client.last_id]

    def _on_open(self, at, cursor, credential=None):
        self.client.passport.open(credential)
        self.client.cursor = None
        self.client.opened_with = cursor
        if cursor is None:
            self.client.last_id = 0  # a new life
        self.client.ephemeral = set()
        self.client.ephemeral_last = {}

    def _on_close(self, at, why):
        self.client.cursor = None

    def _on_right(self, at, tokens):
        self.client.passport.tokens = tokens

    def _on_expiring(self, at, milliseconds):
        self._try(at, self.client.passport.block() or self.client.passport.expiring())

    def _on_shutdown(self, at, reason, when):
        self._try(at, self.client.passport.block() or self.client.passport.shutdown(reason, when))

    def _on_refused(self, at, status, when):
        self._try(at, self.client.passport.refused(status, when))

    def _move(self, at, id, what):
        """A block with an id: within a connection, ids go up."""
        if self.client.cursor is not None and id <= self.client.cursor:
            kind = DUPLICATE if id == self.client.cursor and what == "event" else ORDER
            self._fault(kind, f"{what} {id} after {self.client.cursor} on the same connection", at)
        elif self.client.cursor is None and what == "event":
            self._fault(ORDER, f"event {id} before relay.connected", at)
        self.client.cursor = id if self.client.cursor is None else max(self.client.cursor, id)

    def _on_position(self, at, id):
        self._try(at, self.client.passport.block())
        self._move(at, id, "position")

    def _on_connected(self, at, id):
        self._try(at, self.client.passport.block() or self.client.passport.let_in())
        if self.client.cursor is not None:
            self._fault(ORDER, "relay.connected is not the first block", at)
        if id is None:
            self.client.cursor = None  # a gap (unknown-id) will bring it
            return
        if self.client.opened_with is not None and id != self.client.opened_with:
            self._fault(ORDER, f"relay.connected says {id}, the cursor was {self.client.opened_with}", at)
        self.client.cursor = id

    def _on_event(self, at, id, type, key):
        self._try(at, self.client.passport.block())
        if id is None:
            self._ephemeral(at, key)
        else:
            self._logged(at, id, type, key)

    def _ephemeral(self, at, key):
        """At most once on a connection, in the order of publishing (keys are topic#number)."""
        topic, _, number = key.partition("#")
        if key in self.client.ephemeral:
            self._fault(DUPLICATE, f"ephemeral {key} twice on one connection", at)
        elif int(number[1:]) < self.client.ephemeral_last.get(topic, -1):
            self._fault(ORDER, f"ephemeral {key} after number {self.client.ephemeral_last[topic]}", at)
        self.client.ephemeral.add(key)
        self.client.ephemeral_last[topic] = int(number[1:])
        self._published(at, key, None, ephemeral=True)

    def _logged(self, at, id, type, key):
        self.delivered += 1
        self._move(at, id, "event")
        if id <= self.client.last_id:
            event = self.ledger.find(id)
            known = event and event.key == key
            self._fault(
                DUPLICATE if known or id == self.client.last_id else ORDER,
                f"event {id} ({key}) after event {self.client.last_id} had come",
                at,
            )
        self.client.last_id = max(self.client.last_id, id)
        self.undelivered.discard(id)
        event = self.ledger.find(id)
        if event is None:
            self._fault(STRAY, f"event {id} ({key}) was never given to anybody as far as the logs know", at)
        elif event.key != key or event.type != type:
            self._fault(STRAY, f"event {id} is {key} of type {type}, in the log {event.key} of {event.type}", at)
        self._published(at, key, type)

    def _published(self, at, key, type, ephemeral=False):
        if self.ledger.publishes is None:
            return
        known = self.ledger.publishes.get(key)
        if known is None:
            self._fault(STRAY, f"nobody published {key}", at)
            return
        if not self.client.wants_topics(known.topics):
            self._fault(STRAY, f"{key} is on {','.join(known.topics)}, which was not asked for", at)
        if self.client.types and known.type not in self.client.types:
            self._fault(STRAY, f"{key} is of type {known.type}, which was not asked for", at)
        if not self.client.may_have(known.match):
            self._fault(LEAK, f"{key} is for {known.match}, and the client has {self.client.match}", at)
        self._try(at, self.client.passport.event(known.at))

    def _on_gap(self, at, id, low, high, reason):
        self._try(at, self.client.passport.block())
        self.gaps += 1
        if id is not None and id != high:
            self._fault(ORDER, f"the gap's id {id} is not its end {high}", at)
        if low is not None and low >= high:
            self._fault(FALSE_GAP, f"an empty gap: {low} to {high}", at)
        late = self._late(low, high)
        self.late |= late
        if id is not None:
            if reason != "unknown-id":
                self._move(at, id, "gap")
            else:
                self.client.cursor = id
        why_not = self._gap_fault(low, high, reason)
        if why_not and not late:
            self._fault(FALSE_GAP, f"gap {low} to {high} ({reason}): {why_not}", at)

    def _late(self, low, high):
        """Events in a gap that order forbids to give: of another server than the one that was followed."""
        if not self.ledger.forked or self.client.cursor is None:
            return set()
        found = self.ledger.between(-1 if low is None else low, min(high, self.client.cursor))
        return {e.id for e in found if e.state == KEPT and e.id in self.owed}

    def _gap_fault(self, low, high, reason):
        """Why this gap should not have been told, or None."""
        if reason in ("trimmed", "expired"):
            if low is None:
                return "from null"
            if not any(low < id <= high for id in [*self.undelivered, *self.client.passed]):
                return "no event that was lost and that this client has not had lies in it"
            return None
        if reason == "redis-lost":
            if low is None:
                return "from null"
            if not any(low < end and high > start and high <= end for start, end in self.ledger.losses):
                return f"Redis lost nothing there; losses: {self.ledger.losses[-3:]}"
            return None
        if reason == "unknown-id":
            if not self.ledger.rewound:
                return "the cursor was ours, and the position did not go back"
            if self.client.opened_with is None or self.client.opened_with <= high:
                return f"the cursor {self.client.opened_with} is not beyond the position"
            return None
        return "there was no reason for this reason"

    # --- as a whole ---

    def _account(self):
        account = Account(self.client, self.records, self.ledger)
        self.client.since, self.client.fresh = account.since, account.fresh
        if account.since is None:
            return
        for event in self.ledger.of(self.client):
            if event.id <= account.since or not self.client.wants(event):
                continue
            had, told = event.id in account.got, account.covered(event.id)
            if event.state == FORGOTTEN:
                self.forgotten["had" if had else "told" if told else "silent"] += 1
            elif had:
                continue
            elif not told and event.id <= account.stranded:
                self.forgotten["stranded"] += 1
            elif not told:
                self._hole(event, account)
            elif event.id in self.late:
                self.forgotten["late"] += 1
            elif event.state == KEPT:
                self._fault(
                    FALSE_GAP,
                    f"{event} is in the log, but was told as lost",
                    next(
                        i
                        for i, r in enumerate(self.records)
                        if r[0] == "gap" and (-1 if r[2] is None else r[2]) < event.id <= r[3]
                    ),
                )

    def _hole(self, event, account):
        later = [i for i, r in enumerate(self.records) if r[0] == "event" and (r[1] or 0) > event.id]
        at = later[0] if later else max(0, len(self.records) - 1)
        what = f"{event} on {','.join(event.topics)} is missing and no gap covers it"
        if not later:
            what += " (nothing newer has come)"
        self._fault(HOLE, what, at if self.records else None)


def judge_log(entries, outcomes, may_lose, lost_ids=()):
    """Did the doors keep their word? @entries: Event objects found in the logs at the end of a round.
    @outcomes: key → ("acked", id), ("queued", None), ("refused", None), ("unknown", None).
    @may_lose: None, or predicate(topics): a fault of this round may have taken such events.
    @lost_ids: ids known to have been in a log and gone again: a publish that was tried again after that is no repetition."""
    violations = []
    lost_ids, ids = set(lost_ids), {}
    for event in entries:
        ids.setdefault(event.key, set()).add(event.id)

    def violated(what):
        violations.append(Violation(LOG, "publisher", what))

    for key, found in ids.items():
        if len(found - lost_ids) > 1:
            violated(f"{key} was published twice: {sorted(found)}")
    for key, (outcome, id, topics) in outcomes.items():
        found = ids.get(key)
        if outcome == "refused" and found:
            violated(f"{key} was refused, but the log has it as {sorted(found)}")
        elif outcome in ("acked", "queued") and not found:
            if not (may_lose and may_lose(topics)):
                violated(f"{key} was accepted ({outcome}, {id}) and is not in the log")
        elif outcome == "acked" and id not in found | lost_ids:
            violated(f"{key} was accepted as {id}, the log has it as {sorted(found)}")
    return violations


def show(record):
    what, *rest = record
    names = {
        "position": ("id",),
        "open": ("last-event-id", "with"),
        "connected": ("id",),
        "event": ("id", "type", "key"),
        "gap": ("id", "from", "to", "reason"),
        "close": ("why",),
        "right": ("tokens",),
        "expiring": ("in",),
        "shutdown": ("reason", "when"),
        "refused": ("status", "when"),
    }[what]
    return what + " " + " ".join(f"{n}={v}" for n, v in zip(names, rest) if v is not None or what == "gap")
