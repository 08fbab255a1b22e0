//! URI templates as patterns: which URIs could be expansions of one, whether two could expand to the same, and which of
//! them is the more specific.
//!
//! Generous on purpose: servers differ in how strictly they read RFC 6570. A simple variable stands for anything within
//! a path segment, a variable with a reserved or path-like operator for anything at all.

use std::cell::Cell;
use std::cmp::Reverse;

use memchr::{memchr, memmem};

/// Longer templates route nothing.
const LONGEST_TEMPLATE: usize = 512;
/// Longer URIs match no template.
const LONGEST_URI: usize = 4096;
/// What matching one template against one URI may cost; one that needs more does not match. Only templates that are made
/// for it come near: others cost a unit or two for each of their variables.
const MATCH_WORK: usize = 2048;
/// Bytes that a search looks at for one unit of work.
const BYTES_PER_UNIT: usize = 64;

/// How much matching may still be done on one occasion, so that no server's templates and URIs take the time of others
/// (S-TRUST-03).
#[derive(Debug)]
pub(super) struct Work(Cell<usize>);

impl Work {
    /// Of `units`: steps, and looks at 64 bytes.
    pub(super) const fn new(units: usize) -> Work {
        Work(Cell::new(units))
    }

    /// Where nobody but who asks for it waits.
    pub(super) const fn endless() -> Work {
        Work::new(usize::MAX)
    }

    /// Says whether that much was left.
    pub(super) fn take(&self, units: usize) -> bool {
        let left = self.0.get().checked_sub(units);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }

    /// How much is left; with nothing left, something may have been left undone.
    pub(super) fn left(&self) -> usize {
        self.0.get()
    }
}

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
    /// The literal text before the first variable.
    head: Box<[u8]>,
    /// Each variable with the literal text behind it.
    parts: Box<[Part]>,
    specificity: Specificity,
}

