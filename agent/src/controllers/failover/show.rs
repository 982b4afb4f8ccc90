//! What people read about failover: conditions and Events. Pure.

use meridian_api::crds::topology::{DatabaseTopology, FollowingState, HeldReport, ShardRole};

use super::{
    decide::{ACCEPT_LOSS, Loss, Step},
    watch::{acting, own_shard, report},
};
use crate::k8s::conditions::Finding;

/// Conditions of a topology that concern failover, which its database shows as well. None without replication. `person` is
/// what only a person can decide now.
#[must_use]
pub(crate) fn findings(topology: &DatabaseTopology, person: Option<&[Loss]>) -> Vec<Finding> {
    let spec = &topology.spec;
    let Some(shard) = spec.shards.first() else {
        return Vec::new();
    };
    if !spec.replication && shard.replicas.is_empty() && spec.fence.is_none() {
        return Vec::new();
    }
    vec![
        primary(topology, shard.primary.as_deref(), person),
        in_sync(topology),
        progress(topology),
    ]
}

fn primary(topology: &DatabaseTopology, pod: Option<&str>, person: Option<&[Loss]>) -> Finding {
    const TYPE: &str = "PrimaryAvailable";
    let epoch = topology.spec.epoch;
    if let Some(choices) = person {
        return Finding::no(TYPE, "NeedsPerson", needs_person(topology, choices));
    }
    let Some(pod) = pod else {
        return Finding::no(TYPE, "NoPrimary", "no node may take writes");
    };
    let as_of = report(topology, pod).map_or("never", |report| report.as_of.as_str());
    match acting(topology, pod, &ShardRole::Primary) {
        Some(own) if own.ready && own.writable => Finding::yes(
            TYPE,
            "TakesWrites",
            format!("`{pod}` takes writes in epoch {epoch}{}", begun(topology)),
        ),
        Some(own) => {
            let why = own.wants_failover.as_ref().or(own.problem.as_ref());
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            Finding::no(
                TYPE,
                "NotWritable",
                format!("`{pod}` takes no writes{why} (as of {as_of})"),
            )
        }
        None => Finding::no(
            TYPE,
            "NotConfirmed",
            format!("`{pod}` has not confirmed epoch {epoch} (last heard of {as_of})"),
        ),
    }
}

/// With what the epoch began, until a replica has it too.
fn begun(topology: &DatabaseTopology) -> &'static str {
    let spec = &topology.spec;
    let as_is = spec.shards.first().and_then(|shard| shard.as_is);
    if spec.epoch > 1 && as_is == Some(spec.epoch) {
        "; it began this epoch with what was left on it, and what only others had is lost"
    } else {
        ""
    }
}

fn in_sync(topology: &DatabaseTopology) -> Finding {
    const TYPE: &str = "InSync";
    let Some(shard) = topology.spec.shards.first() else {
        return Finding::unknown(TYPE, "NoShard", "there is no shard");
    };
    if !shard.in_sync.is_empty() {
        let list = shard.in_sync.join(", ");
        return Finding::yes(TYPE, "Follows", format!("{list} can take over"));
    }
    let Some(pod) = shard.replicas.first() else {
        return Finding::no(
            TYPE,
            "NoReplica",
            "no other node of another host and rack is ready and has room for a replica: add nodes or memory",
        );
    };
    let own = own_shard(topology, pod);
    let as_of = report(topology, pod).map_or("never", |report| report.as_of.as_str());
    let (reason, what) = match own.and_then(|own| own.following.clone()) {
        _ if !shard.joining.is_empty() => ("Joining", "is about to be counted by its primary"),
        Some(FollowingState::Copying) => ("Copying", "takes over a copy"),
        Some(FollowingState::Up) => ("CatchingUp", "follows and is not close enough yet"),
        Some(FollowingState::Down) => ("NotFollowing", "has no connection to its primary"),
        Some(FollowingState::Other(_)) | None => {
            ("NotReported", "has not reported that it follows")
        }
    };
    Finding::no(
        TYPE,
        reason,
        format!("`{pod}` {what} (as of {as_of}): nobody can take over from the primary"),
    )
}

