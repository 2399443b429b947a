# SPDX-License-Identifier: Apache-2.0
"""The page at /, in a real browser: what a reader sees, and what hostile data cannot do to it."""

import json
import subprocess
import sys

import pytest
from selenium.webdriver.common.by import By

from conftest import load_vectors
from relay_process import ROOT, wait_until

pytestmark = pytest.mark.browser

POLICY_TOOL = ROOT / "tools" / "page_csp"
PAGE = ROOT / "relay" / "http" / "page.html"


class Page:
    """The page of a relay, and what can be read and pressed on it."""

    def __init__(self, browser, relay):
        self.browser = browser
        self.relay = relay

    def open(self, fragment=""):
        self.browser.get(self.relay.url + "/" + fragment)
        return self

    def subscribed(self, *topics):
        self.open("#" + "&".join(f"topic={t}" for t in topics))
        return self.wait_row(".note", "Subscribed to")

    def find(self, id):
        return self.browser.find_element(By.ID, id)

    def text(self, id):
        return self.browser.execute_script("return document.getElementById(arguments[0]).textContent", id)

    def fill(self, **fields):
        for id, value in fields.items():
            field = self.find(id.replace("_", "-"))
            field.clear()
            field.send_keys(value)

    def press(self, id):
        self.find(id).click()

    def rows(self, selector=""):
        """Newest first: what is in the id, type and data columns."""
        script = """return Array.from(document.querySelectorAll('#rows tr' + arguments[0]),
            (row) => [3, 5, 6].map((column) => row.cells[column].textContent))"""
        return [tuple(row) for row in self.browser.execute_script(script, selector)]

    def topics(self):
        """Newest first: the topic column of events."""
        script = """return Array.from(document.querySelectorAll('#rows tr:not(.note):not(.gap)'), (row) => row.cells[4].textContent)"""
        return self.browser.execute_script(script)

    def events(self):
        return self.rows(":not(.note):not(.gap)")

    def wait_state(self, state):
        wait_until(lambda: self.text("state") == state, f"state {state}")
        return self

    def wait_row(self, selector, words):
        wait_until(lambda: any(words in row[2] for row in self.rows(selector)), f"a row with {words!r}")
        return self

    def wait_events(self, count):
        wait_until(lambda: len(self.events()) >= count, f"{count} events")
        return self.events()

    def post(self, **body):
        script = """const done = arguments[1];
            fetch('publish', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: arguments[0]})
                .then((r) => r.json()).then(done)"""
        return self.browser.execute_async_script(script, json.dumps(body))["id"]

    def complaints(self):
        """What the browser itself wrote about the policy."""
        return [e["message"] for e in self.browser.get_log("browser") if "Content Security Policy" in e["message"]]


@pytest.fixture
def page(browser, relay):
    return Page(browser, relay)


# --- watching ---


def test_event_is_shown_with_id_and_data(page):
    page.subscribed("a.>")
    id = page.post(topic="a.b", data="hello")
    assert page.wait_events(1) == [(id, "", "hello")]
    wait_until(lambda: page.text("received") == "1", "the counter")
    assert page.text("last-id") == id


def test_any_type_is_shown(page):
    page.subscribed("a")
    id = page.post(topic="a", event="a type nobody registered", data={"n": 1})
    assert page.wait_events(1) == [(id, "a type nobody registered", '{"n":1}')]


def test_the_topic_of_each_event_is_shown(page):
    page.subscribed("a.>", "b")
    for topic in ("a.b", 'a."q",\\x', "a.<b", "b"):
        page.post(topic=topic, data="x")
    page.post(topics=["b", "a.c"], data="x")
    page.wait_events(5)
    assert page.topics() == ["a.c", "b", "a.<b", 'a."q",\\x', "a.b"]
    assert page.complaints() == []


def test_data_is_shown_as_it_was_written(page, doors):
    page.subscribed("a")
    shown = ["[1e400, 9007199254740993]", "text", "", '{"data": "x"}', "two\nlines", "true", 'a "quoted" }']
    for data in shown:
        doors.fcall("a", data)
    assert [row[2] for row in page.wait_events(len(shown))] == shown[::-1]


def test_newest_is_first_and_order_is_checked(page):
    page.subscribed("a")
    ids = [page.post(topic="a", data=str(n)) for n in range(5)]
    assert [row[0] for row in page.wait_events(5)] == ids[::-1]
    wait_until(lambda: page.text("order") == "correct", "the order check")


def test_rows_are_bounded(page, doors):
    page.subscribed("a")
    doors.many("a", [str(n) for n in range(200)])
    page.wait_events(200)
    for batch in range(1, 4):  # below what one client's queue holds
        doors.many("a", [str(n) for n in range(batch * 200, batch * 200 + 200)])
        wait_until(lambda: page.text("received") == str((batch + 1) * 200), "all events")
    wait_until(lambda: page.events()[0][2] == "799", "the newest row")
    assert len(page.rows()) == 500


