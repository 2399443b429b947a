# SPDX-License-Identifier: Apache-2.0
"""The id rule of the lanes (docs/protocol.md 13, docs/architecture.md "Lanes") as code that is small enough to read, and
fourteen rules that look right and are not.

`Rule` is one connection's server side: what it has accepted and not yet committed (`pending`), what it has committed
(`queue`), and how far it is. It has no clock and no bytes: lanes.py moves those, cuts the connection, and judges what the
client got. Each wrong rule replaces one decision, so what it breaks is what that decision is for."""

LIMIT = 4  # pending and queue together, in events: small, so that short schedules reach it
PAGE = 3  # events that a page of the log may bring

BLOCK, DROP_OLDEST, DROP_NEWEST, DISCONNECT = "block", "drop-oldest", "drop-newest", "disconnect"

LANES = {"i": "instant", "b": "batched", "c": "coalesced", "a": "appended"}


class Event:
    """@number: which publish it is. @id is None of an ephemeral one, which no log has."""

    __slots__ = ("number", "id", "lane", "topic", "key", "is_wanted", "over_at")

    def __init__(self, number, id, lane, topic, key, is_wanted, over_at):
        self.number, self.id, self.lane, self.topic, self.key = number, id, lane, topic, key
        self.is_wanted, self.over_at = is_wanted, over_at

    def __repr__(self):
        return f"{LANES[self.lane]} {self.topic}.{self.key} {self.id or 'without id'}"


class Block:
    """What stands between two blank lines of the stream: some events (more than one where they were joined), what is
    told of dropped ones, or nothing but an id. @is_begun: the socket has a part of it."""

    __slots__ = ("id", "events", "dropped", "is_begun")

    def __init__(self, id, event=None, dropped=0):
        self.id, self.events, self.dropped, self.is_begun = id, [event] if event else [], dropped, False

    def last(self):
        return self.events[-1] if self.events else None


