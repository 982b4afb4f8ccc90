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

#[test]
fn every_phase_answers_every_event() {
    let now = crate::clock::now() + HEALTHY_AFTER * 2;
    let later = now + GRACE;
    let young = Phase::Running {
        pid: 7,
        since: now,
        attempt: 2,
    };
    let old = Phase::Running {
        pid: 7,
        since: now - HEALTHY_AFTER,
        attempt: 2,
    };
    let fresh = Phase::Running {
        pid: 7,
        since: now,
        attempt: 3,
    };
    let table = [
        (Phase::Stopped, Event::Want, waiting(now, 0), Action::Start),
        (Phase::Stopped, Event::Unwant, Phase::Stopped, Action::None),
        (
            Phase::Stopped,
            Event::Restart,
            waiting(now, 0),
            Action::Start,
        ),
        (
            Phase::Stopped,
            STARTED,
            stopping(later, false, false),
            Action::Terminate(7),
        ),
        (Phase::Stopped, ENDED, Phase::Stopped, Action::None),
        (Phase::Stopped, Event::Tick, Phase::Stopped, Action::None),
        (
            waiting(later, 3),
            Event::Want,
            waiting(later, 3),
            Action::None,
        ),
        (
            waiting(later, 3),
            Event::Unwant,
            Phase::Stopped,
            Action::None,
        ),
        (
            waiting(later, 3),
            Event::Restart,
            waiting(later, 3),
            Action::None,
        ),
        (waiting(now, 3), STARTED, fresh, Action::None),
        (waiting(now, 3), ENDED, waiting(now + WAIT, 4), Action::None),
        (
            waiting(later, 3),
            Event::Tick,
            waiting(later, 3),
            Action::None,
        ),
        (waiting(now, 3), Event::Tick, waiting(now, 3), Action::Start),
        (young, Event::Want, young, Action::None),
        (
            young,
            Event::Unwant,
            stopping(later, false, false),
            Action::Terminate(7),
        ),
        (
            young,
            Event::Restart,
            stopping(later, true, false),
            Action::Terminate(7),
        ),
        (young, STARTED, young, Action::None),
        (young, ENDED, waiting(now + WAIT, 3), Action::None),
        (old, ENDED, waiting(now + WAIT, 0), Action::None),
        (young, Event::Tick, young, Action::None),
        (
            stopping(later, false, false),
            Event::Want,
            stopping(later, true, false),
            Action::None,
        ),
        (
            stopping(later, true, false),
            Event::Unwant,
            stopping(later, false, false),
            Action::None,
        ),
        (
            stopping(later, false, false),
            Event::Restart,
            stopping(later, true, false),
            Action::None,
        ),
        (
            stopping(later, false, false),
            STARTED,
            stopping(later, false, false),
            Action::None,
        ),
        (
            stopping(later, false, false),
            ENDED,
            Phase::Stopped,
            Action::None,
        ),
        (
            stopping(later, true, false),
            ENDED,
            waiting(now, 0),
            Action::Start,
        ),
        (
            stopping(later, true, false),
            Event::Tick,
            stopping(later, true, false),
            Action::None,
        ),
        (
            stopping(now, true, false),
            Event::Tick,
            stopping(now, true, true),
            Action::Kill(7),
        ),
        (
            stopping(now, true, true),
            Event::Tick,
            stopping(now, true, true),
            Action::None,
        ),
    ];
    for (phase, event, expected, action) in table {
        assert_eq!(
            next(phase, event, now, GRACE),
            (expected, action),
            "{phase:?} on {event:?}"
        );
    }
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
