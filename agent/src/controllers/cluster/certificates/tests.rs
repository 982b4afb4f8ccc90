use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use super::*;

const PLACE: Place<'static> = Place {
    name: "rec",
    namespace: "ns",
    api_host: Some("api.example.com"),
    database_suffix: Some(".db.example.com"),
};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-03-01T10:00:00Z")
}

/// A pair from 2026 to 2027, as somebody else makes it.
fn foreign() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["theirs".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    let certificate = params.self_signed(&key).unwrap().pem();
    (certificate, key.serialize_pem())
}

fn secret(entries: &[(&str, &str)]) -> Secret {
    let entry = |(key, text): &(&str, &str)| {
        let bytes = ByteString(text.as_bytes().to_vec());
        ((*key).to_owned(), bytes)
    };
    Secret {
        data: Some(entries.iter().map(entry).collect()),
        ..Secret::default()
    }
}

fn given(role: Role, found: Option<Secret>) -> BTreeMap<Role, Given> {
    let given = Given {
        secret: "mine".to_owned(),
        found,
    };
    BTreeMap::from([(role, given)])
}

fn run(ours: Option<&Certificates>, given: &BTreeMap<Role, Given>, now: Timestamp) -> Certificates {
    let ours = ours.map(|ours| Secret {
        metadata: kube::api::ObjectMeta {
            annotations: Some(ours.annotations()),
            ..kube::api::ObjectMeta::default()
        },
        data: Some(ours.data()),
        ..Secret::default()
    });
    let before = Before {
        ours: ours.as_ref(),
        given,
        idle: &BTreeMap::new(),
        shown: None,
    };
    decide(&PLACE, &before, now).unwrap()
}

fn text(certificates: &Certificates, key: &str) -> String {
    String::from_utf8(certificates.data()[key].0.clone()).unwrap()
}

#[test]
fn without_any_secret_every_role_signs_itself_once() {
    let first = run(None, &BTreeMap::new(), now());
    assert_eq!(first.data().len(), 10);
    assert_eq!(first.status().generation, Some(1));
    assert_eq!(first.status().update_status.as_deref(), Some("Completed"));
    let again = run(Some(&first), &BTreeMap::new(), now());
    assert_eq!(again, first);
}

#[test]
fn a_self_signed_certificate_is_renewed_after_two_thirds_of_its_life() {
    let first = run(None, &BTreeMap::new(), now());
    let day = |days: i64| now() + jiff::SignedDuration::from_hours(24 * days);
    assert_eq!(run(Some(&first), &BTreeMap::new(), day(242)), first);
    let renewed = run(Some(&first), &BTreeMap::new(), day(244));
    for role in Role::ALL.into_iter().filter(|role| role.is_always_there()) {
        let key = format!("{role}.crt");
        assert_ne!(text(&renewed, &key), text(&first, &key));
    }
    assert_eq!(renewed.status().generation, Some(2));
}

#[test]
fn a_new_name_of_the_cluster_makes_a_new_self_signed_certificate() {
    let first = run(None, &BTreeMap::new(), now());
    let secret = Secret {
        data: Some(first.data()),
        metadata: serde_json::from_value(json!({"annotations": first.annotations()})).unwrap(),
        ..Secret::default()
    };
    let before = Before {
        ours: Some(&secret),
        given: &BTreeMap::new(),
        idle: &BTreeMap::new(),
        shown: None,
    };
    let place = Place {
        api_host: Some("other.example.com"),
        ..PLACE
    };
    let moved = decide(&place, &before, now()).unwrap();
    assert_ne!(text(&moved, "api.crt"), text(&first, "api.crt"));
    assert_eq!(text(&moved, "proxy.crt"), text(&first, "proxy.crt"));
    assert_eq!(
        moved.status().generation,
        Some(1),
        "neither proxy nor syncer"
    );
}

