# SPDX-License-Identifier: Apache-2.0
"""sse_ticket and sse_revoke and their kin against a real Redis: once over all, until when, and what they refuse."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from lua_rig import KEY, Listener, found, r, raw, server, snapshot  # noqa: F401
from relay_process import wait_until

HASH = hashlib.sha256(b"default~ticket").hexdigest()
TICKET = f"{KEY}:ticket:{HASH}"
GRANT = '{"ns":"default","subscribe":["a.*"],"subject":"42"}'
ONE, TWO, THREE = "1" * 32, "2" * 32, "f" * 32
MONTH_S, LEEWAY_S = 30 * 86400, 600


def now_s(r):
    return r.time()[0]


def issue(r, hash=HASH, grant=GRANT, ttl=30000, until=0, space=KEY):
    return r.fcall("sse_ticket", 1, space, hash, "grant", grant, "ttl", ttl, "until", until)


def take(r, connection=ONE, cursor=0, grace=60000, hash=HASH, space=KEY):
    return r.fcall("sse_ticket_take", 1, space, hash, "connection", connection, "cursor", cursor, "grace", grace)


def end(r, connection=ONE, grace=60000, unused=0, hash=HASH):
    return r.fcall("sse_ticket_end", 1, KEY, hash, "connection", connection, "grace", grace, "unused", unused)


def revoke(r, *args, space=KEY):
    return r.fcall("sse_revoke", 1, space, *args)


def revoked(r, space=KEY):
    flat = r.execute_command("FCALL_RO", "sse_revoked", 1, space)
    return [tuple(flat[i : i + 4]) for i in range(0, len(flat), 4)]


def refused(answer):
    return answer[0] == "no" and len(answer) == 2 and answer[1]


# ---- Tickets: the first use ----


def test_a_ticket_brings_its_grant_once(r):
    assert issue(r) == "OK"
    assert 0 < r.pttl(TICKET) <= 30000
    assert take(r) == ["ok", GRANT, ""]
    assert refused(take(r, TWO))
    assert refused(take(r, hash="0" * 64))
    assert refused(take(r, space="sse:{other}"))


def test_once_over_all_connections(server, r):
    clients = [server.client() for _ in range(8)]
    for n in range(40):
        hash = f"{n:064x}"
        issue(r, hash=hash)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda i: take(clients[i], f"{i:032x}", hash=hash), range(8)))
        assert sorted(a[0] for a in answers) == ["no"] * 7 + ["ok"]


def test_a_look_takes_nothing(r):
    def look(connection, cursor=0, grace=60000):
        args = ["connection", connection, "cursor", cursor, "grace", grace]
        return r.fcall("sse_ticket_take", 1, KEY, HASH, *args, "peek", 1)

    assert refused(look(ONE))
    issue(r)
    assert look(ONE) == look(TWO) == ["ok", GRANT, ""]
    assert r.pttl(TICKET) <= 30000
    assert take(r, TWO) == ["ok", GRANT, ""]
    assert refused(look(THREE)) and look(THREE, cursor=1) == ["ok", GRANT, TWO]
    assert take(r, THREE, cursor=1) == ["ok", GRANT, TWO]


def test_the_same_call_again_gets_the_same_answer(r):
    """Its first answer may have been lost on the way."""
    issue(r)
    assert take(r) == take(r) == ["ok", GRANT, ""]
    assert refused(take(r, TWO))


def test_unused_it_lives_for_its_ttl_and_used_until_its_end(r):
    until = now_s(r) + 1000
    issue(r, ttl=20000, until=until)
    assert r.pttl(TICKET) <= 20000
    take(r)
    assert 990_000 < r.pttl(TICKET) <= 1000_000
    issue(r, hash="0" * 64, ttl=20000)  # its token has no end
    take(r, hash="0" * 64)
    assert (MONTH_S - 10) * 1000 < r.pttl(f"{KEY}:ticket:{'0' * 64}") <= MONTH_S * 1000
    issue(r, hash="1" * 64, ttl=86400000, until=until)  # its token ends first
    assert r.pttl(f"{KEY}:ticket:{'1' * 64}") <= 1000_000


def test_an_expired_ticket_is_none(r):
    issue(r, ttl=1)
    wait_until(lambda: not r.exists(TICKET), "the ticket's end")
    assert refused(take(r))
    issue(r)
    take(r)
    r.hset(TICKET, "until", now_s(r) * 1000)  # as if its time had come, and Redis had not looked yet
    assert refused(take(r, TWO, cursor=1))


def test_two_tickets_never_share_a_hash(r):
    issue(r)
    with pytest.raises(redis.ResponseError, match="^ERR sse_ticket: hash: there is a ticket with it|^sse_ticket: hash"):
        issue(r, grant='{"ns":"default","subscribe":[">"]}')
    assert take(r)[1] == GRANT


# ---- Tickets: the same stream again ----


def test_a_reconnect_with_a_cursor_replaces_the_one_before(r):
    issue(r)
    take(r)
    assert refused(take(r, TWO, cursor=0))
    assert take(r, TWO, cursor=1) == ["ok", GRANT, ONE]
    assert take(r, THREE, cursor=1) == ["ok", GRANT, TWO]


def test_a_reconnect_within_the_grace_and_not_after(r):
    issue(r)
    take(r)
    assert end(r, grace=60000) == "OK"
    assert 0 < r.pttl(TICKET) <= 60000
    assert take(r, TWO, cursor=1) == ["ok", GRANT, ""]
    assert r.pttl(TICKET) > 60000  # it is in use again
    end(r, TWO, grace=1)
    wait_until(lambda: not r.exists(TICKET), "the end of the grace")
    assert refused(take(r, THREE, cursor=1))


def test_grace_0_is_strictly_once(r):
    issue(r)
    assert take(r, grace=0)[0] == "ok"
    assert refused(take(r, TWO, cursor=1, grace=0))
    end(r, grace=0)
    assert not r.exists(TICKET)


def test_only_who_has_it_can_end_it(raw, r):
    issue(r)
    before = snapshot(raw)
    end(r)  # nobody has it yet
    assert snapshot(raw) == before
    take(r)
    take(r, TWO, cursor=1)
    before = snapshot(raw)
    assert end(r, ONE, grace=0) == "OK"  # it was replaced
    assert end(r, ONE, unused=1) == "OK"
    assert snapshot(raw) == before
    assert end(r, hash="0" * 64) == "OK"  # it has expired
    assert r.keys("*") == [TICKET]


def test_a_stream_that_told_nothing_gives_its_ticket_back(r):
    issue(r, ttl=20000)
    take(r)
    end(r, grace=1000, unused=1)
    assert 1000 < r.pttl(TICKET) <= 20000
    assert take(r, TWO) == ["ok", GRANT, ""]
    r.hset(TICKET, "fresh", now_s(r) * 1000 - 1)  # its first ttl is over
    end(r, TWO, unused=1)  # and still nobody was told anything
    assert 20000 < r.pttl(TICKET) <= 60000
    assert take(r, THREE) == ["ok", GRANT, ""]
    assert take(r, ONE, cursor=1) == ["ok", GRANT, THREE]  # so that of THREE was
    end(r, ONE, unused=1)
    assert refused(take(r, TWO)) and take(r, TWO, cursor=1) == ["ok", GRANT, ""]


def test_the_grace_ends_with_the_token(r):
    issue(r, until=now_s(r) + 10)
    take(r)
    end(r, grace=60000)
    assert 0 < r.pttl(TICKET) <= 10000


# ---- Revocations ----


def test_what_was_revoked_is_told_and_kept(r):
    listener = Listener(r, f"{KEY}:revoked")
    now = now_s(r)
    assert revoke(r, "jti", "j1") == "OK"
    assert revoke(r, "sub", "42") == "OK"
    assert revoke(r, "kid", "k/1") == "OK"
    entries = revoked(r)
    assert [e[:2] for e in entries] == [("jti", "j1"), ("sub", "42"), ("kid", "k/1")]
    assert entries[0][2] == "0" and entries[2][2:] == ("0", "0"), "a key that leaked signs new tokens: for ever"
    assert now <= int(entries[1][2]) <= now_s(r)
    for entry in entries[:2]:
        assert now + MONTH_S + LEEWAY_S <= int(entry[3]) <= now_s(r) + MONTH_S + LEEWAY_S + 1
    heard = [(channel, json.loads(text)) for channel, text in listener.pending()]
    assert heard == [(f"{KEY}:revoked", dict(zip(("kind", "value", "before", "expires"), e))) for e in entries]
    assert revoked(r, "sse:{other}") == []


def test_before_only_rises(r):
    now = now_s(r)
    revoke(r, "sub", "42", "before", now - 100)
    assert revoked(r)[0][2] == str(now - 100)
    revoke(r, "sub", "42", "before", now - 50)
    revoke(r, "sub", "42", "before", now - 200)
    assert [e[2] for e in revoked(r)] == [str(now - 50)]
    revoke(r, "sub", "42", "before", now + 60)
    assert int(revoked(r)[0][3]) >= now + 60 + MONTH_S, "tokens of that minute live as long"


def test_kept_for_the_life_of_a_token(r):
    found(r, "max_token_life", 60_000)
    now = now_s(r)
    revoke(r, "jti", "short")
    assert now + 60 + LEEWAY_S <= int(revoked(r)[0][3]) <= now_s(r) + 61 + LEEWAY_S
    found(r, "max_token_life", 0)
    revoke(r, "jti", "for ever")
    assert ("jti", "for ever", "0", "0") in revoked(r)
    found(r, "max_token_life", 1000)
    revoke(r, "jti", "for ever")
    assert ("jti", "for ever", "0", "0") in revoked(r), "never shorter than it was said"
    with pytest.raises(redis.ResponseError, match="max_token_life: not an integer"):
        found(r, "max_token_life", -1)


def test_what_no_token_has_any_more_goes(r):
    revoke(r, "jti", "new")
    r.zadd(f"{KEY}:revoked:jti", {"old": now_s(r) - 1})
    r.zadd(f"{KEY}:revoked:sub", {"old": now_s(r) - 1})
    r.zadd(f"{KEY}:revoked:before", {"old": 1})
    assert [e[1] for e in revoked(r)] == ["new"]
    revoke(r, "jti", "newer")
    revoke(r, "sub", "newer")
    assert r.zrange(f"{KEY}:revoked:jti", 0, -1) == ["new", "newer"]
    assert r.zrange(f"{KEY}:revoked:sub", 0, -1) == r.zrange(f"{KEY}:revoked:before", 0, -1) == ["newer"]


def test_a_full_kind_refuses_and_forgets_nothing(raw, r):
    key, never = f"{KEY}:revoked:jti", now_s(r) + 10**6
    for start in range(0, 100_000, 10_000):
        r.zadd(key, {f"j{n}": never for n in range(start, start + 10_000)})
    before = snapshot(raw)
    listener = Listener(r, f"{KEY}:revoked")
    with pytest.raises(redis.ResponseError, match="sse_revoke: full: 100000 "):
        revoke(r, "jti", "one more")
    assert snapshot(raw) == before and listener.pending() == []
    assert revoke(r, "jti", "j7") == "OK", "it is there already"
    assert revoke(r, "sub", "42") == "OK", "others have room of their own"
    r.zadd(key, {"j7": now_s(r) - 1})
    assert revoke(r, "jti", "one more") == "OK", "an expired one makes room"
    assert len(revoked(r)) == 100_001


def test_any_text_that_a_token_may_have(r):
    listener = Listener(r, f"{KEY}:revoked")
    texts = ["a b", 'quote " and \\', "zwölf 🍏", "line\r\nbreak\t", "x" * 1024, "*", "</script>"]
    for text in texts:
        revoke(r, "sub", text)
    assert sorted(e[1] for e in revoked(r)) == sorted(texts)
    assert [json.loads(told)["value"] for _, told in listener.pending()] == texts


def test_revoked_writes_nothing(raw, r):
    revoke(r, "sub", "42")
    r.zadd(f"{KEY}:revoked:jti", {"old": 1})
    before = snapshot(raw)
    revoked(r)
    assert snapshot(raw) == before
    with pytest.raises(redis.ResponseError, match="write"):
        r.execute_command("FCALL_RO", "sse_revoke", 1, KEY, "jti", "j")


# ---- What they refuse ----

TICKET_ARGS = [HASH, "grant", GRANT, "ttl", "1000", "until", "0"]
TAKE_ARGS = [HASH, "connection", ONE, "cursor", "1", "grace", "1000"]
END_ARGS = [HASH, "connection", ONE, "grace", "1000", "unused", "0"]


def changed(args, name, value):
    at = args.index(name) + 1
    return args[:at] + [value] + args[at + 1 :]


BAD = [
    ("sse_ticket", [], "hash: not 64 hexadecimal"),
    ("sse_ticket", ["A" * 64] + TICKET_ARGS[1:], "hash: not 64 hexadecimal"),
    ("sse_ticket", ["a" * 63] + TICKET_ARGS[1:], "hash: not 64 hexadecimal"),
    ("sse_ticket", TICKET_ARGS[:-2], "until: missing"),
    ("sse_ticket", TICKET_ARGS[:-1], "until: has no value"),
    ("sse_ticket", TICKET_ARGS + ["ttl", "5"], "ttl: given twice"),
    ("sse_ticket", TICKET_ARGS + ["colour", "red"], "colour: unknown argument"),
    ("sse_ticket", changed(TICKET_ARGS, "grant", "[]"), "grant: not a JSON object"),
    ("sse_ticket", changed(TICKET_ARGS, "grant", "{"), "grant: not a JSON object"),
    ("sse_ticket", changed(TICKET_ARGS, "grant", '{"a":"' + "x" * 65536 + '"}'), "grant: not a JSON object"),
    ("sse_ticket", changed(TICKET_ARGS, "ttl", "0"), "ttl: not an integer from 1 to 86400000"),
    ("sse_ticket", changed(TICKET_ARGS, "ttl", "86400001"), "ttl: not an integer"),
    ("sse_ticket", changed(TICKET_ARGS, "ttl", "1.5"), "ttl: not an integer"),
    ("sse_ticket", changed(TICKET_ARGS, "until", "-1"), "until: not an integer"),
    ("sse_ticket", changed(TICKET_ARGS, "until", "1"), "until: is over"),
    ("sse_ticket_take", ["x"] + TAKE_ARGS[1:], "hash: not 64 hexadecimal"),
    ("sse_ticket_take", changed(TAKE_ARGS, "connection", ""), "connection: not 32 hexadecimal"),
    ("sse_ticket_take", changed(TAKE_ARGS, "connection", "-"), "connection: not 32 hexadecimal"),
    ("sse_ticket_take", changed(TAKE_ARGS, "cursor", "2"), "cursor: not one of 1, true, 0, false"),
    ("sse_ticket_take", changed(TAKE_ARGS, "grace", "x"), "grace: not an integer from 0 to 86400000"),
    ("sse_ticket_take", TAKE_ARGS[:-2], "grace: missing"),
    ("sse_ticket_end", changed(END_ARGS, "unused", ""), "unused: not one of"),
    ("sse_ticket_end", END_ARGS[:-2], "unused: missing"),
    ("sse_revoke", [], "jti, sub or kid: missing"),
    ("sse_revoke", ["jti"], "jti: has no value"),
    ("sse_revoke", ["jti", ""], "jti: not 1 to 1024 bytes"),
    ("sse_revoke", ["sub", "x" * 1025], "sub: not 1 to 1024 bytes"),
    ("sse_revoke", ["sub", b"a\0b"], "sub: not UTF-8 without NUL"),
    ("sse_revoke", ["kid", b"\xff"], "kid: not UTF-8 without NUL"),
    ("sse_revoke", ["jti", "j", "sub", "s"], "sub: only one of jti, sub and kid"),
    ("sse_revoke", ["jti", "j", "jti", "i"], "jti: given twice"),
    ("sse_revoke", ["jti", "j", "before", "1"], "before: only with sub"),
    ("sse_revoke", ["sub", "s", "before", "1767225600123"], "before: more than a day ahead"),
    ("sse_revoke", ["sub", "s", "before", "now"], "before: not an integer"),
    ("sse_revoke", ["user", "s"], "user: unknown argument"),
    ("sse_revoked", ["x"], "x: unknown argument"),
]


@pytest.mark.parametrize("function,args,why", BAD, ids=[f"{f}-{w}" for f, _, w in BAD])
def test_bad_arguments_change_nothing(raw, r, function, args, why):
    issue(r)
    take(r, THREE)
    revoke(r, "sub", "s", "before", 5)
    before = snapshot(raw)
    listener = Listener(r, f"{KEY}:revoked")
    with pytest.raises(redis.ResponseError) as error:
        r.fcall(function, 1, KEY, *args)
    assert f"{function}: {why}" in str(error.value)
    assert snapshot(raw) == before and listener.pending() == []


@pytest.mark.parametrize("function", ["sse_ticket", "sse_ticket_take", "sse_ticket_end", "sse_revoke", "sse_revoked"])
@pytest.mark.parametrize("keys", [[], ["sse"], ["sse:{a b}"], [KEY, KEY]])
def test_the_key_must_be_one_namespace(r, function, keys):
    with pytest.raises(redis.ResponseError, match=f"{function}: key: not one key of the form"):
        r.fcall(function, len(keys), *keys)
    assert r.keys("*") == []


def test_a_user_without_the_channel_revokes_nothing(server, r):
    r.execute_command(*"ACL SETUSER deaf on nopass ~sse:* resetchannels +@all".split())
    client = redis.Redis(port=server.port, username="deaf", password="x")
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.fcall("sse_revoke", 1, KEY, "jti", "j")
    assert r.keys("*") == []
    r.acl_deluser("deaf")
    client.close()


def test_without_memory_what_is_out_stays_out(r):
    """No new tickets, but those there are can be used and ended, and everything can be revoked."""
    issue(r)
    r.config_set("maxmemory", 1)
    with pytest.raises(redis.ResponseError, match="OOM|maxmemory"):
        issue(r, hash="0" * 64)
    assert take(r)[0] == "ok"
    assert end(r) == "OK"
    assert revoke(r, "sub", "42") == "OK"
