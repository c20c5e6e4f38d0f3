//! The rules about calls whose callers have given up: they have happened, never happen, or happen late.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;

use super::{
    Wire,
    suite::{A, B, HOUR, Suite, fine, ok},
};
use crate::words::store::{SnapshotStore, Stamp, StoreError};

const OLD: Bytes = Bytes::from_static(b"old");
const NEW: Bytes = Bytes::from_static(b"new");

impl<S: SnapshotStore, W: Wire> Suite<'_, S, W> {
    /// The connection is lost with a call on it. The same owner goes on, on another one; then the call arrives.
    pub(super) async fn a_late_write_changes_nothing(&self) {
        const RULE: &str = "rule 4 (in order): a put that lands late";
        const TOUCH: &str = "rule 4 (in order): a touch that lands late";
        const REMOVE: &str = "rule 4 (in order): a removal that lands late";
        let key = self.key("late put");
        let first = self.make(&key, OLD).await;
        let (second, third) = (first.next(), first.next().next());
        let late = self.wire.hold(Box::pin(self.store.put(&key, second, OLD, 9 * HOUR))).await;
        self.put(&key, third, &NEW, HOUR).await;
        late.await;
        self.expect(RULE, &key, third, &NEW, HOUR).await;

        let late = self.wire.hold(Box::pin(self.store.touch(&key, third, 9 * HOUR))).await;
        self.put(&key, third.next(), &NEW, HOUR).await;
        late.await;
        self.expect(TOUCH, &key, third.next(), &NEW, HOUR).await;

        let stamp = third.next().next();
        let late = self.wire.hold(Box::pin(self.store.remove(&key, stamp))).await;
        self.put(&key, stamp.next(), &NEW, HOUR).await;
        late.await;
        self.expect(REMOVE, &key, stamp.next(), &NEW, HOUR).await;
    }

    /// The same, and meanwhile another process has become the owner.
    pub(super) async fn a_late_write_of_a_former_owner_changes_nothing(&self) {
        const RULE: &str = "rule 3 (owned): a late call of a former owner";
        for call in ["put", "touch", "remove"] {
            let key = self.key(&format!("former {call}"));
            let ours = self.make(&key, OLD).await;
            let stamp = ours.next();
            let held: super::Call<'_> = match call {
                "put" => Box::pin(self.store.put(&key, stamp, OLD, 9 * HOUR)),
                "touch" => Box::pin(self.store.touch(&key, stamp, 9 * HOUR)),
                _ => Box::pin(self.store.remove(&key, stamp)),
            };
            let late = self.wire.hold(held).await;
            let theirs = ours.taken_by(B);
            ok(self.store.claim(&key, Some(ours), theirs, NEW, HOUR).await);
            late.await;
            self.expect(RULE, &key, theirs, &NEW, HOUR).await;
        }
    }

    pub(super) async fn a_late_claim_is_over_what_was_found(&self) {
        const RULE: &str = "rule 3 (owned): a claim that lands late";
        let key = self.key("late first claim");
        let claim = self.store.claim(&key, None, Stamp::first(7, A), OLD, 9 * HOUR);
        let late = self.wire.hold(Box::pin(claim)).await;
        let ours = Stamp::first(8, B);
        ok(self.store.claim(&key, None, ours, NEW, HOUR).await);
        late.await;
        self.expect(RULE, &key, ours, &NEW, HOUR).await;

        // What was claimed would take back what its owner has written since.
        let claim = self.store.claim(&key, Some(ours), ours.taken_by(A), OLD, 9 * HOUR);
        let late = self.wire.hold(Box::pin(claim)).await;
        self.put(&key, ours.next(), &NEW, HOUR).await;
        late.await;
        self.expect(RULE, &key, ours.next(), &NEW, HOUR).await;
    }

    /// A call whose answer is lost may have happened or not; it is sent again as it was.
    pub(super) async fn a_call_sent_again_happens_once(&self) {
        const RULE: &str = "rule 4: a call that was lost and is sent again";
        let key = self.key("again");
        let first = Stamp::first(7, A);
        let claim = || self.store.claim(&key, None, first, OLD, HOUR);
        let late = self.wire.hold(Box::pin(claim())).await;
        fine(RULE, claim().await);
        late.await;
        fine(RULE, claim().await);
        self.expect(RULE, &key, first, &OLD, HOUR).await;

        let put = || self.store.put(&key, first.next(), NEW, 2 * HOUR);
        let late = self.wire.hold(Box::pin(put())).await;
        fine(RULE, put().await);
        late.await;
        fine(RULE, put().await);
        self.expect(RULE, &key, first.next(), &NEW, 2 * HOUR).await;
    }

    pub(super) async fn a_dropped_call_is_whole(&self) {
        const RULE: &str = "rule 7 (dropped futures)";
        let key = self.key("dropped");
        let (old, new) = (Bytes::from(vec![1; 100_000]), Bytes::from(vec![2; 200_000]));
        let mut stamp = self.make(&key, old.clone()).await;
        let given = stamp.next();
        poll_once(self.store.put(&key, given, new.clone(), 9 * HOUR));
        let record = self.load(&key).await;
        let whole = record.as_ref().is_some_and(|record| {
            let (is_old, is_new) = (record.stamp == stamp, record.stamp == given);
            let long = record.expires_in > Duration::from_secs(2 * 3600);
            (is_old && record.bytes == old && !long) || (is_new && record.bytes == new && long)
        });
        assert!(whole, "{RULE}: neither the old record nor the new one: {record:?}");

        stamp = given;
        for round in 0..20 {
            poll_once(self.store.put(&key, stamp.next(), new.clone(), 9 * HOUR));
            stamp = stamp.next().next();
            let bytes = Bytes::from(format!("later {round}"));
            self.put(&key, stamp, &bytes, HOUR).await;
            self.expect(RULE, &key, stamp, &bytes, HOUR).await;
        }
    }
}

/// Starts a call and lets go of it, as a request does whose client has hung up.
fn poll_once(call: impl Future<Output = Result<(), StoreError>>) {
    if let Poll::Ready(result) = pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        ok(result);
    }
}
