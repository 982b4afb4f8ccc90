//! Who is let in no more, whatever certificate it shows: a cluster, or one certificate.

use std::fmt;

use jiff::Timestamp;
use meridian_api::ids::ClusterUid;
use serde::{Deserialize, Serialize};

/// Serial number of a certificate: hexadecimal digits in lower case, as it is shown to people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Serial(String);

/// A text that is no serial number; says what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the serial number of a certificate: 1 to 40 hexadecimal digits")]
pub struct NotASerial;

impl Serial {
    /// The number in a certificate, big-endian; zeros that lead count for nothing.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(digits.trim_start_matches('0').to_owned())
    }

    /// Reads what a person typed, perhaps with colons between the bytes.
    ///
    /// # Errors
    /// [`NotASerial`].
    pub fn parse(text: &str) -> Result<Self, NotASerial> {
        let digits = text.replace(':', "").to_ascii_lowercase();
        let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits.trim_start_matches('0');
        if !hex || number.is_empty() || number.len() > 40 {
            return Err(NotASerial);
        }
        Ok(Self(number.to_owned()))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who speaks, as TLS has proved it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// The cluster in its certificate.
    pub cluster: ClusterUid,
    /// The number of the certificate.
    pub serial: Serial,
    /// Until when the certificate is good.
    pub ends_at: Timestamp,
    /// Fingerprint of the root that signed it.
    pub root: String,
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Denial {
    /// What happened, for people.
    pub reason: String,
    /// Who decided.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
    /// The hub itself decided, because two devices may hold one identity.
    pub quarantine: bool,
    /// Name of the cluster, which may have lost its registration since.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_the_same_however_it_is_written() {
        let number = Serial::of(&[0, 0x0a, 0xff]);
        assert_eq!(number.to_string(), "aff");
        for text in ["aff", "0AFF", "00:0a:ff"] {
            assert_eq!(Serial::parse(text), Ok(number.clone()), "{text}");
        }
        for text in ["", "0", "xyz", "a ff", &"f".repeat(41)] {
            assert_eq!(Serial::parse(text), Err(NotASerial), "{text}");
        }
    }
}
