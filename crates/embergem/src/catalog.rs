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
}
