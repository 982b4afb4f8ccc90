//! Entry point of `meridian-hub`.

use std::process::ExitCode;

use clap::Parser as _;
use meridian_hub::args::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let Command::Serve(serve) = command;
    match meridian_hub::run::serve(serve).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
