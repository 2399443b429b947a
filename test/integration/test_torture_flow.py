# SPDX-License-Identifier: Apache-2.0
"""The judge of the torture test, judged on flow control and topics that end: each planted violation is found."""

import asyncio
import gzip
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "torture"))

from checker import DROPPED, DUPLICATE, END, FORGOTTEN, HOLE, LANE, LOST, ORDER, STRAY  # noqa: E402
from checker import Client, End, Event, Judge, Ledger, Publish, outstanding  # noqa: E402
from finite import Job, Jobs  # noqa: E402
from publishers import Draft  # noqa: E402
from wire import Connection, data_of, keys_of  # noqa: E402


def events(*ids, topic="t", type=None, state="kept", lane=None, slot=None, match=None):
    return [Event(i, f"{topic}#F{i}", (topic,), type, state, match, lane, slot) for i in ids]


def sent(*ids, topic="t", type=None):
    return [("event", i, type, f"{topic}#F{i}") for i in ids]


def start(cursor=None, id=0):
    return [("open", cursor), ("connected", id if cursor is None else cursor)]


def again(cursor=None, id=0):
    return [("close", "reset"), *start(cursor, id)]


def judge(records, ledger, client=None):
    if not isinstance(ledger, Ledger):
        ledger = Ledger(ledger)
    return Judge(client or Client("c", ["t"]), records, ledger)


def kinds(records, ledger, client=None):
    return [v.kind for v in judge(records, ledger, client).violations]


def waits_for(records, ledger, client=None):
    return [e.id for e in outstanding(client or Client("c", ["t"]), records, Ledger(ledger))]


# --- coalesced ---


def values(*ids, **more):
    return events(*ids, lane="coalesced", **more)


def test_the_last_value_is_enough():
    assert kinds(start() + sent(3), values(1, 2, 3)) == []
    assert judge(start() + sent(3), values(1, 2, 3)).merged == 2
    assert kinds(start() + sent(2) + again(2) + sent(4), values(1, 2, 3, 4)) == []
    assert waits_for(start() + sent(3), values(1, 2, 3)) == []


def test_the_last_value_is_owed():
    assert kinds(start() + sent(1, 2), values(1, 2, 3)) == [HOLE]
    assert waits_for(start() + sent(2), values(1, 2, 3)) == [3]
    assert kinds(start(), values(1, 2)) == [HOLE, HOLE]


@pytest.mark.parametrize(
    "later",
    [
        values(2, slot="k"),
        values(2, topic="u"),
        values(2, type="a"),
        events(2),
        events(2, lane="batched"),
        events(2, lane="appended"),
    ],
)
def test_a_value_is_replaced_by_one_of_its_topic_and_key_only(later):
    client = Client("c", ["t", "u"])
    found = kinds(start() + [("event", 2, later[0].type, later[0].key)], values(1) + later, client)
    assert found == [HOLE]


def test_what_is_not_for_a_client_replaces_nothing():
    assert kinds(start(), values(1) + values(2, match={"user": "x"})) == [HOLE]
    typed = Client("c", ["t"], ["a"])
    assert kinds(start(), values(1, type="a", slot="k") + values(2, type="b", slot="k"), typed) == [HOLE]


def test_a_key_is_one_over_all_types():
    ledger = values(1, type="a", slot="k") + values(2, type="b", slot="k")
    assert kinds(start() + sent(2, type="b"), ledger) == []


def test_what_was_replaced_by_something_that_is_told_as_lost():
    ledger = values(1) + values(2, state=LOST) + events(3)
    assert kinds(start() + [("gap", 2, 1, 2, "expired")] + sent(3), ledger) == []
    assert kinds(start() + sent(3), ledger) == [HOLE, HOLE]


@pytest.mark.parametrize("lane", ["batched", "appended", "instant", None])
def test_other_lanes_lose_nothing(lane):
    assert kinds(start() + sent(1, 3), events(1, 2, 3, lane=lane)) == [HOLE]


def test_nothing_overtakes():
    assert ORDER in kinds(start() + sent(3, 2), values(1, 2) + events(3))


# --- appended ---


def texts(*ids, **more):
    return events(*ids, lane="appended", **more)


def joined(*ids, topic="t", type=None):
    keys = [f"{topic}#F{i}" for i in ids]
    return [("event", ids[-1], type, keys[-1], tuple(keys[:-1]))]


