# SPDX-License-Identifier: Apache-2.0
"""Ends of topics by HTTP (protocol.md, 8.4): by an event, by their own paths, by silence; and who comes after."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlencode

import pytest
from redis.exceptions import ResponseError

from auth_rig import assert_forbidden, assert_invalid, assert_nobody, bearer, ticket_of
from raw_http import assert_problem, exchange, status_of, take_apart
from relay_process import wait_until
from test_publish_outage import LONG, Cutter, lose

ORIGIN = "https://app.example"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
REFUSED = "sse_relay_publish_ended_total"
PATHS = {"end": ("POST", "/end", "end"), "delete": ("DELETE", "", "cancelled")}
BY_PATH = pytest.mark.parametrize("way", PATHS)
marks = itertools.count(1)


@pytest.fixture(params=["redis", "memory"])
def start(request, relay_factory):
    """start({"index.ttl": "1h"}): a relay on each of the two stores."""
    return lambda config=None: relay_factory(config, **({"redis": "memory:"} if request.param == "memory" else {}))


@pytest.fixture
def relay(start):
    return start()


@pytest.fixture
def node(redis, relay_factory):
    """A relay with Redis, for what only that has."""
    return relay_factory()


@pytest.fixture
def kept(sse_connect):
    """kept(relay, "t"): (id, type, data) of all that the store has of these topics."""

    def read(relay, *topics, ns="default"):
        mark = f"mark.{next(marks)}"
        stream = sse_connect(relay, *topics, mark, params={"replay": "all", "ns": ns})
        relay.post(f"/publish?topic={mark}&ns={ns}", mark)
        stream.wait_for(lambda c: mark in c.data)
        return [(int(e.id), e.type, e.data) for e in stream.events if e.data != mark]

    return read


def at(topic, tail=""):
    return "/topics/" + quote(topic, safe="") + tail


def ask(relay, way, topic, query="", **kw):
    method, tail, _ = PATHS[way]
    return relay.request(method, at(topic, tail) + query, **kw)


def told(answer):
    """(id, reason) of a 200 of the two paths."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].split(";")[0] == "application/json"
    body = answer.json()
    assert set(body) == {"id", "reason"} and isinstance(body["id"], str)
    return int(body["id"]), body["reason"]


def end(relay, topic, way="end", query=""):
    return told(ask(relay, way, topic, query))


def post(relay, topic, data="x", **fields):
    return relay.post("/publish", json={"topic": topic, "data": data, **fields})


def refusal(answer):
    """(id, reason) of a 409 for one event; its detail names the topic."""
    detail = assert_problem(answer, 409)
    body = answer.json()
    assert set(body) == {"title", "status", "detail", "published", "ended", "reason"}
    assert body["published"] is False and isinstance(body["ended"], str)
    assert detail.startswith("topic"), detail
    return int(body["ended"]), body["reason"]


def refused_batch(answer):
    """(published, what became of each event) of a 409 for an array."""
    assert_problem(answer, 409)
    body = answer.json()
    assert set(body) == {"title", "status", "detail", "published", "events"}
    return body["published"], body["events"]


def mark_of(id, reason="end"):
    return {"ended": str(id), "reason": reason}


