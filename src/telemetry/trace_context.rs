//! W3C trace context and baggage as text: `traceparent`, `tracestate`, `baggage` (S-EXT-01).
//!
//! Pure. Always: a value of these types is well-formed and safe to send on; malformed parts are dropped one by one, and
//! a `tracestate` without a valid `traceparent` with them.

use std::fmt;

/// What one peer tells the next about the trace that a message belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TraceContext {
    /// Trace and parent span.
    pub parent: Option<TraceParent>,
    /// Vendors' own positions in the trace; only beside a parent.
    pub state: Option<String>,
    /// Properties that travel with the trace.
    pub baggage: Option<String>,
}

/// A valid `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// Never 0.
    pub trace_id: u128,
    /// Never 0.
    pub span_id: u64,
    /// Bit 0: sampled.
    pub flags: u8,
}

/// Longest `tracestate` that is passed on; the specification asks for 512.
const LONGEST_STATE: usize = 2048;
/// Longest `baggage` that is passed on: the specification's bound.
const LONGEST_BAGGAGE: usize = 8192;
/// Most members of a `tracestate`.
const STATE_MEMBERS: usize = 32;
/// Most members of a `baggage`.
const BAGGAGE_MEMBERS: usize = 180;

impl TraceContext {
    /// Keeps what is valid.
    pub fn parse(traceparent: Option<&str>, tracestate: Option<&str>, baggage: Option<&str>) -> Self {
        let parent = traceparent.and_then(TraceParent::parse);
        let state = tracestate.filter(|text| parent.is_some() && is_trace_state(text));
        let baggage = baggage.filter(|text| is_baggage(text));
        TraceContext { parent, state: state.map(str::to_owned), baggage: baggage.map(str::to_owned) }
    }

    /// This context, or the other where this one has no parent: `_meta` goes before HTTP headers.
    pub fn or(self, other: impl FnOnce() -> TraceContext) -> TraceContext {
        if self.parent.is_some() {
            return self;
        }
        let other = other();
        TraceContext { baggage: self.baggage.or(other.baggage), ..other }
    }

    /// The same without baggage, for upstreams that are not trusted with it (S-EXT-02).
    pub fn without_baggage(self) -> TraceContext {
        TraceContext { baggage: None, ..self }
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.parent.is_none() && self.baggage.is_none()
    }
}

impl TraceParent {
    /// Reads any version, as far as this version knows it; `None` when malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let fixed = bytes.get(..55)?;
        if fixed[2] != b'-' || fixed[35] != b'-' || fixed[52] != b'-' {
            return None;
        }
        let version = hex(&fixed[..2])? as u8;
        // Version 00 ends here; later ones may go on, and `ff` is no version.
        match (version, bytes.get(55)) {
            (0xff, _) | (0, Some(_)) => return None,
            (_, None | Some(b'-')) => {}
            _ => return None,
        }
        let trace_id = hex(&fixed[3..35])?;
        let span_id = hex(&fixed[36..52])? as u64;
        let flags = hex(&fixed[53..55])? as u8;
        if trace_id == 0 || span_id == 0 {
            return None;
        }
        // Of a later version only the known flags are carried on.
        let flags = if version == 0 { flags } else { flags & 0b11 };
        Some(TraceParent { trace_id, span_id, flags })
    }

    /// Whether somebody upstream of us records this trace.
    pub fn sampled(self) -> bool {
        self.flags & 1 == 1
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

/// Lower-case hexadecimal digits, at most 32.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Some(number << 4 | u128::from(digit - b'0')),
        b'a'..=b'f' => Some(number << 4 | u128::from(digit - b'a' + 10)),
        _ => None,
    })
}

fn is_trace_state(text: &str) -> bool {
    if text.len() > LONGEST_STATE {
        return false;
    }
    let mut keys: Vec<&str> = Vec::new();
    for member in members(text) {
        let Some((key, value)) = member.split_once('=') else { return false };
        if !is_state_key(key) || !is_state_value(value) || keys.contains(&key) {
            return false;
        }
        keys.push(key);
    }
    (1..=STATE_MEMBERS).contains(&keys.len())
}

/// The members of a list, without the empty ones that the grammar allows.
fn members(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty())
}

/// `key` or `tenant@system`.
fn is_state_key(key: &str) -> bool {
    let part = |text: &str, longest: usize, digit_first: bool| {
        let first = text.bytes().next();
        let begins = first.is_some_and(|b| b.is_ascii_lowercase() || (digit_first && b.is_ascii_digit()));
        let rest = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/".contains(&b));
        begins && rest && text.len() <= longest
    };
    match key.split_once('@') {
        Some((tenant, system)) => part(tenant, 241, true) && part(system, 14, false),
        None => part(key, 256, false),
    }
}

