use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock::{self, Handle};

use meridian_api::{
    ids::{Incarnation, ObjectId, PlanNumber, Revision, Term},
    link::proto,
};

use super::*;
use crate::link::{
    freeze::Freeze,
    kinds::Kind,
    order::{Drift, Mark, Order, Position, Wish},
};

type Server = Handle<Request<Body>, Response<Body>>;

fn client() -> (Client, Server) {
    let (service, server) = mock::pair();
    (Client::new(service, "ns"), server)
}

/// Answers the next request, which must be `method` on a path that ends in `path`; returns its body.
async fn answer(
    server: &mut Server,
    method: Method,
    path: &str,
    code: StatusCode,
    body: Value,
) -> Value {
    let (request, send) = server.next_request().await.expect("a request comes");
    assert_eq!(request.method(), method);
    assert!(request.uri().path().ends_with(path), "{}", request.uri());
    let sent = request
        .into_body()
        .collect_bytes()
        .await
        .expect("the body is whole");
    send.send_response(
        Response::builder()
            .status(code)
            .body(Body::from(body.to_string().into_bytes()))
            .unwrap(),
    );
    if sent.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&sent).unwrap()
    }
}

fn missing() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound",
        "message": "not found", "details": {"name": "x"}})
}

fn conflict() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409, "reason": "Conflict", "message": "modified"})
}

fn stored(data: &BTreeMap<String, ByteString>, version: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "data": data,
        "metadata": {"name": "x", "namespace": "ns", "resourceVersion": version, "uid": "u", "labels": labels}})
}

fn ours() -> Value {
    json!({MANAGED_BY: FIELD_MANAGER})
}

#[tokio::test]
async fn a_new_identity_is_stored_before_it_is_handed_out() {
    let (client, mut server) = client();
    let opening = tokio::spawn(async move { identity(client, "ns").await.unwrap().1 });
    answer(
        &mut server,
        Method::GET,
        "/secrets/meridian-identity",
        StatusCode::NOT_FOUND,
        missing(),
    )
    .await;
    let (request, send) = server.next_request().await.unwrap();
    assert!(
        !opening.is_finished(),
        "the keys are not used before they are stored"
    );
    assert_eq!(request.method(), Method::POST);
    let body: Secret =
        serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
    assert_eq!(
        body.metadata.labels.as_ref().unwrap()[MANAGED_BY],
        FIELD_MANAGER
    );
    send.send_response(Response::new(Body::from(
        serde_json::to_vec(&body).unwrap(),
    )));
    let identity = opening.await.unwrap();
    assert_eq!(
        Identity::read(body.data.as_ref().unwrap()).unwrap(),
        identity
    );
}

#[tokio::test]
async fn a_stored_identity_is_used_again() {
    let (client, mut server) = client();
    let known = Identity::generate().unwrap();
    let body = stored(&known.data(), "7", ours());
    let opening = tokio::spawn(async move { identity(client, "ns").await.unwrap().1 });
    answer(
        &mut server,
        Method::GET,
        "/secrets/meridian-identity",
        StatusCode::OK,
        body,
    )
    .await;
    assert_eq!(opening.await.unwrap(), known);
}

