//! Takes the first program and the test out of the README. The program listens where the environment variable `LISTEN`
//! says, not at port 3000. The crate page of `session-resume` must show the same program.

use std::{env, fs, path::Path};

const README: &str = "../../README.md";
const CRATE_PAGE: &str = "../../core/resume/docs/first-program.md";

fn main() {
    let program = program_of(README);
    assert!(program == program_of(CRATE_PAGE), "{README} and {CRATE_PAGE} show two programs");
    let address = r#""127.0.0.1:3000""#;
    assert_eq!(program.matches(address).count(), 1, "the README has the address");
    let program = program.replace(address, r#"std::env::var("LISTEN")?"#);
    let readme = fs::read_to_string(README).expect("the README is there");
    let (_, rest) = readme.split_once("## Test it\n").expect("the README has a test");
    let (_, rest) = rest.split_once("```rust\n").expect("it is Rust");
    let (test, _) = rest.split_once("\n```").expect("the test ends");
    let out = env::var_os("OUT_DIR").expect("cargo sets it");
    for (name, text) in [("program.rs", &*program), ("test.rs", test)] {
        fs::write(Path::new(&out).join(name), text).expect("the folder is writable");
    }
}

/// Returns the first program of a text.
fn program_of(path: &str) -> String {
    println!("cargo::rerun-if-changed={path}");
    let text = fs::read_to_string(path).expect("the text is there");
    let (_, rest) = text.split_once("```rust,no_run\n").expect("the text has a program");
    let (program, _) = rest.split_once("\n```").expect("the program ends");
    program.to_owned()
}
