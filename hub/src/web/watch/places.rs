//! How many watches stand at one time, of everybody and of one token: each holds a connection and a task.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meridian_api::fault::Fault;

/// Watches of everybody together.
pub(super) const MOST: usize = 512;
/// Watches of one token, so that its holder leaves some for the others.
pub(super) const MOST_OF_ONE: usize = 64;
/// When to try again where there is no place, milliseconds.
const LATER: u32 = 5000;

type Taken = BTreeMap<String, usize>;

/// The places, by the token that took them.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

/// A place that is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    token: String,
}

impl Places {
    /// Takes a place for the holder of a token.
    pub(super) fn take(&self, token: &str) -> Result<Place, Fault> {
        let mut taken = self.lock();
        let mine = taken.get(token).copied().unwrap_or_default();
        let (who, limit) = match taken.values().sum::<usize>() {
            _ if mine >= MOST_OF_ONE => ("of this token", MOST_OF_ONE),
            all if all >= MOST => ("of everybody", MOST),
            _ => {
                taken.insert(token.to_owned(), mine + 1);
                return Ok(Place {
                    places: self.clone(),
                    token: token.to_owned(),
                });
            }
        };
        Err(Fault::TooManyRequests {
            detail: format!(
                "{limit} watches {who} stand already; end one of them, or list without `watch`"
            ),
            retry_after_ms: LATER,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // No critical section can unwind between two changes.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(mine) = taken.get_mut(&self.token) {
            *mine -= 1;
            if *mine == 0 {
                taken.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_one_nor_everybody_takes_more_places_than_there_are() {
        let places = Places::default();
        let mut taken = Vec::new();
        for who in 0..MOST / MOST_OF_ONE {
            let token = who.to_string();
            taken.extend((0..MOST_OF_ONE).map(|_| places.take(&token).unwrap()));
            let refused = places.take(&token).unwrap_err();
            assert!(
                refused.to_string().contains("64 watches of this token"),
                "{refused}"
            );
        }
        let refused = places.take("another").unwrap_err();
        assert!(
            refused.to_string().contains("512 watches of everybody"),
            "{refused}"
        );
        assert_eq!(refused.kind().status(), 429);
        taken.pop();
        let last = places.take("another").unwrap();
        assert!(places.take("another").is_err());
        drop((taken, last));
        assert!(places.lock().is_empty(), "nobody is remembered");
    }
}