class Rule:
    """Nothing overtakes: what leaves early takes along whatever waits with a lower id."""

    name = "ours"

    def __init__(self, world, cursor, policy):
        self.world, self.policy = world, policy
        self.pending, self.queue = [], []
        self.cursor = cursor  # everything up to here has been accepted
        self.committed = cursor  # everything up to here has been queued, or passed over while nothing was pending
        self.told = cursor  # the highest id that the client has been sent, or will from the queue
        self.is_live = False
        self.is_paused = False
        self.is_closed = False
        self.is_due = False  # an instant is pending: it goes with the write that empties the queue
        self.wants_pages = True
        self.dropped, self.dropped_id = 0, None  # not told yet

    # --- decisions, each of which some wrong rule takes otherwise ----------------------------------------------------

    def slot(self, event):
        """What a coalesced event is the latest of."""
        return (event.topic, event.key)

    def may_supersede(self, event):
        """Whether it counts for a client's slots: only what the client is sent can stand for what it is not."""
        return event.is_wanted

    def block_of(self, event):
        return Block(event.id, event)

    def take_instant(self, event):
        self.pending.append(event)
        self.is_due = True
        self.drained()

    def commit(self):
        self.is_due = False
        events = sorted(self.pending, key=lambda event: event.number)
        self.put_all([event for event in events if not self.is_over(event)])
        self.pending = []
        self.committed = max(self.committed, self.cursor)

    def put_all(self, events):
        """Appended ones become one block only where they stand next to each other: then its id is above all before."""
        block = None
        for event in events:
            if block and self.joins(block, event):
                block.events.append(event)
                block.id = event.id
                self.told = max(self.told, event.id or 0)
                continue
            block = self.block_of(event)
            self.put(block)

    def position(self):
        """The id that a heartbeat may tell: below the first that waits."""
        ids = [event.id for event in self.pending if event.id]
        return min(ids) - 1 if ids else self.cursor

    def replay_from(self):
        """`told` may be the higher one: a position below what waits, above what was superseded."""
        return max(self.committed, self.told)

    def dropped_block(self):
        return Block(self.dropped_id, dropped=self.dropped)

    def pause(self):
        self.is_paused = True

    def resume(self):
        self.is_paused = False
        if self.is_live:
            self.tick()
        else:
            self.wants_pages = True

    # --- the queue ---------------------------------------------------------------------------------------------------

    def is_over(self, event):
        return event.over_at is not None and self.world.now > event.over_at

    def joins(self, block, event):
        last = block.last()
        return (
            event.lane == "a"
            and last.lane == "a"
            and self.slot(last) == self.slot(event)
            and (last.id is None) == (event.id is None)
        )

    def put(self, block):
        self.tell_dropped()
        self.told = max(self.told, block.id or 0)
        self.queue.append(block)

    def tell_dropped(self):
        if not self.dropped:
            return
        block = self.dropped_block()
        self.dropped, self.dropped_id = 0, None
        self.told = max(self.told, block.id or 0)
        self.queue.append(block)

    def is_full(self):
        return len(self.queue) + len(self.pending) >= LIMIT

    # --- what does not fit -------------------------------------------------------------------------------------------

    def make_room(self, event):
        """True: @event may be taken now."""
        if self.policy == DISCONNECT:
            self.is_closed = True
        elif self.policy == DROP_NEWEST:
            self.drop_newest(event)
        elif self.policy == DROP_OLDEST:
            self.drop_oldest()
            return True
        elif event.id is None:
            self.dropped += 1  # no log has it
        else:
            self.fall_behind(event)
        return False

    def drop_newest(self, event):
        if event.id:
            self.commit()  # what waits has lower ids than what is told as dropped
            self.cursor = self.committed = self.dropped_id = event.id
        self.dropped += 1

    def drop_oldest(self):
        self.commit()
        for i, block in enumerate(self.queue):
            if not block.events or block.is_begun:
                continue
            before = self.queue[i - 1] if i else None
            if before and before.dropped and not before.is_begun:
                before.dropped += len(block.events)
                before.id = block.id or before.id
                del self.queue[i]
            else:
                self.queue[i] = Block(block.id, dropped=len(block.events))
            return

    def fall_behind(self, event):
        """What is pending is in the log. Without id: gone, and told."""
        self.dropped += sum(waiting.id is None for waiting in self.pending)
        self.pending, self.is_due = [], False
        self.cursor = self.committed = self.replay_from()
        self.is_live, self.wants_pages = False, not self.is_paused or event.lane == "i"

    # --- live --------------------------------------------------------------------------------------------------------

    def offer(self, event):
        if self.is_closed or (event.id and event.id <= self.cursor):
            return
        if not self.is_live:
            self.offer_behind(event)
            return
        if not event.is_wanted and event.id:
            self.cursor = event.id
            if not self.pending:
                self.committed = event.id
        if event.lane == "c" and self.may_supersede(event):
            self.supersede(event)
        if not event.is_wanted or (self.is_full() and not self.make_room(event)):
            return
        if event.id:
            self.cursor = event.id
        if event.lane == "i":
            self.take_instant(event)
        else:
            self.pending.append(event)

    def offer_behind(self, event):
        """The log brings what has an id; an instant makes a paused one read it."""
        if event.is_wanted and event.id is None:
            if len(self.queue) < LIMIT:
                self.put(self.block_of(event))
            else:
                self.dropped += 1
        elif event.is_wanted and event.lane == "i":
            self.wants_pages = True

    def supersede(self, event):
        def is_older(other):
            has_id = (other.id is None) == (event.id is None)
            return other.lane == "c" and has_id and self.slot(other) == self.slot(event)

        self.pending = [other for other in self.pending if not is_older(other)]

    def drained(self):
        if self.is_due and not self.queue and self.is_live:
            self.commit()

    def tick(self):
        """The flush is due. One that finds the queue not empty commits nothing."""
        if self.is_live and not self.is_paused and not self.queue:
            self.commit()

    def beat(self):
        if not self.is_live or self.queue:
            return
        self.tell_dropped()  # it may have an id below the position
        if self.told < self.position():
            self.put(Block(self.position()))

    def end(self):
        """A clean end: what waits goes before it."""
        self.commit()

    # --- the log -----------------------------------------------------------------------------------------------------

    def page(self):
        if self.is_live or self.is_closed or not self.wants_pages or len(self.queue) > LIMIT // 2:
            return
        events, end = [], self.committed
        for event in self.world.log:
            if event.id <= self.committed:
                continue
            if len(events) >= PAGE:
                break
            end = event.id
            if event.is_wanted and (event.lane == "c" or not self.is_over(event)):
                events.append(event)
        self.put_all([event for event in self.merged(events) if not self.is_over(event)])
        self.committed = self.cursor = max(self.committed, end)
        self.is_live = not self.world.log or self.world.log[-1].id <= self.committed

    def merged(self, events):
        """The last of each slot of a page."""
        last = {self.slot(event): event for event in events if event.lane == "c"}
        return [event for event in events if event.lane != "c" or last[self.slot(event)] is event]


# --- rules that look right -------------------------------------------------------------------------------------------


class Draft(Rule):
    """Instants overtake, without an id. A flush is what is batched, then what is coalesced in the order in which it was
    first seen; its last block has the id."""

    name = "draft"

    def __init__(self, *args):
        super().__init__(*args)
        self.first_seen = {}

    def take_instant(self, event):
        self.put(Block(None if self.pending else event.id, event))
        if not self.pending:
            self.committed = self.cursor

    def offer(self, event):
        if event.lane == "c" and event.is_wanted:
            self.first_seen.setdefault(self.slot(event), event.number)
        super().offer(event)

    def flushed(self):
        events = [event for event in self.pending if not self.is_over(event)]
        coalesced = [event for event in events if event.lane == "c"]
        coalesced.sort(key=lambda event: self.first_seen.get(self.slot(event), event.number))
        return [event for event in events if event.lane in "ba"] + coalesced

    def commit(self):
        events = self.flushed()
        has_id = any(event.id for event in events)
        for i, event in enumerate(events):
            self.put(Block(self.cursor if i == len(events) - 1 and has_id else None, event))
        self.settle()

    def settle(self):
        self.pending, self.first_seen = [], {}
        self.committed = max(self.committed, self.cursor)


