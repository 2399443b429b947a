# SPDX-License-Identifier: Apache-2.0
"""/client.js: tokens and tickets, topics and pauses, pages of other origins: docs/protocol.md, 15. Needs Chromium, and a real relay."""

import json

import pytest

from auth_rig import ticket_of
from library_page import Library, guarded_library, library, site  # noqa: F401
from relay_process import wait_until
from sse_client import SSEClient


pytestmark = pytest.mark.browser


# --- tokens and tickets ---


def test_a_token_gets_a_ticket(guarded_library, parties, doors):
    library, relay = guarded_library()
    library.connect(topics=["orders.eu"], token=parties.T()).wait("open")
    doors.fcall("orders.eu", "1", ns="t1")
    library.wait_events("1")
    assert relay.metric("sse_relay_tickets_total", what="taken") == 1 and library.seen("errors") == []


def test_a_token_is_renewed_and_the_stream_stays(guarded_library, parties, doors):
    """relay.expiring comes, a new token is asked for, and no byte is lost: it outlives the first token's end."""
    library, relay = guarded_library({"auth.leeway": 0, "auth.notice": "7s"})
    short = parties.T(life=8)
    library.connect(topics=["orders.eu"], token=[short, parties.T()]).wait("open")
    before = library.connection
    wait_until(lambda: library.seen("asked") == 2, "a renewal")
    wait_until(lambda: relay.post("/tickets", headers={"Authorization": "Bearer " + short}).status_code == 401, "the end of the first")
    doors.fcall("orders.eu", "1", ns="t1")
    library.wait_events("1")
    assert library.connection == before and library.seen("asked") == 2 and len(library.seen("opens")) == 1


def test_a_ticket_of_the_backend_is_asked_for_anew(guarded_library, parties, doors):
    """Nothing renews it: the stream ends with it, and the next one brings what was missed."""
    library, relay = guarded_library({"auth.leeway": 0})
    tickets = [ticket_of(relay, parties.T(life=6)), ticket_of(relay, parties.T())]
    library.connect(topics=["orders.eu"], ticket=tickets).wait("open")
    first = library.connection
    doors.fcall("orders.eu", "1", ns="t1")
    wait_until(lambda: library.connection not in ("", first), "another connection")
    doors.fcall("orders.eu", "2", ns="t1")
    library.wait_events("1", "2")
    assert library.seen("gaps") == [] and library.seen("asked") == 2
    assert [e["final"] for e in library.seen("errors")] == [False]


def test_a_cut_stream_comes_back_with_its_ticket(guarded_library, parties, doors):
    """max_lifetime ends it over and over: the browser comes back with the same ticket, and its cursor."""
    library, relay = guarded_library({"max_lifetime": "1s"})
    library.connect(topics=["orders.eu"], token=[parties.T()]).wait("open")
    for n in range(1, 4):
        doors.fcall("orders.eu", str(n), ns="t1")
        wait_until(lambda: len(library.seen("opens")) > n, "one more connection")
    library.wait_events("1", "2", "3")
    assert library.seen("asked") == 1 and library.seen("errors") == []


def test_what_is_not_granted_is_the_end(guarded_library, parties):
    library, _ = guarded_library()
    library.connect(topics=["billing"], token=parties.T()).wait("closed")
    (error,) = library.seen("errors")
    assert error["status"] == 403 and "billing" in error["detail"] and error["final"]


def test_a_token_that_is_not_valid_is_asked_for_once_more(guarded_library, parties):
    library, _ = guarded_library()
    library.connect(topics=["orders.eu"], token=["nonsense"]).wait("closed")
    assert library.seen("asked") == 2
    assert [(e["status"], e["final"]) for e in library.seen("errors")] == [(401, False), (401, True)]
    library.close()
    library.connect(topics=["orders.eu"], token=["nonsense", parties.T()]).wait("open")


def test_a_token_function_that_fails_is_asked_again(guarded_library, parties):
    library, _ = guarded_library()
    good = json.dumps(parties.T())
    library.browser.execute_script(f"window.failing = async () => {{ if (!window.tried) {{ window.tried = true; throw new Error('no network'); }} return {good}; }}")
    library.browser.execute_async_script("""const done = arguments[0]; window.seen = {errors: [], states: []};
        import('/client.js').then(({connect}) => { window.stream = connect('/events', {topics: 'orders.eu', token: failing, retry: 10,
            onerror: (e) => seen.errors.push(e.message)}); done(); })""")
    library.wait("open")
    assert library.seen("errors") == ["no network"]


