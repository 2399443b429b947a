# SPDX-License-Identifier: Apache-2.0
"""A Redis that lies: answers of the function library that are none, in every position."""

import re

import pytest

from relay_process import wait_until
from tcp_proxy import TcpProxy


class Liar(TcpProxy):
    """Between relay and Redis: answers that match @pattern are replaced while it lies."""

    def __init__(self, port, pattern, instead):
        super().__init__(port)
        self.pattern, self.instead = re.compile(pattern, re.DOTALL), instead
        self.lying, self.lies = False, 0

    def _forward(self, pair):
        if self.lying and pair.name == "commands":
            pair.waiting[pair.relay], lies = self.pattern.subn(self.instead, pair.waiting[pair.relay])
            self.lies += lies
        super()._forward(pair)


ID = rb"\$16\r\n\d{16}\r\n"


@pytest.mark.parametrize(
    "instead", [rb"*1\r\n\1", b"*0\r\n", b"*-1\r\n", b"$-1\r\n", b"$2\r\nOK\r\n", b":1\r\n"]
)
def test_absurd_answer_to_a_batch_is_no_success(redis, relay_factory, instead):
    liar = Liar(redis.port, rb"\*2\r\n(%b)%b" % (ID, ID), instead)
    try:
        relay = relay_factory(redis=f"redis://127.0.0.1:{liar.port}")
        batch = [{"topic": "t", "data": n} for n in range(2)]
        liar.lying = True
        answer = relay.post("/publish", json=batch)
        assert (answer.status_code, answer.json()["published"], liar.lies) == (503, None, 1)
        liar.lying = False
        assert relay.post("/publish", json=batch).status_code == 200
    finally:
        liar.close()


@pytest.mark.parametrize("instead", [b":7\r\n", b"*0\r\n", b"$3\r\nids\r\n"])
def test_absurd_answer_to_a_post_is_no_success(redis, relay_factory, instead):
    liar = Liar(redis.port, rb"^%b$" % ID, instead)
    try:
        relay = relay_factory(redis=f"redis://127.0.0.1:{liar.port}")
        relay.publish("t", "0")  # opens the namespace, so that the next answer stands alone
        liar.lying = True
        answer = relay.post("/publish", json={"topic": "t", "data": "1"})
        assert (answer.status_code, answer.json()["published"], liar.lies) == (503, None, 1)
        liar.lying = False
        relay.publish("t", "2")
    finally:
        liar.close()


# What sse_since answers: position, horizon, pruned, {topic, last id, …}, upto, {topic, reason, …}.
LOOK = [ID, ID, rb"\$\d+\r\n\d+\r\n", rb"\*2\r\n\$1\r\nt\r\n" + ID, ID, rb"\*0\r\n"]
LOOK_NAME = (rb"(\*6\r\n%b\*2\r\n)\$1\r\nt\r\n(%b)" % (b"".join(LOOK[:3]), ID), rb"\1%b\2")
LOOK_LAST = (rb"(\*6\r\n%b\*2\r\n\$1\r\nt\r\n)%b" % (b"".join(LOOK[:3]), ID), rb"\1%b")
ABSURD = {
    "number": b":7\r\n", "array": b"*0\r\n", "nested": b"*1\r\n*1\r\n$1\r\nt\r\n", "nil": b"$-1\r\n",
    "none": b"*-1\r\n", "text": b"$3\r\nids\r\n", "negative": b":-1\r\n", "odd": b"*1\r\n$1\r\nt\r\n",
    "numbers": b"*2\r\n:1\r\n:1\r\n", "another": b"*2\r\n$1\r\nu\r\n$3\r\nend\r\n",
}  # fmt: skip


def look_element(at):
    """Everything but one element of the answer stays as it is."""
    return rb"(\*6\r\n%b)%b(%b)" % (b"".join(LOOK[:at]), LOOK[at], b"".join(LOOK[at + 1 :])), rb"\1%b\2"


LIES = [
    *((*look_element(at), ABSURD[what]) for at in range(6) for what in ABSURD),
    *((*of, ABSURD[what]) for of in (LOOK_NAME, LOOK_LAST) for what in ("number", "array", "nil", "text", "negative")),
    *((rb"\*6\r\n" + b"".join(LOOK), b"%b", whole) for whole in (b"*1\r\n:1\r\n", b"*0\r\n", b":1\r\n", b"$-1\r\n")),
    *((rb"\*6\r\n(%b)%b" % (b"".join(LOOK[:n]), b"".join(LOOK[n:])), rb"*%d\r\n\1" % n + b"%b", b"") for n in range(1, 6)),
]


