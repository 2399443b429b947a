#!lua name=sse_relay
-- SPDX-License-Identifier: Apache-2.0
-- What of sse-relay runs inside Redis 7 or newer: publishing (id, log, index and live message in one
-- atomic step), tickets and revocations. (Longer than our other files: to Redis, one library is one
-- file.)
--
--   FCALL sse_publish 1 P:{ns} topic T [topic T2 …] data D [event E] [retry MS] [once K]
--         [once_ttl MS] [ephemeral 1|true|0|false] [ttl MS] [match JSON object] [key K]
--         [priority instant|batched|coalesced|appended] [end 1|true|0|false] [end_after MS]
--         [log_max N] [log_ttl MS]
--       → id (of the first publish, if K was seen); nil for an ephemeral event. It always writes
--         something, so that a WAIT behind it is for this event, whoever published it first. What
--         each argument takes: docs/protocol.md, 8.1. A topic that has ended takes no event with an
--         id any more: "ERR sse_publish: topic: ended"
--   FCALL sse_drain 1 P:{ns} [count N]
--       → {published, rejected, left, "" or "<entry>: <why>" of the last one rejected}
--   FCALL sse_bridge 1 P:{ns} lease KEY owner TEXT ttl MS stream S group G [entry ID N ARGUMENT …] …
--       → {1, done, published, ended, refused, why, stopped, skipped}: TEXT has the lease KEY for ttl more
--         (0: no longer), and each entry of S, as the group G has read it, was published by its N
--         arguments (those of sse_publish; none: it was skipped) and acknowledged: `done` of them, in
--         their order; `ended` and `refused` are those of ended topics, and those that are no events,
--         as `why` says of the last. stopped: why not all are done, and of the rest nothing; else "".
--         Without entries {1, how many of G are not acknowledged}
--       → {0, ms}: another has the lease, for so long yet; or nobody has, and there were entries: who
--         takes it must read first what others have left. {2}: the first entry is not the first of
--         those that are not acknowledged: so do that. Nothing was done
--   FCALL sse_end 1 P:{ns} topic T [reason end|cancelled|timeout] [last ID]
--       → {id, reason, "1"}: T has ended, by an event of type "end" with that id. {id, reason, "0"}: it
--         had ended before, by that one. {"0", "", "0"}: its last id is not the ID, nothing was done
--   FCALL sse_ended 1 P:{ns} topic T [topic T2 …]
--       → {topic, id, reason, …} of those that have ended. Writes nothing
--   FCALL sse_due 1 P:{ns}
--       → the Unix time in ms at which the next topic with end_after is due, "0": none is. First it
--         ends up to DUE_STEP of those that are; so do sse_position and sse_since. An error says why
--         one of them could not be ended; the others have been, and it is tried again later
--   FCALL sse_position 1 P:{ns} [seen ID] [max_events N] [max_events_limit N] [log_ttl MS]
--         [index_ttl MS] [once_ttl MS] [control_prefix TEXT] [max_token_life MS]
--       → {position, horizon, the counter as this call found it or "0"}: a counter below what the
--          caller has seen is how it learns that Redis has forgotten something
--   FCALL sse_since 1 P:{ns} cursor C [topic T …] [prefix S …] [limit N]
--       → {position, horizon, id that pruning last raised the horizon to or "0",
--          {topic, last id, …}, upto, {topic, reason, …}}: each T ("0": unknown), then what has a last
--          id above C and begins with one of the S, in order of ids; the id up to which that is all;
--          and which of these topics have ended, by the event with their last id. With a limit, only
--          the first N of the index above C are gone through
--   FCALL sse_look 1 P:{ns} …
--       → the same as sse_since, without a write: while Redis refuses those. An error where sse_since
--         would have to create the counter or the horizon, or to raise one
--   FCALL sse_ticket 1 P:{ns} HASH grant JSON ttl MS until S
--       → OK. HASH: SHA-256 of the ticket's text, 64 hexadecimal digits. Unused it lives for ttl;
--         whatever happens, it is worthless from the Unix second S on (0: after 30 days)
--   FCALL sse_ticket_take 1 P:{ns} HASH connection ID cursor 0|1 grace MS [peek 0|1]
--       → {"ok", grant, the connection that has it, perhaps still open, or ""} or {"no", why}. The
--         first time by anybody; then only with a cursor, and a grace above 0; ID has it from now on.
--         peek 1: the same answer, and nothing changes
--   FCALL sse_ticket_end 1 P:{ns} HASH connection ID grace MS unused 0|1
--       → OK. ID's stream is over, if it still has the ticket: that lives for grace more (0: it is
--         gone). Where no client was told an id yet, unused: as good as new, for grace or for what is
--         left of its ttl
--   FCALL sse_revoke 1 P:{ns} jti J | sub S [before T] | kid K
--       → OK. before: the Unix second at which, or before which, the tokens were issued; default: now
--   FCALL sse_revoked 1 P:{ns}
--       → {kind, value, before, expires, …}: Unix seconds as text; before "0" but for sub, expires "0":
--         never. Writes nothing
--   FCALL sse_version 0 → VERSION, an integer
--
-- The one key, P:{ns}, is no key itself; all keys are made of it, in its slot: :seq (the counter),
-- :horizon, :pruned, :config (hash), :topics (sorted set, topic → last id), :ended (the same of those
-- that have ended), :ended:until (sorted set, topic → 10 × the Unix ms up to which :ended has it, plus
-- 1: end, 2: cancelled, 3: timeout), :due (sorted set, topic → Unix ms) and :due:id (topic → id: if
-- that is its last then), :log:<topic> (stream), :inbox (stream), :once:<key>, :ticket:<HASH> (hash),
-- :revoked:jti, :revoked:sub and :revoked:kid (sorted sets, value → expires), :revoked:before (sorted
-- set, subject → before); and the channels :ch:<topic>, :to:<tag of a node> and :revoked. Only
-- sse_bridge is given others: a lease, and a stream that is not ours. Arguments are pairs of name and
-- value. What is wrong with one is told as "ERR <function>: <argument>: <reason>", and then nothing
-- was changed. Ids are decimal text in every result and message: Lua itself would print 1.8e+15.
local VERSION = 8

local MAX_ID = 9007199254740991 -- 2^53 - 1: what JavaScript and Lua numbers hold exactly
local MAX_TOPICS = 64
local MAX_TOPIC_BYTES = 512
local MAX_TEXT_BYTES = 256      -- of event, once, key, and a name in match
local MAX_MATCH_BYTES = 4096    -- as JSON without white space
local MAX_RETRY_MS = 86400000
local MAX_END_AFTER_MS = 86400000
local MAX_PREFIX_BYTES = 32     -- of control_prefix
local PRUNE_STEP = 8            -- index entries at a time: bounds the work of one call
local DUE_STEP = 16             -- topics whose end_after has passed
local DUE_AGAIN_MS = 5000       -- for one that could not be ended: it must not hold up the others
local MAX_UNTIL_MS = 900000000000000 -- ten times that is still exact
local REASONS_STEP = 1000       -- from as many on, :ended:until is read as a whole
local DRAIN_COUNT = 100
local MAX_DRAIN_COUNT = 10000
local MAX_BRIDGED = 1000        -- entries of a call
local MAX_LEASE_MS = 3600000
local MIN_SINCE_LIMIT = 2 * MAX_TOPICS -- one event may have moved MAX_TOPICS to the same id
local SETTINGS_US = 1000000
local MAX_GRANT_BYTES = 65536
local MAX_TICKET_MS = 86400000
local TICKET_LIFE_MS = 2592000000    -- where its token has no end: 30 days
local MAX_TOKEN_LIFE_MS = 2592000000 -- for a namespace no relay has written :config of: 30 days
local LEEWAY_S = 600                 -- the most that a relay's auth.leeway can be
local MAX_REVOKED = 100000           -- of a kind
local MAX_REVOKED_BYTES = 1024
local REVOKED_STEP = 1000            -- expired ones that a full kind is freed of at a time
local DAY_S = 86400
local NO_FIELDS = {}

-- name → default, for a namespace no relay has written :config of
local SETTINGS = {
    max_events = '1000', log_ttl = '3600000', index_ttl = '604800000', once_ttl = '86400000',
    max_events_limit = '100000',
}

-- Why a topic has ended, and the last digit of its score in :ended:until.
local REASONS = { 'end', 'cancelled', 'timeout' }
local REASON_DIGITS = { ['end'] = 1, cancelled = 2, timeout = 3 }

-- While a library is loaded, Redis has none of these yet: space_open() binds them, where every call
-- comes by.
local call, attempt, find, format, gsub, json
local id_format -- the first is faster, but takes only what C calls a long

local function fail(who, reason)
    return redis.error_reply('ERR ' .. who .. ': ' .. reason)
end

local function id_text(id)
    return format(id_format, id)
end

-- A decimal integer of [low, high] as a number, or nil.
local function integer(text, low, high)
    local n = #text <= 16 and find(text, '^%d+$') and tonumber(text)
    return n and n >= low and n <= high and n or nil
end

-- Raises again what pcall() caught. Redis 7.0 hands that out as a string, to which error() would
-- prepend a position in this file.
local function throw(err)
    error(type(err) == 'table' and err or redis.error_reply(err))
end

local function quote(name)
    return (gsub(string.sub(name, 1, 32), '[%c\127-\255]', '?'))
end

-- ---- Namespace: its key names, its settings, its counter ----

-- While the slot of a namespace is moved from one node of a cluster to another, a client that follows
-- ASK reaches the new one, which has none of the keys, or a few: a publish there would begin a second
-- namespace, and one of the two is lost in the end. Redis does not know our keys, as they are made
-- here; but it refuses a command on two keys of such a slot. There are none by these names.
local function slot_check(space)
    local reply = attempt('EXISTS', space.key, space.guard)
    if type(reply) == 'table' and reply.err then
        if not redis.acl_check_cmd('EXISTS', space.key, space.guard) then
            throw(reply)
        end
        error(redis.error_reply('TRYAGAIN sse_relay: the slot of ' .. space.key
            .. ' is being moved to another node'))
    end
end

local last_space -- most calls come for the same namespace; one entry needs no bound

