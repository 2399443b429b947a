# SPDX-License-Identifier: Apache-2.0
"""examples/: each does what its README says, with a real relay, and a browser where it is a page."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from selenium.webdriver.common.by import By

from library_page import Library, Site
from model_server import Model
from relay_process import ROOT, wait_until
from sse_client import TIMEOUT_S

pytestmark = pytest.mark.browser

EXAMPLES = ROOT / "examples"
README = (EXAMPLES / "README.md").read_text()
RELAY = "http://127.0.0.1:8080"  # what the examples have in its place
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript"}
AI_SDK = "ai@6.0.326"
USE_CHAT = ["@ai-sdk/react@3.0.328", "react@19", "react-dom@19", "esbuild@0.25"]
HTMX = ["htmx.org@2.0.4", "htmx-ext-sse@2.2.2"]
CODE_LINES = 10


@pytest.fixture
def site():
    s = Site()
    yield s
    s.close()


@pytest.fixture
def shown(relay_factory, site):
    """shown("chat", …): a relay, and a site that has the pages of that example, which know that relay."""

    def start(name, config=None):
        relay = relay_factory({"cors.origins": site.url, "retry": "100ms", **(config or {})})
        for file in (EXAMPLES / name).iterdir():
            if file.suffix in TYPES:
                site.pages["/" + file.name] = ({"Content-Type": TYPES[file.suffix]}, file.read_text().replace(RELAY, relay.url))
        return relay

    return start


@pytest.fixture
def model():
    m = Model()
    yield m
    m.close()


@pytest.fixture
def running():
    """running(command, env): a process, ended by its pid; what it prints is in its `stdout`."""
    processes = []

    def start(command, **env):
        environment = {**os.environ, "no_proxy": "*", **env}
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def need_node():
    node = shutil.which("node")
    if not node or int(subprocess.run([node, "--version"], capture_output=True, text=True).stdout[1:].split(".")[0]) < 18:
        pytest.skip("there is no Node 18 here (Debian: nodejs)")
    return node


@pytest.fixture(scope="session")
def npm_packages(tmp_path_factory):
    """npm_packages("ai@6"): the folder node_modules with it. These tests are about what others have written."""

    def install(*names):
        npm = shutil.which("npm")
        if not npm:
            pytest.skip("there is no npm here")
        folder = tmp_path_factory.mktemp("npm")
        command = [npm, "install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--fetch-retries=0", *names]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            pytest.skip("npm does not answer")
        if done.returncode:
            pytest.skip(f"npm has no {names}: {done.stderr[-200:]}")
        return folder / "node_modules"

    return install


def lines_of_code(path):
    """Without comments and blank lines."""
    return [line for line in path.read_text().splitlines() if line.strip() and not re.match(r"\s*(//|#)", line)]


@pytest.mark.parametrize("path", ["chat/publish.mjs", "chat/publish.py", "chat/page.js", "ai-sdk/chat.jsx"])
def test_it_is_as_short_as_we_say(path):
    assert len(lines_of_code(EXAMPLES / path)) <= CODE_LINES


# --- the chat ---

PUBLISHERS = {"node": lambda: [need_node(), EXAMPLES / "chat" / "publish.mjs"], "python": lambda: [sys.executable, EXAMPLES / "chat" / "publish.py"]}


@pytest.fixture(params=PUBLISHERS)
def publisher(request, running, model):
    """publisher(relay): the example, which asks the model for the answer 7, and has got it to begin."""

    def start(relay):
        process = running([*map(str, PUBLISHERS[request.param]()), "7", "Why?"], RELAY=relay.url, LLM_URL=model.url)
        wait_until(lambda: model.asked or process.poll() is not None, "the model is asked")
        assert model.asked, process.communicate()[0]
        return process

    return start


def answer_on(browser):
    return browser.execute_script("return document.getElementById('answer').textContent")


def title_of(browser):
    return browser.execute_script("return document.title")


def open_chat(browser, site):
    browser.get(site.url + "/index.html#7")


def test_an_answer_survives_a_reload_and_a_second_tab(shown, site, browser, model, publisher):
    relay = shown("chat")
    open_chat(browser, site)
    process = publisher(relay)
    assert model.asked[0]["stream"] is True and model.asked[0]["messages"] == [{"role": "user", "content": "Why?"}]
    model.say("Because ", "of ")
    wait_until(lambda: answer_on(browser) == "Because of ", "the beginning")
    browser.refresh()
    wait_until(lambda: answer_on(browser) == "Because of ", "the beginning once more")
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    open_chat(browser, site)
    model.say("Rayleigh ", "scattering \u2026")
    model.finish()
    for tab in (browser.current_window_handle, first):
        browser.switch_to.window(tab)
        wait_until(lambda: title_of(browser) == "end", "the end")
        assert answer_on(browser) == "Because of Rayleigh scattering \u2026"
    out, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0 and json.loads(out)["count"] >= 5
    browser.refresh()
    wait_until(lambda: title_of(browser) == "end", "the end, later")
    assert answer_on(browser) == "Because of Rayleigh scattering \u2026"
    relay.wait_clients(0)


def test_stop_ends_it_for_all_and_for_the_model(shown, site, browser, model, publisher):
    relay = shown("chat")
    open_chat(browser, site)
    process = publisher(relay)
    model.say("Because ")
    wait_until(lambda: answer_on(browser) == "Because ", "the beginning")
    browser.find_element(By.ID, "stop").click()
    wait_until(lambda: title_of(browser) == "cancelled", "the end")
    assert not browser.find_element(By.ID, "stop").is_enabled()

    def is_over():
        model.say("never shown ")
        return process.poll() is not None and model.gone.is_set()

    wait_until(is_over, "the end of publisher and model")
    out, _ = process.communicate()
    assert '"status":409' in out or "takes no more" in out, "a client may fail at the end of the connection before it has read why"
    assert answer_on(browser) == "Because "


def test_the_page_of_the_chat_shows_an_answer(shown, site, browser, doors):
    """However it was published."""
    relay = shown("chat")
    chunks = [{"choices": [{"delta": {"role": "assistant"}}]}, {"choices": [{"delta": {"content": "Yes"}}]}, {"choices": []}]
    for chunk in chunks:
        relay.publish("chat.7", chunk)
    open_chat(browser, site)
    wait_until(lambda: answer_on(browser) == "Yes", "what was there")
    relay.publish("chat.7", {"choices": [{"delta": {"content": "."}}]})
    wait_until(lambda: answer_on(browser) == "Yes.", "what came")
    relay.publish("chat.7", "[DONE]")
    browser.find_element(By.ID, "stop").click()
    wait_until(lambda: title_of(browser) == "cancelled", "the end")
    relay.wait_clients(0)
    assert relay.post("/publish", json={"topic": "chat.7", "data": "x"}).json()["reason"] == "cancelled"


# --- the AI SDK ---

PARTS = [
    {"type": "start", "messageId": "m1"},
    {"type": "text-start", "id": "t1"},
    {"type": "text-delta", "id": "t1", "delta": "Because "},
    {"type": "text-delta", "id": "t1", "delta": "of Rayleigh."},
    {"type": "text-end", "id": "t1"},
    {"type": "finish"},
]

BACKEND = """
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { backend } from %(backend)s;
const { readable, writable } = new TransformStream();
const writer = writable.getWriter();
const write = (text) => writer.write(new TextEncoder().encode(text));
const chat = backend(async (messages) => new Response(readable, { headers: { "Content-Type": "text/event-stream" } }), process.env.RELAY);
const serve = async (request) => {
    const [, , , id] = request.url.split("/");
    if (request.method !== "POST") return chat[request.method](id);
    return chat.POST(new Request("http://backend/api/chat", { method: "POST", body: Buffer.concat(await request.toArray()) }));
};
const pages = { "/": ["text/html", '<!doctype html><div id="root"></div><script type="module" src="/page.js"></script>'],
    "/page.js": ["text/javascript", process.env.PAGE ? readFileSync(process.env.PAGE) : ""] };
