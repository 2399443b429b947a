# SPDX-License-Identifier: Apache-2.0
"""POST /publish: formats, options, and what is refused, with the field named."""

import json
import time
from urllib.parse import urlencode

import pytest

from raw_http import assert_problem, exchange, status_of
from relay_process import wait_until

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def stream(relay, sse_connect):
    return sse_connect(relay, "t", "u")


def refused(relay, body, status=400, headers=JSON, query=""):
    body = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return assert_problem(relay.post("/publish" + query, data=body, headers=headers), status)


# --- formats ---


def test_json(relay, stream):
    answer = relay.post("/publish", json={"topic": "t", "data": "x", "event": "e", "retry": 1500})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].split(";")[0] == "application/json"
    id = answer.json()["id"]
    assert isinstance(id, str) and id.isdigit()
    stream.wait_for(1)
    assert stream.raw.endswith(f"id: {id}\nevent: e\nretry: 1500\ndata: x\n\n".encode())


@pytest.mark.parametrize(
    "data,wire",
    [
        ("plain", "plain"),
        ("", ""),
        ({"a": [1, 2.5, None, True], "b": {"c": "\u00e9"}}, '{"a":[1,2.5,null,true],"b":{"c":"\u00e9"}}'),
        ([], "[]"),
        (42, "42"),
        (None, "null"),
        (False, "false"),
    ],
)
def test_json_data_is_a_string_or_compact_json(relay, stream, data, wire):
    body = json.dumps({"topic": "t", "data": data}, ensure_ascii=False, indent=2).encode()
    assert relay.post("/publish", data=body, headers=JSON).status_code == 200
    assert stream.wait_for(1).data == [wire]


def test_json_numbers_keep_their_digits(relay, stream):
    body = '{"topic": "t", "data": {"big": 12345678901234567890, "exact": 0.10, "e": 1E400}}'
    assert relay.post("/publish", data=body, headers=JSON).status_code == 200
    assert stream.wait_for(1).data == ['{"big":12345678901234567890,"exact":0.10,"e":1E400}']


def test_json_data_with_all_characters(relay, stream):
    data = "".join(map(chr, [*range(1, 128), 0xE9, 0x2028, 0xFFFD, 0x1F600]))
    relay.publish("t", data)
    assert stream.wait_for(1).data == [data.replace("\r", "\n")]


def test_topics(relay, stream, sse_connect):
    other = sse_connect(relay, "v")
    id = relay.publish(["t", "u", "v", "t"], "x")
    relay.publish(["u"], "end")
    assert stream.wait_for(2).data == ["x", "end"]
    assert other.wait_for(1).ids == [id]


def test_batch(relay, stream):
    answer = relay.post(
        "/publish",
        json=[
            {"topic": "t", "data": "1"},
            {"topic": "u", "data": "2", "ephemeral": True},
            {"topic": "u", "data": "3", "event": "e"},
        ],
    )
    assert answer.status_code == 200
    first, second, third = answer.json()
    assert second == {"id": None}
    assert int(first["id"]) < int(third["id"])
    stream.wait_for(3)
    assert sorted(stream.data) == ["1", "2", "3"]
    assert [i for i in stream.ids if i] == [int(first["id"]), int(third["id"])]


def test_batch_is_published_in_order(redis, relay_factory, sse_connect):
    relay = relay_factory()
    stream = sse_connect(relay, "t", "u")
    body = [{"topic": "tu"[i % 2], "data": i} for i in range(500)]
    answer = relay.post("/publish", json=body)
    assert answer.status_code == 200
    ids = [int(e["id"]) for e in answer.json()]
    assert ids == sorted(set(ids)) and len(ids) == 500
    assert stream.wait_for(500).ids == ids
    assert stream.data == [str(i) for i in range(500)]


def test_form(relay, stream):
    body = urlencode({"topic": "t", "data": "a b&c=d\ne\u00e9+", "event": "x"})
    assert relay.post("/publish", data=body, headers=FORM).status_code == 200
    event = stream.wait_for(1).events[0]
    assert (event.type, event.data) == ("x", "a b&c=d\ne\u00e9+")


def test_form_with_several_topics(relay, stream, sse_connect):
    other = sse_connect(relay, "v")
    body = urlencode([("topic", "t"), ("topic", "v"), ("data", "x")])
    assert relay.post("/publish", data=body, headers=FORM).status_code == 200
    assert stream.wait_for(1).ids == other.wait_for(1).ids


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "text/html; charset=utf-8", None])
def test_other_types_are_data(relay, stream, kind):
    headers = {"Content-Type": kind} if kind else {}
    body = "line 1\nline 2 \u00e9 {}".encode()
    answer = relay.post("/publish?topic=t&topic=v&event=x%20y", data=body, headers=headers)
    assert answer.status_code == 200, answer.text
    event = stream.wait_for(1).events[0]
    assert (event.type, event.data, int(answer.json()["id"])) == ("x y", body.decode(), stream.ids[0])


