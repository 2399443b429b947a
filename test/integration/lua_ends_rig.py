# SPDX-License-Identifier: Apache-2.0
"""What tests of ends in the function library share: test_lua_end*.py."""

import json

import pytest
import redis

from lua_rig import KEY, Listener, now_us, position, publish, snapshot
from relay_process import wait_until

ENDED = "^sse_publish: topic: ended$"
HOUR_MS, DAY_MS = 3600000, 86400000
SOON_MS, LATER_MS = 100, 600000


def end(r, topic, *args):
    return r.fcall("sse_end", 1, KEY, "topic", topic, *args)


def ended(r, *topics):
    """topic → (id, reason)"""
    flat = r.fcall("sse_ended", 1, KEY, *(a for t in topics for a in ("topic", t)))
    return {flat[i]: (flat[i + 1], flat[i + 2]) for i in range(0, len(flat), 3)}


def due(r):
    return int(r.fcall("sse_due", 1, KEY))


def ends_told(r, *args, function="sse_since"):
    """topic → reason, as sse_since tells it; and topic → last id."""
    answer = r.fcall(function, 1, KEY, *args)
    assert len(answer) == 6
    listed, over = answer[3], answer[5]
    return dict(zip(over[::2], over[1::2])), dict(zip(listed[::2], listed[1::2]))


def ended_index(r):
    return {t: int(score) for t, score in r.zrange(f"{KEY}:ended", 0, -1, withscores=True)}


def kept_ms(r, topic):
    return int(r.zscore(f"{KEY}:ended:until", topic)) // 10


def heard(listener):
    return [json.loads(d) for _, d in listener.pending()]


def refused(r, raw, why, *args, function="sse_publish", **options):
    """It is refused, and nothing has changed."""
    before, listener = snapshot(raw), Listener(r, pattern=f"{KEY}:*")
    with pytest.raises(redis.ResponseError, match=why):
        if function == "sse_publish":
            publish(r, *args, **options)
        else:
            r.fcall(function, 1, KEY, *args)
    assert snapshot(raw) == before
    assert listener.pending() == []


def settings(r, **values):
    """As a relay writes them; what holds from now on, as sse_position reads it at once."""
    return position(r, *(a for pair in values.items() for a in pair))


def wait_until_over(r, topic):
    """The time for which an ended topic is kept has passed, and its log is gone."""
    wait_until(
        lambda: now_us(r) // 1000 > kept_ms(r, topic) and not r.exists(f"{KEY}:log:{topic}"), f"{topic} is over"
    )
