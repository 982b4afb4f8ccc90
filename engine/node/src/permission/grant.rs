//! The other side of a permission: a member's promise to its primary. Pure.

use std::collections::BTreeSet;

use meridian_api::crds::topology::APART_MS;

use super::Millis;

/// What a member obeys about one shard. A fact only once PID 1 has it on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obeyed {
    /// `metadata.uid` of the topology.
    pub uid: String,
    /// Its epoch.
    pub epoch: u64,
    /// The epoch of the fence in it.
    pub fence: Option<u64>,
    /// Who takes writes.
    pub primary: Option<String>,
    /// Everybody who holds a copy.
    pub copies: BTreeSet<String>,
    /// For how long its own copy has not followed the primary's live stream; 0: it does.
    pub apart_ms: Millis,
}

/// What a primary asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `metadata.uid` of the topology that it obeys.
    pub uid: String,
    /// Its epoch.
    pub epoch: u64,
    /// Who asks.
    pub requester: String,
}

/// Why a member does not grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// It knows nothing of the shard.
    #[error("this node has no part in the shard")]
    Unknown,
    /// It obeys another topology.
    #[error("this node obeys the topology {obeyed}, not {asked}")]
    OtherTopology {
        /// The UID that it obeys.
        obeyed: String,
        /// The UID asked for.
        asked: String,
    },
    /// It obeys another epoch.
    #[error("this node obeys epoch {obeyed}, not {asked}")]
    OtherEpoch {
        /// The epoch that it obeys.
        obeyed: u64,
        /// The epoch asked for.
        asked: u64,
    },
    /// Somebody else is primary.
    #[error("the primary is {primary}, not {requester}")]
    OtherPrimary {
        /// Who takes writes.
        primary: String,
        /// Who asks.
        requester: String,
    },
    /// It holds no copy.
    #[error("this node holds no copy of the shard")]
    NoCopy,
    /// Somebody is being promoted.
    #[error("this node obeys the fence of epoch {fence}")]
    Fenced {
        /// The fence's epoch.
        fence: u64,
    },
    /// Its copy falls behind.
    #[error(
        "this node's copy has not followed the primary for {apart_ms} ms, expected less than {APART_MS}"
    )]
    Apart {
        /// For how long.
        apart_ms: Millis,
    },
}

/// Does `me`, which obeys `obeyed`, grant `request`?
///
/// # Errors
/// [`Denial`] says why not.
pub fn decide(me: &str, obeyed: Option<&Obeyed>, request: &Request) -> Result<(), Denial> {
    let obeyed = obeyed.ok_or(Denial::Unknown)?;
    if obeyed.uid != request.uid {
        return Err(Denial::OtherTopology {
            obeyed: obeyed.uid.clone(),
            asked: request.uid.clone(),
        });
    }
    if let Some(fence) = obeyed.fence.filter(|fence| *fence > request.epoch) {
        return Err(Denial::Fenced { fence });
    }
    if obeyed.epoch != request.epoch {
        return Err(Denial::OtherEpoch {
            obeyed: obeyed.epoch,
            asked: request.epoch,
        });
    }
    if obeyed.primary.as_deref() != Some(request.requester.as_str()) {
        return Err(Denial::OtherPrimary {
            primary: obeyed
                .primary
                .clone()
                .unwrap_or_else(|| "nobody".to_owned()),
            requester: request.requester.clone(),
        });
    }
    if !obeyed.copies.contains(me) {
        return Err(Denial::NoCopy);
    }
    // Whoever grants can be promoted, so what it misses must have a bound.
    if obeyed.apart_ms >= APART_MS {
        return Err(Denial::Apart {
            apart_ms: obeyed.apart_ms,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obeyed() -> Obeyed {
        Obeyed {
            uid: "u".to_owned(),
            epoch: 7,
            fence: None,
            primary: Some("p".to_owned()),
            copies: ["me".to_owned(), "other".to_owned()].into(),
            apart_ms: APART_MS - 1,
        }
    }

    fn request() -> Request {
        Request {
            uid: "u".to_owned(),
            epoch: 7,
            requester: "p".to_owned(),
        }
    }

    #[test]
    fn a_member_grants_to_the_primary_that_it_obeys() {
        assert_eq!(decide("me", Some(&obeyed()), &request()), Ok(()));
        // The fence of this very epoch is what made the epoch.
        let after = Obeyed {
            fence: Some(7),
            ..obeyed()
        };
        assert_eq!(decide("me", Some(&after), &request()), Ok(()));
    }

    #[test]
    fn everybody_else_gets_a_reason_instead() {
        let o = obeyed;
        let epoch = |epoch| Request { epoch, ..request() };
        let cases: Vec<(Option<Obeyed>, Request, &str)> = vec![
            (None, request(), "no part"),
            (
                Some(Obeyed {
                    uid: "v".to_owned(),
                    ..o()
                }),
                request(),
                "obeys the topology v",
            ),
            (Some(o()), epoch(6), "obeys epoch 7, not 6"),
            (Some(o()), epoch(8), "obeys epoch 7, not 8"),
            (
                Some(Obeyed {
                    fence: Some(8),
                    ..o()
                }),
                request(),
                "fence of epoch 8",
            ),
            (
                Some(Obeyed {
                    fence: Some(9),
                    epoch: 8,
                    ..o()
                }),
                request(),
                "fence of epoch 9",
            ),
            (
                Some(Obeyed {
                    primary: Some("q".to_owned()),
                    ..o()
                }),
                request(),
                "primary is q",
            ),
            (
                Some(Obeyed {
                    primary: None,
                    ..o()
                }),
                request(),
                "primary is nobody",
            ),
            (
                Some(Obeyed {
                    copies: ["other".to_owned()].into(),
                    ..o()
                }),
                request(),
                "no copy",
            ),
            (
                Some(Obeyed {
                    apart_ms: APART_MS,
                    ..o()
                }),
                request(),
                "has not followed the primary for 5000 ms",
            ),
        ];
        for (obeyed, request, reason) in cases {
            let denial = decide("me", obeyed.as_ref(), &request)
                .unwrap_err()
                .to_string();
            assert!(denial.contains(reason), "{obeyed:?} {request:?}: {denial}");
        }
    }
}
