# SPDX-License-Identifier: Apache-2.0
"""The tests' own stream clients: what is wrong with one of them is told by the test that it belongs to, and by no other."""

import socket
import threading
import traceback

import pytest

from sse_client import SSEClient, close_all, reactor
from swarm import Swarm

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
GOOD = HEAD + b"\r\nid: 1\ndata: hello\n\n"
BROKEN = b"HTTP/1.1 no number\r\n\r\n"


@pytest.fixture
def serve():
    """serve(bytes): a server that answers each connection with these, and leaves it open; its URL."""
    held = []

    def accept(listener, answer):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            held.append(connection)
            connection.recv(4096)
            connection.sendall(answer)

    def start(answer):
        listener = socket.create_server(("127.0.0.1", 0))
        held.append(listener)
        threading.Thread(target=accept, args=(listener, answer), daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for s in held:
        try:
            s.shutdown(socket.SHUT_RDWR)  # wakes the accept(), which close() does not
        except OSError:
            pass
        s.close()


def test_wait_raises_what_went_wrong_while_reading(serve):
    client = SSEClient(serve(BROKEN))
    with pytest.raises(ValueError, match="invalid literal") as caught:
        client.wait_for(1)
    assert "_receive" in [frame.name for frame in traceback.extract_tb(caught.tb)], "where it was"
    close_all([client])  # told already


def test_the_end_of_the_test_raises_what_no_wait_has_met(serve):
    good, bad = SSEClient(serve(GOOD)), SSEClient(serve(BROKEN))
    with bad._reactor.changed:
        assert bad._reactor.changed.wait_for(lambda: bad.error, 20)
    good.wait_for(1)
    with pytest.raises(ValueError, match="invalid literal"):
        close_all([bad, good])
    assert good._gone, "closed all the same"


def test_later_clients_go_on(serve):
    bad = SSEClient(serve(BROKEN))
    with pytest.raises(ValueError):
        bad.wait_for(1)
    good = SSEClient(serve(GOOD))
    assert good.wait_for(1).data == ["hello"]
    close_all([bad, good])


def test_a_call_into_the_reactor_raises_in_the_caller():
    with pytest.raises(ZeroDivisionError):
        reactor().call(lambda: 1 // 0)
    reactor().call(lambda: None)


def test_wait_of_a_swarm_raises_what_went_wrong_while_reading(serve):
    swarm = Swarm([serve(BROKEN)], 1)
    with pytest.raises(ValueError, match="invalid literal"):
        swarm.wait_connected()
    close_all([swarm])
    swarm = Swarm([serve(GOOD)], 1)
    swarm.wait(lambda c: c.data == ["hello"])
    close_all([swarm])
