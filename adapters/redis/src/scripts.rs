//! What runs at the record: each script touches one key, whole or not at all.
//!
//! The rules are those of [`Stamp`](session_resume::store::Stamp), once more in Lua. Scripts compare numbers byte by
//! byte: Lua's own numbers are exact up to 2^53 only, and its `<` of two strings goes by the engine's locale.
//!
//! Every script has a header, also those that only read: without one, an engine that is not the primary any more, or
//! has lost its replicas, would answer. Those with `allow-oom` work in a full engine: they make no record, and let none
//! grow. A script writes nothing before the write that may be refused.

use std::sync::LazyLock;

/// What runs at one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Script {
    /// `ARGV`: none. Returns the value and how many milliseconds are left, or nil.
    Load,
    /// Makes a record. `ARGV`: value, time to live, whether to write even if it has happened.
    Create,
    /// Takes a record over. `ARGV`: as `Create`, then the stamp that was found.
    Claim,
    /// `ARGV`: value, time to live, whether to write even if it has happened.
    Put,
    /// `Put` in an engine that is full: only if the value does not get longer.
    PutFull,
    /// `ARGV`: stamp, time to live.
    Touch,
    /// `ARGV`: stamp.
    Remove,
    /// Puts a value that never expires if there is none, and returns what is there. `ARGV`: value.
    Keep,
    /// Gives a node's name to an incarnation, if no other has it than the one that was found, and returns the incarnation that has it.
    /// `ARGV`: incarnation, the one that was found or nothing, time to live.
    Name,
    /// Makes an incarnation live. `ARGV`: what the directory says of it, time to live.
    Announce,
    /// Extends a lease that is there; returns 1, or 0 if the incarnation is gone. `ARGV`: time to live.
    Renew,
    /// Ends an incarnation, or what is known of it.
    Forget,
    /// Notes in the list of all nodes, by the engine's time. `ARGV`: incarnation.
    NoteNode,
    /// Returns all of that list.
    ListNodes,
    /// Removes from that list. `ARGV`: incarnation.
    DropNode,
    /// Notes the key of a session that another node wants. `ARGV`: key, time to live.
    Want,
    /// Returns which run of the engine this is and then what is wanted, and removes that.
    TakeWanted,
}

/// What scripts other than [`Script::Load`] and [`Script::Keep`] return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Changed,
    /// It has happened already, or came too late.
    Kept,
    NotFound,
    Stale,
    Corrupt,
    TooNew,
    Full,
}

impl Said {
    pub(crate) fn from_code(code: i64) -> Option<Self> {
        Some(match code {
            1 => Self::Changed,
            0 => Self::Kept,
            -1 => Self::NotFound,
            -2 => Self::Stale,
            -3 => Self::Corrupt,
            -4 => Self::TooNew,
            -5 => Self::Full,
            _ => return None,
        })
    }
}

/// `h`: the stored header, empty if there is no record. `place()`: 0 ours, -1 behind, -2 another's.
const PRELUDE: &str = r"
local function below(a, b)
  for i = 1, 8 do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return false
end
local h = redis.call('GETRANGE', KEYS[1], 0, 40)
if #h > 0 and #h < 41 then return -3 end
if #h > 0 and string.byte(h, 41) ~= 0 then return -4 end
local new = string.sub(ARGV[1], 1, 40)
local function place()
  if string.sub(h, 1, 32) == string.sub(new, 1, 32) then return 0 end
  if string.sub(h, 1, 16) == string.sub(new, 1, 16) and below(string.sub(h, 17, 24), string.sub(new, 17, 24)) then
    return -1
  end
  return -2
end
local function number(of) return string.sub(of, 33, 40) end
local function kept(write)
  if write == '1' then
    local left = redis.call('PTTL', KEYS[1])
    if left > 0 then redis.call('PEXPIRE', KEYS[1], left) end
  end
  return 0
end
";

const LOAD: &str = r"
local value = redis.call('GET', KEYS[1])
if not value then return false end
return {value, redis.call('PTTL', KEYS[1])}
";

const CREATE: &str = r"
if string.sub(h, 1, 40) == new then return kept(ARGV[3]) end
if #h > 0 then return -2 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
";

const CLAIM: &str = r"
if string.sub(h, 1, 40) == new then return kept(ARGV[3]) end
if #h == 0 or string.sub(h, 1, 40) ~= ARGV[4] then return -2 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
";

const PUT: &str = r"
if #h == 0 then return -1 end
local where = place()
if where == -2 then return -2 end
if where == 0 and not below(number(h), number(new)) then return kept(ARGV[3]) end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
";

const PUT_FULL: &str = r"
if #h == 0 then return -1 end
local where = place()
if where == -2 then return -2 end
if where == 0 and not below(number(h), number(new)) then return kept(ARGV[3]) end
if #ARGV[1] > redis.call('STRLEN', KEYS[1]) then return -5 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
";

