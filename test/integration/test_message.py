# SPDX-License-Identifier: Apache-2.0
"""The HTTP message itself: what two parsers could read differently is refused, what is merely odd is served.

Bytes in; out come the answer's status, what has been published, and whether the connection is over. The numbers
are those of the kinds; the letters behind them are more inputs of the same kind. Where several answers are right,
each is an outcome of its own: newer versions of libmicrohttpd refuse some of these by themselves.
"""

import ctypes
import json
import socket
from collections import namedtuple

import pytest

import sse_client
from http_body import parse_head
from raw_http import open_socket
from relay_process import Relay

H = b"Host: relay.example\r\n"
ORIGIN = b"http://page.example"
ANSWER_S = 3  # "at once"
PROBE = b"GET /health HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n"

# What libmicrohttpd 0.9.75 does by itself, before or after the relay can judge: newer ones do better. In each the
# connection ends, and nothing is published (docs/security.md).
OF_THE_LIBRARY = set("4 5 5b 7 7b 7c 7d 7e 7f 7g 7i 8a 8b 8c 9".split())
KNOWN_TO_FAIL = OF_THE_LIBRARY


def libmicrohttpd_version():
    library = ctypes.CDLL("libmicrohttpd.so.12")
    library.MHD_get_version.restype = ctypes.c_char_p
    return library.MHD_get_version().decode()


# --- what is sent, and what may come of it ---

Outcome = namedtuple("Outcome", "statuses published closed problem")


def refused(*statuses, closed=True, problem=False):
    """Nothing is published. @closed: None where either is right. @problem: the answer is application/problem+json."""
    return Outcome(statuses or (400,), [], closed, problem)


def served(*published, status=200, closed=False):
    return Outcome((status,), list(published), closed, False)


# The lines between chunks are the library's own, and it is lax about them: so the connection ends behind them.
LAX = libmicrohttpd_version().startswith("0.9.")


def NEWER(*outcomes):  # noqa: N802: stands in the table as a remark
    """What libmicrohttpd 1.0 makes of it."""
    return () if LAX else outcomes


STREAM = Outcome((200,), None, True, False)  # checked by an event that comes


def post(fields=b"", body=b"hi", line=b"POST /publish?topic=TOPIC HTTP/1.1", end=b"\r\n", host=H):
    return line + end + host + fields + end + body


def get(fields=b"", line=b"GET /health HTTP/1.1", host=H):
    return line + b"\r\n" + host + fields + b"\r\n"


LEN = b"Content-Length: 2\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"2\r\nhi\r\n0\r\n\r\n"
HIDDEN = post(b"Content-Length: 6\r\n", b"hidden")


def both(order):
    """Content-Length, which counts all that follows, and Transfer-Encoding."""
    body = CHUNKS + HIDDEN.replace(b"TOPIC", b"t" * 40)  # topics have this length
    lines = [b"Content-Length: %d\r\n" % len(body), CHUNKED]
    return post(b"".join(lines[::order]), CHUNKS + HIDDEN)


