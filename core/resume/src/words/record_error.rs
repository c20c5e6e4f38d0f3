//! What is wrong with a record.

use std::{borrow::Cow, fmt};

use super::store::{ErrorKind, StoreError};

/// The first byte of every record. Another one is an error, not data loss.
pub(crate) const VERSION: u8 = 10;

/// Why a session cannot be made of bytes. Says nothing of what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordError {
    TooNew(u8),
    TooOld(u8),
    Corrupt,
    /// The application's type has changed since.
    State {
        expected: &'static str,
        /// Where its JSON could not be read; `None` if its `Deserialize` has panicked.
        column: Option<usize>,
    },
}

impl RecordError {
    /// Serde's own text may quote the state: only where it stopped is told.
    pub(crate) fn of_state<T>(error: Option<&serde_json::Error>) -> Self {
        let column = error.map(serde_json::Error::column);
        Self::State { expected: std::any::type_name::<T>(), column }
    }

    /// Returns what a stranger may be told: how the program is built is for the log.
    pub(crate) fn told(&self) -> Cow<'static, str> {
        match self {
            Self::TooNew(_) | Self::TooOld(_) | Self::Corrupt => Cow::Owned(self.to_string()),
            Self::State { .. } => Cow::Borrowed(
                "its state does not fit the program's type any more (the log says where, and what to do)",
            ),
        }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooNew(version) => {
                write!(f, "record is from a newer version (got {version}, know {VERSION})")
            }
            Self::TooOld(version) => {
                write!(f, "record is from an older version (got {version}, know {VERSION})")
            }
            Self::Corrupt => f.write_str("record is damaged"),
            Self::State { expected, column } => {
                write!(f, "its state does not fit the type {expected} (")?;
                match column {
                    Some(column) => write!(f, "at byte {column} of its JSON")?,
                    None => f.write_str("whose Deserialize panicked")?,
                }
                f.write_str(
                    "): give new fields #[serde(default)], keep old names with #[serde(alias)], or let a new session \
                     have its place: with_unreadable(Unreadable::StartAnew)",
                )
            }
        }
    }
}

impl std::error::Error for RecordError {}

impl From<RecordError> for StoreError {
    fn from(error: RecordError) -> Self {
        let kind = match error {
            RecordError::TooNew(_) => ErrorKind::TooNew,
            RecordError::TooOld(_) | RecordError::Corrupt | RecordError::State { .. } => {
                ErrorKind::Corrupt
            }
        };
        Self::new(kind, error)
    }
}
