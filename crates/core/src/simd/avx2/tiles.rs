//! Inner loops of tiles of six rows for AVX2, in assembly.
//!
//! In the compiler's code a third of the instructions compute addresses, and sums are spilled to memory although the
//! sixteen registers are just enough. The operations of each output have the same order as in `simd::tile`.

use super::Avx2;
use crate::simd::tile::{Tile, VECTORS};
use std::arch::asm;
use std::arch::x86_64::*;

/// Multiplies six rows of x, at a byte offset, with the weights in ymm12 and ymm13, by one multiply-add instruction.
macro_rules! rows_of {
    ($multiply_add:literal, $x:literal) => {
        concat!(
            "vbroadcastss ymm14, [{low} + ",
            $x,
            "]\n",
            "vbroadcastss ymm15, [{low} + {stride} + ",
            $x,
            "]\n",
            $multiply_add,
            " ymm0, ymm14, ymm12\n",
            $multiply_add,
            " ymm1, ymm14, ymm13\n",
            "vbroadcastss ymm14, [{low} + 2*{stride} + ",
            $x,
            "]\n",
            $multiply_add,
            " ymm2, ymm15, ymm12\n",
            $multiply_add,
            " ymm3, ymm15, ymm13\n",
            "vbroadcastss ymm15, [{high} + ",
            $x,
            "]\n",
            $multiply_add,
            " ymm4, ymm14, ymm12\n",
            $multiply_add,
            " ymm5, ymm14, ymm13\n",
            "vbroadcastss ymm14, [{high} + {stride} + ",
            $x,
            "]\n",
            $multiply_add,
            " ymm6, ymm15, ymm12\n",
            $multiply_add,
            " ymm7, ymm15, ymm13\n",
            "vbroadcastss ymm15, [{high} + 2*{stride} + ",
            $x,
            "]\n",
            $multiply_add,
            " ymm8, ymm14, ymm12\n",
            $multiply_add,
            " ymm9, ymm14, ymm13\n",
            $multiply_add,
            " ymm10, ymm15, ymm12\n",
            $multiply_add,
            " ymm11, ymm15, ymm13\n",
        )
    };
}

/// Multiplies f32.
macro_rules! fma_rows {
    ($x:literal) => {
        rows_of!("vfmadd231ps", $x)
    };
}

/// Multiplies pairs of 16-bit integers with AVX-VNNI. `{vex}` selects its encoding, because the AVX-512 instruction has
/// the same name.
macro_rules! vnni_rows {
    ($x:literal) => {
        rows_of!("{{vex}} vpdpwssd", $x)
    };
}

/// Multiplies pairs of 16-bit integers without AVX-VNNI. The second product replaces the broadcast value, because no
/// other register is free.
macro_rules! madd_rows {
    ($x:literal) => {
        concat!(
            "vpbroadcastd ymm14, [{low} + ",
            $x,
            "]\n",
            "vpmaddwd ymm15, ymm14, ymm12\n",
            "vpmaddwd ymm14, ymm14, ymm13\n",
            "vpaddd ymm0, ymm0, ymm15\n",
            "vpaddd ymm1, ymm1, ymm14\n",
            "vpbroadcastd ymm14, [{low} + {stride} + ",
            $x,
            "]\n",
            "vpmaddwd ymm15, ymm14, ymm12\n",
            "vpmaddwd ymm14, ymm14, ymm13\n",
            "vpaddd ymm2, ymm2, ymm15\n",
            "vpaddd ymm3, ymm3, ymm14\n",
            "vpbroadcastd ymm14, [{low} + 2*{stride} + ",
            $x,
            "]\n",
            "vpmaddwd ymm15, ymm14, ymm12\n",
            "vpmaddwd ymm14, ymm14, ymm13\n",
            "vpaddd ymm4, ymm4, ymm15\n",
            "vpaddd ymm5, ymm5, ymm14\n",
            "vpbroadcastd ymm14, [{high} + ",
            $x,
            "]\n",
            "vpmaddwd ymm15, ymm14, ymm12\n",
            "vpmaddwd ymm14, ymm14, ymm13\n",
            "vpaddd ymm6, ymm6, ymm15\n",
            "vpaddd ymm7, ymm7, ymm14\n",
            "vpbroadcastd ymm14, [{high} + {stride} + ",
            $x,
            "]\n",
            "vpmaddwd ymm15, ymm14, ymm12\n",
            "vpmaddwd ymm14, ymm14, ymm13\n",
            "vpaddd ymm8, ymm8, ymm15\n",
            "vpaddd ymm9, ymm9, ymm14\n",
            "vpbroadcastd ymm14, [{high} + 2*{stride} + ",
            $x,
            "]\n",
            "vpmaddwd ymm15, ymm14, ymm12\n",
            "vpmaddwd ymm14, ymm14, ymm13\n",
            "vpaddd ymm10, ymm10, ymm15\n",
            "vpaddd ymm11, ymm11, ymm14\n",
        )
    };
}

