//! A comment in the types: text, and facts in its last paragraph.

use serde_json::Value;

/// What stands in one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Comment {
    pub(super) about: String,
    pub(super) unit: String,
    pub(super) default: String,
    pub(super) readers: String,
}

impl Comment {
    /// Of a schema's description.
    pub(super) fn read(schema: &Value) -> Result<Self, String> {
        let text = schema["description"].as_str().unwrap_or_default();
        Self::parse(text)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let joined = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut paragraphs: Vec<_> = text.split("\n\n").map(joined).collect();
        let mut comment = Self::default();
        let is_facts = |last: &&String| fact(last).is_some();
        if let Some(facts) = paragraphs.last().filter(is_facts).cloned() {
            paragraphs.pop();
            for sentence in facts.trim_end_matches('.').split(". ") {
                let (name, value) =
                    fact(sentence).ok_or_else(|| format!("{sentence:?} is no fact"))?;
                let place = match name {
                    "Unit" => &mut comment.unit,
                    "Default" => &mut comment.default,
                    _ => &mut comment.readers,
                };
                value.clone_into(place);
            }
        }
        comment.about = paragraphs.join("\n\n");
        Ok(comment)
    }
}

fn fact(sentence: &str) -> Option<(&str, &str)> {
    let (name, value) = sentence.split_once(": ")?;
    ["Unit", "Default", "Read by"]
        .contains(&name)
        .then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_stand_in_the_last_paragraph() {
        let comment =
            Comment::parse("One\ntwo: `a. b`.\n\nUnit: MiB. Default: `\"a.b\"`. Read by: x, y.")
                .unwrap();
        assert_eq!(comment.about, "One two: `a. b`.");
        assert_eq!(
            [&*comment.unit, &*comment.default, &*comment.readers],
            ["MiB", "`\"a.b\"`", "x, y"]
        );
    }

    #[test]
    fn a_comment_need_not_have_facts_but_what_stands_among_them_is_one() {
        assert_eq!(
            Comment::parse("Text.\n\nMore.").unwrap().about,
            "Text.\n\nMore."
        );
        let wrong = Comment::parse("Text.\n\nUnit: MiB. Defalt: 5.").unwrap_err();
        assert!(wrong.contains("Defalt"), "{wrong}");
    }
}
