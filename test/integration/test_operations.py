# SPDX-License-Identifier: Apache-2.0
"""/health, /ready, /metrics, /stats: what they promise, and that the numbers move."""

import re

import pytest

from prometheus import parse_prometheus
from relay_process import wait_until


def test_health(relay):
    answer = relay.get("/health")
    assert answer.status_code == 200


def test_ready(redis, relay_factory, sse_connect):
    relay = relay_factory(node="n1")
    sse_connect(relay, "t")
    sse_connect(relay, "u")
    answer = relay.get("/ready")
    assert answer.headers["Content-Type"].split(";")[0] == "application/json"
    body = answer.json()
    assert (body["status"], body["redis"], body["clients"], body["node"]) == ("ready", "up", 2, "n1")
    assert "no-store" in answer.headers["Cache-Control"]


def test_metrics_are_prometheus_text(relay, sse_connect, doors):
    sse_connect(relay, "t")
    doors.fcall("t", "x")
    answer = relay.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = parse_prometheus(answer.text)
    assert all(re.match("sse_relay_|process_", name) for name in samples)
    build = [name for name in samples if name.startswith("sse_relay_build_info{")]
    assert len(build) == 1 and 'version="' in build[0] and samples[build[0]] == 1


def test_counters_move(relay, sse_connect, doors):
    before = relay.metrics()
    clients = [sse_connect(relay, "t", "u.*") for _ in range(3)]
    doors.fcall("t", "1")
    relay.publish("u.x", "2")
    doors.xadd("t", "3")
    for client in clients:
        client.wait_for(3)
    sse_connect(relay, "t", params={"replay": "all"}).wait_for(2)
    relay.get("/nothing")
    relay.post("/publish", data="no topic")
    doors.redis.config_set("maxmemory", 1)
    assert relay.post("/publish", json={"topic": "t", "data": "x"}).status_code == 503
    doors.redis.config_set("maxmemory", 0)

    def moved(name):
        after = relay.metrics()
        return after[name] - before.get(name, 0)

    assert moved("sse_relay_streams_opened_total") == 4
    wait_until(lambda: moved("sse_relay_events_delivered_total") == 11, "deliveries")
    assert moved("sse_relay_events_received_total") == 3
    assert moved("sse_relay_events_published_total") == 1
    assert moved("sse_relay_events_replayed_total") == 2
    wait_until(lambda: moved("sse_relay_inbox_moved_total") == 1, "the inbox's count")
    assert moved("sse_relay_publish_refused_total") == 2  # one by the relay itself, one by Redis
    assert moved('sse_relay_http_responses_total{class="4xx"}') == 2
    assert moved('sse_relay_http_responses_total{class="2xx"}') > 4
    assert moved('sse_relay_clients{state="live"}') == 4
    assert moved("sse_relay_sent_bytes_total") > 11 * 20
    assert moved("sse_relay_redis_commands_total") > 0
    assert moved("sse_relay_fanout_seconds_count") > 0
    assert moved("sse_relay_latency_seconds_count") > 0
    for connection in ("subscriber", "commands", "inbox"):
        assert relay.metric("sse_relay_redis_connected", connection=connection) == 1
    for client in clients:
        client.close()
    wait_until(lambda: moved('sse_relay_streams_closed_total{reason="client"}') == 3)
    assert relay.metric("sse_relay_clients", state="live") == 1


def test_loop_lag_is_measured_on_every_thread(redis, relay_factory):
    """The first figures come after ten seconds, and no turn takes no time."""
    relay = relay_factory(workers=1)
    for worker in ("0", "bus"):
        wait_until(lambda: relay.metric("sse_relay_loop_lag_seconds", worker=worker) > 0, worker)


def test_an_event_for_several_workers_is_received_once(redis, relay_factory, sse_connect, doors):
    relay = relay_factory({"workers": 4})
    clients = [sse_connect(relay, name) for name in ["t"] + ["*"] * 12]  # Redis sends one message for each of the two
    doors.fcall("t", "logged")
    doors.raw("t", "raw")
    for client in clients:
        client.wait_for(2)
    assert relay.metric("sse_relay_events_received_total") == 2