/// One step along K: f32 weights.
macro_rules! float_step {
    ($x:literal, $b0:literal, $b1:literal) => {
        concat!(
            "vmovups ymm12, [{b} + ",
            $b0,
            "]\n",
            "vmovups ymm13, [{b} + ",
            $b1,
            "]\n",
            fma_rows!($x)
        )
    };
}

/// One step along K: bfloat16 weights.
macro_rules! bf16_step {
    ($x:literal, $b0:literal, $b1:literal) => {
        concat!(
            "vpmovzxwd ymm12, [{b} + ", $b0, "]\n",
            "vpmovzxwd ymm13, [{b} + ", $b1, "]\n",
            "vpslld ymm12, ymm12, 16\n",
            "vpslld ymm13, ymm13, 16\n",
            fma_rows!($x)
        )
    };
}

/// One step along K: pairs of 16-bit integers.
macro_rules! int_step {
    ($x:literal, $b0:literal, $b1:literal) => {
        concat!(
            "vmovdqu ymm12, [{b} + ",
            $b0,
            "]\n",
            "vmovdqu ymm13, [{b} + ",
            $b1,
            "]\n",
            madd_rows!($x)
        )
    };
}

/// One step along K: pairs of 16-bit integers, with AVX-VNNI.
macro_rules! vnni_step {
    ($x:literal, $b0:literal, $b1:literal) => {
        concat!(
            "vmovdqu ymm12, [{b} + ",
            $b0,
            "]\n",
            "vmovdqu ymm13, [{b} + ",
            $b1,
            "]\n",
            vnni_rows!($x)
        )
    };
}

/// One step along K: pairs of 8-bit weights, widened to 16 bits.
macro_rules! byte_step {
    ($x:literal, $b0:literal, $b1:literal) => {
        concat!(
            "vpmovsxbw ymm12, [{b} + ",
            $b0,
            "]\n",
            "vpmovsxbw ymm13, [{b} + ",
            $b1,
            "]\n",
            madd_rows!($x)
        )
    };
}

/// One step along K: four bytes, with AVX-VNNI.
macro_rules! quad_step {
    ($x:literal, $b0:literal, $b1:literal) => {
        concat!(
            "vmovdqu ymm12, [{b} + ",
            $b0,
            "]\n",
            "vmovdqu ymm13, [{b} + ",
            $b1,
            "]\n",
            rows_of!("{{vex}} vpdpbusd", $x)
        )
    };
}

