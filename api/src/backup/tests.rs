use proptest::prelude::*;

use super::*;

fn header() -> Header {
    Header {
        store_id: "6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e11".parse().unwrap(),
        term: Term(3),
        revision: Revision(42),
        taken_at: "2026-11-22T12:00:00Z".to_owned(),
        hub_version: "1.0.0".to_owned(),
        authority: "ab:cd".to_owned(),
        trust_domain: "meridian.local".to_owned(),
    }
}

fn written(records: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut encoder, mut bytes) = Encoder::begin(&header());
    for (key, value) in records {
        encoder.record(key, value, &mut bytes).unwrap();
    }
    bytes.extend(encoder.end());
    bytes
}

type Records = Vec<(String, Vec<u8>)>;

fn read(bytes: &[u8], piece: usize) -> Result<(Records, Summary), BackupError> {
    let mut decoder = Decoder::default();
    let mut records = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.read(piece, |record| records.push((record.key, record.value)))?;
    }
    Ok((records, decoder.end()?))
}

fn two() -> Vec<(String, Vec<u8>)> {
    let value = |n: u8| vec![1, n, 0, 255];
    vec![("/a".to_owned(), value(1)), ("/b/ü".to_owned(), value(2))]
}

#[test]
fn a_backup_is_read_as_it_was_written_in_pieces_of_every_size() {
    let bytes = written(&two());
    for piece in [1, 2, 7, 64, 4096] {
        let (records, summary) = read(&bytes, piece).unwrap();
        assert_eq!((records, summary.header), (two(), header()));
        assert_eq!((summary.records, summary.bytes), (2, bytes.len() as u64));
        assert_eq!(summary.sha256.len(), 64);
    }
    assert_eq!(read(&written(&[]), 4096).unwrap().1.records, 0);
}

#[test]
fn a_backup_that_is_cut_off_anywhere_is_refused() {
    let bytes = written(&two());
    for length in 0..bytes.len() {
        let refused = read(&bytes[..length], 4096).unwrap_err();
        assert!(
            matches!(refused, BackupError::Truncated { bytes, .. } if bytes == length as u64),
            "{length}: {refused}"
        );
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = written(&two());
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(read(&damaged, 4096).is_err(), "byte {at}, bit {bit}");
        }
    }
    let mut damaged = bytes;
    let last_value = damaged.len() - 46;
    damaged[last_value] ^= 1;
    let refused = read(&damaged, 4096).unwrap_err();
    assert!(matches!(refused, BackupError::Checksum { .. }), "{refused}");
}

#[test]
fn something_else_a_newer_format_and_a_longer_file_are_refused_by_what_was_found() {
    let other = read(b"PK\x03\x04 an archive of another kind", 4096).unwrap_err();
    assert!(matches!(other, BackupError::NoBackup { .. }), "{other}");
    let mut newer = written(&two());
    newer[MAGIC.len()] = FORMAT + 1;
    let refused = read(&newer, 4096).unwrap_err();
    let expected = BackupError::Format {
        found: 2,
        supported: 1,
    };
    assert_eq!(refused, expected);
    let mut longer = written(&two());
    longer.push(0);
    let refused = read(&longer, 4096).unwrap_err().to_string();
    assert!(refused.contains("after the checksum"), "{refused}");
}

#[test]
fn a_record_that_is_too_long_is_refused_and_nothing_of_it_written() {
    let (mut encoder, _) = Encoder::begin(&header());
    let mut bytes = Vec::new();
    let refused = encoder.record("/a", &vec![0; LONGEST], &mut bytes);
    assert!(matches!(refused, Err(BackupError::TooLong { .. })));
    let long = "k".repeat(1 << 16);
    assert!(encoder.record(&long, b"", &mut bytes).is_err());
    assert!(bytes.is_empty());
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_without_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        begin in any::<bool>(),
    ) {
        let mut whole = if begin { [&MAGIC[..], &[FORMAT]].concat() } else { Vec::new() };
        whole.extend(bytes);
        prop_assert!(read(&whole, 33).is_err());
    }
}
