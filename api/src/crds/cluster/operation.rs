//! Storage, images, licences, upgrades and pods of a cluster (REC).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crds::open_enum::open_enum;
use crate::crds::shared::{FreeForm, ImageSpec, Quantity, ResourceRequirements};

/// Time zone of the containers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerTimezone {
    /// Take the host's time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagate_host: Option<FreeForm>,
    /// Name of the time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone_name: Option<String>,
}

/// Storage of the nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersistentSpec {
    /// Whether volumes may grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_persistent_volume_resize: Option<bool>,
    /// Whether nodes have a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Storage class; cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// Size of each volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_size: Option<Quantity>,
}

/// What happens to a pod that hangs while starting.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodStartingPolicy {
    /// Whether it is made again.
    pub enabled: bool,
    /// Seconds after which it counts as hanging.
    pub starting_threshold_seconds: i32,
}

/// A Secret for pulling images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullSecret {
    /// Name of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Inner services of the nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicesConfiguration {
    /// Management interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cm_server: Option<ServiceMode>,
    /// Coordinator of Active-Active databases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crdb_coordinator: Option<ServiceMode>,
    /// Worker of Active-Active databases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crdb_worker: Option<ServiceMode>,
    /// Multicast DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mdns_server: Option<ServiceMode>,
    /// Name server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pdns_server: Option<ServiceMode>,
    /// Authentication daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saslauthd: Option<ServiceMode>,
    /// Archive of statistics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats_archiver: Option<ServiceMode>,
}

/// Where backups of databases may go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterBackup {
    /// Storage that speaks S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<ClusterBackupS3>,
}

/// Storage that speaks S3.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterBackupS3 {
    /// Secret with the authority of the storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificate_secret_name: Option<String>,
    /// Address of the storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// When a lost replica is made elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlaveHa {
    /// Seconds to wait before that.
    #[serde(rename = "slaveHAGracePeriod")]
    pub slave_ha_grace_period: i32,
}

/// Databases larger than memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisOnFlash {
    /// Whether it is on.
    pub enabled: bool,
    /// Storage engine (older name of `bigStoreDriver`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flash_storage_engine: Option<FlashStorageEngine>,
    /// Storage class of the flash volume.
    pub storage_class_name: String,
    /// Size of the flash volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flash_disk_size: Option<Quantity>,
    /// Storage engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub big_store_driver: Option<BigStoreDriver>,
}

/// Upgrades.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterUpgrade {
    /// Whether the cluster follows the operator's version.
    pub auto_upgrade_redis_enterprise: bool,
}

/// Usage reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageMeter {
    /// The client that sends them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_home_client: Option<CallHomeClient>,
}

/// The client that sends them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallHomeClient {
    /// When it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron_expression: Option<String>,
    /// How often it collects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Its resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Whether it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_spec: Option<ImageSpec>,
    /// Secret with the address of a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_secret_name: Option<String>,
    /// A bucket that receives reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3_target: Option<CallHomeS3Target>,
}

/// A bucket that receives reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallHomeS3Target {
    /// Name of the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// Secret with the credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_name: Option<String>,
    /// Whether the bucket is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Address of the storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Prefix of the objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Region of the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Address of the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A module to load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserDefinedModule {
    /// Name of the module.
    pub name: String,
    /// Where it is fetched from.
    pub source: ModuleSource,
}

/// Where a module is fetched from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModuleSource {
    /// By HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<ModuleUrl>,
    /// By HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<ModuleUrl>,
}

/// Address of a module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModuleUrl {
    /// Secret with `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<String>,
    /// Address.
    pub url: String,
}

open_enum! {
    /// How much a usage report contains.
    pub closed enum UsageReportFields {
        All = "all",
        Restricted = "restricted",
    }
}

open_enum! {
    /// Whether an inner service runs.
    pub closed enum OperatingMode {
        Enabled = "enabled",
        Disabled = "disabled",
    }
}

open_enum! {
    /// Which database version is the default.
    pub closed enum UpgradePolicy {
        Major = "major",
        Latest = "latest",
    }
}

open_enum! {
    /// Storage engine, older field.
    pub closed enum FlashStorageEngine {
        Rocksdb = "rocksdb",
    }
}

open_enum! {
    /// Storage engine.
    pub closed enum BigStoreDriver {
        Rocksdb = "rocksdb",
        Speedb = "speedb",
    }
}

/// An inner service of the nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMode {
    /// Whether it runs.
    pub operating_mode: OperatingMode,
}
