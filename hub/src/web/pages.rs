//! Lists in parts. All parts show one revision: the first request of a list keeps what is left of it for a while, in this
//! process and for whoever goes on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use meridian_api::fault::Fault;
use meridian_api::web::ListMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::domain::access::grant::Scope;
use crate::store::Read;

/// How long a list is kept for those who go on.
pub(super) const KEPT: Duration = Duration::from_secs(300);
/// Lists that are kept at one time. The oldest gives way to the newest.
pub(super) const MOST: usize = 16;

/// Lists that somebody reads in parts.
#[derive(Debug, Default)]
pub struct Pages(Mutex<VecDeque<Kept>>);

#[derive(Debug)]
struct Kept {
    kind: String,
    /// Who sees what is in it: nobody else is shown any of it.
    scope: Scope,
    read: Arc<Read<Vec<Value>>>,
    until: Instant,
}

/// Where to go on. Opaque to whoever carries it.
#[derive(Debug, Serialize, Deserialize)]
struct Bookmark {
    kind: String,
    revision: u64,
    after: String,
}

/// What a request asks of a list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part<'a> {
    pub(super) limit: Option<usize>,
    pub(super) token: Option<&'a str>,
}

/// What `continue` may be, or `None` for a text that no list was answered with.
fn read_token(kind: &str, token: &str) -> Option<Bookmark> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let bookmark: Bookmark = serde_json::from_slice(&bytes).ok()?;
    (bookmark.kind == kind).then_some(bookmark)
}

/// Whether a text is a place in a list of this kind.
pub(super) fn is_token(kind: &str, token: &str) -> bool {
    read_token(kind, token).is_some()
}

fn name(item: &Value) -> &str {
    item["metadata"]["name"].as_str().unwrap_or_default()
}

impl Pages {
    /// A part of a list of which `now` is the newest, with what is said of it.
    pub(super) fn part(
        &self,
        kind: &str,
        scope: &Scope,
        now: Read<Vec<Value>>,
        part: Part<'_>,
    ) -> Result<(ListMeta, Vec<Value>), Fault> {
        let place = part.token.and_then(|token| read_token(kind, token));
        let read = match &place {
            Some(place) if place.revision != now.revision.0 => self.find(kind, scope, place)?,
            _ => Arc::new(now),
        };
        let after = place.as_ref().map_or("", |place| place.after.as_str());
        let begin = read.value.partition_point(|item| name(item) <= after);
        let begin = if place.is_some() { begin } else { 0 };
        let left = read.value.get(begin..).unwrap_or_default();
        let (shown, rest) = left.split_at(part.limit.unwrap_or(left.len()).min(left.len()));
        let mut meta = ListMeta {
            resource_version: read.revision.to_string(),
            ..ListMeta::default()
        };
        if let Some(last) = shown.last().filter(|_| !rest.is_empty()) {
            let place = Bookmark {
                kind: kind.to_owned(),
                revision: read.revision.0,
                after: name(last).to_owned(),
            };
            let token = serde_json::to_vec(&place).unwrap_or_default();
            meta.continue_ = Some(URL_SAFE_NO_PAD.encode(token));
            meta.remaining_item_count = u64::try_from(rest.len()).ok();
            self.keep(kind, scope, &read);
        }
        Ok((meta, shown.to_vec()))
    }

    fn find(
        &self,
        kind: &str,
        scope: &Scope,
        place: &Bookmark,
    ) -> Result<Arc<Read<Vec<Value>>>, Fault> {
        let now = Instant::now();
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|kept| {
            (kept.kind.as_str(), &kept.scope) == (kind, scope)
                && kept.read.revision.0 == place.revision
                && kept.until > now
        });
        found.map(|kept| Arc::clone(&kept.read)).ok_or_else(|| Fault::Expired {
            detail: format!(
                "the list at revision {} is not kept here any more (parts are for {} s, in the process that answered the \
                 first); begin again without `continue`",
                place.revision,
                KEPT.as_secs()
            ),
        })
    }

    fn keep(&self, kind: &str, scope: &Scope, read: &Arc<Read<Vec<Value>>>) {
        let now = Instant::now();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|one| {
            let same = (one.kind.as_str(), &one.scope) == (kind, scope);
            one.until > now && !(same && one.read.revision == read.revision)
        });
        kept.push_back(Kept {
            kind: kind.to_owned(),
            scope: scope.clone(),
            read: Arc::clone(read),
            until: now + KEPT,
        });
        while kept.len() > MOST {
            kept.pop_front();
        }
    }
}
