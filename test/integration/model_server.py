# SPDX-License-Identifier: Apache-2.0
"""A language model under test: it streams what a test has it say, as an OpenAI-style API does.

    model = Model(); model.url
    model.say("Hel", "lo"); model.finish()
    model.asked                              # the bodies of the requests that it got
"""

import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def delta(text):
    return {"id": "c1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


class Model:
    def __init__(self):
        self.asked = []
        self.gone = threading.Event()  # whoever listened hung up before the end
        self._lines = queue.Queue()
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                model.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream; charset=utf-8")
                self.send_header("Transfer-Encoding", "chunked")
                self.send_header("Connection", "close")
                self.end_headers()
                model._answer(self.wfile)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/chat/completions"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _answer(self, wfile):
        try:
            for line in iter(self._lines.get, None):
                block = f"data: {line}\n\n".encode()
                wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
            wfile.write(b"0\r\n\r\n")
        except OSError:
            self.gone.set()

    def say(self, *texts):
        for text in texts:
            self._lines.put(json.dumps(delta(text)))

    def finish(self):
        self._lines.put("[DONE]")
        self._lines.put(None)

    def close(self):
        self._lines.put(None)
        self.server.shutdown()
        self.server.server_close()
