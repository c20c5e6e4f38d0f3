use session_resume::store::Stamp;

/// The length of a [`Head`].
pub(crate) const HEAD: usize = 48;

/// A bit of the expiry that no time has: the form is [`Form::Pieces`].
const IN_PIECES: u64 = 1 << 63;

/// The beginning of a record: line (16 bytes), generation, owner, number and expiry (8 each), big endian.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    pub(crate) stamp: Stamp,
    /// In milliseconds.
    pub(crate) expires: u64,
    pub(crate) form: Form,
}

/// What stands behind a head.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// The bytes.
    Whole,
    /// The list of their pieces.
    Pieces,
}

impl Head {
    pub(crate) fn of(value: &[u8]) -> Option<Self> {
        let (line, rest) = value.split_first_chunk()?;
        let (generation, rest) = rest.split_first_chunk()?;
        let (owner, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (expires, _) = rest.split_first_chunk()?;
        let stamp = Stamp {
            line: u128::from_be_bytes(*line),
            generation: u64::from_be_bytes(*generation),
            owner: u64::from_be_bytes(*owner),
            number: u64::from_be_bytes(*number),
        };
        let expires = u64::from_be_bytes(*expires);
        let form = if expires & IN_PIECES == 0 { Form::Whole } else { Form::Pieces };
        Some(Self { stamp, expires: expires & !IN_PIECES, form })
    }

    pub(crate) fn to_bytes(self) -> [u8; HEAD] {
        let Stamp { line, generation, owner, number } = self.stamp;
        let mut bytes = [0; HEAD];
        bytes[..16].copy_from_slice(&line.to_be_bytes());
        let form = match self.form {
            Form::Whole => 0,
            Form::Pieces => IN_PIECES,
        };
        let parts = [generation, owner, number, self.expires | form];
        for (at, part) in parts.into_iter().enumerate() {
            bytes[16 + 8 * at..][..8].copy_from_slice(&part.to_be_bytes());
        }
        bytes
    }
}
