//! Memory that the allocator keeps after it was freed goes back to the system.

/// Gives back what the allocator holds in whole pages, on a thread of its own: it takes milliseconds for each hundred
/// megabytes. Allocators other than glibc's do so by themselves.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let trim = || {
            // SAFETY: it takes no pointers, may be called at any time from any thread, and changes nothing that is in use.
            unsafe { libc::malloc_trim(0) };
        };
        // Without a thread to spare it is done another time.
        let _ = std::thread::Builder::new().name("trim".to_owned()).spawn(trim);
    }
}

/// When that is worth it: what is held fell to half of what it was.
#[derive(Debug, Default)]
pub struct Trimming {
    highest: u64,
}

impl Trimming {
    /// So many bytes are held now. True if as many went since the last time that `least` bytes or more, and half of them
    /// all, can be given back.
    pub fn is_due(&mut self, held: u64, least: u64) -> bool {
        self.highest = self.highest.max(held);
        let fell = self.highest - held;
        let is_due = fell >= least && fell >= held;
        if is_due {
            self.highest = held;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_worth_it_once_half_is_gone() {
        let mut trimming = Trimming::default();
        let due = [100, 90, 60, 50, 50, 30, 26, 25, 90, 46, 45].map(|held| trimming.is_due(held, 20));
        assert_eq!(due, [false, false, false, true, false, false, false, true, false, false, true]);
        assert!(!trimming.is_due(26, 20), "too little");
        give_back();
    }
}