class FlushOwnIds(Draft):
    """As the draft, but every block of a flush has its own id."""

    name = "flush-own-ids"

    def commit(self):
        for event in self.flushed():
            self.put(Block(event.id, event))
        self.settle()


class FlushIdFirst(Draft):
    """The first block of a flush has the highest id, so that no one is left over when it is cut."""

    name = "flush-id-first"

    def commit(self):
        for i, event in enumerate(event for event in self.pending if not self.is_over(event)):
            self.put(Block(self.cursor if i == 0 and event.id else None, event))
        self.settle()


class OvertakeWithId(Rule):
    """An instant goes at once, with its id."""

    name = "overtake-with-id"

    def take_instant(self, event):
        self.put(self.block_of(event))


class InstantWaits(Rule):
    """An instant waits for the flush as the others do."""

    name = "instant-waits"

    def take_instant(self, event):
        self.pending.append(event)


class PositionOfAccepted(Rule):
    """A heartbeat tells the id up to which everything has been accepted."""

    name = "position-of-accepted"

    def position(self):
        return self.cursor


class MergeInQueue(Rule):
    """A newer value takes the place of the older one in the queue, too, with its own id."""

    name = "merge-in-queue"

    def offer(self, event):
        is_new = event.id is None or event.id > self.cursor
        if self.is_live and event.lane == "c" and event.is_wanted and is_new:
            for block in self.queue:
                if self.is_older(block, event):
                    block.events, block.id = [event], event.id
                    self.cursor = event.id or self.cursor
                    return
        super().offer(event)

    def is_older(self, block, event):
        last = block.last()
        if last is None or block.is_begun or last.lane != "c":
            return False
        return self.slot(last) == self.slot(event) and (last.id is None) == (event.id is None)


class KeyOverTopics(Rule):
    """The key alone says what is the latest of what, whatever the topic."""

    name = "key-over-topics"

    def slot(self, event):
        return event.key


class MergeBeforeFilter(Rule):
    """What this client does not want (its type, its group) supersedes what it wants."""

    name = "merge-before-filter"

    def may_supersede(self, event):
        return True


class AppendAcross(Rule):
    """Deltas of one slot become one block also where something else stands between."""

    name = "append-across"

    def put_all(self, events):
        blocks = []
        for event in events:
            block = next((block for block in blocks if self.joins(block, event)), None)
            if block is None:
                blocks.append(self.block_of(event))
                continue
            block.events.append(event)
            block.id = event.id
            blocks.remove(block)
            blocks.append(block)
        for block in blocks:
            self.put(block)


class PauseFromLog(Rule):
    """While it is paused, batched events are left to the log, to be read when it resumes; instants flow meanwhile."""

    name = "pause-from-log"

    def __init__(self, *args):
        super().__init__(*args)
        self.left_from = None

    def offer(self, event):
        if not self.is_paused or event.lane != "b" or event.id is None:
            super().offer(event)
            return
        self.cursor = max(self.cursor, event.id)
        self.left_from = min(self.left_from or event.id, event.id)

    def resume(self):
        if self.left_from is None:
            super().resume()
            return
        self.is_paused = False
        self.committed = self.left_from - 1
        self.left_from = None
        self.is_live, self.wants_pages, self.pending = False, True, []


class OverflowFromAccepted(Rule):
    """Who falls behind reads on from what was accepted, not from what was queued."""

    name = "overflow-from-accepted"

    def fall_behind(self, event):
        self.committed = max(self.committed, self.cursor)
        super().fall_behind(event)


class LetGoUntold(Rule):
    """Who falls behind has everything in the log, and is told nothing."""

    name = "let-go-untold"

    def fall_behind(self, event):
        dropped = self.dropped
        super().fall_behind(event)
        self.dropped = dropped


class DroppedWithoutId(Rule):
    """What is told of dropped events has no id: a resume brings them, although they were told as lost."""

    name = "dropped-without-id"

    def dropped_block(self):
        return Block(None, dropped=self.dropped)

    def make_room(self, event):
        taken = super().make_room(event)
        for block in self.queue:
            if block.dropped:
                block.id = None
        return taken


WRONG = [
    AppendAcross,
    Draft,
    DroppedWithoutId,
    FlushIdFirst,
    FlushOwnIds,
    InstantWaits,
    KeyOverTopics,
    LetGoUntold,
    MergeBeforeFilter,
    MergeInQueue,
    OverflowFromAccepted,
    OvertakeWithId,
    PauseFromLog,
    PositionOfAccepted,
]
RULES = {rule.name: rule for rule in [Rule, *WRONG]}
