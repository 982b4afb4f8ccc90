//! Compiles `proto/link.proto` and what it imports, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/link.proto"], ["proto"])?;
    // `Bytes` instead of `Vec<u8>`: one body is sent to many sessions without a copy.
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::link::codec::LinkCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
