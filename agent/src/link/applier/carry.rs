//! Carries out one order against the member's objects.

use std::time::Duration;

use kube::api::DynamicObject;
use meridian_api::{
    link::{
        codes,
        proto::{Outcome, OutcomeResult},
    },
    trace::TraceId,
};

use crate::link::{
    member::{Member, MemberError},
    order::Order,
    settle::{Step, names_another, settle},
};

/// Steps that one pass may take: a conflict is looked at again, a deletion is looked at after it was asked for.
const STEPS: usize = 3;
/// Wait before an order that waits for others is looked at again, if no watch wakes it earlier.
const WAITING: Duration = Duration::from_secs(5);
/// Wait before a held order is looked at again, if no watch wakes it earlier.
const HELD: Duration = Duration::from_secs(60);

/// What one pass over an order came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// It is finished.
    Finished {
        result: OutcomeResult,
        message: String,
        /// `metadata.uid` of the object that stands as ordered.
        uid: Option<String>,
    },
    /// It is refused; a newer one must come.
    Refused(&'static str, String),
    /// It stays and is looked at again.
    Stays {
        result: OutcomeResult,
        code: &'static str,
        message: String,
        again: Again,
    },
}

/// When an order is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// After this time.
    After(Duration),
    /// After a growing time: the API server fails.
    Backoff,
}

impl Done {
    pub(super) fn outcome(&self, order: &Order, retry: Duration) -> Outcome {
        let (result, code, message, retry) = match self {
            Self::Finished {
                result, message, ..
            } => (*result, "", message, Duration::ZERO),
            Self::Refused(code, message) => (OutcomeResult::Nack, *code, message, Duration::ZERO),
            Self::Stays {
                result,
                code,
                message,
                ..
            } => (*result, *code, message, retry),
        };
        Outcome {
            object_id: order.object_id.to_string(),
            revision: order.mark.revision.0,
            result: result.into(),
            code: code.to_owned(),
            message: message.clone(),
            retry_after_ms: u32::try_from(retry.as_millis()).unwrap_or(u32::MAX),
            trace_id: TraceId::told(order.trace).into(),
        }
    }
}

/// What the journal knows of the object of an order.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// `metadata.uid` of the object that the hub took over.
    pub(super) adopted: Option<String>,
    /// It was applied here and not deleted since.
    pub(super) held: bool,
    /// `metadata.uid` that it had then.
    pub(super) uid: Option<String>,
}

impl Known {
    /// Whether `live` is certainly not the object of the order, whatever it shows.
    fn is_another(&self, live: &DynamicObject) -> bool {
        match &self.uid {
            Some(uid) => live.metadata.uid.as_ref() != Some(uid),
            None => !self.held,
        }
    }
}

/// Takes the steps that bring the member to what `order` wants.
pub(super) async fn carry_out<M: Member>(
    member: &M,
    order: &Order,
    namespace: &str,
    known: &Known,
) -> Done {
    let mut wrote = false;
    for _ in 0..STEPS {
        let live = match member.get(order.kind, &order.name).await {
            Ok(live) => live,
            Err(error) => return failed(order, namespace, &error),
        };
        let step = settle(order, live.as_ref(), namespace, known.adopted.as_deref());
        let uid = live.as_ref().and_then(|live| live.metadata.uid.clone());
        if let (Step::Refuse { message, .. }, Some(live)) = (&step, &live)
            && known.is_another(live)
            && names_another(order, live)
        {
            return finished(OutcomeResult::Noop, message.clone(), None);
        }
        match take(member, order, namespace, step, wrote).await {
            // What stands as ordered already is what was looked at.
            Took::Done(Done::Finished {
                result,
                message,
                uid: None,
            }) => return finished(result, message, uid),
            Took::Done(done) => return done,
            Took::Again => {}
            Took::Wrote => wrote = true,
        }
    }
    let message = format!("{}: somebody else keeps writing it", order.what(namespace));
    stays(
        OutcomeResult::Deferred,
        codes::API_UNAVAILABLE,
        message,
        Again::Backoff,
    )
}

enum Took {
    Done(Done),
    Again,
    Wrote,
}

async fn take<M: Member>(
    member: &M,
    order: &Order,
    namespace: &str,
    step: Step,
    wrote: bool,
) -> Took {
    let written: Result<DynamicObject, MemberError> = match step {
        Step::Nothing { note } => {
            let result = if wrote {
                OutcomeResult::Applied
            } else {
                OutcomeResult::Noop
            };
            return Took::Done(finished(result, note, None));
        }
        Step::Gone => return Took::Done(finished(OutcomeResult::Applied, String::new(), None)),
        Step::Prepared => {
            let message = format!(
                "{}: prepared, waits for a Confirm of the deletion",
                order.what(namespace)
            );
            return Took::Done(stays(
                OutcomeResult::Held,
                codes::NEEDS_CONFIRMATION,
                message,
                Again::After(HELD),
            ));
        }
        Step::Wait { message } => {
            return Took::Done(stays(
                OutcomeResult::Deferred,
                codes::WAITS_FOR_DEPENDENCY,
                message,
                Again::After(WAITING),
            ));
        }
        Step::Refuse { code, message } => return Took::Done(Done::Refused(code, message)),
        Step::Hold { code, message } => {
            return Took::Done(stays(
                OutcomeResult::Held,
                code,
                message,
                Again::After(HELD),
            ));
        }
        Step::Write { body, force, .. } => {
            member.write(order.kind, &order.name, &body, force).await
        }
        Step::Delete { uid, approved } => {
            return delete(member, order, namespace, &uid, approved.as_deref()).await;
        }
    };
    match written {
        Ok(written) => {
            let uid = written.metadata.uid;
            Took::Done(finished(OutcomeResult::Applied, String::new(), uid))
        }
        Err(MemberError::Raced(_)) => Took::Again,
        Err(error) => Took::Done(failed(order, namespace, &error)),
    }
}

async fn delete<M: Member>(
    member: &M,
    order: &Order,
    namespace: &str,
    uid: &str,
    approved: Option<&str>,
) -> Took {
    if let Some(revision) = approved {
        match member
            .approve_deletion(order.kind, &order.name, uid, revision)
            .await
        {
            Ok(()) => {}
            Err(MemberError::Raced(_)) => return Took::Again,
            Err(error) => return Took::Done(failed(order, namespace, &error)),
        }
    }
    match member.delete(order.kind, &order.name, uid).await {
        Ok(()) => Took::Wrote,
        Err(MemberError::Raced(_)) => Took::Again,
        Err(error) => Took::Done(failed(order, namespace, &error)),
    }
}

fn finished(result: OutcomeResult, message: String, uid: Option<String>) -> Done {
    Done::Finished {
        result,
        message,
        uid,
    }
}

fn failed(order: &Order, namespace: &str, error: &MemberError) -> Done {
    let message = format!("{}: {error}", order.what(namespace));
    match error {
        MemberError::Refused(_) => Done::Refused(codes::INVALID, message),
        MemberError::Owned { .. } => stays(
            OutcomeResult::Held,
            codes::FIELD_CONFLICT,
            message,
            Again::After(HELD),
        ),
        MemberError::Raced(_)
        | MemberError::Forbidden(_)
        | MemberError::NoKind(_)
        | MemberError::Unavailable(_) => stays(
            OutcomeResult::Deferred,
            codes::API_UNAVAILABLE,
            message,
            Again::Backoff,
        ),
    }
}

fn stays(result: OutcomeResult, code: &'static str, message: String, again: Again) -> Done {
    Done::Stays {
        result,
        code,
        message,
        again,
    }
}
