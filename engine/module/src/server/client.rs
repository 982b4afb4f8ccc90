//! Who sent a command.

use valkey_module::raw;

use super::text::Text;
use super::{Ctx, OK, api};

/// One client, by its id. Scripts and the append-only file have clients that the server does not list: they are `None`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    id: u64,
    flags: u64,
}

impl Client {
    /// Looks the client up.
    pub(crate) fn by_id(id: u64) -> Option<Self> {
        let mut info = raw::RedisModuleClientInfo {
            version: u64::from(raw::REDISMODULE_CLIENTINFO_VERSION),
            flags: 0,
            id: 0,
            addr: [0; 46],
            port: 0,
            db: 0,
        };
        // SAFETY: the server fills a structure of the version that it names; `info` outlives the call.
        let status = unsafe { api!(RedisModule_GetClientInfoById)((&raw mut info).cast(), id) };
        (status == OK).then_some(Self {
            id,
            flags: info.flags,
        })
    }

    /// It is connected over the Unix socket.
    pub(crate) fn unix_socket(self) -> bool {
        self.flags & u64::from(raw::REDISMODULE_CLIENTINFO_FLAG_UNIXSOCKET) != 0
    }

    /// It has sent MULTI and not yet EXEC or DISCARD.
    pub(crate) fn queueing(self) -> bool {
        self.flags & u64::from(raw::REDISMODULE_CLIENTINFO_FLAG_MULTI) != 0
    }

    /// The user it has authenticated as; the primary's replication link has none.
    pub(crate) fn user(self, ctx: Ctx) -> Option<Text> {
        // SAFETY: the context is valid and has no automatic memory, so the string is ours to free.
        unsafe { Text::from_raw(api!(RedisModule_GetClientUserNameById)(ctx.raw(), self.id)) }
    }
}
