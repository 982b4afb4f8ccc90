//! By what the nodes of one cluster know each other: what this node has read of the cluster's internal Secret. Pure.

use std::collections::BTreeMap;

use meridian_api::internal;
use serde::{Deserialize, Serialize};

use crate::secret::sha256_hex;

/// A password that left the Secret without notice is accepted for this much longer: nodes see a Secret change up to some
/// minutes after one another.
const EARLIER_MS: u64 = 600_000;

/// What a shard takes over of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mutual {
    /// The hash of what was read, by which the agent knows what the shard has taken over; empty: nothing was.
    pub digest: String,
    /// SHA-256 of the passwords with which replicas may log in; first the one that this node uses itself.
    pub passwords: Vec<String>,
    /// The one that was first before, if the Secret names it no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Earlier>,
}

/// A password that was replaced without notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Earlier {
    /// Its SHA-256.
    pub hash: String,
    /// Until when it is accepted, milliseconds of the wall clock.
    pub until_ms: u64,
}

impl Mutual {
    /// What follows on this when the Secret has `entries` and the wall clock says `now_ms`. A Secret without a password is
    /// unknown, not an order: everything stays.
    #[must_use]
    pub fn next(&self, entries: &BTreeMap<String, Vec<u8>>, now_ms: u64) -> Self {
        let hash = |key: &str| {
            let text = String::from_utf8_lossy(entries.get(key)?);
            let password = text.trim();
            (!password.is_empty()).then(|| sha256_hex(password))
        };
        let Some(current) = hash(internal::PASSWORD) else {
            return self.clone();
        };
        let mut passwords = vec![current];
        for key in [internal::PASSWORD_NEXT, internal::PASSWORD_BEFORE] {
            if let Some(also) = hash(key)
                && !passwords.contains(&also)
            {
                passwords.push(also);
            }
        }
        let gone = self.passwords.first().map(|hash| Earlier {
            hash: hash.clone(),
            until_ms: now_ms.saturating_add(EARLIER_MS),
        });
        let kept = self
            .earlier
            .clone()
            .filter(|earlier| now_ms < earlier.until_ms);
        let unnamed = |earlier: &Earlier| !passwords.contains(&earlier.hash);
        Self {
            digest: sha256_hex(&internal::text(entries)),
            earlier: gone.filter(unnamed).or(kept.filter(unnamed)),
            passwords,
        }
    }

    /// SHA-256 of every password with which replicas may log in.
    #[must_use]
    pub fn accepted(&self) -> Vec<String> {
        let earlier = self.earlier.iter().map(|earlier| earlier.hash.clone());
        self.passwords.iter().cloned().chain(earlier).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), value.as_bytes().to_vec());
        pairs.iter().map(own).collect()
    }

    fn hashes(passwords: &[&str]) -> Vec<String> {
        passwords.iter().map(|text| sha256_hex(text)).collect()
    }

    #[test]
    fn every_password_that_the_secret_names_is_accepted_and_the_own_one_is_the_first() {
        let entries = secret(&[
            (internal::PASSWORD, "b\n"),
            (internal::PASSWORD_NEXT, "c"),
            (internal::PASSWORD_BEFORE, "a"),
        ]);
        let found = Mutual::default().next(&entries, 0);
        assert_eq!(found.accepted(), hashes(&["b", "c", "a"]));
        let again = found.next(&entries, 1);
        assert_eq!(again, found, "nothing is new");
    }

    #[test]
    fn a_password_that_was_replaced_without_notice_is_accepted_for_a_while_longer() {
        let a = Mutual::default().next(&secret(&[(internal::PASSWORD, "a")]), 0);
        let edited = secret(&[(internal::PASSWORD, "b")]);
        let b = a.next(&edited, 1_000);
        assert_eq!(b.accepted(), hashes(&["b", "a"]));
        assert_eq!(b.next(&edited, 600_999), b);
        let later = b.next(&edited, 601_000);
        assert_eq!(later.accepted(), hashes(&["b"]));
    }

    #[test]
    fn a_secret_without_a_password_changes_nothing() {
        let a = Mutual::default().next(&secret(&[(internal::PASSWORD, "a")]), 0);
        for entries in [secret(&[]), secret(&[(internal::PASSWORD, " ")])] {
            assert_eq!(a.next(&entries, 1), a);
        }
    }

    #[test]
    fn another_authority_is_another_hash() {
        let one = secret(&[(internal::PASSWORD, "a"), (internal::CA, "x")]);
        let other = secret(&[(internal::PASSWORD, "a"), (internal::CA, "xy")]);
        let digest = |entries| Mutual::default().next(entries, 0).digest;
        assert_ne!(digest(&one), digest(&other));
    }
}
