//! How much memory this process may still allocate.

use std::fs;
use std::path::Path;

/// Returns the bytes that this process may still allocate: the system's available memory, or less if a control group (a
/// container) has a limit. `None` on systems that do not publish these numbers.
pub fn available() -> Option<u64> {
    let system = fs::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo(&text));
    match (system, control_group(Path::new("/sys/fs/cgroup"))) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Parses the line `MemAvailable` of /proc/meminfo.
fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kb| kb * 1024)
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
        fs::write(group.join("memory.max"), "max\n").unwrap();
        assert_eq!(control_group(&group), None);
        fs::remove_dir_all(&group).unwrap();
    }
}
