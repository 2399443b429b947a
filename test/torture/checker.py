# SPDX-License-Identifier: Apache-2.0
"""Judges what clients were sent. Knows docs/protocol.md (sections 3, 4, 6, 7, 13; 14 in access.py) and nothing else.

It gets three things for each round of a run (a round ends when everything has settled):

- the **ledger**: the events that are known to have been given an id in this round, and what became of each:
  `kept` (still in the log), `lost` (was in the log, and is gone: deleted, trimmed, wiped), `forgotten` (by an
  asynchronous failover: nobody can tell clients of it, so it is counted apart);
- the **losses**: where Redis lost its data as a whole, as ranges of ids, from the whole run;
- each client's **transcript** of the round: a list of tuples

    ("open", cursor)                        it connected; cursor: its Last-Event-ID, None without one
    ("connected", id)                       relay.connected; with its connection_id, if that is known
    ("asks", names)                         what the request names beside the topics that it always does
    ("patch", add, remove)                  it asks for other topics (4.8)
    ("patched", status, names)              the answer; status 0: none came
    ("subscribed", names, from)             relay.subscribed
    ("unsubscribed", names, when)           relay.unsubscribed
    ("paused",), ("resumed",)               relay.paused, relay.resumed
    ("event", id, type, key)                id None: ephemeral; key: which publish this is
    ("event", id, type, key, keys)          the same with the texts of others joined before its own
    ("dropped", id, count)                  relay.dropped; id None: the block had none
    ("end", topic, id, reason)              relay.end
    ("over",)                               204 in place of a stream
    ("enough",)                             it has been told the end twice, and does not come again
    ("broken", text)                        what came is no whole stream
    ("gap", id, from, to, reason)           relay.gap; id None: the block had none; from None: null
    ("close", why)                          the connection ended

A client's state goes on from round to round, as its life does. What concerns tokens is in access.py.
"""

from access import LEAK
from account import Account, outstanding
from client import Client, Violation
from ledger import APPENDED, BRIDGE, CHANGE, COALESCED, DROPPED, DUPLICATE, END, FALSE_GAP, FORGOTTEN, HOLE, KEPT, KINDS, LANE, LOG
from ledger import LOST, ORDER, STRAY, End, Event, Ledger, Publish, pattern_matches
from logbook import judge_log, show

