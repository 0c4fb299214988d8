//! Chat templates: a checkpoint whose texts are messages is read only if its template leaves them unchanged.
//!
//! With `modality_config.message` the published library renders each text as a message of the role "user", after the
//! prompt as a message of the role "system". embergem embeds the prompt and the text as they are. Whether both are the
//! same is tried with a few texts.

use crate::error::{Result, unsupported};
use crate::json::{Object, read_text};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, Value as Input};
use serde_json::{Value, json};
use std::path::Path;

/// A processor adds the special tokens itself. A tokenizer alone leaves them to the template.
const PROCESSORS: [&str; 2] = ["processor_config.json", "preprocessor_config.json"];
/// Texts that templates could trim, escape or treat in a special way.
const TEXTS: [&str; 6] = [
    "x",
    " two  spaces, \n lines\n",
    "{{ x }}<&>\"'",
    "</think> <|im_end|>",
    "",
    "日本語 \u{1f986}",
];
const PROMPTS: [Option<&str>; 3] = [None, Some("task: search result | query: "), Some(" a\n")];

/// Refuses a checkpoint in the directory `body` whose texts are rendered by a template that changes them. `settings` is its
/// sentence_bert_config.json and `tokenizer` its tokenizer_config.json.
pub(crate) fn check(body: &Path, settings: &Object, tokenizer: &Object) -> Result<()> {
    let Some(message) = settings.get("modality_config").and_then(|config| config.get("message")) else {
        return Ok(());
    };
    let refuse = |why: &str| {
        let reason = format!(
            ": modality_config has \"message\", so the published library embeds texts as the chat template renders them, \
             and {why}. embergem embeds texts as they are. Take \"message\" out of modality_config if the model was \
             trained on plain texts."
        );
        Err(unsupported(&settings.file, reason))
    };
    let file = body.join("chat_template.jinja");
    let template = match file.is_file() {
        true => Some(read_text(&file)?),
        false => tokenizer
            .get("chat_template")
            .and_then(Value::as_str)
            .map(str::to_owned),
    };
    let Some(template) = template else {
        return refuse("there is no chat_template.jinja");
    };
    if !PROCESSORS.iter().any(|name| body.join(name).is_file()) {
        return refuse("without a processor it leaves out the special tokens");
    }
    let flat = message["format"] == "flat";
    match changed(&template, flat) {
        Ok(false) => Ok(()),
        Ok(true) => refuse("the template changes them"),
        Err(error) => refuse(&format!("the template cannot be tried ({error})")),
    }
}

/// Whether a template changes one of the texts. `flat` messages have a string as content, others a list of parts.
fn changed(template: &str, flat: bool) -> std::result::Result<bool, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_function(
        "raise_exception",
        |text: String| -> std::result::Result<Input, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, text))
        },
    );
    let template = environment.template_from_str(template)?;
    let message = |role: &str, text: &str| {
        let content = if flat {
            json!(text)
        } else {
            json!([{"type": "text", "text": text}])
        };
        json!({"role": role, "content": content})
    };
    for prompt in PROMPTS {
        for text in TEXTS {
            let mut messages: Vec<Value> = prompt.iter().map(|prompt| message("system", prompt)).collect();
            messages.push(message("user", text));
            let input = json!({"messages": messages, "add_generation_prompt": false, "bos_token": "<bos>"});
            let rendered = template.render(Serde(input))?;
            if rendered != format!("{}{text}", prompt.unwrap_or_default()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::changed;

    #[test]
    fn only_a_template_that_joins_the_contents_changes_nothing() {
        let parts = "{% for m in messages %}{% for part in m.content %}{% if part['type'] == 'text' %}{{ part.text }}\
                     {%- endif %}{% endfor %}{% endfor %}";
        assert!(!changed(parts, false).unwrap());
        assert!(
            changed(
                "{% for m in messages %}{{ m['content'][0]['text'] | trim }}{% endfor %}",
                false
            )
            .unwrap()
        );
        assert!(!changed("{%- for m in messages %}{{ m['content'] }}{% endfor %}", true).unwrap());
        assert!(
            changed(
                "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% endfor %}",
                true
            )
            .unwrap()
        );
        assert!(changed("{{ messages[-1].content }}", true).unwrap());
        assert!(changed("{{ raise_exception('no') }}", true).is_err());
    }
}
