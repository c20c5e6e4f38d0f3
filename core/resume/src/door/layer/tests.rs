use std::{convert::Infallible, panic::AssertUnwindSafe, time::Duration};

use http::{Request, Response};
use proptest::prelude::*;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::SessionResume;
use crate::{
    AllowedOrigins, Attach, ConfigErrorKind, Durability, Heartbeat, Identity, IdentityCookie,
    Limits, MergePolicy, Overflow, PlainAck, Unreadable, adapter, key, reuse,
    store::{MemoryStore, StoredState},
    words::identity::{CookieName, Hour, Via},
};

/// A setter with a value; `bool`: whether it is a value that cannot work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Setter {
    Identity(bool),
    Key,
    Reuse,
    Unreadable,
    AllowedOrigins,
    Attach,
    Overflow,
    PlainAck,
    UnusedLifetime,
    CheckInterval,
    Heartbeat(bool),
    Limits,
    OutcomeLifetime,
    Merge,
    Name(bool),
    Durability,
    FlushInterval,
    StoreTimeout,
    StoredLifetime,
    Store,
    /// The state goes from `()` to `u8`.
    State(State),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Default,
    From,
    Memory,
}

fn setters(breaks: [bool; 3], state: State) -> Vec<Setter> {
    use Setter::{
        AllowedOrigins, Attach, CheckInterval, Durability, FlushInterval, Heartbeat, Identity, Key,
        Limits, Merge, Name, OutcomeLifetime, Overflow, PlainAck, Reuse, Store, StoreTimeout,
        StoredLifetime, Unreadable, UnusedLifetime,
    };
    vec![
        Identity(breaks[0]),
        Key,
        Reuse,
        Unreadable,
        AllowedOrigins,
        Attach,
        Overflow,
        PlainAck,
        UnusedLifetime,
        CheckInterval,
        Heartbeat(breaks[1]),
        Limits,
        OutcomeLifetime,
        Merge,
        Name(breaks[2]),
        Durability,
        FlushInterval,
        StoreTimeout,
        StoredLifetime,
        Store,
        Setter::State(state),
    ]
}

/// Some of the setters, and the same in another order.
fn two_orders() -> impl Strategy<Value = (Vec<Setter>, Vec<Setter>)> {
    let state = prop_oneof![Just(State::Default), Just(State::From), Just(State::Memory)];
    let all = (any::<[bool; 3]>(), state).prop_map(|(breaks, state)| setters(breaks, state));
    let some = all.prop_flat_map(|all| {
        let len = all.len();
        prop::sample::subsequence(all, 1..=len)
    });
    some.prop_flat_map(|some| (Just(some.clone()).prop_shuffle(), Just(some).prop_shuffle()))
}

/// A layer whose state is `()` or `u8`.
enum Layer {
    Unit(SessionResume),
    Number(SessionResume<u8>),
}

fn set<T: StoredState>(
    layer: SessionResume<T>,
    setter: Setter,
    store: &MemoryStore,
) -> SessionResume<T> {
    let second = Duration::from_secs(1);
    match setter {
        Setter::Identity(breaks) => {
            layer.with_identity(IdentityCookie::new(if breaks { "my cookie" } else { "desk" }))
        }
        Setter::Key => layer.with_key(key::by_path()),
        Setter::Reuse => layer.with_reuse(reuse::never()),
        Setter::Unreadable => layer.with_unreadable(Unreadable::StartAnew),
        Setter::AllowedOrigins => layer.with_allowed_origins(AllowedOrigins::any()),
        Setter::Attach => layer.with_attach(Attach::Share),
        Setter::Overflow => layer.with_overflow(Overflow::Close),
        Setter::PlainAck => layer.with_plain_ack(PlainAck::Off),
        Setter::UnusedLifetime => layer.with_unused_lifetime(second),
        Setter::CheckInterval => layer.with_check_interval(Duration::ZERO),
        Setter::Heartbeat(breaks) => {
            layer.with_heartbeat(Heartbeat::every(if breaks { Duration::ZERO } else { second }))
        }
        Setter::Limits => layer.with_limits(Limits::default().with_message(1)),
        Setter::OutcomeLifetime => layer.with_outcome_lifetime(second),
        Setter::Merge => layer.with_merge(MergePolicy::Newest),
        Setter::Name(breaks) => layer.with_name("n".repeat(if breaks { 65 } else { 64 })),
        Setter::Durability => layer.with_durability(Durability::Exact),
        Setter::FlushInterval => layer.with_flush_interval(second),
        Setter::StoreTimeout => layer.with_store_timeout(second),
        Setter::StoredLifetime => layer.with_stored_lifetime(second),
        Setter::Store => layer.with_store(store.clone()),
        Setter::State(_) => unreachable!("it changes the type"),
    }
}

