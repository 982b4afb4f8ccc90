//! What happens to a database with a replica when something of its cluster fails, played on a real cluster under load and
//! judged by clients' own logs. The bench `failover-bench` prints figures; scenarios assert what must hold.
//!
//! Two judges look at every fault. Each id of an acknowledged write is there afterwards, or it is counted as lost. And
//! clients inside the network of every pod write to it directly, whatever the world outside is cut off from: once a new
//! primary has acknowledged a write, none of the old one's acknowledgements may follow.

mod cause;
mod cli;
mod client;
mod figure;
mod history;
mod inject;
mod judge;
mod memory;
mod report;
mod run;
mod site;
mod told;
mod transaction;
mod writer;

pub use self::cause::{CAUSES, Cause, Fault, Loss};
pub use self::cli::main;
pub use self::figure::Figure;
pub use self::judge::Judgement;
pub use self::report::{json, table, words};
pub use self::run::{Outcome, Waits, play};
pub use self::site::Site;
pub use self::told::told_as_counted;