def raw(relay, method, target):
    """(status, body) of a request whose target no library would leave as it is."""
    got = exchange(relay, f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
    return status_of(got), take_apart(got)[1]


# --- the ends ---

FIELD = {
    "json": lambda relay, flag: post(relay, "t", "last", end=json.loads(flag)),
    "batch": lambda relay, flag: relay.post("/publish", json=[{"topic": "t", "data": "last", "end": json.loads(flag)}]),
    "form": lambda relay, flag: relay.post(
        "/publish", urlencode({"topic": "t", "data": "last", "end": flag}), headers=FORM
    ),
    "raw body": lambda relay, flag: relay.post(f"/publish?topic=t&end={flag}", "last"),
}


@pytest.mark.parametrize("form", FIELD)
def test_an_event_that_ends_its_topic(relay, kept, form):
    answer = FIELD[form](relay, "false")
    assert answer.status_code == 200, answer.text
    first = answer.json()[0] if form == "batch" else answer.json()
    answer = FIELD[form](relay, "true")
    assert answer.status_code == 200, answer.text
    last = answer.json()[0] if form == "batch" else answer.json()
    assert refusal(post(relay, "t")) == (int(last["id"]), "end")
    assert kept(relay, "t") == [(int(e["id"]), "message", "last") for e in (first, last)]


@BY_PATH
def test_a_path_that_ends_a_topic(relay, sse_connect, kept, way):
    reason = PATHS[way][2]
    stream = sse_connect(relay, "t")
    first = relay.publish("t", "1")
    id, said = end(relay, "t", way)
    assert said == reason and id > first
    assert stream.wait_for(2).ids == [first, id]
    assert (stream.events[1].type, stream.events[1].data) == ("end", "")
    assert refusal(post(relay, "t")) == (id, reason)
    assert kept(relay, "t") == [(first, "message", "1"), (id, "end", "")]


@BY_PATH
def test_a_topic_that_nobody_knows_is_created_and_ended(relay, kept, way):
    id, reason = end(relay, "new", way)
    assert kept(relay, "new") == [(id, "end", "")]
    assert refusal(post(relay, "new")) == (id, reason)


@pytest.mark.parametrize("first", ["field", "timeout", *PATHS])
def test_of_two_ends_the_first_counts(relay, sse_connect, kept, first):
    if first == "field":
        ended = (relay.publish("t", "1", end=True), "end")
    elif first == "timeout":
        stream = sse_connect(relay, "t", ">")  # which does not end with the topic
        relay.publish("t", "1", end_after=1)
        ended = (stream.wait_for(2).ids[1], "timeout")
    else:
        ended = end(relay, "t", first)
    before = kept(relay, "t")
    assert [end(relay, "t", way) for way in (*PATHS, *PATHS)] == [ended] * 4
    assert refusal(post(relay, "t", end=True)) == ended
    assert kept(relay, "t") == before


def test_many_who_end_it_at_the_same_time(relay, kept):
    with ThreadPoolExecutor(16) as pool:
        told_to_all = set(pool.map(lambda n: end(relay, "t", ("end", "delete")[n % 2]), range(32)))
    assert len(told_to_all) == 1
    assert kept(relay, "t") == [(told_to_all.pop()[0], "end", "")]


def test_what_follows_in_time_counts_anew(relay, sse_connect, kept):
    """The later one asks for nothing, so the silence behind it is as long as it likes."""
    stream = sse_connect(relay, "t", "u", ">")
    relay.publish("t", "1", end_after=500)
    relay.publish("t", "2")
    relay.publish("u", "1", end_after=1000)
    last = stream.wait_for(4).events[3]
    assert (last.type, last.data) == ("end", "") and refusal(post(relay, "u")) == (int(last.id), "timeout")
    assert post(relay, "t", "3").status_code == 200
    assert [data for _, _, data in kept(relay, "t")] == ["1", "2", "3"]


def test_it_begins_anew_when_its_time_is_over(start, sse_connect):
    relay = start({"log.ttl": "1s"})
    id, _ = end(relay, "t")
    assert refusal(post(relay, "t"))[0] == id
    answer = wait_until(lambda: (a := post(relay, "t", "anew")).status_code == 200 and a, "its time to be over")
    assert int(answer.json()["id"]) > id
    assert post(relay, "t").status_code == 200


# --- who comes after ---


def test_an_ephemeral_event_still_goes(relay, sse_connect):
    stream = sse_connect(relay, "t", ">")
    id, _ = end(relay, "t")
    assert post(relay, "t", "brief", ephemeral=True).json() == {"id": None}
    assert stream.wait_for(lambda c: "brief" in c.data).ids[-1] is None
    assert refusal(post(relay, "t"))[0] == id


def test_a_key_that_was_seen_is_answered_as_ever(relay, kept):
    first = relay.publish("t", "1", once="a")
    last = relay.publish("t", "2", once="b", end=True)
    assert relay.publish("t", "1", once="a") == first
    assert relay.publish("t", "2", once="b", end=True) == last
    assert refusal(post(relay, "t", once="c")) == (last, "end")
    assert relay.publish("u", "3", once="c") > last, "a refusal has left no key"
    assert [data for _, _, data in kept(relay, "t", "u")] == ["1", "2", "3"]


def test_several_topics_of_which_one_has_ended(relay, kept):
    id, reason = end(relay, "b", "delete")
    for topics in (["a", "b", "c"], ["b", "a"], ["a", "b"]):
        assert refusal(relay.post("/publish", json={"topics": topics, "data": "x"})) == (id, reason)
    assert kept(relay, "a", "b", "c") == [(id, "end", "")]


def test_several_topics_that_end_together(relay, kept):
    id = relay.publish(["a", "b"], "x", end=True)
    assert [refusal(post(relay, topic)) for topic in "ab"] == [(id, "end")] * 2
    assert [end(relay, topic, "delete") for topic in "ab"] == [(id, "end")] * 2
    assert kept(relay, "a") == kept(relay, "b") == [(id, "message", "x")]


def test_a_batch_of_which_some_topics_have_ended(relay, kept):
    seen = relay.publish("gone", "0", once="k")
    gone, cancelled = end(relay, "gone"), end(relay, "cancelled", "delete")
    body = [
        {"topic": "gone", "data": "1"},
        {"topic": "open", "data": "2"},
        {"topics": ["open", "cancelled"], "data": "3"},
        {"topic": "gone", "data": "4", "ephemeral": True},
        {"topic": "gone", "data": "5", "once": "k"},
        {"topic": "open", "data": "6"},
    ]
    answer = relay.post("/publish", json=body)
    published, events = refused_batch(answer)
    assert published is True
    ids = [int(events[i]["id"]) for i in (1, 5)]
    assert events == [mark_of(*gone), {"id": str(ids[0])}, mark_of(*cancelled), {"id": None}, {"id": str(seen)},
                      {"id": str(ids[1])}]  # fmt: skip
    assert ids == sorted(ids) and kept(relay, "open") == [(ids[0], "message", "2"), (ids[1], "message", "6")]
    assert answer.json()["detail"].startswith("[0].topic: gone"), answer.text


def test_a_batch_that_ends_its_own_topic(relay, kept):
    batch = [{"topic": "t", "data": "1"}, {"topic": "t", "data": "2", "end": True}, {"topic": "t", "data": "3"}]
    published, events = refused_batch(relay.post("/publish", json=batch))
    assert published is True and events[2] == mark_of(events[1]["id"])
    assert kept(relay, "t") == [(int(e["id"]), "message", d) for e, d in zip(events, "12")]


@pytest.mark.parametrize("count", [1, 3])
def test_a_batch_of_which_all_topics_have_ended(relay, kept, count):
    ends = [end(relay, f"t{n}", ("end", "delete")[n % 2]) for n in range(count)]
    body = [{"topic": f"t{n}", "data": "x"} for n in range(count)]
    published, events = refused_batch(relay.post("/publish", json=body))
    assert published is False and events == [mark_of(*e) for e in ends]
    assert len(kept(relay, *(f"t{n}" for n in range(count)))) == count


def test_refusals_are_counted(relay):
    before = relay.metric(REFUSED)
    end(relay, "t")
    assert relay.metric(REFUSED) == before
    for body in ({"topic": "t", "data": "x"}, [{"topic": "t", "data": "x"}, {"topic": "u", "data": "x"}]):
        assert relay.post("/publish", json=body).status_code == 409
    assert relay.metric(REFUSED) == before + 2


def test_another_node_knows(node, relay_factory):
    other = relay_factory()
    ended = end(node, "t", "delete")
    assert refusal(post(other, "t")) == ended == end(other, "t")


def test_by_fcall(node, doors):
    first = doors.fcall("t", "1", once="k")
    id, reason = end(node, "t", "delete")
    with pytest.raises(ResponseError) as error:
        doors.fcall("t", "x")
    assert str(error.value) == "sse_publish: topic: ended"  # behind ERR
    assert doors.fcall("t", "1", once="k") == first and doors.fcall("t", "x", ephemeral="1") is None
    assert doors.redis.fcall("sse_end", 1, doors.key(), "topic", "t") == [str(id), reason, "0"]
    assert doors.redis.xrevrange(doors.key("default", "log", "t"), count=1) == [
        (f"{id}-0", {"data": "", "prev": str(first), "event": "end", "end": "cancelled"})
    ]
    elsewhere = doors.redis.fcall("sse_end", 1, doors.key(), "topic", "u", "reason", "timeout")
    assert refusal(post(node, "u")) == (int(elsewhere[0]), "timeout")


def test_by_the_inbox(node, doors, kept):
    rejected = lambda: node.metric("sse_relay_events_dropped_total", reason="inbox")  # noqa: E731
    ended, before = end(node, "t"), rejected()
    doors.xadd("t", "late")
    doors.xadd("u", "open")
    doors.xadd("u", "last", end="1")
    wait_until(lambda: not doors.redis.xlen(doors.key("default", "inbox")), "an empty inbox")
    wait_until(lambda: rejected() == before + 1, "one rejected")
    assert kept(node, "t") == [(ended[0], "end", "")]
    open_, last = kept(node, "u")
    assert (open_[2], last[2]) == ("open", "last") and refusal(post(node, "u")) == (last[0], "end")


# --- bounds ---

BOUNDS = [
    ("log_max", 0, "1"), ("log_max", 51, "50"), ("log_ttl", 0, "1"), ("log_ttl", 7200001, "7200000"),
    ("end_after", 0, "1"), ("end_after", 86400001, "86400000"),
]  # fmt: skip


@pytest.mark.parametrize("field,value,bound", BOUNDS)
def test_what_is_out_of_bounds_is_refused(start, kept, field, value, bound):
    relay = start({"log.max_events_limit": 50, "log.max_events": 40, "index.ttl": "2h", "log.ttl": "1h"})
    pairs = {"topic": "t", "data": "x", field: value}
    answers = {
        "": relay.post("/publish", json=pairs),
        "[1].": relay.post("/publish", json=[{"topic": "t", "data": "x"}, pairs]),
        "form": relay.post("/publish", urlencode(pairs), headers=FORM),
        "query": relay.post(f"/publish?topic=t&{field}={value}", "x"),
    }
    for place, answer in answers.items():
        detail = assert_problem(answer, 400)
        assert detail.startswith((place if place.endswith(".") else "") + field), detail
        assert bound in detail and answer.json()["published"] is False
    assert kept(relay, "t") == []


@pytest.mark.parametrize("field,value", [("log_max", 50), ("log_ttl", 7200000), ("end_after", 86400000)])
def test_what_is_just_within_is_taken(start, field, value):
    relay = start({"log.max_events_limit": 50, "log.max_events": 40, "index.ttl": "2h", "log.ttl": "1h"})
    assert post(relay, "t", **{field: value}).status_code == 200
    assert post(relay, "t", **{field: 1}).status_code == 200


@pytest.mark.parametrize("field", ["log_max", "log_ttl", "end_after"])
@pytest.mark.parametrize("value", [-1, 1.5, "1", True, None, [1]])
def test_numbers_in_json_are_numbers(relay, field, value):
    assert assert_problem(post(relay, "t", **{field: value}), 400).startswith(field)


@pytest.mark.parametrize("field", ["end", "end_after", "log_max", "log_ttl"])
def test_not_with_ephemeral(relay, field):
    value = True if field == "end" else 1000
    assert assert_problem(post(relay, "t", ephemeral=True, **{field: value}), 400).startswith(field)


def test_an_end_is_for_all(relay):
    assert assert_problem(post(relay, "t", end=True, match={"a": "b"}), 400).startswith("end")
    assert post(relay, "t", end=False, match={"a": "b"}).status_code == 200


def test_fcall_has_the_bounds_of_the_relays(redis, relay_factory, sse_connect, doors):
    relay = relay_factory({"log.max_events_limit": 50, "log.max_events": 40})
    sse_connect(relay, "t")  # the settings of a namespace come with who listens
    doors.fcall("t", "x", log_max="50")
    with pytest.raises(ResponseError, match="log_max.* 50"):
        doors.fcall("t", "x", log_max="51")


def test_an_events_own_number_of_events(start, kept):
    relay = start({"log.max_events": 20})
    publish = lambda topic, **more: relay.post(  # noqa: E731
        "/publish", json=[{"topic": topic, "data": str(n), **more} for n in range(600)]
    )
    assert publish("long", log_max=600).status_code == publish("short", log_max=5).status_code == 200
    assert [data for _, _, data in kept(relay, "long")] == [str(n) for n in range(600)]
    assert 5 <= len(kept(relay, "short")) < 200  # Redis trims by the hundred
    end(relay, "long")
    assert len(kept(relay, "long")) == 601, "an end trims nothing"


def test_an_events_own_time(start, kept):
    relay = start({"tail.max_events": 0})
    relay.publish("long", "x")
    relay.publish("short", "x", log_ttl=100)
    wait_until(lambda: kept(relay, "short") == [], "its time to be over")
    assert len(kept(relay, "long")) == 1


# --- the paths ---

NAMES = ["chat.7", "end", "a/b", "\u00fc.\u20ac", "a+b", "a%b", "a?b#c", ".".join("x" * 127), "tail/end", "t~-_!'"]


@BY_PATH
@pytest.mark.parametrize("topic", NAMES)
def test_names_are_percent_encoded(relay, way, topic):
    ended = end(relay, topic, way)
    assert refusal(post(relay, topic)) == ended


@pytest.mark.parametrize(
    "target", ["/topics/%63hat%2E7/end", "/topics/chat%2e7/end", "/%74opics/chat.7/end", "/topics/chat.7/%65nd"]
)
def test_encoded_or_not_it_is_the_same(relay, target):
    """Section 11: letters, digits and - . _ ~ of a path may come percent-encoded."""
    ended = end(relay, "chat.7")
    status, body = raw(relay, "POST", target)
    assert status == 200 and json.loads(body) == {"id": str(ended[0]), "reason": "end"}


BAD = ["%20", "a%20b", "a..b", ".a", "a.", "*", "a.*", ">", "a%00", "%0a", "%7f", "%ff", "%c3", "%", "%2", "%zz",
       "x" * 513]  # fmt: skip


@BY_PATH
@pytest.mark.parametrize("name", BAD)
def test_bad_names(relay, way, name):
    method, tail, _ = PATHS[way]
    status, body = raw(relay, method, "/topics/" + name + tail)
    assert status == 400, body


OTHERS = ["/topics", "/topics/", "/topics//end", "/topics/a/b", "/topics/a/end/", "/topics/a/b/end", "/topics/a/END",
          "/topics%2Fa", "/topics/a/"]  # fmt: skip


@pytest.mark.parametrize("target", OTHERS)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_other_paths(relay, method, target):
    assert raw(relay, method, target)[0] == 404


ALLOWED = {"/topics/t/end": "POST, OPTIONS", "/topics/t": "DELETE, OPTIONS"}


@pytest.mark.parametrize("path,allow", ALLOWED.items())
def test_other_methods(relay, kept, path, allow):
    for method in ("GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"):
        if method in allow:
            continue
        answer = relay.request(method, path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, allow), method
    answer = relay.request("OPTIONS", path)
    assert (answer.status_code, answer.headers["Allow"], answer.text) == (204, allow, "")
    assert kept(relay, "t") == []


def test_a_namespace_of_its_own(relay, kept):
    for way in PATHS:
        ended = end(relay, way, way, "?ns=one")
        assert relay.post(f"/publish?ns=one&topic={way}", "x").status_code == 409
        assert end(relay, way, way, "?ns=one") == ended
        assert relay.publish(way, "x") > 0
        assert kept(relay, way, ns="one") == [(ended[0], "end", "")]
        for query in ("?ns=", "?ns=a.b", "?ns=a&ns=b", "?ns=" + "x" * 65):
            assert assert_problem(ask(relay, way, "other", query), 400).startswith("ns")
    assert kept(relay, "other") == []


@BY_PATH
@pytest.mark.parametrize("query", ["?end_after=1000", "?data=x", "?ns=default&reason=end", "?topic=t", "?"])
def test_what_an_end_does_not_take_is_not_lost_silently(relay, kept, way, query):
    answer = ask(relay, way, "t", query)
    if query == "?":
        assert told(answer)
        return
    assert "takes only ns" in assert_problem(answer, 400)
    assert "published" not in answer.json()
    assert kept(relay, "t") == []


def test_only_who_publishes_is_told_that_nothing_was(relay):
    """Refused before anybody has looked at the path's own rules: a body that is larger than any event needs."""
    for path, told_so in (("/topics/t/end", False), ("/publish", True)):
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\nConnection: close\r\n\r\n"
        answer = exchange(relay, head.encode())
        assert status_of(answer) == 413, answer
        assert (b'"published":false' in answer) == told_so, answer


def test_why_is_told_of_the_first_topics_of_a_batch(relay):
    """Section 8.2: of at most 256 it is asked; the others are null."""
    batch = [{"topic": f"t{n}", "data": "x", "end": True} for n in range(300)]
    assert relay.post("/publish", json=batch).status_code == 200
    _, events = refused_batch(relay.post("/publish", json=batch))
    assert all(e["reason"] == "end" for e in events[:256])
    assert events[256:] == [{"ended": None}] * 44


def test_the_body_may_be_missing_empty_or_any(relay):
    for n, body in enumerate((None, b"", b"x", b'{"a":1}')):
        assert ask(relay, "end", f"t{n}", data=body).status_code == 200
        assert ask(relay, "delete", f"u{n}", data=body).status_code == 200
    assert raw(relay, "POST", "/topics/v/end")[0] == 200


# --- pages ---


@pytest.mark.parametrize("path,allow", ALLOWED.items())
def test_preflight(start, path, allow):
    relay = start({"cors.origins": ORIGIN})
    asked = {"Access-Control-Request-Method": allow.split(",")[0], "Access-Control-Request-Headers": "content-type"}
    answer = relay.request("OPTIONS", path, headers={"Origin": ORIGIN, **asked})
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Access-Control-Allow-Methods"] == allow
    assert "Content-Type" in answer.headers["Access-Control-Allow-Headers"]
    stranger = relay.request("OPTIONS", path, headers={"Origin": "https://evil.example", **asked})
    assert not [name for name in stranger.headers if name.lower().startswith("access-control-allow")]


@BY_PATH
def test_a_page_of_another_origin_ends_nothing(start, kept, way):
    """A browser asks first before it sends DELETE, but not before a POST without a body."""
    relay = start({"cors.origins": ORIGIN})
    for origin in ("https://evil.example", "null"):
        answer = ask(relay, way, "t", headers={"Origin": origin})
        assert "cors.origins" in assert_problem(answer, 403)
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert kept(relay, "t") == []
    answer = ask(relay, way, "t", headers={"Origin": ORIGIN})
    ended = told(answer)
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    late = relay.post("/publish?topic=t", "x", headers={"Origin": ORIGIN})
    assert refusal(late) == ended and late.headers["Access-Control-Allow-Origin"] == ORIGIN


# --- with authentication: who may publish there ---


@BY_PATH
def test_the_right_to_publish_there(parties, guarded, doors, way):
    relay = guarded()
    as_ = lambda token, topic="orders.eu", query="": ask(relay, way, topic, query, headers=bearer(token))  # noqa: E731
    ended = told(as_(parties.T()))
    assert told(as_(parties.U(), query="?ns=t1")) == ended
    assert_forbidden(as_(parties.T(), "billing.eu"), "topic", "billing.eu")
    assert_forbidden(as_(parties.T(), "user.42"), "user.42")  # which it may read
    assert_forbidden(as_(parties.A()), "orders.eu")
    assert_forbidden(as_(parties.T(), query="?ns=t2"), "ns", "t2")
    assert_forbidden(as_(parties.X(), query="?ns=t1"), "ns", "t1")
    assert_invalid(as_(parties.T(life=-3600)))
    assert_invalid(as_("x"))
    assert_nobody(ask(relay, way, "orders.eu"))
    assert_invalid(ask(relay, way, "orders.eu", "?ticket=" + ticket_of(relay, parties.T())))
    keys = {key.split(":", 2)[2] for key in doors.redis.scan_iter("sse:*:log:*")}
    assert keys == {"log:orders.eu"}
    late = relay.post("/publish", json={"topic": "orders.eu", "data": "x"}, headers=bearer(parties.T()))
    assert refusal(late) == ended
    assert doors.redis.exists(doors.key("t1", "log", "orders.eu"))


@BY_PATH
def test_the_order_of_decisions(parties, guarded, way):
    """The path and the method, the credentials, the parameters, the rights."""
    relay = guarded({"cors.origins": ORIGIN})
    method, tail, _ = PATHS[way]
    assert relay.get("/topics/orders.eu" + tail).status_code == 405
    assert relay.request(method, "/topics/a/b/c").status_code == 404
    options = relay.request("OPTIONS", "/topics/orders.eu" + tail, headers={"Origin": ORIGIN})
    assert options.status_code == 204 and "Authorization" in options.headers["Access-Control-Allow-Headers"]
    assert_nobody(relay.request(method, "/topics/*" + tail))
    assert_invalid(relay.request(method, "/topics/*" + tail, headers=bearer("x")))
    assert_problem(relay.request(method, "/topics/*" + tail, headers=bearer(parties.T())), 400)
    assert_problem(relay.request(method, "/topics/billing" + tail + "?ns=a.b", headers=bearer(parties.T())), 400)


def test_a_refusal_tells_nothing_to_who_may_not_publish(parties, guarded):
    relay = guarded()
    ask(relay, "end", "orders.eu", headers=bearer(parties.T()))
    rights = {"publish": ["orders.us"]}
    body = {"topics": ["orders.us", "orders.eu"], "data": "x"}
    answer = relay.post("/publish", json=body, headers=bearer(parties.T(rights=rights)))
    assert_forbidden(answer, "orders.eu")
    assert answer.json()["published"] is False and "ended" not in answer.json()


# --- Redis is away, or the connection breaks ---


class Breaker(Cutter):
    """Cuts at a call of @word, which Redis has done then."""

    def __init__(self, port, word):
        self.word = word
        super().__init__(port)


@pytest.fixture
def breaker(redis):
    made = []

    def make(word):
        made.append(Breaker(redis.port, word))
        return made[-1]

    yield make
    for b in made:
        b.close()


RETRIED = {
    "one": {"topic": "t", "data": "x", "end": True},
    "own once": {"topic": "t", "data": "x", "end": True, "once": "mine"},
    "batch": [{"topic": "t", "data": "x"}, {"topic": "t", "data": "y", "end": True}],
}


@pytest.mark.parametrize("kind", RETRIED)
def test_a_post_that_is_sent_again_is_not_refused_by_its_own_end(redis, relay_factory, breaker, kept, kind):
    link = breaker(b"sse_publish")
    relay = relay_factory(LONG, redis=link.url)
    link.cut()
    answer = relay.post("/publish", json=RETRIED[kind])
    assert answer.status_code == 200, answer.text
    assert link.cuts == 1 and relay.metric("sse_relay_publish_retried_total") == 1
    events = answer.json() if kind == "batch" else [answer.json()]
    assert refusal(post(relay, "t")) == (int(events[-1]["id"]), "end")
    assert [id for id, _, _ in kept(relay, "t")] == [int(e["id"]) for e in events]


def test_a_refused_batch_that_is_sent_again_says_the_same(redis, relay_factory, breaker, kept):
    link = breaker(b"sse_publish")
    relay = relay_factory(LONG, redis=link.url)
    ended = end(relay, "gone")
    link.cut()
    answer = relay.post("/publish", json=[{"topic": t, "data": "x"} for t in ("open", "gone")])
    published, events = refused_batch(answer)
    assert link.cuts == 1 and published is True and events[1] == mark_of(*ended)
    assert kept(relay, "open") == [(int(events[0]["id"]), "message", "x")]


@BY_PATH
def test_an_end_whose_answer_is_lost_may_be_asked_for_again(redis, relay_factory, breaker, kept, way):
    link = breaker(b"sse_end")
    relay = relay_factory(redis=link.url)
    link.cut()
    answer = ask(relay, way, "t")
    assert link.cuts == 1
    if answer.status_code != 200:
        assert_problem(answer, 503)
        assert int(answer.headers["Retry-After"]) > 0
    wait_until(lambda: relay.ready()[0] == 200, "Redis")
    id, reason = end(relay, "t", way)
    assert reason == PATHS[way][2] and kept(relay, "t") == [(id, "end", "")]


def test_why_it_was_refused_may_remain_unknown(redis, relay_factory, breaker):
    """That it was not published is certain all the same."""
    link = breaker(b"sse_ended")
    relay = relay_factory({"auth.timeout": "1s"}, redis=link.url)
    end(relay, "t")
    link.cut(silent=True)
    answer = post(relay, "t")
    assert_problem(answer, 409)
    assert answer.json()["published"] is False and answer.json()["ended"] is None


@BY_PATH
def test_while_redis_is_away(redis, relay_factory, kept, way):
    relay = relay_factory({"auth.timeout": "1s"})
    lose(redis, relay)
    answer = ask(relay, way, "t")
    assert_problem(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0
    redis.start()
    relay.wait_ready()
    id, reason = end(relay, "t", way)
    assert reason == PATHS[way][2] and kept(relay, "t") == [(id, "end", "")]
