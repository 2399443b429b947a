"""The configurations in deploy/ stream correctly: at once, through a failover, and back."""

import pytest

from relay_process import wait_until


@pytest.fixture(params=["haproxy", "nginx"])
def front(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def nodes(redis, relay_factory):
    return [relay_factory(retry="100ms", node=f"node{i}") for i in range(2)]


def test_events_pass_one_by_one(nodes, front, sse_connect, doors):
    """Each is seen before the next is published: nothing on the way collects them."""
    client = sse_connect(front(*nodes), "t")
    assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
    for n in range(1, 21):
        doors.fcall("t", n)
        assert client.wait_for(n).data[-1] == str(n)


def test_heartbeats_pass(redis, relay_factory, front, sse_connect):
    nodes = [relay_factory(heartbeat="1s") for _ in range(2)]
    client = sse_connect(front(*nodes), "t")
    seen = len(client.raw)
    client.wait_for(lambda c: c.raw[seen:].startswith(b":\n"))


def test_publish_and_resume_through_the_proxy(nodes, front, sse_connect, doors):
    base = front(*nodes)
    first = sse_connect(base, "t")
    doors.many("t", ["1", "2"])
    first.wait_for(2)
    first.close()
    doors.many("t", ["3", "4"])
    again = sse_connect(base, "t", last_event_id=first.last_event_id)
    assert again.wait_for(2).data == ["3", "4"] and not again.gaps


def test_a_client_that_leaves_is_noticed_behind_the_proxy(nodes, front, sse_connect):
    base = front(*nodes)
    clients = [sse_connect(base, "t") for _ in range(6)]
    assert sum(n.stats()["clients"] for n in nodes) == 6
    for client in clients:
        client.close()
    wait_until(lambda: sum(n.stats()["clients"] for n in nodes) == 0, "no clients")


def test_kill_9_behind_the_proxy(nodes, front, swarm, doors, publishing):
    s = swarm([front(*nodes)], 30, "t", resume=True).wait_connected()
    publisher = publishing(lambda n: doors.fcall("t", n), total=600, pause=0.002)
    publisher.wait_for(200)
    nodes[0].kill()
    publisher.finish()
    s.wait(lambda c: len(c.data) >= 600)
    for c in s.clients:
        assert c.data == [str(n) for n in range(1, 601)] and not c.gaps
    assert nodes[1].stats()["clients"] == 30


def test_drain_behind_the_proxy(nodes, front, swarm, doors, publishing):
    s = swarm([front(*nodes)], 30, "t", resume=True).wait_connected()
    publisher = publishing(lambda n: doors.fcall("t", n), pause=0.002)
    publisher.wait_for(100)
    nodes[0].terminate()
    assert nodes[0].wait() == 0
    publisher.wait_for(publisher.count + 100)
    total = publisher.stop()
    s.wait(lambda c: len(c.data) >= total)
    assert all(c.data == [str(n) for n in range(1, total + 1)] and not c.gaps for c in s.clients)


def test_stream_is_answered_with_200_while_redis_is_down(redis, nodes, front, sse_connect):
    base = front(*nodes)
    redis.kill()
    for node in nodes:
        wait_until(lambda: node.ready()[0] == 503, "redis-down")

    def accepted():
        client = sse_connect(base, "t", wait=False).wait_head()
        return client if client.status == 200 else client.close()

    client = wait_until(accepted, "a stream that is held")
    redis.start()
    client.wait_for(lambda c: c.control("connected") or c.closed)


def test_no_relay_left_is_still_no_final_answer(nodes, front, sse_connect):
    """An EventSource that meets a proxy without relays must come again: 200 and a hint, not 502."""
    base = front(*nodes)
    for node in nodes:
        node.kill()

    def told():
        client = sse_connect(base, "t", wait=False).wait_closed()
        return client.status == 200 and client.retry

    wait_until(told, "retry:")
