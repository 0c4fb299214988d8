//! Batches that are large enough to run in row blocks.

mod common;

use common::{MAX_TOKENS, TempFile, VOCABULARY, checkpoint, load, program, vectors};
use embergem_core::{Options, Precision};

#[test]
fn a_row_has_the_same_bits_in_a_block_as_alone() {
    let file = TempFile::new("sections", &checkpoint());
    // Batches with fewer rows than MIN_ROWS_PER_THREAD of run/row_blocks.rs do not run in blocks.
    let min_rows = |threads: usize| 384 * threads;
    for (_, precision) in Precision::NAMES {
        for threads in [1, 2] {
            let options = Options {
                threads: Some(threads),
                precision,
                ..Options::default()
            };
            let model = load(&program(), &file.0, options).unwrap();
            let texts: Vec<Vec<u32>> = (0..min_rows(threads) / MAX_TOKENS * 2)
                .map(|text| {
                    let ids = 0..MAX_TOKENS - text % 4;
                    ids.map(|position| ((text * 5 + position * 3) % VOCABULARY) as u32)
                        .collect()
                })
                .collect();
            let ids = texts.concat();
            assert!(ids.len() > min_rows(threads), "{} rows do not run in blocks", ids.len());
            let mut ends = vec![0];
            for text in &texts {
                ends.push(ends[ends.len() - 1] + text.len() as u32);
            }
            let together = vectors(&model, &ids, &ends).unwrap();
            let width = model.dimensions();
            for (text, vector) in texts.iter().zip(together.chunks_exact(width)) {
                let alone = vectors(&model, text, &[0, text.len() as u32]).unwrap();
                assert_eq!(alone, vector, "{precision:?}, {threads} threads, {text:?}");
            }
        }
    }
}
