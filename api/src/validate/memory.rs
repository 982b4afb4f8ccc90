//! Sizes of databases: `100MB`, `0.1GB`, `10Gi`.

use super::{Check, quoted};

/// Least memory of a database, bytes: a hundred million, so that `100MB`, `100M` and `100Mi` all pass.
pub const MINIMUM_BYTES: u64 = 100_000_000;

/// Memory of a database that names none, bytes.
pub const DEFAULT_BYTES: u64 = 100 << 20;

/// A text that is not a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// Not a number followed by a unit.
    #[error("not a number with a unit such as 100MB, 0.5GB or 10Gi")]
    Form,
    /// More than 2^63 − 1 bytes, or more digits than any size needs.
    #[error("too large")]
    TooLarge,
}

/// Bytes of a size, rounded down.
///
/// Units in any case: `KB MB GB TB` and `Ki Mi Gi Ti` are powers of 1,024, `K M G T` powers of 1,000 (as in Valkey's own
/// configuration); `B` or nothing means bytes.
pub fn parse(text: &str) -> Result<u64, MemoryError> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit_bytes(unit.trim_start()).ok_or(MemoryError::Form)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err(MemoryError::Form);
    }
    // So many digits keep every product below 2^128.
    if whole.len() > 19 || fraction.len() > 18 {
        return Err(MemoryError::TooLarge);
    }
    let digits = |digits: &str| {
        if digits.is_empty() {
            Ok(0)
        } else {
            digits.parse::<u128>()
        }
    };
    let whole = digits(whole).map_err(|_| MemoryError::Form)?;
    let part = digits(fraction).map_err(|_| MemoryError::Form)?;
    let scale = fraction.bytes().fold(1_u128, |scale, _| scale * 10);
    let bytes = whole * unit + part * unit / scale;
    match u64::try_from(bytes) {
        Ok(bytes) if i64::try_from(bytes).is_ok() => Ok(bytes),
        _ => Err(MemoryError::TooLarge),
    }
}

fn unit_bytes(unit: &str) -> Option<u128> {
    let unit = unit.to_ascii_lowercase();
    let (base, letter) = match unit.as_bytes() {
        [] | [b'b'] => return Some(1),
        [letter] => (1_000_u128, letter),
        [letter, b'b' | b'i'] | [letter, b'i', b'b'] => (1_024, letter),
        _ => return None,
    };
    let power = b"kmgt".iter().position(|known| known == letter)?;
    Some((0..=power).fold(1, |bytes, _| bytes * base))
}

pub(super) fn check(check: &mut Check, field: String, text: Option<&str>) {
    let Some(text) = text else { return };
    match parse(text) {
        Err(error) => check.refuse(
            field,
            quoted(text),
            "a size such as 100MB, 0.5GB or 10Gi",
            &format!("it is {error}; write a number followed by MB, GB, Mi or Gi"),
        ),
        Ok(bytes) if bytes < MINIMUM_BYTES => {
            check.refuse(
                field,
                quoted(text),
                "100MB or more",
                "raise the size to at least 100MB",
            );
        }
        Ok(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_in_every_form_that_users_write() {
        for (text, bytes) in [
            ("100MB", 104_857_600),
            ("100mb", 104_857_600),
            ("100Mi", 104_857_600),
            ("100MiB", 104_857_600),
            ("100M", 100_000_000),
            ("0.1GB", 107_374_182),
            ("1.5 GB", 1_610_612_736),
            (".5gb", 536_870_912),
            ("10Gi", 10_737_418_240),
            ("1TB", 1 << 40),
            ("104857600", 104_857_600),
            ("104857600b", 104_857_600),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "", "MB", "-100MB", "1e3MB", "100 M B", "1.2.3GB", "100PB", "100MBB", "0x10MB", ".",
            "100XB",
        ] {
            assert_eq!(parse(text), Err(MemoryError::Form), "{text}");
        }
        for text in [
            "99999999999TB",
            "9999999999999999999999999999",
            "1.0000000000000000000000001GB",
        ] {
            assert_eq!(parse(text), Err(MemoryError::TooLarge), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[0-9.kKmMgGtTbBi ]{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn whole_bytes_are_exact(bytes in 0_u64..1 << 62) {
            prop_assert_eq!(parse(&bytes.to_string()), Ok(bytes));
        }
    }
}
