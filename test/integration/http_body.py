# SPDX-License-Identifier: Apache-2.0
"""Where a response's body is and ends: by length, by chunks, or by the end of the connection.

A relay's streams come in chunks; to a client of HTTP/1.0, until the connection ends.
"""

import re

HEX = re.compile(b"[0-9A-Fa-f]+")


class Malformed(Exception):
    """What came is no chunked body (RFC 9112, 7.1), to the letter."""


def parse_head(head):
    """(status, {name: value}) of the bytes up to the blank line."""
    lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(lines[0].split(" ")[1]), headers


class Body:
    """`ended`: nothing more belongs to it. `whole`: that was said, not only by the connection's end."""

    def __init__(self, headers):
        coding = headers.get("transfer-encoding")
        length = headers.get("content-length")
        if coding not in (None, "chunked") or (coding and length is not None):
            raise Malformed(f"Transfer-Encoding: {coding}, Content-Length: {length}")
        self.chunked = coding is not None
        self._left = 0 if self.chunked else None if length is None else int(length)
        self._rest = b""
        self._in_chunk = False  # its CRLF is still to come
        self.whole = self.ended = self._left == 0 and not self.chunked
        self.chunks = []  # their sizes

    def feed(self, data):
        """The body's bytes in @data."""
        if self.chunked:
            return self._unchunk(data)
        if self._left is not None:
            if len(data) > self._left:
                raise Malformed(f"{data[self._left:][:80]!r} behind a body with a length")
            self._left -= len(data)
            self.whole = self.ended = self._left == 0
        return data

    def _unchunk(self, data):
        data, out = self._rest + data, []
        while data and not self.ended:
            if self._left:
                out.append(data[: self._left])
                data = data[len(out[-1]) :]
                self._left -= len(out[-1])
                continue
            line, end, rest = data.partition(b"\r\n")
            if not end:
                if len(line.rstrip(b"\r")) > (0 if self._in_chunk else 8):
                    raise Malformed(f"{line[:80]!r} is no end of a chunk, or no size")
                break
            data = rest
            self._take_line(line)
        if data and self.ended:
            raise Malformed(f"{data[:80]!r} behind the last chunk")
        self._rest = data
        return b"".join(out)

    def _take_line(self, line):
        if self._in_chunk:
            if line:
                raise Malformed(f"{line[:80]!r} where a chunk should end")
            self._in_chunk = False
            self.whole = self.ended = self.chunks[-1] == 0
            return
        if not HEX.fullmatch(line):
            raise Malformed(f"{line[:80]!r} is no chunk's size")
        self._left = int(line, 16)
        self._in_chunk = True
        self.chunks.append(self._left)
