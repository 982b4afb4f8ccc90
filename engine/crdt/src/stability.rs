//! Which effects every member has for good, so that nothing concurrent to them can still arrive.
//!
//! Members report durable clocks inside their own streams. The cut is the pointwise minimum of the last reports (Wuu and
//! Bernstein 1984). Because a report travels behind everything its writer made before it, whatever of that writer arrives
//! later was made with the reported clock in its context.
//!
//! A member that restarted is the delicate case: effects of its former life may still be on their way through third
//! parties, behind no report. The cut therefore only moves while every member's last report knows the life that each
//! member reports from (then nobody takes effects of former lives from the source any more), and while this shard has of
//! all former lives as much as anyone reported.

use crate::clock::Clock;
use crate::codec::{DecodeError, Reader, Writer};
use crate::id::{Dot, InstanceId, Origin};
use std::collections::{BTreeMap, BTreeSet};

/// The reports received, and the cut that follows from them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stability {
    reports: BTreeMap<InstanceId, Report>,
    /// For each origin the other lives of the same instance that its first effect had seen.
    births: BTreeMap<Origin, BTreeSet<Origin>>,
    cut: Clock,
    /// The last effect of each origin that a report has to speak of: reports alone are no reason for a report.
    news: Clock,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Report {
    origin: Origin,
    clock: Clock,
}

impl Stability {
    pub(crate) fn cut(&self) -> &Clock {
        &self.cut
    }

    pub(crate) fn reported(&self, member: InstanceId) -> Option<&Clock> {
        self.reports.get(&member).map(|report| &report.clock)
    }

    /// Notes the first effect of an origin.
    pub(crate) fn born(&mut self, origin: Origin, context: &Clock) {
        let former = context
            .iter()
            .map(|(o, _)| o)
            .filter(|o| o.instance == origin.instance && *o != origin);
        self.births.insert(origin, former.collect());
    }

    /// Notes an effect. The first one of a life counts whatever it does: others must say that they know that life.
    pub(crate) fn received(&mut self, dot: Dot, is_report: bool) {
        if dot.seq == 1 || !is_report {
            self.news.raise(dot.origin, dot.seq);
        }
    }

    /// Whether a report of `durable` by `member` would tell anything new.
    pub(crate) fn is_report_due(&self, member: InstanceId, durable: &Clock) -> bool {
        let told = self.reported(member);
        let is_new = |(origin, seq): (Origin, u64)| seq > told.map_or(0, |told| told.get(origin));
        self.news.meet(durable).iter().any(is_new)
    }

    /// Takes a report. What a member cannot lose only grows, so one that says less than is known is late: it was lost with
    /// a former life and came back.
    pub(crate) fn report(&mut self, origin: Origin, clock: &Clock) {
        let is_late =
            |known: &Report| known.clock.includes(clock) && !self.is_former(known.origin, origin);
        if !self.reports.get(&origin.instance).is_some_and(is_late) {
            self.reports.insert(
                origin.instance,
                Report {
                    origin,
                    clock: clock.clone(),
                },
            );
        }
    }

    /// Moves the cut if the reports allow it. Returns whether it moved.
    pub(crate) fn advance(&mut self, members: &BTreeSet<InstanceId>, own: &Clock) -> bool {
        let Some(reports) = members
            .iter()
            .map(|m| self.reports.get(m))
            .collect::<Option<Vec<_>>>()
        else {
            return false;
        };
        if !self.is_settled(&reports, own) {
            return false;
        }
        let lowest = reports
            .iter()
            .map(|r| r.clock.clone())
            .reduce(|a, b| a.meet(&b))
            .unwrap_or_default();
        let moved = !self.cut.includes(&lowest);
        self.cut.merge(&lowest);
        moved
    }

    /// See the module's head.
    fn is_settled(&self, reports: &[&Report], own: &Clock) -> bool {
        let knows = |r: &Report, life: Origin| r.origin == life || r.clock.get(life) > 0;
        let lives_known = reports
            .iter()
            .all(|life| reports.iter().all(|r| knows(r, life.origin)));
        let mut most = own.clone();
        for report in reports {
            most.merge(&report.clock);
        }
        let awaited = most.beyond(own);
        let complete = |(origin, _): (Origin, u64)| {
            let life = reports
                .iter()
                .find(|r| r.origin.instance == origin.instance);
            life.is_some_and(|life| life.origin == origin || self.is_former(life.origin, origin))
        };
        lives_known && awaited.iter().all(complete)
    }

    /// Whether `earlier` was over before `later` began.
    fn is_former(&self, earlier: Origin, later: Origin) -> bool {
        self.births
            .get(&later)
            .is_some_and(|former| former.contains(&earlier))
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        self.cut.write(out);
        self.news.write(out);
        out.count(self.reports.len());
        for report in self.reports.values() {
            report.origin.write(out);
            report.clock.write(out);
        }
        out.count(self.births.len());
        for (origin, former) in &self.births {
            origin.write(out);
            out.count(former.len());
            for earlier in former {
                earlier.write(out);
            }
        }
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (cut, news) = (Clock::read(input)?, Clock::read(input)?);
        let mut stability = Self {
            cut,
            news,
            ..Self::default()
        };
        for _ in 0..input.count()? {
            let origin = Origin::read(input)?;
            stability.reports.insert(
                origin.instance,
                Report {
                    origin,
                    clock: Clock::read(input)?,
                },
            );
        }
        for _ in 0..input.count()? {
            let origin = Origin::read(input)?;
            let mut former = BTreeSet::new();
            for _ in 0..input.count()? {
                former.insert(Origin::read(input)?);
            }
            stability.births.insert(origin, former);
        }
        Ok(stability)
    }
}
