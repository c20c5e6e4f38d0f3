/// What can be done to the connection of a page, and of a socket. The type has a field `wire`.
macro_rules! verbs {
    () => {
        /// The connection is reset. What was sent has arrived at the server; what the server sends from now on does not
        /// arrive on this connection.
        ///
        /// While the network is frozen, all that is under way is lost.
        ///
        /// # Cancel safety
        ///
        /// If the future is dropped, the connection may stand still.
        pub async fn cut(&self) {
            self.wire.cut().await;
        }

        /// As [`cut`](Self::cut), and the last `count` messages that were sent do not arrive, although sending them has
        /// succeeded.
        ///
        /// Call it right after the messages are sent: those that have arrived cannot be lost. To be sure of that,
        /// [`freeze`](Self::freeze) before.
        ///
        /// # Panics
        ///
        /// Panics if fewer messages are under way.
        ///
        /// # Cancel safety
        ///
        /// As [`cut`](Self::cut).
        pub async fn lose(&self, count: usize) {
            self.wire.lose(count).await;
        }

        /// The connection is lost for this end, and the server is not told: its end stays open, says nothing, and takes
        /// what is written. So a laptop leaves that is closed here and opened in another network. What was sent has
        /// arrived.
        ///
        /// # Cancel safety
        ///
        /// As [`cut`](Self::cut).
        pub async fn half_open(&self) {
            self.wire.half_open().await;
        }

        /// Nothing passes any more, and nobody is told: each end finds the other silent. New connections are not answered,
        /// either. Until [`thaw`](Self::thaw).
        pub fn freeze(&self) {
            self.wire.freeze();
        }

        /// All that was held up passes again, in order.
        pub fn thaw(&self) {
            self.wire.thaw();
        }
    };
}
pub(crate) use verbs;
