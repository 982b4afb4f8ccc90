//! Lists in parts.

use super::*;

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
async fn a_list_goes_on_where_a_part_ended_whatever_changes_meanwhile() {
    let web = Web::new().await;
    let all = web.tokens(5).await;
    let (_, first) = web.call("GET", FIRST, None).await;
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (all[..2].to_vec(), &json!(3))
    );
    for gone in [&all[1], &all[3]] {
        let path = format!("/api/v1/tokens/{gone}");
        web.call("DELETE", &path, None).await;
    }
    let (_, second) = web.call("GET", &next(&first), None).await;
    assert_eq!(names(&second), [all[2].clone(), all[4].clone()]);
    for absent in ["continue", "remainingItemCount"] {
        assert_eq!(second["metadata"][absent], Value::Null, "it is the end");
    }
    let revisions = [&first, &second].map(|one| one["metadata"]["resourceVersion"].clone());
    assert_eq!(
        revisions[0], revisions[1],
        "a watch from there tells what has changed"
    );
}

#[tokio::test]
async fn whoever_is_asked_for_the_next_part_knows_where_it_begins() {
    let web = Web::with_members().await;
    for name in ["a", "b", "c"] {
        let mut wanted = database(&["lab-1", "lab-2"]);
        wanted["metadata"]["name"] = json!(name);
        let (status, told) = web.call("POST", DATABASES, Some(&wanted)).await;
        assert_eq!(status, 202, "{told}");
    }
    web.plan().await;
    let (_, first) = web.call("GET", &format!("{DATABASES}?limit=2"), None).await;
    assert_eq!(names(&first), ["a", "b"]);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let again = web.hub.restarted_with(web.hub.store.clone()).await;
    let another = Web::over(again).await;
    let (_, last) = another
        .call("GET", &format!("{DATABASES}?continue={token}"), None)
        .await;
    assert_eq!(names(&last), ["c"]);
    let (_, whole) = another.call("GET", DATABASES, None).await;
    assert_eq!(
        [&first["items"][0], &first["items"][1], &last["items"][0]],
        [&whole["items"][0], &whole["items"][1], &whole["items"][2]],
        "a part shows its objects as the whole list does"
    );
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
