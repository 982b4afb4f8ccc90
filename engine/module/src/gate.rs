//! The fence at work in this server.
//!
//! Three things stand between a write and its acknowledgement:
//! 1. the filter asks [`Gate::check`] before each write, and [`Gate::enter_exec`] before each transaction;
//! 2. as soon as the module sees that there is no permission, it shuts a gate of the server itself (more replicas are asked for
//!    than there can be). The server looks at it also where the filter does not: at EXEC, for commands that were postponed,
//!    and for clients that waited in a blocking command;
//! 3. before replies leave, [`turn`] looks once more. If the permission ended since the writes were made (the process was
//!    stopped in between, say), ordinary clients are disconnected instead of answered: they have to ask what became of them.
//!
//! What remains: between that last look and the kernel's acceptance of the bytes lies the server's own work (the write to the
//! append-only file, above all); and while the server calls a script slow, it answers other clients without that look. The
//! margin that whoever promotes another shard adds to the lease is for this. PFCOUNT, which may refresh a cached count, is
//! refused as a write, but within a transaction that was queued before it runs as the read that the server takes it for.

use valkey_module::raw;

use crate::callbacks::filter::FILTER;
use crate::fence::{Deadline, Denied, Epoch, Fence, PermitError};
use crate::server::native::Native;
use crate::server::{self, Ctx, MainThread};

/// Settings of the server's gate: their names, and the values that let no write pass.
const SHUT: [(&str, &str); 2] = [
    ("min-replicas-to-write", "2147483647"),
    ("min-replicas-max-lag", "10"),
];

/// The fence of this process; none if it was loaded without.
pub(crate) static GATE: MainThread<Option<Gate>> = MainThread::new(None);

/// The fence and what the server was told of it.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The permissions.
    pub(crate) fence: Fence,
    /// Writes refused since the start.
    pub(crate) refused: u64,
    /// Clients disconnected since the start because a permission ended before their replies left.
    pub(crate) disconnected: u64,
    /// The settings of the server's gate as they were found.
    open: [String; 2],
    shut: bool,
    /// A write was let through whose reply may not have left yet.
    unanswered: bool,
    /// The present or last transaction began with a permission.
    transaction: bool,
}

/// The server does not let itself be gated.
#[derive(Debug, thiserror::Error)]
#[error("the server's gate for writes cannot be moved: {0}")]
pub(crate) struct GateError(String);

impl Gate {
    /// A shut gate.
    pub(crate) fn new(ctx: Ctx, replica: bool) -> Result<Self, GateError> {
        let mut open = [setting(ctx, SHUT[0].0)?, setting(ctx, SHUT[1].0)?];
        if open[0] == SHUT[0].1 {
            // A shut gate was saved with the configuration (CONFIG REWRITE); it must not stay shut for ever.
            "0".clone_into(&mut open[0]);
        }
        let mut fence = Fence::new();
        fence.follow(replica);
        let mut gate = Self {
            fence,
            refused: 0,
            disconnected: 0,
            open,
            shut: false,
            unanswered: false,
            transaction: false,
        };
        gate.shut(ctx)?;
        Ok(gate)
    }

    /// Whether a write may be made now. A transaction that began with a permission is finished: it is all or nothing.
    pub(crate) fn check(&mut self, ctx: Ctx) -> Result<(), Denied> {
        if let Err(denied) = self.fence.check(server::boot_ms)
            && !(self.transaction && ctx.flags().exec())
        {
            self.refused += 1;
            self.shut_or_die(ctx);
            return Err(denied);
        }
        self.unanswered = true;
        Ok(())
    }

    /// A transaction is about to begin. Without a permission the server's gate is shut, so that the server discards the
    /// transaction if it has a write in it.
    pub(crate) fn enter_exec(&mut self, ctx: Ctx) {
        self.transaction = self.fence.check(server::boot_ms).is_ok();
        if self.transaction {
            self.unanswered = true;
        } else {
            self.shut_or_die(ctx);
        }
    }

    /// Accepts a permission.
    pub(crate) fn permit(
        &mut self,
        ctx: Ctx,
        epoch: Epoch,
        deadline: Deadline,
    ) -> Result<(), PermitError> {
        self.fence.permit(epoch, deadline, server::boot_ms())?;
        if self.shut {
            let open = self.open.each_ref().map(String::as_str);
            match configure(ctx, open) {
                Ok(()) => self.shut = false,
                Err(error) => ctx.warn(&format!("{error}; writes stay refused")),
            }
        }
        Ok(())
    }

    /// Takes permissions back.
    pub(crate) fn revoke(&mut self, ctx: Ctx, epoch: Epoch) {
        self.fence.revoke(epoch);
        if self.fence.deadline().is_none() {
            self.shut_or_die(ctx);
        }
    }

    /// This server begins or ceases to follow a primary.
    pub(crate) fn follow(&mut self, ctx: Ctx, replica: bool) {
        self.fence.follow(replica);
        if self.fence.deadline().is_none() {
            self.shut_or_die(ctx);
        }
    }

