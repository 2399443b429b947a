# SPDX-License-Identifier: Apache-2.0
"""Redis behind Sentinels: found, followed through failovers, and through Sentinels that are away."""

import signal

import pytest
import redis as redis_py

from redis_server import free_port
from relay_process import run_relay, wait_until
from sentinel_process import NAME, SentinelGroup


@pytest.fixture
def group_factory(tmp_path):
    groups = []

    def make(**kw):
        groups.append(SentinelGroup(tmp_path / f"group-{len(groups)}", **kw))
        return groups[-1]

    yield make
    for group in groups:
        group.stop()


@pytest.fixture
def group(group_factory):
    return group_factory().start()


def fcall(group, server, topic, data):
    """Publishes as a backend would; None where this server cannot."""
    try:
        return int(group.admin(server).fcall("sse_publish", 1, "sse:{default}", "topic", topic, "data", data))
    except (redis_py.RedisError, OSError):
        return None


def log_of(group, server, topic):
    """(id, data) of all that this server's log has."""
    entries = group.admin(server).xrange(f"sse:{{default}}:log:{topic}")
    return [(int(id.split("-")[0]), fields["data"]) for id, fields in entries]


def connected_to(relay, server):
    return any(c["name"] == "sse-relay-subscriber" for c in server.client().client_list())


def wait_connected_to(relay, server):
    wait_until(lambda: connected_to(relay, server), f"the relay to be at {server.port}")
    relay.wait_ready()


def test_primary_is_found_and_both_directions_work(group, relay_factory, sse_connect):
    relay = relay_factory(redis=group.url)
    client = sse_connect(relay, "t")
    id = relay.publish("t", "x")
    assert client.wait_for(1).ids == [id]
    assert log_of(group, group.servers[0], "t") == [(id, "x")]


@pytest.mark.parametrize("how", ["failover", "kill"])
def test_failover_under_live_streams(group_factory, relay_factory, sse_connect, publishing, how):
    """Nobody misses what the new primary's log has, nothing comes twice, ids only go up."""
    group = group_factory(down_after_ms=1500 if how == "kill" else 10000).start()
    relays = [relay_factory(redis=group.url) for _ in range(2)]
    streams = [sse_connect(r, *names) for r in relays for names in (["t"], ["*"], ["t", "u"])]
    accepted = []

    def post(n):
        answer = relays[int(n) % 2].post("/publish", json={"topic": "t", "data": n})
        assert answer.status_code in (200, 503), answer.text
        if answer.status_code == 200:
            accepted.append((int(answer.json()["id"]), n))
        return n

    publisher = publishing(post, pause=0.002)
    publisher.wait_for(100)
    old = group.primary()
    if how == "kill":
        old.kill()
        new = group.wait_primary(not_port=old.port)
    else:
        new = group.failover()
    for relay in relays:
        wait_connected_to(relay, new)
    count = publisher.count
    publisher.wait_for(count + 100)
    publisher.stop()
    last = relays[0].publish("t", "last")
    for s in streams:
        s.wait_for(lambda c: c.data and c.data[-1] == "last")
        assert s.ids == sorted(set(s.ids)), "ids repeat or go back"
        assert not s.closed
        have, logged = set(zip(s.ids, s.data)), set(log_of(group, new, "t"))
        # What this stream got from the old primary, which the new one never had: while both were written to, at
        # most some tens of milliseconds, ids of both lines may interleave.
        forked = max((id for id, _ in have - logged), default=0) if how == "failover" else 0
        assert all(id < forked for id, _ in logged - have), "the log has more"
    logged = log_of(group, new, "t")
    assert logged[-1] == (last, "last")
    assert [id for id, _ in accepted] == sorted({id for id, _ in accepted})
    assert len(logged) == len({data for _, data in logged}), "published twice"


def test_failover_under_the_streams_of_one_node(group, relay_factory, sse_connect, publishing):
    """All publishing goes through the node, so that no line forks: what the new log has is what was heard."""
    relay = relay_factory(redis=group.url)
    streams = [sse_connect(relay, *names) for names in (["t"], ["*"])]

    def post(n):
        assert relay.post("/publish", json={"topic": "t", "data": n}).status_code in (200, 503)

    publisher = publishing(post, pause=0.002)
    publisher.wait_for(50)
    new = group.failover()
    wait_connected_to(relay, new)
    publisher.wait_for(publisher.count + 50)
    publisher.stop()
    relay.publish("t", "last")
    for s in streams:
        s.wait_for(lambda c: c.data and c.data[-1] == "last")
        assert s.ids == sorted(set(s.ids))
        assert set(log_of(group, new, "t")) <= set(zip(s.ids, s.data))


