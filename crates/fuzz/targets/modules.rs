//! Any bytes as a modules.json: it must be refused, or every path must stay inside of the checkpoint's directory.

#![no_main]

use embergem_checkpoint::modules;
use libfuzzer_sys::fuzz_target;
use std::path::{Component, Path};

fuzz_target!(|bytes: &[u8]| {
    let Ok(entries) = modules::parse(bytes, Path::new("modules.json")) else {
        return;
    };
    for entry in entries {
        let inside = |part| matches!(part, Component::Normal(_));
        assert!(Path::new(&entry.path).components().all(inside), "{entry:?}");
    }
});
