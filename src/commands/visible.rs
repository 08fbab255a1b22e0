//! What servers wrote, made harmless for terminals: a control character in a name or a result must move no cursor, name
//! no window and answer nothing in the reader's stead.

/// Stands for a character that is not shown.
const HIDDEN: char = '\u{fffd}';

/// One line: nothing in it acts on a terminal or changes the direction of what follows.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if acts(c) { HIDDEN } else { c }).collect()
}

/// As [`one_line`], but ends of lines and tabs stay.
pub(super) fn lines(text: &str) -> String {
    text.chars().map(|c| if acts(c) && c != '\n' && c != '\t' { HIDDEN } else { c }).collect()
}

/// JSON text with every such character escaped; its values are what they were.
pub(super) fn json(text: &str) -> String {
    // What the serializer leaves as it is can only stand in strings, but for the ends of its own lines.
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) && c != '\n' {
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Control characters, and those that turn the direction of text.
fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOREIGN: &str = "a\u{1b}]0;b\u{7}\tc\u{9b}2J\r\nd\u{202e}é";

    #[test]
    fn nothing_that_acts_on_a_terminal_is_left() {
        assert_eq!(one_line(FOREIGN), "a�]0;b��c�2J��d�é");
        assert_eq!(lines(FOREIGN), "a�]0;b�\tc�2J�\nd�é");
    }

    #[test]
    fn json_means_what_it_meant() {
        let value = serde_json::json!({ FOREIGN: [FOREIGN] });
        let text = json(&format!("{value:#}"));
        assert!(text.chars().all(|c| c == '\n' || !acts(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), value);
    }
}