/// The loop over K: four steps at a time, then single steps, with a prefetch for every four steps. A row of b takes 64
/// bytes, or 32 bytes if `narrow`.
macro_rules! six_rows {
    ($step:ident wide, $tile:ident, $($sum:expr),+) => {
        six_rows!(@ $step, ["0" "32"] ["64" "96"] ["128" "160"] ["192" "224"], "256", "64", $tile, $($sum),+)
    };
    ($step:ident narrow, $tile:ident, $($sum:expr),+) => {
        six_rows!(@ $step, ["0" "16"] ["32" "48"] ["64" "80"] ["96" "112"], "128", "32", $tile, $($sum),+)
    };
    (@ $step:ident, [$a0:literal $a1:literal] [$b0:literal $b1:literal] [$c0:literal $c1:literal]
     [$d0:literal $d1:literal], $four:literal, $one:literal, $tile:ident, $s0:expr, $s1:expr, $s2:expr, $s3:expr,
     $s4:expr, $s5:expr, $s6:expr, $s7:expr, $s8:expr, $s9:expr, $s10:expr, $s11:expr) => {
        asm!(
            "sub {k}, 4",
            "jb 3f",
            ".p2align 5",
            "2:",
            "prefetcht1 [{prefetch}]",
            $step!("0", $a0, $a1),
            $step!("4", $b0, $b1),
            $step!("8", $c0, $c1),
            $step!("12", $d0, $d1),
            "add {low}, 16",
            "add {high}, 16",
            concat!("add {b}, ", $four),
            "add {prefetch}, 64",
            "sub {k}, 4",
            "jae 2b",
            "3:",
            "add {k}, 4",
            "jz 5f",
            "4:",
            $step!("0", $a0, $a1),
            "add {low}, 4",
            "add {high}, 4",
            concat!("add {b}, ", $one),
            "dec {k}",
            "jnz 4b",
            "5:",
            low = inout(reg) $tile.x => _,
            high = inout(reg) $tile.x.add(3 * $tile.x_stride) => _,
            stride = in(reg) 4 * $tile.x_stride,
            b = inout(reg) $tile.b => _,
            prefetch = inout(reg) $tile.prefetch => _,
            k = inout(reg) $tile.k => _,
            inout("ymm0") $s0, inout("ymm1") $s1, inout("ymm2") $s2, inout("ymm3") $s3,
            inout("ymm4") $s4, inout("ymm5") $s5, inout("ymm6") $s6, inout("ymm7") $s7,
            inout("ymm8") $s8, inout("ymm9") $s9, inout("ymm10") $s10, inout("ymm11") $s11,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack, readonly),
        )
    };
}

/// Computes a tile of six rows of f32.
///
/// # Safety
/// `tile` must describe six rows of x with k elements each and k rows of b. The processor must have AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn six_rows_f32<const VNNI: bool>(sums: &mut [[Avx2<VNNI>; VECTORS]; 6], tile: &Tile) {
    let [[s0, s1], [s2, s3], [s4, s5], [s6, s7], [s8, s9], [s10, s11]] = sums;
    // SAFETY: the loop reads k elements of six rows of x and k rows of b, which the tile covers by this function's
    // contract. A prefetch of any address is harmless.
    unsafe {
        six_rows!(float_step wide, tile, s0.0, s1.0, s2.0, s3.0, s4.0, s5.0, s6.0, s7.0, s8.0, s9.0, s10.0, s11.0)
    }
}

/// Computes a tile of six rows of f32 with bfloat16 weights.
///
/// # Safety
/// `tile` must describe six rows of x with k elements each and k rows of b. The processor must have AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn six_rows_bf16<const VNNI: bool>(sums: &mut [[Avx2<VNNI>; VECTORS]; 6], tile: &Tile) {
    let [[s0, s1], [s2, s3], [s4, s5], [s6, s7], [s8, s9], [s10, s11]] = sums;
    // SAFETY: the loop reads k elements of six rows of x and k rows of b, which the tile covers by this function's
    // contract. A prefetch of any address is harmless.
    unsafe {
        six_rows!(bf16_step narrow, tile, s0.0, s1.0, s2.0, s3.0, s4.0, s5.0, s6.0, s7.0, s8.0, s9.0, s10.0, s11.0)
    }
}