const TOUCH: &str = r"
if #h == 0 then return -1 end
local where = place()
if where ~= 0 then return where end
if below(number(new), number(h)) then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
";

const REMOVE: &str = r"
if #h == 0 then return 0 end
local where = place()
if where == -2 then return -2 end
if where == 0 and below(number(new), number(h)) then return 0 end
redis.call('DEL', KEYS[1])
return 1
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

const ANYWAY: &str = "#!lua flags=allow-oom";
const WITH_ROOM: &str = "#!lua";

static TEXTS: LazyLock<[String; Script::EVERY.len()]> = LazyLock::new(|| {
    Script::EVERY.map(|script| {
        let (header, prelude, body) = match script {
            Script::Load => (ANYWAY, "", LOAD),
            Script::Create => (WITH_ROOM, PRELUDE, CREATE),
            Script::Claim => (ANYWAY, PRELUDE, CLAIM),
            Script::Put => (WITH_ROOM, PRELUDE, PUT),
            Script::PutFull => (ANYWAY, PRELUDE, PUT_FULL),
            Script::Touch => (ANYWAY, PRELUDE, TOUCH),
            Script::Remove => (ANYWAY, PRELUDE, REMOVE),
            Script::Keep => (ANYWAY, "", KEEP),
            Script::Name => (ANYWAY, "", NAME),
            Script::Announce => (ANYWAY, "", ANNOUNCE),
            Script::Renew => (ANYWAY, "", RENEW),
            Script::Forget => (ANYWAY, "", FORGET),
            Script::NoteNode => (ANYWAY, "", NOTE_NODE),
            Script::ListNodes => (ANYWAY, "", LIST_NODES),
            Script::DropNode => (ANYWAY, "", DROP_NODE),
            Script::Want => (WITH_ROOM, "", WANT),
            Script::TakeWanted => (ANYWAY, "", TAKE_WANTED),
        };
        format!("{header}{prelude}{body}")
    })
});

impl Script {
    /// Those about nodes come last: they are called by their texts, and a store without nodes never loads them.
    const EVERY: [Self; 17] = [
        Self::Load,
        Self::Create,
        Self::Claim,
        Self::Put,
        Self::PutFull,
        Self::Touch,
        Self::Remove,
        Self::Keep,
        Self::Name,
        Self::Announce,
        Self::Renew,
        Self::Forget,
        Self::NoteNode,
        Self::ListNodes,
        Self::DropNode,
        Self::Want,
        Self::TakeWanted,
    ];

    /// What every connection loads.
    pub(crate) const ALL: [Self; 8] = [
        Self::Load,
        Self::Create,
        Self::Claim,
        Self::Put,
        Self::PutFull,
        Self::Touch,
        Self::Remove,
        Self::Keep,
    ];

    /// Whether what it does must outlive the engine that did it.
    pub(crate) fn writes(self) -> bool {
        match self {
            Self::Create
            | Self::Claim
            | Self::Put
            | Self::PutFull
            | Self::Remove
            // A lease that no replica has is not held.
            | Self::Name
            | Self::Announce
            | Self::Renew
            | Self::Forget => true,
            Self::Load
            | Self::Touch
            | Self::Keep
            | Self::NoteNode
            | Self::ListNodes
            | Self::DropNode
            | Self::Want
            | Self::TakeWanted => false,
        }
    }

    pub(crate) fn text(self) -> &'static str {
        &TEXTS[self as usize]
    }
}

/// The names under which an engine knows the scripts, as `SCRIPT LOAD` has told them.
#[derive(Clone, Debug)]
pub(crate) struct Names([String; Script::ALL.len()]);

impl Names {
    /// Of an engine that was not asked yet.
    pub(crate) fn none() -> Self {
        Self(std::array::from_fn(|_| String::new()))
    }

    /// As many as there are scripts, in the order of [`Script::ALL`].
    pub(crate) fn new(names: Vec<String>) -> Option<Self> {
        names.try_into().ok().map(Self)
    }

    /// `None` for one that is not loaded.
    pub(crate) fn of(&self, script: Script) -> Option<&str> {
        self.0.get(script as usize).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_has_a_header_and_its_place() {
        assert!(Script::EVERY.starts_with(&Script::ALL));
        for (at, script) in Script::EVERY.into_iter().enumerate() {
            assert_eq!(script as usize, at);
            assert!(script.text().starts_with("#!lua"), "{script:?}");
            let makes_room = !script.text().starts_with("#!lua flags=allow-oom\n");
            let grows = matches!(script, Script::Create | Script::Put | Script::Want);
            assert_eq!(makes_room, grows, "{script:?}");
        }
    }
}
