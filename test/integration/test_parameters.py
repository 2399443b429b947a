# SPDX-License-Identifier: Apache-2.0
"""What a stream may ask for of flow control, and how it is refused (protocol.md, 4.1, 4.7 and 14.10), and options of it."""

import contextlib
import json
import re
import signal
from urllib.parse import urlencode

import pytest

from auth_rig import bearer, connection_of, opening, renew, status_at
from raw_http import assert_problem, exchange, status_of
from relay_process import run_relay, wait_until

GOOD = [
    {"slow": "block"},
    {"slow": "drop-oldest"},
    {"slow": "drop-newest"},
    {"slow": "disconnect"},
    {"buffer": "1"},
    {"buffer": "1024"},
    {"flush": "20ms"},
    {"flush": "1m"},
    {"control": "off"},
    {"control": "on"},
    {"finite": "0"},
    {"finite": "true"},
    {"snapshot": "1"},
    {"snapshot": "false", "replay": "3"},
    {"replay": "whole"},
    {"replay": "10000"},
    {"slow": "drop-newest", "buffer": "8", "flush": "100ms", "control": "off", "finite": "1", "replay": "all", "unknown": "x"},
]
SLOW = "expected block or drop-oldest or drop-newest or disconnect"
BUFFER = "expected a number of events from 1 to 1024"
FLUSH = "expected a duration such as 500ms, from 20ms to 60000ms"
CONTROL = "expected on or off"
FLAG = "expected 1 or true, 0 or false"
REPLAY = "expected all or a number from 0 to 10000, or whole"
BAD = [
    *[("slow", value, SLOW) for value in ("nonsense", "Block", "", "block,drop-oldest", " block")],
    *[("buffer", value, BUFFER) for value in ("0", "1025", "1e2", "-1", "", "01", "18446744073709551616")],
    *[("flush", value, FLUSH) for value in ("19ms", "61s", "1", "0", "", "1.5s")],
    *[("control", value, CONTROL) for value in ("id", "false", "", "OFF")],
    *[("finite", value, FLAG) for value in ("yes", "2", "", "TRUE")],
    *[("snapshot", value, FLAG) for value in ("yes", "-1", "", "on")],
    *[("replay", value, REPLAY) for value in ("Whole", "10001", "-1", "")],
]
HEADERS = {"slow": "X-SSE-Slow", "buffer": "X-SSE-Buffer"}


def ask(relay, headers=None, method="GET", **params):
    return opening(relay, "/events?" + urlencode({"topic": "a", **params}, doseq=True), headers, method)


def accepted(relay, headers=None, **params):
    return [ask(relay, headers, method, **params).status_code for method in ("GET", "HEAD")] == [200, 200]


def refused(relay, headers=None, **params):
    assert ask(relay, headers, "HEAD", **params).status_code == 400
    return assert_problem(ask(relay, headers, **params), 400)


@pytest.mark.parametrize("params", GOOD, ids=str)
def test_what_may_be_asked_for(relay, params):
    headers = {HEADERS[name]: value for name, value in params.items() if name in HEADERS}
    assert accepted(relay, **params)
    assert accepted(relay, headers)


@pytest.mark.parametrize("name,value,allowed", BAD, ids=str)
def test_what_may_not_be_asked_for(relay, name, value, allowed):
    assert refused(relay, **{name: value}) == f'{name}: {allowed}, not "{value}"'


@pytest.mark.parametrize("name,value,allowed", [b for b in BAD if b[0] in HEADERS and b[1].strip() == b[1]], ids=str)
def test_headers_are_held_to_the_same(relay, name, value, allowed):
    """Also where the query beats them."""
    good = {"slow": "block", "buffer": "1"}[name]
    for params in ({}, {name: good}):
        assert refused(relay, {HEADERS[name]: value}, **params) == f'{name}: {allowed}, not "{value}"'
    assert refused(relay, {HEADERS[name]: good}, **{name: value}).startswith(f"{name}: ")


TWICE = [("slow", "block"), ("buffer", "1"), ("flush", "1s"), ("control", "off"), ("finite", "1"), ("snapshot", "1"), ("replay", "whole")]


@pytest.mark.parametrize("name,value", TWICE, ids=str)
def test_each_stands_once(relay, name, value):
    assert refused(relay, **{name: [value, value]}).startswith(f"{name}: stands twice")


