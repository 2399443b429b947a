# SPDX-License-Identifier: Apache-2.0
"""sse_publish against a real Redis: ids, log, envelope, and what it refuses."""

import json
import re
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
import redis

from lua_rig import (  # noqa: F401
    DAY_US, KEY, LIBRARY, MAX_ID, Listener, assert_chain, drain, index, log, now_us, position, publish, r, raw,
    server, since, snapshot,
)
from redis_server import RedisServer
from relay_process import wait_until


# ---- The library itself ----


def test_library_loads_and_tells_its_version(r):
    assert LIBRARY.read_text("utf-8").startswith("#!lua name=sse_relay\n")
    in_text = int(re.search(r"^local VERSION = (\d+)$", LIBRARY.read_text("utf-8"), re.M).group(1))
    assert r.fcall("sse_version", 0) == in_text
    assert r.fcall("sse_version", 1, KEY) == in_text
    assert r.function_load(LIBRARY.read_text("utf-8"), replace=True) == "sse_relay"


def test_version_can_be_asked_without_writing(r):
    assert r.execute_command("FCALL_RO", "sse_version", 0) >= 1
    with pytest.raises(redis.ResponseError, match="write"):
        r.execute_command("FCALL_RO", "sse_publish", 1, KEY, "topic", "a", "data", "x")


# ---- Ids ----


def test_id_is_text_and_follows_the_servers_clock(r):
    before = now_us(r)
    first, second = publish(r, "a"), publish(r, "a")
    assert isinstance(first, str) and first.isdigit()
    assert before < int(first) < int(second) <= now_us(r) + 1
    assert r.get(f"{KEY}:seq") == second
    before = now_us(r)
    assert int(publish(r, "a")) >= before


def _publish_many(port, count):
    with redis.Redis(host="127.0.0.1", port=port, decode_responses=True) as r:
        return [int(publish(r, "shared", data=i)) for i in range(count)]


def test_ids_strictly_increase_with_many_parallel_publishers(server, r):
    with ProcessPoolExecutor(6) as pool:
        runs = [f.result() for f in [pool.submit(_publish_many, server.port, 400) for _ in range(6)]]
    for ids in runs:
        assert ids == sorted(ids)
    all_ids = sorted(i for ids in runs for i in ids)
    assert len(set(all_ids)) == 2400
    entries = log(r, "shared")
    assert [i for i, _ in entries] == all_ids[-len(entries) :]
    assert [int(f["prev"]) for _, f in entries[1:]] == [i for i, _ in entries[:-1]]


def test_ids_increase_over_flushall(r):
    last = int(publish(r, "a"))
    for _ in range(20):
        r.flushall()
        new = int(publish(r, "a"))
        assert new > last
        last = new


def test_ids_increase_one_by_one_while_the_counter_is_ahead_of_the_clock(r):
    ahead = now_us(r) + 365 * DAY_US
    publish(r, "a")
    r.set(f"{KEY}:seq", ahead)
    assert [int(publish(r, "a")) for _ in range(3)] == [ahead + 1, ahead + 2, ahead + 3]
    assert_chain(log(r, "a"))


def test_lost_counter_restarts_above_the_index(r):
    ahead = now_us(r) + 365 * DAY_US
    position(r)
    r.set(f"{KEY}:seq", ahead)
    publish(r, "a")
    horizon = r.get(f"{KEY}:horizon")
    r.delete(f"{KEY}:seq")
    assert int(publish(r, "other")) > ahead + 1
    assert r.get(f"{KEY}:horizon") == horizon, "the index still knows what was published"
    r.delete(f"{KEY}:seq")
    assert position(r)[0] > ahead + 1


def test_lost_counter_and_index_restart_above_the_logs(r):
    ahead = now_us(r) + 365 * DAY_US
    r.set(f"{KEY}:seq", ahead)
    last = int(publish(r, "a", "b"))
    r.delete(f"{KEY}:seq", f"{KEY}:topics", f"{KEY}:horizon")
    new = int(publish(r, "c", "b"))
    assert new == last + 1
    assert [i for i, _ in log(r, "b")] == [last, new]
    assert log(r, "b")[1][1]["prev"] == str(last)
    assert log(r, "c")[0][1]["prev"] == "0"
    assert int(r.get(f"{KEY}:horizon")) == new - 1


