//! Versions of databases: what is asked for, what the nodes of a cluster bring, and which of these is meant.
//!
//! A version that a person writes names the least that is asked for: the lowest bundled series that is not below it is used.
//! So the words of the public product (`7.2`, `7.4`, `8.0`, `8.2`) are understood as they stand, beside the series themselves.
//!
//! Source of the words `major` and `latest`: the product's default of new databases, where `latest` is the newest version of all
//! and `major` the first of the newest major number (6.0 where 6.2 is the newest).

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::crds::{
    cluster::{BundledDatabaseVersion, FeatureSupport, UpgradePolicy},
    topology::{DatabaseTopology, MemberReport},
};

/// A line of releases that read and write the same data: `8.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A text is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no version, such as 8.1 or 8.1.4")]
pub struct NoVersion(pub String);

impl FromStr for Series {
    type Err = NoVersion;

    /// Reads the first two numbers; those behind them say nothing about data or commands.
    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let number = |part: &str| part.parse::<u32>().ok();
        let numbers: Option<Vec<u32>> = text.split('.').map(number).collect();
        match numbers.as_deref() {
            Some([major, minor, ..]) => Ok(Self {
                major: *major,
                minor: *minor,
            }),
            Some(_) | None => Err(NoVersion(text.to_owned())),
        }
    }
}

/// A server that a node brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundled {
    /// Its full version, `8.1.1`.
    pub version: String,
    /// Active-Active databases run with it.
    pub active_active: bool,
}

/// The servers of a cluster, in the order of their series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle(BTreeMap<Series, Bundled>);

/// What is asked for is above everything that there is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "found {asked}, expected one that the nodes of the cluster bring ({brings}) or a lower one; raise the cluster first, or \
         choose one of these"
)]
pub struct TooNew {
    /// What is asked for.
    pub asked: String,
    /// What there is.
    pub brings: String,
}

/// What a spec says of its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: the cluster's policy chooses once, when the database is made.
    Nothing,
    /// The newest of all, whenever there is a newer one.
    Latest,
    /// The newest major version, whenever there is a newer one.
    Major,
    /// At least this one.
    Least(Series),
}

impl Asked {
    /// Reads the field, which validation has accepted; what is no version asks for nothing.
    #[must_use]
    pub fn of(field: Option<&str>) -> Self {
        match field {
            Some("latest") => Self::Latest,
            Some("major") => Self::Major,
            Some(text) => text.parse().map_or(Self::Nothing, Self::Least),
            None => Self::Nothing,
        }
    }
}

