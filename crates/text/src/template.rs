//! A prompt template: the text before the input, and the position of a title.

use std::borrow::Cow;

/// Title of a document without a title. EmbeddingGemma was trained with it.
const NO_TITLE: &str = "none";
const TITLE: &str = "{title}";
const CONTENT: &str = "{content}";

/// A prefix of a text, with an optional title. Braces in a text or a title have no meaning.
///
/// ```
/// use embergem_text::Template;
///
/// let template = Template::parse("title: {title} | text: {content}").unwrap();
/// assert_eq!(template.render("a {title}", Some("Stones")), "title: Stones | text: a {title}");
/// assert_eq!(template.render("", Some("")), "title: none | text: ");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    before: String,
    /// The text between title and content; `None` for a template without a title.
    after_title: Option<String>,
}

impl Template {
    /// Creates a template without a title: `prefix`, then the text.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        let before = prefix.into();
        Self {
            before,
            after_title: None,
        }
    }

    /// Parses `... {content}` or `... {title} ... {content}`. Returns `None` for a pattern that does not end in
    /// `{content}`.
    pub fn parse(pattern: &str) -> Option<Self> {
        let head = pattern.strip_suffix(CONTENT)?;
        Some(match head.split_once(TITLE) {
            None => Self::prefix(head),
            Some((before, after)) => Self {
                before: before.to_owned(),
                after_title: Some(after.to_owned()),
            },
        })
    }

    /// Returns whether the template has a title.
    pub fn takes_title(&self) -> bool {
        self.after_title.is_some()
    }

    /// Returns the pattern, which [`Template::parse`] reads.
    pub fn pattern(&self) -> String {
        match &self.after_title {
            None => [&self.before, CONTENT].concat(),
            Some(after) => [&self.before, TITLE, after, CONTENT].concat(),
        }
    }

    /// Returns whether the template leaves the text unchanged.
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after_title.is_none()
    }

    /// Returns the text with its prompt; see [`Self::head`].
    pub fn render(&self, text: &str, title: Option<&str>) -> String {
        [&self.head(title), text].concat()
    }

    /// Returns what precedes the text. A missing or empty title becomes `none`. A template without a title ignores it.
    pub fn head(&self, title: Option<&str>) -> Cow<'_, str> {
        let title = title.filter(|title| !title.is_empty()).unwrap_or(NO_TITLE);
        match &self.after_title {
            None => Cow::Borrowed(&self.before),
            Some(after) => Cow::Owned([&self.before, title, after].concat()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_must_end_in_its_content() {
        assert_eq!(Template::parse("query: {content} please"), None);
        assert_eq!(Template::parse("query: "), None);
        assert_eq!(Template::parse("query: {content}"), Some(Template::prefix("query: ")));
    }

    #[test]
    fn a_pattern_survives_parsing() {
        for pattern in ["{content}", "query: {content}", "title: {title} | text: {content}"] {
            assert_eq!(Template::parse(pattern).unwrap().pattern(), pattern);
        }
    }

    #[test]
    fn a_prefix_takes_no_title() {
        let template = Template::prefix("passage: ");
        assert!(!template.takes_title());
        assert_eq!(template.render("x", None), "passage: x");
        assert!(Template::prefix("").is_empty());
    }
}
