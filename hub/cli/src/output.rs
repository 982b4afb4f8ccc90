//! What is printed: results to standard output, everything else to standard error.

mod audit;
mod ca;
mod debug;
mod describe;
mod hub;
mod lost;
mod table;

use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::Value;

pub(crate) use self::{
    audit::audit,
    ca::ca,
    debug::{log, log_lines, sessions, tasks},
    describe::describe,
    hub::{freezes, hub, released},
    lost::{losing, lost, lost_one},
    table::{Growing, table},
};
use crate::{args::Format, error::CliError};

/// Prints an object or a list in the form that was asked for.
pub(crate) fn show(
    value: &Value,
    table: impl FnOnce() -> String,
    format: Format,
) -> Result<(), CliError> {
    let text = match format {
        Format::Table => table(),
        Format::Json => format!("{value:#}\n"),
        Format::Yaml => yaml(value)?,
    };
    print(&text)
}

/// Prints a result.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Tells the person something that is not the result. Whoever closed standard error does not want to know.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Tells why the command failed.
pub(crate) fn report(error: &CliError) {
    let closed =
        matches!(error, CliError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe);
    if !closed {
        note(&format!("error: {error}"));
    }
}

pub(crate) fn yaml(value: &Value) -> Result<String, CliError> {
    serde_saphyr::to_string(value).map_err(|error| CliError::Output(io::Error::other(error)))
}

/// How long ago something was, in one unit: `5s`, `3m`, `2h`, `4d`.
///
/// A time that cannot be read is shown as it is; one in the future, by a clock that differs, as `0s`.
fn age(time: &str, now: Timestamp) -> String {
    let Ok(then) = time.parse::<Timestamp>() else {
        return time.to_owned();
    };
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long until something is, in one unit; `over` if it was.
fn remaining(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(then) if then > now => {
            // The age of `now` as seen from then.
            format!("in {}", age(&now.to_string(), then))
        }
        Ok(_) => "over".to_owned(),
        Err(_) => time.to_owned(),
    }
}

/// A text in an object; `-` where there is none.
fn text(object: &Value, pointer: &str) -> String {
    match object.pointer(pointer) {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(flag)) => flag.to_string(),
        _ => "-".to_owned(),
    }
}

/// The age of an observation, and whether its observer has gone since.
fn as_of(observed: &Value, now: Timestamp) -> String {
    match (observed["asOf"].as_str(), observed["stale"].as_bool()) {
        (None, _) => "never".to_owned(),
        (Some(time), Some(true)) => format!("{} ago, not connected", age(time, now)),
        (Some(time), _) => format!("{} ago", age(time, now)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ages_have_one_unit() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        for (time, shown) in [
            ("2026-01-02T00:00:00Z", "0s"),
            ("2026-01-02T00:00:09Z", "0s"),
            ("2026-01-01T23:58:01Z", "119s"),
            ("2026-01-01T23:58:00Z", "2m"),
            ("2026-01-01T22:00:00Z", "2h"),
            ("2025-12-30T00:00:00Z", "3d"),
            ("soon", "soon"),
        ] {
            assert_eq!(age(time, now), shown, "{time}");
        }
    }

    #[test]
    fn what_is_to_come_has_one_unit_until_it_is_over() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        assert_eq!(remaining("2026-01-02T00:30:00Z", now), "in 30m");
        assert_eq!(remaining("2026-01-02T00:00:00Z", now), "over");
        assert_eq!(remaining("-", now), "-");
    }

    #[test]
    fn an_observation_is_never_shown_without_its_age() {
        let now: Timestamp = "2026-01-02T00:00:10Z".parse().unwrap();
        let observed = json!({ "asOf": "2026-01-02T00:00:00Z", "stale": false });
        assert_eq!(as_of(&observed, now), "10s ago");
        let observed = json!({ "asOf": "2026-01-02T00:00:00Z", "stale": true });
        assert_eq!(as_of(&observed, now), "10s ago, not connected");
        assert_eq!(as_of(&Value::Null, now), "never");
    }
}
