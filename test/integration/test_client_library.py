# SPDX-License-Identifier: Apache-2.0
"""/client.js: events, cursors, hidden pages, and what fails: docs/protocol.md, 15. Needs Chromium, and a real relay."""

import itertools
import threading
import time

import pytest

from library_page import Library, guarded_library, library, site  # noqa: F401
from redis_server import free_port
from relay_process import wait_until

pytestmark = pytest.mark.browser


# --- events ---


def test_events_come_with_their_ids(library, doors):
    library.connect(topics=["t", "u.*"]).wait("open")
    ids = [doors.fcall("t", "1"), doors.fcall("u.x", "2"), doors.fcall("t", "3")]
    library.wait_events("1", "2", "3")
    assert library.seen("ids") == [str(id) for id in ids]
    assert library.get("stream.lastEventId") == str(ids[-1])
    assert library.seen("states") == ["connecting", "open"]
    told = library.seen("opens")[0]
    assert told["topics"] == ["t", "u.*"] and told["connection_id"] == library.connection


def test_types_have_handlers_of_their_own(library, doors):
    """Also those that the browser itself uses; and they take nothing down."""
    library.connect("/events?topic=t", types=["created", "error"], on=["moved", "open"]).wait("open")
    before = library.connection
    for type in ["created", "error", "moved", "open", "nobody"]:
        doors.fcall("t", "of " + type, event=type)
    doors.fcall("t", "plain")
    library.wait_events("of created", "of error", "plain")
    assert library.seen("types") == ["created", "error", "message"]
    assert library.seen("typed") == [["moved", "of moved"], ["open", "of open"]]
    assert library.connection == before and library.seen("errors") == []


def test_a_handler_that_throws_costs_one_event(library, doors):
    library.connect(topics="t").wait("open")
    library.browser.execute_script("const push = seen.events.push; seen.events.push = (d) => { if (d === 'bad') throw d; push.call(seen.events, d); }")
    doors.many("t", ["good", "bad"])
    last = doors.fcall("t", "good")
    library.wait_events("good", "good")
    assert library.get("stream.lastEventId") == str(last)


def test_parameters_and_the_url_of_a_relay(library, doors, relay):
    """A URL that ends with / is a relay. A parameter may have several values."""
    doors.many("t", ["1", "2", "3"])
    library.connect(relay.url, topics="t", params={"replay": 2}).wait_events("2", "3")
    library.close()
    library.connect(relay.url + "/", topics="t", types=["a", "b"], params={"event": ["a", "b"]}).wait("open")
    for type in "abc":
        doors.fcall("t", type, event=type)
    doors.fcall("t", "b", event="b")
    library.wait_events("a", "b", "b")


def test_close_is_the_end(library, relay):
    library.connect(topics="t").wait("open")
    library.close()
    relay.wait_clients(0)
    library.show(False)
    library.show(True)
    assert library.state == "closed" and library.connection == "" and library.seen("states")[-1] == "closed"


# --- resume ---


def test_a_reload_goes_on_with_the_cursor(library, doors):
    library.connect(topics=["t"], resume="cursor").wait("open")
    doors.many("t", ["1", "2"])
    library.wait_events("1", "2")
    library.open("about:blank").open()
    doors.many("t", ["3", "4"])
    library.connect(topics=["t"], resume="cursor").wait_events("3", "4")
    library.reload().wait("open")
    doors.fcall("t", "5")
    library.wait_events("5")
    assert library.seen("gaps") == []


def test_a_cursor_is_of_its_url_and_topics(library, doors):
    library.connect(topics=["t"], resume="cursor").wait("open")
    doors.fcall("t", "1")
    library.wait_events("1")
    library.open("about:blank").open()
    doors.many("t", ["2"])
    doors.fcall("u", "not asked for")
    library.connect(topics=["u"], resume="cursor").wait("open")
    doors.fcall("u", "3")
    library.wait_events("3")
    library.close()
    library.connect("/events?topic=t", resume="cursor").wait_events("2")


