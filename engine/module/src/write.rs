//! The road of every local write: may it be made at all, make it, send its effect on.

use std::cell::RefMut;

use meridian_crdt::{Kind, Replica, View, Write, WriteError};

use crate::callbacks;
use crate::callbacks::command::Invocation;
use crate::commands::EFFECT;
use crate::error::Error;
use crate::policy::PREFIX;
use crate::server;
use crate::shard::{SHARD, Shard, ensure_life};
use crate::slot;
use crate::transaction;
use crate::view::NativeView;

/// One command's access to the shard.
pub(crate) struct Writer<'a> {
    call: &'a Invocation<'a>,
    shard: RefMut<'static, Shard>,
    /// The values as they are now.
    pub(crate) view: NativeView,
}

impl<'a> Writer<'a> {
    /// Takes hold of the shard, if a client may write now.
    pub(crate) fn open(call: &'a Invocation<'a>) -> Result<Self, Error> {
        if call.flags.script() {
            let name = String::from_utf8_lossy(call.arg(0)).to_ascii_lowercase();
            return Err(Error::Script {
                command: name.trim_start_matches(PREFIX).to_owned(),
            });
        }
        if call.flags.replica() {
            return Err(Error::Replica);
        }
        let shard = hold()?;
        if shard.replica.is_none() {
            return Err(Error::NotConfigured);
        }
        Ok(Self {
            call,
            shard,
            view: NativeView::new(call.ctx),
        })
    }

    /// Makes one write.
    pub(crate) fn write(&mut self, write: Write) -> Result<(), Error> {
        self.shard
            .enter(transaction::current(self.call.flags.exec()));
        self.make(write)
    }

    /// Makes several writes that belong together.
    pub(crate) fn write_all(&mut self, writes: impl Iterator<Item = Write>) -> Result<(), Error> {
        if !self.call.flags.exec() {
            transaction::begin();
        }
        self.shard.enter(transaction::current(true));
        for write in writes {
            self.make(write)?;
        }
        Ok(())
    }

    fn make(&mut self, write: Write) -> Result<(), Error> {
        let replica: &mut Replica = self.shard.replica.as_mut().ok_or(Error::NotConfigured)?;
        ensure_life(replica);
        let written = replica.write(&mut self.view, server::now_ms(), write)?;
        if self.call.ctx.replicate(EFFECT, &written.bytes) {
            return Ok(());
        }
        callbacks::stop_writes();
        Err(Error::NotPropagated)
    }

    /// Refuses a key that holds another kind.
    pub(crate) fn require(&mut self, key: &[u8], kind: Kind) -> Result<(), Error> {
        match self.view.kind(key)? {
            Some(found) if found != kind => Err(Error::WrongType),
            _ => Ok(()),
        }
    }

    /// The value of a string key; refuses other kinds.
    pub(crate) fn string(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.require(key, Kind::String)?;
        Ok(self.view.peek(key)?)
    }

    /// Refuses keys of several slots: they may live on several shards one day.
    pub(crate) fn one_slot<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Result<(), Error> {
        if slot::same(keys) {
            Ok(())
        } else {
            Err(Error::CrossSlot)
        }
    }
}

/// The shard, unless the module has failed before.
pub(crate) fn hold() -> Result<RefMut<'static, Shard>, Error> {
    if callbacks::broken() {
        return Err(Error::Broken);
    }
    SHARD.get().ok_or(Error::Reentered)
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        let native = matches!(
            error,
            WriteError::WrongKind
                | WriteError::NotInteger
                | WriteError::NotFloat
                | WriteError::HashNotInteger
                | WriteError::HashNotFloat
                | WriteError::Overflow
                | WriteError::FloatOverflow
        );
        if native {
            Self::Native(error.to_string())
        } else {
            Self::Engine(error.to_string())
        }
    }
}

impl From<meridian_crdt::ViewError> for Error {
    fn from(error: meridian_crdt::ViewError) -> Self {
        Self::Engine(error.to_string())
    }
}
