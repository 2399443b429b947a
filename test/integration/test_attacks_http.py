# SPDX-License-Identifier: Apache-2.0
"""Attacks through paths, HTTP messages and browsers, each under its number: [20] to [27]."""

import pytest

from auth_rig import COOKIE, PAGE, assert_nobody, attack, bearer, cookie, opening, raw_status, status_at
from raw_http import assert_problem, open_socket, read_all, read_head, status_of
from swarm import raise_file_limit

EVENTS = "/events?topic=orders.eu"
ROUTES = [
    {"path": "/projects/{id}/events", "topics": ["project.{id}"]},
    {"path": "/{table}/_events", "topics": ["entity.{table}.*"]},
]
EVIL = "https://evil.example"


@pytest.fixture
def routed(parties, guarded):
    parties.file.write(routes=ROUTES)
    return guarded()


@pytest.fixture
def wide(parties):
    """Headers of somebody who may read all that these routes may come to."""
    return bearer(parties.I.token(sub="42", sse={"ns": "t1", "subscribe": ["project.*", "entity.*.*"]}))


# --- routes and HTTP ---

NO_TOKENS = ["a%2Fb", "a%2e%2e", "..", "%2A", "*", "%3E", "%00", "a%00", "a.b", "a%2eb", "", "%zz", "%", "%4", "%C0%AE", "%FF", "a%20b", "%0A", "%7F"]


@pytest.mark.parametrize("part", NO_TOKENS)
@attack(20)
def test_a_capture_that_is_no_token(routed, wide, part):
    for path in (f"/projects/{part}/events", f"/{part}/_events"):
        if path == "//_events":
            continue  # no part at all between the slashes of a path that begins so
        answer = raw_status(routed, [f"GET {path} HTTP/1.1", "Host: x", *(f"{n}: {v}" for n, v in wide.items())])
        assert status_of(answer) == 400, (path, answer[:200])
    assert routed.stats()["topics"] == []


@attack(20)
def test_a_capture_is_decoded_once(routed, wide, sse_connect, doors):
    """What is encoded twice is the text that one decoding leaves."""
    for path, topic in (("%252A", "project.%2A"), ("a%252Fb", "project.a%2Fb"), ("%61", "project.a"), ("%C3%A4", "project.ä")):
        stream = sse_connect(routed, path=f"/projects/{path}/events", headers=wide)
        assert stream.control("connected")[0]["topics"] == [topic]
        doors.fcall(topic, "x", ns="t1")
        assert stream.wait_for(1).data == ["x"]


@attack(21)
def test_other_spellings_of_a_guarded_path(parties, guarded):
    parties.file.write(routes=ROUTES)
    relay = guarded()
    wanted = {
        "/stats": 401,
        "/%73tats": 401,
        "/stat%73": 401,
        "http://x/stats": 401,
        "http://x/%73tats": 401,
        "/stats%00/public": 400,
        "/stats%00": 400,
        "//stats": 404,
        "/events/../stats": 404,
        "/./stats": 404,
        "/stats/": 404,
        "/stats;x": 404,
        "/stats%3Fx": 404,
        "/stats%2F": 404,
        "/Stats": 404,
        "/projects/../stats": 404,
        "/%2e/stats": 404,
    }
    answers = {path: raw_status(relay, [f"GET {path} HTTP/1.1", "Host: x"]) for path in wanted}
    assert {path: status_of(answer) for path, answer in answers.items()} == wanted
    assert [path for path, answer in answers.items() if b'"topics"' in answer] == []
    for method in ("HEAD", "GET"):
        assert status_of(raw_status(relay, [f"{method} /%73tats HTTP/1.1", "Host: x", f"Authorization: Bearer {parties.T()}"])) == 403


HIDDEN = b"POST /publish?topic=orders.smuggled HTTP/1.1\r\nHost: x\r\n%sContent-Length: 1\r\nConnection: close\r\n\r\nx"

SMUGGLED = {
    "length twice": [b"POST /publish?topic=orders.a HTTP/1.1", b"Host: x", b"Content-Length: 0", b"Content-Length: 5"],
    "length and chunks": [b"POST /publish?topic=orders.a HTTP/1.1", b"Host: x", b"Content-Length: 5", b"Transfer-Encoding: chunked"],
    "space before the colon": [b"GET /events?topic=orders.eu HTTP/1.1", b"Host: x", b"Authorization : Bearer x"],
    "two hosts": [b"GET /events?topic=orders.eu HTTP/1.1", b"Host: x", b"Host: y"],
    "no host": [b"GET /events?topic=orders.eu HTTP/1.1"],
    "bare LF": [b"GET /events?topic=orders.eu HTTP/1.1", b"Host: x\nX-A: b"],
    "folded": [b"GET /events?topic=orders.eu HTTP/1.1", b"Host: x", b"X-A: b", b" c"],
}


