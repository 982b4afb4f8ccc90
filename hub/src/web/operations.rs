//! What each path takes: the one list by which requests are checked.

/// Something that a request may carry beside its path and body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    /// `?dryRun=All`.
    DryRun,
    /// `?confirm=NAME`.
    Confirm,
    /// Header `If-Match`.
    IfMatch,
    /// Header `If-None-Match`.
    IfNoneMatch,
    /// Header `Idempotency-Key`.
    IdempotencyKey,
    /// `?limit=N`.
    Limit,
    /// `?continue=TOKEN`.
    Continue,
    /// `?watch=true`.
    Watch,
    /// `?resourceVersion=REVISION`.
    ResourceVersion,
    /// Header `Last-Event-ID`.
    LastEventId,
}

impl Parameter {
    /// All of them.
    pub(super) const ALL: [Self; 10] = [
        Self::DryRun,
        Self::Confirm,
        Self::IfMatch,
        Self::IfNoneMatch,
        Self::IdempotencyKey,
        Self::Limit,
        Self::Continue,
        Self::Watch,
        Self::ResourceVersion,
        Self::LastEventId,
    ];

    /// As it is spelled in a request.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DryRun => "dryRun",
            Self::Confirm => "confirm",
            Self::IfMatch => "If-Match",
            Self::IfNoneMatch => "If-None-Match",
            Self::IdempotencyKey => "Idempotency-Key",
            Self::Limit => "limit",
            Self::Continue => "continue",
            Self::Watch => "watch",
            Self::ResourceVersion => "resourceVersion",
            Self::LastEventId => "Last-Event-ID",
        }
    }

    /// Whether it is a header, and otherwise a part of the query.
    pub(super) fn is_header(self) -> bool {
        matches!(
            self,
            Self::IfMatch | Self::IfNoneMatch | Self::IdempotencyKey | Self::LastEventId
        )
    }
}

/// One method of one path that needs a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) path: &'static str,
    pub(super) method: &'static str,
    pub(super) parameters: &'static [Parameter],
}

const READ: &[Parameter] = &[Parameter::IfNoneMatch];
const LIST: &[Parameter] = &[
    Parameter::Limit,
    Parameter::Continue,
    Parameter::IfNoneMatch,
    Parameter::Watch,
    Parameter::ResourceVersion,
    Parameter::LastEventId,
];
const OBJECT: &[Parameter] = &[
    Parameter::IfNoneMatch,
    Parameter::Watch,
    Parameter::ResourceVersion,
    Parameter::LastEventId,
];
const CREATE: &[Parameter] = &[Parameter::DryRun, Parameter::IdempotencyKey];
const CHANGE: &[Parameter] = &[Parameter::DryRun, Parameter::IfMatch];
const DELETE: &[Parameter] = &[Parameter::DryRun, Parameter::Confirm, Parameter::IfMatch];
/// The words, or the name of a list, say what is approved.
const APPROVE: &[Parameter] = &[Parameter::DryRun];

const fn operation(
    method: &'static str,
    path: &'static str,
    parameters: &'static [Parameter],
) -> Operation {
    Operation {
        path,
        method,
        parameters,
    }
}

/// Every operation that needs a token.
pub(super) const OPERATIONS: &[Operation] = &[
    operation("GET", "/api/v1/clusters", LIST),
    operation("GET", "/api/v1/clusters/{name}", OBJECT),
    operation("DELETE", "/api/v1/clusters/{name}", DELETE),
    operation("POST", "/api/v1/clusters/{name}/approve", APPROVE),
    operation("POST", "/api/v1/clusters/{name}/deny", CHANGE),
    operation("POST", "/api/v1/clusters/{name}/release", CHANGE),
    operation("POST", "/api/v1/clusters/{name}/lose", DELETE),
    operation("GET", "/api/v1/lostclusters", READ),
    operation("GET", "/api/v1/tokens", LIST),
    operation("POST", "/api/v1/tokens", CREATE),
    operation("GET", "/api/v1/tokens/{name}", OBJECT),
    operation("DELETE", "/api/v1/tokens/{name}", DELETE),
    operation("GET", "/api/v1/remoteclusters", LIST),
    operation("GET", "/api/v1/remoteclusters/{name}", OBJECT),
    operation("GET", "/api/v1/activeactivedatabases", LIST),
    operation("POST", "/api/v1/activeactivedatabases", CREATE),
    operation("GET", "/api/v1/activeactivedatabases/{name}", OBJECT),
    operation("PUT", "/api/v1/activeactivedatabases/{name}", CHANGE),
    operation("PATCH", "/api/v1/activeactivedatabases/{name}", CHANGE),
    operation("DELETE", "/api/v1/activeactivedatabases/{name}", DELETE),
    operation("GET", "/api/v1/apitokens", LIST),
    operation("POST", "/api/v1/apitokens", CREATE),
    operation("GET", "/api/v1/apitokens/{name}", OBJECT),
    operation("DELETE", "/api/v1/apitokens/{name}", DELETE),
    operation(
        "GET",
        "/api/v1/audit",
        &[Parameter::Limit, Parameter::Continue],
    ),
    operation("GET", "/api/v1/audit/export", &[]),
    operation("GET", "/api/v1/freezes", READ),
    operation("POST", "/api/v1/freezes/{name}/release", APPROVE),
    operation("GET", "/api/v1/hub", READ),
    operation("GET", "/api/v1/hub/backup", &[]),
    operation("POST", "/api/v1/hub/adopt", &[Parameter::DryRun]),
    operation("GET", "/api/v1/hub/ca", READ),
    operation("POST", "/api/v1/hub/ca/rotate", &[Parameter::DryRun]),
    operation("POST", "/api/v1/hub/ca/advance", &[Parameter::DryRun]),
    operation("POST", "/api/v1/hub/ca/abort", &[Parameter::DryRun]),
    operation("GET", "/debug/sessions", &[]),
    operation("GET", "/debug/tasks", &[]),
    operation("GET", "/debug/log", &[]),
    operation("PUT", "/debug/log", &[]),
    operation("GET", "/debug/log/lines", &[]),
    operation("GET", "/debug/settings", &[]),
];

/// What a request of this method to this path may carry; a HEAD is a GET without its body.
pub(super) fn taken(method: &str, path: &str) -> &'static [Parameter] {
    let method = if method == "HEAD" { "GET" } else { method };
    OPERATIONS
        .iter()
        .find(|one| one.method == method && one.path == path)
        .map_or(&[], |one| one.parameters)
}
