//! Certificates of a lab's cluster: an authority of its own, and one key pair for every part.
//! They are made once per cluster and live as long as its folder.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use super::error::{LabError, Result};
use super::files;
use super::plan::{ClusterPlan, NodePlan};

/// The authority of one cluster and the folder that its certificates go to.
pub(crate) struct Pki {
    folder: PathBuf,
    authority: Issuer<'static, KeyPair>,
    authority_pem: String,
}

/// A certificate with its key, as PEM text.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pki {
    /// Makes the authority and the service account key, and writes them down.
    pub(crate) fn create(folder: &Path, cluster: &str) -> Result<Self> {
        let subject = format!("{cluster}-ca");
        let failed = |source| LabError::Certificate {
            subject: subject.clone(),
            source,
        };
        let mut parameters = parameters(&subject, None);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().map_err(failed)?;
        let authority_pem = parameters.self_signed(&key).map_err(failed)?.pem();
        files::write(&folder.join("ca.crt"), &authority_pem)?;
        files::write_secret(&folder.join("ca.key"), &key.serialize_pem())?;
        let accounts = KeyPair::generate().map_err(failed)?;
        files::write_secret(&folder.join("accounts.key"), &accounts.serialize_pem())?;
        files::write(&folder.join("accounts.pub"), &accounts.public_key_pem())?;
        Ok(Self {
            folder: folder.to_owned(),
            authority: Issuer::new(parameters, key),
            authority_pem,
        })
    }

    /// Opens the authority that [`Pki::create`] wrote.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(super::error::file("read", &path))
        };
        let authority_pem = read("ca.crt")?;
        let failed = |source| LabError::Certificate {
            subject: folder.display().to_string(),
            source,
        };
        let key = KeyPair::from_pem(&read("ca.key")?).map_err(failed)?;
        let authority = Issuer::from_ca_cert_pem(&authority_pem, key).map_err(failed)?;
        Ok(Self {
            folder: folder.to_owned(),
            authority,
            authority_pem,
        })
    }

    /// The authority's certificate as PEM text.
    pub(crate) fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// The API server's serving certificate and its client certificate towards the kubelets.
    pub(crate) fn api_server(&self, cluster: &ClusterPlan) -> Result<()> {
        let names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        let addresses = [
            cluster.address(),
            cluster.api_service(),
            std::net::Ipv4Addr::LOCALHOST,
        ];
        let serving = self.issue("kube-apiserver", None, &names, &addresses.map(IpAddr::V4))?;
        self.store("apiserver", &serving)?;
        let client = self.issue("kube-apiserver", Some("system:masters"), &[], &[])?;
        self.store("apiserver-to-kubelet", &client)
    }

    /// A node's serving certificate.
    pub(crate) fn kubelet_serving(&self, node: &NodePlan) -> Result<()> {
        let identity = self.issue(&node.name, None, &[&node.name], &[IpAddr::V4(node.address)])?;
        self.store(&node.name, &identity)
    }

    /// A client certificate for this user and group.
    pub(crate) fn client(&self, user: &str, group: Option<&str>) -> Result<Identity> {
        self.issue(user, group, &[], &[])
    }

    fn issue(
        &self,
        user: &str,
        group: Option<&str>,
        names: &[&str],
        addresses: &[IpAddr],
    ) -> Result<Identity> {
        let failed = |source| LabError::Certificate {
            subject: user.to_owned(),
            source,
        };
        let mut parameters = parameters(user, group);
        for name in names {
            parameters
                .subject_alt_names
                .push(SanType::DnsName((*name).try_into().map_err(failed)?));
        }
        parameters
            .subject_alt_names
            .extend(addresses.iter().copied().map(SanType::IpAddress));
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let usage = if parameters.subject_alt_names.is_empty() {
            ExtendedKeyUsagePurpose::ClientAuth
        } else {
            ExtendedKeyUsagePurpose::ServerAuth
        };
        parameters.extended_key_usages = vec![usage];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = parameters
            .signed_by(&key, &self.authority)
            .map_err(failed)?
            .pem();
        Ok(Identity {
            certificate,
            key: key.serialize_pem(),
        })
    }

    fn store(&self, name: &str, identity: &Identity) -> Result<()> {
        files::write(
            &self.folder.join(format!("{name}.crt")),
            &identity.certificate,
        )?;
        files::write_secret(&self.folder.join(format!("{name}.key")), &identity.key)
    }
}

fn parameters(user: &str, group: Option<&str>) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, user);
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    parameters.distinguished_name = name;
    // A lab lives for minutes; wide bounds keep it free of the machine's clock.
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(2049, 1, 1);
    parameters
}
