use jiff::SignedDuration;
use k8s_openapi::ByteString;
use serde_json::json;

use super::*;
use crate::k8s::own::MANAGED_BY;

fn at(days: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * (20_000 + days))
}

fn there<K>(object: K) -> Shown<K> {
    Shown::There(Box::new(object))
}

fn configuration(bundle: Option<&str>) -> ValidatingWebhookConfiguration {
    let webhooks = bundle
        .map(|bundle| configuration::webhooks("ns", &BTreeSet::new(), bundle))
        .unwrap_or_default();
    serde_json::from_value(json!({
        "metadata": { "name": "c", "labels": { MANAGED_BY: FIELD_MANAGER } }, "webhooks": webhooks,
    }))
    .unwrap()
}

struct World {
    secret: Shown<Secret>,
    configuration: Shown<ValidatingWebhookConfiguration>,
    leads: bool,
    served: Option<Arc<CertifiedKey>>,
    trusted_for: Option<Duration>,
    now: Timestamp,
}

impl World {
    /// A leader that serves a fresh certificate by a configuration that is right.
    fn settled() -> (Self, Secret) {
        let secret = certificate::issue(None, "ns", at(0)).unwrap();
        let bundle = certificate::bundle(&secret).unwrap();
        let world = Self {
            secret: there(secret.clone()),
            configuration: there(configuration(Some(&bundle))),
            leads: true,
            served: Some(key(&secret)),
            trusted_for: Some(Duration::from_secs(60)),
            now: at(0),
        };
        (world, secret)
    }

    fn plan(&self) -> Plan {
        plan(&Seen {
            others: &BTreeSet::new(),
            namespace: "ns",
            secret: &self.secret,
            configuration: &self.configuration,
            leads: self.leads,
            served: self.served.as_deref(),
            trusted_for: self.trusted_for,
            now: self.now,
        })
    }
}

fn key(secret: &Secret) -> Arc<CertifiedKey> {
    match certificate::find(Some(secret), "ns", at(0)) {
        Found::Usable { held, .. } => held.key,
        Found::Useless(why) | Found::Foreign(why) => panic!("{why}"),
    }
}

#[test]
fn nothing_is_done_where_everything_is_right() {
    let plan = World::settled().0.plan();
    assert!(plan.ready && plan.issue.is_none() && plan.serve.is_none() && plan.configure.is_none());
    assert!(
        plan.told
            .ends_with("`redis-enterprise-admission-ns` is in force"),
        "{}",
        plan.told
    );
}

#[test]
fn a_certificate_that_is_missing_useless_or_due_is_made_by_the_leader_alone() {
    let (settled, secret) = World::settled();
    let mut garbled = secret.clone();
    let data = garbled.data.as_mut().unwrap();
    data.insert("privateKey".to_owned(), ByteString(b"garbled".to_vec()));
    let cases = [
        (Shown::Absent, at(0), "there is none"),
        (there(garbled), at(0), "`privateKey` is no PEM"),
        (there(secret.clone()), at(46), "half of its life has passed"),
        (there(secret), at(91), "its certificate is good from"),
    ];
    for (shown, now, why) in cases {
        let mut world = World {
            secret: shown,
            configuration: settled.configuration.clone(),
            leads: true,
            served: None,
            trusted_for: None,
            now,
        };
        let issue = world.plan().issue.unwrap();
        assert!(issue.starts_with(why), "{issue}");
        world.leads = false;
        assert_eq!(world.plan().issue, None, "{why}");
    }
}

#[test]
fn somebody_elses_useless_secret_is_not_written_over() {
    let (mut world, mut secret) = World::settled();
    secret.metadata.labels = None;
    world.secret = there(secret);
    world.now = at(91);
    let plan = world.plan();
    assert!(!plan.ready && plan.issue.is_none());
    assert!(
        plan.told.contains("is not ours and cannot be used"),
        "{}",
        plan.told
    );
}

#[test]
fn a_configuration_that_is_not_right_is_put_right_by_the_leader_alone() {
    let (mut world, _) = World::settled();
    for wrong in [Some("an expired bundle"), None] {
        world.configuration = there(configuration(wrong));
        world.leads = true;
        assert!(world.plan().configure.is_some(), "{wrong:?}");
        world.leads = false;
        assert!(world.plan().configure.is_none(), "{wrong:?}");
        assert!(world.plan().ready, "it can answer all the same");
    }
}

#[test]
fn a_foreign_or_missing_configuration_is_not_written_and_told() {
    let (mut world, _) = World::settled();
    let mut foreign = configuration(None);
    foreign.metadata.labels = None;
    for (shown, told) in [
        (there(foreign), "is not ours (held by nobody we know)"),
        (
            Shown::Absent,
            "does not exist. Apply deploy/bundle/admission.yaml",
        ),
        (
            Shown::Unreadable("forbidden".to_owned()),
            "cannot be read (forbidden)",
        ),
    ] {
        world.configuration = shown;
        let plan = world.plan();
        assert!(plan.configure.is_none() && plan.ready);
        assert!(
            plan.told.contains("NOTHING IS CHECKED") && plan.told.contains(told),
            "{}",
            plan.told
        );
    }
}

#[test]
fn a_new_certificate_is_served_only_after_it_has_been_trusted_for_a_while() {
    let (mut world, first) = World::settled();
    let second = certificate::issue(Some(&first), "ns", at(0)).unwrap();
    let bundle = certificate::bundle(&second).unwrap();
    world.secret = there(second.clone());
    world.trusted_for = None;
    let plan = world.plan();
    assert!(
        plan.serve.is_none(),
        "the configuration shows the first one's bundle"
    );
    assert!(plan.configure.is_some());

    world.configuration = there(configuration(Some(&bundle)));
    world.trusted_for = Some(Duration::from_secs(1));
    let plan = world.plan();
    assert!(
        plan.serve.is_none(),
        "some API servers may not have heard of it"
    );
    assert_eq!(plan.wake, Some(Duration::from_secs(4)));

    world.trusted_for = Some(SETTLE);
    assert_eq!(world.plan().serve.unwrap().cert, key(&second).cert);

    world.trusted_for = None;
    world.served = None;
    assert!(
        world.plan().serve.is_some(),
        "who serves nothing has nothing to lose"
    );
    world.served = Some(key(&certificate::issue(None, "ns", at(0)).unwrap()));
    assert!(
        world.plan().serve.is_some(),
        "who serves what nobody will trust has nothing to lose"
    );
}

#[test]
fn before_both_watches_have_spoken_nothing_is_written() {
    let (mut world, _) = World::settled();
    world.configuration = Shown::Nothing;
    let plan = world.plan();
    assert!(plan.issue.is_none() && plan.configure.is_none());
    world.secret = Shown::Nothing;
    let plan = world.plan();
    assert!(!plan.ready && plan.issue.is_none());
}
