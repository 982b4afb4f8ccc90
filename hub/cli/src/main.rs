//! The command line of Meridian: the same verbs as the hub's web interface. Only `support-bundle` and `preflight` talk to a
//! member cluster, with the person's own kubeconfig.

mod args;
mod bundle;
mod client;
mod commands;
mod config;
mod error;
mod kinds;
mod output;
mod preflight;
mod session;

use std::process::ExitCode;

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = args::Cli::parse();
    match commands::run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::report(&error);
            error.exit_code()
        }
    }
}
