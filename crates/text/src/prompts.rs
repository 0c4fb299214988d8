//! Which tasks a model has, and the template behind each: the checkpoint's own prompts first, then a built-in set.

use crate::template::Template;
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Every template, alias and name that ships with embergem, as data: one copy for all languages.
const DATA: &str = include_str!("prompts.json");

#[derive(Deserialize)]
struct Data {
    aliases: BTreeMap<String, String>,
    /// Task -> the prompt names that checkpoints use for it, the most telling first.
    meanings: BTreeMap<String, Vec<String>>,
    /// Set -> task -> pattern.
    sets: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Config {
    prompts: Option<BTreeMap<String, String>>,
}

/// The prompts of one model by every name they answer to.
#[derive(Debug)]
pub(crate) struct Prompts {
    templates: BTreeMap<String, Template>,
}

impl Prompts {
    /// Reads `config`, the text of config_sentence_transformers.json, and lets the set `builtin` fill what it leaves
    /// open. `Err` holds the reason.
    ///
    /// A file whose every prompt is empty, as sentence-transformers saves it for a model without prompts, declares
    /// nothing. Beside prompts that do say something an empty one is meant: that task takes the text as it is. A
    /// model with prompts always has `query` and `document`: the one that nobody names takes the text as it is, which
    /// is what sentence-transformers' `encode_query` and `encode_document` do.
    pub fn new(config: Option<&str>, builtin: Option<&str>) -> std::result::Result<Self, String> {
        let data: Data = serde_json::from_str(DATA).map_err(|error| format!("prompts.json: {error}"))?;
        let mut own = match config {
            None => BTreeMap::new(),
            Some(text) => {
                let config: Config = serde_json::from_str(text).map_err(|error| error.to_string())?;
                config.prompts.unwrap_or_default()
            }
        };
        if own.values().all(String::is_empty) {
            own.clear();
        }
        let set = match builtin {
            None => BTreeMap::new(),
            Some(name) => builtin_set(&data, name)?,
        };
        // A stored document prompt is the built-in one with its title filled in: it keeps the place for a title.
        let titled: Vec<&Template> = set.values().filter(|template| template.takes_title()).collect();
        let own_template = |prefix: &String| {
            let same = titled.iter().find(|template| template.render("", None) == *prefix);
            same.map_or_else(|| Template::prefix(prefix), |template| (*template).clone())
        };
        let mut templates: BTreeMap<String, Template> = BTreeMap::new();
        for (task, names) in &data.meanings {
            let stored = names.iter().find_map(|name| own.get(name)).map(own_template);
            if let Some(template) = stored.or_else(|| set.get(task).cloned()) {
                templates.insert(task.clone(), template);
            }
        }
        if own.is_empty() {
            // A set may have more names than there are tasks; a checkpoint that names its own knows better.
            for (name, template) in &set {
                templates.entry(name.clone()).or_insert_with(|| template.clone());
            }
        }
        templates.extend(own.iter().map(|(name, prefix)| (name.clone(), own_template(prefix))));
        if !templates.is_empty() {
            for task in data.aliases.values() {
                templates.entry(task.clone()).or_insert_with(|| Template::prefix(""));
            }
            for (alias, task) in &data.aliases {
                let template = templates[task].clone();
                templates.entry(alias.clone()).or_insert(template);
            }
        }
        Ok(Self { templates })
    }

    /// Names accepted as a task, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.templates.keys().map(String::as_str)
    }

    /// The template of `task`, or `None` when the text is to be taken as it is.
    pub fn choose(&self, task: Option<&str>, titled: bool) -> Result<Option<&Template>> {
        let Some(task) = task else {
            return match titled {
                false => Ok(None),
                true if self.templates.is_empty() => Err(Error::Task(
                    "this model declares no prompts, so a title has no place in its input. Put the title into the \
                     text, or leave it away."
                        .to_owned(),
                )),
                true => Err(Error::Task(format!(
                    "a title says what a document is called, but no task was given. Add a task that takes a title: {}.",
                    self.list(|template| template.takes_title())
                ))),
            };
        };
        if self.templates.is_empty() {
            return Err(Error::Task(format!(
                "this model declares no prompts, so task {task:?} has no meaning for it. Leave the task away: the text \
                 is embedded as given."
            )));
        }
        let Some(template) = self.templates.get(task) else {
            return Err(Error::Task(format!(
                "this model has no task {task:?}. It has: {}.",
                self.list(|_| true)
            )));
        };
        if titled && !template.takes_title() {
            return Err(Error::Task(format!(
                "task {task:?} takes no title. Tasks that do: {}.",
                self.list(|template| template.takes_title())
            )));
        }
        Ok(Some(template))
    }

    fn list(&self, wanted: impl Fn(&Template) -> bool) -> String {
        let names = self.templates.iter().filter(|(_, template)| wanted(template));
        let names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            return "none of this model's".to_owned();
        }
        names.join(", ")
    }
}

/// The sets of prompts that ship with embergem: set -> task -> pattern, with places for `{title}` and `{content}`.
///
/// # Errors
/// The reason why the data in this build cannot be read.
pub fn sets() -> std::result::Result<BTreeMap<String, BTreeMap<String, String>>, String> {
    let data: Data = serde_json::from_str(DATA).map_err(|error| format!("prompts.json: {error}"))?;
    Ok(data.sets)
}

