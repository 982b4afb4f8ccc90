//! When an append-only file that could not be written is made anew. Pure: looks at the shard in, "now" out.
//!
//! While the disk is full Valkey refuses writes and tries to roll back what was written by half. Once there is room it goes on in the
//! same file. That file is not trusted: it is replaced by one that is made from memory, and asked for until that went well.
//!
//! While it refuses writes it refuses every look as well; that it did is seen afterwards by how often it refused anything.

/// The sections of `INFO` that are looked at.
pub(super) const SECTIONS: &[&str] = &["persistence", "errorstats"];

/// Between two attempts, in looks: after each that did not go well, twice as long as before. What is too large for the disk would
/// otherwise fill it again and again.
const REST: u32 = 15;

/// How often the rest is doubled.
const DOUBLED: u32 = 7;

/// What the shard says of its append-only file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// It keeps one.
    enabled: bool,
    /// The last write went well.
    written: bool,
    /// It is being made anew.
    running: bool,
    /// How often this process began to make it anew.
    begun: u64,
    /// The last time that went well.
    made: bool,
    /// How often this process refused a command because it could not write.
    refusals: u64,
}

impl Seen {
    /// From [`SECTIONS`].
    pub(super) fn of(info: &str) -> Self {
        let says = |line: &str| info.lines().any(|found| found.trim_end() == line);
        let number = |name: &str| {
            let found = info.lines().find_map(|line| line.strip_prefix(name));
            found.and_then(|n| n.trim_end().parse().ok()).unwrap_or(0)
        };
        Self {
            enabled: says("aof_enabled:1"),
            written: says("aof_last_write_status:ok"),
            running: says("aof_rewrite_in_progress:1") || says("aof_rewrite_scheduled:1"),
            begun: number("aof_rewrites:"),
            made: says("aof_last_bgrewrite_status:ok"),
            refusals: number("errorstat_MISCONF:count="),
        }
    }
}

/// What is remembered between looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Healing {
    /// A write failed since the file was made.
    owed: bool,
    /// How often it had begun to be made anew when that was asked for.
    asked: Option<u64>,
    /// Attempts since it went well.
    attempts: u32,
    rest: u32,
    refusals: u64,
}

impl Healing {
    /// Takes in a look; `true`: ask for it now.
    pub(super) fn looked(&mut self, seen: &Seen) -> bool {
        self.rest = self.rest.saturating_sub(1);
        let refused = seen.refusals > std::mem::replace(&mut self.refusals, seen.refusals);
        if !seen.enabled {
            *self = Self {
                refusals: self.refusals,
                ..Self::default()
            };
            return false;
        }
        if refused || !seen.written {
            // What is being made may lack what was refused just now.
            (self.owed, self.asked) = (true, None);
        }
        if !self.owed || !seen.written || seen.running {
            return false;
        }
        if self.asked.is_some_and(|asked| seen.begun > asked) && seen.made {
            (self.owed, self.asked, self.attempts) = (false, None, 0);
            return false;
        }
        if self.rest > 0 {
            return false;
        }
        self.asked = Some(seen.begun);
        self.rest = REST << self.attempts.min(DOUBLED);
        self.attempts = self.attempts.saturating_add(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Seen = Seen {
        enabled: true,
        written: true,
        running: false,
        begun: 3,
        made: true,
        refusals: 0,
    };

    #[test]
    fn it_reads_what_valkey_prints() {
        let info = "# Persistence\r\naof_enabled:1\r\naof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0\r\n\
                    aof_last_bgrewrite_status:ok\r\naof_rewrites:3\r\naof_last_write_status:ok\r\n";
        assert_eq!(Seen::of(info), WELL);
        let scheduled = info.replace("scheduled:0", "scheduled:1");
        assert!(Seen::of(&scheduled).running);
        let refused = format!("{info}errorstat_MISCONF:count=12\r\n");
        assert_eq!(Seen::of(&refused).refusals, 12);
        assert!(!Seen::of(&info.replace("write_status:ok", "write_status:err")).written);
    }

    #[test]
    fn a_file_that_was_always_written_is_left_alone() {
        let mut healing = Healing::default();
        assert!((0..100).all(|_| !healing.looked(&WELL)));
    }

    #[test]
    fn it_is_asked_for_once_there_is_room_and_until_it_went_well() {
        let mut healing = Healing::default();
        let full = Seen {
            written: false,
            ..WELL
        };
        assert!(!healing.looked(&full), "there is no room yet");
        assert!(healing.looked(&WELL));
        let (running, failed) = (true, false);
        assert!(!healing.looked(&Seen { running, ..WELL }));
        // Begun, and failed.
        let again = Seen {
            begun: 4,
            made: failed,
            ..WELL
        };
        let asked = (0..REST).filter(|_| healing.looked(&again)).count();
        assert_eq!(asked, 1, "after a rest");
        let done = Seen { begun: 5, ..WELL };
        assert!((0..=4 * REST).all(|_| !healing.looked(&done)));
        assert_eq!(healing, Healing::default());
    }

    #[test]
    fn a_disk_that_is_too_small_for_a_new_file_is_filled_ever_more_rarely() {
        let mut healing = Healing::default();
        let mut seen = WELL;
        let mut asked = Vec::new();
        for look in 0..16 * REST {
            if healing.looked(&seen) {
                asked.push(look);
            }
            // Each attempt fills the disk for a moment: it fails, and writes are refused.
            seen = Seen {
                refusals: seen.refusals + 1,
                made: false,
                ..seen
            };
        }
        let pauses: Vec<u32> = asked.windows(2).map(|two| two[1] - two[0]).collect();
        assert_eq!(pauses, [REST, 2 * REST, 4 * REST, 8 * REST]);
    }

    #[test]
    fn a_disk_that_was_full_between_two_looks_counts_too() {
        let mut healing = Healing::default();
        let refused = Seen {
            refusals: 2,
            ..WELL
        };
        assert!(healing.looked(&refused));
        let done = Seen {
            begun: 4,
            ..refused
        };
        assert!((0..100).all(|_| !healing.looked(&done)));
    }

    #[test]
    fn without_an_append_only_file_nothing_is_owed() {
        let mut healing = Healing::default();
        let full = Seen {
            written: false,
            ..WELL
        };
        assert!(!healing.looked(&full));
        let off = Seen {
            enabled: false,
            ..WELL
        };
        assert!(!healing.looked(&off) && !healing.looked(&WELL));
    }
}
