# SPDX-License-Identifier: Apache-2.0
"""A primary that is demoted, or not a primary at all, behind an address that stays the same."""

import threading

import pytest

from conftest import Doors
from redis_server import RedisServer
from relay_process import wait_until
from sentinel_process import poll
from tcp_proxy import TcpProxy


@pytest.fixture
def pair(tmp_path):
    """Two servers, the second a replica of the first."""
    servers = [
        RedisServer(tmp_path / f"redis-{i}", args=["--repl-diskless-sync-delay", "0"]).start() for i in range(2)
    ]
    follow(servers[1], servers[0])
    yield servers
    for server in servers:
        server.stop()


def follow(replica, primary):
    admin = replica.client()
    admin.replicaof("127.0.0.1", primary.port)
    poll(lambda: admin.info("replication")["master_link_status"] == "up", "the replica to be in step")


def cut(admin):
    """The relays' connections."""
    for connection in admin.client_list():
        if connection["name"].startswith("sse-relay-"):
            admin.client_kill_filter(_id=connection["id"])


def reasons(relay):
    return [li for li in relay.log if "lost, reconnecting" in li or "cannot reach Redis" in li]


def test_replica_is_not_used_until_it_is_promoted(pair, relay_factory, sse_connect):
    primary, replica = pair
    relay = relay_factory(redis=replica.url, ready=False)
    relay.wait_log("this Redis is no primary, its role is slave")
    assert relay.ready()[0] == 503
    client = sse_connect(relay, "t", wait=False)
    assert relay.post("/publish", json={"topic": "t", "data": "x"}).status_code == 503
    replica.client().replicaof("NO", "ONE")
    relay.wait_ready()
    client.wait_connected()
    relay.publish("t", "y")
    assert client.wait_for(1).data == ["y"]


def test_demotion_is_noticed_and_undone(pair, relay_factory, sse_connect):
    """REPLICAOF under a relay with a direct address: not ready, clients kept, and all is well after REPLICAOF NO ONE."""
    primary, other = pair
    relay = relay_factory(redis=primary.url)
    client = sse_connect(relay, "t")
    ids = [relay.publish("t", "1")]
    poll(lambda: other.client().xlen("sse:{default}:log:t") == 1, "the replica to be in step")
    other.client().replicaof("NO", "ONE")
    follow(primary, other)
    wait_until(lambda: relay.ready()[0] == 503, "/ready to tell")
    assert any("primary" in li for li in reasons(relay)), relay.log_text
    assert relay.post("/publish", json={"topic": "t", "data": "refused"}).status_code == 503
    ids.append(int(other.client().fcall("sse_publish", 1, "sse:{default}", "topic", "t", "data", "2")))
    poll(lambda: primary.client().xlen("sse:{default}:log:t") == 2, "the replica to be in step")
    primary.client().replicaof("NO", "ONE")
    relay.wait_ready()
    ids.append(relay.publish("t", "3"))
    assert client.wait_for(3).data == ["1", "2", "3"]
    assert client.ids == ids == sorted(ids) and not client.gaps and not client.closed


def test_what_a_second_primary_took_is_told_to_those_who_are_past_it(pair, relay_factory, sse_connect):
    """The new one gave an id below the last one of the old one. Also where the topic's tail was dropped meanwhile, because
    one of the patterns that bring it went."""
    old, new = (server.client() for server in pair)
    proxy = TcpProxy(pair[0].port)

    def publish(server, data):
        return int(server.fcall("sse_publish", 1, "sse:{default}", "topic", "a.b", "data", data))

    try:
        relay = relay_factory(redis=f"redis://127.0.0.1:{proxy.port}")
        client, other = sse_connect(relay, "a.*"), sse_connect(relay, "*.b")
        publish(old, "both")
        client.wait_for(1)
        poll(lambda: new.xlen("sse:{default}:log:a.b") == 1, "the replica to be in step")
        new.replicaof("NO", "ONE")
        missed = publish(new, "missed")
        publish(old, "forgotten")
        client.wait_for(2)
        assert old.pubsub_numpat() == 2
        other.close()
        wait_until(lambda: old.pubsub_numpat() == 1, "the other pattern to go", timeout=30)
        proxy.target = ("127.0.0.1", pair[1].port)
        cut(old)
        wait_until(lambda: new.pubsub_numpat() == 1, "the relay to move")
        publish(new, "after")
        client.wait_for(3)
    finally:
        proxy.close()
    assert client.data == ["both", "forgotten", "after"]
    assert [(int(g["from"]), int(g["to"])) for g in client.gaps] == [(missed - 1, missed)]


def test_an_event_on_two_topics_that_a_page_brought_is_no_news_after_a_failover(pair, relay_factory, sse_connect):
    old, new = (server.client() for server in pair)
    proxy = TcpProxy(pair[0].port)

    def publish(server, data, *topics):
        named = [word for topic in topics for word in ("topic", topic)]
        return int(server.fcall("sse_publish", 1, "sse:{default}", *named, "data", data))

    try:
        relay_factory(redis=pair[0].url).terminate()  # the functions are there
        first = publish(old, "first", "b")
        publish(old, "both", "a", "b")
        relay = relay_factory(redis=f"redis://127.0.0.1:{proxy.port}")
        client = sse_connect(relay, ">", last_event_id=first)
        publish(old, "live", "a")
        assert client.wait_for(2).data == ["both", "live"]
        poll(lambda: new.xlen("sse:{default}:log:a") == 2, "the replica to be in step")
        new.replicaof("NO", "ONE")
        proxy.target = ("127.0.0.1", pair[1].port)
        cut(old)
        wait_until(lambda: new.pubsub_numpat() == 1, "the relay to move")
        publish(new, "after", "b")
        client.wait_for(3)
    finally:
        proxy.close()
    assert client.data == ["both", "live", "after"] and client.gaps == []


