//! What a watch tells, decided without a clock or a store: all objects of a kind at one revision, what they became since
//! another, and what is gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use meridian_api::ids::{ObjectId, Revision};

use crate::domain::access::grant::Scope;
use crate::store::Read;
use crate::web::kinds::{Kind, Listed};

/// Deletions that are remembered here. What was deleted before them is read from the store's log.
pub(super) const MOST_GONE: usize = 1024;

/// What happened, in the words of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Added,
    Modified,
    Deleted,
    Bookmark,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) what: What,
    /// JSON in one line.
    pub(super) object: Bytes,
}

#[derive(Clone, Debug)]
struct Item {
    created: Revision,
    changed: Revision,
    project: Option<String>,
    parts: Vec<ObjectId>,
    body: Bytes,
}

/// An object that is gone, as it was seen last.
#[derive(Clone, Debug)]
struct Gone {
    at: Revision,
    name: String,
    created: Revision,
    project: Option<String>,
    body: Bytes,
}

/// What a reader asked for, and may see.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// One object; `None` for all.
    pub(super) name: Option<String>,
    pub(super) scope: Scope,
}

impl Asked {
    fn takes(&self, name: &str, project: Option<&str>) -> bool {
        let is_named = self.name.as_ref().is_none_or(|only| only == name);
        is_named && project.is_none_or(|project| self.scope.sees(project))
    }
}

/// What the log tells of the time before a snapshot remembers deletions.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    gone: BTreeSet<String>,
    /// Records that vanished and of which the object stays.
    parts: BTreeSet<ObjectId>,
}

impl Past {
    /// Whether something went whose project is not known.
    pub(super) fn lost_any(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Learns that a key is gone.
    pub(super) fn deleted(&mut self, kind: Kind, key: &str) {
        if let Some(name) = kind.named_by(key) {
            self.gone.insert(name.to_owned());
        } else if let Some((_, object)) = crate::store::keys::cluster_and_object(key) {
            self.parts.insert(object);
        }
    }
}

fn item(one: Listed) -> (String, Item) {
    let item = Item {
        created: one.created,
        changed: one.newest,
        project: one.project,
        parts: one.parts,
        body: one.body.to_string().into(),
    };
    (one.name, item)
}

/// All objects of a kind at one revision.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    kind: Kind,
    pub(super) revision: Revision,
    /// Everything that went after this revision is remembered.
    pub(super) since: Revision,
    items: BTreeMap<String, Item>,
    gone: VecDeque<Gone>,
}

impl Snapshot {
    /// The first one, which knows of nothing before it.
    pub(super) fn first(kind: Kind, read: Read<Vec<Listed>>) -> Self {
        Self {
            kind,
            revision: read.revision,
            since: read.revision,
            items: read.value.into_iter().map(item).collect(),
            gone: VecDeque::new(),
        }
    }

    /// The next one. What differs has changed by its revision; what is as it was stays in one place of memory.
    pub(super) fn next(&self, read: Read<Vec<Listed>>) -> Self {
        let all = self.items.keys().cloned().collect();
        self.with(&all, read)
    }

    /// The next one, in which of those that were here only these may have become different, or have gone. What else is read is new.
    pub(super) fn with(&self, looked_at: &BTreeSet<String>, read: Read<Vec<Listed>>) -> Self {
        let at = read.revision;
        let mut next = self.clone();
        next.revision = at;
        let mut items: BTreeMap<String, Item> = read.value.into_iter().map(item).collect();
        for name in looked_at {
            let Some(before) = self.items.get(name) else {
                continue;
            };
            let now = items.get_mut(name);
            match now.filter(|now| now.created == before.created) {
                Some(now) if now.body == before.body => *now = before.clone(),
                Some(now) => now.changed = at,
                None => {
                    next.items.remove(name);
                    next.gone.push_back(Gone {
                        at,
                        name: name.clone(),
                        created: before.created,
                        project: before.project.clone(),
                        body: before.body.clone(),
                    });
                }
            }
        }
        for (name, mut item) in items {
            let before = self.items.get(&name);
            if before.is_none_or(|before| before.created != item.created) {
                item.changed = at;
            }
            next.items.insert(name, item);
        }
        while next.gone.len() > MOST_GONE
            && let Some(forgotten) = next.gone.pop_front()
        {
            next.since = forgotten.at;
        }
        next
    }

