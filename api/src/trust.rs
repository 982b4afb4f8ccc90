//! What hub, agents and nodes say of roots: names of roots, of lists of them, and of what a node has read.

use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Roots of one bundle at most: the one that signs, and one that comes or goes.
pub const MOST_ROOTS: usize = 2;

/// The name of a root: SHA-256 of its public key (SubjectPublicKeyInfo, DER), as `sha256:` and hexadecimal digits. A certificate that
/// is made again for the same key has the same name.
#[must_use]
pub fn fingerprint(public_key: &[u8]) -> String {
    format!("sha256:{}", hex(public_key))
}

/// [`fingerprint`] of the key in a root certificate, DER; `None` if that cannot be read.
#[must_use]
pub fn root_fingerprint(root: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(root).ok()?;
    Some(fingerprint(parsed.public_key().raw))
}

/// The name of a list of roots (DER) in its order: SHA-256 over each with its length before it.
#[must_use]
pub fn digest<'a>(roots: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    for root in roots {
        context.update(&(root.len() as u64).to_be_bytes());
        context.update(root);
    }
    context.finish().as_ref().to_vec()
}

/// The root among these (DER) that signed a certificate (DER), by its [`fingerprint`]. The signature decides and no name: two roots
/// may be called alike.
#[must_use]
pub fn signer<'a>(certificate: &[u8], roots: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    roots.into_iter().find_map(|root| {
        let (_, root) = X509Certificate::from_der(root).ok()?;
        let key = root.public_key();
        let signed = certificate.verify_signature(Some(key)).is_ok();
        signed.then(|| fingerprint(key.raw))
    })
}

/// Names what a node has read of the Secret `<rec>-peer-tls`: its roots and its certificate, both as the files have them.
#[must_use]
pub fn peer_files(roots_pem: &[u8], certificate_pem: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    for part in [roots_pem, certificate_pem] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    digits(context.finish().as_ref())
}

fn hex(bytes: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    digits(context.finish().as_ref())
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_roots_is_another_in_another_order_and_nothing_slides_between_its_parts() {
        let of = |roots: &[&[u8]]| digest(roots.iter().copied());
        assert_ne!(of(&[b"a", b"b"]), of(&[b"b", b"a"]));
        assert_ne!(of(&[b"ab"]), of(&[b"a", b"b"]));
        assert_ne!(peer_files(b"ab", b"c"), peer_files(b"a", b"bc"));
    }

    #[test]
    fn what_is_no_certificate_was_signed_by_nobody() {
        assert_eq!(signer(b"x", [b"y".as_slice()]), None);
        assert_eq!(root_fingerprint(b"x"), None);
    }
}
