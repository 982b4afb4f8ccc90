use std::os::unix::fs::PermissionsExt as _;

use k8s_openapi::ByteString;

use super::*;

fn pair() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    (certificate, key.serialize_pem())
}

fn secret(pairs: &[(Role, &(String, String))]) -> Secret {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let entries = pairs.iter().flat_map(|(role, (certificate, key))| {
        [
            (format!("{role}.crt"), bytes(certificate)),
            (format!("{role}.key"), bytes(key)),
        ]
    });
    Secret {
        data: Some(entries.collect()),
        ..Secret::default()
    }
}

fn own() -> (tempfile::TempDir, Arc<Own>) {
    let dir = tempfile::tempdir().unwrap();
    let own = Own::new(dir.path().join("tls"));
    (dir, own)
}

fn file(dir: &tempfile::TempDir, path: &str) -> String {
    std::fs::read_to_string(dir.path().join("tls").join(path)).unwrap()
}

fn shown(own: &Own, role: Role) -> Option<Vec<CertificateDer<'static>>> {
    own.live[&role]
        .0
        .load()
        .as_ref()
        .map(|key| key.cert.clone())
}

#[test]
fn files_are_private_and_belong_together_and_the_generation_rises_with_changes_only() {
    let (dir, own) = own();
    let generation = own.generation();
    let (first, second) = (pair(), pair());
    assert_eq!(*generation.borrow(), 0);
    own.apply(&secret(&[(Role::Proxy, &first)]));
    assert_eq!(*generation.borrow(), 1);
    own.apply(&secret(&[(Role::Proxy, &first)]));
    assert_eq!(*generation.borrow(), 1, "nothing changed");
    assert_eq!(file(&dir, "proxy/tls.crt"), first.0);
    own.apply(&secret(&[(Role::Proxy, &second), (Role::Api, &first)]));
    assert_eq!(*generation.borrow(), 2);
    assert_eq!(file(&dir, "proxy/tls.crt"), second.0);
    assert_eq!(file(&dir, "proxy/tls.key"), second.1);
    assert_eq!(file(&dir, "api/tls.key"), first.1);
    let mode = |path: &str| {
        let path = dir.path().join("tls").join(path);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("proxy/tls.key"), mode("proxy")), (0o600, 0o700));
}

#[test]
fn a_pair_that_does_not_fit_changes_nothing_and_hides_no_other() {
    let (dir, own) = own();
    let (good, other) = (pair(), pair());
    own.apply(&secret(&[(Role::Api, &good)]));
    let before = shown(&own, Role::Api);
    let mixed = (other.0.clone(), good.1.clone());
    own.apply(&secret(&[(Role::Api, &mixed), (Role::Cm, &other)]));
    assert_eq!(shown(&own, Role::Api), before);
    assert_eq!(file(&dir, "api/tls.crt"), good.0);
    assert_eq!(file(&dir, "cm/tls.crt"), other.0);
    own.apply(&Secret::default());
    assert_eq!(
        shown(&own, Role::Api),
        before,
        "an empty Secret says nothing"
    );
}

#[test]
fn at_most_two_pairs_of_a_role_are_kept() {
    let (dir, own) = own();
    for _ in 0..4 {
        own.apply(&secret(&[(Role::Api, &pair()), (Role::Cm, &pair())]));
    }
    let names = std::fs::read_dir(dir.path().join("tls")).unwrap();
    let of_api = names
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("api-"));
    assert_eq!(of_api.count(), 2);
}

#[test]
fn a_process_that_starts_again_finds_the_files_and_tells_a_generation_all_the_same() {
    let (dir, own) = own();
    let pair = pair();
    own.apply(&secret(&[(Role::Syncer, &pair)]));
    let next = Own::new(dir.path().join("tls"));
    assert_eq!(shown(&next, Role::Syncer), None);
    next.apply(&secret(&[(Role::Syncer, &pair)]));
    assert_eq!(*next.generation().borrow(), 1);
    assert!(shown(&next, Role::Syncer).is_some());
}
