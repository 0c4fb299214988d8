//! Any bytes as a tokenizer.json: it must be refused, or texts must become ids within the limit and below the
//! vocabulary size.

#![no_main]

mod scratch;

use embergem_text::{Options, Overlong, Pipeline};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 16;
const VOCABULARY: u32 = 1000;

// `Pipeline` catches panics of the library over some files. The panic hook of libFuzzer would end the process
// nevertheless, so it is replaced. An uncaught panic still ends the process.
fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |bytes: &[u8]| {
    let path = scratch::file(bytes);
    for (bare, keep_unknown) in [(false, false), (true, false), (true, true)] {
        let options = Options {
            limit: LIMIT,
            vocab_size: VOCABULARY,
            prompts: None,
            builtin_prompts: None,
            bare,
            keep_unknown,
            cache: None,
        };
        let Ok(pipeline) = Pipeline::load(&path, options) else {
            continue;
        };
        for (index, text) in ["", "What is graphene?", "Ünïcödé, 東京 and 🦆!\n\0"]
            .into_iter()
            .enumerate()
        {
            if let Ok(row) = pipeline.prepare_one(index, text, None, None, Overlong::Count) {
                assert!(
                    row.ids.len() <= LIMIT && row.ids.iter().all(|id| *id < VOCABULARY),
                    "{row:?}"
                );
            }
        }
    }
});
