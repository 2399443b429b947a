/* SPDX-License-Identifier: Apache-2.0 */
/* The hand-over from log to live: Redis, two nodes (each a bus and a worker thread), one client that may go from
 * one to the other, and faults. Checked exhaustively by `make model`; docs/handover.md says what and why. Ids are
 * 1..N, of one topic, so the `prev` of an event is the id before it. The -D mutations break one rule each. */
#ifndef N
#define N 4 /* events */
#endif
#ifndef BREAKS
#define BREAKS 1 /* subscriber connections cut */
#endif
#ifndef LOSSES
#define LOSSES 1 /* messages lost on a connection that stays up */
#endif
#ifndef TRIMS
#define TRIMS 1 /* entries that the log forgets */
#endif
#ifndef HANGUPS
#define HANGUPS 1 /* of the client, besides those that its node ends because it is slow */
#endif
#ifndef NODES
#define NODES 2
#endif
#if NODES == 2
#define ANY(n) if :: n = 0 :: n = 1 fi
#else
#define ANY(n) n = 0
#endif
#define QUEUE 2 /* events a client's queue may hold */
#define HOLD 1  /* live events held beside it while the log is read */
#define PAGE 2  /* events a repair reads at a time */
/* What a queue holds: an id; "lost up to this id"; "connected, complete from this id". */
#define GAP(id) ((id) + 32)
#define CONNECTED(id) ((id) + 64)
#define ID(item) ((item) & 31)
#define ACK 0

mtype = { LIVE_NOTE, PAGE_NOTE };
bool calm; /* nothing goes wrong any more */
byte pos, trimmed;                      /* Redis: the last id; what the log has forgotten */
bool listens[NODES];                    /* Redis: the node is subscribed */
chan wire[NODES] = [N + 1] of { byte }; /* Redis -> bus: the subscriber connection */
chan notes[NODES] = [3 * N] of { mtype, byte, byte, byte, bool }; /* bus -> worker, in order */

/* A bus. `seen`: the last id it has passed on, or the position at its first read. */
bool watched[NODES], broken[NODES], heard[NODES], known[NODES], repairing[NODES];
byte seen[NODES];
/* A read of the log that the client's worker has asked for: by stream, cursor and room. */
bool asked[NODES], looked[NODES];
byte ask_stream[NODES], ask_cursor[NODES], ask_room[NODES], look_pos[NODES];
bool ask_fresh[NODES];

/* The client's stream on its node `at`. A new connection is a new stream. */
mtype = { CLOSED, OPENING, REPLAY, LIVE };
mtype state = CLOSED;
byte at, stream, cursor;
bool reading, overflow;
chan held = [HOLD] of { byte };
chan queue = [QUEUE + 3] of { byte }; /* with room for what is told besides events */
/* The client itself: has been told everything up to here. */
byte got;
bool fresh; /* has no id yet */

inline clear(c) { do :: len(c) > 0 -> c?_ :: len(c) == 0 -> break od }
inline close_stream() { clear(queue); clear(held); reading = false; overflow = false; state = CLOSED }

inline ask(room_) { /* one that a closed stream left is cancelled */
    asked[at] = true; looked[at] = false; ask_stream[at] = stream; ask_cursor[at] = cursor;
    ask_fresh[at] = (state == OPENING && fresh); ask_room[at] = room_;
    reading = true; overflow = false
}

/* client_push() */
inline offer(item) {
    if
    :: state == CLOSED || ID(item) <= cursor -> skip
    :: else ->
#ifndef NO_HOLD
        if
        :: reading && overflow -> skip
        :: reading && !overflow && len(held) < HOLD -> held!item
        :: reading && !overflow && len(held) == HOLD -> overflow = true; clear(held)
        :: !reading && state != LIVE -> skip /* the next page has it */
        :: !reading && state == LIVE && len(queue) < QUEUE -> queue!item; cursor = ID(item)
        :: !reading && state == LIVE && len(queue) >= QUEUE -> close_stream() /* too slow */
        fi
#else
        if
        :: len(queue) < QUEUE -> queue!item; cursor = ID(item)
        :: len(queue) >= QUEUE -> close_stream()
        fi
#endif
    fi
}

/* client_page(): events lo+1..hi, after the gap that ends at lo; held ones that are newer follow. */
inline take_page(lo, hi, final) {
    reading = false;
    if
    :: state == OPENING && fresh -> queue!CONNECTED(hi); cursor = hi
    :: else -> if :: lo > cursor -> queue!GAP(lo); cursor = lo :: else fi
    fi;
    do :: cursor < hi -> cursor++; queue!cursor :: else -> break od;
#ifdef OVERFLOW_DROPS
    overflow = false;
#endif
    if
    :: final && !overflow && (len(held) == 0 || len(queue) < QUEUE) ->
        state = LIVE;
        do
        :: len(held) > 0 -> held?item;
#ifndef NO_COMPARE
            if :: ID(item) <= cursor -> skip :: else -> queue!item; cursor = ID(item) fi
#else
            queue!item; cursor = ID(item)
#endif
        :: len(held) == 0 -> break
        od
    :: else -> clear(held); state = REPLAY
    fi;
    item = 0
}