@pytest.mark.parametrize("kind", SMUGGLED)
@attack(22)
def test_what_has_two_readings(parties, guarded, doors, kind):
    """400 and the end: the bytes behind it are no request, although their credentials are good."""
    relay = guarded()
    good = f"Authorization: Bearer {parties.T()}\r\n".encode()
    lines = SMUGGLED[kind]
    if not any(b"Authorization" in line for line in lines):
        lines = [*lines, good.strip()]
    with open_socket(relay) as s:
        s.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + HIDDEN % good)
        answer = read_all(s)
    assert status_of(answer) == 400 and answer.count(b"HTTP/1.1 4") == 1 and b"HTTP/1.1 2" not in answer
    assert not doors.redis.exists(doors.key("t1", "seq"))


@pytest.mark.parametrize("credentials", ["", "Authorization: Bearer x\r\n", "Authorization: Basic dTpw\r\n"], ids=["none", "bad", "basic"])
@attack(23)
def test_a_body_without_credentials_is_not_read(guarded, credentials):
    """1,000 POSTs that announce 7 MB each and send none of it: 401 at once, and nothing is held for them."""
    raise_file_limit()
    relay = guarded()
    request = f"POST /publish?topic=orders.eu HTTP/1.1\r\nHost: x\r\n{credentials}Content-Length: 7000000\r\n\r\n".encode()
    held = 0
    for _ in range(5):
        sockets = [open_socket(relay) for _ in range(200)]
        try:
            for s in sockets:
                s.sendall(request)
            for n, s in enumerate(sockets):
                answer = read_all(s)
                assert status_of(answer) == 401 and b'"published":false' in answer
                if n == 100:
                    held = max(held, relay.metric("sse_relay_http_body_bytes"))
        finally:
            for s in sockets:
                s.close()
    assert held == 0 and relay.metric("sse_relay_http_body_bytes") == 0


NOWHERE = ["POST /nowhere", "POST /events?topic=orders.eu", "POST /projects/x/events", "POST /stats", "GET /health", "GET /events?topic=orders.eu", "PUT /publish"]


@pytest.mark.parametrize("line", NOWHERE)
@attack(23)
def test_a_body_that_nobody_wants_is_not_held(routed, line):
    """Nor is it read where the answer is known: the room for bodies is for those who may publish."""
    with open_socket(routed) as s:
        s.sendall(f"{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 7000000\r\n\r\n".encode())
        if line.startswith("POST"):
            assert status_of(read_all(s)) in (404, 405)
            return
        s.sendall(b"x" * 3_000_000)
        assert routed.metric("sse_relay_http_body_bytes") == 0
        s.sendall(b"x" * 4_000_000)
        assert status_of(read_head(s)) in (200, 401, 405)
        assert routed.metric("sse_relay_http_body_bytes") == 0


@attack(23)
def test_a_body_without_credentials_that_is_sent_all_the_same(guarded, doors):
    relay = guarded()
    for chunked in ("Content-Length: 100000", "Transfer-Encoding: chunked"):
        with open_socket(relay) as s:
            s.sendall(f"POST /publish?topic=orders.eu HTTP/1.1\r\nHost: x\r\n{chunked}\r\n\r\n".encode())
            answer = read_all(s)
        assert status_of(answer) == 401
    assert list(doors.redis.scan_iter("*:seq")) == [] or not doors.redis.exists(doors.key("t1", "seq"))


