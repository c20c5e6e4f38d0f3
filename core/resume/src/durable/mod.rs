//! Third floor: sessions in a store.

pub(crate) mod restore;
pub(crate) mod snapshot;
