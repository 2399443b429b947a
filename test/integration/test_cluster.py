"""A Redis Cluster whose slots are moved: a namespace is in one piece at any time (docs/protocol.md, 9)."""

import threading
import time

import pytest
import redis

from redis_cluster import Publisher, RedisCluster

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
    while len(ids) < 50 and thread.is_alive():
        time.sleep(0.01)
    cluster.reshard(source, target, 1)
    before = len(ids)
    while len(ids) < before + 50 and thread.is_alive():
        time.sleep(0.01)
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
        ("sse_drain", 1, KEY),
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
    with pytest.raises(redis.exceptions.ResponseError, match="^TRYAGAIN.*is being moved to another node"):
        asking.execute_command("FCALL", *call)
    assert target.client().dbsize() == 0


def test_a_user_who_may_not_look_for_the_move_is_told_so(cluster):
    r = cluster.nodes[0].client()
    r.execute_command("ACL", "SETUSER", "backend", "on", ">pw", "~sse:*", "&*", "+@all", "-exists")
    backend = cluster.nodes[0].client(username="backend", password="pw")
    with pytest.raises(redis.exceptions.ResponseError, match="can't run this command|exists"):
        backend.fcall("sse_publish", 1, KEY, "topic", "a", "data", "x")
    assert r.dbsize() == 0
