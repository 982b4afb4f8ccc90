//! What is wrong with one database holds up no other, and is told once.

use bytes::Bytes;
use meridian_api::audit::Outcome as Audited;

use super::*;
use crate::app::conditions;
use crate::domain::access::grant::Scope;
use crate::domain::database::Membership;
use crate::store::records::{Held, TxnExt as _};
use crate::store::{Txn, keys};

async fn planned(hub: &TestHub, name: &str) -> Option<(&'static str, String)> {
    let view = hub.app.database_view(&Scope::all(), name).await.unwrap();
    let found = conditions::of(&view.unwrap());
    let planned = found.into_iter().find(|found| found.type_ == "Planned");
    planned
        .filter(|found| found.truth != conditions::Truth::True)
        .map(|found| (found.reason, found.message))
}

/// How often the audit log says that a database was not planned.
async fn refusals(hub: &TestHub, name: &str) -> usize {
    let (_, records) = hub.app.audit_records(u64::MAX, 100).await.unwrap();
    let refused = records.iter().filter(|record| {
        record.event.verb == "plan"
            && record.event.name == name
            && record.event.outcome == Audited::Refused
    });
    refused.count()
}

async fn membership(hub: &TestHub, name: &str) -> Held<Membership> {
    let database = hub.app.database(name).await.unwrap().record;
    let key = keys::membership(database.object_id);
    let held = records::get(hub.app.store().as_ref(), &key).await;
    held.unwrap().unwrap()
}

async fn told(hub: &TestHub) -> usize {
    hub.app.desired_of(uid(LAB_1)).await.unwrap().value.len()
}

#[tokio::test]
async fn a_plan_that_breaks_a_rule_holds_up_its_database_alone_until_that_is_another() {
    let hub = hub(2).await;
    let mut planning = Planning::new(Arc::clone(&hub.app));
    settled(&mut planning).await;
    let sound = membership(&hub, "db-1").await;
    let mut wrong = sound.record.clone();
    wrong.instances.remove("us");
    wrong.highest_instance_id = 0;
    let object = hub.app.database("db-1").await.unwrap().record.object_id;
    let key = keys::membership(object);
    let put = |membership: &Membership| Txn::new().put_record(&key, membership).unwrap();
    hub.app.commit(put(&wrong)).await.unwrap();
    let before = told(&hub).await;
    let new = database("one-more", &["eu", "us"]);
    let made = hub.app.create_database(&new, &Manner::default()).await;
    made.unwrap();
    for _ in 0..3 {
        settled(&mut planning).await;
    }
    assert_eq!(told(&hub).await, before + 2, "the others go on");
    assert_eq!(membership(&hub, "db-1").await.record, wrong);
    let (reason, message) = planned(&hub, "db-1").await.unwrap();
    assert_eq!(reason, "HeldBack");
    assert!(message.contains("given twice"), "{message}");
    assert_eq!(planned(&hub, "one-more").await, None);
    assert_eq!(hub.app.unplanned(), 1);
    assert_eq!(refusals(&hub, "db-1").await, 1, "it is told once");

    hub.app.commit(put(&sound.record)).await.unwrap();
    settled(&mut planning).await;
    assert_eq!(planned(&hub, "db-1").await, None);
    assert_eq!(hub.app.unplanned(), 0);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_holds_up_its_database_alone() {
    let hub = hub(2).await;
    let mut planning = Planning::new(Arc::clone(&hub.app));
    settled(&mut planning).await;
    let database_1 = hub.app.database("db-1").await.unwrap().record;
    let object = database_1.object_id;
    let keys = [
        keys::database("db-1").text().to_owned(),
        keys::membership(object).text().to_owned(),
        keys::desired(uid(LAB_1), object).text().to_owned(),
        keys::waits(object).text().to_owned(),
    ];
    for (turn, key) in keys.iter().enumerate() {
        let before = hub.app.store().get(key.clone()).await.unwrap().value;
        let later = Bytes::from_static(b"\x02{}");
        let put = |value: Bytes| Txn::new().put(key.clone(), value);
        hub.app.commit(put(later.clone())).await.unwrap();
        let mut again = Planning::new(Arc::clone(&hub.app));
        for (looker, planning) in [&mut planning, &mut again].into_iter().enumerate() {
            let name = format!("one-more-{turn}-{looker}");
            let new = database(&name, &["eu", "us"]);
            let made = hub.app.create_database(&new, &Manner::default()).await;
            made.unwrap();
            settled(planning).await;
            assert_eq!(planned(&hub, &name).await, None, "{key}");
        }
        // What people are told can be written anew.
        let is_for_people = key.contains("/waits/");
        assert_eq!(hub.app.unplanned(), usize::from(!is_for_people), "{key}");
        let found = hub.app.store().get(key.clone()).await.unwrap().value;
        assert_eq!(found.map(|it| it.value), (!is_for_people).then_some(later));
        if let Some(before) = before {
            hub.app.commit(put(before.value)).await.unwrap();
        }
        settled(&mut planning).await;
        assert_eq!(hub.app.unplanned(), 0, "{key}");
        assert_eq!(planned(&hub, "db-1").await, None, "{key}");
    }
    assert_eq!(refusals(&hub, "db-1").await, 3);
}
