//! The Secret `<rec>-internal`: by what the nodes of one REC trust each other. The agent writes it, the nodes follow its files
//! while they run and report what they have taken over.
//!
//! While the authority changes, `ca.crt` holds the old and the new one, so that nodes that have read it and nodes that have
//! not believe each other. While the password changes, the primary takes the one to come and the one before as well.

use std::collections::BTreeMap;

/// Certificates of the authorities that nodes believe, PEM; first the one that signed [`CERTIFICATE`].
pub const CA: &str = "ca.crt";
/// The nodes' certificate, PEM.
pub const CERTIFICATE: &str = "tls.crt";
/// Its key, PEM.
pub const KEY: &str = "tls.key";
/// The password with which replicas follow.
pub const PASSWORD: &str = "replication-password";
/// The password that comes after it: primaries take it already. Absent unless it changes.
pub const PASSWORD_NEXT: &str = "replication-password.next";
/// The password that was before it: primaries take it still. Absent unless it changes.
pub const PASSWORD_BEFORE: &str = "replication-password.before";
/// The certificate that comes after [`CERTIFICATE`], PEM. Nodes do not use it.
pub const CERTIFICATE_NEXT: &str = "next.crt";
/// The key that comes after [`KEY`], PEM. Nodes do not use it.
pub const KEY_NEXT: &str = "next.key";

/// What nodes read.
pub const READ: [&str; 6] = [
    CA,
    CERTIFICATE,
    KEY,
    PASSWORD,
    PASSWORD_NEXT,
    PASSWORD_BEFORE,
];

/// The text whose SHA-256, in lower-case hex, names what a node has read: the hash in
/// [`ShardReport::internal`](crate::crds::topology::ShardReport::internal). Equal texts mean equal entries.
#[must_use]
pub fn text(entries: &BTreeMap<String, Vec<u8>>) -> String {
    let one = |key: &&str| {
        let value = String::from_utf8_lossy(entries.get(*key)?);
        Some(format!("{key} {}\n{value}\n", value.len()))
    };
    READ.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), value.as_bytes().to_vec());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn only_what_nodes_read_counts_and_nothing_slides_from_one_entry_into_the_next() {
        let one = entries(&[(CA, "a"), (CERTIFICATE, "b")]);
        let mut more = one.clone();
        more.insert(KEY_NEXT.to_owned(), b"k".to_vec());
        assert_eq!(text(&one), text(&more));
        for other in [
            entries(&[(CA, "ab"), (CERTIFICATE, "")]),
            entries(&[(CA, "a"), (KEY, "b")]),
            entries(&[(CA, "a\ntls.crt 1\nb")]),
        ] {
            assert_ne!(text(&one), text(&other), "{other:?}");
        }
    }
}
