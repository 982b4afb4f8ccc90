//! What the databases have been given: names, ports and places.
//!
//! Only the leader writes topologies, and it writes down here what it gives, so what it read a moment ago still holds. A
//! hundred databases that are made at once therefore cost a few lists of all topologies instead of one each, and what is
//! chosen for one is written while the next one chooses.

mod refused;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::ResourceExt as _;
use meridian_api::crds::{DatabaseTopology, topology::DatabaseReference};
use tokio::time::Instant;

pub(super) use self::refused::{Refused, Want};
use super::topology::{Given, TopologyError};
use crate::k8s::apply::{ApplyError, Objects};

/// How long what was read is gone by. What is given back meanwhile is only not given again yet.
const HOLDS: Duration = Duration::from_secs(1);

/// What was given. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    turn: Arc<tokio::sync::Mutex<()>>,
    books: Arc<Mutex<Books>>,
    /// Who was given nothing because of what others have.
    pub(super) refused: Refused,
}

#[derive(Debug, Default)]
struct Books {
    read: Option<Instant>,
    /// What stands in the API, by name of the topology; and since when, where it was not read but written here.
    given: BTreeMap<String, (Given, Option<Instant>)>,
    /// What is chosen and being written.
    chosen: BTreeMap<String, (DatabaseReference, Given)>,
}

/// Whoever has it chooses, and nobody else does.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    ledger: &'a Ledger,
    _alone: tokio::sync::MutexGuard<'a, ()>,
}

/// A name that is given to one database while what was chosen for it is being written: drop it when that has ended.
#[derive(Debug)]
pub(super) struct Claim {
    ledger: Ledger,
    name: String,
}

impl Ledger {
    /// Waits until nobody else chooses.
    pub(super) async fn turn(&self) -> Turn<'_> {
        Turn {
            _alone: self.turn.lock().await,
            ledger: self,
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// What the databases of the REC `rec` have, but for `name`; and whether that was read for another choice before.
    ///
    /// # Errors
    /// The API server refused or could not be reached.
    pub(super) async fn others(
        &self,
        objects: &Objects,
        rec: &str,
        name: &str,
    ) -> Result<(Vec<Given>, bool), ApplyError> {
        let read = self.ledger.books().read;
        let known = read.is_some_and(|read| read.elapsed() < HOLDS);
        if !known {
            let began = Instant::now();
            let all = objects.list::<DatabaseTopology>("").await?;
            let read = all
                .iter()
                .map(|one| (one.name_any(), (Given::of(one), None)));
            let mut books = self.ledger.books();
            // What was written while the answer was on its way may be missing in it.
            books
                .given
                .retain(|_, (_, since)| since.is_some_and(|since| since >= began));
            books.given.extend(read);
            books.read = Some(began);
        }
        let books = self.ledger.books();
        let chosen = books.chosen.iter().map(|(name, (_, given))| (name, given));
        let given = books.given.iter().map(|(name, (given, _))| (name, given));
        let all: BTreeMap<&String, &Given> = given.chain(chosen).collect();
        let others = all
            .into_iter()
            .filter(|(other, given)| given.cluster == rec && *other != name);
        Ok((others.map(|(_, given)| given.clone()).collect(), known))
    }

    /// The next choice rests on what is read then: something is given that is not written down here, or what was read may
    /// have been given back.
    pub(super) fn forget(&self) {
        self.ledger.books().read = None;
    }

    /// Gives the name of `database` to it, with the topology that was chosen for it.
    ///
    /// # Errors
    /// [`TopologyError::NameTaken`]: another database is being given the name.
    pub(super) fn claim(
        &self,
        database: &DatabaseReference,
        topology: &DatabaseTopology,
    ) -> Result<Claim, TopologyError> {
        let mut books = self.ledger.books();
        if let Some((holder, _)) = books.chosen.get(&database.name) {
            return Err(TopologyError::NameTaken {
                name: holder.name.clone(),
                kind: holder.kind.clone(),
                namespace: holder.namespace.clone(),
            });
        }
        let entry = (database.clone(), Given::of(topology));
        books.chosen.insert(database.name.clone(), entry);
        Ok(Claim {
            ledger: self.ledger.clone(),
            name: database.name.clone(),
        })
    }
}

impl Drop for Claim {
    /// Whether the topology was written may be unknown. Until that is read what was chosen is not given again.
    fn drop(&mut self) {
        let mut books = self.ledger.books();
        if let Some((_, given)) = books.chosen.remove(&self.name) {
            let entry = (given, Some(Instant::now()));
            books.given.insert(self.name.clone(), entry);
        }
    }
}

#[cfg(test)]
mod tests;