def test_what_does_not_go_together(relay_factory, redis):
    relay = relay_factory({"snapshot.max": 2})
    assert refused(relay, snapshot="1", replay="all") == "snapshot: stands for itself, without replay"
    assert refused(relay, snapshot="1", since="0") == "snapshot: stands for itself, without since"
    assert refused(relay, replay="whole", topic=["a", "b.*"]) == "replay: whole is for topics without wildcards; ask for replay=all"
    assert accepted(relay, snapshot="1", topic=["a", "b", "c.*"])
    assert refused(relay, snapshot="1", topic=["a", "b", "c"]) == "snapshot: is of at most 2 topics (snapshot.max), not of 3"


@pytest.mark.parametrize("name,value", [("X-SSE-Slow", "block"), ("X-SSE-Buffer", "1")])
def test_each_header_stands_once(relay, name, value):
    for line in (f"{name}: {value}\r\n{name.lower()}: {value}\r\n", f"{name}:\r\n{name}: {value}\r\n"):
        answer = exchange(relay, f"GET /health HTTP/1.1\r\nHost: x\r\n{line}\r\n".encode())
        assert status_of(answer) == 400 and f"{name}: stands twice" in answer.decode()


def test_only_what_the_operator_allows(relay_factory, redis):
    strict = relay_factory({"slow": "disconnect", "slow.allowed": ["block", "drop-oldest"], "queue.max_events": 10, "flush.min": "1s", "flush.max": "5s"})
    assert refused(strict, slow="disconnect") == 'slow: expected block or drop-oldest, not "disconnect"'
    assert refused(strict, {"X-SSE-Slow": "drop-newest"}) == 'slow: expected block or drop-oldest, not "drop-newest"'
    assert refused(strict, buffer="11") == 'buffer: expected a number of events from 1 to 10, not "11"'
    assert refused(strict, flush="999ms") == 'flush: expected a duration such as 500ms, from 1000ms to 5000ms, not "999ms"'
    assert accepted(strict, slow="drop-oldest", buffer="10", flush="5s")
    fixed = relay_factory({"slow.allowed": "", "slow": "drop-oldest"})
    assert accepted(fixed)
    assert refused(fixed, slow="block") == 'slow: expected none, as slow.allowed is empty, not "block"'


# --- options ---

OPTIONS = [
    ("slow", "drop", "expected block, drop-oldest, drop-newest or disconnect"),
    ("slow.allowed", "block,drop", "expected block, drop-oldest, drop-newest or disconnect"),
    ("slow.reads", "0", "1 to 1000000"),
    ("slow.max_dropped", "-1", "0 to 1000000000"),
    ("stall_timeout", "999ms", "0 or 1s to 1h"),
    ("flush", "19ms", "20ms to 1m"),
    ("flush.min", "61s", "20ms to 1m"),
    ("flush.max", "0", "20ms to 1m"),
    ("lanes", "prices.>=low", "one of instant, batched, coalesced, appended"),
    ("snapshot.max", "0", "1 to 100000"),
    ("queue.max_events", "65537", "1 to 65536"),
    ("socket.unsent", "4095", "0 or 4KB to 1GB"),
    ("control_events", "maybe", "expected on, id or off"),
    ("log.max_events_limit", "0", "1 to 100000000"),
]


@pytest.mark.parametrize("name,value,allowed", OPTIONS, ids=str)
def test_a_bad_option_does_not_start(name, value, allowed):
    variable = "SSE_RELAY_" + name.upper().replace(".", "_")
    for result in (run_relay("--check-config", f"--{name}", value), run_relay("--check-config", env={variable: value})):
        assert result.returncode == 2
        assert f"{name}={value} (from " in result.stderr and allowed in result.stderr


def test_bounds_that_cross_do_not_start():
    result = run_relay("--check-config", "--flush.min", "2s", "--flush.max", "1s")
    assert result.returncode == 2 and 'flush.min="2s" is more than flush.max="1s"' in result.stderr


