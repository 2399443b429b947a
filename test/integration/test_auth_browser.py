# SPDX-License-Identifier: Apache-2.0
"""A stock EventSource in headless Chromium: tickets, cookies, refusals, and the page at `/` with a token."""

import pytest
from selenium.webdriver.common.by import By

from auth_rig import ticket_of
from library_page import Site
from relay_process import wait_until
from test_browser import STATE
from test_page import Page

pytestmark = pytest.mark.browser

OPEN = """
window.got = []; window.ids = []; window.gaps = []; window.opens = 0; window.errors = 0; window.dead = false;
window.told = []; window.ends = []; window.refusals = [];
window.source = new EventSource(arguments[0], {withCredentials: arguments[1] || false});
source.onopen = () => opens++;
source.onerror = () => { errors++; if (source.readyState === EventSource.CLOSED) dead = true; };
source.onmessage = e => { got.push(e.data); ids.push(e.lastEventId); };
source.addEventListener('relay.connected', e => window.connected = JSON.parse(e.data));
source.addEventListener('relay.gap', e => gaps.push(e.data));
source.addEventListener('relay.expiring', e => told.push(JSON.parse(e.data)));
source.addEventListener('relay.shutdown', e => ends.push(JSON.parse(e.data).reason));
source.addEventListener('relay.error', e => { refusals.push([JSON.parse(e.data), e.lastEventId]); if (window.stop) source.close(); });
"""


def evaluate(browser, expression):
    return browser.execute_script("return " + expression)


def open_source(browser, base, path, credentials=False, wait=True):
    browser.get(base + "/health")
    browser.execute_script("window.connected = null; " + OPEN, path, credentials)
    if wait:
        wait_until(lambda: evaluate(browser, "connected"), "relay.connected")


def test_a_ticket_through_haproxy_with_a_node_killed_under_it(guarded, parties, haproxy, browser, doors, publishing):
    nodes = [guarded({"retry": "200ms"}, node=f"node{i}") for i in range(2)]
    base = haproxy(*nodes)
    open_source(browser, base, f"/events?topic=orders.eu&ticket={ticket_of(nodes[0], parties.T())}")
    first = evaluate(browser, "connected")["node"]
    publisher = publishing(lambda n: doors.fcall("orders.eu", n, ns="t1"), total=400, pause=0.003)
    publisher.wait_for(100)
    nodes[int(first[-1])].kill()
    publisher.finish()
    wait_until(lambda: len(evaluate(browser, "got")) >= 400, "400 events", 60)
    state = browser.execute_script(STATE)
    assert state["ids"] == [str(i) for i in publisher.ids]
    assert state["gaps"] == [] and not state["dead"] and state["connected"]["node"] != first


def test_a_page_gets_its_own_ticket(guarded, parties, browser, doors):
    """fetch with a header that EventSource cannot send, then the EventSource."""
    relay = guarded()
    browser.get(relay.url + "/health")
    ticket = browser.execute_async_script(
        "const done = arguments[1]; fetch('/tickets', {method: 'POST', headers: {Authorization: 'Bearer ' + arguments[0]}})"
        ".then(r => r.json()).then(j => done(j.ticket))",
        parties.T(),
    )
    open_source(browser, relay.url, f"/events?topic=orders.eu&ticket={ticket}")
    doors.fcall("orders.eu", "x", ns="t1")
    wait_until(lambda: evaluate(browser, "got") == ["x"])


def give_cookie(browser, relay, token, name="sse"):
    browser.get(relay.url + "/health")
    browser.add_cookie({"name": name, "value": token, "path": "/", "httpOnly": True, "sameSite": "Lax"})


def test_a_cookie(guarded, parties, browser, doors):
    relay = guarded({"auth.cookie": "sse"})
    give_cookie(browser, relay, parties.T())
    open_source(browser, relay.url, "/events?topic=orders.eu")
    published = browser.execute_async_script(
        "const done = arguments[0]; fetch('/publish?topic=orders.eu', {method: 'POST', body: 'x'}).then(r => done(r.status))"
    )
    assert published == 200
    wait_until(lambda: evaluate(browser, "got") == ["x"])


@pytest.fixture
def site():
    s = Site()
    yield s
    s.close()


@pytest.mark.parametrize("listed", [True, False])
def test_a_page_of_another_origin_with_the_cookie(guarded, parties, browser, doors, site, listed):
    """The cookie is sent (it is the same site, another port): only a page that is listed gets something for it."""
    relay = guarded({"auth.cookie": "sse", **({"cors.origins": site.url} if listed else {"cors.origins": "https://app.example"})})
    give_cookie(browser, relay, parties.T())
    browser.get(site.url)
    browser.execute_script("window.connected = null; " + OPEN, relay.url + "/events?topic=orders.eu", True)
    post = """const done = arguments[1]; fetch(arguments[0], {method: 'POST', body: 'x', credentials: 'include', mode: 'no-cors',
        headers: {'Content-Type': 'text/plain'}}).then(() => done('sent'), () => done('refused'))"""
    if listed:
        wait_until(lambda: evaluate(browser, "connected"), "relay.connected")
        browser.execute_async_script(post, relay.url + "/publish?topic=orders.eu")
        wait_until(lambda: evaluate(browser, "got") == ["x"])
    else:
        wait_until(lambda: evaluate(browser, "dead"), "the end of the EventSource")
        browser.execute_async_script(post, relay.url + "/publish?topic=orders.eu")
        assert not doors.redis.exists(doors.key("t1", "log", "orders.eu"))
        assert evaluate(browser, "got") == [] and not evaluate(browser, "connected")


