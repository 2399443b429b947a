// SPDX-License-Identifier: Apache-2.0
// The answer chat.7 of index.html#7: from its first word on, in every tab and after every reload.
import { connect } from "http://127.0.0.1:8080/client.js";
const topic = "chat." + location.hash.slice(1);
const [answer, stop] = document.querySelectorAll("#answer, #stop");
connect("/events", {
    topics: topic, resume: "all", finite: true,
    onevent: ({ data }) => data !== "[DONE]" && answer.append(JSON.parse(data).choices[0]?.delta?.content ?? ""),
    onend: ({ reason }) => { stop.disabled = true; document.title = reason; },
});
stop.onclick = () => fetch(`http://127.0.0.1:8080/topics/${topic}`, { method: "DELETE" });
