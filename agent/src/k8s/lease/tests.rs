use super::*;

fn record(holder: &str, transitions: i32) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_transitions: Some(transitions),
        lease_duration_seconds: Some(10),
        ..LeaseSpec::default()
    }
}

fn lease(version: &str) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "l", "namespace": "ns", "resourceVersion": version},
        "spec": {"holderIdentity": "me", "leaseDurationSeconds": 10, "leaseTransitions": 0},
    })
}

#[tokio::test]
async fn a_leader_renews_without_a_look_and_looks_again_after_a_conflict() {
    let (objects, server) = crate::k8s::testing::objects();
    let conflict = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409,
                                      "reason": "Conflict", "message": "the object has been modified"});
    let answers = vec![
        (200, lease("1")),
        (200, lease("2")),
        (200, lease("3")),
        (409, conflict),
        (200, lease("9")),
        (200, lease("10")),
    ];
    let asked = tokio::spawn(crate::k8s::testing::answer(server, answers));
    let mut elector = Elector::new(objects, "l", "me");
    for leads in [true, true, false, true] {
        assert_eq!(matches!(elector.turn().await, Ok(Role::Leader)), leads);
    }
    drop(elector);
    let asked = asked.await.unwrap();
    let seen: Vec<_> = asked
        .iter()
        .map(|(method, _, body)| {
            let version = body["metadata"]["resourceVersion"].as_str();
            format!("{method} {}", version.unwrap_or_default())
        })
        .collect();
    assert_eq!(seen, ["GET ", "PUT 1", "PUT 2", "PUT 3", "GET ", "PUT 9"]);
}

