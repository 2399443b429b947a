# SPDX-License-Identifier: Apache-2.0
"""How one client comes in: with a token in a header, or with a ticket in its URL. And the connections beside its own
that a ticket has: those that it has left open, and those of a rival."""

import asyncio
import json
import random
import time

from access import Credential, Ticket, Use
from wire import Connection, connect

# Until somebody knows better: what a proxy says whose node died, and what a node says that nobody answered.
UNKNOWN = (0, 502, 503, 504)


class Visa:
    def __init__(self, logins, subject, by_ticket):
        self.logins, self.law, self.rng = logins, logins.law, random.Random(logins.rng.random())
        self.subject, self.by_ticket = subject, by_ticket
        self.subscribe = [">"]
        # A ticket is worth less than its token for some.
        self.narrows = by_ticket and self.rng.random() < 0.4
        self.match = subject.match
        if self.narrows:
            self.match = {k: [self.rng.choice(v)] for k, v in subject.match.items() if self.rng.random() < 0.5}
        self.stream = None
        self.token = None  # (Token, text)
        self.ticket = None
        self.ticket_text = None
        self.use = None
        self.credential = None
        self.tokens = ()  # what the open stream lives by
        self.renewing = False
        self.number = 0  # of the connection

    def take_wishes(self, names):
        """Its tokens grant just that, or everything."""
        if self.rng.random() < 0.5:
            self.subscribe = list(names)

    # --- before a connection ---

    async def prepare(self, stream):
        """Gets what it takes. False: not now."""
        self.stream = stream
        if self.by_ticket:
            if self.ticket is None or (stream.cursor is None and self.ticket.uses and self.rng.random() < 0.7):
                await self._get_ticket()
            if self.ticket is None:
                return False
            if not self.ticket.uses and not stream.hurry and self.rng.random() < 0.1:
                self.logins.spawn(self._rival(stream))
            return True
        await self._get_token()
        return True

    async def _get_token(self):
        if self.token and self._is_good_enough(self.token[0]):
            return
        plain = self.subscribe == [">"]
        shared = self.subject.shared
        if plain and shared and self._is_good_enough(shared[0]) and self.rng.random() < 0.5:
            self.token = shared
            return
        self.token = await self.logins.login(self)
        if plain:
            self.subject.shared = self.token

    def _is_good_enough(self, token):
        """Now and then one that is not is shown all the same."""
        good = token.exp > time.time() + 1 and not self.law.may_be_revoked(token) and token.kid not in self.law.dropped
        return good or self.rng.random() < 0.05

    async def _get_ticket(self):
        await self._get_token()
        token, text = self.token
        asked = time.time()
        body = {"match": {k: v[0] for k, v in self.match.items()}} if self.narrows else None
        status, answer = await self.logins.post("/tickets", body, text)
        if status == 200:
            self.ticket, self.ticket_text = Ticket(token, asked), json.loads(answer)["ticket"]
            self.logins.tickets.append(self.ticket)
            self.logins.counts["tickets"] += 1
        elif status in (401, 403):
            self.token = None
            if status == 403 or not self.law.may_refuse(Credential(token, asked), time.time()):
                self.logins.complain(self.subject.name, f"POST /tickets: {status} {answer[:200]!r} for {token}")
        elif status not in UNKNOWN:
            self.logins.complain(self.subject.name, f"POST /tickets: {status} {answer[:200]!r}")

    def show(self, cursor):
        """(credential, what it adds to the query, headers) of a request that is sent now."""
        self.number += 1
        now = time.time()
        if self.by_ticket:
            self.use = Use(self.ticket, cursor, now)
            self.credential = Credential(self.ticket.token, now, self.use)
            more, headers = f"&ticket={self.ticket_text}", ""
        else:
            self.credential = Credential(self.token[0], now)
            more, headers = "", f"Authorization: Bearer {self.token[1]}\r\n"
        self.tokens = (self.credential.token,)
        return self.credential, more, headers

    # --- what becomes of it ---

    def connected(self):
        if self.use:
            self.use.connected = time.time()

    def event(self, key):
        if self.use:
            self.use.keys.append(key)

    def ended(self):
        self.tokens = ()
        if self.use:
            self.use.ended = time.time()

    def refused(self):
        self.logins.counts["refused"] += 1
        self.token = self.ticket = None

    def shutdown(self, reason):
        counts = self.logins.counts
        counts[f"ended {reason}"] += 1
        if reason == "revoked":
            told = [self.law.revoked_at(t) for t in self.tokens]
            if told and None not in told:
                self.logins.slowest = max(self.logins.slowest, time.time() - max(told))
        if reason in ("revoked", "token-expired") and self.rng.random() < 0.9:
            self.token = self.ticket = None

    def expiring(self, stream):
        self.logins.counts["told"] += 1
        if self.rng.random() < 0.7:
            self.logins.spawn(self.renew())

    def _live_by(self, *tokens):
        self.tokens = tokens
        self.stream.record("right", tokens)

    async def renew(self):
        """A new token for the stream that is open, by any node."""
        if self.renewing:
            return
        self.renewing = True
        try:
            number = self.number
            token, text = await self.logins.login(self, self.match)
            if number != self.number or not self.stream.live:
                return
            before = self.tokens
            self._live_by(*before, token)
            status, answer = await self.logins.post(f"/connections/{self.stream.connection_id}/token", None, text)
            self._renewed(status, answer, (token, text), before, number)
        finally:
            self.renewing = False

    def _renewed(self, status, answer, fresh, before, number):
        counts = self.logins.counts
        counts["renewed" if status == 200 else "not renewed"] += 1
        there = number == self.number and self.stream.live
        if status == 200:
            if there:
                self._live_by(fresh[0])
                if not self.by_ticket:
                    self.token = fresh
            return
        if status in (401, 403):
            if not self.law.may_refuse(Credential(fresh[0], time.time()), time.time()):
                self.logins.complain(self.subject.name, f"renewal: {status} {answer[:200]!r} for {fresh[0]}")
        elif status not in (404, *UNKNOWN):
            self.logins.complain(self.subject.name, f"renewal: {status} {answer[:200]!r}")
        if there and status in (401, 403, 404):
            self._live_by(*before)

    # --- two connections with one ticket ---

    def leave_ghost(self, stream):
        """Comes again, with the same ticket, while the connection is open. False: not this time."""
        if not self.by_ticket or not self.ticket or stream.slow or stream.cursor is None or self.rng.random() < 0.4:
            return False
        ghost = Ghost(self, self.credential, self.tokens)
        use, self.use = self.use, None
        ghost.adopt(stream)
        stream.detached()
        self.use = use
        self.logins.counts["left open"] += 1
        return True

    async def _rival(self, stream):
        """Somebody else has seen the URL, and asks at the same time."""
        rival = Ghost(self, None, ())
        rival.cursor = stream.cursor
        rival.query, rival.ticket, rival.ticket_text = stream.request_query(), self.ticket, self.ticket_text
        self.logins.counts["rivals"] += 1
        if await connect(self.logins.port(), lambda: rival):
            await asyncio.sleep(self.rng.uniform(1, 4))
            if rival.transport:
                rival.transport.abort()


