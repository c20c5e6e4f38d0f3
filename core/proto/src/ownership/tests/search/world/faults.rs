//! What breaks.

use super::{Done, RULES, Up, World};
use crate::ownership::{
    Ownership,
    tests::search::{
        case::Case,
        client::{HopStage, Stage},
    },
};

impl World {
    pub(super) fn cut(&mut self, at: usize) {
        self.left.cuts -= 1;
        let node = &mut self.nodes[at];
        node.link = false;
        node.fail_calls();
        node.lease.handle_disconnected();
    }

    pub(super) fn kill(&mut self, at: usize, case: &Case) -> Done {
        self.left.kills -= 1;
        let node = &mut self.nodes[at];
        node.up = Up::Dead;
        node.session = None;
        node.serves.clear();
        node.asked.retain(|asked| asked.reply.is_none());
        node.lease_asked = None;
        node.ownership = Ownership::new(RULES);
        // Its kernel closes what it had; what is under way to the client may still come.
        for which in [1, 0] {
            let Some(transport) = &mut self.transports[which] else {
                continue;
            };
            if transport.via == at {
                let owner = transport.hop_to();
                self.detach(which);
                if let Some(owner) = owner {
                    self.forget(owner, which, case)?;
                }
                if which == 1 {
                    self.transports[1] = None;
                } else {
                    let transport = self.present();
                    transport.stage = Stage::Closed;
                    transport.down.clear();
                    transport.hop = HopStage::No;
                    transport.at = None;
                }
            } else if transport.hop_to() == Some(at) {
                match transport.hop {
                    HopStage::Copies { .. } if transport.stage != Stage::Closed => {
                        transport.hop = HopStage::Ended;
                        transport.at = None;
                    }
                    HopStage::Answered { .. } | HopStage::There { .. } => {
                        transport.hop = HopStage::Lost;
                        transport.stage = Stage::Offered;
                        transport.at = None;
                        transport.down.clear();
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
