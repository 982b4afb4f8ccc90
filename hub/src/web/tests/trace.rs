//! The trace of a request: taken from the caller, or made.

use meridian_api::trace::TraceContext;

use super::*;
use crate::store::keys;
use crate::store::records;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn answered(answer: &Response<Body>) -> TraceContext {
    let header = answer.headers()["traceresponse"].to_str().unwrap();
    header.parse().unwrap()
}

#[tokio::test]
async fn a_write_goes_on_with_the_trace_of_its_caller_and_keeps_it_with_the_intent() {
    let web = Web::with_members().await;
    let (token, parent) = (Some(web.token.as_str()), [("traceparent", PARENT)]);
    let body = database(&["lab-1", "lab-2"]);
    let made = web
        .ask_with("POST", DATABASES, token, Some(&body), &parent)
        .await;
    let (given, got) = (PARENT.parse::<TraceContext>().unwrap(), answered(&made));
    assert_eq!((got.trace, got.sampled), (given.trace, true));
    assert_ne!(got.span, given.span);
    assert_eq!(made.status(), 202);
    assert_eq!(web.newest().await["trace"], given.trace.to_string());

    let store = web.hub.app.store().as_ref();
    let held = records::get(store, &keys::database("shop")).await.unwrap();
    assert_eq!(held.unwrap().record.trace, Some(given.trace));
    web.plan().await;
    let told: Vec<records::Held<crate::domain::desired::Desired>> =
        records::list(store, &keys::all_desired())
            .await
            .unwrap()
            .value;
    let of_database = told.iter().filter(|held| held.record.name == "shop");
    let traces: Vec<_> = of_database.map(|held| held.record.trace).collect();
    assert_eq!(traces, [Some(given.trace); 4]);

    // The deletion is a request of its own.
    let path = format!("{SHOP}?confirm=shop");
    let gone = web.ask("DELETE", &path, token, None).await;
    let other = answered(&gone).trace;
    assert_ne!(other, given.trace);
    web.plan().await;
    let told = records::list(store, &keys::all_desired())
        .await
        .unwrap()
        .value;
    let tombstones = told.iter().filter(|held| held.record.is_tombstone());
    let traces: Vec<_> = tombstones.map(|held| held.record.trace).collect();
    assert!(!traces.is_empty() && traces.iter().all(|trace| *trace == Some(other)));
}

#[tokio::test]
async fn what_is_no_trace_is_left_and_one_is_made() {
    let web = Web::new().await;
    for headers in [
        &[][..],
        &[("traceparent", "mrda.0707070707070707.c2VjcmV0")],
        &[("traceparent", "00-0-0-0")],
        // Two of them are none (section 4.3).
        &[("traceparent", PARENT), ("traceparent", PARENT)],
    ] {
        let answer = web
            .ask_with(
                "DELETE",
                "/api/v1/tokens/none",
                Some(&web.token),
                None,
                headers,
            )
            .await;
        let made = answered(&answer);
        assert!(!PARENT.contains(&made.trace.to_string()), "{headers:?}");
        let (_, problem) = read(answer).await;
        assert_eq!(problem["traceId"], made.trace.to_string(), "{problem}");
        assert_eq!(web.newest().await["trace"], made.trace.to_string());
    }
}

#[tokio::test]
async fn whoever_a_request_is_handed_on_to_hears_of_its_trace() {
    let web = Web::new().await;
    let echo = |headers: http::HeaderMap| async move {
        let said = headers.get("traceparent").cloned();
        said.map_or_else(String::new, |said| said.to_str().unwrap().to_owned())
    };
    let numbered = middleware::from_fn_with_state(state(&web.hub), answer::number_requests);
    let router: Router = Router::new().route("/", get(echo)).layer(numbered);
    for parent in [PARENT, "none"] {
        let request = Request::builder().header("traceparent", parent);
        let request = request.body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        let stands = answered(&answer);
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 10).await;
        assert_eq!(bytes.unwrap(), stands.to_string());
    }
}