__all__ = [
    "APPENDED", "BRIDGE", "CHANGE", "COALESCED", "DROPPED", "DUPLICATE", "END", "FALSE_GAP", "FORGOTTEN", "HOLE", "KEPT", "KINDS", "LANE",
    "LOG", "LOST", "ORDER", "STRAY", "Account", "Client", "End", "Event", "Judge", "Ledger", "Publish", "Violation",
    "judge_log", "outstanding", "pattern_matches", "show",
]  # fmt: skip


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
        self.account = Account(client, records, ledger)
        self.had = set()  # ids, as far as the walk has come
        self.merged = self.joined = self.dropped = 0
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
        concerns = self.account.concerns()
        self.undelivered |= {e.id for e in concerns if e.state == LOST}
        self.owed = {e.id for e in concerns if self.account.may_want(e)} if self.ledger.forked else set()
        for at, record in enumerate(self.records):
            getattr(self, "_on_" + record[0])(at, *record[1:])
        self.client.missed = sorted(self.undelivered)
        self.client.terms.forget_old()
        passed = [e.id for e in concerns if not self.account.may_want(e)]
        self.client.passed = [id for id in [*self.client.passed, *passed] if id > self.client.last_id]

    def _on_open(self, at, cursor, credential=None):
        self.client.passport.open(credential)
        self.client.terms.opened(cursor)
        self.client.cursor = None
        self.client.opened_with = cursor
        if cursor is None:
            self.client.last_id = 0  # a new life
        self.client.ephemeral = set()
        self.client.ephemeral_last = {}
        self.client.ended = {}

    def _on_close(self, at, why):
        self.client.terms.closed(self.client.cursor)
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

    # --- other topics, and a pause ---

    def _on_asks(self, at, names):
        self.client.terms.asks(names, self.client.opened_with)

    def _on_patch(self, at, add, remove):
        self.client.terms.asked(add, remove, self.client.cursor)

    def _on_patched(self, at, status, names):
        self._changed(at, self.client.terms.answered(status, names, self.client.names))

    def _on_subscribed(self, at, names, low):
        self._try(at, self.client.passport.block())
        self._changed(at, self.client.terms.subscribed(names, low))

    def _on_unsubscribed(self, at, names, when):
        self._try(at, self.client.passport.block())
        self._changed(at, self.client.terms.unsubscribed(names, when, self.client.cursor))

    def _changed(self, at, wrong):
        if wrong:
            self._fault(CHANGE, wrong, at)

    def _on_pause(self, at):
        self.client.terms.pauses = True

    def _on_paused(self, at):
        self._try(at, self.client.passport.block())
        if not self.client.terms.pauses:
            self._fault(CHANGE, "paused, which nobody asked for", at)

    def _on_resumed(self, at):
        self._try(at, self.client.passport.block())
        if not self.client.terms.pauses:
            self._fault(CHANGE, "resumed, and nobody had paused it", at)

    def _on_connected(self, at, id, connection=None):
        self.client.terms.connected(id, connection)
        self._try(at, self.client.passport.block() or self.client.passport.let_in())
        if self.client.cursor is not None:
            self._fault(ORDER, "relay.connected is not the first block", at)
        if id is None:
            self.client.cursor = None  # a gap (unknown-id) will bring it
            return
        if self.client.opened_with is not None and id != self.client.opened_with:
            self._fault(ORDER, f"relay.connected says {id}, the cursor was {self.client.opened_with}", at)
        self.client.cursor = id

    def _on_event(self, at, id, type, key, joined=()):
        self._try(at, self.client.passport.block())
        if id is None:
            self._ephemeral(at, key)
        else:
            self._joined(at, id, type, key, joined)
            self._logged(at, id, type, key)

    # --- flow control ---

    def _joined(self, at, id, type, key, joined):
        """Texts before that of the block's own event: neighbours of one topic, key and type, in their order."""
        last = self.ledger.find(id)
        low = self.client.cursor or 0
        for text in joined:
            known = self.ledger.known_as(text)
            found = [e for e in known if low < e.id < id]
            self.joined += 1
            self.delivered += 1
            if not found:
                if known or not self.ledger.rewound:
                    before = bool(known) and min(e.id for e in known) <= low
                    what = f"the text of {text} {known} is joined to {key}={id}, after {low}"
                    self._fault(DUPLICATE if before else LANE, what, at)
                continue
            event = found[0]
            low = event.id
            self.had.add(low)
            self.undelivered.discard(low)
            if last and (event.lane != APPENDED or last.lane != APPENDED or event.slot != last.slot):
                what = f"the text of {event} ({event.lane}, {event.slot}) is joined to {last} ({last.slot})"
                self._fault(LANE, what, at)
            if event.type != type:
                self._fault(LANE, f"the text of {event} of type {event.type} is in a block of type {type}", at)
            self._published(at, text, type)

    def _on_dropped(self, at, id, count):
        """A count stands where the loss is: for just what is missing since the id before."""
        self._try(at, self.client.passport.block())
        self.dropped += count
        low = self.client.cursor or 0
        if id is not None:
            self._move(at, id, "dropped")
        if count < 1:
            self._fault(DROPPED, f"{count} events dropped", at)
        elif not self.client.drops:
            if id is not None:
                self._fault(DROPPED, f"{count} events up to {id} dropped by a policy that reads on", at)
        elif id is None and self.client.types:
            self._fault(DROPPED, "events without an id dropped, where a filter leaves none", at)
        elif id is not None:
            self._count(at, low, id, count)

    def _count(self, at, low, high, count):
        """How many are missing, at least and at most: a value that a later one replaced may have been dropped first,
        and so may what a failover forgot, or what a gap tells besides. Of events without an id nobody knows, and no
        more of what the new primary had where the id is the old one's: it told the count."""
        missing = [e for e in self.ledger.between(low, high) if e.id not in self.had and self.account.may_want(e)]
        sure = [e for e in missing if self.account.owes(e) and not self._may_be_left_out(e)]
        sure = [] if self.ledger.forgot(high) else sure
        open_ended = not self.client.types or self.ledger.rewound
        if count < len(sure) or (count > len(missing) and not open_ended):
            wrong = f"{count} told as dropped behind {low} up to {high}; missing are {len(sure)} to {len(missing)}"
            self._fault(DROPPED, f"{wrong}: {missing[:5]}", at)

    def _may_be_left_out(self, event):
        if event.state == FORGOTTEN or self.account.covered(event.id):
            return True
        if any(s.excuses(event) for s in self.account.snapshots):
            return True
        return event.lane == COALESCED and any(
            later.id > event.id
            and later.lane == COALESCED
            and later.slot == event.slot
            and self.account.may_want(later)
            for later in self.account.concerns()
        )

    def _on_end(self, at, topic, id, reason):
        self._try(at, self.client.passport.block())
        known = self.ledger.ends.get(topic)
        if not self._may_come((topic,)):
            self._fault(STRAY, f"the end of {topic}, which was not asked for", at)
        before = self.client.ended.get(topic)  # another one, where Redis has forgotten the first
        if before and (before.id == id or not self.ledger.rewound):
            self._fault(DUPLICATE, f"the end of {topic} twice on one connection", at)
        if known != (id, reason) and not self.ledger.rewound:
            self._fault(END, f"{topic} ended as {known}, and is told as {id}, {reason}", at)
        if self.client.cursor is None or id > self.client.cursor:
            self._fault(END, f"the end of {topic}, {id}, is told after {self.client.cursor}", at)
        self.client.ended[topic] = End(id, reason)

    def _on_over(self, at):
        """204: only for who asked, where all has ended, and there is nothing more to tell."""
        ends = [self.ledger.ends.get(name) for name in self.client.names]
        cursor = self.client.opened_with
        if not self.client.finite:
            self._fault(END, "204 without finite=1", at)
        elif not self.ledger.rewound and None in ends:
            self._fault(END, f"204, and not all has ended: {ends}", at)
        elif not self.ledger.rewound and (cursor is not None or self.client.whole or self.client.snapshot):
            left = [e for e in self.ledger.of(self.client) if e.id > (cursor or 0) and self.client.wants(e)]
            left = [e for e in left if e.state == KEPT]
            if left:
                self._fault(END, f"204 for {cursor}, and there is more to tell: {left[:3]}", at)

    def _on_enough(self, at):
        pass

    def _on_broken(self, at, text):
        self._fault(ORDER, text, at)

    # --- events ---

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
        self.had.add(id)
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
        if event is not None and not self.ledger.rewound:
            self._behind_the_end(at, event)
        self._published(at, key, type)

    def _behind_the_end(self, at, event):
        for topic in event.topics:
            end = self.client.ended.get(topic) or self.ledger.ends.get(topic)
            if end and event.id > (-1 if topic in self.client.ended else end.id):
                self._fault(END, f"{event} on {topic}, which has ended: {end}", at)

    def _published(self, at, key, type, ephemeral=False):
        if self.ledger.publishes is None:
            return
        known = self.ledger.publishes.get(key)
        if known is None:
            self._fault(STRAY, f"nobody published {key}", at)
            return
        if not self._may_come(known.topics, known.at):
            self._fault(STRAY, f"{key} is on {','.join(known.topics)}, which was not asked for", at)
        if self.client.types and known.type not in self.client.types:
            self._fault(STRAY, f"{key} is of type {known.type}, which was not asked for", at)
        if not self.client.may_have(known.match):
            self._fault(LEAK, f"{key} is for {known.match}, and the client has {self.client.match}", at)
        self._try(at, self.client.passport.event(known.at))

    def _may_come(self, topics, published=None):
        return self.client.always_wants(topics) or self.client.terms.may_come(topics, published)

    def _may_miss(self, id):
        """Whether a gap that is told now may be for its sake."""
        event = self.ledger.find(id)
        return event is None or self._may_come(event.topics)

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
        if reason == "unknown-id":
            self.client.terms.complete(high)
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
            if not any(low < id <= high and self._may_miss(id) for id in [*self.undelivered, *self.client.passed]):
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
        account = self.account
        self.client.since, self.client.fresh = account.since, account.fresh
        if account.since is None:
            return
        for event in account.concerns():
            if event.id <= account.since or not account.owes(event):
                continue
            had, told = event.id in account.got, account.covered(event.id)
            if event.state == FORGOTTEN:
                self.forgotten["had" if had else "told" if told else "silent"] += 1
            elif had:
                continue
            elif account.excused(event):
                self.merged += not account.dropped(event.id)
            elif not told and event.id <= account.stranded:
                self.forgotten["stranded"] += 1
            elif not told:
                self._hole(event)
            elif event.id in self.late:
                self.forgotten["late"] += 1
            elif event.state == KEPT:
                self._fault(FALSE_GAP, f"{event} is in the log, but was told as lost", self._gap_over(event.id))

    def _gap_over(self, id):
        """Where in the transcript."""
        found = [i for i, r in enumerate(self.records) if r[0] == "gap"]
        return next(i for i in found if (self.records[i][2] or -1) < id <= self.records[i][3])

    def _hole(self, event):
        later = [i for i, r in enumerate(self.records) if r[0] == "event" and (r[1] or 0) > event.id]
        at = later[0] if later else max(0, len(self.records) - 1)
        what = f"{event} on {','.join(event.topics)} is missing and no gap covers it"
        if not later:
            what += " (nothing newer has come)"
        self._fault(HOLE, what, at if self.records else None)
