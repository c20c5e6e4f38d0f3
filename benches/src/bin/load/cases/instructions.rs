//! Instructions per request, counted by stepping through them: as exact as allocations. (Valgrind would count,
//! too, but hides the processor's SHA instructions from the program.)

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::{
        ptrace,
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use session_resume_benches::measure::Samples;

use crate::report::{Bound, Report};

const FEW: u64 = 1;
const MANY: u64 = 21;

pub(super) fn run(report: &mut Report) {
    let subjects = [
        ("axum", "bare"),
        ("session-resume, read", "read"),
        ("session-resume, write", "write"),
        ("session-resume, not extracted", "layer"),
        ("session-resume, first visit", "visit"),
        ("minimal by hand, read", "minimal"),
        ("the contract's least by hand, read", "least"),
    ];
    let mut measured = Vec::new();
    for (name, subject) in subjects {
        let counted = [FEW, MANY].map(|requests| count(subject, requests));
        let [Ok(few), Ok(many)] = counted else {
            eprintln!("instructions are not counted: {counted:?}");
            return;
        };
        // Both counts include the start and the end of the process.
        let each = (many - few) as f64 / (MANY - FEW) as f64;
        measured.push((name.to_owned(), Samples::from(each)));
    }
    let added = measured[1].1.median() - measured[0].1.median();
    report.target("instructions, session read, over axum", "", added, Bound::AtMost(4_500.0));
    report.compare("request", "instructions", measured);
}

/// Counts the instructions that the main thread of a new process executes for `requests` requests and for its
/// end.
fn count(subject: &str, requests: u64) -> nix::Result<u64> {
    let program = std::env::current_exe().expect("Linux knows the program");
    let mut child = Command::new(program)
        .args(["requests", subject, &requests.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program can be started again");
    let stepped = step_through(&mut child);
    // The child is gone already, unless it cannot be traced.
    let _ = child.kill().and_then(|()| child.wait());
    stepped
}

fn step_through(child: &mut Child) -> nix::Result<u64> {
    let mut warm = String::new();
    let output = child.stdout.take().expect("it is piped");
    BufReader::new(output).read_line(&mut warm).expect("it says when it is warm");
    let pid = Pid::from_raw(child.id().cast_signed());
    ptrace::attach(pid)?;
    waitpid(pid, None)?;
    // The child waits for the end of its input.
    drop(child.stdin.take());
    let mut steps = 0;
    let mut signal = None;
    loop {
        ptrace::step(pid, signal.take())?;
        match waitpid(pid, None)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => steps += 1,
            WaitStatus::Stopped(_, other) => signal = Some(other),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Ok(steps),
            _ => {}
        }
    }
}