    fn shut(&mut self, ctx: Ctx) -> Result<(), GateError> {
        if !self.shut {
            configure(ctx, SHUT.map(|(_, value)| value))?;
            self.shut = true;
        }
        Ok(())
    }

    /// Without its gate the server would run transactions that nobody permitted.
    fn shut_or_die(&mut self, ctx: Ctx) {
        if let Err(error) = self.shut(ctx) {
            ctx.warn(&format!(
                "{error}; this server ends, as it cannot hold back writes"
            ));
            std::process::abort();
        }
    }

    /// Looks at the permission between commands; whether writes were made whose replies must not leave any more.
    fn look(&mut self, ctx: Ctx, replies_leave: bool) -> bool {
        let unanswered = replies_leave && std::mem::take(&mut self.unanswered);
        // On waking up no reply waits, and a shut gate stays shut until a permission comes.
        if !unanswered && (replies_leave || self.shut) {
            return false;
        }
        let ended = self.fence.check(server::boot_ms).is_err();
        if ended {
            self.shut_or_die(ctx);
        }
        ended && unanswered
    }
}

/// One turn of the server's event loop: it is about to send replies and sleep, or woke up.
pub(crate) fn turn(ctx: Ctx, replies_leave: bool) {
    let late = GATE
        .get()
        .and_then(|mut gate| Some(gate.as_mut()?.look(ctx, replies_leave)));
    if late == Some(true) {
        disconnect(ctx);
    }
}

/// Closes the connections of everybody but replicas, the primary and the internal user.
fn disconnect(ctx: Ctx) {
    let clients = Native::run(ctx, c"CLIENT", &[b"LIST"]);
    let text = clients
        .as_ref()
        .and_then(|reply| reply.value().bytes())
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let internal = FILTER.get().and_then(|filter| {
        let filter = filter.as_ref()?;
        Some(String::from_utf8_lossy(&filter.internal_user).into_owned())
    });
    let (Some(text), Some(internal)) = (text, internal) else {
        ctx.warn("clients cannot be listed, so they cannot be disconnected after their permission; this server ends");
        std::process::abort();
    };
    let mut closed = 0;
    for id in ordinary(&text, &internal) {
        // A client that went meanwhile is an error reply, and as good as closed.
        if Native::run(ctx, c"CLIENT", &[b"KILL", b"ID", id.as_bytes()]).is_some() {
            closed += 1;
        }
    }
    if let Some(mut gate) = GATE.get()
        && let Some(gate) = gate.as_mut()
    {
        gate.disconnected += closed;
    }
    ctx.warn(&format!(
        "the permission ended before the replies to the last writes left: {closed} clients disconnected instead"
    ));
}

/// The ids of the ordinary clients in a reply of CLIENT LIST: no links of replication, and not the internal user.
fn ordinary<'a>(list: &'a str, internal: &str) -> Vec<&'a str> {
    let field = |line: &'a str, name: &str| {
        line.split(' ')
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    list.lines()
        .filter(|line| {
            let flags = field(line, "flags").unwrap_or_default();
            let link = flags.contains(['S', 'M']) && !flags.contains('O');
            !link && field(line, "user") != Some(internal)
        })
        .filter_map(|line| field(line, "id"))
        .collect()
}

fn configure(ctx: Ctx, values: [&str; 2]) -> Result<(), GateError> {
    let [first, second] = [SHUT[0].0, SHUT[1].0];
    let words: Vec<&[u8]> = ["SET", first, values[0], second, values[1]]
        .map(str::as_bytes)
        .into();
    let reply = Native::run(ctx, c"CONFIG", &words)
        .ok_or_else(|| GateError("the server has no CONFIG command".into()))?;
    match reply.value().error() {
        None => Ok(()),
        Some(error) => {
            let error = String::from_utf8_lossy(error);
            let text = format!("CONFIG SET {first} {}: {error}", values[0]);
            Err(GateError(text))
        }
    }
}

fn setting(ctx: Ctx, name: &str) -> Result<String, GateError> {
    let reply = Native::run(ctx, c"CONFIG", &[b"GET", name.as_bytes()]);
    let value = reply.as_ref().and_then(|reply| {
        let value = reply.value().elements().nth(1)?.bytes()?;
        Some(String::from_utf8_lossy(value).into_owned())
    });
    value.ok_or_else(|| GateError(format!("CONFIG GET {name} gave nothing")))
}

/// The phase of the event loop in which replies are about to leave.
pub(crate) const REPLIES_LEAVE: u64 = raw::REDISMODULE_SUBEVENT_EVENTLOOP_BEFORE_SLEEP;

#[cfg(test)]
mod tests {
    use super::ordinary;

    #[test]
    fn only_ordinary_clients_are_disconnected() {
        let list = "id=1 addr=a name= flags=N user=default\n\
                    id=2 addr=a name=x flags=N user=keeper\n\
                    id=3 addr=a flags=S user=copier\n\
                    id=4 addr=a flags=M user=(superuser)\n\
                    id=5 addr=a flags=O user=default\n\
                    id=6 addr=a flags=xP user=default\n";
        assert_eq!(ordinary(list, "keeper"), ["1", "5", "6"]);
    }
}