def test_lost_counter_looks_at_a_logs_last_id_even_if_that_entry_is_gone(r):
    ahead = now_us(r) + 365 * DAY_US
    r.set(f"{KEY}:seq", ahead)
    publish(r, "a")
    last = publish(r, "a")
    r.xdel(f"{KEY}:log:a", f"{last}-0")
    r.delete(f"{KEY}:seq", f"{KEY}:topics", f"{KEY}:horizon")
    assert int(publish(r, "a")) == int(last) + 1


def test_lost_counter_and_index_restart_above_the_horizon(r):
    ahead = now_us(r) + 365 * DAY_US
    r.set(f"{KEY}:horizon", ahead)
    assert int(publish(r, "a")) == ahead + 1
    assert int(r.get(f"{KEY}:horizon")) == ahead


def test_counter_set_back_never_reuses_an_id(r):
    ahead = now_us(r) + 365 * DAY_US
    r.set(f"{KEY}:seq", ahead)
    publish(r, "a")
    r.set(f"{KEY}:seq", 5)
    assert int(publish(r, "b", "a")) == ahead + 2
    r.set(f"{KEY}:seq", ahead + 1)
    assert int(publish(r, "a")) == ahead + 3
    assert_chain(log(r, "a"))


def test_last_id_below_2_to_the_53_is_given_and_the_next_refused_whole(r, raw):
    r.set(f"{KEY}:seq", MAX_ID - 1)
    assert publish(r, "a") == str(MAX_ID)
    before = snapshot(raw)
    with pytest.raises(redis.ResponseError, match="no id is left"):
        publish(r, "a")
    assert snapshot(raw) == before
    assert log(r, "a")[0][0] == MAX_ID
    assert position(r)[0] == MAX_ID
    assert since(r, "cursor", "0", "topic", "a")[3] == {"a": str(MAX_ID)}


def test_namespace_survives_a_restart_with_its_data(tmp_path):
    with RedisServer(tmp_path) as s:
        r = s.client()
        r.function_load(LIBRARY.read_text("utf-8"))
        first = publish(r, "a")
        s.restart()
        second = publish(r, "a")
        assert int(second) > int(first)
        assert_chain(log(r, "a"))


# ---- Log, index, prev ----


def test_prev_chains_each_topic_on_its_own(r):
    for topic in "aabababbba":
        publish(r, topic)
    publish(r, "a", "b")
    for topic in "ab":
        assert_chain(log(r, topic))
    assert index(r) == {t: log(r, t)[-1][0] for t in "ab"}


def test_several_topics_share_one_id(r):
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    publish(r, "b")
    listener.pending()
    new = publish(r, "a", "b", "c", "b")
    assert [log(r, t)[-1][0] for t in "abc"] == [int(new)] * 3
    assert [log(r, t)[-1][1]["prev"] == "0" for t in "abc"] == [True, False, True]
    heard = [(c.rsplit(":", 1)[1], json.loads(d)) for c, d in listener.pending()]
    assert [c for c, _ in heard] == ["a", "b", "c"], "a topic given twice is one topic"
    assert all(m["topic"] == c and m["id"] == new for c, m in heard)
    assert {m["prev"] for c, m in heard if c != "b"} == {"0"}


def commands_of(r, *topics, **options):
    """What a publish costs Redis."""
    r.config_resetstat()
    publish(r, *topics, **options)
    stats = r.info("commandstats")
    return {name: stats[name]["calls"] for name in stats if name not in ("cmdstat_config|resetstat", "cmdstat_info")}


