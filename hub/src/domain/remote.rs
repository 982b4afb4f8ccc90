//! Remote clusters (RERC): one for each REC that any member reported, under a name that never changes.

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::ids::{ClusterUid, ObjectId};
use serde::{Deserialize, Serialize};

use super::cluster::Rec;

/// A REC as the other members know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remote {
    /// The hub's identity of the RERC object.
    pub object_id: ObjectId,
    /// Name of the RERC; given at first sight and kept.
    pub name: String,
    /// Cluster in which the REC lives.
    pub cluster: ClusterUid,
    /// Namespace of the REC.
    pub namespace: String,
    /// Name of the REC.
    pub rec: String,
}

/// Names for RECs that have none yet: the cluster's name for its only REC, otherwise `<cluster>-<rec>`; where that is
/// taken, `<cluster>-<namespace>-<rec>`.
#[must_use]
pub fn name_new(
    cluster_name: &str,
    cluster: ClusterUid,
    recs: &[Rec],
    known: &[Remote],
) -> BTreeMap<(String, String), String> {
    let mut taken: BTreeSet<String> = known.iter().map(|remote| remote.name.clone()).collect();
    let here: BTreeSet<_> = known
        .iter()
        .filter(|remote| remote.cluster == cluster)
        .map(|remote| (remote.namespace.as_str(), remote.rec.as_str()))
        .collect();
    let fresh: Vec<_> = recs
        .iter()
        .filter(|rec| !here.contains(&(rec.namespace.as_str(), rec.name.as_str())))
        .collect();
    let only = here.is_empty() && fresh.len() == 1;
    let mut names = BTreeMap::new();
    for rec in fresh {
        let long = format!("{cluster_name}-{}", rec.name);
        let longest = format!("{cluster_name}-{}-{}", rec.namespace, rec.name);
        let candidates = only
            .then(|| cluster_name.to_owned())
            .into_iter()
            .chain([long, longest]);
        // The longest form can only collide with a name that spells the same parts; then a number tells them apart.
        let numbered =
            (2..).map(|n: u32| format!("{cluster_name}-{}-{}-{n}", rec.namespace, rec.name));
        if let Some(name) = candidates
            .chain(numbered)
            .find(|name| !taken.contains(name))
        {
            taken.insert(name.clone());
            names.insert((rec.namespace.clone(), rec.name.clone()), name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e11";
    const B: &str = "0d9a3c1f-3b5e-4a3e-9d57-6f0c2a521e11";

    fn rec(namespace: &str, name: &str) -> Rec {
        Rec {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..Rec::default()
        }
    }

    fn remote(name: &str, cluster: &str, namespace: &str, rec: &str) -> Remote {
        Remote {
            object_id: A.parse().unwrap(),
            name: name.to_owned(),
            cluster: cluster.parse().unwrap(),
            namespace: namespace.to_owned(),
            rec: rec.to_owned(),
        }
    }

    fn names(recs: &[Rec], known: &[Remote]) -> Vec<String> {
        name_new("lab-1", A.parse().unwrap(), recs, known)
            .into_values()
            .collect()
    }

    #[test]
    fn the_only_rec_is_called_as_its_cluster() {
        assert_eq!(names(&[rec("db", "rec")], &[]), ["lab-1"]);
    }

    #[test]
    fn several_recs_carry_their_own_names_too() {
        assert_eq!(
            names(&[rec("db", "one"), rec("db", "two")], &[]),
            ["lab-1-one", "lab-1-two"]
        );
    }

    #[test]
    fn a_known_rec_keeps_its_name_when_a_second_appears() {
        let known = [remote("lab-1", A, "db", "one")];
        assert_eq!(
            names(&[rec("db", "one"), rec("db", "two")], &known),
            ["lab-1-two"]
        );
        assert!(names(&[rec("db", "one")], &known).is_empty());
    }

    #[test]
    fn a_name_that_another_cluster_has_is_not_given_again() {
        let known = [
            remote("lab-1", B, "db", "x"),
            remote("lab-1-rec", B, "db", "y"),
        ];
        assert_eq!(names(&[rec("db", "rec")], &known), ["lab-1-db-rec"]);
        assert_eq!(
            names(&[rec("a", "rec"), rec("b", "rec")], &known),
            ["lab-1-a-rec", "lab-1-b-rec"]
        );
    }
}
