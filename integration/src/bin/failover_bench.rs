//! Figures of failover by cause, measured on a real cluster.

#[tokio::main]
async fn main() -> std::process::ExitCode {
    meridian_integration::failover::main().await
}
