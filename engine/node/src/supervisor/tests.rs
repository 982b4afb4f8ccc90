use super::*;
use proptest::prelude::*;

const GRACE: Duration = Duration::from_secs(20);
const WAIT: Duration = Duration::from_secs(1);
const STARTED: Event = Event::Started { pid: 7 };
const ENDED: Event = Event::Ended { wait: WAIT };

fn waiting(at: Instant, attempt: u32) -> Phase {
    Phase::Waiting { at, attempt }
}

fn stopping(kill_at: Instant, again: bool, killed: bool) -> Phase {
    Phase::Stopping {
        pid: 7,
        kill_at,
        again,
        killed,
    }
}

const HOUR: Duration = Duration::from_secs(3600);

type Row = (Event, Phase, Action);

fn check(phase: Phase, now: Instant, rows: &[Row]) {
    for (event, expected, action) in rows {
        assert_eq!(
            next(phase, *event, now, GRACE),
            (*expected, *action),
            "{phase:?} on {event:?}"
        );
    }
}

#[test]
fn stopped_answers_every_event() {
    let now = crate::clock::now();
    let rows = [
        (Event::Want, waiting(now, 0), Action::Start),
        (Event::Unwant, Phase::Stopped, Action::None),
        (Event::Restart, waiting(now, 0), Action::Start),
        (
            STARTED,
            stopping(now + GRACE, false, false),
            Action::Terminate(7),
        ),
        (ENDED, Phase::Stopped, Action::None),
        (Event::Tick, Phase::Stopped, Action::None),
    ];
    check(Phase::Stopped, now, &rows);
}

#[test]
fn waiting_answers_every_event() {
    let now = crate::clock::now();
    let later = waiting(now + HOUR, 3);
    let rows = [
        (Event::Want, later, Action::None),
        (Event::Unwant, Phase::Stopped, Action::None),
        (Event::Restart, later, Action::None),
        (
            STARTED,
            Phase::Running {
                pid: 7,
                since: now,
                attempt: 3,
            },
            Action::None,
        ),
        (ENDED, waiting(now + WAIT, 4), Action::None),
        (Event::Tick, later, Action::None),
    ];
    check(later, now, &rows);
    check(
        waiting(now, 3),
        now,
        &[(Event::Tick, waiting(now, 3), Action::Start)],
    );
}

#[test]
fn running_answers_every_event() {
    let now = crate::clock::now() + HEALTHY_AFTER;
    let young = Phase::Running {
        pid: 7,
        since: now,
        attempt: 2,
    };
    let rows = [
        (Event::Want, young, Action::None),
        (
            Event::Unwant,
            stopping(now + GRACE, false, false),
            Action::Terminate(7),
        ),
        (
            Event::Restart,
            stopping(now + GRACE, true, false),
            Action::Terminate(7),
        ),
        (STARTED, young, Action::None),
        (ENDED, waiting(now + WAIT, 3), Action::None),
        (Event::Tick, young, Action::None),
    ];
    check(young, now, &rows);
    let healthy = Phase::Running {
        pid: 7,
        since: now - HEALTHY_AFTER,
        attempt: 2,
    };
    check(
        healthy,
        now,
        &[(ENDED, waiting(now + WAIT, 0), Action::None)],
    );
}

#[test]
fn stopping_answers_every_event() {
    let now = crate::clock::now();
    let at = now + HOUR;
    let rows = [
        (Event::Want, stopping(at, true, false), Action::None),
        (Event::Unwant, stopping(at, false, false), Action::None),
        (Event::Restart, stopping(at, true, false), Action::None),
        (STARTED, stopping(at, false, false), Action::None),
        (ENDED, Phase::Stopped, Action::None),
        (Event::Tick, stopping(at, false, false), Action::None),
    ];
    check(stopping(at, false, false), now, &rows);
    check(
        stopping(at, true, false),
        now,
        &[(ENDED, waiting(now, 0), Action::Start)],
    );
    check(
        stopping(now, true, false),
        now,
        &[(Event::Tick, stopping(now, true, true), Action::Kill(7))],
    );
    check(
        stopping(now, true, true),
        now,
        &[(Event::Tick, stopping(now, true, true), Action::None)],
    );
}

proptest! {
    #[test]
    fn an_unwanted_process_always_ends_and_is_never_started(events in proptest::collection::vec(0_u8..5, 0..40)) {
        let mut now = crate::clock::now();
        let mut phase = Phase::Stopped;
        let mut alive = false;
        let mut step = |phase: &mut Phase, event: Event, now: Instant| {
            let (after, action) = next(*phase, event, now, GRACE);
            *phase = after;
            if action == Action::Start {
                *phase = next(*phase, STARTED, now, GRACE).0;
                alive = true;
            }
            if matches!(event, Event::Ended { .. }) { alive = matches!(action, Action::Start); }
            alive
        };
        for event in events {
            now += Duration::from_secs(3);
            let running = matches!(phase, Phase::Running { .. } | Phase::Stopping { .. });
            let event = match event {
                0 => Event::Want,
                1 => Event::Unwant,
                2 => Event::Restart,
                3 if running => ENDED,
                _ => Event::Tick,
            };
            step(&mut phase, event, now);
        }
        step(&mut phase, Event::Unwant, now);
        if matches!(phase, Phase::Stopping { .. }) {
            now += GRACE;
            let (after, action) = next(phase, Event::Tick, now, GRACE);
            prop_assert!(matches!(action, Action::Kill(_) | Action::None));
            phase = next(after, ENDED, now, GRACE).0;
        }
        prop_assert_eq!(phase, Phase::Stopped);
    }
}
