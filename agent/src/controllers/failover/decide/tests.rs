use meridian_api::crds::topology::{LEASE_MARGIN_MS, LEASE_MS};
use serde_json::{Value, json};

use super::*;

mod drain;
mod membership;
mod restarts;

/// A database on `rec-0` with a replica on `rec-1`, everything well, which a case changes.
struct Case {
    topology: Value,
    pods: BTreeMap<String, PodFacts>,
    watch: Watch,
    spare: Option<&'static str>,
    replace_ms: u64,
    now: u64,
}

const WELL: PodFacts = PodFacts {
    going: false,
    stopped: false,
    expected: true,
};

fn case() -> Case {
    let topology = json!({
        "metadata": {"name": "db", "namespace": "ns", "uid": "T", "generation": 3, "resourceVersion": "9", "annotations": {}},
        "spec": {"database": {"kind": "RedisEnterpriseDatabase", "namespace": "ns", "name": "db", "uid": "u"},
                 "cluster": "rec", "epoch": 4, "port": 10000, "memoryBytes": 1, "evictionPolicy": "noeviction",
                 "persistence": "disabled", "replication": true,
                 "shards": [{"id": 0, "slots": "0-16383", "primary": "rec-0", "replicas": ["rec-1"], "inSync": ["rec-1"],
                             "joining": []}]},
        "status": {"members": [
            {"node": "rec-0", "topologyUid": "T", "epoch": 4, "generation": 3, "asOf": "t", "shards": [
                {"id": 0, "role": "primary", "ready": true, "writable": true, "port": 10000, "offset": 100, "served": 4,
                 "counts": ["rec-1"], "replicas": [{"node": "rec-1", "online": true, "lagBytes": 0}]}]},
            {"node": "rec-1", "topologyUid": "T", "epoch": 4, "generation": 3, "asOf": "t", "shards": [
                {"id": 0, "role": "replica", "ready": true, "writable": false, "port": 10000, "offset": 100,
                 "following": "up"}]},
        ]},
    });
    let mut watch = Watch::default();
    for pod in ["rec-0", "rec-1", "rec-2"] {
        watch.answered(pod, Some(true), 0);
    }
    Case {
        topology,
        pods: ["rec-0", "rec-1", "rec-2"]
            .map(|pod| (pod.to_owned(), WELL))
            .into(),
        watch,
        spare: None,
        replace_ms: growth::REPLACE_MS,
        now: 0,
    }
}

impl Case {
    fn set(mut self, pointer: &str, value: Value) -> Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        self.topology.pointer_mut(parent).unwrap()[key] = value;
        self
    }

    fn primary(self, key: &str, value: Value) -> Self {
        self.set(&format!("/status/members/0/shards/0/{key}"), value)
    }

    fn replica(self, key: &str, value: Value) -> Self {
        self.set(&format!("/status/members/1/shards/0/{key}"), value)
    }

    fn shard(self, key: &str, value: Value) -> Self {
        self.set(&format!("/spec/shards/0/{key}"), value)
    }

    fn fence(self, planned: bool) -> Self {
        let fence = json!({"epoch": 5, "candidate": "rec-1", "planned": planned});
        self.set("/spec/fence", fence)
    }

    fn pod(mut self, pod: &str, facts: Option<PodFacts>) -> Self {
        match facts {
            Some(facts) => self.pods.insert(pod.to_owned(), facts),
            None => self.pods.remove(pod),
        };
        self
    }

    fn silent(mut self, pod: &str) -> Self {
        self.watch.failed(pod, self.now);
        self
    }

    /// Looks now, and again after `ms`.
    fn after(mut self, ms: u64) -> Self {
        let topology = serde_json::from_value(self.topology.clone()).unwrap();
        self.watch.saw(&topology, &self.pods, self.now);
        self.now += ms;
        self
    }

    fn decided(mut self) -> (DatabaseTopology, Step) {
        let topology: DatabaseTopology = serde_json::from_value(self.topology.clone()).unwrap();
        self.watch.saw(&topology, &self.pods, self.now);
        let step = decide(&View {
            topology: &topology,
            pods: &self.pods,
            spare: self.spare,
            replace_ms: self.replace_ms,
            watch: &self.watch,
            now: self.now,
        });
        (topology, step)
    }

    fn word(self) -> String {
        match self.decided().1 {
            Step::Fence {
                candidate,
                planned: true,
                ..
            } => format!("planned {candidate}"),
            Step::Fence { candidate, .. } => format!("fence {candidate}"),
            Step::AbandonFence { .. } => "abandon".to_owned(),
            Step::Reinstate { all_lost: true, .. } => "reinstate, all lost".to_owned(),
            Step::Reinstate { .. } => "reinstate".to_owned(),
            Step::NeedsPerson { choices } => {
                let one = |loss: &Loss| format!("{} {:?}", loss.pod, loss.bytes);
                format!(
                    "person {}",
                    choices.iter().map(one).collect::<Vec<_>>().join(",")
                )
            }
            Step::Nothing => "nothing".to_owned(),
            Step::Promote => "promote".to_owned(),
            Step::Shrink { pod } => format!("shrink {pod}"),
            Step::Join { pod } => format!("join {pod}"),
            Step::Admit { pod } => format!("admit {pod}"),
            Step::Leave { pod } => format!("leave {pod}"),
            Step::AddReplica { pod } => format!("add {pod}"),
            Step::RemoveReplica { pod } => format!("remove {pod}"),
            Step::Raise { pod, version } => format!("raise {pod} {version}"),
        }
    }
}

