//! Member clusters: who they are, what they reported, and whether they are there.

use super::abilities::TooOld;
use std::fmt;

use jiff::Timestamp;
use meridian_api::ids::ClusterUid;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::denial::Serial;
use super::lost::Lost;

/// The Ed25519 public key of a member's device. It never expires and never changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceKey([u8; 32]);

/// Bytes that are no Ed25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device public key: found {0} bytes, expected the 32 bytes of an Ed25519 public key")]
pub struct NotADeviceKey(usize);

impl DeviceKey {
    /// Takes the raw key.
    ///
    /// # Errors
    /// [`NotADeviceKey`] for another length.
    pub fn new(bytes: &[u8]) -> Result<Self, NotADeviceKey> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| NotADeviceKey(bytes.len()))
    }

    /// The raw key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKey({self})")
    }
}

impl Serialize for DeviceKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = |i: usize| {
            text.get(i..i + 2)
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
        };
        let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(digits).collect();
        let bytes =
            bytes.ok_or_else(|| de::Error::custom("device key: expected 64 hexadecimal digits"))?;
        Self::new(&bytes).map_err(de::Error::custom)
    }
}

/// A member as it registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// UID of its namespace kube-system.
    pub uid: ClusterUid,
    /// Name that the join token gave it.
    pub name: String,
    /// The device that may recover its identity; `None` for a member that is known by its certificate alone, after
    /// the hub lost its store.
    pub device_key: Option<DeviceKey>,
    /// Version of its agent, for people.
    pub agent_version: String,
    /// When it joined.
    pub joined_at: Timestamp,
    /// What `Recover` must present; changes with every certificate.
    pub join_state: String,
    /// The one before, accepted once more because the reply with the new one may have been lost.
    pub previous_join_state: Option<String>,
    /// A person said that no two devices hold this identity: the next `Recover` may present any state.
    #[serde(default)]
    pub any_join_state: bool,
    /// Why it is not told everything, or not let in: its agent is too old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub too_old: Option<TooOld>,
    /// The newest certificates that it was given and that have not ended, by which a person can revoke one.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
}

/// A certificate that a member was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Its number.
    pub serial: Serial,
    /// Its end.
    pub ends_at: Timestamp,
}

impl Cluster {
    /// Certificates that are remembered: a member that renews at its times has two.
    pub const CERTIFICATES: usize = 16;

    /// Notes a certificate, and forgets those that have ended.
    pub fn certified(&mut self, certificate: Certificate, now: Timestamp) {
        self.certificates.retain(|known| known.ends_at > now);
        let excess = (self.certificates.len() + 1).saturating_sub(Self::CERTIFICATES);
        self.certificates.drain(..excess);
        self.certificates.push(certificate);
    }
}

/// A registration that a person removed. Its certificate opens nothing any more until a new token joins it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemovedCluster {
    /// UID of its namespace kube-system.
    pub uid: ClusterUid,
    /// Name that it had.
    pub name: String,
    /// When it was removed.
    pub removed_at: Timestamp,
    /// Set where a person declared it lost for good: nobody waited for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Lost>,
}

/// Whether a member is there, as the hub saw it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// It has a session.
    Connected,
    /// Its last session ended; databases there may well be serving.
    Unreachable,
}

/// An edge of a member's presence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresenceEdge {
    /// What it became.
    pub presence: Presence,
    /// Since when, by the hub's clock.
    pub since: Timestamp,
    /// Epoch of the session that caused the edge.
    pub session_epoch: u64,
}

/// A cluster resource (REC) as its member reported it last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rec {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// metadata.uid.
    pub uid: String,
    /// `host:port` that peers connect to, empty while unknown; may begin with `<db>`.
    pub replication_address: String,
    /// Suffix of server names.
    pub suffix: String,
    /// status.state.
    pub state: String,
    /// Identity that its nodes show.
    pub peer_spiffe_id: String,
    /// Host of its API, empty if none.
    pub api_fqdn_url: String,
}

/// All RECs of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecInventory {
    /// The RECs, sorted by namespace and name.
    pub recs: Vec<Rec>,
    /// When the member looked, by the hub's clock at receipt.
    pub as_of: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_key_survives_its_text_form() {
        let key = DeviceKey::new(&[0xab; 32]).unwrap();
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<DeviceKey>(&text).unwrap(), key);
        assert!(serde_json::from_str::<DeviceKey>("\"ab\"").is_err());
        assert!(serde_json::from_str::<DeviceKey>("\"zz\"").is_err());
    }

    #[test]
    fn a_device_key_has_32_bytes() {
        assert!(
            DeviceKey::new(&[1; 31])
                .unwrap_err()
                .to_string()
                .contains("31 bytes")
        );
    }

    #[test]
    fn of_certificates_the_newest_are_remembered_until_they_end() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut cluster = Cluster {
            uid: "6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e11".parse().unwrap(),
            name: "eu-1".to_owned(),
            device_key: None,
            agent_version: String::new(),
            joined_at: at(0),
            join_state: String::new(),
            previous_join_state: None,
            any_join_state: false,
            too_old: None,
            certificates: Vec::new(),
        };
        let note = |cluster: &mut Cluster, number: u8, now| {
            let certificate = Certificate {
                serial: Serial::of(&[number]),
                ends_at: at(now + 100),
            };
            cluster.certified(certificate, at(now));
        };
        for number in 1..=40 {
            note(&mut cluster, number, 0);
        }
        let known = |cluster: &Cluster| -> Vec<_> {
            let all = cluster.certificates.iter();
            all.map(|one| one.serial.to_string()).collect()
        };
        assert_eq!(known(&cluster).len(), Cluster::CERTIFICATES);
        assert_eq!(known(&cluster).last().unwrap(), "28");
        note(&mut cluster, 41, 99);
        assert_eq!(known(&cluster).len(), Cluster::CERTIFICATES);
        note(&mut cluster, 42, 100);
        assert_eq!(known(&cluster), ["29", "2a"]);
    }
}
