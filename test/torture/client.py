# SPDX-License-Identifier: Apache-2.0
"""Who listens, as the judge sees him. Part of checker.py."""

from access import Passport
from ledger import pattern_matches
from terms import Terms


class Violation:
    def __init__(self, kind, who, what, excerpt=()):
        self.kind = kind
        self.who = who
        self.what = what
        self.excerpt = list(excerpt)

    def __str__(self):
        lines = [f"{self.kind.upper()} {self.who}: {self.what}"]
        return "\n".join(lines + [f"      {line}" for line in self.excerpt])


class Client:
    """What a client asked for, and what of its life matters to the next round. @names: the topics and patterns that it
    always has; @extras: those that it may add and take away again."""

    def __init__(
        self, name, names, types=(), match=None, drops=False, snapshot=0, whole=False, finite=False, extras=()
    ):
        self.name = name
        self.drops = drops  # its policy may drop, and tells
        self.snapshot = snapshot  # how many events may belong to one; 0: it does not ask for it
        self.whole = whole  # it asks for its topics from their beginning
        self.finite = finite
        self.names = tuple(names)
        self.extras = tuple(extras)
        self.terms = Terms()
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
        self.ended = {}  # topic → End: told by relay.end

    def wants_topics(self, topics):
        """Whether it may ever want anything of these; always_wants(): whether it does all the time."""
        return any(self._match(t)[0] for t in topics)

    def always_wants(self, topics):
        return any(self._match(t)[1] for t in topics)

    def wants_topic(self, topic):
        return self._match(topic)[0]

    def _match(self, topic):
        if topic not in self._matches:
            always = any(pattern_matches(n, topic) for n in self.names)
            self._matches[topic] = always or any(pattern_matches(n, topic) for n in self.extras), always
        return self._matches[topic]

    def takes(self, event):
        """By what is not its topics."""
        return (not self.types or event.type in self.types) and self.may_have(event.match)

    def may_have(self, match):
        """Whether an event with this `match` is for it: every pair must be among those of its grant."""
        return all(value in self.match.get(name, ()) for name, value in (match or {}).items())

    def wants(self, event):
        return self.wants_topics(event.topics) and self.takes(event)
