//! `Stream-Cursor`: what a client echoes, so that no cache answers it for ever with the same answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::words::{random, wall};

/// How long one cursor lasts.
const INTERVAL: u64 = 20;
/// 2024-10-09T00:00:00Z, in seconds since 1970: where the protocol counts from.
const START: u64 = 1_728_432_000;
/// The protocol's largest step beyond a client's cursor, an hour.
const LARGEST_STEP: u64 = 3600 / INTERVAL;
/// A number of more digits is not echoed by a client of the protocol.
const DIGITS: usize = 15;

/// Returns the cursor for a client that has this one.
pub(super) fn now(theirs: Option<u64>) -> u64 {
    let random = u64::from(u16::from_be_bytes(random::bytes()));
    after(wall::now(), theirs, random)
}

/// Reads a client's cursor. What is none counts as none.
pub(super) fn parse(text: &str) -> Option<u64> {
    let is_number = text.len() <= DIGITS && text.bytes().all(|digit| digit.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// The number of the present interval; above the client's cursor in any case, by a random step.
fn after(now: SystemTime, theirs: Option<u64>, random: u64) -> u64 {
    let start = UNIX_EPOCH + Duration::from_secs(START);
    let since = now.duration_since(start).unwrap_or_default();
    let present = since.as_secs() / INTERVAL;
    match theirs {
        Some(theirs) if theirs >= present => theirs + 1 + random % LARGEST_STEP,
        Some(_) | None => present,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_cursor_is_the_number_of_an_interval_and_above_the_clients() {
        for (now, theirs, random, expected) in [
            (0, None, 7, 0),
            (START, None, 7, 0),
            (START + 19, None, 7, 0),
            (START + 20, None, 7, 1),
            (START + 2000, Some(99), 7, 100),
            (START + 2000, Some(100), 0, 101),
            (START + 2000, Some(100), 179, 280),
            (START + 2000, Some(100), 180, 101),
            (START + 2000, Some(5000), 3, 5004),
        ] {
            assert_eq!(after(at(now), theirs, random), expected, "{now} {theirs:?} {random}");
        }
    }

    #[test]
    fn what_is_no_cursor_counts_as_none() {
        for (text, expected) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("999999999999999", Some(999_999_999_999_999)),
            ("1000000000000000", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("abc", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_client_never_gets_its_cursor_again(
            now in START..START + 10_000_000_000, theirs in "[0-9]{1,15}", random in any::<u64>(),
        ) {
            let theirs = parse(&theirs).unwrap();
            let next = after(at(now), Some(theirs), random);
            prop_assert!(next > theirs);
            prop_assert!(next >= after(at(now), None, random));
        }
    }
}
