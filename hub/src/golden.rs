//! Committed text that a test compares with what the code says now. `MERIDIAN_WRITE=1` writes it anew.

use std::path::Path;

/// Compares the file at `path`, below this crate, with `text`.
pub(crate) fn is_as_written(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("MERIDIAN_WRITE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "{} is not what is said now; look at it, and write it anew with MERIDIAN_WRITE=1:\n{text}",
        path.display()
    );
}
