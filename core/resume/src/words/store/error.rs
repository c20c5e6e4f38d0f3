use std::{error::Error, fmt};

/// Why a store did not do what it was asked to.
///
/// Opaque, so that backends can say more later: ask for the [`kind`](Self::kind), log the chain of
/// [`source`](Error::source)s.
#[derive(Debug)]
pub struct StoreError {
    kind: ErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kind of failure a [`StoreError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another owner's record is stored, or not what was found. Refusal.
    Stale,
    /// There is no record of the caller's. Refusal.
    NotFound,
    /// A limit of the store is reached; room may come back. Refusal.
    Full,
    /// This key or value can never be stored. Refusal.
    TooLarge,
    /// What is stored cannot be understood.
    Corrupt,
    /// What is stored was written by a newer version.
    TooNew,
    /// The backend cannot be used now: closed, not reached, or out of service after a failure.
    Unavailable,
    /// Reading or writing failed.
    Io,
}

impl ErrorKind {
    /// Returns whether the store works and has said no: the call has certainly changed nothing.
    pub const fn is_refusal(self) -> bool {
        match self {
            Self::Stale | Self::NotFound | Self::Full | Self::TooLarge => true,
            Self::Corrupt | Self::TooNew | Self::Unavailable | Self::Io => false,
        }
    }
}

impl StoreError {
    /// Creates an error with a cause.
    pub fn new(kind: ErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, source: Some(source.into()) }
    }

    /// Returns what kind of failure this is.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<ErrorKind> for StoreError {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            ErrorKind::Stale => "another owner has this record",
            ErrorKind::NotFound => "there is no such record",
            ErrorKind::Full => "the store is full",
            ErrorKind::TooLarge => "the key or value is too large to be stored",
            ErrorKind::Corrupt => "the stored record is damaged",
            ErrorKind::TooNew => "the stored record is from a newer version",
            ErrorKind::Unavailable => "the store cannot be used now",
            ErrorKind::Io => "the store failed to read or write",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_cause_is_kept() {
        let err = StoreError::new(ErrorKind::Io, io::Error::from(io::ErrorKind::StorageFull));
        let cause = err.source().and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(cause.map(io::Error::kind), Some(io::ErrorKind::StorageFull));
        assert_eq!(err.to_string(), "the store failed to read or write");
        assert!(StoreError::from(ErrorKind::Full).source().is_none());
    }
}
