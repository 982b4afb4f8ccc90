//! The bytes of everything that is stored or sent: little-endian base-128 varints and length-prefixed strings.
//! A reader never panics and never reserves more than its input could fill.

/// Why bytes could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by another release.
    #[error(
        "{what}: format version {found} is unknown, expected {expected}; upgrade this participant first"
    )]
    Version {
        /// Which format.
        what: &'static str,
        /// First byte of the input.
        found: u8,
        /// The version this release reads.
        expected: u8,
    },
    /// The input ends too early.
    #[error("{what}: input of {length} bytes ends inside a field that starts at byte {at}")]
    Truncated {
        /// Which format.
        what: &'static str,
        /// Bytes given.
        length: usize,
        /// Where the field starts.
        at: usize,
    },
    /// A field has a value that no writer makes.
    #[error("{what}: {field} before byte {at} has the impossible value {found}")]
    Invalid {
        /// Which format.
        what: &'static str,
        /// Which field and what it may be.
        field: &'static str,
        /// Where the field ends.
        at: usize,
        /// What was found.
        found: u64,
    },
    /// More bytes than the format needs.
    #[error("{what}: {left} bytes are left over after the end")]
    Trailing {
        /// Which format.
        what: &'static str,
        /// How many.
        left: usize,
    },
}

/// Bytes that most effects fit into: they are encoded with each write, and growing costs more than the encoding.
const USUAL: usize = 128;

/// Appends fields to a byte string.
#[derive(Debug)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn versioned(version: u8) -> Self {
        let mut bytes = Vec::with_capacity(USUAL);
        bytes.push(version);
        Self(bytes)
    }

    pub(crate) fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn fixed(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    pub(crate) fn wide(&mut self, mut value: u128) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    pub(crate) fn count(&mut self, value: usize) {
        self.wide(value as u128);
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.0.extend_from_slice(value);
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Takes fields from a byte string.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    what: &'static str,
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn versioned(
        what: &'static str,
        input: &'a [u8],
        expected: u8,
    ) -> Result<Self, DecodeError> {
        let mut reader = Self { what, input, at: 0 };
        let found = reader.byte()?;
        if found == expected {
            Ok(reader)
        } else {
            Err(DecodeError::Version {
                what,
                found,
                expected,
            })
        }
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn fixed(&mut self) -> Result<u64, DecodeError> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(bytes))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        let value = self.wide()?;
        u64::try_from(value).map_err(|_| self.invalid("number (at most 64 bits)", u64::MAX))
    }

    pub(crate) fn varint_u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let value = self.varint()?;
        u32::try_from(value).map_err(|_| self.invalid(field, value))
    }

    pub(crate) fn wide(&mut self) -> Result<u128, DecodeError> {
        let mut value = 0_u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            let bits = u128::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return Err(self.invalid("number (at most 128 bits)", u64::from(byte)));
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.invalid("number (at most 128 bits)", u64::MAX))
    }

    /// A number of items that follow; every item takes at least one byte.
    pub(crate) fn count(&mut self) -> Result<usize, DecodeError> {
        let at = self.at;
        let value = self.varint()?;
        let left = self.input.len() - self.at;
        match usize::try_from(value) {
            Ok(count) if count <= left => Ok(count),
            _ => Err(DecodeError::Truncated {
                what: self.what,
                length: self.input.len(),
                at,
            }),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.count()?;
        self.take(length)
    }

    pub(crate) fn vec(&mut self) -> Result<Vec<u8>, DecodeError> {
        Ok(self.bytes()?.to_vec())
    }

    pub(crate) fn invalid(&self, field: &'static str, found: u64) -> DecodeError {
        DecodeError::Invalid {
            what: self.what,
            field,
            at: self.at,
            found,
        }
    }

    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        match self.input.len() - self.at {
            0 => Ok(()),
            left => Err(DecodeError::Trailing {
                what: self.what,
                left,
            }),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let Some(taken) = rest.get(..length) else {
            return Err(DecodeError::Truncated {
                what: self.what,
                length: self.input.len(),
                at: self.at,
            });
        };
        self.at += length;
        Ok(taken)
    }
}