/// Computes a tile of six rows of 16-bit integers.
///
/// # Safety
/// `tile` must describe six rows of x with k elements each and k rows of b. The processor must have AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn six_rows_int16(sums: &mut [[__m256i; VECTORS]; 6], tile: &Tile) {
    let [[s0, s1], [s2, s3], [s4, s5], [s6, s7], [s8, s9], [s10, s11]] = sums;
    // SAFETY: the loop reads k elements of six rows of x and k rows of b, which the tile covers by this function's
    // contract. A prefetch of any address is harmless.
    unsafe { six_rows!(int_step wide, tile, *s0, *s1, *s2, *s3, *s4, *s5, *s6, *s7, *s8, *s9, *s10, *s11) }
}

/// Computes a tile of six rows of 16-bit integers with AVX-VNNI.
///
/// # Safety
/// `tile` must describe six rows of x with k elements each and k rows of b. The processor must have AVX2, FMA and
/// AVX-VNNI.
#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) unsafe fn six_rows_int16_vnni(sums: &mut [[__m256i; VECTORS]; 6], tile: &Tile) {
    let [[s0, s1], [s2, s3], [s4, s5], [s6, s7], [s8, s9], [s10, s11]] = sums;
    // SAFETY: the loop reads k elements of six rows of x and k rows of b, which the tile covers by this function's
    // contract. A prefetch of any address is harmless.
    unsafe { six_rows!(vnni_step wide, tile, *s0, *s1, *s2, *s3, *s4, *s5, *s6, *s7, *s8, *s9, *s10, *s11) }
}

/// Computes a tile of six rows of 16-bit integers with 8-bit weights.
///
/// # Safety
/// `tile` must describe six rows of x with k pairs each and k rows of b. The processor must have AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn six_rows_int8(sums: &mut [[__m256i; VECTORS]; 6], tile: &Tile) {
    let [[s0, s1], [s2, s3], [s4, s5], [s6, s7], [s8, s9], [s10, s11]] = sums;
    // SAFETY: the loop reads k pairs of six rows of x and k rows of b, which the tile covers by this function's
    // contract. A prefetch of any address is harmless.
    unsafe { six_rows!(byte_step narrow, tile, *s0, *s1, *s2, *s3, *s4, *s5, *s6, *s7, *s8, *s9, *s10, *s11) }
}

/// Computes a tile of six rows of unsigned bytes with 8-bit weights, with AVX-VNNI.
///
/// # Safety
/// `tile` must describe six rows of x with k quads each and k rows of b. The processor must have AVX2, FMA and AVX-VNNI.
#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) unsafe fn six_rows_int8_vnni(sums: &mut [[__m256i; VECTORS]; 6], tile: &Tile) {
    let [[s0, s1], [s2, s3], [s4, s5], [s6, s7], [s8, s9], [s10, s11]] = sums;
    // SAFETY: the loop reads k quads of six rows of x and k rows of b, which the tile covers by this function's
    // contract. A prefetch of any address is harmless.
    unsafe { six_rows!(quad_step wide, tile, *s0, *s1, *s2, *s3, *s4, *s5, *s6, *s7, *s8, *s9, *s10, *s11) }
}

/// Computes a tile of fewer rows of unsigned bytes with 8-bit weights, with AVX-VNNI.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x with k quads each and k rows of b. The processor must have AVX2, FMA and
/// AVX-VNNI.
#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) unsafe fn rows_int8_vnni<const ROWS: usize>(sums: &mut [[__m256i; VECTORS]; ROWS], tile: &Tile) {
    // SAFETY: row r < ROWS and quad i < k, which are inside x and b by this function's contract.
    unsafe {
        for i in 0..tile.k {
            let b = tile.b.add(i * VECTORS * 8).cast::<__m256i>();
            let (b0, b1) = (_mm256_loadu_si256(b), _mm256_loadu_si256(b.add(1)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let quad = _mm256_set1_epi32(*tile.x.add(r * tile.x_stride + i).cast());
                *sums = [
                    _mm256_dpbusd_avx_epi32(sums[0], quad, b0),
                    _mm256_dpbusd_avx_epi32(sums[1], quad, b1),
                ];
            }
        }
    }
}