@pytest.fixture
def configured(relay_factory, redis, tmp_path):
    """configured(options): a relay whose file has them, and has others after rewrite(options, what is logged then)."""
    path = tmp_path / "flow.json"

    def start(options):
        path.write_text(json.dumps(options))
        # The environment would win over the file.
        relay = relay_factory(args=["--config", path], env={"SSE_RELAY_QUEUE_MAX_EVENTS": None, "SSE_RELAY_QUEUE_MAX_BYTES": None})

        def rewrite(others, logged="configuration read again"):
            told = len(re.findall(logged, relay.log_text))
            path.write_text(json.dumps(others))
            relay.signal(signal.SIGHUP)
            wait_until(lambda: len(re.findall(logged, relay.log_text)) > told, logged)

        return relay, rewrite

    return start


def test_a_bad_option_in_a_reload_changes_nothing(configured):
    relay, rewrite = configured({"slow.allowed": ["block"], "flush.max": "1s"})
    for name, value, _ in OPTIONS:
        good = {"slow.allowed": ["disconnect"], "flush.max": "2s"}
        rewrite({**good, name: value}, re.escape(f"{name}={value} (from "))
        assert accepted(relay, slow="block", flush="1s"), name
        assert refused(relay, slow="disconnect") == 'slow: expected block, not "disconnect"'
        refused(relay, flush="2s")
    rewrite({"flush.min": "2s", "flush.max": "1s"}, r"flush\.min=.*is more than")
    assert accepted(relay, flush="100ms")


def test_what_is_allowed_changes_with_a_reload(configured):
    relay, rewrite = configured({"slow": {"allowed": ["block"]}, "flush": "1s", "flush.max": "1s"})
    refused(relay, slow="disconnect")
    refused(relay, flush="2s")
    rewrite({"slow.allowed": ["disconnect"], "flush.min": "1s", "flush.max": "2s", "queue.max_events": 9, "snapshot.max": 1})
    assert accepted(relay, slow="disconnect", flush="2s", buffer="9", snapshot="1")
    assert refused(relay, slow="block") == 'slow: expected disconnect, not "block"'
    assert refused(relay, buffer="10") == 'buffer: expected a number of events from 1 to 9, not "10"'
    assert refused(relay, flush="999ms") == 'flush: expected a duration such as 500ms, from 1000ms to 2000ms, not "999ms"'
    assert refused(relay, snapshot="1", topic=["a", "b"]).startswith("snapshot: is of at most 1 topics")


def test_rules_of_lanes_change_with_a_reload(configured, sse_connect, doors):
    """What is published after it, on new streams and on those that there are."""
    relay, rewrite = configured({"flush": "1m", "lanes": [{"topic": "b.>", "priority": "batched"}]})
    old = sse_connect(relay, "a.x", "b.x")
    rewrite({"flush": "1m", "lanes": ["a.*=coalesced"]})
    new = sse_connect(relay, "a.x", "b.x")
    for n in range(4):
        doors.fcall("a.x", f"a{n}")
    doors.fcall("b.x", "b")
    assert new.wait_for(3).data == old.wait_for(3).data == ["a0", "a3", "b"]


def test_the_interval_changes_with_a_reload(configured, sse_connect, doors):
    relay, rewrite = configured({"flush": "1m"})
    rewrite({"flush": "20ms"})
    stream = sse_connect(relay, "a")
    for n in range(3):
        doors.fcall("a", n, priority="batched")
    assert stream.wait_for(3).data == ["0", "1", "2"]


def test_what_waits_goes_by_the_interval_that_is_reloaded(configured, sse_connect, doors):
    long = {"lanes": ["p.>=coalesced"], "flush": "1m", "flush.max": "1m"}
    relay, rewrite = configured(long)
    stream, asking = (sse_connect(relay, "p.a", "now", params=p) for p in ({}, {"flush": "1m"}))
    for data in ("at once", "waits"):
        doors.fcall("p.a", data)
    stream.wait_for(1)
    wait_until(lambda: relay.metric("sse_relay_pending_events") == 2, "two that wait")
    rewrite({**long, "flush": "20ms"})
    assert stream.wait_for(2).data == ["at once", "waits"]
    assert asking.data == ["at once"]


def test_the_policy_changes_with_a_reload(configured, slow_stream):
    relay, rewrite = configured(TIGHT)
    assert slow_stream(relay, "/events?topic=t.1") == "block"
    rewrite({**TIGHT, "slow": "disconnect"})
    assert slow_stream(relay, "/events?topic=t.1") == "disconnect"
    rewrite({**TIGHT, "slow": "drop-newest", "slow.max_dropped": 3})
    assert slow_stream(relay, "/events?topic=t.1", until=("disconnect",)) == "disconnect"


