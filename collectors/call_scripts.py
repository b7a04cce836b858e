"""The Lua scripts of the call window, each of which Redis runs as one step. Pure.

`collectors.call_window` says what they are for and is the only one to run them. Each takes one
prefix of keys and one JSON object `a` of arguments; times are milliseconds of market time, `wall`
of wall time. The keys of a provider:

    log        sorted set: member -> until when it takes its weight, which ends the member's name
    tally      hash: weight used now, month and weight used in it, the last ticket of the queue
    queue      sorted set: member -> ticket
    promises   sorted set: member -> when (wall) a waiter is dead that has not come back

and of all: `marker` (what is loaded), `loading` (who loads), and `block:` with a time to live.
"""

from __future__ import annotations

PRELUDE = """
local a = cjson.decode(ARGV[1])
local prefix = KEYS[1]
local function key(name) return prefix .. name .. ':' .. a.provider end
local function text(number) return string.format('%.3f', number) end
local function weight_of(member) return tonumber(string.match(member, ':(%d+)$')) end
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local marker = redis.call('GET', prefix .. 'marker')
local is_loaded = marker and string.sub(marker, 1, #run) == run
local time = redis.call('TIME')
local wall = time[1] * 1000 + time[2] / 1000
local now = a.start + (wall - a.anchor) * a.speed
local function forget()
    local holder = redis.call('GET', prefix .. 'loading')
    if holder and string.sub(holder, 1, #run) == run then return {'loading'} end
    redis.call('DEL', prefix .. 'marker')
    redis.call('SET', prefix .. 'loading', run .. ':' .. a.nonce, 'PX', a.loading)
    return {'load'}
end
"""

RESERVE = """
if not is_loaded then return forget() end
if now < a.month_start or now >= a.month_end then return {'month', text(now)} end
local log, tally = key('log'), key('tally')
local queue, promises = key('queue'), key('promises')
local function leave()
    redis.call('ZREM', queue, a.member)
    redis.call('ZREM', promises, a.member)
end
local function later(at, reason)
    local wait = math.max((at - now) / a.speed, 1)
    if wait > a.patience then
        leave()
        return {'refused', text(at), reason, text(wait)}
    end
    if reason == 'minute' then
        if not redis.call('ZSCORE', queue, a.member) then
            redis.call('ZADD', queue, redis.call('HINCRBY', tally, 'ticket', 1), a.member)
        end
        redis.call('ZADD', promises, text(wall + wait + a.promise), a.member)
    end
    return {'wait', text(at), reason, text(wait)}
end
if redis.call('ZSCORE', log, a.member) then return {'granted', text(now), marker} end

local used = tonumber(redis.call('HGET', tally, 'used') or '0')
for _, over in ipairs(redis.call('ZRANGEBYSCORE', log, '-inf', text(now))) do
    used = used - weight_of(over)
end
redis.call('ZREMRANGEBYSCORE', log, '-inf', text(now))
redis.call('HSET', tally, 'used', used)
local newest = redis.call('ZREVRANGE', log, 0, 0, 'WITHSCORES')[2]
local month = redis.call('HGET', tally, 'month')
-- A server short of memory may throw single keys away.
if not month or (used == 0) ~= (redis.call('ZCARD', log) == 0) then return forget() end
if month > a.month or (newest and tonumber(newest) > now + a.furthest) then return forget() end

local month_used = 0
if month == a.month then month_used = tonumber(redis.call('HGET', tally, 'month_used') or '0') end
if a.month_limit >= 0 and month_used + a.weight > a.month_limit then
    return later(a.month_end, 'month')
end
local blocked = redis.call('PTTL', prefix .. 'block:' .. a.provider)
if blocked > 0 then return later(now + blocked * a.speed, 'blocked') end

for _, dead in ipairs(redis.call('ZRANGEBYSCORE', promises, '-inf', text(wall))) do
    redis.call('ZREM', promises, dead)
    redis.call('ZREM', queue, dead)
end
local ahead = a.weight
for _, other in ipairs(redis.call('ZRANGE', queue, 0, -1)) do
    if other == a.member then break end
    ahead = ahead + weight_of(other)
end
if a.limit < 0 or used + ahead <= a.limit then
    leave()
    redis.call('ZADD', log, text(now + a.window + a.hold), a.member)
    redis.call('HSET', tally, 'used', used + a.weight, 'month', a.month,
        'month_used', month_used + a.weight)
    return {'granted', text(now), marker}
end
-- Its turn comes when enough has gone; what is unanswered counts as answered now.
local rounds = math.floor((ahead - 1) / a.limit)
local need = used + ahead - rounds * a.limit - a.limit
local at, first = now, 0
while need > 0 do
    local some = redis.call('ZRANGE', log, first, first + 99, 'WITHSCORES')
    if #some == 0 then break end
    for i = 1, #some, 2 do
        need = need - weight_of(some[i])
        at = math.min(tonumber(some[i + 1]), now + a.window)
        if need <= 0 then break end
    end
    first = first + 100
end
return later(at + rounds * a.window, 'minute')
"""

