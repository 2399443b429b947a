# SPDX-License-Identifier: Apache-2.0
"""A page that imports /client.js, in a real browser, and what a test sees of it and does to it; and another origin.

    library = Library(browser, relay.url).open().connect("/events", topics=["t"])
    library.wait("open"); library.seen("events")
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from relay_process import wait_until

# What stands in `options` as a list of tokens or tickets is given one by one, the last one for ever. `random`: a number.
CONNECT = """
const done = arguments[arguments.length - 1];
const [library, url, options] = arguments;
const seen = window.seen = {
    events: [], types: [], ids: [], typed: [], opens: [], gaps: [], dropped: [], ends: [], states: [], waits: [], errors: [], asked: 0};
for (const name of ["token", "ticket"])
    if (Array.isArray(options[name])) {
        const list = options[name];
        options[name] = async () => { seen.asked++; return list.length > 1 ? list.shift() : list[0]; };
    }
if (typeof options.random === "number") { const fixed = options.random; options.random = () => fixed; }
if (options.on) options.on = Object.fromEntries(options.on.map((type) => [type, (e) => seen.typed.push([type, e.data])]));
import(library).then(({ connect }) => {
    window.stream = connect(url, {
        onevent: (e) => { seen.events.push(e.data); seen.types.push(e.type); seen.ids.push(e.lastEventId); },
        onopen: (told) => seen.opens.push(told),
        ongap: (told) => seen.gaps.push(told),
        ondropped: (told) => seen.dropped.push(told),
        onend: (told) => seen.ends.push(told),
        onstate: (state, wait) => { seen.states.push(state); if (wait !== undefined) seen.waits.push(wait); },
        onerror: (e) => seen.errors.push({ status: e.status, detail: e.detail ?? e.message, final: e.final }),
        ...options });
    done(null);
}, (error) => done(String(error)));
"""

SHOW = """Object.defineProperty(document, 'visibilityState', {value: arguments[0], configurable: true});
document.dispatchEvent(new Event('visibilitychange'))"""

CALL = """const done = arguments[arguments.length - 1];
stream[arguments[0]](...arguments[1]).then((told) => done([true, told]), (e) => done([false, {status: e.status, detail: e.detail}]))"""


class Library:
    def __init__(self, browser, relay_url):
        self.browser, self.base = browser, relay_url
        self.options = None

    def open(self, url=None):
        """A page of the relay's own origin, or another."""
        self.browser.get(url or self.base + "/health")
        return self

    def connect(self, url="/events", library=None, **options):
        self.options = (url, options)
        error = self.browser.execute_async_script(CONNECT, library or self.base + "/client.js", url, options)
        assert error is None, error
        return self

    def reload(self):
        """The page, and the same connect() as before."""
        self.browser.refresh()
        url, options = self.options
        return self.connect(url, **options)

    def get(self, expression):
        return self.browser.execute_script("return " + expression)

    def seen(self, what):
        return self.get(f"seen.{what}")

    @property
    def state(self):
        return self.get("stream.state")

    @property
    def connection(self):
        return self.get("stream.connectionId")

    def wait(self, state):
        wait_until(lambda: self.state == state, f"state {state}: {self.get('[stream.state, seen.errors]')}")
        return self

    def wait_events(self, *events):
        """Until it has had so many; they are these."""
        wait_until(lambda: len(self.seen("events")) >= len(events), f"{len(events)} events")
        assert self.seen("events") == list(events)
        return self

    def call(self, method, *args):
        """The promise of a method: (kept, what it came to)."""
        return tuple(self.browser.execute_async_script(CALL, method, list(args)))

    def close(self):
        self.browser.execute_script("stream.close()")

    def show(self, visible):
        """What a browser does when somebody turns to another tab, or comes back."""
        self.browser.execute_script(SHOW, "visible" if visible else "hidden")


class Site:
    """Another origin on this machine. pages[path]: (headers, text), or a function that gets the handler."""

    def __init__(self, pages=None):
        self.pages = {"/": ({"Content-Type": "text/html"}, "<!doctype html>"), **(pages or {})}
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                page = site.pages.get(self.path.split("?")[0], ({"Content-Type": "text/plain"}, ""))
                if callable(page):
                    return page(self)
                headers, text = page
                return self.answer(200, headers, text.encode())

            def answer(self, status, headers, body=b""):
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


# --- for the tests ---


@pytest.fixture
def library(browser, relay):
    return Library(browser, relay.url).open()


@pytest.fixture
def guarded_library(guarded, browser):
    """guarded_library({…}): a page of a relay with authentication; (library, relay)."""

    def start(config=None, **more):
        relay = guarded({"retry": "100ms", **(config or {})}, **more)
        return Library(browser, relay.url).open(), relay

    return start


@pytest.fixture
def site():
    sites = []

    def start(pages=None):
        sites.append(Site(pages))
        return sites[-1]

    yield start
    for s in sites:
        s.close()
