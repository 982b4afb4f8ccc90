//! The roots on disk: pairs `root.key` and `root.crt`, and `root-NAME.key` and `root-NAME.crt` for roots that came later. Files are
//! never renamed or overwritten: a root is named by its key, whatever its files are called.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use meridian_api::identity::TrustDomain;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::root::{
    self, CERTIFICATE_FILE, KEY_FILE, Readers, check_pair, file, read_key, read_text, root_params,
    write_file,
};
use super::{CaError, PEER_LIFE};
use crate::domain::trust::{Bundle, Root};

/// What a directory remembers of the bundle in force.
const REMEMBERED: &str = "trust.json";
/// A root must outlive what it signs, and the next rotation.
const LEAST_LIFE: SignedDuration = SignedDuration::from_hours(4 * PEER_LIFE.as_hours());

/// A root with its key.
pub(super) struct Pair {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: KeyPair,
    pub(super) fingerprint: String,
    pem: String,
    path: PathBuf,
}

impl Pair {
    pub(super) fn root(&self) -> Root {
        Root {
            fingerprint: self.fingerprint.clone(),
            pem: self.pem.clone(),
        }
    }
}

/// A directory of them.
#[derive(Debug)]
pub(super) struct Pairs {
    dir: PathBuf,
    readers: Readers,
    /// It belongs to this hub alone, which may write into it.
    own: bool,
    /// New roots are made here; otherwise a person brings them.
    makes: bool,
}

