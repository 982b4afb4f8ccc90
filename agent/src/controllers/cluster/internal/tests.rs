use meridian_api::internal::READ;
use serde_json::json;

use super::*;

const PLACE: Place<'static> = Place {
    name: "rec",
    namespace: "ns",
};

fn now() -> Timestamp {
    "2026-03-01T10:00:00Z".parse().unwrap()
}

fn fresh() -> Internal {
    Internal::fresh(PLACE, now()).unwrap()
}

/// `from` after a look at which nodes have taken over everything.
fn next(from: &Internal, now: Timestamp) -> Internal {
    from.clone().next(PLACE, None, true, now).unwrap()
}

fn value(of: &Internal, key: &str) -> Option<String> {
    of.text(key).map(str::to_owned)
}

#[test]
fn material_that_is_whole_is_kept_and_differs_from_cluster_to_cluster() {
    let one = fresh();
    assert_eq!(
        next(&one, now() + SignedDuration::from_hours(24 * 300)),
        one
    );
    for key in [CA, KEY, PASSWORD] {
        assert_ne!(value(&fresh(), key), value(&one, key), "{key}");
    }
    assert_eq!(value(&one, PASSWORD).unwrap().len(), 64);
    let secret = Secret {
        data: Some(one.data()),
        ..Secret::default()
    };
    assert_eq!(Internal::of(&secret), one);
}

#[test]
fn a_pair_that_cannot_be_used_is_made_anew_and_the_authority_before_stays_believed_for_a_while() {
    let one = fresh();
    let other = fresh();
    let ruin = |key: &str, text: Option<String>| {
        let mut ruined = one.clone();
        match text {
            Some(text) => ruined.put(key, text),
            None => drop(ruined.0.remove(key)),
        }
        ruined
    };
    for ruined in [
        ruin(CERTIFICATE, None),
        ruin(CERTIFICATE, Some("x".to_owned())),
        ruin(KEY, None),
        ruin(KEY, value(&other, KEY)),
        ruin(CERTIFICATE, value(&other, CERTIFICATE)),
    ] {
        let mended = next(&ruined, now());
        assert_eq!(value(&mended, PASSWORD), value(&one, PASSWORD));
        let believed = mended.authorities();
        assert_eq!(believed.len(), 2);
        assert_eq!(believed[1], one.authorities()[0]);
        let later = next(&mended, now() + PAUSE);
        assert_eq!(later.authorities(), believed[..1]);
        assert_eq!(value(&later, KEY), value(&mended, KEY));
        assert!(!later.is_changing());
    }
    let alone = next(&ruin(CA, None), now());
    assert_eq!(alone.authorities().len(), 1);
}

#[test]
fn a_password_is_kept_if_somebody_could_mean_it_and_drawn_anew_otherwise() {
    let mut one = fresh();
    one.put(PASSWORD, "sixteen-letters!".to_owned());
    assert_eq!(next(&one, now()), one);
    for useless in ["", "short", "sixteen letters!", "fünfzehn-zeichen"] {
        one.put(PASSWORD, useless.to_owned());
        let drawn = value(&next(&one, now()), PASSWORD).unwrap();
        assert_eq!(drawn.len(), 64, "{useless:?}");
    }
    one.0.remove(PASSWORD);
    let mended = next(&one, now());
    assert!(value(&mended, PASSWORD).is_some());
    assert_eq!(value(&mended, CA), value(&one, CA));
}

#[test]
fn at_half_of_its_life_it_is_renewed_so_that_old_and_new_believe_each_other_at_every_step() {
    let old = fresh();
    let due = now() + SignedDuration::from_hours(365 * 24);
    let one = next(&old, due);
    let two = next(&one, due + PAUSE);
    let three = next(&two, due + PAUSE + PAUSE);
    let stages = [&old, &one, &two, &three];
    for pair in stages.windows(2) {
        for (shows, believes) in [(pair[0], pair[1]), (pair[1], pair[0])] {
            let shown = (
                value(shows, CERTIFICATE).unwrap(),
                value(shows, KEY).unwrap(),
            );
            let trusted = believes.authorities();
            let pair = (shown.0.as_str(), shown.1.as_str());
            assert!(trusted.iter().any(|ca| is_good(ca, pair, PLACE, due)));
            let uses = value(shows, PASSWORD);
            let takes = [PASSWORD, PASSWORD_NEXT, PASSWORD_BEFORE].map(|key| value(believes, key));
            assert!(takes.contains(&uses));
        }
    }
    assert_eq!(value(&one, CERTIFICATE), value(&old, CERTIFICATE));
    assert_ne!(value(&two, CERTIFICATE), value(&old, CERTIFICATE));
    assert_ne!(value(&two, PASSWORD), value(&old, PASSWORD));
    let read = |of: &Internal| READ.map(|key| of.0.contains_key(key));
    assert_eq!(read(&three), read(&old), "nothing of the change is left");
    assert_eq!(three.authorities().len(), 1);
    assert_eq!(next(&three, due + PAUSE * 9), three);
}

