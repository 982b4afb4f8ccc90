//! A hub on etcd: one of several replicas, of which one at a time leads. This carries out what the election says.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Identity;
use super::office::Office;
use super::process::{FAREWELL, LinkPort, Process, told_to_stop};
use crate::app::reign::{BeginError, Reign};
use crate::app::trust::trusted;
use crate::clock::{Clock as _, SystemClock, since_boot};
use crate::domain::election::{Action, Answer, Ask, Election, Event, Lease, Moment, Rules, Why};
use crate::store::etcd::EtcdStore;
use crate::store::etcd::mirror::Mirror;
use crate::store::etcd::seat::{Seat, Tenure};
use crate::store::records::TxnExt as _;
use crate::store::{Revision, Store, StoreError, keys};
use crate::web::forward::{Client, Follower};
use crate::web::inside::Inside;
use crate::web::{ConnectedCount, WebState};

/// How long a claim may take, with all that is read for it.
const CLAIM: Duration = Duration::from_secs(2);
/// How long the work of a leader may go on after it had to step down: shorter than the margin before its lease ends.
const STEP_DOWN: Duration = Duration::from_millis(400);
/// Longest sleep of the election, for a moment that never comes.
const NAP: Duration = Duration::from_secs(1);
/// How much earlier than its tenure the work of a leader ends: what is left over for giving the seat back.
const BEFORE_THE_END: Duration = Duration::from_millis(100);
/// How long the seat may take to be given back when the process ends.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// A following hub's answers, until the copy that they are read from shows another reign.
struct Following {
    reign: Reign,
    /// Version of the roots that it trusts the leader by.
    roots: u64,
    /// Revision at which the copy was looked at.
    looked_at: Revision,
}

/// What came of a question to the store.
struct Told {
    ask: Ask,
    answer: Answer,
    /// Of a claim that was carried out.
    won: Option<Won>,
}

impl Told {
    fn new(ask: Ask, answer: Answer) -> Self {
        Self {
            ask,
            answer,
            won: None,
        }
    }
}

/// A reign that was won with the seat.
struct Won {
    lease: Lease,
    store: EtcdStore,
    reign: Reign,
}

/// What a question needs.
struct Desk {
    identity: Identity,
    store: Arc<EtcdStore>,
    /// The name of this process and its address, as a seat shows them.
    replica: String,
    web_address: String,
    tenure: Tenure,
}

/// A replica.
pub(super) struct Replica {
    desk: Arc<Desk>,
    process: Process,
    link: LinkPort,
    election: Election,
    asked: JoinSet<anyhow::Result<Told>>,
    won: Option<Won>,
    office: Option<Office>,
    mirror: Arc<Mirror>,
    following: Option<Following>,
}

impl Replica {
    pub(super) fn new(
        identity: Identity,
        store: Arc<EtcdStore>,
        mut process: Process,
        link: LinkPort,
        web_address: String,
    ) -> Self {
        let desk = Desk {
            identity,
            store,
            replica: format!("{:016x}", rand::random::<u64>()),
            web_address,
            tenure: Tenure::default(),
        };
        let mirror = Arc::new(Mirror::new(Arc::clone(&desk.store)));
        let fed = Arc::clone(&mirror);
        process.run_beside("the copy of the state", async move { fed.run().await });
        Self {
            desk: Arc::new(desk),
            process,
            link,
            election: Election::new(Rules::default()),
            asked: JoinSet::new(),
            won: None,
            office: None,
            mirror,
            following: None,
        }
    }

