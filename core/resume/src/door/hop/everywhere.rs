//! What the application does at all nodes of a cluster.

use std::borrow::Cow;

use super::{call::Call, others::call_all};
use crate::{Identity, Message, SessionResume};

/// A layer at all nodes of its cluster; made by [`SessionResume::everywhere`].
#[derive(Debug)]
pub struct Everywhere<'a, T>(&'a SessionResume<T>);

/// What came of a call to all nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "a node may not have answered"]
#[non_exhaustive]
pub struct Told {
    /// The sum of what this node and those that have answered return: sessions or transports, as with the call to one
    /// node.
    pub count: usize,
    /// The names of the nodes that did not answer within 2 s, in no particular order. It is not known whether they have done it.
    pub unanswered: Vec<String>,
    /// Whether the engine has said which nodes there are. If not, those were called that this node knew: one that has
    /// just begun may be missing.
    pub is_directory_read: bool,
}

impl Told {
    /// Returns whether each node there is has answered.
    pub fn is_complete(&self) -> bool {
        self.unanswered.is_empty() && self.is_directory_read
    }
}

impl<T: Send + 'static> SessionResume<T> {
    /// Returns this layer at all nodes of its cluster: what is done with it is done at each.
    ///
    /// Each other node is called once, by a connection to its address for hops ([`with_advertise`](crate::Cluster::with_advertise)). A
    /// call that is lost is not made again. A session that goes from one node to another meanwhile may be met twice, or not at all.
    /// Without [`with_cluster`](Self::with_cluster) it is this process alone.
    ///
    /// ```
    /// use session_resume::SessionResume;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let resume = SessionResume::new();
    /// let told = resume.everywhere().broadcast("the shop closes at noon").await;
    /// if !told.is_complete() {
    ///     eprintln!("these nodes did not answer: {:?}", told.unanswered);
    /// }
    /// # assert!(told.is_complete());
    /// # }
    /// ```
    pub fn everywhere(&self) -> Everywhere<'_, T> {
        Everywhere(self)
    }
}

impl<T: Send + 'static> Everywhere<'_, T> {
    /// Sends a message to every live session of each node, as [`SessionResume::broadcast`] does at one.
    ///
    /// # Cancel safety
    ///
    /// This node has done it when the future is polled first. When it is dropped, any of the others may have done it.
    pub async fn broadcast(self, message: impl Into<Message>) -> Told {
        let message = message.into();
        self.call(Call::Broadcast(message.into())).await
    }

    /// Closes every transport of an identity's clients at each node, as [`SessionResume::close_identity`] does at one.
    ///
    /// # Cancel safety
    ///
    /// As [`broadcast`](Self::broadcast).
    pub async fn close_identity(
        self,
        identity: Identity,
        reason: impl Into<Cow<'static, str>>,
    ) -> Told {
        self.call(Call::CloseIdentity(identity.into(), reason.into().into_owned())).await
    }

    /// Ends every session under an identity's key that is in some node's memory, as [`SessionResume::end_identity`] does at
    /// one.
    ///
    /// # Cancel safety
    ///
    /// As [`broadcast`](Self::broadcast).
    pub async fn end_identity(
        self,
        identity: Identity,
        reason: impl Into<Cow<'static, str>>,
    ) -> Told {
        self.call(Call::EndIdentity(identity.into(), reason.into().into_owned())).await
    }

    async fn call(self, call: Call) -> Told {
        let here = call.clone().perform(self.0);
        let others = call_all(self.0.registry(), &call).await;
        Told {
            count: here + others.count,
            unanswered: others.unanswered,
            is_directory_read: others.is_directory_read,
        }
    }
}
