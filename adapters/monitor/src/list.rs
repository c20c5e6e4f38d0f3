//! Some of the sessions: a page at a time, searched and sorted.

use std::collections::BTreeMap;

use serde::Serialize;
use session_resume::{SessionId, SessionInfo, reuse::Phase};

use crate::{session::Line, source::Source};

const LIMIT: usize = 50;
const MAX_LIMIT: usize = 200;
/// No id and no hash is longer.
const MAX_SEARCH: usize = 36;

/// What is asked for.
pub(crate) struct Asked {
    /// In lower case; empty for all.
    search: String,
    phase: Option<Phase>,
    sort: Sort,
    limit: usize,
    after: Option<Place>,
}

#[derive(Clone, Copy)]
enum Sort {
    Id,
    Outbox,
    Inbox,
}

/// Where a session stands in the list: those with less come first. The number is what is counted, down from the largest.
type Place = (u64, SessionId);

#[derive(Serialize)]
pub(crate) struct Page {
    sessions: Vec<Line>,
    /// What `after` is for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Sessions that match, on all pages.
    matched: usize,
    total: usize,
}

impl Asked {
    pub(crate) fn parse(query: &str) -> Result<Self, &'static str> {
        let mut asked =
            Self { search: String::new(), phase: None, sort: Sort::Id, limit: LIMIT, after: None };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.trim();
            match &*name {
                "search" => {
                    if value.len() > MAX_SEARCH {
                        return Err("search is longer than an id");
                    }
                    asked.search = value.to_ascii_lowercase();
                }
                "phase" => {
                    asked.phase = match value {
                        "" => None,
                        "running" => Some(Phase::Running),
                        "suspended" => Some(Phase::Suspended),
                        "completed" => Some(Phase::Completed),
                        _ => return Err("phase is running, suspended or completed"),
                    };
                }
                "sort" => {
                    asked.sort = match value {
                        "" | "id" => Sort::Id,
                        "outbox" => Sort::Outbox,
                        "inbox" => Sort::Inbox,
                        _ => return Err("sort is id, outbox or inbox"),
                    };
                }
                "limit" => {
                    let limit = value.parse::<usize>().map_err(|_| "limit is a number")?;
                    asked.limit = limit.clamp(1, MAX_LIMIT);
                }
                "after" if value.is_empty() => {}
                "after" => {
                    let place = value.split_once('.').and_then(|(count, id)| {
                        Some((u64::MAX - count.parse::<u64>().ok()?, id.parse().ok()?))
                    });
                    asked.after = Some(place.ok_or("after is the `next` of another page")?);
                }
                _ => {}
            }
        }
        Ok(asked)
    }

    fn takes(&self, info: &SessionInfo) -> bool {
        self.phase.is_none_or(|phase| phase == info.phase) && self.finds(info)
    }

    /// Hashes are computed only if what is searched for can be the beginning of one.
    fn finds(&self, info: &SessionInfo) -> bool {
        let search = &*self.search;
        let is_of_hash = search.bytes().all(|byte| byte.is_ascii_hexdigit());
        search.is_empty()
            || info.id.to_string().starts_with(search)
            || (is_of_hash && search.len() <= 8 && info.identity().short_hash().starts_with(search))
            || (is_of_hash && search.len() <= 12 && info.key.to_string().starts_with(search))
    }

    fn place(&self, info: &SessionInfo) -> Place {
        let count = match self.sort {
            Sort::Id => 0,
            Sort::Outbox => info.outbox_bytes,
            Sort::Inbox => info.inbox_messages,
        };
        (u64::MAX - u64::try_from(count).unwrap_or(u64::MAX), info.id)
    }
}

pub(crate) async fn of(source: &dyn Source, asked: Asked) -> Page {
    // One more than is shown tells whether there is another page.
    let mut first = BTreeMap::<Place, SessionInfo>::new();
    let (mut matched, mut total) = (0, 0);
    let mut see = |info: SessionInfo| {
        total += 1;
        if !asked.takes(&info) {
            return;
        }
        matched += 1;
        let place = asked.place(&info);
        let is_late = first.len() > asked.limit
            && first.last_key_value().is_some_and(|(last, _)| *last < place);
        if is_late || asked.after.is_some_and(|after| place <= after) {
            return;
        }
        first.insert(place, info);
        if first.len() > asked.limit + 1 {
            first.pop_last();
        }
    };
    source.survey(&mut see).await;
    let has_more = first.len() > asked.limit;
    if has_more {
        first.pop_last();
    }
    let last = first.last_key_value().filter(|_| has_more);
    let next = last.map(|((count, id), _)| format!("{}.{id}", u64::MAX - count));
    Page { sessions: first.values().map(Line::of).collect(), next, matched, total }
}