fn check(cases: Vec<(&str, Case, &str)>) {
    for (name, case, expected) in cases {
        assert_eq!(case.word(), expected, "{name}");
    }
}

fn going() -> Option<PodFacts> {
    Some(PodFacts {
        going: true,
        ..WELL
    })
}

fn stopped() -> Option<PodFacts> {
    Some(PodFacts {
        stopped: true,
        ..WELL
    })
}

fn unexpected() -> Option<PodFacts> {
    Some(PodFacts {
        expected: false,
        ..WELL
    })
}

#[test]
fn a_failover_begins_only_on_evidence() {
    let leave = |pod: &str| case().set("/metadata/annotations", json!({ LEAVE: pod }));
    check(vec![
        ("all well", case(), "nothing"),
        ("the pod is gone", case().pod("rec-0", None), "fence rec-1"),
        (
            "its container ended",
            case().pod("rec-0", stopped()),
            "fence rec-1",
        ),
        (
            "it is being deleted",
            case().pod("rec-0", going()),
            "planned rec-1",
        ),
        (
            "it is being deleted and silent",
            case()
                .pod("rec-0", going())
                .silent("rec-0")
                .after(SILENT_MS),
            "fence rec-1",
        ),
        (
            "it is not made any more",
            case().pod("rec-0", unexpected()),
            "planned rec-1",
        ),
        ("it is asked to leave", leave("rec-0"), "planned rec-1"),
        ("another is asked to leave", leave("rec-2"), "nothing"),
        (
            "it wants to go and still writes",
            case().primary("wantsFailover", json!("stops")),
            "planned rec-1",
        ),
        (
            "it came back with less",
            case()
                .primary("wantsFailover", json!("restarted"))
                .primary("writable", json!(false)),
            "fence rec-1",
        ),
    ]);
}

#[test]
fn silence_alone_needs_longer_than_silence_that_a_replica_confirms() {
    let down = |case: Case| case.replica("following", json!("down"));
    check(vec![
        (
            "silent for a moment",
            down(case()).silent("rec-0").after(SILENT_MS - 1),
            "nothing",
        ),
        (
            "silent, and lost by the replica",
            down(case()).silent("rec-0").after(SILENT_MS),
            "fence rec-1",
        ),
        (
            "silent, and followed",
            case().silent("rec-0").after(SILENT_MS),
            "nothing",
        ),
        (
            "silent for long",
            case().silent("rec-0").after(SILENT_ALONE_MS),
            "fence rec-1",
        ),
        (
            "its shard does not answer for a moment",
            case()
                .primary("ready", json!(false))
                .after(NOT_READY_MS - 1),
            "nothing",
        ),
        (
            "its shard does not answer",
            case().primary("ready", json!(false)).after(NOT_READY_MS),
            "fence rec-1",
        ),
    ]);
}

#[test]
fn only_a_member_of_the_set_that_is_alive_and_whole_takes_over() {
    let dead = || case().pod("rec-0", stopped());
    check(vec![
        (
            "not in the set",
            dead().shard("inSync", json!([])),
            "nothing",
        ),
        ("silent", dead().silent("rec-1"), "nothing"),
        ("going", dead().pod("rec-1", going()), "nothing"),
        (
            "takes over a copy",
            dead().replica("following", json!("copying")),
            "nothing",
        ),
        (
            "nothing but its files",
            dead().replica("offset", Value::Null),
            "nothing",
        ),
        (
            "does not answer",
            dead().replica("ready", json!(false)),
            "nothing",
        ),
        (
            "obeys an older epoch",
            dead().set("/status/members/1/epoch", json!(3)),
            "nothing",
        ),
        (
            "obeys another topology",
            dead().set("/status/members/1/topologyUid", json!("X")),
            "nothing",
        ),
        (
            "a planned move waits for one that follows",
            case()
                .pod("rec-0", going())
                .replica("following", json!("down")),
            "nothing",
        ),
    ]);
}

#[test]
fn of_several_the_one_with_the_most_takes_over() {
    let third = json!({"node": "rec-2", "topologyUid": "T", "epoch": 4, "generation": 3, "asOf": "t", "shards": [
        {"id": 0, "role": "replica", "ready": true, "writable": false, "port": 10000, "offset": 101, "following": "down"}]});
    let mut two = case()
        .pod("rec-0", stopped())
        .shard("replicas", json!(["rec-1", "rec-2"]))
        .shard("inSync", json!(["rec-1", "rec-2"]));
    two.topology["status"]["members"]
        .as_array_mut()
        .unwrap()
        .push(third);
    assert_eq!(two.word(), "fence rec-2");
}

