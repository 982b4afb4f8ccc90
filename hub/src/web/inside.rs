//! `/debug`: what a hub that runs shows of its inside. As JSON, or as a plain table to who asks for text, as browsers do. Nothing
//! of it is a secret; the lines of the log are for administrators, because they name objects of all projects.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use jiff::{SignedDuration, Timestamp};
use meridian_api::fault::Fault;
use meridian_api::ids::{ClusterUid, Revision};
use meridian_api::validate::FieldError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::WebState;
use super::answer::Failure;
use super::sent::Sent;
use crate::logging::{Filter, FilterError, Logging, USUAL};
use crate::store::{keys, records};

/// One session, as the link knows it.
#[derive(Clone, Debug)]
pub struct SessionShown {
    /// The member.
    pub cluster: ClusterUid,
    /// Rises with each session of the member.
    pub epoch: u64,
    /// Since when it stands.
    pub since: Timestamp,
    /// When the member was heard last.
    pub heard_at: Timestamp,
    /// When the certificate of the session ends.
    pub certificate_ends: Timestamp,
    /// Objects that changed and are not sent yet.
    pub waiting: usize,
    /// Revision up to which the member has been sent everything.
    pub sent_to: Revision,
    /// Batches that were sent and are not acknowledged.
    pub unacknowledged: usize,
    /// Batches that may be sent before one is acknowledged.
    pub room: usize,
    /// Objects that were sent and of which no outcome has come.
    pub unanswered: usize,
    /// Highest revision whose outcome is stored.
    pub answered_to: u64,
    /// Whether the hub only observes the member.
    pub observes: bool,
}

/// How sessions are asked for, so that the web knows nothing of the link.
pub type AskSessions = Arc<dyn Fn() -> Vec<SessionShown> + Send + Sync>;

/// Where the inside of this process is found.
#[derive(Clone, Default)]
pub struct Inside {
    /// The sessions.
    pub sessions: Option<AskSessions>,
    /// The log.
    pub logging: Option<Logging>,
    /// With what it was started, as far as that is nobody's secret.
    pub settings: Settings,
}

/// With what a hub was started. Listed one by one: what is added to the command line is shown here only when somebody adds it.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Version of the program.
    pub version: &'static str,
    /// `file` or `etcd`.
    pub store: &'static str,
    /// Address of the web API.
    pub web_listen: String,
    /// Address of the link.
    pub link_listen: String,
    /// The link as agents reach it.
    pub advertise_link: Vec<String>,
    /// The web API as people reach it; empty if it was not said.
    pub advertise_web: String,
    /// The web API as other replicas reach it; empty if it was not said.
    pub replica_web: String,
    /// First part of every identity.
    pub trust_domain: String,
    /// Records of the audit log that are kept.
    pub audit_keep: u64,
    /// Requests a second of one token.
    pub limit_requests: u32,
    /// Refusals a second of one address.
    pub limit_refusals: u32,
    /// Whether clusters join only after a person approved them.
    pub approve_clusters: bool,
    /// How long a rotation waits.
    pub ca_margin: String,
    /// Whether people sign in through a provider.
    pub sign_in: bool,
    /// `text` or `json`.
    pub log_format: &'static str,
}

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inside").finish_non_exhaustive()
    }
}

/// The sessions of this hub.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sessions {
    as_of: String,
    sessions: Vec<Session>,
}

/// One session.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Session {
    /// Name of the member; empty if it is registered no more.
    cluster: String,
    uid: String,
    epoch: u64,
    since: String,
    heard_at: String,
    certificate_ends: String,
    /// `decides` or `observes`.
    mode: &'static str,
    /// Objects that changed and are not sent yet.
    waiting_objects: usize,
    /// Objects that were sent and of which no outcome has come.
    unanswered_objects: usize,
    /// Batches that were sent and are not acknowledged.
    unacknowledged_batches: usize,
    /// Batches that may be sent before one is acknowledged.
    free_batches: usize,
    /// Revision up to which the member has been sent everything.
    sent_to: u64,
    /// Highest revision whose outcome is stored.
    answered_to: u64,
    /// By how much the member's clock is ahead of the hub's; absent before its first heartbeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_ahead_ms: Option<i64>,
}

