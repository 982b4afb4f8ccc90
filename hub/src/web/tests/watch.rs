//! What is watched: told as it comes, resumed where it broke off, ended when it has to.

mod ends;

use axum::body::BodyDataStream;
use futures::StreamExt as _;
use meridian_api::ids::Revision;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::domain::access::grant::Scope;
use crate::store::{Store as _, Txn, keys};
use crate::tls::{self, LiveCertificate, PeerAddress};
use crate::web::forward::Client;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const TOKENS: &str = "/api/v1/tokens?watch=true";

/// The reading end of a watch.
struct Reader {
    body: BodyDataStream,
    read: String,
}

/// What was read.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    id: Option<u64>,
    what: String,
    object: Value,
}

impl Told {
    fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }
}

impl Reader {
    fn of(answer: Response<Body>) -> Self {
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
        Self {
            body: answer.into_body().into_data_stream(),
            read: String::new(),
        }
    }

    /// The next block of lines; `None` at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.read.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.read = rest;
                return Some(block);
            }
            let piece = timeout(PATIENCE, self.body.next()).await;
            let piece = piece.expect("something is told, or the end")?.unwrap();
            self.read.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Told> {
        loop {
            let block = self.block().await?;
            let id = block.lines().find_map(|line| line.strip_prefix("id: "));
            let data = block.lines().find_map(|line| line.strip_prefix("data: "));
            let Some(data) = data else {
                assert!(block.starts_with(':'), "{block}");
                continue;
            };
            let event: Value = serde_json::from_str(data).unwrap();
            return Some(Told {
                id: id.map(|id| id.parse().unwrap()),
                what: event["type"].as_str().unwrap().to_owned(),
                object: event["object"].clone(),
            });
        }
    }

    /// What is there, and the revision at which it was.
    async fn first(&mut self) -> (Vec<Told>, u64) {
        let mut there = Vec::new();
        loop {
            let told = self.next().await.unwrap();
            if told.what == "BOOKMARK" {
                let ends = &told.object["metadata"]["annotations"]["k8s.io/initial-events-end"];
                assert_eq!(ends, "true");
                return (there, told.id.unwrap());
            }
            assert_eq!((told.what.as_str(), told.id), ("ADDED", None));
            there.push(told);
        }
    }

    async fn is_told(&mut self, what: &str, name: &str) -> Told {
        let told = self.next().await.unwrap();
        assert_eq!((told.what.as_str(), told.name()), (what, name));
        told
    }
}

impl Web {
    async fn watch(&self, path: &str) -> Reader {
        Reader::of(self.ask("GET", path, Some(&self.token), None).await)
    }

    async fn resume(&self, path: &str, id: u64) -> Reader {
        let id = id.to_string();
        let headers = [("last-event-id", id.as_str())];
        let asked = self.ask_with("GET", path, Some(&self.token), None, &headers);
        Reader::of(asked.await)
    }

    /// A join token, by its name.
    async fn a_token_for(&self, cluster: &str) -> String {
        let clear = self.hub.token(cluster).await;
        clear.split('.').nth(1).unwrap().to_owned()
    }

    /// What a watch that resumes is told of some objects before it is told of what happens now.
    async fn told_since(
        &self,
        path: &str,
        id: u64,
        mine: [&String; 3],
    ) -> BTreeSet<(String, String)> {
        let mut reader = self.resume(path, id).await;
        let another = self.a_token_for("lab-d").await;
        let mut told = BTreeSet::new();
        loop {
            let one = reader.next().await.unwrap();
            assert!(one.id.is_none_or(|told| told > id), "{one:?}");
            if one.name() == another {
                assert_eq!(one.what, "ADDED");
                return told;
            }
            if mine.iter().any(|name| *name == one.name()) {
                let is_new = told.insert((one.what.clone(), one.name().to_owned()));
                assert!(is_new, "{one:?} is told twice");
            }
        }
    }

    async fn forget(&self, token: &str) {
        let (status, _) = self
            .call("DELETE", &format!("/api/v1/tokens/{token}"), None)
            .await;
        assert_eq!(status, 204);
    }
}

#[tokio::test]
async fn a_watch_tells_what_is_there_and_then_what_comes_changes_and_goes() {
    let web = Web::with_members().await;
    let mut reader = web.watch("/api/v1/clusters?watch=true").await;
    let (there, at) = reader.first().await;
    let (_, listed) = web.call("GET", "/api/v1/clusters", None).await;
    let objects: Vec<_> = there.iter().map(|told| &told.object).collect();
    let items: Vec<_> = listed["items"].as_array().unwrap().iter().collect();
    assert_eq!(objects, items);
    assert_eq!(listed["metadata"]["resourceVersion"], at.to_string());

    web.hub
        .app
        .presence(uid(LAB_1), Presence::Connected, 1)
        .await
        .unwrap();
    let told = reader.is_told("MODIFIED", "lab-1").await;
    assert_eq!(told.object["status"]["state"], "Connected");
    assert!(told.id.unwrap() > at);
    assert_eq!(
        web.call("DELETE", "/api/v1/clusters/lab-1", None).await.0,
        204
    );
    let gone = reader.is_told("DELETED", "lab-1").await;
    assert_eq!(gone.object, told.object, "as it was last");
    web.hub.member("lab-1", LAB_1).await;
    reader.is_told("ADDED", "lab-1").await;
}

