use super::*;
use crate::app::testing::TestHub;

fn wanted(role: Role, life: Option<SignedDuration>) -> NewApiToken {
    NewApiToken {
        holder: "alice".to_owned(),
        role,
        projects: None,
        life,
    }
}

async fn mint(hub: &TestHub, new: &NewApiToken) -> Minted {
    let made = hub.app.create_api_token(new, &Manner::default()).await;
    made.unwrap()
}

async fn refusal(hub: &TestHub, new: &NewApiToken) -> String {
    let refused = hub.app.create_api_token(new, &Manner::default()).await;
    refused.unwrap_err().explain()
}

#[tokio::test]
async fn a_token_opens_the_hub_until_it_ends_or_is_deleted() {
    let hub = TestHub::new().await;
    let hour = SignedDuration::from_hours(1);
    let made = mint(&hub, &wanted(Role::Viewer, Some(hour))).await;
    let shown = hub.app.authenticate(&made.token).await.unwrap();
    assert_eq!((shown.role, shown.holder.as_str()), (Role::Viewer, "alice"));
    hub.clock.advance(hour - SignedDuration::from_secs(1));
    hub.app.authenticate(&made.token).await.unwrap();
    hub.clock.advance(SignedDuration::from_secs(1));
    let over = hub.app.authenticate(&made.token).await.unwrap_err();
    assert!(over.to_string().contains("expired at"), "{over}");

    let made = mint(&hub, &wanted(Role::Viewer, Some(hour))).await;
    let id = made.kept.record.id;
    hub.app
        .delete_api_token(&id, &Manner::default())
        .await
        .unwrap();
    let unknown = hub.app.authenticate(&made.token).await.unwrap_err();
    assert!(
        unknown.to_string().contains("not one of this hub"),
        "{unknown}"
    );
}

#[tokio::test]
async fn the_last_token_of_an_administrator_is_not_deleted() {
    let hub = TestHub::new().await;
    let hour = SignedDuration::from_hours(1);
    let first = mint(&hub, &wanted(Role::Admin, None)).await.kept.record.id;
    mint(&hub, &wanted(Role::Operator, Some(hour))).await;
    let delete = async |id: &str| hub.app.delete_api_token(id, &Manner::default()).await;
    let refused = delete(&first).await.unwrap_err().to_string();
    assert!(refused.contains("the last one"), "{refused}");
    let second = mint(&hub, &wanted(Role::Admin, Some(hour))).await;
    // One whose time is over administers nothing.
    hub.clock.advance(hour);
    delete(&first).await.unwrap_err();
    delete(&second.kept.record.id).await.unwrap();
    mint(&hub, &wanted(Role::Admin, None)).await;
    delete(&first).await.unwrap();
}

#[tokio::test]
async fn what_no_token_can_be_is_refused_field_by_field() {
    let hub = TestHub::new().await;
    let hour = Some(SignedDuration::from_hours(1));
    let told = refusal(&hub, &wanted(Role::Operator, None)).await;
    assert!(told.contains("spec.neverExpires"), "{told}");
    for life in [SignedDuration::ZERO, LONGEST + SignedDuration::from_secs(1)] {
        let told = refusal(&hub, &wanted(Role::Admin, Some(life))).await;
        assert!(told.contains("spec.expiresInSeconds"), "{told}");
    }
    for holder in ["", " ", "a\nb", &"x".repeat(HOLDER + 1)] {
        let new = NewApiToken {
            holder: holder.to_owned(),
            ..wanted(Role::Viewer, hour)
        };
        let told = refusal(&hub, &new).await;
        assert!(told.contains("spec.holder"), "{told}");
    }
    let limited = |role, projects: &[&str]| NewApiToken {
        projects: Some(projects.iter().copied().map(str::to_owned).collect()),
        ..wanted(role, hour)
    };
    for new in [
        limited(Role::Admin, &["shop"]),
        limited(Role::Operator, &[]),
        limited(Role::Viewer, &["Shop"]),
    ] {
        let told = refusal(&hub, &new).await;
        assert!(told.contains("spec.projects"), "{told}");
    }
}

#[tokio::test]
async fn the_last_use_of_a_token_is_one_write_in_an_hour() {
    let hub = TestHub::new().await;
    let made = mint(&hub, &wanted(Role::Admin, None)).await;
    let last_use = async || hub.app.api_tokens().await.unwrap().value[0].last_use;
    let revision = async || hub.app.api_tokens().await.unwrap().revision;
    assert_eq!(last_use().await, None);
    let token = &made.kept.record;
    let begun = hub.app.now();
    hub.app.note_use(token).await;
    assert_eq!(last_use().await, Some(begun));
    let written = revision().await;
    for _ in 0..3 {
        hub.clock.advance(SignedDuration::from_mins(19));
        hub.app.note_use(token).await;
    }
    assert_eq!((last_use().await, revision().await), (Some(begun), written));
    hub.clock.advance(SignedDuration::from_mins(3));
    hub.app.note_use(token).await;
    assert_eq!(last_use().await, Some(hub.app.now()));
    // Another process of the hub knows what was written and writes nothing either.
    let written = revision().await;
    let hub = hub.restarted_with(hub.store.clone()).await;
    let before = hub.app.api_tokens().await.unwrap().revision;
    hub.app.note_use(token).await;
    let after = hub.app.api_tokens().await.unwrap().revision;
    assert!(before > written && after == before);
    mint(&hub, &wanted(Role::Admin, None)).await;
    let manner = Manner::default();
    hub.app.delete_api_token(&token.id, &manner).await.unwrap();
    hub.clock.advance(USE);
    hub.app.note_use(token).await;
    let left = records::list(&hub.store, &keys::user_uses()).await.unwrap();
    assert_eq!(left.value, [], "the use of a deleted token");
}
