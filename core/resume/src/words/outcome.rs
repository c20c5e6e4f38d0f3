//! How a session ended.

use std::{error::Error, fmt, iter, time::SystemTime};

use serde::Serialize;
use serde_json::value::RawValue;

pub use session_resume_proto::wire::OutcomeStatus;

use crate::words::{
    panics::Panic,
    send_error::{SendError, SendErrorKind},
    wall,
};

/// Errors and panics are kept as text of at most this many bytes.
const MAX_ERROR: usize = 1024;

/// What a handler returns: a result that can be polled as JSON, or an error.
pub type Result<R = (), E = HandlerError> = std::result::Result<R, E>;

/// Why a handler failed.
///
/// Made by `?` from any error and from text. Not itself an [`Error`], so that `Ok(())` at the end of a
/// handler needs no type annotation.
pub struct HandlerError(Box<dyn Error + Send + Sync>);

impl HandlerError {
    /// Returns the error that was passed up.
    pub fn into_inner(self) -> Box<dyn Error + Send + Sync> {
        self.0
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a handler may return.
#[diagnostic::on_unimplemented(
    message = "a session handler cannot return `{Self}`",
    label = "return `()` or `session_resume::Result<R>` with `R: Serialize`",
    note = "end the handler with `Ok(())`, or with `Ok(value)` for a result that clients can poll"
)]
pub trait IntoOutcome {
    /// Makes the outcome of it.
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Ok(()).into_outcome()
    }
}

// Else the error would be about serde alone.
#[diagnostic::do_not_recommend]
impl<R: Serialize> IntoOutcome for Result<R> {
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(result) => match serde_json::value::to_raw_value(&result) {
                Ok(result) => Outcome::new(OutcomeStatus::Done, Some(result), None),
                Err(error) => Outcome::failed(format_args!("the result cannot be JSON: {error}")),
            },
            Err(error) if fills_the_outbox(&error) => {
                Outcome::with_error(OutcomeStatus::Overflow, error)
            }
            Err(error) => Outcome::failed(error),
        }
    }
}

/// Whether the handler's error is that its uncommitted output alone fills the outbox.
fn fills_the_outbox(error: &HandlerError) -> bool {
    // An error of the application's may have it as its cause.
    let outermost: &(dyn Error + 'static) = &*error.0;
    iter::successors(Some(outermost), |&error| error.source())
        .filter_map(|error| error.downcast_ref::<SendError>())
        .any(|error| error.kind() == SendErrorKind::Uncommitted)
}

/// What the handler returned, or how it failed. A session always ends in one.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    status: OutcomeStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    completed: SystemTime,
}

impl Outcome {
    fn new(status: OutcomeStatus, result: Option<Box<RawValue>>, error: Option<String>) -> Self {
        Self { status, result, error, completed: wall::now() }
    }

    fn failed(error: impl fmt::Display) -> Self {
        Self::with_error(OutcomeStatus::Failed, error)
    }

    pub(crate) fn with_error(status: OutcomeStatus, error: impl fmt::Display) -> Self {
        Self::new(status, None, Some(bounded(error.to_string())))
    }

    pub(crate) fn panicked(panic: &Panic, task: Option<&str>) -> Self {
        match task {
            Some(task) => {
                Self::with_error(OutcomeStatus::Panicked, format_args!("task {task}: {panic}"))
            }
            None => Self::with_error(OutcomeStatus::Panicked, panic),
        }
    }

    /// An outcome that was stored.
    pub(crate) fn restored(
        status: OutcomeStatus,
        result: Option<Box<RawValue>>,
        error: Option<String>,
        completed: SystemTime,
    ) -> Self {
        Self { status, result, error, completed }
    }

    /// The same end, told without a result that the store does not take.
    pub(crate) fn without_result(&self) -> Self {
        let text = "the result is too large for the store".to_owned();
        Self { result: None, error: Some(text), ..self.clone() }
    }

    /// The outcome of a session that ended by itself.
    pub(crate) fn by_rule(status: OutcomeStatus) -> Self {
        let text = match status {
            OutcomeStatus::Expired => "nobody came back in time",
            OutcomeStatus::Overflow => "the outbox was full and no client took from it",
            OutcomeStatus::Failed => {
                "the process died three times with one message in hand, and then with the next one"
            }
            _ => "closed",
        };
        Self::with_error(status, text)
    }

    /// Returns how the session ended.
    pub fn status(&self) -> OutcomeStatus {
        self.status
    }

    /// Returns the handler's result as JSON: that of a handler which has returned `Ok` (`null` for `Ok(())`).
    ///
    /// `None` for every other end, and if the result was too large for the store: then [`error`](Self::error) says so.
    pub fn result(&self) -> Option<&RawValue> {
        self.result.as_deref()
    }

    /// Returns what went wrong, at most 1 KiB of it.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Returns when the session ended.
    pub fn completed(&self) -> SystemTime {
        self.completed
    }
}

/// Cuts a text at a character, so that an error that quotes its input cannot fill the store.
fn bounded(mut text: String) -> String {
    if text.len() > MAX_ERROR {
        let cut = (0..=MAX_ERROR - '…'.len_utf8()).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(cut.unwrap_or(0));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_handlers_return_becomes_an_outcome() {
        let done = Ok("ready").into_outcome();
        assert_eq!(serde_json::to_string(&done).unwrap(), r#"{"status":"done","result":"ready"}"#);
        assert_eq!(
            serde_json::to_string(&().into_outcome()).unwrap(),
            r#"{"status":"done","result":null}"#
        );
        let failed = Result::<()>::Err("no luck".into()).into_outcome();
        assert_eq!(
            serde_json::to_string(&failed).unwrap(),
            r#"{"status":"failed","error":"no luck"}"#
        );
        let unspeakable = Ok(std::collections::HashMap::from([((1, 2), 3)])).into_outcome();
        assert_eq!(unspeakable.status(), OutcomeStatus::Failed);
    }

    #[test]
    fn uncommitted_output_is_an_overflow_also_as_the_cause_of_an_error() {
        use session_resume_proto::session::{Bounds, NotSent};

        let unsent = || SendError::new(NotSent::Uncommitted, None, &Bounds::default());
        let wrapped = std::io::Error::other(Box::new(Wrapped(unsent())));
        let errors: [HandlerError; 3] = [unsent().into(), Wrapped(unsent()).into(), wrapped.into()];
        for error in errors {
            let outcome = Result::<()>::Err(error).into_outcome();
            assert_eq!(outcome.status(), OutcomeStatus::Overflow, "{outcome:?}");
        }
        let other = SendError::ended(None);
        assert_eq!(Result::<()>::Err(other.into()).into_outcome().status(), OutcomeStatus::Failed);
    }

    /// An error of the application's.
    #[derive(Debug)]
    struct Wrapped(SendError);

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the progress was not sent")
        }
    }

    impl Error for Wrapped {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn errors_are_made_by_the_question_mark() {
        fn handler() -> Result<u8> {
            Ok("300".parse()?)
        }
        let outcome = handler().into_outcome();
        assert!(outcome.error().unwrap().contains("too large"), "{outcome:?}");
    }

    #[test]
    fn a_long_error_is_cut_at_a_character() {
        let outcome = Outcome::failed("ä".repeat(MAX_ERROR));
        let error = outcome.error().unwrap();
        assert!(
            error.len() <= MAX_ERROR && error.len() > MAX_ERROR - 4 && error.ends_with('…'),
            "{}",
            error.len()
        );
    }
}
