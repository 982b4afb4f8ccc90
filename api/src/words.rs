//! Words that two people compare, or one person on two screens: a fingerprint of the device that wants to join.
//!
//! Each side computes them from what it knows for itself, so an agent shows those of its own key and the hub those of the key
//! that asked. Proquints (Wilkerson, "A Proposal for Proquints: Identifiers that are Readable, Spellable, and Pronounceable",
//! 2009): 16 bits in five letters. Five of them are 80 bits: nobody finds a second key with the same words.

use aws_lc_rs::digest::{Context, SHA256};

const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
const VOWELS: &[u8; 4] = b"aiou";
/// Number of words.
const WORDS: usize = 5;

/// The words of a device (its raw Ed25519 public key) in a cluster (the UID of its namespace `kube-system`), with spaces.
#[must_use]
pub fn of_device(device_public_key: &[u8], cluster_uid: &str) -> String {
    let mut hash = Context::new(&SHA256);
    for part in [
        b"meridian device words 1".as_slice(),
        device_public_key,
        cluster_uid.as_bytes(),
    ] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finish();
    let words = hash.as_ref().chunks_exact(2).take(WORDS).map(word);
    words.collect::<Vec<_>>().join(" ")
}

/// Whether a person typed these words; case, and what stands between them, does not count.
#[must_use]
pub fn are_equal(typed: &str, expected: &str) -> bool {
    let plain = |text: &str| -> String {
        let letters = text.chars().filter(char::is_ascii_alphabetic);
        letters.map(|c| c.to_ascii_lowercase()).collect()
    };
    !expected.is_empty() && plain(typed) == plain(expected)
}

fn word(bytes: &[u8]) -> String {
    let bits = bytes
        .iter()
        .fold(0usize, |bits, byte| bits << 8 | usize::from(*byte));
    let consonant = |shift: usize| char::from(CONSONANTS[bits >> shift & 15]);
    let vowel = |shift: usize| char::from(VOWELS[bits >> shift & 3]);
    [
        consonant(12),
        vowel(10),
        consonant(6),
        vowel(4),
        consonant(0),
    ]
    .into_iter()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_what_the_proposal_says() {
        // 127.0.0.1 is lusab-babad there.
        assert_eq!(word(&[127, 0]), "lusab");
        assert_eq!(word(&[0, 1]), "babad");
    }

    #[test]
    fn words_change_with_the_key_and_with_the_cluster_and_not_by_themselves() {
        let words = of_device(&[7; 32], "u1");
        assert_eq!(words.split(' ').count(), WORDS);
        assert_eq!(of_device(&[7; 32], "u1"), words);
        assert_ne!(of_device(&[8; 32], "u1"), words);
        assert_ne!(of_device(&[7; 32], "u2"), words);
    }

    #[test]
    fn typed_words_are_compared_by_their_letters_alone() {
        let words = of_device(&[7; 32], "u1");
        assert!(are_equal(&words.to_uppercase().replace(' ', "-"), &words));
        let (first, rest) = words.split_once(' ').unwrap();
        for wrong in ["", first, rest, "lusab babad"] {
            assert!(!are_equal(wrong, &words), "{wrong}");
        }
        assert!(!are_equal("", ""));
    }
}
