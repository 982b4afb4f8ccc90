//! Regions that write, fetch from each other, restart and forget, one step at a time.

use crate::oracle::{self, Act, Event, Mark};
use crate::view::MemoryView;
use meridian_crdt::{
    Batch, Clock, Config, Decimal, Dot, Effect, Generation, Incarnation, InstanceId, Limits,
    Number, Op, Replica, Write, WriteError,
};
use std::collections::{BTreeMap, BTreeSet};

/// Wall clock at the start, milliseconds.
const START_MS: u64 = 1_000_000;

/// What may happen. Numbers of regions are taken modulo the number of regions.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write {
        region: usize,
        write: Intent,
    },
    /// One transaction.
    Together {
        region: usize,
        writes: Vec<Intent>,
    },
    /// Asks a source for this many transactions; they stay on the way.
    Fetch {
        from: usize,
        to: usize,
        transactions: usize,
    },
    /// What is on the way arrives.
    Deliver {
        from: usize,
        to: usize,
    },
    /// Everything up to now survives a crash.
    Persist {
        region: usize,
    },
    /// Tells the others what survives a crash.
    Report {
        region: usize,
    },
    Collect {
        region: usize,
        budget: usize,
    },
    /// Back to what was made durable, without the rest.
    Crash {
        region: usize,
    },
    /// Everybody makes durable what there is and reports it, and most of it arrives.
    Gossip {
        without: usize,
    },
    /// The wall clock of one region moves.
    Time {
        region: usize,
        ms: u64,
    },
}

/// What a client wants to write. Small numbers name keys, elements, fields and texts.
#[derive(Clone, Debug)]
pub(crate) enum Intent {
    Set(u8, u8),
    Count(u8, i64),
    Add(u8, Vec<u8>),
    Remove(u8, Vec<u8>),
    Fill(u8, Vec<(u8, u8)>),
    Clear(u8, Vec<u8>),
    CountIn(u8, u8, i64),
    Delete(Vec<u8>),
}

/// Texts that numbers stand for: integers, numbers in other clothes, words.
const TEXTS: [&str; 8] = ["5", "-3", "007", "1.50", "2e1", "word", "", "12"];

impl Intent {
    /// The write of a client; amounts are hundredths.
    pub(crate) fn to_write(&self) -> Write {
        let name = |n: &u8| vec![b'a' + n];
        let names = |ns: &[u8]| ns.iter().map(name).collect::<Vec<_>>();
        let text = |n: &u8| TEXTS[usize::from(*n) % TEXTS.len()].as_bytes().to_vec();
        let number = |by: &i64| {
            if by % 100 == 0 {
                Number::Integer
            } else {
                Number::Float
            }
        };
        match self {
            Self::Set(k, t) => Write::SetString {
                key: name(k),
                value: text(t),
            },
            Self::Count(k, by) => Write::Increment {
                key: name(k),
                delta: amount(*by),
                number: number(by),
            },
            Self::Add(k, e) => Write::SetAdd {
                key: name(k),
                elements: names(e),
            },
            Self::Remove(k, e) => Write::SetRemove {
                key: name(k),
                elements: names(e),
            },
            Self::Fill(k, f) => {
                let fields = f.iter().map(|(field, t)| (name(field), text(t))).collect();
                Write::HashSet {
                    key: name(k),
                    fields,
                }
            }
            Self::Clear(k, f) => Write::HashRemove {
                key: name(k),
                fields: names(f),
            },
            Self::CountIn(k, f, by) => Write::HashIncrement {
                key: name(k),
                field: name(f),
                delta: amount(*by),
                number: number(by),
            },
            Self::Delete(keys) => Write::Delete { keys: names(keys) },
        }
    }
}

fn amount(hundredths: i64) -> Decimal {
    let text = format!("{hundredths}e-2");
    Decimal::parse(text.as_bytes()).unwrap()
}

fn hundredths(delta: Decimal) -> i64 {
    let number: f64 = delta.to_string().parse().unwrap();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "amounts of the tests are small"
    )]
    let hundredths = (number * 100.0).round() as i64;
    hundredths
}

/// One region, and what the test remembers about it.
pub(crate) struct Region {
    pub(crate) id: InstanceId,
    pub(crate) replica: Replica,
    pub(crate) view: MemoryView,
    /// Effects it holds, in the order of their arrival.
    pub(crate) history: Vec<Effect>,
    durable: Durable,
    now_ms: u64,
}

#[derive(Clone)]
struct Durable {
    snapshot: Vec<u8>,
    clock: Clock,
    view: MemoryView,
    history: Vec<Effect>,
}

pub(crate) struct World {
    pub(crate) regions: Vec<Region>,
    on_the_way: BTreeMap<(usize, usize), Batch>,
    lives: u64,
    forget: bool,
}