def test_empty_body_is_empty_data(relay, stream):
    assert relay.post("/publish?topic=t&event=ping", data=b"").status_code == 200
    event = stream.wait_for(1).events[0]
    assert (event.type, event.data) == ("ping", "")


def test_200_means_it_is_in_the_log(relay, doors):
    for n in range(20):
        id = relay.publish("t", n)
        last = doors.redis.xrevrange(doors.key("default", "log", "t"), count=1)[0]
        assert last[0] == f"{id}-0" and last[1]["data"] == str(n)


def test_chunked_body(relay, stream):
    answer = relay.post("/publish?topic=t", data=iter([b"in ", b"two pieces"]))
    assert answer.status_code == 200
    assert stream.wait_for(1).data == ["in two pieces"]


def test_expect_100_continue(relay, stream):
    got = exchange(
        relay,
        b"POST /publish?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
        b"Expect: 100-continue\r\nConnection: close\r\n\r\nok",
    )
    assert b"HTTP/1.1 200 " in got
    assert stream.wait_for(1).data == ["ok"]


def test_many_requests_on_one_connection(relay, stream):
    one = b"POST /publish?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
    body = b"".join(one + b"\r\n" + str(i).encode() for i in range(9))
    got = exchange(relay, body + one + b"Connection: close\r\n\r\n9")
    assert got.count(b"HTTP/1.1 200 ") == 10
    assert stream.wait_for(10).data == list("0123456789")


# --- where fields stand ---


@pytest.mark.parametrize("query", ["?ephemeral=true", "?event=e", "?topic=t", "?data=x", "?ns=default&once=k", "?bogus=1", "?bogus"])
@pytest.mark.parametrize("headers,body", [(JSON, '{"topic":"t","data":"x"}'), (FORM, "topic=t&data=x")])
def test_options_beside_a_body_that_has_them_are_refused(relay, stream, query, headers, body):
    detail = refused(relay, body, headers=headers, query=query)
    assert "query" in detail and query.split("&")[-1].lstrip("?").split("=")[0] in detail
    assert relay.post("/publish?ns=default", data=body, headers=headers).status_code == 200
    assert stream.wait_for(1).data == ["x"]


def test_a_body_that_is_no_form_is_told_how_to_say_so(relay):
    for query in ("", "?topic=t"):
        detail = refused(relay, "hello", headers=FORM, query=query)
        assert '"hello"' in detail and "Content-Type: text/plain" in detail


def test_multipart_is_refused(relay):
    answer = relay.post("/publish?topic=t", files={"data": "x"})
    assert assert_problem(answer, 415).startswith("Content-Type:")
    assert answer.json()["published"] is False


def test_nesting_has_a_bound_and_the_refusal_says_so(relay):
    body = '{"topic":"t","data":%s%s}'
    assert relay.post("/publish", body % ("[" * 999, "]" * 999), headers=JSON).status_code == 200
    assert "at most 1000 deep" in refused(relay, body % ("[" * 1000, "]" * 1000))


def test_every_refusal_says_that_nothing_was_published(relay):
    for body, headers in (("{", JSON), ('{"topic":"t"}', JSON), ("data=x", FORM), (b"\xff", {"Content-Type": "text/plain"})):
        answer = relay.post("/publish", body, headers=headers)
        assert answer.status_code == 400 and answer.json()["published"] is False
        assert "Retry-After" not in answer.headers


# --- options ---


def test_once(relay, stream):
    first = relay.publish("t", "x", once="order-17")
    assert relay.publish("t", "y", once="order-17") == first
    other = relay.publish("t", "z", once="order-18")
    assert other > first
    assert stream.wait_for(2).data == ["x", "z"]


def test_once_over_all_doors_and_nodes(redis, relay_factory, sse_connect, doors):
    one, two = relay_factory(), relay_factory()
    stream = sse_connect(two, "t")
    first = doors.fcall("t", "x", once="k")
    assert one.publish("t", "x", once="k") == two.publish("t", "x", once="k") == first
    doors.xadd("t", "x", once="k")
    doors.xadd("t", "end")
    assert stream.wait_for(lambda c: "end" in c.data).data == ["x", "end"]


