//! Sessions of people: what their cookie opens, what another site's page cannot do with it, and what groups give.

use axum::http::HeaderMap;
use jiff::SignedDuration;

use super::*;
use crate::app::api_tokens::Minted;
use crate::app::audit::Trail;
use crate::domain::sign_in::Person;
use crate::domain::sign_in::roles::Roles;
use crate::sign_in::SignIn;
use crate::sign_in::book::RoleBook;
use crate::sign_in::provider::tests::settings;

const ORIGIN: &str = "https://hub.example.com:8443";
const LIFE: SignedDuration = SignedDuration::from_hours(8);
const ROLES: &str = "roles:\n- {group: ops, role: admin}\n- {group: shop, role: operator, projects: [shop]}\n\
                     - {group: shop, role: viewer, projects: [bank]}\n";

struct Door {
    web: Web,
    book: Arc<RoleBook>,
}

impl Door {
    async fn new() -> Self {
        let book = RoleBook::of(Roles::read(ROLES).unwrap());
        let hub = TestHub::with_roles(Arc::clone(&book)).await;
        let web = Web::over(hub).await;
        let state = WebState {
            sign_in: Some(Arc::new(SignIn::new(settings(None)).unwrap())),
            ..state(&web.hub)
        };
        let web = Web {
            router: router(state),
            ..web
        };
        web.hub.member("lab-1", LAB_1).await;
        web.hub.member("lab-2", LAB_2).await;
        Self { web, book }
    }

    async fn session(&self, group: &str) -> Minted {
        let person = Person {
            issuer: "https://idp.example.com".to_owned(),
            subject: format!("sub-{group}"),
            name: format!("{group}@example.com"),
            groups: [group.to_owned()].into(),
        };
        let trail = Trail::default();
        let opened = self.web.hub.app.open_session(&person, LIFE, &trail);
        opened.await.unwrap()
    }

    async fn by_cookie(
        &self,
        made: &Minted,
        method: &str,
        path: &str,
        body: Option<&Value>,
        origin: Option<&str>,
    ) -> (u16, Value, HeaderMap) {
        let cookie = format!("a=b; __Host-meridian-session={}", made.token.as_str());
        let mut headers = vec![("cookie", cookie.as_str())];
        headers.extend(origin.map(|origin| ("origin", origin)));
        let answer = self.web.ask_with(method, path, None, body, &headers).await;
        let told = answer.headers().clone();
        let (status, body) = read(answer).await;
        (status, body, told)
    }
}

#[tokio::test]
async fn a_cookie_reads_and_writes_from_the_hubs_own_pages_only() {
    let door = Door::new().await;
    let ops = door.session("ops").await;
    let token = json!({ "apiVersion": "meridian.dev/v1alpha1", "kind": "Token", "metadata": {}, "spec": { "clusterName": "lab-9" } });
    assert_eq!(
        door.by_cookie(&ops, "GET", DATABASES, None, None).await.0,
        200
    );
    for origin in [
        None,
        Some("https://evil.example"),
        Some("null"),
        Some("http://hub.example.com:8443"),
        Some("https://hub.example.com"),
        Some("https://hub.example.com:8443.evil.example"),
    ] {
        for (method, path) in [
            ("POST", "/api/v1/tokens"),
            ("DELETE", "/api/v1/clusters/lab-1"),
            ("POST", "/auth/logout"),
        ] {
            let (status, problem, _) = door
                .by_cookie(&ops, method, path, Some(&token), origin)
                .await;
            let detail = problem["detail"].as_str().unwrap();
            assert_eq!(status, 403, "{method} {path} {origin:?}");
            assert!(
                detail.contains(ORIGIN) && !detail.contains("mrds"),
                "{detail}"
            );
        }
    }
    let made = door
        .by_cookie(&ops, "POST", "/api/v1/tokens", Some(&token), Some(ORIGIN))
        .await;
    assert_eq!(made.0, 201, "{}", made.1);
    let made = format!(
        "/api/v1/tokens/{}",
        made.1["metadata"]["name"].as_str().unwrap()
    );
    // As a bearer it is of no browser.
    let gone = door.web.ask("DELETE", &made, Some(&ops.token), None).await;
    assert_eq!(gone.status(), 204);
    // A token in a cookie is nobody's session.
    let cookie = format!("__Host-meridian-session={}", door.web.token);
    let asked = door
        .web
        .ask_with("GET", DATABASES, None, None, &[("cookie", &cookie)])
        .await;
    assert_eq!(asked.status(), 403);
}

