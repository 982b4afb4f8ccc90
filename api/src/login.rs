//! What the agent tells the nodes of a REC for their API and status page, in the Secret `<rec>-api`: who may log in, and what
//! the cluster is. No password is among it, only a slow hash.

use serde::{Deserialize, Serialize};

use crate::crds::cluster::SCRAPES_IN_FLIGHT;

/// Key of the Secret under which [`Login`] stands as JSON.
pub const LOGIN_KEY: &str = "login.json";
/// Key of the Secret under which [`ClusterFacts`] stand as JSON.
pub const FACTS_KEY: &str = "cluster.json";

/// Rounds of PBKDF2 with HMAC-SHA-512 for a new hash.
///
/// Source: OWASP Password Storage Cheat Sheet (2023), which names 210,000 for this function.
pub const LOGIN_ROUNDS: u32 = 210_000;
/// Bytes of a salt.
pub const SALT_BYTES: usize = 16;
/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// The administrator of a REC, as the nodes know them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Login {
    /// Name.
    pub username: String,
    /// Rounds of PBKDF2 with HMAC-SHA-512, 1 or more.
    pub rounds: u32,
    /// Salt, lower-case hexadecimal.
    pub salt: String,
    /// [`HASH_BYTES`] of PBKDF2 of the password, lower-case hexadecimal.
    pub hash: String,
}

/// What a REC is; changes with its spec only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFacts {
    /// Its host in the Kubernetes cluster, such as `rec.ns.svc.cluster.local`.
    pub host: String,
    /// When the REC was created, RFC 3339.
    pub created: String,
    /// Number of its pods.
    pub nodes: u32,
    /// Release of the nodes.
    pub release: String,
    /// Version of the databases, as their clients know it.
    pub database_version: String,
    /// Memory limit of a pod, bytes; 0 if it has none.
    pub memory_bytes: u64,
    /// Its pods are spread over racks.
    pub rack_aware: bool,
    /// Scrapes that each node answers at once; 0: any number.
    #[serde(default = "scrapes_of_before")]
    pub scrapes: u32,
}

/// What holds where an agent of an earlier release, which had no such setting, wrote the facts.
fn scrapes_of_before() -> u32 {
    SCRAPES_IN_FLIGHT
}

/// The number by which the API calls the database that listens on `port`. Ports are never changed and never shared within a
/// REC, so the number is not either; a database that takes over the port of one that was deleted takes over its number.
#[must_use]
pub fn database_number(port: i32) -> i64 {
    /// The first port that is given to databases.
    const FIRST: i64 = 10_000;
    /// Beyond the numbers of all ports from [`FIRST`] on.
    const LOWER: i64 = 60_000;
    let port = i64::from(port);
    if port >= FIRST {
        port - FIRST + 1
    } else {
        LOWER + port
    }
}

/// Bytes in lower-case hexadecimal.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// The bytes of hexadecimal text; `None` if it is none.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).ok();
    digits.chunks_exact(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_port_has_a_number_of_its_own_and_the_first_is_1() {
        assert_eq!(database_number(10_000), 1);
        assert_eq!(database_number(19_999), 10_000);
        let all: BTreeSet<i64> = (1..=65_535).map(database_number).collect();
        assert_eq!(all.len(), 65_535);
        assert!(all.first().is_some_and(|least| *least > 0));
    }

    #[test]
    fn hexadecimal_text_is_read_back_and_anything_else_is_refused() {
        assert_eq!(to_hex(&[0, 255, 16]), "00ff10");
        assert_eq!(from_hex("00ff10"), Some(vec![0, 255, 16]));
        for text in ["0", "0g", "é0"] {
            assert_eq!(from_hex(text), None, "{text}");
        }
    }
}