impl Bundle {
    /// The servers that every one of `nodes` brings: a copy must be able to go to any of them. Of one series the lowest version is
    /// told, and what all support.
    #[must_use]
    pub fn of_all<'a>(nodes: impl IntoIterator<Item = &'a [Bundled]>) -> Self {
        let mut nodes = nodes.into_iter();
        let mut all = nodes.next().map(Self::of).unwrap_or_default();
        for node in nodes {
            let other = Self::of(node);
            all.0.retain(|series, own| {
                let Some(told) = other.0.get(series) else {
                    return false;
                };
                own.active_active &= told.active_active;
                if patch(&told.version) < patch(&own.version) {
                    own.version.clone_from(&told.version);
                }
                true
            });
        }
        all
    }

    /// The servers of one node.
    #[must_use]
    pub fn of(node: &[Bundled]) -> Self {
        let known = node.iter().filter_map(|one| {
            let series = one.version.parse().ok()?;
            Some((series, one.clone()))
        });
        Self(known.collect())
    }

    /// What the status of a cluster says.
    #[must_use]
    pub fn shown(status: &[BundledDatabaseVersion]) -> Self {
        let bundled = status.iter().map(|one| Bundled {
            version: one.version.clone(),
            active_active: one
                .feature_support
                .as_ref()
                .is_some_and(|support| support.active_active),
        });
        Self::of(&bundled.collect::<Vec<_>>())
    }

    /// For the status of a cluster: the versions as `redisVersion` names them.
    #[must_use]
    pub fn show(&self) -> Vec<BundledDatabaseVersion> {
        let one = |(series, bundled): (&Series, &Bundled)| BundledDatabaseVersion {
            db_type: "redis".to_owned(),
            version: series.to_string(),
            major: Some(self.is_major(*series)),
            feature_support: Some(FeatureSupport {
                active_active: bundled.active_active,
                flex: false,
            }),
        };
        self.0.iter().map(one).collect()
    }

    /// Nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Without what no Active-Active database can run with.
    #[must_use]
    pub fn for_active_active(mut self) -> Self {
        self.0.retain(|_, bundled| bundled.active_active);
        self
    }

    /// The lowest series that is not below `least`.
    #[must_use]
    pub fn at_least(&self, least: Series) -> Option<Series> {
        self.0.range(least..).next().map(|(series, _)| *series)
    }

    /// The first of its major number.
    fn is_major(&self, series: Series) -> bool {
        let first = Series {
            major: series.major,
            minor: 0,
        };
        self.at_least(first) == Some(series)
    }

    /// The series that a database is to run. One that runs keeps what it has (`kept`), unless more is asked for; a new one that
    /// asks for nothing gets what `policy` says, and the lowest where that says nothing: the one that has been in use longest.
    /// `None`: nothing is known of what there is, and nothing is asked for.
    ///
    /// # Errors
    /// [`TooNew`]; also while nothing is known and something is asked for.
    pub fn choose(
        &self,
        asked: Asked,
        policy: Option<&UpgradePolicy>,
        kept: Option<Series>,
    ) -> Result<Option<Series>, TooNew> {
        let wanted = match asked {
            Asked::Latest => self.latest(),
            Asked::Major => self.major(),
            Asked::Least(least) => match self.at_least(least) {
                None if kept.is_none_or(|kept| kept < least) => {
                    return Err(self.too_new(&least.to_string()));
                }
                found => found,
            },
            Asked::Nothing if kept.is_some() => None,
            Asked::Nothing => match policy {
                Some(UpgradePolicy::Latest) => self.latest(),
                Some(UpgradePolicy::Major) => self.major(),
                Some(UpgradePolicy::Other(_)) | None => self.0.keys().next().copied(),
            },
        };
        Ok(wanted.max(kept))
    }

    fn too_new(&self, asked: &str) -> TooNew {
        TooNew {
            asked: asked.to_owned(),
            brings: self.to_string(),
        }
    }

    fn latest(&self) -> Option<Series> {
        self.0.keys().next_back().copied()
    }

    fn major(&self) -> Option<Series> {
        let newest = self.latest()?;
        self.at_least(Series { minor: 0, ..newest })
    }
}

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("not known yet");
        }
        let all: Vec<String> = self.0.keys().map(ToString::to_string).collect();
        f.write_str(&all.join(", "))
    }
}

/// The versions of Valkey that really serve the database, that of the primary first, with commas between where copies differ. `None`:
/// nobody has told.
#[must_use]
pub fn running(topology: &DatabaseTopology) -> Option<String> {
    let mut versions: Vec<&str> = Vec::new();
    for shard in &topology.spec.shards {
        for pod in shard.primary.iter().chain(&shard.replicas) {
            let told = reported(topology, pod);
            versions.extend(told.filter(|told| !versions.contains(told)));
        }
    }
    (!versions.is_empty()).then(|| versions.join(", "))
}

/// The version of Valkey by which the pod said last that it serves its copy.
#[must_use]
pub fn reported<'a>(topology: &'a DatabaseTopology, pod: &str) -> Option<&'a str> {
    let status = topology.status.as_ref()?;
    let uid = topology.metadata.uid.as_deref();
    let own = |member: &&MemberReport| {
        member.node == pod && uid.is_none_or(|uid| uid == member.topology_uid)
    };
    let report = status.members.iter().find(own)?;
    report.shards.first()?.version.as_deref()
}

