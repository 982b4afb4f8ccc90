//! What a hub shows of its inside from its start on: its log, and with what it was started.

use super::start_log;
use crate::args::{LogFormat, Serve};
use crate::web::inside::{Inside, Settings};

/// Starts the log.
pub(super) fn inside(args: &Serve) -> anyhow::Result<Inside> {
    Ok(Inside {
        sessions: None,
        logging: Some(start_log(args.log_format, &args.log)?),
        settings: settings(args),
    })
}

/// The settings, one by one: nothing of the command line is shown that is not named here.
fn settings(args: &Serve) -> Settings {
    let text = |given: &Option<String>| given.clone().unwrap_or_default();
    Settings {
        version: env!("CARGO_PKG_VERSION"),
        store: if args.etcd.etcd_endpoints.is_empty() {
            "file"
        } else {
            "etcd"
        },
        web_listen: args.web_listen.to_string(),
        link_listen: args.link_listen.to_string(),
        advertise_link: args.advertise_link.clone(),
        advertise_web: text(&args.advertise_web),
        replica_web: text(&args.replica_web),
        trust_domain: args.trust_domain.clone(),
        audit_keep: args.audit_keep,
        limit_requests: args.limit_requests,
        limit_refusals: args.limit_refusals,
        approve_clusters: args.approve_clusters,
        ca_margin: format!("{:#}", args.ca_margin),
        sign_in: args.oidc.oidc_issuer.is_some(),
        log_format: match args.log_format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        },
    }
}