def test_an_event_on_several_topics_has_a_priority_and_that_costs_nothing(r):
    """So that no relay's rules have it merged away on one of them."""
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    publish(r, "a", "b")  # the topics are known from now on
    listener.pending()
    absent = commands_of(r, "a", "b")
    explicit = commands_of(r, "a", "b", priority="instant")
    publish(r, "a", "b", priority="batched")
    publish(r, "a", "a")
    assert absent == explicit and absent["cmdstat_xadd"] == 2
    expected = ["instant"] * 3 + ["batched"] + [None]
    assert [entry[1].get("priority") for entry in log(r, "a")] == expected
    assert [entry[1].get("priority") for entry in log(r, "b")] == expected[:4]
    heard = [json.loads(d).get("priority") for _, d in listener.pending()]
    assert heard == ["instant"] * 4 + ["batched"] * 2 + [None]


def test_64_topics_are_taken(r):
    topics = [f"t.{i}" for i in range(64)]
    new = int(publish(r, *topics))
    assert index(r) == {t: new for t in topics}


def test_log_entry_holds_every_option(r):
    new = publish(r, "a", data="D", event="E", retry="150", priority="batched", key="K", ttl="60000",
                  match=' {"user_id" : "42"} ')  # fmt: skip
    assert log(r, "a") == [
        (int(new), {"data": "D", "prev": "0", "event": "E", "retry": "150", "priority": "batched",
                    "key": "K", "ttl": "60000", "match": '{"user_id":"42"}'})]  # fmt: skip


def test_event_names_lose_what_could_break_a_frame(r):
    listener = Listener(r, f"{KEY}:ch:a")
    publish(r, "a", event="e\r\nid: 9\0x")
    assert [f.get("event") for _, f in log(r, "a")] == ["eid: 9x"]
    assert [json.loads(d).get("event") for _, d in listener.pending()] == ["eid: 9x"]
    for nothing_left in ("\r\n\0", ""):
        with pytest.raises(redis.ResponseError, match="event: not 1 to 256 bytes"):
            publish(r, "a", event=nothing_left)


# ---- Envelope ----


def test_envelope_holds_the_whole_event(r):
    listener = Listener(r, f"{KEY}:ch:a.b")
    first = publish(r, "a.b", data="1")
    second = publish(r, "a.b", data='é"\\/\n\t', event="E\u2028", retry="1500", priority="coalesced",
                     key="K", ttl="9007199254740991", match=' { "user_id" : "42", "url": "a\\/b" }',
                     ephemeral="0")  # fmt: skip
    heard = [json.loads(d) for _, d in listener.pending()]
    assert heard[0] == {"sse": 1, "id": first, "prev": "0", "topic": "a.b", "data": "1"}
    assert heard[1] == {
        "sse": 1, "id": second, "prev": first, "topic": "a.b", "data": 'é"\\/\n\t', "event": "E\u2028",
        "retry": 1500, "priority": "coalesced", "key": "K", "ttl": MAX_ID,
        "match": {"user_id": "42", "url": "a/b"},
    }  # fmt: skip


def test_any_bytes_survive_as_data(raw):
    data = bytes(range(256)) * 3 + "\u20ac\U0001f600".encode() + b"\xff\xc0\x80"
    listener = Listener(raw, f"{KEY}:ch:a")
    new = publish(raw, "a", data=data)
    assert raw.xrange(f"{KEY}:log:a") == [(new + b"-0", {b"data": data, b"prev": b"0"})]
    ((_, envelope),) = listener.pending()
    assert b"\0" not in envelope and b"\\u0000" in envelope and b"\n" not in envelope
    # Not UTF-8 is no JSON, strictly: the bytes are there as they were, and relays read them so.
    assert json.loads(envelope.decode("utf-8", "surrogateescape"))["data"].encode(
        "utf-8", "surrogateescape"
    ) == data


def test_data_may_be_empty_or_large(raw):
    listener = Listener(raw, f"{KEY}:ch:a")
    for data in (b"", b"x" * (4 << 20)):
        publish(raw, "a", data=data)
        ((_, envelope),) = listener.pending()
        assert json.loads(envelope)["data"].encode() == data
        assert raw.xrevrange(f"{KEY}:log:a", count=1)[0][1][b"data"] == data


