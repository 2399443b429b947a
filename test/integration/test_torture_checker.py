# SPDX-License-Identifier: Apache-2.0
"""The judge of the torture test, judged: transcripts made by hand, each with a fault that it must find, or with none."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "torture"))

from checker import DUPLICATE, FALSE_GAP, FORGOTTEN, HOLE, LOG, LOST, ORDER, STRAY  # noqa: E402
from checker import Client, Event, Judge, Ledger, Publish, judge_log, outstanding, pattern_matches  # noqa: E402
from conftest import load_vectors  # noqa: E402


def events(*ids, topic="t", type=None, state="kept"):
    return [Event(i, f"{topic}#f{i}", (topic,), type, state) for i in ids]


def sent(*ids, topic="t", type=None):
    return [("event", i, type, f"{topic}#f{i}") for i in ids]


def start(cursor=None, id=0):
    return [("open", cursor), ("connected", id if cursor is None else cursor)]


def gap(low, high, reason, id=-1):
    return ("gap", high if id == -1 else id, low, high, reason)


def judge(records, ledger, client=None):
    if not isinstance(ledger, Ledger):
        ledger = Ledger(ledger)
    return Judge(client or Client("c", ["t"]), records, ledger)


def kinds(records, ledger, client=None):
    return [v.kind for v in judge(records, ledger, client).violations]


# --- two servers at once ---


def test_who_resumes_from_a_forgotten_id_is_counted_apart():
    ledger = Ledger([*events(1, 3, 5), *events(2, 4, state=FORGOTTEN)], forked=True)
    records = start() + sent(1, 2, 4) + [("close", "reset")] + start(4) + sent(5)
    verdict = judge(records, ledger)
    assert verdict.violations == [] and verdict.forgotten["stranded"] == 1
    assert outstanding(Client("c", ["t"]), records, ledger) == []


def test_who_resumes_from_a_kept_id_is_not():
    ledger = Ledger([*events(1, 3, 5), *events(2, 4, state=FORGOTTEN)], forked=True)
    records = start() + sent(1, 5) + [("close", "reset")] + start(5)
    assert kinds(records, ledger) == [HOLE]


def test_a_forgotten_cursor_without_two_servers_is_no_excuse():
    ledger = Ledger([*events(1, 3, 5), *events(2, 4, state=FORGOTTEN)])
    records = start() + sent(1, 2, 4) + [("close", "reset")] + start(4) + sent(5)
    assert kinds(records, ledger) == [HOLE]


def test_a_position_forbids_what_is_below():
    late = Ledger(events(1, 2, 3), forked=True)
    told = start() + sent(1) + [("position", 3), gap(1, 2, "overflow", id=None)]
    assert kinds(told, late) == [HOLE]  # 3 itself, of this topic, cannot be passed over
    assert kinds([*start(), ("position", 3), *sent(2)], late) == [ORDER, HOLE, HOLE]


# --- nothing wrong ---


def test_a_whole_stream_is_fine():
    assert kinds(start() + sent(1, 2, 3), events(1, 2, 3)) == []


def test_what_was_before_the_stream_began_is_not_owed():
    assert kinds(start(id=5) + sent(6), events(4, 5, 6)) == []


def test_a_resumed_stream_is_fine():
    records = start() + sent(1, 2) + [("close", "reset")] + start(2) + sent(3, 4)
    assert kinds(records, events(1, 2, 3, 4)) == []


def test_a_client_that_never_had_an_id_begins_anew():
    records = [("open", None), ("close", "reset")] + start(id=3) + sent(4)
    assert kinds(records, events(1, 2, 3, 4)) == []


def test_a_client_that_comes_as_somebody_new_begins_anew():
    records = start() + sent(1) + [("close", "left")] + start(id=3) + sent(4)
    assert kinds(records, events(1, 2, 3, 4)) == []
    records = start() + sent(1) + [("close", "left")] + start(id=2) + sent(4)
    assert kinds(records, events(1, 2, 3, 4)) == [HOLE]


def test_other_topics_and_types_are_not_owed():
    client = Client("c", ["t"], ["a"])
    ledger = events(1, type="a") + events(2, type="b") + events(3, topic="u", type="a")
    assert kinds(start() + sent(1, type="a"), ledger, client) == []


def test_a_gap_over_what_was_lost_is_fine():
    ledger = events(1, 2, state=LOST) + events(3)
    for reason in ("trimmed", "expired"):
        assert kinds(start() + [gap(0, 2, reason)] + sent(3), ledger) == []


def test_a_gap_without_an_id_is_told_again_after_a_cut():
    client = Client("c", ["t", "u"])
    ledger = events(1, 3, state=LOST) + events(2, topic="u")
    records = start() + [gap(0, 3, "trimmed", None)] + sent(2, topic="u") + [("close", "reset")]
    records += start(2) + [gap(2, 3, "trimmed")]
    assert kinds(records, ledger, client) == []


def test_a_gap_over_a_redis_that_lost_its_data_is_fine():
    ledger = Ledger(events(1, 2, state=LOST) + events(9), losses=[(0, 8)])
    assert kinds(start() + sent(1) + [gap(1, 8, "redis-lost")] + sent(9), ledger) == []


def test_a_gap_may_be_told_in_a_later_round():
    client = Client("c", ["t", "u"])
    first = Ledger(events(1, topic="u") + events(2, state=LOST))
    records = start() + [gap(0, 2, "expired", None)] + sent(1, topic="u")
    assert kinds(records, first, client) == []
    records = [("close", "reset"), ("open", 1), ("connected", 1), gap(1, 2, "expired")] + sent(3)
    assert kinds(records, events(3), client) == []


def test_a_gap_over_what_an_earlier_round_had_for_others():
    """Its log may be deleted before the client, which passed over it, has been told an id above it."""
    client = Client("c", ["t"], ["a"])
    first = Ledger(events(1, type="a") + events(2, type="b"))
    assert kinds(start() + sent(1, type="a"), first, client) == []
    records = [("close", "complete"), ("open", 1), ("connected", 1), gap(1, 2, "expired")] + sent(3, type="a")
    assert kinds(records, events(3, type="a"), client) == []


def test_what_a_failover_forgot_is_counted_apart():
    for told, how in (([], "silent"), ([gap(1, 2, "redis-lost")], "told"), (sent(2), "had")):
        ledger = Ledger(events(1) + events(2, state=FORGOTTEN) + events(3), losses=[(0, 2)])
        found = judge(start() + sent(1) + told + sent(3), ledger)
        assert found.violations == [] and found.forgotten[how] == 1


def test_ephemeral_events_may_be_missing():
    records = start() + [("event", None, None, "t#r1"), ("event", None, None, "t#r3")]
    assert kinds(records, []) == []


def test_the_state_of_a_connection_lasts_over_rounds():
    client = Client("c", ["t"])
    assert kinds(start() + sent(1), events(1), client) == []
    assert kinds(sent(2), events(2), client) == []
    assert kinds(sent(2), events(3), client) != []


# --- convicted ---


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_hole(lost):
    records = start() + sent(*[i for i in (1, 2, 3) if i != lost])
    assert kinds(records, events(1, 2, 3)) == [HOLE]


def test_hole_over_a_reconnect():
    records = start() + sent(1) + [("close", "reset")] + start(1) + sent(3)
    assert kinds(records, events(1, 2, 3)) == [HOLE]


def test_hole_for_a_pattern_and_for_an_event_on_two_topics():
    both = Event(2, "a.x#f2", ("a.x", "a.y"))
    for names in (["a.*"], ["a.y"], ["a.>"], ["a.x"], ["z", "a.x"]):
        assert kinds(start(id=1), [both], Client("c", names)) == [HOLE]


def test_hole_where_the_log_lost_and_nobody_told():
    assert kinds(start() + sent(2), events(1, state=LOST) + events(2)) == [HOLE]


def test_hole_beside_a_gap():
    ledger = events(1, 2, 3, state=LOST) + events(4)
    assert kinds(start() + [gap(0, 2, "trimmed")] + sent(4), ledger) == [HOLE]


def test_hole_for_a_filtered_client():
    client = Client("c", ["t"], ["a"])
    assert kinds(start() + sent(1, type="a"), events(1, 2, type="a"), client) == [HOLE]


def test_nothing_has_come_at_all():
    assert kinds([], events(7), resumed_client()) == [HOLE]


def resumed_client():
    client = Client("c", ["t"])
    assert kinds(start() + sent(5), events(5), client) == []
    return client


def test_duplicate_on_a_connection():
    assert kinds(start() + sent(1, 2, 2), events(1, 2))[0] == DUPLICATE


def test_duplicate_after_a_reconnect():
    records = start() + sent(1, 2) + [("close", "reset")] + [("open", 2), ("connected", 2)] + sent(2, 3)
    assert DUPLICATE in kinds(records, events(1, 2, 3))


def test_duplicate_out_of_order_after_a_reconnect():
    records = start() + sent(1, 2) + [("close", "reset")] + [("open", 2), ("connected", 1)] + sent(1, 2, 3)
    found = kinds(records, events(1, 2, 3))
    assert found.count(DUPLICATE) >= 2 and ORDER in found


def test_duplicate_ephemeral_on_one_connection():
    twice = [("event", None, None, "t#r4"), ("event", None, None, "t#r4")]
    assert kinds(start() + twice, []) == [DUPLICATE]
    apart = [twice[0], ("close", "reset"), *start(0), twice[1]]
    assert kinds(start() + apart, []) == []


def test_order_of_events():
    found = kinds(start() + sent(1, 3, 2), events(1, 2, 3))
    assert ORDER in found and HOLE not in found


def test_order_of_ephemeral_events():
    assert kinds(start() + [("event", None, None, "t#r10"), ("event", None, None, "t#r9")], []) == [ORDER]


def test_order_of_control_events():
    assert ORDER in kinds(start() + sent(5) + [gap(1, 4, "trimmed")], events(3, state=LOST) + events(5))
    assert ORDER in kinds(start() + [gap(0, 2, "trimmed", 1)], events(2, state=LOST))
    assert ORDER in kinds([("open", None)] + sent(1), events(1))


def test_an_id_that_goes_back_over_a_reconnect():
    records = start() + sent(5) + [("close", "reset"), ("open", 5), ("connected", 5), ("event", 4, None, "t#f4")]
    assert ORDER in kinds(records, events(4, 5))


def test_a_position_that_is_not_the_cursor():
    assert kinds(start() + sent(1) + [("close", "x"), ("open", 1), ("connected", 3)], events(1)) == [ORDER]


@pytest.mark.parametrize("reason", ["trimmed", "expired", "redis-lost", "overflow", "unknown-id", "nonsense"])
def test_false_gap_where_nothing_was_lost(reason):
    assert FALSE_GAP in kinds(start() + sent(1) + [gap(1, 2, reason)] + sent(3), events(1, 3))


def test_false_gap_over_what_the_log_still_has():
    ledger = Ledger(events(1, state=LOST) + events(2, 3))
    assert kinds(start() + [gap(0, 2, "trimmed")] + sent(3), ledger) == [FALSE_GAP]


def test_false_gap_over_what_the_client_has_had():
    ledger = events(1, 2, state=LOST)
    assert FALSE_GAP in kinds(start() + sent(1, 2) + [("close", "x")] + start(2) + [gap(1, 2, "expired", None)], ledger)
    client = Client("c", ["t"])
    assert kinds(start() + sent(1, 2), ledger, client) == []
    later = [("close", "x"), ("open", 2), ("connected", 2), gap(2, 3, "expired")]
    assert kinds(later + sent(4), events(4), client) == [FALSE_GAP]


def test_false_gap_of_another_topic():
    assert kinds(start() + [gap(0, 1, "expired")], events(1, topic="u", state=LOST)) == [FALSE_GAP]


def test_redis_lost_beyond_the_loss():
    ledger = Ledger(events(1, state=LOST) + events(9, 12), losses=[(0, 8)])
    assert FALSE_GAP in kinds(start() + [gap(0, 9, "redis-lost")] + sent(12), ledger)
    assert FALSE_GAP in kinds(start() + [gap(0, 8, "redis-lost")] + sent(9) + [gap(9, 11, "redis-lost")] + sent(12), ledger)


def test_unknown_id_of_a_cursor_that_is_ours():
    records = start() + sent(1) + [("close", "x"), ("open", 1), gap(None, 3, "unknown-id")]
    assert FALSE_GAP in kinds(records, events(1, 3))
    behind = Ledger(events(1), rewound=True)
    records = start(id=0) + sent(1) + [("close", "x"), ("open", 7), gap(None, 3, "unknown-id")]
    assert kinds(records, behind) == []


def test_late_events_of_a_server_that_was_not_followed_yet():
    """Order forbids to give them; they must be told, but only those that order forbids."""
    late = start() + sent(5) + [gap(2, 3, "overflow", None)] + sent(6)
    assert judge(late, Ledger(events(3, 5, 6), forked=True)).forgotten["late"] == 1
    assert kinds(late, Ledger(events(3, 5, 6), forked=True)) == []
    assert FALSE_GAP in kinds(late, events(3, 5, 6))
    assert kinds(start() + sent(5, 6), Ledger(events(3, 5, 6), forked=True)) == [HOLE]
    early = start() + sent(1) + [gap(2, 3, "overflow", None)] + sent(5)
    assert FALSE_GAP in kinds(early, Ledger(events(1, 3, 5), forked=True))


def test_stray_events():
    client = Client("c", ["t"], ["a"])
    published = {"t#f1": Publish(("t",), "a"), "u#f2": Publish(("u",), "a"), "t#f3": Publish(("t",), "b")}
    ledger = Ledger(
        events(1, type="a") + events(2, topic="u", type="a") + events(3, type="b"), publishes=published
    )
    assert kinds(start() + sent(1, type="a"), ledger, client) == []
    assert kinds(start(id=1) + sent(2, topic="u", type="a"), ledger, Client("c", ["t"], ["a"])) == [STRAY]
    assert kinds(start(id=1) + sent(3, type="b"), ledger, Client("c", ["t"], ["a"])) == [STRAY]
    assert STRAY in kinds(start(id=1) + sent(4), ledger)  # nobody published it
    assert STRAY in kinds(start(id=0) + [("event", 1, "a", "u#f2")], ledger)  # another event's data


# --- while a round settles ---


def test_outstanding():
    ledger = Ledger(events(1, 2) + events(3, state=LOST) + events(4, state=FORGOTTEN))
    client = Client("c", ["t"])
    names = lambda records: [e.id for e in outstanding(client, records, ledger)]  # noqa: E731
    assert names([]) == [1, 2]  # it has never been live, so it can be owed only what is there
    assert names(start()) == [1, 2, 3]
    assert names(start() + sent(1) + [gap(2, 3, "expired")]) == [2]
    assert names(start(id=2)) == [3]
    assert names(start() + sent(1, 2, 3)) == []


# --- the doors ---


def test_the_log_keeps_what_was_accepted():
    entries = events(1, 2)
    outcomes = {"t#f1": ("acked", 1, ("t",)), "t#f2": ("queued", None, ("t",)), "t#f3": ("unknown", None, ("t",))}
    assert judge_log(entries, outcomes, None) == []
    outcomes["t#f4"] = ("refused", None, ("t",))
    assert judge_log(entries, outcomes, None) == []


def found(entries, outcomes, *more):
    return [v.kind for v in judge_log(entries, outcomes, *more)]


def test_the_log_is_convicted():
    lost = {"t#f3": ("acked", 3, ("t",))}
    assert found(events(1), lost, None) == [LOG]
    assert found(events(1), lost, lambda topics: True) == []
    assert found(events(1), lost, lambda topics: "u" in topics) == [LOG]
    assert found(events(1), {"t#f1": ("refused", None, ("t",))}, None) == [LOG]
    assert found(events(1), {"t#f1": ("acked", 2, ("t",))}, None) == [LOG]
    twice = [Event(1, "t#x1", ("t",)), Event(2, "t#x1", ("t",))]
    assert found(twice, {}, None) == [LOG]
    assert found(twice, {}, None, {1}) == []  # Redis had forgotten the first
    assert found(twice, {"t#x1": ("acked", 2, ("t",))}, None, {1}) == []
    assert found(twice, {"t#x1": ("acked", 3, ("t",))}, None, {1}) == [LOG]


def test_patterns_match_as_the_truth_table_says():
    for v in load_vectors("patterns.json")["match"]:
        assert pattern_matches(v["pattern"], v["topic"]) == v["match"], v
