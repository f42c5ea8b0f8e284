#!lua name=recsys

-- State of one user's session in one scope, a binary string:
--   session u32 | step u32 | open u8 | event 16 bytes | version length u8 | version | plays (track u32, time u32 each)
-- All integers are little endian. A repeated event (same non-zero key as the last one) changes nothing.

local NO_EVENT = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
local MAX_PLAYS = 4096

local function u32(n)
  return string.char(n % 256, math.floor(n / 256) % 256, math.floor(n / 65536) % 256, math.floor(n / 16777216) % 256)
end

local function read_u32(s, i)
  local a, b, c, d = string.byte(s, i, i + 3)
  return a + b * 256 + c * 65536 + d * 16777216
end

-- keys: history, the version's hash of lists. args: kind (next|last), user, play (8 bytes), event (16 bytes), ttl, first session
-- number, version, whether the list is wanted.
-- returns: session, step, version that answers (a repeated event: the one that answered first), plays of the session so far, the
-- user's packed list
local function event(keys, args)
  local last, field, play, key = args[1] == 'last', args[2], args[3], args[4]
  local version = args[7]
  local state = redis.call('GET', keys[1])
  local session, step, open, seen, plays = tonumber(args[6]), 0, 1, NO_EVENT, ''
  local held = version
  if state then
    session, step, open = read_u32(state, 1), read_u32(state, 5), string.byte(state, 9)
    seen = string.sub(state, 10, 25)
    local n = string.byte(state, 26)
    held = string.sub(state, 27, 26 + n)
    plays = string.sub(state, 27 + n)
  end
  if not (key ~= NO_EVENT and seen == key) then
    held = version
    if open == 0 then
      session, step, plays = session + 1, 0, ''
    elseif state then
      step = step + 1
    end
    if last then
      plays = ''
    else
      plays = plays .. play
      if #plays > MAX_PLAYS * 8 then plays = string.sub(plays, -MAX_PLAYS * 8) end
    end
    local header = u32(session) .. u32(step) .. string.char(last and 0 or 1) .. key .. string.char(#held) .. held
    redis.call('SET', keys[1], header .. plays, 'EX', args[5])
  end
  local list = ''
  if args[8] == '1' then
    -- Another version's lists of the same user stand in the same slot: only the end of the key differs.
    local key_of_held = string.sub(keys[2], 1, #keys[2] - #version) .. held
    list = redis.call('HGET', key_of_held, field) or ''
  end
  return {session, step, held, plays, list}
end

local AUDIT_LENGTH = 100000

local function audit(key, action, from, to, who, why)
  redis.call('XADD', key, 'MAXLEN', '~', AUDIT_LENGTH, '*', 'action', action, 'from', from, 'to', to, 'who', who, 'why', why)
end

-- keys: live pointer, blocked set, audit trail. args: expected generation, version, log date, who, why, forced (1: an older date
-- may follow). A member '*' of the blocked set holds every version back.
-- returns: {"promoted"|"already"|"moved"|"older"|"blocked"|"held", live version, generation}
local function promote(keys, args)
  local live = redis.call('HMGET', keys[1], 'version', 'generation', 'log_date')
  local version, generation = live[1] or '', tonumber(live[2] or '0')
  if version == args[2] then return {'already', version, generation} end
  if redis.call('SISMEMBER', keys[2], args[2]) == 1 then return {'blocked', version, generation} end
  if redis.call('SISMEMBER', keys[2], '*') == 1 then return {'held', version, generation} end
  if args[1] ~= '' and tonumber(args[1]) ~= generation then return {'moved', version, generation} end
  if args[6] ~= '1' and live[3] and args[3] < live[3] then return {'older', version, generation} end
  redis.call('HSET', keys[1], 'version', args[2], 'generation', generation + 1, 'log_date', args[3], 'previous', version,
    'who', args[4], 'why', args[5])
  audit(keys[3], 'promote', version, args[2], args[4], args[5])
  return {'promoted', args[2], generation + 1}
end

-- Back to the previous version; the one that is left is blocked until it is released.
-- keys: live pointer, blocked set, audit trail. args: expected generation, who, why
-- returns: {"rolled_back"|"moved"|"nowhere", live version, generation}
local function rollback(keys, args)
  local live = redis.call('HMGET', keys[1], 'version', 'generation', 'previous')
  local version, generation, previous = live[1] or '', tonumber(live[2] or '0'), live[3] or ''
  if tonumber(args[1]) ~= generation then return {'moved', version, generation} end
  if previous == '' then return {'nowhere', version, generation} end
  redis.call('HSET', keys[1], 'version', previous, 'generation', generation + 1, 'log_date', string.sub(previous, 1, 10),
    'previous', '', 'who', args[2], 'why', args[3])
  redis.call('SADD', keys[2], version)
  audit(keys[3], 'rollback', version, previous, args[2], args[3])
  return {'rolled_back', previous, generation + 1}
end

-- Hold a version ('*': all) back, or release it.
-- keys: live pointer, blocked set, audit trail. args: hold|release, version, who, why
-- returns: 1 if something changed, else 0
local function block(keys, args)
  local changed = redis.call(args[1] == 'hold' and 'SADD' or 'SREM', keys[2], args[2])
  if changed == 1 then
    audit(keys[3], args[1], redis.call('HGET', keys[1], 'version') or '', args[2], args[3], args[4])
  end
  return changed
end

-- Set a lost pointer again.
-- keys: live pointer, blocked set, audit trail. args: version, generation, log date, previous, who, why, blocked versions…
-- returns: {"restored"|"newer", live version, generation}
local function restore(keys, args)
  local live = redis.call('HMGET', keys[1], 'version', 'generation')
  local version, generation = live[1] or '', tonumber(live[2] or '0')
  if generation >= tonumber(args[2]) then return {'newer', version, generation} end
  redis.call('HSET', keys[1], 'version', args[1], 'generation', args[2], 'log_date', args[3], 'previous', args[4],
    'who', args[5], 'why', args[6])
  for i = 7, #args do redis.call('SADD', keys[2], args[i]) end
  audit(keys[3], 'restore', version, args[1], args[5], args[6])
  return {'restored', args[1], tonumber(args[2])}
end

redis.register_function('recsys_event', event)
redis.register_function('recsys_promote', promote)
redis.register_function('recsys_rollback', rollback)
redis.register_function('recsys_block', block)
redis.register_function('recsys_restore', restore)
