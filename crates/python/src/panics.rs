//! The message that a panic prints, without a backtrace while memory is short.
//!
//! A panic of a library becomes an exception of Python. Rust prints it before that, with a backtrace if
//! `RUST_BACKTRACE` asks for one. The backtrace needs memory for the debug information, under a lock. If an allocation
//! fails then, Rust prints a second backtrace and waits for that lock forever (seen with Rust 1.95).

use std::panic;

/// Memory that must be free for a backtrace: many times what it needs, because other threads allocate meanwhile.
const BACKTRACE: usize = 128 << 20;

/// Replaces the hook of panics. Each dynamic library of Rust has its own hook, so this one is that of embergem alone.
pub fn set_hook() {
    let with_backtrace = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if Vec::<u8>::new().try_reserve_exact(BACKTRACE).is_ok() {
            with_backtrace(info);
        } else {
            eprintln!("{info}");
        }
    }));
}
