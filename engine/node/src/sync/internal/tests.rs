use std::path::Path;

use meridian_api::certificates::Role;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::*;
use crate::sync::certificates::Own;
use crate::sync::settings::{Host, Internal};
use crate::sync::tls::testing::{
    NAME, between, certificates, foreign, nothing, read, secret, shown_to,
};

/// Grants whatever it is asked, and says who asked.
struct Yes;

impl Grants for Yes {
    fn grant(&self, request: &GrantRequest) -> GrantReply {
        GrantReply {
            granted: true,
            reason: request.requester.clone(),
            ..GrantReply::default()
        }
    }
}

/// A node that dials `port` with the Secret in `directory`.
fn members(directory: &Path, port: u16) -> Arc<Members> {
    knowing(directory, port, &nothing())
}

fn knowing(directory: &Path, port: u16, chosen: &Arc<Own>) -> Arc<Members> {
    let internal = Internal {
        listen: ([127, 0, 0, 1], port).into(),
        port,
        directory: directory.to_owned(),
        server_name: NAME.to_owned(),
        certificates: certificates(directory),
    };
    let host: Host = Arc::new(|_| "127.0.0.1".to_owned());
    Members::new(
        internal,
        between(directory, chosen, Role::CpInternode),
        host,
    )
}

fn question() -> GrantRequest {
    GrantRequest {
        requester: "p".to_owned(),
        ..GrantRequest::default()
    }
}

async fn serving(directory: &Path, stop: &CancellationToken) -> u16 {
    showing(directory, &nothing(), stop).await
}

async fn showing(directory: &Path, chosen: &Arc<Own>, stop: &CancellationToken) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = serve(
        listener,
        between(directory, chosen, Role::CpInternode),
        Arc::new(Yes),
        stop.clone(),
    );
    drop(tokio::spawn(served));
    port
}

#[tokio::test]
async fn only_nodes_of_this_cluster_are_answered_and_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (own, foreign, misnamed) = (
        dir.path().join("own"),
        dir.path().join("foreign"),
        dir.path().join("misnamed"),
    );
    secret(&own, NAME);
    secret(&foreign, NAME);
    secret(&misnamed, "nodes.other.ns.meridian.internal");
    let stop = CancellationToken::new();
    let port = serving(&own, &stop).await;
    let answer = members(&own, port).grant("m", question()).await.unwrap();
    assert!(answer.granted && answer.reason == "p", "{answer:?}");
    let refused = members(&foreign, port).grant("m", question()).await;
    assert!(refused.is_err(), "{refused:?}");
    let misnaming = serving(&misnamed, &stop).await;
    let refused = members(&misnamed, misnaming).grant("m", question()).await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn a_process_that_ends_grants_nothing_over_connections_that_outlive_it() {
    let stop = CancellationToken::new();
    let service = Service {
        grants: Arc::new(Yes),
        stop: stop.clone(),
    };
    let asked = || service.grant(Request::new(question()));
    assert!(asked().await.unwrap().into_inner().granted);
    stop.cancel();
    assert_eq!(asked().await.unwrap_err().code(), tonic::Code::Unavailable);
}

#[tokio::test]
async fn a_chosen_certificate_is_shown_and_changes_without_nodes_losing_each_other() {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), NAME);
    let stop = CancellationToken::new();
    let (first, second) = (foreign(), foreign());
    // What the listener has read, and what the one who dials has: every step of a change, in either order.
    let states = [None, Some(&first), Some(&second)];
    for listens in states {
        let own = nothing();
        read(&own, Role::CpInternode, listens);
        let port = showing(dir.path(), &own, &stop).await;
        for dials in states {
            let knows = nothing();
            read(&knows, Role::CpInternode, dials);
            let members = knowing(dir.path(), port, &knows);
            let answer = members.grant("m", question()).await.unwrap();
            assert!(answer.granted, "{listens:?} {dials:?}");
        }
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let shared = std::fs::read_to_string(dir.path().join("tls.crt")).unwrap();
        let expected = der(listens.map_or(&shared, |(certificate, _)| certificate));
        for stranger in ["rec-0.rec.ns.svc", "chosen.example"] {
            assert_eq!(
                shown_to(("127.0.0.1", port), dir.path(), stranger).await,
                expected
            );
        }
        // A node of an older release asks by this name.
        assert_eq!(
            shown_to(("127.0.0.1", port), dir.path(), NAME).await,
            der(&shared)
        );
        // The listener hears of the next one, and of none, without another process.
        read(&own, Role::CpInternode, Some(&second));
        let newest = shown_to(("127.0.0.1", port), dir.path(), "rec").await;
        assert_eq!(newest, der(&second.0));
        read(&own, Role::CpInternode, None);
        assert_eq!(
            shown_to(("127.0.0.1", port), dir.path(), "rec").await,
            der(&shared)
        );
    }
}

#[tokio::test]
async fn a_chosen_certificate_is_believed_for_its_bytes_only() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = (dir.path().join("own"), dir.path().join("other"));
    secret(&own, NAME);
    secret(&other, NAME);
    let stop = CancellationToken::new();
    let (chosen, twin) = (foreign(), foreign());
    let (knows, shows) = (nothing(), nothing());
    read(&knows, Role::CpInternode, Some(&chosen));
    read(&shows, Role::CpInternode, Some(&twin));
    // It has the same names and is of another key; and what it shares is of another authority.
    let port = showing(&other, &shows, &stop).await;
    let refused = knowing(&own, port, &knows).grant("m", question()).await;
    assert!(refused.is_err(), "{refused:?}");
}
