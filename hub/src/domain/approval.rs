//! The explicit approval of a join: a person compares the words of the device that asked with those that the device shows.

use jiff::Timestamp;
use meridian_api::ids::ClusterUid;
use meridian_api::words;
use serde::{Deserialize, Serialize};

use super::cluster::DeviceKey;

/// The approval that a join token demands. Without such a record none is demanded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Name that the cluster will have.
    pub cluster_name: String,
    /// Who used the token and waits; nobody else may use it after that.
    pub asked: Option<Asked>,
    /// Who approved.
    pub granted: Option<Granted>,
}

/// A device that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// Its key.
    pub device_key: DeviceKey,
    /// The cluster that it stands in.
    pub cluster: ClusterUid,
    /// Since when.
    pub at: Timestamp,
}

/// A person's approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Granted {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

impl Asked {
    /// The words to compare.
    #[must_use]
    pub fn words(&self) -> String {
        words::of_device(self.device_key.as_bytes(), &self.cluster.to_string())
    }
}

impl Approval {
    /// Whether this device of this cluster may join.
    #[must_use]
    pub fn admits(&self, device_key: DeviceKey, cluster: ClusterUid) -> bool {
        let asked = self.asked.as_ref();
        let same = asked.is_some_and(|it| it.device_key == device_key && it.cluster == cluster);
        same && self.granted.is_some()
    }
}
