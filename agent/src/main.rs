//! Entry point: installs the crypto provider and hands over to [`meridian_agent::run`].

use clap::Parser as _;

/// What a burst of objects took is given back within a second; glibc keeps most of it. Settings: deploy/bundle/agent.yaml.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a crypto provider was already installed"))?;
    meridian_agent::run::main(meridian_agent::args::Args::parse())
}