def test_joined_texts_are_had():
    found = judge(start() + joined(1, 2, 3) + sent(4), texts(1, 2, 3, 4))
    assert found.violations == [] and found.joined == 2 and found.delivered == 4
    assert waits_for(start() + joined(1, 2, 3), texts(1, 2, 3)) == []


def test_a_text_is_missing():
    assert kinds(start() + joined(1, 3), texts(1, 2, 3)) == [HOLE]
    assert kinds(start() + joined(2, 3), texts(1, 2, 3)) == [HOLE]
    assert kinds(start() + joined(1, 2), texts(1, 2, 3)) == [HOLE]


def test_texts_in_another_order():
    ledger = texts(1, 2, 3)
    swapped = [("event", 3, None, "t#F3", ("t#F2", "t#F1"))]
    assert DUPLICATE in kinds(start() + swapped, ledger)
    assert LANE in kinds(start() + [("event", 1, None, "t#F1", ("t#F2",))], ledger)


def test_a_text_twice():
    assert DUPLICATE in kinds(start() + sent(1) + joined(1, 2), texts(1, 2))
    assert DUPLICATE in kinds(start() + joined(1, 2) + again(2) + joined(2, 3), texts(1, 2, 3))
    assert DUPLICATE in kinds(start() + [("event", 2, None, "t#F2", ("t#F1", "t#F1"))], texts(1, 2))


@pytest.mark.parametrize(
    "first",
    [texts(1, topic="u"), texts(1, slot="k"), texts(1, type="a"), events(1), values(1), events(1, lane="batched")],
)
def test_texts_that_do_not_belong_together(first):
    records = start() + [("event", 2, None, "t#F2", (first[0].key,))]
    assert LANE in kinds(records, first + texts(2), Client("c", ["t", "u"]))


def test_a_text_that_nobody_published():
    records = start() + [("event", 2, None, "t#F2", ("t#F9",))]
    assert LANE in kinds(records, texts(2))
    published = {"t#F2": Publish(("t",)), "t#F1": Publish(("t",), match={"user": "x"})}
    ledger = Ledger(texts(2) + texts(1, match={"user": "x"}), publishes=published)
    assert "leak" in kinds(start() + joined(1, 2), ledger)


def raw_and_sent(*numbers, size=40):
    """What is published, and what a client has of it: LF for every line end."""
    raw = [data_of(f"t#F{i}", size) for i in numbers]
    return raw, "".join(r.replace("\r\n", "\n").replace("\r", "\n") for r in raw)


def test_texts_are_taken_apart_again():
    raw, text = raw_and_sent(*range(1, 31))
    assert keys_of(text.encode()) == [f"t#F{i}" for i in range(1, 31)]
    assert {r[0] for r in raw} == {"t", "\n"} and {r[-1] for r in raw} >= {"\r", "\n"}
    for i, size in enumerate((0, 13, 60, 200, 8000)):
        _, text = raw_and_sent(i, i + 1, size=size)
        assert keys_of(text.encode()) == [f"t#F{i}", f"t#F{i + 1}"]


def test_texts_that_are_not_what_was_published():
    raw, text = raw_and_sent(*range(1, 31))
    whole = "".join(raw)
    assert "\r\n" in whole and any(a[-1] == "\r" and b[0] == "\n" for a, b in zip(raw, raw[1:]))
    melted = whole.replace("\r\n", "\n").replace("\r", "\n")  # joined first: a CR and a LF of two became one
    for wrong in (melted, text[:-1], text[1:], text.replace("z", "", 1), text.replace("y", "z", 1), text + "\n"):
        assert keys_of(wrong.encode())[-1].endswith("?damaged#r1"), wrong


# --- dropping ---


def dropper(*names, types=("a",)):
    return Client("c", names or ["t"], types, drops=True)


def some(*ids, **more):
    return events(*ids, type="a", **more)


def some_sent(*ids):
    return sent(*ids, type="a")