def test_topics_may_hold_what_is_special_elsewhere(r):
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    topics = ["é.x", "https://x/1", "a[b]", "a?", "a\\b", 'q"q', "{x}", "x" * 512, "€", "😀"]
    publish(r, *topics)
    assert [(c.removeprefix(f"{KEY}:ch:"), json.loads(d)["topic"]) for c, d in listener.pending()] == [
        (t, t) for t in sorted(topics, key=str.encode)
    ]
    assert set(index(r)) == set(topics)


@pytest.mark.parametrize("ephemeral", [False, True])
def test_topics_are_published_in_the_order_of_their_bytes(r, ephemeral):
    """A subscriber of several has the event by the first: so it is the same one live as in what is sorted later."""
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    topics = ["é", "b", "a.b", "a", "B", "a-b", "aa", "~", "0"]
    publish(r, *topics, **({"ephemeral": 1} if ephemeral else {}))
    assert [c.removeprefix(f"{KEY}:ch:") for c, _ in listener.pending()] == sorted(topics, key=str.encode)


# ---- Ephemeral ----


def test_ephemeral_event_is_live_only(r, raw):
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    before = snapshot(raw)
    for flag in ("1", "true"):
        assert publish(r, "a", "b", data="D", event="E", ephemeral=flag) is None
    assert snapshot(raw) == before == {}
    heard = [json.loads(d) for _, d in listener.pending()]
    twins = [message.pop("twin") for message in heard]
    assert twins[0] == twins[1] != twins[2] == twins[3]
    assert heard == [{"sse": 1, "topic": t, "data": "D", "event": "E", "priority": "instant"} for t in "abab"]


def test_relays_own_key_sends_an_ephemeral_event_once(r):
    """So that a POST of one may be sent again; the keys of publishers are for events with an id."""
    listener = Listener(r, f"{KEY}:ch:a")
    for _ in range(3):
        assert publish(r, "a", once="~0f-1", once_ttl="60000", ephemeral="true") is None
    assert len(listener.pending()) == 1
    assert 0 < r.pttl(f"{KEY}:once:~0f-1") <= 60000
    for options in ({"once": "k"}, {"once": "k", "once_ttl": "60000"}, {"once": "~k"}):
        with pytest.raises(redis.ResponseError, match="once: together with ephemeral"):
            publish(r, "a", ephemeral="1", **options)


# ---- Once ----


def test_once_publishes_once_and_returns_the_first_id(r):
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    first = publish(r, "a", data="1", once="order 7")
    assert publish(r, "a", data="2", once="order 7") == first
    assert publish(r, "b", data="3", once="order 7") == first
    assert int(publish(r, "a", data="4", once="order 8")) > int(first)
    assert [f["data"] for _, f in log(r, "a")] == ["1", "4"]
    assert log(r, "b") == []
    assert len(listener.pending()) == 2


def test_once_publishes_once_when_many_try_at_the_same_time(server, r):
    def attempt(_):
        return publish(server.client(), "a", once="k")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(attempt, range(64)))) == 1
    assert len(log(r, "a")) == 1


def test_once_ttl_is_of_this_publish_alone(r):
    listener = Listener(r, f"{KEY}:ch:a")
    publish(r, "a", once="k", once_ttl="60000")
    publish(r, "a", once="~live", once_ttl="70000", ephemeral="1")
    publish(r, "a", once="usual")
    publish(r, "a", once="forever", once_ttl=MAX_ID)
    ttl = {k: r.pttl(f"{KEY}:once:{k}") for k in ("k", "~live", "usual", "forever")}
    assert 0 < ttl["k"] <= 60000 < ttl["~live"] <= 70000 < ttl["usual"] <= DAY_US / 1000 < ttl["forever"]
    assert all("once_ttl" not in f for _, f in log(r, "a"))
    assert all("once_ttl" not in d for _, d in listener.pending())
    r.execute_command("XADD", f"{KEY}:inbox", "*", "topic", "a", "data", "x", "once", "in", "once_ttl", "60000")
    assert drain(r)[:2] == [1, 0]
    assert 0 < r.pttl(f"{KEY}:once:in") <= 60000


