//! `mutants [NAME…]`: removes each guard in turn and shows the test that then fails, and with which words.

use std::{path::Path, process::ExitCode, time::Duration};

use meridian_integration::mutants::{Mutant, Verdict, bench::Bench, load};

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
    let mut failed = Vec::new();
    Bench::prepare(root)?.judge(&mutants, |mutant, verdict, took| {
        report(mutant, verdict, took);
        if !matches!(verdict, Verdict::Caught(_)) {
            failed.push(mutant.name.clone());
        }
    })?;
    say(&format!(
        "{} caught, {} not{}{}",
        mutants.len() - failed.len(),
        failed.len(),
        if failed.is_empty() { "" } else { ": " },
        failed.join(", ")
    ));
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn report(mutant: &Mutant, verdict: &Verdict, took: Duration) {
    let seconds = took.as_secs();
    let (outcome, why) = match verdict {
        Verdict::Caught(why) => ("caught", why.as_str()),
        Verdict::Survived => ("SURVIVED", "the test passes without the guard"),
        Verdict::RedBefore(why) => ("TEST DOES NOT PASS WITHOUT A CHANGE", why.as_str()),
        Verdict::Unbuildable(why) => ("DOES NOT COMPILE", why.as_str()),
        Verdict::Unjudged(why) => ("NEITHER PASSED NOR FAILED", why.as_str()),
    };
    say(&format!(
        "{seconds:>4} s  {} {outcome}: {}",
        mutant.name, mutant.guard
    ));
    say(&format!(
        "        cargo test {}\n        {why}",
        mutant.test.join(" ")
    ));
}

#[expect(clippy::print_stdout, reason = "this is a command for people")]
fn say(line: &str) {
    println!("{line}");
}
