//! What can go wrong in the lab, each with the object, what was found and the next step.

use std::path::{Path, PathBuf};

/// An error of the lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The machine lacks something, or the caller may not do what is needed.
    #[error("{what}: {found}; {next}")]
    Machine {
        /// What was looked at.
        what: String,
        /// What was found there.
        found: String,
        /// What to do about it.
        next: String,
    },
    /// A command of the machine failed.
    #[error("command `{command}` ended with {status}: {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// What it wrote to its error stream.
        stderr: String,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file of the lab has a content that the lab did not write.
    #[error("{} is not what the lab wrote: {reason}; `lab down` removes what it belongs to", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("cannot make the certificate of {subject}: {source}")]
    Certificate {
        /// Whom the certificate is for.
        subject: String,
        /// The library's answer.
        source: rcgen::Error,
    },
    /// A cluster's API server refused something.
    #[error("{cluster}: cannot {action}: {source}")]
    Kubernetes {
        /// The cluster's name.
        cluster: String,
        /// What was tried.
        action: String,
        /// The client's answer.
        source: Box<kube::Error>,
    },
    /// A kubeconfig cannot be used.
    #[error("kubeconfig {}: {reason}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A part did not come up.
    #[error("{part} did not come up: {reason}\nlast lines of {}:\n{tail}", log.display())]
    NotReady {
        /// The part, with its cluster or node.
        part: String,
        /// What was waited for, and how long.
        reason: String,
        /// Its log file.
        log: PathBuf,
        /// The end of that log.
        tail: String,
    },
    /// A name that this lab does not have.
    #[error("this lab has no {kind} `{name}`; it has: {known}")]
    Unknown {
        /// cluster, node or endpoint.
        kind: &'static str,
        /// The name that was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// An argument out of its range.
    #[error("{field} is {found}, expected {expected}")]
    Argument {
        /// The argument.
        field: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// Something only the lab's own clusters can do, asked of a cluster that somebody else made.
    #[error(
        "{action} needs clusters that the lab made, and {cluster} comes from MERIDIAN_KUBECONFIGS; unset it, or leave this test out"
    )]
    NotOurs {
        /// What was asked for.
        action: &'static str,
        /// The cluster.
        cluster: String,
    },
}

/// Short for results of the lab.
pub type Result<T, E = LabError> = std::result::Result<T, E>;

/// Turns a file error into [`LabError::File`]: `read(path).map_err(file("read", path))`.
pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LabError {
    let path = path.to_owned();
    move |source| LabError::File {
        action,
        path,
        source,
    }
}

/// Turns a client error into [`LabError::Kubernetes`].
pub(crate) fn kubernetes(
    cluster: &str,
    action: impl Into<String>,
) -> impl FnOnce(kube::Error) -> LabError {
    let (cluster, action) = (cluster.to_owned(), action.into());
    move |source| LabError::Kubernetes {
        cluster,
        action,
        source: Box::new(source),
    }
}
