# SPDX-License-Identifier: Apache-2.0
"""Judges who was sent what: docs/protocol.md section 14, and nothing else. Part of checker.py.

What it knows is the **law**: the revocations and what became of each, the keys that were taken from the file, and
from when on Redis had lost its data. Times are Unix seconds of the one clock that all processes here have.
A transcript has these records besides those of checker.py:

    ("open", cursor, credential)    with a token or ticket; without the third element nobody knows who it is
    ("right", tokens)               what the stream lives by from here on: one token; several while a renewal is unsure
    ("expiring", milliseconds)      relay.expiring
    ("shutdown", reason, when)      relay.shutdown
    ("refused", status, when)       401 or 403 in place of a stream
"""

from collections import namedtuple

LEAK, ACCESS, TWO_STREAMS = "leak", "access", "two-streams"

# The second in which a revocation must reach everybody (14.9), and what a timer or another clock may be late.
GRACE_S = 1.0
# A node that is cut off from Redis is told again that a stream has been replaced: at once, and then after 1, 2 and 4
# seconds more, each of which may take 2 to be found out.
REPLACED_S = 15.0

Token = namedtuple("Token", "sub jti kid iat exp")


class Credential:
    """What a stream was asked for with. @at: when."""

    def __init__(self, token, at, use=None):
        self.token = token  # a ticket's: the one that it was issued for
        self.at = at
        self.use = use  # of a ticket

    def __repr__(self):
        what = "ticket of " if self.use else ""
        t = self.token
        return f"{what}{t.sub} jti={t.jti} kid={t.kid} iat={t.iat} exp={t.exp} at {self.at:.2f}"


class Revocation:
    """@acked: when it was known to be done; None: it may be, or may be about to be. A subject's tokens are revoked for
    sure where they were issued at the second @low or before, and perhaps up to @high."""

    def __init__(self, kind, value, sent, acked=None, before=None):
        self.kind, self.value = kind, value
        self.sent = sent
        self.acked = None
        self.sure = False
        self.before = before
        self.low, self.high = int(sent), float("inf")
        if before is not None:
            self.low = self.high = before
        if acked is not None:
            self.done(acked)

    def done(self, when):
        self.acked = when
        self.sure = True
        self.settle(when)

    def settle(self, when):
        """Whatever became of it, it is over by @when."""
        if self.before is None:
            self.high = min(self.high, int(when))

    def _names(self, token):
        return getattr(token, self.kind) == self.value

    def surely_hits(self, token):
        return self.sure and self._names(token) and (self.kind != "sub" or token.iat <= self.low)

    def may_hit(self, token):
        return self._names(token) and (self.kind != "sub" or token.iat <= self.high)

    def __repr__(self):
        acked = f"{self.acked:.2f}" if self.acked else None
        return f"{self.kind} {self.value} [{self.low}, {self.high}] sent {self.sent:.2f} acked {acked} sure={self.sure}"


class Ticket:
    """@issued: when it was asked for."""

    def __init__(self, token, issued):
        self.token = token
        self.issued = issued
        self.uses = []

    def must_refuse(self, use, law):
        """Why it should have been refused for @use; None: it need not."""
        if use.cursor is not None or law.lost_at > self.issued:
            return None
        others = [u for u in self.uses if u is not use and u.connected is not None]
        if any(u.cursor is None or u.connected < use.at for u in others):
            return "it has opened another, and there is no cursor"
        return None

    def may_refuse(self, use, when, law):
        """Why it may be worthless for @use: not known to be good is enough."""
        before = [u for u in self.uses if u is not use]
        if law.lost_at > self.issued:
            return "Redis lost its data"
        if any(u.at <= when and (u.connected or u.ended or when) >= use.at for u in before):
            return "another asked with it at the same time, and was the later one"
        if not before:
            return "it was not used in time" if when > self.issued + law.ticket_s else None
        if use.cursor is None or law.grace_s == 0:
            return "it was used before, and there is no cursor"
        ended = [u.ended or when for u in before]
        return "its stream ended too long ago" if when > max(ended) + law.grace_s else None


