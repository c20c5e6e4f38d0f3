//! Instructions per request, counted by callgrind where it is installed: as exact as allocations.

use std::process::Command;

use session_resume_benches::measure::Samples;

use crate::report::{Bound, Report};

const FEW: u64 = 500;
const MANY: u64 = 2_500;

pub(super) fn run(report: &mut Report) {
    let subjects = [
        ("axum", "bare"),
        ("session-resume, read", "read"),
        ("session-resume, write", "write"),
        ("session-resume, not extracted", "layer"),
        ("session-resume, first visit", "visit"),
    ];
    let mut measured = Vec::new();
    for (name, subject) in subjects {
        let (Some(few), Some(many)) = (count(subject, FEW), count(subject, MANY)) else {
            eprintln!("no valgrind here: instructions are not counted");
            return;
        };
        // What start and end cost is in both.
        let each = (many - few) as f64 / (MANY - FEW) as f64;
        measured.push((name.to_owned(), Samples::from(each)));
    }
    let added = measured[1].1.median() - measured[0].1.median();
    report.target("instructions, session read, over axum", "", added, Bound::AtMost(4_500.0));
    report.compare("request", "instructions", measured);
}

fn count(subject: &str, requests: u64) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().ok()?)
        .args(["requests", subject, &requests.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().find(|line| line.contains("Collected"))?;
    line.split_whitespace().last()?.parse().ok()
}
