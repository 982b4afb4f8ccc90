//! The explicit approval of joins, where a token demands it: before a person has compared the words, there is no certificate.

use jiff::Timestamp;
use meridian_api::ids::ClusterUid;
use meridian_api::words;

use super::audit::{Deed, Trail};
use super::writes::Manner;
use super::{App, AppError, until_uncontended};
use crate::domain::access::grant::Verb;
use crate::domain::access::{JoinToken, TokenUse};
use crate::domain::approval::{Approval, Asked, Granted};
use crate::domain::cluster::DeviceKey;
use crate::store::records::{self, Held, TxnExt as _};
use crate::store::{StoreError, Txn, keys};

impl App {
    /// Adds to the transaction that makes a token that its join must be approved, if that is asked for here or for the whole hub.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn demand_approval(
        &self,
        txn: Txn,
        token: &JoinToken,
        asked_for: bool,
    ) -> Result<Txn, StoreError> {
        if !asked_for && !self.settings().approve_clusters {
            return Ok(txn);
        }
        let approval = Approval {
            cluster_name: token.cluster_name.clone(),
            asked: None,
            granted: None,
        };
        txn.create(&keys::approval(&token.id), &approval)
    }

    /// Refuses a join that a person must approve and has not. The first device that asks is written down, with the use of the
    /// token, so that what is approved is that device and no other.
    ///
    /// # Errors
    /// [`AppError::AwaitsApproval`].
    pub(super) async fn must_be_approved(
        &self,
        token: &Held<JoinToken>,
        (device_key, cluster): (DeviceKey, ClusterUid),
        trail: &Trail,
        now: Timestamp,
    ) -> Result<(), AppError> {
        let key = keys::approval(&token.record.id);
        let Some(held) = records::get(self.store().as_ref(), &key).await? else {
            return Ok(());
        };
        if held.record.admits(device_key, cluster) {
            return Ok(());
        }
        let name = &token.record.cluster_name;
        let awaits = || {
            AppError::AwaitsApproval(format!(
                "a person has to approve that cluster {name:?} joins: `meridian cluster approve {name} --words \"…\"` with the words \
                 that the agent shows"
            ))
        };
        if held.record.asked.is_some() {
            return Err(awaits());
        }
        let asked = Asked {
            device_key,
            cluster,
            at: now,
        };
        let (mut waiting, mut used) = (held.record.clone(), token.record.clone());
        tracing::warn!(audit = true, name, %cluster, words = asked.words(), "a cluster waits for approval");
        waiting.asked = Some(asked);
        used.used_by.get_or_insert(TokenUse {
            device_key,
            cluster,
            at: now,
        });
        let txn = Txn::new().replace(&key, &held, &waiting)?.replace(
            &keys::token(&used.id),
            token,
            &used,
        )?;
        let deed = Deed::of_identity("ask", name);
        self.commit_audited(txn, trail, &deed).await?;
        Err(awaits())
    }

    /// Approves the join of the device whose words a person has compared. Once more changes nothing.
    ///
    /// # Errors
    /// [`AppError::NotFound`] if nobody waits under this name, [`AppError::Conflict`] if the words are another device's.
    pub async fn approve(
        &self,
        name: &str,
        typed: &str,
        (by, manner): (&str, &Manner),
    ) -> Result<Asked, AppError> {
        until_uncontended(|| async {
            let mut waiting = Vec::new();
            for held in self.approvals().await? {
                let Approval {
                    cluster_name,
                    asked: Some(asked),
                    granted,
                } = held.record.clone()
                else {
                    continue;
                };
                if cluster_name != name {
                    continue;
                }
                if words::are_equal(typed, &asked.words()) {
                    self.grant(&held, by, manner).await?;
                    return Ok(asked);
                }
                if granted.is_none() {
                    waiting.push(format!("cluster {} since {}", asked.cluster, asked.at));
                }
            }
            Err(mismatch(name, &waiting))
        })
        .await
    }

    async fn grant(
        &self,
        held: &Held<Approval>,
        by: &str,
        manner: &Manner,
    ) -> Result<(), AppError> {
        if held.record.granted.is_some() {
            return Ok(());
        }
        let mut granted = held.record.clone();
        granted.granted = Some(Granted {
            by: by.to_owned(),
            at: self.now(),
        });
        let key = keys::approval(keys::last_part(&held.key));
        let txn = Txn::new().replace(&key, held, &granted)?;
        let name = granted.cluster_name.as_str();
        let deed = Deed::new(Verb::Approve, "cluster", name);
        if self.commit_as(manner, &deed, txn).await?.is_some() {
            tracing::warn!(audit = true, name, by, "the join of a cluster was approved");
        }
        Ok(())
    }

    /// The approvals that tokens demand, by the key of the token's id.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn approvals(&self) -> Result<Vec<Held<Approval>>, AppError> {
        Ok(records::list(self.store().as_ref(), &keys::approvals())
            .await?
            .value)
    }
}