fn builtin_set(data: &Data, name: &str) -> std::result::Result<BTreeMap<String, Template>, String> {
    let Some(set) = data.sets.get(name) else {
        let known: Vec<&str> = data.sets.keys().map(String::as_str).collect();
        return Err(format!(
            "no built-in prompt set {name:?}; there is: {}",
            known.join(", ")
        ));
    };
    set.iter()
        .map(|(task, pattern)| match Template::parse(pattern) {
            Some(template) => Ok((task.clone(), template)),
            None => Err(format!(
                "prompts.json: {name}.{task} does not end in {{content}}: {pattern:?}"
            )),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEMMA: Option<&str> = Some("embeddinggemma");

    fn prompts(stored: &str, builtin: Option<&str>) -> Prompts {
        Prompts::new(Some(&format!("{{\"prompts\": {stored}}}")), builtin).unwrap()
    }

    fn render(prompts: &Prompts, task: &str) -> String {
        prompts.choose(Some(task), false).unwrap().unwrap().render("x", None)
    }

    #[test]
    fn prompts_that_are_all_empty_declare_nothing() {
        for stored in ["{}", "null", r#"{"query": "", "document": ""}"#] {
            assert_eq!(prompts(stored, None).names().count(), 0, "{stored}");
            assert_eq!(
                render(&prompts(stored, GEMMA), "query"),
                "task: search result | query: x"
            );
        }
        assert_eq!(Prompts::new(Some("{}"), None).unwrap().names().count(), 0);
    }

    #[test]
    fn an_empty_prompt_beside_others_is_meant() {
        let prompts = prompts(r#"{"query": "find: ", "document": ""}"#, GEMMA);
        assert_eq!(render(&prompts, "query"), "find: x");
        assert_eq!(render(&prompts, "retrieval_document"), "x");
        assert_eq!(render(&prompts, "clustering"), "task: clustering | query: x");
    }

    #[test]
    fn a_model_with_a_query_prompt_alone_takes_documents_as_given() {
        let prompts = prompts(r#"{"query": "find: "}"#, None);
        let names: Vec<&str> = prompts.names().collect();
        assert_eq!(names, ["document", "query", "retrieval_document", "retrieval_query"]);
        assert_eq!(render(&prompts, "document"), "x");
    }

    #[test]
    fn names_of_the_checkpoint_win_and_also_speak_for_the_tasks() {
        let prompts = prompts(
            r#"{"STS": "alike: ", "Retrieval-query": "r: ", "passage": "p: ", "Odd": "o: "}"#,
            GEMMA,
        );
        assert_eq!(render(&prompts, "STS"), "alike: x");
        assert_eq!(render(&prompts, "semantic_similarity"), "alike: x");
        assert_eq!(render(&prompts, "query"), "r: x");
        assert_eq!(render(&prompts, "document"), "p: x");
        assert_eq!(render(&prompts, "Odd"), "o: x");
    }

    #[test]
    fn a_stored_document_prompt_keeps_the_place_for_a_title() {
        let stored = r#"{"document": "title: none | text: ", "Retrieval-document": "title: none | text: "}"#;
        let prompts = prompts(stored, GEMMA);
        for task in ["document", "retrieval_document", "Retrieval-document"] {
            let template = prompts.choose(Some(task), true).unwrap().unwrap();
            assert_eq!(template.render("x", Some("T")), "title: T | text: x");
        }
    }

    #[test]
    fn what_cannot_be_is_an_error_that_lists_what_there_is() {
        let gemma = prompts("{}", GEMMA);
        let message = |prompts: &Prompts, task, titled| prompts.choose(task, titled).unwrap_err().to_string();
        assert!(message(&gemma, Some("Query"), false).contains("classification, clustering, code_retrieval, document"));
        assert!(message(&gemma, Some("query"), true).contains("document, retrieval_document"));
        assert!(message(&gemma, None, true).contains("document, retrieval_document"));
        let bare = prompts("{}", None);
        assert!(message(&bare, Some("query"), false).contains("declares no prompts"));
        assert!(message(&bare, None, true).contains("declares no prompts"));
        assert!(bare.choose(None, false).unwrap().is_none());
    }

    #[test]
    fn sets_speak_as_their_models_were_trained() {
        for (set, task, read) in [
            ("e5", "query", "query: x"),
            ("e5", "document", "passage: x"),
            (
                "bge",
                "query",
                "Represent this sentence for searching relevant passages: x",
            ),
            ("bge", "document", "x"),
            ("query", "query", "query: x"),
            ("nomic", "document", "search_document: x"),
            ("nomic", "clustering", "clustering: x"),
            (
                "qwen3",
                "query",
                "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:x",
            ),
            ("qwen3", "document", "x"),
            (
                "embeddinggemma2",
                "Summarization",
                "task: sentence similarity | query: x",
            ),
            ("embeddinggemma2", "FactChecking", "task: fact checking | query: x"),
        ] {
            assert_eq!(render(&prompts("{}", Some(set)), task), read, "{set} {task}");
        }
        let two = prompts("{}", Some("embeddinggemma2"));
        assert_eq!(
            two.names().filter(|name| name.starts_with(char::is_uppercase)).count(),
            18
        );
        let own = prompts(r#"{"query": "find: "}"#, Some("embeddinggemma2"));
        assert!(own.choose(Some("Summarization"), false).is_err());
    }

    #[test]
    fn a_damaged_file_or_an_unknown_set_says_so() {
        assert!(
            Prompts::new(Some("{\"prompts\": {\"query\": 3}}"), None)
                .unwrap_err()
                .contains("expected a string")
        );
        assert!(Prompts::new(None, Some("gpt")).unwrap_err().contains("embeddinggemma"));
    }
}