def test_pause_holds_rows_back(page):
    page.subscribed("a")
    page.press("pause")
    page.post(topic="a", data="late")
    wait_until(lambda: page.text("pause") == "Resume (1 new)", "the pause button")
    assert page.events() == []
    page.press("pause")
    assert page.wait_events(1)[0][2] == "late"
    page.press("clear")
    assert page.rows() == []


def test_hostile_data_stays_text(page):
    payload = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    page.subscribed("a")
    page.post(topic="a", event=payload, data=payload)
    page.post(topic="a", data=payload * 3)  # long enough to be folded
    rows = page.wait_events(2)
    assert payload * 3 in rows[0][2]
    assert rows[1][1:] == (payload, payload)
    assert page.browser.find_elements(By.CSS_SELECTOR, "#rows img, #rows script") == []
    assert page.browser.title == "sse-relay"
    assert page.complaints() == []


# --- subscribing ---


def test_form_subscribes_and_makes_a_link(page):
    page.open()
    assert page.text("state") == "Disconnected"
    page.fill(topics="a.*, b", ns="acme")
    page.press("connect")
    page.wait_state("Open")
    link = page.browser.current_url.partition("#")[2]
    assert link == "topic=a.*&topic=b&ns=acme"
    page.open().open("#" + link)
    page.wait_state("Open")
    assert page.find("topics").get_attribute("value") == "a.*\nb"
    assert page.find("ns").get_attribute("value") == "acme"
    page.press("disconnect")
    page.wait_state("Disconnected")


def test_refusal_is_shown_and_final(page):
    page.open("#topic=a..b").wait_state("Refused")
    page.wait_row(".fault", "400")
    assert "topic" in page.rows(".fault")[0][2]


def test_replay_and_types(page, doors):
    for n in range(4):
        doors.fcall("a", str(n), event="even" if n % 2 == 0 else "odd")
    page.open("#topic=a&replay=all&event=odd")
    assert [row[1:] for row in page.wait_events(2)] == [("odd", "3"), ("odd", "1")]


def test_dropped_line_resumes_without_hole_or_repeat(page):
    page.subscribed("a")
    ids = [page.post(topic="a", data="before")]
    page.wait_events(1)
    page.press("drop")
    ids += [page.post(topic="a", data=str(n)) for n in range(20)]
    page.wait_events(21)
    assert [row[0] for row in page.events()] == ids[::-1]
    assert page.text("reconnects") == "1"
    assert page.text("order") == "correct"


def test_without_control_events(browser, relay_factory):
    page = Page(browser, relay_factory(control_events="id", heartbeat="1s"))
    page.open("#topic=a").wait_state("Open")
    wait_until(lambda: page.text("last-id") != "–", "the position")
    id = page.post(topic="a", data="x")
    assert page.wait_events(1) == [(id, "", "x")]
    assert page.rows(".gap") == []


# --- gaps ---

RESUME_AFTER = "stream.lastId = arguments[0]; stream.drop()"


def test_gap_after_an_unknown_id(page):
    page.subscribed("a")
    page.browser.execute_script(RESUME_AFTER, "from-another-system")
    page.wait_row(".gap", "not given out by this relay")
    assert page.rows(".gap")[0][1] == "relay.gap"
    assert page.text("gaps") == "1"


def test_gap_names_what_is_missing(browser, relay_factory, doors):
    page = Page(browser, relay_factory({"log.max_events": 10}))
    page.subscribed("a")
    first = str(doors.fcall("a", "first"))
    page.wait_events(1)
    page.press("disconnect")
    doors.many("a", [str(n) for n in range(400)])
    page.press("connect")
    page.wait_state("Open")
    page.browser.execute_script(RESUME_AFTER, first)
    page.wait_row(".gap", "newer ones have pushed these out")
    assert f"after id {first}" in page.rows(".gap")[0][2]


# --- publishing ---


def test_publish_form_shows_the_id(page):
    page.subscribed("a")
    page.fill(publish_topic="a", publish_type="greet", publish_data="line 1\nline 2")
    page.press("publish-send")
    wait_until(lambda: page.text("publish-result").startswith("Published"), "the answer")
    id = page.text("publish-result").split()[-1]
    assert page.wait_events(1) == [(id, "greet", "line 1\nline 2")]


