//! URI templates as patterns: which URIs could be expansions of one, whether two could expand to the same, and which of
//! them is the more specific.
//!
//! Generous on purpose: servers differ in how strictly they read RFC 6570. A simple variable stands for anything within
//! a path segment, a variable with a reserved or path-like operator for anything at all.

use std::cmp::Reverse;

/// Longer templates route nothing: matching costs template times URI.
const LONGEST_TEMPLATE: usize = 512;
/// Longer URIs match no template.
const LONGEST_URI: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(u8),
    /// Any bytes but `/`.
    Segment,
    /// Any bytes.
    Rest,
}

/// A URI template, ready to be matched.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    /// Never two variables side by side.
    tokens: Vec<Token>,
    specificity: Specificity,
}

/// Greater is more specific: more literal text, then fewer variables, then narrower ones. Of two patterns of which one
/// matches whatever the other does and more, it is the lesser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Specificity {
    literals: usize,
    variables: Reverse<usize>,
    broad: Reverse<usize>,
}

impl Specificity {
    fn of(tokens: &[Token]) -> Specificity {
        let count = |wanted: fn(&Token) -> bool| tokens.iter().filter(|token| wanted(token)).count();
        let literals = count(|token| matches!(token, Token::Literal(_)));
        Specificity {
            literals,
            variables: Reverse(tokens.len() - literals),
            broad: Reverse(count(|token| *token == Token::Rest)),
        }
    }
}

impl Pattern {
    /// Reads a template; `None` when it is too long or its braces do not fit.
    pub(super) fn parse(template: &str) -> Option<Pattern> {
        if template.len() > LONGEST_TEMPLATE {
            return None;
        }
        let mut tokens = Vec::with_capacity(template.len());
        let mut rest = template;
        while let Some((literal, after)) = rest.split_once('{') {
            tokens.extend(literal.bytes().map(Token::Literal));
            let (expression, after) = after.split_once('}')?;
            let wild = match expression.bytes().next()? {
                b'+' | b'#' | b'/' | b';' | b'?' | b'&' => Token::Rest,
                _ => Token::Segment,
            };
            // Neighbouring variables match what the broader of them would: nothing tells where the first ends.
            match tokens.last_mut() {
                None | Some(Token::Literal(_)) => tokens.push(wild),
                Some(last) if wild == Token::Rest => *last = wild,
                Some(_) => {}
            }
            rest = after;
        }
        if rest.contains('}') {
            return None;
        }
        tokens.extend(rest.bytes().map(Token::Literal));
        let specificity = Specificity::of(&tokens);
        Some(Pattern { tokens, specificity })
    }

    /// For the order in which patterns are tried (S-RES-04).
    pub(super) fn specificity(&self) -> Specificity {
        self.specificity
    }

    /// Whether `uri` could be an expansion.
    pub(super) fn matches(&self, uri: &str) -> bool {
        if uri.len() > LONGEST_URI || !self.begins(uri.as_bytes()) {
            return false;
        }
        self.runs_over(uri.bytes().map(Token::Literal))
    }

    /// Whether it matches all that `other` does, and `other` not all that it does.
    pub(super) fn is_broader_than(&self, other: &Pattern) -> bool {
        // The quick refusal, and the strictness: of two that match the same neither is the lesser.
        self.specificity < other.specificity && self.runs_over(other.tokens.iter().copied())
    }

    /// Whether some URI matches both and neither is simply the broader of the two.
    pub(super) fn clashes(&self, other: &Pattern) -> bool {
        self.overlaps(other) && !self.is_broader_than(other) && !other.is_broader_than(self)
    }

