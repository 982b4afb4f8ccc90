//! The life of one supervised process, as a pure state machine: [`next`] takes a state and an event and says what to do.

use std::time::{Duration, Instant};

/// A process that ran this long was healthy: the next restart is quick again.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// Where a supervised process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It does not run and shall not.
    Stopped,
    /// It will be started at `at`; `attempt` starts have failed in a row.
    Waiting {
        /// When to start it.
        at: Instant,
        /// Failed starts in a row.
        attempt: u32,
    },
    /// It runs.
    Running {
        /// Its process id.
        pid: i32,
        /// Since when.
        since: Instant,
        /// Failed starts in a row before this one.
        attempt: u32,
    },
    /// It was asked to end.
    Stopping {
        /// Its process id.
        pid: i32,
        /// When it is killed.
        kill_at: Instant,
        /// `true`: it is started again afterwards.
        again: bool,
        /// `true`: it has been killed.
        killed: bool,
    },
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It shall run.
    Want,
    /// It shall not run.
    Unwant,
    /// It shall end and be started again.
    Restart,
    /// The start that [`Action::Start`] asked for succeeded.
    Started {
        /// The new process id.
        pid: i32,
    },
    /// The start failed, or the process ended. `wait` is the jittered back-off to use if it must be started again.
    Ended {
        /// Time until the next start.
        wait: Duration,
    },
    /// Time has passed.
    Tick,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Start the process and report [`Event::Started`] or [`Event::Ended`].
    Start,
    /// Ask the process to end (SIGTERM).
    Terminate(i32),
    /// End it (SIGKILL).
    Kill(i32),
}

/// The failed starts in a row that a process which ends now will have had.
#[must_use]
pub fn attempts_after(phase: &Phase, now: Instant) -> u32 {
    match *phase {
        Phase::Running { since, attempt, .. } => {
            if now.saturating_duration_since(since) >= HEALTHY_AFTER {
                0
            } else {
                attempt.saturating_add(1)
            }
        }
        Phase::Waiting { attempt, .. } => attempt.saturating_add(1),
        Phase::Stopped | Phase::Stopping { .. } => 0,
    }
}

/// When [`Event::Tick`] is due.
#[must_use]
pub fn deadline(phase: &Phase) -> Option<Instant> {
    match *phase {
        Phase::Waiting { at, .. } => Some(at),
        Phase::Stopping {
            kill_at,
            killed: false,
            ..
        } => Some(kill_at),
        Phase::Stopped | Phase::Running { .. } | Phase::Stopping { .. } => None,
    }
}

/// The step. `grace` is how long a process may take to end before it is killed.
#[must_use]
pub fn next(phase: Phase, event: Event, now: Instant, grace: Duration) -> (Phase, Action) {
    match phase {
        Phase::Stopped => from_stopped(event, now, grace),
        Phase::Waiting { at, attempt } => from_waiting(at, attempt, event, now),
        Phase::Running { pid, .. } => from_running(pid, phase, event, now, grace),
        Phase::Stopping {
            pid,
            kill_at,
            again,
            killed,
        } => from_stopping(
            Ending {
                pid,
                kill_at,
                again,
                killed,
            },
            event,
            now,
        ),
    }
}

fn from_stopped(event: Event, now: Instant, grace: Duration) -> (Phase, Action) {
    match event {
        Event::Want | Event::Restart => (
            Phase::Waiting {
                at: now,
                attempt: 0,
            },
            Action::Start,
        ),
        // It was unwanted between its start and the report of it.
        Event::Started { pid } => (
            Phase::Stopping {
                pid,
                kill_at: now + grace,
                again: false,
                killed: false,
            },
            Action::Terminate(pid),
        ),
        Event::Unwant | Event::Ended { .. } | Event::Tick => (Phase::Stopped, Action::None),
    }
}

fn from_waiting(at: Instant, attempt: u32, event: Event, now: Instant) -> (Phase, Action) {
    let phase = Phase::Waiting { at, attempt };
    match event {
        Event::Unwant => (Phase::Stopped, Action::None),
        Event::Tick if now >= at => (phase, Action::Start),
        Event::Started { pid } => (
            Phase::Running {
                pid,
                since: now,
                attempt,
            },
            Action::None,
        ),
        Event::Ended { wait } => (
            Phase::Waiting {
                at: now + wait,
                attempt: attempts_after(&phase, now),
            },
            Action::None,
        ),
        Event::Want | Event::Restart | Event::Tick => (phase, Action::None),
    }
}

fn from_running(
    pid: i32,
    phase: Phase,
    event: Event,
    now: Instant,
    grace: Duration,
) -> (Phase, Action) {
    match event {
        Event::Unwant | Event::Restart => {
            let again = event == Event::Restart;
            (
                Phase::Stopping {
                    pid,
                    kill_at: now + grace,
                    again,
                    killed: false,
                },
                Action::Terminate(pid),
            )
        }
        Event::Ended { wait } => (
            Phase::Waiting {
                at: now + wait,
                attempt: attempts_after(&phase, now),
            },
            Action::None,
        ),
        Event::Want | Event::Started { .. } | Event::Tick => (phase, Action::None),
    }
}

#[derive(Clone, Copy)]
struct Ending {
    pid: i32,
    kill_at: Instant,
    again: bool,
    killed: bool,
}

fn from_stopping(ending: Ending, event: Event, now: Instant) -> (Phase, Action) {
    let Ending {
        pid,
        kill_at,
        again,
        killed,
    } = ending;
    let stopping = |again, killed| Phase::Stopping {
        pid,
        kill_at,
        again,
        killed,
    };
    match event {
        Event::Want | Event::Restart => (stopping(true, killed), Action::None),
        Event::Unwant => (stopping(false, killed), Action::None),
        Event::Tick if now >= kill_at && !killed => (stopping(again, true), Action::Kill(pid)),
        Event::Ended { .. } if again => (
            Phase::Waiting {
                at: now,
                attempt: 0,
            },
            Action::Start,
        ),
        Event::Ended { .. } => (Phase::Stopped, Action::None),
        Event::Started { .. } | Event::Tick => (stopping(again, killed), Action::None),
    }
}

#[cfg(test)]
mod tests;
