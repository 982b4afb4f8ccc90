//! Which remote clusters the databases need on which members, so that one that changes is looked at alone.

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::ids::ClusterUid;

/// A remote cluster on a member.
type Need = (ClusterUid, String);

/// What one database needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OfDatabase {
    /// Remote clusters on members, with the namespace in which each is needed.
    pub(super) remotes: BTreeMap<Need, String>,
    /// It waits for something that may come without a change of its own.
    pub(super) waits: bool,
}

/// What the databases need that were planned so far.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    by_database: BTreeMap<String, OfDatabase>,
    /// By remote cluster: member → database → namespace.
    by_remote: BTreeMap<String, BTreeMap<ClusterUid, BTreeMap<String, String>>>,
}

impl Needs {
    /// Databases that need one of these remote clusters, and those that wait.
    pub(super) fn databases_with<'a>(
        &'a self,
        remotes: &'a BTreeSet<String>,
    ) -> impl Iterator<Item = &'a String> {
        let with = move |of: &OfDatabase| {
            of.waits || {
                let mut names = of.remotes.keys().map(|(_, name)| name);
                !remotes.is_empty() && names.any(|name| remotes.contains(name))
            }
        };
        let databases = self.by_database.iter();
        databases
            .filter(move |(_, of)| with(of))
            .map(|(name, _)| name)
    }

    /// Where a remote cluster is needed.
    pub(super) fn on<'a>(&'a self, remote: &'a str) -> impl Iterator<Item = Need> + 'a {
        let members = self.by_remote.get(remote).into_iter();
        members.flat_map(|on| on.keys().map(|cluster| (*cluster, remote.to_owned())))
    }

    /// The namespace in which a remote cluster is needed on a member; the last database decides.
    pub(super) fn namespace(&self, cluster: ClusterUid, remote: &str) -> Option<&str> {
        let databases = self.by_remote.get(remote)?.get(&cluster)?;
        databases
            .last_key_value()
            .map(|(_, namespace)| namespace.as_str())
    }

    /// Notes what a database needs now; tells what it began or ceased to need.
    pub(super) fn replace(&mut self, database: &str, now: OfDatabase) -> BTreeSet<Need> {
        let before = self.by_database.remove(database).unwrap_or_default();
        let mut changed = BTreeSet::new();
        for (need, namespace) in &now.remotes {
            if before.remotes.get(need) != Some(namespace) {
                let (cluster, remote) = need;
                let members = self.by_remote.entry(remote.clone()).or_default();
                let databases = members.entry(*cluster).or_default();
                databases.insert(database.to_owned(), namespace.clone());
                changed.insert(need.clone());
            }
        }
        for need in before.remotes.into_keys() {
            if !now.remotes.contains_key(&need) {
                self.forget(&need, database);
                changed.insert(need);
            }
        }
        if now != OfDatabase::default() {
            self.by_database.insert(database.to_owned(), now);
        }
        changed
    }

    fn forget(&mut self, (cluster, remote): &Need, database: &str) {
        let Some(members) = self.by_remote.get_mut(remote) else {
            return;
        };
        if let Some(databases) = members.get_mut(cluster) {
            databases.remove(database);
            if databases.is_empty() {
                members.remove(cluster);
            }
        }
        if members.is_empty() {
            self.by_remote.remove(remote);
        }
    }
}
