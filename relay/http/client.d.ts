// SPDX-License-Identifier: Apache-2.0
// Types of /client.js. What it does is in docs/protocol.md, section 15.

/** A text, or whoever gives one: asked anew for each connection, and for each renewal. */
export type Given = string | (() => string | Promise<string>);

export interface Connected {
    connection_id: string;
    node: string;
    topics: string[];
}

export interface Gap {
    from: string | null;
    to: string;
    reason: "trimmed" | "expired" | "redis-lost" | "unknown-id" | "overflow";
}

export interface Dropped {
    count: number;
}

export interface End {
    topic: string;
    id: string;
    reason: "end" | "cancelled" | "timeout";
}

/** What went wrong: a problem of the relay (RFC 9457), or an error of the network or of a function of yours. */
export interface Failure {
    /** Without one there was no answer. */
    status?: number;
    title?: string;
    detail?: string;
    message?: string;
    /** It is over: the state is "closed". Else it tries again by itself. */
    final?: boolean;
}

/**
 * - connecting: it asks for a ticket, or for the stream
 * - open: live
 * - paused: open, and the relay holds back what is not instant
 * - waiting: until the next attempt
 * - hidden: closed until the page is visible
 * - ended: all its topics have ended, or it has none left
 * - closed: by close(), or refused for good
 */
export type State = "connecting" | "open" | "paused" | "waiting" | "hidden" | "ended" | "closed";

export interface Options {
    /** Topics and patterns, beside those in the URL. Of a route: none. */
    topics?: string | string[];
    /** More parameters of the stream: slow, flush, snapshot, ns, event … */
    params?: Record<string, string | number | boolean | (string | number | boolean)[]>;
    /** Events without a type, those of `types`, and those of `on` that have no handler there. */
    onevent?(event: MessageEvent<string>): void;
    /** Handlers by type. */
    on?: Record<string, (event: MessageEvent<string>) => void>;
    /** Types that `onevent` is for: an EventSource tells only those whose names it knows. */
    types?: string[];
    onopen?(told: Connected): void;
    ongap?(told: Gap): void;
    ondropped?(told: Dropped): void;
    onend?(told: End): void;
    /** @param wait in state "waiting": milliseconds, where it is not the browser that waits */
    onstate?(state: State, wait?: number): void;
    onerror?(failure: Failure): void;
    /** For POST /tickets, and to renew the stream with. */
    token?: Given;
    /** From your backend, in place of `token`. */
    ticket?: Given;
    /** Cookies are sent to another origin, too. */
    credentials?: boolean;
    /** "cursor": over reloads of the page, from where it was. "all": from the first event of each topic. */
    resume?: "cursor" | "all";
    /** Where to begin: an id that the page knows. */
    lastEventId?: string;
    /** Nothing to come is told by 204 and the state "ended". */
    finite?: boolean;
    /** What becomes of the stream of a page that nobody sees. Default "close". */
    hidden?: "close" | "pause" | "keep";
    /** So many milliseconds after it was hidden. Default 30000. */
    hiddenAfter?: number;
    /** Milliseconds before the first attempt after one without an answer, twice as many before each next. Default 3000. */
    retry?: number;
    /** Default 30000. */
    retryMax?: number;
    /** 0 to 1; the wait is 0.5 to 1.5 times what it would be. Default Math.random. */
    random?(): number;
    /** `control_prefix` of the relay. Default "relay." */
    prefix?: string;
    /** The relay's root, where it is neither the folder that this module came from nor the root of the stream's origin. */
    relay?: string | URL;
}

export interface Stream {
    readonly state: State;
    /** The cursor; "" where there is none yet. */
    readonly lastEventId: string;
    /** "" while it is not connected. */
    readonly connectionId: string;
    readonly topics: string[];
    pause(): Promise<{ paused: boolean }>;
    resume(): Promise<{ paused: boolean }>;
    /** The topics from then on. */
    subscribe(topics: string | string[]): Promise<string[]>;
    unsubscribe(topics: string | string[]): Promise<string[]>;
    close(): void;
}

/** @param url of the stream: /events, or a route; what ends with / is a relay, whose /events it is */
export function connect(url: string | URL, options?: Options): Stream;