def test_the_policy_changes_for_streams_that_did_not_ask(configured, stalled, doors):
    relay, rewrite = configured(TIGHT)
    with stalled(relay, "/events?topic=t.1"), stalled(relay, "/events?topic=t.1&slow=drop-newest"):
        rewrite({**TIGHT, "slow": "disconnect"})
        publish(doors, 200)
        wait_until(lambda: counts(relay)["disconnect"] == 1 and counts(relay)["drop"] > 0, "what becomes of both")
        assert counts(relay)["block"] == 0
        wait_until(lambda: relay.metric("sse_relay_clients", state="live") == 1, "the one that goes on")


def test_a_stall_is_ended_by_what_is_reloaded(configured, stalled, doors):
    relay, rewrite = configured({**TIGHT, "slow": "drop-newest", "stall_timeout": 0, "heartbeat": "1s"})
    with stalled(relay, "/events?topic=t.1"):
        publish(doors, 200)
        wait_until(lambda: counts(relay)["drop"], "drops")
        rewrite({**TIGHT, "slow": "drop-newest", "stall_timeout": "1s", "heartbeat": "1s"})
        wait_until(lambda: relay.metric("sse_relay_streams_closed_total", reason="stalled") == 1, "its end")


# --- what is done with them ---

TIGHT = {"queue.max_events": 16, "queue.max_bytes": "1GB", "socket.unsent": "4KB"}
PAD = "x" * 4000
COUNTED = {  # what tells that a policy was followed
    "block": ("sse_relay_streams_behind_total", {}),
    "drop": ("sse_relay_events_dropped_total", {"reason": "policy"}),
    "disconnect": ("sse_relay_streams_closed_total", {"reason": "slow"}),
}


@pytest.fixture
def stalled(sse_connect, doors):
    """stalled(relay, path, …): a stream of t.1 whose client reads nothing; gone again after the block."""

    @contextlib.contextmanager
    def connect(relay, path, **kw):
        path, _, query = path.partition("?")
        params = dict(pair.split("=") for pair in query.split("&") if pair)
        client = sse_connect(relay, path=path, params=params, receive_buffer=4096, **kw)
        client.stop_reading()
        yield client
        client.close()
        publish(doors, 1)  # the relay learns it by writing
        wait_until(lambda: relay.metric("sse_relay_clients", state="live") == 0 == relay.metric("sse_relay_queued_events"), "its end")

    return connect


def publish(doors, count):
    for ns in ("default", "t1"):
        doors.many("t.1", [PAD] * count, ns=ns)


def counts(relay):
    return {word: relay.metric(name, **labels) for word, (name, labels) in COUNTED.items()}


@pytest.fixture
def slow_stream(stalled, doors):
    """slow_stream(relay, path, …): the policy that a stream there has."""

    def find(relay, path, until=tuple(COUNTED), **kw):
        before = counts(relay)
        with stalled(relay, path, **kw):
            publish(doors, 200)
            changed = lambda: [word for word, count in counts(relay).items() if count > before[word] and word in until]  # noqa: E731
            wait_until(changed, "what becomes of it")
            (word,) = changed()
        return word

    return find


ROUTE = {"path": "/mine", "topics": ["board.>"], "grants": True, "public": True}


@pytest.fixture
def routed(parties, guarded):
    def start(*routes, **config):
        routes = [{name: value for name, value in route.items() if value is not None} for route in routes]
        parties.file.write(routes=routes, anonymous={"ns": "t1", "subscribe": ["board.>"]})
        return guarded(config)

    return start


def test_the_query_wins_over_the_header_over_the_route_over_the_option(routed, slow_stream):
    own = {**ROUTE, "path": "/own", "topics": ["t.1"], "slow": "disconnect"}
    relay = routed({**own, "path": "/plain", "slow": None}, own, slow="drop-newest", **TIGHT)
    header = {"X-SSE-Slow": "block"}
    assert slow_stream(relay, "/plain") == "drop"
    assert slow_stream(relay, "/own") == "disconnect"
    assert slow_stream(relay, "/own", headers=header) == "block"
    assert slow_stream(relay, "/plain", headers=header) == "block"
    assert slow_stream(relay, "/own?slow=drop-oldest", headers=header) == "drop"
    assert slow_stream(relay, "/own?slow=drop-oldest") == "drop"


