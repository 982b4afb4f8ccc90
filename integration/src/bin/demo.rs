//! `demo up` runs the tour and leaves everything running; `demo down` removes it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use meridian_integration::{
    demo,
    stack::{Paths, Stack},
};

/// Three clusters, a hub and one Active-Active database that converges.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the tour; everything stays running.
    Up,
    /// Remove hub, clusters and state.
    Down,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { verb } = Args::parse();
    match run(verb).await {
        Ok(text) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(e) => {
            complain(&format!("demo: {e:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(verb: Verb) -> anyhow::Result<String> {
    let paths = Paths::from_environment()?;
    match verb {
        Verb::Up => {
            let (stack, regions, seen) = demo::run(paths).await?;
            Ok(demo::summary(&stack, &regions, &seen))
        }
        Verb::Down => Stack::down(&paths).await.map(|()| "removed".into()),
    }
}

#[expect(clippy::print_stdout, reason = "this is a command for people")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "this is a command for people")]
fn complain(text: &str) {
    eprintln!("{text}");
}
