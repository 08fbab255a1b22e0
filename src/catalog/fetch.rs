//! Reading one list of an upstream page by page, however it pages.
//!
//! Always: cursors are opaque raw values that go back exactly as they came, `""` included; a circle or an endless list
//! ends at a limit and says so (S-PAGE-04). Not here: the request itself, its deadline, when to fetch.

use std::collections::HashSet;
use std::future::Future;

use bytes::Bytes;
use tokio::time::Instant;

use super::freshness::{Term, TermLimits};
use super::listing::{ListKind, Listing, ListingBuilder, Partial, ToolCheck};
use crate::protocol::caching::Hints;
use crate::protocol::json::{Limits, Object, elements};

/// How much is taken from one list.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// `bounds.list_pages`.
    pub pages: usize,
    /// `bounds.list_items`.
    pub items: usize,
    /// How much is made of what the upstream says of time; `None` for one of the era that has no words for it.
    pub terms: Option<TermLimits>,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum FetchError<E> {
    /// A page could not be had.
    #[error(transparent)]
    Page(E),
    /// A page without its list.
    #[error("the answer to {0} has no list")]
    NoList(&'static str),
}

/// Reads the whole list. `page` asks the upstream for the page at a raw cursor, `None` for the first.
pub async fn fetch<E, P, F>(
    kind: ListKind,
    limits: FetchLimits,
    check: &ToolCheck<'_>,
    mut page: P,
) -> Result<Listing, FetchError<E>>
where
    P: FnMut(ListKind, Option<Bytes>) -> F,
    F: Future<Output = Result<Object, E>>,
{
    let mut builder = ListingBuilder::new(kind, check);
    let mut seen = HashSet::new();
    let mut cursor = None;
    for _ in 0..limits.pages {
        let answer = page(kind, cursor).await.map_err(FetchError::Page)?;
        if let Some(terms) = limits.terms {
            builder.page_is_good(Term::of_page(Hints::of(&answer), Instant::now(), terms));
        }
        let list = answer.share(kind.member()).ok_or(FetchError::NoList(kind.method()))?;
        let items = elements(&list, Limits::NONE).map_err(|_| FetchError::NoList(kind.method()))?;
        for item in items {
            if builder.count() == limits.items {
                return Ok(builder.finish(Some(Partial::Items)));
            }
            builder.push(Object::parse(item, Limits::NONE).ok());
        }
        let next = answer.share("nextCursor").filter(|raw| &raw[..] != b"null");
        let Some(next) = next else {
            return Ok(builder.finish(None));
        };
        if !seen.insert(next.clone()) {
            return Ok(builder.finish(Some(Partial::Loop)));
        }
        cursor = Some(next);
    }
    Ok(builder.finish(Some(Partial::Pages)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FetchLimits = FetchLimits { pages: 5, items: 8, terms: None };

    /// Fetches from a script of `(cursor asked, page)`; returns names and what was missing.
    async fn fetched(
        mut script: impl FnMut(Option<String>) -> String,
    ) -> Result<(Vec<String>, Option<Partial>), FetchError<&'static str>> {
        let listing = fetch(ListKind::Prompts, LIMITS, &|_| Ok(()), |_, cursor| {
            let cursor = cursor.map(|raw| String::from_utf8(raw.to_vec()).expect("UTF-8"));
            let text = script(cursor);
            async move { Object::parse(text.into(), Limits::default()).map_err(|_| "down") }
        })
        .await?;
        let names = listing.items.iter().map(|item| item.local.as_str().to_owned()).collect();
        Ok((names, listing.partial))
    }

    fn page(names: &[&str], next: &str) -> String {
        let items: Vec<_> = names.iter().map(|name| format!(r#"{{"name":"{name}"}}"#)).collect();
        format!(r#"{{"prompts":[{}]{next}}}"#, items.join(","))
    }

    #[tokio::test]
    async fn s_page_04_any_cursor_but_null_counts_and_goes_back_as_it_came() {
        let (names, partial) = fetched(|cursor| match cursor.as_deref() {
            None => page(&["a"], r#","nextCursor":"""#),
            Some(r#""""#) => page(&[], r#","nextCursor":"é\u00e9""#),
            Some(r#""é\u00e9""#) => page(&["b"], r#","nextCursor":null"#),
            other => panic!("unknown cursor {other:?}"),
        })
        .await
        .expect("a list");
        assert_eq!((names, partial), (vec!["a".to_owned(), "b".to_owned()], None));
    }

    #[tokio::test]
    async fn s_page_04_circles_and_endless_lists_are_cut_and_say_so() {
        let circle = fetched(|_| page(&[], r#","nextCursor":"x""#)).await.expect("a list");
        assert_eq!(circle, (vec![], Some(Partial::Loop)));
        let mut at = 0;
        let (names, partial) = fetched(|_| {
            at += 1;
            page(&[&format!("p{at}")], &format!(r#","nextCursor":"{at}""#))
        })
        .await
        .expect("a list");
        assert_eq!((names.len(), partial), (5, Some(Partial::Pages)));
        let many: Vec<_> = (0..9).map(|at| format!("p{at}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let (names, partial) = fetched(|_| page(&many, "")).await.expect("a list");
        assert_eq!((names.len(), partial), (8, Some(Partial::Items)));
        let (names, partial) = fetched(|_| page(&many[..8], "")).await.expect("a list");
        assert_eq!((names.len(), partial), (8, None));
    }

    #[tokio::test]
    async fn a_page_that_fails_or_holds_no_list_is_an_error() {
        assert!(matches!(fetched(|_| "?".into()).await, Err(FetchError::Page("down"))));
        assert!(matches!(fetched(|_| "{}".into()).await, Err(FetchError::NoList("prompts/list"))));
        assert!(matches!(fetched(|_| r#"{"prompts":{}}"#.into()).await, Err(FetchError::NoList(_))));
    }
}
