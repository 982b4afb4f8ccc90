//! The command filter: renames client writes to the module's twins and refuses what has none.
//!
//! It sees every command before it is looked up, also at the queueing of a transaction and inside scripts, but neither what is
//! loaded from the append-only file nor the module's own native calls. The primary's replication link is let through as it is.

use std::ffi::c_int;

use valkey_module::raw;

use super::command::fits;
use super::guarded;
use super::role;
use crate::commands::{COMMANDS, REFUSED};
use crate::gate::GATE;
use crate::policy::{self, Mode, Reason, Refusal, Rule, Table};
use crate::server::client::Client;
use crate::server::text::{self, Text};
use crate::server::{Ctx, MainThread, api};
use crate::transaction::{self, Queues};

/// What the filter needs at hand.
pub(crate) struct Filter {
    /// The rules of all commands.
    pub(crate) table: Table,
    /// What the module was loaded for.
    pub(crate) mode: Mode,
    /// The names of `COMMANDS`, in the same order.
    pub(crate) names: Vec<Text>,
    /// The name of the command that refuses.
    pub(crate) refused: Text,
    /// The user that may administrate.
    pub(crate) internal_user: Vec<u8>,
    /// The user by which replicas attach, besides the internal one.
    pub(crate) replication_user: Option<Vec<u8>>,
    /// The client that is the link to the primary, once it is known.
    pub(crate) primary_link: Option<u64>,
    /// A context that outlives callbacks.
    pub(crate) ctx: Ctx,
    /// Transactions that are being queued.
    pub(crate) queues: Queues,
}

/// Filled at load.
pub(crate) static FILTER: MainThread<Option<Filter>> = MainThread::new(None);

/// What the last refused command was whose arguments were too few to say it, and why it was refused. Nothing comes between the
/// filter and the command that it leaves.
pub(crate) static UNSAID: MainThread<Option<(String, Reason)>> = MainThread::new(None);

/// The command that is about to be looked up.
struct Pending(*mut raw::RedisModuleCommandFilterCtx);

impl Pending {
    fn len(&self) -> c_int {
        // SAFETY: the server keeps the command alive while the filter runs.
        unsafe { api!(RedisModule_CommandFilterArgsCount)(self.0) }
    }

    fn arg(&self, place: c_int) -> &[u8] {
        // SAFETY: as for `len`; a place beyond the end gives null.
        let argument = unsafe { api!(RedisModule_CommandFilterArgGet)(self.0, place) };
        if argument.is_null() {
            return &[];
        }
        // SAFETY: the argument lives until the filter replaces or deletes it.
        unsafe { text::bytes(argument) }
    }

    fn count(&self) -> usize {
        usize::try_from(self.len()).unwrap_or(0)
    }

    /// The keys at the first to the last place, in steps; a last place of -1 is the end.
    fn keys(&self, (first, last, step): (c_int, c_int, c_int)) -> impl Iterator<Item = &[u8]> {
        let last = if last < 0 { self.len() + last } else { last };
        let step = usize::try_from(step).unwrap_or(1).max(1);
        (first..=last).step_by(step).map(|place| self.arg(place))
    }

    fn client_id(&self) -> u64 {
        // SAFETY: as for `len`.
        unsafe { api!(RedisModule_CommandFilterGetClientId)(self.0) }
    }

    fn rename(&self, name: &Text) {
        // SAFETY: as for `len`; the reference is given away.
        unsafe { api!(RedisModule_CommandFilterArgReplace)(self.0, 0, name.share()) };
    }

    fn replace_all(&self, arguments: &[&Text]) {
        for place in (1..self.len()).rev() {
            // SAFETY: as for `len`; the place is below the count.
            unsafe { api!(RedisModule_CommandFilterArgDelete)(self.0, place) };
        }
        for (place, argument) in (0..).zip(arguments) {
            if place == 0 {
                self.rename(argument);
            } else {
                // SAFETY: as for `len`; the place is at most the count, the reference is given away.
                unsafe {
                    api!(RedisModule_CommandFilterArgInsert)(self.0, place, argument.share())
                };
            }
        }
    }
}

impl Filter {
    /// The client is the internal user on the Unix socket.
    pub(crate) fn is_operator(&self, ctx: Ctx, client: Client) -> bool {
        client.unix_socket() && self.is_internal_user(ctx, client)
    }

    fn is_internal_user(&self, ctx: Ctx, client: Client) -> bool {
        client
            .user(ctx)
            .is_some_and(|user| user.bytes() == self.internal_user)
    }

    fn rule(&self, pending: &Pending) -> Option<Rule> {
        match self.table.get(pending.arg(0))? {
            Rule::Container => self.table.get_sub(pending.arg(0), pending.arg(1)),
            rule => Some(rule),
        }
    }

    fn apply(&mut self, pending: &Pending) {
        let Some(rule) = self.rule(pending) else {
            return;
        };
        match rule {
            Rule::Multi => return self.queues.open(pending.client_id()),
            Rule::Exec => return self.exec(pending),
            Rule::Discard => return self.queues.close(pending.client_id()),
            Rule::Select if !selects_other_database(pending.arg(1)) => return,
            Rule::Twin(place) if !fits(COMMANDS[place].arity, pending.count()) => return,
            Rule::Twin(place) if !role::is_replica() => return self.write(pending, place),
            Rule::Write if !role::is_replica() => {
                self.may_write(pending);
                return;
            }
            Rule::Write if self.primary_link == Some(pending.client_id()) => return,
            _ => {}
        }
        self.restrict(pending, rule);
    }