fn is_state_value(value: &str) -> bool {
    let printable = |b: u8| (0x20..=0x7e).contains(&b) && b != b',' && b != b'=';
    (1..=256).contains(&value.len()) && value.bytes().all(printable) && !value.ends_with(' ')
}

fn is_baggage(text: &str) -> bool {
    let mut count = 0;
    for member in members(text) {
        count += 1;
        let mut parts = member.split(';').map(|part| part.trim_matches([' ', '\t']));
        let pair = parts.next().and_then(|pair| pair.split_once('='));
        let valid = pair.is_some_and(|(key, value)| is_baggage_pair(key, value));
        let properties = |part: &str| match part.split_once('=') {
            Some((key, value)) => is_baggage_pair(key, value),
            None => is_token(part),
        };
        if !valid || !parts.all(properties) {
            return false;
        }
    }
    (1..=BAGGAGE_MEMBERS).contains(&count) && text.len() <= LONGEST_BAGGAGE
}

fn is_baggage_pair(key: &str, value: &str) -> bool {
    let value = value.trim_start_matches([' ', '\t']);
    let octet = |b: u8| b.is_ascii_graphic() && !b"\",;\\".contains(&b);
    is_token(key.trim_end_matches([' ', '\t'])) && value.bytes().all(octet)
}

/// A `token` of HTTP.
fn is_token(text: &str) -> bool {
    let character = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn state(text: &str) -> Option<String> {
        TraceContext::parse(Some(PARENT), Some(text), None).state
    }

    fn baggage(text: &str) -> Option<String> {
        TraceContext::parse(None, None, Some(text)).baggage
    }

    #[test]
    fn a_valid_parent_is_read_and_written_back() {
        let parent = TraceParent::parse(PARENT).expect("valid");
        assert_eq!((parent.span_id, parent.sampled()), (0xb7ad_6b71_6920_3331, true));
        assert_eq!(parent.to_string(), PARENT);
        let unflagged = format!("cc{}-what-the-future-will-be-like", &PARENT[2..52]);
        assert_eq!(TraceParent::parse(&unflagged), None);
        let later = TraceParent::parse(&format!("cc{}ff-future", &PARENT[2..53])).expect("a later version");
        assert_eq!(later.to_string(), PARENT.replace("-01", "-03"));
    }

    #[test]
    fn malformed_parents_are_dropped() {
        let broken = [
            String::new(),
            PARENT[..54].to_owned(),
            format!("{PARENT}-x"),
            format!("{PARENT} "),
            PARENT.to_uppercase(),
            PARENT.replacen("00", "ff", 1),
            PARENT.replace("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            PARENT.replace("b7ad6b7169203331", "0000000000000000"),
            PARENT.replace("-01", "-0g"),
            PARENT.replace('-', "_"),
            "ü".repeat(40),
        ];
        for text in broken {
            assert_eq!(TraceParent::parse(&text), None, "{text}");
        }
    }

    #[test]
    fn state_needs_a_parent_and_its_grammar() {
        assert_eq!(
            state("rojo=00f067aa0ba902b7, congo=t61rcWkgMzE").as_deref(),
            Some("rojo=00f067aa0ba902b7, congo=t61rcWkgMzE")
        );
        assert!(state("1tenant@system=a b,,x_-*/=1").is_some());
        for text in
            ["", ",", "Rojo=1", "a", "a=", "a=1,a=2", "a=b=c", "a=\u{7f}", "a=1\r\nx: y", "@a=1", "a@1=1"]
        {
            assert_eq!(state(text), None, "{text:?}");
        }
        let many = |count: usize| (0..count).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join(",");
        assert!(state(&many(32)).is_some() && state(&many(33)).is_none());
        assert_eq!(TraceContext::parse(Some("broken"), Some("a=1"), None), TraceContext::default());
    }

    #[test]
    fn baggage_stands_alone_and_keeps_its_grammar() {
        assert!(baggage("userId=alice,serverNode=DF%2028 ; secure;ttl=3 , isProduction=false").is_some());
        for text in ["", "a", "=b", "a=\"b\"", "a=b c", "a=b\\", "a b=c", "a=ü", "a=b;", "a=b\r\nx: y"] {
            assert_eq!(baggage(text), None, "{text:?}");
        }
        assert_eq!(baggage(&format!("a={}", "x".repeat(9000))), None);
    }

    #[test]
    fn meta_goes_before_headers() {
        let context = |parent: Option<&str>, bag: &str| TraceContext::parse(parent, None, Some(bag));
        let other = PARENT.replace("b7ad", "1234");
        let both = context(Some(PARENT), "a=1").or(|| context(Some(&other), "b=2"));
        assert_eq!(both, context(Some(PARENT), "a=1"));
        let header_only = context(None, "a=1").or(|| context(Some(&other), "b=2"));
        assert_eq!(header_only, context(Some(&other), "a=1"));
    }
}