#[tokio::test]
async fn a_foreign_secret_of_the_name_is_left_alone_and_its_owner_named() {
    let (client, mut server) = client();
    let body = stored(&BTreeMap::new(), "7", json!({MANAGED_BY: "Helm"}));
    let opening = tokio::spawn(async move { identity(client, "ns").await.map(drop) });
    answer(
        &mut server,
        Method::GET,
        "/secrets/meridian-identity",
        StatusCode::OK,
        body,
    )
    .await;
    let error = opening.await.unwrap().unwrap_err();
    assert!(
        matches!(&error, KeepError::Foreign { holder, .. } if holder == "`Helm`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_broken_identity_is_an_error_and_never_replaced() {
    let (client, mut server) = client();
    let data = BTreeMap::from([("device.key".to_owned(), ByteString(b"broken".to_vec()))]);
    let opening = tokio::spawn(async move { identity(client, "ns").await.map(drop) });
    answer(
        &mut server,
        Method::GET,
        "/secrets/meridian-identity",
        StatusCode::OK,
        stored(&data, "7", ours()),
    )
    .await;
    assert!(matches!(
        opening.await.unwrap(),
        Err(KeepError::Identity(_))
    ));
}

#[tokio::test]
async fn a_write_over_somebody_elses_data_is_refused_and_over_a_label_is_not() {
    let (client, mut server) = client();
    let data =
        |text: &str| BTreeMap::from([("k".to_owned(), ByteString(text.as_bytes().to_vec()))]);
    let writing = tokio::spawn(async move {
        let mut kept = Kept::open(client, "ns", JOURNAL).await.unwrap();
        kept.write(data("1")).await.unwrap();
        kept.write(data("2")).await
    });
    let path = "/secrets/meridian-link";
    answer(
        &mut server,
        Method::GET,
        path,
        StatusCode::OK,
        stored(&data("0"), "1", ours()),
    )
    .await;
    answer(
        &mut server,
        Method::PUT,
        path,
        StatusCode::CONFLICT,
        conflict(),
    )
    .await;
    answer(
        &mut server,
        Method::GET,
        path,
        StatusCode::OK,
        stored(&data("0"), "2", ours()),
    )
    .await;
    let put = answer(
        &mut server,
        Method::PUT,
        path,
        StatusCode::OK,
        stored(&data("1"), "3", ours()),
    )
    .await;
    assert_eq!(put["metadata"]["resourceVersion"], json!("2"));
    answer(
        &mut server,
        Method::PUT,
        path,
        StatusCode::CONFLICT,
        conflict(),
    )
    .await;
    answer(
        &mut server,
        Method::GET,
        path,
        StatusCode::OK,
        stored(&data("other"), "4", ours()),
    )
    .await;
    assert!(matches!(
        writing.await.unwrap(),
        Err(KeepError::Overtaken(_))
    ));
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_is_not_taken_for_empty() {
    let (client, mut server) = client();
    let data = BTreeMap::from([(JOURNAL_KEY.to_owned(), ByteString(b"{}".to_vec()))]);
    let opening = tokio::spawn(async move { SecretJournal::open(client, "ns").await.map(drop) });
    answer(
        &mut server,
        Method::GET,
        "/secrets/meridian-link",
        StatusCode::OK,
        stored(&data, "1", ours()),
    )
    .await;
    assert!(matches!(opening.await.unwrap(), Err(KeepError::Journal(_))));
}

/// A store with version 1, and a write of version 2 whose answer is lost.
async fn write_without_answer(server: &mut Server, store: &SecretJournal) -> Value {
    let writing = store.clone();
    let writing = tokio::spawn(async move { writing.save(&Journal::default()).await });
    let lost = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 504, "reason": "Timeout", "message": "timeout"});
    let path = "/secrets/meridian-link";
    let sent = answer(server, Method::PUT, path, StatusCode::GATEWAY_TIMEOUT, lost).await;
    assert!(matches!(writing.await.unwrap(), Err(SaveError::Failed(_))));
    sent
}

async fn opened(client: Client, server: &mut Server) -> SecretJournal {
    let empty = stored(&BTreeMap::new(), "1", ours());
    let opening = tokio::spawn(async move { SecretJournal::open(client, "ns").await.unwrap().0 });
    answer(
        server,
        Method::GET,
        "/secrets/meridian-link",
        StatusCode::OK,
        empty,
    )
    .await;
    opening.await.unwrap()
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_no_other_agents() {
    let (client, mut server) = client();
    let store = opened(client, &mut server).await;
    let mut there = write_without_answer(&mut server, &store).await;
    there["metadata"]["resourceVersion"] = json!("2");
    let saving = tokio::spawn(async move {
        let mut next = Journal::default();
        next.adopt_object("00000000-0000-4000-8000-000000000001".parse().unwrap(), "u");
        store.save(&next).await
    });
    let path = "/secrets/meridian-link";
    answer(
        &mut server,
        Method::PUT,
        path,
        StatusCode::CONFLICT,
        conflict(),
    )
    .await;
    answer(&mut server, Method::GET, path, StatusCode::OK, there).await;
    let (request, send) = server.next_request().await.unwrap();
    let body = request.into_body().collect_bytes().await.unwrap();
    let sent: Secret = serde_json::from_slice(&body).unwrap();
    assert_eq!(sent.metadata.resource_version.as_deref(), Some("2"));
    send.send_response(Response::new(Body::from(body.to_vec())));
    saving.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_another_agent_wrote_overtakes_also_after_a_lost_answer() {
    let (client, mut server) = client();
    let store = opened(client, &mut server).await;
    write_without_answer(&mut server, &store).await;
    let theirs = BTreeMap::from([("journal.json".to_owned(), ByteString(b"theirs".to_vec()))]);
    let saving = tokio::spawn(async move { store.save(&Journal::default()).await });
    let path = "/secrets/meridian-link";
    answer(
        &mut server,
        Method::PUT,
        path,
        StatusCode::CONFLICT,
        conflict(),
    )
    .await;
    answer(
        &mut server,
        Method::GET,
        path,
        StatusCode::OK,
        stored(&theirs, "2", ours()),
    )
    .await;
    let overtaken = saving.await.unwrap();
    assert!(
        matches!(overtaken, Err(SaveError::Overtaken(_))),
        "{overtaken:?}"
    );
}

/// A Secret that does not exist is written as `write` makes it; returns what was sent.
async fn first_write<W>(name: &'static str, write: impl FnOnce(Client) -> W) -> Value
where
    W: Future<Output = ()> + Send + 'static,
{
    let (client, mut server) = client();
    let writing = tokio::spawn(write(client));
    let path = format!("/secrets/{name}");
    let not_found = StatusCode::NOT_FOUND;
    answer(&mut server, Method::GET, &path, not_found, missing()).await;
    let made = stored(&BTreeMap::new(), "1", ours());
    let sent = answer(
        &mut server,
        Method::POST,
        "/secrets",
        StatusCode::CREATED,
        made,
    )
    .await;
    writing.await.unwrap();
    sent
}

/// One of everything that a journal keeps.
fn fill(journal: &mut Journal) {
    let id = |n: u8| -> ObjectId {
        let text = format!("00000000-0000-4000-8000-0000000000{n:02x}");
        text.parse().unwrap()
    };
    let at = |term, revision| Position {
        store_id: "00000000-0000-4000-9000-000000000001".parse().unwrap(),
        term: Term(term),
        incarnation: Incarnation(1),
        revision: Revision(revision),
    };
    let order = |n: u8, wish| Order {
        object_id: id(n),
        kind: Kind::Database,
        name: format!("db-{n}"),
        mark: Mark {
            term: Term(1),
            revision: Revision(n.into()),
        },
        plan_number: PlanNumber(2),
        after: [id(9)].into(),
        trace: None,
        drift: Drift::Enforce,
        wish,
    };
    let upsert = |n: u8| {
        let body = json!({"spec": {"memorySize": format!("{n}GB")}});
        let hash = format!("{n:02x}");
        order(n, Wish::Upsert { hash, body })
    };
    let delete = |n: u8, approval: Option<&str>| {
        let (reason, approval) = ("why".to_owned(), approval.map(str::to_owned));
        order(n, Wish::Delete { reason, approval })
    };
    let orders = vec![
        upsert(1),
        delete(2, None),
        delete(3, Some("alice")),
        upsert(4),
        delete(5, None),
    ];
    journal.accept(&at(1, 5), orders).unwrap();
    for n in [4, 5] {
        let mark = journal.pending()[&id(n)].mark;
        journal.finish(&id(n), mark);
    }
    journal.adopt_object(id(1), "uid");
    let told = proto::Freeze {
        on: true,
        object_ids: vec![id(2).to_string()],
        ..proto::Freeze::default()
    };
    assert!(journal.freeze(Freeze::at_start(Some(&told))));
    assert!(journal.obey(&at(2, 6)));
}

#[tokio::test]
async fn the_secret_of_the_identity_is_golden() {
    let sent = first_write(identity::SECRET, async |client| {
        identity(client, "ns").await.unwrap();
    })
    .await;
    let found = crate::k8s::testing::without_secrets(sent);
    crate::k8s::testing::golden("link/golden/identity", &found);
}

#[tokio::test]
async fn the_secret_of_the_journal_is_golden() {
    let mut sent = first_write(JOURNAL, async |client| {
        let (store, mut journal) = SecretJournal::open(client, "ns").await.unwrap();
        fill(&mut journal);
        store.save(&journal).await.unwrap();
    })
    .await;
    // As text: a change of what is kept is to be read, not guessed.
    let secret: Secret = serde_json::from_value(sent.clone()).unwrap();
    for (key, text) in secret.data.unwrap() {
        sent["data"][key] = serde_json::from_slice(&text.0).unwrap();
    }
    crate::k8s::testing::golden("link/golden/journal", &sent);
}