def test_once_in_one_batch(relay, stream):
    body = [{"topic": "t", "data": i, "once": "same"} for i in range(3)]
    ids = {e["id"] for e in relay.post("/publish", json=body).json()}
    relay.publish("t", "end")
    assert len(ids) == 1
    assert stream.wait_for(2).data == ["0", "end"]


def test_once_expires(redis, relay_factory, sse_connect, doors):
    relay = relay_factory({"once.ttl": "1s"})
    stream = sse_connect(relay, "t")
    first = relay.publish("t", "1", once="k")
    wait_until(lambda: not doors.redis.exists(doors.key("default", "once", "k")), "expiry")
    assert relay.publish("t", "2", once="k") > first
    assert stream.wait_for(2).data == ["1", "2"]


@pytest.mark.parametrize("priority", ["instant", "batched", "coalesced", "appended"])
def test_priority_and_key_are_accepted(relay, stream, priority):
    relay.publish("t", "x", priority=priority, key="customer-7")
    assert stream.wait_for(1).data == ["x"]


def test_match_is_logged_but_not_delivered_to_streams_without_claims(relay, stream, doors):
    assert relay.publish("t", "secret", match={"user_id": "42"}) > 0
    relay.publish("t", "public")
    assert stream.wait_for(1).data == ["public"]
    wait_until(lambda: relay.metric("sse_relay_events_dropped_total", reason="match") >= 1)


def test_match_is_not_replayed_either(relay, sse_connect, doors):
    start = sse_connect(relay, "t").last_event_id
    relay.publish("t", "secret", match={"user_id": "42"})
    relay.publish("t", "public")
    again = sse_connect(relay, "t", last_event_id=start)
    assert again.wait_for(1).data == ["public"]
    assert not again.gaps


def test_ids_come_from_the_clock(relay):
    before = time.time_ns() // 1000
    id = relay.publish("t", "x")
    assert before - 1_000_000 <= id <= time.time_ns() // 1000 + 1_000_000
    assert id < 2**53


# --- what is refused: nothing of it is published ---

BAD = [
    ({"data": "x"}, "topic"),
    ({"topic": "t"}, "data"),
    ({"topic": "", "data": "x"}, "topic"),
    ({"topic": "a b", "data": "x"}, "topic"),
    ({"topic": "t.*", "data": "x"}, "topic"),
    ({"topic": "t.>", "data": "x"}, "topic"),
    ({"topic": 7, "data": "x"}, "topic"),
    ({"topic": ["t"], "data": "x"}, "topic"),
    ({"topic": "t" * 513, "data": "x"}, "topic"),
    ({"topics": [], "data": "x"}, "topics"),
    ({"topics": "t", "data": "x"}, "topics"),
    ({"topics": ["t", "a..b"], "data": "x"}, "topics"),
    ({"topics": ["t", 1], "data": "x"}, "topics"),
    ({"topic": "t", "topics": ["u"], "data": "x"}, "topic"),
    ({"topics": [f"t{i}" for i in range(65)], "data": "x"}, "topics"),
    ({"topic": "t", "data": "x", "event": "a\nb"}, "event"),
    ({"topic": "t", "data": "x", "event": "a\rb"}, "event"),
    ({"topic": "t", "data": "x", "event": "a\0b"}, "event"),
    ({"topic": "t", "data": "x", "event": 5}, "event"),
    ({"topic": "t", "data": "x", "retry": -1}, "retry"),
    ({"topic": "t", "data": "x", "retry": 1.5}, "retry"),
    ({"topic": "t", "data": "x", "retry": "soon"}, "retry"),
    ({"topic": "t", "data": "x", "ephemeral": "perhaps"}, "ephemeral"),
    ({"topic": "t", "data": "x", "once": ""}, "once"),
    ({"topic": "t", "data": "x", "once": 5}, "once"),
    ({"topic": "t", "data": "x", "ttl": 0}, "ttl"),
    ({"topic": "t", "data": "x", "ttl": "1h"}, "ttl"),
    ({"topic": "t", "data": "x", "match": "user"}, "match"),
    ({"topic": "t", "data": "x", "match": []}, "match"),
    ({"topic": "t", "data": "x", "priority": "highest"}, "priority"),
    ({"topic": "t", "data": "x", "key": {}}, "key"),
    ({"topic": "t", "data": "x", "evnet": "typo"}, "evnet"),
    ({"topic": "t", "data": "x", "id": "7"}, "id"),
]


@pytest.mark.parametrize("body,field", BAD, ids=lambda v: v if isinstance(v, str) else None)
def test_bad_field_is_400_and_named(relay, doors, body, field):
    assert field in refused(relay, body)
    assert not doors.redis.exists(doors.key("default", "log", "t"))


