//! The tiles of six rows for AVX2, their inner loops written out: the compiler's own spend a third of their
//! instructions on addresses, and spill where sixteen registers are just enough. The order of the operations in each
//! chain is that of the plain loops.

use super::Avx2;
use crate::simd::tile::{INT8_GROUP, Tile, VECTORS};
use std::arch::asm;
use std::arch::x86_64::__m256i;

/// Six rows of x, at a byte offset, times the weights in ymm12 and ymm13, by one instruction that multiplies and adds.
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

/// With floats.
macro_rules! fma_rows {
    ($x:literal) => {
        rows_of!("vfmadd231ps", $x)
    };
}

/// With pairs of 16-bit integers and AVX-VNNI. The encoding is named: AVX-512's has the same name.
macro_rules! vnni_rows {
    ($x:literal) => {
        rows_of!("{{vex}} vpdpwssd", $x)
    };
}

/// The same without it. The register of the broadcast takes the second product: there is no other left.
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

/// One step along K: floats.
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

/// Weights that are the upper halves of floats.
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

/// Pairs of 16-bit integers.
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

/// Pairs of 16-bit integers, with AVX-VNNI.
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

/// Pairs of 8-bit weights, widened.
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

/// Pairs of 8-bit weights, widened, with AVX-VNNI.
macro_rules! vnni_byte_step {
    ($x:literal, $b0:literal, $b1:literal) => {
        concat!(
            "vpmovsxbw ymm12, [{b} + ",
            $b0,
            "]\n",
            "vpmovsxbw ymm13, [{b} + ",
            $b1,
            "]\n",
            vnni_rows!($x)
        )
    };
}

/// The loop over K around such a step: four at a time, then one, with what comes next fetched meanwhile. A row of b takes
/// 64 bytes, or half as much where `narrow`.
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
            "prefetcht1 [{ahead}]",
            $step!("0", $a0, $a1),
            $step!("4", $b0, $b1),
            $step!("8", $c0, $c1),
            $step!("12", $d0, $d1),
            "add {low}, 16",
            "add {high}, 16",
            concat!("add {b}, ", $four),
            "add {ahead}, 64",
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
            ahead = inout(reg) $tile.prefetch => _,
            k = inout(reg) $tile.k => _,
            inout("ymm0") $s0, inout("ymm1") $s1, inout("ymm2") $s2, inout("ymm3") $s3,
            inout("ymm4") $s4, inout("ymm5") $s5, inout("ymm6") $s6, inout("ymm7") $s7,
            inout("ymm8") $s8, inout("ymm9") $s9, inout("ymm10") $s10, inout("ymm11") $s11,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack, readonly),
        )
    };
}

/// Six rows of floats.
///
/// # Safety
/// The tile must cover six rows of x and k rows of b; AVX2 and FMA must be there.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn six_rows_f32<const VNNI: bool>(sums: &mut [[Avx2<VNNI>; VECTORS]; 6], tile: &Tile) {
    let [[s0, s1], [s2, s3], [s4, s5], [s6, s7], [s8, s9], [s10, s11]] = sums;
    // SAFETY: the caller vouches for six rows of x and k rows of b, which is all that is read (a pair has the size of a
    // float); prefetches may go anywhere.
    unsafe {
        six_rows!(float_step wide, tile, s0.0, s1.0, s2.0, s3.0, s4.0, s5.0, s6.0, s7.0, s8.0, s9.0, s10.0, s11.0)
    }
}

/// Six rows of floats, with the upper halves of floats as weights.
///
/// # Safety
/// The tile must cover six rows of x and k rows of b; AVX2 and FMA must be there.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn six_rows_bf16<const VNNI: bool>(sums: &mut [[Avx2<VNNI>; VECTORS]; 6], tile: &Tile) {
    let [[s0, s1], [s2, s3], [s4, s5], [s6, s7], [s8, s9], [s10, s11]] = sums;
    // SAFETY: the caller vouches for six rows of x and k rows of b, which is all that is read (a pair has the size of a
    // float); prefetches may go anywhere.
    unsafe {
        six_rows!(bf16_step narrow, tile, s0.0, s1.0, s2.0, s3.0, s4.0, s5.0, s6.0, s7.0, s8.0, s9.0, s10.0, s11.0)
    }
}

/// Six rows of pairs of 16-bit integers.
///
/// # Safety
/// The tile must cover six rows of x and k rows of b; AVX2 and FMA must be there.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn six_rows_int16(sums: &mut [[__m256i; VECTORS]; 6], tile: &Tile) {
    let [[s0, s1], [s2, s3], [s4, s5], [s6, s7], [s8, s9], [s10, s11]] = sums;
    // SAFETY: the caller vouches for six rows of x and k rows of b, which is all that is read (a pair has the size of a
    // float); prefetches may go anywhere.
    unsafe { six_rows!(int_step wide, tile, *s0, *s1, *s2, *s3, *s4, *s5, *s6, *s7, *s8, *s9, *s10, *s11) }
}

/// The same with AVX-VNNI.
///
/// # Safety
/// The tile must cover six rows of x and k rows of b; AVX2, FMA and AVX-VNNI must be there.
#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) unsafe fn six_rows_int16_vnni(sums: &mut [[__m256i; VECTORS]; 6], tile: &Tile) {
    let [[s0, s1], [s2, s3], [s4, s5], [s6, s7], [s8, s9], [s10, s11]] = sums;
    // SAFETY: the caller vouches for six rows of x and k rows of b, which is all that is read (a pair has the size of a
    // float); prefetches may go anywhere.
    unsafe { six_rows!(vnni_step wide, tile, *s0, *s1, *s2, *s3, *s4, *s5, *s6, *s7, *s8, *s9, *s10, *s11) }
}

