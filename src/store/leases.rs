//! Leases over [`Records`]: who does what nobody else may do at the same time.
//!
//! Always: a lease has one holder until it is released or its time is over; its fence is larger than that of every lease
//! before it, of whatever key, so that what a late holder still does can be told and refused. Not here: what is leased.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::clock::Clock;
use super::error::{StoreError, WriteError};
use super::records::{Expect, Records, Space, Write};

const LEASES: Space = Space::new("lease");

/// A lease that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What is leased.
    pub key: String,
    /// Who holds it.
    pub node: String,
    /// Larger than that of every earlier lease; the same as long as this one is renewed.
    pub fence: u64,
    version: u64,
}

/// Leases with fences.
pub trait Leases: Send + Sync + std::fmt::Debug {
    /// Takes the lease if nobody holds it, not even `node` itself.
    fn acquire<'a>(
        &'a self,
        key: &'a str,
        node: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Option<Lease>, StoreError>>;

    /// Holds it for another `ttl` from now on; `None`: it is lost.
    fn renew(&self, lease: Lease, ttl: Duration) -> BoxFuture<'_, Result<Option<Lease>, StoreError>>;

    /// Gives it up; one that is lost already is no error.
    fn release(&self, lease: Lease) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Who holds it.
    fn holder<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>, StoreError>>;
}

/// [`Leases`] in records.
#[derive(Debug, Clone)]
pub struct RecordedLeases {
    records: Arc<dyn Records>,
    clock: Clock,
}

impl RecordedLeases {
    /// In these records; `clock` is theirs.
    pub fn new(records: Arc<dyn Records>, clock: Clock) -> Self {
        RecordedLeases { records, clock }
    }

    /// The version of the written lease; `None`: another was faster.
    async fn put(
        &self,
        (key, node): (&str, &str),
        ttl: Duration,
        expect: Expect,
    ) -> Result<Option<u64>, StoreError> {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let write = Write::Put {
            space: LEASES,
            key: key.as_bytes().to_vec(),
            value: Bytes::new(),
            owner: Some(node.to_owned()),
            expires: Some(self.clock.now_ms().saturating_add(ttl)),
            expect,
        };
        match self.records.write(vec![write]).await {
            Ok(versions) => Ok(versions.first().copied()),
            Err(WriteError::Conflict(_)) => Ok(None),
            Err(WriteError::Store(error)) => Err(error),
        }
    }
}

impl Leases for RecordedLeases {
    fn acquire<'a>(
        &'a self,
        key: &'a str,
        node: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Option<Lease>, StoreError>> {
        async move {
            // The version of the first write is the fence: it grows over all records, and is known when it is written.
            let version = self.put((key, node), ttl, Expect::Absent).await?;
            let lease =
                |version| Lease { key: key.to_owned(), node: node.to_owned(), fence: version, version };
            Ok(version.map(lease))
        }
        .boxed()
    }

    fn renew(&self, lease: Lease, ttl: Duration) -> BoxFuture<'_, Result<Option<Lease>, StoreError>> {
        async move {
            let held = (lease.key.as_str(), lease.node.as_str());
            let version = self.put(held, ttl, Expect::Version(lease.version)).await?;
            Ok(version.map(|version| Lease { version, ..lease }))
        }
        .boxed()
    }

    fn release(&self, lease: Lease) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let (key, expect) = (lease.key.into_bytes(), Expect::Version(lease.version));
            match self.records.write(vec![Write::Delete { space: LEASES, key, expect }]).await {
                Ok(_) | Err(WriteError::Conflict(_)) => Ok(()),
                Err(WriteError::Store(error)) => Err(error),
            }
        }
        .boxed()
    }

    fn holder<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>, StoreError>> {
        async move { Ok(self.records.get(LEASES, key.as_bytes()).await?.and_then(|kept| kept.owner)) }.boxed()
    }
}
