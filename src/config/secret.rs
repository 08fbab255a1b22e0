//! A configured value that may hold a secret: shown nowhere, compared nowhere, exposed on purpose only.

use std::fmt;

/// A string that came from `gateway.yaml`, possibly through `${env:…}` or `${file:…}`. `Debug` redacts it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
