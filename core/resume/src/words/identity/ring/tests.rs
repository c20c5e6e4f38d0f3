use proptest::prelude::*;
use serde::Deserialize;

use super::{
    NotRotated::{Full, Waits},
    Role::{Old, Over, Signs, Waiting},
    *,
};

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;
/// Some day.
const START: u64 = 20_000 * DAY;
/// Cookies live so long.
const LIFE: Option<Duration> = Some(Duration::from_secs(7 * 24 * 3600));

fn at(minutes: u64) -> Millis {
    Millis::new(START + minutes * MINUTE)
}

fn secret(byte: u8) -> [u8; 64] {
    [byte; 64]
}

fn first() -> Ring {
    Ring::of_first(secret(0))
}

fn rotated(ring: &Ring, byte: u8, now: Millis) -> Ring {
    ring.rotated(secret(byte), now, LIFE).unwrap()
}

/// Which byte each key is made of.
fn bytes(ring: &Ring) -> Vec<u8> {
    ring.keys.iter().map(|key| key.secret[0]).collect()
}

#[test]
fn the_first_key_of_a_store_has_always_signed() {
    for now in [Millis::new(0), at(0), Millis::new(u64::MAX)] {
        assert_eq!(first().roles(now, LIFE), [Signs]);
    }
}

#[test]
fn a_new_key_waits_then_signs_and_the_former_proves_until_its_cookies_are_gone() {
    let once = rotated(&first(), 1, at(0));
    let twice = rotated(&once, 2, at(100));
    // 7 days and one more.
    let over = 8 * 24 * 60;
    let rows: &[(&str, &Ring, u64, &[Role])] = &[
        ("made", &once, 0, &[Signs, Waiting]),
        ("not yet", &once, 9, &[Signs, Waiting]),
        ("its time has come", &once, 10, &[Old, Signs]),
        ("long after", &once, 10 + over - 1, &[Old, Signs]),
        ("all cookies of the first are gone", &once, 10 + over, &[Over, Signs]),
        ("the second rotation", &twice, 100, &[Old, Signs, Waiting]),
        ("it signs", &twice, 110, &[Old, Old, Signs]),
        ("the first is over", &twice, 10 + over, &[Over, Old, Signs]),
        ("the second is, too", &twice, 110 + over, &[Over, Over, Signs]),
    ];
    for (what, ring, minutes, roles) in rows {
        assert_eq!(ring.roles(at(*minutes), LIFE), *roles, "{what}");
    }
    // A clock that is behind what is stored.
    assert_eq!(once.roles(Millis::new(5), LIFE), [Signs, Waiting]);
}

#[test]
fn a_cookie_that_lives_until_the_browser_is_closed_counts_as_the_longest() {
    let once = rotated(&first(), 1, at(0));
    let end = at(10).later(Duration::from_secs(401 * 24 * 3600));
    let just_before = Millis::new(end.get() - 1);
    for life in [None, Some(Duration::MAX), Some(LONGEST_LIFE)] {
        assert_eq!(once.roles(just_before, life), [Old, Signs], "{life:?}");
        assert_eq!(once.roles(end, life), [Over, Signs], "{life:?}");
        assert_eq!(once.proves_until(0, life), Some(end));
    }
    assert_eq!(once.proves_until(1, LIFE), None, "it signs");
}

#[test]
fn while_a_key_waits_there_is_no_other_one() {
    let once = rotated(&first(), 1, at(0));
    for minutes in 0..10 {
        assert_eq!(once.rotated(secret(2), at(minutes), LIFE), Err(Waits(at(10))));
    }
    assert_eq!(bytes(&rotated(&once, 2, at(10))), [0, 1, 2]);
    // It is revoked whatever waits.
    let revoked = once.revoked(secret(9), at(5));
    assert_eq!((bytes(&revoked), revoked.roles(at(5), LIFE)), (vec![9], vec![Signs]));
    assert!(revoked.is_newer_than(&once) && once.is_newer_than(&first()));
    let of_another_store = Ring { change: 1_000_000, ..once.clone() };
    assert!(first().revoked(secret(9), at(5)).is_newer_than(&of_another_store));
    assert!(revoked.revoked(secret(8), at(0)).is_newer_than(&revoked), "a clock that is behind");
    // The clocks of other processes are behind: there is no other key, so it signs.
    assert_eq!(revoked.roles(at(0), LIFE), [Signs]);
    // A revocation keeps no rotation from happening.
    assert_eq!(bytes(&rotated(&revoked, 10, at(5))), [9, 10]);
}

#[test]
fn a_rotation_drops_what_is_over_and_is_refused_when_there_are_too_many() {
    let mut ring = first();
    for byte in 1..16 {
        ring = rotated(&ring, byte, at(u64::from(byte) * 20));
    }
    assert_eq!(ring.keys.len(), MOST);
    let oldest_goes = at(30 + 8 * 24 * 60);
    assert_eq!(ring.rotated(secret(16), at(16 * 20), LIFE), Err(Full(oldest_goes)));
    let just_before = Millis::new(oldest_goes.get() - 1);
    assert_eq!(ring.rotated(secret(16), just_before, LIFE), Err(Full(oldest_goes)));
    let next = rotated(&ring, 16, oldest_goes);
    assert_eq!(bytes(&next), (1..=16).collect::<Vec<_>>());
    // Whatever there is.
    assert_eq!(bytes(&ring.revoked(secret(17), at(16 * 20))), [17]);
}

