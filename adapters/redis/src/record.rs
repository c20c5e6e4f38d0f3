//! A record as one value: the stamp of its writer, and its bytes.

use std::time::Duration;

use bytes::Bytes;
use session_resume::store::{ErrorKind, Stamp, StoreError, Versioned};

/// `line(16) generation(8) owner(8) number(8)`, all big-endian.
pub(crate) const STAMP_LEN: usize = 40;
/// The stamp and a byte of flags, all of them unused so far.
pub(crate) const HEADER_LEN: usize = STAMP_LEN + 1;

/// The longest value: Redis takes none that is longer (`proto-max-bulk-len`, by default).
const MAX_VALUE: usize = 512 << 20;

/// Redis would take up to 292 million years; ten are enough, and no sum of them overflows.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

pub(crate) fn stamp_bytes(stamp: Stamp) -> [u8; STAMP_LEN] {
    let mut bytes = [0; STAMP_LEN];
    bytes[..16].copy_from_slice(&stamp.line.to_be_bytes());
    bytes[16..24].copy_from_slice(&stamp.generation.to_be_bytes());
    bytes[24..32].copy_from_slice(&stamp.owner.to_be_bytes());
    bytes[32..].copy_from_slice(&stamp.number.to_be_bytes());
    bytes
}

/// # Errors
///
/// [`ErrorKind::TooLarge`] if Redis takes no such value.
pub(crate) fn encode(stamp: Stamp, bytes: &[u8]) -> Result<Bytes, StoreError> {
    if bytes.len() > MAX_VALUE - HEADER_LEN {
        return Err(ErrorKind::TooLarge.into());
    }
    let mut value = Vec::with_capacity(HEADER_LEN + bytes.len());
    value.extend_from_slice(&stamp_bytes(stamp));
    value.push(0);
    value.extend_from_slice(bytes);
    Ok(value.into())
}

/// # Errors
///
/// [`ErrorKind::Corrupt`] if this is not a record, [`ErrorKind::TooNew`] if it has flags that are not known here.
pub(crate) fn decode(value: Vec<u8>, expires_in: Duration) -> Result<Versioned, StoreError> {
    let bytes = Bytes::from(value);
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return Err(StoreError::new(ErrorKind::Corrupt, "the value is shorter than a record"));
    };
    if header[STAMP_LEN] != 0 {
        return Err(ErrorKind::TooNew.into());
    }
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&header[at..at + 8]);
        u64::from_be_bytes(number)
    };
    let stamp = Stamp {
        line: u128::from(number(0)) << 64 | u128::from(number(8)),
        generation: number(16),
        owner: number(24),
        number: number(32),
    };
    Ok(Versioned { stamp, bytes: bytes.slice(HEADER_LEN..), expires_in })
}

/// A time to live as `PX` takes it: milliseconds, rounded up, from 1 to ten years.
pub(crate) fn millis(expires_in: Duration) -> String {
    let time = expires_in.min(LONGEST);
    let millis = time.as_millis() + u128::from(!time.subsec_nanos().is_multiple_of(1_000_000));
    millis.max(1).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was() {
        let stamp = Stamp { line: u128::MAX - 1, generation: 2, owner: u64::MAX, number: 1 << 60 };
        let value = encode(stamp, b"state").unwrap();
        assert_eq!(value.len(), HEADER_LEN + 5);
        let record = decode(value.to_vec(), Duration::ZERO).unwrap();
        assert_eq!((record.stamp, &record.bytes[..]), (stamp, &b"state"[..]));
        let empty = encode(stamp, b"").unwrap();
        assert!(decode(empty.to_vec(), Duration::ZERO).unwrap().bytes.is_empty());
    }

    #[test]
    fn what_is_no_record_is_said_to_be_none() {
        let kind = |value: &[u8]| decode(value.to_vec(), Duration::ZERO).unwrap_err().kind();
        assert_eq!(kind(b""), ErrorKind::Corrupt);
        assert_eq!(kind(&[0; STAMP_LEN]), ErrorKind::Corrupt);
        assert_eq!(kind(&[1; HEADER_LEN]), ErrorKind::TooNew);
    }

    #[test]
    fn times_to_live_are_rounded_up_and_bounded() {
        for (time, text) in [
            (Duration::ZERO, "1"),
            (Duration::from_nanos(1), "1"),
            (Duration::from_micros(5_900_900), "5901"),
            (Duration::from_secs(2), "2000"),
            (Duration::MAX, "316224000000"),
        ] {
            assert_eq!(millis(time), text, "{time:?}");
        }
    }
}
