//! Entry point of `meridian-hub`.

use std::process::ExitCode;

use clap::Parser as _;
use meridian_hub::args::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    match meridian_hub::run::run(command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
