//! The page on troubleshooting names every close and every cause that there is.

use session_resume_proto::wire::Close;

const PAGE: &str = include_str!("../src/troubleshooting.md");
/// The labels of the metric; they are no public item.
const CAUSES: &str = include_str!("../../../core/resume/src/words/cause.rs");
const CLOSES: &str = include_str!("../../../core/proto/src/wire/close.rs");

#[test]
fn every_close_of_the_server_has_its_row() {
    let closes = [
        Close::DONE,
        Close::TOO_BIG,
        Close::INTERNAL_ERROR,
        Close::RESTARTING,
        Close::MOVED,
        Close::TRY_AGAIN,
        Close::STALE,
        Close::REPLACED,
        Close::SUPERSEDED,
        Close::REFUSED,
        Close::ANOTHER_HANDLER,
        Close::ANOTHER_PATH,
        Close::PROTOCOL_ERROR,
        Close::READ_ONLY,
        Close::REAUTHENTICATE,
    ];
    // Two more are the client's own: its goodbye, and a frame without a code.
    let all = CLOSES.matches(": Self = Self::fixed(").count();
    assert_eq!(all, closes.len() + 2, "a close is missing in this test");
    for close in closes {
        let row = format!("| {} `{}` |", close.code, close.reason);
        assert!(PAGE.contains(&row), "{row}");
    }
}

#[test]
fn every_cause_of_a_refusal_has_its_row() {
    let labels: Vec<_> = CAUSES
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => \""))
        .map(|(_, label)| label.trim_end_matches("\","))
        .collect();
    assert!(labels.contains(&"foreign_origin"), "no labels are found any more: {labels:?}");
    for label in labels {
        let row = format!("\n| `{label}` | ");
        assert!(PAGE.contains(&row), "{label}");
    }
}
