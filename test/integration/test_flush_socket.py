# SPDX-License-Identifier: Apache-2.0
"""The adaptive flush (protocol.md, 4.7) on a real socket that its reader throttles.

The reader is bound to the publisher by count, not by the clock: for every value of each key it takes so many bytes. So
a slow machine slows both down alike, and what may lie between them are the bytes that relay and kernel hold, and what
is published within two flushes.
"""

import time

from relay_process import wait_until

KEYS = 10
PAD = "x" * 800
READ = 500  # bytes for each round of values: 50 KB/s at 100 rounds a second, less than what a flush each 150 ms sends, more than twice that takes
ROUND_S = 0.01
UNSENT = 4096
RECEIVE_BUFFER = 4096
LONGEST_ROUNDS = 60  # in four times the flush

# Bytes on their way: twice the flushed values (one flush in the queue, one that is being written), what the kernel has on
# both ends (it doubles a receive buffer), and heads of blocks.
HELD = 2 * KEYS * (len(PAD) + 100) + 2 * UNSENT + 2 * RECEIVE_BUFFER
OLDEST = 2 * LONGEST_ROUNDS + HELD // READ
ROUNDS = 4 * OLDEST


class Reader:
    """Looks at each value once."""

    def __init__(self, client):
        self.client, self.seen, self.newest = client, 0, {}

    def read(self, size):
        self.client.read_some(size)
        events = self.client.events[self.seen :]
        self.seen += len(events)
        for event in events:
            key, n = event.data.split()[:2]
            assert int(n) > self.newest.get(key, -1)
            self.newest[key] = int(n)


class Source:
    """Rounds of a value for each key, as fast as ROUND_S allows."""

    def __init__(self, doors):
        self.doors, self.round, self.due = doors, 0, time.monotonic()

    def publish(self):
        with self.doors.redis.pipeline(transaction=False) as pipe:
            for key in range(KEYS):
                args = ["topic", "t", "data", f"k{key} {self.round} {PAD}", "priority", "coalesced", "key", f"k{key}"]
                pipe.fcall("sse_publish", 1, self.doors.key("default"), *args)
            pipe.execute()
        self.round += 1
        self.due = max(self.due + ROUND_S, time.monotonic())
        time.sleep(max(0.0, self.due - time.monotonic()))  # the rate


def flushes(relay):
    """How many came at most 0.25 s after the one before, and how many later, as only those of a grown interval do."""
    values = relay.metrics()
    name = "sse_relay_flush_interval_seconds"
    short = values[f'{name}_bucket{{le="0.25"}}']
    return short, values[f"{name}_count"] - short


def ten_are_short(relay, before):
    """Since @before; a long one begins anew."""
    short, long = flushes(relay)
    if long > before[1]:
        before[:] = short, long
    return short >= before[0] + 10


def test_a_throttled_reader_has_values_that_are_young(relay_factory, redis, doors, sse_connect):
    relay = relay_factory({"socket.unsent": UNSENT, "workers": 1})
    client = sse_connect(relay, "t", params={"flush": "150ms"}, receive_buffer=RECEIVE_BUFFER)
    client.stop_reading()
    source, reader = Source(doors), Reader(client)
    ages = []
    for _ in range(ROUNDS):
        source.publish()
        reader.read(READ)
        if source.round > OLDEST:
            assert len(reader.newest) == KEYS
            ages.append(source.round - 1 - min(reader.newest.values()))
    assert max(ages) <= OLDEST < ROUNDS / 2, "as old as what nobody merges and holds back would be"
    short, long = flushes(relay)
    assert long >= (short + long) / 4, "the interval has not grown"
    assert not client.gaps and relay.metric("sse_relay_streams_behind_total") == 0

    # It reads all that comes: the interval becomes what it was.
    client.start_reading()
    before = list(flushes(relay))
    wait_until(lambda: source.publish() or ten_are_short(relay, before), "ten short flushes, one after the other")
