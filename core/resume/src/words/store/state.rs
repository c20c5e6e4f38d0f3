use serde::{Serialize, de::DeserializeOwned};

/// State that a store can keep. Everything that serde can write and read is one; there is nothing to implement.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the state of sessions that a store keeps",
    label = "it needs `Serialize`, `Deserialize`, and `Send`",
    note = "add `#[derive(Default, serde::Serialize, serde::Deserialize)]` to it",
    note = "or keep it in memory alone: `with_memory_state(|_| ..)` in place of `with_state`, and no `with_store`"
)]
pub trait StoredState: Serialize + DeserializeOwned + Send + 'static {}

// Else the error would be about serde alone.
#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> StoredState for T {}
