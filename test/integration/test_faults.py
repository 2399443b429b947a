# SPDX-License-Identifier: Apache-2.0
"""Redis away, cut, emptied, refusing; nodes killed. Clients end with 1..N, or are told."""

import re
import socket
import threading

import pytest

from accounting import account
from lua_rig import LIBRARY
from relay_process import wait_until


def numbers(total):
    return [str(n) for n in range(1, total + 1)]


# --- Redis is away ---


def test_redis_down_is_told_and_recovers(redis, relay_factory):
    relay = relay_factory()
    status, body = relay.ready()
    assert (status, body["status"], body["redis"]) == (200, "ready", "up")
    redis.kill()

    def told():  # the loss of one connection may be noticed before that of the others
        status, body = relay.ready()
        return (status, body["status"], body["redis"]) == (503, "redis-down", "down")

    wait_until(told, "/ready to tell")
    assert relay.get("/health").status_code == 200
    assert relay.get("/metrics").status_code == 200
    assert relay.stats()["redis"]["status"] == "down"
    redis.start()
    relay.wait_ready()
    assert relay.metric("sse_relay_redis_reconnects_total") >= 1


def test_new_stream_while_redis_is_down_is_held_and_then_served(redis, relay_factory, sse_connect):
    relay = relay_factory()
    redis.kill()
    wait_until(lambda: relay.ready()[0] == 503, "redis-down")
    held = [sse_connect(relay, "t", wait=False) for _ in range(5)]
    with_cursor = sse_connect(relay, "t", wait=False, last_event_id="not-ours")
    for client in [*held, with_cursor]:
        client.wait_for(lambda c: c.raw.startswith(b":ok\nretry: "))
        assert client.status == 200
        assert not client.closed
    redis.start()
    for client in held:
        client.wait_connected()
    relay.publish("t", "back")
    for client in held:
        assert client.wait_for(1).data == ["back"] and not client.gaps
    with_cursor.wait_for(1)
    assert [g["reason"] for g in with_cursor.gaps] == ["unknown-id"]


def test_resume_while_redis_is_down(redis, relay_factory, sse_connect, doors):
    relay = relay_factory()
    ids = doors.many("t", numbers(5))
    doors.redis.save()
    redis.kill()
    wait_until(lambda: relay.ready()[0] == 503, "redis-down")
    client = sse_connect(relay, "t", last_event_id=ids[1], wait=False)
    client.wait_head()
    redis.start()
    assert client.wait_for(3).data == ["3", "4", "5"]
    assert not client.gaps


def test_relay_that_starts_before_redis(redis, relay_factory, sse_connect):
    redis.kill()
    relay = relay_factory(ready=False)
    assert relay.get("/health").status_code == 200
    assert relay.ready()[0] == 503
    client = sse_connect(relay, "t", wait=False)
    redis.start()
    relay.wait_ready()
    client.wait_connected()
    relay.publish("t", "x")
    assert client.wait_for(1).data == ["x"]


def test_heartbeats_go_on_while_redis_is_down(redis, relay_factory, sse_connect):
    relay = relay_factory(heartbeat="1s")
    client = sse_connect(relay, "t")
    redis.kill()
    wait_until(lambda: relay.ready()[0] == 503, "redis-down")
    seen = len(client.raw)
    client.wait_for(lambda c: len(c.raw) >= seen + 4)
    assert not client.closed


def test_existing_streams_survive_a_restart_that_keeps_the_data(redis, relay_factory, sse_connect, doors):
    relay = relay_factory()
    clients = [sse_connect(relay, *names) for names in (["t"], ["*"], ["t", "x"])]
    first = doors.many("t", ["1", "2", "3"])
    clients[0].wait_for(3)
    redis.restart(keep_data=True)
    doors.many("t", ["4", "5"])  # before or after the relay is back: the log has them
    relay.wait_ready()
    last = relay.publish("t", "6")
    for client in clients:
        assert client.wait_for(6).data == numbers(6)
        assert not client.gaps and not client.closed
        assert client.ids[:3] == first and client.ids[5] == last