    /// Whether it matches a text in which variables stand for whatever they may: each must fall into one of its own that
    /// takes as much.
    fn runs_over(&self, text: impl Iterator<Item = Token>) -> bool {
        // `reached[n]`: the text so far can be matched by the first `n` tokens.
        let mut reached = vec![false; self.tokens.len() + 1];
        let mut next = reached.clone();
        reached[0] = true;
        self.skip_variables(&mut reached);
        for read in text {
            next.fill(false);
            for (at, token) in self.tokens.iter().enumerate().filter(|(at, _)| reached[*at]) {
                match (token, read) {
                    (Token::Literal(literal), Token::Literal(byte)) if *literal == byte => {
                        next[at + 1] = true;
                    }
                    (Token::Segment, Token::Literal(byte)) if byte != b'/' => next[at] = true,
                    (Token::Segment, Token::Segment) | (Token::Rest, _) => next[at] = true,
                    _ => {}
                }
            }
            self.skip_variables(&mut next);
            std::mem::swap(&mut reached, &mut next);
        }
        reached[self.tokens.len()]
    }

    /// A variable may stand for nothing.
    fn skip_variables(&self, reached: &mut [bool]) {
        for (at, token) in self.tokens.iter().enumerate() {
            if reached[at] && !matches!(token, Token::Literal(_)) {
                reached[at + 1] = true;
            }
        }
    }

    /// The quick refusal: text up to the first variable differs.
    fn begins(&self, uri: &[u8]) -> bool {
        let mut uri = uri.iter();
        for token in &self.tokens {
            let Token::Literal(literal) = token else { return true };
            if uri.next() != Some(literal) {
                return false;
            }
        }
        true
    }

    /// Whether some URI matches both.
    fn overlaps(&self, other: &Pattern) -> bool {
        let both = self.tokens.iter().zip(&other.tokens);
        for pair in both {
            match pair {
                (Token::Literal(left), Token::Literal(right)) if left == right => {}
                (Token::Literal(_), Token::Literal(_)) => return false,
                _ => break,
            }
        }
        // `row[j]`: tokens of self from `i` on and of other from `j` on have a text in common.
        let mut below = vec![false; other.tokens.len() + 1];
        for i in (0..=self.tokens.len()).rev() {
            let mut row = vec![false; other.tokens.len() + 1];
            for j in (0..=other.tokens.len()).rev() {
                let (left, right) = (self.tokens.get(i), other.tokens.get(j));
                let after_left = below[j];
                let after_right = j < other.tokens.len() && row[j + 1];
                row[j] = match (left, right) {
                    (None, None) => true,
                    (None, Some(Token::Literal(_))) | (Some(Token::Literal(_)), None) => false,
                    (None, Some(_)) => after_right,
                    (Some(_), None) => after_left,
                    (Some(Token::Literal(left)), Some(Token::Literal(right))) => {
                        left == right && below[j + 1]
                    }
                    (Some(wild), Some(Token::Literal(literal))) => {
                        after_left || (wild.takes(*literal) && after_right)
                    }
                    (Some(Token::Literal(literal)), Some(wild)) => {
                        after_right || (wild.takes(*literal) && after_left)
                    }
                    (Some(_), Some(_)) => after_left || after_right,
                };
            }
            below = row;
        }
        below[0]
    }
}

