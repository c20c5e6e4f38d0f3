//! The application's panics: caught where its code is called, and told as text.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

/// What the application's code has panicked with.
#[derive(Debug)]
pub(crate) struct Panic {
    text: String,
}

impl Panic {
    fn of(payload: Box<dyn Any + Send>) -> Self {
        let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (None, Some(text)) => text.clone(),
            (None, None) => "panic with a payload that is no text".to_owned(),
        };
        // The payload is the application's, too: its drop may panic, and what that panics with is kept for ever.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
        Self { text }
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Calls the application's code.
pub(crate) fn caught<R>(call: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(call)).map_err(Panic::of)
}

/// Runs the application's future. Its drop is its code, too.
pub(crate) const fn run_caught<F: Future>(future: F) -> RunCaught<F> {
    RunCaught { future: Some(future) }
}

pin_project! {
    /// Future of [`run_caught`]: an `async` block would hold the application's future several times over.
    pub(crate) struct RunCaught<F> {
        // `None` once it has ended.
        #[pin]
        future: Option<F>,
    }
}

impl<F: Future> Future for RunCaught<F> {
    type Output = Result<F::Output, Panic>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.project().future;
        let future = slot.as_mut().as_pin_mut().expect("it is not polled after its end");
        let ended = match caught(|| future.poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(panic) => Err(panic),
        };
        let dropped = caught(|| slot.set(None));
        Poll::Ready(match (ended, dropped) {
            (Ok(output), Err(panic)) => {
                // The drop of the output is the application's code, too.
                let _ = caught(|| drop(output));
                Err(panic)
            }
            (ended, _) => ended,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{panic_any, resume_unwind};

    use super::*;

    #[test]
    fn every_payload_becomes_text() {
        let text = |payload: Box<dyn Any + Send>| {
            caught(|| -> () { resume_unwind(payload) }).unwrap_err().to_string()
        };
        assert_eq!(text(Box::new("static")), "static");
        assert_eq!(text(Box::new("owned".to_owned())), "owned");
        assert!(text(Box::new(7)).contains("no text"));
        assert_eq!(caught(|| 7).unwrap(), 7);
    }

    #[test]
    fn a_payload_that_panics_is_caught_with_all_that_follow() {
        struct Bomb(u8);
        impl Drop for Bomb {
            fn drop(&mut self) {
                if self.0 > 0 {
                    panic_any(Self(self.0 - 1));
                }
            }
        }
        assert!(caught(|| -> () { resume_unwind(Box::new(Bomb(3))) }).is_err());
    }

    #[tokio::test]
    async fn a_future_that_panics_when_it_is_dropped_is_caught() {
        struct Loud;
        impl Future for Loud {
            type Output = u8;

            fn poll(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<u8> {
                std::task::Poll::Ready(7)
            }
        }
        impl Drop for Loud {
            fn drop(&mut self) {
                resume_unwind(Box::new("drop"));
            }
        }
        assert_eq!(run_caught(Loud).await.unwrap_err().to_string(), "drop");
        assert_eq!(run_caught(async { 7 }).await.unwrap(), 7);
    }
}