# Whether the call may be sent: what it reserved is still what counts, and not about to be let go.
CONFIRM = """
if not is_loaded or marker ~= a.marker then return 0 end
local expiry = redis.call('ZSCORE', key('log'), a.member)
if expiry and tonumber(expiry) - now > a.window + a.hold / 2 then return 1 end
return 0
"""

SETTLE = """
if not is_loaded then return 0 end
if not redis.call('ZSCORE', key('log'), a.member) then
    redis.call('HINCRBY', key('tally'), 'used', weight_of(a.member))
end
redis.call('ZADD', key('log'), text(now + a.window + a.guard), a.member)
return 1
"""

RELEASE = """
if not is_loaded or marker ~= a.marker then return 0 end
if redis.call('ZREM', key('log'), a.member) == 1 then
    redis.call('HINCRBY', key('tally'), 'used', -weight_of(a.member))
    redis.call('HINCRBY', key('tally'), 'month_used', -weight_of(a.member))
end
return 1
"""

RECONCILE = """
if not is_loaded then return 0 end
local minute = math.floor(now / 60000) * 60000
if a.reserved < minute + a.after then return 0 end
local ours = 0
for _, one in ipairs(redis.call('ZRANGEBYSCORE', key('log'), text(minute + a.window), '+inf')) do
    ours = ours + weight_of(one)
end
if a.used <= ours then return 0 end
local member = 'others-' .. a.nonce .. ':' .. string.format('%d', a.used - ours)
redis.call('ZADD', key('log'), text(now + a.window), member)
redis.call('HINCRBY', key('tally'), 'used', a.used - ours)
return a.used - ours
"""

USED = """
local used = 0
for _, one in ipairs(redis.call('ZRANGEBYSCORE', key('log'), '(' .. text(now), '+inf')) do
    used = used + weight_of(one)
end
return used
"""

BLOCK = """
if redis.call('PTTL', prefix .. 'block:' .. a.provider) < a.ms then
    redis.call('SET', prefix .. 'block:' .. a.provider, '1', 'PX', a.ms)
end
return 1
"""

LOAD = """
if redis.call('GET', prefix .. 'loading') ~= run .. ':' .. a.nonce then return 0 end
for provider, state in pairs(a.providers) do
    a.provider = provider
    redis.call('DEL', key('log'), key('tally'), key('queue'), key('promises'))
    local used = 0
    for number, entry in ipairs(state.entries) do
        local member = 'stored-' .. number .. ':' .. string.format('%d', entry[2])
        redis.call('ZADD', key('log'), text(entry[1]), member)
        used = used + entry[2]
    end
    redis.call('HSET', key('tally'), 'used', used, 'month', state.month,
        'month_used', state.month_used)
end
redis.call('SET', prefix .. 'marker', run .. ':' .. a.nonce)
redis.call('DEL', prefix .. 'loading')
return 1
"""

STAND_DOWN = """
if redis.call('GET', prefix .. 'loading') == run .. ':' .. a.nonce then
    redis.call('DEL', prefix .. 'loading')
end
return 1
"""
