# SPDX-License-Identifier: Apache-2.0
"""Who may read: an issuer whose keys rotate, subjects with short tokens, tickets, renewals and revocations.

A `Visa` is how one client comes in: with a token in a header, or with a ticket in its URL. `Logins` has what all of
them share, and the tasks that rotate and revoke while everybody publishes. What is known of all that it keeps in the
law of access.py, which is what the judge goes by.
"""

import asyncio
import json
import random
import re
import secrets
import signal
import time
from collections import Counter

from access import ACCESS, TWO_STREAMS, Credential, Law, Revocation, Ticket, Token, Use, judge_ghost, judge_ticket, overdue
from checker import Violation
from tokens import AuthFile, Issuer, Key, static_key
from wire import Connection, Redis, RedisError, connect, http
from world import PREFIX

NAMESPACE = "default"
GROUPS = ("red", "green", "blue")
LEEWAY_S = 2
RECONNECT_S = 90
TIMEOUT_S = 8  # of a request: a round waits for them
OPTIONS = {"auth.leeway": f"{LEEWAY_S}s", "auth.notice": "4s", "ticket.reconnect_grace": f"{RECONNECT_S}s"}
# Until somebody knows better: what a proxy says whose node died, and what a node says that nobody answered.
UNKNOWN = (0, 502, 503, 504)
SECRETS = re.compile(rb"eyJ[\w-]+\.[\w-]+\.|" + NAMESPACE.encode() + rb"~[\w-]{32}|torture-(?:admin|backend)-[0-9a-f]")


class Subject:
    def __init__(self, name, rng):
        self.name = name
        self.match = {"user": [name], "group": rng.sample(GROUPS, rng.randint(0, 2))}
        self.match = {k: v for k, v in self.match.items() if v}
        self.shared = None  # a token that several of its clients have


