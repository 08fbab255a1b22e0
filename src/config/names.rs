//! `names`: how public tool and prompt names are formed (design: Names).

/// Checked: the shape of public names.
#[derive(Debug, Clone)]
pub struct NameSettings {
    /// Between prefix and original; characters of `[A-Za-z0-9_-]` only.
    pub separator: String,
    /// Longest public name, 16 to 64 characters.
    pub max_length: usize,
}
