//! Who may what: roles over every route, and projects.

use super::*;
use crate::app::api_tokens::NewApiToken;
use crate::app::writes::Manner;
use crate::domain::access::grant::{Role, least};
use crate::web::rules;

impl Web {
    /// A token of this role, limited to projects if any are named.
    pub(super) async fn token_of(&self, role: Role, projects: &[&str]) -> String {
        let projects: BTreeSet<_> = projects.iter().copied().map(str::to_owned).collect();
        let new = NewApiToken {
            holder: "bob".to_owned(),
            role,
            projects: (!projects.is_empty()).then_some(projects),
            life: Some(jiff::SignedDuration::from_hours(1)),
        };
        let manner = Manner::default();
        let made = self.hub.app.create_api_token(&new, &manner).await;
        let made = made.unwrap();
        self.hub.app.note_use(&made.kept.record).await;
        made.token.as_str().to_owned()
    }

    pub(super) async fn call_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        read(self.ask(method, path, Some(token), body).await).await
    }
}

fn of_project(name: &str, project: Option<&str>) -> Value {
    let mut database = database(&["lab-1", "lab-2"]);
    database["metadata"]["name"] = json!(name);
    if let Some(project) = project {
        database["metadata"]["labels"]["meridian.dev/project"] = json!(project);
    }
    database
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|one| one["metadata"]["name"].as_str().unwrap())
        .collect()
}

/// The least role for each request that can be made: a new route is written down here as well as in its rule.
const NEEDED: &str = "
GET clusters viewer
GET clusters/{name} viewer
DELETE clusters/{name} admin
POST clusters/{name}/approve admin
POST clusters/{name}/deny admin
POST clusters/{name}/release admin
POST clusters/{name}/lose admin
GET lostclusters admin
GET tokens operator
POST tokens admin
GET tokens/{name} operator
DELETE tokens/{name} admin
GET remoteclusters viewer
GET remoteclusters/{name} viewer
GET activeactivedatabases viewer
POST activeactivedatabases operator
GET activeactivedatabases/{name} viewer
PUT activeactivedatabases/{name} operator
PATCH activeactivedatabases/{name} operator
DELETE activeactivedatabases/{name} operator
GET apitokens admin
POST apitokens admin
GET apitokens/{name} admin
DELETE apitokens/{name} admin
GET audit admin
GET audit/export admin
GET freezes admin
POST freezes/{name}/release admin
GET hub viewer
GET hub/backup admin
POST hub/adopt admin
GET hub/ca admin
POST hub/ca/rotate admin
POST hub/ca/advance admin
POST hub/ca/abort admin
GET /debug/sessions viewer
GET /debug/tasks viewer
GET /debug/log admin
PUT /debug/log admin
GET /debug/log/lines admin
GET /debug/settings admin
";

