//! `mutants [NAME…]`: removes each guard in turn and shows the test that then fails.

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use meridian_integration::mutants::{Bench, Mutant, Verdict, load};

fn main() -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or_else(|| anyhow::anyhow!("no workspace root"))?;
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut mutants = load(root)?;
    if let Some(unknown) = wanted
        .iter()
        .find(|name| !mutants.iter().any(|m| &m.name == *name))
    {
        let known: Vec<&str> = mutants.iter().map(|m| m.name.as_str()).collect();
        anyhow::bail!(
            "no mutant `{unknown}` in integration/mutants; there are: {}",
            known.join(", ")
        );
    }
    mutants.retain(|m| wanted.is_empty() || wanted.contains(&m.name));
    let bench = Bench::prepare(root)?;
    let mut failed = 0;
    for mutant in &mutants {
        let start = Instant::now();
        let verdict = bench.judge(mutant)?;
        report(mutant, verdict, start.elapsed());
        failed += usize::from(verdict != Verdict::Caught);
    }
    say(&format!(
        "{} passed, {failed} failed",
        mutants.len() - failed
    ));
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn report(mutant: &Mutant, verdict: Verdict, took: Duration) {
    let seconds = took.as_secs();
    let outcome = match verdict {
        Verdict::Caught => "caught by",
        Verdict::Survived => "SURVIVED",
        Verdict::RedBefore => "TEST IS RED (or runs nothing) WITHOUT A CHANGE",
        Verdict::Unbuildable => "DOES NOT COMPILE",
    };
    say(&format!(
        "{seconds:>4} s  {:<28} {outcome}: cargo test {}",
        mutant.guard,
        mutant.test.join(" ")
    ));
}

#[expect(clippy::print_stdout, reason = "this is a command for people")]
fn say(line: &str) {
    println!("{line}");
}
