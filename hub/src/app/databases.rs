//! Active-Active databases: create, read, change, delete. What is written here is intent; the planner makes it so.

mod change;

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::crds::active_active::{
    RedisEnterpriseActiveActiveDatabase, RedisEnterpriseActiveActiveDatabaseSpec,
};
use meridian_api::ids::{ClusterUid, ObjectId};
use meridian_api::link::LARGEST_BODY;
use meridian_api::trace::TraceId;
use meridian_api::validate::{self, FieldError};
use meridian_api::web::PROJECT_LABEL;
use serde::Deserialize;
use serde_json::Value;

use super::audit::Deed;
use super::members::new_object_id;
use super::tokens::{LABEL, is_label};
use super::writes::Manner;
use super::{App, AppError, until_uncontended};
use crate::domain::access::grant::{Kind, Verb};
use crate::domain::database::{self, Database, Deletion};
use crate::domain::remote::Remote;
use crate::store::records::{self, Held, Mark, TxnExt as _};
use crate::store::{StoreError, Txn, keys};

/// Kind of the object on members.
const REAADB: &str = "RedisEnterpriseActiveActiveDatabase";
/// Bytes of an object besides its spec and labels, at most: its kind, its name, and the names of the namespace and of the cluster that
/// serves it, of at most 253 bytes each.
const ADDED: usize = 1024;
/// Kind, as errors name it.
const KIND: &str = "Active-Active database";

/// A database to be created.
#[derive(Clone, Debug)]
pub struct NewDatabase {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations, by which a removal of participants is confirmed.
    pub annotations: BTreeMap<String, String>,
    /// Spec, already valid by itself.
    pub spec: RedisEnterpriseActiveActiveDatabaseSpec,
}

/// An object that somebody wrote with kubectl on a member.
#[derive(Clone, Copy, Debug)]
pub struct LocalWish<'a> {
    /// Its kind.
    pub kind: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The object as JSON.
    pub body: &'a [u8],
    /// Whether it is one of the hub's objects already.
    pub known: bool,
}

/// The part of a written object that becomes intent.
#[derive(Deserialize)]
struct WrittenObject {
    metadata: WrittenMetadata,
    spec: RedisEnterpriseActiveActiveDatabaseSpec,
}

#[derive(Default, Deserialize)]
struct WrittenMetadata {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl App {
    /// Takes over an Active-Active database that was written on a member. Changes of known objects are refused: the
    /// hub is where they are changed.
    ///
    /// # Errors
    /// As [`App::create_database`].
    pub async fn local_wish(&self, wish: &LocalWish<'_>) -> Result<ObjectId, AppError> {
        if wish.kind != REAADB || wish.known {
            return Err(AppError::Conflict(format!(
                "{} {:?} is written on the hub; change it there, the change follows here",
                wish.kind, wish.name
            )));
        }
        let written: WrittenObject =
            serde_json::from_slice(wish.body).map_err(|e| AppError::Invalid {
                summary: format!("{REAADB} {:?} cannot be read", wish.name),
                fields: vec![FieldError {
                    field: "spec".to_owned(),
                    found: e.to_string(),
                    expected: "an object of this kind".to_owned(),
                    remedy: "write it as the reference of the kind says".to_owned(),
                }],
            })?;
        let labels = written.metadata.labels;
        let new = NewDatabase {
            name: wish.name.to_owned(),
            labels,
            annotations: BTreeMap::new(),
            spec: written.spec,
        };
        // Whoever wrote it on the member names no trace: it begins here.
        let mut manner = Manner::default();
        manner.by.trail.trace = Some(TraceId::of_bits(self.random().uuid().as_u128()));
        let made = self.create_database(&new, &manner).await?;
        Ok(made.record.object_id)
    }

