# SPDX-License-Identifier: Apache-2.0
"""The accounts of a tenant in docs/operations.md, as they stand: each may do its own work, and nothing else."""

import itertools
import re

import pytest
import redis as redis_py

from lua_rig import r, server  # noqa: F401
from relay_process import ROOT, wait_until

OURS, OTHER = "sse:{shop}", "sse:{shop2}"
HASH = "0f" * 32
CONNECTION = "1e" * 16

# name → a call on the namespace of @key
CALLS = {
    "publish": lambda key: ("FCALL", "sse_publish", 1, key, "topic", "a", "data", "x", "event", "e"),
    "publish once": lambda key: ("FCALL", "sse_publish", 1, key, "topic", "a", "data", "x", "once", "k"),
    "publish live": lambda key: ("FCALL", "sse_publish", 1, key, "topic", "a", "data", "x", "ephemeral", "1"),
    "read a log": lambda key: ("XRANGE", f"{key}:log:a", "-", "+"),
    "add to the inbox": lambda key: ("XADD", f"{key}:inbox", "*", "topic", "a", "data", "x"),
    "read the inbox": lambda key: ("XRANGE", f"{key}:inbox", "-", "+"),
    "issue a ticket": lambda key: ticket("sse_ticket", key, "grant", '{"ns":"shop"}', "ttl", 30000, "until", 0),
    "take a ticket": lambda key: ticket("sse_ticket_take", key, "connection", CONNECTION, "cursor", 0, "grace", 0),
    "write a ticket": lambda key: ("HSET", f"{key}:ticket:{HASH}", "grant", "{}"),
    "read a ticket": lambda key: ("HGETALL", f"{key}:ticket:{HASH}"),
    "revoke": lambda key: ("FCALL", "sse_revoke", 1, key, "sub", "42"),
    "list what is revoked": lambda key: ("FCALL", "sse_revoked", 1, key),
    "forget what is revoked": lambda key: ("DEL", f"{key}:revoked:sub"),
    "take back a revocation": lambda key: ("ZREM", f"{key}:revoked:sub", "43"),
    "announce a revocation": lambda key: ("PUBLISH", f"{key}:revoked", "{}"),
    "talk to a relay": lambda key: ("PUBLISH", "sse:node:00000000", "{}"),
    "change settings": lambda key: ("FCALL", "sse_position", 1, key, "max_events", 7),
    "write settings": lambda key: ("HSET", f"{key}:config", "max_events", 7),
}

MAY = {
    "shop-publisher": {"publish", "publish once", "publish live", "read a log"},
    "shop-inbox": {"add to the inbox"},
    "shop-tickets": {"issue a ticket", "write a ticket"},
    "shop-revoker": {"revoke", "list what is revoked", "announce a revocation", "take back a revocation"},
}


def ticket(function, key, *options):
    return ("FCALL", function, 1, key, HASH, *options)


def lines():
    text = (ROOT / "docs" / "operations.md").read_text()
    found = re.findall(r"^ACL SETUSER (shop-\S+) .*$", text, re.MULTILINE)
    assert found == list(MAY)
    return re.findall(r"^ACL SETUSER shop-.*$", text, re.MULTILINE)


@pytest.fixture
def act(server, r):  # noqa: F811
    """act("shop-inbox", "XADD", …): whether that account may do it."""
    for line in lines():
        r.execute_command(*line.split())
    r.fcall("sse_publish", 1, OURS, "topic", "a", "data", "before")

    def act(user, *command):
        connection = redis_py.Redis(port=server.port, username=user, password="a-long-password")
        try:
            connection.execute_command(*command)
            return True
        except redis_py.ResponseError as e:
            assert re.search(r"permission|can't (access|run)", str(e)), f"{user} {command}: {e}"
            return False
        finally:
            connection.close()

    yield act
    for user in MAY:
        r.acl_deluser(user)


@pytest.mark.parametrize("user", MAY)
def test_an_account_may_do_its_own_work_and_nothing_else(act, user):
    assert {name for name, call in CALLS.items() if act(user, *call(OURS))} == MAY[user]


@pytest.mark.parametrize("user", MAY)
def test_an_account_reaches_no_other_namespace(act, user):
    assert {name for name, call in CALLS.items() if act(user, *call(OTHER))} == set()


def test_a_publisher_may_do_what_a_publish_rarely_does(act, r):  # noqa: F811
    """Pruning the index, and mending a log that has an entry beyond what an id may be."""
    r.fcall("sse_position", 1, OURS, "log_ttl", 1, "index_ttl", 1)

    topics = (f"b{n}" for n in itertools.count())  # the index is pruned when a topic is new in it

    def pruned():
        assert act("shop-publisher", "FCALL", "sse_publish", 1, OURS, "topic", next(topics), "data", "x")
        return r.exists(f"{OURS}:pruned")

    wait_until(pruned, "the first topic is forgotten")
    r.xadd(f"{OURS}:log:m", {"data": "by hand"}, id=f"{2**53}-0")
    assert act("shop-publisher", "FCALL", "sse_publish", 1, OURS, "topic", "m", "data", "x")
