//! How many gateways stand above this one, so that one that starts itself comes to an end.

/// Every child is given it, one higher than the gateway's own.
pub(super) const VARIABLE: &str = "SWITCHYARD_DEPTH";

/// A gateway behind a gateway behind a gateway is the last one that anybody could have meant.
const DEEPEST: u32 = 2;

/// Started by too many gateways, most likely by itself.
#[derive(Debug, thiserror::Error)]
#[error(
    "this gateway was started by a gateway that was started by a gateway ({VARIABLE}={0}): most likely a configuration \
     has the gateway among its own servers; leave that entry out"
)]
pub struct TooDeep(u32);

/// How many gateways stand above this one.
pub(super) fn depth() -> u32 {
    std::env::var(VARIABLE).ok().and_then(|depth| depth.parse().ok()).unwrap_or(0)
}

/// Refuses to be one more.
pub fn check_depth() -> Result<(), TooDeep> {
    match depth() {
        depth if depth > DEEPEST => Err(TooDeep(depth)),
        _ => Ok(()),
    }
}