/// The background tasks.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tasks {
    as_of: String,
    tasks: Vec<Task>,
}

/// One task.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Task {
    name: &'static str,
    activations: u64,
    /// When the last activation ended; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_run: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<u64>,
    /// `settled`, `progressed`, `heldBack` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'static str>,
    /// When it is woken at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_run_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error_at: Option<String>,
}

/// What of the log is written.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Log {
    /// The filter in use, as `--log` takes it.
    filter: String,
    /// The one of the start, which comes back.
    usual: String,
    /// When it comes back; absent while it is in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

/// Another filter for a while.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LogChange {
    /// As `--log` takes it; the usual one again if left out.
    #[serde(default)]
    filter: Option<String>,
    /// For how long; an hour if left out, a day at most.
    #[serde(default)]
    seconds: Option<u64>,
}

/// The newest lines of the log.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogLines {
    as_of: String,
    lines: Vec<String>,
}

/// As it was asked for.
fn shown<T: Serialize>(headers: &HeaderMap, body: &T, table: impl FnOnce() -> String) -> Response {
    let wanted = headers.get(header::ACCEPT);
    let wanted = wanted
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let text = wanted.contains("text/") && !wanted.contains("application/json");
    if text {
        return table().into_response();
    }
    axum::Json(body).into_response()
}

pub(super) async fn sessions(
    State(state): State<WebState>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let names = records::list(state.app.store().as_ref(), &keys::clusters()).await?;
    let names = names.value.into_iter();
    let names: std::collections::BTreeMap<_, _> = names
        .map(|held| (held.record.uid, held.record.name))
        .collect();
    let all = state.inside.sessions.as_ref().map(|ask| ask());
    let sessions = all.unwrap_or_default().into_iter().map(|one| Session {
        cluster: names.get(&one.cluster).cloned().unwrap_or_default(),
        uid: one.cluster.to_string(),
        epoch: one.epoch,
        since: one.since.to_string(),
        heard_at: one.heard_at.to_string(),
        certificate_ends: one.certificate_ends.to_string(),
        mode: if one.observes { "observes" } else { "decides" },
        waiting_objects: one.waiting,
        unanswered_objects: one.unanswered,
        unacknowledged_batches: one.unacknowledged,
        free_batches: one.room,
        sent_to: one.sent_to.0,
        answered_to: one.answered_to,
        clock_ahead_ms: state
            .app
            .clock_of(one.cluster)
            .map(|known| known.skew.ahead_ms),
    });
    let mut sessions: Vec<_> = sessions.collect();
    sessions.sort_by(|a, b| (&a.cluster, &a.uid).cmp(&(&b.cluster, &b.uid)));
    let as_of = state.app.now().to_string();
    let all = Sessions { as_of, sessions };
    Ok(shown(&headers, &all, || table_of_sessions(&all)))
}

fn table_of_sessions(all: &Sessions) -> String {
    let mut out = format!(
        "sessions as of {}\ncluster since heard waiting unanswered unacknowledged sent-to clock-ahead-ms mode\n",
        all.as_of
    );
    for one in &all.sessions {
        let clock = one
            .clock_ahead_ms
            .map_or("-".to_owned(), |ms| ms.to_string());
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{} {} {} {} {} {} {} {clock} {}",
            one.cluster,
            one.since,
            one.heard_at,
            one.waiting_objects,
            one.unanswered_objects,
            one.unacknowledged_batches,
            one.sent_to,
            one.mode
        );
    }
    out
}

pub(super) async fn tasks(State(state): State<WebState>, headers: HeaderMap) -> Response {
    let now = state.app.now();
    let ago = |past: Duration| moved(now, past, -1);
    let all = state.metrics.activities().all().into_iter();
    let tasks = all.map(|(name, activity)| {
        let since = activity.last.map(|last| last.ended.elapsed());
        let failed = activity.failed;
        Task {
            name,
            activations: activity.activations,
            last_run: since.map(ago),
            took_ms: activity.last.map(|last| millis(last.took)),
            result: activity.last.map(|last| last.result.word()),
            next_run_by: since.map(|since| moved(now, activity.every.saturating_sub(since), 1)),
            last_error_at: failed.as_ref().map(|(at, _)| ago(at.elapsed())),
            last_error: failed.map(|(_, error)| error),
        }
    });
    let tasks = tasks.collect();
    let as_of = now.to_string();
    let all = Tasks { as_of, tasks };
    shown(&headers, &all, || table_of_tasks(&all))
}