def test_a_revoked_token_ends_it(guarded_library, parties):
    library, relay = guarded_library()
    library.connect(topics=["orders.eu"], token=parties.T(jti="j1")).wait("open")
    relay.post("/revoke", json={"jti": "j1"}, headers={"Authorization": "Bearer " + parties.A()})
    library.wait("closed")
    assert [(e["status"], e["final"]) for e in library.seen("errors")] == [(401, False), (401, True)]


def test_two_pages_with_one_ticket_do_not_fight(guarded_library, parties):
    """The one that has lost it says so, and stays away."""
    library, relay = guarded_library()
    ticket = ticket_of(relay, parties.T())
    library.connect(topics=["orders.eu"], ticket=ticket).wait("open")
    cursor = library.get("stream.lastEventId")
    thief = SSEClient(relay.url + "/events", ["orders.eu"], params={"ticket": ticket}, last_event_id=cursor).wait_connected()
    try:
        library.wait("closed")
        assert library.seen("errors") == [{"status": 403, "detail": "replaced", "final": True}]
        assert not thief.closed
    finally:
        thief.close()


# --- topics, pause ---


def test_topics_of_a_live_stream(library, doors):
    library.connect(topics=["t"]).wait("open")
    assert library.call("subscribe", ["u", "v"]) == (True, ["t", "u", "v"])
    library.wait("open")
    doors.fcall("u", "1")
    library.wait_events("1")
    assert library.call("unsubscribe", "t") == (True, ["u", "v"])
    library.wait("open")
    doors.fcall("t", "not any more")
    doors.fcall("v", "2")
    library.wait_events("1", "2")
    assert library.get("stream.topics") == ["u", "v"]


def test_topics_that_changed_are_those_of_the_next_connection(redis, relay_factory, haproxy, browser, doors):
    nodes = [relay_factory(retry="200ms", node=f"node{i}") for i in range(2)]
    library = Library(browser, haproxy(*nodes)).open().connect(topics=["t"], retry=100).wait("open")
    library.call("subscribe", "u")
    library.wait("open")
    node = library.seen("opens")[-1]["node"]
    nodes[int(node[-1])].kill()
    wait_until(lambda: library.seen("opens")[-1]["node"] != node, "the other node")
    assert library.seen("opens")[-1]["topics"] == ["t", "u"]
    doors.fcall("u", "1")
    library.wait_events("1")


def test_without_a_topic_left_the_next_one_begins_anew(library, doors):
    library.connect(topics=["t"]).wait("open")
    assert library.call("unsubscribe", "t") == (True, [])
    assert library.call("subscribe", "u") == (True, ["u"])
    library.wait("open")
    doors.fcall("u", "1")
    library.wait_events("1")


def test_topics_change_on_the_same_connection(library, doors):
    library.connect(topics=["t"]).wait("open")
    before = library.connection
    assert library.call("subscribe", ["u"]) == (True, ["t", "u"])
    doors.fcall("u", "1")
    library.wait_events("1")
    assert library.call("unsubscribe", ["t"]) == (True, ["u"])
    assert library.connection == before and len(library.seen("opens")) == 1


def test_pause_and_resume(library, doors):
    """Paused, what is not instant waits, and comes with the resume; the latest value only."""
    library.connect(topics=["t"]).wait("open")
    before = library.connection
    assert library.call("pause") == (True, {"paused": True})
    assert library.state == "paused"
    for n in "123":
        doors.fcall("t", n, priority="coalesced", key="k")
    assert library.call("resume") == (True, {"paused": False})
    library.wait("open").wait_events("3")
    assert library.connection == before


def test_a_pause_is_kept_over_a_reconnect(library, doors):
    """The page was away in between, so its connection is another one."""
    library.connect(topics=["t"], hiddenAfter=1).wait("open")
    before = library.connection
    library.call("pause")
    library.show(False)
    library.wait("hidden")
    library.show(True)
    library.wait("paused")
    assert library.connection != before
    doors.fcall("t", "1", priority="coalesced", key="k")
    assert library.call("resume") == (True, {"paused": False})
    library.wait_events("1")


def test_pause_while_the_page_is_hidden(library, relay, doors):
    library.connect(topics=["t"], hidden="pause", hiddenAfter=1).wait("open")
    before = library.connection
    library.show(False)
    library.wait("paused")
    doors.fcall("t", "1", priority="coalesced", key="k")
    library.show(True)
    library.wait("open").wait_events("1")
    assert library.connection == before