def test_what_was_dropped_is_told():
    records = start() + some_sent(1) + [("dropped", 3, 2)] + some_sent(4)
    found = judge(records, some(1, 2, 3, 4), dropper())
    assert found.violations == [] and found.dropped == 2
    assert waits_for(records, some(1, 2, 3, 4), dropper()) == []
    assert kinds(start() + [("dropped", 2, 2)] + again(2) + some_sent(3), some(1, 2, 3), dropper()) == []
    later = start() + [("dropped", 1, 1)] + some_sent(2) + [("dropped", 4, 2)]
    assert kinds(later, some(1, 2, 3, 4), dropper()) == []


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_count_that_is_wrong(count):
    records = start() + some_sent(1) + [("dropped", 3, count)] + some_sent(4)
    assert kinds(records, some(1, 2, 3, 4), dropper()) == [DROPPED]


def test_a_count_in_another_place():
    late = start() + some_sent(1, 3) + [("dropped", 4, 2)]
    assert HOLE in kinds(late, some(1, 2, 3, 4), dropper())
    early = start() + [("dropped", 1, 2)] + some_sent(3)
    assert sorted(kinds(early, some(1, 2, 3), dropper())) == [DROPPED, HOLE]


def test_a_loss_that_is_not_told():
    assert kinds(start() + some_sent(1, 3), some(1, 2, 3), dropper()) == [HOLE]
    assert kinds(start() + some_sent(1) + [("dropped", 2, 1)], some(1, 2, 3), dropper()) == [HOLE]
    assert waits_for(start() + [("dropped", 2, 2)], some(1, 2, 3), dropper()) == [3]


def test_a_cut_before_the_count():
    records = start() + some_sent(1) + again(1) + some_sent(3)
    assert kinds(records, some(1, 2, 3), dropper()) == [HOLE]
    assert kinds(start() + some_sent(1) + again(1) + some_sent(2, 3), some(1, 2, 3), dropper()) == []


def test_a_resume_brings_what_was_counted():
    records = start() + [("dropped", 2, 2)] + again(2) + some_sent(2, 3)
    assert DUPLICATE in kinds(records, some(1, 2, 3), dropper())
    records = start() + [("dropped", 2, 2)] + [("close", "x"), ("open", 2), ("connected", 0)] + some_sent(1)
    assert ORDER in kinds(records, some(1, 2), dropper())


def test_who_reads_on_from_the_log_loses_nothing_with_an_id():
    client = Client("c", ["t"], ["a"])
    assert DROPPED in kinds(start() + [("dropped", 2, 2)], some(1, 2), client)
    assert kinds(start() + [("dropped", None, 2)] + some_sent(1), some(1), client) == []


def test_events_without_an_id_where_a_filter_leaves_none():
    assert kinds(start() + [("dropped", None, 2)], [], dropper()) == [DROPPED]
    assert kinds(start() + [("dropped", None, 2)], [], dropper(types=())) == []


def test_without_a_filter_a_count_may_be_higher_but_never_lower():
    records = lambda count: start() + [("dropped", 2, count)]  # noqa: E731
    assert kinds(records(5), events(1, 2), dropper(types=())) == []
    assert kinds(records(1), events(1, 2), dropper(types=())) == [DROPPED]


def test_values_may_be_merged_before_they_are_dropped():
    ledger = values(1, 2, 3, type="a")
    for count, fine in ((1, True), (2, True), (3, True), (4, False)):
        assert (kinds(start() + [("dropped", 3, count)], ledger, dropper()) == []) == fine
    assert HOLE in kinds(start() + [("dropped", 2, 1)], ledger, dropper())


def test_what_a_failover_forgot_may_be_counted():
    ledger = some(1) + some(2, state=FORGOTTEN) + some(3)
    assert kinds(start() + [("dropped", 3, 2)], ledger, dropper()) == []
    assert kinds(start() + [("dropped", 3, 3)], ledger, dropper()) == []
    assert kinds(start() + [("dropped", 3, 1)], ledger, dropper()) == [DROPPED]


def test_a_count_goes_up_like_any_id():
    assert ORDER in kinds(start() + some_sent(1, 2) + [("dropped", 1, 1)], some(1, 2), dropper())


# --- snapshots ---


def viewer(*names, most=4):
    return Client("c", names or ["t", "u"], snapshot=most)


def test_the_latest_of_each_topic_is_enough():
    ledger = events(1, 2, 4) + events(3, 5, topic="u") + events(6)
    records = start(id=3) + sent(4) + sent(5, topic="u") + sent(6)
    assert kinds(records, ledger, viewer()) == []
    records = start(id=0) + sent(4) + sent(5, topic="u") + sent(6)
    assert kinds(records, ledger, viewer()) == []
    assert waits_for(records, ledger.copy(), viewer()) == []


