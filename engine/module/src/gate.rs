//! The fence at work in this server.
//!
//! Three things stand between a write and its acknowledgement:
//! 1. the filter asks [`Gate::check`] before each write, and [`Gate::enter_exec`] before each transaction;
//! 2. as soon as the module sees that there is no permission, it shuts a gate of the server itself (more replicas are asked for
//!    than there can be). The server looks at it also where the filter does not: at EXEC, for commands that were postponed,
//!    and for clients that waited in a blocking command;
//! 3. before replies leave, [`turn`] looks once more. If the permission ended since the writes were made, ordinary clients are
//!    disconnected instead of answered: they have to ask what became of them. Of a permission that ends later, those are
//!    disconnected whose replies did not leave whole: they would be sent the rest whenever they read it;
//! 4. where no look can be (after the last one, in the middle of a turn, while the server calls a script slow), an alarm of the
//!    kernel ends connections soon after the deadline ([`departure`]): a process that was stopped there and goes on has nobody
//!    left whom it could answer.
//!
//! What remains is a write to a socket that the kernel has begun and does not go on with, and replies that the kernel has taken
//! over: they leave, or are sent again, when the network lets them. PFCOUNT, which may refresh a cached count, is refused as a
//! write, but within a transaction that was queued before it runs as the read that the server takes it for.

pub(crate) mod departure;

use std::collections::BTreeSet;
use std::ffi::c_int;

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
    /// A permission was given, and nothing was done yet about its end.
    lasts: bool,
    /// A write was let through whose reply was not looked after yet.
    unanswered: bool,
    /// The present or last transaction began with a permission.
    transaction: bool,
    departure: departure::Watch,
}

/// Why there can be no fence here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GateError {
    /// The server does not let itself be gated.
    #[error("the server's gate for writes cannot be moved: {0}")]
    Shut(String),
    /// The end of a permission could not be kept from a process that is stopped.
    #[error("replies cannot be watched on their way: {0}")]
    Departure(#[from] std::io::Error),
    /// The alarm stops one thread, and others would go on answering.
    #[error(
        "io-threads is {0}, and a fence needs 1: replies that other threads send cannot be held back"
    )]
    Threads(String),
}

/// Whose connections are closed when a permission has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    /// Writes were made whose replies have not left: anybody may wait for one, or have read what was written.
    Everybody,
    /// Nothing was written since the last replies left: those that have not received theirs whole.
    Owed,
}

impl Gate {
    /// A shut gate.
    pub(crate) fn new(ctx: Ctx, replica: bool) -> Result<Self, GateError> {
        let threads = setting(ctx, "io-threads")?;
        if threads != "1" {
            return Err(GateError::Threads(threads));
        }
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
            lasts: false,
            unanswered: false,
            transaction: false,
            departure: departure::Watch::new()?,
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
        self.let_through();
        Ok(())
    }

    fn let_through(&mut self) {
        if !self.unanswered {
            self.unanswered = true;
            departure::set_unanswered(true);
        }
    }

