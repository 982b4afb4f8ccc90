//! Entry point: installs the crypto provider and hands over to [`meridian_agent::run`].

use clap::Parser as _;

fn main() -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a crypto provider was already installed"))?;
    meridian_agent::run::main(meridian_agent::args::Args::parse())
}
