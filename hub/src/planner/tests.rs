mod checker;
mod ends;
mod properties;
mod transcripts;

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use meridian_api::ids::{ClusterUid, ObjectId, PlanNumber, Revision, StoreId, Term};
use serde_json::{Value, json};

use self::ends::{all_read, leave, lose, obeys};
use super::check::{Breach, check};
use super::held::hold_back;
use super::*;
use crate::domain::cluster::{Cluster, Rec, RecInventory};

use crate::domain::database::Deletion;

fn uuid(kind: u8, n: u8) -> String {
    format!("{kind:02x}{n:02x}0000-0000-4000-8000-000000000001")
}

fn cluster(n: u8) -> ClusterUid {
    uuid(0xc1, n).parse().unwrap()
}

fn object(kind: u8, n: u8) -> ObjectId {
    uuid(kind, n).parse().unwrap()
}

fn store() -> StoreId {
    uuid(0x50, 1).parse().unwrap()
}

fn moment() -> jiff::Timestamp {
    jiff::Timestamp::UNIX_EPOCH
}

/// What the planner knows, and what members were told in full.
#[derive(Clone)]
struct World {
    input: Input,
    told: BTreeMap<Place, Desired>,
}

impl Deref for World {
    type Target = Input;

    fn deref(&self) -> &Input {
        &self.input
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Input {
        &mut self.input
    }
}

/// Clusters 1 to `clusters`, each with one REC, and no database.
fn world(clusters: u8) -> World {
    let mut input = Input {
        reign: (store(), Term(1)),
        plan_number: PlanNumber(0),
        instance_id_floor: 0,
        config_version_floor: 0,
        trust_domain: "meridian.local".to_owned(),
        clusters: BTreeMap::new(),
        removed: BTreeMap::new(),
        remotes: BTreeMap::new(),
        recs: BTreeMap::new(),
        databases: BTreeMap::new(),
        memberships: BTreeMap::new(),
        desired: BTreeMap::new(),
        done: BTreeMap::new(),
        seen: BTreeMap::new(),
        unreadable: Unreadable::default(),
    };
    for n in 1..=clusters {
        let name = format!("lab-{n}");
        let joined = Cluster {
            uid: cluster(n),
            name: name.clone(),
            device_key: None,
            agent_version: String::new(),
            joined_at: moment(),
            join_state: String::new(),
            previous_join_state: None,
            any_join_state: false,
            too_old: None,
            certificates: Vec::new(),
        };
        input.clusters.insert(cluster(n), joined);
        let rec = Rec {
            namespace: "db".to_owned(),
            name: "rec".to_owned(),
            replication_address: format!("10.77.0.{n}:443"),
            suffix: format!(".rec.db.{name}.meridian.internal"),
            ..Rec::default()
        };
        input.recs.insert(
            cluster(n),
            RecInventory {
                recs: vec![rec],
                as_of: moment(),
            },
        );
        let remote = Remote {
            object_id: object(0xe0, n),
            name: name.clone(),
            cluster: cluster(n),
            namespace: "db".to_owned(),
            rec: "rec".to_owned(),
        };
        input.remotes.insert(name, remote);
    }
    let told = BTreeMap::new();
    World { input, told }
}

fn database(n: u8, participants: &[u8]) -> Database {
    let participants: Vec<_> = participants
        .iter()
        .map(|n| json!({ "name": format!("lab-{n}") }))
        .collect();
    Database {
        name: format!("db-{n}"),
        object_id: object(0xdb, n),
        instance_object_id: object(0xaa, n),
        guid: uuid(0x9d, n),
        spec: json!({ "participatingClusters": participants }),
        labels: BTreeMap::new(),
        created_at: moment(),
        generation: 1,
        deletion: None,
        removals: BTreeMap::new(),
        trace: None,
    }
}

fn with(mut input: World, databases: impl IntoIterator<Item = Database>) -> World {
    input.databases.extend(
        databases
            .into_iter()
            .map(|database| (database.name.clone(), database)),
    );
    input
}

/// What the plan task does, on a map instead of a store.
fn carry_out(input: &mut World, plan: &Plan) {
    check(input, plan).unwrap();
    input.plan_number = plan.number;
    input.memberships.extend(plan.memberships.clone());
    for (place, desired) in &plan.tell {
        let revision = Revision(plan.number.0 * 1000);
        input.desired.insert(*place, (desired.told(), revision));
        input.told.insert(*place, desired.clone());
    }
    for place in &plan.forget {
        input.desired.remove(place);
        input.told.remove(place);
        input.done.remove(place);
    }
    for name in &plan.finished {
        let database = input.databases.remove(name).unwrap();
        input.memberships.remove(&database.object_id);
    }
}

/// Members carry out what they are told, as far as its order allows.
fn members_obey(input: &mut World) {
    let told: Vec<_> = input
        .desired
        .iter()
        .map(|(place, (_, revision))| (*place, *revision))
        .collect();
    input.done.extend(told);
}

/// Plans until nothing is planned any more; says how often something was.
fn settle(input: &mut World) -> usize {
    for turn in 0..20 {
        let next = plan(input);
        if next.is_empty() {
            return turn;
        }
        carry_out(input, &next);
    }
    panic!("the planner does not come to rest:\n{}", plan(input));
}

fn told<'a>(input: &'a World, on: u8, kind: &str) -> Vec<&'a Desired> {
    let here = input.told.iter();
    let here = here.filter(|((at, _), _)| *at == cluster(on));
    here.map(|(_, desired)| desired)
        .filter(|desired| desired.kind == kind)
        .collect()
}

