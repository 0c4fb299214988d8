//! A compact trie over strings: finds all strings of a set that a text begins with.

use std::collections::VecDeque;
use std::ops::Range;

/// Marks a node that no string ends at.
const NONE: u32 = u32::MAX;

/// A set of strings with values. A node takes 9 bytes.
pub(crate) struct Trie {
    /// The children of node `n` are the nodes `children[n]..children[n + 1]`.
    children: Vec<u32>,
    /// The byte that leads to a node.
    labels: Vec<u8>,
    values: Vec<u32>,
    /// Bytes of the longest string.
    pub longest: usize,
}

impl Trie {
    /// Builds the trie. Empty strings are ignored; of equal strings the last one counts.
    pub fn new<'a>(strings: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let mut sorted: Vec<(&[u8], u32)> = strings
            .into_iter()
            .filter(|(string, _)| !string.is_empty())
            .map(|(string, value)| (string.as_bytes(), value))
            .collect();
        sorted.sort_by_key(|(string, _)| *string);
        let mut trie = Self {
            children: vec![],
            labels: vec![0],
            values: vec![],
            longest: sorted.iter().map(|(string, _)| string.len()).max().unwrap_or(0),
        };
        // Breadth first, so that the children of a node are next to each other.
        let mut queue = VecDeque::from([(0..sorted.len(), 0)]);
        while let Some((mut range, depth)) = queue.pop_front() {
            let mut value = NONE;
            while range.start < range.end && sorted[range.start].0.len() == depth {
                value = sorted[range.start].1;
                range.start += 1;
            }
            trie.values.push(value);
            trie.children.push(u32::try_from(trie.labels.len()).unwrap_or(NONE));
            while range.start < range.end {
                let label = sorted[range.start].0[depth];
                let same = sorted[range.clone()].partition_point(|(string, _)| string[depth] == label);
                queue.push_back((range.start..range.start + same, depth + 1));
                trie.labels.push(label);
                range.start += same;
            }
        }
        trie.children.push(u32::try_from(trie.labels.len()).unwrap_or(NONE));
        trie
    }

    /// Iterates over the strings that `text` begins with, shortest first, as (length in bytes, value).
    pub fn prefixes<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (usize, u32)> + 'a {
        let mut node = 0;
        text.iter()
            .map_while(move |byte| {
                let children = self.children(node);
                let found = self.labels[children.clone()].binary_search(byte).ok()?;
                node = children.start + found;
                Some(self.values[node])
            })
            .enumerate()
            .filter(|(_, value)| *value != NONE)
            .map(|(last, value)| (last + 1, value))
    }

    /// Returns the value of a string of the set.
    pub fn get(&self, string: &[u8]) -> Option<u32> {
        self.prefixes(string)
            .find(|(length, _)| *length == string.len())
            .map(|(_, value)| value)
    }

    fn children(&self, node: usize) -> Range<usize> {
        self.children[node] as usize..self.children[node + 1] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_found_shortest_first() {
        let trie = Trie::new([("ab", 1), ("a", 2), ("abc", 3), ("b", 4), ("", 5), ("ab", 6), ("中", 7)]);
        let found = |text: &str| trie.prefixes(text.as_bytes()).collect::<Vec<_>>();
        assert_eq!(found("abcd"), [(1, 2), (2, 6), (3, 3)]);
        assert_eq!(found("xa"), []);
        assert_eq!(found(""), []);
        assert_eq!(found("中"), [(3, 7)]);
        assert_eq!(
            (trie.get(b"ab"), trie.get(b"abx"), trie.get(b"")),
            (Some(6), None, None)
        );
        assert_eq!(trie.longest, 3);
        assert_eq!(Trie::new([]).get(b"a"), None);
    }
}
