//! Parts that several kinds use.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use k8s_openapi::api::core::v1::ResourceClaim;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::open_enum::open_enum;

open_enum! {
    /// How a database is kept on disk.
    pub closed enum Persistence {
        /// Not at all.
        Disabled = "disabled",
        /// Append-only file, synced every second.
        AofEverySecond = "aofEverySecond",
        /// Append-only file, synced before each acknowledgement.
        AofAlways = "aofAlways",
        /// A snapshot every hour.
        SnapshotEvery1Hour = "snapshotEvery1Hour",
        /// A snapshot every six hours.
        SnapshotEvery6Hour = "snapshotEvery6Hour",
        /// A snapshot every twelve hours.
        SnapshotEvery12Hour = "snapshotEvery12Hour",
    }
}

/// A condition of an object, in the form that `kubectl wait --for=condition=…` reads.
///
/// An own type because that of Kubernetes demands a time stamp that this crate, which has no clock, could only invent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition is about, such as `Ready`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word for machines that says why.
    pub reason: String,
    /// A sentence for people: what was found, what was expected, the next step.
    #[serde(default)]
    pub message: String,
    /// When `status` changed last, RFC 3339.
    #[serde(default)]
    pub last_transition_time: String,
    /// The `metadata.generation` that the condition speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

open_enum! {
    /// Whether a spec is valid.
    pub open enum SpecStatus {
        /// It is.
        Valid = "Valid",
        /// It is not; events and conditions say why, and the last valid state stays in force.
        Invalid = "Invalid",
    }
}

/// A subtree that is kept as it is. The API server checks none of it, except where the field has a schema of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FreeForm(pub serde_json::Map<String, serde_json::Value>);

impl FreeForm {
    /// Reads the subtree as a type of Kubernetes, such as a toleration.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.0)
    }
}

impl JsonSchema for FreeForm {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "FreeForm".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
    }
}

/// An amount, written as a number or as a Kubernetes quantity such as `10Gi`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Quantity {
    /// A whole number.
    Int(i64),
    /// A number with or without a suffix.
    Text(String),
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
        })
    }
}

/// Resources of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceRequirements {
    /// Claims of dynamic resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<ResourceClaim>")]
    pub claims: Vec<FreeForm>,
    /// The most that it may use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
    /// What is set aside for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
}

/// An image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageSpec {
    /// Digest, instead of a tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_hash: Option<String>,
    /// When it is pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// Repository without tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_tag: Option<String>,
}

/// Names a cluster resource (REC) of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterReference {
    /// Its name.
    pub name: String,
}