fn instance(input: &World, on: u8) -> &Value {
    let Action::Upsert { body } = &told(input, on, objects::INSTANCE)[0].action else {
        panic!("a tombstone")
    };
    &body["spec"]
}

fn confirmed(input: &mut World, name: &str) {
    let database = input.databases.get_mut(name).unwrap();
    database.deletion = Some(Deletion {
        approval: "alice".to_owned(),
        at: moment(),
    });
}

#[test]
fn every_participant_is_told_the_same_membership_and_its_own_place_in_it() {
    let mut input = with(world(4), [database(1, &[1, 2, 3])]);
    assert_eq!(settle(&mut input), 1, "one plan, then rest");
    for n in 1..=3 {
        let spec = instance(&input, n);
        assert_eq!(
            (&spec["instanceId"], &spec["configVersion"]),
            (&json!(n), &json!(1))
        );
        assert_eq!(
            (&spec["planNumber"], &spec["hubTerm"], &spec["cluster"]),
            (&json!(1), &json!(1), &json!("rec"))
        );
        assert_eq!(spec["members"], instance(&input, 1)["members"]);
        assert_eq!(told(&input, n, RERC).len(), 3);
        assert_eq!(told(&input, n, objects::REAADB).len(), 1);
    }
    let member = &instance(&input, 1)["members"][1];
    assert_eq!(member["endpoint"], "10.77.0.2:443");
    assert_eq!(member["serverName"], "db-1.rec.db.lab-2.meridian.internal");
    assert_eq!(
        member["spiffeId"],
        format!("spiffe://meridian.local/cluster/{}/rec/db/rec", cluster(2))
    );
    assert!(
        !input.desired.keys().any(|(at, _)| *at == cluster(4)),
        "who takes no part is told nothing"
    );
}

#[test]
fn the_plan_is_readable() {
    let plan = plan(&with(world(2), [database(1, &[1, 2])]));
    let printed = plan.to_string();
    let expected = format!(
        "plan 1
  tell {one}: ActiveActiveInstance db/db-1
  tell {one}: RedisEnterpriseActiveActiveDatabase db/db-1
  tell {one}: RedisEnterpriseRemoteCluster db/lab-1
  tell {one}: RedisEnterpriseRemoteCluster db/lab-2
  tell {two}: ActiveActiveInstance db/db-1
  tell {two}: RedisEnterpriseActiveActiveDatabase db/db-1
  tell {two}: RedisEnterpriseRemoteCluster db/lab-1
  tell {two}: RedisEnterpriseRemoteCluster db/lab-2
",
        one = cluster(1),
        two = cluster(2)
    );
    assert_eq!(printed, expected);
}

#[test]
fn an_address_with_a_place_for_the_database_becomes_its_own() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    let recs = &mut input.recs.get_mut(&cluster(2)).unwrap().recs;
    recs[0].replication_address = "<db>-db.eu.example.com:443".to_owned();
    settle(&mut input);
    assert_eq!(
        instance(&input, 1)["members"][1]["endpoint"],
        "db-1-db.eu.example.com:443"
    );
}

#[test]
fn a_participants_own_port_replaces_that_of_the_rec() {
    let mut wanted = database(1, &[1, 2]);
    wanted.spec["participatingClusters"][1]["externalReplicationPort"] = json!(8443);
    let mut input = with(world(2), [wanted]);
    settle(&mut input);
    assert_eq!(
        instance(&input, 1)["members"][1]["endpoint"],
        "10.77.0.2:8443"
    );
}

#[test]
fn a_new_address_is_a_new_plan_but_the_same_configuration() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    settle(&mut input);
    input.recs.get_mut(&cluster(2)).unwrap().recs[0].replication_address =
        "10.77.9.9:443".to_owned();
    assert_eq!(settle(&mut input), 1);
    for n in 1..=2 {
        let spec = instance(&input, n);
        assert_eq!(
            (&spec["configVersion"], &spec["planNumber"]),
            (&json!(1), &json!(2))
        );
        assert_eq!(spec["members"][1]["endpoint"], "10.77.9.9:443");
    }
}

