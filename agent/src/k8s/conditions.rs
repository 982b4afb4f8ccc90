//! Conditions in Kubernetes' style, computed without a clock of their own.

use meridian_api::crds::shared::Condition;

/// What a controller found out about one aspect of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Condition type, CamelCase.
    pub type_: &'static str,
    /// `Some(true)` True, `Some(false)` False, `None` Unknown.
    pub status: Option<bool>,
    /// CamelCase reason.
    pub reason: &'static str,
    /// Text for people: what, why and the next step.
    pub message: String,
}

impl Finding {
    /// A finding that holds.
    #[must_use]
    pub fn yes(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            type_,
            status: Some(true),
            reason,
            message: message.into(),
        }
    }

    /// A finding that does not hold.
    #[must_use]
    pub fn no(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            type_,
            status: Some(false),
            reason,
            message: message.into(),
        }
    }

    /// A finding about which nothing is known now.
    #[must_use]
    pub fn unknown(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            type_,
            status: None,
            reason,
            message: message.into(),
        }
    }
}

/// The conditions that `findings` make of an object of this `generation`, sorted by type.
///
/// `now` is RFC 3339. A condition keeps its transition time while its status stays the same, so equal findings give equal conditions.
/// Types that are not found any more disappear.
#[must_use]
pub fn conditions(
    previous: &[Condition],
    findings: &[Finding],
    generation: Option<i64>,
    now: &str,
) -> Vec<Condition> {
    let mut all: Vec<Condition> = findings
        .iter()
        .map(|finding| {
            let status = match finding.status {
                Some(true) => "True",
                Some(false) => "False",
                None => "Unknown",
            };
            let before = previous
                .iter()
                .find(|old| old.type_ == finding.type_ && old.status == status);
            Condition {
                type_: finding.type_.to_owned(),
                status: status.to_owned(),
                reason: finding.reason.to_owned(),
                message: finding.message.clone(),
                observed_generation: generation,
                last_transition_time: before
                    .map_or_else(|| now.to_owned(), |old| old.last_transition_time.clone()),
            }
        })
        .collect();
    all.sort_by(|a, b| a.type_.cmp(&b.type_));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let first = conditions(
            &[],
            &[Finding::no("Ready", "Waiting", "0 of 3")],
            Some(1),
            "t10",
        );
        let same = conditions(
            &first,
            &[Finding::no("Ready", "Waiting", "1 of 3")],
            Some(2),
            "t20",
        );
        let turned = conditions(
            &same,
            &[Finding::yes("Ready", "AllReady", "3 of 3")],
            Some(2),
            "t30",
        );
        assert_eq!(same[0].last_transition_time, "t10");
        assert_eq!(
            (same[0].message.as_str(), same[0].observed_generation),
            ("1 of 3", Some(2))
        );
        assert_eq!(turned[0].last_transition_time, "t30");
    }

    #[test]
    fn conditions_are_sorted_and_those_no_longer_found_disappear() {
        let first = conditions(
            &[],
            &[Finding::yes("Z", "R", ""), Finding::unknown("A", "R", "")],
            None,
            "t1",
        );
        assert_eq!(
            first.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(),
            ["A", "Z"]
        );
        assert_eq!(first[0].status, "Unknown");
        assert!(conditions(&first, &[], None, "t2").is_empty());
    }
}
