# SPDX-License-Identifier: Apache-2.0
"""HTTP by hand, for bytes that no library would send."""

import socket

from http_body import Body, parse_head
from sse_client import TIMEOUT_S


def open_socket(relay):
    s = socket.create_connection(("127.0.0.1", relay.port), timeout=TIMEOUT_S)
    return s


def exchange(relay, request):
    """Sends the bytes and returns all that comes until the other side closes (or resets)."""
    with open_socket(relay) as s:
        try:
            s.sendall(request)
        except OSError:
            pass
        return read_all(s)


def read_all(s):
    answer = b""
    try:
        while chunk := s.recv(65536):
            answer += chunk
    except ConnectionError:
        pass
    return answer


def read_head(s):
    answer = b""
    while b"\r\n\r\n" not in answer:
        chunk = s.recv(65536)
        if not chunk:
            break
        answer += chunk
    return answer


def take_apart(answer):
    """(head, body, whether the body's end was told) of one answer, as much of it as there is. Its chunks are checked."""
    head, end, rest = answer.partition(b"\r\n\r\n")
    body = Body(parse_head(head)[1])
    return head + end, body.feed(rest), body.whole


def status_of(answer):
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else None


def assert_problem(answer, status):
    """RFC 9457. Returns its detail."""
    assert answer.status_code == status, (answer.status_code, answer.headers)
    assert answer.headers["Content-Type"].split(";")[0] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["title"] and isinstance(problem["detail"], str)
    return problem["detail"]