fn primary_of(topology: &DatabaseTopology) -> Option<&String> {
    topology.spec.shards.first()?.primary.as_ref()
}

fn progress(topology: &DatabaseTopology) -> Finding {
    const TYPE: &str = "FailoverInProgress";
    match &topology.spec.fence {
        Some(fence) if primary_of(topology) == Some(&fence.candidate) => Finding::yes(
            TYPE,
            "MadeAgain",
            format!(
                "the topology was made again: `{}` goes on in epoch {} once every permission of before has ended",
                fence.candidate, fence.epoch
            ),
        ),
        Some(fence) if fence.planned => Finding::yes(
            TYPE,
            "PlannedMove",
            format!("`{}` takes over in epoch {}", fence.candidate, fence.epoch),
        ),
        Some(fence) => Finding::yes(
            TYPE,
            "Failover",
            format!("`{}` takes over in epoch {}", fence.candidate, fence.epoch),
        ),
        None => Finding::no(TYPE, "None", "nobody takes over"),
    }
}

/// How much the files of a copy had. Figures of one stream can be compared.
fn files(held: &HeldReport) -> String {
    let stream: String = held.stream.chars().take(8).collect();
    format!(
        "its files had at least byte {} of the stream {stream}",
        held.offset
    )
}

/// What a person is asked, with the loss of each answer.
#[must_use]
pub(super) fn needs_person(topology: &DatabaseTopology, choices: &[Loss]) -> String {
    let epoch = topology.spec.epoch;
    let primary = topology
        .spec
        .shards
        .first()
        .and_then(|shard| shard.primary.as_deref())
        .unwrap_or("?");
    let one = |loss: &Loss| {
        let mut bytes = loss.bytes.map_or_else(
            || "an unknown part of the writes is lost".to_owned(),
            |bytes| format!("at least {bytes} bytes of the replication stream are lost"),
        );
        if let Some(held) = &loss.held {
            bytes = format!("{bytes}; {}", files(held));
        }
        format!("`{}@{epoch}`: {bytes}", loss.pod)
    };
    let mut all: Vec<String> = choices.iter().map(one).collect();
    let own = own_shard(topology, primary);
    let held = own.and_then(|own| own.held.as_ref()).map(files);
    let led = own
        .and_then(|own| own.served)
        .map(|served| format!("it led last in epoch {served}"));
    let known: String = [held, led]
        .into_iter()
        .flatten()
        .map(|what| format!("; {what}"))
        .collect();
    all.push(format!(
        "`{primary}@{epoch}`: `{primary}` goes on with what it has, and what only others have is lost{known}"
    ));
    format!(
        "the primary `{primary}` is away or came back with less than it had, and nobody who has everything can take over. \
         Bring its pod or a member of the in-sync set back; or, once `{primary}` is certain to be stopped, accept a loss by \
         the annotation {ACCEPT_LOSS} on the DatabaseTopology: {}",
        all.join("; ")
    )
}

/// An Event: whether it is a warning, its reason, its note.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) warning: bool,
    pub(super) reason: &'static str,
    pub(super) note: String,
}