def test_the_latest_of_a_topic_is_missing():
    ledger = events(1, 2, 4) + events(3, 5, topic="u")
    assert kinds(start(id=0) + sent(5, topic="u"), ledger, viewer()).count(HOLE) == 3
    assert kinds(start(id=0) + sent(4), ledger, viewer()).count(HOLE) == 2


def test_behind_a_snapshot_nothing_may_be_missing():
    ledger = events(1, 2, 3, 4, 5, 6, 7)
    assert kinds(start(id=0) + sent(2, 3, 4, 6, 7), ledger, viewer("t", most=2)) == [HOLE]
    assert kinds(start(id=0) + sent(2, 3, 4, 5, 6, 7), ledger, viewer("t", most=2)) == []


def test_a_resume_is_no_snapshot():
    records = start(id=0) + sent(1) + again(1) + sent(3)
    assert kinds(records, events(1, 2, 3), viewer("t", most=1)) == [HOLE]
    assert kinds(start(id=0) + sent(3), events(1, 2, 3), Client("c", ["t"])) == [HOLE, HOLE]


def test_an_event_on_two_topics_is_the_latest_of_one():
    both = Event(1, "t#F1", ("t", "u"))
    assert kinds(start(id=0) + sent(2), [both, *events(2)], viewer()) == [HOLE]
    assert kinds(start(id=0) + sent(2), [both, *events(2)], viewer("t")) == []


# --- topics that end ---

ENDED = {"t": End(3, "end")}


def ended(*ledger, ends=None, **more):
    return Ledger(ledger, ends=ENDED if ends is None else ends, **more)


def reader(*names, **more):
    return Client("c", names or ["t"], **{"whole": True, "finite": True, **more})


def told(topic="t", id=3, reason="end"):
    return ("end", topic, id, reason)


OVER = ("over",)
WHOLE = [*start(), *sent(1, 2, 3), told(), ("close", "complete"), ("open", 3), OVER, ("close", "204")]


def test_a_topic_is_read_to_its_end():
    assert kinds(WHOLE, ended(*events(1, 2, 3)), reader()) == []
    again_whole = [("close", "left"), *start(id=2), *sent(1, 2, 3), told()]
    assert kinds(start() + sent(1) + again_whole, ended(*events(1, 2, 3)), reader()) != []  # connected: 2, then 1
    again_whole[2] = ("connected", 0)
    assert kinds(start() + sent(1) + again_whole, ended(*events(1, 2, 3)), reader()) == []


def test_the_beginning_is_missing():
    assert kinds(start(id=1) + sent(2, 3) + [told()], ended(*events(1, 2, 3)), reader()) == [HOLE]
    assert kinds(start(id=1) + sent(2, 3) + [told()], ended(*events(1, 2, 3)), Client("c", ["t"])) == []
    lost = events(1, state=LOST)
    gap = [("gap", 1, 0, 1, "trimmed")]
    assert kinds(start() + gap + sent(2, 3) + [told()], ended(*lost, *events(2, 3)), reader()) == []
    assert kinds(start() + sent(2, 3) + [told()], ended(*lost, *events(2, 3)), reader()) == [HOLE]


def test_a_topic_that_redis_has_forgotten():
    forgotten = ended(*events(1, 2, state=LOST), *events(5), ends={"t": End(5, "end")}, rewound=True)
    assert kinds(start(id=4) + sent(5) + [told(id=5)], forgotten, reader()) == []
    assert kinds(start(id=0) + sent(5) + [told(id=5)], forgotten, reader()) == [HOLE, HOLE]


def test_something_is_missing_before_the_end():
    assert kinds(start() + sent(1, 3) + [told()], ended(*events(1, 2, 3)), reader()) == [HOLE]


def test_the_end_before_the_last_event():
    assert END in kinds(start() + sent(1, 2) + [told()], ended(*events(1, 2, 3)), reader())
    filtered = reader(types=["a"])
    assert kinds(start() + [("position", 3), told()], ended(*events(1, 2, 3)), filtered) == []
    assert END in kinds(start() + [("position", 2), told()], ended(*events(1, 2, 3)), filtered)


