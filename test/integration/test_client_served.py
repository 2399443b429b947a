# SPDX-License-Identifier: Apache-2.0
"""/client.js and /client.d.ts as they are served: docs/protocol.md, 15.1. What it does: test_client_library.py, test_client_access.py."""

import gzip
import hashlib
import re
import shutil
import subprocess
import sys

import pytest

from relay_process import ROOT, run_relay

SOURCE = ROOT / "relay" / "http" / "client.js"
TYPES = ROOT / "relay" / "http" / "client.d.ts"
STRIP = ROOT / "tools" / "strip_comments"
LIMIT = 3 * 1024
PATHS = {"/client.js": "text/javascript; charset=utf-8", "/client.d.ts": "text/plain; charset=utf-8"}
both = pytest.mark.parametrize("path", PATHS)


def plain(relay, path, **headers):
    return relay.get(path, headers={"Accept-Encoding": "identity", **headers})


@both
def test_it_is_served_to_pages_of_any_origin(relay, path):
    answer = plain(relay, path, Origin="https://elsewhere.example")
    assert answer.status_code == 200 and answer.headers["Content-Type"] == PATHS[path]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_listed_origin_changes_nothing(relay_factory):
    relay = relay_factory({"cors.origins": "https://app.example"})
    answer = plain(relay, "/client.js", Origin="https://app.example")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Vary"] == "Accept-Encoding"


@both
def test_it_asks_for_no_credentials(guarded, path):
    assert plain(guarded(), path).status_code == 200


def test_what_is_served_is_the_source_without_comments(relay):
    served = plain(relay, "/client.js").text
    code = [line.strip() for line in SOURCE.read_text().splitlines()]
    assert served.splitlines() == ["// SPDX-License-Identifier: Apache-2.0", *(c for c in code if c and not c.startswith("//"))]
    assert plain(relay, "/client.d.ts").text == TYPES.read_text()


def test_it_is_small(relay):
    """At most 3 KB, as gzip -9 makes it, and as it is sent."""
    served = plain(relay, "/client.js").content
    packed = subprocess.run(["gzip", "-9nc"], input=served, capture_output=True, check=True).stdout
    assert len(packed) <= LIMIT
    sent = relay.get("/client.js", headers={"Accept-Encoding": "gzip"}, stream=True).raw.read(decode_content=False)
    assert len(sent) <= LIMIT and gzip.decompress(sent) == served


