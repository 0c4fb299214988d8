//! The vocabulary and the merges of a BPE model in a few large arrays, which are quick to make, to store and to free.
//!
//! The tokenizers library keeps a string and a node of a map for every token, and does so twice. For the 262,144 tokens
//! and 514,906 merges of Gemma this takes most of the time of a start. [`model`] encodes words with these arrays, and
//! [`file`] stores them for the next start.

pub(crate) mod file;
pub(crate) mod model;

/// Multiplier of the hash functions: 2^64 divided by the golden ratio (Knuth, "The Art of Computer Programming", 6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Most entries of a table: an index has 24 bits.
const MOST_ENTRIES: usize = (1 << 24) - 1;

/// Numbers in the bytes of a file, so that they are read without a copy.
#[derive(Default)]
struct Numbers(Vec<[u8; 4]>);

impl Numbers {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> u32 {
        u32::from_le_bytes(self.0[index])
    }

    fn set(&mut self, index: usize, number: u32) {
        self.0[index] = number.to_le_bytes();
    }

    fn push(&mut self, number: u32) {
        self.0.push(number.to_le_bytes());
    }
}

/// A hash table of the indices of entries that are elsewhere. Half of its slots are empty at least.
///
/// A slot has the index in 24 bits and a part of the hash in 8, so that other entries are seldom looked at.
struct Slots(Numbers);

/// The number in an empty slot.
const EMPTY: u32 = u32::MAX;

impl Slots {
    fn new(count: usize) -> Self {
        Self(Numbers(vec![EMPTY.to_le_bytes(); count]))
    }

    /// Returns whether another entry beside `entries` fits.
    fn has_room(&self, entries: usize) -> bool {
        2 * (entries + 1) <= self.0.len()
    }