class Logins:
    def __init__(self, directory, seed):
        self.rng = random.Random(f"{seed}/logins")
        self.law = Law(LEEWAY_S, RECONNECT_S)
        self.issuer = Issuer(directory / "auth", "https://torture.example", alg="HS256", kid="k1", namespaces=[NAMESPACE])
        self.signing = self.issuer.key
        self.keys = [f"torture-{who}-{secrets.token_hex(20)}" for who in ("admin", "backend")]
        self.file = AuthFile(
            directory / "auth" / "auth.json",
            issuers=[self.issuer.entry()],
            keys=[
                static_key("admin", self.keys[0], ns=NAMESPACE, admin=True),
                static_key("backend", self.keys[1], ns=NAMESPACE, publish=[">"]),
            ],
            anonymous={"ns": NAMESPACE, "subscribe": [">"]},
        )
        self.subjects = []
        self.visas = []
        self.ghosts = []
        self.tickets = []
        self.complaints = []
        self.counts = Counter()
        self.slowest = 0.0  # from a revocation's answer to the end of a stream
        self.in_flight = 0
        self.tasks = set()

    def options(self):
        return {"auth.file": self.file.path, **OPTIONS}

    def issue_visas(self, count):
        """One for each client, None for those that come without credentials."""
        self.subjects = [Subject(f"user-{i}", self.rng) for i in range(max(3, count // 5))]
        for i in range(count):
            how = self.rng.random()
            if how < 0.3:
                yield None
                continue
            visa = Visa(self, self.subjects[i % len(self.subjects)], by_ticket=how > 0.65)
            self.visas.append(visa)
            yield visa

    def start(self, world, running):
        """@running: while it is set, somebody is revoked now and then."""
        self.world, self.running = world, running
        return [asyncio.create_task(t()) for t in (self._revoke, self._rotate, self._renew)]

    def spawn(self, coroutine):
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def complain(self, who, what):
        self.complaints.append(Violation(ACCESS, who, what))

    # --- tokens ---

    async def login(self, visa, match=None):
        """(what counts of it, its text): a token that is newer than all that was revoked of its subject."""
        subject = visa.subject
        about = self.law.revocations.get(("sub", subject.name), ())
        while any(int(time.time()) <= r.high != float("inf") for r in about):
            await asyncio.sleep(0.05)
        life = self.rng.choice((self.rng.randint(6, 20), self.rng.randint(20, 60)))
        rights = {"ns": NAMESPACE, "subscribe": visa.subscribe, "match": subject.match if match is None else match}
        claims = self.issuer.claims(life, sub=subject.name, sse=rights)
        self.counts["tokens"] += 1
        kid = self.signing.kid
        return Token(subject.name, claims["jti"], kid, claims["iat"], claims["exp"]), self.signing.sign(claims)

    def port(self):
        """Of any node, or of the proxy."""
        return self.world.front if self.rng.random() < 0.3 else self.rng.choice(self.world.relays).port

    async def post(self, path, body, credential):
        """(status, answer); 0: there was none."""
        headers = [f"Authorization: Bearer {credential}"]
        body = json.dumps(body).encode() if body else b""
        try:
            if body:
                headers.append("Content-Type: application/json")
            return await http(self.port(), "POST", path, body, headers, TIMEOUT_S)
        except (OSError, EOFError, asyncio.TimeoutError):
            return 0, b""

    # --- revocations ---

    async def _revoke(self):
        while True:
            await self.running.wait()
            await asyncio.sleep(self.rng.uniform(0.2, 1.0))
            with_token = [v for v in self.visas if v.token]
            if not with_token or not self.running.is_set():
                continue
            token = self.rng.choice(with_token).token[0]
            if self.rng.random() < 0.65:
                before = int(time.time()) if self.rng.random() < 0.3 else None
                await self.revoke("sub", token.sub, before)
            else:
                await self.revoke("jti", token.jti)

    async def revoke(self, kind, value, before=None):
        revocation = self.law.add(Revocation(kind, value, time.time(), before=before))
        self.in_flight += 1
        try:
            by_http = self.rng.random() < 0.5
            outcome = await (self._revoke_http if by_http else self._revoke_fcall)(revocation)
        finally:
            self.in_flight -= 1
        self.counts["revocations"] += outcome == "done"
        if outcome == "done":
            revocation.done(time.time())
        elif outcome == "refused":
            self.law.withdraw(revocation)

    async def _revoke_http(self, revocation):
        body = {revocation.kind: revocation.value}
        if revocation.before is not None:
            body["before"] = revocation.before
        status, answer = await self.post("/revoke", body, self.keys[0])
        if status == 200:
            return "done"
        if status not in UNKNOWN:
            self.complain("admin", f"POST /revoke: {status} {answer[:200]!r}")
        return "unknown"

    async def _revoke_fcall(self, revocation):
        args = [revocation.kind, revocation.value]
        if revocation.before is not None:
            args += ["before", revocation.before]
        try:
            async with Redis(self.world.primary.port) as r:
                await r("FCALL", "sse_revoke", 1, PREFIX, *args, timeout=TIMEOUT_S)
        except RedisError:
            return "refused"
        except (OSError, asyncio.TimeoutError):
            return "unknown"
        return "done"

    # --- keys ---

    async def _rotate(self):
        """Two keys in the file; the newer one signs once every node knows it, and then the older one goes."""
        number = 1
        while True:
            await asyncio.sleep(self.rng.uniform(4, 10))
            number += 1
            old, new = self.signing, Key("HS256", f"k{number}", name=f"{self.issuer.iss} {number} {id(self)}")
            await self._publish(old, new)
            await self._probe(new, 200)
            self.signing = new
            await asyncio.sleep(self.rng.uniform(2, 6))
            if self.rng.random() < 0.3 and self.running.is_set():
                await self.revoke("kid", old.kid)
            self.law.dropped[old.kid] = time.time()
            await self._publish(new)
            await self._probe(old, 401)
            self.law.gone[old.kid] = time.time()
            self.counts["rotations"] += 1

    async def _publish(self, *keys):
        self.issuer.publish_keys(*keys)
        told = self.rng.random() < 0.5
        for relay in self.world.relays:
            if told and await relay.is_ready():  # before that a signal may be its end
                relay.signal(signal.SIGHUP)

    async def _probe(self, key, wanted):
        """Until every node has answered so to a token that is signed with this key."""
        for relay in self.world.relays:
            status = 0
            while status != wanted:
                claims = self.issuer.claims(60, sub="probe", sse={"ns": NAMESPACE, "subscribe": ["solo"]})
                headers = [f"Authorization: Bearer {key.sign(claims)}"]
                try:
                    status, _ = await http(relay.port, "HEAD", "/events?topic=solo", b"", headers, TIMEOUT_S)
                except (OSError, EOFError, asyncio.TimeoutError):
                    status = 0
                await asyncio.sleep(0.1)

    # --- renewals ---

    async def _renew(self):
        """Most clients ask for a new token when they are told that theirs ends (Visa.expiring); some just so."""
        while True:
            await asyncio.sleep(self.rng.uniform(0.05, 0.4))
            live = [v for v in self.visas if v.stream and v.stream.live and not v.renewing]
            if not live:
                continue
            visa = self.rng.choice(live)
            if self.rng.random() < 0.1:
                await self._renew_by_another(visa)
            else:
                self.spawn(visa.renew())

    async def _renew_by_another(self, visa):
        """With a token of somebody else: never."""
        other = self.rng.choice([v for v in self.visas if v.subject is not visa.subject] or [None])
        if not other:
            return
        _, text = await self.login(other)
        status, _ = await self.post(f"/connections/{visa.stream.connection_id}/token", None, text)
        if status not in (401, 403, 404, *UNKNOWN):
            self.complain(other.subject.name, f"renewed a stream of {visa.subject.name}: {status}")

    # --- a round ---

    async def pause(self, timeout=30):
        """Returns when nobody is being revoked."""
        for _ in range(int(timeout / 0.01)):
            if not self.in_flight:
                return
            await asyncio.sleep(0.01)
        raise TimeoutError("a revocation still waits for its answer")

    def left_open(self, streams, since, patience_s):
        """Whether there are connections that should have ended. After so many seconds, from @since on at the earliest,
        they are violations, and are ended."""
        left = False
        now = time.time()
        for connection, kind, began, what in [*self._overdue(streams), *self._ghosts_left()]:
            if now < max(since, began) + patience_s:
                left = True
                continue
            client = connection.judged
            self.complaints.append(Violation(kind, client.name, f"still has a connection since {began:.2f}: {what}"))
            if connection.transport:
                connection.transport.abort()
        return left

    def _overdue(self, streams):
        for stream in streams:
            found = overdue(stream.visa.tokens, self.law, time.time()) if stream.visa and stream.live else None
            if found:
                yield stream, ACCESS, found[0], f"{found[1]} ({stream.visa.tokens})"

    def _ghosts_left(self):
        """Those that should have ended, as another has their ticket. The others are let go."""
        left = []
        for ghost in self.ghosts:
            if ghost.gone:
                continue
            ticket, use = ghost.credential.use.ticket, ghost.credential.use
            later = [u for u in ticket.uses if u.connected and use.connected and u.at > use.connected]
            if later and self.law.lost_at <= ticket.issued:
                left.append((ghost, TWO_STREAMS, max(u.connected for u in later), "its ticket has another"))
            elif ghost.transport:
                ghost.transport.abort()
        return left

    def judge(self, ledger):
        """What is wrong beside the clients' transcripts."""
        found, self.complaints = self.complaints, []
        for ghost in self.ghosts:
            for kind, what, record in judge_ghost(ghost.judged, ghost.records, ghost.credential, ghost.began, ledger):
                found.append(Violation(kind, f"{ghost.judged.name}, a connection that it left", f"{what} ({record})"))
            ghost.records, ghost.began = [], ghost.tokens
        self.ghosts = [g for g in self.ghosts if not g.gone]
        for ticket in self.tickets:
            found += [Violation(TWO_STREAMS, "ticket", text) for text in judge_ticket(ticket, ledger.publishes, self.law)]
            for use in ticket.uses:
                use.keys = []
        self.tickets = [t for t in self.tickets if any(v.ticket is t for v in self.visas)]
        return found

    def count_into(self, table):
        """What there was since the last time."""
        table["with-auth"] += 1
        table.update(self.counts)
        table["revoked-s"] = max(float(table["revoked-s"]), self.slowest)
        self.counts, self.slowest = Counter(), 0.0

    def spilled(self):
        """Logs that have a token, a ticket or a key in them."""
        logs = [r.dir / "log" for r in self.world.relays]
        return [f"{path} has a credential in it" for path in logs if SECRETS.search(path.read_bytes())]


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
        rival.query, rival.ticket, rival.ticket_text = stream.query, self.ticket, self.ticket_text
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
