use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use meridian_api::identity::RecName;
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::UnixTime;
use x509_parser::extensions::GeneralName;

use super::*;
use crate::ca::root::write_file;

const UID: &str = "6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e11";

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn domain() -> TrustDomain {
    TrustDomain::default()
}

fn authority() -> (Authority, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (authority, origin) = Authority::open(dir.path(), domain(), now()).unwrap();
    assert_eq!(origin, Origin::Created);
    (authority, dir)
}

/// A request that asks for everything it must not get.
fn greedy_request(key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::URI(
        "spiffe://meridian.local/cluster/other".try_into().unwrap(),
    ));
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.serialize_request(key).unwrap().der().to_vec()
}

fn plain_request(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default()
        .serialize_request(key)
        .unwrap()
        .der()
        .to_vec()
}

#[test]
fn a_second_start_reads_the_same_root_and_its_key_is_private() {
    let (first, dir) = authority();
    let (second, origin) = Authority::open(dir.path(), domain(), now()).unwrap();
    assert_eq!(origin, Origin::Loaded);
    assert_eq!(first.roots(), second.roots());
    let mode = std::fs::metadata(dir.path().join("root.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_key_that_others_can_read_is_refused_by_name() {
    let (_, dir) = authority();
    let path = dir.path().join("root.key");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Authority::open(dir.path(), domain(), now())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("root.key") && error.contains("0640") && error.contains("chmod 600"),
        "{error}"
    );
}

#[test]
fn a_root_certificate_of_another_key_is_refused() {
    let (_, dir) = authority();
    let (other, _other_dir) = authority();
    write_file(
        &dir.path().join("root.crt"),
        other.roots_pem().as_bytes(),
        0o644,
    )
    .unwrap();
    let error = Authority::open(dir.path(), domain(), now())
        .unwrap_err()
        .to_string();
    assert!(error.contains("another key"), "{error}");
}

#[test]
fn a_start_that_ended_before_the_certificate_was_written_is_completed() {
    let (_, dir) = authority();
    std::fs::remove_file(dir.path().join("root.crt")).unwrap();
    Authority::open(dir.path(), domain(), now()).unwrap();
    assert!(dir.path().join("root.crt").exists());
}

#[test]
fn only_the_public_key_of_a_request_is_taken() {
    let (authority, _dir) = authority();
    let key = KeyPair::generate().unwrap();
    let cluster: ClusterUid = UID.parse().unwrap();
    let issued = authority
        .issue_agent(cluster, &greedy_request(&key), now())
        .unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&issued.chain[0]).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    let uri = format!("spiffe://meridian.local/cluster/{UID}");
    assert!(
        matches!(names.value.general_names.as_slice(), [GeneralName::URI(found)] if *found == uri)
    );
    assert!(!parsed.is_ca());
    assert_eq!(
        parsed.public_key().subject_public_key.data.as_ref(),
        key.public_key_raw()
    );
    let purposes = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.client_auth && !purposes.server_auth);
    assert_eq!(
        authority.identify(&issued.chain[0]).unwrap(),
        SpiffeId::agent(domain(), cluster)
    );
}

#[test]
fn certificates_are_back_dated_and_live_as_long_as_promised() {
    let (authority, _dir) = authority();
    let key = KeyPair::generate().unwrap();
    let cluster: ClusterUid = UID.parse().unwrap();
    let agent = authority
        .issue_agent(cluster, &plain_request(&key), now())
        .unwrap();
    let identity = SpiffeId::peer(domain(), cluster, RecName::new("db", "rec").unwrap());
    let peer = authority
        .issue_peer(
            identity.clone(),
            &["*.rec.db.lab-1.meridian.internal".to_owned()],
            &plain_request(&key),
            now(),
        )
        .unwrap();
    for (issued, days) in [(&agent, 7), (&peer, 90)] {
        let (_, parsed) = x509_parser::parse_x509_certificate(&issued.chain[0]).unwrap();
        assert_eq!(
            parsed.validity().not_before.timestamp(),
            (now() - BACKDATE).as_second()
        );
        assert_eq!(
            parsed.validity().not_after.timestamp(),
            now().as_second() + days * 86_400
        );
    }
    let (_, parsed) = x509_parser::parse_x509_certificate(&peer.chain[0]).unwrap();
    let purposes = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.client_auth && purposes.server_auth);
    assert_eq!(authority.identify(&peer.chain[0]).unwrap(), identity);
}

#[test]
fn the_chain_of_an_agent_verifies_against_this_root_and_no_other() {
    let (ours, _dir) = authority();
    let (foreign, _foreign_dir) = authority();
    let key = KeyPair::generate().unwrap();
    let issued = ours
        .issue_agent(UID.parse().unwrap(), &plain_request(&key), now())
        .unwrap();
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        now().as_second().unsigned_abs(),
    ));
    let verify = |root: &Authority| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root.roots()[0].clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        verifier
            .build()
            .unwrap()
            .verify_client_cert(&issued.chain[0], &issued.chain[1..], time)
    };
    verify(&ours).unwrap();
    verify(&foreign).unwrap_err();
}

