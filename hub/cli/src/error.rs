//! Why a command did not do what it was asked, and its exit code.

use std::{io, path::PathBuf, process::ExitCode};

use meridian_api::web::Problem;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Something is missing or wrong in what was typed or configured.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A document is not what it should be.
    #[error("{place}: {reason}")]
    Document {
        /// File and number of the document.
        place: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The hub cannot be reached.
    #[error("the hub {hub} cannot be reached: {reason}")]
    Unreachable {
        /// Its address.
        hub: String,
        /// Why not, and what to check.
        reason: String,
    },
    /// The API server of a member cannot be asked.
    #[error("the cluster cannot be read: {0}; check --kubeconfig, --context and the network")]
    Cluster(String),
    /// The hub answered with a problem.
    #[error("{}", sentence(.0))]
    Problem(Box<Problem>),
    /// The hub's answer cannot be understood.
    #[error(
        "the hub's answer to {request} cannot be understood: {reason}; are hub and CLI of versions that fit?"
    )]
    Answer {
        /// The request.
        request: String,
        /// Why not.
        reason: String,
    },
    /// The audit log is not as it was written.
    #[error("{0}")]
    Broken(String),
    /// The person did not confirm.
    #[error("nothing was done: {0}")]
    NotConfirmed(String),
    /// The hub or its OpenID provider did not let the person in.
    #[error("not signed in: {0}")]
    NotSignedIn(String),
    /// It took too long.
    #[error("{0}")]
    TimedOut(String),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused, 5 not reachable.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::File { .. } | Self::Document { .. } => 2,
            Self::Problem(problem) => match problem.status {
                404 => 3,
                503 => 5,
                400..=499 => 4,
                _ => 1,
            },
            Self::NotConfirmed(_) | Self::NotSignedIn(_) => 4,
            Self::Unreachable { .. } | Self::Cluster(_) => 5,
            // Who closes the pipe has read enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Answer { .. } | Self::Broken(_) | Self::TimedOut(_) | Self::Output(_) => 1,
        }
    }
}

fn sentence(problem: &Problem) -> String {
    let mut text = match (problem.detail.as_str(), problem.title.as_str()) {
        ("", "") => format!("the hub answered with status {}", problem.status),
        ("", title) => title.to_owned(),
        (detail, _) => detail.to_owned(),
    };
    for error in &problem.errors {
        let error = error.to_string();
        // A single broken rule may already be the detail.
        if !text.contains(&error) {
            text.push_str("\n  ");
            text.push_str(&error);
        }
    }
    if let Some(instance) = problem
        .instance
        .as_deref()
        .filter(|_| problem.status >= 500)
    {
        text.push_str(&format!("\n  request {instance}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use meridian_api::validate::FieldError;

    use super::*;

    fn problem(status: u16) -> Problem {
        serde_json::from_value(serde_json::json!({ "status": status, "detail": "why" })).unwrap()
    }

    #[test]
    fn each_kind_of_failure_has_its_exit_code() {
        for (status, code) in [
            (404, 3),
            (409, 4),
            (422, 4),
            (401, 4),
            (403, 4),
            (503, 5),
            (500, 1),
            (502, 1),
        ] {
            assert_eq!(
                CliError::Problem(Box::new(problem(status))).code(),
                code,
                "{status}"
            );
        }
        assert_eq!(CliError::Usage(String::new()).code(), 2);
        assert_eq!(CliError::NotConfirmed(String::new()).code(), 4);
        let unreachable = CliError::Unreachable {
            hub: String::new(),
            reason: String::new(),
        };
        assert_eq!(unreachable.code(), 5);
        assert_eq!(CliError::Output(io::ErrorKind::BrokenPipe.into()).code(), 0);
    }

    #[test]
    fn broken_rules_are_listed_below_the_sentence_and_not_twice() {
        let rule = |field: &str| FieldError {
            field: field.into(),
            found: "1".into(),
            expected: "2".into(),
            remedy: "do".into(),
        };
        let mut two = problem(422);
        two.errors = vec![rule("spec.a"), rule("spec.b")];
        assert_eq!(
            CliError::Problem(Box::new(two)).to_string(),
            "why\n  spec.a: found 1, expected 2; do\n  spec.b: found 1, expected 2; do"
        );
        let mut one = problem(422);
        one.detail = format!("database: {}", rule("spec.a"));
        one.errors = vec![rule("spec.a")];
        assert_eq!(
            CliError::Problem(Box::new(one)).to_string(),
            "database: spec.a: found 1, expected 2; do"
        );
    }
}
