//! One prompt template: what stands before the text, and where a title goes.

/// What a document without a title is called, as EmbeddingGemma was trained.
const NO_TITLE: &str = "none";
const TITLE: &str = "{title}";
const CONTENT: &str = "{content}";

/// What is put before a text. Braces in a text or a title are never read as places to fill.
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
    /// What stands between the title and the text, in a template that takes a title.
    after_title: Option<String>,
}

impl Template {
    /// A template without a title: `prefix`, then the text.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        let before = prefix.into();
        Self {
            before,
            after_title: None,
        }
    }

    /// Reads `... {content}` or `... {title} ... {content}`; `None` for a pattern that does not end in its content.
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

    /// Whether a title has a place in it.
    pub fn takes_title(&self) -> bool {
        self.after_title.is_some()
    }

    /// The pattern that `parse` reads, with `{title}` and `{content}` where they go.
    pub fn pattern(&self) -> String {
        match &self.after_title {
            None => [&self.before, CONTENT].concat(),
            Some(after) => [&self.before, TITLE, after, CONTENT].concat(),
        }
    }

    /// Whether it leaves the text as it is.
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after_title.is_none()
    }

    /// The prompted text. No title, or an empty one, is written `none`; without a place for it a title is left out.
    pub fn render(&self, text: &str, title: Option<&str>) -> String {
        let title = title.filter(|title| !title.is_empty()).unwrap_or(NO_TITLE);
        match &self.after_title {
            None => [&self.before, text].concat(),
            Some(after) => [&self.before, title, after, text].concat(),
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
    fn a_pattern_is_what_was_read() {
        for pattern in ["{content}", "query: {content}", "title: {title} | text: {content}"] {
            assert_eq!(Template::parse(pattern).unwrap().pattern(), pattern);
        }
    }

    #[test]
    fn a_prefix_has_no_place_for_a_title() {
        let template = Template::prefix("passage: ");
        assert!(!template.takes_title());
        assert_eq!(template.render("x", None), "passage: x");
        assert!(Template::prefix("").is_empty());
    }
}