#[tokio::test]
async fn a_session_ends_by_its_time_and_by_logout_and_with_its_groups() {
    let door = Door::new().await;
    let ops = door.session("ops").await;
    let (status, who, _) = door
        .by_cookie(&ops, "GET", "/auth/session", None, None)
        .await;
    assert_eq!(
        (status, &who["name"], &who["roles"]),
        (
            200,
            &json!("ops@example.com"),
            &json!([{ "role": "admin" }])
        )
    );
    let (status, _, headers) = door
        .by_cookie(&ops, "POST", "/auth/logout", None, Some(ORIGIN))
        .await;
    assert_eq!(status, 204);
    let forgotten = headers[header::SET_COOKIE].to_str().unwrap();
    assert!(
        forgotten.starts_with("__Host-meridian-session=;") && forgotten.ends_with("Max-Age=0"),
        "{forgotten}"
    );
    assert_eq!(
        door.by_cookie(&ops, "GET", DATABASES, None, None).await.0,
        401
    );

    let ops = door.session("ops").await;
    door.book
        .put(Roles::read("roles:\n- {group: others, role: viewer}\n").unwrap());
    let (status, problem, _) = door.by_cookie(&ops, "GET", DATABASES, None, None).await;
    let detail = problem["detail"].as_str().unwrap();
    assert_eq!(status, 403);
    assert!(
        detail.contains("the groups ops") && detail.contains("--oidc-roles"),
        "{detail}"
    );
    door.book.put(Roles::read(ROLES).unwrap());
    assert_eq!(
        door.by_cookie(&ops, "GET", DATABASES, None, None).await.0,
        200
    );
    door.web.hub.clock.advance(LIFE);
    let (status, problem, _) = door.by_cookie(&ops, "GET", DATABASES, None, None).await;
    assert_eq!(status, 401);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("sign in again"),
        "{problem}"
    );
}

#[tokio::test]
async fn what_groups_give_holds_in_their_projects() {
    let door = Door::new().await;
    let shop = door.session("shop").await;
    let make = async |name: &str, project: &str| {
        let mut wanted = database(&["lab-1", "lab-2"]);
        wanted["metadata"]["name"] = json!(name);
        wanted["metadata"]["labels"]["meridian.dev/project"] = json!(project);
        door.by_cookie(&shop, "POST", DATABASES, Some(&wanted), Some(ORIGIN))
            .await
    };
    assert_eq!(make("a", "shop").await.0, 202);
    let (status, problem, _) = make("b", "bank").await;
    assert_eq!(status, 403, "{problem}");
    for (name, project) in [("c", "bank"), ("d", "secret")] {
        let mut wanted = database(&["lab-1", "lab-2"]);
        wanted["metadata"]["name"] = json!(name);
        wanted["metadata"]["labels"]["meridian.dev/project"] = json!(project);
        assert_eq!(door.web.call("POST", DATABASES, Some(&wanted)).await.0, 202);
    }
    let (_, list, _) = door.by_cookie(&shop, "GET", DATABASES, None, None).await;
    let seen: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["metadata"]["name"].clone())
        .collect();
    assert_eq!(seen, ["a", "c"]);
    let one = |name: &str| format!("{DATABASES}/{name}");
    let confirmed = |name: &str| format!("{DATABASES}/{name}?confirm={name}");
    assert_eq!(
        door.by_cookie(&shop, "GET", &one("c"), None, None).await.0,
        200
    );
    assert_ne!(
        door.by_cookie(&shop, "DELETE", &confirmed("c"), None, Some(ORIGIN))
            .await
            .0,
        202
    );
    assert_eq!(
        door.by_cookie(&shop, "DELETE", &confirmed("a"), None, Some(ORIGIN))
            .await
            .0,
        202
    );
    assert_eq!(
        door.by_cookie(&shop, "GET", "/api/v1/apitokens", None, None)
            .await
            .0,
        403
    );
    // An administrator sees whose sessions there are.
    let (_, tokens) = door.web.call("GET", "/api/v1/apitokens", None).await;
    let sessions: Vec<_> = tokens["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| !one["status"]["session"].is_null())
        .collect();
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0]["status"]["session"]["subject"], "sub-shop");
    assert_eq!(sessions[0]["spec"]["projects"], json!(["bank", "shop"]));
}

