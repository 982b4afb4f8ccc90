//! A certificate authority and fixtures for the tests of this folder.

use meridian_api::link::{Bytes, proto};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa,
    KeyPair, SanType, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

mod member;
mod world;

pub(super) use member::{MemoryJournal, MemoryMember};
pub(super) use world::{Wire, World, id, instance, item, position, rerc, tombstone, welcome};

/// Signs what the tests ask for.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    pub(super) fn root_pem(&self) -> String {
        self.issuer.pem()
    }

    /// Both roots; this one signs.
    pub(super) fn bundle_with(&self, other: &Self, version: u64) -> proto::TrustBundle {
        let mut bundle = self.bundle(version);
        bundle.roots.extend(other.bundle(version).roots);
        bundle
    }

    pub(super) fn bundle(&self, version: u64) -> proto::TrustBundle {
        proto::TrustBundle {
            version,
            roots: vec![Bytes::copy_from_slice(self.issuer.der())],
            trust_domain: "meridian.local".to_owned(),
        }
    }

    /// Signs the request's key for the days from 2026-01-01 to 2026-01-01 plus `years`.
    pub(super) fn sign(&self, csr_der: &[u8], years: i32) -> Bytes {
        let request = CertificateSigningRequestParams::from_der(&csr_der.to_vec().into()).unwrap();
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026 + years, 1, 1);
        params.subject_alt_names = vec![SanType::URI(
            "spiffe://meridian.local/cluster/u1".try_into().unwrap(),
        )];
        let signed = params.signed_by(&request.public_key, &self.issuer).unwrap();
        Bytes::copy_from_slice(signed.der())
    }

    /// A certificate for the server 127.0.0.1, and its key.
    pub(super) fn server(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let der = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (signed.der().clone(), der)
    }

    /// The answer of a hub to `csr_der`.
    pub(super) fn result(&self, csr_der: &[u8]) -> proto::EnrollResult {
        proto::EnrollResult {
            certificate_chain: vec![self.sign(csr_der, 1)],
            trust: Some(self.bundle(1)),
            cluster_uid: "u1".to_owned(),
            cluster_name: "eu-1".to_owned(),
            hub_addresses: vec!["hub.example:8444".to_owned()],
            join_state: Bytes::from_static(b"state-1"),
            ..proto::EnrollResult::default()
        }
    }
}