/// Calls the setters; returns the configuration and what is wrong with it.
fn configure(setters: &[Setter]) -> (String, String) {
    let store = MemoryStore::new();
    let mut layer = Layer::Unit(SessionResume::new());
    for &setter in setters {
        layer = match (layer, setter) {
            (Layer::Unit(layer), Setter::State(State::Default)) => {
                Layer::Number(layer.with_state::<u8>())
            }
            (Layer::Unit(layer), Setter::State(State::From)) => {
                Layer::Number(layer.with_state_from(|_| 7))
            }
            (Layer::Unit(layer), Setter::State(State::Memory)) => {
                Layer::Number(layer.with_memory_state(|_| 7))
            }
            (Layer::Unit(layer), setter) => Layer::Unit(set(layer, setter, &store)),
            (Layer::Number(layer), setter) => Layer::Number(set(layer, setter, &store)),
        };
    }
    match &layer {
        Layer::Unit(layer) => told(layer),
        Layer::Number(layer) => told(layer),
    }
}

/// Returns the configuration and what is wrong with it, after checking that use tells the same.
fn told<T: Send + 'static>(layer: &SessionResume<T>) -> (String, String) {
    let error = layer.validate().err().map(|error| error.to_string());
    let used = std::panic::catch_unwind(AssertUnwindSafe(|| layer.sessions().len()));
    let used = used.map_err(|panic| *panic.downcast::<String>().expect("a text"));
    assert_eq!(used.err(), error, "use tells what validate tells");
    (format!("{layer:?}"), error.unwrap_or_default())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_the_setters_means_nothing((one, other) in two_orders()) {
        prop_assert_eq!(configure(&one), configure(&other));
    }
}

/// A layer, its conflict, and what the text says of the fix.
type Row = (SessionResume<u8>, fn(&ConfigErrorKind) -> bool, &'static str);

/// Each conflict alone, and that the text names the fix.
#[test]
fn what_cannot_work_is_told_with_its_fix() {
    let store = MemoryStore::new();
    let other = SessionResume::new().with_store(store.clone());
    other.validate().unwrap();
    let used = SessionResume::new();
    assert!(used.sessions().is_empty());
    let custom = MergePolicy::<()>::custom(|_, (), ()| None);
    let rows: Vec<Row> = vec![
        (
            SessionResume::new().with_state::<u8>().with_identity(IdentityCookie::new("a b")),
            |kind| matches!(kind, ConfigErrorKind::CookieName { name } if name == "a b"),
            "cookie",
        ),
        (
            SessionResume::new().with_heartbeat(Heartbeat::every(Duration::ZERO)).with_state(),
            |kind| *kind == ConfigErrorKind::Heartbeat { shortest: Duration::ZERO },
            "Heartbeat::off()",
        ),
        (
            SessionResume::new().with_name("n".repeat(65)).with_state(),
            |kind| *kind == ConfigErrorKind::LayerName { length: 65 },
            "64 bytes",
        ),
        (
            SessionResume::new().with_store(store.clone()).with_memory_state(|_| 7),
            |kind| *kind == ConfigErrorKind::MemoryStateInStore,
            "leave with_store out",
        ),
        (
            SessionResume::new().with_memory_state(|_| 7).with_store(store.clone()),
            |kind| *kind == ConfigErrorKind::MemoryStateInStore,
            "leave with_store out",
        ),
        (
            SessionResume::new().with_merge(custom).with_state(),
            |kind| *kind == ConfigErrorKind::MergeOfAnotherState,
            "call with_merge after with_state",
        ),
        (
            SessionResume::new().with_snapshots_of_copies().with_state(),
            |kind| *kind == ConfigErrorKind::CopiesOfAnotherState,
            "call it after with_state",
        ),
        (
            used.with_state(),
            |kind| *kind == ConfigErrorKind::SetInUse { setter: "with_state" },
            "SessionResume::new()",
        ),
        (
            SessionResume::new().with_state().with_store(store),
            |kind| matches!(kind, ConfigErrorKind::NameTaken { name } if name == "default"),
            ".with_name(",
        ),
    ];
    for (layer, expected, fix) in rows {
        let error = layer.validate().unwrap_err();
        assert!(expected(error.kind()) && error.kinds().len() == 1, "{error:?}");
        assert!(error.to_string().contains(fix), "{error}");
        assert_eq!(told(&layer).1, error.to_string());
    }
}

#[test]
fn every_conflict_is_told() {
    let layer = SessionResume::new()
        .with_name("n".repeat(65))
        .with_heartbeat(Heartbeat::every(Duration::ZERO))
        .with_identity(IdentityCookie::new(""));
    let error = layer.validate().unwrap_err();
    let [cookie, heartbeat, name] = error.kinds() else { panic!("{error:?}") };
    assert_eq!(error.kind(), cookie);
    assert_eq!(error.to_string(), format!("{cookie}; {heartbeat}; {name}"));
}

/// A setter that mends what an earlier one has broken.
#[test]
fn the_last_value_counts() {
    let layer = SessionResume::new()
        .with_heartbeat(Heartbeat::every(Duration::ZERO))
        .with_heartbeat(Heartbeat::default())
        .with_merge(MergePolicy::custom(|_, (), ()| None))
        .with_snapshots_of_copies()
        .with_store(MemoryStore::new())
        .with_memory_state(|_| 1_u8)
        .with_state::<u8>()
        .with_merge(MergePolicy::custom(|_, _, client| Some(client)))
        .with_snapshots_of_copies();
    assert_eq!(layer.validate(), Ok(()));
    assert!(format!("{layer:?}").contains("merge: Custom"));
}

/// Starts a session with a request through the layer.
async fn visit<T: Send + 'static>(layer: &SessionResume<T>) {
    let service = layer.layer(service_fn(|request: Request<()>| async move {
        adapter::open::<T>(&request.into_parts().0).await.unwrap();
        Ok::<_, Infallible>(Response::new(()))
    }));
    service.oneshot(Request::new(())).await.unwrap();
}

