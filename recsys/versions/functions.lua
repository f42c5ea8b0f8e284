#!lua name=LIBRARY

-- State of one user's session in one scope, a binary string:
--   session u32 | step u32 | open u8 | event 16 bytes | version length u8 | version | plays (track u32, time u32 each)
-- All integers are little endian. A repeated event (same non-zero key as the last one) changes nothing.

local NO_EVENT = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
local HEADER = '<I4I4Bc16B'
local HEADER_SIZE = 26
local MAX_PLAYS = 4096

-- What an event makes of the state before it; nil if the event is a repeated one.
local function step_on(state, last, play, key, version, first)
  local session, step, plays = first, 0, ''
  if state then
    local open, seen, n
    session, step, open, seen, n = struct.unpack(HEADER, state)
    if seen == key and key ~= NO_EVENT then return nil end
    if open == 0 then
      session, step = session + 1, 0
    else
      step = step + 1
      plays = string.sub(state, HEADER_SIZE + 1 + n)
    end
  end
  if last then return struct.pack(HEADER, session, step, 0, key, #version) .. version end
  if #plays >= MAX_PLAYS * 8 then plays = string.sub(plays, 8 - MAX_PLAYS * 8) end
  return struct.pack(HEADER, session, step, 1, key, #version) .. version .. plays .. play
end

-- Milliseconds since 1970.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Record events of different users of one bucket, unless nobody waits for that any more: what was given up has been answered
-- otherwise, and its listener may be further by now.
-- keys: the version's hash of lists, then the history of each user.
-- args: version, ttl, number of a user's first session, until when (milliseconds), then for each user: flags u8 (1: last, 2: the
--   list is wanted) | play 8 bytes | event 16 bytes | user in decimal.
-- returns for each user the new state (of a repeated event: the old one, with the version that answered then), and the packed
--   list of that version ('' if not wanted).
local function events(keys, args)
  if now() > tonumber(args[4]) then return redis.error_reply('LATE nobody waits for this any more') end
  local version, ttl, first = args[1], args[2], tonumber(args[3])
  local states = redis.call('MGET', unpack(keys, 2))
  local reply = {}
  for i = 1, #keys - 1 do
    local event = args[i + 4]
    local flags = string.byte(event, 1)
    local state, held = states[i], version
    local changed = step_on(state, flags % 2 == 1, string.sub(event, 2, 9), string.sub(event, 10, 25), version, first)
    if changed then
      redis.call('SET', keys[i + 1], changed, 'EX', ttl)
    else
      local n = string.byte(state, HEADER_SIZE)
      held = string.sub(state, HEADER_SIZE + 1, HEADER_SIZE + n)
    end
    local list = ''
    if flags >= 2 then
      -- Another version's lists of the same user stand in the same slot: only the end of the key differs.
      local lists = held == version and keys[1] or string.sub(keys[1], 1, #keys[1] - #version) .. held
      list = redis.call('HGET', lists, string.sub(event, 26)) or ''
    end
    reply[2 * i - 1], reply[2 * i] = changed or state, list
  end
  return reply
end

-- Close the sessions of users of one bucket who left a while ago, unless they have been heard of since.
-- keys: the history of each user.
-- args: version, ttl, number of a user's first session, then for each user: event 16 bytes | milliseconds since then in decimal.
local function depart(keys, args)
  local version, ttl, first = args[1], args[2], tonumber(args[3])
  local states = redis.call('MGET', unpack(keys))
  for i = 1, #keys do
    local event, ago = string.sub(args[i + 3], 1, 16), tonumber(string.sub(args[i + 3], 17))
    local state = states[i]
    local is_open = not state or string.byte(state, 9) == 1
    -- Every event gives a state its whole time to live again.
    if is_open and (not state or ttl * 1000 - redis.call('PTTL', keys[i]) > ago) then
      local closed = step_on(state, true, '', event, version, first)
      if closed then redis.call('SET', keys[i], closed, 'EX', ttl) end
    end
  end
  return #keys
end

local AUDIT_LENGTH = 100000

-- A line of the trail; written before what it tells, so that nothing happens that cannot be told.
local function audit(key, action, from, to, who, why)
  redis.call('XADD', key, 'MAXLEN', '~', AUDIT_LENGTH, '*', 'action', action, 'from', from, 'to', to, 'who', who, 'why', why)
end

-- Leases: a hash of log date to {"run", "token", "till"}, till in milliseconds since 1970.

-- The lease of a log date; nil if nobody holds it.
local function lease_of(key, date)
  local text = redis.call('HGET', key, date)
  local lease = text and cjson.decode(text)
  return lease and lease.till > now() and lease or nil
end

local function keep(key, date, run, token, till)
  redis.call('HSET', key, date, cjson.encode({run = run, token = token, till = till}))
end

-- The number of a pointer's last move; 0 before the first.
local function generation_of(text)
  return tonumber(text or '0') or error('the generation of what is live is no number')
end

-- Take a log date, or prolong the run's lease.
-- keys: leases, the last token. args: log date, run, milliseconds
-- returns: {"taken"|"renewed", token}, or {"held", run that holds it, till}
local function take(keys, args)
  local lease, till = lease_of(keys[1], args[1]), now() + args[3]
  if not lease then
    local token = redis.call('INCR', keys[2])
    keep(keys[1], args[1], args[2], token, till)
    return {'taken', token}
  end
  if lease.run ~= args[2] then return {'held', lease.run, lease.till} end
  keep(keys[1], args[1], args[2], lease.token, math.max(lease.till, till))
  return {'renewed', lease.token}
end

-- Prolong a lease, even one that has ended if no other was given since.
-- keys: leases. args: log date, run, token, milliseconds
-- returns: 1, or 0 if the date has had another lease since or was let go
local function renew(keys, args)
  local text = redis.call('HGET', keys[1], args[1])
  local lease = text and cjson.decode(text)
  if not lease or lease.token ~= tonumber(args[3]) or lease.run ~= args[2] then return 0 end
  keep(keys[1], args[1], args[2], lease.token, math.max(lease.till, now() + args[4]))
  return 1
end

-- keys: leases. args: log date, run
local function drop(keys, args)
  local text = redis.call('HGET', keys[1], args[1])
  if text and cjson.decode(text).run == args[2] then return redis.call('HDEL', keys[1], args[1]) end
  return 0
end

-- Whether a log date is still held under a token.
local function holds(key, date, token)
  local lease = lease_of(key, date)
  return lease ~= nil and lease.token == tonumber(token)
end

-- Say how far a version has been written, if its date is still held.
-- keys: leases, the version. args: log date, token, field, value, field, value, ...
-- returns: 1, or 0 if the lease is lost
local function describe(keys, args)
  if not holds(keys[1], args[1], args[2]) then return 0 end
  redis.call('HSET', keys[2], unpack(args, 3))
  return 1
end

-- A rollout: a hash of candidate, log_date, live (the version that it is compared with), state (serving, held, aborted or done),
-- stage, share (percent of the listeners who get the candidate; '0' once it is over), experiment, since, began (milliseconds),
-- generation, who, reason. The generation grows with every change and is never set back.

-- The candidate of the rollout under way, and its generation; nil in place of a candidate if none is under way.
local function rollout_of(key)
  local held = redis.call('HMGET', key, 'candidate', 'share', 'generation')
  local share = tonumber(held[2] or '0') or error('the share of the rollout is no number')
  return share > 0 and held[1] or nil, tonumber(held[3] or '0') or error('the generation of the rollout is no number')
end

-- Forget a version whose date the collector holds, with all its lists, unless it is live, was live before or is being rolled out.
-- All at once: a collector that stalled between two steps could delete the lists of a version that was published again meanwhile.
-- keys: live pointer, leases, known versions, rollout, the version, its lists and other parts. args: version, log date, token
-- returns: 1 if it is forgotten, else 0
local function forget(keys, args)
  local live = redis.call('HMGET', keys[1], 'version', 'previous')
  if live[1] == args[1] or live[2] == args[1] or not holds(keys[2], args[2], args[3]) then return 0 end
  if rollout_of(keys[4]) == args[1] then return 0 end
  redis.call('SREM', keys[3], args[1])
  redis.call('UNLINK', unpack(keys, 5))
  return 1
end

local function is_complete(key)
  return redis.call('HGET', key, 'state') == 'complete'
end

-- Change a rollout; fields follow its new state and share.
local function set_rollout(key, generation, state, share, who, why, ...)
  redis.call('HSET', key, 'state', state, 'share', share, 'generation', generation, 'since', string.format('%.0f', now()),
    'who', who, 'reason', why, ...)
end

-- Whatever moves the live pointer ends a rollout: what its candidate was compared with is live no more.
local function settle_rollout(key, trail, version, who, why)
  local candidate, generation = rollout_of(key)
  if not candidate then return end
  if candidate == version then
    set_rollout(key, generation + 1, 'done', 0, who, why)
  else
    local because = version .. ' became live meanwhile'
    set_rollout(key, generation + 1, 'aborted', 0, who, because)
    audit(trail, 'abort', candidate, version, who, because)
  end
end

local function point(keys, rollout, version, generation, log_date, previous, who, why)
  redis.call('HSET', keys[1], 'version', version, 'generation', generation, 'log_date', log_date, 'previous', previous,
    'who', who, 'why', why)
  settle_rollout(rollout, keys[3], version, who, why)
end

-- keys: live pointer, blocked set, audit trail, leases, the version, rollout. args: expected generation, version, log date, who, why,
-- forced (1: an older date may follow), token of the date's lease (empty: a person's word, which needs none). A member '*' of the
-- blocked set holds every version back.
-- returns: {"promoted"|"already"|"lost"|"missing"|"moved"|"older"|"blocked"|"held", live version, generation}
local function promote(keys, args)
  local live = redis.call('HMGET', keys[1], 'version', 'generation', 'log_date')
  local version, generation = live[1] or '', generation_of(live[2])
  if args[7] ~= '' and not holds(keys[4], args[3], args[7]) then return {'lost', version, generation} end
  if not is_complete(keys[5]) then return {'missing', version, generation} end
  if version == args[2] then return {'already', version, generation} end
  if redis.call('SISMEMBER', keys[2], args[2]) == 1 then return {'blocked', version, generation} end
  if redis.call('SISMEMBER', keys[2], '*') == 1 then return {'held', version, generation} end
  if args[1] ~= '' and tonumber(args[1]) ~= generation then return {'moved', version, generation} end
  if args[6] ~= '1' and live[3] and args[3] < live[3] then return {'older', version, generation} end
  audit(keys[3], 'promote', version, args[2], args[4], args[5])
  point(keys, keys[6], args[2], generation + 1, args[3], version, args[4], args[5])
  return {'promoted', args[2], generation + 1}
end

-- Back to the previous version; the one that is left is blocked until it is released.
-- keys: live pointer, blocked set, audit trail, the previous version, rollout. args: expected generation, who, why
-- returns: {"rolled_back"|"moved"|"nowhere"|"missing", live version, generation}
local function rollback(keys, args)
  local live = redis.call('HMGET', keys[1], 'version', 'generation', 'previous')
  local version, generation, previous = live[1] or '', generation_of(live[2]), live[3] or ''
  if tonumber(args[1]) ~= generation then return {'moved', version, generation} end
  if previous == '' then return {'nowhere', version, generation} end
  if not is_complete(keys[4]) then return {'missing', version, generation} end
  audit(keys[3], 'rollback', version, previous, args[2], args[3])
  redis.call('SADD', keys[2], version)
  point(keys, keys[5], previous, generation + 1, string.sub(previous, 1, 10), '', args[2], args[3])
  return {'rolled_back', previous, generation + 1}
end

-- Hold a version ('*': all) back, or release it.
-- keys: live pointer, blocked set, audit trail. args: hold|release, version, who, why
-- returns: 1 if something changed, else 0
local function block(keys, args)
  local held = redis.call('SISMEMBER', keys[2], args[2]) == 1
  if held == (args[1] == 'hold') then return 0 end
  audit(keys[3], args[1], redis.call('HGET', keys[1], 'version') or '', args[2], args[3], args[4])
  return redis.call(held and 'SREM' or 'SADD', keys[2], args[2])
end

-- Set a lost pointer again, if its lists are there; without a previous version whose lists are not.
-- keys: live pointer, blocked set, audit trail, the version, the previous version, rollout. args: version, generation, log date, previous, who, why, blocked versions…
-- returns: {"restored"|"newer"|"missing", live version, generation}
local function restore(keys, args)
  local live = redis.call('HMGET', keys[1], 'version', 'generation')
  local version, generation = live[1] or '', generation_of(live[2])
  if generation >= tonumber(args[2]) then return {'newer', version, generation} end
  if not is_complete(keys[4]) then return {'missing', version, generation} end
  local previous = is_complete(keys[5]) and args[4] or ''
  audit(keys[3], 'restore', version, args[1], args[5], args[6])
  for i = 7, #args do redis.call('SADD', keys[2], args[i]) end
  point(keys, keys[6], args[1], args[2], args[3], previous, args[5], args[6])
  return {'restored', args[1], tonumber(args[2])}
end

-- Why a candidate may not get more listeners now: "missing", "blocked" or "held"; nil if it may.
local function is_stopped(blocked, version, name)
  if not is_complete(version) then return 'missing' end
  if redis.call('SISMEMBER', blocked, name) == 1 then return 'blocked' end
  if redis.call('SISMEMBER', blocked, '*') == 1 then return 'held' end
end

-- Serve a candidate to a share of the listeners.
-- keys: rollout, live pointer, blocked set, audit trail, leases, the candidate. args: candidate, log date, expected live version,
-- share in percent, who, why, token of the date's lease (empty: a person's word)
-- returns: {"begun"|"already"|"lost"|"missing"|"blocked"|"held"|"busy"|"nothing"|"moved"|"live"|"older", what it is about, generation}
local function begin(keys, args)
  local candidate, generation = rollout_of(keys[1])
  local live = redis.call('HMGET', keys[2], 'version', 'log_date')
  local version = live[1] or ''
  if args[7] ~= '' and not holds(keys[5], args[2], args[7]) then return {'lost', version, generation} end
  if candidate == args[1] then return {'already', candidate, generation} end
  if candidate then return {'busy', candidate, generation} end
  local stopped = is_stopped(keys[3], keys[6], args[1])
  if stopped then return {stopped, version, generation} end
  if version == '' then return {'nothing', version, generation} end
  if version == args[1] then return {'live', version, generation} end
  if version ~= args[3] then return {'moved', version, generation} end
  if args[7] ~= '' and args[2] < (live[2] or '') then return {'older', version, generation} end
  generation = generation + 1
  audit(keys[4], 'rollout', version, args[1], args[5], args[6])
  redis.call('DEL', keys[1])
  set_rollout(keys[1], generation, 'serving', args[4], args[5], args[6], 'candidate', args[1], 'log_date', args[2], 'live', version,
    'stage', 1, 'experiment', 'ROLLOUT-' .. args[1] .. '-' .. generation, 'began', string.format('%.0f', now()))
  return {'begun', args[1], generation}