#[tokio::test]
async fn one_object_is_watched_from_before_it_comes_until_it_is_gone() {
    let web = Web::with_members().await;
    let mut reader = web.watch(&format!("{SHOP}?watch=true")).await;
    assert_eq!(reader.first().await.0, []);
    let mut other = database(&["lab-1", "lab-2"]);
    other["metadata"]["name"] = json!("other");
    web.call("POST", DATABASES, Some(&other)).await;
    web.call("POST", DATABASES, Some(&database(&["lab-1", "lab-2"])))
        .await;
    reader.is_told("ADDED", "shop").await;
    web.plan().await;
    // One state or several, as the store was looked at.
    let planned = loop {
        let told = reader.is_told("MODIFIED", "shop").await;
        if told.object["status"]["participants"][1]["desiredRevision"] != Value::Null {
            break told;
        }
    };
    assert_eq!(planned.object["status"]["configVersion"], 1);
}

#[tokio::test]
async fn a_watch_that_broke_off_misses_nothing_and_is_told_nothing_twice() {
    let web = Web::new().await;
    let (a, b) = (
        web.a_token_for("lab-a").await,
        web.a_token_for("lab-b").await,
    );
    let mut reader = web.watch(TOKENS).await;
    let (_, begin) = reader.first().await;
    web.forget(&a).await;
    let gone = reader.is_told("DELETED", &a).await.id.unwrap();
    let c = web.a_token_for("lab-c").await;
    let come = reader.is_told("ADDED", &c).await.id.unwrap();
    web.forget(&b).await;
    let last = reader.is_told("DELETED", &b).await.id.unwrap();
    assert!(begin < gone && gone < come && come < last);
    let expected = [
        (begin, vec![("DELETED", &a), ("DELETED", &b), ("ADDED", &c)]),
        (gone, vec![("DELETED", &b), ("ADDED", &c)]),
        (come, vec![("DELETED", &b)]),
        (last, vec![]),
    ];
    // First by a hub that has read all along, then by one that asks the log of its store.
    let from = format!("{TOKENS}&resourceVersion={begin}");
    let mine = [&a, &b, &c];
    for (id, told) in &expected {
        assert_eq!(web.told_since(&from, *id, mine).await, named(told), "{id}");
    }
    let restarted = web.hub.restarted_with(web.hub.store.clone()).await;
    let restarted = Web::over(restarted).await;
    for (id, told) in &expected {
        assert_eq!(
            restarted.told_since(&from, *id, mine).await,
            named(told),
            "{id}"
        );
    }
}

fn named(told: &[(&str, &String)]) -> BTreeSet<(String, String)> {
    let told = told.iter();
    told.map(|(what, name)| ((*what).to_owned(), (*name).clone()))
        .collect()
}

#[tokio::test]
async fn a_watch_from_where_a_list_ended_begins_with_what_changed_after_it() {
    let web = Web::with_members().await;
    let (_, listed) = web.call("GET", "/api/v1/clusters", None).await;
    web.hub
        .app
        .presence(uid(LAB_2), Presence::Connected, 1)
        .await
        .unwrap();
    let at = listed["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("/api/v1/clusters?watch=true&resourceVersion={at}");
    let mut reader = web.watch(&path).await;
    reader.is_told("MODIFIED", "lab-2").await;
}

#[tokio::test]
async fn what_a_database_lost_while_nobody_watched_is_told() {
    let web = Web::with_members().await;
    web.call("POST", DATABASES, Some(&database(&["lab-1", "lab-2"])))
        .await;
    web.plan().await;
    let (_, listed) = web.call("GET", DATABASES, None).await;
    let at = &listed["metadata"]["resourceVersion"].as_str().unwrap();
    let object = web.hub.app.database("shop").await.unwrap().record.object_id;
    let lost = Txn::new().delete(keys::desired(uid(LAB_1), object).text());
    web.hub.app.commit(lost).await.unwrap();
    let path = format!("{DATABASES}?watch=true&resourceVersion={at}");
    web.watch(&path).await.is_told("MODIFIED", "shop").await;
}

#[tokio::test]
async fn a_revision_that_is_not_kept_or_not_there_yet_is_gone() {
    let web = Web::new().await;
    let a = web.a_token_for("lab-a").await;
    let head = web.hub.store.list(Vec::new()).await.unwrap().revision;
    web.forget(&a).await;
    web.hub.store.compact(Revision(head.0 + 1)).await.unwrap();
    for revision in [head.0, head.0 + 100] {
        let path = format!("{TOKENS}&resourceVersion={revision}");
        let (status, problem) = web.call("GET", &path, None).await;
        assert_eq!(
            (status, &problem["kind"]),
            (410, &json!("expired")),
            "{revision}"
        );
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("list again"), "{detail}");
    }
    let path = format!("{TOKENS}&resourceVersion={}", head.0 + 1);
    assert_eq!(
        web.ask("GET", &path, Some(&web.token), None).await.status(),
        200
    );
}

