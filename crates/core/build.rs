//! Names the build by a hash of the crate's sources, so that a result which another build stored on disk is not used.
//! `crates/text` has the same build script.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::Path;

fn main() -> std::io::Result<()> {
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
