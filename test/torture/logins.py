# SPDX-License-Identifier: Apache-2.0
"""Who may read: an issuer whose keys rotate, subjects with short tokens, tickets, renewals and revocations.

What all clients share that come with credentials (visa.py), and the tasks that rotate keys, renew and revoke. What is
known of all that is kept in the law of access.py, which is what the judge goes by.
"""

import asyncio
import json
import random
import re
import secrets
import signal
import time
from collections import Counter

from access import ACCESS, TWO_STREAMS, Law, Revocation, Token, judge_ghost, judge_ticket, overdue
from checker import Violation
from tokens import AuthFile, Issuer, Key, static_key
from visa import UNKNOWN, Visa
from wire import Redis, RedisError, http
from world import PREFIX

NAMESPACE = "default"
GROUPS = ("red", "green", "blue")
LEEWAY_S = 2
RECONNECT_S = 90
FILE_S = 10  # until a node must have found out that its key file is another one
DRAINING_S = 1.5  # the same for one that drains: it looks every second, and nobody asks it
TIMEOUT_S = 8  # of a request: a round waits for them
OPTIONS = {"auth.leeway": f"{LEEWAY_S}s", "auth.notice": "4s", "ticket.reconnect_grace": f"{RECONNECT_S}s"}
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
            await asyncio.sleep(DRAINING_S)  # a node that drains is not asked, and looks at the file, too
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
            wrong_since = None
            while True:
                status = await self._answer(relay, key)
                if status == wanted:
                    break
                now = time.monotonic()
                wrong_since = None if status == 0 else wrong_since or now
                if wrong_since and now > wrong_since + FILE_S:
                    self.complain(relay.name, f"{status} with {key.kid} after {FILE_S} s of another file, not {wanted}")
                    wrong_since = None
                await asyncio.sleep(0.1)

    async def _answer(self, relay, key):
        claims = self.issuer.claims(60, sub="probe", sse={"ns": NAMESPACE, "subscribe": ["solo"]})
        headers = [f"Authorization: Bearer {key.sign(claims)}"]
        try:
            return (await http(relay.port, "HEAD", "/events?topic=solo", b"", headers, TIMEOUT_S))[0]
        except (OSError, EOFError, asyncio.TimeoutError):
            return 0

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
