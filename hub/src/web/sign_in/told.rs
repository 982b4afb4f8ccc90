//! How a failed login is told: as a page to a browser, as a problem to everything else, and to the program that began it.

use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use meridian_api::fault::Fault;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::answer::Failure;

/// A failure, for whoever asks.
pub(super) fn failure(headers: &HeaderMap, fault: Fault) -> Response {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    if !accepted.is_some_and(|accepted| accepted.contains("text/html")) {
        return Failure::from(fault).into_response();
    }
    tracing::info!(reason = %fault, "a login led to nothing");
    let status = StatusCode::from_u16(fault.kind().status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let mut answer = (status, page(&fault.to_string())).into_response();
    let headers = answer.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn page(why: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Meridian: not signed in</title>\n\
         <h1>You are not signed in</h1>\n<p>{}</p>\n<p><a href=\"/auth/login\">Begin again</a></p></html>\n",
        escaped(why)
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            plain => out.push(plain),
        }
    }
    out
}

/// Where a program hears that its login led to nothing (RFC 6749, section 4.1.2.1).
pub(super) fn to_program(redirect_uri: &str, state: &str, fault: &Fault) -> String {
    let told = [
        ("error", "access_denied"),
        ("error_description", &fault.to_string()),
        ("state", state),
    ];
    back_to_program(redirect_uri, &told)
}

/// Where a program hears of its login. The address has no query: that was refused when it began.
pub(super) fn back_to_program(redirect_uri: &str, told: &[(&str, &str)]) -> String {
    let pairs = told.iter().map(|(name, value)| {
        let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
        format!("{name}={value}")
    });
    format!("{redirect_uri}?{}", pairs.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_provider_says_is_text_on_a_page_and_in_an_address() {
        let fault = Fault::Unauthorized {
            detail: "<script>alert('&\"')</script>".to_owned(),
        };
        let mut headers = HeaderMap::new();
        assert_eq!(failure(&headers, fault.clone()).status(), 401);
        headers.insert(ACCEPT, HeaderValue::from_static("text/html,*/*"));
        let answer = failure(&headers, fault.clone());
        assert_eq!(answer.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        let page = page(&fault.to_string());
        assert!(
            page.contains("&lt;script&gt;alert(&#39;&amp;&quot;&#39;)"),
            "{page}"
        );
        let address = to_program("http://127.0.0.1:1/", "a&b", &fault);
        assert!(
            address.starts_with("http://127.0.0.1:1/?error=access%5Fdenied&"),
            "{address}"
        );
        assert!(
            address.ends_with("&state=a%26b") && !address.contains('<'),
            "{address}"
        );
    }
}
