//! What the planner knows: the store as it was at one revision, as far as a plan depends on it, kept up by what changed since.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt as _;
use meridian_api::ids::{ObjectId, Revision};

use crate::app::App;
use crate::app::reign::Reign;
use crate::domain::database::Waits;
use crate::domain::desired::Desired;
use crate::domain::remote::Remote;
use crate::planner::{Changed, Input, RERC, Unreadable};
use crate::store::keys::{self, Prefix};
use crate::store::records::{self, Counters};
use crate::store::{Read, Store, StoreError};

/// Everything that a plan depends on, with the revisions that a commit of it depends on.
#[derive(Debug)]
pub(super) struct View {
    pub(super) input: Input,
    /// Revision at which all of it was true.
    pub(super) revision: Revision,
    /// What came to be known since it was taken out.
    pub(super) changed: Changed,
    pub(super) counters: Option<(Counters, Revision)>,
    /// By name.
    pub(super) databases: BTreeMap<String, Revision>,
    pub(super) memberships: BTreeMap<ObjectId, Revision>,
    /// What people are told that databases wait for; `None` for what cannot be read, and is written anew.
    pub(super) waits: BTreeMap<ObjectId, (Option<Waits>, Revision)>,
    /// Database that an object of a member, or a membership, belongs to.
    pub(super) owners: BTreeMap<ObjectId, String>,
    /// Records that cannot be read, by key, and why.
    unreadable: BTreeMap<String, String>,
}

/// Whether a record under this key is of one database, or of one object of a member, and of nothing else.
fn is_of_one(key: &str) -> bool {
    let one = [
        keys::databases().text().to_owned(),
        keys::memberships().text().to_owned(),
        keys::all_desired().text().to_owned(),
    ];
    one.iter().any(|prefix| key.starts_with(prefix))
}

/// Whose records a plan depends on.
fn prefixes() -> Vec<String> {
    let own = [keys::clusters().text().to_owned()];
    let named = [
        keys::remotes().text().to_owned(),
        keys::all_recs().text().to_owned(),
        keys::databases().text().to_owned(),
        keys::memberships().text().to_owned(),
        keys::all_desired().text().to_owned(),
        keys::counters().text().to_owned(),
        keys::all_removed().text().to_owned(),
        keys::all_waits().text().to_owned(),
    ];
    own.into_iter().chain(named).collect()
}

/// The part of a key that names its record, if the key is of this kind.
fn named<'k, R>(key: &'k str, prefix: &Prefix<R>) -> Option<&'k str> {
    key.strip_prefix(prefix.text())
}

/// Puts a record in its place, or takes it out.
fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

impl View {
    /// Reads everything, at one revision.
    pub(super) async fn load(app: &App) -> Result<Self, StoreError> {
        let Read { value, revision } = app.store().list(prefixes()).await?;
        let mut view = Self {
            input: Input {
                reign: reign_of(app),
                plan_number: Default::default(),
                instance_id_floor: 0,
                config_version_floor: 0,
                trust_domain: app.ca().trust_domain().to_string(),
                clusters: BTreeMap::new(),
                removed: BTreeMap::new(),
                remotes: BTreeMap::new(),
                recs: BTreeMap::new(),
                databases: BTreeMap::new(),
                memberships: BTreeMap::new(),
                desired: BTreeMap::new(),
                done: BTreeMap::new(),
                seen: BTreeMap::new(),
                unreadable: Unreadable::default(),
            },
            revision,
            changed: Changed::default(),
            counters: None,
            databases: BTreeMap::new(),
            memberships: BTreeMap::new(),
            waits: BTreeMap::new(),
            owners: BTreeMap::new(),
            unreadable: BTreeMap::new(),
        };
        for entry in value.into_iter().flatten() {
            view.take_in(&entry.key, Some(&entry.value), entry.modified)?;
        }
        view.changed = Changed::everything();
        Ok(view)
    }

    /// Takes in what changed up to now. After an error it is of no use.
    pub(super) async fn refresh(&mut self, app: &App) -> Result<(), StoreError> {
        let store: &dyn Store = app.store().as_ref();
        let head = store.list(Vec::new()).await?.revision;
        if head != self.revision {
            let mut history = store.history(String::new(), self.revision, head).await?;
            while let Some(batch) = history.next().await {
                let batch = batch?;
                for change in batch.changes {
                    self.take_in(&change.key, change.value.as_ref(), batch.revision)?;
                }
            }
            self.revision = head;
        }
        let reign = reign_of(app);
        if reign != self.input.reign {
            self.input.reign = reign;
            self.changed.everything = true;
        }
        Ok(())
    }

    /// Learns a record. One of a single database that cannot be read holds up that database alone.
    fn take_in(
        &mut self,
        key: &str,
        value: Option<&Bytes>,
        modified: Revision,
    ) -> Result<(), StoreError> {
        let known = self.unreadable.remove(key).is_some();
        let learned = match self.learn(key, value, modified) {
            Err(error @ StoreError::Record { .. }) if is_of_one(key) => {
                self.unreadable.insert(key.to_owned(), error.to_string());
                if let Some(name) = named(key, &keys::databases()) {
                    self.input.databases.remove(name);
                    self.databases.remove(name);
                }
                Ok(())
            }
            learned => learned,
        };
        if known || self.unreadable.contains_key(key) {
            self.changed.everything = true;
            self.input.unreadable = self.unreadable();
        }
        learned
    }

