//! Certificates, sign-in, auditing and hardening of a cluster (REC).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RedisEnterpriseClusterSpec;
use crate::crds::open_enum::open_enum;

/// Who may be given access, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessControl {
    /// Which ways of giving access are open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<AccessControlPolicy>,
}

/// Which ways of giving access are open.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessControlPolicy {
    /// Databases give access by their own `rolesPermissions`; true if unset.
    #[serde(
        rename = "allowREDBRolesPermissions",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub allow_redb_roles_permissions: Option<bool>,
}

impl RedisEnterpriseClusterSpec {
    /// Whether databases of the cluster give access by their own `rolesPermissions`.
    #[must_use]
    pub fn gives_roles(&self) -> bool {
        let policy = self
            .access_control
            .as_ref()
            .and_then(|all| all.policy.as_ref());
        policy.and_then(|policy| policy.allow_redb_roles_permissions) != Some(false)
    }
}

/// Auditing of database connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auditing {
    /// Where audit records go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<AuditingConfig>,
    /// Connections are audited unless a database says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_conns_auditing: Option<bool>,
}

/// Where audit records go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditingConfig {
    /// Host, or path of a socket, that receives records.
    pub audit_address: String,
    /// Port that receives records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_port: Option<i64>,
    /// How records are sent.
    pub audit_protocol: AuditProtocol,
    /// Seconds between attempts to reconnect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_reconnect_interval: Option<i64>,
    /// Attempts to reconnect; 0 means no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_reconnect_max_attempts: Option<i64>,
}

/// Secrets with certificates that replace the self-signed ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Certificates {
    /// Certificate of the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_certificate_secret_name: Option<String>,
    /// Certificate of the management interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cm_certificate_secret_name: Option<String>,
    /// Certificate of the metrics exporter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_exporter_certificate_secret_name: Option<String>,
    /// Certificate of database endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_certificate_secret_name: Option<String>,
    /// Certificate of replication between clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syncer_certificate_secret_name: Option<String>,
    /// Client certificate for LDAP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ldap_client_certificate_secret_name: Option<String>,
    /// Certificate of data traffic between nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dp_internode_encryption_certificate_secret_name: Option<String>,
    /// Certificate of control traffic between nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cp_internode_encryption_certificate_secret_name: Option<String>,
    /// Certificate of the single sign-on service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sso_service_certificate_secret_name: Option<String>,
    /// Certificate of the single sign-on issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sso_issuer_certificate_secret_name: Option<String>,
}

/// Sign-in through LDAP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ldap {
    /// How a user is found.
    pub authentication_query: AuthenticationQuery,
    /// How a user's groups are found.
    pub authorization_query: AuthorizationQuery,
    /// Secret with the credentials for searching.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_credentials_secret_name: Option<String>,
    /// Secret with the authority of the LDAP servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificate_secret_name: Option<String>,
    /// Seconds that an answer is kept.
    #[serde(
        rename = "cacheTTLSeconds",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub cache_ttl_seconds: Option<i64>,
    /// Sign-in with certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cba: Option<bool>,
    /// Object identifier of the certificate field that names the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cba_identity_oid: Option<String>,
    /// Certificate field that names the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cba_identity_source: Option<CbaIdentitySource>,
    /// Seconds to wait for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_timeout_seconds: Option<i64>,
    /// Used for the management interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled_for_control_plane: Option<bool>,
    /// Used for databases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled_for_data_plane: Option<bool>,
    /// Protocol of the servers.
    pub protocol: LdapProtocol,
    /// The servers.
    pub servers: Vec<LdapServer>,
}

/// How a user is found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthenticationQuery {
    /// A search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<LdapQuery>,
    /// A template of the user's distinguished name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

/// A search in LDAP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LdapQuery {
    /// Where the search begins.
    pub base: String,
    /// What it looks for.
    pub filter: String,
    /// How deep it goes.
    pub scope: LdapScope,
}

/// How a user's groups are found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationQuery {
    /// Attribute of the user that lists the groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
    /// A search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<LdapQuery>,
}

/// An LDAP server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LdapServer {
    /// Host.
    pub host: String,
    /// Port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// Single sign-on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sso {
    /// Whether it is on.
    pub enabled: bool,
    /// Whether it is the only way to sign in.
    #[serde(
        rename = "enforceSSO",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub enforce_sso: Option<bool>,
    /// SAML settings.
    pub saml: Saml,
}

/// SAML settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Saml {
    /// Secret with the identity provider's metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idp_metadata_secret_name: Option<String>,
    /// The identity provider, if there is no metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<SamlIssuer>,
    /// Secret that receives the service provider's metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sp_metadata_secret_name: Option<String>,
    /// The service provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_provider: Option<SamlServiceProvider>,
}

/// The identity provider, if there is no metadata.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SamlIssuer {
    /// Identity of the provider.
    #[serde(rename = "entityID")]
    pub entity_id: String,
    /// Address for signing in.
    #[serde(rename = "loginURL")]
    pub login_url: String,
    /// Address for signing out.
    #[serde(rename = "logoutURL", default, skip_serializing_if = "Option::is_none")]
    pub logout_url: Option<String>,
}

/// The service provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SamlServiceProvider {
    /// Base address that the provider redirects to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_address: Option<String>,
}

/// Checking of certificates by OCSP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OcspConfiguration {
    /// Whether it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocsp_functionality: Option<bool>,
    /// Seconds between queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_frequency: Option<i64>,
    /// Seconds between queries after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_frequency: Option<i64>,
    /// Queries after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_max_tries: Option<i64>,
    /// Seconds to wait for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_timeout: Option<i64>,
}

/// Hardening of the containers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecurityContext {
    /// Read-only root file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only_root_filesystem_policy: Option<ReadOnlyRootFilesystemPolicy>,
    /// Limits of the processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_limits: Option<ResourceLimits>,
}

/// Read-only root file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReadOnlyRootFilesystemPolicy {
    /// Whether it is read-only.
    pub enabled: bool,
}

/// Limits of the processes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceLimits {
    /// Whether processes may raise their limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_auto_adjustment: Option<bool>,
}

open_enum! {
    /// How audit records are sent.
    pub closed enum AuditProtocol {
        TCP = "TCP",
        Local = "local",
    }
}

open_enum! {
    /// Where credentials are kept.
    pub closed enum CredentialStore {
        Vault = "vault",
        Kubernetes = "kubernetes",
    }
}

open_enum! {
    /// How deep a search goes.
    pub closed enum LdapScope {
        BaseObject = "BaseObject",
        SingleLevel = "SingleLevel",
        WholeSubtree = "WholeSubtree",
    }
}

open_enum! {
    /// Certificate field that names a user.
    pub closed enum CbaIdentitySource {
        SubjectCN = "SubjectCN",
        SubjectOID = "SubjectOID",
    }
}

open_enum! {
    /// Protocol of LDAP servers.
    pub closed enum LdapProtocol {
        LDAP = "LDAP",
        LDAPS = "LDAPS",
        STARTTLS = "STARTTLS",
    }
}
