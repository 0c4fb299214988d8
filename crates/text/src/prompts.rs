//! The tasks of a model and their templates: the checkpoint's own prompts first, then those of a built-in set.

use crate::template::Template;
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

/// All built-in templates, aliases and names. Python and Rust read this one copy.
const DATA: &str = include_str!("prompts.json");

#[derive(Deserialize)]
struct Data {
    /// Alias -> task.
    aliases: BTreeMap<String, String>,
    /// Task -> names that checkpoints use for its prompt, the most specific first.
    prompt_names: BTreeMap<String, Vec<String>>,
    /// Set -> task -> pattern.
    sets: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Config {
    prompts: Option<BTreeMap<String, Option<String>>>,
}

/// The templates of one model by task name and alias.
#[derive(Debug)]
pub(crate) struct Prompts {
    templates: BTreeMap<String, Template>,
}

impl Prompts {
    /// Reads `config`, the content of config_sentence_transformers.json, and takes the prompts that it does not have
    /// from the built-in set `builtin`. `Err` is the reason why it cannot be read.
    ///
    /// A prompt that is null is empty. If all prompts of the file are empty, as sentence-transformers saves them for a model without prompts, the file
    /// declares no prompts. An empty prompt beside others is intended: that task uses the text unchanged. A model with
    /// prompts always has the tasks `query` and `document`. If neither file nor set has one of them, that task uses the
    /// text unchanged, like `encode_query` and `encode_document` of sentence-transformers.
    pub fn new(config: Option<&str>, builtin: Option<&str>) -> std::result::Result<Self, String> {
        let data: Data = serde_json::from_str(DATA).map_err(|error| format!("prompts.json: {error}"))?;
        let mut own = match config {
            None => BTreeMap::new(),
            Some(text) => {
                let config: Config = serde_json::from_str(text).map_err(|error| error.to_string())?;
                let prompts = config.prompts.unwrap_or_default().into_iter();
                prompts
                    .map(|(task, prompt)| (task, prompt.unwrap_or_default()))
                    .collect()
            }
        };
        if own.values().all(String::is_empty) {
            own.clear();
        }
        let set = match builtin {
            None => BTreeMap::new(),
            Some(name) => builtin_set(&data, name)?,
        };
        // A checkpoint stores a document prompt with the default title filled in. The built-in template with that text
        // has a title.
        let titled: Vec<&Template> = set.values().filter(|template| template.takes_title()).collect();
        let own_template = |prefix: &String| {
            let same = titled.iter().find(|template| template.render("", None) == *prefix);
            same.map_or_else(|| Template::prefix(prefix), |template| (*template).clone())
        };
        let mut templates: BTreeMap<String, Template> = BTreeMap::new();
        for (task, names) in &data.prompt_names {
            let stored = names.iter().find_map(|name| own.get(name)).map(own_template);
            if let Some(template) = stored.or_else(|| set.get(task).cloned()) {
                templates.insert(task.clone(), template);
            }
        }
        if own.is_empty() {
            // A set may have names beyond the tasks. They are not added to a checkpoint that has prompts of its own.
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

    /// Returns the accepted task names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.templates.keys().map(String::as_str)
    }

    /// Returns the template of `task`; `None` if texts are used unchanged.
    ///
    /// # Errors
    /// [`Error::Task`] for an unknown task, and for a title that the task does not take.
    pub fn choose(&self, task: Option<&str>, titled: bool) -> Result<Option<&Template>> {
        let Some(task) = task else {
            return match titled {
                false => Ok(None),
                true if self.templates.is_empty() => Err(Error::Task(
                    "This model declares no prompts, so it takes no title. Put the title into the text, or omit it."
                        .to_owned(),
                )),
                true => Err(Error::Task(format!(
                    "A title was given without a task. Add a task that takes a title: {}.",
                    self.list(|template| template.takes_title())
                ))),
            };
        };
        if self.templates.is_empty() {
            return Err(Error::Task(format!(
                "This model declares no prompts, so it has no task {task:?}. Omit the task: the text is then embedded \
                 unchanged."
            )));
        }
        let Some(template) = self.templates.get(task) else {
            return Err(Error::Task(format!(
                "This model has no task {task:?}. It has: {}.",
                self.list(|_| true)
            )));
        };
        if titled && !template.takes_title() {
            return Err(Error::Task(format!(
                "The task {task:?} takes no title. Tasks that take one: {}.",
                self.list(|template| template.takes_title())
            )));
        }
        Ok(Some(template))
    }

    fn list(&self, wanted: impl Fn(&Template) -> bool) -> String {
        let names = self.templates.iter().filter(|(_, template)| wanted(template));
        let names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            return "none of this model".to_owned();
        }
        names.join(", ")
    }
}

/// Returns the built-in prompt sets: set -> task -> pattern with `{title}` and `{content}`.
///
/// # Errors
/// The reason why the data of this build cannot be read.
pub fn sets() -> std::result::Result<BTreeMap<String, BTreeMap<String, String>>, String> {
    let data: Data = serde_json::from_str(DATA).map_err(|error| format!("prompts.json: {error}"))?;
    Ok(data.sets)
}

/// Returns the templates of a built-in set.
fn builtin_set(data: &Data, name: &str) -> std::result::Result<BTreeMap<String, Template>, String> {
    let Some(set) = data.sets.get(name) else {
        let known: Vec<&str> = data.sets.keys().map(String::as_str).collect();
        return Err(format!(
            "there is no built-in prompt set {name:?}. The sets are: {}",
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
        for stored in ["{}", "null", r#"{"query": "", "document": ""}"#, r#"{"query": null}"#] {
            assert_eq!(prompts(stored, None).names().count(), 0, "{stored}");
            assert_eq!(
                render(&prompts(stored, GEMMA), "query"),
                "task: search result | query: x"
            );
        }
        assert_eq!(Prompts::new(Some("{}"), None).unwrap().names().count(), 0);
    }

    #[test]
    fn an_empty_prompt_beside_others_leaves_the_text_unchanged() {
        let prompts = prompts(r#"{"query": "find: ", "document": ""}"#, GEMMA);
        assert_eq!(render(&prompts, "query"), "find: x");
        assert_eq!(render(&prompts, "retrieval_document"), "x");
        assert_eq!(render(&prompts, "clustering"), "task: clustering | query: x");
    }

    #[test]
    fn a_model_with_a_query_prompt_alone_leaves_documents_unchanged() {
        let prompts = prompts(r#"{"query": "find: "}"#, None);
        let names: Vec<&str> = prompts.names().collect();
        assert_eq!(names, ["document", "query", "retrieval_document", "retrieval_query"]);
        assert_eq!(render(&prompts, "document"), "x");
    }

    #[test]
    fn prompts_of_the_checkpoint_come_first_and_serve_the_tasks() {
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
    fn a_stored_document_prompt_takes_a_title() {
        let stored = r#"{"document": "title: none | text: ", "Retrieval-document": "title: none | text: "}"#;
        let prompts = prompts(stored, GEMMA);
        for task in ["document", "retrieval_document", "Retrieval-document"] {
            let template = prompts.choose(Some(task), true).unwrap().unwrap();
            assert_eq!(template.render("x", Some("T")), "title: T | text: x");
        }
    }

    #[test]
    fn an_unknown_task_or_title_is_an_error_that_lists_the_tasks() {
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
    fn built_in_sets_have_the_prompts_of_training() {
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
    fn a_damaged_file_or_an_unknown_set_is_an_error() {
        assert!(
            Prompts::new(Some("{\"prompts\": {\"query\": 3}}"), None)
                .unwrap_err()
                .contains("expected a string")
        );
        assert!(Prompts::new(None, Some("gpt")).unwrap_err().contains("embeddinggemma"));
    }
}