def test_without_resume_a_reload_begins_live(library, doors):
    library.connect(topics=["t"]).wait("open")
    doors.fcall("t", "1")
    library.wait_events("1")
    library.reload().wait("open")
    doors.fcall("t", "2")
    library.wait_events("2")
    assert library.get("sessionStorage.length") == 0


def test_resume_all_begins_with_the_first(library, doors):
    doors.many("t", ["1", "2"])
    library.connect(topics=["t"], resume="all").wait_events("1", "2")
    doors.fcall("t", "3")
    library.wait_events("1", "2", "3")
    library.reload().wait_events("1", "2", "3")
    assert library.seen("gaps") == []


def test_a_cursor_of_the_page_itself(library, doors):
    first = doors.fcall("t", "1")
    doors.fcall("t", "2")
    library.connect(topics=["t"], lastEventId=str(first)).wait_events("2")


def test_a_page_without_storage_works(library, doors):
    library.browser.execute_script("Object.defineProperty(window, 'sessionStorage', {get() { throw new Error('no'); }})")
    library.connect(topics=["t"], resume="cursor").wait("open")
    doors.fcall("t", "1")
    library.wait_events("1")


# --- hidden pages ---


def test_a_hidden_page_lets_go_and_comes_back_with_its_cursor(library, relay, doors):
    library.connect(topics=["t"], hiddenAfter=1).wait("open")
    doors.fcall("t", "1")
    library.wait_events("1")
    library.show(False)
    library.wait("hidden")
    relay.wait_clients(0)
    doors.many("t", ["2", "3"])
    library.show(True)
    library.wait("open").wait_events("1", "2", "3")
    assert library.seen("gaps") == [] and library.seen("states")[-3:] == ["hidden", "connecting", "open"]


def test_who_is_back_in_time_keeps_the_connection(library, doors):
    """Hidden and shown in one task: a timer of 1 ms has had no turn in between."""
    library.connect(topics=["t"], hiddenAfter=1).wait("open")
    before = library.connection
    library.browser.execute_script("""for (const state of ['hidden', 'visible']) {
        Object.defineProperty(document, 'visibilityState', {value: state, configurable: true});
        document.dispatchEvent(new Event('visibilitychange')); }""")
    doors.fcall("t", "1")
    library.wait_events("1")
    assert library.connection == before and "hidden" not in library.seen("states")


def test_a_page_that_is_loaded_hidden_lets_go_too(library, relay):
    library.show(False)
    library.connect(topics=["t"], hiddenAfter=1).wait("hidden")
    relay.wait_clients(0)
    library.show(True)
    library.wait("open")


def test_keep_does_nothing(library, doors):
    library.connect(topics=["t"], hidden="keep", hiddenAfter=1).wait("open")
    before = library.connection
    library.show(False)
    doors.fcall("t", "1")
    library.wait_events("1")
    assert library.connection == before and library.seen("states") == ["connecting", "open"]


def test_topics_that_change_while_it_is_hidden(library, doors):
    library.connect(topics=["t"], hiddenAfter=1).wait("open")
    library.show(False)
    library.wait("hidden")
    assert library.call("subscribe", "u") == (True, ["t", "u"])
    assert library.state == "hidden"
    library.show(True)
    library.wait("open")
    doors.fcall("u", "1")
    library.wait_events("1")


# --- what it is told ---


def test_a_gap_is_told(library, doors):
    last = doors.fcall("t", "1")
    library.connect(topics=["t"], lastEventId=str(2**53 - 2)).wait("open")
    wait_until(lambda: library.seen("gaps"), "a gap")
    assert library.seen("gaps") == [{"from": None, "to": str(last), "reason": "unknown-id"}]
    assert library.get("stream.lastEventId") == str(last)


