//! What has happened before a search begins.

use super::world::Deed::{
    self, Acknowledge, Apply, Connect, Hello, Put, Read, Receive, Send, Take,
};

/// The client is attached at node 0.
pub(super) const ATTACHED: [Deed; 5] = [Connect(0), Apply(0, 0), Take(0, 0), Hello(0), Read];

/// And one message is acknowledged.
pub(super) const ACKED: [Deed; 12] = joined(&[
    &ATTACHED,
    &[Send, Receive(0), Put(0), Apply(0, 0), Take(0, 0), Acknowledge(0), Read],
]);

/// One after the other.
pub(super) const fn joined<const N: usize>(parts: &[&[Deed]]) -> [Deed; N] {
    let mut all = [Read; N];
    let (mut at, mut part) = (0, 0);
    while part < parts.len() {
        let mut of = 0;
        while of < parts[part].len() {
            all[at] = parts[part][of];
            at += 1;
            of += 1;
        }
        part += 1;
    }
    assert!(at == N, "as many as there are");
    all
}
