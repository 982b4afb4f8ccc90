use super::*;

fn at(days: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * (20_000 + days))
}

fn usable(secret: &Secret, now: Timestamp) -> (Held, Option<&'static str>) {
    match find(Some(secret), "ns", now) {
        Found::Usable { held, due } => (held, due),
        Found::Useless(why) | Found::Foreign(why) => panic!("{why}"),
    }
}

fn useless(secret: &Secret, now: Timestamp) -> String {
    match find(Some(secret), "ns", now) {
        Found::Useless(why) => why,
        Found::Usable { .. } | Found::Foreign(_) => panic!("usable, or foreign"),
    }
}

fn text(secret: &Secret, key: &str) -> String {
    String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap()
}

#[test]
fn a_new_certificate_is_good_for_the_name_that_api_servers_call_until_half_of_its_life() {
    let secret = issue(None, "ns", at(0)).unwrap();
    let (held, due) = usable(&secret, at(0));
    assert_eq!(due, None);
    assert_eq!(held.key.cert.len(), 2, "the certificate and its authority");
    assert_eq!(usable(&secret, at(44)).1, None);
    assert_eq!(
        usable(&secret, at(45)).1,
        Some("half of its life has passed")
    );
    assert!(
        useless(&secret, at(90)).contains("is good from"),
        "it has ended"
    );
    assert!(
        useless(&secret, at(-1)).contains("is good from"),
        "it is not good yet"
    );
    assert!(
        matches!(find(Some(&secret), "other", at(0)), Found::Useless(why)
            if why == "its certificate is not for admission.other.svc")
    );
}

#[test]
fn what_clients_are_told_to_trust_proves_the_certificate_and_the_one_before() {
    let first = issue(None, "ns", at(0)).unwrap();
    let second = issue(Some(&first), "ns", at(50)).unwrap();
    let third = issue(Some(&second), "ns", at(100)).unwrap();
    proves(&second, &first, at(51)).unwrap();
    proves(&second, &second, at(51)).unwrap();
    proves(&third, &second, at(101)).unwrap();
    proves(&third, &first, at(89)).unwrap_err();
    assert_eq!(
        text(&third, CERTIFICATES)
            .matches("BEGIN CERTIFICATE")
            .count(),
        3,
        "only one authority is carried on"
    );
    let after_its_end = issue(Some(&first), "ns", at(91)).unwrap();
    assert_eq!(
        text(&after_its_end, CERTIFICATES)
            .matches("BEGIN CERTIFICATE")
            .count(),
        2,
        "an authority that has ended is not"
    );
}

/// Whether a client that trusts what the first Secret says accepts the certificate of the second.
fn proves(trusted: &Secret, served: &Secret, now: Timestamp) -> Result<(), String> {
    use rustls::client::{WebPkiServerVerifier, danger::ServerCertVerifier as _};
    let mut roots = rustls::RootCertStore::empty();
    let bundle = bundle(trusted).unwrap();
    roots.add_parsable_certificates(
        CertificateDer::pem_slice_iter(bundle.as_bytes()).map(|certificate| certificate.unwrap()),
    );
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| error.to_string())?;
    let chain = usable(served, now).0.key.cert.clone();
    let name = "admission.ns.svc".try_into().unwrap();
    let seconds = u64::try_from(now.as_second()).unwrap();
    let moment =
        rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    verifier
        .verify_server_cert(&chain[0], &chain[1..], &name, &[], moment)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

#[test]
fn a_secret_of_ours_that_cannot_be_used_says_why() {
    let good = issue(None, "ns", at(0)).unwrap();
    let with = |key: &str, value: &[u8]| {
        let mut secret = good.clone();
        secret
            .data
            .as_mut()
            .unwrap()
            .insert(key.to_owned(), ByteString(value.to_vec()));
        secret
    };
    let other = issue(None, "ns", at(0)).unwrap();
    let cases = [
        (with(PRIVATE_KEY, b"garbled"), "`privateKey` is no PEM"),
        (
            with(PRIVATE_KEY, &[0xff]),
            "it has no text under `privateKey`",
        ),
        (
            with(CERTIFICATES, b"garbled"),
            "`cert` holds no certificate",
        ),
        (
            with(PRIVATE_KEY, text(&other, PRIVATE_KEY).as_bytes()),
            "`privateKey` does not belong to `cert`",
        ),
    ];
    for (secret, expected) in cases {
        let why = useless(&secret, at(0));
        assert!(why.starts_with(expected), "{why}");
    }
    assert!(matches!(find(None, "ns", at(0)), Found::Useless(why) if why == "there is none"));
}

#[test]
fn a_secret_of_somebody_else_is_used_as_it_is_and_never_due() {
    let mut brought = issue(None, "ns", at(0)).unwrap();
    brought.metadata.labels = None;
    assert_eq!(usable(&brought, at(80)).1, None, "its renewal is theirs");
    let root = ByteString(b"their root".to_vec());
    brought
        .data
        .as_mut()
        .unwrap()
        .insert(AUTHORITIES.to_owned(), root);
    assert_eq!(usable(&brought, at(80)).0.bundle, "their root");
    assert!(
        matches!(find(Some(&brought), "ns", at(90)), Found::Foreign(why) if why.contains("is good from"))
    );
}

#[test]
fn the_key_of_an_authority_is_kept_nowhere() {
    let secret = issue(None, "ns", at(0)).unwrap();
    assert_eq!(secret.data.as_ref().unwrap().len(), 2);
    assert_eq!(text(&secret, PRIVATE_KEY).matches("PRIVATE KEY").count(), 2);
    let owner = secret.metadata.labels.unwrap();
    assert_eq!(owner[MANAGED_BY], FIELD_MANAGER);
}

#[test]
fn the_secret_of_the_webhook_is_golden() {
    let secret = issue(None, "ns", at(0)).unwrap();
    let found = crate::k8s::testing::without_secrets(secret);
    crate::k8s::testing::golden("admission/golden/secret", &found);
}