def test_second_failover_back_to_the_first_primary(group, relay_factory, sse_connect):
    relay = relay_factory(redis=group.url)
    client = sse_connect(relay, "t")
    ids = [relay.publish("t", "1")]
    first = group.primary()
    for n in ("2", "3"):
        new = group.failover()
        wait_connected_to(relay, new)
        ids.append(relay.publish("t", n))
        group.wait_replicas()
        group.wait_sentinels()
    assert group.primary() is first
    assert client.wait_for(3).data == ["1", "2", "3"] and client.ids == ids
    assert ids == sorted(ids) and not client.gaps


def test_relay_starts_before_the_sentinels(group_factory, relay_factory, sse_connect):
    group = group_factory()
    relay = relay_factory(redis=group.url, ready=False)
    relay.wait_log("no Sentinel tells where the primary is")
    assert relay.ready()[0] == 503 and relay.get("/health").status_code == 200
    held = sse_connect(relay, "t", wait=False)
    group.start()
    relay.wait_ready()
    held.wait_connected()
    relay.publish("t", "x")
    assert held.wait_for(1).data == ["x"]
    assert sum("no Sentinel tells" in li for li in relay.log) < 3, "told once per burst"


def test_unknown_master_is_told_and_taken_once_it_is_known(group, relay_factory):
    url = group.url.replace(NAME, "other")
    relay = relay_factory(redis=url, ready=False)
    line = relay.wait_log("a Sentinel does not know this master")
    assert "master=other" in line
    assert relay.ready()[0] == 503
    for sentinel in group.sentinels:
        sentinel.ask("monitor", "other", "127.0.0.1", group.servers[0].port, 2)
    relay.wait_ready()


def test_sentinels_that_are_down_or_hang_are_passed_over(group, relay_factory):
    dead, hung, good = group.sentinels
    dead.kill()
    hung.process.send_signal(signal.SIGSTOP)
    try:
        relay = relay_factory(redis=group.url)
        relay.publish("t", "x")
    finally:
        hung.process.send_signal(signal.SIGCONT)


def test_further_sentinels_are_learned(group, relay_factory):
    """Given one of three, it survives the loss of that one, and a failover after it."""
    relay = relay_factory(redis=group.url_of(group.sentinels[:1]))
    wait_until(lambda: relay.ready()[0] == 200)
    group.sentinels[0].kill()
    new = group.failover()
    wait_connected_to(relay, new)
    relay.publish("t", "x")


def test_passwords_of_redis_and_of_sentinels(group_factory, relay_factory, tmp_path, sse_connect):
    group = group_factory(password="re:d@is", lines=["requirepass sentinel-secret"], sentinels=1)
    group.start_redis()
    for s in group.sentinels:
        s.start()
    redis_file, sentinel_file = tmp_path / "redis.secret", tmp_path / "sentinel.secret"
    redis_file.write_text("re:d@is\n")
    sentinel_file.write_text("sentinel-secret\n")
    config = {"redis": group.url, "redis.password_file": redis_file, "sentinel.password_file": sentinel_file}
    relay = relay_factory(config)
    client = sse_connect(relay, "t")
    relay.publish("t", "x")
    client.wait_for(1)
    wrong = relay_factory({**config, "sentinel.password_file": redis_file}, ready=False)
    assert "WRONGPASS" in wrong.wait_log("no Sentinel tells where the primary is")
    for r in (relay, wrong):
        assert "re:d@is" not in r.log_text and "sentinel-secret" not in r.log_text


def test_sentinels_that_name_a_replica_are_not_believed(group, relay_factory):
    """A Sentinel that is behind names what has become a replica: the relay waits until it is none."""
    replica = group.replicas()[0]
    for sentinel in group.sentinels:
        sentinel.kill()
    lying = group_factory_sentinel(group, replica.port)
    try:
        relay = relay_factory(redis=group.url_of([lying]), ready=False)
        relay.wait_log("this Redis is no primary, its role is slave")
        assert relay.ready()[0] == 503
        group.admin(replica).replicaof("NO", "ONE")
        relay.wait_ready()
    finally:
        lying.stop()


def group_factory_sentinel(group, port):
    from sentinel_process import Sentinel

    # Nothing that it could mend: it never finds anything down, and has no majority.
    return Sentinel(group.dir / "lying", port, 9, 60000).start()


def test_bad_urls_are_refused():
    port = free_port()
    for url in (
        f"redis+sentinel://127.0.0.1:{port}",
        f"redis+sentinel://127.0.0.1:{port}/",
        f"redis+sentinel://127.0.0.1:{port},/m",
        f"redis+sentinel://127.0.0.1:{port}/m/x",
    ):
        done = run_relay("--redis", url)
        assert done.returncode == 2 and "redis+sentinel://" in done.stderr, done.stderr
