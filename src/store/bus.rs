//! Hints between parts that share state: something changed, look again.
//!
//! Always: a hint may be lost, and never blocks who gives it; what is true is in the records. Not here: who listens.

use bytes::Bytes;
use dashmap::DashMap;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Hints that one listener may be behind.
const BEHIND: usize = 64;

/// Hints.
pub trait Bus: Send + Sync + std::fmt::Debug {
    /// Tells whoever listens now.
    fn publish(&self, topic: &str, hint: Bytes);

    /// Listens from now on.
    fn subscribe(&self, topic: &str) -> Subscription;
}

/// What a listener was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// This.
    Told(Bytes),
    /// Something was missed: look at everything again.
    Missed,
}

/// One listener.
#[derive(Debug)]
pub struct Subscription(broadcast::Receiver<Bytes>);

impl Subscription {
    /// The next hint; `None`: there will be none any more.
    pub async fn next(&mut self) -> Option<Hint> {
        match self.0.recv().await {
            Ok(hint) => Some(Hint::Told(hint)),
            Err(RecvError::Lagged(_)) => Some(Hint::Missed),
            Err(RecvError::Closed) => None,
        }
    }
}

/// [`Bus`] within this process.
#[derive(Debug, Default)]
pub struct LocalBus(DashMap<String, broadcast::Sender<Bytes>>);

impl Bus for LocalBus {
    fn publish(&self, topic: &str, hint: Bytes) {
        // Nobody listens any more: the topic is forgotten, unless somebody begins to.
        let is_heard = self.0.get(topic).is_some_and(|sender| sender.send(hint).is_ok());
        if !is_heard {
            self.0.remove_if(topic, |_, sender| sender.receiver_count() == 0);
        }
    }

    fn subscribe(&self, topic: &str) -> Subscription {
        let sender = self.0.entry(topic.to_owned()).or_insert_with(|| broadcast::channel(BEHIND).0);
        Subscription(sender.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hints_reach_who_listens_and_wait_for_nobody() {
        let bus = LocalBus::default();
        bus.publish("a", Bytes::from_static(b"unheard"));
        let mut one = bus.subscribe("a");
        let mut other = bus.subscribe("b");
        bus.publish("a", Bytes::from_static(b"x"));
        bus.publish("b", Bytes::from_static(b"y"));
        assert_eq!(one.next().await, Some(Hint::Told(Bytes::from_static(b"x"))));
        assert_eq!(other.next().await, Some(Hint::Told(Bytes::from_static(b"y"))));
        for _ in 0..=BEHIND {
            bus.publish("a", Bytes::new());
        }
        assert_eq!(one.next().await, Some(Hint::Missed));
        drop(one);
        bus.publish("a", Bytes::new());
        assert_eq!(bus.0.len(), 1, "a topic without listeners is forgotten");
        drop(bus);
        assert_eq!(other.next().await, None);
    }
}
