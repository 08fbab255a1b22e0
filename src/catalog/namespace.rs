//! Public names of one server's tools or prompts, and their way back.
//!
//! Always: with a prefix, a public name matches `[A-Za-z0-9_-]{1,max}`; it depends on the server's key, its prefix and
//! its own names alone, so neither a restart, nor the order of the configuration, nor another server changes it
//! (S-TOOL-02, S-TOOL-03). The way back is a table: nothing ever splits a public name. Without a prefix originals stay
//! as they are (S-TOOL-04). Not here: what happens when two servers end up with the same name (`merge`).

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::config::names::NameSettings;
use crate::names::{PublicName, UpstreamName};

/// `_` and six characters of a hash.
const MARK: usize = 7;
/// Thirty bits in six characters, all of them lower case for readers who compare by eye.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// One server's corner of the name space.
#[derive(Debug, Clone)]
pub struct Namespace {
    upstream: UpstreamName,
    prefix: String,
    max_length: usize,
}

impl Namespace {
    /// The namespace of `upstream`, whose public names begin with `prefix` unless that is empty.
    pub fn new(upstream: UpstreamName, prefix: &str, names: &NameSettings) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { mapped(prefix) + &names.separator };
        Namespace { upstream, prefix, max_length: names.max_length.clamp(MARK + 1, 64) }
    }

    /// How much of every name is prefix: where two servers claim one name, the longer prefix owns it.
    pub fn prefix_length(&self) -> usize {
        self.prefix.len()
    }

    /// What every name begins with; may be empty.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Public names for `originals` (all different), in their order.
    pub fn assign(&self, originals: &[&str]) -> Vec<PublicName> {
        if self.prefix.is_empty() {
            return originals.iter().map(|original| PublicName::new(*original)).collect();
        }
        let wanted: Vec<String> =
            originals.iter().map(|original| format!("{}{}", self.prefix, mapped(original))).collect();
        let mut taken = self.names_that_stand(originals, &wanted);
        let mut hashed: HashMap<&str, PublicName> = HashMap::new();
        // In order of the originals, not of the list, so that the server's own order decides nothing either.
        let mut moved: Vec<usize> =
            (0..wanted.len()).filter(|at| !self.stands(originals[*at], &wanted[*at], &taken)).collect();
        moved.sort_unstable_by_key(|at| originals[*at]);
        for at in moved {
            let name = self.hashed(originals[at], &wanted[at], &taken);
            taken.insert(name.clone(), Claim::Hashed);
            hashed.insert(originals[at], PublicName::new(name));
        }
        let names = originals.iter().zip(wanted);
        names
            .map(|(original, wanted)| hashed.remove(original).unwrap_or_else(|| PublicName::new(wanted)))
            .collect()
    }

    /// Which wanted names are claimed: an original that is written exactly so wins over those that were mapped to it;
    /// two that were mapped to the same name both move.
    fn names_that_stand(&self, originals: &[&str], wanted: &[String]) -> HashMap<String, Claim> {
        let mut claims: HashMap<String, Claim> = HashMap::with_capacity(wanted.len());
        for (original, wanted) in originals.iter().zip(wanted) {
            if wanted.len() > self.max_length {
                continue;
            }
            let claim = if self.is_exact(original, wanted) { Claim::Exact } else { Claim::Mapped };
            claims
                .entry(wanted.clone())
                .and_modify(|known| {
                    *known = match (*known, claim) {
                        (Claim::Exact, _) | (_, Claim::Exact) => Claim::Exact,
                        _ => Claim::Contested,
                    };
                })
                .or_insert(claim);
        }
        claims
    }

    fn stands(&self, original: &str, wanted: &str, claims: &HashMap<String, Claim>) -> bool {
        match claims.get(wanted) {
            Some(Claim::Exact) => self.is_exact(original, wanted),
            Some(Claim::Mapped) => true,
            _ => false,
        }
    }

    fn is_exact(&self, original: &str, wanted: &str) -> bool {
        wanted.strip_prefix(self.prefix.as_str()) == Some(original)
    }

    /// `prefix__head_hash6`.
    fn hashed(&self, original: &str, wanted: &str, taken: &HashMap<String, Claim>) -> String {
        // Mapped names are ASCII, so any byte is a place to cut.
        let head = &wanted[..wanted.len().min(self.max_length - MARK)];
        let mut attempt = 0_u32;
        loop {
            let name = format!("{head}_{}", self.hash6(original, attempt));
            if !taken.contains_key(&name) {
                return name;
            }
            attempt += 1;
        }
    }

    fn hash6(&self, original: &str, attempt: u32) -> String {
        let mut hash = Sha256::new();
        for part in [self.upstream.as_str(), original] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(attempt.to_be_bytes());
        hash.finalize()[..6].iter().map(|byte| ALPHABET[usize::from(byte % 32)] as char).collect()
    }
}

/// Who wants a public name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// An original that fits as it is.
    Exact,
    /// One original whose characters were mapped.
    Mapped,
    /// Several mapped ones: none gets it.
    Contested,
    /// A name that carries a hash.
    Hashed,
}

/// Characters outside `[A-Za-z0-9_-]` become `_`.
fn mapped(text: &str) -> String {
    let valid = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
    text.chars().map(|character| if valid(character) { character } else { '_' }).collect()
}

