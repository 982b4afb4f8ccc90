//! `/api/v1/hub/ca`: the roots that members trust, who acknowledged them, and the steps by which a person exchanges them.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::WebState;
use super::answer::{self, Failure, time};
use super::params::Params;
use super::sent::Sent;
use crate::app::trust::{Standing, Wish};
use crate::ca::ends_at;
use crate::domain::trust::{Bundle, MemberTrust};

/// The roots as people see them.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Authority {
    /// Rises with each step.
    version: u64,
    /// `settled`, `introduced` or `signing`.
    stage: &'static str,
    since: String,
    /// The first signs.
    roots: Vec<Root>,
    /// All of them, PEM: what people and programs that ask the hub trust.
    roots_pem: String,
    /// Root of the certificate that the hub shows.
    serving: String,
    /// Every member that is not removed.
    members: Vec<Member>,
    /// What else holds up the next step.
    waits_for: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Root {
    fingerprint: String,
    ends_at: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Member {
    name: String,
    /// Version that its agent trusts; absent if it never said so.
    version: Option<u64>,
    /// Root that signed its agent's certificate.
    signer: Option<String>,
    as_of: Option<String>,
    /// Why it holds up the next step; absent if it does not.
    behind: Option<String>,
}

/// What a step may leave behind.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AuthorityStep {
    /// Names of members that do not hold it up. Who does not hold the roots of the next step comes back by new join material only.
    #[serde(default)]
    even_without: BTreeSet<String>,
}

pub(super) async fn get(
    State(state): State<WebState>,
    params: Params,
) -> Result<Response, Failure> {
    let standing = state.app.standing().await?;
    shown(&params, standing)
}

pub(super) async fn rotate(
    State(state): State<WebState>,
    params: Params,
    sent: Sent,
) -> Result<Response, Failure> {
    step(&state, &params, &sent, Wish::Rotate).await
}

pub(super) async fn advance(
    State(state): State<WebState>,
    params: Params,
    sent: Sent,
) -> Result<Response, Failure> {
    step(&state, &params, &sent, Wish::Advance).await
}

pub(super) async fn abort(
    State(state): State<WebState>,
    params: Params,
    sent: Sent,
) -> Result<Response, Failure> {
    step(&state, &params, &sent, Wish::Abort).await
}

async fn step(
    state: &WebState,
    params: &Params,
    sent: &Sent,
    wish: Wish,
) -> Result<Response, Failure> {
    let AuthorityStep { even_without } = sent.read("AuthorityStep")?;
    let manner = params.manner();
    let bundle = state.app.rotate(wish, &even_without, &manner).await?;
    let standing = state.app.standing().await?;
    shown(params, Standing { bundle, ..standing })
}

fn shown(params: &Params, standing: Standing) -> Result<Response, Failure> {
    let Standing {
        bundle,
        serving,
        members,
        others,
    } = standing;
    let Bundle { version, since, .. } = bundle;
    let authority = Authority {
        version,
        stage: bundle.stage().word(),
        since: time(since),
        roots_pem: bundle.roots.iter().map(|root| root.pem.as_str()).collect(),
        roots: bundle
            .roots
            .iter()
            .map(|root| Root {
                fingerprint: root.fingerprint.clone(),
                ends_at: ends_at(&root.pem).map(time),
            })
            .collect(),
        serving,
        members: members.into_iter().map(member).collect(),
        waits_for: others,
    };
    answer::tagged(StatusCode::OK, params, &version.to_string(), &authority)
}

fn member((name, held, behind): (String, Option<MemberTrust>, Option<String>)) -> Member {
    let said = held.filter(|held| held.version > 0);
    Member {
        name,
        version: said.as_ref().map(|held| held.version),
        as_of: said.as_ref().map(|held| time(held.since)),
        signer: said.map(|held| held.signer),
        behind,
    }
}