#[test]
fn self_signed_certificates_carry_the_names_by_which_services_are_called() {
    let names = |role| format!("{:?}", Names::of(&PLACE, role));
    let cases = [
        (Role::Api, "\"rec.ns.svc.cluster.local\""),
        (Role::Api, "\"rec-api.ns.svc\""),
        (Role::Api, "\"api.example.com\""),
        (Role::Api, "\"*.rec.ns.svc.cluster.local\""),
        (Role::Cm, "\"rec-ui.ns.svc\""),
        (Role::Metrics, "\"rec-prom.ns.svc\""),
        (Role::Proxy, "\"*.ns.svc.cluster.local\""),
        (Role::Proxy, "\"*.db.example.com\""),
    ];
    for (role, name) in cases {
        assert!(names(role).contains(name), "{role}: {}", names(role));
    }
    let odd = Place {
        database_suffix: Some("-db.example.com"),
        ..PLACE
    };
    let names = format!("{:?}", Names::of(&odd, Role::Proxy));
    assert!(!names.contains("-db.example.com"), "{names}");
}

#[test]
fn the_secret_of_a_person_is_used_under_every_name_that_its_keys_may_have() {
    let (certificate, key) = foreign();
    let forms = [
        [("certificate", &certificate), ("key", &key)],
        [("cert", &certificate), ("key", &key)],
        [("tls.crt", &certificate), ("tls.key", &key)],
    ];
    for form in forms {
        let secret = secret(&form.map(|(name, text)| (name, text.as_str())));
        let decided = run(None, &given(Role::Proxy, Some(secret)), now());
        assert_eq!(decided.troubles, [], "{:?}", form.map(|(name, _)| name));
        assert_eq!(text(&decided, "proxy.crt"), certificate);
        assert_eq!(text(&decided, "proxy.key"), key);
        assert!(decided.origins().contains("proxy: Secret \"mine\""));
    }
}

#[test]
fn the_authority_in_the_secret_is_appended_once() {
    let ((certificate, key), (authority, _)) = (foreign(), foreign());
    let mut found = secret(&[
        ("tls.crt", &certificate),
        ("tls.key", &key),
        ("ca.crt", &authority),
    ]);
    let decided = run(None, &given(Role::Api, Some(found.clone())), now());
    let both = format!("{certificate}{authority}");
    assert_eq!(text(&decided, "api.crt"), both);
    let whole = ByteString(both.clone().into_bytes());
    found
        .data
        .get_or_insert_default()
        .insert("tls.crt".to_owned(), whole);
    let decided = run(None, &given(Role::Api, Some(found)), now());
    assert_eq!(text(&decided, "api.crt"), both);
}

#[test]
fn what_cannot_be_used_is_told_and_the_certificate_before_stays() {
    let (certificate, key) = foreign();
    let (_, another) = foreign();
    let good = secret(&[("tls.crt", &certificate), ("tls.key", &key)]);
    let before = run(None, &given(Role::Api, Some(good.clone())), now());
    let cases = [
        (None, now(), "Secret \"mine\": not found, expected a Secret"),
        (Some(secret(&[("tls.key", &key)])), now(), "\"tls.crt\"]"),
        (
            Some(secret(&[("cert", &certificate)])),
            now(),
            "[\"key\", \"tls.key\"]",
        ),
        (
            Some(secret(&[("cert", "x"), ("key", &key)])),
            now(),
            "key \"cert\": found no certificate",
        ),
        (
            Some(secret(&[("cert", &certificate), ("key", "x")])),
            now(),
            "key \"key\": found",
        ),
        (
            Some(secret(&[("cert", &certificate), ("key", &another)])),
            now(),
            "key \"key\": found a private key of another certificate, expected the one",
        ),
        (
            Some(good.clone()),
            at("2027-01-02T00:00:00Z"),
            "good from 2026-01-01T00:00:00Z to 2027-01-01T00:00:00Z only",
        ),
        (
            Some(good),
            at("2025-12-31T00:00:00Z"),
            "expected one that is good now; renew it",
        ),
    ];
    for (found, now, expected) in cases {
        let decided = run(Some(&before), &given(Role::Api, found), now);
        let told: Vec<String> = decided.troubles.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{expected}");
        assert!(told[0].contains(expected), "{}", told[0]);
        assert!(told[0].starts_with("spec.certificates.apiCertificateSecretName: "));
        assert!(
            told[0].ends_with("that came from the Secret \"mine\" before stays in use"),
            "{}",
            told[0]
        );
        assert_eq!(text(&decided, "api.crt"), certificate);
        assert_eq!(
            decided.status().update_status.as_deref(),
            Some("InProgress")
        );
    }
}