@attack(23)
def test_expect_100_continue_is_answered_with_401(guarded):
    """A polite client never sends its body."""
    relay = guarded()
    with open_socket(relay) as s:
        s.sendall(b"POST /publish?topic=a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        assert status_of(read_head(s)) == 401


# --- browsers ---


@pytest.fixture
def cookies(guarded):
    return guarded({"auth.cookie": COOKIE, "cors.origins": PAGE})


def position(doors):
    return doors.redis.get(doors.key("t1", "seq"))


POSTS = {
    "text": {"Content-Type": "text/plain"},
    "form": {"Content-Type": "application/x-www-form-urlencoded"},
    "json": {"Content-Type": "application/json"},
}
BODIES = {"text": "x", "form": "topic=orders.eu&data=x", "json": '{"topic":"orders.eu","data":"x"}'}


def post_of(relay, kind, headers):
    path = "/publish?topic=orders.eu" if kind == "text" else "/publish"
    return relay.post(path, BODIES[kind], headers={**POSTS[kind], **headers})


@attack(24)
def test_a_page_of_a_foreign_origin(parties, cookies, doors):
    """It has the victim's cookie sent along, and gets nothing for it."""
    stolen = cookie(parties.T(), EVIL)
    answers = [opening(cookies, EVENTS, stolen), *(post_of(cookies, kind, stolen) for kind in POSTS)]
    answers.append(cookies.post("/tickets", headers=stolen))
    answers.append(cookies.get("/stats", headers=cookie(parties.A(), EVIL)))
    for answer in answers:
        assert_problem(answer, 403)
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert position(doors) is None and not list(doors.redis.scan_iter("*:ticket:*"))


@attack(24)
def test_a_page_that_is_ours_or_listed(parties, cookies, doors):
    own = f"http://127.0.0.1:{cookies.port}"
    for origin in (PAGE, own):
        answer = opening(cookies, EVENTS, cookie(parties.T(), origin))
        assert answer.status_code == 200
        for kind in POSTS:
            assert post_of(cookies, kind, cookie(parties.T(), origin)).status_code == 200
        assert cookies.post("/tickets", headers=cookie(parties.T(), origin)).status_code == 200
    assert status_at(cookies, EVENTS, cookie(parties.T())) == 200, "a GET without Origin: the page's own EventSource"
    assert doors.redis.xlen(doors.key("t1", "log", "orders.eu")) == 6


@attack(25)
def test_origins_that_are_nearly_ours(parties, cookies, doors):
    token = parties.T()
    port = cookies.port
    near = ["null", f"http://127.0.0.1.evil.example:{port}", f"http://127.0.0.1:{port}.evil.example", "https://app.example.evil",
            "http://app.example", "https://app.example:444", "https://xapp.example", f"http://127.0.0.1:{port + 1}", "", "x"]  # fmt: skip
    for origin in near:
        assert status_at(cookies, EVENTS, {**cookie(token), "Origin": origin}) == 403, origin
        assert post_of(cookies, "text", {**cookie(token), "Origin": origin}).status_code == 403, origin
    assert post_of(cookies, "text", cookie(token)).status_code == 403, "a POST without Origin"
    assert cookies.post("/tickets", headers=cookie(token)).status_code == 403
    lines = ["Host: x", f"Cookie: {COOKIE}={token}", f"Origin: {PAGE}", f"Origin: {EVIL}"]
    assert status_of(raw_status(cookies, [f"GET {EVENTS} HTTP/1.1", *lines])) == 400
    assert position(doors) is None


@attack(25)
def test_a_header_is_not_ambient(parties, cookies):
    """Nobody's browser adds a Bearer token by itself: who has one may read from any page, and needs no Origin to post."""
    assert status_at(cookies, EVENTS, {**bearer(parties.T()), "Origin": EVIL}) == 200
    assert post_of(cookies, "text", bearer(parties.T())).status_code == 200


@attack(26)
def test_hosts_are_checked_only_where_they_are_listed(parties, guarded):
    """Without authentication see test_hosts: there it is 421."""
    relay = guarded(env={"SSE_RELAY_HOSTS": None})
    strange = {"Host": "evil.example", "Origin": "http://evil.example"}
    assert relay.get("/health", headers=strange).status_code == 200
    assert_nobody(relay.get(EVENTS, headers=strange))
    assert status_at(relay, EVENTS, {**bearer(parties.T()), "Host": "evil.example"}) == 200
    listed = guarded({"hosts": "relay.example"}, env={"SSE_RELAY_HOSTS": None})
    assert listed.get("/health", headers=strange).status_code == 421
    assert status_at(listed, EVENTS, {**bearer(parties.T()), "Host": "relay.example"}) == 200


PATHS = ["/events", "/publish", "/tickets", "/revoke", "/stats", "/connections/" + "0" * 32 + "/token", "/projects/1/events"]


@pytest.mark.parametrize("path", PATHS)
@attack(27)
def test_preflights_need_no_credentials(parties, guarded, path):
    parties.file.write(routes=ROUTES)
    relay = guarded({"auth.cookie": COOKIE, "cors.origins": PAGE})
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}
    listed = relay.request("OPTIONS", path, headers={**asked, "Origin": PAGE})
    assert listed.status_code == 204
    assert listed.headers["Access-Control-Allow-Origin"] == PAGE
    allowed = {h.strip().lower() for h in listed.headers["Access-Control-Allow-Headers"].split(",")}
    assert {"authorization", "content-type", "last-event-id"} <= allowed
    other = relay.request("OPTIONS", path, headers={**asked, "Origin": EVIL})
    assert other.status_code == 204
    assert not [h for h in other.headers if h.lower().startswith("access-control-allow-")]


@attack(27)
def test_refusals_can_be_read_by_a_listed_page(parties, guarded):
    relay = guarded({"cors.origins": PAGE})
    for headers, status in (({}, 401), (bearer("x"), 401), (bearer(parties.T()), 403)):
        answer = opening(relay, "/events?topic=billing", {**headers, "Origin": PAGE})
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        exposed = {h.strip() for h in answer.headers["Access-Control-Expose-Headers"].split(",")}
        assert {"WWW-Authenticate", "Retry-After"} <= exposed
    answer = relay.post("/tickets", headers={**bearer(parties.T()), "Origin": PAGE})
    assert answer.status_code == 200 and answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert answer.headers["Cache-Control"] == "no-store"