def test_readonly_answer_drops_all_connections(pair, relay_factory):
    """Also where no blocked command tells of the demotion: what is refused as READONLY does."""
    primary, other = pair
    relay = relay_factory(redis=primary.url, **{"inbox.namespaces": ""})
    admin = primary.client()

    def ours():
        return {c["id"] for c in admin.client_list() if c["name"].startswith("sse-relay-")}

    before = ours()
    assert len(before) == 3
    other.client().replicaof("NO", "ONE")
    follow(primary, other)
    wait_until(lambda: relay.post("/publish", json={"topic": "t", "data": "x"}).status_code == 503)
    wait_until(lambda: relay.ready()[0] == 503, "/ready to tell")
    wait_until(lambda: not ours() & before, "all three to be dropped")
    primary.client().replicaof("NO", "ONE")
    relay.wait_ready()


def test_acl_without_role_still_works(redis, relay_factory):
    redis.client().execute_command("ACL", "SETUSER", "norole", "on", ">p", "~*", "&*", "+@all", "-role")
    relay = relay_factory(redis=f"redis://norole:p@127.0.0.1:{redis.port}")
    relay.publish("t", "x")


def test_counter_is_raised_before_anything_else(redis, relay_factory, sse_connect):
    """After a connect the first function called is sse_position with what was seen: not only once all is subscribed."""
    relay = relay_factory()
    client = sse_connect(relay, "t")
    id = relay.publish("t", "x")
    client.wait_for(1)
    seen, done = [], threading.Event()
    with redis.client().monitor() as monitor:

        def read():
            for entry in monitor.listen():
                seen.append(entry["command"])
                if "sse_version" in entry["command"]:
                    done.set()
                    return

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        admin = redis.client()
        cut(admin)
        assert done.wait(20), seen
        thread.join()
    calls = [c for c in seen if c.startswith(("FCALL", "INFO"))]
    assert calls[0].startswith("FCALL sse_position 1 sse:{default}") and calls[0].endswith(f"seen {id}"), calls


def test_redis_that_comes_back_older_and_with_a_slower_clock(redis, relay_factory, sse_connect):
    """Restored from before the last events, which had ids an hour ahead: ids go on above them."""
    relay = relay_factory()
    client = sse_connect(relay, "t")
    relay.publish("t", "1")
    admin = redis.client()
    admin.save()
    admin.incrby("sse:{default}:seq", 3_600_000_000)
    ahead = relay.publish("t", "2")
    client.wait_for(2)
    redis.kill()
    redis.start()
    relay.wait_ready()
    after = relay.publish("t", "3")
    assert after > ahead
    client.wait_for(lambda c: "3" in c.data)
    assert client.all_ids == sorted(client.all_ids)


def test_connections_that_move_one_by_one_hide_no_lower_ids(pair, relay_factory, sse_connect):
    """Behind an address that stays the same: the subscriber still hangs on the old primary when commands go to the new."""
    old, new = pair
    proxy = TcpProxy(old.port)
    try:
        relay = relay_factory(redis=f"redis://127.0.0.1:{proxy.port}", **{"redis.probe": "300ms"})
        both, one = sse_connect(relay, "a", "b"), sse_connect(relay, "b")
        doors = Doors(old.client())
        prev = doors.fcall("b", "1")
        one.wait_for(1)
        poll(lambda: new.client().zscore(doors.key("default", "topics"), "b") == prev, "the replica to have it")
        new.client().replicaof("no", "one")
        low = doors.redis.incr(doors.key("default", "seq"))
        high = doors.fcall("a", "2")  # the new one never has it
        both.wait_for(2)
        Doors(new.client()).silently("b", data="3", id=low)
        proxy.target = ("127.0.0.1", new.port)
        proxy.cut("commands")
        both.wait_for(lambda c: c.gaps)
        assert [(int(g["from"]) < low, g["to"], g["id"]) for g in both.gaps] == [(True, str(low), None)]
        assert one.wait_for(2).data == ["1", "3"] and not one.gaps
        assert low < high
        relay.wait_ready()
        Doors(new.client()).fcall("a", "4")
        assert both.wait_for(3).data == ["1", "2", "4"]
    finally:
        proxy.close()


def test_loading_is_waited_for(tmp_path, relay_factory):
    """A Redis that reads its data answers LOADING: no error is logged, it is asked again."""
    args = ["--enable-debug-command", "yes", "--key-load-delay", "5", "--loading-process-events-interval-bytes", "1024"]
    with RedisServer(tmp_path / "redis", args=args) as server:
        server.client().execute_command("DEBUG", "POPULATE", 40000, "filler", 100)
        server.client().save()
        server.kill()
        server._spawn()  # not start(), which waits until it is loaded
        relay = relay_factory(redis=server.url, ready=False)
        relay.wait_log("LOADING")
        assert relay.ready()[0] == 503
        relay.wait_ready()
        assert "level=error" not in relay.log_text
        relay.publish("t", "x")