    /// Which object is shown from each of these parts.
    pub(super) fn names_of(&self, parts: &BTreeSet<ObjectId>) -> BTreeSet<String> {
        let items = self.items.iter();
        let of = items.filter(|(_, item)| item.parts.iter().any(|part| parts.contains(part)));
        of.map(|(name, _)| name.clone()).collect()
    }

    /// All objects, as if each had just come.
    pub(super) fn all(&self, asked: &Asked) -> Vec<Event> {
        let items = self
            .items
            .iter()
            .filter(|(name, item)| asked.takes(name, item.project.as_deref()));
        let events = items.map(|(_, item)| Event {
            what: What::Added,
            object: item.body.clone(),
        });
        events.collect()
    }

    /// What became of the objects that somebody saw at an earlier revision: first what is gone, then what has come or
    /// changed, as it is now.
    pub(super) fn news(&self, seen: Revision, past: &Past, asked: &Asked) -> Vec<Event> {
        let of_the_past = past.gone.iter().filter(|name| asked.takes(name, None));
        let of_the_past = of_the_past.map(|name| self.nameless(name));
        let gone = self.gone.iter().filter(|gone| {
            gone.at > seen
                && gone.created <= seen
                && asked.takes(&gone.name, gone.project.as_deref())
        });
        let gone = gone.map(|gone| gone.body.clone());
        let gone = of_the_past.chain(gone).map(|object| Event {
            what: What::Deleted,
            object,
        });
        let mut here: Vec<_> = self
            .items
            .iter()
            .filter(|(name, item)| {
                let lost = item.parts.iter().any(|part| past.parts.contains(part));
                (item.created > seen || item.changed > seen || lost)
                    && asked.takes(name, item.project.as_deref())
            })
            .collect();
        here.sort_by_key(|(_, item)| item.changed);
        let here = here.into_iter().map(|(_, item)| Event {
            what: if item.created > seen {
                What::Added
            } else {
                What::Modified
            },
            object: item.body.clone(),
        });
        gone.chain(here).collect()
    }

    /// What is known of an object that went before this was read.
    fn nameless(&self, name: &str) -> Bytes {
        let object = serde_json::json!({
            "apiVersion": self.kind.api_version(),
            "kind": self.kind.name(),
            "metadata": { "name": name },
        });
        object.to_string().into()
    }
}

/// Word that everything up to a revision has been told, with whether it ends what was there when the watch began.
pub(super) fn bookmark(kind: Kind, at: Revision, ends_first: bool) -> Event {
    let mut object = serde_json::json!({
        "apiVersion": kind.api_version(),
        "kind": kind.name(),
        "metadata": { "resourceVersion": at.to_string() },
    });
    if ends_first {
        // As Kubernetes says it.
        object["metadata"]["annotations"] =
            serde_json::json!({ "k8s.io/initial-events-end": "true" });
    }
    Event {
        what: What::Bookmark,
        object: object.to_string().into(),
    }
}

impl Event {
    /// As a server-sent event. Only the last of what belongs to one revision has that as its id: who resumes from an id
    /// has everything up to it.
    pub(super) fn print(&self, id: Option<Revision>) -> Bytes {
        let what = match self.what {
            What::Added => "ADDED",
            What::Modified => "MODIFIED",
            What::Deleted => "DELETED",
            What::Bookmark => "BOOKMARK",
        };
        let mut printed = Vec::with_capacity(self.object.len() + 64);
        if let Some(id) = id {
            printed.extend(format!("id: {id}\n").into_bytes());
        }
        printed.extend(format!("data: {{\"type\":\"{what}\",\"object\":").into_bytes());
        printed.extend(&self.object);
        printed.extend(b"}\n\n");
        printed.into()
    }
}

#[cfg(test)]
mod tests;
