//! Any bytes as a tokenizer.json: refused, or texts become ids within the limit and below the vocabulary's size.

#![no_main]

mod scratch;

use embergem_text::{Options, Pipeline};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 16;
const VOCABULARY: u32 = 1000;

// The library panics over some files, which `Pipeline` catches; libFuzzer's own hook would end the process even so. A
// panic that nobody catches still does.
fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |bytes: &[u8]| {
    let path = scratch::file(bytes);
    for bare in [false, true] {
        let options = Options {
            limit: LIMIT,
            vocab_size: VOCABULARY,
            prompts: None,
            builtin_prompts: None,
            bare,
        };
        let Ok(pipeline) = Pipeline::load(&path, options) else {
            continue;
        };
        for (index, text) in ["", "What is graphene?", "Ünïcödé, 東京 and 🦆!\n\0"]
            .into_iter()
            .enumerate()
        {
            if let Ok(row) = pipeline.prepare_one(index, text, None, None, true) {
                assert!(
                    row.ids.len() <= LIMIT && row.ids.iter().all(|id| *id < VOCABULARY),
                    "{row:?}"
                );
            }
        }
    }
});
