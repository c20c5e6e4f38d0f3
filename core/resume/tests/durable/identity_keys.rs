//! Keys that several processes change at the same time, on a store that takes its time and fails.

use session_resume::{
    IdentityKeysErrorKind, KeyRotation, SessionResume,
    store::{ErrorKind, MemoryStore},
};

use crate::store::{Fault, TestStore};

fn node(disk: &MemoryStore) -> (SessionResume, TestStore) {
    let store = TestStore::new(disk);
    (SessionResume::new().with_store(store.clone()), store)
}

/// Each has read the keys before one of them has written any.
#[tokio::test(start_paused = true)]
async fn processes_that_rotate_at_once_make_one_key() {
    let disk = MemoryStore::new();
    let [one, other, third] = [(); 3].map(|()| node(&disk).0);
    let rotations = tokio::join!(
        one.rotate_identity_keys(),
        other.rotate_identity_keys(),
        third.rotate_identity_keys()
    );
    let rotations = [rotations.0, rotations.1, rotations.2].map(Result::unwrap);
    let signs_from = |rotation: &KeyRotation| match *rotation {
        KeyRotation::Made { signs_from } | KeyRotation::Waiting { signs_from } => signs_from,
    };
    let made = rotations.iter().filter(|it| matches!(it, KeyRotation::Made { .. })).count();
    assert_eq!(made, 1, "{rotations:?}");
    assert!(rotations.iter().all(|it| signs_from(it) == signs_from(&rotations[0])));
    let keys = [&one, &other, &third, &node(&disk).0].map(SessionResume::identity_keys);
    assert_eq!(keys[0].len(), 2);
    assert!(keys.iter().all(|it| *it == keys[0]), "{keys:?}");
}

/// One rotates while another one revokes: whoever is later, the keys of before are gone.
#[tokio::test(start_paused = true)]
async fn a_rotation_brings_no_revoked_key_back() {
    let disk = MemoryStore::new();
    let [one, other] = [(); 2].map(|()| node(&disk).0);
    let before = one.identity_keys();
    let (rotated, revoked) = tokio::join!(one.rotate_identity_keys(), other.revoke_identity_keys());
    rotated.unwrap();
    revoked.unwrap();
    for node in [&one, &other, &node(&disk).0] {
        let keys = node.load_identity_keys().await.unwrap();
        assert!(keys.iter().all(|key| !before.contains(key) && key.made.is_some()), "{keys:?}");
    }
    assert_eq!(one.identity_keys(), other.identity_keys());
}

/// It is not known whether a key was made: to ask again makes no second one.
#[tokio::test(start_paused = true)]
async fn a_rotation_whose_answer_was_lost_is_asked_for_again() {
    let disk = MemoryStore::new();
    let (layer, store) = node(&disk);
    store.process().set(Fault::Fail(ErrorKind::Io));
    let error = layer.rotate_identity_keys().await.unwrap_err();
    assert_eq!(error.kind(), IdentityKeysErrorKind::Store);
    assert_eq!(layer.load_identity_keys().await.unwrap().len(), 1, "nothing has happened");
    store.process().set(Fault::Tear);
    let error = layer.rotate_identity_keys().await.unwrap_err();
    assert_eq!(error.kind(), IdentityKeysErrorKind::Store);
    store.process().set(Fault::None);
    let again = layer.rotate_identity_keys().await.unwrap();
    assert!(matches!(again, KeyRotation::Waiting { .. }), "{again:?}");
    assert_eq!(layer.identity_keys().len(), 2);
}
