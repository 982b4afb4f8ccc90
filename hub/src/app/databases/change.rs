//! Changing a database: what may become of its intent. The planner makes it so on every participant.

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::crds::active_active::{
    RedisEnterpriseActiveActiveDatabase, RedisEnterpriseActiveActiveDatabaseSpec,
};
use meridian_api::ids::ClusterUid;
use meridian_api::validate::{self, FieldError};
use meridian_api::web::PROJECT_LABEL;

use super::{
    App, AppError, Deed, KIND, NewDatabase, check_rules, names_members, until_uncontended,
};
use crate::app::writes::Manner;
use crate::domain::access::grant::{self, Verb};
use crate::domain::database::{self, Database, Deletion, Membership};
use crate::domain::desired::Desired;
use crate::store::records::{self, Held, TxnExt as _};
use crate::store::{StoreError, keys};

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
            let departures = records::get(self.store().as_ref(), &keys::departures()).await?;
            let new = change(&held)?;
            let database = self.changed(&held.record, &new, manner).await?;
            if database == held.record {
                return Ok(held);
            }
            let database = Database {
                trace: manner.by.trail.trace,
                ..database
            };
            let txn = names_members(departures.as_ref())?;
            let txn = txn.replace(&keys::database(name), &held, &database)?;
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
        let instances = self.instances(old, &new.spec).await?;
        let homes = &instances.homes;
        let removed = check_change(old, new, &instances)?;
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

    /// What is known of the instances of a database, before and after.
    async fn instances(
        &self,
        old: &Database,
        spec: &RedisEnterpriseActiveActiveDatabaseSpec,
    ) -> Result<Instances, AppError> {
        let store = self.store().as_ref();
        let key = keys::membership(old.object_id);
        let membership: Option<Held<Membership>> = records::get(store, &key).await?;
        let membership = membership.map(|held| held.record);
        let made = membership
            .iter()
            .flat_map(|it| it.instances.keys().cloned());
        let before = old.participants().into_iter().map(|one| one.name);
        let after = spec.participating_clusters.iter();
        let names: BTreeSet<_> = before
            .chain(after.map(|one| one.name.clone()))
            .chain(made)
            .collect();
        let names: Vec<_> = names.into_iter().collect();
        let remotes = self.remotes_named(&names).await?;
        let homes = remotes.into_iter().map(|held| held.record);
        let homes: BTreeMap<_, _> = homes.map(|remote| (remote.name, remote.cluster)).collect();
        let mut going = BTreeSet::new();
        for home in homes.values() {
            let key = keys::desired(*home, old.object_id);
            let told: Option<Held<Desired>> = records::get(store, &key).await?;
            if told.is_some_and(|held| held.record.is_tombstone()) {
                going.insert(*home);
            }
        }
        Ok(Instances {
            homes,
            membership,
            going,
        })
    }
}

/// What is known of the instances of a database.
struct Instances {
    /// The member of each participant, of before and after; those that are lost have none.
    homes: BTreeMap<String, ClusterUid>,
    /// What was allocated; `None` if nothing was planned yet.
    membership: Option<Membership>,
    /// Members that are told to delete it already.
    going: BTreeSet<ClusterUid>,
}

impl Instances {
    /// Where an instance was made, or is to be.
    fn home(&self, name: &str) -> Option<ClusterUid> {
        let written = self.membership.as_ref();
        let written = written.and_then(|it| it.homes.get(name));
        written.or_else(|| self.homes.get(name)).copied()
    }

    /// Whether the data of the database is with this participant, and stays there as far as is known.
    fn holds(&self, name: &str) -> bool {
        let made = self.membership.as_ref();
        let made = made.is_none_or(|it| it.instances.contains_key(name));
        let home = self.homes.get(name);
        made && home.is_some_and(|home| !self.going.contains(home))
    }

    /// What the planner tells in one plan must not take away everything: who is new has nothing yet.
    fn check_stays(&self, before: &[String], after: &[String]) -> Option<FieldError> {
        let holds = |name: &&String| self.holds(name);
        let held: Vec<_> = before.iter().filter(holds).map(String::as_str).collect();
        let stays = held.iter().any(|name| after.iter().any(|one| one == name));
        (!held.is_empty() && !stays).then(|| FieldError {
            field: "spec.participatingClusters".to_owned(),
            found: format!("a list without {}, which have the data", held.join(", ")),
            expected: "at least one of the participants that have the data of the database".to_owned(),
            remedy: "add the new participants first, wait until they are active, and then take out the old; to delete the \
                     database everywhere, delete it by its name"
                .to_owned(),
        })
    }

    /// A member has one place for a database: who comes there waits until the instance that leaves it is gone.
    fn check_places(&self, before: &[String], after: &[String]) -> Vec<FieldError> {
        let made = self.membership.iter().flat_map(|it| it.instances.keys());
        let leaving = before
            .iter()
            .chain(made)
            .filter(|name| !after.contains(name));
        let leaving: BTreeMap<_, _> = leaving
            .filter_map(|name| Some((self.home(name)?, name)))
            .collect();
        let new = after.iter().enumerate();
        let taken = new.filter_map(|(i, name)| {
            let former = leaving.get(self.homes.get(name)?)?;
            Some(FieldError {
                field: format!("spec.participatingClusters[{i}].name"),
                found: format!("{name:?}, on the cluster where {former} takes part no more"),
                expected: format!("a cluster that holds no data of {former}"),
                remedy: format!(
                    "take {former} out by a change of its own, wait until its data is gone (status.waitsFor), and add {name} then"
                ),
            })
        });
        taken.collect()
    }
}

/// What is refused, as errors say it.
const CHANGE: &str = "the Active-Active database cannot be changed so";

/// What may not become of a database. Returns the members on which its data is to go.
fn check_change(
    old: &Database,
    new: &NewDatabase,
    instances: &Instances,
) -> Result<Vec<ClusterUid>, AppError> {
    let homes = &instances.homes;
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
    if fields.is_empty() {
        let listed = new.spec.participating_clusters.iter();
        let after: Vec<_> = listed.map(|one| one.name.clone()).collect();
        let before: Vec<_> = old.participants().into_iter().map(|one| one.name).collect();
        fields.extend(instances.check_stays(&before, &after));
        fields.extend(instances.check_places(&before, &after));
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

#[cfg(test)]
mod tests;
