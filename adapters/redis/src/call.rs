//! What is asked of the engine.

use bytes::Bytes;

use crate::scripts::Script;

/// One call of a script on one key.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) script: Script,
    pub(crate) key: Vec<u8>,
    pub(crate) args: Vec<Bytes>,
    /// A node of a cluster has said that another one has the key for this once.
    pub(crate) asking: bool,
}

impl Call {
    pub(crate) fn new(script: Script, key: Vec<u8>, args: Vec<Bytes>) -> Self {
        Self { script, key, args, asking: false }
    }

    /// How many bytes its key and its arguments have.
    pub(crate) fn len(&self) -> usize {
        self.key.len() + self.args.iter().map(Bytes::len).sum::<usize>()
    }
}