fn patch(version: &str) -> Vec<u32> {
    version
        .split('.')
        .map_while(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(text: &str) -> Series {
        text.parse().unwrap()
    }

    fn node(versions: &[&str]) -> Vec<Bundled> {
        let one = |version: &&str| Bundled {
            version: (*version).to_owned(),
            active_active: *version != "9.9.9",
        };
        versions.iter().map(one).collect()
    }

    fn bundle(versions: &[&str]) -> Bundle {
        Bundle::of(&node(versions))
    }

    #[test]
    fn a_version_is_two_numbers_and_more_may_follow() {
        assert_eq!(series("8.1"), Series { major: 8, minor: 1 });
        assert_eq!(series("8.1.4"), series("8.1"));
        assert!(series("8.10") > series("8.9") && series("10.0") > series("9.1"));
        for wrong in ["", "8", "8.x", "v8.1", "8.1.x", "8..1", "-8.1"] {
            assert!(wrong.parse::<Series>().is_err(), "{wrong}");
        }
    }

    /// Versions by policies, for databases that are new.
    #[test]
    fn each_word_names_the_lowest_series_that_is_enough() {
        let two = bundle(&["8.1.1", "9.1.2"]);
        let three = bundle(&["8.1.1", "9.0.3", "9.1.2"]);
        let (major, latest) = (Some(&UpgradePolicy::Major), Some(&UpgradePolicy::Latest));
        let cases = [
            (&two, Some("7.2"), None, Some("8.1")),
            (&two, Some("7.4"), latest, Some("8.1")),
            (&two, Some("8.0"), None, Some("8.1")),
            (&two, Some("8.1"), None, Some("8.1")),
            (&two, Some("8.1.9"), None, Some("8.1")),
            (&two, Some("8.2"), None, Some("9.1")),
            (&two, Some("9.1"), major, Some("9.1")),
            (&two, Some("9.2"), None, None),
            (&two, Some("latest"), None, Some("9.1")),
            (&two, Some("major"), None, Some("9.1")),
            (&three, Some("latest"), major, Some("9.1")),
            (&three, Some("major"), latest, Some("9.0")),
            (&two, None, None, Some("8.1")),
            (&three, None, major, Some("9.0")),
            (&three, None, latest, Some("9.1")),
        ];
        for (bundle, field, policy, expected) in cases {
            let chosen = bundle.choose(Asked::of(field), policy, None);
            let chosen = chosen.map(|chosen| chosen.map(|series| series.to_string()));
            match expected {
                Some(expected) => assert_eq!(chosen, Ok(Some(expected.to_owned())), "{field:?}"),
                None => {
                    let words = chosen.unwrap_err().to_string();
                    assert!(
                        words.contains("8.1, 9.1") && words.contains("9.2"),
                        "{words}"
                    );
                }
            }
        }
    }

    /// What runs is never moved by itself, nor back.
    #[test]
    fn a_database_that_runs_keeps_its_series_unless_more_is_asked_for() {
        let bundle = bundle(&["8.1.1", "9.0.3", "9.1.2"]);
        let latest = Some(&UpgradePolicy::Latest);
        let cases = [
            (None, latest, "8.1", "8.1"),
            (None, Some(&UpgradePolicy::Major), "8.1", "8.1"),
            (Some("7.2"), latest, "8.1", "8.1"),
            (Some("7.2"), None, "9.0", "9.0"),
            (Some("8.1"), None, "9.1", "9.1"),
            (Some("8.2"), None, "8.1", "9.0"),
            (Some("latest"), None, "8.1", "9.1"),
            (Some("major"), None, "8.1", "9.0"),
            (Some("major"), None, "9.1", "9.1"),
            // An older image than before: what runs stays what it is.
            (Some("9.2"), None, "9.3", "9.3"),
            (None, None, "9.3", "9.3"),
        ];
        for (field, policy, kept, expected) in cases {
            let chosen = bundle.choose(Asked::of(field), policy, Some(series(kept)));
            assert_eq!(chosen, Ok(Some(series(expected))), "{field:?} {kept}");
        }
        assert!(
            bundle
                .choose(Asked::of(Some("9.2")), None, Some(series("9.1")))
                .is_err()
        );
    }

    #[test]
    fn while_nothing_is_known_only_who_asks_for_something_is_refused() {
        let none = Bundle::default();
        assert_eq!(none.choose(Asked::Nothing, None, None), Ok(None));
        assert_eq!(none.choose(Asked::Latest, None, None), Ok(None));
        let words = none.choose(Asked::of(Some("7.2")), None, None).unwrap_err();
        assert!(words.to_string().contains("not known yet"), "{words}");
    }

    #[test]
    fn a_cluster_brings_what_all_of_its_nodes_bring() {
        let (old, new) = (
            node(&["8.1.1", "9.1.2"]),
            node(&["8.1.4", "9.1.1", "9.9.9"]),
        );
        let both = Bundle::of_all([old.as_slice(), &new]);
        let versions: Vec<&str> = both.0.values().map(|one| one.version.as_str()).collect();
        assert_eq!(versions, ["8.1.1", "9.1.1"]);
        assert_eq!(Bundle::shown(&both.show()).to_string(), "8.1, 9.1");
        let shown = Bundle::of(&new).show();
        let told = |n: usize| {
            let support = shown[n].feature_support.as_ref().unwrap();
            (
                shown[n].version.as_str(),
                shown[n].major,
                support.active_active,
            )
        };
        assert_eq!(told(0), ("8.1", Some(true), true));
        assert_eq!(told(1), ("9.1", Some(true), true));
        assert_eq!(told(2), ("9.9", Some(false), false));
        assert_eq!(Bundle::of(&new).for_active_active().to_string(), "8.1, 9.1");
        assert!(Bundle::of_all([]).is_empty());
    }
}