    /// Leads or follows until told to stop, or until a part ends by itself.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let ended = self.take_part().await;
        let resigned = self.step(Event::Resign).await;
        let giving_back = async { while self.asked.join_next().await.is_some() {} };
        if timeout(GIVE_BACK, giving_back).await.is_err() {
            tracing::warn!(
                "the seat could not be given back in time; it is free when its lease ends"
            );
        }
        self.process.close().await;
        ended.and(resigned)
    }

    async fn take_part(&mut self) -> anyhow::Result<()> {
        let stop = told_to_stop();
        tokio::pin!(stop);
        loop {
            let nap = self
                .election
                .wake_at()
                .saturating_sub(since_boot())
                .min(NAP);
            let office = async {
                match &mut self.office {
                    Some(office) => office.failed().await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                told = &mut stop => return told,
                error = self.process.failed() => return Err(error),
                error = office => return Err(error),
                Some(told) = self.asked.join_next() => {
                    let told = told.context("a question to the store panicked")??;
                    self.won = told.won.or(self.won.take());
                    Event::Answered(told.ask, told.answer)
                }
                () = sleep(nap) => Event::Tick,
            };
            self.step(event).await?;
            self.follow().await?;
        }
    }

    async fn step(&mut self, event: Event) -> anyhow::Result<()> {
        let now = since_boot();
        let until = self.election.leads_until().unwrap_or_default();
        let actions = self.election.step(now, event);
        // Before anything that takes time: who has stepped down writes nothing from here on. Who resigns has its seat until
        // it gives it back, and writes down until then how its sessions end.
        if !actions.contains(&Action::StepDown(Why::Resigned)) {
            let until = self.election.leads_until().unwrap_or_default();
            self.desk.tenure.set(until);
        }
        for action in actions {
            match action {
                Action::Ask(ask) => {
                    let desk = Arc::clone(&self.desk);
                    self.asked.spawn(async move { desk.ask(ask).await });
                }
                Action::Lead(lease) => self.lead(lease)?,
                Action::StepDown(why) => self.step_down(why, farewell(why, until, now)).await,
            }
        }
        Ok(())
    }

    /// Answers from the copy of the state, as soon as that is whole and names a reign.
    async fn follow(&mut self) -> anyhow::Result<()> {
        let revision = self.mirror.revision();
        let looked = self.following.as_ref().map(|it| it.looked_at);
        if self.office.is_some() || self.mirror.age().is_none() || looked == Some(revision) {
            return Ok(());
        }
        let copy: Arc<dyn Store> = Arc::clone(&self.mirror) as _;
        let Some(reign) = Reign::newest(copy.as_ref()).await? else {
            return Ok(());
        };
        // The seat may have been taken by a replica with another authority, and the leader may have let other roots in force.
        let identity = &self.desk.identity;
        trusted(copy.as_ref(), &identity.ca).await?;
        let roots = identity.ca.version();
        let before = self.following.replace(Following {
            reign,
            roots,
            looked_at: revision,
        });
        if before.is_some_and(|before| (before.reign, before.roots) == (reign, roots)) {
            return Ok(());
        }
        let follower = Follower {
            replica: self.desk.replica.clone(),
            mirror: Arc::clone(&self.mirror),
            client: Client::new(&identity.ca.roots())?,
        };
        tracing::info!(term = %reign.term, "this hub follows");
        self.process.front.put(WebState {
            app: Arc::new(identity.app(copy, reign)),
            metrics: Arc::clone(&self.process.metrics),
            connected: ConnectedCount(Arc::new(|| 0)),
            limits: Arc::clone(&self.process.limits),
            watches: self.process.watches(),
            sign_in: self.process.sign_in.clone(),
            follower: Some(follower),
            // What is inside of a hub is asked of the one that leads.
            inside: Inside::default(),
        });
        Ok(())
    }

    fn lead(&mut self, lease: Lease) -> anyhow::Result<()> {
        let won = self.won.take().filter(|won| won.lease == lease);
        let won = won.context("a seat was taken whose reign is unknown")?;
        let app = self.desk.identity.app(Arc::new(won.store), won.reign);
        let office = self.process.open_office(Arc::new(app), &mut self.link)?;
        self.office = Some(office);
        self.following = None;
        Ok(())
    }

    async fn step_down(&mut self, why: Why, farewell: Duration) {
        tracing::warn!(%why, "this hub leads no more");
        self.process.front.clear();
        if let Some(office) = self.office.take() {
            office.close(farewell).await;
        }
    }
}

impl Desk {
    /// Asks the store. Only what no repetition can mend is an error.
    async fn ask(&self, ask: Ask) -> anyhow::Result<Told> {
        let answer = match ask {
            Ask::Look => {
                let looked = self.store.look().await;
                looked.map(|looked| {
                    let holder = looked.seat.map(|(lease, _)| lease);
                    if looked.term > self.tenure.term() {
                        return Answer::Overtaken(holder);
                    }
                    Answer::Seat(holder)
                })
            }
            Ask::Grant => {
                let granted = self.store.grant(Rules::default().life).await;
                granted.map(|(lease, life)| Answer::Granted(lease, life))
            }
            Ask::Claim(lease) => return self.claim(lease).await,
            Ask::Renew(lease) => {
                let renewed = self.store.renew(lease).await;
                renewed.map(|life| life.map_or(Answer::Over, Answer::Renewed))
            }
            Ask::Revoke(lease) => self.store.revoke(lease).await.map(|()| Answer::Over),
        };
        Ok(Told::new(
            ask,
            answer.unwrap_or_else(|error| lost(ask, &error)),
        ))
    }

