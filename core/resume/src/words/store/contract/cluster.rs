//! The rules of [`ClusterStore`].

use std::time::Duration;

use super::super::{ClusterStore, ErrorKind, RecordKind, Renewed, StoreKey};
use crate::words::{
    node::{Incarnation, NodeInfo},
    random,
};

const LAYER: &str = "contract of clusters";
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(300);

/// Checks the rules of a store that knows its nodes. `one` and `other` are handles on it as two processes have them.
///
/// It blocks its thread for about a second, to let a lease end.
///
/// # Panics
///
/// At the first rule that does not hold.
pub async fn check_cluster<S: ClusterStore>(one: &S, other: &S) {
    let node = |name: &str| {
        let incarnation = Incarnation::from_number(u64::from_be_bytes(random::bytes()));
        NodeInfo::new(name, incarnation, "10.0.0.7:7946", 1)
    };
    let names = [String::from("a"), format!("b{:x}", u64::from_be_bytes(random::bytes::<8>()))];
    let before = one.named(LAYER, &names[0]).await.expect("named");
    let a = node(&names[0]);
    one.enlist(LAYER, &a, before, LONG).await.expect("enlist");
    one.enlist(LAYER, &a, before, LONG).await.expect("enlist again by the same one has happened");
    assert_eq!(other.named(LAYER, &a.name).await.expect("named"), Some(a.incarnation));
    assert_eq!(other.find(LAYER, a.incarnation).await.expect("find"), Some(a.clone()));
    assert!(other.find("another layer", a.incarnation).await.expect("find").is_none());

    let b = node(&names[1]);
    other.enlist(LAYER, &b, None, LONG).await.expect("enlist");
    let all = one.nodes(LAYER).await.expect("nodes");
    assert!(all.contains(&a) && all.contains(&b), "the directory has both: {all:?}");

    let renew = |node: Incarnation| one.renew(LAYER, node, LONG, LONG);
    let Renewed::Held { run, .. } = renew(a.incarnation).await.expect("renew") else {
        panic!("it lives");
    };
    let held = Renewed::Held { wanted: Vec::new(), run };
    assert_eq!(renew(a.incarnation).await.expect("renew"), held, "nothing has happened to it");
    let key = StoreKey::new(RecordKind::Session, LAYER, b"wanted").expect("a short key");
    other.want(LAYER, a.incarnation, &key).await.expect("want");
    let wanted = Renewed::Held { wanted: vec![key], run };
    assert_eq!(renew(a.incarnation).await.expect("renew"), wanted, "the owner is told");
    assert_eq!(renew(a.incarnation).await.expect("renew"), held, "once");

    // A name that is enlisted again ends its last incarnation.
    let again = node(&a.name);
    let refused = one.enlist(LAYER, &again, None, LONG).await.expect_err("the name is taken");
    assert_eq!(refused.kind(), ErrorKind::Stale, "the name is another's");
    assert!(one.find(LAYER, again.incarnation).await.expect("find").is_none(), "nothing changed");
    one.enlist(LAYER, &again, Some(a.incarnation), LONG).await.expect("enlist");
    assert_eq!(renew(a.incarnation).await.expect("renew"), Renewed::Gone, "the last one is gone");
    assert!(other.find(LAYER, a.incarnation).await.expect("find").is_none(), "for good");
    assert_eq!(renew(again.incarnation).await.expect("renew"), held);

    // A lease ends by itself, and only what is there is extended.
    let short = node(&b.name);
    other.enlist(LAYER, &short, Some(b.incarnation), SHORT).await.expect("enlist");
    std::thread::sleep(SHORT * 3);
    assert!(one.find(LAYER, short.incarnation).await.expect("find").is_none(), "its lease is over");
    assert_eq!(renew(short.incarnation).await.expect("renew"), Renewed::Gone, "gone is for good");
    let all = one.nodes(LAYER).await.expect("nodes");
    assert!(all.contains(&again) && !all.contains(&short), "{all:?}");

    one.retire(LAYER, again.incarnation).await.expect("retire");
    one.retire(LAYER, again.incarnation).await.expect("retire again has happened");
    assert_eq!(renew(again.incarnation).await.expect("renew"), Renewed::Gone, "it has retired");
}
