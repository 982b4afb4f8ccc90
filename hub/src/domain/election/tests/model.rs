//! Time, a network and an etcd for three replicas. Everything follows from the seed.

use std::collections::BTreeMap;

use super::super::*;

/// How far the speed of two clocks may differ, in parts of a thousand: what the margin is chosen for, and some more.
const DRIFT: u64 = 50;
/// After this the driver of a replica calls an answer lost.
const PATIENCE: Duration = Duration::from_millis(800);

/// Every wake-up is late by at most this, as a busy machine makes it.
const STEP: Duration = Duration::from_millis(5);

/// Numbers that follow from a seed (SplitMix64, Steele, Lea and Flood 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `least` up to `most`.
    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    /// True once in so many thousand.
    fn thousandth(&mut self, share: u64) -> bool {
        self.next() % 1000 < share
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Faults {
    /// Requests and answers are lost or late, and processes are stopped for a while.
    All,
    /// The network is fast and processes run.
    None,
}

enum Happening {
    /// A request reaches etcd; its answer is on its way after that.
    Arrives(usize, Ask),
    /// The replica learns something.
    Told(usize, u64, Ask, Answer),
    /// The process is stopped, or goes on.
    Stopped(usize, bool),
}

struct Replica {
    election: Election,
    /// Parts of a thousand by which its clock is fast, above 1000, or slow.
    speed: u64,
    origin: Moment,
    stopped: bool,
    /// What came in while it was stopped.
    inbox: Vec<Event>,
    /// Requests that are not yet answered: each is answered once.
    open: BTreeMap<u64, Ask>,
    /// The term that it acts in: from `Lead` to `StepDown`, as a program would.
    acts_in: Option<u64>,
}

impl Replica {
    fn clock(&self, now: Moment) -> Moment {
        self.origin + now.mul_f64(f64::from(u32::try_from(self.speed).unwrap()) / 1000.0)
    }
}

#[derive(Default)]
struct Etcd {
    leases: BTreeMap<Lease, Moment>,
    seat: Option<Lease>,
    term: u64,
    terms: BTreeMap<Lease, u64>,
    next: i64,
}

impl Etcd {
    fn expire(&mut self, now: Moment) {
        self.leases.retain(|_, end| *end > now);
        self.seat = self.seat.filter(|lease| self.leases.contains_key(lease));
    }

    fn answer(&mut self, now: Moment, ask: Ask, life: Duration) -> Answer {
        self.expire(now);
        match ask {
            Ask::Look => match self.seat {
                Some(lease) if self.terms[&lease] < self.term => Answer::Overtaken(self.seat),
                holder => Answer::Seat(holder),
            },
            Ask::Grant => {
                self.next += 1;
                self.leases.insert(Lease(self.next), now + life);
                Answer::Granted(Lease(self.next), life)
            }
            Ask::Claim(lease) if !self.leases.contains_key(&lease) => Answer::Lost,
            Ask::Claim(_) if self.seat.is_some() => Answer::Refused,
            Ask::Claim(lease) => {
                self.seat = Some(lease);
                self.term += 1;
                self.terms.insert(lease, self.term);
                Answer::Claimed
            }
            Ask::Renew(lease) => match self.leases.get_mut(&lease) {
                Some(end) => {
                    *end = now + life;
                    Answer::Renewed(life)
                }
                None => Answer::Over,
            },
            Ask::Revoke(lease) => {
                self.leases.remove(&lease);
                self.expire(now);
                Answer::Over
            }
        }
    }
}

pub(super) struct World {
    random: Chance,
    now: Moment,
    replicas: Vec<Replica>,
    etcd: Etcd,
    agenda: BTreeMap<(Moment, u64), Happening>,
    /// What is on the agenda, and what was asked, is numbered.
    number: u64,
    /// Term → who led in it.
    led: BTreeMap<u64, usize>,
    faults: Vec<String>,
    mode: Faults,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Chance(seed);
        let replicas = (0..3).map(|_| Replica {
            election: Election::new(Rules::default()),
            speed: random.between(1000 - DRIFT, 1000 + DRIFT),
            origin: Duration::from_millis(random.between(0, 100_000)),
            stopped: false,
            inbox: Vec::new(),
            open: BTreeMap::new(),
            acts_in: None,
        });
        Self {
            replicas: replicas.collect(),
            random,
            now: Moment::ZERO,
            etcd: Etcd::default(),
            agenda: BTreeMap::new(),
            number: 0,
            led: BTreeMap::new(),
            faults: Vec::new(),
            mode: Faults::All,
        }
    }

    pub(super) fn faults(&self) -> Vec<String> {
        self.faults.clone()
    }

    /// Who leads now, by its own clock.
    pub(super) fn leaders(&self) -> Vec<usize> {
        let leads = |it: &Replica| {
            let until = it.election.leads_until();
            until.is_some_and(|until| it.clock(self.now) < until)
        };
        (0..3).filter(|at| leads(&self.replicas[*at])).collect()
    }

    /// Who could write: they act in the term that etcd has.
    pub(super) fn writers(&self) -> Vec<usize> {
        let writes = |it: &Replica| it.acts_in == Some(self.etcd.term);
        (0..3).filter(|at| writes(&self.replicas[*at])).collect()
    }

    pub(super) fn run(&mut self, length: Duration, mode: Faults) {
        self.mode = mode;
        let end = self.now + length;
        if mode == Faults::None {
            for at in 0..3 {
                self.put(Duration::ZERO, Happening::Stopped(at, false));
            }
        }
        while self.now < end {
            self.now += STEP;
            while let Some(((at, _), _)) = self.agenda.first_key_value().map(|it| (*it.0, ())) {
                if at > self.now {
                    break;
                }
                if let Some((_, happening)) = self.agenda.pop_first() {
                    self.happen(happening);
                }
            }
            for at in 0..3 {
                let replica = &self.replicas[at];
                if !replica.stopped && replica.clock(self.now) >= replica.election.wake_at() {
                    self.tell(at, Event::Tick);
                }
            }
            if mode == Faults::All && self.random.thousandth(1) {
                self.stop_one();
            }
            // Who has the seat raised it and heard no answer, or a hub did that knows nothing of seats.
            if mode == Faults::All && self.random.thousandth(1) {
                self.etcd.term += 1;
            }
            self.judge();
        }
    }

    fn stop_one(&mut self) {
        let at = usize::try_from(self.random.between(0, 2)).unwrap();
        let length = Duration::from_millis(self.random.between(1, 8000));
        self.put(Duration::ZERO, Happening::Stopped(at, true));
        self.put(length, Happening::Stopped(at, false));
    }

    fn put(&mut self, after: Duration, happening: Happening) {
        self.number += 1;
        self.agenda
            .insert((self.now + after, self.number), happening);
    }

    fn delay(&mut self) -> Duration {
        let most = match self.mode {
            Faults::All if self.random.thousandth(100) => 3000,
            Faults::All | Faults::None => 10,
        };
        Duration::from_millis(self.random.between(0, most))
    }

    fn lost(&mut self) -> bool {
        self.mode == Faults::All && self.random.thousandth(150)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives(at, ask) => {
                let answer = self.etcd.answer(self.now, ask, Rules::default().life);
                let number = self.replicas[at].open.iter().find(|it| *it.1 == ask);
                if let Some(number) = number.map(|it| *it.0)
                    && !self.lost()
                {
                    let delay = self.delay();
                    self.put(delay, Happening::Told(at, number, ask, answer));
                }
            }
            Happening::Told(at, number, ask, answer) => {
                if self.replicas[at].open.remove(&number).is_some() {
                    self.tell(at, Event::Answered(ask, answer));
                }
            }
            Happening::Stopped(at, true) => self.replicas[at].stopped = true,
            Happening::Stopped(at, false) => {
                self.replicas[at].stopped = false;
                for event in std::mem::take(&mut self.replicas[at].inbox) {
                    self.tell(at, event);
                }
            }
        }
    }

    fn tell(&mut self, at: usize, event: Event) {
        if self.replicas[at].stopped {
            self.replicas[at].inbox.push(event);
            return;
        }
        let clock = self.replicas[at].clock(self.now);
        for action in self.replicas[at].election.step(clock, event) {
            match action {
                Action::Ask(ask) => self.ask(at, ask),
                Action::Lead(lease) => self.lead(at, lease),
                Action::StepDown(_) => self.replicas[at].acts_in = None,
            }
        }
    }

    fn ask(&mut self, at: usize, ask: Ask) {
        self.number += 1;
        let number = self.number;
        if !matches!(ask, Ask::Revoke(_)) {
            self.replicas[at].open.insert(number, ask);
        }
        if !self.lost() {
            let delay = self.delay();
            self.put(delay, Happening::Arrives(at, ask));
        }
        self.put(PATIENCE, Happening::Told(at, number, ask, Answer::Lost));
    }

    fn lead(&mut self, at: usize, lease: Lease) {
        let term = self.etcd.terms[&lease];
        self.replicas[at].acts_in = Some(term);
        if let Some(other) = self.led.insert(term, at).filter(|other| *other != at) {
            self.faults
                .push(format!("{other} and {at} both led in term {term}"));
        }
    }

    /// At no moment two replicas hold that they lead, nor do two that run act as leader.
    fn judge(&mut self) {
        let leaders = self.leaders();
        if leaders.len() > 1 {
            self.faults
                .push(format!("{leaders:?} hold at {:?} that they lead", self.now));
        }
        let acts = |it: &Replica| it.acts_in.is_some() && !it.stopped;
        let acting: Vec<_> = (0..3).filter(|at| acts(&self.replicas[*at])).collect();
        if acting.len() > 1 {
            self.faults
                .push(format!("{acting:?} act as leader at {:?}", self.now));
        }
    }
}