fn mismatch(name: &str, waiting: &[String]) -> AppError {
    if waiting.is_empty() {
        return AppError::NotFound {
            kind: "waiting cluster",
            name: name.to_owned(),
            hint: "; no cluster waits for approval under this name: apply the join material there first".to_owned(),
        };
    }
    AppError::Conflict(format!(
        "these are not the words of what waits as {name:?} ({}): compare with the Event AwaitsApproval of the agent that you mean. If the \
         words there are right, another device used the token: delete the token and make a new one",
        waiting.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::app::testing::{Device, LAB_1, LAB_2, TestHub};

    async fn token(hub: &TestHub) -> String {
        let (life, manner) = (SignedDuration::from_hours(1), Manner::default());
        let made = hub
            .app
            .create_join_token("lab-1", life, true, &manner)
            .await;
        made.unwrap().token.as_str().to_owned()
    }

    fn words_of(device: &Device) -> String {
        words::of_device(device.public().as_bytes(), &device.cluster.to_string())
    }

    async fn approve(hub: &TestHub, words: &str) -> Result<Asked, AppError> {
        let manner = Manner::default();
        hub.app.approve("lab-1", words, ("admin", &manner)).await
    }

    #[tokio::test]
    async fn there_is_no_certificate_before_a_person_has_approved_these_words() {
        let hub = TestHub::new().await;
        let (device, token) = (Device::new(LAB_1), token(&hub).await);
        let nobody = approve(&hub, &words_of(&device)).await;
        assert!(
            matches!(nobody, Err(AppError::NotFound { .. })),
            "{nobody:?}"
        );
        for _ in 0..2 {
            let waits = device.join(&hub.app, &token, "lab-1").await;
            let Err(AppError::AwaitsApproval(told)) = waits else {
                panic!("{waits:?}")
            };
            assert!(told.contains("meridian cluster approve lab-1"), "{told}");
        }
        assert!(hub.app.member_views().await.unwrap().value.is_empty());
        let wrong = approve(&hub, &words_of(&Device::new(LAB_1))).await;
        assert!(
            matches!(&wrong, Err(AppError::Conflict(told)) if told.contains(LAB_1)),
            "{wrong:?}"
        );
        assert!(device.join(&hub.app, &token, "lab-1").await.is_err());
        // However long the person takes: the token was used in time.
        hub.clock.advance(SignedDuration::from_hours(20));
        approve(&hub, &words_of(&device)).await.unwrap();
        device.join(&hub.app, &token, "lab-1").await.unwrap();
    }

    #[tokio::test]
    async fn an_approval_is_good_for_the_device_that_asked_and_for_no_other() {
        let hub = TestHub::new().await;
        let (thief, owner, token) = (Device::new(LAB_2), Device::new(LAB_1), token(&hub).await);
        thief.join(&hub.app, &token, "lab-1").await.unwrap_err();
        // The token is the thief's, whose words nobody approves.
        let refused = owner.join(&hub.app, &token, "lab-1").await;
        assert!(
            matches!(&refused, Err(AppError::Refused(told)) if told.contains("another device")),
            "{refused:?}"
        );
        assert!(approve(&hub, &words_of(&owner)).await.is_err());
        thief.join(&hub.app, &token, "lab-1").await.unwrap_err();
    }

    #[tokio::test]
    async fn a_token_that_demands_no_approval_joins_at_once() {
        let hub = TestHub::new().await;
        drop(hub.member("lab-1", LAB_1).await);
        assert!(hub.app.approvals().await.unwrap().is_empty());
    }
}
