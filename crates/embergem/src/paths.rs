//! Directories where embergem and the Hugging Face hub library keep files on this machine, as in Python's `paths`.

use std::env;
use std::path::{Path, PathBuf};

/// File in each version of a model in embergem's cache that lists the model's files.
pub(crate) const MODEL_MANIFEST: &str = "embergem.json";

/// Embergem's cache directory: `$EMBERGEM_CACHE`, else `$XDG_CACHE_HOME/embergem`, else `~/.cache/embergem`.
pub(crate) fn cache_root() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(own) = set("EMBERGEM_CACHE").map(PathBuf::from) {
        // A service file or a container sets the variable without a shell that would expand "~".
        return match own.strip_prefix("~") {
            Ok(rest) => Some(env::home_dir()?.join(rest)),
            Err(_) => Some(own),
        };
    }
    let base = set("XDG_CACHE_HOME").map(PathBuf::from);
    base.or_else(|| Some(env::home_dir()?.join(".cache")))
        .map(|base| base.join("embergem"))
}

/// The hub id that a directory was downloaded under, if it lies in embergem's cache or in the hub library's.
pub(crate) fn hub_id(directory: &Path) -> Option<String> {
    let folder = directory.parent()?;
    let name = |path: &Path| path.file_name()?.to_str().map(str::to_owned);
    let own = name(folder)?;
    if own == "snapshots" {
        return Some(name(folder.parent()?)?.strip_prefix("models--")?.replacen("--", "/", 1));
    }
    (own.contains("--") && directory.join(MODEL_MANIFEST).is_file()).then(|| own.replacen("--", "/", 1))
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
