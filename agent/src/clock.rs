//! The one place where the agent reads a wall clock. Everything else takes `now` as an argument.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The wall clock now, as Kubernetes' `metav1.Time`. Shown to people and written into conditions; never compared
/// with a time that another process wrote.
#[must_use]
pub fn now() -> Time {
    Time(Timestamp::now())
}

/// [`now`] as RFC 3339 with seconds, the form of condition times.
#[must_use]
pub fn now_text() -> String {
    now().0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
