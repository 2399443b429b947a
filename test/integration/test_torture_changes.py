# SPDX-License-Identifier: Apache-2.0
"""The judge of the torture test, judged on open streams that others ask something of (protocol.md, 4.8), and on bridged
streams (9.1): each planted violation is found."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "torture"))

from bridge import judge_entries, place_of  # noqa: E402
from changes import Habits  # noqa: E402
from checker import CHANGE, DROPPED, DUPLICATE, FALSE_GAP, FORGOTTEN, HOLE, LOG, LOST, ORDER, STRAY  # noqa: E402
from checker import Client, Event, Judge, Ledger, Publish, judge_log, outstanding  # noqa: E402
from terms import own_topic  # noqa: E402

ID = "ab" * 16
OWN = own_topic(ID)


def events(*ids, topic="u", type=None, state="kept", lane=None):
    return [Event(i, f"{topic}#f{i}", (topic,), type, state, None, lane) for i in ids]


def sent(*ids, topic="u", type=None):
    return [("event", i, type, f"{topic}#f{i}") for i in ids]


def open_(cursor=None, id=0, has=(), connection=None):
    who = (connection,) if connection else ()
    return [("open", cursor), ("asks", tuple(has)), ("connected", id if cursor is None else cursor, *who)]


def add(*names, at=None, told=True):
    """A PATCH that adds, its answer, and what the stream is told."""
    records = [("patch", names, ()), ("patched", 200, ("t", *names))]
    return records + ([("subscribed", names, at)] if told else [])


def remove(*names, left=("t",), when=100.0):
    return [("patch", (), names), ("unsubscribed", names, when), ("patched", 200, left)]


def client(*extras, names=("t",), **more):
    return Client("c", names, extras=extras or ("u", "v.*"), **more)


def published(ledger, at=1.0):
    """A ledger that knows when each event was published. @at: a time, or by id."""
    times = at if isinstance(at, dict) else {}
    found = {e.key: Publish(e.topics, e.type, at=times.get(e.id, 1.0)) for e in ledger}
    return Ledger(ledger, publishes=found)


def judge(records, ledger, who=None):
    ledger = ledger if isinstance(ledger, Ledger) else published(ledger)
    return Judge(who or client(), records, ledger)


def kinds(records, ledger, who=None):
    return [v.kind for v in judge(records, ledger, who).violations]


def waits_for(records, ledger, who=None):
    return [e.id for e in outstanding(who or client(), records, Ledger(ledger))]


# --- added topics ---


def test_an_added_topic_is_owed_from_there_on():
    ledger = events(1, 2, 3, 4)
    assert kinds(open_() + add("u", at=2) + sent(3, 4), ledger) == []
    assert waits_for(open_() + add("u", at=2) + sent(3), ledger) == [4]
    assert kinds(open_() + add("u", at=2) + sent(3), ledger) == [HOLE]
    assert kinds(open_() + add("u", at=2) + sent(4), ledger) == [HOLE]
    assert kinds(open_() + add("u", at=4), ledger) == []


def test_what_came_before_it_was_told_so_counts():
    records = open_() + [("patch", ("u",), ())] + sent(3) + [("subscribed", ("u",), 2), ("patched", 200, ("t", "u"))]
    assert kinds(records, events(1, 2, 3)) == []
    early = open_() + [("patch", ("u",), ())] + sent(1, 2) + [("subscribed", ("u",), 2), ("patched", 200, ("t", "u"))]
    assert kinds(early, events(1, 2)) == []


def test_an_event_of_a_topic_that_was_never_asked_for():
    assert kinds(open_() + sent(1), events(1)) == [STRAY]
    assert kinds(open_() + add("u", at=0) + sent(1, topic="v.a"), events(1, topic="v.a")) == [STRAY]
    assert kinds(open_() + add("u", at=0) + sent(1, topic="w"), events(1, topic="w")) == [STRAY]


def test_an_added_pattern():
    ledger = events(1, 3, topic="v.a") + events(2, 4, topic="v.b")
    records = open_() + add("v.*", at=2)
    assert kinds(records + sent(3, topic="v.a") + sent(4, topic="v.b"), ledger) == []
    assert kinds(records + sent(4, topic="v.b"), ledger) == [HOLE]


def test_an_event_of_an_added_topic_twice_or_out_of_order():
    records = open_() + add("u", at=0)
    assert kinds(records + sent(1, 1), events(1))[:1] == [DUPLICATE]
    assert ORDER in kinds(records + sent(2, 1), events(1, 2))
    again = records + sent(1) + [("close", "reset")] + open_(0, has=["u"]) + sent(1)
    assert DUPLICATE in kinds(again, events(1))


def test_a_topic_within_a_pattern_that_is_always_there():
    who = client("g.a", names=["g.*"])
    records = open_() + [("patch", ("g.a",), ()), ("patched", 200, ("g.*", "g.a")), ("subscribed", ("g.a",), 1)]
    ledger = events(1, 2, topic="g.a")
    assert kinds(records + sent(1, 2, topic="g.a"), ledger, who) == []
    assert kinds(records + sent(2, topic="g.a"), ledger, who) == [HOLE]
    gone = records + [("patch", (), ("g.a",)), ("unsubscribed", ("g.a",), 0.0), ("patched", 200, ("g.*",))]
    assert kinds(gone + sent(1, topic="g.a"), ledger, client("g.a", names=["g.*"])) == [HOLE]


def test_the_filter_holds_for_added_topics():
    records = open_() + add("u", at=0)
    assert kinds(records, events(1, type="b"), client(types=["a"])) == []
    assert kinds(records, events(1, type="a"), client(types=["a"])) == [HOLE]
    assert STRAY in kinds(records + sent(1, type="b"), events(1, type="b"), client(types=["a"]))


# --- taken away ---


def test_what_was_taken_away_is_owed_up_to_there():
    ledger = events(1, 2, 5) + events(3, topic="t")
    both = open_() + add("u", at=0)
    assert kinds(both + sent(1, 2) + sent(3, topic="t") + remove("u"), ledger) == []
    assert kinds(both + sent(1) + sent(3, topic="t") + remove("u"), ledger) == [HOLE]
    assert kinds(both + sent(1) + remove("u") + sent(3, topic="t"), ledger) == []


def test_what_was_on_its_way_may_come():
    records = open_() + add("u", at=0) + sent(1) + remove("u", when=10.0) + sent(2)
    assert kinds(records, published(events(1, 2), {2: 9.0})) == []


def test_what_was_published_after_it_was_told_may_not():
    records = open_() + add("u", at=0) + sent(1) + remove("u", when=10.0) + sent(2)
    assert kinds(records, published(events(1, 2), {2: 11.0})) == [STRAY]
    unsure = open_() + [("patch", ("u",), ()), ("patched", 504, ())] + remove("u", when=10.0) + sent(2)
    assert kinds(unsure, published(events(2), {2: 11.0})) == []


def test_where_two_servers_took_events_who_has_left_a_topic_is_not_told():
    ledger = events(1, 2) + events(3, topic="t")
    records = open_() + add("u", at=0) + sent(1) + sent(3, topic="t")
    assert kinds(records + remove("u"), Ledger(ledger, forked=True)) == []
    assert kinds(records, Ledger(ledger, forked=True)) == [HOLE]


def test_added_again():
    records = open_() + add("u", at=0) + sent(1) + remove("u") + add("u", at=3)
    assert kinds(records + sent(4), events(1, 2, 3, 4)) == []
    assert kinds(records, events(1, 2, 3, 4)) == [HOLE]


# --- nobody knows whether it was done ---


@pytest.mark.parametrize("status", [0, 503, 504])
def test_a_change_without_an_answer_owes_nothing(status):
    records = open_() + [("patch", ("u",), ()), ("patched", status, ())]
    assert kinds(records, events(1)) == []
    assert kinds(records + sent(1), events(1)) == []
    assert kinds(records + [("subscribed", ("u",), 0)], events(1)) == [HOLE]
    assert kinds(records + add("u", at=0), events(1)) == [HOLE]


def test_a_removal_without_an_answer_owes_nothing():
    records = open_() + add("u", at=0) + sent(1) + [("patch", (), ("u",)), ("patched", 504, ())]
    assert kinds(records, events(1, 2)) == []
    assert kinds(records + sent(2), published(events(1, 2), {2: 1000.0})) == []


def test_a_removal_that_comes_late():
    records = open_() + add("u", at=0) + [("patch", (), ("u",)), ("patched", 504, ())]
    records += remove("u") + add("u", at=1) + sent(2) + [("unsubscribed", ("u",), 200.0)]
    assert kinds(records, events(1, 2, 3)) == []


def test_after_another_connection_nothing_is_unsure():
    records = open_() + [("patch", ("u",), ()), ("patched", 504, ()), ("close", "reset")] + open_(0)
    assert kinds(records + sent(1), events(1)) == [STRAY]


# --- what it is told ---


def test_an_answer_with_other_topics():
    for names in [("t",), ("u",), ("t", "u", "w"), ("t", "v.*")]:
        records = open_() + [("patch", ("u",), ()), ("subscribed", ("u",), 0), ("patched", 200, names)]
        assert kinds(records, []) == [CHANGE]
    unsure = open_() + [("patch", ("v.*",), ()), ("patched", 504, ()), ("patch", ("u",), ())]
    assert kinds(unsure + [("patched", 200, ("t", "v.*", "u"))], []) == []
    refused = open_() + [("patch", ("u",), ()), ("patched", 401, ()), ("patch", ("v.*",), ())]
    assert kinds(refused + [("patched", 200, ("t", "v.*"))], []) == []


def test_told_what_nobody_asked_for():
    assert kinds(open_() + [("subscribed", ("u",), 0)], []) == [CHANGE]
    assert kinds(open_() + add("u", at=0) + [("unsubscribed", ("u",), 1.0)], []) == [CHANGE]
    assert kinds(open_() + [("paused",)], []) == [CHANGE]
    assert kinds(open_() + [("resumed",)], []) == [CHANGE]
    assert kinds(open_() + [("pause",), ("paused",), ("resumed",)], []) == []
    again = open_() + [("pause",), ("close", "reset")] + open_(0) + [("paused",)]
    assert kinds(again, []) == [CHANGE]


# --- it comes back ---


def test_a_client_comes_back_with_what_it_has():
    records = open_() + add("u", at=0) + sent(1) + [("close", "reset")] + open_(1, has=["u"])
    assert kinds(records + sent(2), events(1, 2)) == []
    assert kinds(records, events(1, 2)) == [HOLE]


def test_a_client_comes_back_with_a_cursor_from_before():
    """The stream was behind: what the new connection asks for begins at its cursor."""
    records = open_() + add("u", at=5) + [("close", "reset")] + open_(0, has=["u"])
    assert kinds(records, events(3)) == [HOLE]
    assert kinds(records + sent(3), events(3)) == []


def test_a_client_comes_back_without():
    records = open_() + add("u", at=0) + sent(1) + [("close", "reset")] + open_(1)
    assert kinds(records, events(1, 2)) == []
    assert kinds(records + sent(2), events(1, 2)) == [STRAY]
    missing = open_() + add("u", at=0) + sent(2, topic="t") + [("close", "reset")] + open_(2)
    assert kinds(missing, events(1) + events(2, topic="t")) == [HOLE]


def test_a_client_comes_back_as_somebody_new():
    records = open_() + add("u", at=0) + [("close", "left")] + open_(None, id=3, has=["u"])
    assert kinds(records + sent(4), events(1, 2, 4)) == []
    assert kinds(records, events(1, 2, 4)) == [HOLE]


def test_what_it_has_goes_on_in_the_next_round():
    who = client()
    assert kinds(open_() + add("u", at=0) + sent(1), events(1), who) == []
    assert waits_for([], events(2), who) == [2]
    assert kinds(sent(2), events(2), who) == []
    assert kinds(remove("u"), events(3), who) == []
    assert kinds([], events(4), who) == []


# --- gaps, lanes, policies ---


def test_a_gap_over_events_of_an_added_topic():
    ledger = events(1, 2, state=LOST) + events(3)
    records = open_() + add("u", at=0)
    assert kinds(records + [("gap", 2, 0, 2, "trimmed")] + sent(3), ledger) == []
    assert kinds(records + sent(3), ledger) == [HOLE, HOLE]
    kept = events(1) + events(2, state=LOST) + events(3)
    assert kinds(records + [("gap", 2, 0, 2, "trimmed")] + sent(3), kept) == [FALSE_GAP]


def test_a_gap_for_a_topic_that_is_not_there():
    ledger = events(1, state=LOST) + events(2, topic="t")
    assert kinds(open_() + [("gap", 1, 0, 1, "trimmed")] + sent(2, topic="t"), ledger) == [FALSE_GAP]


def test_values_of_an_added_topic_are_merged():
    ledger = events(1, 2, 3, lane="coalesced")
    assert kinds(open_() + add("u", at=0) + sent(3), ledger) == []
    assert kinds(open_() + add("u", at=0) + sent(2), ledger) == [HOLE]


def test_a_value_that_was_replaced_by_what_is_not_owed_any_more():
    ledger = events(1, 3, lane="coalesced") + events(2, topic="t")
    assert kinds(open_() + add("u", at=0) + sent(2, topic="t") + remove("u"), ledger) == []


def test_dropped_of_an_added_topic():
    who = client(types=["a"], drops=True)
    ledger = events(1, 2, 3, type="a")
    records = open_() + add("u", at=0)
    assert kinds(records + [("dropped", 2, 2)] + sent(3, type="a"), ledger, who) == []
    assert kinds(records + [("dropped", 2, 1)] + sent(3, type="a"), ledger, client(types=["a"], drops=True)) == [DROPPED]


def test_a_snapshot_is_of_what_was_asked_for_then():
    """An event on two topics of which one was not there: the latest of the other is enough."""
    two = Event(1, "t#f1", ("t", "u"))
    ledger = [two, *events(2, topic="t")]
    records = open_() + sent(2, topic="t")
    assert kinds(records, ledger, client(snapshot=4)) == []
    assert kinds(open_(has=["u"]) + sent(2, topic="t"), ledger, client(snapshot=4)) == [HOLE]


# --- the topic of its connection ---


def mine(*ids, **more):
    return events(*ids, topic=OWN, **more)


def test_its_own_topic_is_owed_while_it_is_open():
    records = open_(connection=ID)
    assert kinds(records + sent(1, topic=OWN), mine(1)) == []
    assert kinds(records, mine(1)) == [HOLE]
    assert waits_for(records, mine(1)) == [1]
    passed = records + sent(2, topic="t")
    assert kinds(passed, mine(1) + events(2, topic="t")) == [HOLE]


def test_a_later_connection_has_another_topic():
    later = [("close", "reset")] + open_(0, connection="cd" * 16)
    assert kinds(open_(connection=ID) + later, mine(1)) == []
    assert kinds(open_(connection=ID) + later + sent(1, topic=OWN), mine(1)) == [STRAY]
    missed = open_(connection=ID) + sent(2, topic="t") + [("close", "reset")] + open_(2, connection="cd" * 16)
    assert kinds(missed, mine(1) + events(2, topic="t")) == [HOLE]


def test_the_topic_of_somebody_else():
    assert kinds(open_(connection="cd" * 16) + sent(1, topic=OWN), mine(1)) == [STRAY]
    who = Client("c", [">"])
    assert kinds(open_(connection="cd" * 16) + sent(1, topic=OWN), mine(1), who) == []
    assert kinds(open_(connection="cd" * 16), mine(1), Client("c", ["*.*"])) == [HOLE]


def test_its_own_topic_goes_on_in_the_next_round():
    who = client()
    assert kinds(open_(connection=ID), [], who) == []
    assert kinds(sent(1, topic=OWN), mine(1), who) == []
    assert kinds([], mine(2), who) == [HOLE]


def test_a_gap_over_its_own_topic():
    records = open_(connection=ID) + [("gap", 1, 0, 1, "expired")]
    assert kinds(records, mine(1, state=LOST)) == []
    assert kinds(records, mine(1)) == [FALSE_GAP, FALSE_GAP]


def test_what_a_failover_forgot_of_an_added_topic():
    verdict = judge(open_() + add("u", at=0), events(1, state=FORGOTTEN))
    assert verdict.violations == [] and verdict.forgotten["silent"] == 1


# --- what a client knows ---


def test_a_client_awaits_to_be_told_what_was_added():
    habits = Habits(["u", "v"])
    habits.opened()
    habits.ask(["u"], [])
    assert not habits.quiet
    habits.answered(200, ["u"], [])
    habits.asking = False
    assert not habits.quiet and habits.has == []
    habits.subscribed(["u"])
    assert habits.quiet and habits.has == ["u"]
    habits.ask([], ["u"])
    assert habits.has == []
    habits.answered(504, [], ["u"])
    assert habits.unsure == {"u"} and habits.choose(type("", (), {"choice": max, "sample": lambda *a: []}))[1] == ["u"]
    habits.opened()
    assert not habits.unsure


def test_a_client_is_told_first():
    habits = Habits(["u"])
    habits.opened()
    habits.ask(["u"], [])
    habits.subscribed(["u"])
    habits.answered(200, ["u"], [])
    habits.asking = False
    assert habits.quiet and habits.has == ["u"]
    habits.unsubscribed(["u"])
    assert habits.has == []


# --- a bridged stream ---


def entries(*keys):
    return {key: place_of(f"{10 + i}-0") for i, key in enumerate(keys)}


def logged(*pairs, state="kept"):
    return [Event(id, key, (key.partition("#")[0],), state=state) for id, key in pairs]


def bridged(stream, log, there=None, may_lose=None):
    return judge_entries(stream, list(stream) if there is None else there, log, may_lose)


def test_entries_come_out_in_their_order():
    stream = entries("o.a#o1", "o.b#o2", "o.a#o3")
    assert bridged(stream, logged((1, "o.a#o1"), (2, "o.b#o2"), (3, "o.a#o3"))) == []
    assert len(bridged(stream, logged((1, "o.a#o1"), (3, "o.b#o2"), (2, "o.a#o3")))) == 1
    assert len(bridged(stream, logged((3, "o.a#o1"), (4, "o.b#o2"), (2, "o.a#o3")))) == 1


def test_an_entry_that_is_lost():
    stream = entries("o.a#o1", "o.b#o2")
    assert len(bridged(stream, logged((1, "o.a#o1")))) == 1
    assert bridged(stream, logged((1, "o.a#o1")), may_lose=lambda topics: topics == ("o.b",)) == []
    assert bridged(stream, logged((1, "o.a#o1")), there=["o.a#o1"]) == []  # the stream itself was lost
    outcomes = {"o.b#o2": ("queued", None, ("o.b",))}
    assert [v.kind for v in judge_log(logged((1, "o.a#o1")), outcomes, None)] == [LOG]


def test_an_entry_twice():
    twice = logged((1, "o.a#o1"), (2, "o.a#o1"))
    assert [v.kind for v in judge_log(twice, {}, None)] == [LOG]
    assert judge_log(twice, {}, lambda topics: True, lost_ids={1}) == []  # a failover had forgotten the first


def test_what_was_forgotten_has_no_order():
    stream = entries("o.a#o1", "o.b#o2")
    log = logged((5, "o.a#o1"), (3, "o.b#o2"))
    log[1].state = FORGOTTEN
    assert bridged(stream, log) == []


def test_places_are_compared_as_numbers():
    assert place_of("9-2") < place_of("10-1") < place_of("10-10")