class Use:
    """A connection that a ticket opened, or tried to. Times of it; the keys of the events that it brought."""

    def __init__(self, ticket, cursor, at):
        self.ticket = ticket
        self.cursor = cursor
        self.at = at
        self.connected = None
        self.ended = None
        self.keys = []
        ticket.uses.append(self)


class Law:
    def __init__(self, leeway_s=0.0, grace_s=60.0, ticket_s=30.0):
        self.leeway_s = leeway_s
        self.grace_s = grace_s  # of a ticket's reconnect
        self.ticket_s = ticket_s  # until its first use
        self.revocations = {}  # (kind, value) → list
        self.dropped = {}  # key id → when it began to be taken from the file
        self.gone = {}  # key id → when every node had been seen without it
        self.lost_at = 0.0  # when Redis last lost data, or may have

    def add(self, revocation):
        self.revocations.setdefault((revocation.kind, revocation.value), []).append(revocation)
        return revocation

    def withdraw(self, revocation):
        """It was refused: nothing was done."""
        self.revocations[revocation.kind, revocation.value].remove(revocation)

    def settle(self, when):
        for found in self.revocations.values():
            for revocation in found:
                revocation.settle(when)

    def forget(self, since, when):
        """Redis has lost what it was told after @since. Nodes may still know it."""
        self.lost_at = when
        for found in self.revocations.values():
            for revocation in found:
                if revocation.acked is None or revocation.acked >= since:
                    revocation.sure = False

    def _about(self, token):
        for kind in ("sub", "jti", "kid"):
            yield from self.revocations.get((kind, getattr(token, kind)), ())

    def revoked_at(self, token):
        """When it was surely revoked; None: it is not known to be."""
        found = [r.acked for r in self._about(token) if r.surely_hits(token)]
        return min(found) if found else None

    def may_be_revoked(self, token):
        return any(r.may_hit(token) for r in self._about(token))

    def end_of(self, token):
        """From when on nothing that is published may reach a stream by this token, and why."""
        revoked = self.revoked_at(token)
        end = token.exp + self.leeway_s + GRACE_S
        if revoked is not None and revoked + GRACE_S < end:
            return revoked + GRACE_S, f"it was revoked at {revoked:.2f}"
        return end, f"its end was {token.exp}"

    def may_refuse(self, credential, when):
        """Why a credential may be refused that was presented, and answered at @when; None: it may not."""
        token = credential.token
        if token.exp + self.leeway_s <= when:
            return "expired"
        if self.may_be_revoked(token):
            return "revoked"
        if credential.use:
            return credential.use.ticket.may_refuse(credential.use, when, self)
        return "its key was dropped" if self.dropped.get(token.kid, when) < when else None


