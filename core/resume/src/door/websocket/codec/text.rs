use bytestring::ByteString;

use super::Violation;

/// A text message that comes in pieces. What is in it has been checked.
#[derive(Default)]
pub(super) struct Text {
    checked: String,
    /// The beginning of a character whose end has not come.
    open: [u8; 4],
    open_length: usize,
}

impl Text {
    pub(super) fn len(&self) -> usize {
        self.checked.len() + self.open_length
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.checked.capacity()
    }

    /// Makes room for a piece, and beyond it at most as much as there is, up to `left` in all.
    pub(super) fn reserve(&mut self, piece: usize, left: usize) {
        let room = self.checked.capacity() - self.checked.len();
        if room < piece + self.open_length {
            let more = piece.max(left.min(self.checked.len()));
            self.checked.reserve_exact(more + self.open_length);
        }
    }

    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<(), Violation> {
        while self.open_length > 0 {
            let Some((byte, rest)) = piece.split_first() else {
                return Ok(());
            };
            piece = rest;
            self.open[self.open_length] = *byte;
            self.open_length += 1;
            match str::from_utf8(&self.open[..self.open_length]) {
                Ok(character) => {
                    self.checked.push_str(character);
                    self.open_length = 0;
                }
                // With four bytes there is a character or an error.
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(Violation::NotUtf8),
            }
        }
        let (whole, open) = match str::from_utf8(piece) {
            Ok(whole) => (whole, &[][..]),
            Err(error) if error.error_len().is_none() => {
                let (whole, open) = piece.split_at(error.valid_up_to());
                (str::from_utf8(whole).map_err(|_| Violation::NotUtf8)?, open)
            }
            Err(_) => return Err(Violation::NotUtf8),
        };
        self.checked.push_str(whole);
        self.open[..open.len()].copy_from_slice(open);
        self.open_length = open.len();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<ByteString, Violation> {
        if self.open_length > 0 {
            return Err(Violation::NotUtf8);
        }
        self.checked.shrink_to_fit();
        Ok(self.checked.into())
    }
}
