use jiff::SignedDuration;

use super::*;
use crate::app::testing::{LAB_1, LAB_2, TestHub, uid};
use crate::ca::AGENT_LIFE;

fn speaker(hub: &TestHub, serial: u8) -> Speaker {
    Speaker {
        cluster: uid(LAB_1),
        root: String::new(),
        serial: Serial::of(&[serial]),
        ends_at: hub.app.now() + AGENT_LIFE,
    }
}

async fn member() -> TestHub {
    let hub = TestHub::new().await;
    drop(hub.member("lab-1", LAB_1).await);
    hub
}

#[tokio::test]
async fn a_certificate_opens_nothing_from_its_end_on_by_the_hubs_clock() {
    let hub = member().await;
    let speaker = speaker(&hub, 1);
    hub.clock
        .advance(AGENT_LIFE - SignedDuration::from_millis(1));
    hub.app.must_be_accepted(&speaker).await.unwrap();
    hub.clock.advance(SignedDuration::from_millis(1));
    let over = hub.app.must_be_accepted(&speaker).await;
    let Err(AppError::CertificateOver(told)) = over else {
        panic!("{over:?}")
    };
    assert!(
        told.contains("ended at 2026-11-29T12:00:00Z") && told.contains("clock says"),
        "{told}"
    );
}

#[tokio::test]
async fn a_denied_certificate_opens_nothing_and_the_member_gets_another() {
    let hub = member().await;
    let what = Deny::Unknown(Serial::of(&[1]));
    let manner = Manner::default();
    hub.app
        .deny("lab-1", &what, ("admin", "stolen"), &manner)
        .await
        .unwrap();
    let over = hub.app.must_be_accepted(&speaker(&hub, 1)).await;
    let Err(AppError::CertificateOver(told)) = over else {
        panic!("{over:?}")
    };
    for part in ["stolen", "admin", "device key gets another"] {
        assert!(told.contains(part), "{told}");
    }
    hub.app.must_be_accepted(&speaker(&hub, 2)).await.unwrap();
}

#[tokio::test]
async fn a_denied_cluster_gets_in_with_no_certificate_and_no_token_until_it_is_released() {
    let hub = TestHub::new().await;
    let device = hub.member("lab-1", LAB_1).await;
    let token = hub.token("again").await;
    let manner = Manner::default();
    hub.app
        .deny("lab-1", &Deny::Cluster, ("admin", "lost"), &manner)
        .await
        .unwrap();
    for serial in [1, 2] {
        let refused = hub.app.must_be_accepted(&speaker(&hub, serial)).await;
        assert!(matches!(refused, Err(AppError::Refused(_))), "{refused:?}");
    }
    let joined = device.join(&hub.app, &token, "again").await;
    assert!(
        matches!(&joined, Err(AppError::Refused(told)) if told.contains("denied")),
        "{joined:?}"
    );
    let recovered = device.recover(&hub.app, "").await;
    assert!(
        matches!(&recovered, Err(AppError::Refused(told)) if told.contains("denied")),
        "{recovered:?}"
    );
    let twice = hub
        .app
        .deny("lab-1", &Deny::Cluster, ("admin", "x"), &manner)
        .await;
    assert!(matches!(twice, Err(AppError::Conflict(_))), "{twice:?}");
    hub.app.release("lab-1", "admin", &manner).await.unwrap();
    hub.app.must_be_accepted(&speaker(&hub, 1)).await.unwrap();
    let nothing = hub.app.release("lab-1", "admin", &manner).await;
    assert!(matches!(nothing, Err(AppError::Conflict(_))), "{nothing:?}");
}

#[tokio::test]
async fn a_denial_stays_when_the_registration_is_removed() {
    let hub = TestHub::new().await;
    let device = hub.member("lab-1", LAB_1).await;
    let manner = Manner::default();
    hub.app
        .deny("lab-1", &Deny::Cluster, ("admin", "lost"), &manner)
        .await
        .unwrap();
    hub.app.remove_cluster("lab-1", &manner).await.unwrap();
    let token = hub.token("lab-1").await;
    let joined = device.join(&hub.app, &token, "lab-1").await;
    assert!(matches!(joined, Err(AppError::Refused(_))), "{joined:?}");
}

#[tokio::test]
async fn two_instances_that_alternate_put_their_cluster_in_quarantine_and_no_other() {
    let hub = member().await;
    drop(hub.member("lab-2", LAB_2).await);
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let mut quarantined = None;
    for turn in 0..20 {
        let instance = if turn % 2 == 0 { one } else { two };
        hub.clock.advance(SignedDuration::from_secs(5));
        hub.app.hear_instance(uid(LAB_2), one).await.unwrap();
        if let Err(error) = hub.app.hear_instance(uid(LAB_1), instance).await {
            quarantined = Some((turn, error));
            break;
        }
    }
    let Some((7, AppError::Quarantined(told))) = &quarantined else {
        panic!("{quarantined:?}")
    };
    for part in [
        "two agents with one identity",
        LAB_1,
        "no data is touched",
        "meridian cluster release lab-1",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let refused = hub.app.must_be_accepted(&speaker(&hub, 1)).await;
    assert!(
        matches!(refused, Err(AppError::Quarantined(_))),
        "{refused:?}"
    );
    // After a release it begins anew, and does not count what was before.
    hub.app
        .release("lab-1", "admin", &Manner::default())
        .await
        .unwrap();
    hub.app.hear_instance(uid(LAB_1), one).await.unwrap();
    hub.app.hear_instance(uid(LAB_1), two).await.unwrap();
    hub.app.must_be_accepted(&speaker(&hub, 1)).await.unwrap();
}
