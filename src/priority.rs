//! Who gives way to whom when there is too little processor for all: devices with sessions are served first, then whoever comes and what has to be done
//! sometime, then callers. Passwords, of which each takes as long as a thousand requests, are hashed in the time that nobody else wants.
//!
//! Priorities are the kernel's, for each thread. A thread begins with that of the one that started it and can only be lowered.

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
    thread_schedule_policy,
};

const IDLE: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);

/// What a thread does. Terminators, shards, journal and watchdog have no priority set: they run as the process was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Priority {
    /// Handshakes and chores.
    Chores,
    /// Requests of callers.
    Requests,
    /// Hashing passwords.
    Passwords,
}

impl Priority {
    /// How much it gives way: at 5 a thread gets a third of what one at 0 gets, at 10 a tenth, at 19 a seventieth. One that hashes passwords gets a tenth of
    /// that last share where the kernel has a policy for it, so that a storm of logins takes nothing from callers.
    pub fn niceness(self) -> i32 {
        match self {
            Self::Chores => 5,
            Self::Requests => 10,
            Self::Passwords => 19,
        }
    }

    /// Lowers the calling thread to it. One that is lower stays there.
    pub fn take(self) {
        if self == Self::Passwords {
            // It sets a priority besides, which not everybody may raise.
            let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, IDLE);
            if !thread_schedule_policy().is_ok_and(|policy| policy == IDLE) {
                tracing::warn!("a thread that hashes passwords does not wait for time that nobody else wants");
            }
        }
        let lowered = rustix::process::getpriority_process(None)
            .and_then(|now| if now >= self.niceness() { Ok(()) } else { rustix::process::setpriority_process(None, self.niceness()) });
        if let Err(error) = lowered {
            tracing::warn!(%error, "a thread runs at the priority of everything else");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_lowered_and_its_neighbours_are_not() {
        let niceness = || rustix::process::getpriority_process(None).expect("a priority");
        let before = niceness();
        let lowered = std::thread::spawn(move || {
            Priority::Requests.take();
            Priority::Chores.take();
            niceness()
        });
        assert_eq!(lowered.join().expect("it ends"), Priority::Requests.niceness().max(before));
        let idle = std::thread::spawn(move || {
            Priority::Passwords.take();
            (niceness(), thread_schedule_policy().is_ok_and(|policy| policy == IDLE))
        });
        assert_eq!(idle.join().expect("it ends"), (Priority::Passwords.niceness(), true));
        assert_eq!(niceness(), before);
    }
}
