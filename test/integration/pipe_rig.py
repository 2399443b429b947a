# SPDX-License-Identifier: Apache-2.0
"""POST /topics/{topic}/pipe by hand: a body that is sent piece by piece, and an answer that may come before its end."""

import json
import socket
from urllib.parse import quote, urlencode, urlsplit

from http_body import Body, parse_head
from relay_process import wait_until
from sse_client import TIMEOUT_S

EVENTS = "text/event-stream"
LINES = "application/x-ndjson"
TEXT = "text/plain"


def ids_of(answer):
    """(count, first, last) as an answer or a problem has them."""
    return answer["count"], *(answer[name] and int(answer[name]) for name in ("first", "last"))


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body
        self.json = json.loads(body)

    def __repr__(self):
        return f"<{self.status} {self.body!r}>"


class Pipe:
    """@length: the body has a Content-Length; else chunks. @head: lines of the header beside the usual ones. The rest are
    parameters, and so is @query."""

    def __init__(self, target, topic, type=EVENTS, length=None, head=(), version="1.1", framed=True, send_buffer=None, query=(), **more):
        parts = urlsplit(target if isinstance(target, str) else target.url)
        query = {**dict(query), **more}
        path = f"/topics/{quote(topic, safe='')}/pipe" + (f"?{urlencode(query)}" if query else "")
        lines = [f"POST {path} HTTP/{version}", f"Host: {parts.netloc}", *([f"Content-Type: {type}"] if type else []), *head]
        if framed:
            lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
        self.chunked = length is None
        self.sock = socket.socket()
        if send_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect((parts.hostname, parts.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        self.came = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    # --- the body ---

    @staticmethod
    def bytes_of(data):
        return data.encode() if isinstance(data, str) else data

    def framed(self, data):
        data = self.bytes_of(data)
        return b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data

    def send(self, *pieces):
        for piece in pieces:
            self.sock.sendall(self.framed(piece))
        return self

    def raw(self, data):
        self.sock.sendall(data)
        return self

    def end(self):
        if self.chunked:
            self.sock.sendall(b"0\r\n\r\n")
        return self

    # --- the answer ---

    @property
    def answered(self):
        """Whether something of an answer has come; does not wait."""
        self.sock.setblocking(False)
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False
        finally:
            self.sock.settimeout(TIMEOUT_S)

    def wait_answered(self):
        wait_until(lambda: self.answered, "an answer")
        return self

    def head(self):
        """The next head, which may be that of a 100."""
        while b"\r\n\r\n" not in self.came:
            chunk = self.sock.recv(65536)
            assert chunk, f"closed after {self.came!r}"
            self.came += chunk
        head, _, self.came = self.came.partition(b"\r\n\r\n")
        return parse_head(head)

    def answer(self):
        status, headers = self.head()
        body = Body(headers)
        text = body.feed(self.came)
        while not body.ended:
            chunk = self.sock.recv(65536)
            if not chunk:
                break
            text += body.feed(chunk)
        self.came = b""
        assert body.whole
        return Answer(status, headers, text)

    def done(self):
        """Ends the body; the answer, which is 200."""
        answer = self.end().answer()
        assert answer.status == 200 and set(answer.json) == {"count", "first", "last"}, answer
        assert answer.headers["content-type"] == "application/json"
        return answer.json

    def is_closed(self):
        """Waits until the other side ends the connection."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass
        return True


def block(data, type=None):
    lines = [f"event: {type}"] if type else []
    return "".join(f"{line}\n" for line in [*lines, *(f"data: {part}" for part in data.split("\n"))]) + "\n"


def openai_stream(tokens):
    """Blocks as a model's API sends them: each is what one write brings."""
    for i, token in enumerate(tokens):
        delta = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": token}}]}
        if i == 0:
            delta["choices"][0]["delta"]["role"] = "assistant"
        yield block(json.dumps(delta, ensure_ascii=False))
    yield block(json.dumps({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
    yield block("[DONE]")


def text_of(datas):
    """What a chat shows of the events' data."""
    assert datas[-1] == "[DONE]"
    return "".join(json.loads(d)["choices"][0]["delta"].get("content", "") for d in datas[:-1])
