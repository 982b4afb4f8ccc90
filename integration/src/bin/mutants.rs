//! `mutants [NAME…]`: removes each guard in turn and shows the test that then fails, and with which words.

use std::{path::Path, process::ExitCode, time::Duration};

use clap::Parser;
use meridian_integration::mutants::{Mutant, Verdict, bench::Bench, load};

/// Removes each guard in turn and shows the test that then fails, and with which words
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  mutants fence-reply fence-exec\n  mutants --list"
)]
struct Args {
    /// Only these; all of them unless some are named
    names: Vec<String>,
    /// Print their names and what they guard, and end
    #[arg(long)]
    list: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let Args {
        names: wanted,
        list,
    } = Args::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or_else(|| anyhow::anyhow!("no workspace root"))?;
    let mut mutants = load(root)?;
    if list {
        for Mutant { name, guard, .. } in &mutants {
            say(&format!("{name}: {guard}"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let is_known = |name: &&String| mutants.iter().any(|mutant| mutant.name == **name);
    if let Some(unknown) = wanted.iter().find(|name| !is_known(name)) {
        complain(&format!(
            "no mutant `{unknown}` in integration/mutants; `mutants --list` names them"
        ));
        return Ok(ExitCode::FAILURE);
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

#[expect(clippy::print_stderr, reason = "this is a command for people")]
fn complain(line: &str) {
    eprintln!("{line}");
}

#[expect(clippy::print_stdout, reason = "this is a command for people")]
fn say(line: &str) {
    println!("{line}");
}
