# SPDX-License-Identifier: Apache-2.0
"""test/vectors/fields.json at every door: what is accepted arrives as it says, what is not is refused by its name."""

import itertools
import json
from urllib.parse import quote, quote_from_bytes

import pytest
import redis as redis_py

from conftest import load_vectors
from lua_rig import LIBRARY
from redis_server import RedisServer
from relay_process import Relay, wait_until
from sse_client import SSEClient

VECTORS = load_vectors("fields.json")
HTTP = ["json", "form", "raw"]
DOORS = [*HTTP, "fcall", "inbox"]
FLAGS = {"ephemeral", "end"}
LOGGED = {"event", "retry", "priority", "key", "ttl", "match", "end_after"}  # fields of a log entry, as they were published
numbers = itertools.count(1)


def value_of(notation):
    """The bytes of a value: text, {"hex": …}, or {"before": …, "repeat": [text, times], "after": …}."""
    if isinstance(notation, str):
        return notation.encode()
    if "hex" in notation:
        return bytes.fromhex(notation["hex"])
    text, times = notation["repeat"]
    return (notation.get("before", "") + text * times + notation.get("after", "")).encode()


def json_text(value):
    """A JSON string of bytes, which need not be UTF-8."""
    return json.dumps(value.decode("utf-8", "surrogateescape"), ensure_ascii=False).encode("utf-8", "surrogateescape")


def topic_for(name, value):
    """Most share one; what ends its topic has one of its own."""
    return b"t%d" % next(numbers) if name == "end" and value in (b"1", b"true") else b"t"


class Case:
    """One event for one door: pairs of name and value, those of JSON as JSON; and what becomes of it."""

    def __init__(self, vector, pairs, names, label):
        self.pairs, self.names, self.label = pairs, names, label
        self.arrives = [value_of(line).decode() for line in vector.get("arrives", ["data: x"])]
        self.delivered = vector.get("delivered", True)
        self.is_brief = any(n == "ttl" and v.isdigit() and int(v) < 60000 for n, v in pairs)
        self.logged = vector.get("logged", True)
        self.log_field = None  # (name, value) in the log


def field_case(name, field, vector, door):
    """None where the vector says nothing about this door."""
    if door not in vector.get("doors", field.get("doors", DOORS)):
        return None
    text = value_of(vector["text"]) if "text" in vector else None
    value = text
    if door == "json":
        value = vector.get("json")
        if value is True or (value is None and field["json"] == "string" and text is not None):
            value = text if value else json_text(text)
        elif value is not None:
            value = value.encode()
    if value is None:
        return None
    base = {"topic": topic_for(name, value), "data": b"x", **{n: v.encode() for n, v in field.get("with", [])}}
    base.pop("topic" if name == "topics" else name, None)
    others = [(n, json_text(v) if door == "json" else v) for n, v in base.items()]
    case = Case(vector, [*others, (name, value)], name, f"{name} = {value[:60]!r}")
    if name in LOGGED and vector.get("logged", True):
        case.log_field = (name, value_of(vector["becomes"]) if "becomes" in vector else text)
    return case


def combined_case(vector, door):
    if door not in vector.get("doors", DOORS):
        return None
    pairs, names = [(n, v.encode()) for n, v in vector["fields"]], vector.get("names")
    if ("end", b"true") in pairs:
        pairs = [(n, v + topic_for("end", b"true") if n == "topic" else v) for n, v in pairs]
    if door == "json":
        names = vector.get("json_names", names)
        topics = [v for n, v in pairs if n == "topic"]
        texts = {name for name, field in VECTORS["fields"].items() if field["json"] == "string"} | {"data"}
        pairs = [(n, json_text(v) if n in texts else v) for n, v in pairs if n != "topic" or len(topics) == 1]
        pairs = [(n, {b"1": b"true", b"0": b"false"}.get(v, v) if n in FLAGS else v) for n, v in pairs]
        if len(topics) > 1:
            pairs.append(("topics", b"[" + b",".join(map(json_text, topics)) + b"]"))
    return Case(vector, pairs, names, vector["name"])


