//! Which updates a subscription to a resource covers, and what its client calls what was updated (S-RES-08, S-RES-05).

/// A subscription covers its resource and what lies below it. Both are the server's own URIs.
pub fn covers(subscribed: &str, updated: &str) -> bool {
    match updated.strip_prefix(subscribed) {
        Some("") => true,
        Some(rest) => subscribed.ends_with('/') || rest.starts_with(['/', '?', '#']),
        None => false,
    }
}

/// The name of what was updated for a client that follows `local` as `public`: in the same kind of name, as the endpoint
/// shows it or wrapped.
pub fn shown_as(public: &str, local: &str, updated: &str, as_shown: impl FnOnce(&str) -> String) -> String {
    match public.strip_suffix(local) {
        Some("") | None => as_shown(updated),
        Some(wrapping) => format!("{wrapping}{updated}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_res_08_a_subscription_covers_its_resource_and_its_parts() {
        for (updated, expected) in [
            ("f:///a", true),
            ("f:///a/b", true),
            ("f:///a?x", true),
            ("f:///a#x", true),
            ("f:///ab", false),
            ("f:///", false),
        ] {
            assert_eq!(covers("f:///a", updated), expected, "{updated}");
        }
        assert!(covers("f:///a/", "f:///a/b"));
    }

    #[test]
    fn s_res_05_an_update_is_named_as_its_resource_is_followed() {
        let shown = |uri: &str| format!("shown {uri}");
        assert_eq!(shown_as("f:///a", "f:///a", "f:///a/b", shown), "shown f:///a/b");
        assert_eq!(
            shown_as("switchyard://two/f:///a", "f:///a", "f:///a/b", shown),
            "switchyard://two/f:///a/b"
        );
        assert_eq!(shown_as("other:x", "f:///a", "f:///a", shown), "shown f:///a");
    }
}