#[test]
fn a_secret_that_cannot_be_used_from_the_beginning_gives_a_self_signed_certificate() {
    let decided = run(None, &given(Role::Api, None), now());
    assert!(decided.origins().contains("api: self-signed"));
    assert!(
        decided.troubles[0]
            .to_string()
            .ends_with("a self-signed certificate stays in use")
    );
}

#[test]
fn a_certificate_that_is_not_named_any_more_stays_until_it_ends() {
    let (certificate, key) = foreign();
    let good = secret(&[("tls.crt", &certificate), ("tls.key", &key)]);
    let before = run(None, &given(Role::Proxy, Some(good)), now());
    let kept = run(Some(&before), &BTreeMap::new(), now());
    assert_eq!(text(&kept, "proxy.crt"), certificate);
    assert_eq!(kept.notes.len(), 1, "{:?}", kept.notes);
    assert_eq!(kept.status(), before.status());
    let after = run(Some(&kept), &BTreeMap::new(), at("2027-01-02T00:00:00Z"));
    assert!(after.origins().contains("proxy: self-signed"));
    assert_eq!(after.notes, [""; 0]);
}

#[test]
fn the_generation_counts_proxy_and_syncer_and_never_falls() {
    let (certificate, key) = foreign();
    let good = secret(&[("tls.crt", &certificate), ("tls.key", &key)]);
    let first = run(None, &BTreeMap::new(), now());
    let api = run(Some(&first), &given(Role::Api, Some(good.clone())), now());
    assert_eq!(api.status().generation, Some(1));
    let syncer = run(Some(&api), &given(Role::Syncer, Some(good)), now());
    assert_eq!(syncer.status().generation, Some(2));
    let lost = Before {
        ours: None,
        given: &BTreeMap::new(),
        idle: &BTreeMap::new(),
        shown: Some(7),
    };
    let anew = decide(&PLACE, &lost, now()).unwrap();
    assert_eq!(anew.status().generation, Some(8));
}

#[test]
fn nodes_show_each_other_what_is_chosen_and_what_they_share_where_nothing_is() {
    let (certificate, key) = foreign();
    let good = secret(&[("tls.crt", &certificate), ("tls.key", &key)]);
    let role = Role::CpInternode;
    let has = |decided: &Certificates| decided.data().contains_key("cp-internode.crt");
    let none = run(None, &BTreeMap::new(), now());
    assert!(!has(&none) && !none.origins().contains("cp-internode"));
    let missing = run(Some(&none), &given(role, None), now());
    let told = missing.troubles[0].to_string();
    assert!(
        told.starts_with("spec.certificates.cpInternodeEncryptionCertificateSecretName: Secret")
            && told.ends_with("Until then the certificate that the nodes share stays in use"),
        "{told}"
    );
    let chosen = run(Some(&none), &given(role, Some(good)), now());
    assert_eq!(text(&chosen, "cp-internode.crt"), certificate);
    assert_eq!(text(&chosen, "cp-internode.key"), key);
    let later = at("2027-01-02T00:00:00Z");
    let stale = run(Some(&chosen), &given(role, None), later);
    assert_eq!(text(&stale, "cp-internode.crt"), certificate);
    let unnamed = run(Some(&chosen), &BTreeMap::new(), now());
    assert!(unnamed.notes[0].ends_with("and the certificate that the nodes share follows"));
    assert!(has(&unnamed) && !has(&run(Some(&unnamed), &BTreeMap::new(), later)));
}

