//! Keeps certificate and webhook configuration right, in every replica: the leader writes both, the others follow.
//!
//! What to do is decided by [`plan`] from what two watches have shown. A new certificate is trusted before it is served:
//! the leader writes its authority into the configuration, and each replica waits [`SETTLE`] after it has seen it there.

use std::{collections::BTreeSet, fmt::Display, pin::pin, sync::Arc, time::Duration};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingWebhook, ValidatingWebhookConfiguration},
    core::v1::Secret,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use rustls::sign::CertifiedKey;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    CHECK,
    certificate::{self, Found, Held, Live, SECRET},
    configuration::{self, Standing},
};
use crate::{
    clock,
    k8s::{apply::Objects, lease::Role, own::FIELD_MANAGER, permitted},
    metrics::{Certificate, Metrics},
    namespaces::Selection,
    probes::Board,
};

/// How long API servers may take to hear of a changed configuration.
const SETTLE: Duration = Duration::from_secs(5);
/// Longest time without a look.
const LOOK: Duration = Duration::from_secs(3600);
/// Pause after a write that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// What a watch has shown of one object.
#[derive(Debug, Clone)]
pub(super) enum Shown<K> {
    /// Nothing yet.
    Nothing,
    /// It cannot be watched.
    Unreadable(String),
    /// It does not exist.
    Absent,
    /// It is like this.
    There(Box<K>),
}

impl<K> Shown<K> {
    fn take(event: Result<Option<K>, impl Display>) -> Self {
        match event {
            Ok(Some(object)) => Self::There(Box::new(object)),
            Ok(None) => Self::Absent,
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }
}

/// Everything that a decision rests on.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) namespace: &'a str,
    /// Other namespaces whose databases are judged.
    pub(super) others: &'a BTreeSet<String>,
    pub(super) secret: &'a Shown<Secret>,
    pub(super) configuration: &'a Shown<ValidatingWebhookConfiguration>,
    /// This replica leads: it may write.
    pub(super) leads: bool,
    /// What is served now.
    pub(super) served: Option<&'a CertifiedKey>,
    /// Since when the configuration has shown the bundle of the Secret's certificate.
    pub(super) trusted_for: Option<Duration>,
    pub(super) now: Timestamp,
}

/// What to do now.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Make a certificate, for this reason.
    pub(super) issue: Option<String>,
    /// Serve this certificate.
    pub(super) serve: Option<Arc<CertifiedKey>>,
    /// Write these webhooks into the configuration.
    pub(super) configure: Option<Vec<ValidatingWebhook>>,
    /// Look again after this time at the latest.
    pub(super) wake: Option<Duration>,
    /// When the certificate ends.
    pub(super) ends: Option<Timestamp>,
    /// What readiness shows.
    pub(super) ready: bool,
    /// Why.
    pub(super) told: String,
}

/// Decides.
pub(super) fn plan(seen: &Seen<'_>) -> Plan {
    let secret = match seen.secret {
        Shown::Nothing => return waiting("its certificate was not read yet".to_owned()),
        Shown::Unreadable(why) => {
            return waiting(format!("Secret `{SECRET}` cannot be read: {why}"));
        }
        Shown::Absent => None,
        Shown::There(secret) => Some(secret.as_ref()),
    };
    match certificate::find(secret, seen.namespace, seen.now) {
        Found::Usable { held, due } => {
            let mut plan = with_certificate(seen, &held);
            plan.issue = due.filter(|_| seen.leads).map(str::to_owned);
            plan
        }
        Found::Useless(why) if seen.leads => Plan {
            issue: Some(why),
            ..waiting("its certificate is being made".to_owned())
        },
        Found::Useless(why) => waiting(format!(
            "Secret `{SECRET}`: {why}; the leading replica makes another"
        )),
        Found::Foreign(why) => waiting(format!(
            "Secret `{SECRET}` is not ours and cannot be used: {why}. Delete it, and it is made anew"
        )),
    }
}

fn waiting(told: String) -> Plan {
    Plan {
        told,
        ..Plan::default()
    }
}