def cases_of(group, door, accepted):
    if group == "combinations":
        found = [combined_case(v, door) for v in VECTORS["combinations"] if v["accepted"] == accepted]
    else:
        field = VECTORS["fields"][group]
        found = [field_case(group, field, v, door) for v in field["accepted" if accepted else "refused"]]
    return [case for case in found if case]


# --- the doors: each takes pairs and a namespace, and returns None or why it refused ---


def encoded(pairs):
    return "&".join(f"{quote(n, safe='')}={quote_from_bytes(v, safe='')}" for n, v in pairs)


def post(relay, door, ns, pairs):
    kind, query, body = None, f"ns={ns}", b""
    if door == "json":
        kind = "application/json"
        body = b"{" + b",".join(json_text(n.encode()) + b":" + v for n, v in pairs) + b"}"
    elif door == "form":
        kind, body = "application/x-www-form-urlencoded", encoded(pairs).encode()
    else:
        kind, body = "text/plain", b"".join(v for n, v in pairs if n == "data")
        query += "&" + encoded([(n, v) for n, v in pairs if n != "data"])
    answer = relay.post(f"/publish?{query}", data=body, headers={"Content-Type": kind})
    assert answer.status_code in (200, 400), answer.text
    return None if answer.status_code == 200 else answer.json()["detail"]


def flat(pairs):
    return [part for pair in pairs for part in pair]


def fcall(client, ns, pairs):
    try:
        client.fcall("sse_publish", 1, f"sse:{{{ns}}}", *flat(pairs))
    except redis_py.ResponseError as error:
        assert str(error).startswith("sse_publish: "), error
        return str(error).removeprefix("sse_publish: ")
    return None


def drained(client, ns, pairs):
    """Through an inbox that no relay looks after."""
    entry = client.execute_command("XADD", f"sse:{{{ns}}}:inbox", "*", *flat(pairs))
    published, rejected, left, last = client.fcall("sse_drain", 1, f"sse:{{{ns}}}")
    assert (published + rejected, left) == (1, 0)
    return last.decode().removeprefix(entry.decode() + ": ") if rejected else None


# --- who is there to publish to ---


