//! Where threads run: server and generator each get a processor of their own, so that neither is measured by how much of it the other leaves.

use anyhow::Result;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread.
const OWN: Pid = Pid::from_raw(0);

/// The processors of a measurement. The calling thread, and threads that it starts, stay on one until this is dropped.
#[derive(Debug)]
pub(crate) struct Cores {
    server: CpuSet,
    _own: Moved,
}

/// The calling thread runs elsewhere until this is dropped.
#[derive(Debug)]
pub(crate) struct Moved {
    before: CpuSet,
}

impl Cores {
    /// Takes the first two that this thread may run on, and moves it to the second. With a single one, server and generator share it.
    pub(crate) fn part() -> Result<Self> {
        let allowed = sched_getaffinity(OWN)?;
        let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
        let server = cores.next().unwrap_or_default();
        let generator = cores.next().unwrap_or(server);
        Ok(Self { server: only(server)?, _own: Moved::to(only(generator)?)? })
    }

    /// The server's.
    pub(crate) fn server(&self) -> CpuSet {
        self.server
    }
}

impl Moved {
    /// Moves it, and what it starts from now on.
    pub(crate) fn to(cores: CpuSet) -> Result<Self> {
        let before = sched_getaffinity(OWN)?;
        sched_setaffinity(OWN, &cores)?;
        Ok(Self { before })
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        // It ran there before.
        let _ = sched_setaffinity(OWN, &self.before);
    }
}

fn only(core: usize) -> Result<CpuSet> {
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_goes_to_its_processor_and_back() -> Result<()> {
        let before = sched_getaffinity(OWN)?;
        let cores = Cores::part()?;
        let own = sched_getaffinity(OWN)?;
        drop(Moved::to(cores.server())?);
        assert_eq!(sched_getaffinity(OWN)?, own);
        drop(cores);
        assert_eq!(sched_getaffinity(OWN)?, before);
        Ok(())
    }
}
