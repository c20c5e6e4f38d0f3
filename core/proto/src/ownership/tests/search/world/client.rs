//! What the client does.

use super::{Done, NOW, Up, World};
use crate::ownership::{
    Event, Visit,
    tests::search::{
        case::Case,
        client::{Down, HopStage, Stage},
        session::Outbox,
    },
};

impl World {
    pub(super) fn read(&mut self, case: &Case) -> Done {
        let frame = self.present().down.remove(0);
        let client = &mut self.client;
        match frame {
            Down::Hello { resumed, fine, epoch, from, received } => {
                if received < client.base {
                    let base = client.base;
                    return Err(format!(
                        "P1: received {received} is below what was acknowledged, {base}"
                    ));
                }
                if resumed && !fine {
                    return Err("P3: resumed over another history".into());
                }
                if !resumed {
                    client.epoch = epoch;
                    client.got = Outbox::default();
                    if from != 0 {
                        return Err("P3: a new epoch begins at 0".into());
                    }
                }
                client.has = true;
                client.hello = true;
                client.next = received;
            }
            Down::Data { output, epoch } => {
                if epoch != client.epoch {
                    return Err("P3: data of another epoch, and no hello".into());
                }
                let first = client.got.as_slice().first().map(|first| first.message);
                if first.is_some_and(|first| output.message != first + client.got.len) {
                    return Err("P3: out of order".into());
                }
                if case.exact && !self.lost && output.message != client.got.len {
                    return Err("P3: under Exact, and an output is missing or doubled".into());
                }
                client.got.push(output);
            }
            Down::Ack(acked) => {
                client.base = client.base.max(acked);
                let stored = self.engine.record.snap.taken;
                if !self.lost && acked > stored {
                    return Err(format!("P4: ack {acked}, but the record has {stored}"));
                }
            }
            Down::Close => self.let_go(case)?,
            Down::Done => {
                client.done = true;
                if !self.lost && !self.engine.has_ended() {
                    return Err("P4: done, but the record goes on".into());
                }
            }
        }
        Ok(())
    }

    /// The client lets go of its transport; what it has written may still arrive.
    pub(super) fn let_go(&mut self, case: &Case) -> Done {
        self.forget_transport(1, case)?;
        let transport = self.present();
        let keeps = match transport.stage {
            Stage::Open => matches!(transport.hop, HopStage::No | HopStage::Copies { .. }),
            Stage::Offered => case.late_offers,
            Stage::Closed => false,
        };
        if keeps {
            let mut old = self.transports[0].take().expect("it is there");
            old.down.clear();
            self.transports[1] = Some(old);
            for node in &mut self.nodes {
                node.ownership.rename(Visit(0), Visit(1));
                for serve in &mut node.serves {
                    serve.0 = 1;
                }
                if let Some(session) = &mut node.session
                    && session.at == Some(0)
                {
                    session.at = Some(1);
                }
            }
        } else {
            self.forget_transport(0, case)?;
        }
        self.client.hello = false;
        self.client.next = 0;
        Ok(())
    }

    /// An old transport ends for good.
    pub(super) fn forget_transport(&mut self, which: usize, case: &Case) -> Done {
        if self.transports[which].is_some() {
            self.detach(which);
            for at in 0..self.nodes.len() {
                self.forget(at, which, case)?;
            }
            self.transports[which] = None;
        }
        Ok(())
    }

    pub(super) fn forget_old(&mut self) {
        self.detach(1);
        self.transports[1] = None;
        for node in &mut self.nodes {
            node.ownership.forget(Visit(1));
            node.serves.retain(|serve| serve.0 != 1);
        }
    }

    pub(super) fn forget(&mut self, at: usize, which: usize, case: &Case) -> Done {
        self.nodes[at].serves.retain(|serve| serve.0 != which);
        if self.nodes[at].up == Up::Dead {
            return Ok(());
        }
        self.event(at, Event::Left(Visit(which as u64)), NOW, case)
    }

    pub(super) fn detach(&mut self, which: usize) {
        for node in &mut self.nodes {
            if let Some(session) = &mut node.session
                && session.at == Some(which)
            {
                session.at = None;
            }
        }
    }
}
