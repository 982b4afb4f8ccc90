//! What a run of libtest said.

/// How a run of one test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// At least one test ran, and all passed.
    Passed,
    /// A test failed, with the first line of what it said.
    Failed(String),
    /// Nothing was judged: no test matched, the process crashed, or it did not end.
    Nothing(String),
}

/// Reads the output of a test run that ended with `code` (`None`: by a signal).
pub(super) fn read(code: Option<i32>, stdout: &str, stderr: &str) -> Outcome {
    match code {
        Some(0) if passed(stdout) > 0 => Outcome::Passed,
        Some(0) => Outcome::Nothing("no test has this name".to_owned()),
        // timeout(1): the time was over, or the process had to be killed.
        Some(124 | 137) => Outcome::Nothing("it did not end".to_owned()),
        _ => failure(stdout).map_or_else(|| Outcome::Nothing(crash(stderr)), Outcome::Failed),
    }
}

fn passed(stdout: &str) -> u64 {
    let count = |line: &str| {
        let head = line.split(" passed").next()?;
        head.rsplit(' ').next()?.parse::<u64>().ok()
    };
    stdout
        .lines()
        .filter(|line| line.starts_with("test result:"))
        .filter_map(count)
        .sum()
}

/// The message of the first test that failed.
fn failure(stdout: &str) -> Option<String> {
    let mut lines = stdout
        .lines()
        .skip_while(|line| !(line.starts_with("---- ") && line.ends_with(" stdout ----")))
        .skip(1)
        .take_while(|line| !line.starts_with("---- "));
    let mut first = None;
    for line in lines.by_ref() {
        if line.contains("panicked at ") {
            return lines.next().map(str::to_owned);
        }
        if first.is_none() && !line.trim().is_empty() {
            first = Some(line.to_owned());
        }
    }
    first
}

fn crash(stderr: &str) -> String {
    let last = stderr.lines().rfind(|line| !line.trim().is_empty());
    format!("it crashed: {}", last.unwrap_or("without a word"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_without_a_match_is_not_a_pass() {
        let none = "test result: ok. 0 passed; 0 failed; 7 filtered out\n";
        assert!(matches!(read(Some(0), none, ""), Outcome::Nothing(_)));
        let one = "test result: ok. 3 passed; 0 failed; 7 filtered out\n";
        assert_eq!(read(Some(0), one, ""), Outcome::Passed);
    }

    #[test]
    fn a_failure_is_told_by_the_message_of_its_panic() {
        let stdout = "\nrunning 1 test\nF\nfailures:\n\n---- a::b stdout ----\nsome output\n\nthread 'a::b' (7) panicked at \
                      a.rs:1:2:\nassertion failed: x\nnote: run\n\nfailures:\n    a::b\n\ntest result: FAILED. 0 passed; 1 failed\n";
        assert_eq!(
            read(Some(101), stdout, "error: test failed"),
            Outcome::Failed("assertion failed: x".to_owned())
        );
    }

    #[test]
    fn a_test_that_returns_an_error_is_told_by_it() {
        let stdout =
            "failures:\n\n---- a::b stdout ----\n\nError: no cluster\n\nfailures:\n    a::b\n\n";
        assert_eq!(
            read(Some(101), stdout, ""),
            Outcome::Failed("Error: no cluster".to_owned())
        );
    }

    #[test]
    fn a_crash_and_a_hang_are_no_failure_of_the_test() {
        let crashed = read(
            Some(101),
            "running 1 test\n",
            "error: signal: 11, SIGSEGV\n",
        );
        assert_eq!(
            crashed,
            Outcome::Nothing("it crashed: error: signal: 11, SIGSEGV".to_owned())
        );
        assert_eq!(
            read(Some(124), "running 1 test\n", ""),
            Outcome::Nothing("it did not end".to_owned())
        );
    }
}
