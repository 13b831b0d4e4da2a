//! From names to addresses. It judges none of them.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;

/// A future of addresses.
pub type LookupFuture<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// Finds the addresses of a name. It is asked once for each request.
pub trait Lookup: Send + Sync {
    /// All addresses of a name, in the order in which they are to be tried.
    fn addresses<'a>(&'a self, name: &'a str) -> LookupFuture<'a>;
}

/// The system's own way: its hosts file, its resolvers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn addresses<'a>(&'a self, name: &'a str) -> LookupFuture<'a> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}
