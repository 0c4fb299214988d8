//! The arithmetic, one kernel a file, each written once over [`Simd`] and compiled once per instruction set.
//!
//! [`Kernels`] is the table of compiled functions for one instruction set. All of them obey the laws of row
//! independence: an output is one chain of operations that depends on its own row (or text) only, whatever else is in
//! the batch and however the work is divided.

pub mod attention;
pub mod attention_int16;
#[cfg(test)]
mod benchmark;
pub mod bfloat16;
mod cases;
pub mod elementwise;
pub mod embed;
pub mod gemm;
pub mod int16;
pub mod int8;
mod loops;
pub mod norm;
pub mod panels;
pub mod peak;
pub mod pooling;
mod probe;
pub mod rope;
#[cfg(test)]
mod tests;

use crate::simd::Simd;
#[cfg(target_arch = "x86_64")]
use crate::simd::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use crate::simd::avx512::Avx512;
#[cfg(target_arch = "aarch64")]
use crate::simd::neon::Neon;
use crate::simd::portable::Portable;
use crate::simd::tile::VECTORS;
use std::ops::Range;
use std::sync::OnceLock;

/// A matrix in memory: `rows` of `stride` floats, of which an operand uses some columns from `data` on.
#[derive(Clone, Copy)]
pub struct Matrix {
    /// First element.
    pub data: *mut f32,
    /// Floats from one row to the next.
    pub stride: usize,
}

// SAFETY: a `Matrix` is an address; the executor hands tasks disjoint rows or columns to write.
unsafe impl Send for Matrix {}
// SAFETY: as above.
unsafe impl Sync for Matrix {}

impl Matrix {
    /// Address of row `row`.
    ///
    /// # Safety
    /// The row must lie inside the allocation.
    #[inline(always)]
    pub unsafe fn row(self, row: usize) -> *mut f32 {
        // Wrapping, for `data` itself may lie before the allocation where row 0 is none of the matrix's: see
        // `run::linear::integers`.
        self.data.wrapping_add(row * self.stride)
    }
}

