//! Whether the operator told of the losses that the judges counted. Pure.

use anyhow::{Result, ensure};

use super::cause::{Cause, Loss};
use super::run::Outcome;

/// Compares the Events of a run with what clients lost.
///
/// Whoever reads the Events must not believe that all is there while something is missing. Where nothing may be lost, nothing
/// is told as lost either. How many writes are gone the operator cannot know: it says how far the last report was.
///
/// # Errors
/// With what was counted and what was told.
pub fn told_as_counted(cause: &Cause, outcome: &Outcome) -> Result<()> {
    let lost = outcome.judgement.lost.len();
    let said = |reasons: &[&str]| -> Vec<&String> {
        let about = |line: &&String| {
            let reason = line.split(':').next().unwrap_or_default();
            reasons.contains(&reason)
        };
        outcome.events.iter().filter(about).collect()
    };
    let taken_over = said(&[
        "Promoted",
        "PromotedWithLoss",
        "PrimaryGoesOn",
        "AllDataLost",
    ]);
    let warns = |line: &&&String| line.contains("lost") || line.contains("not known");
    let warnings = taken_over.iter().filter(warns).count();
    ensure!(
        lost == 0 || warnings > 0,
        "{}: {lost} acknowledged writes are lost, and this was told: {taken_over:?}",
        cause.name
    );
    let losses = said(&["PromotedWithLoss", "AllDataLost"]);
    ensure!(
        cause.loss == Loss::Tail || losses.is_empty(),
        "{}: nothing may be lost and {lost} writes are, but this was told: {losses:?}",
        cause.name
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::judge::Judgement;
    use super::*;

    #[test]
    fn a_loss_that_nobody_is_told_of_is_none_that_may_be_counted() {
        let has = "Promoted: `b` is primary: everything up to byte 7 has arrived";
        let since = "Promoted: `b` is primary: what it acknowledged after that report is lost unless it arrived";
        let loses = "PromotedWithLoss: `b` is primary: 9 bytes are lost";
        // (cause, lost, told, honest?)
        for (cause, lost, told, honest) in [
            ("node-off", 0, has, true),
            ("node-off", 0, since, true),
            ("node-off", 3, has, false),
            ("node-off", 3, since, true),
            ("node-off", 3, loses, true),
            (
                "node-off",
                3,
                "MoveStarted: what is lost is not known",
                false,
            ),
            ("planned-move", 0, has, true),
            ("planned-move", 0, loses, false),
        ] {
            let outcome = Outcome {
                judgement: Judgement {
                    lost: vec!["key".to_owned(); lost],
                    ..Judgement::default()
                },
                events: vec![told.to_owned()],
                ..Outcome::default()
            };
            let found = told_as_counted(Cause::named(cause).unwrap(), &outcome);
            assert_eq!(found.is_ok(), honest, "{cause} {lost} {told}: {found:?}");
        }
    }
}