pub(crate) fn config(id: u32, members: u32) -> Config {
    let members = (1..=members).map(InstanceId).collect();
    Config {
        instance: InstanceId(id),
        version: 1,
        members,
        ghosts: BTreeSet::new(),
    }
}

impl Region {
    fn new(id: u32, members: u32) -> Self {
        let replica = Replica::new(config(id, members), Limits::default()).unwrap();
        let durable = Durable {
            snapshot: replica.snapshot(),
            clock: Clock::new(),
            view: MemoryView::default(),
            history: vec![],
        };
        let (view, history, now_ms) = (MemoryView::default(), vec![], START_MS);
        Self {
            id: InstanceId(id),
            replica,
            view,
            history,
            durable,
            now_ms,
        }
    }

    /// A copy with the same data, as a promoted replica would be.
    pub(crate) fn fork(&self) -> (Replica, MemoryView) {
        let replica = Replica::restore(&self.replica.snapshot(), Limits::default()).unwrap();
        (replica, self.view.clone())
    }

    fn persist(&mut self) {
        self.durable = Durable {
            snapshot: self.replica.snapshot(),
            clock: self.replica.clock().clone(),
            view: self.view.clone(),
            history: self.history.clone(),
        };
    }

    fn crash(&mut self) {
        let Durable {
            snapshot,
            view,
            history,
            ..
        } = self.durable.clone();
        self.replica = Replica::restore(&snapshot, Limits::default()).unwrap();
        (self.view, self.history) = (view, history);
    }

    pub(crate) fn dots(&self) -> BTreeSet<Dot> {
        self.history.iter().map(|effect| effect.dot).collect()
    }
}

impl World {
    /// Without `forget` nothing is ever collected.
    pub(crate) fn new(regions: usize, forget: bool) -> Self {
        let members = u32::try_from(regions).unwrap();
        let regions = (1..=members).map(|id| Region::new(id, members)).collect();
        Self {
            regions,
            on_the_way: BTreeMap::new(),
            lives: 0,
            forget,
        }
    }

    /// Takes a step and returns the region that may have changed.
    pub(crate) fn step(&mut self, step: &Step) -> usize {
        let n = self.regions.len();
        match step {
            Step::Write { region, write } => self.write(region % n, &write.to_write()),
            Step::Together { region, writes } => self.together(region % n, writes),
            Step::Fetch {
                from,
                to,
                transactions,
            } => {
                self.fetch(from % n, to % n, *transactions);
                to % n
            }
            Step::Deliver { from, to } => {
                self.deliver(from % n, to % n);
                to % n
            }
            Step::Persist { region } => {
                self.regions[region % n].persist();
                region % n
            }
            Step::Report { region } => {
                let clock = self.regions[region % n].durable.clock.clone();
                self.write(region % n, &Write::Report { clock })
            }
            Step::Collect { region, budget } => {
                if self.forget {
                    self.regions[region % n].replica.collect(*budget);
                }
                region % n
            }
            Step::Gossip { without } => {
                self.gossip(without % n);
                without % n
            }
            Step::Crash { region } => {
                self.regions[region % n].crash();
                self.on_the_way.retain(|(_, to), _| *to != region % n);
                region % n
            }
            Step::Time { region, ms } => {
                self.regions[region % n].now_ms += ms;
                region % n
            }
        }
    }

    /// One region misses what comes in.
    fn gossip(&mut self, without: usize) {
        let n = self.regions.len();
        for region in 0..n {
            self.step(&Step::Persist { region });
            self.step(&Step::Report { region });
        }
        for (from, to) in (0..n * n)
            .map(|pair| (pair / n, pair % n))
            .filter(|(_, to)| *to != without)
        {
            self.fetch(from, to, 40);
            self.deliver(from, to);
        }
    }

    fn together(&mut self, region: usize, writes: &[Intent]) -> usize {
        self.regions[region].replica.begin_group();
        for write in writes {
            self.write(region, &write.to_write());
        }
        self.regions[region].replica.end_group();
        region
    }

    pub(crate) fn write(&mut self, region: usize, write: &Write) -> usize {
        let Region {
            replica,
            view,
            history,
            now_ms,
            ..
        } = &mut self.regions[region];
        if replica.incarnation().is_none() {
            self.lives += 1;
            // Fresh, and in no order of time, as random bits would be.
            let bits = self.lives.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            replica.begin(Incarnation(bits)).unwrap();
        }
        let before = view.clone();
        match replica.write(view, *now_ms, write.clone()) {
            Ok(written) => {
                assert_eq!(Effect::decode(&written.bytes).as_ref(), Ok(&written.effect));
                history.push(written.effect);
            }
            Err(
                WriteError::WrongKind
                | WriteError::NotInteger
                | WriteError::NotFloat
                | WriteError::HashNotInteger
                | WriteError::HashNotFloat,
            ) => assert_eq!(*view, before, "a refused write changed something"),
            Err(error) => panic!("{write:?}: {error}"),
        }
        region
    }

