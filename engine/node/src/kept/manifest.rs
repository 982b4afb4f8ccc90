//! The list of append-only files. Pure.
//!
//! Source: the loader of Valkey 8.1, which refuses to start with a list that it does not understand.

/// The longest line, bytes.
const LINE_MAX: usize = 1024;

/// What a file of the manifest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A snapshot with which the others begin.
    Base,
    /// Records.
    Increment,
}

/// The files of a manifest in the order in which they are loaded.
///
/// # Errors
/// Why Valkey does not understand it.
pub(super) fn parts(manifest: &[u8]) -> Result<Vec<(String, Kind)>, &'static str> {
    let text = std::str::from_utf8(manifest).map_err(|_| "it is not text")?;
    if text.is_empty() {
        return Err("it is empty");
    }
    let mut base = None;
    let mut increments = Vec::new();
    let mut newest = 0;
    for line in text.split_inclusive('\n') {
        if !line.ends_with('\n') || line.len() > LINE_MAX {
            return Err("it has a line without an end");
        }
        if line.starts_with('#') {
            continue;
        }
        let (name, number, kind) = file(line).ok_or("it has a line that names no file")?;
        match kind {
            b'b' if base.is_some() => return Err("it names two files to begin with"),
            b'b' => base = Some((name, Kind::Base)),
            b'i' if number <= newest => return Err("its files are not in their order"),
            b'i' => {
                newest = number;
                increments.push((name, Kind::Increment));
            }
            // On its way to be deleted.
            b'h' => {}
            _ => return Err("it names a file of an unknown kind"),
        }
    }
    Ok(base.into_iter().chain(increments).collect())
}

/// Name, number and kind of the file of a line.
fn file(line: &str) -> Option<(String, u64, u8)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let after = |key| {
        let mut pairs = words.chunks_exact(2);
        pairs.find(|pair| pair[0] == key).map(|pair| pair[1])
    };
    let name = after("file").filter(|name| !name.contains('/'))?;
    let number = after("seq")?.parse().ok().filter(|number| *number > 0)?;
    let kind = after("type")?.bytes().next()?;
    words
        .len()
        .is_multiple_of(2)
        .then(|| (name.to_owned(), number, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_names_what_is_loaded_in_its_order() {
        let text = "file a.2.incr.aof seq 2 type i\nfile a.1.base.rdb seq 1 type b\nfile a.1.incr.aof seq 1 type h\n\
                    # a remark\nfile a.3.incr.aof seq 3 type i startoffset 12\n";
        let own = |(name, kind): (&str, Kind)| (name.to_owned(), kind);
        let wanted = [
            ("a.1.base.rdb", Kind::Base),
            ("a.2.incr.aof", Kind::Increment),
            ("a.3.incr.aof", Kind::Increment),
        ];
        assert_eq!(parts(text.as_bytes()), Ok(wanted.map(own).to_vec()));
        assert_eq!(parts(b"#\n"), Ok(vec![]));
    }

    #[test]
    fn what_valkey_does_not_understand_is_no_manifest() {
        let cases: [&[u8]; 10] = [
            b"",
            b"\xff\xfe\n",
            b"\0\0\0\0",
            b"file a seq 1\n",
            b"file a seq 1 type x\n",
            b"file a seq 1 type i",
            b"file a seq 1 type i\n\n",
            b"file d/a seq 1 type i\n",
            b"file a seq 2 type i\nfile b seq 2 type i\n",
            b"file a seq 1 type b\nfile b seq 2 type b\n",
        ];
        for text in cases {
            let shown = String::from_utf8_lossy(text);
            assert!(parts(text).is_err(), "{shown}");
        }
    }
}
