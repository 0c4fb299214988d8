//! Keeps the process alive when a mapped file is cut short.
//!
//! A read beyond the new end of a mapped file raises SIGBUS, which ends the process. The handler of this module puts
//! zeros in place of the rest of the map and sets the flag of its file. The read then continues, and the code that read
//! from the map finds the flag and discards what it computed. A SIGBUS anywhere else goes to the handler that was
//! installed before.
//!
//! Windows has no SIGBUS: there a mapped file cannot be cut short.

use memmap2::Mmap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A map that the handler protects. Drop it before the map.
pub struct Protection {
    start: usize,
}

impl Protection {
    /// Protects the reads from `map`. The handler sets `cut_short` when a page of the map is gone.
    pub fn of(map: &Mmap, cut_short: &Arc<AtomicBool>) -> Self {
        let start = map.as_ptr() as usize;
        platform::protect(start, start + map.len(), cut_short);
        Self { start }
    }
}

impl Drop for Protection {
    fn drop(&mut self) {
        platform::release(self.start);
    }
}

#[cfg(not(unix))]
mod platform {
    use super::*;

    pub fn protect(_: usize, _: usize, _: &Arc<AtomicBool>) {}
    pub fn release(_: usize) {}
}

#[cfg(unix)]
mod platform {
    use super::*;
    use std::hint;
    use std::mem::MaybeUninit;
    use std::ptr;
    use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
    use std::sync::{Mutex, Once, PoisonError};

    /// Addresses of a map, and the flag of its file.
    #[derive(Clone)]
    struct Region {
        start: usize,
        end: usize,
        cut_short: Arc<AtomicBool>,
    }

    /// The protected maps. A change replaces the list, because a handler may be reading it on another thread.
    static REGIONS: AtomicPtr<Vec<Region>> = AtomicPtr::new(ptr::null_mut());
    /// Number of handlers that may be reading the list.
    static READERS: AtomicUsize = AtomicUsize::new(0);
    /// Held while the list is replaced.
    static CHANGE: Mutex<()> = Mutex::new(());
    /// The handler that was installed before; set once, before the own handler is installed.
    static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

    pub fn protect(start: usize, end: usize, cut_short: &Arc<AtomicBool>) {
        static INSTALL: Once = Once::new();
        INSTALL.call_once(install);
        let cut_short = Arc::clone(cut_short);
        replace(|regions| regions.push(Region { start, end, cut_short }));
    }

    pub fn release(start: usize) {
        replace(|regions| regions.retain(|region| region.start != start));
    }

    fn replace(change: impl FnOnce(&mut Vec<Region>)) {
        let _change = CHANGE.lock().unwrap_or_else(PoisonError::into_inner);
        let old = REGIONS.load(Ordering::SeqCst);
        // SAFETY: only this function frees a list, after it was replaced, and `CHANGE` is held.
        let mut regions = unsafe { old.as_ref() }.cloned().unwrap_or_default();
        change(&mut regions);
        REGIONS.store(Box::into_raw(Box::new(regions)), Ordering::SeqCst);
        if !old.is_null() {
            while READERS.load(Ordering::SeqCst) != 0 {
                hint::spin_loop(); // a handler reads the list for less than a microsecond
            }
            // SAFETY: `old` came from `Box::into_raw`. A handler that starts now finds the new list, and none is reading
            // the old one.
            drop(unsafe { Box::from_raw(old) });
        }
    }

    fn install() {
        // SAFETY: `handle` has the signature that SA_SIGINFO needs and calls only async-signal-safe functions. A
        // sigaction of zeros is a valid value.
        unsafe {
            let mut own: libc::sigaction = MaybeUninit::zeroed().assume_init();
            own.sa_sigaction = handle as *const () as usize;
            own.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut own.sa_mask);
            let mut previous: libc::sigaction = MaybeUninit::zeroed().assume_init();
            libc::sigaction(libc::SIGBUS, ptr::null(), &mut previous);
            PREVIOUS.store(Box::into_raw(Box::new(previous)), Ordering::SeqCst);
            libc::sigaction(libc::SIGBUS, &own, ptr::null_mut());
        }
    }

    /// The signal handler.
    extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the system passes a valid `info` to a handler with SA_SIGINFO.
        let (address, sent) = unsafe { ((*info).si_addr() as usize, (*info).si_code <= 0) };
        if !sent && replace_rest(address) {
            return;
        }
        // SAFETY: `PREVIOUS` was set before this handler was installed.
        unsafe { pass_on(&*PREVIOUS.load(Ordering::SeqCst), signal, info, context) }
    }

    /// Puts zeros in place of the page at `address` and of all pages behind it in the same map. Returns whether the
    /// address is in a protected map.
    fn replace_rest(address: usize) -> bool {
        READERS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: `replace` frees a list only while no handler is counted in READERS.
        let regions = unsafe { REGIONS.load(Ordering::SeqCst).as_ref() };
        let mut inside = regions.into_iter().flatten();
        let region = inside.find(|region| (region.start..region.end).contains(&address));
        let replaced = region.is_some_and(|region| {
            region.cut_short.store(true, Ordering::SeqCst);
            // SAFETY: sysconf is async-signal-safe.
            let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
            let from = address / page * page;
            // SAFETY: mmap is a plain system call. The range belongs to a map whose owner is alive, because it is being
            // read: the pages have no file behind them any more, and the owner unmaps the whole range.
            let zeros = unsafe {
                libc::mmap(
                    from as *mut libc::c_void,
                    region.end - from,
                    libc::PROT_READ,
                    libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_FIXED,
                    -1,
                    0,
                )
            };
            zeros != libc::MAP_FAILED
        });
        READERS.fetch_sub(1, Ordering::SeqCst);
        replaced
    }

    /// Does what would have happened without the handler.
    ///
    /// # Safety
    /// Only for a signal handler, with its arguments.
    unsafe fn pass_on(
        previous: &libc::sigaction,
        signal: libc::c_int,
        info: *mut libc::siginfo_t,
        context: *mut libc::c_void,
    ) {
        let action = previous.sa_sigaction;
        // SAFETY: `previous` is what the system returned: its flags say which signature the handler has.
        unsafe {
            if action == libc::SIG_DFL || action == libc::SIG_IGN {
                // The instruction is executed again and ends the process, as without a handler.
                libc::sigaction(signal, previous, ptr::null_mut());
                if (*info).si_code <= 0 && action == libc::SIG_DFL {
                    libc::raise(signal);
                }
            } else if previous.sa_flags & libc::SA_SIGINFO != 0 {
                let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    std::mem::transmute(action);
                handler(signal, info, context);
            } else {
                let handler: extern "C" fn(libc::c_int) = std::mem::transmute(action);
                handler(signal);
            }
        }
    }
}