def test_publish_form_options(page):
    page.subscribed("a")
    page.fill(publish_topic="a", publish_once="key-1")
    for _ in range(2):
        page.press("publish-send")
        wait_until(lambda: page.text("publish-result").startswith("Published"), "the answer")
        wait_until(lambda: page.find("publish-send").is_enabled(), "the button")
    page.fill(publish_once="", publish_data="live only")
    page.press("publish-ephemeral")
    page.press("publish-send")
    wait_until(lambda: "no id" in page.text("publish-result"), "the answer")
    rows = page.wait_events(2)
    assert rows[0] == ("", "", "live only")
    assert len(rows) == 2  # the second of the same key was none


def test_publish_form_shows_what_is_wrong(page):
    page.open()
    page.fill(publish_topic="a..b")
    page.press("publish-send")
    wait_until(lambda: page.text("publish-result") != "", "the answer")
    assert page.text("publish-result").startswith("400 ")
    assert "topic" in page.text("publish-result")
    assert page.find("publish-result").get_attribute("class") == "bad"


# --- the node, the policy, the parser ---


def test_node_panel(browser, relay_factory):
    page = Page(browser, relay_factory(node="node-a")).subscribed("orders.*")
    wait_until(lambda: page.text("node-name") == "node-a", "the node's name")
    wait_until(lambda: "orders.*" in page.text("topic-rows"), "the topic")
    wait_until(lambda: page.text("node-clients") == "1", "the client")
    assert page.text("node-redis") == "up"


def test_policy_lets_nothing_else_run(page):
    page.subscribed("a")
    page.press("drop")
    page.wait_state("Open")
    assert page.complaints() == []
    script = """const script = document.createElement('script');
        script.textContent = "document.title = 'owned'";
        document.body.append(script)"""
    page.browser.execute_script(script)
    assert page.browser.title == "sse-relay"
    assert page.complaints() != []


def test_policy_is_the_one_of_this_page(page):
    tool = subprocess.run([sys.executable, POLICY_TOOL, PAGE], stdout=subprocess.PIPE, check=True, text=True)
    script = "fetch(location.pathname).then((r) => arguments[0](r.headers.get('content-security-policy')))"
    assert page.open().browser.execute_async_script(script) == tool.stdout.strip()


PARSE = """
    const events = [], retries = [];
    const parser = new EventParser('0', (e) => events.push([e.id, e.type, e.data]), (ms) => retries.push(ms));
    for (const chunk of arguments[0]) parser.push(Uint8Array.from(chunk));
    return {events, retries, lastId: parser.lastId};
"""


def chunked(wire, size):
    return [list(wire[i : i + size]) for i in range(0, len(wire), size)]


STANDARD = [  # name, bytes, events, retries, last id
    ("byte order mark", b"\xef\xbb\xbfdata: a\n\n", [[None, "", "a"]], [], "0"),
    ("all line ends", b"data: a\rdata: b\r\ndata: c\n\r\ndata: d\r\r", [[None, "", "a\nb\nc"], [None, "", "d"]], [], "0"),
    ("no colon, no space", b"data\ndata\n\ndata:x\n\n", [[None, "", "\n"], [None, "", "x"]], [], "0"),
    ("one space only", b"data:  a\n\n", [[None, "", " a"]], [], "0"),
    ("id alone moves the cursor", b"id: 7\n\n", [], [], "7"),
    ("id with NUL is ignored", b"id: 7\0\ndata: a\n\n", [[None, "", "a"]], [], "0"),
    ("empty id resets", b"id\ndata: a\n\n", [["", "", "a"]], [], ""),
    ("block without data is dropped", b"event: x\n\ndata: a\n\n", [[None, "", "a"]], [], "0"),
    ("unfinished block does not count", b"id: 7\ndata: a\n", [], [], "0"),
    ("retry is digits", b"retry: 10\nretry: 1s\nretry:\n", [], [10], "0"),
    ("comments and unknown fields", b":\n: x\nfoo: bar\nDATA: a\ndata: b\n\n", [[None, "", "b"]], [], "0"),
    ("split characters", "data: äöü€𝄞\n\n".encode(), [[None, "", "äöü€𝄞"]], [], "0"),
]


def test_parser_follows_the_standard(page):
    page.open()
    for name, wire, events, retries, last_id in STANDARD:
        for size in (1, 2, 3, len(wire)):
            got = page.browser.execute_script(PARSE, chunked(wire, size))
            assert got == {"events": events, "retries": retries, "lastId": last_id}, (name, size)


def test_parser_reads_the_vectors(page):
    page.open()
    for vector in load_vectors("frames.json"):
        event = vector["event"]
        data = event["data"].replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
        for size in (1, 4096):
            got = page.browser.execute_script(PARSE, chunked(vector["wire"].encode(), size))
            assert [e[2] for e in got["events"]] == [data], vector["name"]
            if event.get("id"):
                assert got["lastId"] == event["id"], vector["name"]