    /// Returns the slot of the entry with this hash for which `is_own` is true, or the empty one where it belongs, and
    /// its index.
    fn find(&self, hash: u64, is_own: impl Fn(usize) -> bool) -> (usize, Option<usize>) {
        let tag = (hash >> 24) as u32 & 0xff;
        let mask = self.0.len() - 1;
        let mut slot = (hash >> 32) as usize & mask;
        loop {
            let found = self.0.get(slot);
            let index = (found & 0xff_ffff) as usize;
            if found == EMPTY {
                return (slot, None);
            }
            if found >> 24 == tag && is_own(index) {
                return (slot, Some(index));
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Puts an index below [`MOST_ENTRIES`] into a slot that [`Self::find`] returned.
    fn put(&mut self, slot: usize, hash: u64, index: usize) {
        self.0.set(slot, (hash as u32 & 0xff00_0000) | index as u32);
    }

    /// Puts the index of a new entry into an empty slot.
    fn add(&mut self, hash: u64, index: usize) {
        let (slot, _) = self.find(hash, |_| false);
        self.put(slot, hash, index);
    }

    /// Returns an empty table of twice the size.
    fn larger(&self) -> Self {
        Self::new((2 * self.0.len()).max(16))
    }
}

/// The tokens of a vocabulary with their ids.
pub(crate) struct Vocabulary {
    /// All tokens, one after the other.
    text: Vec<u8>,
    /// Where each token ends in `text`.
    ends: Numbers,
    ids: Numbers,
    slots: Slots,
}

impl Vocabulary {
    pub fn new() -> Self {
        Self {
            text: Vec::new(),
            ends: Numbers::default(),
            ids: Numbers::default(),
            slots: Slots::new(1),
        }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Iterates over the tokens and their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        let token = |index| str::from_utf8(self.token(index)).unwrap_or_default();
        (0..self.len()).map(move |index| (token(index), self.ids.get(index)))
    }

    /// Inserts a token. The last id of a token counts. `None` if there are too many tokens.
    pub fn insert(&mut self, token: &str, id: u32) -> Option<()> {
        if !self.slots.has_room(self.len()) {
            self.slots = self.slots.larger();
            for index in 0..self.len() {
                self.slots.add(hash_text(self.token(index)), index);
            }
        }
        let hash = hash_text(token.as_bytes());
        let (slot, own) = self.find(token.as_bytes(), hash);
        if let Some(own) = own {
            self.ids.set(own, id);
            return Some(());
        }
        let end = u32::try_from(self.text.len() + token.len()).ok()?;
        if self.len() == MOST_ENTRIES {
            return None;
        }
        self.slots.put(slot, hash, self.len());
        self.text.extend(token.as_bytes());
        self.ends.push(end);
        self.ids.push(id);
        Some(())
    }

    /// Returns the id of a token.
    pub fn get(&self, token: &[u8]) -> Option<u32> {
        let (_, index) = self.find(token, hash_text(token));
        index.map(|index| self.ids.get(index))
    }

    fn find(&self, token: &[u8], hash: u64) -> (usize, Option<usize>) {
        self.slots.find(hash, |index| self.token(index) == token)
    }

    fn token(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends.get(index - 1) };
        &self.text[start as usize..self.ends.get(index) as usize]
    }
}

/// The merges of a model: two tokens, and the token that they become.
pub(crate) struct Merges {
    /// Left, right and new id of each merge, by rank.
    entries: Numbers,
    slots: Slots,
}

impl Merges {
    pub fn new() -> Self {
        Self {
            entries: Numbers::default(),
            slots: Slots::new(1),
        }
    }

    /// Number of merges.
    fn len(&self) -> usize {
        self.entries.len() / 3
    }

    /// Adds the merge of the next rank. The last rank of a pair counts. `None` if there are too many merges.
    pub fn push(&mut self, left: u32, right: u32, new: u32) -> Option<()> {
        let rank = self.len();
        if rank == MOST_ENTRIES {
            return None;
        }
        if !self.slots.has_room(rank) {
            self.slots = self.slots.larger();
            (0..rank).for_each(|rank| self.place(rank));
        }
        for id in [left, right, new] {
            self.entries.push(id);
        }
        self.place(rank);
        Some(())
    }

    /// Returns rank and new id of the merge of a pair.
    pub fn get(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let (_, rank) = self
            .slots
            .find(hash_pair(left, right), |rank| self.pair(rank) == (left, right));
        rank.map(|rank| (rank as u32, self.entries.get(3 * rank + 2)))
    }

    fn pair(&self, rank: usize) -> (u32, u32) {
        (self.entries.get(3 * rank), self.entries.get(3 * rank + 1))
    }

    fn place(&mut self, rank: usize) {
        let pair = self.pair(rank);
        let hash = hash_pair(pair.0, pair.1);
        let (slot, _) = self.slots.find(hash, |other| self.pair(other) == pair);
        self.slots.put(slot, hash, rank);
    }
}

/// The arrays of a model.
pub(crate) struct Tables {
    pub vocabulary: Vocabulary,
    pub merges: Merges,
}

fn hash_pair(left: u32, right: u32) -> u64 {
    let pair = u64::from(left) << 32 | u64::from(right);
    let mixed = (pair ^ pair >> 29).wrapping_mul(GOLDEN);
    (mixed ^ mixed >> 32).wrapping_mul(GOLDEN)
}

fn hash_text(text: &[u8]) -> u64 {
    let mut state = text.len() as u64;
    let (words, rest) = text.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    for word in words.iter().chain([&last]) {
        state = (state.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(GOLDEN);
        state ^= state >> 32;
    }
    state.wrapping_mul(GOLDEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn a_vocabulary_has_the_last_id_of_each_token() {
        let (mut ours, mut expected) = (Vocabulary::new(), HashMap::new());
        for number in 0..5000_u32 {
            let token = format!("{:x}", number * number % 3001).repeat(1 + number as usize % 4);
            ours.insert(&token, number).unwrap();
            expected.insert(token, number);
        }
        ours.insert("", 7).unwrap();
        expected.insert(String::new(), 7);
        assert_eq!(ours.len(), expected.len());
        for (token, id) in ours.iter() {
            assert_eq!(
                (expected.get(token), ours.get(token.as_bytes())),
                (Some(&id), Some(id)),
                "{token}"
            );
        }
        assert_eq!((ours.get(b"zz"), Vocabulary::new().get(b"")), (None, None));
    }

    #[test]
    fn merges_have_the_last_rank_of_each_pair() {
        let (mut ours, mut expected) = (Merges::new(), HashMap::new());
        for rank in 0..5000_u32 {
            let pair = (rank * rank % 89, rank % 41);
            ours.push(pair.0, pair.1, rank + 100_000).unwrap();
            expected.insert(pair, (rank, rank + 100_000));
        }
        for pair in (0..100).flat_map(|left| (0..50).map(move |right| (left, right))) {
            assert_eq!(ours.get(pair.0, pair.1), expected.get(&pair).copied(), "{pair:?}");
        }
        assert_eq!(Merges::new().get(0, 0), None);
    }
}
