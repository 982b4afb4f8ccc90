//! Exact numbers for counters. Sums of floating point numbers depend on the order of the terms and regions add in
//! different orders, so counters are fixed point.

use crate::codec::{DecodeError, Reader, Writer};
use std::fmt;

/// Digits behind the point: as many as INCRBYFLOAT prints.
const DIGITS: u32 = 17;
const SCALE: i128 = 10_i128.pow(DIGITS);
/// Longest exponent that can matter: beyond it a number is out of range, or zero.
const EXPONENT_BOUND: i32 = 1_000;

/// A number with 17 digits behind the point, between ±1.7·10²¹. Addition wraps at the ends of the range, which keeps it
/// independent of order; local writes are refused long before ([`Decimal::LIMIT`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(i128);

impl Decimal {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Largest value a local increment may lead to, ±2⁵⁸: concurrent increments of many regions then stay within 64 bits.
    pub const LIMIT: Self = Self((1 << 58) * SCALE);

    /// A number as INCRBYFLOAT reads it: sign, digits, point, exponent; digits beyond the 17th behind the point are
    /// rounded half away from zero. `None` for anything else and outside the range.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let end = text
            .iter()
            .position(|b| matches!(b, b'e' | b'E'))
            .unwrap_or(text.len());
        let mut exponent = match text.get(end + 1..) {
            None => 0,
            Some(digits) => parse_exponent(digits)?,
        };
        let (mut mantissa, mut any, mut behind_point, mut full) = (0_i128, false, false, false);
        for byte in &text[..end] {
            match byte {
                b'.' if !behind_point => behind_point = true,
                b'0'..=b'9' => {
                    any = true;
                    let longer = mantissa
                        .checked_mul(10)
                        .and_then(|m| m.checked_add(i128::from(byte - b'0')));
                    full |= longer.is_none();
                    match longer.filter(|_| !full) {
                        Some(longer) => {
                            mantissa = longer;
                            exponent -= i32::from(behind_point);
                        }
                        None => exponent += i32::from(!behind_point),
                    }
                }
                _ => return None,
            }
        }
        let scaled = if any {
            shift(mantissa, exponent + DIGITS.cast_signed())?
        } else {
            return None;
        };
        Some(Self(if negative { -scaled } else { scaled }))
    }

    /// An integer as INCR reads it: no sign but a minus, no leading zeros, 64 bits.
    pub fn parse_integer(text: &[u8]) -> Option<Self> {
        let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        (number.to_string().as_bytes() == text).then(|| Self::from(number))
    }

    /// Whether nothing is behind the point.
    pub fn is_integer(self) -> bool {
        self.0 % SCALE == 0
    }

    /// Whether the number is within ±[`Decimal::LIMIT`].
    pub fn is_within_limit(self) -> bool {
        (-Self::LIMIT.0..=Self::LIMIT.0).contains(&self.0)
    }

    /// Sum; wraps at the ends of the range.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// Difference; wraps at the ends of the range.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }

    pub(crate) fn write(self, out: &mut Writer) {
        let (tag, number) = if self.is_integer() {
            (0, self.0 / SCALE)
        } else {
            (1, self.0)
        };
        out.byte(tag);
        out.wide(((number << 1) ^ (number >> 127)).cast_unsigned());
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tag = input.byte()?;
        let raw = input.wide()?;
        let number = (raw >> 1).cast_signed() ^ -((raw & 1).cast_signed());
        let scaled = match tag {
            0 => number.checked_mul(SCALE),
            1 => Some(number),
            _ => None,
        };
        scaled
            .map(Self)
            .ok_or_else(|| input.invalid("number of a counter", u64::from(tag)))
    }
}

/// `mantissa` · 10^`exponent`, rounded half up.
fn shift(mantissa: i128, exponent: i32) -> Option<i128> {
    let power = 10_i128.checked_pow(exponent.unsigned_abs());
    match (power, exponent >= 0) {
        _ if mantissa == 0 => Some(0),
        (Some(power), true) => mantissa.checked_mul(power),
        (None, true) => None,
        (Some(power), false) => {
            let (whole, rest) = (mantissa / power, mantissa % power);
            Some(whole + i128::from(rest >= power - rest))
        }
        (None, false) => Some(0),
    }
}

fn parse_exponent(text: &[u8]) -> Option<i32> {
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        rest => (1, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: i32, digit: &u8| (sum * 10 + i32::from(digit - b'0')).min(EXPONENT_BOUND);
    Some(sign * digits.iter().fold(0, add))
}

impl From<i64> for Decimal {
    fn from(number: i64) -> Self {
        Self(i128::from(number) * SCALE)
    }
}

/// As INCRBYFLOAT prints: no exponent, no zeros at the end.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let scale = SCALE.unsigned_abs();
        let (whole, rest) = (self.0.unsigned_abs() / scale, self.0.unsigned_abs() % scale);
        if rest == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{rest:017}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Option<String> {
        Decimal::parse(text.as_bytes()).map(|d| d.to_string())
    }

    #[test]
    fn numbers_print_as_incrbyfloat_prints_them() {
        for (text, expected) in [
            ("0", "0"),
            ("10.50", "10.5"),
            ("5.0e3", "5000"),
            ("-2.5E-2", "-0.025"),
            (".5", "0.5"),
            ("3.", "3"),
            ("+7", "7"),
            ("007", "7"),
            ("-0", "0"),
            ("0.000000000000000005", "0.00000000000000001"),
            ("1e-400", "0"),
            ("1000000000000000000000", "1000000000000000000000"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn words_are_no_numbers() {
        for text in [
            "", ".", "-", "e5", "1e", "1e+", " 1", "1 ", "1.2.3", "inf", "nan", "0x10", "1e40",
            "1\0",
        ] {
            assert_eq!(shown(text), None, "{text:?}");
        }
    }

    #[test]
    fn integers_are_read_as_strictly_as_valkey_reads_them() {
        assert_eq!(Decimal::parse_integer(b"-12"), Some(Decimal::from(-12)));
        for text in ["007", "-0", "+1", "1.0", "9223372036854775808", ""] {
            assert_eq!(Decimal::parse_integer(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back_exactly(raw in any::<i128>()) {
            let number = Decimal(raw / 2);
            prop_assert_eq!(Decimal::parse(number.to_string().as_bytes()), Some(number));
        }

        #[test]
        fn encoding_round_trips(raw in any::<i128>(), whole in any::<i64>()) {
            for number in [Decimal(raw), Decimal::from(whole)] {
                let mut out = Writer::versioned(1);
                number.write(&mut out);
                let bytes = out.into_bytes();
                let mut input = Reader::versioned("test", &bytes, 1).unwrap();
                prop_assert_eq!(Decimal::read(&mut input), Ok(number));
                prop_assert_eq!(input.finish(), Ok(()));
            }
        }

        #[test]
        fn reading_never_panics(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = (Decimal::parse(&text), Decimal::parse_integer(&text));
        }
    }
}
