// SPDX-License-Identifier: Apache-2.0
// <Chat id="7" />: with `resume` a reload, or a second tab, has the whole answer, and goes on with it.
import { useChat } from "@ai-sdk/react";
export function Chat({ id }) {
    const { messages, sendMessage } = useChat({ id, resume: true });
    const text = ({ parts }) => parts.filter(({ type }) => type === "text").map(({ text }) => text).join("");
    return <>
        {messages.map((message) => <p key={message.id}>{message.role}: {text(message)}</p>)}
        <form action={(form) => sendMessage({ text: form.get("question") })}><input name="question" /></form>
        <button onClick={() => fetch(`/api/chat/${id}`, { method: "DELETE" })}>Stop</button>
    </>;
}
