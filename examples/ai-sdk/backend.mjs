// SPDX-License-Identifier: Apache-2.0
// What useChat asks its backend for, with the answers on a relay. Its own transport follows the redirects.
import { randomUUID } from "node:crypto";

/** @param answer (messages) => a Response with a UI message stream, as of streamText(…).toUIMessageStreamResponse() */
export const backend = (answer, relay) => {
    const topics = new Map(); // the latest answer of each chat; yours are in a database
    // Only the events of the answer, and none of the relay's own: the AI SDK fails at what it does not know.
    const read = (topic) => `${relay}/events?topic=${topic}&event=chunk&replay=whole&control=off&finite=1`;
    const headers = { "Content-Type": "text/event-stream" };
    return {
        // /api/chat: begins an answer, and sends the page to it.
        async POST(request) {
            const { id, messages } = await request.json();
            const topic = `chat.${id}.${randomUUID()}`, pipe = `${relay}/topics/${topic}/pipe?event=chunk`;
            topics.set(id, topic);
            const { body } = await answer(messages);
            fetch(pipe, { method: "POST", headers, body, duplex: "half" }).catch(console.error);
            return Response.redirect(read(topic), 303);
        },
        // /api/chat/{id}/stream: the same again, from its beginning, after a reload and in a second tab.
        async GET(id) {
            return topics.has(id) ? Response.redirect(read(topics.get(id)), 307) : new Response(null, { status: 204 });
        },
        // Stop, for all who read it; the model, too.
        DELETE: (id) => fetch(`${relay}/topics/${topics.get(id)}`, { method: "DELETE" }),
    };
};