def test_a_pause_that_is_taken_back_at_once(library):
    """The requests go out one after the other: the last word counts."""
    library.connect(topics=["t"]).wait("open")
    library.browser.execute_script("stream.pause(); stream.resume(); stream.pause()")
    assert library.call("resume") == (True, {"paused": False})
    assert library.state == "open"


@pytest.mark.parametrize("by", ["token", "ticket"])
def test_pause_and_topics_with_credentials(guarded, browser, parties, doors, site, by):
    """From a page of another origin: both ask for what EventSource has shown, too."""
    page = site()
    relay = guarded({"cors.origins": page.url})
    given = parties.T() if by == "token" else ticket_of(relay, parties.T())
    library = Library(browser, relay.url).open(page.url).connect(topics=["orders.eu"], **{by: given}).wait("open")
    before = library.connection
    assert library.call("pause") == (True, {"paused": True})
    assert library.call("resume") == (True, {"paused": False})
    assert library.call("subscribe", "orders.us") == (True, ["orders.eu", "orders.us"])
    kept, error = library.call("subscribe", "billing")
    assert not kept and error["status"] == 403 and "billing" in error["detail"]
    doors.fcall("orders.us", "1", ns="t1")
    library.wait_events("1")
    assert library.connection == before and library.get("stream.topics") == ["orders.eu", "orders.us"]


# --- pages of others ---

POLICY = "default-src 'none'; script-src 'self' {relay}; connect-src {relay}"


def test_a_strict_page_of_another_origin(redis, relay_factory, browser, doors, site):
    """No eval, nothing inline: a module of the page's own imports it from the relay."""
    page = site()
    relay = relay_factory({"cors.origins": page.url})
    html = {"Content-Type": "text/html", "Content-Security-Policy": POLICY.format(relay=relay.url)}
    module = f"""import {{connect}} from "{relay.url}/client.js";
        window.got = []; window.stream = connect("/events", {{topics: "t", resume: "all", onevent: (e) => got.push(e.data)}});"""
    page.pages["/page"] = (html, '<!doctype html><script type="module" src="/page.js"></script>')
    page.pages["/page.js"] = ({"Content-Type": "text/javascript"}, module)
    doors.fcall("t", "1")
    browser.get(page.url + "/page")
    wait_until(lambda: browser.execute_script("return window.got?.length"), "an event")
    assert browser.execute_script("return got") == ["1"]
    complaints = [e["message"] for e in browser.get_log("browser") if "Content Security Policy" in e["message"]]
    assert complaints == []


def test_an_isolated_page_of_an_origin_that_is_not_listed_may_import_it(browser, relay, site):
    """Cross-Origin-Embedder-Policy; without cors.origins. It gets the library, but no stream."""
    page = site()
    page.pages["/"] = ({"Content-Type": "text/html", "Cross-Origin-Embedder-Policy": "require-corp"}, "<!doctype html>")
    library = Library(browser, relay.url).open(page.url).connect(topics=["t"], retry=10)
    wait_until(lambda: len(library.seen("errors")) >= 2, "errors")
    assert library.state != "open" and all("status" not in e or e["status"] is None for e in library.seen("errors"))
    library.close()


def test_a_token_from_a_page_of_another_origin(guarded, parties, browser, doors, site):
    page = site()
    relay = guarded({"cors.origins": page.url, "auth.leeway": 0, "auth.notice": "7s", "retry": "100ms"})
    library = Library(browser, relay.url).open(page.url)
    library.connect(topics=["orders.eu"], token=[parties.T(life=8), parties.T()]).wait("open")
    before = library.connection
    wait_until(lambda: library.seen("asked") == 2, "a renewal")
    doors.fcall("orders.eu", "1", ns="t1")
    library.wait_events("1")
    assert library.connection == before


def test_behind_a_prefix(browser, relay, site, parties):
    """Where the library came from is where the relay is."""
    proxy = site()
    text = relay.get("/client.js").text
    asked = []

    def tickets(handler):
        asked.append(handler.path)
        handler.answer(200, {"Content-Type": "application/json"}, b'{"ticket":"t~x","expires_in":30}')

    proxy.pages["/live/client.js"] = ({"Content-Type": "text/javascript"}, text)
    proxy.pages["/live/events"] = lambda handler: (asked.append(handler.path), handler.answer(400, {}))
    proxy.server.RequestHandlerClass.do_POST = lambda handler: tickets(handler)
    library = Library(browser, proxy.url).open(proxy.url)
    library.connect("events", library=proxy.url + "/live/client.js", topics=["t"], token="x").wait("closed")
    assert asked[0] == "/live/tickets" and asked[1].startswith("/live/events?topic=t&") and asked[1].endswith("&ticket=t%7Ex")
