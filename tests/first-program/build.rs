//! Takes the first program out of the README. It listens where the environment variable `LISTEN` says, not at
//! port 3000.

use std::{env, fs, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=../../README.md");
    let readme = fs::read_to_string("../../README.md").expect("the README is there");
    let (_, rest) = readme.split_once("```rust,no_run\n").expect("the README has a program");
    let (program, _) = rest.split_once("\n```").expect("the program ends");
    let address = r#""127.0.0.1:3000""#;
    assert_eq!(program.matches(address).count(), 1, "the README has the address");
    let program = program.replace(address, r#"std::env::var("LISTEN")?"#);
    let out = env::var_os("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("program.rs"), program).expect("the folder is writable");
}
