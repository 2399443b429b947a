#!lua name=sse_relay
-- The publishing side of sse-relay, inside Redis 7 or newer: id, log, index and live message in one
-- atomic step. (Longer than our other files: to Redis, one library is one file.)
--
--   FCALL sse_publish 1 P:{ns} topic T [topic T2 …] data D [event E] [retry MS] [once K]
--         [ephemeral 1|true|0|false] [priority N] [key K] [ttl MS] [match JSON object]
--       → id (of the first publish, if K was seen); nil for an ephemeral event
--   FCALL sse_drain 1 P:{ns} [count N]
--       → {published, rejected, left, "" or "<entry>: <why>" of the last one rejected}
--   FCALL sse_position 1 P:{ns} [seen ID] [max_events N] [log_ttl MS] [index_ttl MS] [once_ttl MS]
--       → {position, horizon}
--   FCALL sse_since 1 P:{ns} cursor C [topic T …] [prefix S …]
--       → {position, horizon, id that pruning last raised the horizon to or "0",
--          {topic, last id, …}}: each T ("0": unknown), then what has a last id above C and begins
--          with one of the S
--   FCALL sse_version 0 → VERSION, an integer
--
-- The one key, P:{ns}, is no key itself; all keys are made of it, in its slot: :seq (the counter),
-- :horizon, :pruned, :config (hash), :topics (sorted set, topic → last id), :log:<topic> (stream),
-- :inbox (stream), :once:<key>; and the channels :ch:<topic>. Arguments are pairs of name and
-- value. What is wrong with one is told as "ERR <function>: <argument>: <reason>", and then nothing
-- was changed. Ids are decimal text in every result and message: Lua itself would print 1.8e+15.
local VERSION = 1

local MAX_ID = 9007199254740991 -- 2^53 - 1: what JavaScript and Lua numbers hold exactly
local MAX_TOPICS = 64
local MAX_TOPIC_BYTES = 512
local MAX_KEY_BYTES = 512       -- of once and key
local PRUNE_STEP = 8            -- index entries at a time: bounds the work of one call
local DRAIN_COUNT = 100
local MAX_DRAIN_COUNT = 10000
local NO_FIELDS = {}

-- name → default, for a namespace no relay has written :config of
local SETTINGS = {
    max_events = '1000', log_ttl = '3600000', index_ttl = '604800000', once_ttl = '86400000',
}

-- While a library is loaded, Redis has none of these yet: space_open() binds them, where every call
-- comes by.
local call, find, format, gsub, json

local function fail(who, reason)
    return redis.error_reply('ERR ' .. who .. ': ' .. reason)
end

local function id_text(id)
    return format('%.0f', id)
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

local last_space -- most calls come for the same namespace; one entry needs no bound

local function space_open(keys)
    if not call then
        find, format, gsub = string.find, string.format, string.gsub
        json, call = cjson.encode, redis.call
    end
    local key = keys[1]
    if last_space and last_space.key == key and #keys == 1 then
        return last_space
    end
    local prefix, ns = string.match(key or '', '^([A-Za-z0-9_.:-]+):{([A-Za-z0-9_-]+)}$')
    if not prefix or #prefix > 64 or #ns > 64 or #keys ~= 1 then
        return nil
    end
    last_space = {
        key = key, raw = {},
        seq = key .. ':seq', horizon = key .. ':horizon', pruned = key .. ':pruned',
        config = key .. ':config', topics = key .. ':topics', inbox = key .. ':inbox',
        log = key .. ':log:', channel = key .. ':ch:', once = key .. ':once:',
    }
    return last_space
end

-- Sets max_events, log_ttl, index_ttl, once_ttl of @space. Anybody can write the hash: what is not
-- a positive integer would make XADD or PEXPIRE fail half-way, so the default stands in for it.
-- Checked again only when the text has changed.
local function space_load_settings(space)
    local raw = space.raw
    local c = call('HMGET', space.config, 'max_events', 'log_ttl', 'index_ttl', 'once_ttl')
    if c[1] == raw[1] and c[2] == raw[2] and c[3] == raw[3] and c[4] == raw[4] then
        return
    end
    space.raw = c
    for i, name in ipairs({ 'max_events', 'log_ttl', 'index_ttl', 'once_ttl' }) do
        local n = c[i] and integer(c[i], 1, MAX_ID)
        space[name] = n and id_text(n) or SETTINGS[name]
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
    if not (n and n >= 0 and n % 1 == 0) then
        error(redis.error_reply('ERR sse_relay: ' .. name .. ' does not hold an id'))
    end
    return n
end

