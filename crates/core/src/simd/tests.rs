//! Compares the inner loops of every instruction set of this machine with sums computed one by one.

#[cfg(target_arch = "aarch64")]
use super::neon::Neon;
use super::portable::Portable;
use super::tile::{Bfloat16Rows, INT8_GROUP, Int8Rows, Tile, VECTORS, group_len};
use super::{Simd, round_to_bf16};
#[cfg(target_arch = "x86_64")]
use super::{
    avx2::Avx2,
    avx512::{self, Avx512},
};

/// Numbers of pairs along K: none, around the four steps of an unrolled loop, and many.
const PAIRS: [usize; 10] = [0, 1, 2, 3, 4, 5, 7, 8, 31, 384];

/// Returns `count` pairs of 16-bit integers within the bound of a scaled element: of all sizes, zeros or extremes.
fn pairs(count: usize, seed: u32) -> Vec<[i16; 2]> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match state >> 29 {
            0 => 0,
            1 => -i16::MAX,
            2 => i16::MAX,
            _ => ((state >> 12) as i16).max(-i16::MAX),
        }
    };
    (0..count).map(|_| [next(), next()]).collect()
}

/// Compares the sums of a tile with sums computed one by one. Sums of extremes overflow, and must wrap.
///
/// # Safety
/// The processor must have the instruction set of `V`.
unsafe fn check_int16<V: Simd, const ROWS: usize>(name: &str) {
    let width = VECTORS * V::LANES;
    for k in PAIRS {
        let stride = k + 3;
        let (x, b) = (pairs(ROWS * stride, 1), pairs(k * width, 2));
        let tile = Tile {
            k,
            x: x.as_ptr().cast(),
            x_stride: stride,
            b: b.as_ptr().cast(),
            prefetch: b.as_ptr().cast(),
            further: 0,
            out: std::ptr::null_mut(),
            out_stride: 0,
            columns: width,
        };
        let mut sums = [[V::int_zero(); VECTORS]; ROWS];
        // The second product is added to the first.
        for _ in 0..2 {
            // SAFETY: x has ROWS rows of k pairs and b has k rows. The caller checked the instruction set.
            unsafe { V::tile_int16::<ROWS>(&mut sums, &tile) };
        }
        // SAFETY: the sums are ROWS · width integers of 32 bits without padding.
        let found = unsafe { std::slice::from_raw_parts(sums.as_ptr().cast::<i32>(), ROWS * width) };
        for (i, found) in found.iter().enumerate() {
            let (row, column) = (i / width, i % width);
            let mut expected = 0i32;
            for step in 0..k {
                let (x, b) = (x[row * stride + step], b[step * width + column]);
                for (x, b) in x.into_iter().zip(b) {
                    expected = expected.wrapping_add(i32::from(x) * i32::from(b));
                }
            }
            let expected = expected.wrapping_mul(2);
            assert_eq!(
                *found, expected,
                "{name}: {ROWS} rows, {k} pairs, row {row}, column {column}"
            );
        }
    }
}

/// Compares the sums of a tile of bfloat16 numbers with sums computed one by one. All numbers are small integers, so the
/// sums are exact in every order.
///
/// # Safety
/// The processor must have the instruction set of `V`.
unsafe fn check_bf16<V: Simd, const ROWS: usize>(name: &str) {
    let width = VECTORS * V::LANES;
    for k in PAIRS {
        let (values, stride) = (2 * k, 2 * k + 6);
        let integers = |count, seed| pairs(count, seed).into_iter().flatten().map(|i| i32::from(i % 19));
        let x: Vec<i32> = integers(ROWS * stride / 2, 1).collect();
        let b: Vec<i32> = integers(k * width, 2).collect();
        let half = |integer: &i32| round_to_bf16(*integer as f32);
        let floats: Vec<f32> = x.iter().map(|integer| *integer as f32).collect();
        let rounded: Vec<u16> = x.iter().map(half).collect();
        let (rows, step) = match V::BFLOAT16_ROWS {
            Bfloat16Rows::Floats => (floats.as_ptr(), 1),
            Bfloat16Rows::Pairs => (rounded.as_ptr().cast(), 2),
        };
        let weights: Vec<u16> = b.iter().map(half).collect();
        let tile = Tile {
            k: values / step,
            x: rows,
            x_stride: stride / step,
            b: weights.as_ptr().cast(),
            prefetch: weights.as_ptr().cast(),
            further: 0,
            out: std::ptr::null_mut(),
            out_stride: 0,
            columns: width,
        };
        let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
        // The second product is added to the first.
        for _ in 0..2 {
            // SAFETY: x has ROWS rows of 2 k numbers and b as many rows. The caller checked the instruction set.
            unsafe { V::tile_bf16::<ROWS>(&mut sums, &tile) };
        }
        // SAFETY: the sums are ROWS · width f32 without padding.
        let found = unsafe { std::slice::from_raw_parts(sums.as_ptr().cast::<f32>(), ROWS * width) };
        for (i, found) in found.iter().enumerate() {
            let (row, column) = (i / width, i % width);
            let weight = |at: usize| b[(at / step * width + column) * step + at % step];
            let expected: i32 = (0..values).map(|at| x[row * stride + at] * weight(at)).sum();
            assert_eq!(
                *found,
                2.0 * expected as f32,
                "{name}: {ROWS} rows, {values} values, row {row}, column {column}"
            );
        }
    }
}