/// What is told about `step`, taken on `topology` as it stood before, when its primary had `reached` so much of its stream.
#[must_use]
pub(super) fn news(topology: &DatabaseTopology, step: &Step, reached: Option<i64>) -> Option<News> {
    let told = |warning, reason, note| {
        Some(News {
            warning,
            reason,
            note,
        })
    };
    let epoch = topology.spec.epoch;
    match step {
        Step::Fence {
            candidate,
            planned,
            why,
        } => told(
            !planned,
            if *planned {
                "MoveStarted"
            } else {
                "FailoverStarted"
            },
            format!("epoch {epoch} ends: {why}; `{candidate}` takes over"),
        ),
        Step::Promote => promoted(topology, reached),
        Step::AbandonFence { why } => told(
            true,
            "MoveGivenUp",
            format!("the primary stays where it is: {why}. It is tried again later"),
        ),
        Step::Reinstate { why, all_lost } => told(
            true,
            if *all_lost {
                "AllDataLost"
            } else {
                "PrimaryGoesOn"
            },
            why.clone(),
        ),
        Step::NeedsPerson { choices } => told(true, "NeedsPerson", needs_person(topology, choices)),
        Step::Admit { pod } => told(false, "InSync", format!("`{pod}` can take over now")),
        Step::Shrink { pod } => told(
            true,
            "NotInSync",
            format!("`{pod}` does not follow any more and cannot take over"),
        ),
        Step::AddReplica { pod } => {
            told(false, "ReplicaPlaced", format!("`{pod}` holds a replica"))
        }
        Step::RemoveReplica { pod } => told(
            false,
            "ReplicaRemoved",
            format!("`{pod}` holds no replica any more"),
        ),
        Step::Raise { pod, version } => told(
            false,
            "VersionRaised",
            format!("the copy on `{pod}` is started anew by Valkey {version}"),
        ),
        Step::Nothing | Step::Join { .. } | Step::Leave { .. } => None,
    }
}

/// Whether the process of `old` that led says that it obeys the fence: what it reported is then all that it acknowledged.
fn has_stopped(topology: &DatabaseTopology, old: &str, fence: i64) -> bool {
    let own = own_shard(topology, old);
    own.is_some_and(|own| own.fenced >= Some(fence) && own.served == Some(topology.spec.epoch))
}

/// Who took over, and what is known about the tail that nobody has.
fn promoted(topology: &DatabaseTopology, had: Option<i64>) -> Option<News> {
    let fence = topology.spec.fence.as_ref()?;
    let old = topology.spec.shards.first()?.primary.as_deref()?;
    if old == fence.candidate {
        return Some(News {
            warning: true,
            reason: "TopologyMadeAgain",
            note: format!(
                "the topology was lost or older than what its nodes obey, and was made again: `{old}` goes on as primary in \
                 epoch {}",
                fence.epoch
            ),
        });
    }
    let own = own_shard(topology, &fence.candidate);
    let has = own.and_then(|own| own.offset);
    // Only who lost its primary has said all that it will ever have of it; who follows has more than it said.
    let follows = own.is_some_and(|own| own.following == Some(FollowingState::Up));
    let stopped = has_stopped(topology, old, fence.epoch);
    // What a primary acknowledged between its last report and its end is known to nobody here.
    let since = if stopped {
        String::new()
    } else {
        format!(
            "; `{old}` did not say that it stopped, and what it acknowledged after that report is lost unless it arrived"
        )
    };
    let (warning, reason, tail) = match had.zip(has) {
        Some((had, has)) if had > has && follows => (
            true,
            "Promoted",
            format!(
                "it followed to the end, and when it last said how far it was {} bytes that `{old}` reported were on their \
                 way; whether they arrived is not known{since}",
                had - has
            ),
        ),
        Some((had, has)) if had > has => (
            true,
            "PromotedWithLoss",
            format!(
                "{} bytes of the replication stream that `{old}` reported had not arrived and are lost{since}",
                had - has
            ),
        ),
        Some((had, _)) => (
            !stopped,
            "Promoted",
            format!(
                "everything up to byte {had} of the replication stream, the last that `{old}` reported, has arrived{since}"
            ),
        ),
        None => (
            true,
            "Promoted",
            format!("it is not known how far `{old}` was ahead"),
        ),
    };
    let note = format!(
        "`{}` is primary in epoch {}, after `{old}`: {tail}",
        fence.candidate, fence.epoch
    );
    Some(News {
        warning,
        reason,
        note,
    })
}
