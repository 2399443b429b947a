# SPDX-License-Identifier: Apache-2.0
"""The documents say what the binary and the sources do, lead somewhere, and can be read; CI runs what they say."""

import re
import subprocess

import pytest
import redis as redis_py
import yaml

from relay_process import BINARY, ROOT, wait_until

OPERATIONS = ROOT / "docs" / "operations.md"
RELAY = ROOT / "relay"
VERSION = (ROOT / "VERSION").read_text().strip()
DEBIANS = ["bookworm", "trixie"]  # 12 and 13
TEMPLATES = (".github/*.md", ".gitlab/*/*.md")
PAGES = [page for glob in ("*.md", "docs/*.md", "examples/*.md", "test/vectors/*.md", *TEMPLATES) for page in sorted(ROOT.glob(glob))]


def section(name):
    text = OPERATIONS.read_text()
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->\n"
    assert text.count(begin) == text.count(end) == 1
    return text.split(begin)[1].split(end)[0]


def printed(flag):
    """What the binary prints in an empty environment, where the defaults are all there is."""
    done = subprocess.run([str(BINARY), flag], env={}, capture_output=True, text=True, check=True)
    return done.stdout


def rows(table):
    """The cells of a Markdown table, without its head. A bar in a cell is escaped."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines() if line]
    assert len({len(cells) for cells in lines}) == 1, "a row has more cells than the head"
    return [[cell.strip() for cell in cells] for cells in lines[2:]]


def quoted(cell):
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize(
    "ours, flag",
    [
        (lambda: section("options"), "--print-docs"),
        ((ROOT / "deploy" / "sse-relay.json").read_text, "--print-config"),
    ],
    ids=["options", "example"],
)
def test_generated_text_is_fresh(ours, flag):
    assert ours() == printed(flag), "make docs writes it anew"


def test_example_configuration_is_valid():
    path = ROOT / "deploy" / "sse-relay.json"
    subprocess.run([str(BINARY), "--check-config", "--config", str(path)], env={}, check=True)


def test_every_metric_is_described(relay_factory):
    """Each family, with its labels and each value that a label can have."""
    relay = relay_factory({"metrics.types": "tick"})
    text = relay.get("/metrics").text
    families = re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)
    described = {name: cells for cells in rows(section("metrics")) for name in quoted(cells[0])}
    assert sorted(families) == sorted(described)
    for family, labels in re.findall(r"^(\w+?)(?:_bucket)?\{(.*)\} ", text, re.MULTILINE):
        cells = described[family]
        for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
            assert label in quoted(cells[1]), f"{family}: label {label}"
            if label in ("state", "connection", "reason", "class"):
                assert value in quoted(cells[2]), f"{family}: {label}={value}"


def source_texts():
    """The string literals of the relay's C files, those that stand side by side put together."""
    literal = r'"(?:[^"\\\n]|\\.)*"'
    for path in sorted(RELAY.rglob("*.c")):
        for run in re.findall(rf"{literal}(?:\s*{literal})*", path.read_text()):
            yield "".join(part[1:-1] for part in re.findall(literal, run))


def test_log_lines_are_those_of_the_source():
    """Each that is described exists, and each warning or error that is written out in the source is described."""
    described = [msg for cells in rows(section("log")) for msg in quoted(cells[1])]
    texts = set(source_texts())
    for msg in described:
        beginning = msg.removesuffix("…")
        assert any(t == msg or (msg != beginning and t.startswith(beginning)) for t in texts), msg
    literal = r'("(?:[^"\\\n]|\\.)*"(?:\s*"(?:[^"\\\n]|\\.)*")*)'
    calls = (
        r"(?:log_put\(\s*LOG_(?:WARN|ERROR),|say_no\(\w,|count_invalid\(\w, [^;]*?,"
        rf"|count_invalid\(ch,|log_error\(inbox,|complain\(\s*library, \w+,)\s*{literal}"
    )
    found = 0
    for path in sorted(RELAY.rglob("*.c")):
        for run in re.findall(calls, path.read_text()):
            found += 1
            msg = "".join(re.findall(r'"((?:[^"\\\n]|\\.)*)"', run))
            assert msg in described, f"{path.name}: {msg}"
    assert found > 10


def prose(page):
    """(number, line) of a document, without code blocks and without what a program writes into it."""
    fenced = written = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif re.match(r"<!-- [\w:]+:(begin|end) -->", line):
            written = ":begin" in line
        elif not fenced and not written:
            yield number, line
    assert not fenced and not written, f"{page.name}: something is not closed"


def anchors(page):
    """What a heading is called in a link to it."""
    headings = [re.match(r"#+ (.*)$", line) for _, line in prose(page)]
    return {re.sub(r"[^\w\- ]", "", h[1].lower()).strip().replace(" ", "-") for h in headings if h}


