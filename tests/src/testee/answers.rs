//! What both servers answer alike.

/// A page that uses no session.
pub(crate) const PAGE: &str = "<!doctype html><title>testee</title>";

/// `Cache-Control` of what every browser may have.
pub(crate) const PUBLIC: &str = "public, max-age=60, immutable";

/// The longest body of a request.
pub(crate) const LONGEST_BODY: usize = 16 << 20;
