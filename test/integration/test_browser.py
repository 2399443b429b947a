# SPDX-License-Identifier: Apache-2.0
"""A stock EventSource in headless Chromium, through HAProxy, while nodes die under it."""

import pytest

from relay_process import wait_until

pytestmark = pytest.mark.browser

OPEN = """
window.got = []; window.ids = []; window.gaps = []; window.opens = 0; window.errors = 0; window.dead = false;
window.source = new EventSource(arguments[0]);
source.onopen = () => opens++;
source.onerror = () => { errors++; if (source.readyState === EventSource.CLOSED) dead = true; };
source.onmessage = e => { got.push(e.data); ids.push(e.lastEventId); };
source.addEventListener('relay.connected', e => window.connected = JSON.parse(e.data));
source.addEventListener('relay.gap', e => gaps.push(e.data));
"""
STATE = "return {got, ids, gaps, opens, errors, dead, connected: window.connected || null};"


def open_source(browser, base, path):
    browser.get(base + "/health")
    browser.execute_script(OPEN, path)
    return wait_until(lambda: browser.execute_script(STATE)["connected"], "relay.connected")


def test_eventsource_through_haproxy_with_a_node_killed_under_it(
    redis, relay_factory, haproxy, browser, doors, publishing
):
    nodes = [relay_factory(retry="200ms", node=f"node{i}") for i in range(2)]
    base = haproxy(*nodes)
    first = open_source(browser, base, "/events?topic=t&topic=u.*")["node"]
    publisher = publishing(lambda n: doors.fcall(["t", "u.x"][int(n) % 2], n), total=600, pause=0.003)
    publisher.wait_for(200)
    nodes[int(first[-1])].kill()
    publisher.finish()
    wait_until(lambda: len(browser.execute_script("return got")) >= 600, "600 events", 60)
    state = browser.execute_script(STATE)
    assert state["got"] == [str(n) for n in range(1, 601)]
    assert state["ids"] == [str(i) for i in publisher.ids]
    assert state["gaps"] == [] and not state["dead"]
    assert state["connected"]["node"] != first
    assert state["opens"] >= 2


def test_eventsource_survives_a_drain_and_a_redis_restart(
    redis, relay_factory, haproxy, browser, doors
):
    nodes = [relay_factory(retry="200ms", node=f"node{i}") for i in range(2)]
    base = haproxy(*nodes)
    first = open_source(browser, base, "/events?topic=t")["node"]
    doors.many("t", ["1", "2"])
    wait_until(lambda: len(browser.execute_script("return got")) >= 2)
    leaving, staying = nodes[int(first[-1])], nodes[1 - int(first[-1])]
    leaving.terminate()
    assert leaving.wait() == 0
    wait_until(lambda: browser.execute_script(STATE)["connected"]["node"] != first, "the other node")
    doors.many("t", ["3", "4"])
    redis.restart(keep_data=True)
    staying.wait_ready()
    staying.publish("t", "5")
    wait_until(lambda: len(browser.execute_script("return got")) >= 5)
    state = browser.execute_script(STATE)
    assert state["got"] == ["1", "2", "3", "4", "5"]
    assert state["gaps"] == [] and not state["dead"]


def test_eventsource_meets_the_wire_format(redis, relay_factory, browser, doors):
    """What the vectors say arrives in a browser as it was published."""
    from conftest import load_vectors

    relay = relay_factory()
    open_source(browser, relay.url, "/events?topic=t")
    browser.execute_script("source.addEventListener('ping', source.onmessage); source.addEventListener('greet', source.onmessage);"
                           "source.addEventListener('aid: 9', source.onmessage)")  # fmt: skip
    vectors = load_vectors("frames.json")
    for v in vectors:
        fields = {k: x for k, x in v["event"].items() if k not in ("id", "data", "retry")}
        doors.fcall("t", v["event"]["data"], **fields)
    wait_until(lambda: len(browser.execute_script("return got")) >= len(vectors))
    want = [v["event"]["data"].replace("\r\n", "\n").replace("\r", "\n").replace("\0", "") for v in vectors]
    assert browser.execute_script("return got") == want


def test_eventsource_after_an_unknown_id_and_a_position_block(redis, relay_factory, browser, doors):
    """control_events=id: the block with nothing but an id moves lastEventId and dispatches nothing."""
    relay = relay_factory(control_events="id", heartbeat="1s", retry="200ms")
    browser.get(relay.url + "/health")
    browser.execute_script(OPEN, "/events?topic=t")
    wait_until(lambda: relay.stats()["clients"] == 1)
    wait_until(lambda: relay.metric("sse_relay_clients", state="live") == 1)
    doors.fcall("t", "1")
    wait_until(lambda: browser.execute_script("return got") == ["1"])
    state = browser.execute_script(STATE)
    assert state["connected"] is None and not state["dead"]
