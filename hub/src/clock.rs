//! The one place where the hub reads the wall clock, and the clock that goes on while the machine is suspended. Everything else
//! takes a [`Clock`] or a moment as an argument.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Since this machine was started, suspensions included (CLOCK_BOOTTIME): what the life of a lease is counted by. The
/// monotonic clock stands while a machine sleeps, and etcd's does not.
#[must_use]
pub fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanoseconds) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    // The kernel counts both from zero upwards.
    Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
}

/// Where the present moment comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present wall-clock time.
    fn now(&self) -> Timestamp;
}

/// The machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that stands until it is moved: for tests of anything that expires.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<Timestamp>>);

impl ManualClock {
    /// A clock that stands at this moment.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// Moves the clock.
    pub fn advance(&self, by: SignedDuration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[cfg(feature = "lab")]
mod tests {
    use std::process::Command;

    use super::*;

    const NAME: &str =
        "clock::tests::the_clock_of_a_lease_counts_the_time_that_a_machine_was_suspended";
    const TOLD: &str = "seconds since boot: ";

    /// In a time namespace as if the machine had been suspended that long: the monotonic clock knows nothing of it.
    #[test]
    fn the_clock_of_a_lease_counts_the_time_that_a_machine_was_suspended() {
        let now = since_boot().as_secs();
        println!("{TOLD}{now}");
        if std::env::var_os("MERIDIAN_SUSPENDED").is_some() {
            return;
        }
        let suspended = Command::new("unshare")
            .args(["--time", "--boottime", "100000", "--fork"])
            .arg(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture"])
            .env("MERIDIAN_SUSPENDED", "1")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&suspended.stdout).into_owned();
        let seconds = told.lines().find_map(|line| line.split(TOLD).nth(1));
        let seconds: u64 = seconds.expect(&told).trim().parse().unwrap();
        assert!((100_000..100_060).contains(&(seconds - now)), "{told}");
    }
}
