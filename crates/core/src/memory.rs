//! How much memory this process may still allocate, and allocations that may fail.

use crate::error::{Error, Result};
use std::fs;
use std::path::Path;

/// Returns the bytes that this process may still allocate: the system's available memory, or less if a control group (a
/// container, a service) or `ulimit -v` has a limit. `None` on systems other than Linux, macOS and Windows.
pub fn available() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = [
        system::available(),
        control_groups(Path::new("/sys/fs/cgroup"), &own),
        address_space(),
    ];
    limits.into_iter().flatten().min()
}

#[cfg(target_os = "windows")]
mod system {
    /// MEMORYSTATUSEX of the Windows API.
    #[repr(C)]
    struct MemoryStatus {
        length: u32,
        load: u32,
        total_physical: u64,
        available_physical: u64,
        total_page_file: u64,
        available_page_file: u64,
        total_virtual: u64,
        available_virtual: u64,
        available_extended_virtual: u64,
    }

    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn GlobalMemoryStatusEx(status: *mut MemoryStatus) -> i32;
    }

    /// Returns the available physical memory, or less if this process may commit less.
    pub fn available() -> Option<u64> {
        // SAFETY: all fields are integers.
        let mut status: MemoryStatus = unsafe { std::mem::zeroed() };
        status.length = size_of::<MemoryStatus>() as u32;
        // SAFETY: `status` is the structure of the Windows API, and its length is set.
        let known = unsafe { GlobalMemoryStatusEx(&mut status) } != 0;
        known.then_some(status.available_physical.min(status.available_page_file))
    }
}

#[cfg(target_os = "macos")]
mod system {
    /// Returns the memory of free pages, and of inactive and speculative pages, which the kernel frees for programs.
    #[expect(deprecated, reason = "libc points to a crate that has nothing else for us")]
    pub fn available() -> Option<u64> {
        // SAFETY: the arguments have the types and the sizes that `host_statistics64` documents for HOST_VM_INFO64.
        let (result, pages, size) = unsafe {
            let mut pages: libc::vm_statistics64 = std::mem::zeroed();
            let mut count = libc::HOST_VM_INFO64_COUNT;
            let result = libc::host_statistics64(
                libc::mach_host_self(),
                libc::HOST_VM_INFO64,
                (&raw mut pages).cast(),
                &mut count,
            );
            (result, pages, libc::sysconf(libc::_SC_PAGESIZE))
        };
        let free = u64::from(pages.free_count) + u64::from(pages.inactive_count) + u64::from(pages.speculative_count);
        (result == libc::KERN_SUCCESS).then_some(free * u64::try_from(size).ok()?)
    }
}

#[cfg(not(any(target_os = "macos", target_os = "windows")))]
mod system {
    /// Returns the available memory that Linux publishes.
    pub fn available() -> Option<u64> {
        super::meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?)
    }
}

/// Checks that `bytes` more are available. Reading the available memory takes about as long as a small batch, so small
/// sizes are not checked.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn require(bytes: u64) -> Result<()> {
    const UNCHECKED: u64 = 64 << 20;
    match (bytes > UNCHECKED).then(available).flatten() {
        Some(available) if bytes > available => Err(Error::OutOfMemory {
            needed_mb: bytes >> 20,
            available_mb: Some(available >> 20),
        }),
        _ => Ok(()),
    }
}

/// Returns `len` zeros.
///
/// # Errors
/// [`Error::OutOfMemory`] if the system refuses the memory.
pub fn zeros(len: usize) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    values
        .try_reserve_exact(len)
        .map_err(|_| Error::refused(len.saturating_mul(size_of::<f32>())))?;
    values.resize(len, 0.0);
    Ok(values)
}

/// Returns the rest of the address space that `ulimit -v` allows; `None` without a limit.
#[cfg(target_os = "linux")]
fn address_space() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = limit.split_whitespace().next()?.parse().ok()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let used = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    let used: u64 = used.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(limit.saturating_sub(used * 1024))
}

#[cfg(not(target_os = "linux"))]
fn address_space() -> Option<u64> {
    None
}

/// Parses the line `MemAvailable` of /proc/meminfo.
#[cfg(any(test, not(any(target_os = "macos", target_os = "windows"))))]
fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kb| kb * 1024)
}

/// Returns the least that is left in the control groups of a process: its own group and all groups above. `own` is the
/// content of /proc/self/cgroup. In a container the root is the group of the container.
fn control_groups(root: &Path, own: &str) -> Option<u64> {
    let path = own
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .unwrap_or_default();
    let groups = Path::new(path)
        .ancestors()
        .map(|group| control_group(&root.join(group)));
    groups.flatten().min()
}

/// Returns the limit minus the use of a control group (version 2). Cached file pages count as free, because the kernel
/// evicts them first.
fn control_group(root: &Path) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(root.join(name)).ok()?.trim().parse::<u64>().ok();
    let limit = number("memory.max")?;
    let used = number("memory.current")?;
    let stat = fs::read_to_string(root.join("memory.stat")).unwrap_or_default();
    let cached = stat
        .lines()
        .find_map(|line| line.strip_prefix("file ")?.trim().parse::<u64>().ok())
        .unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(any(target_os = "linux", target_os = "macos", target_os = "windows"))]
    fn this_machine_has_memory_left() {
        let available = available().unwrap();
        assert!((1 << 20..1 << 50).contains(&available), "{available}");
    }

    #[test]
    fn the_formats_of_the_kernel_are_parsed() {
        assert_eq!(
            meminfo("MemTotal: 10 kB\nMemAvailable:   24567 kB\n"),
            Some(24567 * 1024)
        );
        assert_eq!(meminfo("MemTotal: 10 kB\n"), None);
        let group = std::env::temp_dir().join(format!("embergem-cgroup-{}", std::process::id()));
        fs::create_dir_all(&group).unwrap();
        for (name, text) in [
            ("memory.max", "1000\n"),
            ("memory.current", "700\n"),
            ("memory.stat", "anon 1\nfile 200\n"),
        ] {
            fs::write(group.join(name), text).unwrap();
        }
        assert_eq!(control_group(&group), Some(500));
        let parent = group.parent().unwrap();
        let own = format!("0::/{}/unlimited\n", group.file_name().unwrap().display());
        assert_eq!(
            control_groups(parent, &own),
            Some(500),
            "the limit of a group above counts"
        );
        fs::write(group.join("memory.max"), "max\n").unwrap();
        assert_eq!(control_group(&group), None);
        fs::remove_dir_all(&group).unwrap();
    }
}
