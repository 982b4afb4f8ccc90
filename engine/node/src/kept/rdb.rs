//! The checksum at the end of a snapshot. Pure: it reads from whatever it is given.
//!
//! Source: the RDB format of Valkey 8.1: eight bytes, little endian, of CRC-64 (Jones) over everything before; 0 says that there
//! is none.

use std::io::{self, Read};

/// The polynomial, with its bits in reverse.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

const TABLE: [u64; 256] = table();

const CHECKSUM: u64 = 8;

const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut sum = index as u64;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 {
                (sum >> 1) ^ POLYNOMIAL
            } else {
                sum >> 1
            };
            bit += 1;
        }
        table[index] = sum;
        index += 1;
    }
    table
}

fn add(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, byte| {
        let [low, ..] = sum.to_le_bytes();
        TABLE[usize::from(low ^ byte)] ^ (sum >> 8)
    })
}

/// Whether a snapshot of `size` bytes is what was written. Empty files are none.
pub(super) fn is_whole(mut file: impl Read, size: u64) -> io::Result<bool> {
    let Some(body) = size.checked_sub(CHECKSUM) else {
        return Ok(false);
    };
    let mut sum = 0;
    let mut left = body;
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        let want = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        file.read_exact(&mut buffer[..want])?;
        sum = add(sum, &buffer[..want]);
        left -= want as u64;
    }
    let mut stored = [0; 8];
    file.read_exact(&mut stored)?;
    let stored = u64::from_le_bytes(stored);
    Ok(stored == 0 || stored == sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_format() {
        assert_eq!(add(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn a_changed_or_shortened_snapshot_does_not_fit() {
        let mut file = b"REDIS0011 and a hundred thousand keys".to_vec();
        file.extend(add(0, &file).to_le_bytes());
        let fits = |file: &[u8]| is_whole(file, file.len() as u64).unwrap();
        assert!(fits(&file));
        assert!(!fits(&file[..file.len() - 1]) && !fits(&[]));
        let mut other = file.clone();
        other[12] ^= 1;
        assert!(!fits(&other));
        let length = file.len();
        file[length - 8..].fill(0);
        assert!(fits(&file), "it was written without a checksum");
    }
}
