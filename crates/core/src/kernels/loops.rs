//! Loops over the elements of a row, a vector at a time.
//!
//! These are macros, because a closure is a function of its own: it is compiled without the instruction set of the
//! kernel around it, and unless the compiler inlines it, every vector operation becomes a call.

/// `for_each_vector!(V, n, |i, lanes| body)` runs `body` for each vector of n elements. `i` is the index of the first
/// element and `lanes` the number of elements in the vector.
macro_rules! for_each_vector {
    ($vector:ty, $n:expr, |$i:ident, $lanes:ident| $body:expr) => {{
        let n: usize = $n;
        let mut at = 0;
        while at + <$vector>::LANES <= n {
            let ($i, $lanes) = (at, <$vector>::LANES);
            $body;
            at += <$vector>::LANES;
        }
        if at < n {
            let ($i, $lanes) = (at, n - at);
            $body;
        }
    }};
}

/// `sum_vectors!(V, n, |i, lanes| vector)` sums over n elements: four running sums, added in a fixed order.
macro_rules! sum_vectors {
    ($vector:ty, $n:expr, |$i:ident, $lanes:ident| $body:expr) => {{
        let n: usize = $n;
        let mut sums = [<$vector>::splat(0.0); 4];
        let mut at = 0;
        while at + 4 * <$vector>::LANES <= n {
            for (s, sum) in sums.iter_mut().enumerate() {
                let ($i, $lanes) = (at + s * <$vector>::LANES, <$vector>::LANES);
                *sum = sum.add($body);
            }
            at += 4 * <$vector>::LANES;
        }
        while at < n {
            let ($i, $lanes) = (at, (n - at).min(<$vector>::LANES));
            sums[0] = sums[0].add($body);
            at += <$vector>::LANES;
        }
        sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum()
    }};
}

pub(super) use {for_each_vector, sum_vectors};