/// The kernels compiled for one instruction set.
///
/// Every function is unsafe for the same reasons: the operands must cover what the arguments describe, rows or columns
/// given to different threads must not overlap, and the instruction set must be present (which [`Kernels::best`] and
/// [`Kernels::portable`] see to).
pub struct Kernels {
    /// Name for logs and `bench --json`.
    pub name: &'static str,
    /// Floats of a vector.
    pub lanes: usize,
    /// Columns of a packed panel.
    pub panel: usize,
    /// Matrix product over rows and panels.
    pub gemm: unsafe fn(&gemm::Gemm<'_>, Range<usize>, Range<usize>),
    /// Rows to 16-bit integers.
    pub quantise: unsafe fn(&int16::Quantise, Range<usize>),
    /// Product of 16-bit integers over rows and panels.
    pub gemm_int16: unsafe fn(&int16::Gemm<'_>, Range<usize>, Range<usize>),
    /// Product with 8-bit weights over rows and panels.
    pub gemm_int8: unsafe fn(&int16::Gemm<'_, int8::Packed>, Range<usize>, Range<usize>),
    /// Product with bfloat16 weights over rows and panels.
    pub gemm_bfloat16: unsafe fn(&gemm::Gemm<'_, bfloat16::Packed>, Range<usize>, Range<usize>),
    /// Lookup of rows of the embedding table.
    pub embed: unsafe fn(&embed::Embed<'_>, Range<usize>),
    /// RMS or layer norm over rows.
    pub norm: unsafe fn(&norm::Norm<'_>, Range<usize>),
    /// Rotary embedding over rows.
    pub rope: unsafe fn(&rope::Rope<'_>, Range<usize>),
    /// Element by element over rows.
    pub elementwise: unsafe fn(&elementwise::Elementwise, Range<usize>),
    /// Attention in floats.
    pub attention: Attend,
    /// Attention in 16-bit integers.
    pub attention_int16: Attend,
    /// One text's tokens to one vector.
    pub pool: unsafe fn(&pooling::Pool, pooling::Text),
    /// Multiply-adds in registers, to measure by.
    pub peak: unsafe fn(usize) -> f32,
    /// Rows to length 1.
    pub normalise: unsafe fn(&pooling::Normalise, Range<usize>),
}

/// Attention in one arithmetic.
#[derive(Clone, Copy)]
pub struct Attend {
    /// Packs keys and values of one text and head.
    pub pack: unsafe fn(&attention::Attention<'_>, attention::Span, usize),
    /// One tile of queries of one text and head.
    pub tile: unsafe fn(&attention::Attention<'_>, attention::Tile, usize, &mut [f32]),
    /// Floats that a text's packed keys and values take: by its tokens, key heads, features of a head, and panel.
    pub packed_len: fn(usize, usize, usize, usize) -> usize,
    /// Floats of scratch for a tile: by tokens of the longest text, features of a head, and panel.
    pub scratch_len: fn(usize, usize, usize) -> usize,
}

macro_rules! attend {
    ($arithmetic:ident, $vector:ty $(, #[$feature:meta])?) => {{
        $(#[$feature])?
        unsafe fn pack(args: &attention::Attention<'_>, span: attention::Span, head: usize) {
            // SAFETY: the caller keeps the contract of `Kernels`; so below.
            unsafe { $arithmetic::pack::<$vector>(args, span, head) }
        }
        $(#[$feature])?
        unsafe fn tile(args: &attention::Attention<'_>, tile: attention::Tile, head: usize, scratch: &mut [f32]) {
            // SAFETY: as above.
            unsafe { $arithmetic::tile::<$vector>(args, tile, head, scratch) }
        }
        Attend {
            pack,
            tile,
            packed_len: $arithmetic::packed_len,
            scratch_len: $arithmetic::scratch_len,
        }
    }};
}

macro_rules! kernels {
    ($name:literal, $vector:ty $(, #[$feature:meta])?) => {{
        $(#[$feature])?
        unsafe fn gemm(args: &gemm::Gemm<'_>, rows: Range<usize>, panels: Range<usize>) {
            // SAFETY: the caller keeps the contract of `Kernels`; so below.
            unsafe { gemm::gemm::<$vector>(args, rows, panels) }
        }
        $(#[$feature])?
        unsafe fn quantise(args: &int16::Quantise, rows: Range<usize>) {
            // SAFETY: as above.
            unsafe { int16::quantise::<$vector>(args, rows) }
        }
        $(#[$feature])?
        unsafe fn gemm_int16(args: &int16::Gemm<'_>, rows: Range<usize>, panels: Range<usize>) {
            // SAFETY: as above.
            unsafe { int16::gemm::<$vector>(args, rows, panels) }
        }
        $(#[$feature])?
        unsafe fn gemm_int8(args: &int16::Gemm<'_, int8::Packed>, rows: Range<usize>, panels: Range<usize>) {
            // SAFETY: as above.
            unsafe { int8::gemm::<$vector>(args, rows, panels) }
        }
        $(#[$feature])?
        unsafe fn gemm_bfloat16(args: &gemm::Gemm<'_, bfloat16::Packed>, rows: Range<usize>, panels: Range<usize>) {
            // SAFETY: as above.
            unsafe { bfloat16::gemm::<$vector>(args, rows, panels) }
        }
        $(#[$feature])?
        unsafe fn embed(args: &embed::Embed<'_>, rows: Range<usize>) {
            // SAFETY: as above.
            unsafe { embed::embed::<$vector>(args, rows) }
        }
        $(#[$feature])?
        unsafe fn norm(args: &norm::Norm<'_>, rows: Range<usize>) {
            // SAFETY: as above.
            unsafe { norm::norm::<$vector>(args, rows) }
        }
        $(#[$feature])?
        unsafe fn rope(args: &rope::Rope<'_>, rows: Range<usize>) {
            // SAFETY: as above.
            unsafe { rope::rope::<$vector>(args, rows) }
        }
        $(#[$feature])?
        unsafe fn elementwise(args: &elementwise::Elementwise, rows: Range<usize>) {
            // SAFETY: as above.
            unsafe { elementwise::elementwise::<$vector>(args, rows) }
        }
        $(#[$feature])?
        unsafe fn pool(args: &pooling::Pool, text: pooling::Text) {
            // SAFETY: as above.
            unsafe { pooling::pool::<$vector>(args, text) }
        }
        $(#[$feature])?
        unsafe fn normalise(args: &pooling::Normalise, rows: Range<usize>) {
            // SAFETY: as above.
            unsafe { pooling::normalise::<$vector>(args, rows) }
        }
        $(#[$feature])?
        unsafe fn peak(rounds: usize) -> f32 {
            // SAFETY: as above.
            unsafe { peak::peak::<$vector>(rounds) }
        }
        Kernels {
            name: $name,
            lanes: <$vector as Simd>::LANES,
            panel: VECTORS * <$vector as Simd>::LANES,
            gemm,
            quantise,
            gemm_int16,
            gemm_int8,
            gemm_bfloat16,
            embed,
            norm,
            rope,
            elementwise,
            attention: attend!(attention, $vector $(, #[$feature])?),
            attention_int16: attend!(attention_int16, $vector $(, #[$feature])?),
            pool,
            peak,
            normalise,
        }
    }};
}

static PORTABLE: Kernels = kernels!("portable", Portable);
#[cfg(target_arch = "x86_64")]
static AVX2: Kernels = kernels!("avx2", Avx2<false>, #[target_feature(enable = "avx2,fma")]);
#[cfg(target_arch = "x86_64")]
static AVX_VNNI: Kernels = kernels!("avx-vnni", Avx2<true>, #[target_feature(enable = "avx2,fma,avxvnni")]);
#[cfg(target_arch = "x86_64")]
static AVX512: Kernels = kernels!(
    "avx512",
    Avx512<false>,
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
);
#[cfg(target_arch = "x86_64")]
static AVX512_VNNI: Kernels = kernels!(
    "avx512-vnni",
    Avx512<true>,
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
);

#[cfg(target_arch = "aarch64")]
static NEON: Kernels = kernels!("neon", Neon);

/// An instruction set, and what is known of it here.
struct Candidate {
    kernels: &'static Kernels,
    /// The machine has it.
    there: bool,
    /// Every machine that embergem is tested on has it, so that it needs no probe.
    tested: bool,
}

/// The sets of this architecture, the fastest first.
fn candidates() -> Vec<Candidate> {
    #[cfg(target_arch = "x86_64")]
    let found = {
        let avx2 = std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
        let avx512 = avx2
            && std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512dq")
            && std::is_x86_feature_detected!("avx512vl");
        let vnni = avx512 && std::is_x86_feature_detected!("avx512vnni");
        let avx_vnni = avx2 && std::is_x86_feature_detected!("avxvnni");
        [
            (&AVX512_VNNI, vnni, false),
            (&AVX512, avx512, false),
            (&AVX_VNNI, avx_vnni, false),
            (&AVX2, avx2, true),
        ]
    };
    #[cfg(target_arch = "aarch64")]
    let found = [(&NEON, true, false)];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found = [];
    let portable = [(&PORTABLE, true, true)];
    found
        .into_iter()
        .chain(portable)
        .map(|(kernels, there, tested)| Candidate { kernels, there, tested })
        .collect()
}

impl Kernels {
    /// The fastest set that this machine can run. One that is not on every machine that embergem is tested on is first
    /// held against the portable kernels, and left, with a word on standard error, if it differs.
    pub fn best() -> &'static Self {
        static BEST: OnceLock<&'static Kernels> = OnceLock::new();
        BEST.get_or_init(|| {
            for Candidate { kernels, there, tested } in candidates() {
                if there && (tested || probe::agrees(kernels)) {
                    return kernels;
                }
                if there {
                    eprintln!(
                        "embergem: {} computes wrongly on this machine and is not used",
                        kernels.name
                    );
                }
            }
            &PORTABLE
        })
    }

    /// The sets that this machine can run, the slowest first.
    pub fn all() -> Vec<&'static Self> {
        let there = candidates().into_iter().filter(|candidate| candidate.there);
        there.map(|candidate| candidate.kernels).rev().collect()
    }

    /// The set of this name, if the machine has it.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::all().into_iter().find(|kernels| kernels.name == name)
    }

    /// The set in plain Rust.
    pub fn portable() -> &'static Self {
        &PORTABLE
    }
}
