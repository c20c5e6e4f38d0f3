//! A get, or an open, that is under way.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use session_resume_proto::{
    pipe::{Get, GetStep, Refusal, RequestId},
    wire::{self, PipeFrame},
};
use tokio::time::Sleep;

use crate::{
    live::pipes::{Pipe, Waits},
    words::clock::Time,
};

/// A get that is being answered. Dropped before the end, it has hung up.
pub(in crate::door::http) struct Asking {
    pipe: Arc<Pipe>,
    time: Arc<dyn Time>,
    id: RequestId,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Asking {
    pub(super) fn begin(pipe: Arc<Pipe>, time: Arc<dyn Time>, get: Get) -> Result<Self, Refusal> {
        let id = pipe.begin_request();
        pipe.step(|state| state.server.handle_get(id, get, time.clock().now()))?;
        Ok(Self { pipe, time, id, timer: None })
    }

    /// What to write next; never [`GetStep::Wait`].
    pub(super) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<GetStep> {
        loop {
            let clock = self.time.clock();
            let (step, due) = self.pipe.step_or_wait(
                Waits::Request(self.id),
                cx,
                |state| {
                    let now = clock.now();
                    state.server.handle_timeout(now);
                    let step = state.server.poll_get(self.id, now);
                    let says_close = |frame: &PipeFrame| matches!(frame, PipeFrame::Close(_));
                    if let GetStep::Frames(frames) = &step {
                        state.close_is_out |= frames.iter().any(says_close);
                    }
                    (step, state.server.poll_timeout())
                },
                |(step, _)| *step == GetStep::Wait,
            );
            if step != GetStep::Wait {
                return Poll::Ready(step);
            }
            let Some(due) = due else {
                return Poll::Pending;
            };
            let at = self.time.clock().instant(due);
            if super::set(&mut self.timer, at).poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// The next piece of a stream; `None` at the end.
    pub(in crate::door::http) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Bytes>> {
        self.poll_step(cx).map(|step| match step {
            GetStep::Frames(frames) => {
                let mut text = String::new();
                for frame in &frames {
                    wire::encode_event(frame, &mut text);
                }
                Some(text.into())
            }
            GetStep::Flow => Some(Bytes::from_static(wire::FLOW.as_bytes())),
            GetStep::End | GetStep::Wait => None,
        })
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let now = self.time.clock().now();
        self.pipe.end_request(self.id);
        self.pipe.step(|state| state.server.handle_hang_up(self.id, now));
    }
}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asking").finish_non_exhaustive()
    }
}
