//! The command `lab`: real Kubernetes clusters on this machine.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    Ok(meridian_integration::lab::main().await?)
}
