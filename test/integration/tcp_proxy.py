# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy between a relay and its Redis that can stop forwarding while all connections stay open.

    proxy = TcpProxy(redis.port)               # listens on proxy.port, on 127.0.0.1
    proxy.freeze("subscriber")                 # those that called themselves sse-relay-subscriber, from now on
    proxy.thaw("subscriber")                   # what was held back is forwarded
    proxy.sever(); proxy.mend()                # no connection at all, and connections again

It learns which connection is which from the CLIENT SETNAME that it sees on it. A connection that is made while its kind
is frozen still gets as far as that command's answer, or nowhere with freeze(…, login=False).
"""

import re
import selectors
import socket
import threading

NAME = re.compile(rb"\$7\r\nSETNAME\r\n\$\d+\r\nsse-relay-([a-z]+)", re.IGNORECASE)


class Pair:
    """One connection: the relay's socket, and ours to Redis."""

    def __init__(self, relay, redis):
        self.relay, self.redis = relay, redis
        self.name = None
        self.began = b""  # until the name is known
        self.waiting = {relay: b"", redis: b""}  # by where it goes
        self.answered = False  # the login


class TcpProxy:
    def __init__(self, target_port, target_host="127.0.0.1"):
        self.target = (target_host, target_port)
        self.frozen = {}  # name → how many directions: "both" or "answers"
        self.severed = False
        self.accepted = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.listener, selectors.EVENT_READ)
        self._wake_r, self._wake_w = socket.socketpair()
        self._selector.register(self._wake_r, selectors.EVENT_READ)
        self._pairs = {}  # by either socket
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    # --- what a test does ---

    def freeze(self, name, direction="both", login=True):
        """Forwards nothing on connections of that name: "both" ways, only "answers" (from Redis) or only "commands"."""
        with self._lock:
            self.frozen[name] = (direction, login)

    def thaw(self, name):
        """What was held back goes on, where the other side is still there."""
        with self._lock:
            self.frozen.pop(name, None)
        self._wake_w.send(b"x")

    def names(self):
        """Of the connections that are open on the relay's side."""
        with self._lock:
            return sorted(str(p.name) for p in set(self._pairs.values()))

    def cut(self, name):
        """Closes the connections of that name, on both sides."""
        with self._lock:
            for pair in set(self._pairs.values()):
                if pair.name == name:
                    self._close(pair)

    def sever(self):
        """Closes all connections; those that come are closed at once."""
        with self._lock:
            self.severed = True
            for pair in set(self._pairs.values()):
                self._close(pair)

    def mend(self):
        self.severed = False

    @property
    def url(self):
        """Of the Redis behind it."""
        return f"redis://127.0.0.1:{self.port}"

    def close(self):
        self._closed = True
        self._wake_w.send(b"x")
        self._thread.join(10)

    # --- its thread ---

    def _run(self):
        while not self._closed:
            ready = self._selector.select()
            with self._lock:
                for key, _ in ready:
                    if key.fileobj is self._wake_r:
                        self._wake_r.recv(4096)
                    elif key.fileobj is self.listener:
                        self._accept()
                    elif key.fileobj in self._pairs:
                        self._read(self._pairs[key.fileobj], key.fileobj)
                for pair in set(self._pairs.values()):
                    self._forward(pair)
        with self._lock:
            for pair in set(self._pairs.values()):
                self._close(pair)
            self.listener.close()

    def _accept(self):
        relay, _ = self.listener.accept()
        self.accepted += 1
        if self.severed:
            relay.close()
            return
        try:
            redis = socket.create_connection(self.target, timeout=5)
        except OSError:
            relay.close()
            return
        pair = Pair(relay, redis)
        for s in (relay, redis):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.settimeout(20)
            self._pairs[s] = pair
            self._selector.register(s, selectors.EVENT_READ)

    def _read(self, pair, source):
        try:
            chunk = source.recv(65536)
        except OSError:
            chunk = b""
        if not chunk:
            self._close(pair)
            return
        if pair.name is None and source is pair.relay:
            pair.began += chunk
            found = NAME.search(pair.began)
            pair.name = found[1].decode() if found else None
        pair.waiting[pair.redis if source is pair.relay else pair.relay] += chunk

    def _held(self, pair, target):
        direction, login = self.frozen.get(pair.name, (None, True))
        if direction is None or (login and not pair.answered):
            return False
        return direction == "both" or (direction == "answers") == (target is pair.relay)

    def _forward(self, pair):
        for target in (pair.redis, pair.relay):
            if not pair.waiting[target] or self._held(pair, target):
                continue
            chunk, pair.waiting[target] = pair.waiting[target], b""
            try:
                target.sendall(chunk)
            except OSError:
                self._close(pair)
                return
            pair.answered |= target is pair.relay and pair.name is not None

    def _close(self, pair):
        for s in (pair.relay, pair.redis):
            if self._pairs.pop(s, None):
                self._selector.unregister(s)
                s.close()
