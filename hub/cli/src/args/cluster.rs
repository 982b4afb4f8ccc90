//! What can be typed about member clusters.

use clap::Subcommand;

use super::{Deletion, Format};

/// About member clusters.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// List the members
    List {
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Remove a member's registration; its databases go on serving
    #[command(after_help = "Example:\n  meridian cluster remove eu-1 --yes\n\n\
                      Refused while the cluster takes part in an Active-Active database. Nothing in the cluster is \
                      touched: its agent goes on as operator, with the same keys. To let it join again, apply the Secret \
                      that `meridian token create` prints.")]
    Remove {
        /// Name
        name: String,
        /// How to remove.
        #[command(flatten)]
        how: Deletion,
    },
    /// Approve that a cluster joins, after comparing words
    #[command(
        after_help = "Example:\n  meridian cluster approve eu-1 --words \"lusab babad gutih tugad hosum\"\n\n\
                      The agent shows its words in its log and in the Event AwaitsApproval of the Secret meridian-join \
                      (kubectl get events --field-selector reason=AwaitsApproval). Type them from there: the hub approves only \
                      the device that has these words."
    )]
    Approve {
        /// Name that the token is for
        name: String,
        /// The words that the agent shows
        #[arg(long, value_name = "WORDS")]
        words: String,
    },
    /// Let a cluster, or one certificate, in no more; an open session ends within a second
    #[command(
        after_help = "Examples:\n  meridian cluster deny eu-1 --reason \"machine was stolen\"\n  \
                      meridian cluster deny eu-1 --certificate 5f3a… --reason \"key leaked\"\n\n\
                      Databases in the cluster go on. Without --certificate no certificate and no token lets the cluster in \
                      until `meridian cluster release`; with it the cluster's device key gets another certificate."
    )]
    Deny {
        /// Name
        name: String,
        /// Why, for people
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Serial number of the one certificate that is meant, as `meridian describe cluster NAME` shows it
        #[arg(long, value_name = "SERIAL")]
        certificate: Option<String>,
        /// Deny it also if the hub knows no certificate of this number
        #[arg(long, requires = "certificate")]
        even_if_unknown: bool,
    },
    /// Let a cluster that was denied, or put in quarantine, in again
    #[command(after_help = "Example:\n  meridian cluster release eu-1\n\n\
                      A cluster is in quarantine when two agents with its identity took turns, or when an old join state was \
                      presented: `meridian describe cluster NAME` says which. Stop the copy first.")]
    Release {
        /// Name
        name: String,
    },
}
