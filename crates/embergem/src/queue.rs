//! Packs waiting rows into batches by a budget of tokens: first in, first out. No threads and no tensors.

use std::collections::VecDeque;

/// One waiting row.
#[derive(Debug)]
pub(crate) struct Waiting<K> {
    /// Whose it is.
    pub key: K,
    /// Which of theirs.
    pub index: usize,
    /// Its token ids.
    pub ids: Vec<u32>,
}

/// Rows in the order they came.
pub(crate) struct Queue<K> {
    waiting: VecDeque<Waiting<K>>,
    max_tokens: usize,
    max_rows: usize,
}

impl<K> Queue<K> {
    /// Batches have up to `max_tokens` tokens and `max_rows` rows, and always at least one row.
    pub fn new(max_tokens: usize, max_rows: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            max_tokens,
            max_rows,
        }
    }

    /// Appends rows.
    pub fn add(&mut self, rows: impl IntoIterator<Item = Waiting<K>>) {
        self.waiting.extend(rows);
    }

    /// Keeps only the rows whose owner is still there.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.waiting.retain(|row| keep(&row.key));
    }

    /// Takes the next rows; none when nothing waits.
    pub fn next_batch(&mut self) -> Vec<Waiting<K>> {
        let mut tokens = 0;
        let mut fits = |(number, row): (usize, &Waiting<K>)| {
            tokens += row.ids.len();
            number == 0 || (number < self.max_rows && tokens <= self.max_tokens)
        };
        let taken = self.waiting.iter().enumerate().take_while(|at| fits(*at)).count();
        self.waiting.drain(..taken).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(max_tokens: usize, max_rows: usize, rows: &[(char, usize)]) -> Queue<char> {
        let mut queue = Queue::new(max_tokens, max_rows);
        queue.add(rows.iter().enumerate().map(|(index, (key, len))| Waiting {
            key: *key,
            index,
            ids: vec![7; *len],
        }));
        queue
    }

    fn batches(mut queue: Queue<char>) -> Vec<Vec<(char, usize)>> {
        std::iter::from_fn(|| Some(queue.next_batch()).filter(|batch| !batch.is_empty()))
            .map(|batch| batch.iter().map(|row| (row.key, row.index)).collect())
            .collect()
    }

    #[test]
    fn rows_of_several_requests_share_a_batch_in_order() {
        let packed = batches(queue(10, 99, &[('a', 4), ('a', 4), ('b', 2), ('c', 1)]));
        assert_eq!(packed, [vec![('a', 0), ('a', 1), ('b', 2)], vec![('c', 3)]]);
    }

    #[test]
    fn a_row_over_the_budget_goes_alone_and_none_is_passed_over() {
        let packed = batches(queue(10, 99, &[('a', 3), ('b', 50), ('c', 1)]));
        assert_eq!(packed, [[('a', 0)], [('b', 1)], [('c', 2)]]);
    }

    #[test]
    fn the_number_of_rows_is_bounded_too() {
        assert_eq!(batches(queue(100, 2, &[('a', 1); 5])).len(), 3);
    }

    #[test]
    fn rows_without_an_owner_leave() {
        let mut left = queue(100, 9, &[('a', 1), ('b', 1), ('a', 1)]);
        left.retain(|key| *key != 'a');
        assert_eq!(batches(left), [[('b', 1)]]);
    }
}
