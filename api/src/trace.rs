//! The trace of a request: one number by which its whole road is found, from the web API to the member that applied what was asked
//! for. Form and rules are those of W3C Trace Context (Recommendation of 2021-11-23).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Header of a request that says to which trace it belongs.
pub const TRACEPARENT: &str = "traceparent";
/// Header of an answer that says to which trace its request belonged (W3C Trace Context, level 2).
pub const TRACERESPONSE: &str = "traceresponse";

/// A text or some bytes that are no part of a trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found}, expected {expected}")]
pub struct TraceError {
    found: String,
    expected: &'static str,
}

/// Number of a trace: 16 bytes, not all zero, written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId([u8; 16]);

/// Number of one piece of work within a trace: 8 bytes, not all zero, written as 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId([u8; 8]);

const TRACE: &str = "32 lower-case hexadecimal digits that are not all zero";
const SPAN: &str = "16 lower-case hexadecimal digits that are not all zero";

impl TraceId {
    /// A trace of these random bits. Of bits that are all zero one is set.
    #[must_use]
    pub fn of_bits(bits: u128) -> Self {
        Self(bits.max(1).to_be_bytes())
    }

    /// The trace of these bytes; `None` if they are no trace, as an older program sends none.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 16] = bytes.try_into().ok()?;
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// A trace as it is told on the wire: its bytes, and none for none.
    #[must_use]
    pub fn told(trace: Option<Self>) -> Vec<u8> {
        trace.map_or_else(Vec::new, |trace| trace.0.to_vec())
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl SpanId {
    /// A span of these random bits. Of bits that are all zero one is set.
    #[must_use]
    pub fn of_bits(bits: u64) -> Self {
        Self(bits.max(1).to_be_bytes())
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `from_str_radix` takes signs and capitals, which are none of the form.
fn is_hex(text: &str, digits: usize) -> bool {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == digits && text.bytes().all(digit)
}

impl FromStr for TraceId {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let bits = is_hex(text, 32).then(|| u128::from_str_radix(text, 16));
        match bits {
            Some(Ok(bits)) if bits > 0 => Ok(Self::of_bits(bits)),
            _ => Err(unlike(text, TRACE)),
        }
    }
}

impl FromStr for SpanId {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let bits = is_hex(text, 16).then(|| u64::from_str_radix(text, 16));
        match bits {
            Some(Ok(bits)) if bits > 0 => Ok(Self::of_bits(bits)),
            _ => Err(unlike(text, SPAN)),
        }
    }
}

fn unlike(text: &str, expected: &'static str) -> TraceError {
    let shown: String = text.chars().take(80).collect();
    TraceError {
        found: format!("{shown:?}"),
        expected,
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a piece of work stands: its trace, and itself within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The piece of work.
    pub span: SpanId,
    /// Whether somebody before may have recorded the trace.
    pub sampled: bool,
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace,
            span,
            sampled,
        } = self;
        write!(f, "00-{trace}-{span}-{:02x}", u8::from(*sampled))
    }
}

impl FromStr for TraceContext {
    type Err = TraceError;

    /// Reads the value of `traceparent` (section 3.2). Of a later version what is known of it is read.
    fn from_str(text: &str) -> Result<Self, TraceError> {
        const FORM: &str = "version-trace-span-flags, as in 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let refused = || unlike(text, FORM);
        let parts: Vec<_> = text.splitn(5, '-').collect();
        let [version, trace, span, flags, rest @ ..] = parts.as_slice() else {
            return Err(refused());
        };
        let is_known = is_hex(version, 2) && *version != "ff";
        if !is_known || !is_hex(flags, 2) || (*version == "00" && !rest.is_empty()) {
            return Err(refused());
        }
        Ok(Self {
            trace: trace.parse()?,
            span: span.parse()?,
            sampled: u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_read_as_the_recommendation_says() {
        let read: TraceContext = GIVEN.parse().unwrap();
        assert_eq!(read.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(read.span.to_string(), "00f067aa0ba902b7");
        assert!(read.sampled);
        assert_eq!(read.to_string(), GIVEN);
        // Of a later version, which may say more.
        let later: TraceContext = GIVEN.replacen("00", "01", 1).parse().unwrap();
        assert_eq!(later.trace, read.trace);
        let later = format!("{}-and-more", GIVEN.replacen("00", "01", 1));
        assert_eq!(later.parse::<TraceContext>().unwrap().trace, read.trace);
    }

    #[test]
    fn what_is_no_context_is_refused() {
        for wrong in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-zz",
            "00-4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
        ] {
            assert!(wrong.parse::<TraceContext>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_trace_survives_its_bytes_and_its_text() {
        let trace = TraceId::of_bits(7 << 64);
        assert_eq!(TraceId::of_bytes(&trace.bytes()), Some(trace));
        let text = serde_json::to_string(&trace).unwrap();
        assert_eq!(serde_json::from_str::<TraceId>(&text).unwrap(), trace);
        for none in [&[][..], &[0; 16], &[1; 15]] {
            assert_eq!(TraceId::of_bytes(none), None, "{none:?}");
        }
    }
}
