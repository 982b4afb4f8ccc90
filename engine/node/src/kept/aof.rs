//! The form of append-only files. Pure: it reads from whatever it is given.
//!
//! Source: the loader of Valkey 8.1. A record is an array of bulk strings; a line that begins with `#` is a remark. Here the end of
//! each string is looked at as well, which the loader skips: a record that swallowed a part of the next one is found where it begins.

use std::io::{self, BufRead, Read as _};

/// The longest line of lengths, or remark, that is one.
const LINE_MAX: u64 = 1024;

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With its last record.
    Whole,
    /// In the middle of a record.
    Cut,
    /// Something is no record.
    Broken,
}

/// What was found in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// The records up to here are whole, bytes.
    pub(super) whole: u64,
    /// What is behind them.
    pub(super) end: End,
}

/// What a file of the manifest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A snapshot with which the others begin.
    Base,
    /// Records.
    Increment,
}

/// The files of a manifest in the order in which they are loaded; `None`: it is no manifest.
pub(super) fn parts(manifest: &str) -> Option<Vec<(String, Kind)>> {
    let mut parts = Vec::new();
    for line in manifest.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let after = |key| {
            let mut pairs = words.chunks_exact(2);
            pairs.find(|pair| pair[0] == key).map(|pair| pair[1])
        };
        let name = after("file")?;
        match after("type")? {
            "b" => parts.insert(0, (name.to_owned(), Kind::Base)),
            "i" => parts.push((name.to_owned(), Kind::Increment)),
            // On its way to be deleted.
            "h" => {}
            _ => return None,
        }
    }
    Some(parts)
}

/// Reads to the end, or to the first thing that is no record.
pub(super) fn scan(mut file: impl BufRead) -> io::Result<Scan> {
    let mut whole = 0;
    loop {
        let (end, read) = record(&mut file)?;
        match end {
            Some(end) => return Ok(Scan { whole, end }),
            None => whole += read,
        }
    }
}

/// Reads one record: how the file ends, if it does, and how many bytes were read.
fn record(file: &mut impl BufRead) -> io::Result<(Option<End>, u64)> {
    let (line, mut read) = match line(file)? {
        Line::Read(line) if line.is_empty() => return Ok((Some(End::Whole), 0)),
        Line::Read(line) => {
            let read = line.len() as u64;
            (line, read)
        }
        Line::Cut => return Ok((Some(End::Cut), 0)),
        Line::Broken => return Ok((Some(End::Broken), 0)),
    };
    if line.starts_with(b"#") {
        return Ok((None, read));
    }
    let Some(strings) = number(&line, b'*').filter(|count| *count > 0) else {
        return Ok((Some(End::Broken), 0));
    };
    for _ in 0..strings {
        let line = match self::line(file)? {
            Line::Read(line) if !line.is_empty() => line,
            Line::Read(_) | Line::Cut => return Ok((Some(End::Cut), 0)),
            Line::Broken => return Ok((Some(End::Broken), 0)),
        };
        let Some(length) = number(&line, b'$') else {
            return Ok((Some(End::Broken), 0));
        };
        let skipped = io::copy(&mut file.take(length), &mut io::sink())?;
        let mut behind = Vec::with_capacity(2);
        file.take(2).read_to_end(&mut behind)?;
        if skipped < length || b"\r\n".starts_with(&behind) && behind.len() < 2 {
            return Ok((Some(End::Cut), 0));
        }
        if behind != b"\r\n" {
            return Ok((Some(End::Broken), 0));
        }
        read += line.len() as u64 + length + 2;
    }
    Ok((None, read))
}

enum Line {
    /// With its end; empty at the end of the file.
    Read(Vec<u8>),
    Cut,
    Broken,
}

fn line(file: &mut impl BufRead) -> io::Result<Line> {
    let mut line = Vec::new();
    file.take(LINE_MAX).read_until(b'\n', &mut line)?;
    Ok(match line.first() {
        None => Line::Read(line),
        Some(_) if line.ends_with(b"\n") => Line::Read(line),
        Some(b'*' | b'$' | b'#') if (line.len() as u64) < LINE_MAX => Line::Cut,
        Some(_) => Line::Broken,
    })
}

/// The number of a line such as `*3`.
fn number(line: &[u8], sign: u8) -> Option<u64> {
    let digits = line.strip_prefix(&[sign])?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(words: &[Vec<u8>]) -> Vec<u8> {
        let mut text = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            text.extend(format!("${}\r\n", word.len()).into_bytes());
            text.extend(word);
            text.extend(b"\r\n");
        }
        text
    }

    fn records() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let words = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..4);
        let one = words.prop_map(|words| record(&words));
        prop::collection::vec(one, 1..6)
    }

    proptest! {
        #[test]
        fn a_file_that_was_cut_anywhere_is_whole_up_to_its_last_record(
            records in records(), cut in any::<prop::sample::Index>()
        ) {
            let mut all = b"#TS:1700000000\r\n".to_vec();
            let mut ends = vec![0, all.len()];
            for one in &records {
                all.extend(one);
                ends.push(all.len());
            }
            let cut = cut.index(all.len() + 1);
            let last = *ends.iter().rfind(|end| **end <= cut).unwrap();
            let end = if last == cut { End::Whole } else { End::Cut };
            prop_assert_eq!(scan(&all[..cut]).unwrap(), Scan { whole: last as u64, end });
        }

        #[test]
        fn half_a_record_before_whole_ones_is_found_where_it_begins(
            records in records(), cut in any::<prop::sample::Index>()
        ) {
            let value = b"a value of some length".to_vec();
            let behind = value.len() + 3;
            let broken = record(&[b"S".to_vec(), b"k".to_vec(), value]);
            // Cut within the value, its end may lie at the end of another by chance: no loader can tell.
            let cut = 1 + cut.index(broken.len() - behind - 1);
            let mut all = record(&[b"PING".to_vec()]);
            let whole = all.len() as u64;
            all.extend(&broken[..cut]);
            all.extend(records.concat());
            let end = End::Broken;
            prop_assert_eq!(scan(&*all).unwrap(), Scan { whole, end });
        }

        #[test]
        fn anything_can_be_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(scan(&*bytes).unwrap().whole <= bytes.len() as u64);
        }
    }

    #[test]
    fn zeros_that_a_lost_machine_left_are_no_record() {
        let mut all = record(&[b"PING".to_vec()]);
        let whole = all.len() as u64;
        all.extend([0; 4_096]);
        let end = End::Broken;
        assert_eq!(scan(&*all).unwrap(), Scan { whole, end });
    }

    #[test]
    fn a_manifest_names_what_is_loaded_in_its_order() {
        let text = "file a.2.incr.aof seq 2 type i\nfile a.1.base.rdb seq 1 type b\nfile a.1.incr.aof seq 1 type h\n\
                    file a.3.incr.aof seq 3 type i startoffset 12\n";
        let own = |(name, kind): (&str, Kind)| (name.to_owned(), kind);
        let wanted = [
            ("a.1.base.rdb", Kind::Base),
            ("a.2.incr.aof", Kind::Increment),
            ("a.3.incr.aof", Kind::Increment),
        ];
        assert_eq!(parts(text), Some(wanted.map(own).to_vec()));
        for text in ["file a seq 1", "nonsense", "file a seq 1 type x"] {
            assert_eq!(parts(text), None, "{text}");
        }
    }
}