@pytest.mark.parametrize("options", [{}, {"ephemeral": "1", "once_ttl": "90000"}], ids=["logged", "a relay's own"])
def test_repeated_once_writes_what_changes_nothing_so_that_wait_counts_it(r, raw, options):
    """Newer servers let WAIT count only what its own connection has written (and replicas are sent what is)."""
    first = publish(r, "a", once="~k", **options)
    publish(r, "a", once="~short", **{**options, "once_ttl": "60000"})
    r.set(f"{KEY}:once:~endless", first or "")

    def writes():
        return r.info("persistence")["rdb_changes_since_last_save"]

    before = snapshot(raw)
    expiry = {k: r.execute_command("PEXPIRETIME", f"{KEY}:once:{k}") for k in ("~k", "~short", "~endless")}
    for key in expiry:
        written = writes()
        publish(r, "a", once=key, **options)
        assert writes() > written, key
    assert snapshot(raw) == before
    assert {k: r.execute_command("PEXPIRETIME", f"{KEY}:once:{k}") for k in expiry} == expiry


def test_once_is_forgotten_after_its_time(r):
    position(r, "once_ttl", "30")
    first = publish(r, "a", once="k")
    wait_until(lambda: not r.exists(f"{KEY}:once:k"))
    assert int(publish(r, "a", once="k")) > int(first)


# ---- Bad arguments ----

BAD_TOPICS = ["", "a..b", ".a", "a.", "a.*", "a.>", "*", ">", "a b", "a\tb", "a\nb", "a\0b", "a\x7fb", "x" * 513]
BAD_UTF8 = [b"\xff", b"a\x80", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82",
            b"\xc3\xf0\x9f\x98\x80\xa9", b"\xf0\x9f\xc3\xa9\x98\x80", b"\xf8\x88\x80\x80\x80", b"\xe0\x80\x80"]  # fmt: skip
GOOD = ["topic", "a", "data", "x"]
BAD_PUBLISH = (
    [("topic", ["topic", "ok", "topic", t, "data", "x"]) for t in BAD_TOPICS + BAD_UTF8]
    + [("topic", ["data", "x"]), ("data", ["topic", "a"]), ("topic", [])]
    + [("topic", [a for i in range(65) for a in ("topic", f"t{i}")] + ["data", "x"])]
    + [("data", ["topic", "a", "data"]), ("data", GOOD + ["data", "y"])]
    + [("retry", GOOD + ["retry", v]) for v in ("", "-1", "1.5", "1e3", "0x10", " 5", "007", "86400001", "1" * 400)]
    + [("ttl", GOOD + ["ttl", v]) for v in ("soon", "-1", "0", "9007199254740992")]
    + [("priority", GOOD + ["priority", v]) for v in ("", "urgent", "low", "normal", "high", "0", "9", "Instant")]
    + [("ephemeral", GOOD + ["ephemeral", v]) for v in ("", "yes", "TRUE", "2")]
    + [("once", GOOD + ["once", v]) for v in ("", "k" * 257)]
    + [("once_ttl", GOOD + ["once", "k", "once_ttl", v]) for v in ("", "0", "-1", "1.5", "x", 2**53)]
    + [("once_ttl", GOOD + ["once_ttl", "5"])]
    + [("key", GOOD + ["key", v]) for v in ("", "k" * 257)]
    + [("match", GOOD + ["match", v]) for v in ("", "x", "[]", '["a"]', '"a"', "{", '{"a":NaN}', '{"a":0x10',
       '{"a":12345678901234567}', '{"a":[]}', '{"a":{}}', '{"a":1}}', "{" * 2000, '{"a":1e999}')]
    + [(n, GOOD + [n, "1"]) for n in ("max_events", "max_events_limit", "index_ttl", "id", "prev", "Topic", "__index")]
    + [("event", GOOD + ["event", "a", "event", "b"]), ("retry", GOOD + ["retry", "1", "retry", "1"])]
    + [("unknown", GOOD + ["unknown"])]
)  # fmt: skip