const site = createServer((request, response) => {
    const [type, text] = pages[request.url] ?? [];
    if (type) response.writeHead(200, { "Content-Type": type }).end(text);
    else serve(request).then(({ status, headers }) => response.writeHead(status, [...headers].flat()).end());
});
site.listen(0, "127.0.0.1", () => console.log(site.address().port));
for await (const chunk of process.stdin) for (const line of String(chunk).split("\\n").filter(Boolean))
    line === "end" ? await writer.close() : await write(`data: ${line}\\n\\n`);
"""


@pytest.fixture
def backend_with(tmp_path, relay_factory):
    """backend_with(page): the example's backend, with a model that says what is written to it, and that module on a page."""
    processes = []

    def start(page=""):
        relay = relay_factory({"cors.origins": "*"})
        script = tmp_path / "backend.mjs"
        script.write_text(BACKEND % {"backend": json.dumps((EXAMPLES / "ai-sdk" / "backend.mjs").as_uri())})
        environment = {**os.environ, "RELAY": relay.url, "no_proxy": "*", "PAGE": str(page)}
        process = subprocess.Popen([need_node(), script], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        processes.append(process)
        process.url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.say = lambda *parts: process.stdin.write("".join((p if isinstance(p, str) else json.dumps(p)) + "\n" for p in parts))
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def backend(backend_with):
    return backend_with()


def ui_chunks(answer):
    """What the protocol of UI message streams has in a body: the data of each block as JSON, until [DONE]."""
    assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/event-stream")
    chunks = []
    for block in "".join(answer.iter_content(None, decode_unicode=True)).split("\n\n"):
        data = [line[5:].removeprefix(" ") for line in block.splitlines() if line.startswith("data:")]
        if data:
            chunks.append("\n".join(data))
    assert chunks[-1] == "[DONE]" and chunks.count("[DONE]") == 1
    return [json.loads(chunk) for chunk in chunks[:-1]]


def chat_request(method, url, path, **kw):
    import requests

    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url + path, stream=True, timeout=TIMEOUT_S, **kw)


