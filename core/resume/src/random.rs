//! The one source of randomness.

/// Returns random bytes of the operating system.
///
/// Panics if it has none to give: a guessable session id is worse than no server.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}