@both
def test_gzip_for_who_takes_it(relay, path):
    answer = relay.get(path, headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip" and answer.headers["Vary"] == "Accept-Encoding"
    identity = plain(relay, path)
    assert "Content-Encoding" not in identity.headers and identity.headers["Vary"] == "Accept-Encoding"
    assert answer.content == identity.content
    refused = relay.get(path, headers={"Accept-Encoding": "gzip;q=0"})
    assert "Content-Encoding" not in refused.headers


@both
def test_its_validator_is_of_its_text(relay, path):
    answer = plain(relay, path)
    assert answer.headers["ETag"] == f'W/"{hashlib.sha256(answer.content).hexdigest()[:32]}"'
    assert relay.get(path, headers={"Accept-Encoding": "gzip"}).headers["ETag"] == answer.headers["ETag"]


@both
@pytest.mark.parametrize("form", ["{weak}", "{strong}", '"other", {weak}', '"other",{strong} , "third"', "*"])
def test_who_has_it_is_told_so(relay, path, form):
    weak = plain(relay, path).headers["ETag"]
    answer = plain(relay, path, **{"If-None-Match": form.format(weak=weak, strong=weak[2:])})
    assert answer.status_code == 304 and answer.content == b"" and answer.headers["ETag"] == weak
    assert answer.headers["Access-Control-Allow-Origin"] == "*" and answer.headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize("form", ['"other"', 'W/"other"', "", ",,", "W/", '"', "w/{strong}", "{weak}x"])
def test_who_has_another_gets_it(relay, form):
    weak = plain(relay, "/client.js").headers["ETag"]
    answer = plain(relay, "/client.js", **{"If-None-Match": form.format(weak=weak, strong=weak[2:])})
    assert answer.status_code == 200 and answer.content


@both
def test_head_and_other_methods(relay, path):
    head = relay.request("HEAD", path, headers={"Accept-Encoding": "identity"})
    assert head.status_code == 200 and head.content == b"" and int(head.headers["Content-Length"]) == len(plain(relay, path).content)
    post = relay.post(path, data="x")
    assert post.status_code == 405 and post.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_types_lead_from_the_code(relay):
    """Deno looks there."""
    assert plain(relay, "/client.js").headers["X-TypeScript-Types"] == "./client.d.ts"


@both
def test_no_route_takes_its_place(parties, path):
    parties.file.write(anonymous={"ns": "t1"}, routes=[{"path": path, "topics": ["a"]}])
    done = run_relay("--check-config", "--auth.file", parties.file.path)
    assert done.returncode != 0 and "routes[0].path: this path is one of the relay's own" in done.stderr


# --- comments ---


def strip(tmp_path, text):
    file = tmp_path / "m.js"
    file.write_text(text)
    return subprocess.run([sys.executable, str(STRIP), str(file)], capture_output=True, text=True)


LICENSE = "// SPDX-License-Identifier: Apache-2.0\n"


def test_only_whole_lines_go(tmp_path):
    text = LICENSE + "\n// gone\nconst a = \"// stays\";\n    // gone\n    f('/* stays */', `http://x`);\n"
    assert strip(tmp_path, text).stdout == LICENSE + "const a = \"// stays\";\nf('/* stays */', `http://x`);\n"


@pytest.mark.parametrize("line", ["f(); // behind code", "f(); /* behind code */", "/* a block", "const t = `first", "const t = 'first\\"])
def test_what_it_would_spoil_is_refused(tmp_path, line):
    done = strip(tmp_path, LICENSE + "g();\n" + line + "\nsecond`;\n")
    assert done.returncode != 0 and "line 3" in done.stderr


def test_a_source_without_its_license_is_refused(tmp_path):
    assert strip(tmp_path, "f();\n").returncode != 0


# --- types ---

# Everything that there is, by its name; and what must not pass.
SAMPLE = """
import { connect, type Stream, type State, type Failure } from "./client";
const stream: Stream = connect(new URL("https://relay.example/events"), {
    topics: ["a", "b.*"], params: { slow: "block", buffer: 8, event: ["a", "b"] }, types: ["a"], on: { b: (event) => event.data.length },
    onevent: (event) => event.lastEventId.length, onopen: (told) => told.connection_id + told.node + told.topics.length,
    ongap: (told) => told.from?.length ?? told.to.length, ondropped: (told) => told.count + 1, onend: (told) => told.topic + told.id,
    onstate: (state: State, wait?: number) => state + wait, onerror: (failure: Failure) => failure.final ? failure.status : failure.detail,
    token: async () => "t", ticket: "t", credentials: true, resume: "cursor", lastEventId: "1", finite: true, hidden: "pause",
    hiddenAfter: 1, retry: 1, retryMax: 1, random: Math.random, prefix: "relay.", relay: "/" });
const told: Promise<string[]> = stream.subscribe("c"), left: Promise<string[]> = stream.unsubscribe(["c"]);
const paused: Promise<{ paused: boolean }> = stream.pause(), resumed: Promise<{ paused: boolean }> = stream.resume();
stream.close();
connect("/events", { topics: "a" });
// @ts-expect-error there is no such option
connect("/events", { topic: "a" });
// @ts-expect-error
connect("/events", { hidden: "never" });
// @ts-expect-error
stream.state = "open";
console.log(stream.lastEventId, stream.connectionId, stream.state, stream.topics, told, left, paused, resumed);
"""


def test_types_are_right(tmp_path):
    compiler = shutil.which("tsc")
    if not compiler:
        pytest.skip("there is no tsc here (Debian: node-typescript)")
    (tmp_path / "client.d.ts").write_text(TYPES.read_text())
    (tmp_path / "sample.ts").write_text(SAMPLE)
    options = ["--noEmit", "--strict", "--noUnusedLocals", "--target", "es2022", "--module", "es2022", "--moduleResolution", "node"]
    done = subprocess.run([compiler, *options, "sample.ts"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_types_name_what_the_code_has():
    """Each option that is read, each member of what connect() returns; and nothing else."""
    code, types = SOURCE.read_text(), TYPES.read_text()
    read = set(re.findall(r"\bo\.(\w+)", code)) | {"retry", "retryMax"}
    options = types.split("interface Options {")[1].split("\n}")[0]
    assert set(re.findall(r"^    (\w+)\??[:(]", options, re.MULTILINE)) == read
    returned = code.split("    return {\n        get state")[1]
    members = set(re.findall(r"^        (?:get )?(\w+)[:(]", "        get state" + returned, re.MULTILINE))
    stream = types.split("interface Stream {")[1].split("\n}")[0]
    assert set(re.findall(r"^    (?:readonly )?(\w+)[:(]", stream, re.MULTILINE)) == members
