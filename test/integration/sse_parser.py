# SPDX-License-Identifier: Apache-2.0
"""An incremental parser of event streams, to the letter of WHATWG HTML section 9.2.6."""

import codecs
import re

LINE_END = re.compile("\r\n|\n|\r")


class Block:
    """What stood between two blank lines, and what an EventSource makes of it."""

    __slots__ = ("id", "last_event_id", "type", "data", "retry", "comments", "fields")

    def __init__(self):
        self.id = None  # the block's own id line
        self.last_event_id = ""  # as the EventSource has it after this block
        self.type = "message"
        self.data = None  # None: nothing is dispatched
        self.retry = None
        self.comments = []
        self.fields = []

    @property
    def dispatched(self):
        return self.data is not None

    def __repr__(self):
        return f"<{self.type} id={self.id} data={(self.data or '')[:80]!r}>"


class Parser:
    """feed() bytes, get finished blocks. `rest` tells whether the stream stopped inside a block."""

    def __init__(self):
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._start = True
        self._text = ""
        self._skip_lf = False
        self._last_id = ""
        self.retry = None
        self._begin()

    def _begin(self):
        self._block = Block()
        self._type = ""
        self._data = []

    def feed(self, chunk):
        text = self._decode(chunk)
        if self._start and text:
            self._start = False
            text = text[1:] if text[0] == "\ufeff" else text
        if self._skip_lf and text:
            self._skip_lf = False
            text = text[1:] if text[0] == "\n" else text
        text = self._text + text
        if "\r" in text:
            self._skip_lf = text.endswith("\r")  # its LF, if any, comes with the next bytes
            lines = LINE_END.split(text)
        else:
            lines = text.split("\n")
        self._text = lines.pop()
        blocks = []
        for line in lines:
            if line:
                self._line(line)
            else:
                blocks.append(self._end())
        return blocks

    @property
    def rest(self):
        """Fields of a block that has no blank line yet, or part of a line. Comments are no block."""
        return self._text or "\n".join(f"{n}: {v}" for n, v in self._block.fields)

    def _line(self, line):
        name, colon, value = line.partition(":")
        if not name:
            self._block.comments.append(value)
            return
        if value[:1] == " ":
            value = value[1:]
        self._block.fields.append((name, value))
        if name == "data":
            self._data.append(value)
        elif name == "id":
            if "\0" not in value:
                self._last_id = value
                self._block.id = value
        elif name == "event":
            self._type = value
        elif name == "retry":
            if re.fullmatch("[0-9]+", value):
                self.retry = self._block.retry = int(value)

    def _end(self):
        block = self._block
        block.last_event_id = self._last_id
        # "If the data buffer is an empty string": no data line at all, because each line adds a LF.
        if self._data:
            block.data = "\n".join(self._data)
            block.type = self._type or "message"
        self._begin()
        return block
