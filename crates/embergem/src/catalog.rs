//! The models known by name, from the same catalog as Python's.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// A known model.
#[derive(Deserialize)]
pub(crate) struct Known {
    /// Its hub id.
    pub id: String,
    aliases: Vec<String>,
    family: String,
    /// A set of prompts in crates/text.
    pub prompts: Option<String>,
    /// Most tokens of one input, as its authors give it.
    pub limit: usize,
    /// By what a checkpoint without its name is recognised.
    recognised: Option<Recognised>,
    /// Sizes that vectors can be cut to, as ranges (first, last).
    pub smaller: Vec<(usize, usize)>,
    /// An ungated repository with the same bytes.
    #[cfg_attr(not(feature = "hub"), expect(dead_code, reason = "only downloads need it"))]
    pub mirror: Option<String>,
    /// Shown each time the model is used.
    pub notice: Option<String>,
    /// Path and sha256 of its files, in hex; where only the beginning of a hash is known it is shorter.
    #[cfg_attr(not(feature = "hub"), expect(dead_code, reason = "only downloads need it"))]
    pub files: BTreeMap<String, String>,
}

/// By what a checkpoint is recognised that does not lie under its model's name.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Recognised {
    /// By its shape, which no other model has.
    Shape,
    /// By a name in its files, if it has that model's shape.
    Name,
}

#[derive(Deserialize)]
struct Catalog {
    models: Vec<Known>,
}

fn catalog() -> &'static Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    CATALOG.get_or_init(|| {
        serde_json::from_str(include_str!("../programs/catalog.json")).expect("a test of this crate parses this file")
    })
}

/// The model with this id or alias, whatever its case.
pub(crate) fn find(name: &str) -> Option<&'static Known> {
    let same = |known: &String| known.eq_ignore_ascii_case(name);
    let mut models = catalog().models.iter();
    models.find(|model| same(&model.id) || model.aliases.iter().any(same))
}

/// The model of this name if it is of this family: a directory may bear a model's name by chance.
pub(crate) fn known(name: &str, family: &str) -> Option<&'static Known> {
    find(name).filter(|known| known.family == family)
}

/// The model that a checkpoint is, or was made from, of those with its config, whose ids are `alike`: the one that its
/// files name, or the one of this shape where a shape tells models apart.
pub(crate) fn kin(said: &[&str], alike: &[String]) -> Option<&'static Known> {
    let candidates = || catalog().models.iter().filter(|known| alike.contains(&known.id));
    let meant = |said: &str, known: &Known| {
        let last = |name: &str| {
            letters(
                name.trim_end_matches(['/', '\\'])
                    .rsplit(['/', '\\'])
                    .next()
                    .unwrap_or(""),
            )
        };
        let names = || std::iter::once(&known.id).chain(&known.aliases);
        let wanted = [letters(said), last(said)];
        names().any(|name| wanted.contains(&letters(name)) || wanted.contains(&last(name)))
    };
    let named = said.iter().find_map(|said| {
        let mut recognised = candidates().filter(|known| known.recognised.is_some());
        recognised.find(|known| meant(said, known))
    });
    named.or_else(|| candidates().find(|known| known.recognised == Some(Recognised::Shape)))
}

/// Letters and digits: files spell names freely.
fn letters(name: &str) -> String {
    name.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect()
}

/// All ids and aliases.
pub(crate) fn names() -> Vec<&'static str> {
    let models = catalog().models.iter();
    models
        .flat_map(|model| std::iter::once(&model.id).chain(&model.aliases))
        .map(String::as_str)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_by_id_and_alias() {
        assert_eq!(find("MiniLM").unwrap().id, "sentence-transformers/all-MiniLM-L6-v2");
        assert_eq!(find("embeddinggemma").unwrap().id, "google/embeddinggemma-300m");
        assert!(find("minilmm").is_none());
        assert!(names().contains(&"minilm"));
    }

    #[test]
    fn models_are_recognised_by_what_their_files_say() {
        let alike = ["intfloat/e5-base-v2".to_owned(), "thenlper/gte-base".to_owned()];
        let found = |said: &[&str]| kin(said, &alike).map(|known| known.id.as_str());
        assert_eq!(
            found(&["model", "https://huggingface.co/intfloat/e5-base-v2"]),
            Some("intfloat/e5-base-v2")
        );
        assert_eq!(found(&["Gte Base"]), Some("thenlper/gte-base"));
        assert_eq!(found(&["BAAI/bge-base-en-v1.5", ""]), None, "it has another shape");
        let gemma = ["google/embeddinggemma-2".to_owned()];
        assert_eq!(kin(&["anything"], &gemma).unwrap().limit, 8192);
    }
}
