//! Lists in parts. Each part is read for itself, from where the one before ended, so that any replica may be asked for it. All
//! carry the revision at which the first was begun: a watch from there tells whatever has changed meanwhile, in every part.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use meridian_api::ids::Revision;
use meridian_api::web::ListMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kinds::Listed;

/// Where to go on. Opaque to whoever carries it.
#[derive(Debug, Serialize, Deserialize)]
struct Bookmark {
    kind: String,
    revision: Revision,
    after: String,
}

/// What a request asks of a list.
#[derive(Debug, Default)]
pub(super) struct Part {
    limit: Option<usize>,
    place: Option<Bookmark>,
}

impl Part {
    /// `None` for a `continue` that no list of this kind was answered with.
    pub(super) fn read(kind: &str, limit: Option<usize>, token: Option<&str>) -> Option<Self> {
        let Some(token) = token else {
            return Some(Self { limit, place: None });
        };
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let place: Bookmark = serde_json::from_slice(&bytes).ok()?;
        (place.kind == kind).then_some(Self {
            limit,
            place: Some(place),
        })
    }

    /// Whether less than the whole list is asked for.
    pub(super) fn is_partial(&self) -> bool {
        self.limit.is_some() || self.place.is_some()
    }

    /// Those of all objects, in the order of their names, that belong to the part, and how many come after them.
    pub(super) fn of<'a, T>(&self, all: &'a [T], name: impl Fn(&T) -> &str) -> (&'a [T], usize) {
        let place = self.place.as_ref();
        let begin = place.map_or(0, |place| {
            all.partition_point(|one| name(one) <= place.after.as_str())
        });
        let rest = all.get(begin..).unwrap_or_default();
        let (part, left) = rest.split_at(self.limit.unwrap_or(rest.len()).min(rest.len()));
        (part, left.len())
    }
}

/// A part of a list.
#[derive(Debug)]
pub(super) struct Slice {
    /// As they are shown.
    pub(super) items: Vec<Value>,
    /// Name of the last object of the part, whether or not it still was there to be shown.
    pub(super) last: Option<String>,
    /// How many objects come after it.
    pub(super) left: usize,
    /// Revision at which the part was begun.
    pub(super) revision: Revision,
}

impl Slice {
    /// Out of all objects.
    pub(super) fn of(all: &[Listed], revision: Revision, part: &Part) -> Self {
        let (shown, left) = part.of(all, |one| &one.name);
        Self {
            items: shown.iter().map(|one| one.body.clone()).collect(),
            last: shown.last().map(|one| one.name.clone()),
            left,
            revision,
        }
    }

    /// What is said of it.
    pub(super) fn meta(&self, kind: &str, part: &Part) -> ListMeta {
        let begun = part.place.as_ref().map(|place| place.revision);
        let revision = begun.unwrap_or(self.revision);
        let mut meta = ListMeta {
            resource_version: revision.to_string(),
            ..ListMeta::default()
        };
        if let Some(last) = self.last.as_ref().filter(|_| self.left > 0) {
            let place = Bookmark {
                kind: kind.to_owned(),
                revision,
                after: last.clone(),
            };
            let token = serde_json::to_vec(&place).unwrap_or_default();
            meta.continue_ = Some(URL_SAFE_NO_PAD.encode(token));
            meta.remaining_item_count = u64::try_from(self.left).ok();
        }
        meta
    }
}