fn table_of_tasks(all: &Tasks) -> String {
    let mut out = format!(
        "tasks as of {}\ntask activations last-run took-ms result next-run-by last-error\n",
        all.as_of
    );
    for one in &all.tasks {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let took = one.took_ms.map_or("-".to_owned(), |ms| ms.to_string());
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{} {} {} {took} {} {} {}",
            one.name,
            one.activations,
            or_none(&one.last_run),
            one.result.unwrap_or("-"),
            or_none(&one.next_run_by),
            or_none(&one.last_error)
        );
    }
    out
}

/// A time that lies so far from now, to the past or to the future.
fn moved(now: Timestamp, by: Duration, direction: i32) -> String {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::ZERO);
    let at = now.checked_add(by * direction).unwrap_or(now);
    at.to_string()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn logging(state: &WebState) -> Result<&Logging, Failure> {
    let logging = state.inside.logging.as_ref();
    logging.ok_or_else(|| {
        let detail = "this process does not write its log by itself".to_owned();
        Fault::Internal { detail }.into()
    })
}

fn log_shown(state: &WebState, headers: &HeaderMap) -> Result<Response, Failure> {
    let Filter {
        now,
        usual,
        back_in,
    } = logging(state)?.filter();
    let log = Log {
        filter: now,
        usual,
        until: back_in.map(|left| moved(state.app.now(), left, 1)),
    };
    let until = log.until.clone().unwrap_or_else(|| "always".to_owned());
    let text = || format!("{}\nuntil {until}, usually {}\n", log.filter, log.usual);
    Ok(shown(headers, &log, text))
}

pub(super) async fn log(
    State(state): State<WebState>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    log_shown(&state, &headers)
}

/// Writes the log by another filter for a while, or by the usual one again.
pub(super) async fn set_log(
    State(state): State<WebState>,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, Failure> {
    let LogChange { filter, seconds }: LogChange = sent.read("filter of the log")?;
    let logging = logging(&state)?;
    let changed = match &filter {
        Some(filter) => logging.set(filter, seconds.map_or(USUAL, Duration::from_secs)),
        None => logging.reset(),
    };
    changed.map_err(|error| refused(&error, filter.as_deref()))?;
    let now = logging.filter();
    tracing::warn!(
        filter = now.now,
        seconds = now.back_in.map(|left| left.as_secs()),
        "what of the log is written was changed by a person"
    );
    log_shown(&state, &headers)
}

fn refused(error: &FilterError, filter: Option<&str>) -> Failure {
    let (field, found, expected) = match error {
        FilterError::Unreadable(why) => (
            "filter",
            format!("{:?}: {why}", filter.unwrap_or_default()),
            "a filter such as info, or info,meridian_hub::link=debug".to_owned(),
        ),
        FilterError::Beyond { found, expected } if found.ends_with("bytes") => {
            ("filter", found.clone(), expected.clone())
        }
        FilterError::Beyond { found, expected } => ("seconds", found.clone(), expected.clone()),
    };
    let error = FieldError {
        field: field.to_owned(),
        found,
        expected,
        remedy: "correct it; the log is written as before".to_owned(),
    };
    Fault::invalid("the filter of the log was not changed", vec![error]).into()
}

pub(super) async fn lines(
    State(state): State<WebState>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let lines = logging(&state)?.recent();
    let as_of = state.app.now().to_string();
    let all = LogLines { as_of, lines };
    Ok(shown(&headers, &all, || {
        let mut text = all.lines.join("\n");
        text.push('\n');
        text
    }))
}

pub(super) async fn settings(State(state): State<WebState>) -> axum::Json<Settings> {
    axum::Json(state.inside.settings.clone())
}