#[tokio::test]
async fn a_clone_is_the_same_layer_from_before_the_first_use() {
    let layer = SessionResume::new();
    let clone = layer.clone();
    let third = clone.clone();
    visit(&layer).await;
    assert_eq!((layer.sessions().len(), clone.sessions().len()), (1, 1));
    visit(&clone).await;
    let id = layer.sessions()[0].id;
    assert!(third.get(id).is_some());
    assert_eq!(third.broadcast("all"), 2);
    let report = third.drain(Duration::from_secs(1)).await;
    assert_eq!(report.drained + report.cut.len(), 2);
}

#[tokio::test]
async fn a_setter_on_a_layer_that_is_not_in_use_makes_another_layer() {
    let template = SessionResume::new().with_limits(Limits::default().with_max_sessions(8));
    let (one, two) = (template.clone().with_name("one"), template.clone().with_name("two"));
    visit(&one).await;
    let three = template.with_name("three");
    assert_eq!([&one, &two, &three].map(|layer| layer.sessions().len()), [1, 0, 0]);
}

#[tokio::test]
async fn a_setter_on_a_layer_in_use_is_told() {
    let layer = SessionResume::new();
    visit(&layer).await;
    let error = layer.clone().with_attach(Attach::Share).with_name("b").validate().unwrap_err();
    assert_eq!(*error.kind(), ConfigErrorKind::SetInUse { setter: "with_attach" });
    assert_eq!((layer.validate(), layer.sessions().len()), (Ok(()), 1), "it goes on itself");
}

/// The name in the store is that of one layer, from the first look on until the layer is gone.
#[tokio::test]
async fn one_layer_has_a_name_in_a_store() {
    let store = MemoryStore::new();
    let layer = || SessionResume::new().with_store(store.clone());
    let taken = |layer: &SessionResume| {
        let error = layer.validate().unwrap_err();
        matches!(error.kind(), ConfigErrorKind::NameTaken { name } if name == "default")
    };
    let (first, second) = (layer(), layer());
    visit(&first).await;
    assert!(taken(&second));
    assert_eq!(second.clone().with_name("b").validate(), Ok(()));
    let service = first.layer(());
    drop(first);
    assert!(taken(&second), "a service goes on");
    drop(service);
    assert_eq!(second.validate(), Ok(()));
    assert_eq!(second.clone().validate(), Ok(()), "a clone is the same layer");
    assert!(taken(&layer()), "validated is taken");
    let renamed = second.with_name("c");
    assert_eq!((renamed.validate(), layer().validate()), (Ok(()), Ok(())));
    // Its own name again: the layer from which it comes is gone.
    assert_eq!(renamed.with_check_interval(Duration::ZERO).validate(), Ok(()));
}

/// The application's key signs, whatever the store keeps and whichever is set first.
#[test]
fn the_key_of_the_application_comes_before_that_of_the_store() {
    let store = MemoryStore::new();
    let own = || IdentityCookie::new("desk").with_key([7; 64]);
    let cookie = |layer: &SessionResume| {
        let config = &layer.inner.config;
        let via = Via { name: CookieName::default(), secure: false };
        let identity = Identity::mint([1; 16]);
        config.key_set().set_cookie().value(identity, Hour::from_number(1), via)
    };
    let of_application = cookie(&SessionResume::new().with_identity(own()));
    let orders = [
        SessionResume::new().with_identity(own()).with_store(store.clone()),
        SessionResume::new().with_store(store.clone()).with_identity(own()),
    ];
    assert_eq!(orders.each_ref().map(cookie), [of_application.clone(), of_application]);
    let unkeyed = || IdentityCookie::new("desk");
    let of_store = cookie(&SessionResume::new().with_store(store.clone()).with_identity(unkeyed()));
    assert_eq!(cookie(&SessionResume::new().with_identity(unkeyed()).with_store(store)), of_store);
    let layer = SessionResume::new().with_identity(unkeyed());
    assert_ne!(cookie(&layer), of_store);
    assert_eq!(cookie(&layer.clone().with_attach(Attach::Share)), cookie(&layer), "of a template");
}