local function space_open(keys)
    if not call then
        find, format, gsub = string.find, string.format, string.gsub
        json, call, attempt = cjson.encode, redis.call, redis.pcall
        id_format = format('%d', MAX_ID) == format('%.0f', MAX_ID) and '%d' or '%.0f'
    end
    local key = keys[1]
    if last_space and last_space.key == key and #keys == 1 then
        slot_check(last_space)
        return last_space
    end
    local prefix, ns = string.match(key or '', '^([A-Za-z0-9_.:-]+):{([A-Za-z0-9_-]+)}$')
    if not prefix or #prefix > 64 or #ns > 64 or #keys ~= 1 then
        return nil
    end
    last_space = {
        key = key, guard = key .. ':guard', raw = {},
        seq = key .. ':seq', horizon = key .. ':horizon', pruned = key .. ':pruned',
        config = key .. ':config', topics = key .. ':topics', inbox = key .. ':inbox',
        ended = key .. ':ended', ended_until = key .. ':ended:until',
        due = key .. ':due', due_id = key .. ':due:id',
        log = key .. ':log:', channel = key .. ':ch:', once = key .. ':once:', mend = key .. ':mend',
        ticket = key .. ':ticket:', revoked = key .. ':revoked', to = key .. ':to:',
    }
    slot_check(last_space)
    return last_space
end

-- Sets max_events, log_ttl, index_ttl, once_ttl, max_events_limit and control_prefix of @space. Anybody
-- can write the hash: what is not a positive integer would make XADD or PEXPIRE fail half-way, so the
-- default stands in for it.
-- Checked again only when the text has changed.
local function space_load_settings(space, now)
    local raw = space.raw
    space.settings_read = nil -- if this fails, the next caller tries, too
    local c = call('HMGET', space.config, 'max_events', 'log_ttl', 'index_ttl', 'once_ttl',
        'control_prefix', 'max_events_limit')
    space.settings_read = now
    if c[1] == raw[1] and c[2] == raw[2] and c[3] == raw[3] and c[4] == raw[4]
        and c[5] == raw[5] and c[6] == raw[6] then
        return
    end
    space.raw = c
    space.control_prefix = c[5] and c[5] ~= '' and c[5]
    for i, name in ipairs({ 'max_events', 'log_ttl', 'index_ttl', 'once_ttl', false, 'max_events_limit' }) do
        local n = name and c[i] and integer(c[i], 1, MAX_ID)
        if name then
            space[name] = n and id_text(n) or SETTINGS[name]
        end
    end
end

-- The same, but for callers in a hurry: what somebody has just written there may wait for a second.
local function space_keep_settings(space, now)
    local age = now - (space.settings_read or 0)
    if age < 0 or age > SETTINGS_US then
        space_load_settings(space, now)
    end
end

local function clock_us()
    local t = call('TIME')
    return t[1] * 1000000 + t[2]
end

-- The number in key @name of a namespace, nil if there is none.
local function number_at(name, text)
    if not text then
        return nil
    end
    local n = tonumber(text)
    if not (n and n >= 0 and n <= MAX_ID and n % 1 == 0) then
        error(redis.error_reply('ERR sse_relay: ' .. name .. ' does not hold an id'))
    end
    return n
end

-- A score of the index as an id. Nil for what anybody may have written there, but not we.
local function score_id(score)
    local n = tonumber(score or nil)
    return n and n > 0 and n <= MAX_ID and n % 1 == 0 and n or nil
end

-- The highest id in a part of the index, nil if it has none. What is no id would hide the highest,
-- so it goes, or with @reading is passed over; the topic's log still has the chain.
local function part_top(part, reading)
    for i = 0, PRUNE_STEP - 1 do
        local at = reading and i or 0
        local top = call('ZREVRANGE', part, at, at, 'WITHSCORES')
        if not top[1] or score_id(top[2]) then
            return score_id(top[2])
        end
        if not reading then
            redis.log(redis.LOG_WARNING, 'sse_relay: removing ' .. quote(top[1]) .. ' from '
                .. part .. ': its score ' .. top[2] .. ' is no id')
            call('ZREM', part, top[1])
        end
    end
    return nil
end

-- The highest id in the index, nil if it has none: gone, or nothing was published yet. Topics that
-- have ended belong to it: where only those are left, nothing was lost.
local function index_top(space, reading)
    local top, ended = part_top(space.topics, reading), part_top(space.ended, reading)
    return top and ended and math.max(top, ended) or top or ended
end

-- Where a counter that is gone has to start: above the clock and above every id that the small keys
-- still remember, for the clock may be behind. And the highest id in the index.
local function counter_restore(space, now)
    local top = index_top(space)
    return math.max(now, number_at(space.horizon, call('GET', space.horizon)) or 0,
        number_at(space.pruned, call('GET', space.pruned)) or 0, top or 0), top
end

-- ---- Logs ----

