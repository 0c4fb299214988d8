//! The arithmetic, one kernel a file, each written once over [`Simd`] and compiled once per instruction set.
//!
//! [`Kernels`] is the table of compiled functions for one instruction set. All of them obey the laws of row
//! independence: an output is one chain of operations that depends on its own row (or text) only, whatever else is in
//! the batch and however the work is divided.

pub mod attention;
pub mod elementwise;
pub mod embed;
pub mod gemm;
pub mod int16;
mod loops;
pub mod norm;
pub mod peak;
pub mod pooling;
mod probe;
pub mod rope;

use crate::simd::Simd;
#[cfg(target_arch = "x86_64")]
use crate::simd::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use crate::simd::avx512::Avx512;
use crate::simd::portable::Portable;
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
        // SAFETY: the caller vouches for the row.
        unsafe { self.data.add(row * self.stride) }
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
    /// Lookup of rows of the embedding table.
    pub embed: unsafe fn(&embed::Embed<'_>, Range<usize>),
    /// RMS or layer norm over rows.
    pub norm: unsafe fn(&norm::Norm<'_>, Range<usize>),
    /// Rotary embedding over rows.
    pub rope: unsafe fn(&rope::Rope<'_>, Range<usize>),
    /// Element by element over rows.
    pub elementwise: unsafe fn(&elementwise::Elementwise, Range<usize>),
    /// Keys and values of one text and head, packed.
    pub attention_pack: unsafe fn(&attention::Attention<'_>, attention::Span, usize),
    /// One tile of queries of one text and head.
    pub attention_tile: unsafe fn(&attention::Attention<'_>, attention::Tile, usize, &mut [f32]),
    /// One text's tokens to one vector.
    pub pool: unsafe fn(&pooling::Pool, pooling::Text),
    /// Multiply-adds in registers, to measure by.
    pub peak: unsafe fn(usize) -> f32,
    /// Rows to length 1.
    pub normalise: unsafe fn(&pooling::Normalise, Range<usize>),
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
        unsafe fn attention_pack(args: &attention::Attention<'_>, span: attention::Span, head: usize) {
            // SAFETY: as above.
            unsafe { attention::pack::<$vector>(args, span, head) }
        }
        $(#[$feature])?
        unsafe fn attention_tile(
            args: &attention::Attention<'_>,
            tile: attention::Tile,
            head: usize,
            scratch: &mut [f32],
        ) {
            // SAFETY: as above.
            unsafe { attention::tile::<$vector>(args, tile, head, scratch) }
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
            panel: gemm::VECTORS * <$vector as Simd>::LANES,
            gemm,
            quantise,
            gemm_int16,
            embed,
            norm,
            rope,
            elementwise,
            attention_pack,
            attention_tile,
            pool,
            peak,
            normalise,
        }
    }};
}

static PORTABLE: Kernels = kernels!("portable", Portable);
#[cfg(target_arch = "x86_64")]
static AVX2: Kernels = kernels!("avx2", Avx2, #[target_feature(enable = "avx2,fma")]);
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

impl Kernels {
    /// The fastest set that this machine can run. AVX-512 is not on every machine that embergem is tested on: where it
    /// is found, it is first held against the portable kernels, and left, with a word on standard error, if it differs.
    pub fn best() -> &'static Self {
        static BEST: OnceLock<&'static Kernels> = OnceLock::new();
        BEST.get_or_init(|| {
            #[cfg(target_arch = "x86_64")]
            for (kernels, there) in [
                (
                    &AVX512_VNNI,
                    has_avx512() && std::is_x86_feature_detected!("avx512vnni"),
                ),
                (&AVX512, has_avx512()),
            ] {
                if there && probe::agrees(kernels) {
                    return kernels;
                }
                if there {
                    eprintln!(
                        "embergem: {} computes wrongly on this machine and is not used",
                        kernels.name
                    );
                }
            }
            #[cfg(target_arch = "x86_64")]
            if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
                return &AVX2;
            }
            &PORTABLE
        })
    }

    /// Names of the sets that this machine can run.
    pub fn names() -> Vec<&'static str> {
        let known = ["portable", "avx2", "avx512", "avx512-vnni"];
        known.into_iter().filter(|name| Self::named(name).is_some()).collect()
    }

    /// The set of this name, if the machine has it.
    pub fn named(name: &str) -> Option<&'static Self> {
        match name {
            "portable" => Some(&PORTABLE),
            #[cfg(target_arch = "x86_64")]
            "avx2" if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") => Some(&AVX2),
            #[cfg(target_arch = "x86_64")]
            "avx512" if has_avx512() => Some(&AVX512),
            #[cfg(target_arch = "x86_64")]
            "avx512-vnni" if has_avx512() && std::is_x86_feature_detected!("avx512vnni") => Some(&AVX512_VNNI),
            _ => None,
        }
    }

    /// The set in plain Rust.
    pub fn portable() -> &'static Self {
        &PORTABLE
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    std::is_x86_feature_detected!("avx512f")
        && std::is_x86_feature_detected!("avx512bw")
        && std::is_x86_feature_detected!("avx512dq")
        && std::is_x86_feature_detected!("avx512vl")
}
