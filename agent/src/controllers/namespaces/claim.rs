//! Which agent operates a namespace: a Lease in it names the one. Two agents would make every database twice.
//!
//! The Lease has no time in it. An agent that is away for long must find its databases as it left them, so no other takes
//! them over by waiting; a person who knows that it is gone for good deletes the Lease. (An annotation of the Namespace
//! would need the right to change all of the Namespace.)

use k8s_openapi::api::{
    apps::v1::Deployment,
    coordination::v1::{Lease, LeaseSpec},
};
use kube::api::ObjectMeta;

use crate::k8s::{
    apply::{ApplyError, Objects},
    fault::Fault,
};

/// Name of the Lease.
pub(super) const CLAIM: &str = "meridian-namespace";
/// Name of the vendor's operator.
pub(super) const VENDOR: &str = "redis-enterprise-operator";
/// Reason by which the API server says that nothing new can be made in a namespace that is being deleted.
const TERMINATING: &str = "NamespaceTerminating";

/// Why a namespace is not operated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It does not exist.
    Absent,
    /// It does not exist, or the agent has no rights there.
    Denied(String),
    /// Another agent operates it: that of this namespace.
    Held(String),
    /// The vendor's operator runs there.
    Vendor,
    /// The API server could not be asked.
    Unavailable(String),
}

impl Trouble {
    /// Whether the namespace is lost for certain: a request that failed proves nothing.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Absent | Self::Denied(_) | Self::Held(_) | Self::Vendor => true,
            Self::Unavailable(_) => false,
        }
    }

    /// Whether the agent operates its own namespace all the same: only another agent keeps it from that.
    pub(super) fn is_ours_to_bear(&self) -> bool {
        !matches!(self, Self::Held(_) | Self::Vendor)
    }

    fn of(error: &ApplyError) -> Self {
        let away = || Self::Unavailable(error.to_string());
        let ApplyError::Api { source, .. } = error else {
            return away();
        };
        let kube::Error::Api(status) = source.as_ref() else {
            return away();
        };
        match status.code {
            404 => Self::Absent,
            403 => Self::Denied(status.message.clone()),
            _ => away(),
        }
    }
}

/// Claims the namespace of `objects` for the agent of the namespace `home`, or finds that it is claimed.
///
/// # Errors
/// [`Trouble`].
pub(super) async fn enter(objects: &Objects, home: &str) -> Result<(), Trouble> {
    match objects.get::<Lease>(CLAIM).await {
        Ok(Some(lease)) => match holder(&lease) {
            Some(name) if name == home => Ok(()),
            other => Err(Trouble::Held(other.unwrap_or("nobody").to_owned())),
        },
        Ok(None) => match objects.create(&lease(objects.namespace(), home)).await {
            Ok(_) => Ok(()),
            // Nobody else can claim it any more either, and what stands in it is to be ended well.
            Err(error) if is_terminating(&error) => Ok(()),
            Err(error) if error.fault() == Fault::Conflict => {
                Err(Trouble::Unavailable("somebody claims it now".to_owned()))
            }
            Err(error) => Err(Trouble::of(&error)),
        },
        Err(error) => Err(Trouble::of(&error)),
    }
}

/// Refuses a namespace in which the vendor's operator stands: both would answer for the same databases.
///
/// # Errors
/// [`Trouble`].
pub(super) async fn refuse_vendor(objects: &Objects) -> Result<(), Trouble> {
    match objects.get::<Deployment>(VENDOR).await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(Trouble::Vendor),
        Err(error) => Err(Trouble::of(&error)),
    }
}

/// Takes the claim of `home` back.
pub(super) async fn leave(objects: &Objects, home: &str) {
    let left = match objects.get::<Lease>(CLAIM).await {
        Ok(Some(lease)) if holder(&lease) == Some(home) => objects.delete_exactly(&lease).await,
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = left {
        let namespace = objects.namespace();
        tracing::warn!(namespace, %error, "the claim of a namespace stays behind");
    }
}

/// The namespace of the agent that holds the claim.
pub(super) fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

fn lease(namespace: &str, home: &str) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(CLAIM.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(home.to_owned()),
            ..LeaseSpec::default()
        }),
    }
}