@pytest.fixture(scope="module")
def redis_client(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        client = server.client(decode_responses=False)
        client.function_load(LIBRARY.read_text("utf-8"))
        client.url = server.url
        yield client


def started(directory, redis):
    config = {"listen": "127.0.0.1:0", "workers": 1, "drain": "200ms", "heartbeat": "0", "redis": redis}
    config["max_header_bytes"] = "64KB"  # there is room for the longest value, percent-encoded
    return Relay(directory, config).start()


@pytest.fixture(scope="module")
def nodes(redis_client, tmp_path_factory):
    """By store: with Redis, and without."""
    directory = tmp_path_factory.mktemp("relays")
    relays = {"redis": started(directory, redis_client.url), "memory": started(directory, "memory:")}
    yield relays
    for relay in relays.values():
        relay.stop()


@pytest.fixture
def ns():
    return f"n{next(numbers)}"


class Stream:
    """All of a namespace; what comes between two marks."""

    def __init__(self, relay, ns, clients):
        self.relay, self.ns = relay, ns
        self.client = SSEClient(relay.url + "/events", [">"], params={"ns": ns}, gzip=False)
        clients.append(self.client)
        self.client.wait_connected()
        self.seen = len(self.client.raw)

    def blocks(self, publish_mark):
        """As lists of lines, up to the mark that is published now."""
        mark = f"mark {next(numbers)}"
        publish_mark([("topic", b"mark"), ("data", mark.encode())])
        end = f"data: {mark}\n\n".encode()
        wait_until(lambda: self.client.raw.endswith(end), mark)
        text = self.client.raw[self.seen :].decode()
        self.seen = len(self.client.raw)
        blocks = [block.split("\n") for block in text.split("\n\n")[:-2]]
        return [block for block in blocks if not block[0].startswith("event: relay.")]


def arrival_fault(case, blocks):
    lines = [list(block) for block in blocks]
    ids = [block.pop(0) for block in lines if block[0].startswith("id: ")]
    wanted = [case.arrives] if case.delivered else []
    if not lines and case.is_brief:  # it was over before a socket was free
        return None
    if lines != wanted or len(ids) != (len(wanted) if case.logged else 0):
        return f"{case.label}: arrived as {blocks}"
    return None


def log_fault(client, ns, case):
    if not case.log_field:
        return None
    (name, value), ((_, fields),) = case.log_field, client.xrevrange(f"sse:{{{ns}}}:log:t", count=1)
    got = fields.get(name.encode())
    return None if got == value else f"{case.label}: logged as {got!r}, not {value!r}"


GROUPS = [*VECTORS["fields"], "combinations"]
WAYS = [(store, door) for store, doors in (("redis", DOORS), ("memory", HTTP)) for door in doors]
EACH = [(store, door, group) for store, door in WAYS for group in GROUPS]


def publisher(nodes, client, store, door, ns):
    if door == "fcall":
        return lambda pairs: fcall(client, ns, pairs)
    if door == "inbox":  # which the relay looks after, as somebody is there to hear
        return lambda pairs: client.execute_command("XADD", f"sse:{{{ns}}}:inbox", "*", *flat(pairs)) and None
    return lambda pairs: post(nodes[store], door, ns, pairs)


def mark_publisher(nodes, publish, store, door, ns):
    return publish if door in ("fcall", "inbox") else lambda pairs: post(nodes[store], "form", ns, pairs)


@pytest.mark.parametrize("store,door,group", EACH)
def test_accepted_fields_arrive_as_the_vectors_say(nodes, redis_client, clients, ns, store, door, group):
    cases = cases_of(group, door, True)
    if not cases:
        return
    publish = publisher(nodes, redis_client, store, door, ns)
    mark = mark_publisher(nodes, publish, store, door, ns)
    stream = Stream(nodes[store], ns, clients)
    faults = []
    for case in cases:
        refusal = publish(case.pairs)
        faults.append(refusal and f"{case.label}: {refusal}")
        faults.append(arrival_fault(case, stream.blocks(mark)))
        if store == "redis":
            faults.append(log_fault(redis_client, ns, case))
            for key in redis_client.scan_iter(f"sse:{{{ns}}}:once:*"):  # the next may have the same
                redis_client.delete(key)
    assert [fault for fault in faults if fault] == []


def names_fault(case, refusal):
    if refusal is None:
        return f"{case.label}: accepted"
    unknown = "unknown" in refusal and case.names in refusal
    broken_json = refusal == "body: expected valid UTF-8"
    if unknown or broken_json or refusal.startswith(f"{case.names}: "):
        return None
    return f"{case.label}: refused with {refusal!r}, which does not name {case.names}"


@pytest.mark.parametrize("store,door,group", EACH)
def test_refused_fields_are_named_and_nothing_arrives(nodes, redis_client, clients, ns, store, door, group):
    cases = cases_of(group, door, False)
    if not cases:
        return
    if door == "inbox":
        faults = [names_fault(case, drained(redis_client, ns, case.pairs)) for case in cases]
        left = [key for key in redis_client.scan_iter(f"sse:{{{ns}}}:*") if b":log:" in key or b":once:" in key]
        assert [fault for fault in faults if fault] == [] and left == []
        return
    publish = publisher(nodes, redis_client, store, door, ns)
    stream = Stream(nodes[store], ns, clients)
    faults = [names_fault(case, publish(case.pairs)) for case in cases]
    assert [fault for fault in faults if fault] == []
    assert stream.blocks(mark_publisher(nodes, publish, store, door, ns)) == []


def test_every_field_is_accepted_and_refused_somewhere():
    for name, field in VECTORS["fields"].items():
        for door in field.get("doors", DOORS):
            assert cases_of(name, door, True), (name, door)
            assert name == "data" or cases_of(name, door, False), (name, door)
