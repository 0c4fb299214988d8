//! Matryoshka truncation of vectors. Python and Rust both call this code, so they get the same bits.

/// Truncates each vector of `width` values to its first `size` values and scales the rest to length 1.
///
/// `vectors` has whole vectors one after the other. With `layer_norm_first` the vector passes through a layer norm
/// without weights before it is truncated, as in the training of some models. Only the mean of that norm is computed:
/// its divisor cancels when the truncated vector is scaled to length 1. Sums are computed in f64, one value after the
/// other. If `size` is at least `width`, the vectors are returned unchanged.
pub fn truncate_dimensions(vectors: &[f32], width: usize, size: usize, layer_norm_first: bool) -> Vec<f32> {
    if size >= width {
        return vectors.to_vec();
    }
    let mut truncated = Vec::with_capacity(vectors.len() / width * size);
    for vector in vectors.chunks_exact(width) {
        let sum: f64 = vector.iter().copied().map(f64::from).sum();
        let mean = if layer_norm_first { sum / width as f64 } else { 0.0 };
        let centred = || vector[..size].iter().map(|value| f64::from(*value) - mean);
        let length = centred().map(|value| value * value).sum::<f64>().sqrt().max(1e-12);
        truncated.extend(centred().map(|value| (value / length) as f32));
    }
    truncated
}

#[cfg(test)]
mod tests {
    use super::truncate_dimensions;

    #[test]
    fn a_truncated_vector_has_length_one() {
        assert_eq!(
            truncate_dimensions(&[3.0, 4.0, 9.0, 0.0, 2.0, 1.0], 3, 2, false),
            [0.6, 0.8, 0.0, 1.0]
        );
        assert_eq!(truncate_dimensions(&[3.0, 4.0], 2, 2, false), [3.0, 4.0]);
    }

    #[test]
    fn layer_norm_subtracts_the_mean_of_the_whole_vector() {
        assert_eq!(
            truncate_dimensions(&[5.0, 6.0, 1.0, 0.0], 4, 2, true),
            [2.0 / 13f64.sqrt(), 3.0 / 13f64.sqrt()].map(|v| v as f32)
        );
    }

    #[test]
    fn a_vector_of_zeros_stays_zero() {
        assert_eq!(truncate_dimensions(&[0.0; 4], 4, 2, false), [0.0; 2]);
    }
}
