//! What a key function may return.

use std::{borrow::Cow, sync::Arc};

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The longest text that is kept as it is, in bytes. A longer text was hardly meant as a key, and
/// a client that sends long paths or headers must not decide how much memory its keys take.
pub(super) const MAX_TEXT: usize = 512;

/// What a key function calls a session, made by [`IntoSessionKey`].
///
/// Text over 512 bytes is kept as its SHA-256, which tells sessions apart just as well.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyName(Option<Name>);

impl KeyName {
    /// Creates the name of the identity's own session.
    pub(super) const fn own() -> Self {
        Self(None)
    }

    pub(super) fn text(text: &str) -> Self {
        Self(match text.len() {
            0 => None,
            1..=MAX_TEXT => Some(Name::Text(text.into())),
            _ => Some(Name::Digest(Sha256::digest(text).into())),
        })
    }

    pub(super) fn optional_text(text: Option<&str>) -> Self {
        text.map_or(Self::own(), Self::text)
    }

    pub(super) fn into_name(self) -> Option<Name> {
        self.0
    }
}

impl std::fmt::Debug for KeyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the name itself: it may be user data.
        f.debug_struct("KeyName").finish_non_exhaustive()
    }
}

/// A name that is not the identity's own.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Name {
    /// 1 to [`MAX_TEXT`] bytes, shared so that clones of a key are cheap.
    Text(Arc<str>),
    /// The SHA-256 of a longer text.
    Digest([u8; 32]),
    Number(i128),
}

/// What a closure given to [`from_fn`](super::from_fn) may return.
///
/// | type | the session's name |
/// | --- | --- |
/// | `String`, `&'static str`, `Cow<'static, str>` | the text; the empty text is like `None` |
/// | integers up to 64 bits | the number, whatever its type; `5` and `"5"` differ |
/// | [`Uuid`] | its hyphenated text in lower case |
/// | `Option` of these | `None`: the identity's own session |
///
/// A type of your own implements it with the help of one of these.
///
/// # Example
///
/// ```
/// use session_resume::key::{self, IntoSessionKey, KeyName};
///
/// struct RoomId(u32);
///
/// impl IntoSessionKey for RoomId {
///     fn into_key_name(self) -> KeyName {
///         self.0.into_key_name()
///     }
/// }
///
/// let by_room = key::from_fn(|req, _identity| {
///     let room = req.path().rsplit('/').next()?;
///     room.parse().ok().map(RoomId)
/// });
/// assert!(format!("{by_room:?}").contains("from_fn"));
/// ```
pub trait IntoSessionKey {
    /// Converts the value into the name of a session.
    fn into_key_name(self) -> KeyName;
}

impl IntoSessionKey for KeyName {
    fn into_key_name(self) -> KeyName {
        self
    }
}

impl IntoSessionKey for String {
    fn into_key_name(self) -> KeyName {
        KeyName::text(&self)
    }
}

impl IntoSessionKey for &'static str {
    fn into_key_name(self) -> KeyName {
        KeyName::text(self)
    }
}

impl IntoSessionKey for Cow<'static, str> {
    fn into_key_name(self) -> KeyName {
        KeyName::text(&self)
    }
}

impl IntoSessionKey for Uuid {
    fn into_key_name(self) -> KeyName {
        KeyName::text(self.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    }
}

impl<K: IntoSessionKey> IntoSessionKey for Option<K> {
    fn into_key_name(self) -> KeyName {
        self.map_or(KeyName::own(), K::into_key_name)
    }
}

macro_rules! number_into_session_key {
    ($($number:ty)*) => {$(
        impl IntoSessionKey for $number {
            fn into_key_name(self) -> KeyName {
                KeyName(Some(Name::Number(i128::from(self))))
            }
        }
    )*};
}

number_into_session_key!(i8 i16 i32 i64 u8 u16 u32 u64);

impl IntoSessionKey for usize {
    fn into_key_name(self) -> KeyName {
        (self as u64).into_key_name()
    }
}

impl IntoSessionKey for isize {
    fn into_key_name(self) -> KeyName {
        (self as i64).into_key_name()
    }
}