#[test]
fn every_secret_that_is_named_is_read_and_shown_only_where_it_has_an_effect() {
    let fields: Fields = serde_json::from_value(json!({
        "apiCertificateSecretName": "a", "cmCertificateSecretName": "c", "proxyCertificateSecretName": "p",
        "metricsExporterCertificateSecretName": "m", "syncerCertificateSecretName": "",
        "cpInternodeEncryptionCertificateSecretName": "n",
        "dpInternodeEncryptionCertificateSecretName": "d",
        "ssoIssuerCertificateSecretName": "b",
    }))
    .unwrap();
    assert_eq!(
        named(Some(&fields)),
        BTreeMap::from([
            (Role::Api, "a".to_owned()),
            (Role::Cm, "c".to_owned()),
            (Role::Metrics, "m".to_owned()),
            (Role::Proxy, "p".to_owned()),
            (Role::CpInternode, "n".to_owned()),
            (Role::DpInternode, "d".to_owned()),
        ])
    );
    assert!(names(Some(&fields), "a") && names(Some(&fields), "b"));
    assert!(!names(Some(&fields), "") && !names(Some(&fields), "z"));
    let idle = BTreeMap::from([(Idle::SsoIssuer, "b".to_owned())]);
    assert_eq!(idle::named(Some(&fields)), idle);
    assert_eq!(named(None), BTreeMap::new());
}

#[test]
fn certificates_that_nobody_is_shown_are_judged_as_the_others_are() {
    let (certificate, key) = foreign();
    let (other, _) = foreign();
    let pair = |certificate: &str| secret(&[("tls.crt", certificate), ("tls.key", &key)]);
    let alone = || secret(&[("cert", &certificate)]);
    // (what it is for, the Secret, what is wrong with it)
    let cases = [
        (Idle::LdapClient, Some(pair(&certificate)), None),
        (
            Idle::LdapClient,
            Some(pair(&other)),
            Some("of another certificate"),
        ),
        (
            Idle::LdapClient,
            None,
            Some("ldapClientCertificateSecretName: Secret \"mine\": not found"),
        ),
        (
            Idle::SsoService,
            Some(alone()),
            Some("found no text under any of the keys [\"key\", \"tls.key\"]"),
        ),
        (Idle::SsoIssuer, Some(alone()), None),
        (
            Idle::SsoIssuer,
            Some(secret(&[("cert", "no PEM")])),
            Some("ssoIssuerCertificateSecretName"),
        ),
        (
            Idle::SsoIssuer,
            None,
            Some("one of the keys [\"certificate\", \"cert\", \"tls.crt\"]"),
        ),
    ];
    for (what, found, expected) in cases {
        let judged = |now| {
            let given = Given {
                secret: "mine".to_owned(),
                found: found.clone(),
            };
            let before = Before {
                ours: None,
                given: &BTreeMap::new(),
                idle: &BTreeMap::from([(what, given)]),
                shown: None,
            };
            decide(&PLACE, &before, now).unwrap()
        };
        let decided = judged(now());
        assert_eq!(decided.data().len(), 10);
        let troubles: Vec<String> = decided.troubles.iter().map(ToString::to_string).collect();
        let notes = decided.notes.join("; ");
        match expected {
            Some(text) => assert!(
                troubles.len() == 1 && troubles[0].contains(text),
                "{troubles:?}"
            ),
            None => {
                assert!(troubles.is_empty(), "{troubles:?}");
                assert!(
                    notes.contains("is good until 2027-01-01T00:00:00Z"),
                    "{notes}"
                );
                let late = judged(at("2027-01-02T00:00:00Z")).troubles;
                assert!(late[0].to_string().contains("renew it"), "{what:?}");
            }
        }
    }
}
