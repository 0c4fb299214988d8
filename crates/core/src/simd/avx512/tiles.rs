//! Inner loops of the integer tiles for AVX-512 with VNNI, in assembly.
//!
//! The compiler splits most of the `vpdpwssd` intrinsics of a tile into `vpmaddwd` and `vpaddd` to shorten the chain of
//! dependent additions. A tile of twelve rows has 24 independent sums, so the latency does not matter and the second
//! instruction costs a third of the speed.

use crate::simd::tile::{Tile, VECTORS};
use std::arch::asm;
use std::arch::x86_64::__m512i;

/// One step along K: multiplies the rows of x, at a byte offset, with two vectors of b, at byte offsets.
macro_rules! step {
    ($load:tt, $x:tt, [$b0:tt $b1:tt], $([$row:tt $address:tt $first:tt $second:tt])+) => {
        concat!(
            $load,
            " zmm24, [{b} + ",
            $b0,
            "]\n",
            $load,
            " zmm25, [{b} + ",
            $b1,
            "]\n",
            $(
                "vpbroadcastd zmm26, [",
                $address,
                " + ",
                $x,
                "]\n",
                "vpdpwssd ",
                $first,
                ", zmm26, zmm24\n",
                "vpdpwssd ",
                $second,
                ", zmm26, zmm25\n",
            )+
        )
    };
}

/// The loop over K: four steps at a time, then single steps. A row of b takes 128 bytes, or 64 bytes if `narrow`. Each
/// four steps prefetch as much as one row of b.
macro_rules! rows {
    (wide, $($rest:tt)+) => {
        rows!(
            @ "vmovdqu32", ["0" "64"] ["128" "192"] ["256" "320"] ["384" "448"], "512", "128",
            ["prefetcht1 [{prefetch}]" "prefetcht1 [{prefetch} + 64]"], $($rest)+
        )
    };
    (narrow, $($rest:tt)+) => {
        rows!(
            @ "vpmovsxbw", ["0" "32"] ["64" "96"] ["128" "160"] ["192" "224"], "256", "64",
            ["prefetcht1 [{prefetch}]"], $($rest)+
        )
    };
    (@ $load:tt, $b0:tt $b1:tt $b2:tt $b3:tt, $four:tt, $one:tt, [$($prefetch:tt)+], $sums:ident, $tile:ident,
     $([$row:tt $address:tt $first:tt $second:tt])+) => {
        asm!(
            "lea {x3}, [{x} + 2*{stride}]",
            "add {x3}, {stride}",
            "lea {x6}, [{x3} + 2*{stride}]",
            "add {x6}, {stride}",
            "lea {x9}, [{x6} + 2*{stride}]",
            "add {x9}, {stride}",
            "sub {k}, 4",
            "jb 3f",
            ".p2align 5",
            "2:",
            $($prefetch,)+
            step!($load, "0", $b0, $([$row $address $first $second])+),
            step!($load, "4", $b1, $([$row $address $first $second])+),
            step!($load, "8", $b2, $([$row $address $first $second])+),
            step!($load, "12", $b3, $([$row $address $first $second])+),
            "add {x}, 16",
            "add {x3}, 16",
            "add {x6}, 16",
            "add {x9}, 16",
            concat!("add {b}, ", $four),
            concat!("add {prefetch}, ", $one),
            "sub {k}, 4",
            "jae 2b",
            "3:",
            "add {k}, 4",
            "jz 5f",
            "4:",
            step!($load, "0", $b0, $([$row $address $first $second])+),
            "add {x}, 4",
            "add {x3}, 4",
            "add {x6}, 4",
            "add {x9}, 4",
            concat!("add {b}, ", $one),
            "dec {k}",
            "jnz 4b",
            "5:",
            x = inout(reg) $tile.x => _,
            x3 = out(reg) _,
            x6 = out(reg) _,
            x9 = out(reg) _,
            stride = in(reg) 4 * $tile.x_stride,
            b = inout(reg) $tile.b => _,
            prefetch = inout(reg) $tile.prefetch => _,
            k = inout(reg) $tile.k => _,
            $(inout($first) $sums[$row][0], inout($second) $sums[$row][1],)+
            out("zmm24") _, out("zmm25") _, out("zmm26") _,
            options(nostack, readonly),
        )
    };
}

/// Selects the loop of `$count` rows. Each row follows the number of rows up to it, and has its index, its address and
/// the registers of its sums.
macro_rules! loop_for {
    ($width:ident, $count:expr, $sums:ident, $tile:ident) => {
        loop_for!(@ $width, $count, $sums, $tile, [], [],
            1 [0 "{x}" "zmm0" "zmm1"]
            2 [1 "{x} + {stride}" "zmm2" "zmm3"]
            3 [2 "{x} + 2*{stride}" "zmm4" "zmm5"]
            4 [3 "{x3}" "zmm6" "zmm7"]
            5 [4 "{x3} + {stride}" "zmm8" "zmm9"]
            6 [5 "{x3} + 2*{stride}" "zmm10" "zmm11"]
            7 [6 "{x6}" "zmm12" "zmm13"]
            8 [7 "{x6} + {stride}" "zmm14" "zmm15"]
            9 [8 "{x6} + 2*{stride}" "zmm16" "zmm17"]
            10 [9 "{x9}" "zmm18" "zmm19"]
            11 [10 "{x9} + {stride}" "zmm20" "zmm21"]
            12 [11 "{x9} + 2*{stride}" "zmm22" "zmm23"]
        )
    };
    (@ $width:ident, $count:expr, $sums:ident, $tile:ident, [$($arms:tt)*], [$($before:tt)*],
     $upto:tt $row:tt $($rest:tt)*) => {
        loop_for!(
            @ $width, $count, $sums, $tile, [$($arms)* $upto => rows!($width, $sums, $tile, $($before)* $row),],
            [$($before)* $row], $($rest)*
        )
    };
    (@ $width:ident, $count:expr, $sums:ident, $tile:ident, [$($arms:tt)*], [$($before:tt)*],) => {
        match $count {
            $($arms)*
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}

/// Computes a tile of one to twelve rows of 16-bit integers.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x with k pairs each and k rows of b. The processor must have AVX-512 F and VNNI.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn tile_int16<const ROWS: usize>(sums: &mut [[__m512i; VECTORS]; ROWS], tile: &Tile) {
    // A slice, because a constant index beyond an array of fewer rows does not compile, even in an arm that is not
    // selected.
    let sums = sums.as_mut_slice();
    // SAFETY: the loop reads k pairs of ROWS rows of x and k rows of b, which the tile covers by this function's
    // contract. Addresses of further rows are computed and not read. A prefetch of any address is harmless.
    unsafe { loop_for!(wide, ROWS, sums, tile) }
}

/// Computes a tile of one to twelve rows of 16-bit integers with 8-bit weights. `b` points to pairs of bytes.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x with k pairs each and k rows of b. The processor must have AVX-512 F, BW and
/// VNNI.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn tile_bytes<const ROWS: usize>(sums: &mut [[__m512i; VECTORS]; ROWS], tile: &Tile) {
    let sums = sums.as_mut_slice();
    // SAFETY: the loop reads k pairs of ROWS rows of x and k rows of b, which the tile covers by this function's
    // contract. Addresses of further rows are computed and not read. A prefetch of any address is harmless.
    unsafe { loop_for!(narrow, ROWS, sums, tile) }
}
