//! One text for everything a shard holds, to compare regions with. Reads every value: for tests and people, not for a timer.

use meridian_crdt::{Clock, Digest, Kind, View, ViewError};

use crate::view::NativeView;

/// 64 hexadecimal digits: the first half over all values, the second over the clock.
pub(crate) fn of(view: &mut NativeView, clock: &Clock) -> Result<String, ViewError> {
    let mut digest = Digest::new();
    for key in view.all_keys()? {
        match view.kind(&key)? {
            None => {}
            Some(Kind::String) => digest.add_string(&key, &view.peek(&key)?.unwrap_or_default()),
            Some(Kind::Set) => view
                .all_members(&key)?
                .iter()
                .for_each(|element| digest.add_element(&key, element)),
            Some(Kind::Hash) => {
                for pair in view.all_fields(&key)?.chunks_exact(2) {
                    digest.add_field(&key, &pair[0], &pair[1]);
                }
            }
        }
    }
    Ok(format!(
        "{:032x}{:032x}",
        digest.finish(),
        Digest::of_clock(clock)
    ))
}