/// One group of pairs of 8-bit weights behind its scales, by the step given; the sums never leave the registers as
/// integers.
macro_rules! six_byte_rows {
    ($step:ident, $tile:ident, $floats:ident) => {
        asm!(
            "vpxor ymm0, ymm0, ymm0",
            "vpxor ymm1, ymm1, ymm1",
            "vpxor ymm2, ymm2, ymm2",
            "vpxor ymm3, ymm3, ymm3",
            "vpxor ymm4, ymm4, ymm4",
            "vpxor ymm5, ymm5, ymm5",
            "vpxor ymm6, ymm6, ymm6",
            "vpxor ymm7, ymm7, ymm7",
            "vpxor ymm8, ymm8, ymm8",
            "vpxor ymm9, ymm9, ymm9",
            "vpxor ymm10, ymm10, ymm10",
            "vpxor ymm11, ymm11, ymm11",
            "add {b}, 64",
            "mov {k:e}, 4",
            "2:",
            "prefetcht1 [{ahead}]",
            $step!("0", "0", "16"),
            $step!("4", "32", "48"),
            $step!("8", "64", "80"),
            $step!("12", "96", "112"),
            "add {low}, 16",
            "add {high}, 16",
            "add {b}, 128",
            "add {ahead}, 64",
            "dec {k:e}",
            "jnz 2b",
            "vmovups ymm12, [{b} - 576]",
            "vmovups ymm13, [{b} - 544]",
            "vcvtdq2ps ymm0, ymm0",
            "vfmadd213ps ymm0, ymm12, [{floats} + 0]",
            "vmovups [{floats} + 0], ymm0",
            "vcvtdq2ps ymm1, ymm1",
            "vfmadd213ps ymm1, ymm13, [{floats} + 32]",
            "vmovups [{floats} + 32], ymm1",
            "vcvtdq2ps ymm2, ymm2",
            "vfmadd213ps ymm2, ymm12, [{floats} + 64]",
            "vmovups [{floats} + 64], ymm2",
            "vcvtdq2ps ymm3, ymm3",
            "vfmadd213ps ymm3, ymm13, [{floats} + 96]",
            "vmovups [{floats} + 96], ymm3",
            "vcvtdq2ps ymm4, ymm4",
            "vfmadd213ps ymm4, ymm12, [{floats} + 128]",
            "vmovups [{floats} + 128], ymm4",
            "vcvtdq2ps ymm5, ymm5",
            "vfmadd213ps ymm5, ymm13, [{floats} + 160]",
            "vmovups [{floats} + 160], ymm5",
            "vcvtdq2ps ymm6, ymm6",
            "vfmadd213ps ymm6, ymm12, [{floats} + 192]",
            "vmovups [{floats} + 192], ymm6",
            "vcvtdq2ps ymm7, ymm7",
            "vfmadd213ps ymm7, ymm13, [{floats} + 224]",
            "vmovups [{floats} + 224], ymm7",
            "vcvtdq2ps ymm8, ymm8",
            "vfmadd213ps ymm8, ymm12, [{floats} + 256]",
            "vmovups [{floats} + 256], ymm8",
            "vcvtdq2ps ymm9, ymm9",
            "vfmadd213ps ymm9, ymm13, [{floats} + 288]",
            "vmovups [{floats} + 288], ymm9",
            "vcvtdq2ps ymm10, ymm10",
            "vfmadd213ps ymm10, ymm12, [{floats} + 320]",
            "vmovups [{floats} + 320], ymm10",
            "vcvtdq2ps ymm11, ymm11",
            "vfmadd213ps ymm11, ymm13, [{floats} + 352]",
            "vmovups [{floats} + 352], ymm11",
            low = inout(reg) $tile.x => _,
            high = inout(reg) $tile.x.add(3 * $tile.x_stride) => _,
            stride = in(reg) 4 * $tile.x_stride,
            b = inout(reg) $tile.b => _,
            ahead = inout(reg) $tile.prefetch => _,
            k = out(reg) _,
            floats = in(reg) $floats.as_mut_ptr(),
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _, out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack),
        )
    };
}

/// Six rows of pairs of 16-bit integers times one group of pairs of 8-bit weights, which stands behind its scales.
///
/// # Safety
/// The tile must cover six rows of x and one group of b; AVX2 and FMA must be there.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn six_rows_int8<const VNNI: bool>(floats: &mut [[Avx2<VNNI>; VECTORS]], tile: &Tile) {
    const { assert!(INT8_GROUP == 32) };
    assert!(floats.len() >= 6);
    // SAFETY: the caller vouches for six rows of x and a group of b, the assertion for six rows of floats; prefetches may
    // go anywhere.
    unsafe { six_byte_rows!(byte_step, tile, floats) }
}

/// The same with AVX-VNNI.
///
/// # Safety
/// The tile must cover six rows of x and one group of b; AVX2, FMA and AVX-VNNI must be there.
#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) unsafe fn six_rows_int8_vnni<const VNNI: bool>(floats: &mut [[Avx2<VNNI>; VECTORS]], tile: &Tile) {
    const { assert!(INT8_GROUP == 32) };
    assert!(floats.len() >= 6);
    // SAFETY: the caller vouches for six rows of x and a group of b, the assertion for six rows of floats; prefetches may
    // go anywhere.
    unsafe { six_byte_rows!(vnni_byte_step, tile, floats) }
}