fn is_terminating(error: &ApplyError) -> bool {
    let ApplyError::Api { source, .. } = error else {
        return false;
    };
    let kube::Error::Api(status) = source.as_ref() else {
        return false;
    };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.into_iter().any(|cause| cause.reason == TERMINATING)
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};

    use super::*;
    use crate::k8s::testing::{answer, objects};

    fn refused(code: u16, reason: &str, details: &Value) -> (u16, Value) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                            "reason": reason, "message": "no", "details": details});
        (code, status)
    }

    fn held_by(name: &str) -> (u16, Value) {
        (200, serde_json::to_value(lease("ns", name)).unwrap())
    }

    async fn entered(answers: Vec<(u16, Value)>) -> (Result<(), Trouble>, Vec<Method>) {
        let (objects, server) = objects();
        let asked = tokio::spawn(answer(server, answers));
        let outcome = enter(&objects, "home").await;
        drop(objects);
        let asked = asked.await.unwrap();
        (
            outcome,
            asked.into_iter().map(|(method, ..)| method).collect(),
        )
    }

    #[tokio::test]
    async fn a_namespace_that_another_agent_operates_is_left_to_it_however_old_its_claim_is() {
        let mut old = held_by("theirs");
        old.1["spec"]["renewTime"] = json!("2000-01-01T00:00:00.000000Z");
        old.1["spec"]["leaseDurationSeconds"] = json!(1);
        let (outcome, asked) = entered(vec![old]).await;
        assert_eq!(outcome, Err(Trouble::Held("theirs".to_owned())));
        assert_eq!(asked, [Method::GET], "nothing is written");
    }

    #[tokio::test]
    async fn a_namespace_with_the_vendors_operator_is_left_to_it() {
        let there = (
            200,
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": VENDOR}}),
        );
        for (answer_, expected) in [
            (there, Err(Trouble::Vendor)),
            (refused(404, "NotFound", &json!({})), Ok(())),
        ] {
            let (objects, server) = objects();
            let asked = tokio::spawn(answer(server, vec![answer_]));
            assert_eq!(refuse_vendor(&objects).await, expected);
            drop(objects);
            let asked = asked.await.unwrap();
            assert!(
                asked[0]
                    .1
                    .ends_with("/deployments/redis-enterprise-operator"),
                "{asked:?}"
            );
        }
        assert!(!Trouble::Vendor.is_ours_to_bear());
    }

    #[tokio::test]
    async fn a_free_namespace_is_claimed_and_our_own_claim_holds() {
        assert_eq!(entered(vec![held_by("home")]).await.0, Ok(()));
        let absent = refused(404, "NotFound", &json!({}));
        let (outcome, asked) = entered(vec![absent, held_by("home")]).await;
        assert_eq!((outcome, asked), (Ok(()), vec![Method::GET, Method::POST]));
    }

    #[tokio::test]
    async fn what_keeps_the_agent_out_is_told_apart() {
        let absent = || refused(404, "NotFound", &json!({}));
        let denied = refused(403, "Forbidden", &json!({}));
        let causes = json!({"causes": [{"reason": "NamespaceTerminating", "message": "m", "field": "metadata.namespace"}]});
        let going = refused(403, "Forbidden", &causes);
        let taken = refused(409, "AlreadyExists", &json!({}));
        let no = || Trouble::Denied("no".to_owned());
        let cases = [
            (vec![denied.clone()], Err(no())),
            (vec![absent(), denied], Err(no())),
            (vec![absent(), absent()], Err(Trouble::Absent)),
            (vec![absent(), going], Ok(())),
        ];
        for (answers, expected) in cases {
            assert_eq!(entered(answers.clone()).await.0, expected, "{answers:?}");
        }
        let (outcome, _) = entered(vec![absent(), taken]).await;
        assert!(
            matches!(outcome, Err(Trouble::Unavailable(_))),
            "{outcome:?}"
        );
    }

    #[test]
    fn the_claim_of_a_namespace_is_golden() {
        let found = json!(lease("team-b", "meridian"));
        crate::k8s::testing::golden("controllers/namespaces/golden/claim", &found);
    }
}