def test_redis_restarted_empty_under_live_streams(redis, relay_factory, sse_connect, doors):
    relay = relay_factory()
    clients = [sse_connect(relay, *names) for names in (["t"], ["*"])]
    old = doors.many("t", ["1", "2", "3"])
    for client in clients:
        client.wait_for(3)
    redis.restart(keep_data=False)
    relay.wait_ready()
    new = [relay.publish("t", "4"), relay.publish("t", "5")]
    for client in clients:
        client.wait_for(5)
        assert client.data[:5] == numbers(5)
        moves = client.all_ids
        assert moves == sorted(moves) and client.ids[:5] == [*old, *new]
        assert [g["reason"] for g in client.gaps] == ["redis-lost"]
        again = sse_connect(relay, "t", last_event_id=client.last_event_id)
        mark = relay.publish("t", "mark", ephemeral=True)
        assert mark is None and again.wait_for(1).data == ["mark"] and not again.gaps
        again.close()


def test_ids_go_up_over_an_empty_restart(redis, relay_factory):
    relay = relay_factory()
    before = [relay.publish("t", n) for n in range(5)]
    redis.restart(keep_data=False)
    relay.wait_ready()
    after = [relay.publish("t", n) for n in range(5)]
    assert before + after == sorted(set(before + after))


# --- Redis connections are cut ---


@pytest.mark.parametrize("kinds", [["pubsub"], ["normal"], ["pubsub", "normal"]], ids="+".join)
def test_cut_redis_connections_while_publishing(redis, relay_factory, sse_connect, doors, publishing, kinds):
    relays = [relay_factory() for _ in range(2)]
    streams = [
        sse_connect(relays[i % 2], *names)
        for i, names in enumerate([["t"], ["t"], ["*"], [">"], ["t", "u", "*"], ["u.>", "t"]])
    ]

    def cut(n):  # in the publisher's own connection, which is spared
        if n % 50 == 0:
            for kind in kinds:
                doors.redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    publisher = publishing(lambda n: doors.fcall("t", n), total=400, pause=0.001, every=cut)
    publisher.finish()
    for s in streams:
        s.wait_for(400, timeout=60)
        assert s.data == numbers(400)
        assert s.ids == publisher.ids
        assert not s.gaps and not s.closed
    assert sum(r.metric("sse_relay_redis_reconnects_total") for r in relays) > 0


def test_cut_while_many_topics_are_subscribed(redis, relay_factory, sse_connect, doors):
    """Subscribed again in batches, all of them; what came meanwhile is read from their logs."""
    relay = relay_factory()
    names = [f"room.{i}" for i in range(300)]
    streams = [sse_connect(relay, *names[i : i + 60]) for i in range(0, 300, 60)]
    for round in range(3):
        doors.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        for name in names:
            doors.fcall(name, f"{round} {name}")
    for i, s in enumerate(streams):
        s.wait_for(180)
        want = [f"{round} {n}" for round in range(3) for n in names[i * 60 : i * 60 + 60]]
        assert s.data == want and not s.gaps


def test_publish_is_never_done_twice_when_the_connection_is_cut(redis, relay_factory, doors, publishing):
    """POST while its Redis connection is cut: 200 or 503, and what got 503 was not published (or once, unheard)."""
    relay = relay_factory()
    outcomes = []

    def post(n):
        answer = relay.post("/publish", json={"topic": "t", "data": n})
        outcomes.append(answer.status_code)
        if answer.status_code == 200:
            return int(answer.json()["id"])

    def cut(n):
        if n % 20 == 0:
            doors.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    publishing(post, total=200, every=cut).finish()
    relay.wait_ready()
    logged = [f["data"] for _, f in doors.redis.xrange(doors.key("default", "log", "t"))]
    assert len(logged) == len(set(logged)), "published twice"
    accepted = {str(n) for n, status in enumerate(outcomes, 1) if status == 200}
    assert accepted <= set(logged)
    assert set(outcomes) <= {200, 503}


# --- a node dies ---


@pytest.mark.parametrize("names", [["t"], ["*", "u"]], ids=["topic", "pattern"])
def test_kill_9_of_a_node_under_50_clients(redis, relay_factory, swarm, doors, publishing, names):
    nodes = [relay_factory(retry="100ms"), relay_factory(retry="100ms")]
    s = swarm(nodes, 50, *names, resume=True).wait_connected()
    assert nodes[0].stats()["clients"] > 0
    publisher = publishing(lambda n: doors.fcall("t", n), total=1000, pause=0.001)
    publisher.wait_for(300)
    nodes[0].kill()
    publisher.finish()
    s.wait(lambda c: len(c.data) >= 1000)
    for c in s.clients:
        assert c.data == numbers(1000)
        assert c.ids == publisher.ids
        assert not c.gaps
    moved = sum(len(c.starts) > 1 for c in s.clients)
    assert moved >= 20, "too few clients lost their node for this to mean anything"
    nodes[1].wait_clients(50)


