//! Blocks in a page of Markdown, each with a class after its fence that says what it is and which test runs it:
//!
//! ```text
//! sh            commands on the gateway, as root          console    commands after `$ `, with what they print
//! sh operator   on one's own machine, in Portgate's folder  toml       a configuration
//! sh client     on a client                               yaml, json  a document
//!                                                         text, ini  nothing that is run
//! ```
//!
//! After these may stand: `beside` (it goes on while the next block runs), `last` (it is run after all other pages),
//! `elsewhere=VERB` (run by that verb of ci/run.sh, or of make), `unrun=REASON` (no test runs it, and why).

/// What is in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Commands.
    Sh,
    /// Commands and what they print.
    Console,
    /// A configuration.
    Toml,
    /// A document in YAML.
    Yaml,
    /// A document in JSON.
    Json,
    /// Something to look at.
    Text,
}

/// Where a block of commands is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On the gateway, as root.
    Gateway,
    /// On the operator's own machine, in Portgate's folder.
    Operator,
    /// On a client.
    Client,
}

/// When, and by whom, a block of commands is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    /// In its turn.
    InTurn,
    /// While the next one runs.
    Beside,
    /// After everything else.
    Last,
    /// By this verb.
    Elsewhere(String),
    /// By nobody, for this reason.
    Never(String),
}

/// One block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Line of the page on which it begins, from 1.
    pub line: usize,
    /// What is in it.
    pub language: Language,
    /// Where commands are typed.
    pub place: Place,
    /// When they are run.
    pub run: Run,
    /// What stands in it.
    pub text: String,
}

impl Block {
    /// Whether there are commands in it.
    pub fn has_commands(&self) -> bool {
        matches!(self.language, Language::Sh | Language::Console)
    }

    /// What is typed: each command with the lines that are shown of what it prints, if any are.
    pub fn commands(&self) -> Vec<(String, Option<String>)> {
        if self.language != Language::Console {
            return vec![(self.text.clone(), None)];
        }
        let mut commands: Vec<(String, Option<String>)> = Vec::new();
        let mut goes_on = false;
        for line in self.text.lines() {
            let command = line.strip_prefix("$ ");
            match (command, commands.last_mut()) {
                (Some(command), _) => commands.push((format!("{command}\n"), Some(String::new()))),
                (None, Some((typed, _))) if goes_on => typed.push_str(&format!("{line}\n")),
                (None, Some((_, Some(shown)))) => shown.push_str(&format!("{line}\n")),
                _ => {}
            }
            goes_on = (command.is_some() || goes_on) && line.ends_with('\\');
        }
        commands
    }
}

/// The blocks of a page, in order.
///
/// # Errors
/// A block without a class, or with one that does not exist, with its line.
pub fn blocks(page: &str) -> Result<Vec<Block>, String> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    let mut before = "";
    let mut last_text = "";
    for (at, line) in page.lines().enumerate() {
        let line_number = at + 1;
        match (is_open, line.trim_start().strip_prefix("```")) {
            (false, Some(class)) => {
                blocks.push(begun(class, line_number)?);
                is_open = true;
            }
            (true, Some(_)) => is_open = false,
            (true, None) => {
                if let Some(block) = blocks.last_mut() {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
            }
            (false, None) => {
                let in_list = last_text.starts_with([' ', '*', '-'])
                    || last_text.starts_with(char::is_numeric);
                if line.starts_with("    ") && before.is_empty() && !in_list {
                    return Err(format!(
                        "line {line_number}: a block needs a fence and a class"
                    ));
                }
                if !line.is_empty() {
                    last_text = line;
                }
            }
        }
        before = line;
    }
    match blocks.last() {
        Some(open) if is_open => Err(format!("line {}: the block does not end", open.line)),
        _ => Ok(blocks),
    }
}

fn begun(class: &str, line: usize) -> Result<Block, String> {
    let mut words = class.split_whitespace();
    let language = match words.next() {
        Some("sh") => Language::Sh,
        Some("console") => Language::Console,
        Some("toml") => Language::Toml,
        Some("yaml") => Language::Yaml,
        Some("json") => Language::Json,
        Some("text" | "ini") => Language::Text,
        other => {
            return Err(format!(
                "line {line}: {:?} is no class of a block",
                other.unwrap_or_default()
            ));
        }
    };
    let mut block = Block {
        line,
        language,
        place: Place::Gateway,
        run: Run::InTurn,
        text: String::new(),
    };
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("operator", "") => block.place = Place::Operator,
            ("client", "") => block.place = Place::Client,
            ("beside", "") => block.run = Run::Beside,
            ("last", "") => block.run = Run::Last,
            ("elsewhere", verb) if !verb.is_empty() => block.run = Run::Elsewhere(verb.to_owned()),
            ("unrun", reason) if !reason.is_empty() => block.run = Run::Never(reason.to_owned()),
            _ => return Err(format!("line {line}: {word:?} is no class of a block")),
        }
        if !block.has_commands() {
            return Err(format!("line {line}: only commands can be {word:?}"));
        }
    }
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_other_blocks_and_from_each_other() {
        let page = "Text.\n```sh\na\nb\n```\n```text\nno\n```\n```sh operator elsewhere=demo\nc\n```\nEnd `x`.\n\
                    ```sh client beside\nd\n```\n";
        let shown: Vec<_> = blocks(page)
            .unwrap()
            .into_iter()
            .filter(Block::has_commands)
            .map(|block| (block.line, block.place, block.run, block.text))
            .collect();
        let expected = [
            (2, Place::Gateway, Run::InTurn, "a\nb\n".to_owned()),
            (
                9,
                Place::Operator,
                Run::Elsewhere("demo".to_owned()),
                "c\n".to_owned(),
            ),
            (13, Place::Client, Run::Beside, "d\n".to_owned()),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_console_has_commands_and_what_they_print() {
        let page = "```console\n$ a \\\n  b\n$ c\nd\n\ne\n```\n";
        let shown = |text: &str| Some(text.to_owned());
        assert_eq!(
            blocks(page).unwrap()[0].commands(),
            [
                ("a \\\n  b\n".to_owned(), shown("")),
                ("c\n".to_owned(), shown("d\n\ne\n"))
            ]
        );
    }

    #[test]
    fn a_block_without_a_class_is_an_error() {
        for (page, words) in [
            ("```\na\n```\n", "line 1"),
            ("x\n```bash\na\n```\n", "\"bash\""),
            ("```sh root\na\n```\n", "\"root\""),
            ("```toml operator\na\n```\n", "only commands"),
            ("```sh elsewhere=\na\n```\n", "elsewhere"),
            ("```sh\na\n", "does not end"),
            ("Type\n\n    rm x\n", "line 3"),
        ] {
            let why = blocks(page).unwrap_err();
            assert!(why.contains(words), "{page}: {why}");
        }
        assert_eq!(blocks("* item\n\n    goes on\n"), Ok(Vec::new()));
    }
}