CASES = {
    # lengths that differ, or stand twice
    "1": (post(LEN + b"Content-Length: 60\r\n", b"hi" + HIDDEN), refused()),
    "1b": (post(b"Content-Length: 60\r\n" + LEN, b"hi" + HIDDEN), refused()),
    "1c": (post(LEN + LEN), refused(), served("hi")),
    "1d": (post(LEN + b"X: y\r\ncontent-length: 60\r\n", b"hi" + HIDDEN), refused()),
    "1e": (post(LEN + b"Content-Length:\r\n"), refused()),
    # a length and chunks
    "2": (both(1), refused(), served("hi", closed=True)),
    "2b": (both(-1), refused(), served("hi", closed=True)),
    "2c": (post(b"Transfer-Encoding: identity\r\n" + LEN), refused(400, 501)),
    # codings of the transfer
    "3": (post(b"Transfer-Encoding: gzip, chunked\r\n", CHUNKS), refused(400, 501)),
    "3b": (post(b"Transfer-Encoding: identity\r\n", CHUNKS), refused(400, 501)),
    "3c": (post(b"Transfer-Encoding: chunked, chunked\r\n", CHUNKS), refused(400, 501)),
    "3d": (post(b"Transfer-Encoding: xchunked\r\n", CHUNKS), refused(400, 501)),
    "3e": (post(b"Transfer-Encoding: \x0bchunked\r\n", CHUNKS), refused(400, 501)),
    "3f": (post(CHUNKED + b"Transfer-Encoding: identity\r\n", CHUNKS), refused(400, 501)),
    "3g": (post(b"Transfer-Encoding: identity\r\n" + CHUNKED, CHUNKS), refused(400, 501)),
    "3h": (post(b"Transfer-Encoding:\r\n", CHUNKS), refused(400, 501)),
    "3i": (post(CHUNKED, CHUNKS, line=b"POST /publish?topic=TOPIC HTTP/1.0"), refused(400, 501)),
    # white space around values
    "4": (post(b"Transfer-Encoding: chunked \r\n", CHUNKS), served("hi")),
    "4b": (post(b"Transfer-Encoding:\t chunked\r\n", CHUNKS), served("hi", closed=True)),
    "4c": (post(b"Transfer-Encoding:chunked\r\n", CHUNKS), served("hi", closed=True)),
    "4d": (post(b"transfer-encoding: CHUNKED\r\n", CHUNKS), served("hi", closed=True)),
    "5": (post(b"Content-Length: 2 \r\n"), served("hi")),
    "5b": (post(b"Content-Length:2\t\r\n"), served("hi")),
    "5c": (post(b"Content-Length:\t  2\r\n"), served("hi")),
    "5d": (get(host=b"Host: relay.example \r\n"), served()),
    # white space before the colon
    "6": (post(b"Content-Length : 2\r\n"), refused()),
    "6b": (post(b"Content-Length\t: 2\r\n"), refused()),
    "6c": (post(LEN + b"X : y\r\n"), refused()),
    "6d": (get(b"Host : b\r\n"), refused()),
    "6e": (post(b"Transfer-Encoding : chunked\r\n", CHUNKS), refused()),
    # lengths that are none
    "7": (post(b"Content-Length: +2\r\n"), refused()),
    "7b": (post(b"Content-Length: -2\r\n"), refused()),
    "7c": (post(b"Content-Length: 2,2\r\n"), refused()),
    "7d": (post(b"Content-Length: 2 2\r\n"), refused()),
    "7e": (post(b"Content-Length: 0x2\r\n"), refused()),
    "7f": (post(b"Content-Length:\r\n"), refused()),
    "7g": (post(b"Content-Length: 18446744073709551618\r\n"), refused(400, 413)),
    "7h": (post(b"Content-Length: 02\r\n"), refused()),
    "7i": (post(b"Content-Length: 2\rX: y\r\n"), refused()),
    # what the library refuses by itself
    "8a": (post(CHUNKED + b"Origin: %s\r\n" % ORIGIN, b"ZZ\r\n"), refused(problem=True)),
    "8b": (get(b"Origin: %s\r\nnocolon\r\n" % ORIGIN), refused(problem=True)),
    "8c": (get(b"Origin: %s\r\n" % ORIGIN, line=b"GET /health HTTP/3.0"), refused(400, 505, problem=True)),
    # versions and methods
    "8d": (get(line=b"GET /health HTTP/1.2"), refused(400, 505)),
    "8e": (get(line=b"GET /health http/1.1"), refused(400, 505)),
    "8f": (get(line=b"GET /health HTTP/1.10"), refused(400, 505)),
    "8g": (get(line=b"GET /health HTTP/0.9"), refused(400, 505)),
    "8h": (get(line=b"G@T /health HTTP/1.1"), refused()),
    "8i": (get(line=b"GET  /health HTTP/1.1"), refused(301, 400)),
    "8j": (get(line=b"GET /health  HTTP/1.1"), refused(301, 400)),
    "8k": (get(line=b"GET /health?a b HTTP/1.1"), refused(301, 400)),
    # chunks
    "9": (post(CHUNKED, b"2 ;x\r\nhi\r\n0\r\n\r\n"), served("hi")),
    "9b": (post(CHUNKED, b"2;x=y\r\nhi\r\n0;z\r\n\r\n"), served("hi", closed=True), *NEWER(refused())),
    "9c": (post(CHUNKED, b"0x2\r\nhi\r\n0\r\n\r\n"), refused()),
    "9d": (post(CHUNKED, b"2\r\nhix\r\n0\r\n\r\n"), refused()),
    "9e": (post(CHUNKED, b"-2\r\nhi\r\n0\r\n\r\n"), refused()),
    "9f": (post(CHUNKED, b"2\r\nhi\r\n0\r\nContent-Length: 9\r\nHost: b\r\n\r\n"), served("hi", closed=True)),
    "9g": (post(CHUNKED, b"2;x\nhi\r\n0\r\n\r\n" + HIDDEN), refused(), served("hi", closed=True)),
    "9h": (post(CHUNKED, b"2\rhi\r\n0\r\n\r\n" + HIDDEN), refused(), served("hi", closed=True)),
    "9i": (post(CHUNKED, b"2\r\nhi\n0\r\n\r\n" + HIDDEN), refused(), served("hi", closed=True)),
    "9j": (post(CHUNKED, b"2\r\nhi\r\n0\n\n" + HIDDEN), refused(), served("hi", closed=True)),
    # hosts
    "10": (get(host=b"Host: a\r\nHost: b\r\n"), refused()),
    "10b": (get(host=b"Host: a\r\nHost: a\r\n"), refused()),
    "10c": (get(host=b""), refused()),
    "10d": (get(line=b"GET /health HTTP/1.0", host=b""), served(closed=True)),
    "10e": (get(host=b"Host: a b\r\n"), refused()),
    "10f": (get(host=b"Host: a,b\r\n"), refused()),
    "10g": (get(host=b"Host: u@a\r\n"), refused()),
    "10h": (get(host=b"Host: a:b\r\n"), refused()),
    "10i": (get(host=b"Host: http://a\r\n"), refused()),
    "10j": (get(host=b"Host: [::1]:8080\r\n"), served()),
    "10k": (get(host=b"Host:\r\n"), served(), refused()),
    # forms of the target
    "11": (get(line=b"GET http://relay.example/events?topic=TOPIC HTTP/1.1"), STREAM),
    "11b": (get(line=b"GET HTTPS://relay.example:443/health HTTP/1.1"), served()),
    "11c": (get(line=b"GET http://other.example/health HTTP/1.1"), served(), refused(400, 421, closed=None)),
    "11d": (post(LEN, line=b"POST http://relay.example/publish?topic=TOPIC HTTP/1.1"), served("hi")),
    "11e": (get(line=b"GET http://relay.example HTTP/1.1"), served()),
    "11f": (get(line=b"GET http:///health HTTP/1.1"), refused()),
    "11g": (get(line=b"GET ftp://relay.example/health HTTP/1.1"), refused()),
    "11h": (get(line=b"GET http://u@relay.example/health HTTP/1.1"), refused()),
    "11i": (get(line=b"GET health HTTP/1.1"), refused()),
    "11j": (get(line=b"GET relay.example:80 HTTP/1.1"), refused()),
    "11k": (get(line=b"CONNECT relay.example:80 HTTP/1.1"), refused()),
    "11l": (get(line=b"GET * HTTP/1.1"), refused()),
    # bytes of the path
    "12": (post(LEN, line=b"POST /publish%00x?topic=TOPIC HTTP/1.1"), refused(400, 404, closed=None)),
    "12b": (post(LEN, line=b"POST /publish\0x?topic=TOPIC HTTP/1.1"), refused(400, 404, closed=None)),
    "12c": (post(LEN, line=b"POST /publish\xc3\xa9?topic=TOPIC HTTP/1.1"), refused(400, 404, closed=None)),
    "12d": (get(line=b"GET /health\r? HTTP/1.1"), refused(400, 404, closed=None)),
    "12e": (get(line=b"GET /health%0a HTTP/1.1"), refused(400, 404, closed=None)),
    "12f": (get(line=b"GET /health#x HTTP/1.1"), refused(400, 404, closed=None)),
    "12g": (get(line=b"GET /health?x#y HTTP/1.1"), refused()),
    "12h": (get(line=b"GET %2Fhealth HTTP/1.1"), refused(400, 404, closed=None)),
    "12i": (get(line=b"GET /events/../health HTTP/1.1"), refused(400, 404, closed=None)),
    "12j": (get(line=b"GET //health HTTP/1.1"), refused(400, 404, closed=None)),
    "12k": (get(line=b"GET /health%2F HTTP/1.1"), refused(400, 404, closed=None)),
    "12l": (get(line=b"GET /%zz HTTP/1.1"), refused(400, 404, closed=None)),
    "13": (post(LEN, line=b"POST /%70ublish?topic=TOPIC HTTP/1.1"), served("hi")),
    "13b": (get(line=b"GET /he%61lth HTTP/1.1"), served()),
    "13c": (get(line=b"GET /he%2561lth HTTP/1.1"), refused(400, 404, closed=None)),
    # folded lines, and what they may make of other lines; 14 itself is below
    "14b": (get(b"Authorization: Bearer\r\n abc\r\n"), refused(), served()),
    "14c": (get(b"X: y\r\n z\r\n"), refused(), served()),
    "14d": (post(b"Content-Length: 2\r\n 0\r\n"), refused()),
    "14e": (post(b"Content-Length:\r\n 2\r\n"), refused(), served("hi")),
    "14f": (post(b"Content-Len: 2\r\n gth\r\n", b""), refused(), served("")),
    "14g": (post(b"Transfer-Encodi: chunked\r\n ng\r\n", b""), refused(), served("")),
    "14h": (get(host=b" " + H), refused()),
    "14i": (get(b"X: y\r\n \r\n"), refused(), served()),
    "14j": (get(b"X: y\r\n\tHost: b\r\n"), refused(), served()),
    # characters of names and values, and the ends of lines
    "15": (get(b"X: a\rb\r\n"), refused()),
    "15b": (get(b"X: a\0b\r\n"), refused()),
    "15c": (get(b"X: \x01\r\n"), refused()),
    "15d": (get(b"X: \x7f\r\n"), refused()),
    "15e": (get(b"X\0y: a\r\n"), refused()),
    "15f": (get(b"X(y: a\r\n"), refused()),
    "15g": (get(b": a\r\n"), refused()),
    "15h": (post(b": a\r\n" + LEN), refused()),
    "15i": (get(host=b"Host: relay.example\0.evil\r\n"), refused()),
    "15j": (get(host=b"Host: relay.example\rX: y\r\n"), refused()),
    "15k": (get(b"X: a\nY: b\r\n"), refused(), *NEWER(served())),  # RFC 9112, 2.2: a recipient may
    "15l": (post(LEN, end=b"\n", host=b"Host: relay.example\n"), refused(), *NEWER(served("hi"))),
    "15m": (get(b"X: tab\there, \xc3\xa9 and \xff\r\n"), served()),
    # fields that may stand once
    "15n": (get(b"Authorization: Bearer a\r\nauthorization: Bearer b\r\n"), refused()),
    "15o": (get(b"Origin: http://a\r\nOrigin: http://b\r\n"), refused()),
    "15p": (get(b"Last-Event-ID: 1\r\nLast-Event-ID: 2\r\n"), refused()),
    "15q": (post(LEN + b"Content-Type: text/plain\r\nContent-Type: application/json\r\n"), refused()),
    "15r": (post(LEN + b"Content-Encoding: identity\r\nContent-Encoding: gzip\r\n"), refused(400, 415)),
    # OPTIONS
    "16": (get(line=b"OPTIONS * HTTP/1.1"), served(status=204)),
    "16b": (get(line=b"OPTIONS /nope HTTP/1.1"), served(status=204)),
    "16c": (get(line=b"OPTIONS /events HTTP/1.1"), served(status=204)),
    "16d": (get(line=b"OPTIONS http://relay.example HTTP/1.1"), served(status=204)),
    "16e": (get(line=b"OPTIONS *x HTTP/1.1"), refused()),
    # bodies where none is needed, and expectations
    "17": (get(b"Content-Length: 5\r\n", line=b"GET /events?topic=TOPIC HTTP/1.1") + b"hello", STREAM),
    "17b": (get(CHUNKED, line=b"GET /events?topic=TOPIC HTTP/1.1") + CHUNKS, STREAM),
    "17c": (get(b"Content-Length: 5\r\nExpect: 100-continue\r\n", line=b"GET /events?topic=TOPIC HTTP/1.1") + b"hello", STREAM),
    "17d": (post(LEN + b"Expect: 100-Continue\r\n"), served("hi")),
    "17e": (post(LEN + b"Expect: pigs\r\n"), refused(417, closed=None)),
    "17f": (get(LEN) + b"hi", served()),
    # codings of the body
    "18c": (post(LEN + b"Content-Encoding: br\r\n"), refused(415, closed=None)),
    "18d": (post(LEN + b"Content-Encoding: gzip, gzip\r\n"), refused(400, 415, closed=None)),
    "18e": (post(LEN + b"Content-Encoding: gzip\r\n"), refused(400, 415, closed=None)),
    "18f": (post(LEN + b"Content-Encoding: identity\r\n"), served("hi")),
    # upgrades are not taken, line ends around requests are
    "20": (
        get(
            b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
            line=b"GET /events?topic=TOPIC HTTP/1.1",
        ),
        STREAM,
    ),
    "20b": (get(b"Upgrade: websocket\r\nConnection: Upgrade\r\n"), served()),
    "21": (b"\r\n\r\n" + post(LEN), served("hi")),
    "21b": (post(LEN) + b"\r\n", served("hi")),
}


