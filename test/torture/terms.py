# SPDX-License-Identifier: Apache-2.0
"""What a client asks for beside the topics that it always has (docs/protocol.md, 4.8): what it adds to an open stream
and takes away again, and the topic of its connection. Part of checker.py; knows the transcript and nothing else.

Of each such name it keeps **spans**, ids within which events are owed, and whether any may come at all just now.
"""

from ledger import pattern_matches

NEVER = 1 << 53  # no id is above it
ADD, REMOVE = "add", "remove"


def own_topic(connection_id):
    return f"connection.{connection_id}"


class Terms:
    def __init__(self):
        self.spans = {}  # name → [[low, high]]: owed are low < id ≤ high
        self._begin()

    def _begin(self):
        """Of the connection that is open."""
        self.present = []  # what it has beside the topics that are always there, as far as is known
        self.sent = {}  # name → ADD or REMOVE, whichever was asked for last
        self.added, self.removed = set(), set()  # names of which that was ever asked
        self.unsure = False  # whether nobody knows what became of a request
        self.gone = {}  # name → when it was told that it is taken away
        self.own = None
        self.pauses = False  # whether a pause was asked for
        self._before = []

    def copy(self):
        other = Terms()
        other.spans = {name: [list(s) for s in spans] for name, spans in self.spans.items()}
        other.present, other._before, other.sent = list(self.present), list(self._before), dict(self.sent)
        other.added, other.removed = set(self.added), set(self.removed)
        other.unsure, other.gone, other.own = self.unsure, dict(self.gone), self.own
        other.pauses = self.pauses
        return other

    # --- a connection ---

    def opened(self, cursor):
        """Without a cursor it is somebody new, to whom nothing of before is owed."""
        if cursor is None:
            self.spans = {}
        self._begin()

    def asks(self, names, cursor):
        """What the request names beside what every request of this client does."""
        self.present = list(names)
        for name in [n for n in self.spans if n not in names]:
            self._stop(name, cursor)

    def connected(self, id, connection):
        """From @id on the stream is complete; None: a gap over all before will say."""
        if connection:
            self.own = own_topic(connection)
        if id is not None:
            self.complete(id)

    def complete(self, id):
        for name in [*self.present, *([self.own] if self.own else ())]:
            self._start(name, id)

    def closed(self, cursor):
        """Another connection has another topic."""
        if self.own:
            self._stop(self.own, cursor)

    # --- a change: each returns what is wrong, or None ---

    def asked(self, add, remove, cursor):
        self._before = list(self.present)
        for name in add:
            self.sent[name] = ADD
            self.added.add(name)
        for name in remove:
            self.sent[name] = REMOVE
            self.removed.add(name)
            self._stop(name, cursor)
        self.present = [n for n in self.present if n not in remove]
        self.present += [n for n in add if n not in self.present]

    def answered(self, status, names, always):
        """@names: what the answer says that the stream has."""
        if status == 200:
            wrong = not self.unsure and sorted(names) != sorted([*always, *self.present])
            return f"the answer names {names}, and it has {[*always, *self.present]}" if wrong else None
        if status in (400, 401, 403, 404):
            self.present = self._before
        else:
            self.unsure = True
        return None

    def subscribed(self, names, low):
        """relay.subscribed."""
        for name in names:
            if self.sent.get(name) == ADD:
                self._start(name, low)
                self.gone.pop(name, None)
        unasked = [n for n in names if n not in self.added]
        return f"subscribed to {unasked}, which nobody asked for" if unasked else None

    def unsubscribed(self, names, when, cursor):
        """relay.unsubscribed. It may be of a request that nobody knew the end of, and come late."""
        for name in names:
            self._stop(name, cursor)
            self.gone[name] = when
        unasked = [n for n in names if n not in self.removed]
        return f"unsubscribed from {unasked}, which nobody asked for" if unasked else None

    # --- spans ---

    def _start(self, name, low):
        spans = self.spans.setdefault(name, [])
        if spans and spans[-1][1] == NEVER:
            spans[-1][0] = min(spans[-1][0], low)
        else:
            spans.append([low, NEVER])

    def _stop(self, name, cursor):
        spans = self.spans.get(name)
        if spans and spans[-1][1] == NEVER:
            spans[-1][1] = cursor or 0

    def forget_old(self):
        """A round is over: what was owed in it is judged."""
        self.spans = {n: s[-1:] for n, s in self.spans.items() if s[-1][1] == NEVER}

    # --- events ---

    def own_topics(self):
        return [n for n in self.spans if n.startswith("connection.")]

    def has_own(self, topics):
        """Whether one of these is, or was, that of its connection."""
        return any(t in self.spans for t in topics)

    def owes(self, event, forked=False):
        """@forked: two servers took events. What order forbids to give is told later, to who still asks for it."""
        return any(
            low < event.id <= high and not (forked and high < NEVER)
            for name, spans in self.spans.items()
            if any(pattern_matches(name, t) for t in event.topics)
            for low, high in spans
        )

    def may_come(self, topics, published=None):
        """Whether an event on these topics may come now. @published: when whoever published it began to; what is
        taken away brings nothing that came after it was told so."""
        names = [n for n in {*self.present, *self.added, *self.removed} if self._is_there(n, published)]
        names += [self.own] if self.own else []
        return any(pattern_matches(n, t) for n in names for t in topics)

    def _is_there(self, name, published):
        if self.unsure or name not in self.gone or published is None:
            return True
        return self.sent.get(name) == ADD or published <= self.gone[name]
