//! What the users Secret says: who may log in to which database. Pure.
//!
//! The agent writes it and has checked it; whatever is not as the agent writes it is not used, so that a mistake there never
//! opens a database.

use std::collections::BTreeMap;

use meridian_api::access::{Entry, NO_DEFAULT_USER, Users};
use tracing::warn;

use crate::desired::{Access, Password};
use crate::secret::{is_sha256_hex, sha256_hex};

/// Reads the keys and values of the Secret. A database without a usable key of its own is not in the result: nothing is known of it.
pub(super) fn read(secret: &BTreeMap<String, String>) -> BTreeMap<String, Access> {
    let databases = secret.iter().filter(|(key, _)| !key.contains('.'));
    let one = |(database, login): (&String, &String)| {
        let entry = Entry {
            login: login.clone(),
            users: secret
                .get(&Entry::users_key(database))
                .cloned()
                .unwrap_or_default(),
            certificates: secret
                .get(&Entry::certificates_key(database))
                .cloned()
                .unwrap_or_default(),
        };
        Some((database.clone(), access(database, &entry)?))
    };
    databases.filter_map(one).collect()
}

fn access(database: &str, entry: &Entry) -> Option<Access> {
    let password = match entry.login.as_str() {
        "" => Password::None,
        NO_DEFAULT_USER => Password::Off,
        hash if is_sha256_hex(hash) => Password::Sha256(hash.to_owned()),
        _ => {
            warn!(
                database,
                "its key in the users Secret is neither a SHA-256 in lower-case hex nor `{NO_DEFAULT_USER}` and is not used"
            );
            return None;
        }
    };
    let users = if entry.users.is_empty() {
        Users::default()
    } else {
        Users::read(&entry.users).unwrap_or_else(|error| {
            warn!(database, %error, "its users in the users Secret are not used: only the default user may log in");
            Users::default()
        })
    };
    Some(Access {
        password,
        users: users.0,
        certificates: entry.certificates.clone(),
        hash: sha256_hex(&entry.text()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> BTreeMap<String, Access> {
        let pairs = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        super::read(&pairs.collect())
    }

    const USERS: &str = r#"[{"name":"app","passwords":["abababababababababababababababababababababababababababababababab"],
        "rules":"~* &* +@all -@dangerous -@admin"}]"#;

    #[test]
    fn the_default_user_has_a_hash_or_deliberately_no_password_or_does_not_exist() {
        let hash = "ab".repeat(32);
        let found = read(&[("a", &hash), ("b", ""), ("c", "off"), ("d", "hunter2")]);
        let passwords: Vec<_> = found.values().map(|a| a.password.clone()).collect();
        assert_eq!(
            passwords,
            [Password::Sha256(hash), Password::None, Password::Off],
            "clear text is never used"
        );
    }

    #[test]
    fn other_users_are_taken_as_the_agent_writes_them_or_not_at_all() {
        let found = read(&[("db", ""), ("db.acl", USERS), ("other", "")]);
        assert_eq!(found["db"].users[0].name, "app");
        assert!(found["other"].users.is_empty());
        assert_ne!(found["db"].hash, found["other"].hash);
        let rules = USERS.replace("-@dangerous -@admin", "");
        assert!(
            read(&[("db", ""), ("db.acl", &rules)])["db"]
                .users
                .is_empty()
        );
        assert!(read(&[("db.acl", USERS)]).is_empty());
    }
}
