//! Who asks too often.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;

use super::*;
use crate::tls::PeerAddress;
use crate::web::limits::Limits;

impl Web {
    async fn limited(requests: u32, refusals: u32) -> Self {
        let web = Self::new().await;
        let limits = Arc::new(Limits::new(requests, refusals));
        let state = WebState {
            limits,
            ..state(&web.hub)
        };
        Self {
            router: router(state),
            ..web
        }
    }

    async fn ask_from(&self, address: &str, token: &str) -> Response<Body> {
        let peer = PeerAddress {
            address: SocketAddr::new(address.parse().unwrap(), 1),
            certificate: None,
        };
        let request = Request::builder()
            .uri(DATABASES)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .extension(ConnectInfo(peer));
        let request = request.body(Body::empty()).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }
}

#[tokio::test]
async fn a_token_that_asks_too_often_is_told_when_to_ask_again_and_others_are_not_held_back() {
    let web = Web::limited(1, 0).await;
    let other = web
        .token_of(crate::domain::access::grant::Role::Viewer, &[])
        .await;
    for _ in 0..2 {
        assert_eq!(web.ask_from("10.0.0.1", &web.token).await.status(), 200);
    }
    let answer = web.ask_from("10.0.0.1", &web.token).await;
    assert_eq!(answer.headers()[header::RETRY_AFTER], "1");
    let (status, problem) = read(answer).await;
    assert_eq!(
        (status, &problem["kind"]),
        (429, &json!("too-many-requests"))
    );
    assert_eq!(web.ask_from("10.0.0.1", &other).await.status(), 200);
    let printed = read_text(web.ask("GET", "/metrics", None, None).await).await;
    assert!(
        printed.contains("meridian_hub_http_limited_total{limit=\"Token\"} 1"),
        "{printed}"
    );
}

#[tokio::test]
async fn tokens_that_are_none_are_counted_by_address_and_a_good_one_passes() {
    let web = Web::limited(0, 1).await;
    let mut refused = Vec::new();
    for _ in 0..31 {
        refused.push(web.ask_from("10.0.0.1", "mrda.x").await.status().as_u16());
    }
    assert_eq!((&refused[..30], refused[30]), (&[401; 30][..], 429));
    assert_eq!(web.ask_from("10.0.0.1", &web.token).await.status(), 200);
    assert_eq!(web.ask_from("10.0.0.2", "mrda.x").await.status(), 401);
    // One network of IPv6 is one place, whatever address in it is used.
    for i in 0..30 {
        web.ask_from(&format!("2001:db8::{i:x}"), "mrda.x").await;
    }
    assert_eq!(web.ask_from("2001:db8::ffff", "mrda.x").await.status(), 429);
    assert_eq!(
        web.ask_from("2001:db8:0:1::1", "mrda.x").await.status(),
        401
    );
}

async fn read_text(answer: Response<Body>) -> String {
    let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await;
    String::from_utf8(bytes.unwrap().to_vec()).unwrap()
}