#[tokio::test]
async fn the_audit_log_names_the_person_and_the_login() {
    let door = Door::new().await;
    let ops = door.session("ops").await;
    let token = json!({ "apiVersion": "meridian.dev/v1alpha1", "kind": "Token", "metadata": {}, "spec": { "clusterName": "lab-9" } });
    door.by_cookie(&ops, "POST", "/api/v1/tokens", Some(&token), Some(ORIGIN))
        .await;
    door.by_cookie(&ops, "POST", "/api/v1/tokens", Some(&token), None)
        .await;
    let (_, log) = door.web.call("GET", "/api/v1/audit", None).await;
    let records = log["items"].as_array().unwrap();
    let by = |record: &Value| record["event"]["actor"]["id"].as_str().map(str::to_owned);
    let ann = "https://idp.example.com sub-ops";
    let hers: Vec<_> = records
        .iter()
        .filter(|one| by(one).as_deref() == Some(ann))
        .collect();
    assert!(
        hers.iter()
            .any(|one| one["event"]["outcome"] == "done" && one["event"]["kind"] == "join token"),
        "{log}"
    );
    assert!(
        hers.iter()
            .all(|one| one["event"]["actor"]["kind"] == "person")
    );
    assert!(
        records
            .iter()
            .any(|one| one["event"]["verb"] == "login" && one["event"]["kind"] == "session"),
        "{log}"
    );
    assert!(
        !log.to_string().contains("mrds."),
        "no session is written down"
    );
}

#[tokio::test]
async fn a_login_that_cannot_begin_says_why_and_one_that_was_not_begun_leads_nowhere() {
    let door = Door::new().await;
    for (path, told) in [
        ("/auth/login?return_to=//evil.example", "return_to"),
        (
            "/auth/login?redirect_uri=https://evil.example/&state=s&code_challenge_method=S256",
            "redirect_uri",
        ),
        (
            "/auth/login?redirect_uri=http://127.0.0.1:1/&state=s&code_challenge=x",
            "code_challenge_method",
        ),
        ("/auth/login?other=1", "other"),
    ] {
        let (status, problem) = read(door.web.ask("GET", path, None, None).await).await;
        assert_eq!(status, 422, "{path}");
        assert!(
            problem["detail"].as_str().unwrap().contains(told),
            "{problem}"
        );
    }
    for path in ["/auth/callback", "/auth/callback?code=c&state=s"] {
        let answer = door
            .web
            .ask_with("GET", path, None, None, &[("accept", "text/html")])
            .await;
        assert_eq!(answer.status(), 401);
        assert!(answer.headers().get(header::LOCATION).is_none());
        let plain = door.web.ask("GET", path, None, None).await;
        for answer in [&answer, &plain] {
            let forgotten = answer.headers()[header::SET_COOKIE].to_str().unwrap();
            assert!(
                forgotten.starts_with("__Host-meridian-login=;")
                    && forgotten.ends_with("Max-Age=0"),
                "{forgotten}"
            );
        }
        let page = axum::body::to_bytes(answer.into_body(), 1 << 16)
            .await
            .unwrap();
        let page = String::from_utf8(page.to_vec()).unwrap();
        assert!(page.contains("has begun no login here"), "{page}");
    }
    let code = json!({ "code": "c", "codeVerifier": "v" });
    let (status, problem) =
        read(door.web.ask("POST", "/auth/token", None, Some(&code)).await).await;
    assert_eq!(status, 401, "{problem}");
    let (status, problem) = door.web.call("POST", "/auth/logout", None).await;
    assert_eq!(status, 409, "{problem}");
    // Where nobody signs in, everything says so.
    let plain = Web::new().await;
    for path in ["/auth/login", "/auth/callback"] {
        let (status, problem) = read(plain.ask("GET", path, None, None).await).await;
        assert_eq!(status, 404);
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("--oidc-issuer"),
            "{problem}"
        );
    }
}