def test_nodes_killed_in_turn(redis, relay_factory, swarm, doors, publishing):
    """The node that is left is killed, too, once another stands in."""
    nodes = [relay_factory(retry="100ms") for _ in range(3)]
    s = swarm(nodes, 20, "t", resume=True).wait_connected()
    publisher = publishing(lambda n: doors.fcall("t", n), total=600, pause=0.001)
    for i in (0, 1):
        publisher.wait_for(200 * (i + 1))
        nodes[i].kill()
    publisher.finish()
    s.wait(lambda c: len(c.data) >= 600)
    assert all(c.data == numbers(600) and not c.gaps for c in s.clients)


# --- Redis refuses ---


def test_out_of_memory_keeps_streams_alive(redis, relay_factory, sse_connect, doors):
    relay = relay_factory()
    ids = doors.many("t", ["1", "2"])
    doors.redis.config_set("maxmemory", 1)
    live = sse_connect(relay, "t")
    resumed = sse_connect(relay, "t", last_event_id=ids[0])
    assert resumed.wait_for(1).data == ["2"]
    doors.redis.config_set("maxmemory", 0)
    doors.fcall("t", "3")
    assert live.wait_for(1).data == ["3"]
    assert resumed.wait_for(2).data == ["2", "3"]


def make_user(server, name, *rules):
    server.client().execute_command(
        "ACL", "SETUSER", name, "reset", "on", ">secret", "~*", "&*", "+@all", *rules
    )
    return f"redis://{name}:secret@127.0.0.1:{server.port}"


def test_acl_forbids_function_load_and_nothing_is_loaded(redis, relay_factory, sse_connect):
    url = make_user(redis, "strict", "-function|load")
    relay = relay_factory(redis=url, ready=False)
    line = relay.wait_log(r"FUNCTION LOAD")
    assert "sse_relay" in relay.log_text, line
    assert relay.get("/health").status_code == 200
    redis.client().function_load(LIBRARY.read_text(), replace=True)
    relay.wait_ready()
    client = sse_connect(relay, "t")
    relay.publish("t", "x")
    assert client.wait_for(1).data == ["x"]


def test_acl_forbids_function_load_but_it_was_loaded_by_hand(redis, relay_factory, sse_connect):
    redis.client().function_load(LIBRARY.read_text())
    url = make_user(redis, "strict", "-function|load")
    relay = relay_factory(redis=url)
    client = sse_connect(relay, "t")
    relay.publish("t", "x")
    assert client.wait_for(1).data == ["x"]


def test_wrong_password_is_told_without_showing_it(redis, relay_factory):
    make_user(redis, "someone")
    relay = relay_factory(redis=f"redis://someone:hunter2@127.0.0.1:{redis.port}", ready=False)
    relay.wait_log(r"(?i)WRONGPASS|password|auth")
    assert relay.ready()[0] == 503
    assert "hunter2" not in relay.log_text


def test_a_newer_library_is_not_replaced(redis, relay_factory, sse_connect, doors):
    text = LIBRARY.read_text()
    newer, count = re.subn(r"local VERSION = \d+", "local VERSION = 9999", text)
    assert count == 1
    doors.redis.function_load(newer)
    relay = relay_factory()
    client = sse_connect(relay, "t")
    relay.publish("t", "x")
    client.wait_for(1)
    assert doors.redis.fcall("sse_version", 0) == 9999


def test_an_older_library_is_replaced(redis, relay_factory, doors):
    current = int(re.search(r"local VERSION = (\d+)", LIBRARY.read_text())[1])
    doors.redis.function_load(re.sub(r"local VERSION = \d+", "local VERSION = 0", LIBRARY.read_text()))
    relay_factory()
    assert doors.redis.fcall("sse_version", 0) == current


def test_library_flushed_under_a_running_relay_comes_back(redis, relay_factory, doors, sse_connect):
    relay = relay_factory()
    client = sse_connect(relay, "t")
    doors.redis.function_flush()

    def publishes():
        return relay.post("/publish", json={"topic": "t", "data": "x"}).status_code == 200

    wait_until(publishes, "a publish after FUNCTION FLUSH")
    client.wait_for(1)