#[test]
fn a_new_term_alone_changes_nothing() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    settle(&mut input);
    input.reign.1 = Term(2);
    assert!(plan(&input).is_empty());
}

#[test]
fn what_is_waited_for_is_said() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    input.recs.get_mut(&cluster(2)).unwrap().recs[0]
        .replication_address
        .clear();
    assert_eq!(
        plan(&input).report["db-1"],
        ["waits for lab-2: its REC has reported no replication address"]
    );
    input.remotes.remove("lab-2");
    assert_eq!(
        plan(&input).report["db-1"],
        ["waits for the remote clusters lab-2: no member reports them"]
    );
}

#[test]
fn instance_ids_begin_above_everything_that_members_reported() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    (
        input.instance_id_floor,
        input.config_version_floor,
        input.plan_number,
    ) = (7, 9, PlanNumber(30));
    settle(&mut input);
    let spec = instance(&input, 1);
    assert_eq!(
        (
            &spec["instanceId"],
            &spec["configVersion"],
            &spec["planNumber"]
        ),
        (&json!(8), &json!(10), &json!(31))
    );
}

#[test]
fn a_configuration_that_members_overtook_is_raised_above_theirs() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    settle(&mut input);
    input.config_version_floor = 5;
    assert_eq!(settle(&mut input), 1);
    assert_eq!(instance(&input, 1)["configVersion"], 6);
    assert_eq!(instance(&input, 1)["instanceId"], 1, "instance ids stay");
}

#[test]
fn a_confirmed_deletion_goes_in_order_and_leaves_nothing() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    settle(&mut input);
    confirmed(&mut input, "db-1");
    settle(&mut input);
    for n in 1..=2 {
        let (database, instance) = (
            told(&input, n, objects::REAADB)[0],
            told(&input, n, objects::INSTANCE)[0],
        );
        assert_eq!(
            (database.approval(), instance.approval()),
            (Some("alice"), Some("alice"))
        );
        assert_eq!(
            (&database.after, &instance.after),
            (&vec![], &vec![database.object_id])
        );
        assert!(
            told(&input, n, RERC)
                .iter()
                .all(|desired| !desired.is_tombstone()),
            "they go last"
        );
    }
    members_obey(&mut input);
    settle(&mut input);
    assert!(input.databases.is_empty() && input.memberships.is_empty());
    assert!(
        input
            .desired
            .values()
            .all(|(desired, _)| desired.kind == RERC && desired.is_tombstone())
    );
    members_obey(&mut input);
    settle(&mut input);
    assert!(input.desired.is_empty());
}

#[test]
fn a_deletion_waits_for_every_member() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    settle(&mut input);
    confirmed(&mut input, "db-1");
    settle(&mut input);
    members_obey(&mut input);
    input.done.retain(|(at, _), _| *at == cluster(1));
    settle(&mut input);
    assert!(input.databases.contains_key("db-1"));
    assert_eq!(
        plan(&input).report["db-1"],
        ["waits for lab-2: it has not confirmed that the database is gone"]
    );
}

#[test]
fn what_a_member_carried_out_at_a_higher_revision_of_another_time_is_no_deletion() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    settle(&mut input);
    confirmed(&mut input, "db-1");
    settle(&mut input);
    let of_another_time = |(place, (_, revision)): (&Place, &(Told, Revision))| {
        let later = Revision(revision.0 + 1);
        (*place, later)
    };
    input.done = input.desired.iter().map(of_another_time).collect();
    let before = input.desired.clone();
    assert!(plan(&input).is_empty());
    for place in before.keys() {
        let mut early = Plan::default();
        early.forget.insert(*place);
        assert!(check(&input, &early).is_err());
    }
    members_obey(&mut input);
    settle(&mut input);
    assert!(input.databases.is_empty());
}

#[test]
fn remote_clusters_that_another_database_needs_stay() {
    let mut input = with(world(3), [database(1, &[1, 2, 3]), database(2, &[1, 2])]);
    settle(&mut input);
    confirmed(&mut input, "db-1");
    settle(&mut input);
    members_obey(&mut input);
    settle(&mut input);
    let names = |tombstones| {
        let on_one = told(&input, 1, RERC).into_iter();
        on_one
            .filter(|desired| desired.is_tombstone() == tombstones)
            .map(|desired| desired.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (names(false), names(true)),
        (
            vec!["lab-1".to_owned(), "lab-2".to_owned()],
            vec!["lab-3".to_owned()]
        )
    );
}