HOLD = """const push = seen.events.push, [url] = arguments;
seen.events.push = (data) => {
    push.call(seen.events, data);
    if (data === "hold") { const request = new XMLHttpRequest(); request.open("GET", url, false); request.send(); }
};"""


def test_what_is_dropped_is_told(redis, relay_factory, browser, doors, site):
    """The page is held up by a request that nobody answers, until enough has been dropped."""
    relay = relay_factory({"slow.allowed": "drop-oldest", "queue.max_events": "256"})
    asked, release = threading.Event(), threading.Event()

    def wait(handler):
        asked.set()
        release.wait(60)
        handler.answer(200, {"Access-Control-Allow-Origin": "*"})

    wall = site({"/wait": wait})
    library = Library(browser, relay.url).open()
    library.connect(topics=["t"], params={"slow": "drop-oldest", "buffer": 1}).wait("open")
    browser.execute_script(HOLD, wall.url + "/wait")
    doors.fcall("t", "hold")
    try:
        assert asked.wait(60)
        for published in itertools.count(1):
            doors.fcall("t", str(published) + "x" * 900_000)
            if published % 10 == 0 and relay.metric("sse_relay_events_dropped_total", reason="policy") > 3:
                break
            assert published < 400, "nothing is dropped"
    finally:
        release.set()
    last = doors.fcall("t", "last")
    wait_until(lambda: library.get("stream.lastEventId") == str(last), "the last event")
    dropped = sum(told["count"] for told in library.seen("dropped"))
    assert dropped > 0 and library.get("seen.events.length") + dropped == published + 2


def test_the_end_of_all_topics_is_the_end(library, relay, doors):
    library.connect(topics=["a", "b"]).wait("open")
    first = doors.fcall("a", "last of a", end=1)
    library.wait_events("last of a")
    wait_until(lambda: library.seen("ends"), "relay.end")
    assert library.state == "open"
    second = doors.fcall("b", "last of b", end=1)
    library.wait("ended")
    assert library.seen("ends") == [{"topic": "a", "id": str(first), "reason": "end"}, {"topic": "b", "id": str(second), "reason": "end"}]
    relay.wait_clients(0)
    assert library.seen("events") == ["last of a", "last of b"] and library.seen("states") == ["connecting", "open", "ended"]


def test_what_has_ended_is_told_by_204(library, relay, doors):
    library.connect(topics=["a"], resume="cursor", finite=True).wait("open")
    doors.fcall("a", "last", end=1)
    library.wait("ended").reload().wait("ended")
    assert library.seen("states") == ["connecting", "ended"] and library.seen("opens") == []
    assert relay.metric("sse_relay_streams_over_total") >= 1


def test_204_with_a_ticket(guarded_library, parties, doors):
    library, _ = guarded_library()
    doors.fcall("orders.eu", "last", ns="t1", end=1)
    library.connect(topics=["orders.eu"], token=parties.T(), finite=True).wait("ended")
    assert library.seen("opens") == [] and library.seen("errors") == []


# --- what fails ---


@pytest.mark.parametrize("random,factor", [(0, 0.5), (0.5, 1), (1, 1.5)])
def test_without_an_answer_it_waits_ever_longer(library, random, factor):
    """Twice as long each time, up to a bound, and half of it to one and a half times that."""
    library.connect(f"http://127.0.0.1:{free_port()}/events", topics=["t"], random=random, retry=10, retryMax=60)
    wait_until(lambda: len(library.seen("waits")) >= 5, "five attempts")
    assert library.seen("waits")[:5] == pytest.approx([n * factor for n in (10, 20, 40, 60, 60)])
    library.close()


