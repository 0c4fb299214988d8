//! The arithmetic: one kernel a file, each written once over [`Simd`] and compiled once for each instruction set.
//!
//! [`Kernels`] is the table of functions compiled for one instruction set. All kernels are row independent: an output
//! is one chain of operations on its own row (or text), whatever else is in the batch and however threads divide the
//! work.

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
mod matrix;
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
use crate::simd::avx512::{self, Avx512};
#[cfg(target_arch = "aarch64")]
use crate::simd::neon::Neon;
use crate::simd::portable::Portable;
use crate::simd::tile::{Bfloat16Rows, Int8Rows, Int16Rows, VECTORS};
use int8::quantise::QuantiseInt8;
use std::ops::Range;
use std::sync::OnceLock;

/// A matrix in memory: some columns, from `data` on, of rows that are `stride` values apart.
#[derive(Clone, Copy)]
pub struct Matrix {
    /// First element of row 0.
    pub data: *mut f32,
    /// Values from one row to the next.
    pub stride: usize,
}

// SAFETY: a `Matrix` is only an address. Code that dereferences it must hold a range of rows or columns that no other
// thread writes; the executor divides them among threads.
unsafe impl Send for Matrix {}
// SAFETY: a shared `Matrix` is only an address. Code that dereferences it must hold a range of rows or columns that no
// other thread writes.
unsafe impl Sync for Matrix {}

impl Matrix {
    /// Returns the address of row `row`.
    ///
    /// # Safety
    /// The row must lie inside the allocation.
    #[inline(always)]
    pub unsafe fn row(self, row: usize) -> *mut f32 {
        // Wrapping, because `data` may lie before the allocation if the matrix does not use its first rows: scratch
        // memory for a block of rows is addressed by the row numbers of the whole batch.
        self.data.wrapping_add(row * self.stride)
    }
}

