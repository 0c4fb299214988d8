//! Measurements of a loaded model: the token budget of a batch, and the cosine of its vectors to those of float32.
//!
//! Both results are stored as [`Memo`]s in a directory that the Python package and the Rust SDK share.

use crate::arbiter::Lane;
use crate::error::{Error, Result};
use crate::memo::Memo;
use crate::model::{Model, Options, Streamed};
use crate::packed::PackProgress;
use crate::pool::Pool;
use crate::precision::Precision;
use crate::run::Progress;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Batch sizes to try, in tokens, smallest first. Below the first size the rows of a large model do not go through its
/// layers in blocks, which costs a sixteenth of the rate; see `run/row_blocks.rs`.
pub const BATCH_BUDGETS: [usize; 3] = [1024, 2048, 4096];
/// A smaller batch is preferred if it reaches this share of the best rate.
const SUFFICIENT_RATE: f64 = 0.97;
/// If a batch takes longer than this, in seconds, no larger size is measured: reading the weights is then a small part
/// of the time.
const LONG_BATCH: f64 = 0.5;
/// Tokens of each row in a measured batch.
const ROW: usize = 128;
/// Lengths of the rows whose vectors are compared with those of float32.
const COMPARED_ROWS: [usize; 6] = [3, 17, 40, 64, 90, 128];

impl Model {
    /// Returns the most tokens that a batch of this model should have on this machine.
    ///
    /// A larger batch reads the weights less often, but the requests behind it wait longer. The budget is therefore the
    /// smallest of [`BATCH_BUDGETS`] whose rate is close to the best. `limit` is the most tokens of one input. The
    /// result is remembered in the directory `notes` for exactly these `files`.
    ///
    /// The runs are bulk runs, so interactive runs go first between two of their steps. This waiting is not measured.
    ///
    /// # Errors
    /// Those of [`Model::start`] and [`crate::Run::vectors`], and [`Error::Cancelled`] once `stop` is set.
    pub fn batch_budget<'a>(
        &self,
        files: impl IntoIterator<Item = &'a Path>,
        limit: usize,
        notes: Option<&Path>,
        stop: &AtomicBool,
    ) -> Result<usize> {
        remembered(self.budget_memo(files, notes), || {
            let chosen = choose(|tokens| self.seconds(tokens, limit.min(ROW), stop));
            self.release_tables();
            chosen
        })
    }

    /// Returns the result of an earlier [`Model::batch_budget`] for exactly these `files`; `None` if the directory `notes`
    /// has none.
    pub fn known_batch_budget<'a>(
        &self,
        files: impl IntoIterator<Item = &'a Path>,
        notes: Option<&Path>,
    ) -> Option<usize> {
        known(self.budget_memo(files, notes).as_ref())
    }

    /// Where the batch budget for these files is remembered.
    fn budget_memo<'a>(&self, files: impl IntoIterator<Item = &'a Path>, notes: Option<&Path>) -> Option<Memo> {
        let variant = [
            env!("CARGO_PKG_VERSION"),
            self.precision().name(),
            self.instruction_set(),
            &self.threads().to_string(),
            &format!("{BATCH_BUDGETS:?}"),
        ];
        Memo::new(notes?, "budget", files, &variant)
    }

    /// Returns the least cosine between this model's vectors and those of the same model in float32, over fixed rows of
    /// ids.
    ///
    /// `program` and `files` are those that the model was loaded from. The result is remembered in the directory `notes`
    /// for exactly these files. `progress` counts the weights that are packed in float32.
    ///
    /// # Errors
    /// Those of [`Model::load`], [`Model::start`] and [`crate::Run::vectors`].
    pub fn least_cosine(
        &self,
        program: &str,
        files: &[(&str, &Path)],
        notes: Option<&Path>,
        progress: Option<&Arc<PackProgress>>,
    ) -> Result<f64> {
        let variant = [
            env!("CARGO_PKG_VERSION"),
            self.precision().name(),
            self.instruction_set(),
        ];
        let paths = files.iter().map(|(_, path)| *path);
        let memo = notes.and_then(|notes| Memo::new(notes, "exactness", paths, &variant));
        remembered(memo, || {
            let ids = spread(self.vocabulary, COMPARED_ROWS.iter().sum());
            let ends = COMPARED_ROWS.iter().scan(0, |end, row| {
                *end += *row as u32;
                Some(*end)
            });
            let cu_seqlens: Vec<u32> = std::iter::once(0).chain(ends).collect();
            let exact = Options {
                precision: Precision::Float32,
                threads: Some(self.threads()),
                kernels: Some(self.instruction_set()),
                progress,
                ..Options::default()
            };
            let exact = Streamed::open(program, files, exact)?;
            let wanted = exact.run(&ids, &cu_seqlens, |_, _| ())?;
            let found = self.vectors(&ids, &cu_seqlens)?;
            self.release_tables();
            let width = self.dimensions();
            let pairs = found.chunks_exact(width).zip(wanted.chunks_exact(width));
            Ok(pairs.map(|(a, b)| cosine(a, b)).fold(1.0, f64::min))
        })
    }

    /// Times a batch of about `tokens` tokens in rows of `row` tokens: the better of two runs, since disturbances only
    /// ever slow a run down.
    fn seconds(&self, tokens: usize, row: usize, stop: &AtomicBool) -> Result<f64> {
        let row = row.max(1);
        let rows = (tokens / row).max(1);
        let ids = spread(self.vocabulary, rows * row);
        let cu_seqlens: Vec<u32> = (0..=rows).map(|number| (number * row) as u32).collect();
        let mut best = f64::INFINITY;
        for _ in 0..2 {
            let start = Instant::now();
            let mut run = self.start(&ids, &cu_seqlens)?.in_lane(Lane::Bulk);
            if run.advance(Pool::global(), stop) == Progress::Stopped {
                return Err(Error::Cancelled);
            }
            let took = start.elapsed().saturating_sub(run.waited());
            match run.vectors() {
                Ok(_) | Err(Error::NonFinite { .. }) => {} // a row that is not finite takes the same time
                Err(error) => return Err(error),
            }
            best = best.min(took.as_secs_f64());
            if best > LONG_BATCH {
                break;
            }
        }
        Ok(best * tokens as f64 / (rows * row) as f64)
    }

    fn vectors(&self, ids: &[u32], cu_seqlens: &[u32]) -> Result<Vec<f32>> {
        let mut run = self.start(ids, cu_seqlens)?;
        run.advance(Pool::global(), &AtomicBool::new(false));
        run.vectors()
    }
}

