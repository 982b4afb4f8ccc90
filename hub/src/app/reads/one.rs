//! One object with everything that is known of it: reads as many records as it is shown from, however many others there are.

use std::collections::BTreeSet;

use meridian_api::ids::ClusterUid;

use super::{App, AppError, DatabaseView, Lists, MemberView, RemoteView};
use super::{databases, members, remote_view};
use crate::domain::access::grant::Scope;
use crate::domain::breaker;
use crate::domain::database::Database;
use crate::domain::remote::Remote;
use crate::store::records::{self, Held};
use crate::store::{StoreError, keys};

/// Keys of one kind after the other, in the order in which lists are read.
type Kinds = Vec<Vec<String>>;

fn of_members(clusters: &BTreeSet<ClusterUid>) -> Kinds {
    let each = |key: fn(ClusterUid) -> String| clusters.iter().copied().map(key).collect();
    let tallies = clusters.iter().copied().map(breaker::Scope::Cluster);
    let tallies = tallies.chain([breaker::Scope::Fleet]);
    vec![
        each(|uid| keys::cluster(uid).text().to_owned()),
        each(|uid| keys::presence(uid).text().to_owned()),
        each(|uid| keys::recs(uid).text().to_owned()),
        each(|uid| keys::denied_cluster(uid).text().to_owned()),
        tallies
            .map(|scope| keys::tally(scope).text().to_owned())
            .collect(),
    ]
}

fn of_remotes(names: &[String]) -> Vec<String> {
    let keys = names.iter().map(|name| keys::remote(name));
    keys.map(|key| key.text().to_owned()).collect()
}

fn of_database(database: &Held<Database>, clusters: &BTreeSet<ClusterUid>) -> Kinds {
    let known = &database.record;
    let places: Vec<_> = clusters
        .iter()
        .flat_map(|uid| [known.object_id, known.instance_object_id].map(|object| (*uid, object)))
        .collect();
    let desired = places
        .iter()
        .map(|(uid, object)| keys::desired(*uid, *object).text().to_owned());
    let outcomes = places
        .iter()
        .map(|(uid, object)| keys::outcome(*uid, *object).text().to_owned());
    let observed = places
        .iter()
        .map(|(uid, object)| keys::observed(*uid, *object).text().to_owned());
    vec![
        vec![database.key.clone()],
        vec![keys::membership(known.object_id).text().to_owned()],
        desired.collect(),
        outcomes.collect(),
        observed.collect(),
    ]
}

impl App {
    /// Exactly these records, at one revision.
    async fn exactly(&self, kinds: Kinds) -> Result<Lists, StoreError> {
        let counts: Vec<usize> = kinds.iter().map(Vec::len).collect();
        let keys = kinds.into_iter().flatten().collect();
        let mut found = self.store().get_all(keys).await?.value.into_iter();
        let lists = counts
            .into_iter()
            .map(|count| found.by_ref().take(count).flatten().collect());
        Ok(Lists(lists.collect::<Vec<_>>().into_iter()))
    }

    /// The remote clusters of these names that exist.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::app) async fn remotes_named(
        &self,
        names: &[String],
    ) -> Result<Vec<Held<Remote>>, StoreError> {
        let mut lists = self.exactly(vec![of_remotes(names)]).await?;
        lists.next(&keys::remotes())
    }

    /// The member of this name, `None` if there is none.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn member_view(&self, name: &str) -> Result<Option<MemberView>, AppError> {
        let holder = records::get(self.store().as_ref(), &keys::cluster_name(name)).await?;
        let Some(holder) = holder else {
            return Ok(None);
        };
        let clusters = BTreeSet::from([holder.record.cluster]);
        let mut lists = self.exactly(of_members(&clusters)).await?;
        let mut views = members(&mut lists)?.into_values();
        // It may have been removed since, and nobody is another by this name.
        Ok(views.find(|view| view.cluster.record.name == name))
    }

    /// The remote cluster of this name, `None` if there is none.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn remote_view(&self, name: &str) -> Result<Option<RemoteView>, AppError> {
        let names = [name.to_owned()];
        loop {
            let Some(known) = self.remotes_named(&names).await?.pop() else {
                return Ok(None);
            };
            let clusters = BTreeSet::from([known.record.cluster]);
            let mut kinds = of_members(&clusters);
            kinds.push(of_remotes(&names));
            let mut lists = self.exactly(kinds).await?;
            let members = members(&mut lists)?;
            let Some(remote) = lists.next(&keys::remotes())?.pop() else {
                return Ok(None);
            };
            if clusters.contains(&remote.record.cluster) {
                return Ok(Some(remote_view(remote, &members)));
            }
        }
    }

    /// The database of this name, `None` if there is none that somebody with this scope may see.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn database_view(
        &self,
        scope: &Scope,
        name: &str,
    ) -> Result<Option<DatabaseView>, AppError> {
        // Where its records lie is read first. If that has changed until they are read, another writer has made progress.
        loop {
            let key = keys::database(name);
            let Some(known) = records::get(self.store().as_ref(), &key).await? else {
                return Ok(None);
            };
            let participants = known.record.participants().into_iter();
            let names: Vec<_> = participants.map(|participant| participant.name).collect();
            let remotes = self.remotes_named(&names).await?;
            let clusters = remotes.iter().map(|held| held.record.cluster).collect();
            let mut kinds = of_members(&clusters);
            kinds.push(of_remotes(&names));
            kinds.extend(of_database(&known, &clusters));
            let view = databases(&mut self.exactly(kinds).await?, scope)?.pop();
            let is_whole = |view: &DatabaseView| {
                let mut remotes = view
                    .participants
                    .iter()
                    .filter_map(|one| one.remote.as_ref());
                view.database.modified == known.modified
                    && remotes.all(|view| clusters.contains(&view.remote.record.cluster))
            };
            if view.as_ref().is_none_or(is_whole) {
                return Ok(view);
            }
        }
    }
}

#[cfg(test)]
mod tests;