#[tokio::test]
async fn every_route_has_a_rule_and_is_refused_to_each_role_below_it() {
    let web = Web::with_members().await;
    for (path, methods, _) in guarded() {
        for method in methods {
            let (verb, kind) = rules::act(&method.parse().unwrap(), path)
                .unwrap_or_else(|| panic!("no rule for {method} {path}: add it to web/rules.rs"));
            let needed = least(kind, verb)
                .unwrap_or_else(|| panic!("nobody may {method} {path}: see the table of rights"));
            let line = format!(
                "\n{method} {} {needed}\n",
                path.trim_start_matches("/api/v1/")
            );
            assert!(NEEDED.contains(&line), "{line} is not what is written down");
            let path = path.replace("{name}", "lab-9");
            for role in Role::ALL {
                let token = web.token_of(role, &[]).await;
                // A parameter that no path takes: whoever gets that far is told so, and nothing is done.
                let path = format!("{path}?nothing=1");
                let (status, problem) = web.call_as(&token, method, &path, None).await;
                let told = problem["detail"].as_str().unwrap();
                if role >= needed {
                    assert_eq!(status, 422, "{role} {method} {path}: {told}");
                } else {
                    assert_eq!(status, 403, "{role} {method} {path}: {told}");
                    let role = format!("needs the role {needed}");
                    assert!(told.contains(&role), "{told}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_token_that_is_limited_to_projects_sees_and_changes_only_their_databases() {
    let web = Web::with_members().await;
    for (name, project) in [
        ("a", Some("bank")),
        ("b", None),
        ("c", Some("shop")),
        ("d", Some("shop")),
    ] {
        let (status, told) = web
            .call("POST", DATABASES, Some(&of_project(name, project)))
            .await;
        assert_eq!(status, 202, "{told}");
    }
    let shop = web.token_of(Role::Operator, &["shop"]).await;
    let (_, list) = web.call_as(&shop, "GET", DATABASES, None).await;
    assert_eq!(names(&list), ["c", "d"]);
    let other = format!("{DATABASES}/a");
    let (status, unseen) = web.call_as(&shop, "GET", &other, None).await;
    let (_, absent) = web
        .call_as(&shop, "GET", &format!("{DATABASES}/z"), None)
        .await;
    assert_eq!(status, 404);
    let alike = |problem: &Value| {
        problem["detail"]
            .as_str()
            .unwrap()
            .replace("\"a\"", "\"z\"")
    };
    assert_eq!(alike(&unseen), alike(&absent), "they cannot be told apart");
    for path in [format!("{other}?confirm=a"), other.clone()] {
        let (status, told) = web.call_as(&shop, "DELETE", &path, None).await;
        assert_eq!((status, alike(&told)), (404, alike(&absent)));
    }
    let default = web.token_of(Role::Viewer, &["default"]).await;
    let (_, list) = web.call_as(&default, "GET", DATABASES, None).await;
    assert_eq!(names(&list), ["b"]);
    assert_eq!(
        web.call("GET", &other, None).await.1["metadata"]["deletionTimestamp"],
        Value::Null
    );
    let (status, _) = web
        .call_as(&shop, "DELETE", &format!("{DATABASES}/c?confirm=c"), None)
        .await;
    assert_eq!(status, 202);
}

#[tokio::test]
async fn nothing_is_made_in_a_project_of_others() {
    let web = Web::with_members().await;
    let shop = web.token_of(Role::Operator, &["shop"]).await;
    for project in [None, Some("bank")] {
        let (status, told) = web
            .call_as(&shop, "POST", DATABASES, Some(&of_project("x", project)))
            .await;
        assert_eq!(status, 403, "{told}");
        assert!(
            told["detail"].as_str().unwrap().contains("limited to shop"),
            "{told}"
        );
    }
    let (status, _) = web
        .call_as(
            &shop,
            "POST",
            DATABASES,
            Some(&of_project("x", Some("shop"))),
        )
        .await;
    assert_eq!(status, 202);
    let (status, told) = web
        .call(
            "POST",
            DATABASES,
            Some(&of_project("y", Some("Not a label"))),
        )
        .await;
    let field = "metadata.labels[meridian.dev/project]";
    assert_eq!((status, fields(&told)), (422, vec![field.to_owned()]));
}

#[tokio::test]
async fn a_list_that_goes_on_shows_nothing_that_somebody_else_sees() {
    let web = Web::with_members().await;
    for (name, project) in [
        ("a", "bank"),
        ("b", "shop"),
        ("c", "bank"),
        ("d", "shop"),
        ("e", "bank"),
    ] {
        let body = of_project(name, Some(project));
        web.call("POST", DATABASES, Some(&body)).await;
    }
    let shop = web.token_of(Role::Viewer, &["shop"]).await;
    let first = format!("{DATABASES}?limit=1");
    let (_, all) = web.call("GET", &first, None).await;
    let (_, mine) = web.call_as(&shop, "GET", &first, None).await;
    assert_eq!(
        (names(&all), &all["metadata"]["remainingItemCount"]),
        (vec!["a"], &json!(4))
    );
    assert_eq!(
        (names(&mine), &mine["metadata"]["remainingItemCount"]),
        (vec!["b"], &json!(1))
    );
    web.call("POST", DATABASES, Some(&of_project("f", Some("bank"))))
        .await;
    let next = |list: &Value| {
        format!(
            "{first}&continue={}",
            list["metadata"]["continue"].as_str().unwrap()
        )
    };
    let (_, rest) = web.call_as(&shop, "GET", &next(&mine), None).await;
    assert_eq!(names(&rest), ["d"]);
    let (_, stolen) = web.call_as(&shop, "GET", &next(&all), None).await;
    assert_eq!(
        names(&stolen),
        ["b"],
        "the place is the other's, what is shown is one's own"
    );
    let none = web.token_of(Role::Viewer, &["x"]).await;
    let (_, nothing) = web.call_as(&none, "GET", &next(&all), None).await;
    assert_eq!(
        (names(&nothing), &nothing["metadata"]["remainingItemCount"]),
        (Vec::new(), &Value::Null)
    );
}

#[tokio::test]
async fn a_token_of_the_web_api_is_shown_once_and_opens_what_it_is_for() {
    let web = Web::new().await;
    let wanted = json!({ "apiVersion": "meridian.dev/v1alpha1", "kind": "ApiToken", "metadata": {},
        "spec": { "holder": "carol", "role": "viewer", "projects": ["shop"] } });
    const TOKENS: &str = "/api/v1/apitokens";
    let (status, made) = web.call("POST", TOKENS, Some(&wanted)).await;
    assert_eq!(status, 201, "{made}");
    let clear = made["status"]["token"].as_str().unwrap();
    let name = made["metadata"]["name"].as_str().unwrap();
    assert_eq!(
        made["status"]["expiresAt"], "2027-02-20T12:00:00Z",
        "90 days"
    );
    let (status, _) = web.call_as(clear, "GET", DATABASES, None).await;
    assert_eq!(status, 200);
    let path = format!("{TOKENS}/{name}");
    let (_, one) = web.call("GET", &path, None).await;
    let (_, all) = web.call("GET", TOKENS, None).await;
    let secret = clear.rsplit('.').next().unwrap();
    assert!(!one.to_string().contains(secret) && !all.to_string().contains(secret));
    assert_eq!(one["status"]["lastUsedAt"], "2026-11-22T12:00:00Z");
    assert_eq!(
        all["items"].as_array().unwrap().len(),
        2,
        "with the administrator's"
    );
    assert_eq!(web.call("DELETE", &path, None).await.0, 204);
    let (status, _) = web.call_as(clear, "GET", DATABASES, None).await;
    assert_eq!(status, 401, "at once");
    let both = json!({ "apiVersion": "meridian.dev/v1alpha1", "kind": "ApiToken", "metadata": {},
        "spec": { "holder": "carol", "role": "admin", "neverExpires": true, "expiresInSeconds": 1 } });
    let (status, told) = web.call("POST", TOKENS, Some(&both)).await;
    assert_eq!(
        (status, fields(&told)),
        (422, vec!["spec.neverExpires".to_owned()])
    );
}
