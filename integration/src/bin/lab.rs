//! The command `lab`: real Kubernetes clusters on this machine.

#[tokio::main]
async fn main() -> std::process::ExitCode {
    meridian_integration::lab::main().await
}
