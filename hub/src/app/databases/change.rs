//! Changing a database: what may become of its intent. The planner makes it so on every participant.

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::crds::active_active::{
    RedisEnterpriseActiveActiveDatabase, RedisEnterpriseActiveActiveDatabaseSpec,
};
use meridian_api::ids::ClusterUid;
use meridian_api::validate::{self, FieldError};
use meridian_api::web::PROJECT_LABEL;

use super::{App, AppError, Deed, KIND, NewDatabase, check_rules, until_uncontended};
use crate::app::writes::Manner;
use crate::domain::access::grant::{self, Verb};
use crate::domain::database::{self, Database, Deletion};
use crate::store::records::{Held, TxnExt as _};
use crate::store::{StoreError, Txn, keys};

impl App {
    /// Changes the intent of a database into what `change` makes of it, which is asked again where another writer came
    /// between. What is as it was is not written: it keeps its revision.
    ///
    /// # Errors
    /// [`AppError::NotFound`], [`AppError::Changed`], [`AppError::Invalid`] for what cannot be or cannot become,
    /// [`AppError::Conflict`] if it is being deleted, [`AppError::Observing`], and those of `change`.
    pub async fn change_database(
        &self,
        name: &str,
        manner: &Manner,
        change: impl Fn(&Held<Database>) -> Result<NewDatabase, AppError>,
    ) -> Result<Held<Database>, AppError> {
        until_uncontended(|| async {
            self.must_decide().await?;
            let held = self.database(name).await?;
            let act = (name, held.record.project());
            manner.by.must(Verb::Update, grant::Kind::Database, act)?;
            manner.meets(KIND, name, held.modified)?;
            if held.record.deletion.is_some() {
                return Err(AppError::Conflict(format!(
                    "{KIND} {name:?} is being deleted and cannot be changed any more"
                )));
            }
            let new = change(&held)?;
            let database = self.changed(&held.record, &new, manner).await?;
            if database == held.record {
                return Ok(held);
            }
            let txn = Txn::new().replace(&keys::database(name), &held, &database)?;
            let deed = Deed {
                project: held.record.project(),
                ..Deed::new(Verb::Update, KIND, name)
            };
            let modified = self.commit_as(manner, &deed, txn).await?;
            if modified.is_some() {
                tracing::info!(
                    database = name,
                    generation = database.generation,
                    "a database was changed"
                );
            }
            Ok(Held {
                record: database,
                modified: modified.unwrap_or(held.modified),
                ..held
            })
        })
        .await
    }

    async fn changed(
        &self,
        old: &Database,
        new: &NewDatabase,
        manner: &Manner,
    ) -> Result<Database, AppError> {
        check_rules(new, CHANGE)?;
        let homes = self.homes(old, &new.spec).await?;
        let removed = check_change(old, new, &homes)?;
        // Who was lost since the list was written stays in it until somebody takes it out.
        let known = old.participants().into_iter().map(|one| one.name);
        let lost: BTreeSet<_> = known.filter(|name| !homes.contains_key(name)).collect();
        let mut present = new.spec.clone();
        let listed = &mut present.participating_clusters;
        listed.retain(|one| !lost.contains(&one.name));
        self.check_participants(&present).await?;
        let spec = serde_json::to_value(&new.spec)
            .map_err(|e| AppError::Conflict(format!("the spec has no JSON form: {e}")))?;
        let mut removals = old.removals.clone();
        // Who takes part again is wanted there.
        let listed = new.spec.participating_clusters.iter();
        for home in listed.filter_map(|one| homes.get(&one.name)) {
            removals.remove(home);
        }
        let actor = &manner.by.trail.actor.name;
        let approval = if actor.is_empty() { "the hub" } else { actor };
        for home in removed {
            let confirmed = Deletion {
                approval: approval.to_owned(),
                at: self.now(),
            };
            removals.insert(home, confirmed);
        }
        Ok(Database {
            generation: old.generation + i64::from(spec != old.spec),
            spec,
            labels: new.labels.clone(),
            removals,
            ..old.clone()
        })
    }

    /// The member of each participant, of before and after; those that are lost have none.
    async fn homes(
        &self,
        old: &Database,
        spec: &RedisEnterpriseActiveActiveDatabaseSpec,
    ) -> Result<BTreeMap<String, ClusterUid>, AppError> {
        let before = old.participants().into_iter().map(|one| one.name);
        let after = spec.participating_clusters.iter();
        let names: BTreeSet<_> = before.chain(after.map(|one| one.name.clone())).collect();
        let names: Vec<_> = names.into_iter().collect();
        let remotes = self.remotes_named(&names).await?;
        let homes = remotes.into_iter().map(|held| held.record);
        Ok(homes.map(|remote| (remote.name, remote.cluster)).collect())
    }
}

/// What is refused, as errors say it.
const CHANGE: &str = "the Active-Active database cannot be changed so";

/// What may not become of a database. Returns the members on which its data is to go.
fn check_change(
    old: &Database,
    new: &NewDatabase,
    homes: &BTreeMap<String, ClusterUid>,
) -> Result<Vec<ClusterUid>, AppError> {
    let spec: RedisEnterpriseActiveActiveDatabaseSpec = serde_json::from_value(old.spec.clone())
        .map_err(|e| StoreError::Record {
            key: keys::database(&old.name).text().to_owned(),
            reason: format!("its spec cannot be read: {e}"),
        })?;
    let before = RedisEnterpriseActiveActiveDatabase::new(&old.name, spec);
    let mut after = RedisEnterpriseActiveActiveDatabase::new(&old.name, new.spec.clone());
    after.metadata.annotations = Some(new.annotations.clone());
    let mut fields = validate::active_active_database_update(&before, &after);
    let removed = validate::removed_participants(&before, &after);
    let removed: Vec<_> = removed
        .into_iter()
        .filter(|name| homes.contains_key(*name))
        .collect();
    let confirmed = validate::confirmed_removals(&after);
    if fields.is_empty() && !removed.iter().all(|name| confirmed.contains(name)) {
        fields.push(FieldError {
            field: "spec.participatingClusters".to_owned(),
            found: format!("a list without {}", removed.join(", ")),
            expected: "all participants that take part already".to_owned(),
            remedy: format!(
                "put them back; or set the annotation {} to {:?} if the data of the database is to be deleted there: let its clients \
                 go elsewhere first, because what is written there until it is gone may be lost",
                validate::CONFIRM_REMOVAL,
                removed.join(",")
            ),
        });
    }
    let (found, expected) = (database::project(&new.labels), old.project());
    if found != expected {
        fields.push(FieldError {
            field: format!("metadata.labels[{PROJECT_LABEL}]"),
            found: format!("{found:?}"),
            expected: format!("{expected:?} as before"),
            remedy: "the project is fixed at creation; put it back".to_owned(),
        });
    }
    if fields.is_empty() {
        let homes = removed.iter().filter_map(|name| homes.get(*name));
        return Ok(homes.copied().collect());
    }
    Err(AppError::Invalid {
        summary: CHANGE.to_owned(),
        fields,
    })
}
