use super::*;
use crate::app::testing::{LAB_1, LAB_2, TestHub, database};
use crate::app::writes::Manner;
use crate::tasks::Task as _;
use crate::tasks::plan::Planning;

async fn hub() -> TestHub {
    let hub = TestHub::new().await;
    hub.member("eu", LAB_1).await;
    hub.member("us", LAB_2).await;
    created(&hub, "cart").await;
    hub
}

async fn created(hub: &TestHub, name: &str) {
    let new = database(name, &["eu", "us"]);
    let made = hub.app.create_database(&new, &Manner::default()).await;
    made.unwrap();
}

async fn planned(hub: &TestHub) {
    let app = Arc::clone(&hub.app);
    Planning::new(app).activate().await.unwrap();
}

#[tokio::test]
async fn one_object_is_shown_as_in_the_list() {
    let hub = hub().await;
    created(&hub, "cart-2").await;
    planned(&hub).await;
    let all = hub.app.database_views(&Scope::all()).await.unwrap().value;
    let one = hub.app.database_view(&Scope::all(), "cart").await.unwrap();
    assert_eq!(format!("{:?}", one.unwrap()), format!("{:?}", all[0]));
    assert!(all[0].participants[1].database.desired.is_some());
    let all = hub.app.member_views().await.unwrap().value;
    let one = hub.app.member_view("us").await.unwrap();
    assert_eq!(format!("{:?}", one.unwrap()), format!("{:?}", all[1]));
    let all = hub.app.remote_views().await.unwrap().value;
    let one = hub.app.remote_view("us").await.unwrap();
    assert_eq!(format!("{:?}", one.unwrap()), format!("{:?}", all[1]));
}

#[tokio::test]
async fn what_does_not_exist_or_is_not_to_be_seen_is_not_found() {
    let hub = hub().await;
    let others = Scope::only(["others".to_owned()].into());
    assert!(
        hub.app
            .database_view(&others, "cart")
            .await
            .unwrap()
            .is_none()
    );
    let unknown = hub.app.database_view(&Scope::all(), "car").await.unwrap();
    assert!(unknown.is_none());
    assert!(hub.app.member_view("u").await.unwrap().is_none());
    assert!(hub.app.remote_view("u").await.unwrap().is_none());
}

#[tokio::test]
async fn one_object_and_a_new_one_cost_no_more_beside_many_others() {
    let hub = hub().await;
    planned(&hub).await;
    let cost = async |name: &str| {
        let before = hub.store.handed_out();
        hub.app.database_view(&Scope::all(), "cart").await.unwrap();
        hub.app.member_view("us").await.unwrap();
        hub.app.remote_view("us").await.unwrap();
        created(&hub, name).await;
        hub.store.handed_out() - before
    };
    let alone = cost("first").await;
    for n in 0..40 {
        let uid = format!("33333333-3b5e-4a3e-9d57-0d9a3c1f1e{n:02x}");
        hub.member(&format!("m-{n}"), &uid).await;
        created(&hub, &format!("other-{n}")).await;
    }
    planned(&hub).await;
    assert_eq!(cost("last").await, alone);
}
