//! Makes the Rust code of etcd's API, without `protoc`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/etcd.proto"], [Path::new("proto")])?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_server(false)
        .compile_fds(descriptors)?;
    Ok(())
}