#[test]
fn a_key_of_a_clock_that_was_wrong_holds_up_nothing() {
    let of_far_future = rotated(&first(), 1, at(1_000_000));
    let ring = rotated(&of_far_future, 2, at(0));
    assert_eq!(bytes(&ring), [0, 2, 1], "in the order in which they sign");
    assert_eq!(ring.roles(at(10), LIFE), [Old, Signs, Waiting]);
    assert_eq!(ring.rotated(secret(3), at(5), LIFE), Err(Waits(at(10))));
}

#[test]
fn no_key_is_shown() {
    let text = format!("{:?}", rotated(&first(), 0xab, at(0)));
    assert!(text.contains("signs_from") && !text.contains("171") && !text.contains("ab"), "{text}");
}

#[derive(Deserialize)]
struct Vectors {
    valid: Vec<Valid>,
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
struct Valid {
    name: String,
    hex: String,
    change: u64,
    keys: Vec<ValidKey>,
}

#[derive(Deserialize)]
struct ValidKey {
    key: String,
    made: Millis,
    signs_from: Millis,
}

#[derive(Deserialize)]
struct Refused {
    why: String,
    hex: String,
    error: String,
}

fn unhex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

#[test]
fn records_are_written_and_read_byte_for_byte() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/identity-keys.json");
    let vectors = std::fs::read(path).expect("the vectors lie in tests/vectors");
    let vectors: Vectors = serde_json::from_slice(&vectors).unwrap();
    assert!(vectors.valid.len() >= 3 && vectors.refused.len() >= 9);
    for Valid { name, hex, change, keys } in vectors.valid {
        let keys = keys.into_iter().map(|ValidKey { key, made, signs_from }| RingKey {
            secret: unhex(&key).try_into().unwrap(),
            made,
            signs_from,
        });
        let ring = Ring { change, keys: keys.collect() };
        assert_eq!(data_encoding::HEXLOWER.encode(&ring.encode()), hex, "{name}");
        assert_eq!(Ring::decode(&unhex(&hex)).unwrap(), ring, "{name}");
    }
    for Refused { why, hex, error } in vectors.refused {
        let refused = Ring::decode(&unhex(&hex)).unwrap_err();
        assert_eq!(format!("{:?}", refused.kind()), error, "{why}");
    }
}

/// What happens to a ring.
#[derive(Clone, Copy, Debug)]
enum Step {
    Rotate,
    Revoke,
    /// Time passes, in minutes.
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Rotate),
        1 => Just(Step::Revoke),
        3 => (0..30_u64).prop_map(Step::Pass),
        1 => (0..20_000_u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    /// A process knows the ring as it was when it was read last, at most 8 minutes ago. What it signs is believed by all that
    /// know the present ring, for as long as the cookie lives; and it believes what they sign.
    #[test]
    fn whoever_has_read_the_ring_in_time_agrees(steps in steps(), lag in 0..8_u64) {
        let mut now = 0;
        let mut ring = first();
        // All rings since the last revocation, and the cookies: by which key, and when.
        let mut past = vec![(0, ring.clone())];
        let mut cookies: Vec<(u8, u64)> = Vec::new();
        let mut byte = 0_u8;
        for step in steps {
            match step {
                Step::Rotate => {
                    byte = byte.wrapping_add(1);
                    if let Ok(next) = ring.rotated(secret(byte), at(now), LIFE) {
                        prop_assert!(next.is_newer_than(&ring));
                        ring = next;
                        past.push((now, ring.clone()));
                    }
                }
                Step::Revoke => {
                    byte = byte.wrapping_add(1);
                    ring = ring.revoked(secret(byte), at(now));
                    past = vec![(now, ring.clone())];
                    cookies.clear();
                }
                Step::Pass(minutes) => now += minutes,
            }
            prop_assert!(ring.keys.len() <= MOST);
            prop_assert_eq!(&Ring::decode(&ring.encode()).unwrap_or_else(|_| first()), &ring);
            let roles = ring.roles(at(now), LIFE);
            prop_assert_eq!(roles.iter().filter(|role| **role == Signs).count(), 1);
            let rank = |role: &Role| match role { Over => 0, Old => 1, Signs => 2, Waiting => 3 };
            prop_assert!(roles.is_sorted_by_key(rank), "{:?}", roles);
            let behind = past.iter().rev().find(|(since, _)| *since + lag <= now);
            let behind = behind.map_or(&past[0].1, |(_, ring)| ring);
            let signer = |ring: &Ring| {
                let roles = ring.roles(at(now), LIFE);
                ring.keys[roles.iter().position(|role| *role == Signs).unwrap()].secret[0]
            };
            let proves = |ring: &Ring, byte: u8| {
                let roles = ring.roles(at(now), LIFE);
                ring.keys.iter().zip(roles).any(|(key, role)| key.secret[0] == byte && role != Over)
            };
            prop_assert!(proves(behind, signer(&ring)), "the one that lags does not know the signer");
            prop_assert!(proves(&ring, signer(behind)));
            cookies.push((signer(behind), now));
            cookies.push((signer(&ring), now));
            cookies.retain(|(_, set)| now - set < 7 * 24 * 60);
            for (byte, set) in &cookies {
                prop_assert!(proves(&ring, *byte), "a cookie of {} at {}", set, now);
            }
        }
    }

    #[test]
    fn bytes_are_a_ring_or_refused(bytes: Vec<u8>) {
        if let Ok(ring) = Ring::decode(&bytes) {
            prop_assert_eq!(ring.encode(), bytes);
        }
    }
}
