//! Who a person is, as an OpenID provider says it, and what its groups may do here.

pub mod id_token;
pub mod roles;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A person, as the provider named it when the session began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// The provider. Only together with the subject it says who it is (OpenID Connect Core, section 2).
    pub issuer: String,
    /// The provider's own name of the person, which never becomes another's.
    pub subject: String,
    /// For people.
    pub name: String,
    /// Groups that the provider counts it to.
    #[serde(default)]
    pub groups: BTreeSet<String>,
}

impl Person {
    /// The identity in one text, for the audit log: a subject without its issuer is nobody.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{} {}", self.issuer, self.subject)
    }

    /// The groups as a sentence names them; so many of them that it can be read.
    #[must_use]
    pub fn groups_found(&self) -> String {
        const SHOWN: usize = 20;
        if self.groups.is_empty() {
            return "no groups at all".to_owned();
        }
        let shown: Vec<_> = self.groups.iter().take(SHOWN).cloned().collect();
        let rest = self.groups.len().saturating_sub(SHOWN);
        let rest = match rest {
            0 => String::new(),
            rest => format!(" and {rest} more"),
        };
        format!("the groups {}{rest}", shown.join(", "))
    }
}
