//! The tag of a pipe: random, and in a cluster with the node before it, so that every node knows where the pipe is.

use std::borrow::Cow;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use session_resume_proto::pipe::Tag;
use sha2::{Digest as _, Sha256};

use crate::{live::registry::Registry, words::random};

/// 16 characters.
const RANDOM_BYTES: usize = 12;
const RANDOM: usize = 16;
/// A tag has at most 40 characters; one is the dash.
const LONGEST_NAME: usize = 40 - RANDOM - 1;

/// Draws a tag.
pub(super) fn new<T>(registry: &Registry<T>) -> Tag {
    let random = BASE64URL_NOPAD.encode(&random::bytes::<RANDOM_BYTES>());
    let text = match registry.node() {
        Some(node) => format!("{}-{random}", name_of(&node.config().name)),
        None => random,
    };
    Tag::parse(&text).expect("at most 40 characters of that alphabet")
}

/// What stands for a node in its tags: its name, or a digest of a name that is too long or has other characters.
pub(super) fn name_of(name: &str) -> Cow<'_, str> {
    let fits = name.len() <= LONGEST_NAME
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if fits {
        return name.into();
    }
    HEXLOWER.encode(&Sha256::digest(name)[..8]).into()
}

/// Returns what stands in a tag for its node; `None`: it names none.
pub(super) fn node_of(tag: &Tag) -> Option<&str> {
    let text = tag.as_str();
    let (node, rest) = text.split_at_checked(text.len().checked_sub(RANDOM + 1)?)?;
    (!node.is_empty() && rest.starts_with('-')).then_some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_names_its_node() {
        let node = |text: &str| node_of(&Tag::parse(text).unwrap()).map(str::to_owned);
        let random = "0-2_4-6_8-a_c-e_";
        assert_eq!(node(&format!("a-{random}")).as_deref(), Some("a"));
        assert_eq!(node(&format!("web-1-{random}")).as_deref(), Some("web-1"));
        assert_eq!(node(random), None);
        assert_eq!(node(&format!("-{random}")), None);
        assert_eq!(node(&format!("ax{random}")), None);
        assert_eq!(node("short"), None);
    }
}