    /// A transaction is about to begin. Without a permission the server's gate is shut, so that the server discards the
    /// transaction if it has a write in it.
    pub(crate) fn enter_exec(&mut self, ctx: Ctx) {
        self.transaction = self.fence.check(server::boot_ms).is_ok();
        if self.transaction {
            self.let_through();
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
        self.lasts = true;
        self.watch(ctx);
        if self.shut {
            let open = self.open.each_ref().map(String::as_str);
            match configure(ctx, open) {
                Ok(()) => self.shut = false,
                Err(error) => ctx.warn(&format!("{error}; writes stay refused")),
            }
        }
        Ok(())
    }

    /// Watches replies up to the end of the permission that counts now.
    fn watch(&self, ctx: Ctx) {
        let watched = match self.fence.deadline() {
            // One that has ended is dealt with by the next look, and whoever sent it is to hear so.
            Some(Deadline::At(end)) if server::boot_ms() < end => self.departure.until(end),
            Some(Deadline::Forever) => self.departure.rest(),
            Some(Deadline::At(_)) | None => Ok(()),
        };
        if let Err(error) = watched {
            ctx.warn(&format!(
                "the alarm for the end of the permission: {error}; this server ends, as it cannot hold back replies"
            ));
            std::process::abort();
        }
    }

    /// Takes permissions back; whether one ended that nothing was done about yet.
    pub(crate) fn revoke(&mut self, ctx: Ctx, epoch: Epoch) -> bool {
        self.fence.revoke(epoch);
        let ended = self.fence.deadline().is_none();
        if ended {
            self.shut_or_die(ctx);
        }
        ended && self.lasts
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

    /// Looks at the permission between commands, before replies leave and on waking up; who must not be answered any more.
    fn look(&mut self, replies_leave: bool) -> Option<Late> {
        let unanswered = replies_leave && std::mem::take(&mut self.unanswered);
        let over = match (replies_leave, unanswered) {
            // What was not sent whole is sent on after the next waking up, which looks at the clock.
            (true, false) => self.fence.deadline().is_none(),
            (true, true) | (false, _) => self.fence.check(server::boot_ms).is_err(),
        };
        if !over || !self.lasts {
            return None;
        }
        self.lasts = false;
        Some(if unanswered {
            Late::Everybody
        } else {
            Late::Owed
        })
    }

    /// One turn of the server's event loop.
    fn turn(&mut self, ctx: Ctx, replies_leave: bool) -> Option<Late> {
        let late = self.look(replies_leave);
        if late.is_some() {
            self.shut_or_die(ctx);
        }
        if !replies_leave {
            // What was on its way has left, or is waited for as part of a long reply.
            departure::set_unanswered(false);
        }
        late
    }
}

/// One turn of the server's event loop: it is about to send replies and sleep, or woke up.
pub(crate) fn turn(ctx: Ctx, replies_leave: bool) {
    let late = GATE
        .get()
        .and_then(|mut gate| gate.as_mut()?.turn(ctx, replies_leave));
    if let Some(late) = late {
        disconnect(ctx, late);
        if let Some(gate) = GATE.get()
            && let Some(gate) = gate.as_ref()
        {
            // An alarm that goes on changes nothing.
            let _ = gate.departure.rest();
        }
    }
}

/// Closes the connections of those to whom the replies of writes have not left whole. Whoever hears that a permission was taken
/// back must not find that they leave afterwards.
pub(crate) fn forsake(ctx: Ctx) {
    disconnect(ctx, Late::Owed);
}

/// Closes the connections of ordinary clients: no links of replication, and not those of the internal user.
fn disconnect(ctx: Ctx, late: Late) {
    // If it cannot be known who is owed a part of a reply, anybody may be.
    let owed = match late {
        Late::Everybody => None,
        Late::Owed => departure::owed(),
    };
    if owed.as_ref().is_some_and(BTreeSet::is_empty) {
        return;
    }
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
    for id in ordinary(&text, &internal, owed.as_ref()) {
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
    let ended = departure::ended();
    ctx.warn(&format!(
        "the permission ended before the replies to the last writes left: {closed} clients disconnected instead; connections \
         ended by the alarm since the start: {ended}"
    ));
}

/// The ids of the ordinary clients in a reply of CLIENT LIST; with `among`, of those on these descriptors.
fn ordinary<'a>(list: &'a str, internal: &str, among: Option<&BTreeSet<c_int>>) -> Vec<&'a str> {
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
        .filter(|line| {
            let descriptor = field(line, "fd").and_then(|number| number.parse().ok());
            // One that does not say its descriptor may be any.
            among.is_none_or(|among| descriptor.is_none_or(|number| among.contains(&number)))
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
        .ok_or_else(|| GateError::Shut("the server has no CONFIG command".into()))?;
    match reply.value().error() {
        None => Ok(()),
        Some(error) => {
            let error = String::from_utf8_lossy(error);
            let text = format!("CONFIG SET {first} {}: {error}", values[0]);
            Err(GateError::Shut(text))
        }
    }
}

fn setting(ctx: Ctx, name: &str) -> Result<String, GateError> {
    let reply = Native::run(ctx, c"CONFIG", &[b"GET", name.as_bytes()]);
    let value = reply.as_ref().and_then(|reply| {
        let value = reply.value().elements().nth(1)?.bytes()?;
        Some(String::from_utf8_lossy(value).into_owned())
    });
    value.ok_or_else(|| GateError::Shut(format!("CONFIG GET {name} gave nothing")))
}

/// The phase of the event loop in which replies are about to leave.
pub(crate) const REPLIES_LEAVE: u64 = raw::REDISMODULE_SUBEVENT_EVENTLOOP_BEFORE_SLEEP;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::ordinary;

    const LIST: &str = "id=1 addr=a fd=8 name= flags=N user=default\n\
                        id=2 addr=a fd=9 name=x flags=N user=keeper\n\
                        id=3 addr=a fd=10 flags=S user=copier\n\
                        id=4 addr=a fd=11 flags=M user=(superuser)\n\
                        id=5 addr=a fd=12 flags=O user=default\n\
                        id=6 addr=a fd=13 flags=xP user=default\n";

    #[test]
    fn only_ordinary_clients_are_disconnected() {
        assert_eq!(ordinary(LIST, "keeper", None), ["1", "5", "6"]);
    }

    #[test]
    fn of_those_who_are_owed_something_only_ordinary_clients_are_disconnected() {
        let owed = BTreeSet::from([8, 9, 10, 13]);
        assert_eq!(ordinary(LIST, "keeper", Some(&owed)), ["1", "6"]);
        let unsaid = "id=7 addr=a flags=N user=default\n";
        assert_eq!(ordinary(unsaid, "keeper", Some(&owed)), ["7"]);
    }
}