    /// The transaction begins.
    fn exec(&mut self, pending: &Pending) {
        transaction::begin();
        self.queues.close(pending.client_id());
        if let Some(mut gate) = GATE.get()
            && let Some(gate) = gate.as_mut()
        {
            gate.enter_exec(self.ctx);
        }
    }

    /// A write on a primary needs a permission if there is a fence. The server's own gate, shut by then, refuses what a client
    /// wants to queue, and later its EXEC; but it takes a write that does not say so for a read.
    fn may_write(&self, pending: &Pending) -> bool {
        let denied = GATE
            .get()
            .and_then(|mut gate| gate.as_mut()?.check(self.ctx).err());
        let Some(denied) = denied else {
            return true;
        };
        let client = Client::by_id(pending.client_id());
        if !client.is_some_and(Client::queueing) || policy::is_hidden_write(pending.arg(0)) {
            self.refuse(pending, client, Reason::Fenced(denied));
            return false;
        }
        true
    }

    /// A write on a primary: renamed, unless it leaves the slot of its transaction.
    fn write(&mut self, pending: &Pending, place: usize) {
        if !self.may_write(pending) {
            return;
        }
        let id = pending.client_id();
        if self.queues.is_open(id) {
            let client = Client::by_id(id).filter(|client| client.queueing());
            if client.is_none() {
                // MULTI itself was refused.
                self.queues.close(id);
            } else if !self.queues.take(id, pending.keys(COMMANDS[place].keys)) {
                return self.refuse(pending, client, Reason::Slot);
            }
        }
        pending.rename(&self.names[place]);
    }

    /// Commands that not everybody may run, and writes on a replica.
    fn restrict(&mut self, pending: &Pending, rule: Rule) {
        let client = Client::by_id(pending.client_id());
        let user = client.and_then(|client| client.user(self.ctx));
        let is_primary_link = client.is_some() && user.is_none();
        if is_primary_link {
            self.primary_link = Some(pending.client_id());
            return;
        }
        let is = |name: &Vec<u8>| user.as_ref().is_some_and(|user| user.bytes() == name);
        let internal = is(&self.internal_user);
        let replicates = internal || self.replication_user.as_ref().is_some_and(is);
        let on_socket = client.is_some_and(Client::unix_socket);
        match rule {
            Rule::Twin(place) => pending.rename(&self.names[place]),
            Rule::Handshake if replicates => {}
            Rule::Copy if replicates && may_be_copied() => {}
            Rule::Copy if replicates => self.refuse(pending, client, Reason::Uncopied),
            Rule::Write => self.refuse(pending, client, Reason::Replica),
            Rule::Administrative if internal && on_socket => {}
            Rule::Handshake | Rule::Copy | Rule::Administrative => {
                self.refuse(pending, client, Reason::Administrative)
            }
            Rule::Refused(reason) => self.refuse(pending, client, reason),
            Rule::Select => self.refuse(pending, client, Reason::Database),
            Rule::Multi | Rule::Exec | Rule::Discard | Rule::Container => {}
        }
    }

    /// Outside a transaction the command becomes `crdt.refused`, which answers with the reason. A client that queues would get
    /// that answer only at EXEC, with the other commands done: there the name becomes one that no command has, so that the
    /// server rejects it at once and EXEC aborts; the reason is in the rejected name.
    fn refuse(&self, pending: &Pending, client: Option<Client>, reason: Reason) {
        let mut command = String::from_utf8_lossy(pending.arg(0)).into_owned();
        if self.table.get(pending.arg(0)) == Some(Rule::Container) {
            command = format!("{command} {}", String::from_utf8_lossy(pending.arg(1)));
        }
        if client.is_some_and(Client::queueing) {
            let sentence = Refusal {
                command: &command,
                reason,
            }
            .to_string();
            pending.replace_all(&[&Text::new(sentence.trim_start_matches('\'').as_bytes())]);
            return;
        }
        if pending.len() < 3 {
            // No command is made longer than it was: for one that a script calls, Valkey 9.1 believes the list of arguments to be
            // as long as that of the call before, and writes behind its end.
            pending.replace_all(&[&self.refused]);
            if let Some(mut unsaid) = UNSAID.get() {
                *unsaid = Some((command, reason));
            }
            return;
        }
        let (command, reason) = (
            Text::new(command.as_bytes()),
            Text::new(reason.word().as_bytes()),
        );
        pending.replace_all(&[&self.refused, &command, &reason]);
    }
}

/// Whether this shard's data may be copied. Without a fence nobody counts on replicas.
fn may_be_copied() -> bool {
    GATE.get()
        .is_some_and(|gate| gate.as_ref().is_none_or(|gate| gate.fence.may_be_copied()))
}

/// SELECT of anything else than 0; what is no number the server itself refuses.
fn selects_other_database(argument: &[u8]) -> bool {
    std::str::from_utf8(argument)
        .ok()
        .and_then(|text| text.parse::<i64>().ok())
        .is_some_and(|number| number != 0)
}

/// The function that the server calls before each command.
///
/// # Safety
/// Called by the server.
pub(crate) unsafe extern "C" fn on_command(pending: *mut raw::RedisModuleCommandFilterCtx) {
    let pending = Pending(pending);
    let done = guarded(|| {
        let mut filter = FILTER.get()?;
        filter.as_mut()?.apply(&pending);
        Some(())
    });
    if done.flatten().is_none() {
        // Without its tables the filter cannot tell a read from a write.
        pending.replace_all(&[&Text::new(REFUSED.to_bytes())]);
    }
}
