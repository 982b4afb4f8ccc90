//! The form of append-only files. Pure: it reads from whatever it is given.
//!
//! Source: the loader of Valkey 8.1. A record is an array of bulk strings; a line that begins with `#` is a remark. Here the end of
//! each string is looked at as well, which the loader skips: a record that swallowed a part of the next one is found where it begins.
//! A transaction counts as one record, as it does for the loader.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read as _};

/// The longest line of lengths, or remark, that is one.
const LINE_MAX: u64 = 1024;

/// The commands of every Valkey that is bundled, one on each line.
const COMMANDS: &str = include_str!("commands.txt");

/// With this the names of the module's commands begin.
const MODULE: &str = "crdt.";

/// The longest name of a command that is looked at, bytes.
const NAME_MAX: u64 = 64;

/// How a file ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With its last record.
    Whole,
    /// In the middle of a record or of a transaction.
    Cut,
    /// Something is no record.
    Broken,
    /// A record is no command that Valkey or the module knows: its name, as far as it can be shown.
    Unknown(String),
}

/// What was found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// The records up to here are whole, bytes.
    pub(super) whole: u64,
    /// What is behind them.
    pub(super) end: End,
}

/// Whether Valkey or the module has a command of this name.
#[must_use]
pub fn is_command(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with(MODULE) || COMMANDS.lines().any(|known| known == name)
}

/// Reads to the end, or to the first thing that is no record.
pub(super) fn scan(mut file: impl BufRead) -> io::Result<Scan> {
    let (mut whole, mut read) = (0, 0);
    let mut transaction = false;
    let mut known = BTreeSet::new();
    let end = loop {
        let name = match record(&mut file)? {
            Record::Remark(bytes) => {
                read += bytes;
                None
            }
            Record::Command(name, bytes) => {
                read += bytes;
                Some(name)
            }
            Record::None(End::Whole) if transaction => break End::Cut,
            Record::None(end) => break end,
        };
        if let Some(name) = name {
            let text = String::from_utf8_lossy(&name);
            if !known.contains(&name) && !is_command(&text) {
                break End::Unknown(text.escape_debug().to_string());
            }
            transaction |= name.eq_ignore_ascii_case(b"multi");
            transaction &= !name.eq_ignore_ascii_case(b"exec");
            known.insert(name);
        }
        if !transaction {
            whole = read;
        }
    };
    Ok(Scan { whole, end })
}

/// What was read, with its length in bytes.
enum Record {
    /// Nobody executes it.
    Remark(u64),
    /// The first of its strings, as far as it is looked at.
    Command(Vec<u8>, u64),
    /// Nothing: this is how the file ends.
    None(End),
}

fn record(file: &mut impl BufRead) -> io::Result<Record> {
    let line = match line(file)? {
        Line::Read(line) if line.is_empty() => return Ok(Record::None(End::Whole)),
        Line::Read(line) => line,
        Line::Cut => return Ok(Record::None(End::Cut)),
        Line::Broken => return Ok(Record::None(End::Broken)),
    };
    let mut read = line.len() as u64;
    if line.starts_with(b"#") {
        return Ok(Record::Remark(read));
    }
    let Some(strings) = number(&line, b'*').filter(|count| *count > 0) else {
        return Ok(Record::None(End::Broken));
    };
    let mut first = None;
    for _ in 0..strings {
        let line = match self::line(file)? {
            Line::Read(line) if !line.is_empty() => line,
            Line::Read(_) | Line::Cut => return Ok(Record::None(End::Cut)),
            Line::Broken => return Ok(Record::None(End::Broken)),
        };
        let Some(length) = number(&line, b'$') else {
            return Ok(Record::None(End::Broken));
        };
        let mut begin = Vec::new();
        let shown = if first.is_none() { NAME_MAX } else { 0 };
        file.take(length.min(shown)).read_to_end(&mut begin)?;
        let rest = length - begin.len() as u64;
        let skipped = io::copy(&mut file.take(rest), &mut io::sink())?;
        first.get_or_insert(begin);
        let mut behind = Vec::with_capacity(2);
        file.take(2).read_to_end(&mut behind)?;
        if skipped < rest || b"\r\n".starts_with(&behind) && behind.len() < 2 {
            return Ok(Record::None(End::Cut));
        }
        if behind != b"\r\n" {
            return Ok(Record::None(End::Broken));
        }
        read += line.len() as u64 + length + 2;
    }
    Ok(Record::Command(first.unwrap_or_default(), read))
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
        let words = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..3);
        let names = prop::sample::select(vec!["SET", "hset", "CRDT.INCR"]);
        let one = (names, words).prop_map(|(name, mut words)| {
            words.insert(0, name.into());
            record(&words)
        });
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
    fn a_transaction_is_whole_with_its_end_alone() {
        let command = |name: &str| record(&[name.into()]);
        let before = [command("PING"), command("multi"), command("PING")].concat();
        let whole = command("PING").len() as u64;
        let end = End::Cut;
        assert_eq!(scan(&*before).unwrap(), Scan { whole, end });
        let after = [before.clone(), command("EXEC"), command("PING")].concat();
        let whole = after.len() as u64;
        let end = End::Whole;
        assert_eq!(scan(&*after).unwrap(), Scan { whole, end });
        let broken = [before, vec![0; 9]].concat();
        let whole = command("PING").len() as u64;
        let end = End::Broken;
        assert_eq!(scan(&*broken).unwrap(), Scan { whole, end });
    }

    #[test]
    fn a_command_that_nobody_knows_is_named() {
        let mut all = record(&[b"SET".to_vec(), b"k".to_vec(), b"PXNG".to_vec()]);
        let whole = all.len() as u64;
        // One bit of a name has turned.
        all.extend(record(&[b"SE\x14".to_vec()]));
        let end = End::Unknown("SE\\u{14}".to_owned());
        assert_eq!(scan(&*all).unwrap(), Scan { whole, end });
        let long = record(&[vec![b's'; 1_000]]);
        let end = End::Unknown("s".repeat(64));
        assert_eq!(scan(&*long).unwrap(), Scan { whole: 0, end });
    }

    #[test]
    fn zeros_that_a_lost_machine_left_are_no_record() {
        let mut all = record(&[b"PING".to_vec()]);
        let whole = all.len() as u64;
        all.extend([0; 4_096]);
        let end = End::Broken;
        assert_eq!(scan(&*all).unwrap(), Scan { whole, end });
    }
}
