//! One shard of one node: events in, actions out.

use super::asking::Asking;
use super::fitness::{Fitness, is_known_unfit, judge, unfit_up_to};
use super::{
    Action, Answer, Duty, Event, Facts, Following, Found, Life, Millis, Order, Permission,
    Position, Read, Role, Term, Until, View, Wish,
};

/// The state machine of one shard on one node. See the module's head.
#[derive(Clone, Debug)]
pub struct Core {
    duty: Option<Duty>,
    facts: Facts,
    life: Option<Life>,
    stopping: bool,
    /// Its process does not start with the files that are there.
    refused: bool,
    /// The highest epoch of a fence, or of another's primacy, that somebody told; 0: none.
    told_fence: u64,
    asking: Asking,
    /// What a read in this life and term showed: nobody is in sync.
    alone: Option<bool>,
    /// The order under way.
    under_way: Option<Order>,
    /// It led until now: its clients are to be closed.
    close_clients: bool,
    /// The epoch under whose fence clients were closed.
    closed: Option<u64>,
    /// The shard may hold a permission without end.
    unbounded: bool,
    /// Since when it has not followed the primary that it should follow.
    apart_since: Option<Millis>,
}

impl Core {
    /// A shard of which nothing is known but what was recorded.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        Self {
            duty: None,
            facts,
            life: None,
            stopping: false,
            refused: false,
            told_fence: 0,
            asking: Asking::default(),
            alone: None,
            under_way: None,
            close_clients: false,
            closed: None,
            unbounded: true,
            apart_since: None,
        }
    }

    /// Takes in `event` at `now` and says what to do. `now` never goes back.
    #[must_use]
    pub fn handle(&mut self, now: Millis, event: Event) -> Vec<Action> {
        match event {
            Event::Obeys(duty) => self.obeys(duty),
            Event::Stopping => self.stopping = true,
            Event::Refused => self.refused = true,
            Event::Up(life) => self.up(life),
            Event::Down => {
                self.life = None;
                self.under_way = None;
            }
            Event::Seen(position) => {
                if let Some(life) = &mut self.life {
                    life.position = position;
                }
            }
            Event::Done => self.done(),
            Event::Granted {
                round,
                member,
                answer,
            } => self.granted(round, member, answer),
            Event::Read { round, found } => self.read(round, found),
            Event::Tick => {}
        }
        self.note_whether_apart(now);
        self.next(now)
    }

    /// When the next [`Event::Tick`] is due.
    #[must_use]
    pub fn wake(&self, now: Millis) -> Option<Millis> {
        let permission_ends = self.held().and_then(|held| match held.until {
            Until::At(end) if end > now => Some(end),
            Until::At(_) | Until::Forever => None,
        });
        let asks = self
            .duty
            .as_ref()
            .filter(|_| self.asks_grants() || self.asks_for_company())
            .map(|duty| {
                self.asking
                    .wake(now, &duty.members(), self.asks_for_company())
            });
        asks.into_iter().chain(permission_ends).min()
    }

    /// What there is to report at `now`.
    #[must_use]
    pub fn view(&self, now: Millis) -> View {
        let leads = self.life.as_ref().map(|l| l.position == Position::Leads);
        let complete = self
            .life
            .as_ref()
            .is_some_and(|l| self.facts.complete.as_ref() == Some(&l.id));
        let Some(duty) = &self.duty else {
            return View {
                leads,
                complete,
                apart_since: self.apart_since,
                ..View::default()
            };
        };
        let primary = duty.role == Role::Lead;
        let stopped = self.life.as_ref().is_some_and(|l| l.revoked >= duty.epoch);
        View {
            leads,
            complete,
            writable: primary
                && leads == Some(true)
                && self.held().is_some_and(|held| Until::At(now) < held.until),
            counts: if primary && !self.unbounded && self.fitness() == Some(Fitness::Fit) {
                duty.members()
            } else {
                Default::default()
            },
            members: if primary {
                duty.members()
            } else {
                Default::default()
            },
            fenced: self
                .fence()
                .filter(|_| !primary || (stopped && !self.must_close())),
            wish: self.wish(),
            served: self.facts.served.as_ref().map(|term| term.epoch),
            apart_since: self.apart_since,
        }
    }

    /// What was recorded last.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    fn obeys(&mut self, duty: Duty) {
        let before = self.duty.replace(duty);
        let (Some(before), Some(duty)) = (before, &self.duty) else {
            return;
        };
        if before.uid != duty.uid {
            self.told_fence = 0;
        }
        if (&before.uid, before.epoch) != (&duty.uid, duty.epoch) {
            self.asking = self.asking.anew();
            self.alone = None;
        }
    }

    fn note_whether_apart(&mut self, now: Millis) {
        let follows = match (&self.duty, &self.life) {
            (Some(duty), Some(life)) => match (&duty.role, &life.position) {
                (Role::Follow(wanted), Position::Follows { host, state }) => {
                    host == wanted && *state == Following::Up
                }
                (Role::Follow(_) | Role::Lead, _) => false,
            },
            (_, None) | (None, _) => false,
        };
        self.apart_since = if follows {
            None
        } else {
            self.apart_since.or(Some(now))
        };
    }

    fn up(&mut self, life: Life) {
        self.unbounded = life
            .permission
            .is_some_and(|p| p.epoch > life.revoked && p.until == Until::Forever);
        if self.life.as_ref().is_none_or(|known| known.id != life.id) {
            self.alone = None;
        }
        self.under_way = None;
        self.refused = false;
        self.life = Some(life);
    }

    fn done(&mut self) {
        let (Some(order), Some(life)) = (self.under_way.take(), &mut self.life) else {
            return;
        };
        match order {
            Order::Record(facts) => self.facts = facts,
            Order::Revoke(epoch) => {
                life.revoked = life.revoked.max(epoch);
                if life.permission.is_some_and(|p| p.epoch <= epoch) {
                    life.permission = None;
                    self.unbounded = false;
                }
            }
            Order::Permit(permission) => {
                life.permission = Some(permission);
                self.unbounded = permission.until == Until::Forever;
            }
            Order::Lead => life.position = Position::Leads,
            Order::Follow(host) => {
                self.close_clients |= life.position == Position::Leads;
                let state = Following::Down;
                life.position = Position::Follows { host, state };
            }
            Order::CloseClients => {
                self.close_clients = false;
                self.closed = self.duty.as_ref().map(|duty| duty.epoch);
            }
        }
    }

    fn granted(&mut self, round: u64, member: String, answer: Answer) {
        let known = self.asking.answered(round, member, answer);
        if let Answer::Refused {
            fenced: Some(epoch),
        } = answer
            && known
        {
            self.told_fence = self.told_fence.max(epoch);
        }
    }

    fn read(&mut self, round: u64, found: Found) {
        let (Some(started), Some(duty)) = (self.asking.started(round), &self.duty) else {
            return;
        };
        let Found::Topology(Read {
            uid,
            epoch,
            fence,
            leads,
            in_sync,
        }) = found
        else {
            return;
        };
        if uid != duty.uid {
            // Another object is no news of this one.
            return;
        }
        let fence = fence.filter(|fence| *fence > duty.epoch);
        let replaced = (epoch > duty.epoch && !leads).then_some(epoch);
        if let Some(told) = fence.max(replaced) {
            self.told_fence = self.told_fence.max(told);
        } else if epoch == duty.epoch && leads {
            self.asking.read(started);
            self.alone = Some(in_sync.is_empty());
        }
    }

    /// The newest fence above the epoch that is obeyed.
    fn fence(&self) -> Option<u64> {
        let duty = self.duty.as_ref()?;
        let told = if duty.role == Role::Lead {
            self.told_fence
        } else {
            0
        };
        let fence = duty.fence.unwrap_or(0).max(told);
        (fence > duty.epoch).then_some(fence)
    }

    /// Clients are there that must look for another primary. Whoever drives the shard anew under a fence closes them again.
    fn must_close(&self) -> bool {
        let fenced = self.fence().is_some()
            && self
                .duty
                .as_ref()
                .is_some_and(|duty| duty.role == Role::Lead && self.closed != Some(duty.epoch));
        self.close_clients || fenced
    }

    fn term(&self) -> Option<Term> {
        self.duty.as_ref().map(|duty| Term {
            uid: duty.uid.clone(),
            epoch: duty.epoch,
        })
    }

    fn fitness(&self) -> Option<Fitness> {
        let (duty, life) = (self.duty.as_ref()?, self.life.as_ref()?);
        Some(judge(duty, &life.id, &self.facts, self.alone))
    }

    /// The permission that the shard holds, unless it was revoked.
    fn held(&self) -> Option<Permission> {
        let life = self.life.as_ref()?;
        life.permission.filter(|p| p.epoch > life.revoked)
    }

    fn wish(&self) -> Option<Wish> {
        let duty = self.duty.as_ref().filter(|d| d.role == Role::Lead)?;
        let term = self.term();
        if self.fitness() == Some(Fitness::Unfit) || is_known_unfit(duty, &self.facts) {
            return Some(Wish::Unfit {
                served: self.facts.served.is_some() && self.facts.served == term,
                epoch: duty.epoch,
            });
        }
        let wish = match (self.refused, self.stopping) {
            (true, _) => Some(Wish::Refused),
            (false, true) => Some(Wish::Stopping),
            (false, false) => None,
        };
        wish.filter(|_| !duty.in_sync.is_empty())
    }

    /// Everything is ready for a permission; only the others' word may be missing.
    fn may_lead(&self) -> bool {
        let (Some(duty), Some(life)) = (&self.duty, &self.life) else {
            return false;
        };
        duty.role == Role::Lead
            && life.position == Position::Leads
            && life.revoked < duty.epoch
            && self.fence().is_none()
            && self.fitness() == Some(Fitness::Fit)
            && self.record().is_none()
    }

    fn asks_grants(&self) -> bool {
        self.may_lead() && self.duty.as_ref().is_some_and(|d| !d.members().is_empty())
    }

    /// Only the topology of now can say whether this life may lead.
    fn asks_for_company(&self) -> bool {
        let leads = self.duty.as_ref().is_some_and(|d| d.role == Role::Lead);
        leads && self.fence().is_none() && self.fitness() == Some(Fitness::AskWhetherAlone)
    }

    fn next(&mut self, now: Millis) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.asks_grants() || self.asks_for_company() {
            let company = self.asks_for_company();
            if let Some(duty) = &self.duty {
                actions.extend(self.asking.due(now, duty, company));
            }
        }
        if self.under_way.is_none()
            && let Some(order) = self.order(now)
        {
            if matches!(&order, Order::Permit(p) if p.until == Until::Forever) {
                self.unbounded = true;
            }
            self.under_way = Some(order.clone());
            actions.push(Action::Do(order));
        }
        actions
    }

    fn order(&self, now: Millis) -> Option<Order> {
        let (duty, life) = (self.duty.as_ref()?, self.life.as_ref()?);
        let must_not_write = match duty.role {
            Role::Follow(_) => true,
            Role::Lead => self.fence().is_some(),
        };
        if must_not_write && life.revoked < duty.epoch {
            return Some(Order::Revoke(duty.epoch));
        }
        if let Role::Follow(host) = &duty.role
            && !matches!(&life.position, Position::Follows { host: now, .. } if now == host)
        {
            return Some(Order::Follow(host.clone()));
        }
        if self.must_close() {
            return Some(Order::CloseClients);
        }
        if let Some(facts) = self.record() {
            return Some(Order::Record(facts));
        }
        if duty.role != Role::Lead || self.fence().is_some() || self.fitness() != Some(Fitness::Fit)
        {
            return None;
        }
        if life.position != Position::Leads {
            return Some(Order::Lead);
        }
        self.permit(now).map(Order::Permit)
    }

    /// What must be on disk before anything else happens.
    fn record(&self) -> Option<Facts> {
        let (duty, life) = (self.duty.as_ref()?, self.life.as_ref()?);
        let term = self.term();
        let copying = matches!(
            life.position,
            Position::Follows {
                state: Following::Copying,
                ..
            }
        );
        let mut facts = self.facts.clone();
        let others_have_more = duty.role != Role::Lead || !duty.in_sync.is_empty();
        if copying && others_have_more && facts.complete.as_ref() == Some(&life.id) {
            // What it had may be gone already, what it takes over is not complete.
            facts.complete = None;
            return Some(facts);
        }
        match duty.role {
            Role::Follow(_) => {
                if let Position::Follows {
                    state: Following::Up,
                    ..
                } = life.position
                {
                    facts.complete = Some(life.id.clone());
                    facts.unfit = None;
                }
            }
            Role::Lead => match self.fitness()? {
                // It will not serve in this epoch any more.
                Fitness::Fit if self.fence().is_some() => {}
                Fitness::Fit => {
                    facts.complete = Some(life.id.clone());
                    let held = self.held().filter(|held| held.epoch == duty.epoch);
                    facts.led = held.and_then(|_| term.clone()).or(facts.led);
                    facts.served = term;
                    facts.unfit = None;
                }
                Fitness::Unfit => {
                    let known = facts.unfit.take().filter(|u| u.uid == duty.uid);
                    let up_to = unfit_up_to(duty, self.fence());
                    facts.unfit = known.filter(|u| u.epoch > up_to.epoch).or(Some(up_to));
                }
                Fitness::AskWhetherAlone => {}
            },
        }
        (facts != self.facts).then_some(facts)
    }

    fn permit(&self, now: Millis) -> Option<Permission> {
        let (duty, life) = (self.duty.as_ref()?, self.life.as_ref()?);
        if life.revoked >= duty.epoch {
            return None;
        }
        let until = self.asking.until(&duty.members())?;
        let permission = Permission {
            epoch: duty.epoch,
            until,
        };
        let worth_it = match life.permission {
            Some(held) if held.epoch == duty.epoch => match (held.until, until) {
                // Somebody is counted now: the end of the lease replaces the permission without end.
                (Until::Forever, Until::At(_)) => true,
                (held, until) => until > held,
            },
            Some(_) | None => true,
        };
        (worth_it && Until::At(now) < until).then_some(permission)
    }
}
