//! The root on disk: made at the first start, read at every other.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use meridian_api::identity::TrustDomain;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::{Authority, BACKDATE, CaError, serial};

const KEY_FILE: &str = "root.key";
const CERTIFICATE_FILE: &str = "root.crt";
/// Life of the root.
const ROOT_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// Whether the authority was there before this start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made just now.
    Created,
    /// Read from disk.
    Loaded,
}

impl Authority {
    /// Reads the root from the directory, or makes it there at the first start.
    ///
    /// # Errors
    /// [`CaError::File`] and [`CaError::Content`]; a key that others may read is refused.
    pub fn open(
        dir: &Path,
        trust_domain: TrustDomain,
        now: Timestamp,
    ) -> Result<(Self, Origin), CaError> {
        make_private_dir(dir)?;
        let (key_path, certificate_path) = (dir.join(KEY_FILE), dir.join(CERTIFICATE_FILE));
        let origin = if key_path.exists() {
            Origin::Loaded
        } else {
            Origin::Created
        };
        if origin == Origin::Created {
            let key = KeyPair::generate().map_err(CaError::Sign)?;
            write_file(
                &key_path,
                Zeroizing::new(key.serialize_pem()).as_bytes(),
                0o600,
            )?;
        }
        let key = read_key(&key_path)?;
        // The key is written first: a start that ended between the two makes the certificate now.
        if !certificate_path.exists() {
            let certificate = root_params(&trust_domain, now)
                .self_signed(&key)
                .map_err(CaError::Sign)?;
            write_file(&certificate_path, certificate.pem().as_bytes(), 0o644)?;
        }
        let root_pem = read_text(&certificate_path)?;
        let root = CertificateDer::from_pem_slice(root_pem.as_bytes()).map_err(|e| CaError::Content {
            path: certificate_path.clone(),
            reason: format!("not a PEM certificate: {e}; restore it from a backup, or remove it to have it made again"),
        })?;
        check_pair(&root, &key, &certificate_path)?;
        let issuer = Issuer::from_ca_cert_der(&root, key).map_err(CaError::Sign)?;
        Ok((
            Self {
                root,
                root_pem,
                issuer,
                trust_domain,
            },
            origin,
        ))
    }
}

fn root_params(trust_domain: &TrustDomain, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = SystemTime::from(now - BACKDATE).into();
    params.not_after = SystemTime::from(now + ROOT_LIFE).into();
    params.serial_number = Some(serial());
    params.distinguished_name = subject(&format!("Meridian root of {trust_domain}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub(super) fn subject(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// A certificate that belongs to another key would sign chains that nobody can verify.
fn check_pair(root: &CertificateDer<'_>, key: &KeyPair, path: &Path) -> Result<(), CaError> {
    let content = |reason: String| CaError::Content {
        path: path.to_owned(),
        reason,
    };
    let (_, parsed) =
        x509_parser::parse_x509_certificate(root).map_err(|e| content(e.to_string()))?;
    if parsed.public_key().subject_public_key.data.as_ref() == key.public_key_raw() {
        return Ok(());
    }
    Err(content(format!(
        "belongs to another key than {KEY_FILE} beside it; restore both from one backup"
    )))
}

fn read_key(path: &Path) -> Result<KeyPair, CaError> {
    let metadata = std::fs::metadata(path).map_err(|e| file(path, "look at it", e))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let reason =
            format!("mode {mode:04o} lets others read the key, expected 0600: chmod 600 it");
        return Err(CaError::Content {
            path: path.to_owned(),
            reason,
        });
    }
    let pem = Zeroizing::new(read_text(path)?);
    KeyPair::from_pem(&pem).map_err(|e| CaError::Content {
        path: path.to_owned(),
        reason: format!("not a PEM private key: {e}; restore it from a backup"),
    })
}

fn read_text(path: &Path) -> Result<String, CaError> {
    std::fs::read_to_string(path).map_err(|e| file(path, "read it", e))
}

fn file(path: &Path, operation: &'static str, source: io::Error) -> CaError {
    CaError::File {
        path: path.to_owned(),
        operation,
        source,
    }
}

/// Makes a directory that only its owner may look into.
///
/// # Errors
/// [`CaError::File`].
pub(crate) fn make_private_dir(dir: &Path) -> Result<(), CaError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| file(dir, "make the directory", e))
}

/// Writes a file so that it is there whole or not at all, whatever ends the process.
///
/// # Errors
/// [`CaError::File`].
pub(crate) fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), CaError> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        if temporary.exists() {
            std::fs::remove_file(&temporary)?;
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        match path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|e| file(path, "write it", e))
}
