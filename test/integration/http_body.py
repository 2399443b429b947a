"""Where a response's body is and ends: by length, by chunks, or by the end of the connection.

A relay's streams end with the connection; proxies in front of it may choose another way.
"""


def parse_head(head):
    """(status, {name: value}) of the bytes up to the blank line."""
    lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(lines[0].split(" ")[1]), headers


class Body:
    def __init__(self, headers):
        self.chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length")
        self._left = int(length) if length is not None else None  # of the body, or of the chunk
        self._rest = b""
        if self.chunked:
            self._left = 0
        self.ended = not self.chunked and self._left == 0

    def feed(self, data):
        """The body's bytes in @data."""
        if not self.chunked:
            if self._left is not None:
                data = data[: self._left]
                self._left -= len(data)
                self.ended = self._left == 0
            return data
        data, out = self._rest + data, []
        while data and not self.ended:
            if self._left:
                out.append(data[: self._left])
                data = data[len(out[-1]) :]
                self._left -= len(out[-1])
                continue
            size, end, rest = data.lstrip(b"\r\n").partition(b"\r\n")
            if not end:
                break
            self._left, data = int(size.split(b";")[0], 16), rest
            self.ended = self._left == 0
        self._rest = data
        return b"".join(out)
