//! Fuzz target of what Docker's plugin reads; see [`crate::fuzz`].

use super::http::{self, MOST_BODY};
use super::network::{self, Defined};
use super::pool::Pool;
use super::protocol::{
    CreateNetwork, Join, OfEndpoint, OfNetwork, ReleaseAddress, RequestAddress, RequestPool,
};
use super::{endpoint, read};
use crate::config::network::Network;
use crate::error::Result;

/// A request with its body. Its promises: a head is read as a whole or not at all, whatever follows it; a pool that is read from an
/// id has that id; nothing else than a network that was checked comes of a definition.
pub(crate) fn fuzz(text: &[u8]) {
    let Ok(Some(head)) = http::head(text) else { return };
    assert!(head.bytes <= text.len() && head.body <= MOST_BODY && head.path.starts_with('/'));
    let (own, body) = text.split_at(head.bytes);
    assert_eq!(http::head(own), Ok(Some(head.clone())), "what follows changes nothing");
    assert_eq!(own.split_last().map(|(_, less)| http::head(less)), Some(Ok(None)));
    let limit = 1024 + 16 * text.len();
    let shown = |error: &crate::error::Error| assert!(error.to_string().len() <= limit, "{error}");
    let refused = |result: Result<()>| drop(result.inspect_err(shown));
    refused(match head.path.as_str() {
        "/IpamDriver.RequestPool" => read::<RequestPool>(body).and_then(|call| {
            let pool = Pool::new(&call.pool, &call.sub_pool, &call.options)?;
            assert_eq!(pool.to_string().parse::<Pool>().ok(), Some(pool), "it comes again by its id");
            Pool::network_of(&call.options).map(drop)
        }),
        "/IpamDriver.RequestAddress" => read::<RequestAddress>(body).and_then(|call| {
            let pool: Pool = call.pool.parse()?;
            assert_eq!(pool.to_string(), call.pool);
            Ok(())
        }),
        "/IpamDriver.ReleaseAddress" => read::<ReleaseAddress>(body).map(drop),
        "/NetworkDriver.CreateNetwork" => read::<CreateNetwork>(body).and_then(|call| {
            let Defined { definition, .. } = Defined::read(&call)?;
            let name = "docker-0123456789ab".parse()?;
            network::check(&Network::new(&name, definition)?)
        }),
        "/NetworkDriver.CreateEndpoint" => {
            read(body).and_then(|call| endpoint::new_endpoint(&call).map(drop))
        }
        "/NetworkDriver.Join" => read::<Join>(body).map(drop),
        "/NetworkDriver.DeleteEndpoint" => read::<OfEndpoint>(body).map(drop),
        _ => read::<OfNetwork>(body).map(drop),
    });
}
