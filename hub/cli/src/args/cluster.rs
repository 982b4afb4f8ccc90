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
    /// Remove a member's registration, or declare the member lost for good
    #[command(
        after_help = "Examples:\n  meridian cluster remove eu-1 --wait\n  meridian cluster remove eu-1 --lost --dry-run\n  \
                      meridian cluster remove eu-1 --lost --yes\n\n\
                      Refused while the cluster takes part in an Active-Active database, or has not confirmed that the data \
                      which was to go there is gone; --wait tries again until it has. Nothing in the cluster is touched: its \
                      agent goes on as operator, with the same keys. To let it join again, apply the Secret that `meridian \
                      token create` prints.\n\n\
                      --lost is for a cluster without a session that will never come back. It waits for nothing: deletions and \
                      databases go on without it, nobody reads its writes any more, its certificates and its device key are \
                      refused, and what may be left there is listed, with the kubectl commands that remove it. There is no way \
                      back; --dry-run shows what would be."
    )]
    Remove {
        /// Name
        name: String,
        /// It will never come back: do not wait for it
        #[arg(long, conflicts_with = "wait")]
        lost: bool,
        /// With --lost: show what would go on without it and what would be left, and change nothing
        #[arg(long, requires = "lost")]
        dry_run: bool,
        /// How to remove.
        #[command(flatten)]
        how: Deletion,
    },
    /// List the members that were declared lost, and what may be left there
    #[command(after_help = "Example:\n  meridian cluster lost")]
    Lost {
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
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