/// A variable, and the literal text that ends it: only the last may have none.
#[derive(Debug, Clone)]
struct Part {
    variable: Token,
    end: Box<[u8]>,
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
        Some(Pattern::of(tokens))
    }

    fn of(tokens: Vec<Token>) -> Pattern {
        let (mut head, mut parts) = (Vec::new(), Vec::<(Token, Vec<u8>)>::new());
        for token in &tokens {
            match token {
                Token::Literal(byte) => parts.last_mut().map_or(&mut head, |(_, end)| end).push(*byte),
                variable => parts.push((*variable, Vec::new())),
            }
        }
        let parts = parts.into_iter().map(|(variable, end)| Part { variable, end: end.into() }).collect();
        let specificity = Specificity::of(&tokens);
        Pattern { tokens, head: head.into(), parts, specificity }
    }

    /// The text with which everything begins that it matches.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// For the order in which patterns are tried (S-RES-04).
    pub(super) fn specificity(&self) -> Specificity {
        self.specificity
    }

    /// Whether `uri` could be an expansion, as far as there is work left.
    ///
    /// Each variable takes as little as it can: whatever lets the rest match at all then does so earliest. Where it does
    /// not, no other length of a variable within the same path segments would help, as slashes only meet slashes; so the
    /// last variable that takes any bytes begins anew behind the next slash.
    pub(super) fn matches(&self, uri: &str, work: &Work) -> bool {
        if uri.len() > LONGEST_URI {
            return false;
        }
        let Some(text) = uri.as_bytes().strip_prefix(&*self.head) else { return false };
        let Some((last, between)) = self.parts.split_last() else { return text.is_empty() };
        let Some(text) = text.strip_suffix(&*last.end) else { return false };
        let own = Work::new(MATCH_WORK);
        let (mut at, mut next) = (0, 0);
        // The part that may begin anew, and where its end was found.
        let mut again: Option<(usize, usize)> = None;
        loop {
            let rest = &text[at..];
            let reach = match self.parts[next].variable {
                Token::Segment => memchr(b'/', rest).unwrap_or(rest.len()),
                _ => rest.len(),
            };
            let part = between.get(next);
            let found = match part {
                None => (reach == rest.len()).then_some(0),
                // The text behind the variable may begin at the slash that ends it.
                Some(part) => memmem::find(&rest[..rest.len().min(reach + part.end.len())], &part.end),
            };
            let looked = found.unwrap_or(reach);
            if !own.take(1 + looked / BYTES_PER_UNIT) || !work.take(1 + looked / BYTES_PER_UNIT) {
                return false;
            }
            match (found, part) {
                (Some(_), None) => return true,
                (Some(offset), Some(part)) => {
                    at += offset;
                    if part.variable == Token::Rest {
                        again = Some((next, at));
                    }
                    at += part.end.len();
                    next += 1;
                }
                (None, Some(part)) if part.variable == Token::Rest => return false,
                (None, _) => {
                    let Some((part, from)) = again else { return false };
                    let Some(slash) = memchr(b'/', &text[from..]) else { return false };
                    (next, at) = (part, from + slash + 1);
                }
            }
        }
    }

    /// Whether it matches all that `other` does, and `other` not all that it does.
    pub(super) fn is_broader_than(&self, other: &Pattern) -> bool {
        // The quick refusal, and the strictness: of two that match the same neither is the lesser.
        self.specificity < other.specificity && self.runs_over(other.tokens.iter().copied())
    }

    /// Whether some URI matches both and neither is simply the broader of the two. What cannot be found out with the work
    /// that is left counts as a clash.
    pub(super) fn clashes(&self, other: &Pattern, work: &Work) -> bool {
        if !self.heads_meet(other) {
            return false;
        }
        let cells = self.tokens.len() * other.tokens.len();
        !work.take(1 + cells / BYTES_PER_UNIT)
            || (self.overlaps(other) && !self.is_broader_than(other) && !other.is_broader_than(self))
    }

    /// The quick refusal: the texts before the first variables differ.
    fn heads_meet(&self, other: &Pattern) -> bool {
        let shorter = self.head.len().min(other.head.len());
        self.head[..shorter] == other.head[..shorter]
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
            if !reached.contains(&true) {
                return false;
            }
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

    /// Whether some URI matches both.
    fn overlaps(&self, other: &Pattern) -> bool {
        if !self.heads_meet(other) {
            return false;
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
            assert_eq!(pattern(template).matches(uri, &Work::endless()), expected, "{template} {uri}");
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
            prop_assert!(broad.overlaps(&narrow) && !broad.clashes(&narrow, &Work::endless()) || broad.tokens == narrow.tokens);
            let mut values = values.into_iter();
            let expanded = narrow.tokens.iter().fold(String::new(), |uri, token| match token {
                Token::Literal(byte) => uri + &char::from(*byte).to_string(),
                Token::Segment => uri + &values.next().expect("enough").replace('/', ""),
                Token::Rest => uri + &values.next().expect("enough"),
            });
            let work = Work::endless();
            prop_assert!(narrow.matches(&expanded, &work) && broad.matches(&expanded, &work), "{}", expanded);
        }

        #[test]
        fn s_res_04_the_quick_match_finds_what_trying_everything_finds(
            tokens in prop::collection::vec(prop::sample::select(vec!["a", "b", "/", "ab", "a/", "{x}", "{+y}"]), 0..12),
            uri in "[ab/]{0,24}",
        ) {
            let pattern = pattern(&tokens.concat());
            let expected = pattern.runs_over(uri.bytes().map(Token::Literal));
            prop_assert_eq!(pattern.matches(&uri, &Work::endless()), expected);
        }

        #[test]
        fn s_res_04_the_quick_match_finds_every_expansion(
            tokens in prop::collection::vec(prop::sample::select(vec!["a", "b", "/", "ab", "a/", "{x}", "{+y}"]), 0..12),
            values in prop::collection::vec("[ab/]{0,6}", 12),
        ) {
            let pattern = pattern(&tokens.concat());
            let mut values = values.into_iter();
            let uri = pattern.tokens.iter().fold(String::new(), |uri, token| match token {
                Token::Literal(byte) => uri + &char::from(*byte).to_string(),
                Token::Segment => uri + &values.next().expect("enough").replace('/', ""),
                Token::Rest => uri + &values.next().expect("enough"),
            });
            prop_assert!(pattern.matches(&uri, &Work::endless()), "{}", uri);
        }
    }

    #[test]
    fn s_trust_03_a_template_made_to_take_long_matches_nothing_instead() {
        let slow = pattern(&format!("a:{{+r}}{}b{{+s}}", "/{x}".repeat(100)));
        let uri = format!("a:{}", "/a".repeat(2000));
        let work = Work::new(1_000_000);
        assert!(!slow.matches(&uri, &work));
        assert!(work.take(1_000_000 - 2 * MATCH_WORK), "it cost more than it may");
        assert!(!slow.matches(&uri, &Work::new(10)), "nor more than there is");
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
