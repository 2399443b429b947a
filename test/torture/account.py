# SPDX-License-Identifier: Apache-2.0
"""What one client's transcript says it has had, what it has been told, and what it need not have. Part of checker.py.

Flow control (docs/protocol.md, 4.7 and 7.6) lets a stream leave out three things: a coalesced value that a later one of
its topic and key has replaced, what relay.dropped counts, and what lies before a snapshot's latest of each topic.
"""

from ledger import COALESCED, FORGOTTEN, KEPT, LOST, pattern_matches
from terms import NEVER


class Snapshot:
    """The beginning of a stream with snapshot=1, from its relay.connected on: at most one event of each topic, and
    perhaps one that is newer. Behind @most events it is live. @asked: whether a topic was asked for then. @forked:
    Ledger.forked."""

    def __init__(self, most, asked, forked):
        self.most = most
        self.asked = asked
        self.forked = forked
        self.old = 0  # the last id that only the old one of two servers gave
        self.count = 0
        self.upto = 0  # the last id that may belong to it
        self.latest = {}  # topic → the last id had

    def take(self, event):
        self.count += 1
        if self.count <= self.most:
            self.upto = event.id
            if self.forked and event.state == FORGOTTEN:
                self.old = event.id
        for topic in event.topics:
            self.latest[topic] = event.id

    def excuses(self, event):
        if event.state == LOST and self.count <= self.most:
            return True  # its log was gone when it was looked at
        if event.id < self.old:
            return True  # another server was looked at than the one that has it
        topics = [t for t in event.topics if self.asked(t)]
        return event.id < self.upto and all(self.latest.get(t, 0) > event.id for t in topics)


class Account:
    """What one client's transcript of a round says, without judging it."""

    def __init__(self, client, records, ledger):
        self.client = client
        self.ledger = ledger
        self.got = {}
        # It came with a cursor that only a forgotten server gave: up to there nobody can tell what it has had.
        self.stranded = 0
        self.gaps = []
        self.drops = []  # (low, high] in which relay.dropped stands for what is missing
        self.snapshots = []
        self.since = client.since
        self.fresh = client.fresh
        self._newest = {}  # slot → the last id had of it, of what is coalesced
        self.last = NEVER
        self.began = 0
        self._cursor = client.cursor
        self.terms = client.terms.copy()
        for record in records:
            take = getattr(self, "_on_" + record[0], None)
            if take:
                take(*record[1:])

    def _on_open(self, cursor, credential=None):
        self._cursor = cursor
        self.terms.opened(cursor)
        if cursor is None:
            self.fresh = True  # it never had an id: what it had missed is not owed, and a new life begins
        elif self.ledger.forgot(cursor):
            self.stranded = max(self.stranded, cursor)

    def _on_close(self, why):
        self.terms.closed(self._cursor)

    def _on_asks(self, names):
        self.terms.asks(names, self._cursor)

    def _on_patch(self, add, remove):
        self.terms.asked(add, remove, self._cursor)

    def _on_patched(self, status, names):
        self.terms.answered(status, names, self.client.names)

    def _on_subscribed(self, names, low):
        self.terms.subscribed(names, low)

    def _on_unsubscribed(self, names, when):
        self.terms.unsubscribed(names, when, self._cursor)

    def _on_connected(self, id, connection=None):
        self._cursor = id
        self.terms.connected(id, connection)
        if self.fresh:
            self.fresh = False
            self.since = 0 if self.client.whole else id
            self.began = id
            if self.client.snapshot:
                self.snapshots.append(Snapshot(self.client.snapshot, self._asked_now(), self.ledger.forked))

    def _asked_now(self):
        """Which topics the request that is being answered has asked for."""
        client, present = self.client, list(self.terms.present)
        return lambda t: client.always_wants((t,)) or any(pattern_matches(n, t) for n in present)

    def _on_event(self, id, type, key, joined=()):
        if id is None:
            return
        for text in joined:
            for event in self.ledger.known_as(text):
                if (self._cursor or 0) < event.id < id:
                    self.got[event.id] = id
        self._cursor = self.got[id] = id
        event = self.ledger.find(id)
        if event and event.lane == COALESCED:
            self._newest[event.slot] = max(id, self._newest.get(event.slot, 0))
        if event and self.snapshots:
            self.snapshots[-1].take(event)

    def _on_over(self):
        if self.fresh:  # all has ended, and it asked for nothing of the log
            self.since, self.fresh = NEVER, False
        self._on_enough()

    def _on_enough(self):
        """It does not come again. If Redis has forgotten the end, another one may follow that it does not see."""
        if self.ledger.rewound:
            self.last = self._cursor or 0

    def _on_position(self, id):
        self._cursor = id

    def _on_dropped(self, id, count):
        if id is not None:
            self.drops.append((self._cursor or 0, id))
            self._cursor = id

    def _on_gap(self, id, low, high, reason):
        low = -1 if low is None else low
        self.gaps.append((low, high))
        if id is not None:
            self._cursor = id
        if reason == "unknown-id":
            self.terms.complete(high)
        if self.fresh:
            self.since, self.fresh = high, False

    # --- what concerns it ---

    def concerns(self):
        """All events that it may be owed."""
        own = [t for t in self.terms.own_topics() if not self.client.wants_topic(t)]
        found = self.ledger.of(self.client)
        return [*found, *(e for t in own for e in self.ledger.on(t))] if own else found

    def may_want(self, event):
        client = self.client
        return client.takes(event) and (client.wants_topics(event.topics) or self.terms.has_own(event.topics))

    def owes(self, event):
        """Whether it was asked for when it was given its id, for all that is known."""
        client = self.client
        return client.takes(event) and (client.always_wants(event.topics) or self.terms.owes(event, self.ledger.forked))

    def covered(self, id):
        return any(low < id <= high for low, high in self.gaps)

    def dropped(self, id):
        return any(low < id <= high for low, high in self.drops)

    def merged(self, event):
        """Whether a later one of its topic and key has taken its place. The later one may since have been forgotten
        by a failover, and the page that this was in, read before that."""
        if event.lane != COALESCED:
            return False
        if event.id < self._newest.get(event.slot, 0):
            return True
        return any(
            later.id > event.id
            and later.lane == COALESCED
            and later.slot == event.slot
            and self.may_want(later)
            and (later.state == FORGOTTEN or self.covered(later.id) or self.dropped(later.id) or not self.owes(later))
            for later in self.concerns()
        )

    def excused(self, event):
        """Whether flow control may have left it out."""
        return (
            event.id > self.last
            # A topic that Redis has forgotten is as one that there never was, also for who asks for it as a whole.
            or (event.state == LOST and self.ledger.rewound and event.id <= self.began)
            or self.dropped(event.id)
            or self.merged(event)
            or any(snapshot.excuses(event) for snapshot in self.snapshots)
        )


def outstanding(client, records, ledger):
    """Events of the round that the client has neither had nor been told of as lost, and should have."""
    account = Account(client, records, ledger)
    if account.since is None:
        return [e for e in account.concerns() if account.owes(e) and e.state == KEPT]
    return [
        e
        for e in account.concerns()
        if e.id > account.since
        and e.state != FORGOTTEN
        and e.id not in account.got
        and e.id > account.stranded
        and account.owes(e)
        and not account.covered(e.id)
        and not account.excused(e)
    ]