    /// A source is asked again only after its last answer has arrived. Not counted in bytes: what is forgotten makes
    /// effects smaller, and runs that differ only in that shall stay comparable.
    fn fetch(&mut self, from: usize, to: usize, transactions: usize) {
        if from == to {
            return;
        }
        self.deliver(from, to);
        let receiver = &self.regions[to];
        let mut clock = receiver.replica.clock().clone();
        let mut all = Batch::default();
        for _ in 0..transactions {
            let batch = self.regions[from]
                .replica
                .pull(receiver.id, &clock, 1)
                .unwrap();
            for bytes in batch.effects {
                let dot = Effect::decode(&bytes).unwrap().dot;
                clock.raise(dot.origin, dot.seq);
                all.effects.push(bytes);
            }
        }
        self.on_the_way.insert((from, to), all);
    }

    fn deliver(&mut self, from: usize, to: usize) {
        let Some(batch) = self.on_the_way.remove(&(from, to)) else {
            return;
        };
        let source = self.regions[from].id;
        let receiver = &mut self.regions[to];
        let arrived = Batch::decode(&batch.encode()).unwrap();
        for bytes in &arrived.effects {
            let effect = Effect::decode(bytes).unwrap();
            if !receiver.replica.clock().covers(effect.dot) {
                receiver.history.push(effect);
            }
        }
        receiver
            .replica
            .apply_batch(&mut receiver.view, receiver.now_ms, source, &arrived)
            .unwrap();
    }

    /// Everybody fetches from everybody until nothing is left.
    pub(crate) fn settle(&mut self) {
        let n = self.regions.len();
        loop {
            let before: Vec<Clock> = self
                .regions
                .iter()
                .map(|r| r.replica.clock().clone())
                .collect();
            for (from, to) in (0..n * n).map(|pair| (pair / n, pair % n)) {
                self.fetch(from, to, 8);
                self.deliver(from, to);
            }
            if self.regions.iter().map(|r| r.replica.clock()).eq(&before) {
                return;
            }
        }
    }

    /// Everything is made durable, reported where that is due, delivered and forgotten, until nobody has anything to say.
    pub(crate) fn quiesce(&mut self) {
        loop {
            let mut reports = 0;
            for region in 0..self.regions.len() {
                self.step(&Step::Persist { region });
                let Region {
                    replica, durable, ..
                } = &self.regions[region];
                if replica.is_report_due(&durable.clock) {
                    reports += 1;
                    self.step(&Step::Report { region });
                }
            }
            self.settle();
            if reports == 0 {
                break;
            }
        }
        for region in &mut self.regions {
            while region.replica.collect(3) {}
        }
    }
}

/// What the oracle says about the effects.
pub(crate) fn expected(history: &[Effect]) -> MemoryView {
    let events: Vec<Event> = history.iter().map(event).collect();
    MemoryView(oracle::values(&events))
}

fn event(effect: &Effect) -> Event {
    let mark = mark(effect.hlc.0, effect.dot);
    let seen = effect
        .context
        .iter()
        .map(|(o, seq)| ((o.instance.0, o.incarnation.0), seq))
        .collect();
    let of = |generation: &Generation| match generation {
        Generation::Stable => oracle::Generation::Oldest,
        Generation::Own => oracle::Generation::Of(mark),
        Generation::Named(stamp) => oracle::Generation::Of(self::mark(stamp.hlc.0, stamp.dot)),
    };
    let act = match effect.op.clone() {
        Op::SetString {
            key,
            value,
            generation,
        } => Act::Put(key, value, of(&generation)),
        Op::Increment {
            key,
            delta,
            generation,
        } => Act::Count(key, hundredths(delta), of(&generation)),
        Op::SetAdd {
            key,
            elements,
            generation,
        } => Act::Include(key, elements, of(&generation)),
        Op::SetRemove { key, elements } => Act::Exclude(key, elements),
        Op::HashSet {
            key,
            fields,
            generation,
        } => Act::Fill(key, fields, of(&generation)),
        Op::HashRemove { key, fields } => Act::Clear(key, fields),
        Op::HashIncrement {
            key,
            field,
            delta,
            generation,
        } => Act::CountIn(key, field, hundredths(delta), of(&generation)),
        Op::Delete { keys } => Act::Drop(keys),
        Op::Report { .. } => Act::Nothing,
    };
    Event { mark, seen, act }
}

fn mark(time: u64, dot: Dot) -> Mark {
    Mark {
        time,
        writer: (dot.origin.instance.0, dot.origin.incarnation.0),
        number: dot.seq,
    }
}
