//! What a device key signs when a cluster joins, recovers or renews. Both ends build it here, so neither can leave a part out.

/// Which call the signature is for; a signature of one is worth nothing in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `Enroll.Finish`.
    Finish,
    /// `Enroll.Recover`.
    Recover,
    /// `Link.Renew`. The session's TLS stands for challenge and nonce, which are empty, as the credential is.
    Renew,
}

/// Everything that a signature binds together.
#[derive(Clone, Copy, Debug)]
pub struct Transcript<'a> {
    /// The call.
    pub purpose: Purpose,
    /// From `EnrollChallenge`.
    pub challenge_id: &'a str,
    /// From `EnrollChallenge`.
    pub nonce: &'a [u8],
    /// Raw Ed25519 public key of the device.
    pub device_public_key: &'a [u8],
    /// UID of the namespace `kube-system`.
    pub kube_system_uid: &'a str,
    /// Name in the join material; empty for `Recover`.
    pub cluster_name: &'a str,
    /// The join token for `Finish`, the join state for `Recover`.
    pub credential: &'a [u8],
    /// The PKCS #10 request, DER.
    pub csr_der: &'a [u8],
}

/// The bytes to sign: a label, then every part with its length before it, so that no two transcripts have the same bytes.
pub fn transcript(parts: &Transcript<'_>) -> Vec<u8> {
    let Transcript {
        purpose,
        challenge_id,
        nonce,
        device_public_key,
        kube_system_uid,
        cluster_name,
        credential,
        csr_der,
    } = parts;
    let label: &[u8] = match purpose {
        Purpose::Finish => b"meridian.link.v1.Enroll/Finish",
        Purpose::Recover => b"meridian.link.v1.Enroll/Recover",
        Purpose::Renew => b"meridian.link.v1.Link/Renew",
    };
    let fields = [
        label,
        challenge_id.as_bytes(),
        nonce,
        device_public_key,
        kube_system_uid.as_bytes(),
        cluster_name.as_bytes(),
        credential,
        csr_der,
    ];
    let mut bytes = Vec::new();
    for field in fields {
        // 64 bits, so that the length of no slice is cut.
        bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
        bytes.extend_from_slice(field);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Transcript<'_> = Transcript {
        purpose: Purpose::Finish,
        challenge_id: "c",
        nonce: b"n",
        device_public_key: b"k",
        kube_system_uid: "u",
        cluster_name: "name",
        credential: b"token",
        csr_der: b"csr",
    };

    #[test]
    fn every_part_changes_the_bytes() {
        let others = [
            Transcript {
                purpose: Purpose::Recover,
                ..PLAIN
            },
            Transcript {
                purpose: Purpose::Renew,
                ..PLAIN
            },
            Transcript {
                challenge_id: "x",
                ..PLAIN
            },
            Transcript {
                nonce: b"x",
                ..PLAIN
            },
            Transcript {
                device_public_key: b"x",
                ..PLAIN
            },
            Transcript {
                kube_system_uid: "x",
                ..PLAIN
            },
            Transcript {
                cluster_name: "x",
                ..PLAIN
            },
            Transcript {
                credential: b"x",
                ..PLAIN
            },
            Transcript {
                csr_der: b"x",
                ..PLAIN
            },
        ];
        for other in others {
            assert_ne!(transcript(&other), transcript(&PLAIN), "{other:?}");
        }
    }

    #[test]
    fn bytes_cannot_move_from_one_part_to_the_next() {
        let moved = Transcript {
            challenge_id: "cn",
            nonce: b"",
            ..PLAIN
        };
        assert_ne!(transcript(&moved), transcript(&PLAIN));
    }
}