@pytest.mark.parametrize("field,args", BAD_PUBLISH)
def test_publish_with_a_bad_argument_names_it_and_changes_nothing(r, raw, field, args):
    publish(r, "a")
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    before = snapshot(raw)
    with pytest.raises(redis.ResponseError) as refusal:
        r.fcall("sse_publish", 1, KEY, *args)
    assert str(refusal.value).startswith(f"sse_publish: {field}: ")
    assert snapshot(raw) == before
    assert listener.pending() == []


def test_names_from_strangers_are_shortened_and_cleaned_in_errors(raw):
    with pytest.raises(redis.ResponseError) as refusal:
        raw.fcall("sse_publish", 1, KEY, *GOOD, b"\xff\r\n" + b"n" * 500, "1")
    assert str(refusal.value) == "sse_publish: ???" + "n" * 29 + ": unknown argument"


BAD_KEYS = [[], ["default"], ["sse:default"], ["sse:{}"], ["{default}"], ["sse:{a b}"], ["sse:{a}:x"], [":{a}:{b}"],
            ["sse:{" + "n" * 65 + "}"], ["p" * 65 + ":{a}"], ["s*e:{a}"], [KEY, KEY], [KEY, "sse:{b}"]]  # fmt: skip


@pytest.mark.parametrize("function", ["sse_publish", "sse_drain", "sse_position", "sse_since", "sse_look"])
@pytest.mark.parametrize("keys", BAD_KEYS)
def test_keys_of_another_form_are_refused(r, function, keys):
    position(r)  # so that the namespace is one that was just used
    r.flushall()
    with pytest.raises(redis.ResponseError, match=f"^{function}: key: "):
        r.fcall(function, len(keys), *keys, *(GOOD if function == "sse_publish" else []))
    assert r.dbsize() == 0


BAD_POSITION = [("seen", ["seen", v]) for v in ("", "-1", "x", "1.5", "9007199254740992")]
BAD_POSITION += [(n, [n, v]) for n in ("max_events", "log_ttl", "index_ttl", "once_ttl") for v in ("0", "-5", "1s")]
BAD_POSITION += [("seen", ["seen"]), ("log_ttl", ["max_events", "5", "log_ttl", "1", "log_ttl", "2"]), ("x", ["x", "1"])]
BAD_SINCE = [("cursor", []), ("cursor", ["cursor", "-1"]), ("cursor", ["cursor"]), ("cursor", ["cursor", "1"] * 2),
             ("topic", ["cursor", "1", "topic", "a.*"]), ("topic", ["cursor", "1", "topic", ""]),
             ("limit", ["cursor", "1", "limit", "127"]), ("limit", ["cursor", "1", "limit"]),
             ("limit", ["cursor", "1", "limit", "128", "limit", "128"]),
             ("prefix", ["cursor", "1", "prefix"]), ("pattern", ["cursor", "1", "pattern", "a.*"])]  # fmt: skip
BAD_DRAIN = [("count", ["count", v]) for v in ("0", "-1", "x", "10001")]
BAD_DRAIN += [("count", ["count"]), ("n", ["n", "1"]), ("x", ["count", "1", "x", "2"])]
BAD_OTHERS = (
    [("sse_position", *b) for b in BAD_POSITION]
    + [("sse_since", *b) for b in BAD_SINCE]
    + [("sse_look", *b) for b in BAD_SINCE]
    + [("sse_drain", *b) for b in BAD_DRAIN]
)


@pytest.mark.parametrize("function,field,args", BAD_OTHERS)
def test_other_functions_with_a_bad_argument_name_it_and_change_nothing(r, raw, function, field, args):
    r.xadd(f"{KEY}:inbox", {"topic": "a", "data": "x"})
    before = snapshot(raw)
    with pytest.raises(redis.ResponseError, match=f"^{function}: {field}: "):
        r.fcall(function, 1, KEY, *args)
    assert snapshot(raw) == before


# ---- What else can fail, half-way ----


