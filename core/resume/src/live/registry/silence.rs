//! A node without its lease: its sessions stay in memory and say nothing.

use session_resume_proto::wire::Close;

use super::Registry;
use crate::{
    live::session::{Core, Shared},
    words::observe,
};

impl<T: Send + 'static> Registry<T> {
    /// Silences all sessions: nothing is taken, sent or acknowledged. Handlers go on until their next call.
    pub(crate) fn freeze_all(&self) {
        for session in self.all() {
            session.step(Core::silence);
        }
        observe::nodes::frozen(self.silenced());
    }

    /// The lease is back: those that were silenced go on, if they are this life's.
    pub(crate) fn thaw_all(&self) {
        for session in self.all() {
            self.thaw(&session);
        }
        observe::nodes::frozen(self.silenced());
    }

    /// As [`thaw_all`](Self::thaw_all), for one session.
    pub(crate) fn thaw(&self, session: &Shared<T>) {
        let owner = self.node().map(|node| node.incarnation().number());
        session.with_core(|core, now| {
            let stamp = core.durable.as_ref().map(|durable| durable.stamp);
            if core.is_silenced() && stamp.map(|stamp| stamp.owner) == owner {
                core.speak_again(now);
                if self.drain.is_draining() {
                    core.freeze_for_store();
                }
            }
        });
    }

    /// The lease has been away for long: the clients may find another node.
    pub(crate) fn send_away(&self) {
        for session in self.all() {
            session.with_core(|core, now| {
                if core.is_silenced() && !core.machine.is_end_committed() {
                    let retry = || Some(self.drain.retry());
                    core.machine.close_transports(&Close::RESTARTING, retry, now);
                }
            });
        }
    }

    /// Returns how many sessions are silent because the node has no lease.
    pub(crate) fn silenced(&self) -> usize {
        self.all().iter().filter(|session| session.lock().is_silenced()).count()
    }
}