# --- the relay, and what it has published ---


@pytest.fixture(scope="module")
def relay(tmp_path_factory):
    """One for all of these: each has a topic of its own. It needs no Redis for that."""
    config = {"listen": "127.0.0.1:0", "redis": "memory:", "drain": "200ms", "cors.origins": ORIGIN.decode(), "hosts": "relay.example"}
    relay = Relay(tmp_path_factory.mktemp("message"), config).start()
    yield relay
    relay.stop()


@pytest.fixture
def topic(request):
    """Of forty characters, so that lengths can be counted before it is known."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    return ("m-" + name)[-40:].rjust(40, "x")


def published(relay, topic):
    """All that is in the log of the topic."""
    relay.publish(topic, "end")
    stream = sse_client.SSEClient(relay.url + "/events", [topic], params={"replay": "all"})
    try:
        data = stream.wait_for(lambda c: "end" in c.data).data
    finally:
        stream.close()
    return data[: data.index("end")]


# --- answers ---

Answer = namedtuple("Answer", "status headers body")


class Connection:
    """Takes one answer after the other, whole, by what its head says."""

    def __init__(self, relay):
        self.socket = open_socket(relay)
        self.socket.settimeout(ANSWER_S * sse_client.TIMEOUT_S / 20)  # more where all is slower
        self.rest = b""

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            pass  # it is over: the answer says why

    def _receive(self):
        """False: the connection is over."""
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            data = b""
        self.rest += data
        return bool(data)

    def _take_head(self):
        while b"\r\n\r\n" not in self.rest:
            if not self._receive():
                return None
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        return parse_head(head)

    def answer(self):
        """None: the connection is over. A stream's body is left where it is."""
        head = self._take_head()
        while head and head[0] == 100:
            head = self._take_head()
        if not head:
            assert self.rest == b"", f"behind the last answer: {self.rest!r}"
            return None
        status, headers = head
        length = int(headers.get("content-length", 0))
        while len(self.rest) < length:
            assert self._receive(), "an answer that is cut off"
        body, self.rest = self.rest[:length], self.rest[length:]
        return Answer(status, headers, body)

    def read_to_end(self):
        while self._receive():
            pass

    def wait_for(self, text):
        while text not in self.rest:
            assert self._receive(), f"the stream ended without {text!r}"

    def close(self):
        self.socket.close()


