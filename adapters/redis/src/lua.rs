//! What runs at the records: each script does the same at each of its keys, and answers for each.
//!
//! The rules are those of [`Stamp`](session_resume::store::Stamp), once more in Lua. Scripts compare numbers as two
//! halves: Lua's own numbers are exact up to 2^53 only, and its `<` of two strings goes by the engine's locale.
//!
//! Every script has a header, also those that only read: without one, an engine that is not the primary any more, or
//! has lost its replicas, would answer. Those with `allow-oom` work in a full engine: they make no record, and let none
//! grow.
//!
//! What can refuse a write (a full engine, a replica, replicas that are missing, a disk that is full) is looked at
//! before a script begins, and not again after its first write. So it is the answer for all keys of a call, and then
//! nothing was written for any of them. What is wrong with one key (a value of another type, a stamp that is too old)
//! is the answer for that key, and no reason to stop: no error ends a script at records half way. At each key the
//! write comes last, so an error there says that nothing was written there. If the engine dies within a script, nobody
//! is told that any of its writes has happened; the file and the replicas have all of them or none.
//!
//! A call that finds room in the engine may fill it beyond its limit, by as much as the call is long.

use std::sync::LazyLock;

use crate::scripts::Script;

impl Script {
    /// Its text.
    pub(crate) fn text(self) -> &'static str {
        &TEXTS[self as usize]
    }
}

const ANYWAY: &str = "#!lua flags=allow-oom";
const WITH_ROOM: &str = "#!lua";

static TEXTS: LazyLock<[String; Script::EVERY.len()]> = LazyLock::new(|| {
    Script::EVERY.map(|script| {
        let (header, body) = match script {
            Script::Load => (ANYWAY, LOAD),
            Script::Create => (WITH_ROOM, CREATE),
            Script::Claim => (ANYWAY, CLAIM),
            Script::Put => (WITH_ROOM, PUT),
            Script::PutFull => (ANYWAY, PUT_FULL),
            Script::Touch => (ANYWAY, TOUCH),
            Script::Remove => (ANYWAY, REMOVE),
            Script::Keep => (ANYWAY, KEEP),
            Script::Name => (ANYWAY, NAME),
            Script::Announce => (ANYWAY, ANNOUNCE),
            Script::Renew => (ANYWAY, RENEW),
            Script::Forget => (ANYWAY, FORGET),
            Script::NoteNode => (ANYWAY, NOTE_NODE),
            Script::ListNodes => (ANYWAY, LIST_NODES),
            Script::DropNode => (ANYWAY, DROP_NODE),
            Script::Want => (WITH_ROOM, WANT),
            Script::TakeWanted => (ANYWAY, TAKE_WANTED),
        };
        match script {
            Script::Load => format!("{header}{RECORDS}{body}{EACH}"),
            script if script.is_for_many() => format!("{header}{RECORDS}{STAMPS}{body}{EACH}"),
            _ => format!("{header}{body}"),
        }
    })
});

/// What scripts at records begin with. A script then has `one`: what it does at one key, with the arguments of that key.
const RECORDS: &str = r"
local call, sub, byte, number = redis.call, string.sub, string.byte, struct.unpack
";

/// `below`: whether the number at this place of one header is smaller than that of the other.
/// `read`: the header that is stored, and what to answer without one that can be read. `place`: 0 ours, -1 behind, -2
/// another's.
const STAMPS: &str = r"
local function below(a, b, at)
  local x, y = number('>I4I4', a, at)
  local z, w = number('>I4I4', b, at)
  return x < z or x == z and y < w
end
local function read(key)
  local h = call('GETRANGE', key, 0, 40)
  if #h == 0 then return h end
  if #h < 41 then return nil, -3 end
  if byte(h, 41) ~= 0 then return nil, -4 end
  return h
end
local function place(h, new)
  if sub(h, 1, 32) == sub(new, 1, 32) then return 0 end
  if sub(h, 1, 16) == sub(new, 1, 16) and below(h, new, 17) then return -1 end
  return -2
end
local function kept(key, write)
  if write == '1' then
    local left = call('PTTL', key)
    if left > 0 then call('PEXPIRE', key, left) end
  end
  return 0
end
local function set(key, value, expires)
  call('SET', key, value, 'PX', expires)
  return 1
end
";