def test_publish_is_refused_whole_when_memory_is_out(r, raw):
    publish(r, "a")
    r.xadd(f"{KEY}:inbox", {"topic": "a", "data": "x"})
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    before = snapshot(raw)
    r.config_set("maxmemory-policy", "noeviction")
    r.config_set("maxmemory", 1)
    with pytest.raises(redis.ResponseError, match="OOM|maxmemory"):
        publish(r, "a", "b", once="k")
    with pytest.raises(redis.ResponseError, match="OOM|maxmemory"):
        drain(r)
    assert snapshot(raw) == before
    # Streams are served from the log meanwhile.
    assert r.fcall("sse_version", 0) >= 1
    assert position(r)[0] == log(r, "a")[0][0]
    assert since(r, "cursor", "0", "prefix", "")[4] == ["a"]
    r.config_set("maxmemory", 0)
    assert listener.pending() == []
    assert publish(r, "a", "b", once="k")


def without_counter(snap):
    return {k: v for k, v in snap.items() if not k.endswith(b":seq")}


def test_log_of_a_wrong_type_undoes_the_topics_before_it(r, raw):
    publish(r, "a")
    r.set(f"{KEY}:log:c", "not a stream")
    r.zadd(f"{KEY}:topics", {"c": 5})
    before, ttl = without_counter(snapshot(raw)), r.pttl(f"{KEY}:log:a")
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        publish(r, "b", "c", once="k")
    assert without_counter(snapshot(raw)) == before
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        publish(r, "a", "c", once="k")
    assert index(r) == {"a": log(r, "a")[-1][0], "c": 5} and len(log(r, "a")) == 1
    assert r.pttl(f"{KEY}:log:a") > ttl - 60000
    assert listener.pending() == []
    assert int(publish(r, "a")) > 0
    assert_chain(log(r, "a"))


@pytest.mark.parametrize("name", ["seq", "topics", "config", "horizon", "inbox"])
def test_namespace_keys_of_a_wrong_type_are_left_alone(r, raw, name):
    r.xadd(f"{KEY}:inbox", {"topic": "a", "data": "x"})
    r.delete(f"{KEY}:{name}")
    r.rpush(f"{KEY}:{name}", "somebody's list")
    before = snapshot(raw)
    calls = [lambda: drain(r)]
    if name != "inbox":
        calls.append(lambda: publish(r, "b"))
    for call in calls:
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            call()
        assert snapshot(raw) == before


def test_counter_that_is_no_number_is_left_alone(r, raw):
    for junk in ("abc", "-1", "1.5", "nan", "inf"):
        r.set(f"{KEY}:seq", junk)
        before = snapshot(raw)
        for call in (publish, lambda r, _: position(r), lambda r, _: since(r, "cursor", "1")):
            with pytest.raises(redis.ResponseError, match="seq does not hold an id"):
                call(r, "a")
        assert snapshot(raw) == before


@pytest.mark.parametrize("rule", [["resetchannels"], ["-zadd"], ["-xadd"], ["-set"], ["-pexpire"],
                                  ["resetchannels", f"&{KEY}:ch:a"]])  # fmt: skip
@pytest.mark.parametrize("options", [{}, {"ephemeral": "1"}])
def test_user_without_a_permission_leaves_no_half_publish(server, r, raw, rule, options):
    r.execute_command("ACL", "SETUSER", "backend", "reset", "on", ">pw", "~sse:*", "&*", "+@all", *rule)
    backend = server.client(username="backend", password="pw")
    listener = Listener(r, pattern=f"{KEY}:ch:*")
    publish(r, "old")
    listener.pending()
    before = without_counter(snapshot(raw))
    try:
        if options and rule in (["-zadd"], ["-xadd"], ["-pexpire"]):
            return  # an ephemeral event needs none of these
        for topics in (["b"], ["a", "b"]):
            with pytest.raises(redis.ResponseError, match="permission|The user executing the script can't"):
                publish(backend, *topics, once="~k", once_ttl="60000", **options)
        assert without_counter(snapshot(raw)) == before
        assert listener.pending() == []
    finally:
        r.execute_command("ACL", "DELUSER", "backend")
