//! What a request asks for.

use session_resume_proto::{session::ReadFrom, wire::Offset};

use super::cursor;

/// A read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ask {
    pub(super) from: ReadFrom,
    pub(super) live: Live,
    /// The last cursor that the client was given.
    pub(super) cursor: Option<u64>,
}

/// Whether the answer waits for what is not there yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Live {
    No,
    LongPoll,
    Events,
}

impl Ask {
    /// Reads a request's query. What the protocol does not name is ignored.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, &'static str> {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let (mut offset, mut live, mut theirs) = (None, None, None);
        for (name, value) in pairs {
            let known = match name {
                "offset" => &mut offset,
                "live" => &mut live,
                "cursor" => &mut theirs,
                _ => continue,
            };
            if known.replace(value).is_some() {
                return Err("offset, live and cursor are given once");
            }
        }
        let live = match live {
            None => Live::No,
            Some("long-poll") => Live::LongPoll,
            Some("sse") => Live::Events,
            Some(_) => return Err("live is long-poll or sse"),
        };
        let from = match offset {
            None if live == Live::No => ReadFrom::Start,
            None => return Err("live wants an offset"),
            Some("-1") => ReadFrom::Start,
            Some("now") => ReadFrom::Now,
            Some(text) => {
                let Some(Offset { life, position, .. }) = Offset::parse(text) else {
                    return Err("the offset is not one that this server gives out");
                };
                ReadFrom::Place { life, position }
            }
        };
        Ok(Self { from, live, cursor: theirs.and_then(cursor::parse) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSET: &str = "0000000001.0000000000000007.0000beef";

    #[test]
    fn a_query_is_read() {
        let Offset { life, position, .. } = Offset::parse(OFFSET).unwrap();
        let place = ReadFrom::Place { life, position };
        for (query, from, live, cursor) in [
            ("", ReadFrom::Start, Live::No, None),
            ("offset=-1", ReadFrom::Start, Live::No, None),
            ("offset=now&x=y&offsets=3", ReadFrom::Now, Live::No, None),
            ("offset=now&live=sse&cursor=12", ReadFrom::Now, Live::Events, Some(12)),
            (
                "live=long-poll&cursor=x&offset=0000000001.0000000000000007.0000beef",
                place,
                Live::LongPoll,
                None,
            ),
        ] {
            assert_eq!(Ask::parse(Some(query)), Ok(Ask { from, live, cursor }), "{query}");
        }
        let nothing = Ask { from: ReadFrom::Start, live: Live::No, cursor: None };
        assert_eq!(Ask::parse(None), Ok(nothing));
    }

    #[test]
    fn what_the_protocol_forbids_is_refused() {
        for query in [
            "offset=",
            "offset",
            "offset=0",
            "offset=0,1",
            "offset=-2",
            "offset=NOW",
            "offset=now&offset=now",
            "offset=-1&offset=now",
            "live=sse",
            "live=long-poll",
            "live=&offset=now",
            "live=websocket&offset=now",
            "offset=now&live=sse&live=sse",
            "offset=now&cursor=1&cursor=2",
        ] {
            assert!(Ask::parse(Some(query)).is_err(), "{query}");
        }
        // One that is cut, or longer.
        for text in [&OFFSET[..35], &format!("{OFFSET}0")] {
            assert!(Ask::parse(Some(&format!("offset={text}"))).is_err(), "{text}");
        }
    }
}
