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

/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// Handshakes at once; more wait.
const HANDSHAKES: usize = 16;

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
    let limits = Limits {
        purpose: role.name(),
        handshake: PATIENCE,
        at_once: HANDSHAKES,
    };
    let (config, tasks) = (Arc::new(config), TaskTracker::new());
    let newest = move || Ok(Arc::clone(&config));
    let listener = TlsListener::tls(listener, limits, &tasks, stop.clone(), newest);
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        error!(role = role.name(), %error, "is no longer served");
    }
}
