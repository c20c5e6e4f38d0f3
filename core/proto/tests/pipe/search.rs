//! The search: every deed from every state, and a calm end from each.

use std::{
    collections::{HashSet, VecDeque, hash_map::DefaultHasher},
    hash::{BuildHasher, BuildHasherDefault},
};

use crate::{bounds::Bounds, deed::Deed, fault::Fault, world::World};

type Seen = HashSet<u64>;

/// Visits every state; returns how many there are.
///
/// # Panics
///
/// When a state breaks a promise, or a calm network does not lead to everything delivered.
pub(crate) fn explore(bounds: Bounds, fault: Option<Fault>) -> usize {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let first = World::new(bounds);
    let mut seen = Seen::from([hasher.hash_one(&first)]);
    // From these everything is delivered.
    let mut well = Seen::new();
    let mut queue = VecDeque::from([first]);
    while let Some(state) = queue.pop_front() {
        for deed in state.deeds(bounds) {
            let mut next = state.clone();
            next.do_deed(deed, bounds, fault);
            // A hash of 64 bits: two of a million states meet with a chance of one in ten million.
            if seen.insert(hasher.hash_one(&next)) {
                calm(next.clone(), bounds, fault, &mut well);
                queue.push_back(next);
            }
        }
    }
    seen.len()
}

/// From here on nothing goes wrong: everything is delivered.
fn calm(mut world: World, bounds: Bounds, fault: Option<Fault>, well: &mut Seen) {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut path = Vec::new();
    while !world.is_done(bounds) {
        let hash = hasher.hash_one(&world);
        if well.contains(&hash) {
            break;
        }
        assert!(path.len() < 300, "no rest: {world:#?}");
        path.push(hash);
        let deed = world.calm_deed(bounds);
        let deed = deed.unwrap_or_else(|| panic!("not everything can be delivered: {world:#?}"));
        world.do_deed(deed, bounds, fault);
    }
    well.extend(path);
}

impl World {
    /// The next deed of a calm network. What nobody waits for stays where it is.
    fn calm_deed(&self, bounds: Bounds) -> Option<Deed> {
        let deeds = self.deeds(bounds);
        let flows = |deed: &&Deed| match deed {
            Deed::Arrive(at) => self.net[*at].is_live(),
            Deed::HeldBack => false,
            deed => deed.is_calm(),
        };
        // It comes back as often as it must.
        let returns = self.end.is_none().then_some(Deed::Return);
        deeds.iter().find(flows).copied().or(returns)
    }
}