impl Token {
    fn takes(self, byte: u8) -> bool {
        match self {
            Token::Literal(literal) => literal == byte,
            Token::Segment => byte != b'/',
            Token::Rest => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(template: &str) -> Pattern {
        Pattern::parse(template).expect("a template")
    }

    #[test]
    fn s_res_04_templates_match_what_they_expand_to() {
        for (template, uri, expected) in [
            ("file:///{path}", "file:///a.txt", true),
            ("file:///{path}", "file:///a/b.txt", false),
            ("file:///{+path}", "file:///a/b.txt", true),
            ("db://{table}/rows{?limit,offset}", "db://users/rows?limit=3", true),
            ("db://{table}/rows{?limit,offset}", "db://users/rows", true),
            ("db://{table}/rows", "db://users/row", false),
            ("a:{x}-{y}", "a:1-2-3", true),
            ("a:{x}{y}", "a:12", true),
            ("a:b", "a:b", true),
            ("a:b", "a:bc", false),
        ] {
            assert_eq!(pattern(template).matches(uri), expected, "{template} {uri}");
        }
        assert!(Pattern::parse("a:{b").is_none());
        assert!(Pattern::parse("a:b}").is_none());
        assert!(Pattern::parse("a:{}").is_none());
        assert!(Pattern::parse(&"a".repeat(600)).is_none());
    }

    #[test]
    fn s_res_04_the_more_specific_template_is_greater() {
        assert!(pattern("file:///logs/{name}").specificity() > pattern("file:///{name}").specificity());
        assert!(pattern("a:{x}bc").specificity() > pattern("a:{x}b{y}c").specificity());
        assert!(pattern("a:{x}").specificity() > pattern("a:{+x}").specificity());
        assert_eq!(pattern("a:{x}{+y}").specificity(), pattern("a:{+z}").specificity());
    }

    #[test]
    fn s_res_04_a_template_within_another_is_seen_and_not_the_other_way_round() {
        for (broad, narrow, expected) in [
            ("x://{host}/{+path}", "x://special/{id}", true),
            ("x://{host}/{+path}", "x://special/{id}/parts/{part}", true),
            ("x://{+all}", "x://{a}/{b}", true),
            ("a:{+x}", "a:{x}", true),
            ("{+any}", "a:b", true),
            ("a:{+x}b{+y}", "a:{+z}{q}bb", true),
            // The same, in other words.
            ("a:{x}", "a:{y}", false),
            ("a:{x}{+y}", "a:{+z}", false),
            // Each matches what the other does not.
            ("db://{table}/rows", "db://users/{what}", false),
            ("x://{host}/7", "x://special/{+path}", false),
            ("a:{x}", "a:b{+x}", false),
            ("a:b", "a:c{x}", false),
        ] {
            assert_eq!(pattern(broad).is_broader_than(&pattern(narrow)), expected, "{broad} {narrow}");
            assert!(!pattern(narrow).is_broader_than(&pattern(broad)), "{narrow} {broad}");
        }
    }

    proptest! {
        #[test]
        fn s_res_04_what_becomes_narrower_in_a_template_makes_it_narrower(
            parts in prop::collection::vec((prop::sample::select(vec!["a", "b", "/", "{x}", "{+y}"]), 0_usize..4), 1..5),
            values in prop::collection::vec("[ab/]{0,2}", 10),
        ) {
            let narrowed = |(part, choice): &(&'static str, usize)| match *part {
                "{x}" => ["", "a", "{x}", "a{x}"][*choice],
                "{+y}" => ["/", "{x}", "{+y}", "{x}/b"][*choice],
                literal => literal,
            };
            let broad = pattern(&parts.iter().map(|(part, _)| *part).collect::<String>());
            let narrow = pattern(&parts.iter().map(narrowed).collect::<String>());
            prop_assert!(broad.specificity() <= narrow.specificity());
            prop_assert_eq!(broad.is_broader_than(&narrow), broad.specificity() < narrow.specificity());
            prop_assert!(broad.overlaps(&narrow) && !broad.clashes(&narrow) || broad.tokens == narrow.tokens);
            let mut values = values.into_iter();
            let expanded = narrow.tokens.iter().fold(String::new(), |uri, token| match token {
                Token::Literal(byte) => uri + &char::from(*byte).to_string(),
                Token::Segment => uri + &values.next().expect("enough").replace('/', ""),
                Token::Rest => uri + &values.next().expect("enough"),
            });
            prop_assert!(narrow.matches(&expanded) && broad.matches(&expanded), "{}", expanded);
        }
    }

    #[test]
    fn s_res_05_overlap_is_seen_in_both_directions() {
        for (left, right, expected) in [
            ("file:///{path}", "file:///{name}", true),
            ("file:///{+path}", "file:///logs/{name}", true),
            ("file:///{path}", "file:///logs/{name}", false),
            ("db://{table}/rows", "db://users/{what}", true),
            ("db://{table}/rows", "db://users/{what}/x", false),
            ("a:{x}1", "a:{x}2", false),
            ("a:{x}1", "a:2{x}", true),
            ("a:b", "a:b", true),
            ("a:b", "a:{x}", true),
        ] {
            assert_eq!(pattern(left).overlaps(&pattern(right)), expected, "{left} {right}");
            assert_eq!(pattern(right).overlaps(&pattern(left)), expected, "{right} {left}");
        }
    }
}
