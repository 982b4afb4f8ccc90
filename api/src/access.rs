//! Who may do what in a database: access lists in the words of Valkey, restricted to what a person may ask for, and the form in
//! which users travel from the agent to the nodes. Pure; both ends check.

mod commands;

use std::fmt;

use serde::{Deserialize, Serialize};

use self::commands::{ADMINISTRATIVE, ORDINARY};

#[cfg(test)]
mod tests;

/// What ends every access list: nobody but the node itself administers a shard.
const NEVER: &str = "-@admin -migrate -script|debug -client|import-source";

/// What ended access lists in releases that left [`OPERATOR`] to the module, which not every shard has loaded.
const NEVER_BEFORE: &str = "-@admin";

/// Commands outside of the category `admin` that are the operator's all the same.
pub const OPERATOR: &[&str] = &["client|import-source", "migrate", "script|debug"];

/// What every access list of a person's own making is preceded by: nothing.
const NOTHING: &str = "resetkeys resetchannels -@all";

/// The access lists that exist without anybody writing them: name, and rules as Valkey reads them.
const BUILT_IN: &[(&str, &str)] = &[
    (
        "Full Access",
        "~* &* +@all -@admin +slowlog|get +slowlog|len +latency|doctor +latency|graph +latency|histogram +latency|history \
         +latency|latest +client|list -migrate -script|debug -client|import-source",
    ),
    (
        "Not Dangerous",
        "~* &* +@all -@dangerous -@admin -migrate -script|debug -client|import-source",
    ),
    ("Read-Only", "~* resetchannels -@all +@read -@admin"),
];

/// Those of [`BUILT_IN`] whose text was another in earlier releases: the text then, and the place there.
const BEFORE: &[(&str, usize)] = &[
    ("~* &* +@all -@admin +slowlog +latency +client|list", 0),
    ("~* &* +@all -@dangerous -@admin", 1),
];

/// Rules of the default user: everything that is no administration.
pub const DEFAULT_USER_RULES: &str = BUILT_IN[0].1;

const CATEGORIES: &[&str] = &[
    "all",
    "bitmap",
    "blocking",
    "connection",
    "dangerous",
    "fast",
    "geo",
    "hash",
    "hyperloglog",
    "keyspace",
    "list",
    "pubsub",
    "read",
    "scripting",
    "set",
    "slow",
    "sortedset",
    "stream",
    "string",
    "transaction",
    "write",
];

/// Containers of which hardly a subcommand is an ordinary one: these are named one by one.
const ADMINISTRATIVE_CONTAINERS: &[&str] = &[
    "acl",
    "cluster",
    "commandlog",
    "config",
    "latency",
    "module",
    "slowlog",
];

/// Longest name of a user, bytes.
const LONGEST_USER: usize = 128;

/// Longest text of an access list, bytes.
const LONGEST_RULES: usize = 16 << 10;

/// The rules of a user, as Valkey reads them after the password: checked, and without administration at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rules(String);

/// A word of an access list that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found}, expected {expected}; {remedy}")]
pub struct RuleError {
    /// The word.
    pub found: String,
    /// What may stand there.
    pub expected: &'static str,
    /// The next step.
    pub remedy: &'static str,
}

fn error(found: &str, expected: &'static str, remedy: &'static str) -> RuleError {
    RuleError {
        found: format!("`{found}`"),
        expected,
        remedy,
    }
}

