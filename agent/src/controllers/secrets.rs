//! Passwords: made here, hashed here.

use aws_lc_rs::{digest, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::api::core::v1::Secret;

/// Random bytes of a password: 192 bits.
const PASSWORD_BYTES: usize = 24;

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random generator gave no bytes; nothing was written")]
pub(super) struct NoRandomness;

/// A new password of 32 letters, digits, `-` and `_`.
///
/// # Errors
/// [`NoRandomness`].
pub(super) fn fresh_password() -> Result<String, NoRandomness> {
    let mut bytes = [0_u8; PASSWORD_BYTES];
    rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// SHA-256 in lower-case hexadecimal, the form of the engine's access lists; empty for an empty password, which turns
/// authentication off.
#[must_use]
pub(super) fn password_hash(password: &[u8]) -> String {
    if password.is_empty() {
        return String::new();
    }
    let hash = digest::digest(&digest::SHA256, password);
    hash.as_ref()
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// The value of `key`, if the Secret has it.
#[must_use]
pub(super) fn value<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    secret
        .data
        .as_ref()?
        .get(key)
        .map(|bytes| bytes.0.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_differ_and_carry_the_promised_length() {
        let (one, other) = (fresh_password().unwrap(), fresh_password().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
    }

    #[test]
    fn the_hash_is_sha_256_and_no_password_has_no_hash() {
        assert_eq!(
            password_hash(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(password_hash(b""), "");
    }
}
