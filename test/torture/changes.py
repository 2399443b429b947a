# SPDX-License-Identifier: Apache-2.0
"""What clients want of a stream that is open (docs/protocol.md, 4.8): that it pauses, goes on, has other topics. Each
request goes through any node, or the proxy, and its answer may never come."""

import asyncio
import json
import random
import time
from collections import Counter
from urllib.parse import quote

from access import ACCESS, Credential
from checker import Violation
from ledger import CHANGE
from terms import ADD, REMOVE
from wire import http

TIMEOUT_S = 8  # of a request: a round waits for them
UNKNOWN = (0, 502, 503, 504)  # nobody knows whether it was done
REFUSED = (400, 401, 403, 404)
# Faults under which all nodes that live hear each other: else one may be taken for gone (10.6).
ALL_HEAR = ("none", "relay-kill", "relay-term", "relay-stop", "del-seq", "del-log", "flushall")


class Habits:
    """What one client does with its connection, and what it knows of it. @pool: topics and patterns that it adds and
    takes away; @pauses: whether it pauses now and then."""

    def __init__(self, pool=(), pauses=False):
        self.pool, self.pauses = tuple(pool), pauses
        self.has = []  # of the pool: what it asks for when it comes back
        self.number = 0  # of the connection
        self.denied = None  # (the number of one that there was not, what a node said)
        self._begin()

    def _begin(self):
        self.sent = {}  # name → ADD or REMOVE, whichever it asked for last
        self.awaited = set()  # names that were added, as the answer says: the stream must tell it, too
        self.unsure = set()  # names that may be there though it wants them no more
        self.told = set()  # names of which it was told since the last request
        self.asking = self.resuming = False
        self.may_be_paused = self.paused = False  # since it asked for it; as it was told
        self.resume_at = 0.0

    def opened(self):
        self.number += 1
        self._begin()

    @property
    def quiet(self):
        return not (self.asking or self.awaited or self.may_be_paused or self.paused)

    def subscribed(self, names):
        for name in names:
            self.told.add(name)
            self.awaited.discard(name)
            if self.sent.get(name) == ADD:
                self.has += [] if name in self.has else [name]
            else:
                self.unsure.add(name)  # an older request came through at last

    def unsubscribed(self, names):
        self.has = [n for n in self.has if n not in names]
        self.awaited -= set(names)

    def choose(self, rng):
        """(what to add, what to take away): both may be empty."""
        free = [n for n in self.pool if n not in self.has and n not in self.unsure]
        add = rng.sample(free, min(len(free), rng.choice((0, 1, 1, 2))))
        remove = rng.sample(self.has, min(len(self.has), rng.choice((0, 0, 1, 1, 2))))
        return add, remove + [n for n in self.unsure if n not in remove]

    def ask(self, add, remove):
        self.sent |= {n: ADD for n in add} | {n: REMOVE for n in remove}
        self.has = [n for n in self.has if n not in remove]
        self.told = set()
        self.asking = True

    def answered(self, status, add, remove):
        if status == 200:
            self.unsure -= set(remove)
            self.awaited |= set(add) - self.told
        elif status in REFUSED:
            self.has += [n for n in remove if n not in self.has and n not in self.unsure]
        else:
            self.unsure |= set(remove)


