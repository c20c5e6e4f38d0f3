//! The mistakes that users make do not compile, and the errors say what to do.
//!
//! The texts are those of the workspace's toolchain. After a change of it: `TRYBUILD=overwrite cargo test -p
//! session-resume-compile-fail`, and read what has become of them.

#[test]
fn mistakes_are_told_by_the_compiler() {
    trybuild::TestCases::new().compile_fail("cases/*.rs");
}