#[tokio::test]
async fn a_watch_that_cannot_be_is_refused_by_name() {
    let web = Web::new().await;
    for (query, wrong) in [
        ("watch=yes", "watch"),
        ("watch=true&resourceVersion=x", "resourceVersion"),
        ("resourceVersion=1", "resourceVersion"),
        ("watch=false&resourceVersion=1", "resourceVersion"),
        ("watch=true&limit=1", "limit"),
    ] {
        let (status, problem) = web
            .call("GET", &format!("/api/v1/clusters?{query}"), None)
            .await;
        assert_eq!(
            (status, fields(&problem)),
            (422, vec![wrong.to_owned()]),
            "{query}"
        );
    }
    let headers = [("last-event-id", "1")];
    let asked = web.ask_with("GET", "/api/v1/clusters", Some(&web.token), None, &headers);
    let (status, problem) = read(asked.await).await;
    assert_eq!(
        (status, fields(&problem)),
        (422, vec!["Last-Event-ID".to_owned()])
    );
    let (status, _) = web.call("GET", "/api/v1/hub?watch=true", None).await;
    assert_eq!(status, 422);
}

#[tokio::test]
async fn a_watch_over_a_real_connection_is_told_at_once_and_ends_with_it() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let web = Web::new().await;
    let ca = web.hub.app.ca();
    let identity = ca
        .issue_server(&["localhost".to_owned()], web.hub.app.now())
        .unwrap();
    let config = tls::web_config(LiveCertificate::new(identity).unwrap()).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("localhost:{}", tcp.local_addr().unwrap().port());
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let listener = tls::listen(tcp, config, &tracker, stop.clone());
    let service = web
        .router
        .clone()
        .into_make_service_with_connect_info::<PeerAddress>();
    tokio::spawn(async move { axum::serve(listener, service).await });

    let client = Client::new(&ca.roots()).unwrap();
    let watch = async || {
        let request = Request::builder()
            .uri(TOKENS)
            .header(header::AUTHORIZATION, format!("Bearer {}", web.token));
        let request = request.body(Body::empty()).unwrap();
        client.send(&address, request).await.unwrap()
    };
    let mut readers = Vec::new();
    let refused = loop {
        let answer = watch().await;
        if answer.status() != 200 {
            break answer.status();
        }
        let mut reader = Reader::of(answer);
        reader.first().await;
        readers.push(reader);
    };
    assert_eq!((readers.len(), refused.as_u16()), (64, 429));
    let a = web.a_token_for("lab-a").await;
    for reader in &mut readers {
        reader.is_told("ADDED", &a).await;
    }
    // Who hangs up is noticed without anything to tell.
    readers.clear();
    let begun = Instant::now();
    while watch().await.status() != 200 {
        assert!(begun.elapsed() < PATIENCE, "its place is not free again");
    }
}

#[tokio::test]
async fn a_watch_of_databases_shows_those_of_the_callers_projects_and_no_deletion_of_others() {
    let web = Web::with_members().await;
    let (clear, mut kept) = crate::app::tokens::draw("bob", web.hub.app.now());
    kept.projects = Scope::only(BTreeSet::from(["mine".to_owned()]));
    web.hub.app.keep_api_token(&kept).await.unwrap();
    let path = format!("{DATABASES}?watch=true");
    let watch = async |path: &str| web.ask("GET", path, Some(&clear), None).await;
    let mut reader = Reader::of(watch(&path).await);
    let (there, begin) = reader.first().await;
    assert_eq!(there, []);
    for (name, project) in [("theirs", "theirs"), ("ours", "mine")] {
        let mut wanted = database(&["lab-1", "lab-2"]);
        wanted["metadata"]["name"] = json!(name);
        wanted["metadata"]["labels"] = json!({ "meridian.dev/project": project });
        let (status, _) = web.call("POST", DATABASES, Some(&wanted)).await;
        assert_eq!(status, 202);
    }
    reader.is_told("ADDED", "ours").await;
    let theirs = Txn::new().delete(keys::database("theirs").text());
    web.hub.app.commit(theirs).await.unwrap();
    let ours = Txn::new().delete(keys::database("ours").text());
    web.hub.app.commit(ours).await.unwrap();
    reader.is_told("DELETED", "ours").await;

    let restarted = web.hub.restarted_with(web.hub.store.clone()).await;
    let restarted = Web::over(restarted).await;
    let from = format!("{path}&resourceVersion={begin}");
    let refused = restarted.ask("GET", &from, Some(&clear), None).await;
    assert_eq!(refused.status(), 410, "whose they were is not known");
    let mut of_all = restarted.watch(&from).await;
    of_all.is_told("DELETED", "ours").await;
    of_all.is_told("DELETED", "theirs").await;
}