def ids(pages):
    return [str(page.relative_to(ROOT)) for page in pages]


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_links_lead_somewhere(page):
    """To files that exist and to headings that they have."""
    text = re.sub(r"`[^`\n]*`", "", "\n".join(line for _, line in prose(page)))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_paths_that_are_named_exist(page):
    """A path of the project in code letters, such as `deploy/run`."""
    for path in re.findall(r"`((?:common|relay|test|deploy|docs|tools|\.ci)/[\w./*-]*)`", page.read_text()):
        assert list(ROOT.glob(path.rstrip("/"))), path


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_lines_are_short(page):
    """At most 120 characters, so that a change shows what it changes. Free are tables, code blocks, what a program
    writes (between two marks), addresses, and the targets of links, as none of them can be broken."""
    for number, line in prose(page):
        shown = re.sub(r"\]\([^)]*\)|https?://\S+", "", line)
        assert line.lstrip().startswith("|") or len(shown) <= 120, f"line {number} has {len(shown)} characters"


def test_the_picture_is_small():
    assert "](docs/page.png)" in (ROOT / "README.md").read_text()
    assert (ROOT / "docs" / "page.png").stat().st_size < 150_000


def test_the_tour_has_what_comments_point_to():
    """Comments name its sections: docs/architecture.md, "Life of a connection". Some are named from elsewhere."""
    stable = ["What the live path lost", "When Redis goes away", "The hand-over from log to live", "Many reads, few commands"]
    named = []
    for path in [*RELAY.rglob("*.[ch]"), *(ROOT / "common").glob("*.[ch]")]:
        text = re.sub(r"\s*\n\s*\*?\s*", " ", path.read_text())
        named += re.findall(r'docs/architecture\.md, "([^"]+)"', text)
    assert named
    for heading in stable + named:
        assert re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") in anchors(ROOT / "docs" / "architecture.md"), heading


def test_the_protocol_has_what_comments_point_to():
    """Its headings have numbers, which comments leave out: docs/protocol.md, "Names"."""
    headings = {re.sub(r"^#+ [\d.]+ ", "", line) for _, line in prose(ROOT / "docs" / "protocol.md") if line.startswith("#")}
    named = []
    for path in [*RELAY.rglob("*.[ch]"), *(ROOT / "common").glob("*.[ch]")]:
        text = re.sub(r"\s*\n\s*\*?\s*", " ", path.read_text())
        named += [(path.name, heading) for heading in re.findall(r'docs/protocol\.md, "([^"]+)"', text)]
    assert named
    assert [n for n in named if n[1] not in headings] == []


def test_versions_are_told():
    """What a version brings, and which library in Redis it needs."""
    changes = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert changes[0] == "Unreleased" and VERSION in changes
    library = re.search(r"^local VERSION = (\d+)$", (ROOT / "common" / "sse_relay.lua").read_text(), re.MULTILINE)
    rows_of_versions = re.findall(r"^\| (next|[\d.]+) \| (\d+) \|", OPERATIONS.read_text(), re.MULTILINE)
    assert VERSION in [version for version, _ in rows_of_versions]
    assert rows_of_versions[0] in [(VERSION, library[1]), ("next", library[1])], "the newest comes first"