@pytest.mark.parametrize("who,status", [("nobody", 401), ("T", 403)])
def test_a_refusal_without_errors_event_is_the_end(guarded, parties, browser, who, status):
    """What an EventSource does with a status: it gives up, and its page learns nothing."""
    relay = guarded({"auth.query": "on"})
    token = f"&access_token={parties.T()}" if who == "T" else ""
    open_source(browser, relay.url, f"/events?topic=billing{token}", wait=False)
    wait_until(lambda: evaluate(browser, "dead"), "the end of the EventSource")
    assert evaluate(browser, "opens") == 0 and evaluate(browser, "refusals") == []


@pytest.mark.parametrize("who,status", [("nobody", 401), ("T", 403)])
def test_a_refusal_with_errors_event_can_be_read(guarded, parties, browser, who, status):
    relay = guarded({"auth.query": "on", "retry": "100ms"})
    token = f"&access_token={parties.T()}" if who == "T" else ""
    open_source(browser, relay.url, f"/events?topic=billing&errors=event{token}", wait=False)
    problem, _ = wait_until(lambda: evaluate(browser, "refusals"), "relay.error")[0]
    assert problem["status"] == status and problem["detail"] and not evaluate(browser, "dead")
    browser.execute_script("source.close()")


def test_after_its_token_has_ended(guarded, parties, browser, doors):
    """The page is told before and why; the reconnect is refused as an event, with the cursor kept for the next source."""
    relay = guarded({"auth.leeway": 0, "auth.notice": "1s", "retry": "100ms", "auth.query": "on"})
    open_source(browser, relay.url, f"/events?topic=orders.eu&errors=event&access_token={parties.T(life=4)}")
    browser.execute_script("window.stop = true")
    id = doors.fcall("orders.eu", "x", ns="t1")
    wait_until(lambda: evaluate(browser, "refusals"), "relay.error")
    assert set(evaluate(browser, "ends")) == {"token-expired"} and evaluate(browser, "told")
    problem, cursor = evaluate(browser, "refusals")[0]
    assert problem["status"] == 401 and cursor == str(id)
    missed = doors.fcall("orders.eu", "y", ns="t1")
    open_source(browser, relay.url, f"/events?topic=orders.eu&lastEventId={cursor}&ticket={ticket_of(relay, parties.T())}")
    wait_until(lambda: evaluate(browser, "ids") == [str(missed)])


def test_it_comes_back_over_an_outage_of_redis(redis, guarded, parties, browser, doors):
    """Its reconnect with a ticket cannot be decided: 200, retry, and again, until it can."""
    relay = guarded({"retry": "100ms", "auth.timeout": "200ms", "max_lifetime": "1h"})
    open_source(browser, relay.url, f"/events?topic=orders.eu&ticket={ticket_of(relay, parties.T())}")
    doors.fcall("orders.eu", "1", ns="t1")
    wait_until(lambda: evaluate(browser, "got") == ["1"])
    redis.restart(keep_data=True)
    relay.wait_ready()
    doors.fcall("orders.eu", "2", ns="t1")
    wait_until(lambda: evaluate(browser, "got") == ["1", "2"])
    assert not evaluate(browser, "dead") and evaluate(browser, "gaps") == []


# --- the page ---


def use_token(page, token):
    wait_until(lambda: page.find("token-form").is_displayed(), "the form for a token")
    page.fill(token=token)
    page.press("token-use")


def test_the_page_asks_for_a_token_and_works_with_it(guarded, parties, browser, doors):
    relay = guarded()
    page = Page(browser, relay).open()
    use_token(page, parties.T(rights={"publish": ["orders.*"]}))
    page.fill(topics="orders.eu", ns="t1")
    page.press("connect")
    page.wait_row(".note", "Subscribed to")
    doors.fcall("orders.eu", "from outside", ns="t1")
    page.wait_row(":not(.note)", "from outside")
    assert page.complaints() == []


def test_the_page_says_what_is_refused(guarded, parties, browser):
    relay = guarded()
    page = Page(browser, relay).open()
    use_token(page, parties.T())
    page.fill(topics="billing", ns="t1")
    page.press("connect")
    wait_until(lambda: "billing" in browser.find_element(By.TAG_NAME, "body").text.replace("billing\n", "", 1), "the topic that is not granted")


def test_the_page_keeps_a_token_to_itself(guarded, parties, browser):
    """In no URL, in nothing that outlives the tab, and in none of the texts to copy."""
    relay = guarded()
    page = Page(browser, relay).open()
    token = parties.T()
    use_token(page, token)
    page.fill(topics="orders.eu", ns="t1")
    page.press("connect")
    page.wait_row(".note", "Subscribed to")
    assert token not in browser.current_url
    assert not evaluate(browser, "Object.values(localStorage).length") and evaluate(browser, "document.cookie") == ""
    assert token not in browser.find_element(By.TAG_NAME, "body").text
    assert token not in evaluate(browser, "JSON.stringify(performance.getEntriesByType('resource'))")
    assert token not in relay.log_text


def test_the_page_of_an_admin_has_figures(guarded, parties, browser):
    relay = guarded()
    page = Page(browser, relay).open()
    use_token(page, parties.ops)
    wait_until(lambda: page.text("node-clients").strip().isdigit(), "figures of the node")


def test_the_page_without_authentication_asks_for_nothing(relay, browser, doors):
    page = Page(browser, relay).subscribed("t")
    doors.fcall("t", "x")
    page.wait_row(":not(.note)", "x")
    assert not page.find("token-form").is_displayed()