def test_a_ui_message_stream_can_be_resumed(backend):
    """With a reader of the documented protocol: nothing in the stream is anything else. Later: the same, then 204."""
    assert chat_request("GET", backend.url, "/api/chat/7/stream").status_code == 204
    first = chat_request("POST", backend.url, "/api/chat", json={"id": "7", "messages": []})
    backend.say(*PARTS[:3])
    second = chat_request("GET", backend.url, "/api/chat/7/stream")
    backend.say(*PARTS[3:], "[DONE]", "end")
    assert ui_chunks(first) == PARTS and ui_chunks(second) == PARTS
    assert ui_chunks(chat_request("GET", backend.url, "/api/chat/7/stream")) == PARTS


SDK_CLIENT = """
import { DefaultChatTransport, readUIMessageStream } from "ai";
const transport = new DefaultChatTransport({ api: process.env.BACKEND + "/api/chat" });
const text = async (stream) => {
    let last;
    for await (const message of readUIMessageStream({ stream, terminateOnError: true })) last = message;
    return last.parts.filter((part) => part.type === "text").map((part) => part.text).join("");
};
const options = { chatId: "7", trigger: "submit-message", messages: [], abortSignal: undefined };
const none = await transport.reconnectToStream(options);
const sent = await transport.sendMessages(options);
const resumed = await transport.reconnectToStream(options);
console.log("begun");
console.log(JSON.stringify({ none, sent: await text(sent), resumed: await text(resumed), again: await text(await transport.reconnectToStream(options)) }));
"""


def test_the_ai_sdk_reads_it(backend, npm_packages, running, tmp_path):
    """The transport of useChat, as it is published."""
    os.symlink(npm_packages(AI_SDK), tmp_path / "node_modules")
    (tmp_path / "client.mjs").write_text(SDK_CLIENT)
    client = running([need_node(), str(tmp_path / "client.mjs")], BACKEND=backend.url)
    assert client.stdout.readline() == "begun\n", client.communicate()[0]
    backend.say(*PARTS, "[DONE]", "end")
    out, _ = client.communicate(timeout=TIMEOUT_S)
    assert client.returncode == 0, out
    said = "Because of Rayleigh."
    assert json.loads(out) == {"none": None, "sent": said, "resumed": said, "again": said}


MOUNT = """
import { createElement } from "react";
import { createRoot } from "react-dom/client";
import { Chat } from "./chat.jsx";
createRoot(document.getElementById("root")).render(createElement(Chat, { id: "7" }));
"""


