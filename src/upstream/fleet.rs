//! All upstreams, by name and in the order of the configuration.

use std::collections::HashMap;
use std::sync::Arc;

use super::call::Affinity;
use super::handle::UpstreamHandle;
use super::kept_reads::KeptReads;
use crate::names::UpstreamName;

/// The set is fixed while it lives; a reload makes another one.
#[derive(Debug)]
pub struct Fleet {
    order: Vec<UpstreamHandle>,
    by_name: HashMap<UpstreamName, usize>,
    reads: Arc<KeptReads>,
}

impl Fleet {
    /// Takes the handles in configured order, and what they share.
    pub fn new(order: Vec<UpstreamHandle>, reads: Arc<KeptReads>) -> Self {
        let by_name = order.iter().enumerate().map(|(at, handle)| (handle.name().clone(), at)).collect();
        Fleet { order, by_name, reads }
    }

    /// The upstream of that name.
    pub fn get(&self, name: &UpstreamName) -> Option<&UpstreamHandle> {
        self.by_name.get(name).map(|at| &self.order[*at])
    }

    /// Resources that were read of them.
    pub fn reads(&self) -> &KeptReads {
        &self.reads
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &UpstreamHandle> {
        self.order.iter()
    }

    /// Closes what belonged to a session, everywhere.
    pub fn release(&self, affinity: Affinity) {
        self.order.iter().for_each(|upstream| upstream.release(affinity));
    }

    /// Stops all; resolves when every process is gone.
    pub async fn retire(&self) {
        futures_util::future::join_all(self.order.iter().map(UpstreamHandle::retire)).await;
    }
}
