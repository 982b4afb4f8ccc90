//! Keys of any kind.

use meridian_crdt::Write;

use super::unique;
use crate::callbacks::command::Invocation;
use crate::error::Error;
use crate::server::reply::Reply;
use crate::write::Writer;

/// `DEL key [key …]` and `UNLINK key [key …]`: removes what this region has seen of the keys.
pub(crate) fn del(call: &Invocation<'_>) -> Result<Reply, Error> {
    let mut writer = Writer::open(call)?;
    writer.one_slot(call.rest(1))?;
    let named = unique(call.rest(1));
    let present = named.into_iter().filter(|key| writer.view.exists(key));
    let keys: Vec<_> = present.map(<[u8]>::to_vec).collect();
    let count = keys.len();
    if count > 0 {
        writer.write(Write::Delete { keys })?;
    }
    Ok(Reply::count(count))
}
