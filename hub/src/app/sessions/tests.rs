use super::*;
use crate::app::testing::TestHub;
use crate::app::writes::Manner;
use crate::domain::sign_in::roles::Roles;
use crate::sign_in::book::RoleBook;

const LIFE: SignedDuration = SignedDuration::from_hours(8);

fn person(subject: &str, group: &str) -> Person {
    Person {
        issuer: "https://idp".to_owned(),
        subject: subject.to_owned(),
        name: format!("{subject}@example.com"),
        groups: [group.to_owned()].into(),
    }
}

fn roles(text: &str) -> Roles {
    Roles::read(&format!("roles:\n{text}")).unwrap()
}

async fn hub() -> (TestHub, std::sync::Arc<RoleBook>) {
    let book = RoleBook::of(roles("- {group: ops, role: admin}\n"));
    let hub = TestHub::with_roles(std::sync::Arc::clone(&book)).await;
    (hub, book)
}

#[tokio::test]
async fn a_session_is_kept_as_a_hash_ends_by_itself_and_is_closed_by_logout() {
    let (hub, _) = hub().await;
    let (ann, trail) = (person("ann", "ops"), Trail::default());
    let made = hub.app.open_session(&ann, LIFE, &trail).await.unwrap();
    assert!(made.token.starts_with("mrds."));
    let shown = hub.app.authenticate(&made.token).await.unwrap();
    assert_eq!(shown.person.as_ref(), Some(&ann));
    let as_token = made.token.replacen("mrds", "mrda", 1);
    assert!(
        hub.app.authenticate(&as_token).await.is_err(),
        "it is no token that somebody made"
    );
    hub.app.close_session(&shown, &trail).await.unwrap();
    assert!(hub.app.authenticate(&made.token).await.is_err());
    hub.app.close_session(&shown, &trail).await.unwrap();

    let made = hub.app.open_session(&ann, LIFE, &trail).await.unwrap();
    hub.clock.advance(LIFE - SignedDuration::from_secs(1));
    assert!(hub.app.authenticate(&made.token).await.is_ok());
    hub.clock.advance(SignedDuration::from_secs(1));
    let over = hub
        .app
        .authenticate(&made.token)
        .await
        .unwrap_err()
        .to_string();
    assert!(over.contains("meridian login"), "{over}");
}

#[tokio::test]
async fn what_a_session_may_do_follows_the_file_and_never_counts_as_the_last_administrator() {
    let (hub, book) = hub().await;
    let (ann, trail) = (person("ann", "ops"), Trail::default());
    let made = hub.app.open_session(&ann, LIFE, &trail).await.unwrap();
    let now = async || {
        let token = hub.app.authenticate(&made.token).await.unwrap();
        assert!(!token.administers(hub.app.now()));
        token
            .grants
            .iter()
            .map(|grant| grant.role)
            .collect::<Vec<_>>()
    };
    assert_eq!(now().await, [Role::Admin]);
    book.put(roles("- {group: ops, role: viewer}\n"));
    assert_eq!(now().await, [Role::Viewer]);
    book.put(roles("- {group: others, role: admin}\n"));
    assert_eq!(now().await, []);
    let refused = hub.app.open_session(&ann, LIFE, &trail).await.unwrap_err();
    assert!(
        matches!(&refused, AppError::Forbidden(why) if why.contains("the groups ops")),
        "{refused}"
    );
}

#[tokio::test]
async fn old_sessions_make_room_and_an_administrator_ends_any() {
    let (hub, _) = hub().await;
    let trail = Trail::default();
    let bob = hub
        .app
        .open_session(&person("bob", "ops"), LIFE, &trail)
        .await
        .unwrap();
    let mut made = Vec::new();
    for _ in 0..=OF_ONE {
        hub.clock.advance(SignedDuration::from_secs(1));
        let ann = person("ann", "ops");
        made.push(hub.app.open_session(&ann, LIFE, &trail).await.unwrap());
    }
    let good = async |made: &Minted| hub.app.authenticate(&made.token).await.is_ok();
    assert!(!good(&made[0]).await, "the oldest has gone");
    assert!(good(&made[1]).await && good(&made[OF_ONE]).await && good(&bob).await);
    let id = &bob.kept.record.id;
    hub.app
        .delete_api_token(id, &Manner::default())
        .await
        .unwrap();
    assert!(!good(&bob).await);
    hub.clock.advance(LIFE);
    hub.app
        .open_session(&person("eve", "ops"), LIFE, &trail)
        .await
        .unwrap();
    let left = hub.app.api_tokens().await.unwrap().value;
    let sessions = left
        .iter()
        .filter(|view| view.token.record.person.is_some());
    assert_eq!(sessions.count(), 1, "those that are over are removed");
}
