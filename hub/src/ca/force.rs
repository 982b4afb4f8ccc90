//! What is in force: the bundle, and the key that signs. It is exchanged as a whole, so nobody ever sees the roots of one version
//! with the key of another.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use meridian_api::identity::TrustDomain;
use meridian_api::trust;
use rcgen::{Issuer, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::watch;

use super::pairs::{Pair, Pairs};
use super::{Authority, CaError};
use crate::domain::trust::{Bundle, Root};

/// A bundle, read.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) bundle: Bundle,
    pub(super) issuer: Issuer<'static, KeyPair>,
    roots: Vec<CertificateDer<'static>>,
}

impl InForce {
    fn of(bundle: Bundle, signer: Pair, dir: &Path) -> Result<Self, CaError> {
        let read = |root: &Root| {
            CertificateDer::from_pem_slice(root.pem.as_bytes()).map_err(|e| CaError::Content {
                path: dir.to_owned(),
                reason: format!(
                    "the root {} of bundle {} cannot be read: {e}",
                    root.fingerprint, bundle.version
                ),
            })
        };
        let roots: Vec<_> = bundle.roots.iter().map(read).collect::<Result<_, _>>()?;
        let issuer =
            Issuer::from_ca_cert_der(&signer.certificate, signer.key).map_err(CaError::Sign)?;
        Ok(Self {
            bundle,
            issuer,
            roots,
        })
    }

    /// The root that signed a certificate, if it is trusted.
    pub(super) fn signer_of(&self, certificate: &CertificateDer<'_>) -> Option<String> {
        trust::signer(certificate, self.roots.iter().map(|root| root.as_ref()))
    }

    pub(super) fn fingerprints(&self) -> Vec<&str> {
        let roots = self.bundle.roots.iter();
        roots.map(|root| root.fingerprint.as_str()).collect()
    }
}

impl Authority {
    /// Over the key pairs of a directory: with the bundle that it remembers, or with its first root alone.
    pub(super) fn over(pairs: Pairs, trust_domain: TrustDomain) -> Result<Self, CaError> {
        let bundle = match pairs.remembered()? {
            Some(bundle) => bundle,
            None => {
                let first = pairs.first()?;
                Bundle::first(first.root(), first.began()?)
            }
        };
        let force = in_force(&pairs, bundle)?;
        let version = force.bundle.version;
        Ok(Self {
            trust_domain,
            pairs,
            force: ArcSwap::from_pointee(force),
            changed: watch::Sender::new(version),
            serving: None.into(),
        })
    }

    /// Puts a bundle in force: what is signed and trusted from now on. The directory remembers it before anybody is told.
    ///
    /// # Errors
    /// [`CaError`] if its first root has no key here; then the bundle before stays in force.
    pub fn put_in_force(&self, bundle: Bundle) -> Result<(), CaError> {
        if self.force.load().bundle == bundle {
            return Ok(());
        }
        let force = in_force(&self.pairs, bundle)?;
        self.pairs.remember(&force.bundle)?;
        let version = force.bundle.version;
        tracing::info!(
            version,
            stage = force.bundle.stage().word(),
            signer = force.bundle.signer(),
            "other roots are in force"
        );
        self.force.store(Arc::new(force));
        self.changed.send_replace(version);
        Ok(())
    }

    /// Changes when other roots are in force; holds their version.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The bundle in force.
    #[must_use]
    pub fn bundle(&self) -> Bundle {
        self.force.load().bundle.clone()
    }

    /// Version of the bundle in force.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.force.load().bundle.version
    }

    /// [`trust::digest`] of the roots in force, in hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> String {
        digest_of(&self.force.load().roots)
    }

    /// Fingerprint of the root that signs.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.force.load().bundle.signer().to_owned()
    }

    /// The roots in force, DER, the one that signs first.
    #[must_use]
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.force.load().roots.clone()
    }

    /// The roots in force with their version.
    #[must_use]
    pub fn versioned(&self) -> (u64, Vec<CertificateDer<'static>>) {
        let force = self.force.load();
        (force.bundle.version, force.roots.clone())
    }

    /// The roots in force, PEM: what join material pins.
    #[must_use]
    pub fn roots_pem(&self) -> String {
        let force = self.force.load();
        let roots = force.bundle.roots.iter();
        roots.map(|root| root.pem.as_str()).collect()
    }

    /// Whether the directory has the key of this root now.
    ///
    /// # Errors
    /// [`CaError`] if a file cannot be read.
    pub fn holds(&self, fingerprint: &str) -> Result<bool, CaError> {
        let pairs = self.pairs.read()?;
        Ok(pairs.iter().any(|pair| pair.fingerprint == fingerprint))
    }

    /// Whether a root is, or was, one of this authority: it is in force or was, or its key lies here.
    ///
    /// # Errors
    /// As [`Authority::holds`].
    pub fn knows(&self, fingerprint: &str) -> Result<bool, CaError> {
        Ok(self.bundle().knew(fingerprint) || self.holds(fingerprint)?)
    }

    /// What is said where the key of a root is missing.
    #[must_use]
    pub fn no_root(&self, fingerprint: &str) -> CaError {
        CaError::NoRoot {
            dir: self.pairs.dir().to_owned(),
            fingerprint: fingerprint.to_owned(),
        }
    }

    /// The bundle of an authority that was never rotated, with this root.
    ///
    /// # Errors
    /// [`CaError::NoRoot`].
    pub fn first_of(&self, fingerprint: &str) -> Result<Bundle, CaError> {
        let pair = self.pairs.of(fingerprint)?;
        Ok(Bundle::first(pair.root(), pair.began()?))
    }

    /// The root that is to take over: one that lies in the directory beside those in force, or a new one where the directory
    /// belongs to this hub. With `dry_run` none is made, and `None` says that one would be.
    ///
    /// # Errors
    /// [`CaError::Newcomer`] says what cannot take over, and why.
    pub fn newcomer(&self, now: Timestamp, dry_run: bool) -> Result<Option<Root>, CaError> {
        let known = self.bundle();
        let found = self.pairs.newcomer(&known, now)?;
        if found.is_some() || dry_run && self.pairs.makes() {
            return Ok(found);
        }
        self.pairs.make(&self.trust_domain, now).map(Some)
    }

    /// Root that signed the certificate which this process shows; empty before the first.
    #[must_use]
    pub fn serving(&self) -> String {
        let serving = self.serving.load();
        serving.as_deref().cloned().unwrap_or_default()
    }

    /// Notes which root signed the certificate that this process shows now.
    pub fn serves(&self, signer: &str) {
        self.serving.store(Some(Arc::new(signer.to_owned())));
    }
}

fn in_force(pairs: &Pairs, bundle: Bundle) -> Result<InForce, CaError> {
    let signer = pairs.of(bundle.signer())?;
    InForce::of(bundle, signer, pairs.dir())
}

fn digest_of(roots: &[CertificateDer<'_>]) -> String {
    let digest = trust::digest(roots.iter().map(|root| root.as_ref()));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// When the life of a root certificate, PEM, ends.
#[must_use]
pub fn ends_at(pem: &str) -> Option<Timestamp> {
    let root = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&root).ok()?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
}
