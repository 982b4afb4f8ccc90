//! What a request does, in the words of the table of rights. A request that no rule names is refused.

use axum::http::Method;

use crate::domain::access::grant::{Kind, Verb};

/// What a request of this method to this path does; `None` where no rule says.
pub(super) fn act(method: &Method, path: &str) -> Option<(Verb, Kind)> {
    let (kind, what) = match path {
        "/api/v1/clusters" => (Kind::Cluster, What::All),
        "/api/v1/clusters/{name}" => (Kind::Cluster, What::One),
        "/api/v1/clusters/{name}/approve" => (Kind::Cluster, What::Decision(Verb::Approve)),
        "/api/v1/clusters/{name}/deny" => (Kind::Cluster, What::Decision(Verb::Deny)),
        "/api/v1/clusters/{name}/release" => (Kind::Cluster, What::Decision(Verb::Release)),
        "/api/v1/clusters/{name}/lose" => (Kind::Cluster, What::Decision(Verb::Lose)),
        "/api/v1/lostclusters" => (Kind::Hub, What::All),
        "/api/v1/tokens" => (Kind::JoinToken, What::All),
        "/api/v1/tokens/{name}" => (Kind::JoinToken, What::One),
        "/api/v1/remoteclusters" => (Kind::RemoteCluster, What::All),
        "/api/v1/remoteclusters/{name}" => (Kind::RemoteCluster, What::One),
        "/api/v1/activeactivedatabases" => (Kind::Database, What::All),
        "/api/v1/activeactivedatabases/{name}" => (Kind::Database, What::One),
        "/api/v1/apitokens" => (Kind::ApiToken, What::All),
        "/api/v1/apitokens/{name}" => (Kind::ApiToken, What::One),
        "/api/v1/audit" | "/api/v1/audit/export" => (Kind::Audit, What::All),
        "/api/v1/hub" => (Kind::Hub, What::One),
        "/api/v1/freezes" => (Kind::Hub, What::All),
        "/api/v1/freezes/{name}/release" => (Kind::Hub, What::Decision(Verb::Release)),
        "/api/v1/hub/backup" => (Kind::Backup, What::One),
        "/api/v1/hub/adopt" => (Kind::Hub, What::Decision(Verb::Adopt)),
        "/api/v1/hub/ca" => (Kind::Authority, What::One),
        "/api/v1/hub/ca/rotate" => (Kind::Authority, What::Decision(Verb::Rotate)),
        "/api/v1/hub/ca/advance" => (Kind::Authority, What::Decision(Verb::Advance)),
        "/api/v1/hub/ca/abort" => (Kind::Authority, What::Decision(Verb::Abort)),
        "/debug/sessions" | "/debug/tasks" => (Kind::Inside, What::All),
        "/debug/log" | "/debug/log/lines" | "/debug/settings" => (Kind::Inside, What::One),
        _ => return None,
    };
    let verb = match (what, method.as_str()) {
        (What::All, "GET" | "HEAD") => Verb::List,
        (What::All, "POST") => Verb::Create,
        (What::One, "GET" | "HEAD") => Verb::Get,
        (What::One, "PUT" | "PATCH") => Verb::Update,
        (What::One, "DELETE") => Verb::Delete,
        (What::Decision(verb), "POST") => verb,
        (What::All | What::One | What::Decision(_), _) => return None,
    };
    Some((verb, kind))
}

/// What a path stands for.
#[derive(Clone, Copy)]
enum What {
    /// Every object of a kind.
    All,
    /// One object.
    One,
    /// A decision about one object, or about the hub.
    Decision(Verb),
}