def test_every_source_file_names_its_license():
    """In one of its first lines (SPDX), so that a copied file still says whose rules it is under."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    sources = [ROOT / name for name in listed if name.endswith((".c", ".h", ".py", ".lua", ".html", ".sh", ".yml", ".cfg", ".js", ".mjs", ".jsx", ".ts"))]
    sources = [path for path in sources if path.exists()]
    assert len(sources) > 300
    unnamed = [str(p) for p in sources if "SPDX-License-Identifier: Apache-2.0" not in "".join(p.open(encoding="utf-8").readlines()[:3])]
    assert not unnamed


def test_ci_runs_everything_on_both_debians():
    """.ci/run, which is `make test`, in a container of each."""
    assert re.search(r"^make test\b", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    github = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    job = github["jobs"]["test"]
    assert job["strategy"]["matrix"]["debian"] == DEBIANS
    assert job["container"]["image"] == "debian:${{ matrix.debian }}"
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    assert {"push", "pull_request"} <= set(github[True])  # to YAML 1.1, `on` is a boolean
    gitlab = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text())
    job = gitlab["test"]
    assert job["parallel"]["matrix"] == [{"DEBIAN": DEBIANS}] and job["image"] == "debian:$DEBIAN"
    assert job["script"] == [".ci/run"] and job["stage"] in gitlab["stages"]


def test_forms_for_issues_are_whole():
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"]
    assert forms
    for path in forms:
        form = yaml.safe_load(path.read_text())
        assert form["name"] and form["description"]
        fields = [field for field in form["body"] if field["type"] != "markdown"]
        assert len({field["id"] for field in fields}) == len(fields)
        assert all(field["attributes"]["label"] for field in fields)
        assert any(field.get("validations", {}).get("required") for field in fields)
    assert (ROOT / ".github" / "pull_request_template.md").exists()
    for folder in ("issue_templates", "merge_request_templates"):
        assert list((ROOT / ".gitlab" / folder).glob("*.md"))


# Those of tenants: test_accounts.py; what bridges need beside the others: test_bridges.py.
ACL_LINE = re.compile(r"^ACL SETUSER (?!shop-|relay ~).*$", re.MULTILINE)


def test_acl_has_what_the_functions_call():
    """Some of it is called in rare cases only: taking back half a publish, pruning."""
    lua = (ROOT / "common" / "sse_relay.lua").read_text()
    called = set(re.findall(r"\b(?:call|try|attempt)\('([A-Z]+)'", lua))
    assert {"XADD", "PUBLISH", "XINFO", "DEL"} <= called
    relay, backend = ACL_LINE.findall(OPERATIONS.read_text())[:2]
    bridges = re.search(r"^ACL SETUSER relay ~orders (.*)$", OPERATIONS.read_text(), re.MULTILINE)[1]
    needed = {"+" + command.lower().replace("xinfo", "xinfo|stream") for command in called}
    of_bridges = {"+xack", "+xpending"}
    assert of_bridges <= needed & set(bridges.split())
    needed -= of_bridges
    assert needed <= set(relay.split())
    given = {word for word in backend.split() if word.startswith("+")}
    assert given == needed | {"+fcall"}, "a publisher needs no more"


def test_acl_of_relays_and_publishers_suffices(redis, relay_factory, sse_connect):
    """The ACL SETUSER lines of the document, as they stand: relay, the doors, patterns, a reconnect, an inbox."""
    lines = ACL_LINE.findall(OPERATIONS.read_text())
    assert [line.split()[2] for line in lines] == [
        "relay", "backend", "inbox-only", "live-only", "ticket-issuer", "revoker",
    ]  # fmt: skip
    admin = redis.client()
    for line in lines:
        admin.execute_command(*line.split())
    admin.acl_log_reset()
    relay = relay_factory(redis=f"redis://relay:a-long-password@127.0.0.1:{redis.port}")
    client = sse_connect(relay, "a", "b.>")

    def act(user, *command):
        connection = redis_py.Redis(port=redis.port, username=user, password="a-long-password")
        connection.execute_command(*command)
        connection.close()

    def all_doors(first):
        batch = [{"topic": "a", "data": str(first)}, {"topic": "b.c", "data": "x"}]
        assert relay.post("/publish", json=batch).status_code == 200
        fcall = ("FCALL", "sse_publish", 1, "sse:{default}", "topic", "b.d", "data")
        for n, once in ((first + 1, "k1"), (first + 2, "k1"), (first + 3, "k2")):
            act("backend", *fcall, n, "once", f"{once}-{first}")
        act("backend", *fcall, "e", "ephemeral", 1)
        act("inbox-only", "XADD", "sse:{default}:inbox", "*", "topic", "b.d", "data", "i")
        act("live-only", "PUBLISH", "sse:{default}:ch:b.d", "r")

    act("ticket-issuer", "FCALL", "sse_ticket", 1, "sse:{default}", "a" * 64, "grant", "{}", "ttl", 1000, "until", 0)
    for kind in ("jti", "sub", "kid"):
        admin.zadd(f"sse:{{default}}:revoked:{kind}", {"old": 1})  # which has to go
        act("revoker", "FCALL", "sse_revoke", 1, "sse:{default}", kind, "x")
    all_doors(1)
    assert sorted(client.wait_for(7).data) == sorted(["1", "x", "2", "4", "e", "i", "r"])
    admin.hset("sse:{default}:config", "index_ttl", 1)  # pruning needs commands of its own
    replay = sse_connect(relay, ">", params={"replay": "all"})
    assert len(replay.wait_for(5).data) == 5
    assert sse_connect(relay, "a", params={"replay": 1}).wait_for(1).data == ["1"]
    for connection in admin.client_list():
        if connection["user"] == "relay":
            admin.client_kill_filter(_id=connection["id"])
    wait_until(lambda: relay.log_text.count("Redis connection is back") == 3, "the connections")
    relay.wait_ready()
    all_doors(10)
    client.wait_for(14)
    # Newer versions of redis-py introduce themselves, which no door needs.
    assert [e for e in admin.acl_log() if e["object"] != "client|setinfo"] == []


@pytest.mark.parametrize("name", ["deploy/lib.sh", "docker-compose.yml", "docs/operations.md"])
def test_redis_is_started_with_small_stream_nodes(name):
    """As recommended: a topic with few events takes 1 KB of it in place of 4.5 KB."""
    assert re.search(r"stream-node-max-bytes[\s\",]+512", (ROOT / name).read_text())
