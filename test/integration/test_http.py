# SPDX-License-Identifier: Apache-2.0
"""HTTP around the streams: methods, paths, CORS, and how large a request may be."""

import json

import pytest

from raw_http import assert_problem, exchange, open_socket, read_all, read_head, status_of

# --- methods and paths ---


@pytest.mark.parametrize("path", ["/events?topic=a", "/health", "/ready", "/metrics", "/stats", "/"])
def test_head_has_headers_and_no_body(relay, path):
    got = exchange(relay, f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = got.partition(b"\r\n\r\n")
    assert status_of(head) == 200
    assert body == b""
    if path.startswith("/events"):
        assert b"text/event-stream" in head


def test_head_opens_no_stream(relay):
    exchange(relay, b"HEAD /events?topic=a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert relay.stats()["clients"] == 0


@pytest.mark.parametrize("path", ["/events", "/publish", "/health", "/ready", "/metrics", "/stats", "/"])
def test_options_tells_the_methods(relay, path):
    answer = relay.request("OPTIONS", path)
    assert answer.status_code in (200, 204)
    allowed = {m.strip() for m in answer.headers["Allow"].split(",")}
    assert allowed == ({"POST", "OPTIONS"} if path == "/publish" else {"GET", "HEAD", "OPTIONS"})


@pytest.mark.parametrize("target", ["*", "/nope", "/publish/x", "http://relay", "/%7eme"])
def test_options_is_answered_on_any_path(relay, target):
    got = exchange(relay, f"OPTIONS {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert status_of(got) == 204
    assert b"\r\nallow: get, head, post, delete, options\r\n" in got.lower() or target == "http://relay"


@pytest.mark.parametrize(
    "method,path",
    [
        ("POST", "/events?topic=a"),
        ("DELETE", "/events?topic=a"),
        ("GET", "/publish"),
        ("PUT", "/publish"),
        ("POST", "/health"),
        ("POST", "/metrics"),
        ("DELETE", "/"),
    ],
)
def test_wrong_method_is_405_and_names_the_right_ones(relay, method, path):
    answer = relay.request(method, path, data=b"x" if method in ("POST", "PUT") else None)
    assert answer.status_code == 405
    allowed = {m.strip() for m in answer.headers["Allow"].split(",")}
    assert method not in allowed and allowed
    assert_problem(answer, 405)


@pytest.mark.parametrize("path", ["/nothing", "/events/", "/Events?topic=a", "/publish/x", "/x//", "/health%2F"])
def test_unknown_path_is_404(relay, path):
    assert_problem(relay.get(path), 404)


# --- CORS ---

ORIGIN = "https://app.example.org"


def test_no_cors_by_default(relay, sse_connect):
    client = sse_connect(relay, "a", headers={"Origin": ORIGIN})
    assert not [h for h in client.headers if h.startswith("access-control-")]


def test_cors_answers_listed_origins_only(relay_factory, redis, sse_connect):
    relay = relay_factory({"cors.origins": [ORIGIN, "http://localhost:3000"]})
    for origin in (ORIGIN, "http://localhost:3000"):
        client = sse_connect(relay, "a", headers={"Origin": origin})
        assert client.headers["access-control-allow-origin"] == origin
        assert "origin" in client.headers["vary"].lower()
    for origin in ("https://app.example.org.evil", "https://other.example.org", "null"):
        client = sse_connect(relay, "a", headers={"Origin": origin})
        assert "access-control-allow-origin" not in client.headers


def test_cors_star_is_without_credentials(relay_factory, redis, sse_connect):
    relay = relay_factory({"cors.origins": "*"})
    client = sse_connect(relay, "a", headers={"Origin": ORIGIN})
    assert client.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in client.headers


def test_cors_preflight(relay_factory, redis):
    relay = relay_factory({"cors.origins": ORIGIN})
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    answer = relay.request("OPTIONS", "/publish", headers={"Origin": ORIGIN, **ask})
    assert answer.status_code in (200, 204)
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert "content-type" in answer.headers["Access-Control-Allow-Headers"].lower()
    refused = relay.request("OPTIONS", "/publish", headers={"Origin": "https://evil", **ask})
    assert "Access-Control-Allow-Origin" not in refused.headers


def preflight(relay, origin=ORIGIN, path="/events", **headers):
    ask = {"Access-Control-Request-Method": "GET", **{k.replace("_", "-"): v for k, v in headers.items()}}
    answer = relay.request("OPTIONS", path, headers={"Origin": origin, **ask})
    assert answer.status_code == 204
    return answer.headers


def allowed_headers(headers):
    return [h.strip() for h in headers["Access-Control-Allow-Headers"].split(",")]


def test_preflight_allows_what_is_listed_and_no_more(relay_factory, redis):
    relay = relay_factory({"cors.origins": ORIGIN})
    assert allowed_headers(preflight(relay)) == ["Content-Type", "Last-Event-ID", "Cache-Control", "X-SSE-Slow", "X-SSE-Buffer"]
    assert preflight(relay)["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"
    assert preflight(relay, path="/publish")["Access-Control-Allow-Methods"] == "POST, OPTIONS"
    more = relay_factory({"cors.origins": ORIGIN, "cors.headers": ["Authorization", "X-Trace"]})
    assert allowed_headers(preflight(more))[5:] == ["Authorization", "X-Trace"]
    assert "Access-Control-Allow-Headers" not in preflight(more, "https://other.example")


def test_as_many_headers_as_can_be_listed_fit_into_the_answer(relay_factory, redis):
    names = [f"X-{n:02}-".ljust(64, "a") for n in range(16)]
    relay = relay_factory({"cors.origins": ORIGIN, "cors.headers": names})
    assert allowed_headers(preflight(relay))[5:] == names


def test_private_networks_are_open_to_origins_that_are_listed_by_name(relay_factory, redis):
    asked = {"Access_Control_Request_Private_Network": "true"}
    name = "Access-Control-Allow-Private-Network"
    relay = relay_factory({"cors.origins": ORIGIN})
    assert preflight(relay, **asked)[name] == "true"
    assert name not in preflight(relay)
    assert name not in preflight(relay, "https://other.example", **asked)
    assert name not in preflight(relay_factory({"cors.origins": "*"}), **asked)


def test_pages_can_read_when_to_come_back(relay_factory, redis, sse_connect):
    relay = relay_factory({"cors.origins": ORIGIN})
    exposed = "Retry-After, Location"
    assert relay.get("/nope", headers={"Origin": ORIGIN}).headers["Access-Control-Expose-Headers"] == exposed
    stream = sse_connect(relay, "a", headers={"Origin": ORIGIN})
    assert stream.headers["access-control-expose-headers"] == exposed
    assert "Access-Control-Expose-Headers" not in relay.get("/nope", headers={"Origin": "https://o.example"}).headers


def test_cors_covers_publish_and_its_errors(relay_factory, redis):
    relay = relay_factory({"cors.origins": ORIGIN})
    for body in ({"topic": "a", "data": "x"}, {"topic": "a b", "data": "x"}):
        answer = relay.post("/publish", json=body, headers={"Origin": ORIGIN})
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_cors_covers_what_is_refused_unread(relay_factory, redis):
    """A page must be able to read why, and must not be told again from a cache."""
    relay = relay_factory({"cors.origins": ORIGIN, "max_event_bytes": "1KB"})
    large = relay.post("/publish?topic=a", "x" * 10000, headers={"Origin": ORIGIN})
    header = relay.get("/health", headers={"Origin": ORIGIN, "X-Long": "x" * 9000})
    for answer, status in ((large, 413), (header, 431)):
        assert_problem(answer, status)
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert answer.headers["Cache-Control"] == "no-store"


# --- parameters of a stream ---


def test_a_cursor_in_the_query_has_four_names_and_no_white_space(relay, sse_connect):
    ids = [relay.publish("t", n) for n in "abc"]
    for name in ("lastEventId", "lastEventID", "last_event_id", "Last-Event-ID"):
        for value in (f"{ids[1]}", f" {ids[1]}", f"{ids[1]}\t"):
            client = sse_connect(relay, "t", params={name: value})
            assert client.wait_for(1).data == ["c"] and not client.gaps


def test_white_space_around_the_header_does_not_lose_the_replay(relay):
    ids = [relay.publish("t", n) for n in "abc"]
    for value in (f"{ids[1]} ", f"\t{ids[1]}\t ", f"{ids[1]}"):
        with open_socket(relay) as s:
            s.sendall(f"GET /events?topic=t HTTP/1.1\r\nHost: x\r\nLast-Event-ID: {value}\r\n\r\n".encode())
            got = b""
            while b"data: c\n\n" not in got:
                chunk = s.recv(4096)
                assert chunk
                got += chunk
        assert b"relay.gap" not in got and b"data: b" not in got


def test_seconds_are_not_taken_for_milliseconds(relay):
    for since in ("1767225600", "1", "978307199999"):
        detail = assert_problem(relay.get(f"/events?topic=t&since={since}"), 400)
        assert detail.startswith("since:") and "milliseconds, not seconds" in detail
    for since in ("0", "978307200000", "2000-01-01T00:00:00Z"):
        assert relay.request("HEAD", f"/events?topic=t&since={since}").status_code == 200


# --- how large a request may be ---


def request_of(size, target="/events?topic=a", cookie=b""):
    """A request of as many bytes, up to its blank line; @cookie for Cookie's share of them."""
    head = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
    if cookie:
        head += b"Cookie: %s\r\n" % cookie
    filler = size - len(head) - len(b"X: \r\n\r\n")
    return head + b"X: " + b"x" * filler + b"\r\n\r\n"


def status_of_request(relay, request):
    with open_socket(relay) as s:
        s.sendall(request)
        return status_of(read_head(s))


@pytest.mark.parametrize("configured,size", [(None, 8192), ("1KB", 1024), ("20KB", 20480), ("64KB", 65536)])
def test_header_up_to_its_limit_is_taken_and_not_a_byte_more(redis, relay_factory, configured, size):
    relay = relay_factory({"max_header_bytes": configured})
    assert status_of_request(relay, request_of(size)) == 200
    answer = exchange(relay, request_of(size + 1))
    assert status_of(answer) == 431
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head and "max_header_bytes" in json.loads(body)["detail"]


def test_most_topics_fit_beside_a_browsers_headers_and_cookies(relay):
    target = "/events?" + "&".join(f"topic=orders.customer.{i:06}" for i in range(64))
    cookie = b"; ".join(b"c%d=%s" % (i, b"y" * 240) for i in range(20))
    assert status_of_request(relay, request_of(8192, target, cookie)) == 200


def test_as_many_topics_as_are_allowed_fit(redis, relay_factory):
    relay = relay_factory(max_topics=600)
    for count, status in ((600, 200), (601, 400)):
        target = "/events?" + "&".join(f"topic=a{i}" for i in range(count))
        assert status_of_request(relay, request_of(8192, target)) == status


def test_parameters_that_mean_nothing_fit_in_hundreds(relay):
    assert status_of_request(relay, request_of(2048, "/events?topic=a" + "&a" * 200)) == 200


@pytest.mark.parametrize("count", [400, 2000, 4000])
def test_too_many_parameters_are_answered(relay, count):
    """libmicrohttpd would forget the connection when its memory for parameters is full."""
    answer = exchange(relay, f"GET /events?{'a&' * count}topic=a HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status_of(head) == 400
    assert json.loads(body)["detail"].startswith(f"the query has {count + 1} parameters")
    assert relay.get("/health").status_code == 200


def test_too_many_parameters_behind_another_request(relay):
    many = f"GET /events?{'topic=a&' * 900} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with open_socket(relay) as s:
        s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" + many)
        answer = read_all(s)
    assert status_of(answer) == 200
    assert status_of(answer[answer.index(b"}") + 1 :]) == 400
    assert relay.metric("sse_relay_http_responses_total", **{"class": "4xx"}) == 1
