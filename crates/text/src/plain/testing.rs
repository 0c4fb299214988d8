//! Texts for the comparison with the library.

/// Parts of texts at whose borders a normalizer or a pre-tokenizer may join characters.
const PARTS: [&str; 48] = [
    ".",
    " ",
    "a",
    "A",
    "中",
    "\n",
    "\t",
    "\r\n",
    "\r",
    "'s",
    "'LL",
    "'\u{17f}",
    "'",
    "Straße",
    "e\u{301}",
    "\u{301}",
    "\u{327}\u{301}",
    "\u{34f}",
    "\u{302e}",
    "\u{200d}",
    "\u{200b}",
    "\u{a0}",
    "\u{3000}",
    "\u{2028}",
    "\u{85}",
    "▁",
    "👩\u{200d}👧",
    "🇺🇦",
    "👍🏽",
    "が",
    "か\u{3099}",
    "한",
    "\u{1112}\u{1161}\u{11ab}",
    "ﬁ",
    "½",
    "``",
    "\0",
    "\u{7f}",
    "\u{fffd}",
    "\u{10ffff}",
    "\u{600}",
    "हिन्दी",
    "ไทย",
    "1234567",
    "  ",
    "!?",
    "İΣ",
    "\u{feff}",
];

/// Texts of random parts.
pub(super) fn texts() -> impl Iterator<Item = String> {
    let mut state = 1_u64;
    let mut random = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or_default() % below
    };
    (0..400).map(move |index| {
        (0..index % 20)
            .map(|_| PARTS[random(PARTS.len())].repeat(1 + random(2)))
            .collect()
    })
}

/// Blocks of 256 characters with different properties; blocks of ideographs and unassigned ones are left out.
const BLOCKS: [std::ops::Range<u32>; 7] = [
    0..0x36,
    0x9f..0xad,
    0xd7..0xe0,
    0xf9..0x130,
    0x16a..0x170,
    0x1d0..0x201,
    0x2f8..0x2fb,
];

/// Texts that have each character after a letter, an apostrophe, white space and itself.
pub(super) fn all_characters() -> impl Iterator<Item = String> {
    BLOCKS.into_iter().flatten().map(|block| {
        let chars = (block * 256..block * 256 + 256).filter_map(char::from_u32);
        chars
            .map(|char| format!("a{char}b'{char} {char}{char}\n{char}1"))
            .collect()
    })
}