impl Pairs {
    pub(super) fn new(dir: &Path, readers: Readers, own: bool) -> Self {
        Self {
            dir: dir.to_owned(),
            readers,
            own,
            makes: own,
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn makes(&self) -> bool {
        self.makes
    }

    pub(super) fn shared(&mut self) {
        self.makes = false;
    }

    /// Every whole pair. A key without its certificate is one whose making was broken off.
    pub(super) fn read(&self) -> Result<Vec<Pair>, CaError> {
        let listing = |e| file(&self.dir, "list the directory", e);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(listing)? {
            let name = entry.map_err(listing)?.file_name();
            let name = name.to_string_lossy().into_owned();
            let is_key = name.starts_with("root-") && name.ends_with(".key") || name == KEY_FILE;
            if is_key && self.dir.join(&name).with_extension("crt").exists() {
                names.push(name);
            }
        }
        // The first root of a directory comes first.
        names.sort_by_key(|name| (name != KEY_FILE, name.clone()));
        names.iter().map(|name| self.pair(name)).collect()
    }

    fn pair(&self, name: &str) -> Result<Pair, CaError> {
        let key_path = self.dir.join(name);
        let path = key_path.with_extension("crt");
        let key = read_key(&key_path, self.readers)?;
        let pem = read_text(&path)?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| CaError::Content {
            path: path.clone(),
            reason: format!("not a PEM certificate: {e}; restore it from a backup, or remove it to have it made again"),
        })?;
        check_pair(&certificate, &key, &path)?;
        Ok(Pair {
            fingerprint: meridian_api::trust::fingerprint(&key.subject_public_key_info()),
            certificate,
            key,
            pem,
            path,
        })
    }

    /// The root of a directory in which nothing says another.
    pub(super) fn first(&self) -> Result<Pair, CaError> {
        self.pair(KEY_FILE)
    }

    /// The pair of a root.
    pub(super) fn of(&self, fingerprint: &str) -> Result<Pair, CaError> {
        let mut pairs = self.read()?.into_iter();
        pairs
            .find(|pair| pair.fingerprint == fingerprint)
            .ok_or_else(|| CaError::NoRoot {
                dir: self.dir.clone(),
                fingerprint: fingerprint.to_owned(),
            })
    }

    /// The one root that is here and was never trusted, if it may take over.
    pub(super) fn newcomer(&self, known: &Bundle, now: Timestamp) -> Result<Option<Root>, CaError> {
        let pairs = self.read()?;
        let is_new = |pair: &&Pair| {
            !known.trusts(&pair.fingerprint) && !known.retired.contains(&pair.fingerprint)
        };
        let found: Vec<_> = pairs.iter().filter(is_new).collect();
        match found.as_slice() {
            [] if self.makes => Ok(None),
            [] => Err(CaError::Newcomer {
                path: self.dir.clone(),
                reason: "found no root that was never trusted, expected one: several replicas may share these files, so \
                         the hub makes none by itself. `meridian-hub next-root --ca-dir DIR` makes the files root-NAME.key and \
                         root-NAME.crt; give them to every replica, then order this again"
                    .to_owned(),
            }),
            [one] => {
                may_take_over(one, now)?;
                Ok(Some(one.root()))
            }
            several => Err(CaError::Newcomer {
                path: self.dir.clone(),
                reason: format!(
                    "found {} roots that were never trusted ({}), expected one: move the others away",
                    several.len(),
                    several
                        .iter()
                        .map(|pair| pair.path.display().to_string())
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            }),
        }
    }

    /// Makes a root beside those that are here.
    pub(super) fn make(&self, trust_domain: &TrustDomain, now: Timestamp) -> Result<Root, CaError> {
        let key = KeyPair::generate().map_err(CaError::Sign)?;
        let fingerprint = meridian_api::trust::fingerprint(&key.subject_public_key_info());
        let short: String = fingerprint.chars().skip("sha256:".len()).take(12).collect();
        let name = format!("root-{short}.key");
        let key_path = self.dir.join(&name);
        let clear = Zeroizing::new(key.serialize_pem());
        write_file(&key_path, clear.as_bytes(), 0o600)?;
        let certificate = root_params(trust_domain, now, Some(&short))
            .self_signed(&key)
            .map_err(CaError::Sign)?;
        let path = key_path.with_extension("crt");
        write_file(&path, certificate.pem().as_bytes(), 0o644)?;
        let pair = self.pair(&name)?;
        may_take_over(&pair, now)?;
        Ok(pair.root())
    }

    /// The bundle that was in force last, as this directory remembers it.
    pub(super) fn remembered(&self) -> Result<Option<Bundle>, CaError> {
        let path = self.dir.join(REMEMBERED);
        if !path.exists() {
            return Ok(None);
        }
        let text = read_text(&path)?;
        let bundle = serde_json::from_str(&text).map_err(|e| CaError::Content {
            path,
            reason: format!(
                "it does not say which roots are in force: {e}; restore it from a backup of this directory"
            ),
        })?;
        Ok(Some(bundle))
    }

    /// Remembers the bundle, where the directory is this hub's own.
    pub(super) fn remember(&self, bundle: &Bundle) -> Result<(), CaError> {
        if !self.own {
            return Ok(());
        }
        let path = self.dir.join(REMEMBERED);
        let text = serde_json::to_vec(bundle).map_err(|e| CaError::Content {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        write_file(&path, &text, 0o644)
    }
}

impl Pair {
    /// When its life began.
    pub(super) fn began(&self) -> Result<Timestamp, CaError> {
        let (_, parsed) = parse(self)?;
        let began = parsed.validity().not_before.timestamp();
        Timestamp::from_second(began).map_err(|e| CaError::Content {
            path: self.path.clone(),
            reason: format!("its life begins at no moment: {e}"),
        })
    }
}

fn parse(pair: &Pair) -> Result<(&[u8], x509_parser::certificate::X509Certificate<'_>), CaError> {
    x509_parser::parse_x509_certificate(&pair.certificate).map_err(|e| CaError::Newcomer {
        path: pair.path.clone(),
        reason: format!("cannot be read: {e}; expected a root certificate"),
    })
}

/// Refuses a root that could sign nothing that others believe.
fn may_take_over(pair: &Pair, now: Timestamp) -> Result<(), CaError> {
    let refused = |reason: String| CaError::Newcomer {
        path: pair.path.clone(),
        reason,
    };
    let (_, parsed) = parse(pair)?;
    let signs = parsed.key_usage().ok().flatten();
    let signs = signs.is_none_or(|usage| usage.value.key_cert_sign());
    if !parsed.is_ca() || !signs {
        return Err(refused(
            "found a certificate that may sign none, expected one of an authority (basicConstraints CA, keyUsage keyCertSign)"
                .to_owned(),
        ));
    }
    if parsed.verify_signature(None).is_err() {
        return Err(refused(
            "found a certificate that its own key did not sign, expected a root".to_owned(),
        ));
    }
    let life = parsed.validity();
    let now_s = now.as_second();
    if life.not_before.timestamp() > now_s {
        return Err(refused(format!(
            "is good from {} on only, the hub's clock says {now}",
            life.not_before
        )));
    }
    let least = now + LEAST_LIFE;
    if life.not_after.timestamp() < least.as_second() {
        return Err(refused(format!(
            "is good until {}, expected at least until {least}: it must outlive what it signs",
            life.not_after
        )));
    }
    Ok(())
}

/// Makes a root in a directory of an authority, for replicas that share its files; the path of its certificate.
///
/// # Errors
/// [`CaError`].
pub fn next_root(dir: &Path, trust_domain: &TrustDomain, now: Timestamp) -> Result<Root, CaError> {
    let pairs = Pairs::new(dir, root::GROUP, false);
    // An authority that cannot be read gets no second root.
    pairs.first()?;
    pairs.make(trust_domain, now)
}

/// Names of the first root's files.
pub(super) fn first_files(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join(KEY_FILE), dir.join(CERTIFICATE_FILE))
}
