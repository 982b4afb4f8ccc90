use proptest::prelude::*;

use super::*;

const NEW: &str = "new";

/// A pod from a short text: `+` of the present template, `-` outdated, then `r` ready, `u` not ready, `t` going.
fn pod(ordinal: u32, text: &str) -> Node {
    let has = |letter| text.contains(letter);
    Node {
        name: format!("rec-{ordinal}"),
        ordinal,
        uid: format!("uid-{ordinal}"),
        template: Some(if has('+') { NEW } else { "old" }.to_owned()),
        image: Some("image".to_owned()),
        ready: has('r'),
        terminating: has('t'),
        host: None,
        rack: None,
        trouble: None,
    }
}

fn led_by(pod: u32) -> Shard {
    Shard {
        database: "a".to_owned(),
        primary: Some(format!("rec-{pod}")),
        replicas: Vec::new(),
    }
}

fn view<'a>(pods: &'a [Node], shards: &'a [Shard]) -> View<'a> {
    View {
        nodes: i32::try_from(pods.len()).unwrap(),
        template: NEW,
        image: "image",
        settled: true,
        pods,
        shards,
    }
}

fn step(pods: &[&str], leaders: &[u32]) -> String {
    let pods: Vec<Node> = (0..)
        .zip(pods)
        .filter(|(_, text)| **text != ".")
        .map(|(n, text)| pod(n, text))
        .collect();
    let shards: Vec<Shard> = leaders.iter().map(|n| led_by(*n)).collect();
    let view = View {
        nodes: 3,
        ..view(&pods, &shards)
    };
    match next(&view) {
        Step::Done => "done".to_owned(),
        Step::Wait(why) => format!("wait: {why}"),
        Step::Restart {
            pod, serves: true, ..
        } => format!("empty and restart {pod}"),
        Step::Restart { pod, .. } => format!("restart {pod}"),
    }
}

/// What is observed | pods (`.` missing) | pods with a primary | step.
const TABLE: &str = "
    all current                                  | +r +r +r |       | done
    one not ready: that is no rollout            | +r +r +u |       | done
    the highest number first                     | -r -r -r |       | empty and restart rec-2
    then the next                                | -r -r +r |       | empty and restart rec-1
    not while a current pod is not ready         | -r -r +u |       | wait: waits until pod rec-2 is ready
    not while one is going                       | -r -r -t |       | wait: waits until pod rec-2 is gone
    also not while a current one is going        | -r +t -r |       | wait: waits until pod rec-1 is gone
    not while one is missing                     | -r -r .  |       | wait: waits for 1 pods that do not exist yet
    one that does not serve goes first           | -u -r -r |       | restart rec-0
    also if it has a primary: it does not serve  | -u -r -r | 0     | restart rec-0
    one without a primary before one with        | -r -r -r | 2     | empty and restart rec-1
    the one with a primary at last               | +r +r -r | 2     | empty and restart rec-2
    where all have one, the highest number       | -r -r -r | 0 1 2 | empty and restart rec-2";

#[test]
fn the_table_of_pods_and_primaries() {
    for row in TABLE.lines().skip(1) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let pods: Vec<&str> = cells[1].split_whitespace().collect();
        let leaders: Vec<u32> = cells[2]
            .split_whitespace()
            .map(|n| n.parse().unwrap())
            .collect();
        assert_eq!(step(&pods, &leaders), cells[3], "{row}");
    }
}

#[test]
fn nothing_is_taken_before_kubernetes_knows_the_new_template() {
    let pods = [pod(0, "-r")];
    let unsettled = View {
        settled: false,
        ..view(&pods, &[])
    };
    assert!(matches!(next(&unsettled), Step::Wait(_)));
}

#[test]
fn a_pod_beyond_the_number_of_nodes_is_nobodys_business() {
    let pods = [pod(0, "+r"), pod(1, "-r")];
    let smaller = View {
        nodes: 1,
        ..view(&pods, &[])
    };
    assert_eq!(next(&smaller), Step::Done);
}