/// Returns `count` 8-bit integers: of all sizes, zeros or extremes.
fn bytes(count: usize, seed: u32) -> Vec<i8> {
    let byte = |half: i16| {
        if half.unsigned_abs() == 32767 {
            half.signum() as i8 * 127
        } else {
            (half >> 8) as i8
        }
    };
    pairs(count.div_ceil(2), seed)
        .into_iter()
        .flatten()
        .map(|half| byte(half).max(-127))
        .take(count)
        .collect()
}

/// Compares the products of a group of 8-bit integers with products computed one by one. They are exact in f32.
///
/// # Safety
/// The processor must have the instruction set of `V`.
unsafe fn check_int8<V: Simd, const ROWS: usize>(name: &str) {
    let (width, step) = (VECTORS * V::LANES, V::INT8_ROWS.step());
    let stride = INT8_GROUP / V::INT8_ROWS.in_f32() + 3;
    let x = bytes(ROWS * INT8_GROUP, 1);
    let b = bytes(width * INT8_GROUP, 2);
    let mut rows = vec![0i32; ROWS * stride];
    let mut group = vec![0f32; group_len(width)];
    for (row, x) in rows.chunks_exact_mut(stride).zip(x.chunks_exact(INT8_GROUP)) {
        for (value, x) in row.iter_mut().zip(x.chunks_exact(V::INT8_ROWS.in_f32())) {
            *value = match V::INT8_ROWS {
                Int8Rows::Pairs => (i32::from(x[0]) & 0xffff) | (i32::from(x[1]) << 16),
                Int8Rows::UnsignedQuads => i32::from_le_bytes(std::array::from_fn(|i| (i16::from(x[i]) + 128) as u8)),
                Int8Rows::SignedQuads | Int8Rows::SignedOctets => {
                    i32::from_le_bytes(std::array::from_fn(|i| x[i].cast_unsigned()))
                }
            };
        }
    }
    group[..width].fill(1.0);
    for column in 0..width {
        let channel = &b[column * INT8_GROUP..][..INT8_GROUP];
        let negated = -channel.iter().map(|b| i16::from(*b)).sum::<i16>();
        // SAFETY: the sums of the columns follow their scales, and the integers follow the sums.
        unsafe {
            group.as_mut_ptr().add(width).cast::<i16>().add(column).write(negated);
            let integers = group.as_mut_ptr().add(width + width / 2).cast::<i8>();
            for (i, b) in channel.iter().enumerate() {
                integers.add((i / step * width + column) * step + i % step).write(*b);
            }
        }
    }
    let tile = Tile {
        k: INT8_GROUP / step,
        x: rows.as_ptr().cast(),
        x_stride: stride,
        b: group.as_ptr(),
        prefetch: group.as_ptr(),
        further: 0,
        out: std::ptr::null_mut(),
        out_stride: 0,
        columns: width,
    };
    let mut floats = [[V::splat(0.0); VECTORS]; ROWS];
    let scales: Vec<f32> = (0..ROWS).map(|row| (row as f32).exp2()).collect();
    // The second product is added to the first.
    for _ in 0..2 {
        // SAFETY: there are ROWS rows and scales, and one group. The caller checked the instruction set.
        unsafe { V::group_int8::<ROWS>(&mut floats, &tile, (scales.as_ptr(), 1)) };
    }
    // SAFETY: the sums are ROWS · width f32 without padding.
    let found = unsafe { std::slice::from_raw_parts(floats.as_ptr().cast::<f32>(), ROWS * width) };
    for (i, found) in found.iter().enumerate() {
        let (x, b) = (&x[i / width * INT8_GROUP..], &b[i % width * INT8_GROUP..]);
        let sum: i32 = x[..INT8_GROUP]
            .iter()
            .zip(b)
            .map(|(x, b)| i32::from(*x) * i32::from(*b))
            .sum();
        let expected = 2.0 * scales[i / width] * sum as f32;
        assert_eq!(
            *found,
            expected,
            "{name}: {ROWS} rows, row {}, column {}",
            i / width,
            i % width
        );
    }
}

