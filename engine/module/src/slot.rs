//! The slot of a key, as cluster clients compute it.

/// Number of slots.
const SLOTS: u16 = 16_384;

/// The slot of `key`: of the part between the first `{` and the next `}` if it is not empty, else of the whole key.
pub(crate) fn of(key: &[u8]) -> u16 {
    crc16(hash_tag(key).unwrap_or(key)) % SLOTS
}

/// All keys lie in one slot.
pub(crate) fn same<'a>(mut keys: impl Iterator<Item = &'a [u8]>) -> bool {
    let Some(first) = keys.next() else {
        return true;
    };
    let mut slot = None;
    keys.all(|key| key == first || *slot.get_or_insert_with(|| of(first)) == of(key))
}

fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let start = key.iter().position(|byte| *byte == b'{')? + 1;
    let length = key[start..].iter().position(|byte| *byte == b'}')?;
    (length > 0).then(|| &key[start..start + length])
}

/// CRC-16/XMODEM: polynomial 0x1021, start 0, nothing reflected.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{of, same};

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        assert_eq!(of(b"123456789"), 0x31c3);
        assert_eq!(of(b"foo"), 12_182);
        assert_eq!(of(b"{user1000}.following"), of(b"user1000"));
        assert_eq!(of(b"foo{}{bar}"), 8_363);
        assert_eq!(of(b"foo{{bar}}zap"), of(b"{bar"));
    }

    #[test]
    fn keys_share_a_slot_only_if_all_do() {
        assert!(same([b"{a}1".as_slice(), b"{a}2", b"a"].into_iter()));
        assert!(!same([b"a".as_slice(), b"a", b"b"].into_iter()));
        assert!(same(std::iter::empty()));
    }
}