    async fn claim(&self, lease: Lease) -> anyhow::Result<Told> {
        let ask = Ask::Claim(lease);
        let answer = match timeout(CLAIM, self.try_claim(lease)).await {
            Ok(Ok(won)) => {
                return Ok(Told {
                    ask,
                    answer: Answer::Claimed,
                    won: Some(won),
                });
            }
            Ok(Err(error)) => refused_or_lost(ask, &error.downcast::<StoreError>()?),
            Err(_late) => Answer::Lost,
        };
        Ok(Told::new(ask, answer))
    }

    /// The next reign begins in the transaction that takes the seat.
    async fn try_claim(&self, lease: Lease) -> anyhow::Result<Won> {
        let (ca, origin) = (&self.identity.ca, self.identity.origin);
        let store = self.store.as_ref();
        let prepared = Reign::prepare(store, ca, origin, SystemClock.now()).await;
        let (reign, mut txn) = prepared.map_err(|error| match error {
            // As every other failure of the store, by which a claim is lost and not the process.
            BeginError::Store(error) => anyhow::Error::from(error),
            other @ (BeginError::Ca(_)
            | BeginError::OtherAuthority { .. }
            | BeginError::NoAuthority { .. }
            | BeginError::NewAuthority
            | BeginError::HalfRestored { .. }
            | BeginError::OtherTrustDomain { .. }) => other.into(),
        })?;
        let first = self.identity.first_token(store).await?;
        if let Some(first) = &first {
            txn = txn.create(&keys::user(&first.kept.id), &first.kept)?;
        }
        let seat = Seat {
            replica: self.replica.clone(),
            web_address: self.web_address.clone(),
            term: reign.term.0,
        };
        let tenure = self.tenure.clone();
        let claimed = self.store.claim(lease, &seat, txn, tenure).await;
        // Not after an error that leaves open whether it was kept.
        if let (Err(error), Some(first)) = (&claimed, first)
            && is_refusal(error)
        {
            first.withdraw();
        }
        let store = claimed?;
        Ok(Won {
            lease,
            store,
            reign,
        })
    }
}

/// How long the work of a leader may go on that leads no more. Who resigns has its seat until it gives it back, but its lease
/// is not renewed meanwhile: its work ends before its time is over, `until`.
fn farewell(why: Why, until: Moment, now: Moment) -> Duration {
    match why {
        Why::Resigned => FAREWELL.min(until.saturating_sub(now + BEFORE_THE_END)),
        Why::Overdue | Why::Over | Why::Overtaken | Why::Unseated => STEP_DOWN,
    }
}

/// Whether a claim was certainly not carried out.
fn is_refusal(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::NotLeading | StoreError::Fenced { .. } | StoreError::Conflict { .. }
    )
}

fn refused_or_lost(ask: Ask, error: &StoreError) -> Answer {
    if is_refusal(error) {
        tracing::info!(%error, "the seat was not taken");
        return Answer::Refused;
    }
    lost(ask, error)
}

fn lost(ask: Ask, error: &StoreError) -> Answer {
    let error: &dyn std::error::Error = error;
    if ask == Ask::Look {
        // Comes again within a fraction of a second.
        tracing::debug!(error, "who leads could not be read");
    } else {
        tracing::warn!(?ask, error, "the store did not answer a replica of the hub");
    }
    Answer::Lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_resigns_ends_its_work_before_its_time_is_over() {
        let now = Duration::from_secs(100);
        let until = now + Duration::from_millis(2400);
        let given = farewell(Why::Resigned, until, now);
        assert_eq!(now + given + BEFORE_THE_END, until);
        let over = farewell(Why::Resigned, now, now);
        assert_eq!(over, Duration::ZERO);
        let margin = Rules::default().margin;
        for why in [Why::Overdue, Why::Over, Why::Overtaken, Why::Unseated] {
            assert!(farewell(why, until, now) < margin, "{why}");
        }
    }
}
