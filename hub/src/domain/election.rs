//! Which of several replicas of the hub leads: a state machine over answers of the store and the replica's own clock.
//!
//! There is one seat. Its record is bound to a lease that the holder renews, so it is empty at most one lease's life after
//! the holder is gone. A replica counts the life of its lease from the moment at which it **asked** for it, by its own
//! clock, which never stands or goes back, and steps down a margin before the end: whoever takes the seat next finds nobody acting in it as long
//! as no two clocks differ in speed by more than the margin is of the life. What a replica does in spite of that (it was
//! stopped and woke up) the store refuses, because every transaction compares the seat and the term.
//!
//! Whether a claim whose answer was lost was carried out is not found out: its lease is given back, which empties the seat.

use std::time::Duration;

#[cfg(test)]
mod tests;

/// A moment of the replica's own clock, since an origin of its own.
pub type Moment = Duration;

/// A lease of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease(pub i64);

/// Lengths of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Life of a lease after it was granted or renewed.
    pub life: Duration,
    /// How long before its end the holder steps down.
    pub margin: Duration,
    /// Between two renewals.
    pub renew_every: Duration,
    /// Between two looks at the seat.
    pub look_every: Duration,
    /// After a failure, until the next attempt.
    pub retry: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            life: Duration::from_secs(3),
            margin: Duration::from_millis(500),
            renew_every: Duration::from_secs(1),
            look_every: Duration::from_millis(500),
            retry: Duration::from_millis(200),
        }
    }
}

/// What the store is asked. Each is answered exactly once, but for [`Ask::Revoke`], whose answer changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Who has the seat?
    Look,
    /// A new lease.
    Grant,
    /// The seat, bound to this lease, together with the next term, if nobody has it.
    Claim(Lease),
    /// Another life for this lease.
    Renew(Lease),
    /// The end of this lease, and with it of what is bound to it.
    Revoke(Lease),
}

/// What the store answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a look: the lease of who has the seat.
    Seat(Option<Lease>),
    /// To a look: the same, and the term is above every one that this replica has written in.
    Overtaken(Option<Lease>),
    /// A lease, and its life.
    Granted(Lease, Duration),
    /// The seat and the next term are the claimer's.
    Claimed,
    /// The claim was not carried out: somebody else was faster.
    Refused,
    /// The lease lives on, this long.
    Renewed(Duration),
    /// There is no such lease any more.
    Over,
    /// No answer, or an error: nobody knows what was carried out.
    Lost,
}

/// What happens to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// The store answered.
    Answered(Ask, Answer),
    /// The replica is told to end.
    Resign,
}

/// Why a leader steps down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The lease could not be renewed in time.
    #[error("its lease could not be renewed in time")]
    Overdue,
    /// The store knows the lease no more.
    #[error("its lease ended in the store")]
    Over,
    /// Somebody has raised the term: a hub that knows nothing of seats, or this one with a transaction whose answer was
    /// lost. In its own term it can write nothing any more.
    #[error("the term was raised above its own, in which it can write nothing any more")]
    Overtaken,
    /// The seat is empty or another's.
    #[error("the seat is not its own any more")]
    Unseated,
    /// It was told to end.
    #[error("it was told to end")]
    Resigned,
}

/// What a replica is to do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the store.
    Ask(Ask),
    /// Begin to lead in the seat that was claimed under this lease.
    Lead(Lease),
    /// Stop to lead, before anything else is done.
    StepDown(Why),
}

/// Something that is done again and again, one at a time.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    due: Moment,
    asked: Option<Moment>,
}

impl Pace {
    /// Whether to ask now.
    fn ask(&mut self, now: Moment) -> bool {
        let ask = self.asked.is_none() && now >= self.due;
        if ask {
            self.asked = Some(now);
        }
        ask
    }

    fn wake(&self) -> Option<Moment> {
        self.asked.is_none().then_some(self.due)
    }
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Follower { retry_at: Moment },
    Granting { asked: Moment },
    Claiming { lease: Lease, until: Moment },
    Leader(Reign),
}

