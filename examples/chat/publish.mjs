// SPDX-License-Identifier: Apache-2.0
// node publish.mjs 7 "Why is the sky blue?": a model's answer becomes the topic chat.7, as it is written.
const { LLM_URL, LLM_KEY = "none", LLM_MODEL, RELAY = "http://127.0.0.1:8080", RELAY_KEY = "none" } = process.env;
const [chat, question] = process.argv.slice(2);
const stop = new AbortController();
const post = (url, type, key, body) => fetch(url, { method: "POST", body, duplex: "half", signal: stop.signal,
    headers: { "Content-Type": type, Authorization: `Bearer ${key}` } });
const ask = JSON.stringify({ model: LLM_MODEL, stream: true, messages: [{ role: "user", content: question }] });
const llm = await post(LLM_URL, "application/json", LLM_KEY, ask);
const answer = await post(`${RELAY}/topics/chat.${chat}/pipe`, "text/event-stream", RELAY_KEY, llm.body);
console.log(await answer.text());
stop.abort(); // 409: somebody pressed Stop, and nobody pays for the rest