def test_a_proxy_that_has_no_relay_is_asked_again(browser, relay, site, doors):
    """503 ends a native EventSource for good."""
    left = [3]

    def events(handler):
        if left[0]:
            left[0] -= 1
            return handler.answer(503, {"Content-Type": "text/html"}, b"no relay")
        handler.send_response(307)
        handler.send_header("Location", "/live")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    live = ({"Content-Type": "text/event-stream"}, 'id: 7\nevent: relay.connected\ndata: {"connection_id":"c","node":"n","topics":["t"]}\n\nid: 8\ndata: 1\n\n')
    proxy = site({"/events": events, "/live": live})
    library = Library(browser, relay.url).open(proxy.url)
    library.connect(proxy.url + "/events", library=relay.url + "/client.js", topics=["t"], retry=10)
    wait_until(lambda: "1" in library.seen("events"), "the stream")
    assert library.seen("errors")[0] == {"status": 503, "detail": "503 Service Unavailable", "final": False}
    library.close()


def test_retry_after_counts(browser, relay, site):
    """It is the least that it waits."""
    proxy = site({"/events": lambda handler: handler.answer(503, {"Retry-After": "60"})})
    library = Library(browser, relay.url).open(proxy.url)
    library.connect(proxy.url + "/events", library=relay.url + "/client.js", topics=["t"], retry=10, random=0)
    wait_until(lambda: library.seen("waits"), "a wait")
    assert library.seen("waits") == [60005]
    library.show(False)
    library.show(True)
    assert library.get("seen.states").count("connecting") == 2, "somebody looks: it does not wait any longer"
    library.close()


def test_a_wrong_request_is_the_end_and_says_why(library):
    library.connect(topics=["a..b"]).wait("closed")
    (error,) = library.seen("errors")
    assert error["status"] == 400 and "topic" in error["detail"] and error["final"]


def test_a_killed_node_under_it(redis, relay_factory, haproxy, browser, doors, publishing):
    nodes = [relay_factory(retry="200ms", node=f"node{i}") for i in range(2)]
    base = haproxy(*nodes)
    library = Library(browser, base).open().connect(topics=["t"], retry=100, resume="cursor").wait("open")
    first = library.seen("opens")[0]["node"]
    publisher = publishing(lambda n: doors.fcall("t", n), total=400, pause=0.003)
    publisher.wait_for(100)
    nodes[int(first[-1])].kill()
    publisher.finish()
    wait_until(lambda: library.get("seen.events.length") >= 400, "400 events", 60)
    assert library.seen("ids") == [str(i) for i in publisher.ids] and library.seen("gaps") == []
    assert library.seen("opens")[-1]["node"] != first


def test_a_node_that_drains_under_it(redis, relay_factory, haproxy, browser, doors):
    nodes = [relay_factory(retry="200ms", node=f"node{i}") for i in range(2)]
    library = Library(browser, haproxy(*nodes)).open().connect(topics=["t"]).wait("open")
    first = library.seen("opens")[0]["node"]
    doors.fcall("t", "1")
    library.wait_events("1")
    leaving = nodes[int(first[-1])]
    leaving.terminate()
    assert leaving.wait() == 0
    wait_until(lambda: library.seen("opens")[-1]["node"] != first, "the other node")
    doors.fcall("t", "2")
    library.wait_events("1", "2")


THROWS = """
const done = arguments[arguments.length - 1];
const [library, thrown] = arguments;
import(library).then(({ connect }) => {
    const left = [thrown, undefined, null, 401];
    window.told = [];
    window.stream = connect("/events", { topics: "t", retry: 10, onerror: (error) => told.push([error.message, error.final]),
        token: () => { if (left.length) throw left.shift(); } });
    done();
});
"""


def test_a_token_function_may_throw_anything(browser, relay):
    """Also what is no error: fetch(…).then((answer) => answer.ok ? answer.text() : Promise.reject(answer.status))."""
    library = Library(browser, relay.url).open()
    browser.execute_async_script(THROWS, relay.url + "/client.js", "no session")
    wait_until(lambda: library.state == "open", "the stream")
    assert [final for _, final in library.get("told")] == [False] * 4
    assert library.get("told[0][0]") == "no session" and library.get("told[3][0]") == "401"