@pytest.fixture
def chat_module(npm_packages, tmp_path):
    """chat.jsx with all that it imports, as a page can load it."""
    need_node()
    modules = npm_packages(AI_SDK, *USE_CHAT)
    os.symlink(modules, tmp_path / "node_modules")
    shutil.copy(EXAMPLES / "ai-sdk" / "chat.jsx", tmp_path)
    (tmp_path / "mount.js").write_text(MOUNT)
    options = ["--bundle", "--format=esm", "--jsx=automatic", '--define:process.env.NODE_ENV="production"', "--outfile=page.js"]
    done = subprocess.run([modules / ".bin" / "esbuild", "mount.js", *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tmp_path / "page.js"


def test_use_chat_survives_a_reload(backend_with, chat_module, browser):
    """The component of the example, with useChat itself: asked, reloaded in the middle of the answer, read to its end."""
    backend = backend_with(chat_module)
    shown = lambda: browser.execute_script("return document.body.innerText")  # noqa: E731
    browser.get(backend.url)
    wait_until(lambda: browser.find_elements(By.NAME, "question"), "the form")
    browser.find_element(By.NAME, "question").send_keys("Why?\n")
    wait_until(lambda: "user: Why?" in shown(), "the question")
    backend.say(*PARTS[:3])
    wait_until(lambda: "assistant: Because" in shown(), "the beginning")
    browser.refresh()
    wait_until(lambda: "assistant: Because" in shown(), "the beginning once more")
    backend.say(*PARTS[3:], "[DONE]", "end")
    wait_until(lambda: "assistant: Because of Rayleigh." in shown(), "the end")


def test_stop_of_the_ai_sdk(backend):
    """DELETE at the backend ends the topic; who reads it gets a clean end, and no [DONE]."""
    first = chat_request("POST", backend.url, "/api/chat", json={"id": "7", "messages": []})
    backend.say(*PARTS[:3])
    lines = first.iter_lines(chunk_size=1)
    wait_until(lambda: b"Because" in next(lines), "the beginning")
    assert chat_request("DELETE", backend.url, "/api/chat/7").status_code == 200
    rest = list(lines)
    assert not [line for line in rest if line.startswith(b"data: ")], rest


# --- htmx ---


@pytest.mark.parametrize("real", [True, False], ids=["htmx", "a reader that does the same"])
def test_htmx_with_several_topics(shown, site, browser, npm_packages, real):
    relay = shown("htmx")
    if relay.request("HEAD", "/events?topic=t&type_from_topic=nonsense").status_code != 400:
        relay = shown("htmx", {"events.type_from_topic": "on"})  # this relay has it as an option only
    if real:
        modules = npm_packages(*HTMX)
        site.pages["/htmx.min.js"] = ({"Content-Type": TYPES[".js"]}, (modules / "htmx.org" / "dist" / "htmx.min.js").read_text())
        site.pages["/sse.js"] = ({"Content-Type": TYPES[".js"]}, (modules / "htmx-ext-sse" / "sse.js").read_text())
    else:
        site.pages["/htmx.min.js"] = ({"Content-Type": TYPES[".js"]}, "")
        site.pages["/sse.js"] = ({"Content-Type": TYPES[".js"]}, READER)
    browser.get(site.url + "/index.html")
    wait_until(lambda: relay.subscribers("orders.open") == 1 and relay.subscribers("news") == 1, "a stream")
    relay.publish("orders.open", "12")
    relay.publish("news", "<li>first</li>")
    relay.publish("news", "<li>second</li>")
    relay.publish("orders.open", "13")
    wait_until(lambda: browser.find_element(By.ID, "orders").text == "13", "the latest number")
    assert [item.text for item in browser.find_elements(By.CSS_SELECTOR, "#news li")] == ["second", "first"]


READER = """
document.addEventListener("DOMContentLoaded", () => {
    const source = new EventSource(document.querySelector("[sse-connect]").getAttribute("sse-connect"), {withCredentials: true});
    for (const target of document.querySelectorAll("[sse-swap]"))
        source.addEventListener(target.getAttribute("sse-swap"), (event) => {
            if (target.getAttribute("hx-swap") === "afterbegin") target.insertAdjacentHTML("afterbegin", event.data);
            else target.innerHTML = event.data;
        });
});
"""


# --- shapes ---

SHAPES = [json.loads(text) for text in re.findall(r"^```json\n(.*?)^```", README, re.MULTILINE | re.DOTALL)]


def test_all_shapes_are_described():
    assert [shape["event"] for shape in SHAPES] == ["progress", "complete", "invalidate", "signal", "batch"]


def test_shapes_arrive_as_they_are_described(relay, browser):
    """As they stand in the README, through the client; also that it reads what the README says."""
    topics = sorted({shape["topic"] for shape in SHAPES})
    assert sorted(re.findall(r'"([\w.]+)"', re.search(r"topics: \[(.*?)\]", README)[1])) == topics
    library = Library(browser, relay.url).open().connect(topics=topics, on=[shape["event"] for shape in SHAPES]).wait("open")
    for shape in SHAPES:
        relay.publish(**shape)
    wait_until(lambda: len(library.seen("typed")) == len(SHAPES), "all of them")
    got = {type: data for type, data in library.seen("typed")}
    for shape in SHAPES:
        assert (json.loads(got[shape["event"]]) if shape["data"] else got[shape["event"]]) == shape["data"]
    assert library.seen("ends")[0]["topic"] == "jobs.7"


def test_htmx_is_told_what_the_readme_says(relay, sse_connect):
    """The curl lines of its section."""
    client = sse_connect(relay, "orders.open", "news")
    commands = re.findall(r"^curl .*$", README, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        done = subprocess.run(["sh", "-c", command.replace(RELAY, relay.url) + " -sS --noproxy '*'"], capture_output=True, text=True)
        assert "id" in json.loads(done.stdout), done
    assert client.wait_for(2).data == ["12", "<li>Open until ten tonight</li>"]