@pytest.mark.parametrize("other", [told(id=2), told(reason="cancelled"), told(reason="timeout")])
def test_another_end_than_others_were_told(other):
    assert kinds(start() + sent(1, 2, 3) + [other], ended(*events(1, 2, 3)), reader()) == [END]


def test_the_end_of_something_else():
    ends = {**ENDED, "u": End(2, "end")}
    assert kinds(start() + sent(1, 2, 3) + [told("u", 2)], ended(*events(1, 2, 3), ends=ends), reader()) == [STRAY]
    assert kinds(start() + sent(1, 2, 3) + [told()], ended(*events(1, 2, 3), ends={}), reader()) == [END]


def test_the_end_twice_on_a_connection():
    assert DUPLICATE in kinds(start() + sent(1, 2, 3) + [told(), told()], ended(*events(1, 2, 3)), reader())
    twice = start() + sent(1, 2, 3) + [told()] + again(3) + [told()]
    assert kinds(twice, ended(*events(1, 2, 3)), reader()) == []
    forgotten = ended(*events(1, 2, 3, 4), rewound=True)
    records = start() + sent(1, 2, 3) + [told()] + sent(4) + [told(id=4)]
    assert kinds(records, forgotten, reader()) == []
    assert DUPLICATE in kinds(records + [told(id=4)], forgotten, reader())


def test_something_comes_after_the_end():
    ledger = ended(*events(1, 2, 3, 4))
    assert END in kinds(start() + sent(1, 2, 3) + [told()] + sent(4), ledger, Client("c", ["*"]))
    assert END in kinds(start() + sent(1, 2, 3, 4) + [told()], ledger, Client("c", ["*"]))
    other = ended(*events(1, 2, 3), *events(4, topic="u"))
    assert kinds(start() + sent(1, 2, 3) + [told()] + sent(4, topic="u"), other, Client("c", ["*"])) == []


def test_204_that_nobody_asked_for():
    assert kinds(WHOLE, ended(*events(1, 2, 3)), reader(finite=False)) == [END]


def test_204_where_something_has_not_ended():
    assert END in kinds(WHOLE, ended(*events(1, 2, 3)), reader("t", "u"))


def test_204_where_something_is_left():
    records = start() + sent(1, 2) + [("close", "reset"), ("open", 2), OVER]
    assert kinds(records, ended(*events(1, 2, 3)), reader()) == [END, HOLE]
    assert END in kinds([("open", None), OVER], ended(*events(1, 2, 3)), reader())
    typed = reader(types=["a"])
    assert kinds([("open", None), OVER], ended(*events(1, 2, 3)), typed) == []
    assert END in kinds([("open", None), OVER], ended(*events(1, 2, 3, type="a")), typed)
    live = Client("c", ["t"], finite=True)
    assert kinds([("open", None), OVER], ended(*events(1, 2, 3)), live) == []
    assert outstanding(live, [("open", None), OVER], ended(*events(1, 2, 3))) == []


def test_an_end_that_redis_has_forgotten():
    """Who has been told that nothing follows does not see what does."""
    for last in ([OVER], [*start(3), told(), ("enough",)]):
        records = [*WHOLE[:7], *last]
        forgotten = ended(*events(1, 2, 3, state=FORGOTTEN), *events(9), ends={"t": End(9, "end")}, rewound=True)
        assert kinds(records, forgotten, reader(finite=OVER in last)) == []
        assert outstanding(reader(), records, forgotten) == []
        assert HOLE in kinds(records, ended(*events(1, 2, 3, 9)), reader())
    early = [*start(), *sent(1), ("close", "reset"), ("open", 1), OVER]
    late = start() + sent(2) + [("close", "x"), ("open", 2), OVER]
    assert HOLE in kinds(late, ended(*events(1, 2, 3), rewound=True), reader())
    assert kinds(early, ended(*events(1), rewound=True), reader()) == []


# --- what publishers are told of an end ---


def a_job(way, answers=(), outcomes=None, refusals=()):
    publishers = SimpleNamespace(outcomes=outcomes or {}, refusals=list(refusals))
    job = Job("t", random.Random(1), publishers)
    job.way, job.answers = way, list(answers)
    jobs = object.__new__(Jobs)
    jobs.publishers = publishers
    return jobs, job


