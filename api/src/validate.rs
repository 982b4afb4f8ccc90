//! The rules of the custom resources, written once: admission, reconcilers and the hub all call these functions.
//!
//! An empty list of errors means valid. What the schema already says (types, required fields) is not repeated, with one
//! exception: closed words are checked here, too, because they are open in Rust and the hub reads YAML that no API server saw.
//! [`warnings`] names fields that are accepted and have no effect.

mod active_active;
mod cluster;
mod database;
mod deletion;
mod entry;
pub mod memory;
mod quantity;
mod remote_cluster;
mod surroundings;
mod tags;
mod unknown;
mod warning;

use std::{borrow::Cow, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    active_active::{
        CONFIRM_REMOVAL, active_active_database, active_active_database_update, confirmed_removals,
        removed_participants,
    },
    cluster::{NODE_CONTAINER, cluster, cluster_update},
    database::{SPOKEN_VERSION, database, database_update},
    deletion::{
        CONFIRM_DELETION, OBJECT_ID, active_active_database_deletion, is_deletion_confirmed,
        remote_cluster_deletion,
    },
    entry::{EntryWay, GATEWAY, INGRESS_CLASS, ISTIO_SELECTOR, entry_host, entry_way},
    quantity::quantity_value,
    remote_cluster::{credentials_secret_name, remote_cluster},
    surroundings::{
        Neighbour, Place, Surroundings, active_active_database_among,
        active_active_database_among_warnings, database_among, secrets_named,
    },
    unknown::read_strictly,
    warning::{
        FieldEffect, Warning, active_active_database_warnings, cluster_warnings, database_warnings,
        field_effects, remote_cluster_warnings,
    },
};
use crate::identity::is_dns_name;

#[cfg(test)]
mod tests;

/// One broken rule: which field, what was found, what was expected, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct FieldError {
    /// Path of the field, such as `spec.participatingClusters[1].name`.
    pub field: String,
    /// What was found, as text.
    pub found: String,
    /// What was expected.
    pub expected: String,
    /// The next step.
    pub remedy: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: found {}, expected {}; {}",
            self.field, self.found, self.expected, self.remedy
        )
    }
}

/// Collects broken rules.
#[derive(Default)]
struct Check {
    errors: Vec<FieldError>,
}

// Tests ask which of the rules below has refused: the line that calls is the rule.
impl Check {
    #[cfg_attr(test, track_caller)]
    fn refuse(
        &mut self,
        field: impl Into<String>,
        found: impl fmt::Display,
        expected: &str,
        remedy: &str,
    ) {
        let error = FieldError {
            field: field.into(),
            found: found.to_string(),
            expected: expected.to_owned(),
            remedy: remedy.to_owned(),
        };
        #[cfg(test)]
        tests::refusals::saw(std::panic::Location::caller(), &error);
        self.errors.push(error);
    }

    /// A word that must be one of a list.
    #[cfg_attr(test, track_caller)]
    fn one_of(&mut self, field: impl Into<String>, found: Option<&str>, words: &[&str]) {
        if let Some(found) = found
            && !words.contains(&found)
        {
            self.refuse(
                field,
                quoted(found),
                &format!("one of {}", words.join(", ")),
                "use one of these words",
            );
        }
    }

    /// A number that must lie in a range.
    #[cfg_attr(test, track_caller)]
    fn within(&mut self, field: impl Into<String>, found: Option<i64>, low: i64, high: i64) {
        if let Some(found) = found
            && !(low..=high).contains(&found)
        {
            self.refuse(
                field,
                found,
                &format!("a number from {low} to {high}"),
                "use a number in this range",
            );
        }
    }

    #[cfg_attr(test, track_caller)]
    fn port(&mut self, field: impl Into<String>, found: Option<i64>) {
        self.within(field, found, 1, 65_535);
    }

    /// The name of an object of Kubernetes, such as a Secret.
    #[cfg_attr(test, track_caller)]
    fn object_name(&mut self, field: impl Into<String>, found: Option<&str>) {
        if let Some(found) = found
            && !is_dns_name(found, 253)
        {
            self.refuse(
                field,
                quoted(found),
                "a name of lower-case letters, digits, dashes and dots, at most 253 characters",
                "use the name of an existing object",
            );
        }
    }

    #[cfg_attr(test, track_caller)]
    fn namespace(&mut self, field: impl Into<String>, found: Option<&str>) {
        if let Some(found) = found
            && (!is_dns_name(found, 63) || found.contains('.'))
        {
            self.refuse(
                field,
                quoted(found),
                "a namespace: lower-case letters, digits and dashes, at most 63 characters",
                "use the name of an existing namespace",
            );
        }
    }

    /// A host name without scheme, port and path.
    #[cfg_attr(test, track_caller)]
    fn host(&mut self, field: impl Into<String>, found: &str) {
        if !is_dns_name(&found.to_ascii_lowercase(), 253) {
            self.refuse(
                field,
                quoted(found),
                "a host name such as api.eu-1.example.com",
                "remove scheme, port and path",
            );
        }
    }

    /// A suffix that turns a database's name into a host name: `.db.example.com` or `-db.example.com`.
    #[cfg_attr(test, track_caller)]
    fn database_suffix(&mut self, field: impl Into<String>, found: &str) {
        let joined = format!("x{}", found.to_ascii_lowercase());
        if !found.starts_with(['.', '-']) || !is_dns_name(&joined, 190) {
            self.refuse(
                field,
                quoted(found),
                "a suffix such as .db.eu-1.example.com, beginning with a dot or a dash, at most 189 characters",
                "write the part of the host name that follows the database's name",
            );
        }
    }

    /// A name that becomes the name of Services: a DNS label of RFC 1035.
    #[cfg_attr(test, track_caller)]
    fn service_like_name(&mut self, found: Option<&str>, longest: usize, what: &str) {
        let found = found.unwrap_or_default();
        let fits = is_dns_name(found, longest)
            && !found.contains('.')
            && found.starts_with(|first: char| first.is_ascii_lowercase());
        if !fits {
            self.refuse(
                "metadata.name",
                quoted(found),
                &format!(
                    "lower-case letters, digits and dashes, beginning with a letter, ending with a letter or digit, \
                     at most {longest} characters"
                ),
                &format!("create the {what} under such a name"),
            );
        }
    }

    /// A field that keeps the value it was first given.
    #[cfg_attr(test, track_caller)]
    fn unchanged(
        &mut self,
        field: impl Into<String>,
        old: Option<&str>,
        new: Option<&str>,
        remedy: &str,
    ) {
        if let Some(old) = old
            && new != Some(old)
        {
            let found = new.map_or(Cow::Borrowed("nothing"), |new| quoted(new).into());
            self.refuse(field, found, &format!("{} as before", quoted(old)), remedy);
        }
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}
