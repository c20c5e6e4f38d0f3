//! Second floor: sessions in memory, what drives them, and where they are found.

pub(crate) mod handler;
pub(crate) mod outcomes;
pub(crate) mod pump;
pub(crate) mod registry;
pub(crate) mod session;
pub(crate) mod wheel;
