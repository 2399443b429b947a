# SPDX-License-Identifier: Apache-2.0
"""A Redis Cluster whose slots are moved: a namespace is in one piece at any time (docs/protocol.md, 9)."""

import threading
import time

import pytest
import redis

from raw_http import assert_problem
from redis_cluster import Publisher, RedisCluster, error_text
from redis_server import RedisServer, free_port
from relay_process import wait_until

KEY = "sse:{default}"
SLOT = 5718  # CLUSTER KEYSLOT of KEY
SOURCE_FIRST = [(SLOT, 16383), (0, SLOT - 1)]  # so that the namespace's slot is the first to be moved
TOPICS = [f"t{i}" for i in range(40)]


@pytest.fixture
def cluster(tmp_path):
    with RedisCluster(tmp_path, SOURCE_FIRST) as c:
        yield c


def read_log(r, topic):
    return [int(entry.split("-")[0]) for entry, _ in r.xrange(f"{KEY}:log:{topic}")]


def keys_of_namespace(r):
    return sorted(r.scan_iter(f"{KEY}*", count=1000))


def test_a_reshard_under_publishers_splits_no_namespace(cluster):
    source, target = cluster.nodes
    publisher, ids, stop, failure = Publisher(cluster), [], threading.Event(), []

    def publish():
        try:
            while not stop.is_set():
                topic = TOPICS[len(ids) % len(TOPICS)]
                ids.append((topic, int(publisher.publish(KEY, "topic", topic, "data", "x"))))
                time.sleep(0.005)
        except Exception as e:  # noqa: BLE001: told by the test below
            failure.append(e)

    # Many keys, so that the move takes its time.
    for i in range(1500):
        publisher.publish(KEY, "topic", f"many.{i}", "data", "x" * 500)
    thread = threading.Thread(target=publish)
    thread.start()
    wait_until(lambda: len(ids) >= 50 or failure, "events before the move")
    cluster.reshard(source, target, 1)
    before = len(ids)
    wait_until(lambda: len(ids) >= before + 50 or failure, "events after the move")
    stop.set()
    thread.join()
    assert not failure, failure

    found = [i for _, i in ids]
    assert found == sorted(set(found)), "each publish has an id of its own, above all before"
    moved = target.client()
    for topic in TOPICS:
        assert read_log(moved, topic) == [i for t, i in ids if t == topic]
    assert keys_of_namespace(source.client()) == []
    assert cluster.open_slots() == []
    assert publisher.asked or publisher.tried_again, "the move was over before anybody noticed: the test shows nothing"


@pytest.mark.parametrize(
    "call",
    [
        ("sse_publish", 1, KEY, "topic", "a", "data", "x"),
        ("sse_position", 1, KEY),
        ("sse_since", 1, KEY, "cursor", "0"),
        ("sse_look", 1, KEY, "cursor", "0"),
        ("sse_drain", 1, KEY),
        ("sse_end", 1, KEY, "topic", "a"),
        ("sse_ended", 1, KEY, "topic", "a"),
        ("sse_due", 1, KEY),
        ("sse_ticket", 1, KEY, "a" * 64, "grant", "{}", "ttl", "1000", "until", "0"),
        ("sse_ticket_take", 1, KEY, "a" * 64, "connection", "1" * 32, "cursor", "0", "grace", "0"),
        ("sse_ticket_end", 1, KEY, "a" * 64, "connection", "1" * 32, "grace", "0", "unused", "0"),
        ("sse_revoke", 1, KEY, "sub", "42"),
        ("sse_revoked", 1, KEY),
    ],
    ids=lambda call: call[0],
)
def test_whoever_follows_ask_to_an_importing_node_is_told_to_try_again_and_makes_no_key(cluster, call):
    source, target = cluster.nodes
    Publisher(cluster).publish(KEY, "topic", "a", "data", "before")
    target.client().execute_command("CLUSTER", "SETSLOT", SLOT, "IMPORTING", cluster.id(source))
    source.client().execute_command("CLUSTER", "SETSLOT", SLOT, "MIGRATING", cluster.id(target))
    asking = target.client(single_connection_client=True)
    asking.execute_command("ASKING")
    with pytest.raises(redis.exceptions.ResponseError, match="is being moved to another node") as told:
        asking.execute_command("FCALL", *call)
    assert error_text(told.value).startswith("TRYAGAIN ")
    assert target.client().dbsize() == 0


def test_a_user_who_may_not_look_for_the_move_is_told_so(cluster):
    r = cluster.nodes[0].client()
    r.execute_command("ACL", "SETUSER", "backend", "on", ">pw", "~sse:*", "&*", "+@all", "-exists")
    backend = cluster.nodes[0].client(username="backend", password="pw")
    with pytest.raises(redis.exceptions.ResponseError, match="can't run this command|exists"):
        backend.fcall("sse_publish", 1, KEY, "topic", "a", "data", "x")
    assert r.dbsize() == 0


# --- a relay at a node of a cluster, which it does not follow ---


@pytest.mark.parametrize("info", [True, False], ids=["", "INFO is forbidden"])
@pytest.mark.parametrize("node", [0, 1], ids=["the namespace is here", "it is elsewhere"])
def test_a_relay_at_a_node_of_a_cluster_is_not_ready_and_says_why(cluster, relay_factory, sse_connect, node, info):
    """Also where all its keys are on that node for now: the next failover or reshard would leave it with nothing."""
    server = cluster.nodes[node]
    rules = [] if info else ["-info"]
    server.client().execute_command("ACL", "SETUSER", "relay", "on", ">pw", "~sse:*", "&*", "+@all", *rules)
    relay = relay_factory({"redis": f"redis://relay:pw@127.0.0.1:{server.port}"}, ready=False)
    wait_until(lambda: relay.ready()[1].get("status") == "redis-cluster", "redis-cluster")
    status, body = relay.ready()
    assert (status, body["redis"]) == (503, "cluster")
    line = relay.wait_log("this Redis is in cluster mode")
    assert "level=error" in line and "redis+cluster://" in line and "redis+sentinel://" in line

    begin = time.monotonic()
    for body in ({"topic": "t", "data": "x"}, [{"topic": "t", "data": n} for n in range(3)]):
        answer = relay.post("/publish", json=body)
        assert "cluster mode" in assert_problem(answer, 503)
        assert answer.json()["published"] is False
    assert time.monotonic() - begin < 4, "at once: it would not help to wait"
    held = sse_connect(relay, "t", wait=False).wait_head()
    assert held.status == 200 and relay.get("/stats").json()["redis"]["status"] == "cluster"
    time.sleep(3.5)  # it is asked again every three seconds
    assert relay.log_text.count("this Redis is in cluster mode") == 1
    assert relay.ready()[0] == 503 and not held.blocks
    assert not [line for line in relay.log if "level=error" in line and "cluster mode" not in line]


def test_a_relay_goes_on_once_redis_is_in_cluster_mode_no_more(tmp_path, relay_factory, sse_connect):
    args = ["--cluster-enabled", "yes", "--cluster-port", free_port()]
    with RedisServer(tmp_path / "redis", args=args) as server:
        relay = relay_factory({"redis": server.url}, ready=False)
        held = sse_connect(relay, "t", wait=False)
        relay.wait_log("this Redis is in cluster mode")
        server.stop()
        server.args = []
        server.start()
        relay.wait_ready()
        held.wait_connected()
        assert relay.publish("t", "x") == held.wait_for(1).ids[0]