/// The kernels compiled for one instruction set.
///
/// # Safety
/// Every function requires that
/// - the operands cover the rows and columns that the arguments describe,
/// - no other thread writes the operands, or accesses the rows, columns or text that this call writes,
/// - an output overlaps an input only where the function's arguments allow it,
/// - the processor has the instruction set. [`Kernels::best`], [`Kernels::named`] and [`Kernels::all`] guarantee that.
pub struct Kernels {
    /// Name for logs and `bench --json`.
    pub name: &'static str,
    /// f32 values of a vector.
    pub lanes: usize,
    /// Columns of a packed panel.
    pub panel: usize,
    /// Rows of a tile of matrix instructions, if the set has them.
    pub matrix_rows: Option<usize>,
    /// Matrix product in f32, over rows and panels.
    pub gemm: unsafe fn(&gemm::Gemm<'_>, Range<usize>, Range<usize>),
    /// How rows of products with 8-bit weights are stored.
    pub int8_rows: Int8Rows,
    /// How rows and weights of products of 16-bit integers are stored.
    pub int16_rows: Int16Rows,
    /// How rows and weights of products with bfloat16 weights are stored.
    pub bfloat16_rows: Bfloat16Rows,
    /// Conversion of rows to bfloat16 numbers. Sets whose rows stay f32 have it only for comparison.
    pub round_bfloat16: unsafe fn(&bfloat16::Round, Range<usize>),
    /// Conversion of rows to 16-bit integers.
    pub quantise: unsafe fn(&int16::Quantise, Range<usize>),
    /// Conversion of rows to 8-bit integers.
    pub quantise_int8: unsafe fn(&QuantiseInt8<'_>, Range<usize>),
    /// Matrix product of 16-bit integers, over rows and panels.
    pub gemm_int16: unsafe fn(&int16::Gemm<'_>, Range<usize>, Range<usize>),
    /// Matrix product with 8-bit weights, over rows and panels.
    pub gemm_int8: unsafe fn(&int16::Gemm<'_, int8::Packed>, Range<usize>, Range<usize>),
    /// Matrix product with bfloat16 weights, over rows and panels.
    pub gemm_bfloat16: unsafe fn(&gemm::Gemm<'_, bfloat16::Packed>, Range<usize>, Range<usize>),
    /// Embedding lookup, over rows.
    pub embed: unsafe fn(&embed::Embed<'_>, Range<usize>),
    /// RMS norm or layer norm, over rows.
    pub norm: unsafe fn(&norm::Norm<'_>, Range<usize>),
    /// Rotary embedding, over rows.
    pub rope: unsafe fn(&rope::Rope<'_>, Range<usize>),
    /// Elementwise operation, over rows.
    pub elementwise: unsafe fn(&elementwise::Elementwise, Range<usize>),
    /// Attention in f32.
    pub attention: AttentionKernels,
    /// Attention in 16-bit integers.
    pub attention_int16: AttentionKernels,
    /// Pooling of one text's tokens to one vector.
    pub pool: unsafe fn(&pooling::Pool, pooling::Text),
    /// Multiply-adds on registers, to measure the peak rate.
    pub peak: unsafe fn(usize) -> f32,
    /// Scaling to length 1, over rows.
    pub normalise: unsafe fn(&pooling::Normalise, Range<usize>),
}

/// The kernels of attention in one arithmetic. The safety requirements are those of [`Kernels`].
#[derive(Clone, Copy)]
pub struct AttentionKernels {
    /// Packs the keys and values of one text and head.
    pub pack: unsafe fn(&attention::Attention<'_>, attention::Span, usize),
    /// Computes one tile of queries of one text and head.
    pub tile: unsafe fn(&attention::Attention<'_>, attention::QueryTile, usize, &mut [f32]),
    /// Returns the f32 values that a text's packed keys and values take: by tokens, key heads, head size and panel
    /// width.
    pub packed_len: fn(usize, usize, usize, usize) -> usize,
    /// Returns the f32 values of scratch memory for a tile: by tokens of the longest text, head size and panel width.
    pub scratch_len: fn(usize, usize, usize) -> usize,
}

/// Defines a function that runs a generic kernel, compiled for an instruction set.
macro_rules! compiled {
    ($(#[$feature:meta])? fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? = $kernel:expr) => {
        $(#[$feature])?
        unsafe fn $name($($argument: $type),*) $(-> $result)? {
            // SAFETY: the caller of a function of `Kernels` guarantees that the operands cover what the arguments
            // describe, that no other thread accesses what is written, and that the processor has the instruction set.
            unsafe { $kernel($($argument),*) }
        }
    };
}

macro_rules! attention_kernels {
    ($arithmetic:ident, $vector:ty $(, #[$feature:meta])?) => {{
        compiled! {
            $(#[$feature])?
            fn pack(args: &attention::Attention<'_>, span: attention::Span, head: usize) = $arithmetic::pack::<$vector>
        }
        compiled! {
            $(#[$feature])?
            fn tile(
                args: &attention::Attention<'_>, tile: attention::QueryTile, head: usize, scratch: &mut [f32]
            ) = $arithmetic::tile::<$vector>
        }
        AttentionKernels {
            pack,
            tile,
            packed_len: $arithmetic::packed_len,
            scratch_len: $arithmetic::scratch_len,
        }
    }};
}

macro_rules! kernels {
    ($name:literal, $vector:ty $(, #[$feature:meta])?) => {{
        compiled! {
            $(#[$feature])?
            fn gemm(args: &gemm::Gemm<'_>, rows: Range<usize>, panels: Range<usize>) = gemm::gemm::<$vector>
        }
        compiled! {
            $(#[$feature])?
            fn quantise(args: &int16::Quantise, rows: Range<usize>) = int16::quantise::<$vector>
        }
        compiled! {
            $(#[$feature])?
            fn quantise_int8(args: &QuantiseInt8<'_>, rows: Range<usize>) = int8::quantise::quantise::<$vector>
        }
        compiled! {
            $(#[$feature])?
            fn gemm_int16(args: &int16::Gemm<'_>, rows: Range<usize>, panels: Range<usize>) = matrix::int16::<$vector>
        }
        compiled! {
            $(#[$feature])?
            fn gemm_int8(
                args: &int16::Gemm<'_, int8::Packed>, rows: Range<usize>, panels: Range<usize>
            ) = matrix::int8::<$vector>
        }
        compiled! {
            $(#[$feature])?
            fn gemm_bfloat16(
                args: &gemm::Gemm<'_, bfloat16::Packed>, rows: Range<usize>, panels: Range<usize>
            ) = matrix::bfloat16::<$vector>
        }
        compiled! {
            $(#[$feature])?
            fn round_bfloat16(args: &bfloat16::Round, rows: Range<usize>) = bfloat16::round::<$vector>
        }
        compiled! {
            $(#[$feature])?
            fn embed(args: &embed::Embed<'_>, rows: Range<usize>) = embed::embed::<$vector>
        }
        compiled! {
            $(#[$feature])?
            fn norm(args: &norm::Norm<'_>, rows: Range<usize>) = norm::norm::<$vector>
        }
        compiled! {
            $(#[$feature])?
            fn rope(args: &rope::Rope<'_>, rows: Range<usize>) = rope::rope::<$vector>
        }
        compiled! {
            $(#[$feature])?
            fn elementwise(args: &elementwise::Elementwise, rows: Range<usize>) = elementwise::elementwise::<$vector>
        }
        compiled! {
            $(#[$feature])?
            fn pool(args: &pooling::Pool, text: pooling::Text) = pooling::pool::<$vector>
        }
        compiled! {
            $(#[$feature])?
            fn normalise(args: &pooling::Normalise, rows: Range<usize>) = pooling::normalise::<$vector>
        }
        compiled! {
            $(#[$feature])?
            fn peak(rounds: usize) -> f32 = peak::peak::<$vector>
        }
        Kernels {
            name: $name,
            lanes: <$vector as Simd>::LANES,
            panel: VECTORS * <$vector as Simd>::LANES,
            matrix_rows: <$vector as Simd>::MATRIX_ROWS,
            int8_rows: <$vector as Simd>::INT8_ROWS,
            int16_rows: <$vector as Simd>::INT16_ROWS,
            bfloat16_rows: <$vector as Simd>::BFLOAT16_ROWS,
            round_bfloat16,
            gemm,
            quantise,
            quantise_int8,
            gemm_int16,
            gemm_int8,
            gemm_bfloat16,
            embed,
            norm,
            rope,
            elementwise,
            attention: attention_kernels!(attention, $vector $(, #[$feature])?),
            attention_int16: attention_kernels!(attention_int16, $vector $(, #[$feature])?),
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
    Avx512<{ avx512::BASE }>,
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
);
#[cfg(target_arch = "x86_64")]
static AVX512_VNNI: Kernels = kernels!(
    "avx512-vnni",
    Avx512<{ avx512::VNNI }>,
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
);
#[cfg(target_arch = "x86_64")]
static AVX512_BF16: Kernels = kernels!(
    "avx512-bf16",
    Avx512<{ avx512::BF16 }>,
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
);
#[cfg(target_arch = "x86_64")]
static AVX512_AMX: Kernels = kernels!(
    "avx512-amx",
    Avx512<{ avx512::AMX }>,
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
);

#[cfg(target_arch = "aarch64")]
static NEON: Kernels = kernels!("neon", Neon<2>);
#[cfg(target_arch = "aarch64")]
static NEON_DOTPROD: Kernels = kernels!("neon-dotprod", Neon<4>, #[target_feature(enable = "neon,dotprod")]);
#[cfg(target_arch = "aarch64")]
static NEON_I8MM: Kernels = kernels!("neon-i8mm", Neon<8>, #[target_feature(enable = "neon,i8mm")]);

/// An instruction set of this architecture.
struct Candidate {
    kernels: &'static Kernels,
    /// The processor has it.
    available: bool,
    /// Every machine on which embergem is tested has it, so it needs no start-up probe.
    tested: bool,
}

/// Returns the instruction sets of this architecture, fastest first.
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
        let bf16 = vnni && std::is_x86_feature_detected!("avx512bf16");
        let avx_vnni = avx2 && std::is_x86_feature_detected!("avxvnni");
        let (vnni, bf16, amx) = (
            (&AVX512_VNNI, vnni, false),
            (&AVX512_BF16, bf16, false),
            (&AVX512_AMX, bf16 && avx512::amx::is_permitted(), false),
        );
        // `vdpbf16ps` does half the multiply-adds of `vfmadd` in the same time on Intel's Sapphire Rapids.
        let [faster, slower] = if avx512::is_intel() { [vnni, bf16] } else { [bf16, vnni] };
        [
            amx,
            faster,
            slower,
            (&AVX512, avx512, false),
            (&AVX_VNNI, avx_vnni, false),
            (&AVX2, avx2, true),
        ]
    };
    #[cfg(target_arch = "aarch64")]
    let found = [
        (&NEON_I8MM, std::arch::is_aarch64_feature_detected!("i8mm"), false),
        (&NEON_DOTPROD, std::arch::is_aarch64_feature_detected!("dotprod"), false),
        (&NEON, true, false),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found = [];
    let portable = [(&PORTABLE, true, true)];
    found
        .into_iter()
        .chain(portable)
        .map(|(kernels, available, tested)| Candidate {
            kernels,
            available,
            tested,
        })
        .collect()
}

impl Kernels {
    /// Returns the fastest instruction set of this machine.
    ///
    /// A set that not every test machine has is first compared with the portable kernels. If its results differ, it is
    /// not used, and a message on standard error says so.
    pub fn best() -> &'static Self {
        static BEST: OnceLock<&'static Kernels> = OnceLock::new();
        BEST.get_or_init(|| {
            for Candidate {
                kernels,
                available,
                tested,
            } in candidates()
            {
                if available && (tested || probe::agrees(kernels)) {
                    return kernels;
                }
                if available {
                    eprintln!(
                        "embergem: the {} kernels compute wrong results on this processor, so a slower instruction set \
                         is used. Please report the processor's model name.",
                        kernels.name
                    );
                }
            }
            &PORTABLE
        })
    }

    /// Returns the instruction sets that this machine can run, slowest first.
    pub fn all() -> Vec<&'static Self> {
        let available = candidates().into_iter().filter(|candidate| candidate.available);
        available.map(|candidate| candidate.kernels).rev().collect()
    }

    /// Returns the instruction set of this name, if the machine has it.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::all().into_iter().find(|kernels| kernels.name == name)
    }

    /// Returns the kernels in plain Rust, which run on every machine.
    pub fn portable() -> &'static Self {
        &PORTABLE
    }
}
