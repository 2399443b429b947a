# SPDX-License-Identifier: Apache-2.0
"""What a request with a token, and a stream of it, cost beside those without authentication, to the byte."""

import http.client
import mmap
import socket
import struct
import time

import pytest

from auth_rig import bearer
from preload import preload
from sse_client import TIMEOUT_S
from tokens import Issuer

REQUESTS = 300
STREAMS = 800
SETTLE_S = 1

# Counts what is allocated, and what of it is in use, into a file that the test reads.
SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void __libc_free(void *);
static struct {
    atomic_llong count, used;
} *all;

enum { HEAD = sizeof(size_t) }; /* of each, beside what is usable */

__attribute__((constructor)) static void map(void)
{
    int fd = open(getenv("ALLOCATIONS_FILE"), O_RDWR);
    void *at = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED)
        all = at;
}

static void *add(void *at)
{
    if (all && at) {
        atomic_fetch_add(&all->count, 1);
        atomic_fetch_add(&all->used, (long long)malloc_usable_size(at) + HEAD);
    }
    return at;
}

static void take(void *at)
{
    if (all && at)
        atomic_fetch_sub(&all->used, (long long)malloc_usable_size(at) + HEAD);
}

void *malloc(size_t size)
{
    return add(__libc_malloc(size));
}

void *calloc(size_t n, size_t size)
{
    return add(__libc_calloc(n, size));
}

void *realloc(void *at, size_t size)
{
    take(at);
    return add(__libc_realloc(at, size));
}

void free(void *at)
{
    take(at);
    __libc_free(at);
}
"""


class Allocations:
    """How many of them a program with @env has made so far, and how many bytes it has in use."""

    def __init__(self, directory, name):
        path = directory / f"{name}.count"
        path.write_bytes(bytes(16))
        self.env = {**preload(directory, name, SOURCE), "ALLOCATIONS_FILE": str(path)}
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 16)

    def now(self):
        return struct.unpack("qq", self.map)[0]

    def used(self):
        """The least within a while: without what is on its way, such as the connection that asked for /stats."""
        least, until = struct.unpack("qq", self.map)[1], time.monotonic() + SETTLE_S
        while time.monotonic() < until:
            time.sleep(0.01)
            least = min(least, struct.unpack("qq", self.map)[1])
        return least


def head(connection, token):
    """HEAD decides like GET, and opens nothing: so nothing else is counted."""
    connection.request("HEAD", "/events?topic=orders.eu", headers=bearer(token))
    answer = connection.getresponse()
    answer.read()
    return answer.status


def allocations_of(relay, allocations, token):
    """For each request, all of them on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", relay.port, timeout=TIMEOUT_S)
    for _ in range(20):  # what is made once: the token's grant, the namespace, buffers
        assert head(connection, token) == 200
    before = allocations.now()
    for _ in range(REQUESTS):
        assert head(connection, token) == 200
    connection.close()
    return (allocations.now() - before) / REQUESTS


@pytest.fixture
def counted(tmp_path):
    return lambda name: Allocations(tmp_path, name)


def test_a_known_token_takes_no_memory(relay_factory, guarded, parties, counted):
    token = parties.T()
    without, with_one = counted("without"), counted("with_one")
    off = allocations_of(relay_factory(redis="memory:", env=without.env), without, token)
    on = allocations_of(guarded(redis="memory:", env=with_one.env), with_one, token)
    assert off > 1  # something is counted
    # Timers allocate now and then, whoever asks what.
    assert on - off < 0.5, (on, off)


def test_a_token_that_is_not_known_takes_some(guarded, parties, counted):
    """That is: the test above would notice."""
    allocations = counted("others")
    relay = guarded(redis="memory:", env=allocations.env)
    known = allocations_of(relay, allocations, parties.T())
    tokens = [parties.T() for _ in range(10)]
    before = allocations.now()
    connection = http.client.HTTPConnection("127.0.0.1", relay.port, timeout=TIMEOUT_S)
    assert {head(connection, token) for token in tokens} == {200}
    connection.close()
    assert (allocations.now() - before) / len(tokens) > known + 10


# --- streams ---


def open_streams(relay, tokens):
    """All at once: streams without a cursor wait for each other."""
    sockets = [socket.create_connection(("127.0.0.1", relay.port), TIMEOUT_S) for _ in tokens]
    for s, token in zip(sockets, tokens):
        request = ["GET /events?topic=orders.eu HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", "", ""]
        s.sendall("\r\n".join(request).encode())
    for s in sockets:
        text = b""
        while b"relay.connected" not in text:
            chunk = s.recv(4096)
            text += chunk
            assert chunk, text
    return sockets


def bytes_of_a_stream(start, allocations, tokens):
    """In use for each of many streams, which show the tokens in turn."""
    relay = start({"accept.rate": 0}, redis="memory:", workers=1, env=allocations.env)
    sockets = open_streams(relay, tokens[:1])  # what is made once
    relay.wait_clients(1)
    before = allocations.used()
    sockets += open_streams(relay, [tokens[i % len(tokens)] for i in range(STREAMS)])
    relay.wait_clients(STREAMS + 1)
    used = allocations.used()
    for s in sockets:
        s.close()
    return (used - before) / STREAMS


def test_a_stream_of_a_shared_token_takes_64_bytes_more(relay_factory, guarded, parties, counted):
    tokens = [parties.T()]
    off = bytes_of_a_stream(relay_factory, counted("without"), tokens)
    on = bytes_of_a_stream(guarded, counted("with_one"), tokens)
    assert 0 < on - off <= 64, (on, off)


def test_a_stream_with_a_token_of_its_own_takes_600_bytes_more(relay_factory, guarded, parties, counted):
    rights = {"ns": "t1", "subscribe": ["orders.*", "user.{sub}"], "publish": ["orders.>"]}
    issuer = Issuer(parties.dir, "https://h.example", alg="HS256", namespaces=["t1"])  # it signs faster
    parties.file.write(issuers=[issuer.entry()])
    tokens = [issuer.token(sub=f"user-{i}", sse=rights) for i in range(STREAMS + 1)]
    off = bytes_of_a_stream(relay_factory, counted("without"), tokens)
    on = bytes_of_a_stream(guarded, counted("with_some"), tokens)
    assert 64 < on - off <= 600, (on, off)