def test_publishers_agree():
    end = End(3, "end")
    taken = {"t#F3": ("acked", 3, ("t",)), "t#F4": ("refused", None, ("t",)), "u#F5": ("acked", 5, ("u",))}
    jobs, job = a_job("call", [end, end], taken, [("t", end), ("u", End(9, "timeout"))])
    assert jobs._disagree(job, end) == []


def test_publishers_disagree():
    end = End(3, "end")
    for way, answers, outcomes, refusals in (
        ("call", [End(4, "end")], {}, []),
        ("call", [end], {"t#F4": ("acked", 4, ("t",))}, []),
        ("call", [end], {}, [("t", End(3, "cancelled"))]),
        ("delete", [end], {}, []),
    ):
        jobs, job = a_job(way, answers, outcomes, refusals)
        assert len(jobs._disagree(job, end)) == 1, (way, answers, outcomes, refusals)


def test_what_is_taken_after_the_end_is_found():
    async def take(draft, outcome, door):
        draft.key = f"t#{door}1"
        publishers.outcomes[draft.key] = (outcome, 1, draft.topics)
        return outcome

    for accepted in ("", "F", "P"):
        jobs, job = a_job("call")
        publishers = jobs.publishers
        publishers.fcall = publishers.post = publishers._xadd = None
        taken = {accepted, "X"} if accepted else set()
        publishers.publish = lambda draft, door, _: take(draft, "acked" if door in taken else "refused", door)
        found = asyncio.run(jobs._try_again(job, End(3, "end")))
        assert bool(found) == bool(accepted)
        assert publishers.outcomes["t#X1"][0] == "refused"  # whatever the inbox took, the log must not have it


# --- what comes through the wire ---


class Reader(Connection):
    def __init__(self):
        self.records, self.cursor = [], None
        self.reset(SimpleNamespace(close=lambda: None, abort=lambda: None))


def body(*blocks):
    return "".join(b + "\n\n" for b in blocks).encode()


def data_lines(*texts):
    whole = "".join(t.replace("\r\n", "\n").replace("\r", "\n") for t in texts)
    return "\n".join("data: " + line for line in whole.split("\n"))


BLOCKS = body(
    ":ok\nretry: 100\nid: 1\nevent: relay.connected\ndata: " + '{"connection_id":"x"}',
    "id: 3\n" + data_lines(data_of("t#F2", 30), data_of("t#F3", 30)),
    'id: 4\nevent: relay.dropped\ndata: {"count":2}',
    "id: 5\nevent: end\ndata: ",
    'event: relay.end\ndata: {"topic":"t","id":"5","reason":"timeout"}',
)
RECORDS = [
    ("connected", 1, "x"), ("event", 3, None, "t#F3", ("t#F2",)), ("dropped", 4, 2), ("event", 5, "end", "end#e5"),
    ("end", "t", 5, "timeout"),
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 7, 10000])
@pytest.mark.parametrize("packed", ["plain", "gzip", "cut"])
def test_a_response_becomes_records(packed, size):
    sent = BLOCKS if packed == "plain" else gzip.compress(BLOCKS)
    sent = sent[:-5] if packed == "cut" else sent
    coding = "" if packed == "plain" else "Content-Encoding: gzip\r\n"
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(sent)}\r\n{coding}\r\n".encode()
    reader = Reader()
    for at in range(0, len(head + sent), size):
        reader.data_received((head + sent)[at : at + size])
    broken = [r for r in reader.records if r[0] == "broken"]
    assert reader.records == RECORDS + broken + [("close", "complete")]
    assert bool(broken) == (packed == "cut")


def test_204_is_a_record():
    reader = Reader()
    reader.data_received(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert reader.records[0] == ("over",) and reader.records[1][0] == "close"


def test_a_draft_says_the_same_at_every_door():
    draft = Draft(("t",), "a", {"user": "x"}, "appended", "k", {"end": True, "end_after": 5})
    draft.data = "d"
    assert draft.body() == {
        "topics": ("t",), "data": "d", "event": "a", "match": {"user": "x"}, "priority": "appended", "key": "k",
        "end": True, "end_after": 5,
    }  # fmt: skip
    flat = draft.fields()
    assert dict(zip(flat[::2], flat[1::2])) == {
        "topic": "t", "data": "d", "event": "a", "match": '{"user": "x"}', "priority": "appended", "key": "k", "end": 1,
        "end_after": 5,
    }  # fmt: skip
