//! What the browser carries and nobody but this process can read or make. A restart, or another leader, cannot read it: the login
//! is then begun again.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A key of this process.
pub(super) struct Sealer(RandomizedNonceKey);

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

/// A text that this process did not seal for this purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was not made by this hub as it runs now")]
pub(super) struct Unsealed;

impl Sealer {
    /// With a new key.
    #[expect(
        clippy::expect_used,
        reason = "a key of the length of the algorithm is always one"
    )]
    pub(super) fn random() -> Self {
        let key: [u8; 32] = rand::random();
        Self(RandomizedNonceKey::new(&AES_256_GCM, &key).expect("32 bytes"))
    }

    /// Seals a value for a purpose; what is sealed for one is opened for no other.
    pub(super) fn seal<T: Serialize>(&self, purpose: &str, value: &T) -> Result<String, Unsealed> {
        let mut sealed = serde_json::to_vec(value).map_err(|_| Unsealed)?;
        let aad = Aad::from(purpose.as_bytes());
        let nonce = self.0.seal_in_place_append_tag(aad, &mut sealed);
        let nonce = nonce.map_err(|_| Unsealed)?;
        let whole = [nonce.as_ref().as_slice(), &sealed].concat();
        Ok(URL_SAFE_NO_PAD.encode(whole))
    }

    /// Opens what was sealed for this purpose.
    pub(super) fn open<T: DeserializeOwned>(
        &self,
        purpose: &str,
        text: &str,
    ) -> Result<T, Unsealed> {
        let whole = URL_SAFE_NO_PAD.decode(text).map_err(|_| Unsealed)?;
        let (nonce, sealed) = whole.split_at_checked(NONCE_LEN).ok_or(Unsealed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unsealed)?;
        let mut sealed = sealed.to_vec();
        let aad = Aad::from(purpose.as_bytes());
        let open = self
            .0
            .open_in_place(nonce, aad, &mut sealed)
            .map_err(|_| Unsealed)?;
        serde_json::from_slice(open).map_err(|_| Unsealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_by_its_process_for_its_purpose_only() {
        let (mine, other) = (Sealer::random(), Sealer::random());
        let sealed = mine.seal("login", &"secret").unwrap();
        assert!(!sealed.contains("secret"));
        assert_eq!(
            mine.open::<String>("login", &sealed).as_deref(),
            Ok("secret")
        );
        assert_eq!(mine.open::<String>("code", &sealed), Err(Unsealed));
        assert_eq!(other.open::<String>("login", &sealed), Err(Unsealed));
        let mut changed = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
        for place in 0..changed.len() {
            changed[place] ^= 1;
            let text = URL_SAFE_NO_PAD.encode(&changed);
            assert_eq!(
                mine.open::<String>("login", &text),
                Err(Unsealed),
                "byte {place}"
            );
            changed[place] ^= 1;
        }
        assert_eq!(mine.open::<String>("login", "AAAA"), Err(Unsealed));
    }
}