/// Whether two prefixes could ever make one name of two, so that configuration can refuse them: `a` and `a__b` can.
pub fn prefixes_may_clash(left: &str, right: &str, separator: &str) -> bool {
    let (left, right) = (mapped(left) + separator, mapped(right) + separator);
    left.starts_with(&right) || right.starts_with(&left)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn settings() -> NameSettings {
        NameSettings { separator: "__".into(), max_length: 64 }
    }

    fn namespace(key: &str, prefix: &str) -> Namespace {
        Namespace::new(UpstreamName::new(key), prefix, &settings())
    }

    fn names(key: &str, prefix: &str, originals: &[&str]) -> Vec<String> {
        let names = namespace(key, prefix).assign(originals);
        names.iter().map(|name| name.as_str().to_owned()).collect()
    }

    fn is_valid(name: &str) -> bool {
        (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    }

    #[test]
    fn s_tool_03_names_carry_the_prefix_and_fit_where_they_can() {
        assert_eq!(names("github", "gh", &["create_issue", "a__b"]), ["gh__create_issue", "gh__a__b"]);
        assert_eq!(names("github", "gh", &["issues.create", "größe"]), ["gh__issues_create", "gh__gr__e"]);
    }

    #[test]
    fn s_tool_03_what_does_not_fit_gets_a_hash_of_server_and_original() {
        let long = "x".repeat(100);
        let [name] = &names("github", "gh", &[&long])[..] else { panic!("one name") };
        assert_eq!(name.len(), 64);
        assert!(name.starts_with("gh__xxxx"));
        // Written out, because clients keep such names in allow lists: another hash would be another name.
        assert_eq!(&name[57..], "_wk7thi");
        assert_ne!(*name, names("gitlab", "gh", &[&long])[0]);
        assert_eq!(names("github", "gh", &["only", &long])[1], *name);
    }

    #[test]
    fn s_tool_03_an_exact_name_keeps_its_place_and_mapped_ones_move() {
        let both = names("s", "p", &["a.b", "a_b"]);
        assert_eq!(both[1], "p__a_b");
        assert!(both[0].starts_with("p__a_b_") && both[0].len() == "p__a_b_".len() + 6);
        let contested = names("s", "p", &["a.b", "a:b"]);
        assert!(contested.iter().all(|name| name.starts_with("p__a_b_")));
        assert_eq!(contested[0], both[0]);
    }

    #[test]
    fn s_tool_03_a_server_that_guesses_a_hash_moves_only_its_own() {
        let guessed = names("s", "p", &["a.b", "a_b"])[0]["p__".len()..].to_owned();
        let originals = ["a.b", "a_b", guessed.as_str()];
        let all = names("s", "p", &originals);
        assert_eq!(all[2], format!("p__{guessed}"));
        assert!(duplicates(all.iter().map(String::as_str)).is_empty());
    }

    #[test]
    fn s_tool_04_without_prefix_names_stay_as_they_are() {
        let odd = ["a.b/c", "größe", "x".repeat(200).leak()];
        assert_eq!(names("s", "", &odd), odd);
    }

    #[test]
    fn prefixes_that_swallow_each_other_are_seen() {
        assert!(prefixes_may_clash("a", "a__b", "__"));
        assert!(prefixes_may_clash("a_", "a", "__"));
        assert!(prefixes_may_clash("a.b", "a_b", "__"));
        assert!(!prefixes_may_clash("a", "ab", "__"));
    }

    fn duplicates<'n>(names: impl Iterator<Item = &'n str>) -> HashSet<&'n str> {
        let mut seen = HashSet::new();
        names.filter(|name| !seen.insert(*name)).collect()
    }

    fn originals() -> impl Strategy<Value = Vec<String>> {
        let name = prop_oneof![
            "[ab._]{1,4}",
            "[a-zA-Z0-9_.-]{40,200}",
            "\\PC{1,200}",
            "[a]{50,90}",
            "a\\.{50,60}b?"
        ];
        prop::collection::btree_set(name, 1..40)
            .prop_map(|set| set.into_iter().collect::<Vec<_>>())
            .prop_shuffle()
    }

    proptest! {
        #[test]
        fn s_tool_02_names_are_valid_unique_and_free_of_order(
            originals in originals(), key in "[A-Za-z0-9_-]{1,32}", prefix in "[A-Za-z0-9_-]{1,32}", seed in any::<prop::sample::Index>(),
        ) {
            let forward: Vec<&str> = originals.iter().map(String::as_str).collect();
            let first = names(&key, &prefix, &forward);
            prop_assert!(first.iter().all(|name| is_valid(name)), "{:?}", first);
            prop_assert!(duplicates(first.iter().map(String::as_str)).is_empty());
            prop_assert_eq!(&first, &names(&key, &prefix, &forward));
            let mut turned = forward.clone();
            turned.rotate_left(seed.index(forward.len()));
            turned.reverse();
            let again: HashMap<_, _> = turned.iter().copied().zip(names(&key, &prefix, &turned)).collect();
            for (original, name) in forward.iter().zip(&first) {
                prop_assert_eq!(&again[original], name);
            }
        }

        #[test]
        fn s_tool_02_short_limits_hold_too(originals in originals(), max in 16_usize..=64) {
            let settings = NameSettings { separator: "__".into(), max_length: max };
            let forward: Vec<&str> = originals.iter().map(String::as_str).collect();
            let names = Namespace::new(UpstreamName::new("key"), &"p".repeat(32), &settings).assign(&forward);
            prop_assert!(names.iter().all(|name| is_valid(name.as_str()) && name.as_str().len() <= max));
            prop_assert!(duplicates(names.iter().map(PublicName::as_str)).is_empty());
        }
    }
}