impl Rules {
    /// The access list that everybody knows by this name: `Full Access`, `Not Dangerous` or `Read-Only`.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        let found = BUILT_IN.iter().find(|(known, _)| *known == name);
        found.map(|(_, rules)| Self((*rules).to_owned()))
    }

    /// Names of the access lists that exist without anybody writing them.
    pub fn built_in_names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// Reads the text of an access list. It begins with nothing allowed.
    ///
    /// # Errors
    /// [`RuleError`] for the first word that is no rule about categories, commands, keys or channels, or that allows
    /// administration.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        if text.len() > LONGEST_RULES {
            return Err(RuleError {
                found: format!("{} bytes", text.len()),
                expected: "at most 16384 bytes",
                remedy: "use categories and patterns instead of long lists",
            });
        }
        let words: Vec<String> = text
            .split_ascii_whitespace()
            .map(word)
            .collect::<Result<_, _>>()?;
        if words.is_empty() {
            return Err(error(
                "",
                "rules such as `+@read ~cache:*`",
                "write what is allowed",
            ));
        }
        Ok(Self(format!("{NOTHING} {} {NEVER}", words.join(" "))))
    }

    /// As Valkey reads them.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads rules that [`Self::built_in`] or [`Self::parse`] made, on the other side of a border, in this release or an
    /// earlier one.
    ///
    /// # Errors
    /// [`RuleError`] for what neither of them makes.
    pub fn read(text: &str) -> Result<Self, RuleError> {
        if BUILT_IN.iter().any(|(_, rules)| *rules == text) {
            return Ok(Self(text.to_owned()));
        }
        if let Some((_, place)) = BEFORE.iter().find(|(before, _)| *before == text) {
            return Ok(Self(BUILT_IN[*place].1.to_owned()));
        }
        let inner = text.strip_prefix(NOTHING).and_then(|rest| {
            let end = rest.strip_suffix(NEVER);
            end.or_else(|| rest.strip_suffix(NEVER_BEFORE))
        });
        inner.map_or_else(
            || {
                Err(error(
                    text,
                    "rules that allow no administration",
                    "let the agent write them",
                ))
            },
            Self::parse,
        )
    }
}

/// One word of an access list, as Valkey reads it.
fn word(word: &str) -> Result<String, RuleError> {
    if !word.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(error(
            word,
            "printable characters",
            "use ASCII only; `?` stands for any character of a pattern",
        ));
    }
    let plain = || Ok(word.to_owned());
    match word {
        "allkeys" | "allchannels" | "resetkeys" | "resetchannels" | "allcommands"
        | "nocommands" => return plain(),
        _ => {}
    }
    let pattern = word
        .strip_prefix('~')
        .or_else(|| word.strip_prefix('&'))
        .or_else(|| word.strip_prefix("%R~"))
        .or_else(|| word.strip_prefix("%W~"))
        .or_else(|| word.strip_prefix("%RW~"));
    if let Some(pattern) = pattern {
        return if pattern.is_empty() {
            Err(error(
                word,
                "a pattern behind it",
                "`~*` stands for every key",
            ))
        } else {
            plain()
        };
    }
    let (allows, name) = match (word.strip_prefix('+'), word.strip_prefix('-')) {
        (Some(name), _) => (true, name),
        (_, Some(name)) => (false, name),
        (None, None) => {
            return Err(error(
                word,
                "a rule about commands (+get, -@write), keys (~a:*) or channels (&a:*)",
                "passwords, `on`, `off`, `nopass`, `reset` and selectors are not part of an access list: remove the word",
            ));
        }
    };
    let name = name.to_ascii_lowercase();
    check(word, allows, &name)?;
    Ok(format!("{}{name}", if allows { '+' } else { '-' }))
}

/// Whether `name` may be allowed or taken away.
fn check(word: &str, allows: bool, name: &str) -> Result<(), RuleError> {
    if let Some(category) = name.strip_prefix('@') {
        return match category {
            "admin" if allows => Err(administrative(word)),
            "admin" => Ok(()),
            known if CATEGORIES.contains(&known) => Ok(()),
            _ => Err(error(
                word,
                "a category of Valkey, such as @read",
                "see ACL CAT for the categories",
            )),
        };
    }
    let listed = |list: &str| list.split_ascii_whitespace().any(|known| known == name);
    let container = ADMINISTRATIVE_CONTAINERS.contains(&name);
    if (listed(ADMINISTRATIVE) || container) && allows {
        return Err(administrative(word));
    }
    if listed(ORDINARY) || listed(ADMINISTRATIVE) {
        return Ok(());
    }
    Err(error(
        word,
        "a command of Valkey 8.1",
        "correct or remove the word; commands of modules do not exist here",
    ))
}

fn administrative(word: &str) -> RuleError {
    error(
        word,
        "no administrative command",
        "the cluster administers its databases itself: remove the word",
    )
}

