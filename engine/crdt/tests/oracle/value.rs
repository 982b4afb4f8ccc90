//! What every value has to be, as a function of the set of writes: slow, short, and written without any merge code.
//!
//! A writer's stream is numbered from 1 and `seen` says how much of every stream the writer had received. An item (a value
//! set, an increment, an element added) is there unless a removal has seen it, or unless another kind has a generation
//! with a greater stamp than the one the item was written under. A writer that names the oldest generation says that its
//! kind was greater than every generation it had seen, and that those it had not seen are greater.

use std::collections::{BTreeMap, BTreeSet};

/// (instance id, incarnation).
pub(crate) type Writer = (u32, u64);
pub(crate) type Bytes = Vec<u8>;

/// Which write, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) time: u64,
    pub(crate) writer: Writer,
    pub(crate) number: u64,
}

impl Mark {
    /// The later time wins, then the smaller instance id (then the smaller incarnation, then the later write).
    fn beats(self, other: Self) -> bool {
        let rank = |m: Self| {
            (
                m.time,
                u32::MAX - m.writer.0,
                u64::MAX - m.writer.1,
                m.number,
            )
        };
        rank(self) > rank(other)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Generation {
    Oldest,
    Of(Mark),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Set,
    Map,
}

/// One write. Amounts are in hundredths.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) mark: Mark,
    pub(crate) seen: BTreeMap<Writer, u64>,
    pub(crate) act: Act,
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    Put(Bytes, Bytes, Generation),
    Count(Bytes, i64, Generation),
    Include(Bytes, Vec<Bytes>, Generation),
    Exclude(Bytes, Vec<Bytes>),
    Fill(Bytes, Vec<(Bytes, Bytes)>, Generation),
    Clear(Bytes, Vec<Bytes>),
    CountIn(Bytes, Bytes, i64, Generation),
    Drop(Vec<Bytes>),
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(Bytes),
    Set(BTreeSet<Bytes>),
    Map(BTreeMap<Bytes, Bytes>),
}

/// Where inside a key an item sits: the key itself, an element, a field.
type Spot = Option<Bytes>;

#[derive(Clone, Debug)]
enum What {
    Value(Bytes),
    Amount(i64),
    Member,
}

struct Item<'a> {
    event: &'a Event,
    key: &'a Bytes,
    kind: Kind,
    spot: Spot,
    what: What,
    generation: Generation,
}

/// All values that the writes lead to.
pub(crate) fn values(events: &[Event]) -> BTreeMap<Bytes, Value> {
    let items: Vec<Item<'_>> = events.iter().flat_map(items_of).collect();
    let mut result = BTreeMap::new();
    for key in items.iter().map(|item| item.key).collect::<BTreeSet<_>>() {
        let lives = |item: &&Item<'_>| {
            item.key == key && !is_removed(item, events) && !is_outlived(item, &items)
        };
        let alive: Vec<&Item<'_>> = items.iter().filter(lives).collect();
        let Some(first) = alive.first() else { continue };
        assert!(
            alive.iter().all(|item| item.kind == first.kind),
            "two kinds are alive at {key:?}"
        );
        let spots: BTreeSet<&Spot> = alive.iter().map(|item| &item.spot).collect();
        let text = |spot: &Spot| text_of(alive.iter().filter(|item| item.spot == *spot));
        let value = match first.kind {
            Kind::Text => Value::Text(text(&None)),
            Kind::Set => Value::Set(spots.into_iter().flatten().cloned().collect()),
            Kind::Map => Value::Map(
                spots
                    .into_iter()
                    .map(|s| (s.clone().unwrap_or_default(), text(s)))
                    .collect(),
            ),
        };
        result.insert(key.clone(), value);
    }
    result
}

