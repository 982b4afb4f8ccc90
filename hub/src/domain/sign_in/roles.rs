//! What groups may do: read from a file of the administrator's, and applied anew at each request.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::Person;
use crate::domain::access::grant::{Role, Scope};

/// Most entries of a file.
const MOST: usize = 10_000;

/// A role, and the projects that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// The projects.
    pub scope: Scope,
}

/// Which group gives which role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(Vec<(String, Grant)>);

/// A file that gives nobody anything, because it is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RolesError {
    /// It cannot be read as what it should be.
    #[error(
        "{0}; expected `roles:`, a list of entries with `group`, `role` (viewer, operator, admin) and perhaps `projects`"
    )]
    Unreadable(String),
    /// An entry is wrong.
    #[error("roles[{place}].{field}: found {found}, expected {expected}")]
    Entry {
        /// Its place, from 0 on.
        place: usize,
        /// The field.
        field: &'static str,
        /// What stands there.
        found: String,
        /// What may stand there.
        expected: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    roles: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    group: String,
    role: Role,
    #[serde(default)]
    projects: Option<BTreeSet<String>>,
}

impl Roles {
    /// Reads the file.
    ///
    /// # Errors
    /// [`RolesError`] for the first thing that is wrong: a file is taken as a whole or not at all.
    pub fn read(text: &str) -> Result<Self, RolesError> {
        let file: File =
            serde_saphyr::from_str(text).map_err(|e| RolesError::Unreadable(e.to_string()))?;
        if file.roles.len() > MOST {
            let found = file.roles.len();
            let why = format!("found {found} entries, expected at most {MOST}");
            return Err(RolesError::Unreadable(why));
        }
        let entries = file.roles.into_iter().enumerate();
        let entries = entries.map(|(place, entry)| entry.checked(place));
        entries.collect::<Result<_, _>>().map(Self)
    }

    /// What a person may do by its groups; nothing if no group of it is named.
    #[must_use]
    pub fn of(&self, person: &Person) -> Vec<Grant> {
        let mine = self
            .0
            .iter()
            .filter(|(group, _)| person.groups.contains(group));
        mine.map(|(_, grant)| grant.clone()).collect()
    }
}

impl Entry {
    fn checked(self, place: usize) -> Result<(String, Grant), RolesError> {
        let wrong = |field, found: String, expected| {
            Err(RolesError::Entry {
                place,
                field,
                found,
                expected,
            })
        };
        if self.group.trim().is_empty() {
            return wrong(
                "group",
                "nothing".to_owned(),
                "the name of a group, as the provider spells it",
            );
        }
        let scope = match self.projects {
            None => Scope::all(),
            Some(projects) if self.role == Role::Admin => {
                let found = format!("{projects:?} beside the role admin");
                return wrong(
                    "projects",
                    found,
                    "none for the role admin, which has all of them",
                );
            }
            Some(projects) if projects.is_empty() => {
                return wrong(
                    "projects",
                    "an empty list".to_owned(),
                    "the names of projects, or no such field for all of them",
                );
            }
            Some(projects) => Scope::only(projects),
        };
        Ok((
            self.group,
            Grant {
                role: self.role,
                scope,
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(groups: &[&str]) -> Person {
        Person {
            issuer: "https://idp".to_owned(),
            subject: "s".to_owned(),
            name: "Ann".to_owned(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
        }
    }

    const FILE: &str = "roles:\n- {group: platform, role: admin}\n- {group: shop, role: operator, projects: [shop]}\n- {group: shop, role: viewer}\n";

    #[test]
    fn a_person_has_what_each_of_its_groups_gives() {
        let roles = Roles::read(FILE).unwrap();
        let of = |groups: &[&str]| {
            let grants = roles.of(&person(groups)).into_iter();
            grants
                .map(|grant| (grant.role, grant.scope))
                .collect::<Vec<_>>()
        };
        let shop = Scope::only(BTreeSet::from(["shop".to_owned()]));
        assert_eq!(of(&["platform"]), [(Role::Admin, Scope::all())]);
        assert_eq!(
            of(&["shop", "x"]),
            [(Role::Operator, shop), (Role::Viewer, Scope::all())]
        );
        assert_eq!(
            of(&["Platform", "plat"]),
            [],
            "names are compared as they are"
        );
        assert_eq!(of(&[]), []);
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told_by_its_place() {
        for (text, told) in [
            ("", "expected `roles:`"),
            ("roles:\n- {group: a, role: root}\n", "expected `roles:`"),
            (
                "roles:\n- {group: a, role: viewer, project: x}\n",
                "expected `roles:`",
            ),
            (
                "roles:\n- {group: a, role: viewer}\n- {group: ' ', role: viewer}\n",
                "roles[1].group",
            ),
            (
                "roles:\n- {group: a, role: admin, projects: [x]}\n",
                "roles[0].projects",
            ),
            (
                "roles:\n- {group: a, role: viewer, projects: []}\n",
                "roles[0].projects",
            ),
        ] {
            let error = Roles::read(text).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn the_groups_that_were_found_are_named() {
        assert_eq!(person(&[]).groups_found(), "no groups at all");
        assert_eq!(person(&["a", "b"]).groups_found(), "the groups a, b");
        let many: Vec<String> = (0..23).map(|n| format!("g{n:02}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(person(&many).groups_found().ends_with("g19 and 3 more"));
    }
}