class Passport:
    """What a client's open connection lives by. Its methods return (kind, what is wrong), or None."""

    def __init__(self, law=None):
        self.law = law
        self.tokens = ()
        self.credential = None
        self.connected = False
        self.over = None  # the reason of its relay.shutdown

    def open(self, credential):
        self.credential = credential
        self.tokens = (credential.token,) if credential else ()
        self.connected = False
        self.over = None

    def block(self):
        """Anything that is not the connection's end."""
        if self.over:
            return (LEAK if self.over == "revoked" else ACCESS), f"something comes after relay.shutdown ({self.over})"
        return None

    def let_in(self):
        """relay.connected."""
        self.connected = True
        if not self.credential:
            return None
        token, at = self.credential.token, self.credential.at
        end, why = self.law.end_of(token)
        if end < at:
            return ACCESS, f"let in with {self.credential}, but {why}"
        gone = self.law.gone.get(token.kid)
        if gone is not None and gone < at and not self.credential.use:
            return ACCESS, f"let in with {self.credential}, whose key was gone at {gone:.2f}"
        use = self.credential.use
        spent = use and use.ticket.must_refuse(use, self.law)
        return (ACCESS, f"let in with {self.credential}, but {spent}") if spent else None

    def event(self, published):
        """@published: when whoever published it began to."""
        if not self.tokens:
            return None
        ends = [self.law.end_of(t) for t in self.tokens]
        end, why = max(ends)
        if published > end:
            return LEAK, f"published at {published:.2f}, and sent to a stream of {self.tokens[0]}, but {why}"
        return None

    def expiring(self):
        if not self.connected:
            return ACCESS, "relay.expiring before relay.connected"
        return None if self.tokens else (ACCESS, "relay.expiring without a token")

    def shutdown(self, reason, when):
        self.over = reason
        if reason == "drain":
            return None
        if not self.tokens:
            return ACCESS, f"ended as {reason} without a credential"
        if reason == "revoked":
            fine = any(self.law.may_be_revoked(t) for t in self.tokens)
        elif reason == "token-expired":
            fine = min(t.exp for t in self.tokens) <= when
        elif reason == "replaced":
            fine = bool(self.credential.use) and len(self.credential.use.ticket.uses) > 1
        else:
            fine = False
        return None if fine else (ACCESS, f"ended as {reason} at {when:.2f} without a cause: {self.tokens}")

    def refused(self, status, when):
        if not self.credential:
            return ACCESS, f"{status} where nobody needs a credential"
        if status == 401 and self.law.may_refuse(self.credential, when):
            return None
        return ACCESS, f"{status} at {when:.2f} with {self.credential}, which is good"


def overdue(tokens, law, now):
    """Since when a stream that lives by @tokens should have ended, and why; or None."""
    if not tokens:
        return None
    end, why = max(law.end_of(t) for t in tokens)
    return (end, why) if end < now else None


def judge_ticket(ticket, publishes, law):
    """A ticket never has two open streams: [text], one for each pair of connections that says otherwise."""
    found = []
    if law.lost_at > ticket.issued:
        return found  # who had it is forgotten
    open_ones = [u for u in ticket.uses if u.connected is not None]
    for i, old in enumerate(open_ones):
        for new in open_ones[i + 1 :]:
            end = max(old.connected, new.connected) + REPLACED_S
            last = [max((publishes[k].at for k in u.keys if k in publishes), default=0.0) for u in (old, new)]
            # Who came when the other had already been served has taken its place. Else it may be either.
            still = last[0] if new.at > old.connected else min(last)
            if still > end:
                found.append(
                    f"two streams of one ticket of {ticket.token.sub}: opened at {old.connected:.2f} and "
                    f"{new.connected:.2f}, and the first still had an event that was published at {still:.2f}"
                )
    return found


def judge_ghost(client, records, credential, tokens, ledger):
    """A connection that its client has left for another, and that goes on: of what it brings only the right to it
    counts, not what is missing. @tokens: what it lived by when it was left. Returns [(kind, what, record)]."""
    passport = Passport(ledger.law)
    passport.open(credential)
    passport.tokens = tokens
    passport.connected = True
    found = []

    def take(record, fault):
        if fault:
            found.append((*fault, record))

    for record in records:
        what, *rest = record
        if what == "close":
            continue
        if what == "refused":
            take(record, passport.refused(*rest))
            continue
        take(record, passport.block())
        if what == "right":
            passport.tokens = rest[0]
        elif what == "connected":
            take(record, passport.let_in())
        elif what == "shutdown":
            take(record, passport.shutdown(*rest))
        elif what == "event":
            for key in (rest[2], *(rest[3] if len(rest) > 3 else ())):
                published = (ledger.publishes or {}).get(key)
                if published and not client.may_have(published.match):
                    take(record, (LEAK, f"{key} is for {published.match}, and the client has {client.match}"))
                if published:
                    take(record, passport.event(published.at))
    return found
