// SPDX-License-Identifier: Apache-2.0
// The client of sse-relay, for pages. docs/protocol.md, section 15, says what it does; its types are in client.d.ts.
//
// A browser gets it without comments and indentation (tools/strip_comments): so each comment has lines of its own, and
// no text goes over several lines. It is one closure and no class, as it must have at most 3 KB as gzip.

export function connect(url, options) {
    const o = {
        prefix: "relay.", hidden: "close", hiddenAfter: 3e4, retry: 3e3, retryMax: 3e4, random: Math.random, ...options };
    const here = new URL(".", import.meta.url);
    const home = new URL(url, here);
    if (home.pathname.endsWith("/")) home.pathname += "events";
    const root = new URL(o.relay ?? (here.origin === home.origin ? here : "/"), home);
    const credentials = o.credentials ? "include" : "same-origin";
    const page = globalThis.document;

    const given = home.searchParams;
    let topics = [...new Set([...given.getAll("topic"), o.topics ?? []].flat())];
    given.delete("topic");
    for (const name in o.params) for (const value of [o.params[name]].flat()) given.append(name, value);

    const stored = o.resume === "cursor" && `sse-relay ${home} ${[...topics].sort()}`;
    let cursor = o.lastEventId ?? "";
    // A browser may forbid it, or have no room: then a reload begins anew.
    try { cursor ||= stored && sessionStorage.getItem(stored) || ""; } catch {}

    let source, timer, hiding, token, ticket;
    let state, id = "", subscribed = [];
    // Of what waits for an answer: whether that still matters.
    let turn = 0;
    // In a row, without relay.connected in between.
    let failures = 0, refusals = 0;
    // The relay has answered this attempt: then the browser comes back by itself, after the `retry` that it alone knows.
    let answered;
    // The topics are not those of the URL to which the browser would come back.
    let changed;
    let paused = false, away = false;
    const ended = new Set();

    const tell = (next, wait) => {
        if (state !== next || wait) {
            state = next;
            o.onstate?.(next, wait);
        }
    };

    // With @wait it goes on after that, unless who is told closes it.
    const stop = (next, wait) => {
        turn++;
        source?.close();
        clearTimeout(timer);
        if (wait >= 0) timer = setTimeout(open, wait);
        id = "";
        tell(next, wait);
    };

    // 0.5 to 1.5 times what it would be, so that not all come at once.
    const later = (atLeast = 0) => {
        stop("waiting", atLeast + Math.min(o.retryMax, o.retry * 2 ** failures++) * (0.5 + o.random()));
    };

    const failed = (thrown) => {
        // A function of the page's may throw anything.
        const error = thrown instanceof Object ? thrown : new Error(thrown);
        const { status } = error;
        // A refusal may mean that the token or ticket was too old: once there is another try, with a new one.
        const anew = status === 401 && !refusals++;
        error.final = status >= 400 && status < 500 && status !== 408 && status !== 429 && !anew;
        if (error.final) stop("closed");
        else if (anew) open();
        else later(error.wait);
        o.onerror?.(error);
    };

    const problem = async (answer) => {
        const told = await answer.json().catch(() => ({}));
        const error = new Error(told.detail ?? answer.status + " " + answer.statusText);
        const wait = 1e3 * answer.headers.get("Retry-After") || 0;
        return Object.assign(error, told, { status: answer.status, wait });
    };

    const value = async (it) => typeof it === "function" ? it() : it;

    const ask = async (method, path, body) => {
        const target = new URL(path, root);
        const headers = {};
        if (token) headers.Authorization = "Bearer " + token;
        else if (ticket) target.searchParams.set("ticket", ticket);
        if (body) headers["Content-Type"] = "application/json";
        const answer = await fetch(target, { method, headers, credentials, body: JSON.stringify(body) });
        if (!answer.ok) throw await problem(answer);
        return answer.json();
    };

    // What is asked about a connection goes out one after another, or a resume might overtake its pause.
    let order = Promise.resolve();
    const inTurn = (act) => order = order.then(act, act);
    const about = (method, path, body) => ask(method, "connections/" + id + path, body);

    // Why an EventSource gave up for good it does not say. HEAD decides as GET does, and spends no ticket.
    const look = async (where) => {
        const mine = turn;
        try {
            let answer = await fetch(where, { method: "HEAD", credentials });
            // Only what answers GET has a body that says what is wrong; a refusal opens no stream.
            if (answer.status >= 400 && answer.status < 500) answer = await fetch(where, { credentials });
            // By now it may be the stream itself, which has no end.
            if (answer.ok) answer.body?.cancel();
            const error = await problem(answer);
            if (mine !== turn) return;
            if (answer.status === 204) stop("ended");
            else failed(error);
        } catch (error) {
            if (mine === turn) failed(error);
        }
    };

    const renew = async () => {
        const mine = turn;
        try {
            const fresh = await value(o.token);
            if (mine !== turn) return;
            token = fresh;
            await about("POST", "/token");
        } catch (error) {
            // Refused: it ends with its token, and comes back with a new one.
            if (mine === turn && !(error.status < 500)) timer = setTimeout(renew, 2e3);
        }
    };

    const settle = () => inTurn(async () => {
        const want = paused || away;
        const mine = id;
        // Whatever the state: that is what the stream has told, and it may be behind.
        if (mine) try {
            const now = await about("POST", want ? "/pause" : "/resume");
            if (mine === id) tell(now.paused ? "paused" : "open");
        } catch (error) {
            if (want) throw error;
            // A new stream is not paused, and loses nothing.
            if (mine === id) open();
        }
        return { paused: want };
    });
    const settled = () => settle().catch((error) => o.onerror?.(error));

    const control = {
        connected(told) {
            failures = refusals = 0;
            id = told.connection_id;
            subscribed = told.topics;
            ended.clear();
            tell("open");
            if (paused || away) settled();
            o.onopen?.(told);
        },
        gap: (told) => o.ongap?.(told),
        dropped: (told) => o.ondropped?.(told),
        paused: () => tell("paused"),
        resumed: () => tell("open"),
        expiring: () => typeof o.token === "function" && renew(),
        end(told) {
            ended.add(told.topic);
            if ((topics.length ? topics : subscribed).every((topic) => ended.has(topic))) stop("ended");
            o.onend?.(told);
        },
        shutdown({ reason }) {
            // Two with one and the same ticket would take the stream from each other for ever.
            const shared = reason === "replaced" && !o.token && typeof o.ticket !== "function";
            if (reason !== "drain") failed({ status: shared ? 403 : 401, title: "Ended", detail: reason });
        },
        error: failed,
    };

    const open = async () => {
        if (changed && !topics.length) return stop("ended");
        // Who is told may close it.
        const mine = turn + 1;
        stop("connecting");
        answered = changed = false;
        const where = new URL(home);
        const query = where.searchParams;
        for (const topic of topics) query.append("topic", topic);
        query.set("control", "on");
        query.set("errors", "event");
        if (o.finite) query.set("finite", 1);
        if (cursor) query.set("lastEventId", cursor);
        else if (o.resume === "all") query.set("replay", "whole");
        try {
            token = await value(o.token);
            ticket = token ? (await ask("POST", "tickets")).ticket : await value(o.ticket);
            if (mine !== turn) return;
            if (ticket) query.set("ticket", ticket);
            listen(where);
        } catch (error) {
            if (mine === turn) failed(error);
        }
    };

    const listen = (where) => {
        const s = source = new EventSource(where, { withCredentials: !!o.credentials });
        // A publisher's type may be "open" or "error", as what the browser itself tells. That has no data.
        const on = (type, act) => s.addEventListener(type, (event) => {
            if (source !== s || event.data === undefined) return;
            try { act(event); } finally {
                cursor = event.lastEventId || cursor;
                try { if (stored) sessionStorage.setItem(stored, cursor); } catch {}
            }
        });
        for (const name in control) on(o.prefix + name, (event) => control[name](JSON.parse(event.data)));
        for (const type of new Set(["message", ...o.types ?? [], ...Object.keys(o.on ?? {})]))
            on(type, (event) => (o.on?.[type] ?? o.onevent)?.(event));
        s.onopen = () => answered = true;
        s.onerror = (event) => {
            if (source !== s || event.data !== undefined) return;
            id = "";
            if (s.readyState === 2) look(where);
            else if (changed || !answered) later();
            else {
                answered = false;
                tell("waiting");
            }
        };
    };

    const change = (add, drop) => inTurn(async () => {
        const mine = id;
        const next = [...new Set([...topics, ...add])].filter((topic) => !drop.includes(topic));
        let told;
        try {
            told = mine && await about("PATCH", "", { subscribe: add, unsubscribe: drop });
        } catch (error) {
            if (error.status === 400 || error.status === 403) throw error;
        }
        topics = told?.topics ?? next;
        changed = true;
        // Where that connection is none any more: another one, which begins with what was missed.
        if (!(told && mine === id) && state !== "closed" && state !== "hidden") open();
        return topics;
    });

    const hide = () => {
        if (state === "ended" || state === "closed") return;
        if (o.hidden === "close") stop("hidden");
        else {
            away = true;
            settled();
        }
    };

    const show = () => {
        clearTimeout(hiding);
        if (page.visibilityState === "hidden") {
            if (o.hidden !== "keep") hiding = setTimeout(hide, o.hiddenAfter);
        } else if (state === "hidden" || state === "waiting") open();
        else if (away) {
            away = false;
            settled();
        }
    };

    page?.addEventListener("visibilitychange", show);
    open();
    if (page) show();

    return {
        get state() { return state; },
        get lastEventId() { return cursor; },
        get connectionId() { return id; },
        get topics() { return [...topics]; },
        pause() { paused = true; return settle(); },
        resume() { paused = false; return settle(); },
        subscribe: (names) => change([names].flat(), []),
        unsubscribe: (names) => change([], [names].flat()),
        close() {
            page?.removeEventListener("visibilitychange", show);
            clearTimeout(hiding);
            stop("closed");
        },
    };
}
