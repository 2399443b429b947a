# SPDX-License-Identifier: Apache-2.0
"""Hosts and origins: who a relay may be asked as, and which pages count as its own."""

import json
import signal

import pytest

from raw_http import assert_problem, exchange, status_of

BY_DEFAULT = {"SSE_RELAY_HOSTS": None}  # tests have a list otherwise


def ask(relay, host, path="/health", method="GET", more="", body=""):
    """The answer's status; @host None: none."""
    lines = [f"{method} {path} HTTP/1.{0 if host is None else 1}", "Connection: close"]
    lines += [] if host is None else [f"Host: {host}"]
    lines += [f"Content-Length: {len(body)}"] if body else []
    return exchange(relay, ("\r\n".join(lines) + f"\r\n{more}\r\n{body}").encode())


def allowed(relay, host):
    status = status_of(ask(relay, host))
    assert status in (200, 421), (host, status)
    return status == 200


# --- the default ---


ALWAYS = ["127.0.0.1", "127.0.0.1:8080", "10.1.2.3", "[::1]", "[fe80::1]:80", "localhost", "LocalHost:99", "localhost.", "", None]
STRANGERS = ["evil.example", "evil.example:80", "x", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1x", "1.2.3"]


def test_on_this_machine_only_its_own_names_are_allowed(relay_factory):
    relay = relay_factory(env=BY_DEFAULT)
    assert [h for h in ALWAYS if not allowed(relay, h)] == []
    assert [h for h in STRANGERS if allowed(relay, h)] == []
    assert not [li for li in relay.log if "any host name" in li]


def test_names_that_are_listened_on_are_allowed(relay_factory):
    relay = relay_factory({"listen": ["127.0.0.1:0", "localhost:0"]}, env=BY_DEFAULT)
    assert allowed(relay, "localhost:1") and not allowed(relay, "evil.example")


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_for_others_all_are_allowed_and_one_line_warns(relay_factory, listen):
    relay = relay_factory({"listen": ["127.0.0.1:0", listen]}, env=BY_DEFAULT)
    assert [h for h in ALWAYS + STRANGERS if not allowed(relay, h)] == []
    assert len([li for li in relay.log if "level=warn" in li and "requests for any host name are taken" in li]) == 1


# --- the list ---


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "0.0.0.0:0"])
def test_a_list_is_what_counts(relay_factory, listen):
    relay = relay_factory({"listen": listen, "hosts": ["relay.example", "*.cluster.example"]}, env=BY_DEFAULT)
    ours = ["relay.example", "Relay.Example:8080", "relay.example.", "a.cluster.example", "a.b.cluster.example:1"]
    others = [*STRANGERS, "a.relay.example", "cluster.example", "evilcluster.example", "relay.example.evil"]
    assert [h for h in ours + ALWAYS if not allowed(relay, h)] == []
    assert [h for h in others if allowed(relay, h)] == []
    assert not [li for li in relay.log if "any host name" in li]


def test_a_star_is_all(relay_factory):
    relay = relay_factory({"listen": "0.0.0.0:0", "hosts": "*"}, env=BY_DEFAULT)
    assert allowed(relay, "evil.example")
    assert not [li for li in relay.log if "any host name" in li]


def test_the_list_is_reloaded(relay_factory, tmp_path):
    path = tmp_path / "hosts.json"
    path.write_text('{"hosts": ["a.example"]}')
    relay = relay_factory(args=["--config", path], env=BY_DEFAULT)
    assert allowed(relay, "a.example") and not allowed(relay, "b.example")
    path.write_text('{"hosts": ["b.example"]}')
    relay.signal(signal.SIGHUP)
    relay.wait_log("configuration read again")
    assert allowed(relay, "b.example") and not allowed(relay, "a.example")


# --- what is refused ---


@pytest.mark.parametrize("path", ["/events?topic=t", "/publish?topic=t", "/health", "/ready", "/metrics", "/stats", "/", "/nope"])
def test_all_paths_are_refused(relay_factory, path):
    relay = relay_factory(env=BY_DEFAULT)
    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        assert status_of(ask(relay, "evil.example", path, method)) == 421


def test_the_answer_says_why_and_what_to_do(relay_factory):
    relay = relay_factory({"cors.origins": "https://app.example"}, env=BY_DEFAULT)
    answer = relay.get("/health", headers={"Host": "evil.example:8", "Origin": "https://app.example"})
    detail = assert_problem(answer, 421)
    assert detail.startswith("Host:") and "evil.example:8" in detail and "hosts" in detail
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    answer = relay.get("/health", headers={"Host": "e" * 5000})
    assert len(assert_problem(answer, 421)) < 300


def test_a_post_is_refused_before_its_body(relay_factory):
    relay = relay_factory(env=BY_DEFAULT)
    answer = exchange(relay, b"POST /publish?topic=t HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 5\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status_of(head) == 421 and b"connection: close" in head.lower()
    assert json.loads(body)["published"] is False


def test_a_page_that_makes_its_name_point_here_gets_nothing(relay_factory):
    """Its Origin and Host agree; only the name tells."""
    relay = relay_factory(env=BY_DEFAULT)
    same = {"Host": f"evil.example:{relay.port}", "Origin": f"http://evil.example:{relay.port}"}
    assert relay.get("/events?topic=t", headers=same).status_code == 421
    assert relay.post("/publish?topic=t", "x", headers=same).status_code == 421
    own = {"Host": f"localhost:{relay.port}", "Origin": f"http://localhost:{relay.port}"}
    assert relay.post("/publish?topic=t", "x", headers=own).status_code == 200


def test_a_whole_url_names_the_host(relay_factory):
    relay = relay_factory(env=BY_DEFAULT)
    assert status_of(ask(relay, "localhost", "http://evil.example/health")) == 421
    assert status_of(ask(relay, "evil.example", "http://localhost/health")) == 200


# --- pages of the same origin ---


@pytest.mark.parametrize(
    "origin,host,status",
    [
        ("http://relay.example", "relay.example:80", 200),
        ("http://relay.example:80", "relay.example", 200),
        ("https://relay.example", "relay.example:443", 200),
        ("https://relay.example", "relay.example", 200),
        ("http://RELAY.example", "relay.EXAMPLE", 200),
        ("http://[::1]:8080", "[0:0::1]:8080", 200),
        ("http://relay.example", "relay.example:443", 403),
        ("http://relay.example:81", "relay.example", 403),
        ("http://other.example", "relay.example", 403),
        ("http://relay.example.evil", "relay.example", 403),
        ("null", "relay.example", 403),
    ],
)
def test_pages_of_the_same_origin_publish(relay_factory, origin, host, status):
    relay = relay_factory({"hosts": "relay.example"})
    answer = relay.post("/publish?topic=t", "x", headers={"Origin": origin, "Host": host})
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["published"] is False
