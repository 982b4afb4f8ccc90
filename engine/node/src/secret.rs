//! The password of the internal user: new at every start of PID 1, on disk only in a 0600 file, in Valkey only as a hash.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use rand::{TryRng as _, rngs::SysRng};

use crate::atomic_file::{self, FileError};

/// The name of the user that the node itself logs in as, over the Unix socket only.
pub const INTERNAL_USER: &str = "meridian-internal";

/// The name of the user that replicas log in as at their primary.
pub const REPLICATION_USER: &str = "meridian-replication";

/// The password of [`REPLICATION_USER`] in the cluster's internal Secret, mounted at `directory`; `None` while there is none.
#[must_use]
pub fn replication_password(directory: &Path) -> Option<String> {
    let text = std::fs::read_to_string(directory.join(meridian_api::internal::PASSWORD)).ok()?;
    let password = text.trim();
    (!password.is_empty()).then(|| password.to_owned())
}

/// What the cluster's internal Secret, mounted at `directory`, has of what nodes read.
#[must_use]
pub fn internal(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |key: &&str| {
        let bytes = std::fs::read(directory.join(key)).ok()?;
        Some(((*key).to_owned(), bytes))
    };
    meridian_api::internal::READ
        .iter()
        .filter_map(read)
        .collect()
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The system gave no randomness.
    #[error("the system gave no random bytes for the internal password")]
    Random(#[source] rand::rngs::SysError),
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Makes a new password and stores it at `path`.
///
/// # Errors
/// [`SecretError`] if there is no randomness or the file cannot be written.
pub fn create(path: &Path) -> Result<String, SecretError> {
    let mut bytes = [0_u8; 32];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(SecretError::Random)?;
    let secret = hex(&bytes);
    atomic_file::write(path, secret.as_bytes())?;
    Ok(secret)
}

/// The SHA-256 of `text` in lower-case hex, the form of Valkey's ACL files.
#[must_use]
pub fn sha256_hex(text: &str) -> String {
    sha256_hex_of(text.as_bytes())
}

/// The SHA-256 of `bytes` in lower-case hex.
#[must_use]
pub fn sha256_hex_of(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

/// `true` if `text` is what [`sha256_hex`] makes.
#[must_use]
pub fn is_sha256_hex(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _infallible = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_of_the_standard() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256_hex(""), empty);
        assert!(is_sha256_hex(empty));
        assert!(!is_sha256_hex("secret"));
    }

    #[test]
    fn two_secrets_differ() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = create(&path).unwrap();
        assert_ne!(first, create(&path).unwrap());
    }
}
