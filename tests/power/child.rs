//! A process of our own program that will be killed, and what it said until then.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child as Process, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use firmware_protocol::entropy::SeededEntropy;
use nix::libc::SIGKILL;

use crate::disk::{Cut, Disk, Shim};
use crate::{KILLS, SEED};

/// What begins each line that is for us; the test harness writes others.
const MARK: &str = "power: ";
/// A child ends by itself after this, should nobody be left to kill it.
pub(crate) const LIFE_MAX: Duration = Duration::from_secs(120);

/// When a process is killed, and what the disk makes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// At this step of the shim, if it comes so far.
    pub(crate) at_step: Option<u64>,
    /// This long after it was ready at the latest.
    pub(crate) after: Duration,
    pub(crate) cut: Cut,
}

/// The process.
pub(crate) struct Child {
    process: Process,
    said: Arc<Said>,
    reader: Option<JoinHandle<()>>,
    errors: PathBuf,
}

#[derive(Default)]
struct Said {
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Plan {
    /// Soon, late or between: while it starts, at a step of its work, or whenever.
    pub(crate) fn any(random: &mut SeededEntropy, steps_to_start: u64) -> Self {
        let at_step = match random.below(3) {
            0 => Some(1 + random.below(steps_to_start)),
            1 => Some(1 + random.below(8 * steps_to_start)),
            _ => None,
        };
        let after = Duration::from_millis(random.below(400));
        let cut = [Cut::ProcessOnly, Cut::Drop, Cut::Tear][usize::try_from(random.below(3)).unwrap()];
        Self { at_step, after, cut }
    }
}

impl Child {
    /// Starts the test `name` of this program as a process on `disk`, which finds `orders` in its environment.
    pub(crate) fn start(shim: &Shim, disk: &Disk, at_step: Option<u64>, name: &str, orders: &[(&str, String)]) -> Self {
        let errors = disk.live().with_file_name("stderr");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--ignored", "--nocapture"]).envs(orders.iter().map(|(key, value)| (key, value)));
        // A server takes every variable that begins like ours for a setting.
        command.env_remove(KILLS).env_remove(SEED);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(fs::File::create(&errors).unwrap());
        shim.load(disk, &mut command, at_step);
        let mut process = command.spawn().unwrap();
        let (said, output) = (Arc::new(Said::default()), process.stdout.take().unwrap());
        let hearing = Arc::clone(&said);
        let reader = std::thread::spawn(move || hearing.listen(BufReader::new(output)));
        Self { process, said, reader: Some(reader), errors }
    }

    /// What follows `word` in the first line that begins with it, as soon as there is one; `None` if the process ends before.
    pub(crate) fn wait_for(&self, word: &str, limit: Duration) -> Option<String> {
        let until = Instant::now() + limit;
        let mut lines = self.said.lines.lock().unwrap();
        loop {
            let found = lines.0.iter().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
            if found.is_some() || lines.1 {
                return found.map(str::to_owned);
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {word:?} in {limit:?}; it said {:?} and {}", lines.0, self.errors());
            lines = self.said.more.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.said.lines.lock().unwrap().1
    }

    /// Kills it if it still runs. Returns all it said; or what it complained of, if it ended in another way than by being killed.
    pub(crate) fn kill(mut self) -> Result<Vec<String>, String> {
        let _ = self.process.kill();
        let status = self.process.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        match status.signal() {
            Some(SIGKILL) => Ok(std::mem::take(&mut self.said.lines.lock().unwrap().0)),
            _ => Err(format!("the process ended by itself, {status}: {}", self.errors())),
        }
    }

    fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Said {
    fn listen(&self, mut output: impl BufRead) {
        let mut line = String::new();
        // A line without an end was cut off by the kill: it was not said.
        while output.read_line(&mut line).is_ok_and(|len| len > 0) && line.ends_with('\n') {
            if let Some((_, text)) = line.trim_end().split_once(MARK) {
                self.lines.lock().unwrap().0.push(text.to_owned());
                self.more.notify_all();
            }
            line.clear();
        }
        self.lines.lock().unwrap().1 = true;
        self.more.notify_all();
    }
}

/// In the child: says one line, which is out of the process when this returns.
pub(crate) fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    output.write_all(format!("{MARK}{line}\n").as_bytes()).and_then(|()| output.flush()).unwrap();
}