/// Returns the cosine of two vectors, summed in f64; 0 if one of them is zero.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt()).max(1e-300)
}

/// Returns the number that a memo has; `None` without one and for a damaged one.
fn known<T: FromStr>(memo: Option<&Memo>) -> Option<T> {
    memo?.read()?.parse().ok()
}

/// Returns the number that a memo has, or measures it and writes it there.
fn remembered<T: FromStr + ToString>(memo: Option<Memo>, measure: impl FnOnce() -> Result<T>) -> Result<T> {
    if let Some(known) = known(memo.as_ref()) {
        return Ok(known);
    }
    let found = measure()?;
    if let Some(memo) = memo {
        memo.write(&found.to_string());
    }
    Ok(found)
}

/// Returns the smallest budget whose rate is close to the best. `seconds` measures a batch of the given number of
/// tokens.
fn choose(mut seconds: impl FnMut(usize) -> Result<f64>) -> Result<usize> {
    let mut rates = Vec::new();
    for size in BATCH_BUDGETS {
        let took = seconds(size)?;
        rates.push((size, size as f64 / took.max(1e-9)));
        if took > LONG_BATCH {
            break;
        }
    }
    let best = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let enough = rates.iter().find(|(_, rate)| *rate >= SUFFICIENT_RATE * best);
    Ok(enough.map_or(BATCH_BUDGETS[0], |(size, _)| *size))
}

/// Returns `count` fixed ids that are spread over the vocabulary, by multiplicative hashing with the golden ratio.
fn spread(vocabulary: usize, count: usize) -> Vec<u32> {
    (1..=count as u32)
        .map(|number| number.wrapping_mul(2_654_435_769) % vocabulary as u32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_batch_near_the_best_rate_is_chosen() {
        let chosen = |seconds: fn(f64) -> f64| choose(|tokens| Ok(seconds(tokens as f64))).unwrap();
        assert_eq!(chosen(|tokens| 0.004 + tokens / 100_000.0), 4096);
        assert_eq!(chosen(|tokens| 0.0001 + tokens / 100_000.0), 1024);
        assert_eq!(
            chosen(|tokens| tokens / 1000.0),
            1024,
            "one batch takes longer than LONG_BATCH"
        );
    }

    #[test]
    fn ids_are_below_the_vocabulary_and_differ() {
        let ids = spread(50, 400);
        assert!(ids.iter().all(|id| *id < 50));
        assert!((0..50).all(|id| ids.contains(&id)));
    }

    #[test]
    fn cosines_are_of_directions() {
        assert!((cosine(&[3.0, 0.0], &[7.0, 0.0]) - 1.0).abs() < 1e-15);
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 1.0]), 0.0);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 0.0]), 0.0);
    }

    #[test]
    fn a_measurement_is_made_once() {
        let directory = std::env::temp_dir().join(format!("embergem-calibration-{}", std::process::id()));
        let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        let memo = || Memo::new(&directory, "exactness", [file], &["v"]);
        let measure = |value: f64| remembered(memo(), || Ok(value)).unwrap();
        assert_eq!((measure(0.1 + 0.2), measure(9.0)), (0.1 + 0.2, 0.1 + 0.2));
        memo().unwrap().write("half a num");
        assert_eq!(measure(5.0), 5.0, "a damaged entry is measured again");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
