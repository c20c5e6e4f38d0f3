//! What each kind of transport tells the driver.

use std::time::Duration;

use crate::Close;

/// How long a transport that is over may take to say so.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// What a step came to.
#[derive(Debug)]
pub(crate) enum Step {
    /// Something was read; the machine has it.
    Progress,
    /// A message has come that is over the limit; nothing more can be read.
    TooBig,
    /// The transport is over.
    Gone(Option<Close>),
    /// Another has this pipe.
    #[cfg(feature = "http")]
    Copied,
    /// What has come is no frame.
    #[cfg(feature = "http")]
    Broken,
    /// A request of the pipe was answered with a status that a repetition does not change.
    #[cfg(feature = "http")]
    Refused(u16),
}
