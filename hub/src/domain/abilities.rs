//! What an agent can do, as its Hello says: nothing is told to it that it would not understand (link protocol, "Version skew").

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What the name of a kind is preceded by among the features of an agent.
const KIND: &str = "kind/";
/// Most features that are read. Those of later releases are ignored anyway.
const MOST: usize = 256;

/// The kinds that an agent can apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abilities(BTreeSet<String>);

impl Abilities {
    /// Of what an agent lists. What it does not list it cannot do.
    #[must_use]
    pub fn of(features: &[String]) -> Self {
        let features = features.iter().take(MOST);
        let kinds = features.filter_map(|feature| feature.strip_prefix(KIND));
        Self(kinds.map(str::to_owned).collect())
    }

    /// Whether the agent can apply objects of this kind.
    #[must_use]
    pub fn applies(&self, kind: &str) -> bool {
        self.0.contains(kind)
    }

    /// Why an agent of this version is too old for a hub that tells of these kinds; `None` if it is not.
    #[must_use]
    pub fn lacking(&self, kinds: &[&str], version: &str) -> Option<String> {
        let lacking: Vec<_> = kinds
            .iter()
            .filter(|kind| !self.applies(kind))
            .copied()
            .collect();
        if lacking.is_empty() {
            return None;
        }
        Some(format!(
            "its agent {version} cannot apply {}, which it is therefore not told of: upgrade the agent; everything else goes on",
            lacking.join(", ")
        ))
    }
}

/// Why a member is not told everything, or not let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TooOld {
    /// For people, with the next step.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_can_do_what_it_lists_and_nothing_else() {
        let listed = ["kind/A", "kind/B", "zstd", "kind/"].map(str::to_owned);
        let able = Abilities::of(&listed);
        assert!(able.applies("A") && able.applies("B"));
        assert!(!able.applies("C") && !able.applies("zstd") && !able.applies("a"));
        assert_eq!(able.lacking(&["A", "B"], "1"), None);
        let why = able.lacking(&["A", "C", "D"], "0.9").unwrap();
        assert!(
            why.contains("agent 0.9 cannot apply C, D") && why.contains("upgrade the agent"),
            "{why}"
        );
        assert!(Abilities::of(&[]).lacking(&["A"], "1").is_some());
    }
}