#[test]
fn no_two_authorities_of_a_cluster_have_one_name() {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let due = now() + SignedDuration::from_hours(365 * 24);
    let names = next(&fresh(), due).authorities().into_iter().map(|pem| {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        parsed.subject().to_string()
    });
    let names: std::collections::BTreeSet<String> = names.collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn no_step_is_taken_before_every_node_has_taken_over_the_one_before_nor_in_a_hurry() {
    let due = now() + SignedDuration::from_hours(365 * 24);
    let one = next(&fresh(), due);
    let waits = |from: &Internal, taken_over, now| {
        let after = from.clone().next(PLACE, None, taken_over, now).unwrap();
        assert_eq!(&after, from);
    };
    waits(&one, false, due + PAUSE * 99);
    waits(&one, true, due + PAUSE - SignedDuration::from_secs(1));
    let two = next(&one, due + PAUSE);
    waits(&two, false, due + PAUSE * 99);
}

#[test]
fn an_order_is_followed_once() {
    let ordered = |from: &Internal, now| from.clone().next(PLACE, Some("1"), true, now).unwrap();
    let mut at = fresh();
    for step in 0..3 {
        let after = ordered(&at, now() + PAUSE * step);
        assert_ne!(after, at, "step {step}");
        at = after;
    }
    assert_eq!(ordered(&at, now() + PAUSE * 9), at);
    let again = at.clone().next(PLACE, Some("2"), true, now() + PAUSE * 9);
    assert_ne!(again.unwrap(), at);
}

#[test]
fn every_pod_with_a_shard_must_have_said_that_it_took_over() {
    let topology = |reports: &[(&str, Option<&str>)]| -> DatabaseTopology {
        let members: Vec<_> = reports
            .iter()
            .map(|(node, internal)| {
                json!({"node": node, "topologyUid": "u", "epoch": 1, "generation": 1, "asOf": "t", "shards": [
                    {"id": 0, "role": "replica", "ready": true, "writable": false, "port": 1, "internal": internal}]})
            })
            .collect();
        serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": {
            "database": {"kind": "RedisEnterpriseDatabase", "namespace": "ns", "name": "db", "uid": "u"},
            "cluster": "rec", "epoch": 1, "port": 10000, "memoryBytes": 1, "evictionPolicy": "noeviction",
            "persistence": "disabled", "replication": true,
            "shards": [{"id": 0, "slots": "0-16383", "primary": "rec-0", "replicas": ["rec-1"]}]},
            "status": {"members": members}}))
        .unwrap()
    };
    for (reports, expected) in [
        (&[("rec-0", Some("h")), ("rec-1", Some("h"))][..], true),
        (&[("rec-0", Some("h")), ("rec-1", Some("g"))], false),
        (&[("rec-0", Some("h")), ("rec-1", None)], false),
        (&[("rec-0", Some("h"))], false),
    ] {
        let found = is_taken_over(&[topology(reports)], "rec", "h");
        assert_eq!(found, expected, "{reports:?}");
        assert!(is_taken_over(&[topology(reports)], "other", "h"));
    }
    assert!(is_taken_over(&[], "rec", "h"), "no shard, nobody to ask");
}

#[test]
fn the_certificate_carries_the_name_that_nodes_ask_for() {
    let one = fresh();
    let pair = (value(&one, CERTIFICATE).unwrap(), value(&one, KEY).unwrap());
    let pair = (pair.0.as_str(), pair.1.as_str());
    let good = |place| is_good(&one.authorities()[0], pair, place, now());
    assert!(good(PLACE));
    assert!(!good(Place {
        name: "other",
        ..PLACE
    }));
    let ended = now() + SignedDuration::from_hours(3 * 365 * 24);
    assert!(!is_good(&one.authorities()[0], pair, PLACE, ended));
}

#[test]
fn while_it_is_renewed_a_look_comes_when_the_next_step_may_be_taken_and_then_again_and_again() {
    let soon = |internal: &Internal, now| internal.step_in(now);
    let old = fresh();
    let due = now() + SignedDuration::from_hours(365 * 24);
    assert_eq!(soon(&old, due), None, "nothing is on its way");
    let mut step = next(&old, due);
    assert_eq!(soon(&step, due), Some(Duration::from_mins(5)));
    let later = due + SignedDuration::from_mins(4);
    assert_eq!(soon(&step, later), Some(Duration::from_mins(1)));
    assert_eq!(
        soon(&step, due + PAUSE + PAUSE),
        Some(ASKED_AGAIN),
        "nodes have not taken it over"
    );
    step.0.remove(SINCE);
    assert_eq!(soon(&step, due), Some(ASKED_AGAIN));
    let step = next(&step, due + PAUSE);
    assert_eq!(soon(&step, due + PAUSE), Some(Duration::from_mins(5)));
    let step = next(&step, due + PAUSE + PAUSE);
    assert_eq!(soon(&step, due + PAUSE + PAUSE), None, "it is over");
}
