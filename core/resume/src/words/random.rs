//! The one source of randomness.

use std::cell::RefCell;

/// Asking the operating system costs a system call, more than all the rest of minting an identity. So this many
/// bytes are fetched at once.
const POOL: usize = 512;

thread_local! {
    static FETCHED: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL], left: 0 }) };
}

/// Bytes of the operating system that were not given to a caller yet.
///
/// They are in the memory of this thread alone. A process that goes on in two copies (`fork` without `exec`,
/// which no process with a running tokio survives) would have them twice.
struct Pool {
    bytes: [u8; POOL],
    left: usize,
}

/// Returns random bytes of the operating system.
///
/// Panics if it has none to give: a guessable session id is worse than no server.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    const { assert!(N <= POOL) };
    // While the thread ends, its pool is gone.
    FETCHED.try_with(|pool| pool.borrow_mut().take()).unwrap_or_else(|_| fresh())
}

fn fresh<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}

impl Pool {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        if self.left < N {
            self.left = 0;
            self.bytes = fresh();
            self.left = POOL;
        }
        let taken = &mut self.bytes[self.left - N..self.left];
        let mut bytes = [0; N];
        bytes.copy_from_slice(taken);
        // The caller may use the bytes as a secret: they do not stay here.
        taken.fill(0);
        self.left -= N;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread};

    use super::*;

    #[test]
    fn nothing_is_given_twice() {
        let draw = || {
            (0..1_000)
                .flat_map(|_| [bytes::<16>().to_vec(), bytes::<8>().to_vec()])
                .collect::<Vec<_>>()
        };
        let other = thread::spawn(draw);
        let drawn = draw().into_iter().chain(other.join().unwrap()).collect::<Vec<_>>();
        let windows = drawn.iter().map(|bytes| bytes[..8].to_vec()).collect::<HashSet<_>>();
        assert_eq!(windows.len(), drawn.len());
    }

    #[test]
    fn what_is_given_away_does_not_stay() {
        let mut pool = Pool { bytes: [0; POOL], left: 0 };
        let mut given = vec![pool.take::<512>().to_vec()];
        assert_eq!(pool.bytes, [0; POOL]);
        for _ in 0..100 {
            given.push(pool.take::<100>().to_vec());
            assert!(pool.bytes[pool.left..].iter().all(|&byte| byte == 0));
            // The bytes that do not fill a draw any more are dropped, not stretched.
            assert!(given.iter().all(|bytes| bytes.iter().any(|&byte| byte != 0)));
        }
    }
}