fn with_certificate(seen: &Seen<'_>, held: &Held) -> Plan {
    let name = configuration::name(seen.namespace);
    let good = format!("serves, certificate good until {}", held.ends_at);
    let mut plan = Plan {
        wake: Some(until(seen.now, held.renew_at)),
        ends: Some(held.ends_at),
        ready: true,
        ..Plan::default()
    };
    let served = seen
        .served
        .is_some_and(|served| served.cert == held.key.cert);
    // What is served now proves nothing to those who will trust this certificate: waiting would help nobody.
    let mut serve_at_once = !seen
        .served
        .is_some_and(|served| served.cert.iter().any(|part| held.anchors.contains(part)));
    plan.told = match seen.configuration {
        Shown::Nothing => {
            format!("{good}; ValidatingWebhookConfiguration `{name}` was not read yet")
        }
        // Nobody calls by a configuration that is not there or not ours.
        Shown::Absent | Shown::Unreadable(_) => {
            serve_at_once = true;
            let why = match seen.configuration {
                Shown::Unreadable(why) => format!("cannot be read ({why})"),
                Shown::Absent | Shown::Nothing | Shown::There(_) => "does not exist".to_owned(),
            };
            format!(
                "{good}; NOTHING IS CHECKED: ValidatingWebhookConfiguration `{name}` {why}. Apply deploy/bundle/admission.yaml"
            )
        }
        Shown::There(found) => {
            let wanted = configuration::webhooks(seen.namespace, seen.others, &held.bundle);
            match configuration::standing(found, &wanted) {
                Standing::Right => format!("{good}; `{name}` is in force"),
                Standing::Wrong => {
                    plan.configure = seen.leads.then_some(wanted);
                    format!("{good}; `{name}` is to be put right by the leading replica")
                }
                Standing::Foreign { holder } => {
                    serve_at_once = true;
                    format!(
                        "{good}; NOTHING IS CHECKED: ValidatingWebhookConfiguration `{name}` is not ours (held by {holder}) \
                         and stays as it is. Delete it and apply deploy/bundle/admission.yaml"
                    )
                }
            }
        }
    };
    if !served {
        let settled = seen.trusted_for.is_some_and(|trusted| trusted >= SETTLE);
        if serve_at_once || settled {
            plan.serve = Some(Arc::clone(&held.key));
        } else if let Some(trusted) = seen.trusted_for {
            plan.wake = Some(SETTLE.saturating_sub(trusted));
        }
    }
    plan
}

fn until(now: Timestamp, then: Timestamp) -> Duration {
    let left = then.duration_since(now).unsigned_abs();
    if then <= now { AGAIN } else { left.min(LOOK) }
}

/// The loop of one replica.
pub(super) struct Keeper {
    client: Client,
    namespace: String,
    live: Arc<Live>,
    board: Board,
    metrics: Arc<Metrics>,
    roles: watch::Receiver<Role>,
    selection: watch::Receiver<Selection>,
}

struct State {
    secret: Shown<Secret>,
    configuration: Shown<ValidatingWebhookConfiguration>,
    served: Option<Arc<CertifiedKey>>,
    trusted_since: Option<(String, Instant)>,
    told: String,
}

