use super::*;
use crate::sign_in::provider::tests::settings;

const HUB: &str = "https://hub.example.com:8443";

fn sign_in() -> SignIn {
    SignIn::new(Settings {
        // Nobody listens there.
        issuer: "https://127.0.0.1:9".to_owned(),
        ..settings(None)
    })
    .unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn begun(sign_in: &SignIn) -> (String, Begun) {
    let begun = Begun {
        state: drawn(),
        nonce: drawn(),
        verifier: drawn(),
        goal: Goal::Page("/".to_owned()),
        at: at(0),
    };
    (sign_in.sealer.seal("login", &begun).unwrap(), begun)
}

fn returned(state: &str) -> Returned {
    Returned {
        code: Some("c".to_owned()),
        state: Some(state.to_owned()),
        ..Returned::default()
    }
}

#[test]
fn a_login_is_recognized_by_its_state_and_its_browser_for_ten_minutes() {
    let here = sign_in();
    let (carried, begun) = begun(&here);
    let mine = returned(&begun.state);
    let judged = |hub: &SignIn, carried: Option<&str>, returned: &Returned, second| {
        let found = hub.recognized(carried, returned, at(second));
        found.map(|begun| begun.verifier).map_err(|e| e.to_string())
    };
    assert_eq!(
        judged(&here, Some(&carried), &mine, 599).as_deref(),
        Ok(begun.verifier.as_str())
    );
    let other = self::begun(&here).0;
    for (hub, carried, returned, second, told) in [
        (&here, None, &mine, 0, "has begun no login here"),
        (
            &here,
            Some(other.as_str()),
            &mine,
            0,
            "belongs to another login",
        ),
        (
            &here,
            Some(&carried),
            &returned("x"),
            0,
            "belongs to another login",
        ),
        (
            &here,
            Some(&carried),
            &Returned::default(),
            0,
            "belongs to another login",
        ),
        (&here, Some(&carried), &mine, 600, "longer than ten minutes"),
        (
            &sign_in(),
            Some(&carried),
            &mine,
            0,
            "does not run any more",
        ),
        (&here, Some("x"), &mine, 0, "does not run any more"),
    ] {
        let why = judged(hub, carried, returned, second).unwrap_err();
        assert!(
            why.contains(told) && why.contains("begin again"),
            "{told}: {why}"
        );
    }
}

#[tokio::test]
async fn the_answer_to_a_login_is_used_once() {
    let here = sign_in();
    let (carried, begun) = begun(&here);
    let mine = returned(&begun.state);
    let finish = async || here.finish(Some(&carried), &mine, at(1)).await.unwrap_err();
    // Nobody answers at the provider's address.
    assert!(matches!(finish().await, LoginError::Provider(_)));
    assert_eq!(
        finish().await,
        LoginError::Strange("the answer to this login has been used already")
    );
}

#[test]
fn a_code_of_a_program_is_good_once_for_a_minute_and_for_that_program() {
    let here = sign_in();
    let person = || Person {
        issuer: "https://idp".to_owned(),
        subject: "s".to_owned(),
        name: "ann".to_owned(),
        groups: ["ops".to_owned()].into(),
    };
    let code = || here.code(person(), challenge("mine"), at(0)).unwrap();
    let good = code();
    assert_eq!(here.redeem(&good, "mine", at(59)), Ok(person()));
    for (code, verifier, second, told) in [
        (good.clone(), "mine", 59, "used already"),
        (code(), "mine", 60, "older than a minute"),
        (code(), "other", 1, "another program"),
        (
            sign_in().code(person(), challenge("mine"), at(0)).unwrap(),
            "mine",
            1,
            "not of this hub",
        ),
        (begun(&here).0, "mine", 1, "not of this hub"),
        (String::new(), "mine", 1, "not of this hub"),
    ] {
        let why = here
            .redeem(&code, verifier, at(second))
            .unwrap_err()
            .to_string();
        assert!(why.contains(told), "{told}: {why}");
    }
}

#[test]
fn a_login_leads_to_this_hub_or_to_the_persons_own_machine() {
    let program = |uri: &str| Goal::Program {
        redirect_uri: uri.to_owned(),
        state: "s".to_owned(),
        challenge: challenge("v"),
    };
    for path in ["/", "/auth/session", "/databases/a?tab=1#x"] {
        assert_eq!(Goal::Page(path.to_owned()).check(), Ok(()), "{path}");
    }
    let long = format!("/{}", "a".repeat(LONGEST));
    for path in [
        "",
        "x",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "https://evil.example",
        "javascript:1",
        "/a\r\nb",
        &format!("{HUB}/"),
        &long,
    ] {
        let why = Goal::Page(path.to_owned()).check().unwrap_err().to_string();
        assert!(why.starts_with("return_to: found"), "{path}: {why}");
    }
    for uri in ["http://127.0.0.1:4711/callback", "http://[::1]:80/"] {
        assert_eq!(program(uri).check(), Ok(()), "{uri}");
    }
    for uri in [
        "https://127.0.0.1:1/",
        "http://localhost:1/",
        "http://127.0.0.1/",
        "http://127.0.0.1:1@evil.example/",
        "http://u@127.0.0.1:1/",
        "http://127.0.0.1.evil.example:1/",
        "http://evil.example:1/",
        "http://127.0.0.1:1/?a=b",
        "http://127.0.0.1:1/#a",
        "app://callback",
        "",
    ] {
        let why = program(uri).check().unwrap_err().to_string();
        assert!(why.starts_with("redirect_uri: found"), "{uri}: {why}");
    }
    for (state, challenge) in [
        ("", challenge("v")),
        (long.as_str(), challenge("v")),
        ("s", "plain".to_owned()),
    ] {
        let goal = Goal::Program {
            redirect_uri: "http://127.0.0.1:1/".to_owned(),
            state: state.to_owned(),
            challenge,
        };
        assert!(goal.check().is_err());
    }
}
