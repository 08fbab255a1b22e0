//! The templates of one view by the text they begin with: only those are tried with which a URI can begin.
//!
//! Always: of those that match, the most specific is found, then the first configured (S-RES-04), as if all were tried.
//! Not here: which templates take part, and what a match means (`uris`).

use super::template::{Pattern, Work};
use crate::names::LocalName;

/// A template that is shown unchanged, and the number of the upstream it is of.
#[derive(Debug)]
pub(super) struct OwnedTemplate {
    pub(super) text: LocalName,
    pub(super) pattern: Pattern,
    pub(super) owner: usize,
}

/// See the module head.
#[derive(Debug, Default)]
pub(super) struct TemplateIndex {
    /// Most specific first, then in order.
    templates: Vec<OwnedTemplate>,
    /// Sorted by their text.
    heads: Vec<Head>,
}

/// What some templates begin with.
#[derive(Debug)]
struct Head {
    text: Box<[u8]>,
    /// The longest other with which this text begins: it is the place of all shorter ones too.
    shorter: Option<usize>,
    /// Places of its templates, in order.
    templates: Vec<usize>,
}

impl TemplateIndex {
    pub(super) fn new(mut templates: Vec<OwnedTemplate>) -> TemplateIndex {
        // Stable, so equally specific ones stay in order.
        templates.sort_by_key(|template| std::cmp::Reverse(template.pattern.specificity()));
        let mut by_head: Vec<usize> = (0..templates.len()).collect();
        by_head.sort_by_key(|at| templates[*at].pattern.head());
        let mut heads: Vec<Head> = Vec::new();
        for at in by_head {
            let text = templates[at].pattern.head();
            match heads.last_mut() {
                Some(last) if *last.text == *text => last.templates.push(at),
                _ => {
                    let mut shorter = heads.len().checked_sub(1);
                    while let Some(before) = shorter.filter(|before| !text.starts_with(&heads[*before].text))
                    {
                        shorter = heads[before].shorter;
                    }
                    heads.push(Head { text: text.into(), shorter, templates: vec![at] });
                }
            }
        }
        TemplateIndex { templates, heads }
    }

    /// The template that leads for `uri`, as far as there is work left.
    pub(super) fn lead(&self, uri: &str, work: &Work) -> Option<&OwnedTemplate> {
        let mut best = self.templates.len();
        // Whatever it begins with is among the texts with which the last one before it begins.
        let mut head = self.heads.partition_point(|head| *head.text <= *uri.as_bytes()).checked_sub(1);
        while let Some(at) = head {
            let Head { text, shorter, templates } = &self.heads[at];
            if uri.as_bytes().starts_with(text) {
                let better = templates.iter().take_while(|at| **at < best);
                let matching = better.copied().find(|at| self.templates[*at].pattern.matches(uri, work));
                best = matching.unwrap_or(best);
            }
            head = *shorter;
        }
        self.templates.get(best)
    }

    /// The template of that text.
    pub(super) fn of_text(&self, text: &str) -> Option<&OwnedTemplate> {
        self.templates.iter().find(|template| template.text.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn s_res_04_the_index_finds_what_trying_all_in_order_finds(
            texts in prop::collection::vec("a?b?/?[ab]{0,2}(\\{[+]?v\\})?[ab/]?(\\{[+]?v\\})?b?", 0..12),
            uri in "[ab/]{0,6}",
        ) {
            let owned = |(owner, text): (usize, &String)| {
                let pattern = Pattern::parse(text).expect("a template");
                OwnedTemplate { text: LocalName::new(text.as_str()), pattern, owner }
            };
            let index = TemplateIndex::new(texts.iter().enumerate().map(owned).collect());
            let work = Work::endless();
            let all = index.templates.iter().find(|template| template.pattern.matches(&uri, &work));
            let found = index.lead(&uri, &work);
            prop_assert_eq!(found.map(|found| found.owner), all.map(|found| found.owner));
        }
    }
}