impl Keeper {
    /// A keeper of the webhook of `namespace`.
    pub(super) fn new(
        client: Client,
        namespace: &str,
        live: Arc<Live>,
        (board, metrics): (Board, Arc<Metrics>),
        roles: watch::Receiver<Role>,
        selection: watch::Receiver<Selection>,
    ) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            live,
            board,
            metrics,
            roles,
            selection,
        }
    }

    /// Keeps both right until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let secrets: Api<Secret> = Objects::new(self.client.clone(), &self.namespace).api();
        let configurations: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let name = configuration::name(&self.namespace);
        let mut secrets = pin!(permitted::object(secrets, SECRET));
        let mut configurations = pin!(permitted::object(configurations, &name));
        let mut state = State {
            secret: Shown::Nothing,
            configuration: Shown::Nothing,
            served: None,
            trusted_since: None,
            told: String::new(),
        };
        let (mut roles, mut selection) = (self.roles.clone(), self.selection.clone());
        let mut wake = Instant::now() + LOOK;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(event) = secrets.next() => state.secret = Shown::take(event),
                Some(event) = configurations.next() => state.configuration = Shown::take(event),
                changed = roles.changed() => if changed.is_err() { return },
                changed = selection.changed() => if changed.is_err() { return },
                () = sleep_until(wake) => {}
            }
            wake = Instant::now() + self.look(&mut state).await;
        }
    }

    /// One look; returns when to look again at the latest.
    async fn look(&mut self, state: &mut State) -> Duration {
        state.trusted_since = trusted_since(state);
        let others = self.selection.borrow_and_update().consumers.clone();
        let plan = plan(&Seen {
            namespace: &self.namespace,
            others: &others,
            secret: &state.secret,
            configuration: &state.configuration,
            leads: *self.roles.borrow_and_update() == Role::Leader,
            served: state.served.as_deref(),
            trusted_for: state
                .trusted_since
                .as_ref()
                .map(|(_, since)| since.elapsed()),
            now: clock::now().0,
        });
        let ends = plan.ends.map(Timestamp::as_millisecond);
        self.metrics.certificate(Certificate::Admission, ends);
        if let Some(key) = plan.serve {
            self.live.swap(Arc::clone(&key));
            state.served = Some(key);
        }
        let mut again = plan.wake.unwrap_or(LOOK);
        let mut told = plan.told;
        if let Err(error) = self.write(state, plan.issue, plan.configure).await {
            told = format!("{told}; {error}");
            again = AGAIN;
        }
        if told != state.told {
            tracing::info!(told, "admission");
            state.told.clone_from(&told);
        }
        if plan.ready && state.served.is_some() {
            self.board.good(CHECK, told);
        } else {
            self.board.bad(CHECK, told);
        }
        again
    }

    async fn write(
        &self,
        state: &State,
        issue: Option<String>,
        configure: Option<Vec<ValidatingWebhook>>,
    ) -> Result<(), String> {
        if let Some(why) = issue {
            tracing::info!(why, "makes a certificate for the admission webhook");
            self.issue(&state.secret).await?;
        }
        if let (Some(wanted), Shown::There(found)) = (configure, &state.configuration) {
            tracing::info!("puts the admission webhook's configuration right");
            let name = configuration::name(&self.namespace);
            let api: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
            let body = configuration::body(found, &wanted);
            let params = PatchParams::apply(FIELD_MANAGER).force();
            let written = api.patch(&name, &params, &Patch::Apply(&body)).await;
            written.map_err(|error| format!("`{name}` could not be written: {error}"))?;
        }
        Ok(())
    }

    async fn issue(&self, shown: &Shown<Secret>) -> Result<(), String> {
        let objects = Objects::new(self.client.clone(), &self.namespace);
        let old = match shown {
            Shown::There(secret) => Some(secret.as_ref()),
            Shown::Absent | Shown::Nothing | Shown::Unreadable(_) => None,
        };
        let secret = certificate::issue(old, &self.namespace, clock::now().0)
            .map_err(|error| format!("a certificate could not be made: {error}"))?;
        // Somebody who wrote at the same time has shown it by the next look.
        let written = match old {
            Some(_) => objects.swap(&secret).await,
            None => objects.create(&secret).await,
        };
        written.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// Since when the configuration has shown the bundle of the Secret's certificate, by our own clock.
fn trusted_since(state: &State) -> Option<(String, Instant)> {
    let (Shown::There(secret), Shown::There(configuration)) = (&state.secret, &state.configuration)
    else {
        return None;
    };
    let bundle = certificate::bundle(secret)?;
    if !configuration::trusts(configuration, &bundle) {
        return None;
    }
    let before = state.trusted_since.as_ref();
    match before.filter(|(trusted, _)| *trusted == bundle) {
        Some(known) => Some(known.clone()),
        None => Some((bundle, Instant::now())),
    }
}

#[cfg(test)]
mod tests;
