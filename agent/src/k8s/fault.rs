//! One classification of everything that can go wrong with an object. It alone decides when the object is looked at
//! again and under which reason its Event appears.

use std::time::Duration;

use meridian_api::installation::lacking;

/// Looks in vain after which it is told what an object waits for: these take about half a minute.
const PATIENCE: u32 = 4;

/// The class of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The object's spec is wrong. Only a change of the object helps.
    Invalid,
    /// A name we need is taken by an object that is not ours.
    Foreign,
    /// The object waits for something that a person, the hub or another controller must bring.
    Waiting,
    /// Somebody wrote at the same time: look again at once.
    Conflict,
    /// The API server understood and refused (forbidden, immutable field, quota).
    Refused,
    /// The API server could not be asked or failed.
    Unavailable,
}

impl Fault {
    /// All classes.
    pub const ALL: [Self; 6] = [
        Self::Invalid,
        Self::Foreign,
        Self::Waiting,
        Self::Conflict,
        Self::Refused,
        Self::Unavailable,
    ];

    /// Reason of the Event, and value of the metric's label.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid",
            Self::Foreign => "ForeignObject",
            Self::Waiting => "Waiting",
            Self::Conflict => "Conflict",
            Self::Refused => "Refused",
            Self::Unavailable => "Unavailable",
        }
    }

    /// Whether a person should read an Event about it after `failures` failures in a row. What an object waits for comes
    /// soon where everything was applied together, so that is told once it has not come for a while. The rest heals by
    /// itself and is only counted and logged; without an API server there could be no Event either.
    #[must_use]
    pub fn is_news(self, failures: u32) -> bool {
        match self {
            Self::Invalid | Self::Foreign | Self::Refused => true,
            Self::Waiting => failures >= PATIENCE,
            Self::Conflict | Self::Unavailable => false,
        }
    }

    /// How long to wait before the object is looked at again, if nothing wakes it earlier.
    ///
    /// `failures` counts the failures in a row (≥ 1); `jitter` lies in `0.0..1.0`. The delay doubles from the class's
    /// base to its cap, and the jitter takes up to half of it away, so that many objects do not come back together.
    #[must_use]
    pub fn delay(self, failures: u32, jitter: f64) -> Duration {
        let (base, cap) = match self {
            Self::Invalid => (60.0, 300.0),
            Self::Foreign => (10.0, 60.0),
            Self::Waiting => (5.0, 30.0),
            Self::Conflict => (0.05, 2.0),
            Self::Refused => (5.0, 120.0),
            Self::Unavailable => (0.5, 30.0),
        };
        let exponent = failures.saturating_sub(1).min(16);
        let full = (base * f64::from(1_u32 << exponent)).min(cap);
        Duration::from_secs_f64(full * (1.0 - jitter.clamp(0.0, 1.0) / 2.0))
    }

    /// The class of an answer of the API server.
    #[must_use]
    pub fn of(error: &kube::Error) -> Self {
        let kube::Error::Api(status) = error else {
            return Self::Unavailable;
        };
        match status.code {
            409 => Self::Conflict,
            // What is wrong is what was sent, or the definition; the API server is well.
            500 if !lacking::undeclared(&status.message).is_empty() => Self::Refused,
            400..=499 if status.code != 429 => Self::Refused,
            _ => Self::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn a_person_reads_of_what_only_a_person_can_mend_and_of_what_does_not_come() {
        let told = |failures: u32| Fault::ALL.map(|fault| fault.is_news(failures));
        assert_eq!(told(1), [true, true, false, false, true, false]);
        assert_eq!(told(PATIENCE), [true, true, true, false, true, false]);
        let waited: Duration = (1..PATIENCE).map(|n| Fault::Waiting.delay(n, 0.0)).sum();
        assert!(waited <= Duration::from_secs(35), "{waited:?}");
    }

    #[test]
    fn delays_grow_with_failures_up_to_a_cap_and_jitter_takes_at_most_half() {
        for fault in Fault::ALL {
            let mut last = Duration::ZERO;
            for failures in 1..40 {
                let full = fault.delay(failures, 0.0);
                assert!(full >= last, "{fault:?} shrank at failure {failures}");
                assert!(full <= Duration::from_secs(300), "{fault:?} has no cap");
                assert_eq!(fault.delay(failures, 1.0), full / 2);
                last = full;
            }
        }
    }

    #[test]
    fn answers_of_the_api_server_are_classified_by_their_code() {
        let of = |code| {
            Fault::of(&kube::Error::Api(
                Status {
                    code,
                    ..Status::default()
                }
                .boxed(),
            ))
        };
        assert_eq!(
            [409, 403, 422, 429, 500].map(of),
            [
                Fault::Conflict,
                Fault::Refused,
                Fault::Refused,
                Fault::Unavailable,
                Fault::Unavailable
            ]
        );
        let message = "failed to create typed patch object (ns/a; g/v1, Kind=K): .spec.x: field not declared in schema";
        let undeclared = Status {
            code: 500,
            message: message.to_owned(),
            ..Status::default()
        };
        let found = Fault::of(&kube::Error::Api(undeclared.boxed()));
        assert_eq!(found, Fault::Refused);
    }
}
