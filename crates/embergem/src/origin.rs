//! Which model a checkpoint says it is, or was made from: by the place of its files, and by what stands in them.

use serde_json::Value;
use std::path::Path;

/// What embergem's own cache puts beside the files of a model.
pub(crate) const MANIFEST: &str = "embergem.json";

/// The id that a directory was fetched under, where it lies in the hub library's cache or in embergem's.
pub(crate) fn hub_id(directory: &Path) -> Option<String> {
    let folder = directory.parent()?;
    let name = |path: &Path| path.file_name()?.to_str().map(str::to_owned);
    let own = name(folder)?;
    if own == "snapshots" {
        return Some(name(folder.parent()?)?.strip_prefix("models--")?.replacen("--", "/", 1));
    }
    (own.contains("--") && directory.join(MANIFEST).is_file()).then(|| own.replacen("--", "/", 1))
}

/// What config.json was loaded from before it was saved: transformers notes that up to version 4.
pub(crate) fn of_config(config: &Value) -> Option<&str> {
    config["_name_or_path"].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_know_their_id() {
        let id = |path: &str| hub_id(Path::new(path));
        assert_eq!(
            id("hub/models--intfloat--e5-base-v2/snapshots/f52b").as_deref(),
            Some("intfloat/e5-base-v2")
        );
        assert_eq!(id("hub/models--gpt2/snapshots/f52b").as_deref(), Some("gpt2"));
        assert_eq!(id("some/intfloat--e5-base-v2/main"), None);
        assert_eq!(id("minilm"), None);
    }
}
