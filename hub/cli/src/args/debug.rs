//! What can be typed to look into a hub that runs.

use std::time::Duration;

use clap::Subcommand;

use super::{Format, duration};

/// About the inside of the hub.
#[derive(Debug, Subcommand)]
pub(crate) enum DebugCommand {
    /// Show the session of each member: since when, how far, what waits
    #[command(after_help = "Example:\n  meridian debug sessions -o json")]
    Sessions {
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Show each background task: its last run, how long that took, when the next is, and its last error
    #[command(after_help = "Example:\n  meridian debug tasks")]
    Tasks {
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Show what of its log the hub writes, or change it for a while
    #[command(
        after_help = "Examples:\n  meridian debug log\n  meridian debug log info,meridian_hub::link=debug --for 15m\n  \
                      meridian debug log --reset\n\n\
                      A filter is spelled as for --log of `meridian-hub serve`. The usual one comes back by itself, after an hour \
                      unless --for says otherwise, a day at most. Of the code of others nothing below debug is written: its traces \
                      would show tokens. The change is in the audit log, and is of the replica that leads."
    )]
    Log {
        /// Filter, such as debug or info,meridian_hub::link=debug
        filter: Option<String>,
        /// For how long [default: 1h]
        #[arg(long = "for", value_name = "TIME", value_parser = duration, requires = "filter")]
        time: Option<Duration>,
        /// The usual filter again, at once
        #[arg(long, conflicts_with = "filter")]
        reset: bool,
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Print the newest lines of the log, which the hub keeps in memory
    #[command(
        after_help = "Example:\n  meridian debug lines | grep 4bf92f3577b34da6a3ce929d0e0e4736"
    )]
    Lines,
}
