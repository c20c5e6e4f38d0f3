//! The rules about one record and its owners.

use bytes::Bytes;
use futures_util::future::join_all;

use super::{
    Wire,
    suite::{A, B, HOUR, Suite, fine, key_text, ok, refusal},
};
use crate::words::store::{ErrorKind, MAX_KEY_LEN, RecordKind, SnapshotStore, Stamp};

const OURS: Bytes = Bytes::from_static(b"ours");
const THEIRS: Bytes = Bytes::from_static(b"theirs");

impl<S: SnapshotStore, W: Wire> Suite<'_, S, W> {
    pub(super) async fn what_is_written_is_loaded_whole(&self) {
        const RULE: &str = "rule 1 (atomic)";
        let key = self.key("whole");
        self.expect_none("load: nothing was put", &key).await;
        let state = Bytes::from_static(b"state");
        let mut stamp = self.make(&key, state.clone()).await;
        self.expect(RULE, &key, stamp, &state, HOUR).await;
        for (bytes, left) in [(vec![0xA5; 1 << 20], 2 * HOUR), (vec![], 9 * HOUR)] {
            stamp = stamp.next();
            let bytes = Bytes::from(bytes);
            self.put(&key, stamp, &bytes, left).await;
            self.expect(RULE, &key, stamp, &bytes, left).await;
        }
        let largest =
            Stamp { line: u128::MAX, generation: u64::MAX, owner: u64::MAX, number: u64::MAX };
        let smallest = Stamp { line: 0, generation: 0, owner: 0, number: 0 };
        for (id, stamp) in [("largest", largest), ("smallest", smallest)] {
            let key = self.key(id);
            ok(self.store.claim(&key, None, stamp, Bytes::new(), HOUR).await);
            self.expect("load: every number is one", &key, stamp, &Bytes::new(), HOUR).await;
        }
        // Of numbers beyond 2^53, which some languages cannot tell from their neighbours.
        let key = self.key("neighbours");
        let near = Stamp { number: u64::MAX - 1, ..largest };
        ok(self.store.claim(&key, None, near, THEIRS, HOUR).await);
        self.put(&key, largest, &OURS, HOUR).await;
        self.expect("rule 4 (in order): large numbers", &key, largest, &OURS, HOUR).await;
    }

    pub(super) async fn keys_do_not_collide(&self) {
        const RULE: &str = "keys: each names its own record";
        let long = vec![b'k'; MAX_KEY_LEN - 3 - self.layer.len()];
        let (mut longer, mut other) = (long.clone(), long.clone());
        longer.pop();
        *other.last_mut().expect("a long key is not empty") = b'l';
        let keys = [
            self.key_of(RecordKind::Session, b"k"),
            self.key_of(RecordKind::Outcome, b"k"),
            self.key_of(RecordKind::Visitor, b"k"),
            self.key_of(RecordKind::Unreadable, b"k"),
            self.key_of(RecordKind::IdentityKeys, b"k"),
            self.key_of(RecordKind::Session, b""),
            self.key_of(RecordKind::Session, b"\0"),
            self.key_of(RecordKind::Session, b"\xff\0:/*{}"),
            self.key_of(RecordKind::Session, &long),
            self.key_of(RecordKind::Session, &longer),
            self.key_of(RecordKind::Session, &other),
        ];
        let stamp = Stamp::first(7, A);
        for key in &keys {
            fine(RULE, self.store.claim(key, None, stamp, key_text(key), HOUR).await);
        }
        for key in &keys {
            self.expect(RULE, key, stamp, &key_text(key), HOUR).await;
        }
    }

    pub(super) async fn a_claim_is_over_exactly_what_was_found(&self) {
        const RULE: &str = "rule 3 (owned), claim";
        let key = self.key("claimed");
        let made = self.make(&key, OURS).await;
        let claim = async |found, stamp| self.store.claim(&key, found, stamp, THEIRS, HOUR).await;
        refusal(RULE, claim(None, Stamp::first(7, B)).await, ErrorKind::Stale);
        refusal(RULE, claim(None, Stamp::first(8, B)).await, ErrorKind::Stale);
        // Its owner has written since: what is claimed would be older than what is stored.
        let newer = made.next();
        self.put(&key, newer, &OURS, HOUR).await;
        refusal(RULE, claim(Some(made), made.taken_by(B)).await, ErrorKind::Stale);
        for found in [newer.next(), newer.taken_by(A), Stamp { owner: B, ..newer }] {
            refusal(RULE, claim(Some(found), found.taken_by(B)).await, ErrorKind::Stale);
        }
        self.expect("rule 3: a refused claim changes nothing", &key, newer, &OURS, HOUR).await;

        let taken = newer.taken_by(B);
        fine(RULE, claim(Some(newer), taken).await);
        self.expect(RULE, &key, taken, &THEIRS, HOUR).await;
        fine("rule 4: a claim that is sent again has happened", claim(Some(newer), taken).await);
        self.expect("rule 4: a claim that is sent again", &key, taken, &THEIRS, HOUR).await;
        refusal(RULE, claim(Some(newer), newer.taken_by(A)).await, ErrorKind::Stale);
        // A new line over what the last one has left.
        let next = Stamp::first(8, A);
        fine(RULE, claim(Some(taken), next).await);
        self.expect("rule 3: a new line", &key, next, &THEIRS, HOUR).await;
        // One's own, but only as it was read.
        fine(RULE, claim(Some(next), next.next()).await);
        refusal(RULE, claim(Some(next), next.next().next()).await, ErrorKind::Stale);
        let nothing = self.key("nothing there");
        let refused = self.store.claim(&nothing, Some(made), made.taken_by(B), THEIRS, HOUR).await;
        refusal(RULE, refused, ErrorKind::Stale);
        self.expect_none("rule 3: a refused claim makes nothing", &nothing).await;
    }

    pub(super) async fn a_record_is_its_owners_alone(&self) {
        const RULE: &str = "rule 3 (owned)";
        let key = self.key("owned");
        let made = self.make(&key, OURS).await;
        let theirs = made.taken_by(B);
        ok(self.store.claim(&key, Some(made), theirs, THEIRS, HOUR).await);
        let strangers = [
            ("an older generation", made.next()),
            ("an equal generation of another owner", Stamp { owner: A, number: 99, ..theirs }),
            ("another line", Stamp { line: 8, number: 99, ..theirs }),
            ("another line of a larger generation", Stamp { line: 8, ..theirs.taken_by(B) }),
        ];
        for (who, stamp) in strangers {
            let rule = format!("{RULE}: {who}");
            let put = self.store.put(&key, stamp, OURS, 9 * HOUR).await;
            refusal(&rule, put, ErrorKind::Stale);
            let touch = self.store.touch(&key, stamp, 9 * HOUR).await;
            refusal(&rule, touch, ErrorKind::Stale);
            let remove = self.store.remove(&key, stamp).await;
            refusal(&rule, remove, ErrorKind::Stale);
            self.expect(&rule, &key, theirs, &THEIRS, HOUR).await;
        }
    }

    /// A store that fails over to a copy may have lost a claim; its owner puts again.
    pub(super) async fn an_owner_heals_what_is_behind(&self) {
        const RULE: &str = "rule 3: a put heals an older record of its line";
        let key = self.key("behind");
        let made = self.make(&key, THEIRS).await;
        self.put(&key, Stamp { number: 50, ..made }, &THEIRS, HOUR).await;
        let ours = made.taken_by(B).taken_by(A).next();
        let touched = self.store.touch(&key, ours, HOUR).await;
        refusal("touch: the owner's record is not there", touched, ErrorKind::NotFound);
        fine(RULE, self.store.put(&key, ours, OURS, 2 * HOUR).await);
        self.expect(RULE, &key, ours, &OURS, 2 * HOUR).await;
        let key = self.key("behind and removed");
        self.make(&key, THEIRS).await;
        fine(RULE, self.store.remove(&key, ours).await);
        self.expect_none("remove: an older record of its line", &key).await;
    }

    pub(super) async fn writes_have_an_order(&self) {
        const RULE: &str = "rule 4 (in order)";
        let key = self.key("ordered");
        let first = self.make(&key, THEIRS).await;
        // Numbers may be left out.
        let newest = first.next().next().next();
        self.put(&key, newest, &OURS, HOUR).await;
        for stamp in [newest, first.next(), first] {
            fine(RULE, self.store.put(&key, stamp, THEIRS, 9 * HOUR).await);
            self.expect(RULE, &key, newest, &OURS, HOUR).await;
        }
        fine(RULE, self.store.touch(&key, first, 9 * HOUR).await);
        self.expect("rule 4 (in order), touch", &key, newest, &OURS, HOUR).await;
        fine(RULE, self.store.remove(&key, first).await);
        self.expect("rule 4 (in order), remove", &key, newest, &OURS, HOUR).await;
        fine(RULE, self.store.put(&key, newest.next(), THEIRS, HOUR).await);
        self.expect(RULE, &key, newest.next(), &THEIRS, HOUR).await;
    }

    pub(super) async fn a_touch_moves_the_expiry_alone(&self) {
        let key = self.key("touched");
        let absent = self.store.touch(&key, Stamp::first(7, A), HOUR).await;
        refusal("touch: there is no record", absent, ErrorKind::NotFound);
        self.expect_none("touch: it makes no record", &key).await;

        let stamp = self.make(&key, OURS).await;
        // With its owner's last stamp; that may have been for another record.
        for (stamp_of_owner, left) in [(stamp, 9 * HOUR), (stamp, HOUR), (stamp.next(), 5 * HOUR)] {
            ok(self.store.touch(&key, stamp_of_owner, left).await);
            self.expect("touch: moves the expiry alone", &key, stamp, &OURS, left).await;
        }
    }

    pub(super) async fn nothing_comes_back(&self) {
        const RULE: &str = "rule 5 (nothing comes back)";
        let key = self.key("removed");
        let stamp = Stamp::first(7, A).taken_by(A);
        ok(self.store.remove(&key, stamp).await);
        refusal(RULE, self.store.put(&key, stamp, OURS, HOUR).await, ErrorKind::NotFound);
        self.expect_none("rule 5: a put makes no record", &key).await;
        let rule = "rule 5: a removal leaves no trace";
        fine(rule, self.store.claim(&key, None, stamp, OURS, HOUR).await);
        ok(self.store.remove(&key, stamp.next()).await);
        self.expect_none("remove: it is gone", &key).await;
        ok(self.store.remove(&key, stamp.next()).await);
        refusal(RULE, self.store.put(&key, stamp.next(), OURS, HOUR).await, ErrorKind::NotFound);
        self.expect_none(RULE, &key).await;
        // Nothing is fenced where nothing is.
        let again = Stamp::first(7, B);
        fine(rule, self.store.claim(&key, None, again, THEIRS, HOUR).await);
        self.expect(rule, &key, again, &THEIRS, HOUR).await;
    }

    pub(super) async fn concurrent_writes_are_all_kept(&self) {
        const RULE: &str = "rule 1: concurrent calls";
        let keys: Vec<_> = (0..300).map(|n| self.key(&format!("many {n}"))).collect();
        let stamp = Stamp::first(7, A);
        let claims = keys.iter().map(|key| self.store.claim(key, None, stamp, key_text(key), HOUR));
        join_all(claims).await.into_iter().for_each(ok);
        for key in &keys {
            self.expect(RULE, key, stamp, &key_text(key), HOUR).await;
        }
    }

    pub(super) async fn one_of_concurrent_claims_wins(&self) {
        const RULE: &str = "rule 3 (owned), concurrent claims";
        let key = self.key("contended");
        let mut found = None;
        for round in 0..5 {
            let claims = (0..64_u64).map(|owner| {
                let stamp = found.map_or(Stamp::first(7, owner), |it: Stamp| it.taken_by(owner));
                let bytes = Bytes::from(format!("{round} {owner}"));
                let claim = self.store.claim(&key, found, stamp, bytes.clone(), HOUR);
                async move { (stamp, bytes, claim.await) }
            });
            let mut winner = None;
            for (stamp, bytes, result) in join_all(claims).await {
                if result.is_err() {
                    refusal(RULE, result, ErrorKind::Stale);
                } else if let Some((other, _)) = winner.replace((stamp, bytes)) {
                    panic!("{RULE}: {other:?} and {stamp:?} were both told that they own it");
                }
            }
            let Some((stamp, bytes)) = winner else { panic!("{RULE}: nobody wins") };
            self.expect(RULE, &key, stamp, &bytes, HOUR).await;
            found = Some(stamp);
        }
    }

    pub(super) fn identity_key_and_exclusiveness_are_constant(&self) {
        let key = self.store.identity_key();
        assert!(key == self.store.identity_key(), "identity_key: always the same");
        assert!(key != Some([0; 64]), "identity_key: it is random");
        let exclusive = self.store.is_exclusive();
        assert_eq!(exclusive, self.store.is_exclusive(), "is_exclusive: always the same");
    }
}