class Ghost(Connection):
    """A connection that its client has left open, or one of a rival for its ticket."""

    def __init__(self, visa, credential, tokens):
        self.judged = visa.stream.judged
        self.logins = visa.logins
        self.credential = credential
        self.began = self.tokens = tokens  # of the round, and now
        self.records = []
        self.cursor = None
        self.transport = None
        self.gone = False
        if credential:
            self.logins.ghosts.append(self)

    def connection_made(self, transport):
        self.reset(transport)
        use = Use(self.ticket, self.cursor, time.time())
        self.credential = Credential(self.ticket.token, use.at, use)
        self.began = self.tokens = (self.ticket.token,)
        self.logins.ghosts.append(self)
        extra = "" if self.cursor is None else f"Last-Event-ID: {self.cursor}\r\n"
        path = f"/events?{self.query}&ticket={self.ticket_text}"
        transport.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n".encode())

    def connection_lost(self, exc):
        super().connection_lost(exc)
        self.transport = None

    def ended(self):
        self.gone = True
        self.credential.use.ended = time.time()

    def event(self, key):
        self.credential.use.keys.append(key)

    def connected(self, connection_id):
        self.credential.use.connected = time.time()

    def shutdown(self, reason):
        self.logins.counts[f"ended {reason}"] += 1
