//! Writes the files that are generated from this crate: `cargo run -p meridian-api --example generate`.

use std::{error::Error, fs, path::Path};

#[path = "generate/files.rs"]
mod files;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (path, text) in files::generated()? {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}
