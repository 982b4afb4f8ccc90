//! Certificates for a group of standalone regions: one authority, one identity per region.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::atomic_file::{self, FileError};

/// The trust domain of identities.
pub const TRUST_DOMAIN: &str = "meridian.local";

/// Clocks of regions differ a little: a certificate counts from this long before it was made.
const BACKDATED_SECONDS: i64 = 300;

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// There are some already; they are not overwritten, because running regions trust them.
    #[error("{0} is already there: use another --dir, or move it away first")]
    Exists(PathBuf),
    /// A certificate could not be made.
    #[error("make a certificate")]
    Make(#[from] rcgen::Error),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The identity of a standalone region.
#[must_use]
pub fn region_spiffe_id(id: u32) -> String {
    format!("spiffe://{TRUST_DOMAIN}/standalone/region/{id}")
}

/// Makes an authority in `dir` and one identity per region below it, valid for `days` from `now_ms`. The authority's key is
/// not kept: a group gets all its identities at once.
///
/// # Errors
/// [`CertsError`] if they exist already or cannot be written.
pub fn make_group(dir: &Path, regions: u32, days: u32, now_ms: u64) -> Result<(), CertsError> {
    let ca_path = dir.join("ca.crt");
    if ca_path.exists() {
        return Err(CertsError::Exists(ca_path));
    }
    atomic_file::make_dir(dir)?;
    let ca_key = KeyPair::generate()?;
    let mut ca = params("Meridian standalone group", days, now_ms);
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);
    for id in 1..=regions {
        let directory = dir.join(format!("region-{id}"));
        atomic_file::make_dir(&directory)?;
        let key = KeyPair::generate()?;
        let mut region = params(&format!("region {id}"), days, now_ms);
        region.subject_alt_names = vec![SanType::URI(region_spiffe_id(id).try_into()?)];
        region.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        region.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = region.signed_by(&key, &issuer)?;
        atomic_file::write(&directory.join("tls.key"), key.serialize_pem().as_bytes())?;
        atomic_file::write(&directory.join("tls.crt"), certificate.pem().as_bytes())?;
        atomic_file::write(&directory.join("ca.crt"), ca_pem.as_bytes())?;
    }
    // Last, so that a group that was cut short can be made again.
    atomic_file::write(&ca_path, ca_pem.as_bytes())?;
    Ok(())
}

fn params(name: &str, days: u32, now_ms: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = i64::try_from(now_ms / 1000).unwrap_or(0);
    let date = |(year, month, day)| rcgen::date_time_ymd(year, month, day);
    params.not_before = date(midnight(now - BACKDATED_SECONDS));
    params.not_after = date(midnight(now + (i64::from(days) + 1) * 86_400));
    params
}

/// Midnight (UTC) of the day that `unix_seconds` lies in; the epoch for what no calendar knows.
fn midnight(unix_seconds: i64) -> (i32, u8, u8) {
    let date = jiff::Timestamp::from_second(unix_seconds)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date();
    (
        i32::from(date.year()),
        date.month().unsigned_abs(),
        date.day().unsigned_abs(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_counts_from_before_and_until_after_the_asked_days() {
        let now = 1_700_000_000_u64;
        assert_eq!(midnight(1_700_000_000), (2023, 11, 14));
        let params = params("x", 1, now * 1000);
        assert!(params.not_before.unix_timestamp() < 1_700_000_000);
        assert!(params.not_after.unix_timestamp() >= 1_700_000_000 + 86_400);
    }

    #[test]
    fn a_group_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        make_group(dir.path(), 2, 1, crate::clock::wall_ms()).unwrap();
        assert!(dir.path().join("region-2/tls.key").exists());
        let error = make_group(dir.path(), 2, 1, crate::clock::wall_ms()).unwrap_err();
        assert!(matches!(error, CertsError::Exists(_)), "{error}");
    }
}