end

-- Serve a candidate to more listeners; at 100 percent it becomes live, and the rollout is over.
-- keys: rollout, live pointer, blocked set, audit trail, the candidate. args: candidate, expected generation, stage, share, who, why
-- returns: {"advanced"|"promoted"|"over"|"moved"|"already"|"missing"|"blocked"|"held", candidate or live version, generation}
local function advance(keys, args)
  local candidate, generation = rollout_of(keys[1])
  if candidate ~= args[1] then return {'over', candidate or '', generation} end
  local held = redis.call('HMGET', keys[1], 'share', 'log_date', 'live')
  if tonumber(held[1]) >= tonumber(args[4]) then return {'already', candidate, generation} end
  if tonumber(args[2]) ~= generation then return {'moved', candidate, generation} end
  local stopped = is_stopped(keys[3], keys[5], candidate)
  if stopped then return {stopped, candidate, generation} end
  if tonumber(args[4]) < 100 then
    audit(keys[4], 'advance', held[3], candidate, args[5], args[6])
    set_rollout(keys[1], generation + 1, 'serving', args[4], args[5], args[6], 'stage', args[3],
      'experiment', 'ROLLOUT-' .. candidate .. '-' .. (generation + 1))
    return {'advanced', candidate, generation + 1}
  end
  local live = redis.call('HMGET', keys[2], 'version', 'generation')
  audit(keys[4], 'promote', live[1], candidate, args[5], args[6])
  point({keys[2], keys[3], keys[4]}, keys[1], candidate, generation_of(live[2]) + 1, held[2], live[1], args[5], args[6])
  return {'promoted', candidate, generation + 1}