    /// Stores the intent of a new database; one that was only tried has revision 0.
    ///
    /// # Errors
    /// [`AppError::Invalid`] for participants that are unknown, [`AppError::Conflict`] if the name is taken here or on a
    /// member, [`AppError::Observing`].
    pub async fn create_database(
        &self,
        new: &NewDatabase,
        manner: &Manner,
    ) -> Result<Held<Database>, AppError> {
        check_rules(new, "the Active-Active database cannot be created")?;
        let project = database::project(&new.labels);
        let act = (new.name.as_str(), project);
        manner.by.must(Verb::Create, Kind::Database, act)?;
        until_uncontended(|| async {
            self.must_decide().await?;
            let memory = self.first_time(manner).await?;
            let store = self.store().as_ref();
            let key = keys::database(&new.name);
            if let Some(held) = records::get(store, &key).await? {
                let state = if held.record.deletion.is_some() {
                    "is being deleted"
                } else {
                    "exists already"
                };
                return Err(AppError::Conflict(format!(
                    "{KIND} {:?} {state}; choose another name",
                    new.name
                )));
            }
            let departures = records::get(store, &keys::departures()).await?;
            self.check_participants(&new.spec).await?;
            let spec = serde_json::to_value(&new.spec)
                .map_err(|e| AppError::Conflict(format!("the spec has no JSON form: {e}")))?;
            let database = Database {
                name: new.name.clone(),
                object_id: new_object_id(self.random())?,
                instance_object_id: new_object_id(self.random())?,
                guid: self.random().uuid().to_string(),
                spec,
                labels: new.labels.clone(),
                created_at: self.now(),
                generation: 1,
                deletion: None,
                removals: BTreeMap::new(),
                trace: manner.by.trail.trace,
            };
            let made = (new.name.as_str(), database.object_id.to_string());
            let txn = names_members(departures.as_ref())?.create(&key, &database)?;
            let txn = self.remember(txn, manner, &memory, (made.0, &made.1))?;
            let deed = Deed {
                project,
                ..Deed::new(Verb::Create, KIND, &new.name)
            };
            let revision = self.commit_as(manner, &deed, txn).await?;
            if revision.is_some() {
                tracing::info!(
                    database = database.name,
                    guid = database.guid,
                    "a database was created"
                );
            }
            let revision = revision.unwrap_or_default();
            let key = key.text().to_owned();
            Ok(Held {
                record: database,
                created: revision,
                modified: revision,
                key,
            })
        })
        .await
    }

    /// Marks a database for deletion on every participant. There is no way back.
    ///
    /// # Errors
    /// [`AppError::NotFound`], [`AppError::Conflict`] unless `confirm` is its name, [`AppError::Changed`],
    /// [`AppError::Observing`].
    pub async fn delete_database(
        &self,
        name: &str,
        confirm: Option<&str>,
        holder: &str,
        manner: &Manner,
    ) -> Result<Held<Database>, AppError> {
        until_uncontended(|| async {
            self.must_decide().await?;
            let key = keys::database(name);
            let held = self.database(name).await?;
            let act = (name, held.record.project());
            manner.by.must(Verb::Delete, Kind::Database, act)?;
            manner.meets(KIND, name, held.modified)?;
            if confirm != Some(name) {
                return Err(AppError::Conflict(format!(
                    "deleting {KIND} {name:?} deletes its data in every participating cluster; repeat the request with ?confirm={name} if that is meant"
                )));
            }
            if held.record.deletion.is_some() {
                return Ok(held);
            }
            let mut database = held.record.clone();
            database.deletion = Some(Deletion { approval: holder.to_owned(), at: self.now() });
            database.generation += 1;
            database.trace = manner.by.trail.trace;
            let txn = Txn::new().replace(&key, &held, &database)?;
            let deed = Deed { project: held.record.project(), ..Deed::new(Verb::Delete, KIND, name) };
            let modified = self.commit_as(manner, &deed, txn).await?;
            if modified.is_some() {
                tracing::warn!(database = name, by = holder, "the deletion of a database was confirmed");
            }
            Ok(Held { record: database, modified: modified.unwrap_or(held.modified), ..held })
        })
        .await
    }

    /// One database.
    ///
    /// # Errors
    /// [`AppError::NotFound`].
    pub async fn database(&self, name: &str) -> Result<Held<Database>, AppError> {
        if let Some(held) = records::get(self.store().as_ref(), &keys::database(name)).await? {
            return Ok(held);
        }
        let all = records::list(self.store().as_ref(), &keys::databases())
            .await?
            .value;
        let names: Vec<_> = all.iter().map(|held| held.record.name.as_str()).collect();
        let hint = if names.is_empty() {
            String::new()
        } else {
            format!("; there are {}", names.join(", "))
        };
        Err(AppError::NotFound {
            kind: KIND,
            name: name.to_owned(),
            hint,
        })
    }

