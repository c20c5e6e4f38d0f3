//! A short run of each fuzz target, without nightly: the same functions, fed by proptest.

use proptest::prelude::*;
use session_resume_tests::fuzzing;

/// Bytes that are near to what is meant, so that more than the first check is met.
fn offers() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("session-resume.v1".to_owned()),
        Just("session-resume.v2".to_owned()),
        "at\\.[a-zA-Z0-9_-]{15,33}(\\.[a-z]{0,3}){0,2}(\\.[0-9]{1,17}){0,3}",
        "[a-z.]{0,6}",
    ];
    prop::collection::vec(part, 0..4).prop_map(|parts| parts.join(", "))
}

fn frames() -> impl Strategy<Value = String> {
    prop_oneof![
        "\u{1}\\{\"(ack|hb|retry)\":-?[0-9]{1,17}(\\.[0-9])?\\}?",
        "\u{1}\\{\"gap\":\\{\"from\":[0-9]{1,2},\"to\":(null|[0-9]{1,2}),\"reason\":\"(overflow|x)\"\\}\\}",
        "\u{1}{0,3}.{0,20}",
    ]
}

proptest! {
    #[test]
    fn offers_are_read_as_they_are_written(text in offers()) {
        fuzzing::offer(text.as_bytes());
    }

    #[test]
    fn frames_are_read_as_they_are_written(text in frames()) {
        fuzzing::frame(text.as_bytes());
    }

    #[test]
    fn no_cookie_but_a_genuine_one_is_adopted(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        fuzzing::cookie(&bytes);
    }

    #[test]
    fn no_deeds_break_a_session(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzzing::operations(&bytes);
    }
}