#[test]
fn decisions_follow_the_table() {
    let wait = |holder: &str| Decision::Wait {
        holder: holder.to_owned(),
    };
    let cases = [
        ("no lease", None, 0, Decision::Take { transitions: 0 }),
        (
            "given back",
            Some(record("", 4)),
            0,
            Decision::Take { transitions: 5 },
        ),
        ("ours", Some(record("me", 4)), 3, Decision::Renew),
        (
            "ours and old: still nobody else took it",
            Some(record("me", 4)),
            60,
            Decision::Renew,
        ),
        ("other, fresh", Some(record("other", 4)), 0, wait("other")),
        (
            "other, almost over",
            Some(record("other", 4)),
            9,
            wait("other"),
        ),
        (
            "other, over",
            Some(record("other", 4)),
            10,
            Decision::Take { transitions: 5 },
        ),
    ];
    for (name, lease, unchanged, expected) in cases {
        assert_eq!(
            decide(lease.as_ref(), "me", Duration::from_secs(unchanged)),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_record_with_a_longer_duration_is_respected() {
    let long = LeaseSpec {
        lease_duration_seconds: Some(60),
        ..record("other", 0)
    };
    assert_eq!(
        decide(Some(&long), "me", Duration::from_secs(59)),
        Decision::Wait {
            holder: "other".to_owned()
        }
    );
}

#[test]
fn a_leader_steps_down_before_another_may_take_over() {
    assert!(
        RENEW_DEADLINE + REQUEST < DURATION,
        "the old leader must stop, with a margin for its work, before the lease ends"
    );
}

#[tokio::test(start_paused = true)]
async fn a_standby_reads_again_a_whole_lease_after_the_last_sign_of_life_or_when_nobody_holds_it() {
    let (objects, server) = crate::k8s::testing::objects();
    drop(server);
    let mut standby = Elector::new(objects, "l", "me");
    let told = |spec: LeaseSpec| Lease {
        spec: Some(spec),
        ..Lease::default()
    };
    let renewed = |at: i64| {
        told(LeaseSpec {
            renew_time: Some(MicroTime(Timestamp::from_second(at).unwrap())),
            ..record("other", 0)
        })
    };
    standby.hear(Some(renewed(1)));
    assert_eq!(standby.due, Instant::now() + DURATION);
    tokio::time::advance(PERIOD).await;
    standby.hear(Some(renewed(1)));
    assert_eq!(
        standby.due,
        Instant::now() + DURATION - PERIOD,
        "a watch that began anew is no sign of life"
    );
    standby.hear(Some(renewed(2)));
    assert_eq!(standby.due, Instant::now() + DURATION);
    assert_eq!(standby.seen_at.elapsed(), Duration::ZERO);
    for free in [Some(told(record("", 0))), None] {
        standby.hear(free);
        assert_eq!(standby.due, Instant::now());
    }
}

/// Runs an elector against the answers, and tells how it ended and which requests it made.
async fn ends(answers: Vec<(u16, serde_json::Value)>) -> (ElectionError, Vec<String>) {
    let (objects, server) = crate::k8s::testing::objects();
    let asked = tokio::spawn(crate::k8s::testing::answer(server, answers));
    let (role, _roles) = watch::channel(Role::Unknown);
    let ended = Elector::new(objects, "l", "me")
        .run(role, CancellationToken::new())
        .await;
    let asked = asked.await.unwrap();
    let seen = asked.iter().map(|(method, _, _)| method.to_string());
    (ended.unwrap_err(), seen.collect())
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_put_back_ends_the_leader_before_it_writes_again() {
    let conflict = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409,
                                      "reason": "Conflict", "message": "the object has been modified"});
    let (error, asked) = ends(vec![
        (200, lease("700")),
        (200, lease("1000")),
        (409, conflict),
        (200, lease("999")),
    ])
    .await;
    assert!(
        matches!(
            error,
            ElectionError::WentBack {
                newest: 1000,
                found: 999,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(asked, ["GET", "PUT", "PUT", "GET"]);
}

#[tokio::test]
async fn a_standby_hears_that_the_store_was_put_back() {
    let (objects, server) = crate::k8s::testing::objects();
    drop(server);
    let mut standby = Elector::new(objects, "l", "me");
    let told = |version| serde_json::from_value(lease(version)).unwrap();
    for version in ["9", "10", "10", "no number"] {
        standby.hear(Some(told(version)));
        assert!(standby.goes_on().is_ok(), "{version}");
    }
    standby.hear(Some(told("9")));
    assert!(standby.goes_on().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_renewals_fail_steps_down_in_time() {
    let began = Instant::now();
    let ended = ends(vec![(200, lease("1")), (200, lease("2"))]);
    let ended = tokio::time::timeout(RENEW_DEADLINE * 10, ended).await;
    let (error, asked) = ended.expect("it steps down");
    assert!(matches!(error, ElectionError::Lost { .. }), "{error}");
    assert!(
        began.elapsed() <= RENEW_DEADLINE,
        "after {:?}",
        began.elapsed()
    );
    assert_eq!(asked[..2], ["GET", "PUT"]);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_failed_is_tried_again_soon_and_often_before_the_time_is_over() {
    let error = || {
        let status = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500,
                                        "reason": "InternalError", "message": "etcdserver: request timed out"});
        (500, status)
    };
    let mut answers = vec![(200, lease("1")), (200, lease("2"))];
    answers.extend((0..10).map(|_| error()));
    let ended = tokio::time::timeout(RENEW_DEADLINE * 2, ends(answers)).await;
    let (error, asked) = ended.expect("it steps down");
    assert!(matches!(error, ElectionError::Lost { .. }), "{error}");
    assert_eq!(asked, ["GET", "PUT", "PUT", "GET", "GET", "GET", "GET"]);
}

#[tokio::test]
async fn the_lease_as_it_is_made_renewed_taken_over_and_given_back_is_golden() {
    let (objects, server) = crate::k8s::testing::objects();
    let missing = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404,
                                     "reason": "NotFound", "message": "not found"});
    let mut others = lease("5");
    others["spec"]["holderIdentity"] = "".into();
    others["spec"]["leaseTransitions"] = 4.into();
    let answers = vec![
        (404, missing),
        (201, lease("1")),
        (200, lease("2")),
        (200, others),
        (200, lease("6")),
        (200, lease("6")),
        (200, lease("7")),
    ];
    let asked = tokio::spawn(crate::k8s::testing::answer(server, answers));
    let mut elector = Elector::new(objects, "l", "me");
    for _ in 0..2 {
        assert_eq!(elector.turn().await.unwrap(), Role::Leader);
    }
    elector.held = None;
    assert_eq!(elector.turn().await.unwrap(), Role::Leader);
    elector.renewed_at = Some(Instant::now());
    elector.give_back().await;
    drop(elector);
    let mut written: Vec<_> = asked.await.unwrap();
    written.retain(|(method, _, _)| method != http::Method::GET);
    let times = ["acquireTime", "renewTime"];
    let bodies = written.into_iter().map(|(method, uri, mut body)| {
        for time in times {
            let said = body["spec"].get_mut(time);
            if let Some(said) = said.filter(|said| *said != "1970-01-01T00:00:00.000000Z") {
                assert!(said.as_str().unwrap().ends_with('Z'), "{said}");
                *said = "…".into();
            }
        }
        let path = uri.split('?').next();
        serde_json::json!({"request": format!("{method} {}", path.unwrap()), "body": body})
    });
    let bodies: Vec<_> = bodies.collect();
    assert_eq!(bodies.len(), 4);
    crate::k8s::testing::golden("k8s/golden/lease", &serde_json::json!(bodies));
}