#[test]
fn another_image_makes_an_upgrade_of_an_update() {
    let mut pods = [pod(0, "-r"), pod(1, "+r")];
    assert_eq!(
        progress(&view(&pods, &[]), None),
        Progress::Update { left: 1 }
    );
    pods[0].image = Some("older".to_owned());
    assert_eq!(
        progress(&view(&pods, &[]), None),
        Progress::Upgrade { left: 1 }
    );
    pods[0].template = Some(NEW.to_owned());
    assert_eq!(progress(&view(&pods, &[]), None), Progress::Current);
}

#[test]
fn a_rollout_ends_when_every_pod_serves() {
    let all = ["+r", "+r", "+r"].map(str::to_owned);
    let last_starts = ["+r", "+r", "+u"].map(str::to_owned);
    let (all, last_starts) = (pods_of(&all), pods_of(&last_starts));
    let last_is_gone = View {
        nodes: 3,
        ..view(&all[..2], &[])
    };
    let of = |view: &View<'_>, before| progress(view, Some(&before));
    for seen in [&view(&last_starts, &[]), &last_is_gone] {
        assert_eq!(
            of(seen, ClusterState::Upgrade),
            Progress::Upgrade { left: 0 }
        );
        let updating = ClusterState::RunningRollingUpdate;
        assert_eq!(of(seen, updating), Progress::Update { left: 0 });
        // A pod that is away without any rollout is none.
        assert_eq!(of(seen, ClusterState::Running), Progress::Current);
    }
    assert_eq!(
        of(&view(&all, &[]), ClusterState::Upgrade),
        Progress::Current
    );
}

/// One letter combination of [`pod`].
fn any_pod() -> impl Strategy<Value = String> {
    (prop::bool::ANY, 0_u8..3).prop_map(|(new, state)| {
        let state = ["r", "u", "t"][usize::from(state)];
        format!("{}{state}", if new { "+" } else { "-" })
    })
}

fn pods_of(texts: &[String]) -> Vec<Node> {
    (0..).zip(texts).map(|(n, text)| pod(n, text)).collect()
}

proptest! {
    #[test]
    fn a_pod_that_serves_is_taken_only_while_all_others_serve(
        texts in prop::collection::vec(any_pod(), 5), leader in 0_u32..5,
    ) {
        let pods = pods_of(&texts);
        let shards = [led_by(leader)];
        if let Step::Restart { pod, serves, .. } = next(&view(&pods, &shards)) {
            let taken = pods.iter().find(|node| node.name == pod).unwrap();
            prop_assert!(taken.template.as_deref() != Some(NEW), "a current pod was restarted");
            prop_assert!(!pods.iter().any(|node| node.terminating), "two away");
            prop_assert_eq!(serves, taken.ready, "a pod that serves was not emptied");
            prop_assert!(!serves || pods.iter().all(|node| node.ready), "two away");
        }
    }

    /// Whatever the pods look like at first: if each restart brings a pod of the present template that becomes ready in
    /// time, the rollout ends.
    #[test]
    fn every_rollout_ends(texts in prop::collection::vec(any_pod(), 5), leader in 0_u32..5) {
        let mut pods = pods_of(&texts);
        let shards = [led_by(leader)];
        for _ in 0..20 {
            match next(&view(&pods, &shards)) {
                Step::Done => return Ok(()),
                Step::Restart { pod: name, .. } => {
                    for node in pods.iter_mut().filter(|node| node.name == name) {
                        *node = pod(node.ordinal, "+u");
                    }
                }
                // Time passes: what goes is made anew, what starts is ready.
                Step::Wait(_) => {
                    for node in &mut pods {
                        if node.terminating {
                            *node = pod(node.ordinal, "+r");
                        } else if node.template.as_deref() == Some(NEW) {
                            node.ready = true;
                        }
                    }
                }
            }
        }
        prop_assert!(false, "no end: {:?}", pods);
    }
}