    /// Whom the records hold up that cannot be read.
    fn unreadable(&self) -> Unreadable {
        let mut unreadable = Unreadable::default();
        for (key, why) in &self.unreadable {
            let object = keys::last_part(key).parse::<ObjectId>().ok();
            let place = keys::cluster_and_object(key);
            let owner = object.and_then(|object| self.owners.get(&object));
            if let Some(name) = named(key, &keys::databases()).or(owner.map(String::as_str)) {
                unreadable.databases.insert(name.to_owned(), why.clone());
            } else if let Some(place) = place {
                unreadable.places.insert(place, why.clone());
            }
        }
        unreadable
    }

    fn learn(
        &mut self,
        key: &str,
        value: Option<&Bytes>,
        modified: Revision,
    ) -> Result<(), StoreError> {
        if let Some(name) = named(key, &keys::databases()) {
            self.learn_database(name, read(key, value)?, modified);
        } else if keys::cluster_and_object(key).is_some() {
            self.learn_desired(key, value, modified)?;
        } else if let Some(object) = named(key, &keys::memberships()) {
            if let Ok(object) = object.parse::<ObjectId>() {
                put(&mut self.input.memberships, object, read(key, value)?);
                put(&mut self.memberships, object, value.map(|_| modified));
                let owner = self.owners.get(&object).cloned();
                self.changed.databases.extend(owner);
            }
        } else if let Some(object) = named(key, &keys::all_waits()) {
            if let Ok(object) = object.parse::<ObjectId>() {
                let waits = value.map(|bytes| (records::decode(key, bytes).ok(), modified));
                put(&mut self.waits, object, waits);
            }
        } else if let Some(name) = named(key, &keys::remotes()) {
            let remote: Option<Remote> = read(key, value)?;
            // Who lost it is found by its object, which is known of everything only.
            self.changed.everything |= remote.is_none();
            put(&mut self.input.remotes, name.to_owned(), remote);
            self.changed.remotes.insert(name.to_owned());
        } else if let Some(cluster) = named(key, &keys::all_recs()) {
            if let Ok(cluster) = cluster.parse() {
                put(&mut self.input.recs, cluster, read(key, value)?);
                let remotes = self.input.remotes.values();
                let of_it = remotes.filter(|remote| remote.cluster == cluster);
                let names = of_it.map(|remote| remote.name.clone());
                self.changed.remotes.extend(names);
            }
        } else if let Some(cluster) = named(key, &keys::clusters()) {
            // Of one that is there, plans only show the name.
            if let Ok(cluster) = cluster.parse() {
                self.changed.everything |= value.is_none();
                put(&mut self.input.clusters, cluster, read(key, value)?);
            }
        } else if let Some(cluster) = named(key, &keys::all_removed()) {
            if let Ok(cluster) = cluster.parse() {
                self.changed.everything = true;
                put(&mut self.input.removed, cluster, read(key, value)?);
            }
        } else if key == keys::counters().text() {
            self.learn_counters(read(key, value)?, modified);
        }
        Ok(())
    }

    fn learn_database(
        &mut self,
        name: &str,
        database: Option<crate::domain::database::Database>,
        modified: Revision,
    ) {
        let at = database.as_ref().map(|_| modified);
        if let Some(known) = &database {
            for object in [known.object_id, known.instance_object_id] {
                self.owners.insert(object, name.to_owned());
            }
        } else if let Some(gone) = self.input.databases.get(name) {
            for object in [gone.object_id, gone.instance_object_id] {
                self.owners.remove(&object);
            }
        }
        put(&mut self.databases, name.to_owned(), at);
        put(&mut self.input.databases, name.to_owned(), database);
        self.changed.databases.insert(name.to_owned());
    }

    fn learn_desired(
        &mut self,
        key: &str,
        value: Option<&Bytes>,
        modified: Revision,
    ) -> Result<(), StoreError> {
        let is_desired = key.starts_with(keys::all_desired().text());
        let Some(place) = keys::cluster_and_object(key).filter(|_| is_desired) else {
            return Ok(());
        };
        let told: Option<Desired> = read(key, value)?;
        let told = told.map(|desired| (desired.told(), modified));
        let before = self.input.desired.get(&place);
        let known = told.as_ref().or(before).map(|(told, _)| told);
        if let Some(remote) = known.filter(|told| told.kind == RERC) {
            self.changed.told.insert((place, remote.name.clone()));
        } else {
            let owner = self.owners.get(&place.1).cloned();
            self.changed.databases.extend(owner);
        }
        put(&mut self.input.desired, place, told);
        Ok(())
    }

    fn learn_counters(&mut self, counters: Option<Counters>, modified: Revision) {
        let known = counters.clone().unwrap_or_default();
        let floors = (known.instance_id_floor, known.config_version_floor);
        let before = (
            self.input.instance_id_floor,
            self.input.config_version_floor,
        );
        self.changed.everything |= floors != before;
        (
            self.input.instance_id_floor,
            self.input.config_version_floor,
        ) = floors;
        self.input.plan_number = known.plan_number;
        self.counters = counters.map(|counters| (counters, modified));
    }
}

fn read<R: serde::de::DeserializeOwned>(
    key: &str,
    value: Option<&Bytes>,
) -> Result<Option<R>, StoreError> {
    value.map(|bytes| records::decode(key, bytes)).transpose()
}

/// Under which plans are made.
fn reign_of(app: &App) -> (meridian_api::ids::StoreId, meridian_api::ids::Term) {
    let Reign {
        store_id,
        term,
        incarnation: _,
    } = app.reign();
    (store_id, term)
}
