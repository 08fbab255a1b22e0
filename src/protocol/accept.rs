//! Media ranges of `Accept` and the media type of `Content-Type`, as far as the endpoint needs them (S-HTTPS-07).
//!
//! Not here: which form an answer takes, and the statuses 406 and 415.

/// Which of the two forms of an answer a client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepts {
    /// `application/json`.
    pub json: bool,
    /// `text/event-stream`.
    pub events: bool,
}

impl Accepts {
    /// Reads every `Accept` header of a request; without any range, everything is taken.
    pub fn of<'a>(headers: impl Iterator<Item = &'a [u8]>) -> Accepts {
        let mut json = Preference::default();
        let mut events = Preference::default();
        let mut any = false;
        for range in headers.flat_map(|header| split(header, b',')) {
            let mut parts = split(range, b';').map(<[u8]>::trim_ascii);
            let media = parts.next().unwrap_or_default();
            if media.is_empty() {
                continue;
            }
            any = true;
            let wanted = !parts.any(is_zero_quality);
            json.consider(media, b"application", b"json", wanted);
            events.consider(media, b"text", b"event-stream", wanted);
        }
        Accepts { json: !any || json.wanted, events: !any || events.wanted }
    }

    /// Neither form: 406.
    pub fn nothing(self) -> bool {
        !self.json && !self.events
    }
}

/// Whether a body is JSON by its `Content-Type`, of which there must be one. Parameters mean nothing for JSON.
pub fn is_json<'a>(mut content_types: impl Iterator<Item = &'a [u8]>) -> bool {
    let (Some(value), None) = (content_types.next(), content_types.next()) else {
        return false;
    };
    let media = split(value, b';').next().unwrap_or_default();
    media.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// The most specific range that was seen for a type decides.
#[derive(Default)]
struct Preference {
    wanted: bool,
    specificity: u8,
}

impl Preference {
    fn consider(&mut self, media: &[u8], kind: &[u8], subtype: &[u8], wanted: bool) {
        let Some(slash) = memchr::memchr(b'/', media) else { return };
        let (range_kind, range_subtype) = (&media[..slash], &media[slash + 1..]);
        let specificity = match (range_kind, range_subtype) {
            (b"*", b"*") => 1,
            (range, b"*") if range.eq_ignore_ascii_case(kind) => 2,
            (range, sub) if range.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype) => 3,
            _ => return,
        };
        if specificity > self.specificity {
            *self = Preference { wanted, specificity };
        } else if specificity == self.specificity {
            self.wanted |= wanted;
        }
    }
}

/// `q=0`, `q=0.0` …: not acceptable. Anything else is a preference, which the endpoint does not weigh.
fn is_zero_quality(parameter: &[u8]) -> bool {
    match parameter {
        [b'q' | b'Q', b'=', b'0'] => true,
        [b'q' | b'Q', b'=', b'0', b'.', digits @ ..] => digits.iter().all(|digit| *digit == b'0'),
        _ => false,
    }
}

/// Parts between separators that are not inside a quoted string.
fn split(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    value.split(move |byte| {
        let after_backslash = std::mem::take(&mut escaped);
        match *byte {
            b'"' if !after_backslash => quoted = !quoted,
            b'\\' if quoted && !after_backslash => escaped = true,
            byte => return byte == separator && !quoted,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepts(headers: &[&str]) -> (bool, bool) {
        let Accepts { json, events } = Accepts::of(headers.iter().map(|header| header.as_bytes()));
        (json, events)
    }

    #[test]
    fn s_https_07_what_a_client_takes() {
        for (headers, expected) in [
            (&[][..], (true, true)),
            (&[""], (true, true)),
            (&["application/json, text/event-stream"], (true, true)),
            (&["application/json", "text/event-stream"], (true, true)),
            (&["APPLICATION/JSON"], (true, false)),
            (&["text/event-stream"], (false, true)),
            (&["*/*"], (true, true)),
            (&["application/*"], (true, false)),
            (&["text/html, text/*;q=0.5"], (false, true)),
            (&["text/html"], (false, false)),
            (&["application/jsonp, application/x-json"], (false, false)),
            (&["application/json;q=0, */*"], (false, true)),
            (&["*/*;q=0.1, text/event-stream; q=0.000"], (true, false)),
            (&["*/*; q=0"], (false, false)),
            (&["text/*;q=0, text/event-stream"], (false, true)),
            (&["application/json;profile=\"a,b;q=0\", text/event-stream"], (true, true)),
            (&["text/html;x=\"\\\", application/json\""], (false, false)),
            (&["application/json ; charset=utf-8 ; q=0.9"], (true, false)),
            (&["json"], (false, false)),
            (&["*/json"], (false, false)),
        ] {
            assert_eq!(accepts(headers), expected, "{headers:?}");
        }
        assert!(Accepts { json: false, events: false }.nothing());
    }

    #[test]
    fn s_https_07_what_counts_as_json() {
        let json = |types: &[&str]| is_json(types.iter().map(|value| value.as_bytes()));
        for types in
            [["application/json"], ["Application/JSON; charset=utf-8"], [" application/json ;x=\"a;b\""]]
        {
            assert!(json(&types), "{types:?}");
        }
        for types in
            [&[][..], &[""], &["text/plain"], &["application/jsonrequest"], &["application/json, text/plain"]]
        {
            assert!(!json(types), "{types:?}");
        }
        assert!(!json(&["application/json", "application/json"]), "of two, readers could take either");
    }

    proptest! {
        #[test]
        fn noise_never_panics(headers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4)) {
            let _ = Accepts::of(headers.iter().map(Vec::as_slice));
            let _ = is_json(headers.iter().map(Vec::as_slice));
        }
    }
}
