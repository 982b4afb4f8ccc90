//! Entry point of `meridian-node`: parse, prepare, run, turn the error into an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use meridian_node::{args::Args, run};

fn main() -> ExitCode {
    let args = Args::parse();
    run::init_logging();
    match run::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::report(&error);
            ExitCode::FAILURE
        }
    }
}