@pytest.mark.parametrize(
    "text",
    ["", " ", "{", "nonsense", '"text"', "5", "null", '{"topic": "t", "data": "x"} trailing',
     '{"topic": "t", "data": "x",}', "[1]", "[[]]", "\x00", "{'topic': 't'}", "[" * 100000],
)  # fmt: skip
def test_body_that_is_not_a_json_event_is_400(relay, doors, text):
    refused(relay, text)
    assert relay.get("/health").status_code == 200


def test_json_that_is_not_utf8_is_400(relay):
    refused(relay, b'{"topic": "t", "data": "\xff"}')


def test_field_given_twice_is_400(relay, doors):
    assert "data" in refused(relay, '{"topic": "t", "data": "x", "data": "y"}')
    assert not doors.redis.exists(doors.key("default", "log", "t"))


def test_empty_batch_is_400(relay):
    refused(relay, [])


def test_batch_is_all_or_nothing(relay, doors, stream):
    detail = refused(
        relay, [{"topic": "t", "data": "1"}, {"topic": "t", "data": "2"}, {"topic": "a b", "data": "3"}]
    )
    assert "[2]" in detail and "topic" in detail
    relay.publish("t", "end")
    assert stream.wait_for(1).data == ["end"]


@pytest.mark.parametrize(
    "body,field",
    [("data=x", "topic"), ("topic=t", "data"), ("topic=a%20b&data=x", "topic"), ("topic=t&data=%zz", ""),
     ("topic=t&data=x&event=a%0Ab", "event"), ("topic=t&data=x&what=y", "what"), ("topic=t&data=%ff", "data")],
)  # fmt: skip
def test_bad_form_is_400_and_named(relay, body, field):
    assert field in refused(relay, body, headers=FORM)


@pytest.mark.parametrize(
    "query,field",
    [("", "topic"), ("?topic=a%20b", "topic"), ("?topic=t&event=a%0Db", "event"), ("?topic=t&retry=x", "retry")],
)
def test_bad_query_of_other_types_is_400_and_named(relay, query, field):
    assert field in refused(relay, "data", headers={"Content-Type": "text/plain"}, query=query)


def test_bad_namespace_is_400(relay):
    assert "ns" in refused(relay, {"topic": "t", "data": "x"}, query="?ns=a:b")


@pytest.mark.parametrize("headers,query", [(JSON, ""), (FORM, ""), ({"Content-Type": "text/plain"}, "?topic=t")])
def test_data_over_the_limit_is_413(redis, relay_factory, doors, headers, query):
    relay = relay_factory(max_event_bytes="2KB")

    def body(n):
        if headers is JSON:
            return json.dumps({"topic": "t", "data": "x" * n})
        return ("topic=t&data=" if headers is FORM else "") + "x" * n

    assert relay.post("/publish" + query, data=body(2048), headers=headers).status_code == 200
    refused(relay, body(2049), 413, headers, query)
    assert doors.redis.xlen(doors.key("default", "log", "t")) == 1


def test_announced_huge_body_is_413_before_it_is_sent(redis, relay_factory):
    """The length alone is enough: nobody has to send 99 GB to be told."""
    relay = relay_factory(max_event_bytes="1KB")
    got = exchange(
        relay,
        b"POST /publish?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 4096,
    )
    assert status_of(got) == 413
    assert relay.get("/health").status_code == 200


def test_huge_chunked_body_is_413(redis, relay_factory):
    relay = relay_factory(max_event_bytes="1KB")
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    got = exchange(
        relay,
        b"POST /publish?topic=t HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 100 + b"0\r\n\r\n",
    )
    assert status_of(got) in (413, None)  # None: closed while we were still sending
    assert relay.get("/health").status_code == 200


def test_post_with_redis_down_is_503(redis, relay_factory):
    relay = relay_factory()
    redis.kill()
    wait_until(lambda: relay.ready()[0] == 503, "redis-down")
    assert_problem(relay.post("/publish", json={"topic": "t", "data": "x"}), 503)
    redis.start()
    relay.wait_ready()
    assert relay.publish("t", "y") > 0
    events = redis.client().xrange("sse:{default}:log:t")
    assert [fields["data"] for _, fields in events] == ["y"]


def test_redis_out_of_memory_is_503_and_nothing_is_published(relay, doors, stream, redis):
    relay.publish("t", "before")
    doors.redis.config_set("maxmemory", 1)
    detail = assert_problem(relay.post("/publish", json={"topic": "t", "data": "lost"}), 503)
    assert "memory" in detail.lower()
    doors.redis.config_set("maxmemory", 0)
    relay.publish("t", "after")
    assert stream.wait_for(2).data == ["before", "after"]
