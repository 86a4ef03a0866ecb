//! The commands of a page of documentation, so that a test can follow it to the letter.

/// Where a block of commands is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On the operator's own machine: a block that begins with "```sh operator".
    Operator,
    /// On the gateway, as root: "```sh".
    Gateway,
    /// On a client: "```sh client".
    Client,
}

/// One block of commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Where it is typed.
    pub place: Place,
    /// What is typed.
    pub script: String,
}

/// The blocks of a page in Markdown, in order. Blocks of any other kind (`text`, `toml`) are left out.
pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<Option<Place>> = None;
    for line in page.lines() {
        match (&open, line.strip_prefix("```")) {
            (None, Some(kind)) => {
                let place = match kind.trim() {
                    "sh" => Some(Place::Gateway),
                    "sh operator" => Some(Place::Operator),
                    "sh client" => Some(Place::Client),
                    _ => None,
                };
                open = Some(place);
                blocks.extend(place.map(|place| Block {
                    place,
                    script: String::new(),
                }));
            }
            (Some(_), Some(_)) => open = None,
            (Some(Some(_)), None) => {
                if let Some(block) = blocks.last_mut() {
                    block.script.push_str(line);
                    block.script.push('\n');
                }
            }
            _ => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_other_blocks_and_from_each_other() {
        let page = "Text.\n```sh\na\nb\n```\n```text\nno\n```\n```sh operator\nc\n```\nEnd `x`.\n\
                    ```sh client\nd\n```\n";
        let block = |place, script: &str| Block {
            place,
            script: script.to_owned(),
        };
        let expected = [
            block(Place::Gateway, "a\nb\n"),
            block(Place::Operator, "c\n"),
            block(Place::Client, "d\n"),
        ];
        assert_eq!(blocks(page), expected);
    }
}