/// Checks every number of rows of a tile.
macro_rules! check_rows {
    ($check:ident, $vector:ty, $name:literal, $($rows:literal)+) => {
        // SAFETY: the caller of this macro checked the instruction set.
        unsafe {
            $($check::<$vector, $rows>($name);)+
        }
    };
}

/// Checks every instruction set of this machine.
macro_rules! check_sets {
    ($check:ident) => {
        check_rows!($check, Portable, "portable", 1 2 3 4 5 6);
        #[cfg(target_arch = "x86_64")]
        {
            if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
                check_rows!($check, Avx2<false>, "avx2", 1 2 3 4 5 6);
            }
            if std::is_x86_feature_detected!("avxvnni") {
                check_rows!($check, Avx2<true>, "avx-vnni", 1 2 3 4 5 6);
            }
            if std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512bw") {
                check_rows!($check, Avx512<{ avx512::BASE }>, "avx512", 1 2 3 4 5 6 7 8 9 10 11 12);
            }
            if std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512vnni") {
                check_rows!($check, Avx512<{ avx512::VNNI }>, "avx512-vnni", 1 2 3 4 5 6 7 8 9 10 11 12);
            }
            if std::is_x86_feature_detected!("avx512vnni") && std::is_x86_feature_detected!("avx512bf16") {
                check_rows!($check, Avx512<{ avx512::BF16 }>, "avx512-bf16", 1 2 3 4 5 6 7 8 9 10 11 12);
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            check_rows!($check, Neon<2>, "neon", 1 2 3 4 5 6 7 8 9 10 11 12);
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                check_rows!($check, Neon<4>, "neon-dotprod", 1 2 3 4 5 6 7 8 9 10 11 12);
            }
            if std::arch::is_aarch64_feature_detected!("i8mm") {
                check_rows!($check, Neon<8>, "neon-i8mm", 1 2 3 4 5 6 7 8 9 10 11 12);
            }
        }
    };
}

#[test]
fn int16_sums_are_exact_for_every_number_of_rows() {
    check_sets!(check_int16);
}

#[test]
fn bfloat16_sums_are_exact_for_every_number_of_rows() {
    check_sets!(check_bf16);
}

#[test]
fn int8_sums_are_exact_for_every_number_of_rows() {
    check_sets!(check_int8);
}

/// Compares the transpose of a square inside larger matrices with one computed element by element.
///
/// # Safety
/// The processor must have the instruction set of `V`.
unsafe fn check_transpose<V: Simd, const EXTRA: usize>(name: &str) {
    let (from_stride, to_stride) = (V::LANES + EXTRA, V::LANES + 2 * EXTRA);
    let from: Vec<u32> = (0..V::LANES * from_stride).map(|i| 0x7f80_0001 + i as u32).collect();
    let mut to = vec![0; V::LANES * to_stride];
    // SAFETY: both squares have LANES rows of LANES words. The caller checked the instruction set.
    unsafe { V::transpose((from.as_ptr(), from_stride), (to.as_mut_ptr(), to_stride)) };
    for (i, value) in to.iter().enumerate() {
        let (row, column) = (i / to_stride, i % to_stride);
        let expected = if column < V::LANES {
            from[column * from_stride + row]
        } else {
            0
        };
        assert_eq!(*value, expected, "{name}: row {row}, column {column}");
    }
}

#[test]
fn squares_are_transposed() {
    check_sets!(check_transpose);
}
