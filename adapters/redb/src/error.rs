use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
};

/// Why a file cannot be used as a session store. The records in it have not been changed.
///
/// Displays as one line that names the file.
#[derive(Debug)]
pub struct OpenError {
    path: PathBuf,
    reason: Reason,
}

/// What kind of failure an [`OpenError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OpenErrorKind {
    /// Another process, or another handle in this one, has the file open.
    Locked,
    /// The file is something else.
    NotAStore,
    /// The file is a session store, but truncated or overwritten.
    Damaged,
    /// The file was written by a newer version.
    TooNew,
    /// The file cannot be opened, read or written.
    Io,
}

/// A kind with its cause, before the path is known.
#[derive(Debug)]
pub(crate) struct Reason {
    pub(crate) kind: OpenErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl OpenError {
    pub(crate) fn new(path: &Path, reason: Reason) -> Self {
        Self { path: path.to_owned(), reason }
    }

    /// Returns what kind of failure this is.
    pub fn kind(&self) -> OpenErrorKind {
        self.reason.kind
    }

    /// Returns the file in question.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason.source()
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session store {} {}", self.path.display(), self.reason)
    }
}

impl Reason {
    pub(crate) fn because(
        kind: OpenErrorKind,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { kind, source: Some(source.into()) }
    }
}

impl From<OpenErrorKind> for Reason {
    fn from(kind: OpenErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl From<io::Error> for Reason {
    fn from(err: io::Error) -> Self {
        Self::because(OpenErrorKind::Io, err)
    }
}

/// What redb says when it opens or checks a file.
impl From<redb::Error> for Reason {
    fn from(err: redb::Error) -> Self {
        let kind = match &err {
            redb::Error::DatabaseAlreadyOpen => OpenErrorKind::Locked,
            // An old format of redb, which we have never written.
            redb::Error::UpgradeRequired(_) => OpenErrorKind::NotAStore,
            redb::Error::Io(cause) => match cause.kind() {
                // redb's answer to a file that does not begin as its files do.
                io::ErrorKind::InvalidData => OpenErrorKind::NotAStore,
                io::ErrorKind::UnexpectedEof => OpenErrorKind::Damaged,
                _ => OpenErrorKind::Io,
            },
            // redb has no variant for a newer format; a test pins this text.
            redb::Error::Corrupted(text) if text.contains("file format version") => {
                OpenErrorKind::TooNew
            }
            _ => OpenErrorKind::Damaged,
        };
        match err {
            redb::Error::Io(cause) => Self::because(kind, cause),
            err => Self::because(kind, err),
        }
    }
}

impl Error for Reason {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            OpenErrorKind::Locked => f.write_str("is in use by another process"),
            OpenErrorKind::NotAStore => f.write_str("is not a session store"),
            OpenErrorKind::Damaged => f.write_str("is damaged"),
            OpenErrorKind::TooNew => f.write_str("was written by a newer version"),
            OpenErrorKind::Io => match &self.source {
                // The cause is all there is to say, and many programs do not print the chain.
                Some(cause) => write!(f, "cannot be read or written: {cause}"),
                None => f.write_str("cannot be read or written"),
            },
        }
    }
}