#[derive(Clone, Copy, Debug)]
struct Reign {
    lease: Lease,
    since: Moment,
    until: Moment,
    renewal: Pace,
    /// The last look found the term above its own.
    overtaken: bool,
}

/// The election as one replica sees it.
#[derive(Debug)]
pub struct Election {
    rules: Rules,
    role: Role,
    look: Pace,
    resigned: bool,
}

impl Election {
    /// A replica that has just begun: it follows, and looks at the seat first.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            role: Role::Follower {
                retry_at: Moment::ZERO,
            },
            look: Pace::default(),
            resigned: false,
        }
    }

    /// Until when the replica may act as leader, if it leads.
    #[must_use]
    pub fn leads_until(&self) -> Option<Moment> {
        match self.role {
            Role::Leader(reign) => Some(reign.until),
            Role::Follower { .. } | Role::Granting { .. } | Role::Claiming { .. } => None,
        }
    }

    /// When [`Event::Tick`] is due next, at the latest.
    #[must_use]
    pub fn wake_at(&self) -> Moment {
        let role = match self.role {
            Role::Leader(reign) => reign
                .renewal
                .wake()
                .map_or(Some(reign.until), |due| Some(due.min(reign.until))),
            Role::Claiming { until, .. } => Some(until),
            Role::Follower { .. } | Role::Granting { .. } => None,
        };
        let wakes = [role, self.look.wake()];
        wakes.into_iter().flatten().min().unwrap_or(Moment::MAX)
    }

    /// Takes in what happened at `now` and says what to do.
    #[must_use]
    pub fn step(&mut self, now: Moment, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.expire(now, &mut actions);
        match event {
            Event::Tick => {}
            Event::Answered(ask, answer) => self.answered(now, ask, answer, &mut actions),
            Event::Resign => self.resign(now, &mut actions),
        }
        self.ask(now, &mut actions);
        actions
    }

    /// What is held no longer than the clock allows, whatever has just been answered.
    fn expire(&mut self, now: Moment, actions: &mut Vec<Action>) {
        match self.role {
            Role::Leader(reign) if now >= reign.until => {
                self.step_down(now, Why::Overdue, actions);
            }
            Role::Claiming { lease, until } if now >= until => {
                self.give_back(now, lease, actions);
            }
            Role::Follower { .. }
            | Role::Granting { .. }
            | Role::Claiming { .. }
            | Role::Leader(_) => {}
        }
    }

    fn answered(&mut self, now: Moment, ask: Ask, answer: Answer, actions: &mut Vec<Action>) {
        match ask {
            Ask::Look => self.looked(now, answer, actions),
            Ask::Grant => self.granted(now, answer, actions),
            Ask::Claim(lease) => self.claimed(now, lease, answer, actions),
            Ask::Renew(lease) => self.renewed(now, lease, answer, actions),
            Ask::Revoke(_) => {}
        }
    }

    fn looked(&mut self, now: Moment, answer: Answer, actions: &mut Vec<Action>) {
        let Some(asked) = self.look.asked.take() else {
            return;
        };
        self.look.due = asked + self.rules.look_every;
        let (holder, overtaken) = match answer {
            Answer::Seat(holder) => (holder, false),
            Answer::Overtaken(holder) => (holder, true),
            Answer::Lost
            | Answer::Granted(..)
            | Answer::Claimed
            | Answer::Refused
            | Answer::Renewed(_)
            | Answer::Over => {
                self.look.due = now + self.rules.retry;
                return;
            }
        };
        match &mut self.role {
            Role::Follower { retry_at } if holder.is_none() && now >= *retry_at => {
                if !self.resigned {
                    self.role = Role::Granting { asked: now };
                    actions.push(Action::Ask(Ask::Grant));
                }
            }
            // A look that began before the seat was taken says nothing about it.
            Role::Leader(reign) if asked > reign.since && holder != Some(reign.lease) => {
                self.step_down(now, Why::Unseated, actions);
            }
            // Once is not enough: the leader may have raised it just now and wait for the answer.
            Role::Leader(reign) if reign.overtaken && overtaken => {
                self.step_down(now, Why::Overtaken, actions);
            }
            Role::Leader(reign) => reign.overtaken = asked > reign.since && overtaken,
            Role::Follower { .. } | Role::Granting { .. } | Role::Claiming { .. } => {}
        }
    }

    fn granted(&mut self, now: Moment, answer: Answer, actions: &mut Vec<Action>) {
        let Role::Granting { asked } = self.role else {
            if let Answer::Granted(lease, _) = answer {
                actions.push(Action::Ask(Ask::Revoke(lease)));
            }
            return;
        };
        let Answer::Granted(lease, life) = answer else {
            self.follow(now);
            return;
        };
        let until = self.until(asked, life);
        if self.resigned || now >= until {
            self.give_back(now, lease, actions);
            return;
        }
        self.role = Role::Claiming { lease, until };
        actions.push(Action::Ask(Ask::Claim(lease)));
    }

    fn claimed(&mut self, now: Moment, lease: Lease, answer: Answer, actions: &mut Vec<Action>) {
        match self.role {
            Role::Claiming { lease: ours, until } if ours == lease => {
                if answer != Answer::Claimed {
                    self.give_back(now, lease, actions);
                    return;
                }
                let renewal = Pace {
                    due: now,
                    asked: None,
                };
                self.role = Role::Leader(Reign {
                    lease,
                    since: now,
                    until,
                    renewal,
                    overtaken: false,
                });
                actions.push(Action::Lead(lease));
            }
            Role::Follower { .. }
            | Role::Granting { .. }
            | Role::Claiming { .. }
            | Role::Leader(_) => {
                // Given up meanwhile: should it have been carried out, the seat is left again.
                actions.push(Action::Ask(Ask::Revoke(lease)));
            }
        }
    }

    fn renewed(&mut self, now: Moment, lease: Lease, answer: Answer, actions: &mut Vec<Action>) {
        let rules = self.rules;
        let Role::Leader(reign) = &mut self.role else {
            return;
        };
        if reign.lease != lease {
            return;
        }
        let Some(asked) = reign.renewal.asked.take() else {
            return;
        };
        match answer {
            Answer::Renewed(life) => {
                reign.until = reign.until.max(until(rules, asked, life));
                reign.renewal.due = asked + rules.renew_every;
            }
            Answer::Over => self.step_down(now, Why::Over, actions),
            Answer::Lost
            | Answer::Seat(_)
            | Answer::Overtaken(_)
            | Answer::Granted(..)
            | Answer::Claimed
            | Answer::Refused => reign.renewal.due = now + rules.retry,
        }
    }

    fn resign(&mut self, now: Moment, actions: &mut Vec<Action>) {
        self.resigned = true;
        match self.role {
            Role::Leader(_) => self.step_down(now, Why::Resigned, actions),
            Role::Claiming { lease, .. } => self.give_back(now, lease, actions),
            // A lease that is still to come is given back when it does.
            Role::Follower { .. } | Role::Granting { .. } => {}
        }
    }

    fn ask(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if let Role::Leader(reign) = &mut self.role
            && reign.renewal.ask(now)
        {
            actions.push(Action::Ask(Ask::Renew(reign.lease)));
        }
        if self.look.ask(now) {
            actions.push(Action::Ask(Ask::Look));
        }
    }

    fn step_down(&mut self, now: Moment, why: Why, actions: &mut Vec<Action>) {
        if let Role::Leader(reign) = self.role {
            actions.push(Action::StepDown(why));
            self.give_back(now, reign.lease, actions);
        }
    }

    fn give_back(&mut self, now: Moment, lease: Lease, actions: &mut Vec<Action>) {
        actions.push(Action::Ask(Ask::Revoke(lease)));
        self.follow(now);
    }

    fn follow(&mut self, now: Moment) {
        self.role = Role::Follower {
            retry_at: now + self.rules.retry,
        };
    }

    fn until(&self, asked: Moment, life: Duration) -> Moment {
        until(self.rules, asked, life)
    }
}

/// The end of a lease's life at the earliest, less the margin. A store that grants more than was asked for is not believed.
fn until(rules: Rules, asked: Moment, life: Duration) -> Moment {
    asked + life.min(rules.life).saturating_sub(rules.margin)
}