fn items_of(event: &Event) -> Vec<Item<'_>> {
    let item = |key, kind, spot, what, generation| Item {
        event,
        key,
        kind,
        spot,
        what,
        generation,
    };
    match &event.act {
        Act::Put(key, value, g) => {
            vec![item(key, Kind::Text, None, What::Value(value.clone()), *g)]
        }
        Act::Count(key, by, g) => vec![item(key, Kind::Text, None, What::Amount(*by), *g)],
        Act::CountIn(key, field, by, g) => {
            vec![item(
                key,
                Kind::Map,
                Some(field.clone()),
                What::Amount(*by),
                *g,
            )]
        }
        Act::Include(key, elements, g) => {
            let member = |e: &Bytes| item(key, Kind::Set, Some(e.clone()), What::Member, *g);
            elements.iter().map(member).collect()
        }
        Act::Fill(key, fields, g) => {
            // Of a field that is named twice the last value counts.
            let last: BTreeMap<&Bytes, &Bytes> = fields.iter().map(|(f, v)| (f, v)).collect();
            let field = |(f, v): (&Bytes, &Bytes)| {
                item(key, Kind::Map, Some(f.clone()), What::Value(v.clone()), *g)
            };
            last.into_iter().map(field).collect()
        }
        Act::Exclude(..) | Act::Clear(..) | Act::Drop(..) | Act::Nothing => vec![],
    }
}

fn has_seen(event: &Event, mark: Mark) -> bool {
    event
        .seen
        .get(&mark.writer)
        .is_some_and(|seen| *seen >= mark.number)
}

fn is_removed(item: &Item<'_>, events: &[Event]) -> bool {
    let in_spot = |spots: &[Bytes]| item.spot.as_ref().is_some_and(|spot| spots.contains(spot));
    let aims_at = |event: &Event| match &event.act {
        Act::Put(key, ..) => key == item.key,
        Act::Drop(keys) => keys.contains(item.key),
        Act::Exclude(key, elements) => {
            key == item.key && item.kind == Kind::Set && in_spot(elements)
        }
        Act::Clear(key, fields) => key == item.key && item.kind == Kind::Map && in_spot(fields),
        Act::Fill(key, fields, _) => {
            let names: Vec<Bytes> = fields.iter().map(|(field, _)| field.clone()).collect();
            key == item.key && item.kind == Kind::Map && in_spot(&names)
        }
        Act::Count(..) | Act::Include(..) | Act::CountIn(..) | Act::Nothing => false,
    };
    events
        .iter()
        .any(|event| aims_at(event) && has_seen(event, item.event.mark))
}

fn is_outlived(item: &Item<'_>, items: &[Item<'_>]) -> bool {
    items
        .iter()
        .filter(|other| other.key == item.key && other.kind != item.kind)
        .any(|other| match (other.generation, item.generation) {
            (Generation::Oldest, Generation::Of(ours)) => has_seen(other.event, ours),
            (Generation::Oldest, Generation::Oldest) => has_seen(other.event, item.event.mark),
            (Generation::Of(theirs), Generation::Of(ours)) => theirs.beats(ours),
            (Generation::Of(theirs), Generation::Oldest) => !has_seen(item.event, theirs),
        })
}

fn text_of<'a>(items: impl Iterator<Item = &'a &'a Item<'a>>) -> Bytes {
    let (mut base, mut sum, mut counted): (Option<(Mark, &Bytes)>, i64, bool) = (None, 0, false);
    for item in items {
        match &item.what {
            What::Value(value) if base.is_none_or(|(mark, _)| item.event.mark.beats(mark)) => {
                base = Some((item.event.mark, value));
            }
            What::Amount(by) => (sum, counted) = (sum + by, true),
            What::Value(_) | What::Member => {}
        }
    }
    let base = base.map(|(_, value)| value.clone());
    match (counted, base) {
        (false, base) => base.unwrap_or_default(),
        (true, None) => printed(sum),
        (true, Some(text)) => hundredths(&text).map_or(text, |number| printed(number + sum)),
    }
}

/// The tests use numbers of at most two decimals, which this reads without the code under test.
fn hundredths(text: &[u8]) -> Option<i64> {
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "numbers of the tests are below a million"
    )]
    number.is_finite().then(|| (number * 100.0).round() as i64)
}

fn printed(hundredths: i64) -> Bytes {
    let sign = if hundredths < 0 { "-" } else { "" };
    let (whole, rest) = (hundredths.abs() / 100, hundredths.abs() % 100);
    let text = match (rest, rest % 10) {
        (0, _) => format!("{sign}{whole}"),
        (_, 0) => format!("{sign}{whole}.{}", rest / 10),
        _ => format!("{sign}{whole}.{rest:02}"),
    };
    text.into_bytes()
}
