//! Names a build by a hash of the crate's sources, so that a result which another build stored on disk is not used.
//!
//! A crate of its own, because a build script outside of its crate cannot be packed into a source distribution.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::Path;

/// Sets `EMBERGEM_BUILD` for the crate whose build script calls this function: a hash of the files in its `src`.
///
/// # Errors
/// The I/O error of reading the sources.
pub fn name_build() -> std::io::Result<()> {
    let mut hash = DefaultHasher::new();
    add(Path::new("src"), &mut hash)?;
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rustc-env=EMBERGEM_BUILD={:016x}", hash.finish());
    Ok(())
}

fn add(directory: &Path, hash: &mut DefaultHasher) -> std::io::Result<()> {
    let mut paths = fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            add(&path, hash)?;
        } else {
            fs::read(&path)?.hash(hash);
        }
    }
    Ok(())
}
