//! Takes the first program out of the README. It listens where the environment variable `LISTEN` says, and not at
//! port 3000, and says where that is.

use std::{env, fs, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=../../README.md");
    let readme = fs::read_to_string("../../README.md").expect("the README is there");
    let (_, rest) = readme.split_once("```rust,no_run\n").expect("the README has a program");
    let (program, _) = rest.split_once("\n```").expect("the program ends");
    let replaced = [
        (r#"bind("127.0.0.1:3000")"#, r#"bind(std::env::var("LISTEN")?)"#),
        (
            r#"println!("listening on http://127.0.0.1:3000")"#,
            r#"println!("listening on http://{}", axum::serve::Listener::local_addr(&listener)?)"#,
        ),
    ];
    let program = replaced.iter().fold(program.to_owned(), |program, (from, to)| {
        assert_eq!(program.matches(from).count(), 1, "the README has {from}");
        program.replace(from, to)
    });
    let out = env::var_os("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("program.rs"), program).expect("the folder is writable");
}
