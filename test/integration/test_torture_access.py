# SPDX-License-Identifier: Apache-2.0
"""The judge of the torture test in what concerns tokens, judged: each planted violation is found, and nothing else."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "torture"))

from access import ACCESS, LEAK, Credential, Law, Revocation, Ticket, Token, Use  # noqa: E402
from access import judge_ghost, judge_ticket, overdue  # noqa: E402
from checker import HOLE, LOST, Client, Event, Judge, Ledger, Publish, outstanding  # noqa: E402

# Time is counted from 0; a token is issued at 10, and counts until 100 and two seconds.
TOKEN = Token("ann", "j1", "k1", 10, 100)
NEWER = Token("ann", "j2", "k2", 60, 160)


def event(id, at, match=None, topic="t"):
    """(what the log has, what was published)"""
    return Event(id, f"{topic}#f{id}", (topic,), match=match), Publish((topic,), match=match, at=at)


def ledger(*events, law=None, **more):
    found = [e for e, _ in events]
    return Ledger(found, publishes={e.key: p for e, p in events}, law=law or Law(leeway_s=2), **more)


def sent(*ids):
    return [("event", i, None, f"t#f{i}") for i in ids]


def start(token=TOKEN, at=20, id=0, cursor=None, use=None):
    return [("open", cursor, Credential(token, at, use)), ("connected", id if cursor is None else cursor)]


def revoked(*revocations):
    law = Law(leeway_s=2)
    for revocation in revocations:
        law.add(revocation)
    return law


def of(kind, value, sent=50, acked=50.5, **more):
    return Revocation(kind, value, sent, acked, **more)


def kinds(records, book, match=None):
    client = Client("c", ["t"], match=match)
    return [v.kind for v in Judge(client, records, book).violations]


EXACT = {"sub": "ann", "jti": "j1", "kid": "k1"}
OTHERS = {"sub": "bob", "jti": "j9", "kid": "k9"}
END = [("close", "complete")]


# --- groups ---


RED = {"group": ["red"], "user": ["ann"]}


@pytest.mark.parametrize("match", [{"group": "red"}, {"user": "ann"}, {"group": "red", "user": "ann"}])
def test_an_event_for_this_client_is_owed(match):
    book = ledger(event(1, 30, match))
    assert kinds(start() + sent(1), book, RED) == []
    assert kinds(start(), book, RED) == [HOLE]
    assert [e.id for e in outstanding(Client("c", ["t"], match=RED), start(), book)] == [1]


@pytest.mark.parametrize("match", [{"group": "blue"}, {"user": "bob"}, {"group": "red", "user": "bob"}, {"x": "red"}])
def test_an_event_for_another_is_a_leak(match):
    book = ledger(event(1, 30, match))
    assert kinds(start(), book, RED) == []
    assert kinds(start() + sent(1), book, RED) == [LEAK]
    ephemeral = [("event", None, None, "t#f1")]
    assert kinds(start() + ephemeral, book, RED) == [LEAK]


def test_who_has_no_grant_gets_none_of_them():
    book = ledger(event(1, 30, {"group": "red"}), event(2, 30))
    anonymous = [("open", None), ("connected", 0)]
    assert kinds(anonymous + sent(2), book) == []
    assert kinds(anonymous + sent(1, 2), book) == [LEAK]


def test_one_of_several_values_is_enough():
    book = ledger(event(1, 30, {"group": "red"}), event(2, 30, {"group": "blue"}))
    assert kinds(start() + sent(1, 2), book, {"group": ["blue", "red"]}) == []


# --- revoked ---


@pytest.mark.parametrize("kind", EXACT)
def test_published_after_a_revocation(kind):
    records = start() + sent(1)
    assert kinds(records, ledger(event(1, 51.4), law=revoked(of(kind, EXACT[kind])))) == []  # within the second
    assert kinds(records, ledger(event(1, 51.6), law=revoked(of(kind, EXACT[kind])))) == [LEAK]
    assert kinds(records, ledger(event(1, 51.6), law=revoked(of(kind, OTHERS[kind])))) == []


def test_ephemeral_events_after_a_revocation():
    records = start() + [("event", None, None, "t#f1")]
    assert kinds(records, ledger(event(1, 51.6), law=revoked(of("sub", "ann")))) == [LEAK, HOLE]


def test_a_revocation_that_nobody_knows_of_is_no_reason_and_an_excuse():
    unsure = Revocation("sub", "ann", 50)
    assert kinds(start() + sent(1), ledger(event(1, 70), law=revoked(unsure))) == []
    assert kinds(start() + [("shutdown", "revoked", 70)] + END, ledger(law=revoked(unsure))) == []
    unsure.settle(55)
    fresh = Token("ann", "j3", "k1", 56, 100)
    assert kinds(start(fresh, 57) + [("shutdown", "revoked", 70)] + END, ledger(law=revoked(unsure))) == [ACCESS]


def test_a_subject_that_logs_in_anew():
    law = revoked(of("sub", "ann"))
    late = event(1, 70)
    assert kinds(start(NEWER, 61) + sent(1), ledger(late, law=law)) == []
    assert kinds(start(NEWER, 61) + [("refused", 401, 62)], ledger(law=law)) == [ACCESS]
    before = revoked(of("sub", "ann", before=60))
    assert kinds(start(NEWER, 61) + sent(1), ledger(late, law=before)) == [ACCESS, LEAK]


def test_what_redis_forgot_is_not_known_to_be_revoked():
    law = revoked(of("sub", "ann"))
    law.forget(since=50, when=60)
    assert kinds(start() + sent(1), ledger(event(1, 70), law=law)) == []
    kept = revoked(of("sub", "ann"))
    kept.forget(since=55, when=60)
    assert kinds(start() + sent(1), ledger(event(1, 70), law=kept)) == [LEAK]


@pytest.mark.parametrize("after", [sent(1)[0], ("position", 1), ("expiring", 5), ("gap", 1, 0, 1, "trimmed"), ("connected", 1)])
def test_nothing_comes_after_the_end(after):
    for reason, kind in (("revoked", LEAK), ("token-expired", ACCESS), ("drain", ACCESS)):
        law = revoked(of("sub", "ann"))
        records = start() + [("shutdown", reason, 101), after]
        assert kind in kinds(records, ledger(event(1, 20), law=law))
        assert kinds(start() + sent(1) + [("shutdown", reason, 101)] + END, ledger(event(1, 20), law=law)) == []


def test_let_in_although_revoked():
    law = revoked(of("sub", "ann"))
    assert kinds(start(at=51), ledger(law=law)) == []
    assert kinds(start(at=52), ledger(law=law)) == [ACCESS]
    assert kinds(start(at=52)[:1] + [("refused", 401, 52), ("close", "401")], ledger(law=law)) == []


def test_a_stream_that_should_have_ended():
    law = revoked(of("sub", "ann"))
    assert overdue((TOKEN,), law, 51) is None and overdue((TOKEN,), law, 52)
    assert overdue((TOKEN, NEWER), law, 52) is None  # a renewal is on its way
    assert overdue((NEWER,), law, 52) is None and overdue((NEWER,), law, 170)
    assert overdue((), law, 52) is None


# --- the end of a token, and a new one ---


def test_published_after_the_end_of_a_token():
    assert kinds(start() + sent(1), ledger(event(1, 102.9))) == []
    assert kinds(start() + sent(1), ledger(event(1, 103.1))) == [LEAK]


def test_renewed():
    late = event(1, 150)
    asked, taken = [("right", (TOKEN, NEWER))], [("right", (NEWER,))]
    assert kinds(start() + asked + taken + sent(1), ledger(late)) == []
    assert kinds(start() + asked + sent(1), ledger(late)) == []  # nobody knows
    assert kinds(start() + asked + [("right", (TOKEN,))] + sent(1), ledger(late)) == [LEAK]  # it was refused
    assert kinds(start() + asked + taken + [("shutdown", "token-expired", 101)] + END, ledger()) == [ACCESS]


def test_ended_too_early():
    for at, found in ((99, [ACCESS]), (100.1, [])):
        assert kinds(start() + [("shutdown", "token-expired", at)] + END, ledger()) == found


@pytest.mark.parametrize("reason", ["revoked", "replaced", "nonsense"])
def test_ended_without_a_cause(reason):
    assert kinds(start() + [("shutdown", reason, 50)] + END, ledger()) == [ACCESS]


@pytest.mark.parametrize("reason", ["revoked", "replaced", "token-expired"])
def test_who_came_without_a_credential_is_never_ended_so(reason):
    assert kinds([("open", None), ("connected", 0), ("shutdown", reason, 500)], ledger()) == [ACCESS]


def test_expiring_is_told_after_connected():
    early = start()[:1] + [("expiring", 5)] + start()[1:]
    assert kinds(early, ledger()) == [ACCESS]
    assert kinds(start() + [("expiring", 5)], ledger()) == []
    assert kinds([("open", None), ("connected", 0), ("expiring", 5)], ledger()) == [ACCESS]


def test_a_hole_over_a_renewal_or_an_end_is_one():
    ended = [("shutdown", "token-expired", 101)] + END
    again = start(NEWER, 102, cursor=1)
    assert kinds(start() + sent(1) + ended + again + sent(3), ledger(event(1, 30), event(2, 60), event(3, 110))) == [HOLE]
    renewed = [("right", (NEWER,))]
    assert kinds(start() + sent(1) + renewed + sent(3), ledger(event(1, 30), event(2, 60), event(3, 110))) == [HOLE]


# --- refused ---


def refused(status=401, when=50, law=None, token=TOKEN, use=None):
    return kinds([("open", None, Credential(token, when - 1, use)), ("refused", status, when)], ledger(law=law))


def test_refused_without_a_cause():
    assert refused() == [ACCESS]
    assert refused(403) == [ACCESS]
    assert kinds([("open", None), ("refused", 401, 50)], ledger()) == [ACCESS]


def test_refused_with_a_cause():
    assert refused(when=102.5) == []
    assert refused(when=101.5) == [ACCESS]  # it counts by the leeway
    assert refused(law=revoked(of("kid", "k1"))) == []
    law = Law(leeway_s=2)
    law.dropped["k1"] = 49
    assert refused(law=law) == []
    assert refused(law=law, when=48) == [ACCESS]


def test_let_in_with_a_key_that_is_gone():
    law = Law(leeway_s=2)
    law.gone["k1"] = 49
    assert kinds(start(at=48), ledger(law=law)) == []
    assert kinds(start(at=50), ledger(law=law)) == [ACCESS]


# --- tickets ---


def used(*uses, issued=15):
    """A ticket with these uses: (cursor, at, connected, ended, keys)"""
    ticket = Ticket(TOKEN, issued)
    for cursor, at, connected, ended, keys in uses:
        use = Use(ticket, cursor, at)
        use.connected, use.ended, use.keys = connected, ended, keys
    return ticket


BOOK = ledger(event(1, 22), event(2, 30), event(3, 41))
KEYS = [e.key for e in BOOK.events]


def pairs_of(ticket, law=None):
    return len(judge_ticket(ticket, BOOK.publishes, law or Law()))


def test_a_ticket_with_two_streams():
    first = (None, 20, 20.1, None, KEYS)
    assert pairs_of(used(first)) == 0
    assert pairs_of(used(first, (1, 25, 25.1, None, []))) == 1
    assert pairs_of(used((None, 20, 20.1, 26, KEYS[:1]), (1, 25, 25.1, None, KEYS[1:]))) == 0
    assert pairs_of(used(first, (1, 25, None, None, []))) == 0  # the second was never let in
    forgotten = Law()
    forgotten.forget(0, 24)
    assert pairs_of(used(first, (1, 25, 25.1, None, [])), forgotten) == 0


def test_a_ticket_that_two_ask_for_at_the_same_time():
    """Either may have it, and the other one ends."""
    first, second = (1, 20, 20.2, None, KEYS), (1, 20.1, 20.2, None, KEYS)
    assert pairs_of(used(first, second)) == 1
    assert pairs_of(used(first, (*second[:4], KEYS[:0]))) == 0
    assert pairs_of(used((*first[:4], KEYS[:0]), second)) == 0


def ticket_refused(ticket, cursor=None, when=50, law=None):
    return refused(use=Use(ticket, cursor, when - 1), when=when, law=law or Law(leeway_s=2))


def test_a_ticket_that_is_refused():
    assert ticket_refused(used(), when=40) == [ACCESS]
    assert ticket_refused(used(), when=46) == []  # it was to be used within 30 s
    one = (None, 20, 20.1, 30, [])
    assert ticket_refused(used(one)) == []  # used, and no cursor
    assert ticket_refused(used(one), cursor=1) == [ACCESS]
    assert ticket_refused(used((None, 20, 20.1, None, [])), cursor=1) == [ACCESS]
    assert ticket_refused(used(one), cursor=1, when=91) == []  # 60 s after the end
    assert ticket_refused(used(one), cursor=1, law=revoked(of("jti", "j1", 40, 41))) == []
    lost = Law(leeway_s=2)
    lost.forget(0, 49)
    assert ticket_refused(used(one), cursor=1, law=lost) == []


def test_a_spent_ticket_without_a_cursor():
    def again(cursor, *uses, law=None):
        ticket = used(*uses)
        use = Use(ticket, cursor, 40)
        use.connected = 40.1
        return kinds(start(at=40, cursor=cursor, use=use), ledger(law=law))

    one = (None, 20, 20.1, 30, [])
    assert again(None) == [] and again(1, one) == []
    assert again(None, one) == [ACCESS]
    assert again(None, (None, 20, None, 30, [])) == []  # that one was told no id
    assert again(None, (None, 39.9, 40.2, None, [])) == [ACCESS]  # two at the same time, and both were let in
    lost = Law(leeway_s=2)
    lost.forget(0, 35)
    assert again(None, one, law=lost) == []


def test_replaced_needs_another_one():
    alone, two = used(), used()
    Use(two, None, 19)
    for ticket, found in ((alone, [ACCESS]), (two, [])):
        assert kinds(start(use=Use(ticket, None, 20)) + [("shutdown", "replaced", 30)] + END, ledger()) == found


def test_a_connection_that_was_left():
    law = revoked(of("sub", "ann"))
    book = ledger(event(1, 30), event(2, 60), event(3, 30, {"group": "blue"}), law=law)
    credential = Credential(TOKEN, 20, Use(Ticket(TOKEN, 15), None, 20))
    ghost = lambda *records: [k for k, _, _ in judge_ghost(Client("c", ["t"], match=RED), records, credential, (TOKEN,), book)]  # noqa: E731
    assert ghost(*sent(1), ("shutdown", "revoked", 55), *END) == []
    assert ghost(*sent(2)) == [LEAK]
    assert ghost(*sent(3)) == [LEAK]
    assert ghost(("shutdown", "revoked", 55), *sent(1)) == [LEAK]
    assert ghost(("shutdown", "replaced", 55)) == [ACCESS]
    assert ghost(("right", (NEWER,)), *sent(2)) == []


def test_lost_events_of_others_may_make_a_gap():
    """Nobody knows any more for whom a lost event was."""
    mine, other = event(1, 30), event(2, 31, {"user": "bob"})
    other[0].state = LOST
    assert kinds(start() + sent(1) + [("gap", 2, 1, 2, "trimmed")], ledger(mine, other), RED) == []
