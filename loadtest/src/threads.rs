//! The threads of a process: which spend its time, which says what limits a figure better than any guess, and which have a name.

use std::collections::BTreeMap;
use std::fs;
use std::io;

/// Processor time by name of thread, in the kernel's ticks. Threads that are numbered (`shard-3`) count as one.
pub(crate) type Ticks = BTreeMap<String, u64>;

/// What the threads of process `pid` have spent so far.
pub(crate) fn ticks(pid: u32) -> io::Result<Ticks> {
    let mut ticks = Ticks::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between its name being listed and read.
        if let Some((name, spent)) = fs::read_to_string(task?.path().join("stat")).ok().as_deref().and_then(parse) {
            *ticks.entry(name).or_default() += spent;
        }
    }
    Ok(ticks)
}

/// The threads of process `pid` that have this name, as the kernel numbers them.
pub(crate) fn named(pid: u32, name: &str) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        let is_it = fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name);
        found.extend(task.file_name().to_str().and_then(|number| number.parse::<u32>().ok()).filter(|_| is_it));
    }
    found.sort_unstable();
    Ok(found)
}

/// The name and `utime + stime` in a line of `/proc/PID/task/TID/stat`.
fn parse(stat: &str) -> Option<(String, u64)> {
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let spent = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some((name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-').to_owned(), spent))
}

/// Adds what was spent from `before` to `after` to `sum`.
pub(crate) fn add_spent(sum: &mut Ticks, before: &Ticks, after: &Ticks) {
    for (name, spent) in after {
        *sum.entry(name.clone()).or_default() += spent.saturating_sub(before.get(name).copied().unwrap_or_default());
    }
}

/// Those with at least one part in a hundred, the busiest first: `shard 48 %, terminator 31 %`.
pub(crate) fn shares(ticks: &Ticks) -> String {
    let total = ticks.values().sum::<u64>().max(1);
    let mut shares: Vec<(u64, &str)> =
        ticks.iter().map(|(name, spent)| (spent * 100 / total, name.as_str())).filter(|share| share.0 > 0).collect();
    shares.sort_by(|a, b| b.cmp(a));
    shares.iter().map(|(percent, name)| format!("{name} {percent} %")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_threads_count_as_one() {
        let line = |name: &str| format!("7 ({name}) S 1 7 7 0 -1 4194304 100 0 0 0 30 12 0 0 20 0 3 0 100 1000 10 1844\n");
        assert_eq!(parse(&line("shard-12")), Some(("shard".into(), 42)));
        assert_eq!(parse(&line("odd) name (")), Some(("odd) name (".into(), 42)));
        assert_eq!(parse("7 (x) S 1"), None);
    }

    #[test]
    fn shares_are_of_what_was_spent_between() {
        let at = |shard, journal| Ticks::from([("shard".to_owned(), shard), ("journal".to_owned(), journal), ("idle".to_owned(), 5)]);
        let mut sum = Ticks::new();
        add_spent(&mut sum, &at(100, 0), &at(130, 5));
        add_spent(&mut sum, &Ticks::new(), &Ticks::from([("journal".to_owned(), 15)]));
        assert_eq!(shares(&sum), "shard 60 %, journal 40 %");
        assert_eq!(shares(&Ticks::new()), "");
    }

    #[test]
    fn threads_are_found_by_name() -> io::Result<()> {
        std::thread::Builder::new()
            .name("found-by-name".into())
            .spawn(|| {
                assert_eq!(named(std::process::id(), "found-by-name")?.len(), 1);
                assert!(named(std::process::id(), "found")?.is_empty());
                Ok(())
            })?
            .join()
            .expect("it asserts nothing false")
    }

    #[test]
    fn this_process_has_threads() -> io::Result<()> {
        assert!(!ticks(std::process::id())?.is_empty());
        Ok(())
    }
}