/// What they end with. An error at one key is the answer for that key. No key has more than four arguments.
const EACH: &str = r"
local said, n = {}, #ARGV / #KEYS
for i = 1, #KEYS do
  local at = (i - 1) * n
  local done, it = pcall(one, KEYS[i], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
  -- What the engine's own `pcall` catches of a command is the text of its error.
  if not done and type(it) ~= 'table' then it = redis.error_reply(tostring(it)) end
  said[i] = it
end
return said
";

/// Large records are not all loaded by one call: after 256 KiB the answer is 0, and nothing was read.
const LOAD: &str = r"
local room = 262144
local function one(key)
  if room <= 0 then return 0 end
  local value = call('GET', key)
  if not value then return false end
  room = room - #value
  return {value, call('PTTL', key)}
end
";

const CREATE: &str = r"
local function one(key, value, expires, write)
  local h, trouble = read(key)
  if not h then return trouble end
  if sub(h, 1, 40) == sub(value, 1, 40) then return kept(key, write) end
  if #h > 0 then return -2 end
  return set(key, value, expires)
end
";

const CLAIM: &str = r"
local function one(key, value, expires, write, found)
  local h, trouble = read(key)
  if not h then return trouble end
  if sub(h, 1, 40) == sub(value, 1, 40) then return kept(key, write) end
  if #h == 0 or sub(h, 1, 40) ~= found then return -2 end
  return set(key, value, expires)
end
";

const PUT: &str = r"
local function one(key, value, expires, write)
  local h, trouble = read(key)
  if not h then return trouble end
  if #h == 0 then return -1 end
  local where = place(h, value)
  if where == -2 then return -2 end
  if where == 0 and not below(h, value, 33) then return kept(key, write) end
  return set(key, value, expires)
end
";

const PUT_FULL: &str = r"
local function one(key, value, expires, write)
  local h, trouble = read(key)
  if not h then return trouble end
  if #h == 0 then return -1 end
  local where = place(h, value)
  if where == -2 then return -2 end
  if where == 0 and not below(h, value, 33) then return kept(key, write) end
  if #value > call('STRLEN', key) then return -5 end
  return set(key, value, expires)
end
";

const TOUCH: &str = r"
local function one(key, stamp, expires)
  local h, trouble = read(key)
  if not h then return trouble end
  if #h == 0 then return -1 end
  local where = place(h, stamp)
  if where ~= 0 then return where end
  if below(stamp, h, 33) then return 0 end
  call('PEXPIRE', key, expires)
  return 1
end
";

const REMOVE: &str = r"
local function one(key, stamp)
  local h, trouble = read(key)
  if not h then return trouble end
  if #h == 0 then return 0 end
  local where = place(h, stamp)
  if where == -2 then return -2 end
  if where == 0 and below(stamp, h, 33) then return 0 end
  call('DEL', key)
  return 1
end
";

const KEEP: &str = r"
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
";

const NAME: &str = r"
local has = redis.call('GET', KEYS[1])
if has and has ~= ARGV[2] and has ~= ARGV[1] then return has end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return ARGV[1]
";

const ANNOUNCE: &str = r"
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
";

const RENEW: &str = r"
return redis.call('PEXPIRE', KEYS[1], ARGV[1])
";

const FORGET: &str = r"
return redis.call('DEL', KEYS[1])
";

const NOTE_NODE: &str = r"
redis.call('ZADD', KEYS[1], redis.call('TIME')[1], ARGV[1])
return 1
";

const LIST_NODES: &str = r"
return redis.call('ZRANGE', KEYS[1], 0, -1)
";

const DROP_NODE: &str = r"
return redis.call('ZREM', KEYS[1], ARGV[1])
";

/// The list is bounded: an owner cannot hand over more than this in time.
const WANT: &str = r"
if redis.call('ZCARD', KEYS[1]) >= 10000 then return 0 end
redis.call('ZADD', KEYS[1], 0, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
";

/// Another process, or another history of writes, is another run.
const TAKE_WANTED: &str = r"
local function told(section, name)
  local info = redis.pcall('INFO', section)
  return type(info) == 'string' and string.match(info, name .. ':(%x+)') or ''
end
local wanted = redis.call('ZRANGE', KEYS[1], 0, -1)
if #wanted > 0 then redis.call('DEL', KEYS[1]) end
table.insert(wanted, 1, told('server', 'run_id') .. told('replication', 'master_replid'))
return wanted
";