#[test]
fn a_candidate_becomes_primary_only_when_the_old_one_cannot_write_any_more() {
    let wait = LEASE_MS + LEASE_MARGIN_MS;
    let confirmed = |case: Case| case.fence(false).replica("fenced", json!(5));
    check(vec![
        ("not confirmed", case().fence(false).after(wait), "nothing"),
        (
            "confirmed an older fence",
            case().fence(false).replica("fenced", json!(4)).after(wait),
            "nothing",
        ),
        ("confirmed just now", confirmed(case()), "nothing"),
        (
            "a little too early",
            confirmed(case()).after(wait - 1),
            "nothing",
        ),
        ("waited", confirmed(case()).after(wait), "promote"),
        (
            "the wait begins with the confirmation",
            {
                let late = case().fence(false).after(wait);
                let late = late.replica("fenced", json!(5));
                late.after(wait - 1)
            },
            "nothing",
        ),
        (
            "the old one says that it stopped",
            confirmed(case()).primary("fenced", json!(5)),
            "promote",
        ),
        (
            "one of its name, with another volume, says so",
            confirmed(case())
                .primary("fenced", json!(5))
                .primary("served", Value::Null),
            "nothing",
        ),
        (
            "that a container ended is not the word of the one that was primary",
            confirmed(case()).pod("rec-0", stopped()),
            "nothing",
        ),
        (
            "a pod that is only away proves nothing",
            confirmed(case()).pod("rec-0", None),
            "nothing",
        ),
        (
            "the candidate left the set",
            confirmed(case())
                .shard("inSync", json!([]))
                .silent("rec-0")
                .after(wait),
            "nothing",
        ),
        (
            "the candidate left the set, and the primary is well",
            confirmed(case())
                .shard("inSync", json!([]))
                .primary("fenced", json!(5))
                .after(wait),
            "abandon",
        ),
    ]);
}

#[test]
fn a_planned_move_loses_nothing_or_is_given_up() {
    let moving = |case: Case| case.fence(true).replica("fenced", json!(5));
    check(vec![
        ("the primary has not stopped", moving(case()), "nothing"),
        (
            "stopped, all arrived",
            moving(case()).primary("fenced", json!(5)),
            "promote",
        ),
        (
            "stopped, a tail is missing",
            moving(case())
                .primary("fenced", json!(5))
                .primary("offset", json!(101)),
            "nothing",
        ),
        ("too long", moving(case()).after(PLANNED_MS), "abandon"),
        (
            "the primary dies on the way",
            moving(case())
                .silent("rec-0")
                .after(LEASE_MS + LEASE_MARGIN_MS),
            "promote",
        ),
        (
            "the candidate is late",
            moving(case()).silent("rec-1").after(PLANNED_MS - 1),
            "nothing",
        ),
        (
            "the candidate dies on the way",
            moving(case()).silent("rec-1").after(SILENT_MS),
            "abandon",
        ),
    ]);
    let mut given_up = case().pod("rec-0", unexpected());
    given_up.watch.gave_up(0);
    assert_eq!(given_up.after(PLANNED_AGAIN_MS - 1).word(), "nothing");
}

#[test]
fn what_nobody_can_take_over_is_a_persons_business() {
    let hopeless = || {
        case()
            .pod("rec-0", None)
            .shard("inSync", json!([]))
            .replica("offset", json!(70))
    };
    let accept =
        |case: Case, text: &str| case.set("/metadata/annotations", json!({ ACCEPT_LOSS: text }));
    let back = || {
        case()
            .primary("wantsFailover", json!("restarted"))
            .primary("writable", json!(false))
    };
    check(vec![
        (
            "at first it may come back",
            hopeless().after(HOPELESS_MS - 1),
            "nothing",
        ),
        (
            "then it is asked, with the loss",
            hopeless().after(HOPELESS_MS),
            "person rec-1 Some(30)",
        ),
        ("accepted", accept(hopeless(), "rec-1@4"), "fence rec-1"),
        (
            "accepted for another epoch",
            accept(hopeless(), "rec-1@3"),
            "nothing",
        ),
        (
            "accepted for a stranger",
            accept(hopeless(), "rec-2@4"),
            "nothing",
        ),
        (
            "only the primary is back",
            back().pod("rec-1", None).silent("rec-1").after(HOPELESS_MS),
            "person ",
        ),
        (
            "it goes on",
            accept(back().silent("rec-1"), "rec-0@4"),
            "reinstate",
        ),
        (
            "one that follows has more",
            back().replica("following", json!("down")),
            "fence rec-1",
        ),
    ]);
}
