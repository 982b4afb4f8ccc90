//! People sign in: a real OpenID provider, the real hub and the real command line; curl is the browser. Needs what
//! `tools/prerequisites.sh --only oidc` puts into the cache, and `target/debug/meridian-hub` and `target/debug/meridian`.

#![expect(clippy::unwrap_used, reason = "a test ends where its ground gives way")]

#[path = "sign_in/browser.rs"]
mod browser;
#[path = "sign_in/hub.rs"]
mod hub;
#[path = "sign_in/provider.rs"]
mod provider;

use browser::Browser;
use hub::Hub;
use provider::Provider;
use serde_json::Value;

const ROLES: &str =
    "roles:\n- {group: platform, role: admin}\n- {group: shop, role: operator, projects: [shop]}\n";

/// A hub, its provider, and a browser that nobody has used.
struct Site {
    provider: Provider,
    hub: Hub,
}

impl Site {
    fn new(method: &str, algorithm: &str) -> Self {
        let hub = Hub::placed();
        let provider = Provider::placed(&hub.callback(), method, algorithm);
        Self { provider, hub }
    }

    fn started(method: &str, algorithm: &str) -> Self {
        let mut site = Self::new(method, algorithm);
        site.provider.start();
        site.hub.start(&site.provider, ROLES);
        site
    }

    fn browser(&self) -> Browser {
        Browser::new(&[&self.hub.root(), &self.provider.certificate()])
    }

    /// Logs in at the provider and returns where it sends the browser back to, without going there.
    fn until_callback(&self, browser: &Browser, path: &str, person: &str) -> String {
        let form = browser.follow(&self.hub.at(path), None, Some("/auth/callback"));
        if form.address.contains("/auth/callback") {
            // The provider knows this browser already.
            return form.address;
        }
        assert!(
            form.address.contains("/interaction/"),
            "no form of the provider: {form:?}"
        );
        let login = format!("prompt=login&login={person}&password=any");
        let back = browser.follow(&form.address, Some(&login), Some("/auth/callback"));
        back.address
    }

    fn sign_in(&self, browser: &Browser, person: &str) -> browser::Page {
        let callback = self.until_callback(browser, "/auth/login", person);
        browser.follow(&callback, None, None)
    }
}

#[test]
fn a_person_signs_in_with_a_browser_and_does_what_its_groups_allow() {
    for (method, algorithm) in [("client_secret_basic", "RS256"), ("none", "ES256")] {
        let site = Site::started(method, algorithm);
        let browser = site.browser();
        let page = site.sign_in(&browser, "ann");
        assert_eq!(page.status, 200, "{page:?}\n{}", site.hub.logged());
        let who: Value = serde_json::from_str(&page.body).unwrap();
        assert_eq!(who["issuer"], site.provider.issuer());
        assert_eq!(
            (&who["subject"], &who["name"]),
            (&"ann".into(), &"ann@example.com".into())
        );
        assert_eq!(who["roles"], serde_json::json!([{ "role": "admin" }]));
        let jar = browser.cookies();
        assert!(
            jar.contains("#HttpOnly_127.0.0.1") && jar.contains("__Host-meridian-session"),
            "{jar}"
        );

        let tokens = site.hub.at("/api/v1/tokens");
        assert_eq!(browser.ask("GET", &tokens, &[], None).status, 200);
        let body = r#"{"apiVersion":"meridian.dev/v1alpha1","kind":"Token","metadata":{},"spec":{"clusterName":"eu-1"}}"#;
        let forged = browser.ask(
            "POST",
            &tokens,
            &["Origin: https://evil.example"],
            Some(body),
        );
        assert_eq!(forged.status, 403, "{forged:?}");
        let origin = format!("Origin: {}", site.hub.at(""));
        let made = browser.ask("POST", &tokens, &[&origin], Some(body));
        assert_eq!(made.status, 201, "{made:?}");

        let audit = site.hub.meridian(&["audit", "list", "-o", "json"], true);
        let identity = format!("{} ann", site.provider.issuer());
        assert!(
            audit.contains(&identity) && audit.contains("\"login\""),
            "{audit}"
        );
        assert!(!audit.contains("mrds."), "{audit}");

        let out = browser.ask("POST", &site.hub.at("/auth/logout"), &[&origin], None);
        assert_eq!(out.status, 204, "{out:?}");
        assert_eq!(browser.ask("GET", &tokens, &[], None).status, 401);
    }
}

