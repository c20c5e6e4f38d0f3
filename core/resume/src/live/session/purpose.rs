//! What a request wants with a session that it has found.

use session_resume_proto::Moment;

use super::{core::Core, life::Life};
use crate::words::{durability::Urgency, handler_type::HandlerType, key::SessionKey};

/// What a request wants its session for.
pub(crate) enum Purpose {
    /// A handler extracts it: that counts as activity.
    Extract,
    /// An upgrade whose handler is not known yet: held, too.
    Restore,
    /// An upgrade for this handler: held until it is attached or has failed.
    Upgrade(HandlerType),
}

impl Purpose {
    pub(crate) fn handler(&self) -> Option<HandlerType> {
        match self {
            Self::Extract | Self::Restore => None,
            Self::Upgrade(handler) => Some(*handler),
        }
    }

    /// Takes hold of a session, unless it is on its way out.
    pub(crate) fn take(&self, core: &mut Core, key: &SessionKey, now: Moment) -> bool {
        // The session has left this key since it was found: a request that has only the old key does not get in.
        if core.key != *key || core.life() != Life::Live || core.machine.ended().is_some() {
            return false;
        }
        if let Some(durable) = &mut core.durable
            && durable.expires_as_before.take().is_some()
        {
            // Used after all: its record lives on.
            core.changed(Urgency::Soon);
        }
        match self {
            Self::Extract => core.machine.touch(now),
            Self::Restore | Self::Upgrade(_) => core.machine.hold(),
        }
        true
    }
}