def test_stats(redis, relay_factory, sse_connect):
    relay = relay_factory(node="n2")
    for topics, ns in ((["a"], "default"), (["a", "b.*"], "default"), (["a"], "other")):
        sse_connect(relay, *topics, params={"ns": ns})
    answer = relay.get("/stats")
    assert answer.headers["Content-Type"].split(";")[0] == "application/json"
    stats = answer.json()
    assert stats["node"] == "n2" and stats["version"]
    assert stats["uptime_seconds"] >= 0
    assert stats["redis"]["status"] == "up" and stats["draining"] is False
    assert stats["clients"] == 3
    counts = {(t["ns"], t["topic"]): t["subscribers"] for t in stats["topics"]}
    assert counts == {("default", "a"): 2, ("default", "b.*"): 1, ("other", "a"): 1}
    assert stats["metrics"]["sse_relay_streams_opened_total"] == 3


def test_stats_forget_who_left(relay, sse_connect):
    client = sse_connect(relay, "a", "b")
    keep = sse_connect(relay, "a")
    assert relay.subscribers("a") == 2
    client.close()
    wait_until(lambda: relay.subscribers("a") == 1, "one subscriber")
    assert relay.subscribers("b") == 0
    keep.close()
    wait_until(lambda: relay.subscribers("a") == 0, "none")


def test_stats_with_many_topics_and_strange_names(relay, sse_connect):
    names = ['q"uote', "back\\slash", "\u00e9", "<b", *[f"t{i}" for i in range(50)]]
    sse_connect(relay, *names)
    topics = {t["topic"] for t in relay.stats()["topics"]}
    assert {'q"uote', "back\\slash", "\u00e9", "t49"} <= topics
    parse_prometheus(relay.get("/metrics").text)


def test_node_name_in_metrics_is_escaped(redis, relay_factory):
    relay = relay_factory(node='a"b\\c')
    parse_prometheus(relay.get("/metrics").text)
    assert relay.stats()["node"] == 'a"b\\c'


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/stats", "/"])
def test_pages_are_not_cached_by_proxies(relay, path):
    answer = relay.get(path)
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) == len(answer.content)


def test_requests_while_streams_are_busy(redis, relay_factory, sse_connect, doors, publishing):
    relay = relay_factory()
    client = sse_connect(relay, "t")
    publisher = publishing(lambda n: doors.fcall("t", n))
    for _ in range(30):
        for path in ("/metrics", "/stats", "/ready", "/health"):
            assert relay.get(path).status_code == 200
    total = publisher.stop()
    assert client.wait_for(total).data == [str(n) for n in range(1, total + 1)]


# --- a hint about Redis's settings ---

HINT = "Redis reserves 4 KB for the log of each topic"


def start_and_reconnect(redis, relay_factory, url):
    relay = relay_factory(redis=url)
    redis.client().execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    wait_until(lambda: relay.log_text.count("Redis connection is back") >= 2, "the connections")
    relay.wait_ready()
    relay.publish("t", "x")  # by then it would have been said
    return relay


def test_a_redis_with_large_stream_nodes_is_told_once(redis, relay_factory):
    relay = start_and_reconnect(redis, relay_factory, redis.url)
    line = relay.wait_log(HINT)
    assert "level=info" in line and "stream-node-max-bytes 512" in line
    assert relay.log_text.count(HINT) == 1


def test_a_redis_with_small_stream_nodes_is_told_nothing(redis, relay_factory):
    admin = redis.client()
    admin.config_set("stream-node-max-bytes", 512)
    try:
        assert HINT not in start_and_reconnect(redis, relay_factory, redis.url).log_text
    finally:
        admin.config_set("stream-node-max-bytes", 4096)


@pytest.mark.parametrize("user", ["default", "relay"])
def test_a_redis_whose_settings_are_not_to_be_seen_is_left_alone(redis, relay_factory, user):
    """An account made for the relay is not even tried with: its refusal would stand in Redis's ACL LOG."""
    admin = redis.client()
    admin.execute_command("ACL", "SETUSER", user, "on", "+@all", "~*", "&*", "-config|get", *([">pw"] if user == "relay" else []))
    admin.acl_log_reset()
    try:
        url = redis.url if user == "default" else f"redis://relay:pw@127.0.0.1:{redis.port}"
        relay = start_and_reconnect(redis, relay_factory, url)
        assert HINT not in relay.log_text and not [li for li in relay.log if "level=error" in li]
        assert user == "default" or not admin.acl_log()
    finally:
        admin.execute_command("ACL", "SETUSER", "default", "+@all")