#[test]
fn an_answer_of_the_provider_is_good_once_and_in_the_browser_that_began() {
    let site = Site::started("client_secret_basic", "RS256");
    let (browser, other) = (site.browser(), site.browser());
    let callback = site.until_callback(&browser, "/auth/login", "ann");
    let carried = browser.copy();
    let refused = |browser: &Browser, address: &str, told: &str| {
        let page = browser.follow(address, None, None);
        assert_eq!(page.status, 401, "{page:?}");
        assert!(page.body.contains(told), "{told}: {page:?}");
    };
    refused(&other, &callback, "begun no login here");
    let state = callback.split("state=").nth(1).unwrap();
    let state = state.split('&').next().unwrap();
    refused(
        &carried.copy(),
        &callback.replace(state, "x"),
        "another login",
    );
    let elsewhere = callback.replace("iss=https", "iss=http");
    refused(&carried.copy(), &elsewhere, "another OpenID provider");
    // That was its one use.
    refused(&carried, &callback, "used already");

    let callback = site.until_callback(&browser, "/auth/login", "ann");
    let stolen = callback.replace("code=", "code=x");
    refused(&browser.copy(), &stolen, "invalid_grant");
    let page = site.sign_in(&site.browser(), "ann");
    assert_eq!(page.status, 200, "{page:?}");
    let away = site.hub.at("/auth/login?return_to=//evil.example");
    assert_eq!(site.browser().ask("GET", &away, &[], None).status, 422);
}

#[test]
fn whose_groups_give_nothing_is_told_which_were_found_and_rights_follow_the_file() {
    let mut site = Site::started("client_secret_post", "RS256");
    let page = site.sign_in(&site.browser(), "eve");
    assert_eq!(page.status, 403, "{page:?}");
    assert!(
        page.body.contains("the groups guests, visitors"),
        "{page:?}"
    );

    let browser = site.browser();
    assert_eq!(site.sign_in(&browser, "bob").status, 200);
    let databases = site.hub.at("/api/v1/activeactivedatabases");
    assert_eq!(browser.ask("GET", &databases, &[], None).status, 200);
    let tokens = site.hub.at("/api/v1/apitokens");
    assert_eq!(browser.ask("GET", &tokens, &[], None).status, 403);
    site.hub.restart();
    assert_eq!(
        browser.ask("GET", &databases, &[], None).status,
        200,
        "a session outlives a start"
    );
    site.hub.write_roles("roles: []\n");
    site.hub
        .until(|| browser.ask("GET", &databases, &[], None).status == 403);

    // New keys, and nobody has told the hub.
    site.hub.write_roles(ROLES);
    site.hub
        .until(|| browser.ask("GET", &databases, &[], None).status == 200);
    assert_eq!(site.sign_in(&site.browser(), "ann").status, 200);
    site.provider.stop();
    let page = site
        .browser()
        .ask("GET", &site.hub.at("/auth/login"), &[], None);
    assert_eq!(
        page.status, 303,
        "what it said of itself is still known: {page:?}"
    );
    site.provider.start();
    let page = site.sign_in(&site.browser(), "ann");
    assert_eq!(page.status, 200, "{page:?}");
}

#[test]
fn a_hub_starts_without_its_provider_and_says_that_it_is_away() {
    let mut site = Site::new("client_secret_basic", "RS256");
    site.hub.start(&site.provider, ROLES);
    let page = site
        .browser()
        .ask("GET", &site.hub.at("/auth/login"), &[], None);
    assert_eq!(page.status, 503, "{page:?}");
    assert!(page.body.contains("did not answer"), "{page:?}");
    site.provider.start();
    assert_eq!(site.sign_in(&site.browser(), "ann").status, 200);
}

#[test]
fn the_command_line_signs_in_through_a_browser_and_out_again() {
    let site = Site::started("client_secret_basic", "ES256");
    let mut login = site.hub.login();
    let address = login.address();
    let browser = site.browser();
    let path = address.strip_prefix(&site.hub.at("")).unwrap();
    let callback = site.until_callback(&browser, path, "ann");
    let page = browser.follow(&callback, None, None);
    assert!(page.body.contains("You are signed in"), "{page:?}");
    let said = login.ended(true);
    assert!(
        said.contains("signed in as ann@example.com (admin)"),
        "{said}"
    );
    assert_eq!(site.hub.sessions_mode(), 0o600);
    let listed = site
        .hub
        .meridian(&["api-token", "list", "-o", "json"], false);
    assert!(listed.contains("\"subject\": \"ann\""), "{listed}");
    let said = site.hub.meridian(&["logout"], false);
    assert!(said.contains("signed out"), "{said}");
    let listed = site
        .hub
        .meridian(&["api-token", "list", "-o", "json"], true);
    assert!(
        !listed.contains("\"subject\": \"ann\""),
        "the session is gone at the hub too: {listed}"
    );

    // Who may not is told in the terminal.
    let mut login = site.hub.login();
    let address = login.address();
    let browser = site.browser();
    let path = address.strip_prefix(&site.hub.at("")).unwrap();
    let callback = site.until_callback(&browser, path, "eve");
    browser.follow(&callback, None, None);
    let said = login.ended(false);
    assert!(said.contains("the groups guests, visitors"), "{said}");
}
