//! What a member reported last.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The roots that a member holds, and the certificates that it uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberTrust {
    /// Version of its bundle; 0 if its agent does not say.
    pub version: u64,
    /// The roots of that bundle, [`meridian_api::trust::digest`] in hexadecimal digits.
    pub digest: String,
    /// Root that signed the certificate of the session in which it said so.
    pub signer: String,
    /// Its cluster resources (REC).
    pub recs: Vec<RecTrust>,
    /// Since when it says exactly this, by the hub's clock.
    pub since: Timestamp,
}

/// The same of one REC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecTrust {
    /// `namespace/name`.
    pub rec: String,
    /// Version that its Secret and all its nodes hold; 0 if not known.
    pub version: u64,
    /// Root that signed the certificate that all its nodes use; empty if not known.
    pub signer: String,
}

impl MemberTrust {
    /// Whether both say the same, whenever they said it.
    #[must_use]
    pub fn says_as(&self, other: &Self) -> bool {
        let Self {
            version,
            digest,
            signer,
            recs,
            since: _,
        } = self;
        *version == other.version
            && *digest == other.digest
            && *signer == other.signer
            && *recs == other.recs
    }
}