class Changes:
    def __init__(self, world, streams, running, seed, logins=None):
        self.world, self.running, self.logins = world, running, logins
        self.changing = [s for s in streams if s.habits.pool]
        self.pausing = [s for s in streams if s.habits.pauses]
        self.streams = streams
        self.rng = random.Random(f"{seed}/changes")
        self.counts = Counter()
        self.complaints = []
        self.tasks = set()

    def start(self):
        return [asyncio.create_task(t()) for t in (self._change_some, self._pause_some, self._resume_all)]

    def spawn(self, coroutine):
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def calm(self, timeout=2 * TIMEOUT_S):
        """Returns when no topics are being changed. Whatever is paused is being resumed."""
        for _ in range(int(timeout / 0.01)):
            if not any(s.habits.asking for s in self.changing):
                return
            await asyncio.sleep(0.01)
        raise TimeoutError("a change of topics still waits for its answer")

    async def _pick(self, streams, rate):
        """One of them, at so many a second while everybody publishes."""
        while True:
            await self.running.wait()
            await asyncio.sleep(self.rng.expovariate(rate))
            found = [s for s in streams if s.live and not s.hurry and not s.habits.asking]
            if found and self.running.is_set():
                return self.rng.choice(found)

    # --- topics ---

    async def _change_some(self):
        while self.changing:
            stream = await self._pick(self.changing, len(self.changing) / 3)
            add, remove = stream.habits.choose(self.rng)
            if add or remove:
                self.spawn(self._change(stream, add, remove))

    async def _change(self, stream, add, remove):
        habits, number = stream.habits, stream.habits.number
        stream.record("patch", tuple(add), tuple(remove))
        habits.ask(add, remove)
        lists = {"subscribe": add, "unsubscribe": remove}
        lists = {k: v for k, v in lists.items() if v or self.rng.random() < 0.3}
        status, answer = await self._ask(stream, "PATCH", "", lists)
        self._count("changed", status)
        if number != habits.number:
            return
        habits.asking = False
        if not stream.live:
            return
        names = ()
        if status == 200:
            answer = json.loads(answer)
            names = tuple(answer["topics"])
            if answer["query"] != "&".join(f"topic={quote(n, safe='')}" for n in names):
                self.complain(stream, f"the query of {names} is {answer['query']}")
        stream.record("patched", status, names)
        habits.answered(status, add, remove)

    # --- pauses ---

    async def _pause_some(self):
        while self.pausing:
            stream = await self._pick(self.pausing, len(self.pausing) / 5)
            if not stream.habits.may_be_paused:
                self.spawn(self._pause(stream))

    async def _pause(self, stream):
        habits, number = stream.habits, stream.habits.number
        stream.record("pause")
        habits.may_be_paused = True
        habits.resume_at = time.monotonic() + self.rng.uniform(0.2, 3)
        status, _ = await self._ask(stream, "POST", "/pause")
        self._count("paused", status)
        if number == habits.number and status in REFUSED:
            habits.may_be_paused = False

    async def _resume_all(self):
        """Also who is told that it is paused, by a request that had been given up."""
        while True:
            await asyncio.sleep(0.05)
            for stream in self.streams:
                habits = stream.habits
                waits = stream.live and not habits.resuming and (habits.may_be_paused or habits.paused)
                if waits and (time.monotonic() > habits.resume_at or not self.running.is_set()):
                    habits.resuming = True
                    self.spawn(self._resume(stream))

    async def _resume(self, stream):
        """Until it is done, or the connection is another one."""
        habits, number = stream.habits, stream.habits.number
        while stream.live and number == habits.number:
            status, _ = await self._ask(stream, "POST", "/resume")
            self._count("resumed", status)
            if number != habits.number:
                return
            if status == 200:
                habits.may_be_paused = False
                break
            await asyncio.sleep(0.2)
        if number == habits.number:
            # Where it was told of the pause it is told of this, too. What comes late is looked after again.
            habits.resume_at = time.monotonic() + 1
            habits.resuming = False

    # --- a request ---

    async def _credential(self, stream):
        """(what is judged, query, headers); of whoever comes without: nothing."""
        visa = stream.visa
        if not visa:
            return None, "", []
        if visa.by_ticket and visa.ticket and self.rng.random() < 0.5:
            return Credential(visa.ticket.token, time.time()), f"?ticket={visa.ticket_text}", []
        token = visa.token if visa.token and self.rng.random() < 0.5 else await self.logins.login(visa)
        return Credential(token[0], time.time()), "", [f"Authorization: Bearer {token[1]}"]

    async def _ask(self, stream, method, action, body=None):
        """(status, answer); 0: there was none."""
        connection, number = stream.connection_id, stream.habits.number
        credential, query, headers = await self._credential(stream)
        port = self.world.front if self.rng.random() < 0.3 else self.rng.choice(self.world.relays).port
        text = b"" if body is None else json.dumps(body).encode()
        headers += ["Content-Type: application/json"] if text else []
        path = f"/connections/{connection}{action}{query}"
        try:
            status, answer = await http(port, method, path, text, headers, TIMEOUT_S)
        except (OSError, EOFError, asyncio.TimeoutError):
            return 0, b""
        if status == 404:
            stream.habits.denied = number, f"{method} {action or 'topics'}: {answer[:200]!r}"
        elif status == 401 and credential and self._may_refuse(stream, credential, query):
            pass
        elif status not in (200, *UNKNOWN):
            self.complain(stream, f"{method} {action}: {status} {answer[:200]!r} with {credential}", ACCESS)
        return status, answer

    def _may_refuse(self, stream, credential, query):
        law = self.logins.law
        lost = query and stream.visa.ticket and law.lost_at > stream.visa.ticket.issued
        return lost or law.may_refuse(credential, time.time())

    def complain(self, stream, what, kind=CHANGE):
        self.complaints.append(Violation(kind, stream.judged.name, what))

    def _count(self, what, status):
        self.counts[what if status == 200 else f"{what}: unknown" if status in UNKNOWN else f"{what}: no"] += 1

    # --- a round ---

    def judge(self, fault):
        """What is wrong beside the clients' transcripts, now that all have settled."""
        for stream in self.streams:
            habits = stream.habits
            if stream.live and habits.denied and habits.denied[0] == habits.number:
                self.counts["404, and it goes on"] += 1
                if fault in ALL_HEAR:
                    self.complain(stream, f"404 for its connection, and that goes on: {habits.denied[1]}")
            habits.denied = None
        found, self.complaints = self.complaints, []
        return found