def test_the_same_of_buffers(routed, stalled, doors):
    own = {**ROUTE, "path": "/own", "topics": ["t.1"], "buffer": 80}
    more = {**own, "path": "/more", "buffer": 65536}  # the node's bound holds all the same
    relay = routed({**own, "path": "/plain", "buffer": None}, own, more, slow="drop-newest", **{**TIGHT, "queue.max_events": 160})
    header = {"X-SSE-Buffer": "20"}
    for bound, path, headers in (
        (160, "/plain", None),
        (160, "/more", None),
        (80, "/own", None),
        (20, "/own", header),
        (40, "/own?buffer=40", header),
        (100, "/own?buffer=100", None),
    ):
        before = counts(relay)["drop"]
        with stalled(relay, path, headers=headers):
            publish(doors, 400)
            wait_until(lambda n=before: counts(relay)["drop"] > n, "drops")
            publish(doors, 20)  # the socket may have taken some since
            # What tells of drops counts, too.
            wait_until(lambda n=bound: n <= relay.metric("sse_relay_queued_events") <= n + 2, f"{bound} events of {path}")


def test_the_same_of_intervals(routed, sse_connect, doors):
    """None is measured: a stream of 20 ms shows that the time of one has passed."""
    fast, slow = {**ROUTE, "path": "/fast", "flush": "20ms"}, {**ROUTE, "path": "/slow", "flush": "1m"}
    relay = routed({**ROUTE, "path": "/plain"}, fast, slow, flush="1m")
    quick = [sse_connect(relay, path="/fast"), sse_connect(relay, path="/slow", params={"flush": "20ms"})]
    late = [sse_connect(relay, path="/plain"), sse_connect(relay, path="/fast", params={"flush": "1m"}), sse_connect(relay, path="/slow")]
    for n in range(5):
        doors.fcall("board.a", n, ns="t1", priority="batched")
        for stream in quick:
            stream.wait_for(n + 1)
    assert [len(stream.events) for stream in late] == [1, 1, 1]
    doors.fcall("board.a", 5, ns="t1")
    for stream in quick + late:
        assert stream.wait_for(6).data == ["0", "1", "2", "3", "4", "5"]


# --- routes ---


def test_a_route_has_its_own_and_the_client_wins(routed, sse_connect, doors):
    quiet = {**ROUTE, "control": "off"}
    loud = {**ROUTE, "path": "/loud", "control": "on"}
    relay = routed(quiet, loud, heartbeat="1s")
    untold = sse_connect(relay, path="/mine", wait=False)
    told = sse_connect(relay, path="/mine", params={"control": "on"})
    assert [b.type for b in told.controls] == ["relay.connected"]
    assert [b.type for b in sse_connect(relay, path="/loud").controls] == ["relay.connected"]
    untold.wait_for(lambda c: c.raw.endswith(b":\n:\n"))
    doors.fcall("board.a", "x", ns="t1")
    assert untold.wait_for(1).data == ["x"] and not untold.controls


@pytest.mark.parametrize("option", ["off", "id"])
def test_control_events_are_for_who_asks(routed, sse_connect, doors, option):
    """By the client or by the route; who asks for nothing has what the option says."""
    relay = routed({**ROUTE, "control": "on"}, {**ROUTE, "path": "/plain"}, control_events=option)
    told = [sse_connect(relay, path="/mine"), sse_connect(relay, path="/plain", params={"control": "on"})]
    untold = [sse_connect(relay, path="/plain", wait=False), sse_connect(relay, path="/mine", params={"control": "off"}, wait=False)]
    wait_until(lambda: relay.metric("sse_relay_clients", state="live") == 4, "four streams")
    doors.fcall("board.a", "x", ns="t1")
    for stream in told + untold:
        assert stream.wait_for(1).data == ["x"]
    assert [[b.type for b in stream.controls] for stream in told + untold] == [["relay.connected"]] * 2 + [[], []]


def test_what_a_route_does_not_tell_keeps_no_finite_client_coming(routed, doors):
    """A gap that is not told moves no cursor: it is nothing to come back for."""
    quiet = {**ROUTE, "topics": ["board.a"], "control": "off"}
    relay = routed(quiet, {**quiet, "path": "/loud", "control": "on"})
    doors.fcall("board.a", "x", ns="t1", end=1)
    stale = "finite=1&lastEventId=nobodys"
    assert status_at(relay, f"/mine?{stale}") == status_at(relay, f"/loud?{stale}&control=off") == 204
    assert status_at(relay, f"/loud?{stale}") == status_at(relay, f"/mine?{stale}&control=on") == 200