active [NODES] proctype worker() {
    byte item, lo, hi;
    bool final;
end:
    do
    :: atomic { notes[_pid]?LIVE_NOTE, item, _, _, _ ->
           if :: at == _pid -> offer(item) :: else fi; item = 0 }
    :: atomic { notes[_pid]?PAGE_NOTE, item, lo, hi, final ->
           if :: state != CLOSED && item == stream -> take_page(lo, hi, final) :: else fi;
           item = 0; lo = 0; hi = 0; final = false }
    :: atomic { at == _pid && state == REPLAY && !reading && len(queue) <= QUEUE / 2 -> ask(QUEUE - len(queue)) }
    od
}

proctype bus(byte n) {
    byte id, lo;
end:
    do
    :: atomic { watched[n] && !listens[n] -> listens[n] = true; wire[n]!ACK }
    :: atomic { !repairing[n] && len(wire[n]) > 0 -> wire[n]?id;
           if
           :: id == ACK -> heard[n] = true;
#ifndef NO_REPAIR
               repairing[n] = (broken[n] && known[n]); broken[n] = false
#endif
           :: id != ACK && known[n] && id <= seen[n] -> skip /* a repair was faster */
           :: id != ACK && known[n] && id > seen[n] + 1 -> repairing[n] = true /* a hole: the log has this one, too */
           :: else -> notes[n]!LIVE_NOTE, id, 0, 0, false; seen[n] = id; known[n] = true
           fi;
           id = 0 }
#ifdef READ_ON
    :: atomic { repairing[n] && len(wire[n]) > 0 -> wire[n]?id; notes[n]!LIVE_NOTE, id, 0, 0, false; id = 0 }
#endif
    :: atomic { repairing[n] -> /* one page; what the log has lost is told */
           if
           :: trimmed > seen[n] -> notes[n]!LIVE_NOTE, GAP(trimmed), 0, 0, false; seen[n] = trimmed
           :: else
           fi;
           lo = seen[n];
           do :: seen[n] < pos && seen[n] < lo + PAGE -> seen[n]++; notes[n]!LIVE_NOTE, seen[n], 0, 0, false
              :: else -> break
           od;
           lo = 0; repairing[n] = (seen[n] < pos) }
#ifndef NO_CHECK
    :: atomic { known[n] && heard[n] && !repairing[n] && len(wire[n]) == 0 && seen[n] < pos -> repairing[n] = true }
#endif
#ifndef SUBSCRIBE_LATE
    :: atomic { asked[n] && !looked[n] && heard[n] ->
#else
    :: atomic { asked[n] && !looked[n] ->
#endif
           looked[n] = true; look_pos[n] = pos;
           if :: !known[n] -> known[n] = true; seen[n] = pos :: else fi }
    :: atomic { asked[n] && looked[n] -> /* the log may have lost more since the look */
           lo = (trimmed > ask_cursor[n] -> trimmed : ask_cursor[n]);
           lo = (ask_fresh[n] || lo > look_pos[n] -> look_pos[n] : lo);
           id = (look_pos[n] < lo + ask_room[n] -> look_pos[n] : lo + ask_room[n]);
           notes[n]!PAGE_NOTE, ask_stream[n], lo, id, (id == look_pos[n]);
           asked[n] = false; looked[n] = false; look_pos[n] = 0; lo = 0; id = 0 }
    od
}

/* Publishers, who log and publish in one step, and what goes wrong, at any moment. */
proctype world() {
    byte breaks, losses, trims, n;
end:
    do
    :: atomic { pos == N -> calm = true; break }
    :: atomic { pos < N -> pos++;
           for (n : 0 .. NODES - 1) { if :: listens[n] -> wire[n]!pos :: else fi };
           n = 0 }
    :: atomic { trims < TRIMS && trimmed < pos -> trims++; trimmed++ }
    :: atomic { breaks < BREAKS ->
           ANY(n);
           if :: listens[n] -> breaks++; listens[n] = false; broken[n] = true; heard[n] = false; repairing[n] = false; clear(wire[n])
              :: else
           fi; n = 0 }
    :: atomic { losses < LOSSES ->
           ANY(n);
           if :: heard[n] && known[n] && len(wire[n]) > 0 -> losses++; wire[n]?_ :: else fi;
           n = 0 }
    od
}

/* What it gets is judged here: nothing missing, nothing twice, nothing told as lost that the log has. */
proctype client() {
    byte item, hangups;
end:
    do
    :: atomic { state == CLOSED ->
           ANY(at);
           stream++; cursor = got; state = OPENING; watched[at] = true; ask(QUEUE) }
    :: atomic { state != CLOSED && hangups < HANGUPS && !calm -> hangups++; close_stream() }
    :: atomic { queue?item ->
           if
           :: item >= CONNECTED(0) -> assert(fresh); fresh = false; got = ID(item)
           :: item >= GAP(0) && item < CONNECTED(0) -> assert(ID(item) > got && ID(item) <= trimmed); got = ID(item)
           :: else -> assert(!fresh && item == got + 1); got = item
           fi; item = 0 }
    :: timeout -> /* nothing moves any more */
       assert(pos == N && state == LIVE && got == N); break
    od
}

init {
    atomic {
        if :: fresh = true :: fresh = false fi;
        for (at : 0 .. NODES - 1) { run bus(at) };
        at = 0; run world(); run client()
    }
}