def test_a_refusal_that_is_over_when_it_is_asked_why(browser, relay, site):
    """The answer to the question is then the stream itself, which has no end to wait for."""
    asked, over = [], threading.Event()

    def events(handler):
        asked.append(handler.command)
        if asked.count("GET") < 2 or handler.command == "HEAD":
            return handler.answer(404, {"Content-Type": "text/html"}, b"no relay yet")
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(b'id: 7\nevent: relay.connected\ndata: {"connection_id":"c","node":"n","topics":["t"]}\n\nid: 8\ndata: 1\n\n')
        over.wait(60)

    proxy = site({"/events": events})
    library = Library(browser, relay.url).open(proxy.url)
    library.connect(proxy.url + "/events", library=relay.url + "/client.js", topics=["t"], retry=10).wait("open")
    assert library.wait_events("1").seen("errors") == [{"status": 200, "detail": "200 OK", "final": False}]
    assert asked == ["GET", "HEAD", "GET", "GET"]
    library.close()
    over.set()


# connect() with functions that JSON cannot bring.
GIVE_UP = """
const done = arguments[arguments.length - 1];
const [library, url, last] = arguments;
import(library).then(({ connect }) => {
    window.states = [];
    window.stream = connect(url, { topics: "t", retry: 10, onstate: (state) => {
        states.push(state);
        if (state === last && states.length > 1) stream.close();
    } });
    done();
});
"""


@pytest.mark.parametrize("last", ["waiting", "connecting"])
def test_a_page_that_gives_up_when_it_is_told(browser, relay, site, last):
    proxy = site({"/events": lambda handler: handler.answer(503, {})})
    library = Library(browser, relay.url).open(proxy.url)
    browser.execute_async_script(GIVE_UP, relay.url + "/client.js", proxy.url + "/events", last)
    wait_until(lambda: "closed" in library.get("states"), "the end")
    time.sleep(0.2)  # ten times what it would wait
    assert library.state == "closed" and library.get("states[states.length - 1]") == "closed"


def test_a_stream_that_is_behind_tells_of_an_older_pause(library, doors):
    """What it tells comes late, where much is before it. What was asked for last counts all the same."""
    library.browser.execute_script("""
        const Source = EventSource, late = { "relay.paused": 300, "relay.resumed": 300 };
        window.EventSource = class extends Source {
            addEventListener(type, act) { super.addEventListener(type, (e) => setTimeout(() => act(e), late[type] ?? 0)); }
        };""")
    library.connect(topics=["t"]).wait("open")
    library.browser.execute_script("""
        let again = 0;
        const { push } = seen.states;
        seen.states.push = (state) => {
            push.call(seen.states, state);
            if (state === "paused" && ++again === 2) stream.pause().then((told) => window.last = told);
        };
        stream.pause().then(() => stream.resume());""")
    wait_until(lambda: library.get("window.last"), "the second pause")
    assert library.get("last") == {"paused": True}
    wait_until(lambda: library.seen("states").count("paused") >= 3, "all that it told")
    for n in "12":
        doors.fcall("t", n, priority="coalesced", key="k")
    doors.fcall("t", "now")
    library.wait_events("2", "now")
    assert library.state == "paused"


def test_a_stream_that_ends_while_its_topics_change(library, relay, doors):
    """The browser is back with the old ones before the page knows of the new ones: it has to come back once more."""
    library.browser.execute_script("""
        const ask = fetch;
        window.fetch = async (where, what) => {
            const answer = await ask(where, what);
            if (what.method === "PATCH")
                while (seen.opens.length < 2) await new Promise((done) => setTimeout(done, 10));
            return answer;
        };""")
    library.connect(topics=["t", "u"]).wait("open")
    relay.post("/topics/t/end")
    wait_until(lambda: library.seen("ends"), "an end")
    assert library.call("unsubscribe", "u") == (True, ["t"])
    library.wait("ended")
    assert [told["topics"] for told in library.seen("opens")] == [["t", "u"], ["t", "u"], ["t"]]