def test_parameters_of_a_route_are_checked(routed):
    relay = routed({**ROUTE, "slow": "disconnect", "buffer": 60000, "flush": "20ms"}, **{"slow.allowed": ["block"], "flush.min": "1s"})
    assert status_at(relay, "/mine") == 200, "the operator may what clients may not"
    assert status_at(relay, "/mine?slow=block&buffer=1&flush=1s") == 200
    for query in ("slow=disconnect", "buffer=60000", "flush=20ms", "control=x"):
        name = query.partition("=")[0]
        assert assert_problem(opening(relay, f"/mine?{query}"), 400).startswith(f"{name}: ")


WRONG = [
    ({"slow": "drop"}, "routes[0].slow: " + SLOW),
    ({"buffer": 0}, "routes[0].buffer: expected a number of events from 1 to 65536"),
    ({"buffer": 1.5}, "routes[0].buffer: expected a number of events from 1 to 65536"),
    ({"flush": "1h"}, "routes[0].flush: " + FLUSH),
    ({"control": False}, "routes[0].control: " + CONTROL),
    ({"finite": "1"}, "routes[0].finite: unknown"),
]


@pytest.mark.parametrize("member,sentence", WRONG, ids=str)
def test_a_route_with_what_is_none_does_not_start(parties, member, sentence):
    parties.file.write(routes=[{**ROUTE, **member}], anonymous={"ns": "t1"})
    result = run_relay("--check-config", "--auth.file", parties.file.path)
    assert result.returncode == 2 and sentence in result.stderr


def test_a_route_with_what_is_none_changes_nothing_when_it_is_read_again(routed, parties, sse_connect):
    relay = routed({**ROUTE, "control": "off"}, heartbeat="1s")
    for member, sentence in WRONG:
        parties.file.write(routes=[{**ROUTE, "control": "on", **member}])
        relay.signal(signal.SIGHUP)
        relay.wait_log(re.escape(sentence))
        stream = sse_connect(relay, path="/mine", wait=False)
        stream.wait_for(lambda c: c.raw.endswith(b":\n:\n"))
        assert not stream.blocks, member
        stream.close()
    parties.file.write(routes=[{**ROUTE, "control": "on"}])
    relay.wait_log("keys and rules read again")
    assert [b.type for b in sse_connect(relay, path="/mine").controls] == ["relay.connected"]


def test_explain_shows_what_a_route_says(parties):
    own = {**ROUTE, "slow": "drop-oldest", "buffer": 16, "flush": "100ms", "control": "off"}
    parties.file.write(routes=[own, {**ROUTE, "path": "/plain"}], anonymous={"ns": "t1"})
    result = run_relay("--auth.file", parties.file.path, "--explain", parties.T())
    assert "/mine  (open to everybody; slow drop-oldest; buffer 16; flush 100ms; control off)" in result.stdout
    assert "/plain  (open to everybody)" in result.stdout


def test_pages_may_send_the_headers(relay_factory, redis):
    relay = relay_factory({"cors.origins": "https://app.example"})
    answer = relay.request("OPTIONS", "/events", headers={"Origin": "https://app.example", "Access-Control-Request-Method": "GET"})
    assert {"X-SSE-Slow", "X-SSE-Buffer"} <= set(answer.headers["Access-Control-Allow-Headers"].split(", "))


def test_control_off_outlives_a_renewal(parties, guarded, sse_connect):
    """A new token is told its end, but not to who wants no control events."""
    relay = guarded({"heartbeat": "1s", "auth.notice": "1h"})
    streams = {word: sse_connect(relay, "orders.eu", headers=bearer(parties.T()), params={"control": word}, wait=False) for word in ("on", "off")}
    told = streams["on"].wait_for(lambda c: len(c.controls) >= 2)
    assert [b.type for b in told.controls] == ["relay.connected", "relay.expiring"]
    assert renew(relay, connection_of(told), parties.T()).status_code == 200
    told.wait_for(lambda c: len(c.controls) == 3)
    untold = streams["off"].wait_for(lambda c: c.raw.endswith(b":\n:\n"))
    assert not untold.blocks
