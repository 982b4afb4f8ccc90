//! Growth of the nodes' volumes. Pure: what is observed gives one step.
//!
//! A StatefulSet's claim template cannot be changed. So the claims are raised first, then the StatefulSet is deleted
//! without its pods and made again with the new template; the pods, whose template is the same, are not restarted.

use meridian_api::crds::cluster::PersistenceStatus;

use super::observe::Claim;

/// The one thing to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    None,
    /// Raise these claims.
    Raise(Vec<String>),
    /// All claims are raised: make the StatefulSet again.
    Recreate,
}

/// The next step. `wanted` is the size that the spec asks for and `template` that of the StatefulSet, bytes; `claims` are
/// those of the pods that shall exist.
pub(super) fn next(wanted: i64, template: i64, claims: &[Claim]) -> Step {
    let small: Vec<String> = claims
        .iter()
        .filter(|claim| claim.requested < wanted)
        .map(|claim| claim.name.clone())
        .collect();
    if wanted < template {
        return Step::None;
    }
    if !small.is_empty() {
        return Step::Raise(small);
    }
    if template < wanted {
        Step::Recreate
    } else {
        Step::None
    }
}

/// What is shown of the volumes: their status, and how many of `nodes` are as they should be.
///
/// `refused` is why a claim could not be raised at all.
pub(super) fn shown(
    wanted: i64,
    template: i64,
    nodes: i32,
    claims: &[Claim],
    refused: Option<&str>,
) -> PersistenceStatus {
    let done = claims
        .iter()
        .filter(|claim| claim.capacity >= wanted)
        .count();
    let all = usize::try_from(nodes).unwrap_or(0);
    let failed = refused.is_some()
        || claims
            .iter()
            .any(|claim| claim.failed.is_some() && claim.capacity < wanted);
    let grows = template < wanted
        || claims
            .iter()
            .any(|claim| claim.capacity > 0 && claim.capacity < claim.requested.max(wanted));
    let word = if failed {
        "ResizeFailed"
    } else if grows {
        "Resizing"
    } else if done < all {
        "Provisioning"
    } else {
        "Provisioned"
    };
    PersistenceStatus {
        status: Some(word.to_owned()),
        succeeded: Some(format!("{done}/{all}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(n: usize, requested: i64, capacity: i64, failed: Option<&str>) -> Claim {
        Claim {
            name: format!("c-{n}"),
            requested,
            capacity,
            ours: true,
            failed: failed.map(str::to_owned),
        }
    }

    /// What is observed | wanted | template | claims (requested/capacity, `!` failed) | step | status | succeeded.
    const TABLE: &str = "
        nothing exists yet               | 10 | 10 |              | none          | Provisioning | 0/2
        claims wait for volumes          | 10 | 10 | 10/0 10/0    | none          | Provisioning | 0/2
        as it should be                  | 10 | 10 | 10/10 10/10  | none          | Provisioned  | 2/2
        larger than asked for is fine    | 10 | 10 | 10/16 10/16  | none          | Provisioned  | 2/2
        the spec asks for more           | 20 | 10 | 10/10 10/10  | raise c-0,c-1 | Resizing     | 0/2
        interrupted in between           | 20 | 10 | 20/20 10/10  | raise c-1     | Resizing     | 1/2
        all are raised                   | 20 | 10 | 20/10 20/10  | recreate      | Resizing     | 0/2
        the volumes still grow           | 20 | 20 | 20/10 20/10  | none          | Resizing     | 0/2
        a claim was left behind          | 20 | 20 | 20/20 10/10  | raise c-1     | Resizing     | 1/2
        a volume cannot grow             | 20 | 20 | 20/20 20/10! | none          | ResizeFailed | 1/2
        grown                            | 20 | 20 | 20/20 20/20  | none          | Provisioned  | 2/2
        less than there is: none shrinks | 5  | 10 | 10/10 10/10  | none          | Provisioned  | 2/2";

    #[test]
    fn the_table_of_a_growth_from_the_spec_to_the_volumes() {
        for row in TABLE.lines().skip(1) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let number = |text: &str| text.parse::<i64>().unwrap();
            let (wanted, template) = (number(cells[1]), number(cells[2]));
            let claims: Vec<Claim> = cells[3]
                .split_whitespace()
                .enumerate()
                .map(|(n, text)| {
                    let failed = text.ends_with('!').then_some("Infeasible");
                    let (requested, capacity) = text.trim_end_matches('!').split_once('/').unwrap();
                    claim(n, number(requested), number(capacity), failed)
                })
                .collect();
            let step = match next(wanted, template, &claims) {
                Step::None => "none".to_owned(),
                Step::Raise(names) => format!("raise {}", names.join(",")),
                Step::Recreate => "recreate".to_owned(),
            };
            let shown = shown(wanted, template, 2, &claims, None);
            let found = [step, shown.status.unwrap(), shown.succeeded.unwrap()];
            assert_eq!(found, cells[4..7], "{row}");
        }
    }

    #[test]
    fn a_claim_that_the_api_server_does_not_let_grow_is_a_failure() {
        let claims = [claim(0, 10, 10, None)];
        let shown = shown(20, 10, 1, &claims, Some("the class does not allow it"));
        assert_eq!(shown.status.as_deref(), Some("ResizeFailed"));
    }
}
