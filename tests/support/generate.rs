//! Odd but lawful JSON, from a seed.
//!
//! Owns the generator of the pass-through stories. Always: the same seed gives the same text, and no object has a key
//! twice. Not here: sending it.

use std::collections::HashSet;

/// A small deterministic source of numbers (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Seed(pub(crate) u64);

const NUMBERS: [&str; 22] = [
    "0",
    "-0",
    "1",
    "-1",
    "0.0",
    "-0.0",
    "1.0",
    "1.50",
    "1e2",
    "1E+2",
    "1e-7",
    "1.7976931348623157e308",
    "5e-324",
    "9007199254740993",
    "-9007199254740993",
    "12345678901234567890",
    "18446744073709551616",
    "123456789012345678901234567890",
    "0.1000000000000000055511151231257827",
    "1e400",
    "-1E-400",
    "3.141592653589793238",
];

const TEXTS: [&str; 20] = [
    r#""""#,
    r#""plain""#,
    r#""caf\u00e9""#,
    "\"caf\u{e9}\"",
    r#""\u2028\u2029""#,
    r#""\ud83d\ude00""#,
    "\"\u{1f600}\"",
    r#""a\/b""#,
    r#""tab\tnew\nline\r""#,
    r#""\u0000""#,
    r#""\"quoted\\""#,
    "\"\u{2028}\"",
    r#""</script>""#,
    "\"\u{feff}bom\"",
    "\"e\u{301}\"",
    r#""\b\f""#,
    r#"" padded ""#,
    "\"\u{7f}\"",
    r#""{\"not\":\"json\"}""#,
    r#""\uFFFD""#,
];

const KEYS: [&str; 14] = [
    "z",
    "a",
    "",
    "A",
    "id",
    "method",
    "jsonrpc",
    "params",
    "result",
    "caf\\u00e9",
    "\u{1f600}",
    "with space",
    "a.b/c",
    "nested",
];

impl Seed {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn gap(&mut self) -> &'static str {
        // Line breaks are left out: on stdio a message is one line.
        self.pick(&["", "", "", " ", "  ", "\t"])
    }

    /// Any JSON value, as text.
    pub(crate) fn value(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0 => self.pick(&["true", "false", "null"]).to_owned(),
            1 | 2 => self.pick(&NUMBERS).to_owned(),
            3 | 4 => self.pick(&TEXTS).to_owned(),
            5 => {
                let items: Vec<String> = (0..self.below(4)).map(|_| self.value(depth - 1)).collect();
                let (open, close) = (self.gap(), self.gap());
                format!("[{open}{}{close}]", items.join(","))
            }
            _ => self.object(depth - 1, &[]),
        }
    }

    /// An object, as text, with `fixed` members somewhere in it.
    pub(crate) fn object(&mut self, depth: usize, fixed: &[(&str, String)]) -> String {
        let mut members: Vec<String> = Vec::new();
        let mut taken: HashSet<String> = fixed.iter().map(|(name, _)| (*name).to_owned()).collect();
        for _ in 0..self.below(5) {
            let key = format!("{}{}", self.pick(&KEYS), ["", "1", "2"][self.below(3)]);
            if taken.insert(key.clone()) {
                let (before, after) = (self.gap(), self.gap());
                members.push(format!("\"{key}\"{before}:{after}{}", self.value(depth)));
            }
        }
        for (name, value) in fixed {
            let place = self.below(members.len() + 1);
            members.insert(place, format!("\"{name}\":{value}"));
        }
        let gap = self.gap();
        format!("{{{gap}{}{gap}}}", members.join(","))
    }
}