-- The last id a log was given (not its last entry's: that may have been deleted), the same as text,
-- and its last entry.
local function log_tail(log)
    local info, tail = call('XINFO', 'STREAM', log), {}
    for i = 1, #info, 2 do
        tail[info[i]] = info[i + 1]
    end
    local text = tail['last-generated-id']
    return tonumber(string.match(text, '^%d+')), text, tail['last-entry']
end

-- Copies the entries with ids up to 2^53 from one stream to the end of another.
local function entries_copy(from, to)
    local after = '-'
    repeat
        local entries = call('XRANGE', from, after, id_text(MAX_ID) .. '-0', 'COUNT', DRAIN_COUNT)
        for _, entry in ipairs(entries) do
            call('XADD', to, entry[1], unpack(entry[2]))
            after = '(' .. entry[1]
        end
    until #entries == 0
end

-- A log that somebody gave an entry above 2^53 takes no event of ours any more. Such entries are
-- none of ours, and no relay reads them: they go, and all others stay. The log is made anew, as a
-- stream's last id can only rise (XSETID below what was deleted is refused from Redis 8 on). By way
-- of another key, so that no more than a few entries are held here at a time.
local function log_mend(space, log, last)
    local before = call('XLEN', log)
    call('DEL', space.mend)
    entries_copy(log, space.mend)
    call('DEL', log)
    entries_copy(space.mend, log)
    call('DEL', space.mend)
    local kept = call('XLEN', log)
    if kept > 0 then
        space_load_settings(space, clock_us())
        call('PEXPIRE', log, space.log_ttl)
    end
    redis.log(redis.LOG_WARNING, 'sse_relay: ' .. log .. ' was at ' .. last
        .. ', above every possible id: removed ' .. before - kept .. ' entries that are not ours')
end

-- The last id a log was given, 0 if there is no log; and its last entry.
local function log_floor(space, log)
    if call('EXISTS', log) == 0 then
        return 0
    end
    local id, text, entry = log_tail(log)
    if id <= MAX_ID then
        return id, entry
    end
    local ok, err = pcall(log_mend, space, log, text)
    if not ok then
        error(redis.error_reply('ERR sse_relay: ' .. log .. ' is at ' .. text .. ', above every '
            .. 'possible id, and cannot be mended (' .. (type(err) == 'table' and err.err or err)
            .. '): delete the key'))
    end
    if call('EXISTS', log) == 0 then
        return 0
    end
    local mended, _, last = log_tail(log)
    return mended, last
end

local function entry_field(entry, name)
    for i = 1, #entry[2], 2 do
        if entry[2][i] == name then
            return entry[2][i + 1]
        end
    end
    return nil
end

local function is_ours(entry)
    return entry_field(entry, 'prev') and find(entry[1], '-0', 1, true)
end

-- The last id of a topic that the index does not know, 0 if its log does not tell; and why it has
-- ended, if by that event. An entry by another hand must not pass for the chain's end: its id may be
-- any time, and one far back would hide from a cursor that Redis has lost what was between.
local function log_last_id(space, topic)
    local id, entry = log_floor(space, space.log .. topic)
    if not entry then
        return id
    elseif is_ours(entry) then
        local reason = entry_field(entry, 'end')
        return id, REASON_DIGITS[reason] and entry[1] == id_text(id) .. '-0' and reason or nil
    elseif id <= (number_at(space.horizon, call('GET', space.horizon)) or MAX_ID) then
        return 0
    end
    return id
end

-- ---- The index ----

-- That is forgotten: a cursor below it may have missed something. :pruned equal to :horizon tells
-- this reason from a Redis that lost its data.
local function horizon_raise(space, id)
    if id > (number_at(space.horizon, call('GET', space.horizon)) or 0) then
        call('SET', space.horizon, id_text(id))
        call('SET', space.pruned, id_text(id))
    end
end

-- Forgets a few topics that have been silent for index_ttl, and says so in the horizon first. The
-- last topic stays: an index that is gone has been lost. (@has_new: one was written just now.)
local function index_prune(space, now, has_new)
    local cut = '(' .. id_text(now - space.index_ttl * 1000) -- microseconds, as ids are
    local old = call('ZRANGEBYSCORE', space.topics, '-inf', cut,
        'LIMIT', 0, PRUNE_STEP, 'WITHSCORES')
    local count = #old
    if not has_new and count > 0 and count == 2 * call('ZCARD', space.topics) then
        count = count - 2
    end
    if count <= 0 then
        return
    end
    horizon_raise(space, tonumber(old[count]))
    for i = 1, count, 2 do
        call('ZREM', space.topics, old[i])
    end
end

local function ended_reason(space, topic)
    local digit = tonumber(call('ZSCORE', space.ended_until, topic) or nil) or 1
    return REASONS[digit % 10] or REASONS[1]
end

local function ended_keep(space, topic, until_ms, reason)
    call('ZADD', space.ended_until,
        id_text(math.min(until_ms, MAX_UNTIL_MS) * 10 + REASON_DIGITS[reason]), topic)
end

-- How long a topic's log is going to live, in ms; nil: for ever, or it is gone, or who calls may not ask.
local function log_life(space, topic)
    local left = attempt('PTTL', space.log .. topic)
    return type(left) == 'number' and left > 0 and left or nil
end

-- The same for a few topics that have ended. Not before their log is gone: it would tell that there
-- was something before a topic that begins anew. And not the latest, where it is all of the index:
-- nothing renews that one, so a publish may take its place (ended_is_over()).
local function ended_prune(space, now)
    local ms = math.floor(now / 1000)
    local old, highest = call('ZRANGEBYSCORE', space.ended_until, '-inf', '(' .. id_text(ms * 10),
        'LIMIT', 0, PRUNE_STEP), 0
    if not old[1] then
        return
    end
    local last = call('ZCARD', space.topics) == 0 and call('ZREVRANGE', space.ended, 0, 0)[1]
    local over = {}
    for _, topic in ipairs(old) do
        if topic ~= last and call('EXISTS', space.log .. topic) == 1 then
            ended_keep(space, topic, ms + (log_life(space, topic) or space.log_ttl),
                ended_reason(space, topic))
        elseif topic ~= last then
            highest = math.max(highest, score_id(call('ZSCORE', space.ended, topic)) or 0)
            over[#over + 1] = topic
        end
    end
    horizon_raise(space, highest)
    for _, topic in ipairs(over) do
        call('ZREM', space.ended, topic)
        call('ZREM', space.ended_until, topic)
    end
end

-- What somebody took out of :ended:until would stay in :ended for ever: its time begins anew.
local function ended_mend(space, now)
    if call('ZCARD', space.ended) <= call('ZCARD', space.ended_until) then
        return
    end
    for _, topic in ipairs(call('ZRANGEBYSCORE', space.ended, '-inf', '+inf')) do
        if not call('ZSCORE', space.ended_until, topic) then
            ended_keep(space, topic, math.floor(now / 1000) + space.log_ttl, REASONS[1])
        end
    end
end

-- Whether the time of one that has ended is over, so that it may begin anew though nothing has pruned
-- it yet; and its score in :ended:until.
local function ended_is_over(space, topic, now)
    local kept = call('ZSCORE', space.ended_until, topic)
    local is_kept = math.floor((tonumber(kept or nil) or 0) / 10) >= math.floor(now / 1000)
    return not is_kept and call('EXISTS', space.log .. topic) == 0, kept
end

-- A topic's last id, 0 if nothing tells one, and why it has ended: nil, if it has not.
local function topic_state(space, topic)
    local id = score_id(call('ZSCORE', space.topics, topic))
    if id then
        return id
    end
    id = score_id(call('ZSCORE', space.ended, topic))
    if id then
        return id, ended_reason(space, topic)
    end
    local ok, found, reason = pcall(log_last_id, space, topic) -- a log key may be of any type
    if ok then
        return found, reason
    end
    return 0
end

-- ---- Arguments of a publish ----

-- The law of the fields: docs/protocol.md, 8.1. relay/core/publication_fields.c has the same
-- for HTTP, and test/vectors/fields.json holds both to it: what one refuses, the other must.

-- True if every byte above 127 belongs to a whole UTF-8 sequence. A sequence is replaced, not
-- removed, or its neighbours would join to a new one.
local UTF8_SEQUENCES = {
    '[\194-\223][\128-\191]',
    '\224[\160-\191][\128-\191]', '\237[\128-\159][\128-\191]',
    '[\225-\236\238\239][\128-\191][\128-\191]',
    '\240[\144-\191][\128-\191][\128-\191]', '\244[\128-\143][\128-\191][\128-\191]',
    '[\241-\243][\128-\191][\128-\191][\128-\191]',
}

local function utf8_valid(text)
    for _, sequence in ipairs(UTF8_SEQUENCES) do
        text = gsub(text, sequence, '.')
    end
    return not find(text, '[\128-\255]')
end

-- What is wrong with a topic, or nil.
local function topic_fault(topic)
    local size = #topic
    if size == 0 then
        return 'empty'
    elseif size > MAX_TOPIC_BYTES then
        return 'longer than 512 bytes'
    elseif find(topic, '[%z\1-\32\127-\255*>]') then
        if find(topic, '[*>]') then
            return 'a wildcard, where only a topic can be published to'
        elseif find(topic, '[%z\1-\32\127]') then
            return 'contains a space or a control byte'
        elseif not utf8_valid(topic) then
            return 'not UTF-8'
        end
    end
    local byte = string.byte
    if byte(topic) == 46 or byte(topic, size) == 46 or find(topic, '..', 1, true) then
        return 'contains an empty token'
    end
    return nil
end

-- What is wrong with a text without control characters, or nil. Most are printable ASCII, and one
-- search in a set of one range is all they cost.
local function text_fault(value)
    local size = #value
    if size == 0 or size > MAX_TEXT_BYTES then
        return 'not 1 to 256 bytes'
    elseif find(value, '[^ -~]') then
        if find(value, '[%z\1-\31\127]') then
            return 'contains a control character'
        elseif not utf8_valid(value) then
            return 'not UTF-8'
        end
    end
    return nil
end

local function plain_text(value)
    local fault = text_fault(value)
    if fault then
        return nil, fault
    end
    return value, json(value)
end

-- What would end a line is dropped here, and what is not UTF-8 is replaced by who renders it (section
-- 5); over HTTP both are refused.
local function event_type(value, prefix)
    if find(value, '[^ -~]') then
        value = gsub(value, '[%z\r\n]', '')
    end
    if value == '' or #value > MAX_TEXT_BYTES then
        return nil, 'not 1 to 256 bytes'
    elseif find(value, '^relay%.') or (prefix and string.sub(value, 1, #prefix) == prefix) then
        return nil, "begins like the types of the relay's own events"
    end
    return value, json(value)
end

-- As a number is written: no zero in front, so that the text may stay as it is.
local function plain_number(value, low, high, what)
    if find(value, '^0%d') or not integer(value, low, high) then
        return nil, 'not a number' .. what .. ' from ' .. low .. ' to ' .. id_text(high)
    end
    return value, value
end

local function milliseconds(value, low, high)
    return plain_number(value, low, high, ' of milliseconds')
end

-- The number of members of an object of strings, nil if it is something else.
local function match_members(tree)
    local count = 0
    for name, value in pairs(type(tree) == 'table' and tree or NO_FIELDS) do
        if type(name) ~= 'string' or text_fault(name)
            or type(value) ~= 'string' or find(value, '[%z\1-\31\127]') then
            return nil
        end
        count = count + 1
    end
    return count > 0 and count
end

-- Written anew, without white space. cjson takes more than JSON: it ends at a NUL, and of a name
-- that stands twice it keeps one (then there are more string literals than the members need).
local function match_text(value)
    value = gsub(value, '^\239\187\191', '') -- a byte order mark
    local ok, tree = pcall(cjson.decode, value)
    local count = ok and match_members(tree)
    if not count or find(value, '%z') or not utf8_valid(value) then
        return nil
    end
    local _, literals = gsub(gsub(value, '\\.', ''), '"[^"]*"', '')
    local written = gsub(json(tree), '\\/', '/')
    return literals == 2 * count and #written <= MAX_MATCH_BYTES and written or nil
end

-- When an event leaves for a client: common/lane.h. Only with a topic of its own can it be the
-- latest of something, or go on with it.
local LANES = { instant = true, batched = true, coalesced = true, appended = true }
local MERGING = { coalesced = true, appended = true }

-- name → function(value): text for the log and JSON for the envelope, or nil and what is wrong.
local OPTIONS = {
    event = event_type,
    key = plain_text,
    retry = function(value)
        return milliseconds(value, 0, MAX_RETRY_MS)
    end,
    ttl = function(value)
        return milliseconds(value, 1, MAX_ID)
    end,
    priority = function(value)
        if LANES[value] then
            return value, json(value)
        end
        return nil, 'not one of instant, batched, coalesced, appended'
    end,
    end_after = function(value)
        return milliseconds(value, 1, MAX_END_AFTER_MS)
    end,
    match = function(value)
        local written = match_text(value)
        return written, written or 'not a JSON object of strings with at least one member and none '
            .. 'twice, of at most 4096 bytes'
    end,
}

local FLAGS = { ['1'] = true, ['true'] = true, ['0'] = false, ['false'] = false }

local function event_add_topic(e, topic)
    local fault = topic_fault(topic)
    if fault then
        return 'topic: ' .. fault
    end
    local topics = e.topics
    for i = 1, #topics do
        if topics[i] == topic then
            return nil -- one event, one topic, once
        end
    end
    if #topics == MAX_TOPICS then
        return 'topic: more than ' .. MAX_TOPICS
    end
    topics[#topics + 1] = topic
    return nil
end

-- By their bytes, and not as Redis's locale would sort them.
local function topic_before(a, b)
    for i = 1, math.min(#a, #b) do
        local x, y = string.byte(a, i), string.byte(b, i)
        if x ~= y then
            return x < y
        end
    end
    return #a < #b
end

local function event_add_field(e, name, written, in_json)
    local fields = e.fields == NO_FIELDS and {} or e.fields
    fields[#fields + 1] = name
    fields[#fields + 1] = written
    e.fields = fields
    e.json = e.json .. ',"' .. name .. '":' .. in_json
end

-- The flag `name`, or what is wrong.
local function event_set_flag(e, name, value)
    if FLAGS[value] == nil then
        return 'not one of 1, true, 0, false'
    end
    e[name] = FLAGS[value]
    return nil
end

-- What of retention one event asks for.
local function event_set_retention(e, name, value)
    local fault
    if name == 'log_max' then
        e.log_max, fault = plain_number(value, 1, tonumber(e.space.max_events_limit), '')
    else
        e.log_ttl, fault = milliseconds(value, 1, tonumber(e.space.index_ttl))
    end
    return not e[name] and fault
end

local function event_set_option(e, name, value)
    local fault = nil
    if name == 'once' then
        e.once, fault = value, text_fault(value)
    elseif name == 'once_ttl' then
        e.once_ttl, fault = milliseconds(value, 1, MAX_ID)
        fault = not e.once_ttl and fault
    elseif name == 'ephemeral' or name == 'end' then
        fault = event_set_flag(e, name, value)
    elseif name == 'log_max' or name == 'log_ttl' then
        fault = event_set_retention(e, name, value)
    elseif OPTIONS[name] then
        local written, in_json = OPTIONS[name](value, e.space.control_prefix)
        if written then
            event_add_field(e, name, written, in_json)
        end
        fault = not written and in_json
    else
        return quote(name) .. ': unknown argument'
    end
    return fault and name .. ': ' .. fault or nil
end

-- An ephemeral event has no id that a second publish could be answered with. Relays give each POST
-- a key of their own all the same, so that they may send it again: "~…", with its own time.
local function is_relays_key(e)
    return e.once_ttl and find(e.once, '^~')
end

local function event_new(space)
    return {
        space = space, topics = {}, fields = NO_FIELDS, json = '',
        -- What it gets later stands here, too: a table that grows is made anew.
        data = false, once = false, once_ttl = false, ephemeral = false, tail = false,
        prev = false, scores = false, counter = false, fresh = false, has_horizon = false,
        written = 0, over = false, ends = false, end_after = false, log_max = false, log_ttl = false,
    }
end

-- It is the last of its topics.
local function event_end(e, reason)
    e.ends = reason
    event_add_field(e, 'end', reason, json(reason))
end

-- What of the things that were @given do not go together: "argument: reason", or nil.
local function event_clash(e, given)
    local ephemeral = e.ephemeral and ': together with ephemeral, which has no id and no log'
    for _, name in ipairs({ 'end', 'end_after', 'log_max', 'log_ttl' }) do
        if ephemeral and given[name] and given[name] ~= '0' and given[name] ~= 'false' then
            return name .. ephemeral
        end
    end
    if e['end'] and given.match then
        return 'end: together with match, by which some would not learn of it'
    elseif MERGING[given.priority] and e.topics[2] then
        return 'priority: ' .. given.priority .. ' together with several topics'
    elseif given.priority == 'appended' and (given.ttl or given.retry) then
        return 'priority: appended together with ttl or retry'
    end
    return nil
end

-- An event on several topics is never merged: a stream on two of them has it once, and the merge on
-- one topic would be a loss on the other. So it has a lane, and the rules of relays leave it alone.
local function event_settle_lane(e, given)
    if e.topics[2] and not (given and given.priority) then
        event_add_field(e, 'priority', 'instant', '"instant"')
    end
end

-- @args: alternating names and values, of FCALL or of an inbox entry. An event, or nil and
-- "argument: reason".
local function event_parse(space, args)
    local e = event_new(space)
    local given = nil
    for i = 1, #args, 2 do
        local name, value = args[i], args[i + 1]
        local fault = nil
        if not value then
            fault = quote(name) .. ': has no value'
        elseif name == 'topic' then
            fault = event_add_topic(e, value)
        elseif name == 'data' then
            fault = e.data and 'data: given twice'
            e.data = value
        else
            given = given or {}
            fault = given[name] and quote(name) .. ': given twice'
                or event_set_option(e, name, value)
            given[name] = value
        end
        if fault then
            return nil, fault
        end
    end
    if not e.topics[1] then
        return nil, 'topic: missing'
    elseif not e.data then
        return nil, 'data: missing'
    elseif e.once_ttl and not e.once then
        return nil, 'once_ttl: without once'
    elseif e.ephemeral and e.once and not is_relays_key(e) then
        return nil, 'once: together with ephemeral, which has no id to remember'
    end
    if e.topics[2] then -- a subscriber has the event by the first that it asked for, live as replayed
        table.sort(e.topics, topic_before)
    end
    local clash = given and event_clash(e, given)
    if clash then
        return nil, clash
    elseif given and e['end'] then
        event_end(e, 'end')
    end
    e.end_after = given and not e.ends and given.end_after
    event_settle_lane(e, given)
    return e
end

-- ---- Publishing ----

-- Whether the horizon has to move: what is older than this publish is forgotten, because the index
-- is gone. (While nothing was published, there is none, and the counter is at the horizon.)
local function is_forgotten(space, e, counter)
    if part_top(space.topics) or part_top(space.ended) then
        return false
    end
    local horizon = number_at(space.horizon, call('GET', space.horizon))
    e.has_horizon = horizon
    return not horizon or tonumber(counter) > horizon
end

-- The last ids of those of the topics that the index does not know, by topic; nil, if one has ended.
-- Those whose end is over are noted in e.over, as {topic, score, score in :ended:until}.
local function topics_unknown(space, e, topics, now)
    local logs, found = {}, {}
    for i, topic in ipairs(topics) do
        local ended = call('ZSCORE', space.ended, topic)
        if score_id(ended) then
            local is_over, kept = ended_is_over(space, topic, now)
            if not is_over then
                return nil
            end
            e.over = e.over or {}
            e.over[#e.over + 1] = { topic, ended, kept }
        end
        logs[i] = space.log .. topic
    end
    local none = topics[2] and call('EXISTS', unpack(logs)) == 0 -- as it is with new topics
    for _, topic in ipairs(topics) do
        local id, reason = 0, nil
        if not none then
            id, reason = log_last_id(space, topic)
        end
        if reason then
            return nil
        end
        found[topic] = id
    end
    return found
end

-- Looks at what an end, or a later one, is going to write: a key of a wrong type must show before the
-- first write.
local function ends_place(space, e)
    if e.ends then
        call('ZCARD', space.ended)
        call('ZCARD', space.ended_until)
    elseif e.end_after then
        call('ZCARD', space.due)
        call('ZCARD', space.due_id)
    end
end

-- Fills e.prev and e.scores (both per topic), e.counter, e.fresh (a topic is new to the index).
-- Returns the event's id and, where the horizon has to move with it, true; nil, if a topic has ended.
-- Changes nothing but what is no id: whatever is of the wrong type in Redis shows here.
local function event_place(space, e, now)
    local counter, last_ids, unknown = call('GET', space.seq), {}, nil
    local last, forgotten, top = number_at(space.seq, counter), false, nil
    if not last then
        last, top = counter_restore(space, now)
        e.fresh, forgotten = true, not top
    end
    local topics, prev, scores = e.topics, {}, {}
    for i = 1, #topics do
        scores[i] = call('ZSCORE', space.topics, topics[i])
        last_ids[i] = score_id(scores[i])
        if not last_ids[i] then
            unknown = unknown or {}
            unknown[#unknown + 1] = topics[i]
        end
    end
    local found = unknown and topics_unknown(space, e, unknown, now)
    if unknown and not found then
        return nil
    end
    ends_place(space, e)
    e.fresh = e.fresh or unknown
    local id = last + 1
    if id < now then
        id = now
    end
    for i = 1, #topics do
        local before = last_ids[i] or found[topics[i]]
        if before >= id then -- the counter was set back
            id = before + 1
        end
        prev[i] = id_text(before)
    end
    if e.fresh and counter then
        forgotten = is_forgotten(space, e, counter)
    end
    e.prev, e.scores, e.counter = prev, scores, counter
    return id, forgotten
end

-- Of the topic of a connection: the node that has it, and its id. Nobody subscribes to such a topic.
local function connection_of(topic)
    if #topic ~= 43 or not find(topic, '^connection%.%x+$') then
        return nil
    end
    return string.sub(topic, 12, 19), string.sub(topic, 12)
end

local function event_send(space, e, head, i)
    local topic = e.topics[i]
    local text = head .. '"topic":' .. json(topic) .. e.tail
    call('PUBLISH', space.channel .. topic, text)
    local tag, id = connection_of(topic)
    if tag then
        call('PUBLISH', space.to .. tag, id .. text)
    end
end

-- An end trims and shortens nothing that is there, unless it says so.
local function event_log(space, e, i, entry)
    local log = space.log .. e.topics[i]
    if e.ends and not e.log_max then
        call('XADD', log, entry, 'data', e.data, 'prev', e.prev[i], unpack(e.fields))
    else
        call('XADD', log, 'MAXLEN', '~', e.log_max or space.max_events, entry,
            'data', e.data, 'prev', e.prev[i], unpack(e.fields))
    end
    e.written = i
    if not e.ends or e.log_ttl then
        call('PEXPIRE', log, e.log_ttl or space.log_ttl)
    elseif call('PEXPIRE', log, space.log_ttl, 'NX') == 0 then
        call('PEXPIRE', log, space.log_ttl, 'GT')
    end
end

-- From one part of the index to the other.
local function event_leave_index(space, e, now, text, topic)
    local keep = math.max(tonumber(space.log_ttl), tonumber(e.log_ttl or 0),
        log_life(space, topic) or 0)
    call('ZREM', space.topics, topic)
    call('ZADD', space.ended, text, topic)
    ended_keep(space, topic, math.ceil(now / 1000) + keep, e.ends)
end

-- What is over makes way for the topic that begins anew, as if it had been pruned before.
local function event_clear(space, over)
    horizon_raise(space, score_id(over[2]))
    call('ZREM', space.ended, over[1])
    call('ZREM', space.ended_until, over[1])
end

-- What was due a whole index_ttl ago is forgotten, as its topic is: nobody has looked at this
-- namespace since, and it must not grow for that.
local function due_prune(space, now, count)
    local cut = '(' .. id_text(math.floor(now / 1000) - space.index_ttl)
    local old = call('ZRANGEBYSCORE', space.due, '-inf', cut, 'LIMIT', 0, count)
    if old[1] then
        call('ZREM', space.due, unpack(old))
        call('ZREM', space.due_id, unpack(old))
    end
end

-- Notes when the topic is due.
local function event_due(space, at_ms, text, topic)
    call('ZADD', space.due, id_text(at_ms), topic)
    call('ZADD', space.due_id, text, topic)
end

-- PUBLISH comes last: it alone cannot be taken back. Before it what nothing can keep from being
-- written any more (ends_place(), permissions_check()).
local function event_write(space, e, now, id, forgotten)
    e.written = 0
    if id > MAX_ID then
        error(redis.error_reply('ERR sse_publish: no id is left, ' .. space.seq .. ' is at 2^53'))
    end
    local text = id_text(id)
    local entry = text .. '-0'
    call('SET', space.seq, text)
    if e.fresh then
        local before = id_text(id - 1)
        if forgotten then
            call('SET', space.horizon, before)
        elseif not e.has_horizon then
            call('SET', space.horizon, before, 'NX')
        end
    end
    for _, over in ipairs(e.over or NO_FIELDS) do
        event_clear(space, over)
    end
    for i = 1, #e.topics do
        event_log(space, e, i, entry)
        if e.ends then
            event_leave_index(space, e, now, text, e.topics[i])
        else
            call('ZADD', space.topics, text, e.topics[i])
        end
    end
    if e.once then
        call('SET', space.once .. e.once, text, 'PX', e.once_ttl or space.once_ttl)
    end
    if e.ends then
        ended_prune(space, now)
    elseif e.fresh then
        index_prune(space, now, true)
    end
    if e.end_after then
        due_prune(space, now, PRUNE_STEP + #e.topics)
    end
    for i = 1, e.end_after and #e.topics or 0 do
        event_due(space, math.ceil(now / 1000) + e.end_after, text, e.topics[i])
    end
    local head = '{"sse":1,"id":"' .. text .. '","prev":"'
    for i = 1, #e.topics do
        event_send(space, e, head .. e.prev[i] .. '",', i)
    end
    return text
end

-- Takes back what event_write() did before it failed: an ACL that allows some of the commands, a
-- log key of a wrong type. The counter is set back only if all else was: an id that somebody may
-- find is never given twice. (Left alone, it would look as if an index had been lost.)
local function event_undo(space, e, id)
    local clean = true
    local function try(...)
        local reply = attempt(...)
        clean = clean and not (type(reply) == 'table' and reply.err)
        return reply
    end
    local function restore(key, score, member)
        if score then
            try('ZADD', key, score, member)
        else
            try('ZREM', key, member)
        end
    end
    for i = 1, e.written do
        local topic = e.topics[i]
        local log = space.log .. topic
        try('XDEL', log, id_text(id) .. '-0')
        if try('XLEN', log) == 0 then
            try('DEL', log)
        end
        restore(space.topics, e.scores[i], topic)
        if e.ends then
            try('ZREM', space.ended, topic)
            try('ZREM', space.ended_until, topic)
        end
    end
    for _, over in ipairs(e.over or NO_FIELDS) do
        restore(space.ended, over[2], over[1])
        restore(space.ended_until, over[3], over[1])
    end
    if e.once then
        try('DEL', space.once .. e.once)
    end
    if clean and e.counter then
        try('SET', space.seq, e.counter)
    end
end

-- Asked before the first write where event_undo() would not help: with several topics, the user may
-- be allowed only some of the channels; an ephemeral event leaves nothing but its `once`; and what
-- lets a topic end, or is to do so later, must not be half of it.
local function channels_check(space, e)
    for _, topic in ipairs(e.topics) do
        local tag = connection_of(topic)
        if not redis.acl_check_cmd('PUBLISH', space.channel .. topic, '')
            or tag and not redis.acl_check_cmd('PUBLISH', space.to .. tag, '') then
            error(redis.error_reply('NOPERM sse_publish: topic: no permission for the channel of '
                .. quote(topic)))
        end
    end
end

local function ends_check(name, keys)
    for _, key in ipairs(keys) do
        if not redis.acl_check_cmd('ZADD', key, '1', '')
            or not redis.acl_check_cmd('ZREM', key, '') then
            error(redis.error_reply('NOPERM sse_publish: ' .. name .. ': no permission to write '
                .. key))
        end
    end
end

local function permissions_check(space, e)
    if e.topics[2] or e.ephemeral or e.ends or e.end_after or connection_of(e.topics[1]) then
        channels_check(space, e)
    end
    if e.ends then
        ends_check('end', { space.topics, space.ended, space.ended_until })
    elseif e.end_after then
        ends_check('end_after', { space.due, space.due_id })
    end
end

-- XADD refuses an id below what a log was given before, and would for ever: somebody wrote there,
-- or brought back an old index. The lowest id that all of the logs take, nil if that was not it.
local function event_id_above_logs(space, e, id, err)
    local text = type(err) == 'table' and err.err or tostring(err)
    if not find(text, 'in XADD is equal or smaller', 1, true)
        and not find(text, 'stream has exhausted', 1, true) then
        return nil
    end
    for _, topic in ipairs(e.topics) do
        id = math.max(id, log_floor(space, space.log .. topic) + 1)
    end
    return id
end

-- A publish that only finds its key must write all the same: WAIT behind it waits for what its own
-- connection has written (Redis 7.2 on, Valkey), and a replica may lack the first publish still. The
-- key is written as it is, its expiry included.
local function once_rewrite(space, e, first)
    call('SET', space.once .. e.once, first, 'KEEPTTL')
end

local twins = 0

-- The id as text; false for an ephemeral event, which has none; nil and what is wrong, if a topic has
-- ended. Settings must be loaded.
local function event_publish(space, e, now)
    if e.once then
        local first = call('GET', space.once .. e.once)
        if first then
            once_rewrite(space, e, first)
            return first ~= '' and first
        end
    end
    permissions_check(space, e)
    e.tail = ',"data":' .. json(e.data) .. e.json .. '}'
    if e.ephemeral then
        if e.once then
            call('SET', space.once .. e.once, '', 'PX', e.once_ttl or space.once_ttl)
        end
        -- On several topics it needs a mark, as it has no id by which a relay could tell its copies.
        twins = (twins + 1) % 1000
        local mark = e.topics[2] and '"twin":"' .. id_text(now + twins) .. '",' or ''
        for i = 1, #e.topics do
            event_send(space, e, '{"sse":1,' .. mark, i)
        end
        return false
    end
    local id, forgotten = event_place(space, e, now)
    if not id then
        return nil, 'topic: ended'
    end
    local ok, result = pcall(event_write, space, e, now, id, forgotten)
    if not ok then
        event_undo(space, e, id)
        id = event_id_above_logs(space, e, id, result)
        if not id then
            throw(result)
        end
        ok, result = pcall(event_write, space, e, now, id, forgotten)
        if not ok then
            event_undo(space, e, id)
            throw(result)
        end
    end
    return result
end

local function sse_publish(keys, args)
    local space = space_open(keys)
    if not space then
        return fail('sse_publish', 'key: not one key of the form prefix:{namespace}')
    end
    local now = clock_us()
    space_keep_settings(space, now)
    local e, fault = event_parse(space, args)
    if not e then
        return fail('sse_publish', fault)
    end
    local id, refusal = event_publish(space, e, now)
    return refusal and fail('sse_publish', refusal) or id
end

-- ---- Inbox ----

-- A fault of this entry alone: its text. Not of a key that concerns all of them: of those that every
-- publish uses, that was seen before the first entry; the others are looked at now, and raise it.
local function entry_fault(space, err)
    local text = type(err) == 'table' and err.err or tostring(err)
    if not find(text, '^%-?WRONGTYPE') then
        return nil
    end
    for _, key in ipairs({ space.topics, space.ended, space.ended_until, space.due, space.due_id }) do
        call('ZCARD', key)
    end
    return text
end

-- nil when published, else why not.
local function inbox_move(space, fields, now)
    local e, fault = event_parse(space, fields)
    if not e then
        return fault
    end
    local ok, err, refusal = pcall(event_publish, space, e, now)
    if ok then
        return refusal
    end
    return entry_fault(space, err) or throw(err)
end

local function sse_drain(keys, args)
    local space = space_open(keys)
    if not space then
        return fail('sse_drain', 'key: not one key of the form prefix:{namespace}')
    end
    local count = DRAIN_COUNT
    if args[1] == 'count' then
        count = args[2] and integer(args[2], 1, MAX_DRAIN_COUNT)
        if not count then
            return fail('sse_drain', 'count: not an integer from 1 to ' .. MAX_DRAIN_COUNT)
        end
    end
    local unknown = args[args[1] == 'count' and 3 or 1]
    if unknown then
        return fail('sse_drain', quote(unknown) .. ': unknown argument')
    end
    local now = clock_us()
    space_load_settings(space, now)
    for _, name in ipairs({ space.seq, space.horizon, space.pruned }) do
        number_at(name, call('GET', name))
    end
    call('ZCARD', space.topics)
    -- Deletes nothing, but fails here, if it must, and not when an entry is published already.
    call('XDEL', space.inbox, '0-1')
    local published, rejected, last_fault = 0, 0, ''
    for _, entry in ipairs(call('XRANGE', space.inbox, '-', '+', 'COUNT', count)) do
        local fault = inbox_move(space, entry[2], now)
        if fault then
            rejected, last_fault = rejected + 1, entry[1] .. ': ' .. fault
        else
            published = published + 1
        end
        call('XDEL', space.inbox, entry[1])
    end
    return { published, rejected, call('XLEN', space.inbox), last_fault }
end

-- ---- Ends ----

-- Publishes the event by which @topic ends. Its id; nil and what is wrong, if it has ended. Settings
-- must be loaded.
local function topic_end(space, topic, reason, now)
    local e = event_new(space)
    local prefix = space.control_prefix
    e.topics[1], e.data = topic, ''
    if not prefix or string.sub('end', 1, #prefix) ~= prefix then -- else no relay would take it
        event_add_field(e, 'event', 'end', '"end"')
    end
    event_end(e, reason)
    return event_publish(space, e, now)
end

-- Ends @topic, unless something has followed the event that its end_after was about. False: there is
-- nothing to end, or its log is something else.
local function due_topic_end(space, topic, now)
    local id = score_id(call('ZSCORE', space.due_id, topic))
    local last, reason = topic_state(space, topic)
    if reason or not id or last ~= id then
        return false
    end
    local ok, ended = pcall(topic_end, space, topic, 'timeout', now)
    if not ok and not entry_fault(space, ended) then
        throw(ended)
    end
    return ok and ended
end

-- Ends a few of those that are due. Whether any of them was; and why one could not be.
local function due_end(space, now)
    local ms = math.floor(now / 1000)
    local due = call('ZRANGEBYSCORE', space.due, '-inf', id_text(ms), 'LIMIT', 0, DUE_STEP)
    local any, fault = false, nil
    if due[1] then
        space_load_settings(space, now)
    end
    for _, topic in ipairs(due) do
        local ok, ended = pcall(due_topic_end, space, topic, now)
        if ok then
            any = ended or any
            call('ZREM', space.due, topic)
            call('ZREM', space.due_id, topic)
        else
            fault = fault or ended
            call('ZADD', space.due, id_text(ms + DUE_AGAIN_MS), topic)
        end
    end
    return any, fault
end

-- On the way, where the call is about something else: that must not fail by it.
local function due_end_quietly(space, now)
    local ok, ended = pcall(due_end, space, now)
    return ended or not ok
end

-- ---- What relays ask ----

-- What a namespace's counter and horizon must be, as numbers: position, horizon, pruned; then the
-- counter and the horizon as they are, nil where there are none. The position is at least @seen and
-- everything that is known of the namespace: a relay must never be told of a last id, or of a loss,
-- above the position, or its clients would take the events that follow for old ones.
local function position_find(space, now, seen, reading)
    local before = number_at(space.seq, call('GET', space.seq))
    local horizon = number_at(space.horizon, call('GET', space.horizon))
    local pruned = number_at(space.pruned, call('GET', space.pruned)) or 0
    local top = index_top(space, reading)
    local last = math.max(before or now, seen, horizon or 0, pruned, top or 0)
    local forgotten = not horizon or (not top and last > horizon) -- new, or the index is gone
    return last, forgotten and last or horizon, pruned, before, horizon
end

-- Position, horizon, pruned, and the counter as it was found, as text. Creates and raises counter and
-- horizon where that is needed.
local function position_ensure(space, now, seen)
    local last, horizon, pruned, before, old_horizon = position_find(space, now, seen)
    if horizon ~= old_horizon then
        call('SET', space.horizon, id_text(horizon))
    end
    if last ~= before then
        call('SET', space.seq, id_text(last))
    end
    return id_text(last), id_text(horizon), id_text(pruned), id_text(before or 0)
end

-- The same without a write; nil where there would be one.
local function position_look(space, seen)
    local last, horizon, pruned, before, old_horizon = position_find(space, 0, seen, true)
    if horizon ~= old_horizon or last ~= before then
        return nil
    end
    return id_text(last), id_text(horizon), id_text(pruned)
end

-- Settings to write (in order of @args) and the id a relay has seen; or nil and what is wrong.
local function position_parse(args)
    local wanted, seen, given = {}, 0, {}
    for i = 1, #args, 2 do
        local name, value = args[i], args[i + 1]
        local no_end = name == 'seen' or name == 'max_token_life' -- may be 0
        if not no_end and name ~= 'control_prefix' and not SETTINGS[name] then
            return nil, quote(name) .. ': unknown argument'
        elseif not value then
            return nil, name .. ': has no value'
        elseif given[name] then
            return nil, name .. ': given twice'
        end
        given[name] = true
        local low = no_end and 0 or 1
        local n = name ~= 'control_prefix' and integer(value, low, MAX_ID)
        if name == 'control_prefix' then
            if #value > MAX_PREFIX_BYTES then
                return nil, name .. ': more than ' .. MAX_PREFIX_BYTES .. ' bytes'
            end
            wanted[#wanted + 1] = { name, value }
        elseif not n then
            return nil, name .. ': not an integer from ' .. low .. ' to 2^53 - 1'
        elseif name == 'seen' then
            seen = n
        else
            wanted[#wanted + 1] = { name, id_text(n) }
        end
    end
    return wanted, seen
end

local function sse_position(keys, args)
    local space = space_open(keys)
    if not space then
        return fail('sse_position', 'key: not one key of the form prefix:{namespace}')
    end
    local wanted, seen = position_parse(args)
    if not wanted then
        return fail('sse_position', seen)
    end
    local now = clock_us()
    local position, _, _, before = position_ensure(space, now, seen)
    for _, pair in ipairs(wanted) do
        if call('HGET', space.config, pair[1]) ~= pair[2] then
            call('HSET', space.config, pair[1], pair[2])
        end
    end
    space_load_settings(space, now)
    index_prune(space, now)
    ended_mend(space, now)
    ended_prune(space, now)
    if due_end_quietly(space, now) then
        position = call('GET', space.seq)
    end
    return { position, call('GET', space.horizon), before }
end

local SINCE_ARGUMENTS = { cursor = true, limit = true, topic = true, prefix = true }

-- {cursor, limit or nil, topics, prefixes}, or nil and what is wrong.
local function since_parse(args)
    local q = { topics = {}, prefixes = {} }
    for i = 1, #args, 2 do
        local name, value = args[i], args[i + 1]
        if not SINCE_ARGUMENTS[name] then
            return nil, quote(name) .. ': unknown argument'
        elseif not value then
            return nil, name .. ': has no value'
        elseif name == 'topic' then
            local fault = topic_fault(value)
            if fault then
                return nil, 'topic: ' .. fault
            end
            q.topics[#q.topics + 1] = value
        elseif name == 'prefix' then
            q.prefixes[#q.prefixes + 1] = value
        elseif q[name] then
            return nil, name .. ': given twice'
        else
            local low = name == 'limit' and MIN_SINCE_LIMIT or 0
            q[name] = integer(value, low, MAX_ID)
            if not q[name] then
                return nil, name .. ': not an integer from ' .. low .. ' to 2^53 - 1'
            end
        end
    end
    if not q.cursor then
        return nil, 'cursor: missing'
    end
    return q
end

local function starts_with_any(topic, prefixes)
    for i = 1, #prefixes do
        if string.sub(topic, 1, #prefixes[i]) == prefixes[i] then
            return true
        end
    end
    return false
end

-- What has moved past the cursor in a part of the index, as {topic, id, …} in order of ids.
local function part_moved(part, q, position)
    return call('ZRANGEBYSCORE', part, '(' .. id_text(q.cursor), position,
        'WITHSCORES', 'LIMIT', 0, q.limit or -1)
end

-- Both parts in order of ids, and a set of what is of @ended only. (A topic in both is not by us.)
local function parts_merge(live, ended)
    local is_live, is_ended, merged, n = {}, {}, {}, 0
    for i = 1, #live, 2 do
        is_live[live[i]] = true
    end
    local i, j = 1, 1
    while live[i] or ended[j] do
        local from, at = live, i
        if not live[i] or (ended[j] and tonumber(ended[j + 1]) < tonumber(live[i + 1])) then
            from, at, j = ended, j, j + 2
        else
            i = i + 2
        end
        if from == live or not is_live[from[at]] then
            is_ended[from[at]] = from == ended
            merged[n + 1], merged[n + 2] = from[at], from[at + 1]
            n = n + 2
        end
    end
    return merged, is_ended
end

-- The lowest id behind which a limit may have hidden something, as text; nil, if behind none.
local function parts_cut(q, ...)
    local cut = nil
    for _, part in ipairs({ ... }) do
        local last = part[2 * (q.limit or MAX_ID)]
        if last and (not cut or tonumber(last) < tonumber(cut)) then
            cut = last
        end
    end
    return cut
end

-- What has moved past the cursor, as {topic, id, …} in order of ids, the id up to which that is all,
-- and a set of what of it has ended.
local function topics_moved(space, q, position)
    local live, ended = part_moved(space.topics, q, position), part_moved(space.ended, q, position)
    local moved, is_ended = live, NO_FIELDS
    if ended[1] then
        moved, is_ended = parts_merge(live, ended)
    end
    local cut = parts_cut(q, live, ended, moved)
    if not cut then
        return moved, position, is_ended
    end
    -- Others may have the same id and lie behind the limit: the next page begins with all of them.
    local n = #moved
    while n > 0 and tonumber(moved[n]) >= tonumber(cut) do
        n = n - 2
    end
    local upto = math.ceil(tonumber(cut)) - 1
    if n == 0 then -- not by us: one event has MAX_TOPICS
        n, upto = math.min(#moved, 2 * q.limit), upto + 1
    end
    for i = #moved, n + 1, -1 do
        moved[i] = nil
    end
    return moved, id_text(upto), is_ended
end

-- The last ids of topics, by topic: of one that the index has lost, its log's. The highest. And, by
-- topic, why it has ended.
local function topics_last(space, topics)
    local last, highest, reasons = {}, 0, {}
    for _, topic in ipairs(topics) do
        local id, reason = topic_state(space, topic)
        last[topic], reasons[topic] = id, reason
        highest = math.max(highest, id)
    end
    return last, highest, reasons
end

-- {topic, reason, …} of topics that have ended. Of very many, their reasons are read at once.
local function ends_list(space, topics, reasons)
    local found, all = {}, nil
    if #topics >= REASONS_STEP and call('ZCARD', space.ended_until) < 4 * #topics then
        local flat = call('ZRANGEBYSCORE', space.ended_until, '-inf', '+inf', 'WITHSCORES')
        all = {}
        for i = 1, #flat, 2 do
            all[flat[i]] = REASONS[flat[i + 1] % 10]
        end
    end
    for _, topic in ipairs(topics) do
        local n = #found
        found[n + 1] = topic
        found[n + 2] = reasons[topic] or (all and (all[topic] or REASONS[1]))
            or ended_reason(space, topic)
    end
    return found
end

-- The topics of a question, as {topic, last id, …}, the id up to which that is all, and those of them
-- that have ended, as {topic, reason, …}.
local function since_topics(space, q, last, reasons, position)
    local found, listed, ended = {}, {}, {}
    local function list(topic, id, has_ended)
        if not listed[topic] then
            listed[topic] = true
            found[#found + 1] = topic
            found[#found + 1] = id
            ended[#ended + 1] = has_ended and topic or nil
        end
    end
    for _, topic in ipairs(q.topics) do
        list(topic, id_text(last[topic]), reasons[topic])
    end
    local moved, upto, is_ended = {}, position, NO_FIELDS
    if q.prefixes[1] then
        moved, upto, is_ended = topics_moved(space, q, position)
    end
    if q.prefixes[1] == '' and not q.topics[1] then -- very many, perhaps: just as they are
        found = moved
        for i = 1, is_ended ~= NO_FIELDS and #moved or 0, 2 do
            ended[#ended + 1] = is_ended[moved[i]] and moved[i] or nil
        end
    else
        for i = 1, #moved, 2 do
            if starts_with_any(moved[i], q.prefixes) and score_id(moved[i + 1]) then
                list(moved[i], moved[i + 1], is_ended[moved[i]])
            end
        end
    end
    return found, upto, ends_list(space, ended, reasons)
end

local function since_answer(who, keys, args, reading)
    local space = space_open(keys)
    if not space then
        return fail(who, 'key: not one key of the form prefix:{namespace}')
    end
    local q, fault = since_parse(args)
    if not q then
        return fail(who, fault)
    end
    local now = not reading and clock_us()
    if now then
        due_end_quietly(space, now)
    end
    local last, highest, reasons = topics_last(space, q.topics)
    local position, horizon, pruned
    if reading then
        position, horizon, pruned = position_look(space, highest)
    else
        position, horizon, pruned = position_ensure(space, now, highest)
    end
    if not position then
        return fail(who, 'key: the counter or the horizon of this namespace has to be written first')
    end
    local found, upto, ended = since_topics(space, q, last, reasons, position)
    return { position, horizon, pruned, found, upto, ended }
end

local function sse_since(keys, args)
    return since_answer('sse_since', keys, args, false)
end

local function sse_look(keys, args)
    return since_answer('sse_look', keys, args, true)
end

-- ---- Tickets ----

-- The rest of the arguments, by the rules @rules: name → function(value): what it says, or nil and
-- what is wrong. A table, or nil and "argument: reason".
local function options_parse(args, first, rules)
    local given = {}
    for i = first, #args, 2 do
        local name, value = args[i], args[i + 1]
        local rule = rules[name]
        if not rule then
            return nil, quote(name) .. ': unknown argument'
        elseif not value then
            return nil, name .. ': has no value'
        elseif given[name] ~= nil then
            return nil, name .. ': given twice'
        end
        local said, fault = rule(value)
        if said == nil then
            return nil, name .. ': ' .. fault
        end
        given[name] = said
    end
    return given
end

local function number_rule(low, high)
    return function(value)
        return integer(value, low, high), 'not an integer from ' .. low .. ' to ' .. id_text(high)
    end
end

local function flag_rule(value)
    return FLAGS[value], 'not one of 1, true, 0, false'
end

local function topic_rule(value)
    local fault = topic_fault(value)
    return not fault and value or nil, fault
end

local END_RULES = {
    topic = topic_rule, last = number_rule(0, MAX_ID),
    reason = function(value)
        return REASON_DIGITS[value] and value, 'not one of end, cancelled, timeout'
    end,
}

local function sse_end(keys, args)
    local space = space_open(keys)
    if not space then
        return fail('sse_end', 'key: not one key of the form prefix:{namespace}')
    end
    local o, fault = options_parse(args, 1, END_RULES)
    if not o then
        return fail('sse_end', fault)
    elseif not o.topic then
        return fail('sse_end', 'topic: missing')
    end
    local now = clock_us()
    space_keep_settings(space, now)
    local last, reason = topic_state(space, o.topic)
    if reason and ended_is_over(space, o.topic, now) then
        last, reason = 0, nil
    end
    if reason then
        return { id_text(last), reason, '0' }
    elseif o.last and o.last ~= last then
        return { '0', '', '0' }
    end
    reason = o.reason or 'end'
    return { topic_end(space, o.topic, reason, now), reason, '1' }
end

local function sse_ended(keys, args)
    local space = space_open(keys)
    if not space then
        return fail('sse_ended', 'key: not one key of the form prefix:{namespace}')
    end
    local found = {}
    for i = 1, #args, 2 do
        local fault = args[i] ~= 'topic' and quote(args[i]) .. ': unknown argument'
            or not args[i + 1] and 'topic: has no value'
        local wrong = not fault and topic_fault(args[i + 1])
        if fault or wrong then
            return fail('sse_ended', fault or 'topic: ' .. wrong)
        end
        local id, reason = topic_state(space, args[i + 1])
        if reason then
            local n = #found
            found[n + 1], found[n + 2], found[n + 3] = args[i + 1], id_text(id), reason
        end
    end
    return args[1] and found or fail('sse_ended', 'topic: missing')
end

local function sse_due(keys, args)
    local space = space_open(keys)
    if not space then
        return fail('sse_due', 'key: not one key of the form prefix:{namespace}')
    elseif args[1] then
        return fail('sse_due', quote(args[1]) .. ': unknown argument')
    end
    local _, why = due_end(space, clock_us())
    if why then
        throw(why)
    end
    local first = call('ZRANGEBYSCORE', space.due, '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    local at = tonumber(first[2] or nil)
    return at and at > 0 and at <= MAX_ID and id_text(math.ceil(at)) or '0'
end

-- ---- Bridges ----

local function key_rule(value)
    return value ~= '' and value or nil, 'empty'
end

local BRIDGE_RULES = {
    lease = key_rule, owner = key_rule, ttl = number_rule(0, MAX_LEASE_MS), stream = key_rule,
    group = key_rule,
}

-- {{id, {argument, …}}, …} of what begins at @args[i], or nil and what is wrong.
local function bridge_entries(args, i)
    local entries = {}
    while args[i] do
        local id, count = args[i + 1], integer(args[i + 2] or '', 0, #args)
        if args[i] ~= 'entry' or not count or i + 2 + count > #args then
            return nil, 'entry: not followed by an id, a number, and so many arguments'
        elseif #entries == MAX_BRIDGED then
            return nil, 'entry: more than ' .. MAX_BRIDGED
        end
        local fields = {}
        for j = 1, count do
            fields[j] = args[i + 2 + j]
        end
        entries[#entries + 1] = { id, fields }
        i = i + 3 + count
    end
    return entries
end

-- Options and entries, or nil and what is wrong.
local function bridge_parse(args)
    local head, i = {}, 1
    while args[i] and args[i] ~= 'entry' do
        head[i], head[i + 1] = args[i], args[i + 1]
        i = i + 2
    end
    local o, fault = options_parse(head, 1, BRIDGE_RULES)
    if not o then
        return nil, fault
    end
    local entries
    entries, fault = bridge_entries(args, i)
    if not entries then
        return nil, fault
    end
    for _, name in ipairs({ 'lease', 'owner', 'ttl', 'stream', 'group' }) do
        if not o[name] then
            return nil, name .. ': missing'
        end
    end
    return o, entries
end

-- Whether the owner has the lease now; @kept: only if he had it before.
local function lease_hold(o, kept)
    local owner = call('GET', o.lease)
    if owner ~= o.owner and (owner or kept) then
        return false
    elseif o.ttl > 0 then
        call('SET', o.lease, o.owner, 'PX', id_text(o.ttl))
    elseif owner then
        call('DEL', o.lease)
    end
    return true
end

-- Publishes and acknowledges one. What is wrong with it, if anything; an error concerns all.
local function bridge_move(space, o, entry, now)
    local fault = entry[2][1] and inbox_move(space, entry[2], now)
    call('XACK', o.stream, o.group, entry[1])
    return fault
end

local function bridge_move_all(space, o, entries, now)
    local done = { published = 0, ended = 0, refused = 0, skipped = 0, all = 0, why = '', stopped = '' }
    local function count(what)
        done[what] = done[what] + 1
    end
    for _, entry in ipairs(entries) do
        local ok, fault = pcall(bridge_move, space, o, entry, now)
        if not ok then
            done.stopped = type(fault) == 'table' and fault.err or tostring(fault)
            break
        end
        count('all')
        if not entry[2][1] then
            count('skipped')
        elseif fault == 'topic: ended' then
            count('ended')
        elseif fault then
            count('refused')
            done.why = entry[1] .. ': ' .. fault
        else
            count('published')
        end
    end
    return done
end

local function sse_bridge(keys, args)
    local space = space_open(keys)
    if not space then
        return fail('sse_bridge', 'key: not one key of the form prefix:{namespace}')
    end
    local o, entries = bridge_parse(args)
    if not o then
        return fail('sse_bridge', entries)
    end
    if entries[1] then
        -- Acknowledges nothing, but fails here, if it must, and not when an event is published already.
        call('XACK', o.stream, o.group, '0-1')
    end
    if not lease_hold(o, entries[1]) then
        return { 0, math.max(call('PTTL', o.lease), 0) }
    elseif not entries[1] then
        local pending = attempt('XPENDING', o.stream, o.group) -- there may be no group yet
        return { 1, not pending.err and pending[1] or 0 }
    elseif call('XPENDING', o.stream, o.group)[2] ~= entries[1][1] then
        return { 2 }
    end
    local now = clock_us()
    space_load_settings(space, now)
    local done = bridge_move_all(space, o, entries, now)
    return { 1, done.all, done.published, done.ended, done.refused, done.why, done.stopped, done.skipped }
end

-- Relays make them, and read them as JSON; here it matters only that it is some.
local function grant_rule(value)
    local ok, tree = pcall(cjson.decode, value)
    if #value > MAX_GRANT_BYTES or not ok or type(tree) ~= 'table' or not find(value, '^%s*{')
        or not utf8_valid(value) then
        return nil, 'not a JSON object of at most ' .. MAX_GRANT_BYTES .. ' bytes'
    end
    return value
end

local function connection_rule(value)
    if #value ~= 32 or find(value, '[^0-9a-f]') then
        return nil, 'not 32 hexadecimal digits in small letters'
    end
    return value
end

local TICKET_GRACE = number_rule(0, MAX_TICKET_MS)
local TICKET_RULES = {
    sse_ticket = {
        grant = grant_rule, ttl = number_rule(1, MAX_TICKET_MS), ['until'] = number_rule(0, MAX_ID / 1000),
    },
    sse_ticket_take = {
        connection = connection_rule, cursor = flag_rule, grace = TICKET_GRACE, peek = flag_rule,
    },
    sse_ticket_end = { connection = connection_rule, grace = TICKET_GRACE, unused = flag_rule },
}

-- The namespace, the ticket's key and the options of a call; or nil and the error.
local function ticket_call(who, keys, args)
    local space = space_open(keys)
    if not space then
        return nil, fail(who, 'key: not one key of the form prefix:{namespace}')
    end
    local hash = args[1] or ''
    if #hash ~= 64 or find(hash, '[^0-9a-f]') then
        return nil, fail(who, 'hash: not 64 hexadecimal digits in small letters')
    end
    local options, fault = options_parse(args, 2, TICKET_RULES[who])
    if not options then
        return nil, fail(who, fault)
    end
    for name in pairs(TICKET_RULES[who]) do
        if options[name] == nil and name ~= 'peek' then
            return nil, fail(who, name .. ': missing')
        end
    end
    return space, space.ticket .. hash, options
end

local function clock_ms()
    return math.floor(clock_us() / 1000)
end

-- It lives for @ms more, but not beyond its end.
local function ticket_live(key, ms, last, now)
    ms = math.min(ms, last - now)
    if ms > 0 then
        call('PEXPIRE', key, id_text(ms))
    else
        call('DEL', key)
    end
end

-- Fields: grant; until and fresh, by which it is worthless and no longer new (milliseconds); by, the
-- connection that has it ("": none had it yet, "-": that is over); told, where a client of one before
-- that was told an id.
local function sse_ticket(keys, args)
    local space, key, o = ticket_call('sse_ticket', keys, args)
    if not space then
        return key
    end
    local now = clock_ms()
    local last = o['until'] > 0 and o['until'] * 1000 or now + TICKET_LIFE_MS
    if last <= now then
        return fail('sse_ticket', 'until: is over')
    elseif call('EXISTS', key) == 1 then
        return fail('sse_ticket', 'hash: there is a ticket with it')
    end
    call('HSET', key, 'grant', o.grant, 'until', id_text(last), 'fresh', id_text(now + o.ttl), 'by', '')
    ticket_live(key, o.ttl, last, now)
    return redis.status_reply('OK')
end

-- Its end and the time up to which it is new, in milliseconds, and who has it; nil: it is not there.
local function ticket_find(key)
    local found = call('HMGET', key, 'until', 'fresh', 'by', 'told')
    local last, fresh = integer(found[1] or '', 0, MAX_ID), integer(found[2] or '', 0, MAX_ID)
    if last and fresh and found[3] then
        return last, fresh, found[3], found[4]
    end
    return nil
end

local function sse_ticket_take(keys, args)
    local space, key, o = ticket_call('sse_ticket_take', keys, args)
    if not space then
        return key
    end
    local now = clock_ms()
    local last, _, by = ticket_find(key)
    local grant = last and call('HGET', key, 'grant')
    if not grant or last <= now then
        return { 'no', 'there is no such ticket, or no longer' }
    end
    local had = by ~= '' and by ~= o.connection -- twice by one: its first answer was lost
    if had and o.grace == 0 then
        return { 'no', 'it was used' }
    elseif had and not o.cursor then
        return { 'no', 'it was used, and this is no reconnect: it has no cursor' }
    end
    if not o.peek then
        call('HSET', key, 'by', o.connection)
        if had then
            call('HSET', key, 'told', '1') -- or it would have no cursor
        end
        ticket_live(key, last - now, last, now)
    end
    return { 'ok', grant, had and by ~= '-' and by or '' }
end

local function sse_ticket_end(keys, args)
    local space, key, o = ticket_call('sse_ticket_end', keys, args)
    if not space then
        return key
    end
    local now = clock_ms()
    local last, fresh, by, told = ticket_find(key)
    if last and by == o.connection then
        local unused = o.unused and not told
        call('HSET', key, 'by', unused and '' or '-')
        ticket_live(key, unused and math.max(fresh - now, o.grace) or o.grace, last, now)
    end
    return redis.status_reply('OK')
end

-- ---- Revocations ----

local function revoked_rule(value)
    if #value == 0 or #value > MAX_REVOKED_BYTES then
        return nil, 'not 1 to ' .. MAX_REVOKED_BYTES .. ' bytes'
    elseif find(value, '%z') or not utf8_valid(value) then
        return nil, 'not UTF-8 without NUL'
    end
    return value
end

local REVOKE_RULES = {
    jti = revoked_rule, sub = revoked_rule, kid = revoked_rule,
    before = number_rule(0, MAX_ID),
}
local REVOKED_KINDS = { 'jti', 'sub', 'kid' }

-- {kind, value, before}, or nil and what is wrong.
local function revoke_parse(args, now)
    local o, fault = options_parse(args, 1, REVOKE_RULES)
    if not o then
        return nil, fault
    end
    local e
    for _, kind in ipairs(REVOKED_KINDS) do
        if o[kind] and e then
            return nil, kind .. ': only one of jti, sub and kid'
        elseif o[kind] then
            e = { kind = kind, value = o[kind], before = kind == 'sub' and (o.before or now) or 0 }
        end
    end
    if not e then
        return nil, 'jti, sub or kid: missing'
    elseif o.before and e.kind ~= 'sub' then
        return nil, 'before: only with sub'
    elseif e.before > now + DAY_S then
        return nil, 'before: more than a day ahead (it is a Unix time in seconds)'
    end
    return e
end

-- Until when no token is valid any more that it is about, as its score. A key that leaked signs new
-- ones for ever.
local function revoked_expiry(space, e, now)
    local text = call('HGET', space.config, 'max_token_life')
    local life = integer(text or '', 0, MAX_ID) or MAX_TOKEN_LIFE_MS
    if e.kind == 'kid' or life == 0 then
        return 'inf'
    end
    return math.ceil(math.max(now, e.before) + life / 1000 + LEEWAY_S)
end

local function revoked_prune(space, kind, now, count)
    local key = space.revoked .. ':' .. kind
    for _, value in ipairs(call('ZRANGEBYSCORE', key, '-inf', '(' .. now, 'LIMIT', 0, count)) do
        call('ZREM', key, value)
        if kind == 'sub' then
            call('ZREM', space.revoked .. ':before', value)
        end
    end
end

-- Whether there is room for it. What expired goes, some of it with each call.
local function revoked_has_room(space, e, key, now)
    revoked_prune(space, e.kind, now, PRUNE_STEP)
    if call('ZCARD', key) >= MAX_REVOKED then
        revoked_prune(space, e.kind, now, REVOKED_STEP)
    end
    return call('ZCARD', key) < MAX_REVOKED or call('ZSCORE', key, e.value)
end

-- A score that we wrote, as decimal text; "0" for infinity.
local function score_text(score)
    local n = score_id(score)
    return n and id_text(n) or '0'
end

local function sse_revoke(keys, args)
    local space = space_open(keys)
    if not space then
        return fail('sse_revoke', 'key: not one key of the form prefix:{namespace}')
    end
    local now = math.floor(clock_us() / 1000000)
    local e, fault = revoke_parse(args, now)
    if not e then
        return fail('sse_revoke', fault)
    end
    if not redis.acl_check_cmd('PUBLISH', space.revoked, '') then
        error(redis.error_reply('NOPERM sse_revoke: no permission for the channel ' .. space.revoked))
    end
    local key, before = space.revoked .. ':' .. e.kind, space.revoked .. ':before'
    if not revoked_has_room(space, e, key, now) then
        return fail('sse_revoke', 'full: ' .. MAX_REVOKED .. ' of a kind are the most; nothing was changed')
    end
    local expires = revoked_expiry(space, e, now)
    if score_text(expires) ~= '0' then -- never sooner than what was said of it before
        local old = call('ZSCORE', key, e.value)
        expires = old and (score_id(old) and math.max(score_id(old), expires) or 'inf') or expires
    end
    if e.kind == 'sub' then -- first: a subject without it would be revoked for no time at all
        e.before = math.max(e.before, tonumber(call('ZSCORE', before, e.value) or nil) or 0)
        call('ZADD', before, id_text(e.before), e.value)
    end
    expires = expires == 'inf' and 'inf' or id_text(expires)
    call('ZADD', key, expires, e.value)
    call('PUBLISH', space.revoked, '{"kind":' .. json(e.kind) .. ',"value":' .. json(e.value)
        .. ',"before":"' .. id_text(e.before) .. '","expires":"' .. score_text(expires) .. '"}')
    return redis.status_reply('OK')
end

local function sse_revoked(keys, args)
    local space = space_open(keys)
    if not space then
        return fail('sse_revoked', 'key: not one key of the form prefix:{namespace}')
    elseif args[1] then
        return fail('sse_revoked', quote(args[1]) .. ': unknown argument')
    end
    local now, found, befores = math.floor(clock_us() / 1000000), {}, {}
    local flat = call('ZRANGEBYSCORE', space.revoked .. ':before', '-inf', '+inf', 'WITHSCORES')
    for i = 1, #flat, 2 do
        befores[flat[i]] = score_text(flat[i + 1])
    end
    for _, kind in ipairs(REVOKED_KINDS) do
        flat = call('ZRANGEBYSCORE', space.revoked .. ':' .. kind, now, '+inf', 'WITHSCORES')
        for i = 1, #flat, 2 do
            local n = #found
            found[n + 1], found[n + 2] = kind, flat[i]
            found[n + 3] = kind == 'sub' and befores[flat[i]] or '0'
            found[n + 4] = score_text(flat[i + 1])
        end
    end
    return found
end

local function sse_version()
    return VERSION
end

-- Refused as a whole when memory is out: what may write events. Not what streams need to be served
-- from the log meanwhile: that writes a few dozen bytes, once, and lets topics end that are due. Nor
-- what keeps somebody out, or lets him come again with the ticket that he has. While Redis refuses all
-- writes (its disk is full, its replicas are too few) sse_look, sse_ended and sse_revoked are what is
-- left.
redis.register_function('sse_publish', sse_publish)
redis.register_function('sse_drain', sse_drain)
redis.register_function('sse_bridge', sse_bridge)
redis.register_function('sse_end', sse_end)
redis.register_function('sse_ticket', sse_ticket)
local function register(name, callback, flag)
    redis.register_function({ function_name = name, callback = callback, flags = { flag } })
end
register('sse_position', sse_position, 'allow-oom')
register('sse_since', sse_since, 'allow-oom')
register('sse_look', sse_look, 'no-writes')
register('sse_due', sse_due, 'allow-oom')
register('sse_ended', sse_ended, 'no-writes')
register('sse_ticket_take', sse_ticket_take, 'allow-oom')
register('sse_ticket_end', sse_ticket_end, 'allow-oom')
register('sse_revoke', sse_revoke, 'allow-oom')
register('sse_revoked', sse_revoked, 'no-writes')
register('sse_version', sse_version, 'no-writes')
