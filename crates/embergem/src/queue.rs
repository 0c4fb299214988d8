//! Packs queued rows into batches by a budget of tokens, first in, first out. It has no threads and no tensors.

use std::collections::VecDeque;

/// One queued row.
#[derive(Debug)]
pub(crate) struct QueuedRow<K> {
    /// The request that it belongs to.
    pub request: K,
    /// Its position in that request.
    pub index: usize,
    /// Its token ids.
    pub ids: Vec<u32>,
}

/// Rows in the order of their arrival.
pub(crate) struct Queue<K> {
    rows: VecDeque<QueuedRow<K>>,
    max_tokens: usize,
    max_rows: usize,
}

impl<K> Queue<K> {
    /// A batch has up to `max_tokens` tokens and `max_rows` rows, and always at least one row.
    pub fn new(max_tokens: usize, max_rows: usize) -> Self {
        Self {
            rows: VecDeque::new(),
            max_tokens,
            max_rows,
        }
    }

    /// Sets the most tokens of a batch.
    pub fn set_max_tokens(&mut self, max_tokens: usize) {
        self.max_tokens = max_tokens;
    }

    /// Returns whether the queued rows have more tokens than a batch, and all of them are of requests that `can_wait`.
    pub fn exceeds_batch(&self, can_wait: impl Fn(&K) -> bool) -> bool {
        let tokens: usize = self.rows.iter().map(|row| row.ids.len()).sum();
        tokens > self.max_tokens && self.rows.iter().all(|row| can_wait(&row.request))
    }

    /// Appends rows.
    pub fn add(&mut self, rows: impl IntoIterator<Item = QueuedRow<K>>) {
        self.rows.extend(rows);
    }

    /// Removes the rows of all requests for which `keep` is false.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.rows.retain(|row| keep(&row.request));
    }

    /// Removes and returns the rows of the next batch; none if the queue is empty.
    pub fn next_batch(&mut self) -> Vec<QueuedRow<K>> {
        let mut tokens = 0;
        let mut fits = |(number, row): (usize, &QueuedRow<K>)| {
            tokens += row.ids.len();
            number == 0 || (number < self.max_rows && tokens <= self.max_tokens)
        };
        let taken = self.rows.iter().enumerate().take_while(|row| fits(*row)).count();
        self.rows.drain(..taken).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(max_tokens: usize, max_rows: usize, rows: &[(char, usize)]) -> Queue<char> {
        let mut queue = Queue::new(max_tokens, max_rows);
        queue.add(rows.iter().enumerate().map(|(index, (request, len))| QueuedRow {
            request: *request,
            index,
            ids: vec![7; *len],
        }));
        queue
    }

    fn batches(mut queue: Queue<char>) -> Vec<Vec<(char, usize)>> {
        std::iter::from_fn(|| Some(queue.next_batch()).filter(|batch| !batch.is_empty()))
            .map(|batch| batch.iter().map(|row| (row.request, row.index)).collect())
            .collect()
    }

    #[test]
    fn rows_of_several_requests_share_a_batch_in_order() {
        let packed = batches(queue(10, 99, &[('a', 4), ('a', 4), ('b', 2), ('c', 1)]));
        assert_eq!(packed, [vec![('a', 0), ('a', 1), ('b', 2)], vec![('c', 3)]]);
    }

    #[test]
    fn a_row_over_the_budget_has_a_batch_of_its_own_and_keeps_its_position() {
        let packed = batches(queue(10, 99, &[('a', 3), ('b', 50), ('c', 1)]));
        assert_eq!(packed, [[('a', 0)], [('b', 1)], [('c', 2)]]);
    }

    #[test]
    fn a_queue_knows_whether_it_is_larger_than_a_batch() {
        let mut queue = queue(10, 99, &[('a', 6), ('b', 4)]);
        assert!(!queue.exceeds_batch(|_| true));
        queue.set_max_tokens(9);
        assert!(queue.exceeds_batch(|_| true));
        assert!(!queue.exceeds_batch(|request| *request == 'a'));
        assert_eq!(batches(queue), [[('a', 0)], [('b', 1)]]);
    }

    #[test]
    fn the_number_of_rows_is_bounded_too() {
        assert_eq!(batches(queue(100, 2, &[('a', 1); 5])).len(), 3);
    }

    #[test]
    fn rows_of_a_dropped_request_are_removed() {
        let mut left = queue(100, 9, &[('a', 1), ('b', 1), ('a', 1)]);
        left.retain(|request| *request != 'a');
        assert_eq!(batches(left), [[('b', 1)]]);
    }
}