    /// Every participant is a remote cluster that some member reports, and no member takes part twice. All remote clusters are
    /// read only to name them where one is not known.
    async fn check_participants(
        &self,
        spec: &RedisEnterpriseActiveActiveDatabaseSpec,
    ) -> Result<(), AppError> {
        let participants = spec.participating_clusters.iter();
        let names: Vec<_> = participants.map(|one| one.name.clone()).collect();
        let remotes = self.remotes_named(&names).await?;
        let known = by_name(&remotes);
        if names.iter().all(|name| known.contains_key(name.as_str())) {
            return check_participants(spec, &known);
        }
        let all = records::list(self.store().as_ref(), &keys::remotes()).await?;
        check_participants(spec, &by_name(&all.value))
    }
}

/// A transaction by which an intent names members: it is void if one goes meanwhile, and makes void the removal of one.
pub(super) fn names_members(departures: Option<&Held<Mark>>) -> Result<Txn, StoreError> {
    let txn = Txn::new().still(&keys::departures(), departures);
    txn.put_record(&keys::intents(), &Mark {})
}

/// The rules of the kind, which every interface shares.
fn check_rules(new: &NewDatabase, summary: &str) -> Result<(), AppError> {
    let object = RedisEnterpriseActiveActiveDatabase::new(&new.name, new.spec.clone());
    let mut fields = validate::active_active_database(&object);
    let project = database::project(&new.labels);
    if !is_label(project) {
        fields.push(FieldError {
            field: format!("metadata.labels[{PROJECT_LABEL}]"),
            found: format!("{project:?}"),
            expected: LABEL.to_owned(),
            remedy: "name the project so, or leave the label out".to_owned(),
        });
    }
    fields.extend(too_large(new));
    if fields.is_empty() {
        return Ok(());
    }
    Err(AppError::Invalid {
        summary: summary.to_owned(),
        fields,
    })
}

/// What every member would refuse: the object is sent to it whole, with some names that the planner adds.
fn too_large(new: &NewDatabase) -> Option<FieldError> {
    let bytes = |value: Result<Value, _>| value.map_or(0, |value: Value| value.to_string().len());
    let spec = bytes(serde_json::to_value(&new.spec));
    let labels = bytes(serde_json::to_value(&new.labels));
    let most = LARGEST_BODY - ADDED;
    let (field, rest) = if labels > spec {
        ("metadata.labels", spec)
    } else {
        ("spec", labels)
    };
    (spec + labels > most).then(|| FieldError {
        field: field.to_owned(),
        found: format!("{} bytes as JSON without white space", spec + labels - rest),
        expected: format!(
            "at most {} bytes: members take objects of {LARGEST_BODY} bytes, and other parts need {}",
            most.saturating_sub(rest),
            LARGEST_BODY - most + rest
        ),
        remedy: "leave out what is not needed; nothing was done".to_owned(),
    })
}

fn by_name(remotes: &[Held<Remote>]) -> BTreeMap<&str, ClusterUid> {
    remotes
        .iter()
        .map(|held| (held.record.name.as_str(), held.record.cluster))
        .collect()
}

/// Every participant is a remote cluster that some member reports, and no member takes part twice.
fn check_participants(
    spec: &RedisEnterpriseActiveActiveDatabaseSpec,
    known: &BTreeMap<&str, ClusterUid>,
) -> Result<(), AppError> {
    let known_names = if known.is_empty() {
        "none: no member has reported a REC yet".to_owned()
    } else {
        known.keys().copied().collect::<Vec<_>>().join(", ")
    };
    let mut seen = BTreeSet::new();
    let mut fields = Vec::new();
    for (i, participant) in spec.participating_clusters.iter().enumerate() {
        let (expected, remedy) = match known.get(participant.name.as_str()) {
            Some(cluster) if seen.insert(*cluster) => continue,
            Some(_) => (
                "one remote cluster of each member".to_owned(),
                "choose one REC of that cluster; two instances in one cluster are not supported",
            ),
            None => (
                format!("a remote cluster that the hub knows; it knows {known_names}"),
                "name one of these, or let the cluster join and create its REC first",
            ),
        };
        fields.push(FieldError {
            field: format!("spec.participatingClusters[{i}].name"),
            found: format!("{:?}", participant.name),
            expected,
            remedy: remedy.to_owned(),
        });
    }
    if fields.is_empty() {
        return Ok(());
    }
    Err(AppError::Invalid {
        summary: "the database names participants that cannot take part".to_owned(),
        fields,
    })
}