end

-- Leave a rollout at its share until a person decides.
-- keys: rollout, audit trail. args: candidate, expected generation, who, why
-- returns: {"held"|"over"|"moved", candidate, generation}
local function pause(keys, args)
  local candidate, generation = rollout_of(keys[1])
  if candidate ~= args[1] then return {'over', candidate or '', generation} end
  if tonumber(args[2]) ~= generation then return {'moved', candidate, generation} end
  audit(keys[2], 'pause', redis.call('HGET', keys[1], 'live'), candidate, args[3], args[4])
  -- Since when the stage lasts stays as it was.
  redis.call('HSET', keys[1], 'state', 'held', 'generation', generation + 1, 'who', args[3], 'reason', args[4])
  return {'held', candidate, generation + 1}
end

-- Serve nobody a candidate any more, and keep it back until it is released. The share goes to zero first, even where Redis is
-- full or the trail cannot be written; it is explained afterwards, as far as that goes.
-- keys: rollout, blocked set, audit trail. args: candidate, who, why
-- returns: {"aborted"|"untold"|"over", candidate, generation}
local function abort(keys, args)
  local candidate, generation = rollout_of(keys[1])
  if candidate ~= args[1] then return {'over', candidate or '', generation} end
  set_rollout(keys[1], generation + 1, 'aborted', 0, args[2], args[3])
  local blocked = redis.pcall('SADD', keys[2], candidate)
  local line = {'action', 'abort', 'from', candidate, 'to', redis.call('HGET', keys[1], 'live'), 'who', args[2], 'why', args[3]}
  local told = redis.pcall('XADD', keys[3], 'MAXLEN', '~', AUDIT_LENGTH, '*', unpack(line))
  local is_told = not (type(told) == 'table' and told.err) and not (type(blocked) == 'table' and blocked.err)
  return {is_told and 'aborted' or 'untold', candidate, generation + 1}
end

redis.register_function('LIBRARY_events', events)
redis.register_function('LIBRARY_depart', depart)
redis.register_function('LIBRARY_take', take)
redis.register_function('LIBRARY_renew', renew)
redis.register_function('LIBRARY_drop', drop)
redis.register_function('LIBRARY_describe', describe)
redis.register_function('LIBRARY_forget', forget)
redis.register_function('LIBRARY_promote', promote)
redis.register_function('LIBRARY_rollback', rollback)
redis.register_function('LIBRARY_block', block)
redis.register_function('LIBRARY_restore', restore)
redis.register_function('LIBRARY_begin', begin)
redis.register_function('LIBRARY_advance', advance)
redis.register_function('LIBRARY_pause', pause)
redis.register_function{function_name = 'LIBRARY_abort', callback = abort, flags = {'allow-oom'}}
