//! Deletes objects, after a question where data is lost.

use std::{
    io::{self, BufRead, IsTerminal},
    time::Duration,
};

use http::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::{escaped, object_path};
use crate::{
    args::{DeleteArgs, Deletion},
    client::Hub,
    error::CliError,
    kinds::Kind,
    output,
};

/// Time between two looks whether an object is gone.
const LOOK: Duration = Duration::from_millis(500);

/// Deletes an object.
pub(crate) async fn delete(hub: &Hub, args: DeleteArgs) -> Result<(), CliError> {
    let DeleteArgs { kind, name, how } = args;
    if !how.yes {
        confirm(kind, &name)?;
    }
    let path = format!("{}?confirm={}", object_path(kind, &name), escaped(&name));
    if how.wait && kind == Kind::Cluster {
        when_it_may(hub, &path, &how).await?;
    } else {
        hub.call(Method::DELETE, &path, None).await?;
    }
    let at_once = kind != Kind::ActiveActiveDatabase;
    if how.wait && !at_once {
        gone(hub, kind, &name, &how).await?;
    }
    let done = if at_once || how.wait {
        "deleted"
    } else {
        "is being deleted"
    };
    output::print(&format!("{}/{name} {done}\n", kind.noun()))
}

/// Forgets a token of either kind; no data is lost, so nothing is asked.
pub(crate) async fn token(hub: &Hub, kind: Kind, name: &str) -> Result<(), CliError> {
    hub.call(Method::DELETE, &object_path(kind, name), None)
        .await?;
    output::print(&format!("{}/{name} deleted\n", kind.noun()))
}

/// Removes what something else still holds, as soon as it does not.
async fn when_it_may(hub: &Hub, path: &str, how: &Deletion) -> Result<(), CliError> {
    let deadline = Instant::now() + how.timeout;
    let mut told = String::new();
    loop {
        let refused = match hub.call(Method::DELETE, path, None).await {
            Err(CliError::Problem(problem)) if problem.status == 409 => problem,
            other => return other.map(drop),
        };
        if refused.detail != told {
            output::note(&format!("waiting: {}", refused.detail));
            told.clone_from(&refused.detail);
        }
        let next = Instant::now() + LOOK;
        if next > deadline {
            return Err(CliError::TimedOut(format!(
                "after {} s: {}",
                how.timeout.as_secs(),
                refused.detail
            )));
        }
        sleep_until(next).await;
    }
}

/// Waits until the hub does not know the object any more.
async fn gone(hub: &Hub, kind: Kind, name: &str, how: &Deletion) -> Result<(), CliError> {
    let deadline = Instant::now() + how.timeout;
    let mut told = false;
    loop {
        match hub.call(Method::GET, &object_path(kind, name), None).await {
            Err(CliError::Problem(problem)) if problem.status == 404 => return Ok(()),
            // The hub may be restarted while its members delete; the deletion is stored.
            Err(CliError::Unreachable { .. }) => {}
            Ok(answer) => {
                if let Some(why) = frozen(&answer).filter(|_| !told) {
                    output::note(&why);
                    told = true;
                }
            }
            Err(error) => return Err(error),
        }
        let next = Instant::now() + LOOK;
        if next > deadline {
            return Err(CliError::TimedOut(format!(
                "{} {name:?} is still being deleted after {} s; `meridian describe {} {name}` says what it waits for",
                kind.noun(),
                how.timeout.as_secs(),
                kind.noun(),
            )));
        }
        sleep_until(next).await;
    }
}

/// Why the deletion does not go on, if it is frozen with others.
fn frozen(answer: &Value) -> Option<String> {
    let conditions = answer.pointer("/status/conditions")?.as_array()?;
    let frozen = conditions
        .iter()
        .find(|one| one["reason"] == "DeletionsFrozen")?;
    Some(frozen["message"].as_str()?.to_owned())
}

/// Asks for the name, as the only answer that is not given by habit.
fn confirm(kind: Kind, name: &str) -> Result<(), CliError> {
    let noun = kind.noun();
    if !io::stdin().is_terminal() {
        return Err(CliError::Usage(format!(
            "deleting {noun} {name:?} {}: give --yes where nobody can be asked",
            kind.deletion()
        )));
    }
    ask_for(
        &format!("Deleting {noun} {name:?} {}", kind.deletion()),
        name,
    )
}

/// As for a deletion: something is meant that cannot be taken back.
pub(super) fn confirm_that(what: &str, name: &str) -> Result<(), CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::Usage(format!(
            "{what}: give --yes where nobody can be asked"
        )));
    }
    ask_for(what, name)
}

fn ask_for(what: &str, name: &str) -> Result<(), CliError> {
    output::note(&format!("{what}. Type its name to go on:"));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == name {
        Ok(())
    } else {
        Err(CliError::NotConfirmed(format!(
            "found {:?}, expected {name:?}",
            answer.trim()
        )))
    }
}
