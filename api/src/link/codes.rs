//! Machine-readable reasons of `Outcome.code` and `Bye.code`. A reader treats an unknown code as a plain refusal.

/// Outcome: the agent does not know the kind, the operation or a value; a newer agent is needed.
pub const UNSUPPORTED: &str = "UNSUPPORTED";
/// Outcome: the body is not an object of its kind.
pub const MALFORMED: &str = "MALFORMED";
/// Outcome: the object breaks a rule of its kind.
pub const INVALID: &str = "INVALID";
/// Outcome: an object of that name exists and is not ours.
pub const FOREIGN_OBJECT: &str = "FOREIGN_OBJECT";
/// Outcome: another field manager owns a field that the hub sets.
pub const FIELD_CONFLICT: &str = "FIELD_CONFLICT";
/// Outcome: the revision is older than the one that the member holds.
pub const STALE_REVISION: &str = "STALE_REVISION";
/// Outcome: a deletion lacks its tombstone, or the tombstone is not above the member's revision.
pub const BAD_TOMBSTONE: &str = "BAD_TOMBSTONE";
/// Outcome: a data-bearing deletion waits for approval.
pub const NEEDS_CONFIRMATION: &str = "NEEDS_CONFIRMATION";
/// Outcome: an object that must come first is not there yet.
pub const WAITS_FOR_DEPENDENCY: &str = "WAITS_FOR_DEPENDENCY";
/// Outcome: the namespace does not exist on the member or is not the agent's.
pub const NO_NAMESPACE: &str = "NO_NAMESPACE";
/// Outcome: the member's API server cannot be reached or answers with errors of its own.
pub const API_UNAVAILABLE: &str = "API_UNAVAILABLE";
/// Outcome: applying is frozen.
pub const FROZEN: &str = "FROZEN";
/// Outcome, noted by the hub itself: the agent does not know the kind, so it was not told; a newer agent is needed.
pub const AGENT_TOO_OLD: &str = "AGENT_TOO_OLD";

/// Bye: this side stops.
pub const SHUTDOWN: &str = "SHUTDOWN";
/// Bye: a newer session of the same cluster took over.
pub const SUPERSEDED: &str = "SUPERSEDED";
/// Bye: the identity was revoked.
pub const REVOKED: &str = "REVOKED";
/// Bye: a frame broke the protocol; the message says how.
pub const PROTOCOL_ERROR: &str = "PROTOCOL_ERROR";
/// Bye: a body names another cluster than the certificate.
pub const IDENTITY_MISMATCH: &str = "IDENTITY_MISMATCH";
/// Bye: nothing was heard for longer than the idle limit.
pub const IDLE: &str = "IDLE";
/// Bye: no protocol version in common.
pub const VERSION: &str = "VERSION";
/// Bye: this hub is not the leader any more.
pub const NOT_LEADER: &str = "NOT_LEADER";
/// Bye: the certificate is accepted no more; the device key gets a new one (`Enroll.Recover`).
pub const CERTIFICATE: &str = "CERTIFICATE";
/// Bye: two devices may hold one identity; neither is served until a person has looked.
pub const QUARANTINED: &str = "QUARANTINED";
/// Bye: this side comes back at once, on another connection.
pub const RECONNECT: &str = "RECONNECT";
