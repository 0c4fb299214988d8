//! Division of a batch's rows into blocks, each of which one thread computes.

use crate::kernels::Kernels;
use std::ops::Range;

/// Rows of a register tile, or a multiple of them, on instruction sets without matrix instructions.
const TILE_ROWS: usize = 12;

/// The rows of a batch, divided into blocks of nearly the same height.
///
/// A block is whole register tiles; only the last tile may have fewer rows.
#[derive(Clone, Copy)]
pub struct Blocks {
    rows: usize,
    /// Rows of a register tile.
    tile: usize,
    /// Number of blocks.
    pub count: usize,
}

impl Blocks {
    /// Divides rows into blocks of at most `max_rows`, or of one tile if it has more. The number of blocks is a multiple of
    /// that of the threads, so that all threads finish at the same time. There must be a tile for each thread, or blocks are
    /// empty.
    pub fn new(kernels: &Kernels, rows: usize, max_rows: usize, threads: usize) -> Self {
        Self::of_tiles(kernels.matrix_rows.unwrap_or(TILE_ROWS), rows, max_rows, threads)
    }

    fn of_tiles(tile: usize, rows: usize, max_rows: usize, threads: usize) -> Self {
        let tiles_of_a_thread = rows.div_ceil(tile).div_ceil(threads);
        let count = tiles_of_a_thread.div_ceil((max_rows / tile).max(1)) * threads;
        Self { rows, tile, count }
    }

    /// Divides the rows of a section.
    ///
    /// Every block reads all weights again, and its rows should stay in the second-level cache. Processors with AVX-512 have
    /// 1 MB of it or more (Zen 4, Ice Lake), those with AMX 2 MB, others often half a megabyte.
    pub fn of_section(kernels: &Kernels, rows: usize, threads: usize) -> Self {
        let max_rows = match (kernels.matrix_rows, kernels.lanes) {
            (Some(_), _) => 160,
            (None, 16..) => 120,
            (None, _) => 60,
        };
        Self::new(kernels, rows, max_rows, threads)
    }

    fn tiles(self) -> usize {
        self.rows.div_ceil(self.tile)
    }

    /// Returns the rows of the largest block.
    pub fn height(self) -> usize {
        self.tiles().div_ceil(self.count) * self.tile
    }

    /// Returns the rows of a block. The last block, whose last tile may have fewer rows, is one of the largest.
    pub fn rows(self, block: usize) -> Range<usize> {
        let first = |block: usize| block * self.tiles() / self.count * self.tile;
        first(block)..first(block + 1).min(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that the blocks follow each other, have as many tiles each but for one, and are not higher than they may be.
    fn check(blocks: Blocks, rows: usize, max_rows: usize, threads: usize) {
        let all: Vec<_> = (0..blocks.count).map(|block| blocks.rows(block)).collect();
        let case = format!("{rows} rows, {threads} threads, {max_rows} rows at most: {all:?}");
        assert_eq!(blocks.count % threads, 0, "{case}");
        assert_eq!((all[0].start, all[blocks.count - 1].end), (0, rows), "{case}");
        assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start), "{case}");
        let tiles: Vec<_> = all.iter().map(|rows| rows.len().div_ceil(blocks.tile)).collect();
        let (least, most) = (tiles.iter().min(), tiles.iter().max());
        assert!(most.unwrap() - least.unwrap() <= 1, "{case}");
        assert_eq!(tiles.last(), most, "{case}");
        assert_eq!(most.unwrap() * blocks.tile, blocks.height(), "{case}");
        assert!(blocks.height() <= max_rows.max(blocks.tile), "{case}");
    }

    #[test]
    fn threads_get_the_same_tiles_in_blocks_of_limited_height() {
        for kernels in Kernels::all() {
            for threads in [1, 2, 3, 8, 64] {
                for rows in (0..2000).map(|more| 384 * threads + more) {
                    check(Blocks::of_section(kernels, rows, threads), rows, 160, threads);
                }
            }
        }
    }

    #[test]
    fn no_block_is_higher_than_it_may_be() {
        for (tile, max_rows) in [(16, 160), (12, 120), (12, 60), (16, 96), (12, 85), (12, 5)] {
            for threads in [1, 2, 8] {
                for rows in tile * threads..1000 {
                    check(Blocks::of_tiles(tile, rows, max_rows, threads), rows, max_rows, threads);
                }
            }
        }
    }
}