@pytest.fixture
def connect(relay):
    connections = []

    def start():
        connections.append(Connection(relay))
        return connections[-1]

    yield start
    for c in connections:
        c.close()


# --- the cases ---


def assert_problem(answer):
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json"
    assert json.loads(answer.body)["status"] == answer.status
    assert answer.headers["access-control-allow-origin"].encode() == ORIGIN


CLOSED_BY_NEWER = {"12b"}  # without an answer, by libmicrohttpd 1.0


def marked(case):
    strict = libmicrohttpd_version() == "0.9.75"
    marks = [pytest.mark.xfail(strict=strict, reason="known to fail")] if case in KNOWN_TO_FAIL else []
    return pytest.param(case, marks=marks)


@pytest.mark.parametrize("case", [marked(c) for c in CASES])
def test_message(relay, connect, topic, case):
    data, *outcomes = CASES[case]
    connection = connect()
    connection.send(data.replace(b"TOPIC", topic.encode()))
    try:
        answer = connection.answer()
    except socket.timeout:
        pytest.fail("no answer")
    if not answer and case in CLOSED_BY_NEWER and not LAX:
        assert published(relay, topic) == []
        return
    assert answer, "closed without an answer"
    fitting = [o for o in outcomes if answer.status in o.statuses]
    assert fitting, f"answered {answer}"
    outcome = fitting[0]
    if outcome is STREAM:
        assert answer.headers["content-type"].startswith("text/event-stream"), answer
        connection.wait_for(b"relay.connected")
        relay.publish(topic, "live")
        connection.wait_for(b"\ndata: live\n\n")
        return
    if outcome.problem:
        assert_problem(answer)
    connection.send(PROBE)
    try:
        behind = connection.answer()
        over = behind is None
        assert over or connection.answer() is None
    except socket.timeout:
        pytest.fail("neither closed nor fit for another request")
    assert published(relay, topic) == outcome.published
    assert outcome.closed in (None, over)
    assert over or behind.status == 200, behind


