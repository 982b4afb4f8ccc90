//! Entry point of `meridian-hub`.

use std::process::ExitCode;

use clap::Parser as _;
use meridian_hub::args::Cli;

/// What a burst of requests took is given back within seconds, and threads do not wait for each other to allocate; glibc does
/// neither. Settings: deploy/bundle/hub.yaml.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
