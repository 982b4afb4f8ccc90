//! Backups of databases.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Regular backups; exactly one target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseBackup {
    /// Azure Blob Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abs: Option<BackupAbs>,
    /// FTP server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ftp: Option<BackupFtp>,
    /// Google Cloud Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcs: Option<BackupGcs>,
    /// Seconds between backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    /// Seconds after the full interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_offset: Option<i64>,
    /// Mounted folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<BackupMount>,
    /// S3 bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<BackupS3>,
    /// SFTP server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sftp: Option<BackupSftp>,
    /// OpenStack Swift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swift: Option<BackupSwift>,
}

/// Azure Blob Storage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupAbs {
    /// Secret with `AccountName` and `AccountKey`.
    pub abs_secret_name: String,
    /// Container.
    pub container: String,
    /// Folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdir: Option<String>,
}

/// FTP server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupFtp {
    /// Address with folder.
    #[schemars(extend("pattern" = r"ftps?://(([^@]+)@)?([^@/:]+)(:(\d+))?([/\.]/?[^@/\.]+)*?/?$"))]
    pub url: String,
}

/// Google Cloud Storage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupGcs {
    /// Bucket.
    pub bucket_name: String,
    /// Secret with the service account's key.
    pub gcs_secret_name: String,
    /// Folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdir: Option<String>,
}

/// Mounted folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupMount {
    /// Path.
    pub path: String,
}

/// S3 bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupS3 {
    /// Secret with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
    pub aws_secret_name: String,
    /// Bucket.
    pub bucket_name: String,
    /// Folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdir: Option<String>,
    /// Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region_name: Option<String>,
}

/// SFTP server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupSftp {
    /// Address with folder.
    #[schemars(extend("pattern" = r"^sftp://(([^@]+)@)?([^@/:]+)(:(\d+))?(/([^@/\.]+[/\.]?)*)?$"))]
    #[serde(rename = "sftp_url")]
    pub sftp_url: String,
    /// Secret with `Key`.
    pub sftp_secret_name: String,
}

/// OpenStack Swift.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupSwift {
    /// Address for authentication.
    #[schemars(extend("pattern" = r"^https?://(([^@]+)@)?([^@/:]+)(:(\d+))?([/\.]([^@/\.]+))*?/?$"))]
    #[serde(rename = "auth_url")]
    pub auth_url: String,
    /// Container.
    pub container: String,
    /// Prefix of the objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Secret with `User` and `Key`.
    pub swift_secret_name: String,
}