@pytest.mark.skipif(not LAX, reason="newer ones serve some of them")
@pytest.mark.parametrize("case", sorted(OF_THE_LIBRARY))
def test_what_the_library_refuses_ends_the_connection_and_publishes_nothing(relay, connect, topic, case):
    connection = connect()
    connection.send((CASES[case][0] + HIDDEN).replace(b"TOPIC", topic.encode()))
    connection.read_to_end()
    assert published(relay, topic) == []


def marked_test(number):
    """For what needs a test of its own."""
    strict = libmicrohttpd_version() == "0.9.75"
    return pytest.mark.xfail(number in KNOWN_TO_FAIL, strict=strict, reason="known to fail")


@marked_test("14")
def test_14_cursor_on_a_folded_line_is_refused_or_taken(relay, connect, topic):
    first = relay.publish(topic, "first")
    relay.publish(topic, "second")
    connection = connect()
    connection.send(get(b"Last-Event-ID:\r\n %d\r\n" % first, line=b"GET /events?topic=%s HTTP/1.1" % topic.encode()))
    answer = connection.answer()
    if answer.status == 400:
        assert connection.answer() is None
        return
    assert answer.status == 200
    relay.publish(topic, "third")
    connection.wait_for(b"data: third\n")
    assert b"data: second\n" in connection.rest and b"data: first\n" not in connection.rest


@marked_test("18")
def test_18_head_is_a_head_and_no_client(relay, connect, topic):
    connection = connect()
    connection.send(get(line=b"HEAD /events?topic=%s HTTP/1.1" % topic.encode()))
    answer = connection.answer()
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/event-stream")
    assert connection.answer() is None, "closed at once"
    assert relay.subscribers(topic) == 0
    connection = connect()
    connection.send(PROBE)
    assert connection.answer().status == 200


@marked_test("19")
def test_19_posts_in_one_write_are_answered_and_logged_in_order(relay, connect, topic):
    line = b"POST /publish?topic=%s HTTP/1.1" % topic.encode()
    bodies = [b"%d" % n for n in range(300)]
    connection = connect()
    connection.send(b"".join(post(b"Content-Length: %d\r\n" % len(b), b, line) for b in bodies))
    ids = []
    for _ in bodies:
        answer = connection.answer()
        assert answer.status == 200
        ids.append(int(json.loads(answer.body)["id"]))
    assert ids == sorted(set(ids))
    assert published(relay, topic) == [b.decode() for b in bodies]


def test_known_to_fail_are_cases():
    """A name that is misspelt would mark nothing."""
    assert KNOWN_TO_FAIL <= {*CASES, "14", "18", "19"}
