//! What happened in a run.

/// More writes than this are lost without a person by nothing that is played: ten are made in a second, nobody is cut off for
/// longer than twenty, and more than eleven that are known to be missing make it a person's choice.
pub(super) const MOST_LOST: u32 = 250;

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) failovers: u64,
    /// Failovers that had to wait for the permission to end.
    pub(super) by_waiting: u64,
    pub(super) planned: u64,
    pub(super) abandoned: u64,
    pub(super) admitted: u64,
    pub(super) shrunk: u64,
    pub(super) reinstated: u64,
    pub(super) rebuilt: u64,
    pub(super) raised: u64,
    pub(super) asked: u64,
    pub(super) apart: u64,
    pub(super) emptied: u64,
    /// Replies that were on their way when a process was stopped, and came too late to leave.
    pub(super) held_back: u64,
    /// The most writes that were lost by a promotion.
    pub(super) lost: u64,
}

impl Seen {
    pub(super) fn add(&mut self, other: &Self) {
        self.failovers += other.failovers;
        self.by_waiting += other.by_waiting;
        self.planned += other.planned;
        self.abandoned += other.abandoned;
        self.admitted += other.admitted;
        self.shrunk += other.shrunk;
        self.reinstated += other.reinstated;
        self.rebuilt += other.rebuilt;
        self.raised += other.raised;
        self.asked += other.asked;
        self.apart += other.apart;
        self.emptied += other.emptied;
        self.held_back += other.held_back;
        self.lost = self.lost.max(other.lost);
    }
}
