//! The first root on disk: made at the first start, read at every other.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use meridian_api::identity::TrustDomain;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::pairs::{Pairs, first_files};
use super::{Authority, BACKDATE, CaError, serial};

pub(super) const KEY_FILE: &str = "root.key";
pub(super) const CERTIFICATE_FILE: &str = "root.crt";
/// Life of the root.
const ROOT_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// Where the authority comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made just now.
    Created,
    /// Read from the data directory, where an earlier start made it.
    Loaded,
    /// Given by whoever runs the hub, perhaps long before the first start.
    Given,
}

/// Who may read a key file: its owner alone, or its group too, as a mounted Secret needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readers {
    forbidden: u32,
    expected: &'static str,
}

const OWNER: Readers = Readers {
    forbidden: 0o077,
    expected: "0600",
};
pub(super) const GROUP: Readers = Readers {
    forbidden: 0o037,
    expected: "0600 or 0640",
};

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
        let (key_path, certificate_path) = first_files(dir);
        let origin = if Self::is_in(dir) {
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
        // The key is written first: a start that ended between the two makes the certificate now.
        if !certificate_path.exists() {
            let key = read_key(&key_path, OWNER)?;
            let certificate = root_params(&trust_domain, now, None)
                .self_signed(&key)
                .map_err(CaError::Sign)?;
            write_file(&certificate_path, certificate.pem().as_bytes(), 0o644)?;
        }
        let pairs = Pairs::new(dir, OWNER, true);
        Ok((Self::over(pairs, trust_domain)?, origin))
    }

    /// Whether the directory holds the root's key: [`Authority::open`] would read it, and not make one.
    #[must_use]
    pub fn is_in(dir: &Path) -> bool {
        dir.join(KEY_FILE).exists()
    }

    /// Reads the roots from a directory of which nothing is changed: the same files serve several replicas.
    ///
    /// # Errors
    /// As [`Authority::open`], and where a file is missing.
    pub fn given(dir: &Path, trust_domain: TrustDomain) -> Result<(Self, Origin), CaError> {
        let pairs = Pairs::new(dir, GROUP, false);
        Ok((Self::over(pairs, trust_domain)?, Origin::Given))
    }

    /// Of replicas that have copies of the same files: none of them makes a root by itself.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.pairs.shared();
        self
    }
}

/// What a root says of itself. Later ones have a part of their fingerprint in their names, so that people and programs that look for
/// an issuer by its name find the right one.
pub(super) fn root_params(
    trust_domain: &TrustDomain,
    now: Timestamp,
    part: Option<&str>,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = SystemTime::from(now - BACKDATE).into();
    params.not_after = SystemTime::from(now + ROOT_LIFE).into();
    params.serial_number = Some(serial());
    let name = part.map_or_else(String::new, |part| format!(" {part}"));
    params.distinguished_name = subject(&format!("Meridian root{name} of {trust_domain}"));
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
pub(super) fn check_pair(
    root: &CertificateDer<'_>,
    key: &KeyPair,
    path: &Path,
) -> Result<(), CaError> {
    let content = |reason: String| CaError::Content {
        path: path.to_owned(),
        reason,
    };
    let (_, parsed) =
        x509_parser::parse_x509_certificate(root).map_err(|e| content(e.to_string()))?;
    if parsed.public_key().subject_public_key.data.as_ref() == key.public_key_raw() {
        return Ok(());
    }
    let reason =
        "belongs to another key than the file .key beside it; restore both from one backup";
    Err(content(reason.to_owned()))
}

pub(super) fn read_key(path: &Path, readers: Readers) -> Result<KeyPair, CaError> {
    let metadata = std::fs::metadata(path).map_err(|e| file(path, "look at it", e))?;
    let mode = metadata.permissions().mode() & 0o777;
    let Readers {
        forbidden,
        expected,
    } = readers;
    if mode & forbidden != 0 {
        let reason =
            format!("mode {mode:04o} lets others read the key, expected {expected}: chmod 600 it");
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

pub(super) fn read_text(path: &Path) -> Result<String, CaError> {
    std::fs::read_to_string(path).map_err(|e| file(path, "read it", e))
}

pub(super) fn file(path: &Path, operation: &'static str, source: io::Error) -> CaError {
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