/// A user of a database besides the default one, as the agent tells the nodes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct User {
    /// Name to log in with.
    pub name: String,
    /// SHA-256 of each of its passwords in lower-case hexadecimal; never empty.
    pub passwords: Vec<String>,
    /// What [`Rules`] says.
    pub rules: String,
}

/// Why something is no user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// The text is no list of users.
    #[error("the list of users is unreadable: {0}")]
    Unreadable(String),
    /// The name cannot be used.
    #[error("user {0}")]
    Name(#[from] NameError),
    /// A password is none.
    #[error("user `{0}`: expected at least one SHA-256 in lower-case hexadecimal as its password")]
    Password(String),
    /// The rules allow too much.
    #[error("user `{user}`: {source}")]
    Rules {
        /// Who.
        user: String,
        /// Why.
        source: RuleError,
    },
}

/// A name that no user can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found the name `{found}`, expected {expected}; choose another")]
pub struct NameError {
    found: String,
    expected: &'static str,
}

/// Checks the name of a user.
///
/// # Errors
/// [`NameError`] for names that the access lists cannot hold or that belong to the cluster.
pub fn check_user_name(name: &str) -> Result<(), NameError> {
    let refuse = |expected| {
        Err(NameError {
            found: name.chars().filter(|c| !c.is_control()).take(64).collect(),
            expected,
        })
    };
    if name.is_empty() || name.len() > LONGEST_USER || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return refuse("1 to 128 printable ASCII characters without spaces");
    }
    if name.contains(['"', '\'', '#']) {
        return refuse("a name without quotes and `#`");
    }
    if name == "default" || name.starts_with("meridian-") {
        return refuse("a name other than `default` and those that begin with `meridian-`");
    }
    Ok(())
}

impl User {
    fn check(&self) -> Result<(), UserError> {
        check_user_name(&self.name)?;
        let is_hash = |text: &String| {
            text.len() == 64
                && text
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        if self.passwords.is_empty() || !self.passwords.iter().all(is_hash) {
            return Err(UserError::Password(self.name.clone()));
        }
        Rules::read(&self.rules).map_err(|source| UserError::Rules {
            user: self.name.clone(),
            source,
        })?;
        Ok(())
    }
}

/// The users of one database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users(pub Vec<User>);

impl Users {
    /// Reads what [`fmt::Display`] wrote; checks everything again.
    ///
    /// # Errors
    /// [`UserError`] for the first thing that is not as the agent writes it.
    pub fn read(text: &str) -> Result<Self, UserError> {
        let users: Self =
            serde_json::from_str(text).map_err(|e| UserError::Unreadable(e.to_string()))?;
        users.0.iter().try_for_each(User::check)?;
        Ok(users)
    }
}

impl fmt::Display for Users {
    /// One line of JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

/// The value of a database's own key in the users Secret that says that it has no default user.
pub const NO_DEFAULT_USER: &str = "off";

/// What the users Secret says of one database, each value as it stands there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Of the default user: the SHA-256 of its password in lower-case hexadecimal, nothing for no password, or
    /// [`NO_DEFAULT_USER`]. Key: the database's name.
    pub login: String,
    /// Other users, as [`Users`] writes them; nothing for none. Key: [`Entry::users_key`].
    pub users: String,
    /// Certificates that clients may show, or whose issuers they are, in PEM; nothing if none is asked for.
    /// Key: [`Entry::certificates_key`].
    pub certificates: String,
}

impl Entry {
    /// The key of the other users. A dot is in no database's name.
    #[must_use]
    pub fn users_key(database: &str) -> String {
        format!("{database}.acl")
    }

    /// The key of the certificates of clients.
    #[must_use]
    pub fn certificates_key(database: &str) -> String {
        format!("{database}.clients")
    }

    /// Everything in one text, of which agent and nodes take the same hash, so that the agent knows what a shard has taken over.
    /// Nodes read each value without the space at its ends, so that counts for nothing.
    #[must_use]
    pub fn text(&self) -> String {
        [&self.login, &self.users, &self.certificates]
            .map(|value| value.trim())
            .join("\n")
    }
}
