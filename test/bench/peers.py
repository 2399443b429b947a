# SPDX-License-Identifier: Apache-2.0
"""What is measured: servers on 127.0.0.1, started for one run, pinned to a core, ended by their own pid."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
NCHAN_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
FILES = 20000

NGINX_CONF = """
load_module {module};
worker_processes 1;
worker_rlimit_nofile {files};
daemon off;
pid {dir}/nginx.pid;
error_log {dir}/error.log error;
events {{ worker_connections {files}; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    keepalive_requests 100000000;
    client_body_buffer_size 64k;
    nchan_shared_memory_size 256M;
    {upstream}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /sub {{
            nchan_subscriber eventsource;
            nchan_subscriber_first_message newest;
            nchan_channel_id $arg_id;
            {use}
        }}
        location = /pub {{
            nchan_publisher;
            nchan_channel_id $arg_id;
            {use}
        }}
    }}
}}
"""


class Cores:
    """Which core is whose: the server has one to itself, Redis shares the generator's."""

    def __init__(self):
        cores = sorted(os.sched_getaffinity(0))
        self.all = ",".join(map(str, cores))
        half = max(1, len(cores) // 2)  # where servers and generators are several
        self.servers, self.generators = (",".join(map(str, c)) for c in (cores[:half], cores[half:] or cores))
        self.server = str(cores[0])
        self.generator = str(cores[1 % len(cores)])
        self.redis = str(cores[2 % len(cores)] if len(cores) > 2 else cores[1 % len(cores)])


CORES = Cores()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Server:
    """One process in a directory of its own. start() returns once its port answers."""

    def __init__(self, core=None):
        self.port = free_port()
        self.core = core or CORES.server
        self.dir = Path(tempfile.mkdtemp(prefix="sse-bench-"))
        self.process = None

    def command(self):
        raise NotImplementedError

    @staticmethod
    def environment():
        """Without the relay's own variables: a benchmark is of the options it names."""
        return {k: v for k, v in os.environ.items() if not k.startswith("SSE_RELAY_")}

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        with open(self.dir / "log", "wb") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", self.core, *map(str, self.command())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
            )
        deadline = time.monotonic() + 20
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                text = (self.dir / "log").read_text(errors="replace")
                self.stop()
                raise RuntimeError(f"{type(self).__name__} did not start:\n{text[-2000:]}")
            time.sleep(0.02)
        return self

    def wait_for_200(self, request):
        deadline = time.monotonic() + 20
        while not self._ask(request).startswith(b"HTTP/1.1 20"):
            if time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{type(self).__name__}: no 200 to {request}")
            time.sleep(0.02)
        return self

    def _ask(self, request):
        head = f"{request} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as s:
                s.sendall(head.encode())
                return s.recv(100)
        except OSError:
            return b""

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


class Redis(Server):
    def __init__(self):
        super().__init__(CORES.redis)
        self.url = f"redis://127.0.0.1:{self.port}"

    def command(self):
        quiet = ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
        return ["redis-server", "--port", self.port, "--bind", "127.0.0.1", "--dir", self.dir, *quiet]


class Relay(Server):
    """sse-relay; with @redis None over its memory store."""

    def __init__(self, redis=None, core=None, **config):
        super().__init__(core)
        self.redis = redis
        self.config = {"workers": 1, "logging.level": "warn", "max_clients": FILES - 1000, **config}

    def command(self):
        store = self.redis.url if self.redis else "memory:"
        flags = [f for k, v in self.config.items() for f in (f"--{k}", v)]
        binary = os.environ.get("SSE_RELAY_BIN") or BUILD / "sse-relay"
        return [binary, "--listen", f"127.0.0.1:{self.port}", "--redis", store, *flags]

    def start(self):
        super().start()
        return self.wait_for_200("GET /ready")  # Redis has the function library

    def options(self):
        how = ["--publish", "fcall"] if self.redis else ["--publish", "http"]
        return ["--url", f"http://127.0.0.1:{self.port}/events?topic=%t", *how]


class Baseline(Server):
    """The bare epoll loop."""

    def __init__(self, redis):
        super().__init__()
        self.redis = redis

    def command(self):
        return [BUILD / "normal/test/bench/epoll_baseline", self.port, self.redis.port, "bench"]

    def options(self):
        how = ["--publish", "channel", "--channel", "bench"]
        return ["--url", f"http://127.0.0.1:{self.port}/", *how]


class Nchan(Server):
    """nginx with nchan; with @redis None over its shared memory."""

    def __init__(self, redis=None):
        super().__init__()
        self.redis = redis

    def command(self):
        upstream = use = ""
        if self.redis:
            upstream = f"upstream redis {{ nchan_redis_server {self.redis.url}; }}"
            use = "nchan_redis_pass redis;"
        conf = self.dir / "nginx.conf"
        conf.write_text(
            NGINX_CONF.format(
                module=NCHAN_MODULE, files=FILES, dir=self.dir, port=self.port, upstream=upstream, use=use
            )
        )
        os.chmod(self.dir, 0o755)
        return ["nginx", "-p", self.dir, "-c", conf, "-e", self.dir / "error.log"]

    def start(self):
        super().start()
        return self.wait_for_200("POST /pub?id=ready")  # it answers 503 until it has its Redis

    def options(self):
        base = f"http://127.0.0.1:{self.port}"
        how = ["--publish", "http", "--publish-url", f"{base}/pub?id=%t"]
        return ["--url", f"{base}/sub?id=%t", *how, "--publish-connections", "16", "--order", "any"]


def why_not(name):
    """Why a peer cannot be measured here, or None."""
    if name.startswith("nchan") and not (shutil.which("nginx") and NCHAN_MODULE.exists()):
        return "nginx with nchan is not installed (Debian: libnginx-mod-nchan)"
    if name != "relay-memory" and name != "nchan-memory" and not shutil.which("redis-server"):
        return "redis-server is not installed"
    return None