class OldRedis:
    """Answers like a Redis 6.2, as far as a relay comes."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection):
        stream = connection.makefile("rb")
        try:
            while line := stream.readline():
                args = []
                for _ in range(int(line[1:])):
                    size = int(stream.readline()[1:])
                    args.append(stream.read(size + 2)[:-2].decode())
                connection.sendall(self._answer([a.upper() for a in args]))
        except (OSError, ValueError):
            pass

    @staticmethod
    def _answer(args):
        if args[0] == "INFO":
            text = b"# Server\r\nredis_version:6.2.14\r\nredis_mode:standalone\r\n"
            return b"$%d\r\n%s\r\n" % (len(text), text)
        if args[0] == "PING":
            return b"+PONG\r\n"
        if args[0] in ("SELECT", "AUTH", "CLIENT"):
            return b"+OK\r\n"
        if args[0] in ("SUBSCRIBE", "PSUBSCRIBE"):
            kind, name = args[0].lower().encode(), args[1].lower().encode()
            return b"*3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:1\r\n" % (len(kind), kind, len(name), name)
        name = args[0].lower().encode()
        return b"-ERR unknown command `%s`, with args beginning with: \r\n" % name


def test_redis_older_than_7_is_named(relay_factory):
    old = OldRedis()
    relay = relay_factory(redis=f"redis://127.0.0.1:{old.port}", ready=False)
    relay.wait_log(r"Redis 7|older than 7|7\.0")
    assert relay.get("/health").status_code == 200
    assert relay.ready()[0] == 503
    old.socket.close()


# --- ways to reach Redis ---


def test_unix_socket(redis, relay_factory, sse_connect):
    relay = relay_factory(redis=f"unix://{redis.unix}")
    client = sse_connect(relay, "t")
    relay.publish("t", "x")
    assert client.wait_for(1).data == ["x"]


def test_password_and_database(redis, relay_factory, sse_connect):
    redis.client().config_set("requirepass", "p@ss:w/rd")
    redis.password = "p@ss:w/rd"
    relay = relay_factory(redis=f"redis://:p%40ss%3Aw%2Frd@127.0.0.1:{redis.port}/3")
    client = sse_connect(relay, "t")
    relay.publish("t", "x")
    assert client.wait_for(1).data == ["x"]
    r = redis.client(db=3, password="p@ss:w/rd")
    assert r.exists("sse:{default}:log:t")
    assert "p@ss:w/rd" not in relay.log_text and "p%40ss" not in relay.log_text


def test_gap_accounting_over_a_cut_and_a_trim(redis, relay_factory, sse_connect, doors):
    """What was published while the relay could not hear, and trimmed before it could again: one exact gap."""
    relay = relay_factory()
    client = sse_connect(relay, "t")
    ids = doors.many("t", numbers(3))
    client.wait_for(3)
    log = doors.key("default", "log", "t")
    pipe = doors.redis.pipeline(transaction=True)  # nobody comes in between
    pipe.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    for n in range(4, 24):
        pipe.fcall("sse_publish", 1, doors.key(), "topic", "t", "data", n)
    pipe.xtrim(log, maxlen=5, approximate=False)
    ids += [int(i) for i in pipe.execute()[1:-1]]
    client.wait_for(8)
    account(client, ids, 0, 1, "trimmed")
    assert client.data == [*numbers(3), *[str(n) for n in range(19, 24)]]


def test_a_namespace_that_cannot_be_repaired_does_not_hold_up_the_others(redis, relay_factory, sse_connect, doors):
    """Somebody else's data where its index should be: its events come once that is gone, those of others at once."""
    relay = relay_factory()
    bad = sse_connect(relay, "t", params={"ns": "bad"})
    good = sse_connect(relay, "t", params={"ns": "good"})
    for ns in ("bad", "good"):
        doors.redis.fcall("sse_publish", 1, doors.key(ns), "topic", "t", "data", "1")
    bad.wait_for(1), good.wait_for(1)
    index = doors.key("bad", "topics")
    kept = redis.client(decode_responses=False).dump(index)
    doors.spoil(index)
    doors.redis.client_kill_filter(_type="pubsub")
    wait_until(lambda: relay.metric("sse_relay_redis_reconnects_total") >= 1, "the reconnect")
    live = doors.redis.fcall("sse_publish", 1, doors.key("good"), "topic", "t", "data", "2")
    good.wait_for(2)
    assert good.ids[-1] == int(live)
    redis.client(decode_responses=False).restore(index, 0, kept, replace=True)
    later = doors.redis.fcall("sse_publish", 1, doors.key("bad"), "topic", "t", "data", "3")
    bad.wait_for(lambda c: "3" in c.data)
    assert bad.ids[-1] == int(later) and not bad.gaps