#[test]
fn a_request_that_its_own_key_did_not_sign_is_refused() {
    let (authority, _dir) = authority();
    let mut request = plain_request(&KeyPair::generate().unwrap());
    *request.last_mut().unwrap() ^= 1;
    let refused = authority.issue_agent(UID.parse().unwrap(), &request, now());
    assert!(matches!(refused, Err(CaError::Request(_))), "{refused:?}");
}

#[test]
fn anything_but_a_request_is_refused() {
    let (authority, _dir) = authority();
    let mut trailing = plain_request(&KeyPair::generate().unwrap());
    trailing.push(0);
    for request in [vec![], vec![0x30], trailing] {
        let refused = authority.issue_agent(UID.parse().unwrap(), &request, now());
        assert!(matches!(refused, Err(CaError::Request(_))), "{refused:?}");
    }
}

#[test]
fn identities_of_other_trust_domains_and_shapes_are_refused() {
    let (ours, _dir) = authority();
    let other_dir = tempfile::tempdir().unwrap();
    let (other, _) =
        Authority::open(other_dir.path(), "elsewhere".parse().unwrap(), now()).unwrap();
    let key = KeyPair::generate().unwrap();
    let foreign = other
        .issue_agent(UID.parse().unwrap(), &plain_request(&key), now())
        .unwrap();
    assert!(matches!(
        ours.identify(&foreign.chain[0]),
        Err(CaError::Identity(_))
    ));
    let server = ours.issue_server(&["localhost".to_owned()], now()).unwrap();
    assert!(matches!(
        ours.identify(&server.chain[0]),
        Err(CaError::Identity(_))
    ));
}

#[test]
fn a_server_name_that_is_no_host_is_refused_by_name() {
    let (authority, _dir) = authority();
    let error = authority
        .issue_server(&["not a host".to_owned()], now())
        .unwrap_err()
        .to_string();
    assert!(error.contains("not a host"), "{error}");
}

#[test]
fn a_given_authority_is_only_read_and_its_group_may_read_it_too() {
    let (made, dir) = authority();
    let path = dir.path().join("root.key");
    let readable = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Authority::given(dir.path(), domain())
    };
    let (given, origin) = readable(0o440).unwrap();
    assert_eq!(origin, Origin::Given);
    assert_eq!(given.fingerprint(), made.fingerprint());
    let error = readable(0o644).unwrap_err().to_string();
    assert!(error.contains("0644") && error.contains("0640"), "{error}");

    let empty = tempfile::tempdir().unwrap();
    let error = Authority::given(empty.path(), domain()).unwrap_err();
    assert!(error.to_string().contains("root.key"), "{error}");
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
}

/// Files of a root of our own making beside those of an authority.
fn beside(dir: &tempfile::TempDir, params: &CertificateParams, key: &KeyPair) -> String {
    let certificate = params.self_signed(key).unwrap();
    let path = dir.path().join("root-x.key");
    write_file(&path, key.serialize_pem().as_bytes(), 0o600).unwrap();
    write_file(
        &path.with_extension("crt"),
        certificate.pem().as_bytes(),
        0o644,
    )
    .unwrap();
    let (given, _) = Authority::given(dir.path(), domain()).unwrap();
    match given.newcomer(now(), false) {
        Ok(root) => format!("taken: {}", root.unwrap().fingerprint),
        Err(refused) => refused.to_string(),
    }
}

#[test]
fn a_root_that_cannot_take_over_is_refused_with_its_file_and_the_reason() {
    let (_, dir) = authority();
    let key = KeyPair::generate().unwrap();
    let good = || root::root_params(&domain(), now(), Some("x"));
    assert!(beside(&dir, &good(), &key).starts_with("taken: sha256:"));
    let mut plain = good();
    plain.is_ca = IsCa::ExplicitNoCa;
    let mut unfit = good();
    unfit.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let mut ended = good();
    ended.not_after = SystemTime::from(now() - BACKDATE).into();
    let mut short = good();
    short.not_after = SystemTime::from(now() + PEER_LIFE).into();
    let mut early = good();
    early.not_before = SystemTime::from(now() + BACKDATE).into();
    for (params, word) in [
        (plain, "may sign none"),
        (unfit, "may sign none"),
        (ended, "is good until"),
        (short, "is good until"),
        (early, "is good from"),
    ] {
        let told = beside(&dir, &params, &key);
        assert!(told.contains("root-x.crt") && told.contains(word), "{told}");
    }
}

#[test]
fn the_key_that_signs_is_no_new_root_whatever_its_files_are_called() {
    let (_, dir) = authority();
    for end in ["key", "crt"] {
        let from = dir.path().join(format!("root.{end}"));
        std::fs::copy(from, dir.path().join(format!("root-x.{end}"))).unwrap();
    }
    let (given, _) = Authority::given(dir.path(), domain()).unwrap();
    let refused = given.newcomer(now(), false).unwrap_err().to_string();
    assert!(refused.contains("never trusted"), "{refused}");
}