-- Where a counter that is gone has to start: above the clock and above every id that something
-- still remembers, for the clock may be behind. Second result: nothing but the counter knew what
-- was published, so what is older is forgotten.
local function counter_restore(space, now)
    local start = math.max(now, number_at(space.horizon, call('GET', space.horizon)) or 0,
        number_at(space.pruned, call('GET', space.pruned)) or 0)
    local top = call('ZREVRANGE', space.topics, 0, 0, 'WITHSCORES')
    if top[2] then
        return math.max(start, tonumber(top[2])), false
    end
    return start, true
end

-- The last id a log was given, 0 if there is no log. Not its last entry: that may have been
-- deleted.
local function log_last_id(log)
    if call('EXISTS', log) == 0 then
        return 0
    end
    local info = call('XINFO', 'STREAM', log)
    for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then
            return tonumber(string.match(info[i + 1], '^%d+'))
        end
    end
    return 0
end

-- Forgets a few topics that have been silent for index_ttl, and says so in the horizon first: a
-- cursor below it may have missed something. :pruned equal to :horizon tells this reason from a
-- Redis that lost its data.
local function index_prune(space, now)
    local cut = '(' .. id_text(now - space.index_ttl * 1000) -- microseconds, as ids are
    local old = call('ZRANGEBYSCORE', space.topics, '-inf', cut,
        'LIMIT', 0, PRUNE_STEP, 'WITHSCORES')
    if #old == 0 then
        return
    end
    local highest = tonumber(old[#old])
    if highest > (number_at(space.horizon, call('GET', space.horizon)) or 0) then
        call('SET', space.horizon, id_text(highest))
        call('SET', space.pruned, id_text(highest))
    end
    for i = 1, #old, 2 do
        call('ZREM', space.topics, old[i])
    end
end

-- ---- Arguments of a publish ----

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
    if find(topic, '..', 1, true) or find(topic, '^%.') or string.byte(topic, size) == 46 then
        return 'contains an empty token'
    end
    return nil
end

-- Cannot be written again as it was read: an empty table (array or object?), a number that cjson
-- would round to 14 digits.
local function match_fault(value)
    if type(value) == 'table' then
        for _, v in pairs(value) do
            if (type(v) == 'table' and not next(v)) or match_fault(v) then
                return true
            end
        end
        return false
    end
    return type(value) == 'number' and tonumber(format('%.14g', value)) ~= value
end

-- Written anew, because cjson reads more than JSON (NaN, hexadecimal), and such text would break
-- the whole envelope.
local function match_text(value)
    local ok, tree = pcall(cjson.decode, value)
    if not ok or not find(value, '^%s*{') or match_fault(tree) then
        return nil
    end
    local written, text = pcall(json, tree)
    return written and text or nil
end

local function milliseconds(value)
    local n = integer(value, 0, MAX_ID)
    if not n then
        return nil, 'not a number of milliseconds'
    end
    local text = id_text(n)
    return text, text
end

local function bounded_text(value)
    if value == '' or #value > MAX_KEY_BYTES then
        return nil, 'not 1 to 512 bytes'
    end
    return value, json(value)
end

local PRIORITIES = { low = true, normal = true, high = true }

-- name → function(value): text for the log and JSON for the envelope, or nil and what is wrong.
-- Empty text: as if not given.
local OPTIONS = {
    event = function(value)
        local text = gsub(value, '[%z\r\n]', '')
        return text, json(text)
    end,
    retry = milliseconds,
    ttl = milliseconds,
    key = bounded_text,
    priority = function(value)
        if find(value, '^%d$') then
            return value, value
        elseif PRIORITIES[value] then
            return value, json(value)
        end
        return nil, 'not low, normal, high or a number from 0 to 9'
    end,
    match = function(value)
        local text = match_text(value)
        return text, text or 'not a JSON object without empty members and numbers of over 14 digits'
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

local function event_set_option(e, name, value)
    if name == 'once' then
        e.once = value
        return not bounded_text(value) and 'once: not 1 to 512 bytes' or nil
    elseif name == 'ephemeral' then
        e.ephemeral = FLAGS[value]
        return e.ephemeral == nil and 'ephemeral: not one of 1, true, 0, false' or nil
    end
    local read = OPTIONS[name]
    if not read then
        return quote(name) .. ': unknown argument'
    end
    local text, written = read(value)
    if not text then
        return name .. ': ' .. written
    elseif text ~= '' then
        local fields = e.fields == NO_FIELDS and {} or e.fields
        fields[#fields + 1] = name
        fields[#fields + 1] = text
        e.fields = fields
        e.json = e.json .. ',"' .. name .. '":' .. written
    end
    return nil
end

-- @args: alternating names and values, of FCALL or of an inbox entry. An event, or nil and
-- "argument: reason".
local function event_parse(args)
    local e = { topics = {}, fields = NO_FIELDS, json = '' }
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
            given[name] = true
        end
        if fault then
            return nil, fault
        end
    end
    if not e.topics[1] then
        return nil, 'topic: missing'
    elseif not e.data then
        return nil, 'data: missing'
    end
    return e
end

-- ---- Publishing ----

-- Fills e.prev and e.scores (both per topic), e.fresh (a topic is new to the index). Returns the
-- event's id and, where the horizon has to move with it, true. Reads only: whatever is of the wrong
-- type in Redis shows here, before anything has changed.
local function event_place(space, e, now)
    local last, forgotten = number_at(space.seq, call('GET', space.seq)), false
    if not last then
        last, forgotten = counter_restore(space, now)
        e.fresh = true
    end
    local id = last + 1
    if id < now then
        id = now
    end
    local topics, prev, scores = e.topics, {}, {}
    for i = 1, #topics do
        local score = call('ZSCORE', space.topics, topics[i])
        local before = tonumber(score or nil)
        if not before then
            before = log_last_id(space.log .. topics[i])
            e.fresh = true
        end
        if before >= id then -- the counter was set back
            id = before + 1
        end
        prev[i], scores[i] = id_text(before), score
    end
    if id > MAX_ID then
        error(redis.error_reply('ERR sse_relay: no id is left, ' .. space.seq .. ' is at 2^53'))
    end
    e.prev, e.scores = prev, scores
    return id, forgotten
end

local function event_send(space, e, head, i)
    local topic = e.topics[i]
    call('PUBLISH', space.channel .. topic, head .. '"topic":' .. json(topic) .. e.tail)
end

-- PUBLISH comes last: it alone cannot be taken back.
local function event_write(space, e, now, id, forgotten)
    local text = id_text(id)
    local entry = text .. '-0'
    call('SET', space.seq, text)
    if e.fresh then
        local before = id_text(id - 1)
        if forgotten then
            call('SET', space.horizon, before)
        else
            call('SET', space.horizon, before, 'NX')
        end
    end
    for i = 1, #e.topics do
        local topic = e.topics[i]
        local log = space.log .. topic
        call('XADD', log, 'MAXLEN', '~', space.max_events, entry,
            'data', e.data, 'prev', e.prev[i], unpack(e.fields))
        call('PEXPIRE', log, space.log_ttl)
        call('ZADD', space.topics, text, topic)
    end
    if e.once then
        call('SET', space.once .. e.once, text, 'PX', space.once_ttl)
    end
    if e.fresh then
        index_prune(space, now)
    end
    local head = '{"sse":1,"id":"' .. text .. '","prev":"'
    for i = 1, #e.topics do
        event_send(space, e, head .. e.prev[i] .. '",', i)
    end
    return text
end

-- Takes back what event_write() did before it failed: an ACL that allows some of the commands, a
-- log key of a wrong type. The counter stays: an id is never given twice.
local function event_undo(space, e, id)
    local try = redis.pcall
    for i, topic in ipairs(e.topics) do
        local log = space.log .. topic
        try('XDEL', log, id_text(id) .. '-0')
        if try('XLEN', log) == 0 then
            try('DEL', log)
        end
        if e.scores[i] then
            try('ZADD', space.topics, e.scores[i], topic)
        else
            try('ZREM', space.topics, topic)
        end
    end
    if e.once then
        try('DEL', space.once .. e.once)
    end
end

-- Asked before the first write where event_undo() would not help: with several topics, the user may
-- be allowed only some of the channels; and an ephemeral event leaves nothing but its `once`.
local function channels_check(space, e)
    for _, topic in ipairs(e.topics) do
        if not redis.acl_check_cmd('PUBLISH', space.channel .. topic, '') then
            error(redis.error_reply('NOPERM sse_publish: topic: no permission for the channel of '
                .. quote(topic)))
        end
    end
end

local twins = 0

-- The id as text; false for an ephemeral event, which has none. Settings must be loaded.
local function event_publish(space, e, now)
    if e.once then
        local first = call('GET', space.once .. e.once)
        if first then
            return first ~= '' and first
        end
    end
    if e.topics[2] or e.ephemeral then
        channels_check(space, e)
    end
    e.tail = ',"data":' .. json(e.data) .. e.json .. '}'
    if e.ephemeral then
        if e.once then
            call('SET', space.once .. e.once, '', 'PX', space.once_ttl)
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
    local ok, result = pcall(event_write, space, e, now, id, forgotten)
    if not ok then
        event_undo(space, e, id)
        throw(result)
    end
    return result
end

local function sse_publish(keys, args)
    local space = space_open(keys)
    if not space then
        return fail('sse_publish', 'key: not one key of the form prefix:{namespace}')
    end
    local e, fault = event_parse(args)
    if not e then
        return fail('sse_publish', fault)
    end
    space_load_settings(space)
    return event_publish(space, e, clock_us())
end

-- ---- Inbox ----

-- A fault of this entry alone: what concerns all of them was read before the first, and was fine.
local function is_entry_fault(err)
    local text = type(err) == 'table' and err.err or tostring(err)
    return find(text, '^%-?WRONGTYPE') and text
end

-- nil when published, else why not.
local function inbox_move(space, fields, now)
    local e, fault = event_parse(fields)
    if not e then
        return fault
    end
    local ok, err = pcall(event_publish, space, e, now)
    if ok then
        return nil
    end
    return is_entry_fault(err) or throw(err)
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
    space_load_settings(space)
    for _, name in ipairs({ space.seq, space.horizon, space.pruned }) do
        number_at(name, call('GET', name))
    end
    call('ZCARD', space.topics)
    -- Deletes nothing, but fails here, if it must, and not when an entry is published already.
    call('XDEL', space.inbox, '0-1')
    local now, published, rejected, last_fault = clock_us(), 0, 0, ''
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

-- ---- What relays ask ----

-- Position, horizon, and pruned, as text. Creates counter and horizon where there are none, and
-- raises the counter to @seen.
local function position_ensure(space, now, seen)
    local last = number_at(space.seq, call('GET', space.seq))
    local horizon = number_at(space.horizon, call('GET', space.horizon))
    local before, forgotten = last, false
    if not last then
        last, forgotten = counter_restore(space, now)
    end
    if seen > last then
        last = seen
    end
    if forgotten or not horizon then
        horizon = last
        call('SET', space.horizon, id_text(horizon))
    end
    if last ~= before then
        call('SET', space.seq, id_text(last))
    end
    return id_text(last), id_text(horizon), call('GET', space.pruned) or '0'
end

-- Settings to write (in order of @args) and the id a relay has seen; or nil and what is wrong.
local function position_parse(args)
    local wanted, seen, given = {}, 0, {}
    for i = 1, #args, 2 do
        local name, value = args[i], args[i + 1]
        if name ~= 'seen' and not SETTINGS[name] then
            return nil, quote(name) .. ': unknown argument'
        elseif not value then
            return nil, name .. ': has no value'
        elseif given[name] then
            return nil, name .. ': given twice'
        end
        local low = name == 'seen' and 0 or 1
        local n = integer(value, low, MAX_ID)
        if not n then
            return nil, name .. ': not an integer from ' .. low .. ' to 2^53 - 1'
        end
        given[name] = true
        if name == 'seen' then
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
    local position = position_ensure(space, now, seen)
    for _, pair in ipairs(wanted) do
        if call('HGET', space.config, pair[1]) ~= pair[2] then
            call('HSET', space.config, pair[1], pair[2])
        end
    end
    space_load_settings(space)
    index_prune(space, now)
    return { position, call('GET', space.horizon) }
end

-- {cursor, topics, prefixes}, or nil and what is wrong.
local function since_parse(args)
    local q = { topics = {}, prefixes = {} }
    for i = 1, #args, 2 do
        local name, value = args[i], args[i + 1]
        if name ~= 'cursor' and name ~= 'topic' and name ~= 'prefix' then
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
        elseif q.cursor then
            return nil, 'cursor: given twice'
        else
            q.cursor = integer(value, 0, MAX_ID)
            if not q.cursor then
                return nil, 'cursor: not an integer from 0 to 2^53 - 1'
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

local function sse_since(keys, args)
    local space = space_open(keys)
    if not space then
        return fail('sse_since', 'key: not one key of the form prefix:{namespace}')
    end
    local q, fault = since_parse(args)
    if not q then
        return fail('sse_since', fault)
    end
    local position, horizon, pruned = position_ensure(space, clock_us(), 0)
    local found, listed = {}, {}
    local function list(topic, id)
        if not listed[topic] then
            listed[topic] = true
            found[#found + 1] = topic
            found[#found + 1] = id_text(tonumber(id))
        end
    end
    for _, topic in ipairs(q.topics) do
        list(topic, call('ZSCORE', space.topics, topic) or '0')
    end
    if q.prefixes[1] then
        local after = '(' .. id_text(q.cursor)
        local newer = call('ZRANGEBYSCORE', space.topics, after, '+inf', 'WITHSCORES')
        for i = 1, #newer, 2 do
            if starts_with_any(newer[i], q.prefixes) then
                list(newer[i], newer[i + 1])
            end
        end
    end
    return { position, horizon, pruned, found }
end

local function sse_version()
    return VERSION
end

-- Refused as a whole when memory is out: what may write events. Not what streams need to be served
-- from the log meanwhile: those two write a few dozen bytes, once.
redis.register_function('sse_publish', sse_publish)
redis.register_function('sse_drain', sse_drain)
local function register(name, callback, flag)
    redis.register_function({ function_name = name, callback = callback, flags = { flag } })
end
register('sse_position', sse_position, 'allow-oom')
register('sse_since', sse_since, 'allow-oom')
register('sse_version', sse_version, 'no-writes')
