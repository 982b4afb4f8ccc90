//! HTTPS for people: handshakes that do not wait for each other, with the newest certificate of a role at each of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use meridian_api::certificates::Role;
use meridian_tls::{Limits, TlsListener};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

use super::certificates::Own;

/// Pages for a few people and their monitoring.
const LIMITS: Limits = Limits {
    handshake: Duration::from_secs(4),
    handshakes: 16,
};

/// Serves `router` with the certificate of `role` until `stop`.
pub(super) async fn serve(
    listener: TcpListener,
    own: Arc<Own>,
    role: Role,
    router: Router,
    stop: CancellationToken,
) {
    let mut config = match own.server(role) {
        Ok(config) => config,
        Err(error) => {
            error!(role = role.name(), %error, "there is no TLS: nothing is served");
            return;
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tracker = TaskTracker::new();
    let listener =
        match TlsListener::start(listener, Arc::new(config), LIMITS, &tracker, stop.clone()) {
            Ok(listener) => listener,
            Err(error) => {
                error!(role = role.name(), %error, "is not served");
                return;
            }
        };
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        error!(role = role.name(), %error, "is no longer served");
    }
}