@pytest.mark.parametrize("pattern, where, what", LIES)
def test_absurd_look_at_the_index_ends_nothing(redis, relay_factory, sse_connect, doors, pattern, where, what):
    liar = Liar(redis.port, pattern, where % what)
    try:
        relay = relay_factory(redis=f"redis://127.0.0.1:{liar.port}")
        ids = doors.many("t", ["1", "2"])
        liar.lying = True
        client = sse_connect(relay, "t", last_event_id=ids[0], wait=False)
        wait_until(lambda: liar.lies, "the first lie")
        liar.lying = False
        relay.publish("t", "3")
        client.wait_for(lambda c: "3" in c.data)
        assert relay.ready()[0] == 200 and client.all_ids == sorted(client.all_ids)
    finally:
        liar.close()


# --- topics that end ---

DUE = rb"^\$1\r\n0\r\n$"  # of sse_due: nothing is
ENDED = rb"^(\*3\r\n)(%b)(\$3\r\nend\r\n)(\$1\r\n1\r\n)$" % ID  # of sse_end: id, reason, it was this call
WHY = rb"^(\*3\r\n)(\$\d+\r\n\w+\r\n)(%b)(\$3\r\nend\r\n)$" % ID  # of sse_ended: topic, id, reason


@pytest.fixture
def liar_relay(redis, relay_factory):
    """liar_relay(pattern, instead): a liar, and a relay behind it."""
    liars = []

    def start(pattern, instead):
        liars.append(Liar(redis.port, pattern, instead))
        return liars[-1], relay_factory(redis=f"redis://127.0.0.1:{liars[-1].port}")

    yield start
    for liar in liars:
        liar.close()


@pytest.mark.parametrize("instead", [*ABSURD.values(), b"$1\r\n1\r\n", b"$16\r\n9007199254740991\r\n", b"-ERR sse_due: no\r\n"])
def test_absurd_answer_about_what_is_due_ends_nothing_and_delays_nothing(liar_relay, sse_connect, doors, instead):
    liar, relay = liar_relay(DUE, instead)
    client = sse_connect(relay, "t", "u")
    liar.lying = True
    doors.fcall("t", "1", end_after=1)
    client.wait_for(lambda c: "end" in [e.type for e in c.events])
    wait_until(lambda: liar.lies, "the first lie")
    liar.lying = False
    doors.fcall("u", "2", end_after=1)
    wait_until(lambda: client.closed, "both have ended")
    assert [e.type for e in client.events].count("end") == 2 and client.all_ids == sorted(client.all_ids)
    assert relay.ready()[0] == 200


NO_ENDS = [(at, what) for at in range(1, 3) for what in ABSURD if (at, what) != (1, "number")]  # that is an id


def test_a_topic_that_cannot_be_ended_is_logged_and_holds_up_no_other(redis, relay_factory, sse_connect, doors):
    """Somebody wrote the highest possible id into its log."""
    relay = relay_factory()
    client = sse_connect(relay, "good")
    doors.fcall("bad", "1", end_after=300)
    doors.redis.xadd(doors.key("default", "log:bad"), {"x": "y"}, id=f"{2**53 - 1}-0")
    doors.fcall("good", "2", end_after=301)
    wait_until(lambda: client.closed, "it has ended")
    wait_until(lambda: any("cannot be ended" in line and "no id is left" in line for line in relay.log), "it is logged")


@pytest.mark.parametrize("at, what", NO_ENDS)
def test_absurd_answer_to_an_end_is_no_success(liar_relay, at, what):
    groups = [rb"\1", rb"\2", rb"\3", rb"\4"]
    groups[at] = ABSURD[what]
    liar, relay = liar_relay(ENDED, b"".join(groups))
    relay.publish("t", "0")
    liar.lying = True
    answer = relay.post("/topics/t/end")
    assert liar.lies == 1
    assert answer.status_code == 503 and "Retry-After" in answer.headers, answer.text
    liar.lying = False
    again = relay.post("/topics/t/end")
    assert again.status_code == 200 and again.json()["reason"] == "end"


@pytest.mark.parametrize("at", range(1, 4))
@pytest.mark.parametrize("what", ABSURD)
def test_absurd_answer_about_who_ended_it_is_a_refusal_all_the_same(liar_relay, at, what):
    groups = [rb"\1", rb"\2", rb"\3", rb"\4"]
    groups[at] = ABSURD[what]
    liar, relay = liar_relay(WHY, b"".join(groups))
    relay.post("/topics/t/end")
    liar.lying = True
    answer = relay.post("/publish", json={"topic": "t", "data": "1"})
    assert (answer.status_code, answer.json()["published"], liar.lies) == (409, False, 1)
    ended = answer.json()
    assert "reason" not in ended if ended["ended"] is None else (
        re.fullmatch(r"[1-9]\d*", ended["ended"]) and ended["reason"] == "end"), ended
