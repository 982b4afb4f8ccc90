//! Lists in parts.

use super::*;
use crate::web::pages::{KEPT, MOST};

impl Web {
    /// Some join tokens, and their names.
    async fn tokens(&self, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        for i in 0..count {
            let clear = self.hub.token(&format!("lab-{i}")).await;
            names.push(clear.split('.').nth(1).unwrap().to_owned());
        }
        names.sort();
        names
    }
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|one| one["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

fn next(list: &Value) -> String {
    let token = list["metadata"]["continue"].as_str().unwrap();
    format!("/api/v1/tokens?limit=2&continue={token}")
}

const FIRST: &str = "/api/v1/tokens?limit=2";

#[tokio::test]
async fn the_parts_of_a_list_show_one_revision_whatever_changes_meanwhile() {
    let web = Web::new().await;
    let all = web.tokens(5).await;
    let (_, first) = web.call("GET", FIRST, None).await;
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (all[..2].to_vec(), &json!(3))
    );
    web.tokens(7).await;
    web.call("DELETE", &format!("/api/v1/tokens/{}", all[3]), None)
        .await;
    let (_, second) = web.call("GET", &next(&first), None).await;
    assert_eq!(
        (names(&second), &second["metadata"]["remainingItemCount"]),
        (all[2..4].to_vec(), &json!(1))
    );
    let (_, last) = web.call("GET", &next(&second), None).await;
    assert_eq!(names(&last), all[4..]);
    for absent in ["continue", "remainingItemCount"] {
        assert_eq!(last["metadata"][absent], Value::Null, "it is the end");
    }
    let revisions = [&first, &second, &last].map(|one| one["metadata"]["resourceVersion"].clone());
    assert!(
        revisions.iter().all(|one| *one == revisions[0]),
        "{revisions:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_kept_no_more_is_gone_and_says_what_to_do() {
    let web = Web::new().await;
    web.tokens(5).await;
    let (_, first) = web.call("GET", FIRST, None).await;
    tokio::time::advance(KEPT).await;
    let (status, _) = web.call("GET", &next(&first), None).await;
    assert_eq!(status, 200, "nothing has changed: it is the newest list");
    tokio::time::advance(KEPT).await;
    web.tokens(1).await;
    let (status, problem) = web.call("GET", &next(&first), None).await;
    assert_eq!((status, &problem["kind"]), (410, &json!("expired")));
    assert!(
        problem["detail"].as_str().unwrap().contains("begin again"),
        "{problem}"
    );
}

#[tokio::test]
async fn the_oldest_list_gives_way_when_too_many_are_read() {
    let web = Web::new().await;
    web.tokens(5).await;
    let (_, oldest) = web.call("GET", FIRST, None).await;
    let mut second = Value::Null;
    for i in 0..MOST {
        web.tokens(1).await;
        let (_, list) = web.call("GET", FIRST, None).await;
        if i == 0 {
            second = list;
        }
    }
    assert_eq!(web.call("GET", &next(&oldest), None).await.0, 410);
    assert_eq!(web.call("GET", &next(&second), None).await.0, 200);
}

#[tokio::test]
async fn a_part_that_cannot_be_is_refused_by_name() {
    let web = Web::new().await;
    web.tokens(3).await;
    let (_, first) = web.call("GET", FIRST, None).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    for (path, field) in [
        ("/api/v1/tokens?limit=0".to_owned(), "limit"),
        ("/api/v1/tokens?limit=many".to_owned(), "limit"),
        ("/api/v1/tokens?continue=x".to_owned(), "continue"),
        (format!("/api/v1/clusters?continue={token}"), "continue"),
    ] {
        let (status, problem) = web.call("GET", &path, None).await;
        assert_eq!(
            (status, fields(&problem)),
            (422, vec![field.to_owned()]),
            "{path}"
        );
    }
}
