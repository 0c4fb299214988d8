//! The Walsh-Hadamard transform, which spreads each value over its whole group.

/// Multiplies a group, whose length is a power of two, with the Hadamard matrix of 1 and -1 in its natural order: steps
/// of sums and differences, of the most distant elements first. A second transform gives the group times its length.
pub fn hadamard(group: &mut [f32]) {
    assert!(group.len().is_power_of_two());
    let mut distance = group.len() / 2;
    while distance > 0 {
        for pair in group.chunks_exact_mut(2 * distance) {
            let (low, high) = pair.split_at_mut(distance);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        distance /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_becomes_a_row_of_signs() {
        let mut group = [0.0, 0.0, 0.0, 1.0];
        hadamard(&mut group);
        assert_eq!(group, [1.0, -1.0, -1.0, 1.0]);
    }

    #[test]
    fn two_transforms_multiply_by_the_length() {
        let original: Vec<f32> = (0..128).map(|i| (i * i % 37) as f32 - 11.0).collect();
        let mut group = original.clone();
        hadamard(&mut group);
        hadamard(&mut group);
        assert!(
            group
                .iter()
                .zip(&original)
                .all(|(found, value)| *found == 128.0 * value)
        );
    }
}
