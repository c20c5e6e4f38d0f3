use std::time::Duration;

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Both sides are reset: what was under way is lost.
    Reset,
    /// Both sides are closed: what was under way still arrives.
    Close,
    /// Nothing passes any more for this long, then both sides are reset.
    BlackHole(Duration),
}

/// What becomes of one connection of a [`Proxy`](crate::tcp::Proxy).
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    /// The number of bytes that pass, both directions together.
    pub bytes: u64,
    /// What follows.
    pub end: End,
    /// A wait in between.
    pub stall: Option<Stall>,
}

/// Nothing is read or passed on for a while; then the connection goes on as if nothing had been.
#[derive(Clone, Copy, Debug)]
pub struct Stall {
    /// The number of bytes that pass before the stall, both directions together.
    pub at: u64,
    /// How long the stall takes; `None`: until [`Proxy::go_on`](crate::tcp::Proxy::go_on).
    pub wait: Option<Duration>,
}

impl Fate {
    /// Lives for ever.
    pub const CALM: Self = Self { bytes: u64::MAX, end: End::Close, stall: None };

    /// Lets `bytes` bytes pass, then ends the connection with `end`.
    pub const fn cut(bytes: u64, end: End) -> Self {
        Self { bytes, end, stall: None }
    }

    /// Draws fates from a seed: the same ones for the same seed. Each of the first `flaps` connections lives for less
    /// than `longest` bytes; some stall, some become a black hole for a moment. Those after them are calm.
    ///
    /// # Panics
    ///
    /// The fates panic if `longest` is 0.
    pub fn drawn(seed: u64, longest: u64, flaps: u64) -> impl FnMut() -> Self + Send + 'static {
        let mut random = seed | 1;
        let mut left = flaps;
        move || {
            if left == 0 {
                return Self::CALM;
            }
            left -= 1;
            let mut next = || {
                // xorshift64: small, and the same everywhere.
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random
            };
            let bytes = next() % longest;
            let end = match next() % 8 {
                0 => End::BlackHole(Duration::from_millis(50)),
                1..=4 => End::Reset,
                _ => End::Close,
            };
            let stalls = bytes > 0 && next().is_multiple_of(8);
            let wait = Some(Duration::from_millis(20));
            let stall = stalls.then(|| Stall { at: next() % bytes, wait });
            Self { bytes, end, stall }
        }
    }
}
