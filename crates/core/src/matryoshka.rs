//! Matryoshka cuts: the same bits for every language.

/// Keeps the first `size` numbers of each vector of `width` and scales it to length 1 again.
///
/// With `norm_first` a layer norm without weights comes before the cut, as in the training of some models. Only its mean
/// matters: whatever divides the whole vector falls out when the kept part is scaled to length 1. Sums are made in f64,
/// number after number.
pub fn cut(vectors: &[f32], width: usize, size: usize, norm_first: bool) -> Vec<f32> {
    if size >= width {
        return vectors.to_vec();
    }
    let mut kept = Vec::with_capacity(vectors.len() / width * size);
    for vector in vectors.chunks_exact(width) {
        let sum: f64 = vector.iter().copied().map(f64::from).sum();
        let mean = if norm_first { sum / width as f64 } else { 0.0 };
        let shifted = || vector[..size].iter().map(|value| f64::from(*value) - mean);
        let length = shifted().map(|value| value * value).sum::<f64>().sqrt().max(1e-12);
        kept.extend(shifted().map(|value| (value / length) as f32));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn the_kept_part_has_length_one() {
        assert_eq!(cut(&[3.0, 4.0, 9.0, 0.0, 2.0, 1.0], 3, 2, false), [0.6, 0.8, 0.0, 1.0]);
        assert_eq!(cut(&[3.0, 4.0], 2, 2, false), [3.0, 4.0]);
    }

    #[test]
    fn the_mean_of_the_whole_vector_goes_first() {
        assert_eq!(
            cut(&[5.0, 6.0, 1.0, 0.0], 4, 2, true),
            [2.0 / 13f64.sqrt(), 3.0 / 13f64.sqrt()].map(|v| v as f32)
        );
    }

    #[test]
    fn a_vector_of_zeros_stays_one() {
        assert_eq!(cut(&[0.0; 4], 4, 2, false), [0.0; 2]);
    }
}
