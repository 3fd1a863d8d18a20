//! A disk that can be made sick while a server works on it: a library that is compiled here and loaded into the server (`sick_disk.c`), and the file that
//! tells it how the disk fares. It takes a C compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

const SOURCE: &str = include_str!("sick_disk.c");

/// How the disk fares on which the journal is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sickness {
    /// Well.
    Healthy,
    /// Syncs do not return.
    Hangs,
    /// There is no room.
    Full,
}

/// The disk.
#[derive(Clone, Debug)]
pub(crate) struct SickDisk {
    library: PathBuf,
    sickness: PathBuf,
}

impl SickDisk {
    /// Compiles the library into `dir`. The disk is healthy.
    pub(crate) fn build(dir: &Path) -> Result<Self> {
        let (source, disk) = (dir.join("sick_disk.c"), Self { library: dir.join("sick_disk.so"), sickness: dir.join("sickness") });
        fs::write(&source, SOURCE)?;
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
        let mut command = Command::new(&compiler);
        command.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&disk.library).arg(&source).arg("-ldl");
        let status = command.status().with_context(|| format!("running {compiler}, which compiles a library for this"))?;
        ensure!(status.success(), "{compiler} did not compile the library ({status})");
        disk.be(Sickness::Healthy)?;
        Ok(disk)
    }

    /// Lets `command` work on it.
    pub(crate) fn load(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("SICK_DISK", &self.sickness);
    }

    /// Makes it sick, or well again.
    pub(crate) fn be(&self, sickness: Sickness) -> Result<()> {
        let letter = match sickness {
            Sickness::Healthy => "",
            Sickness::Hangs => "s",
            Sickness::Full => "l",
        };
        Ok(fs::write(&self.sickness, letter)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_compiled_and_programs_run_on_it() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let disk = SickDisk::build(dir.path())?;
        for (sickness, letter) in [(Sickness::Hangs, "s"), (Sickness::Full, "l"), (Sickness::Healthy, "")] {
            disk.be(sickness)?;
            assert_eq!(fs::read_to_string(dir.path().join("sickness"))?, letter);
        }
        let mut command = Command::new("ls");
        disk.load(&mut command);
        let output = command.arg(dir.path()).output()?;
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}
