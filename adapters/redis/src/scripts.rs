//! What runs at the records, and what the engine says of it. The texts are in `lua.rs`.

/// What runs at a key, or at each of some keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Script {
    /// `ARGV`: none. Returns the value and how many milliseconds are left, or nil, or 0: not read, ask for it alone.
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

impl Script {
    /// Those about nodes come last: they are called by their texts, and a store without nodes never loads them.
    pub(crate) const EVERY: [Self; 17] = [
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

    /// Whether it takes any number of keys, and answers with a list: for each key what is said of it here.
    pub(crate) fn is_for_many(self) -> bool {
        match self {
            Self::Load
            | Self::Create
            | Self::Claim
            | Self::Put
            | Self::PutFull
            | Self::Touch
            | Self::Remove => true,
            Self::Keep
            | Self::Name
            | Self::Announce
            | Self::Renew
            | Self::Forget
            | Self::NoteNode
            | Self::ListNodes
            | Self::DropNode
            | Self::Want
            | Self::TakeWanted => false,
        }
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
