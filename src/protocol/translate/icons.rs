//! Icons are untrusted data: relayed, never fetched, and only under schemes that cannot run or reach anything
//! (S-BASE-16).

use bytes::Bytes;

use super::write_array;
use crate::protocol::json::{Limits, Object, elements};

/// What to do with an `icons` member.
#[derive(Debug, PartialEq, Eq)]
pub enum Icons {
    /// All are safe.
    Keep,
    /// This array is what is left.
    Replace(Vec<u8>),
    /// None is left.
    Remove,
}

/// Looks at every icon's `src`.
pub fn safe(icons: &Bytes) -> Icons {
    let Ok(all) = elements(icons, Limits::NONE) else {
        return Icons::Remove;
    };
    let kept: Vec<&Bytes> = all.iter().filter(|icon| has_safe_source(icon)).collect();
    if kept.len() == all.len() {
        return Icons::Keep;
    }
    if kept.is_empty() {
        return Icons::Remove;
    }
    let mut out = Vec::with_capacity(icons.len());
    write_array(kept.into_iter().map(|icon| &icon[..]), &mut out);
    Icons::Replace(out)
}

fn has_safe_source(icon: &Bytes) -> bool {
    let Ok(icon) = Object::parse(icon.clone(), Limits::NONE) else {
        return false;
    };
    let Some(source) = icon.text("src") else {
        return false;
    };
    // A list of what is safe: browsers know more dangerous schemes than the four that the requirement names.
    let scheme = source.split_once(':').map_or("", |(scheme, _)| scheme);
    ["https", "http", "data"].iter().any(|safe| scheme.eq_ignore_ascii_case(safe))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(icons: &str, expected: Icons) {
        assert_eq!(safe(&Bytes::copy_from_slice(icons.as_bytes())), expected, "{icons}");
    }

    #[test]
    fn s_base_16_unsafe_schemes_are_dropped_and_the_rest_stays() {
        check(r#"[{"src":"https://a/b.png"},{"src":"data:image/png;base64,AA=="}]"#, Icons::Keep);
        check("[]", Icons::Keep);
        for bad in [
            "javascript:alert(1)",
            "file:///etc/passwd",
            "ftp://a",
            "ws://a",
            " https://a",
            "JavaScript:1",
            "",
        ] {
            check(&format!(r#"[{{"src":"{bad}"}}]"#), Icons::Remove);
        }
        check(
            r#"[{"src":"ws://a"}, {"src":"HTTPS://a", "sizes":["48x48"]},{}]"#,
            Icons::Replace(br#"[{"src":"HTTPS://a", "sizes":["48x48"]}]"#.to_vec()),
        );
        check("7", Icons::Remove);
    }
}
