//! The checksum at the end of a snapshot. Pure: it reads from whatever it is given.
//!
//! Source: the RDB format of Valkey 8.1 and 9.1: eight bytes, little endian, of CRC-64 (Jones) over everything before; 0 says that there
//! is none.

use std::io::{self, Read};

use crc::{CRC_64_REDIS, Crc};

static CRC: Crc<u64> = Crc::<u64>::new(&CRC_64_REDIS);

const CHECKSUM: u64 = 8;

/// Whether a snapshot of `size` bytes is what was written. Empty files are none.
pub(super) fn is_whole(mut file: impl Read, size: u64) -> io::Result<bool> {
    let Some(body) = size.checked_sub(CHECKSUM) else {
        return Ok(false);
    };
    let mut sum = CRC.digest();
    let mut left = body;
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        let want = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        file.read_exact(&mut buffer[..want])?;
        sum.update(&buffer[..want]);
        left -= want as u64;
    }
    let mut stored = [0; 8];
    file.read_exact(&mut stored)?;
    let stored = u64::from_le_bytes(stored);
    Ok(stored == 0 || stored == sum.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_format() {
        assert_eq!(CRC.checksum(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn a_changed_or_shortened_snapshot_does_not_fit() {
        let mut file = b"REDIS0011 and a hundred thousand keys".to_vec();
        file.extend(CRC.checksum(&file).to_le_bytes());
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
