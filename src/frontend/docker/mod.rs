//! Docker's network and IPAM plugin: `docker network create -d underlay --ipam-driver underlay`, with Docker 20.10 and later.
//!
//! `server.rs` and `http.rs` take the calls, `protocol.rs` has them as types, `network.rs` and `pool.rs` read the words of users;
//! `defined.rs`, `ipam.rs` and `endpoint.rs` answer. Docker holds locks while it waits for an answer: no call may ask Docker for anything.

mod defined;
mod endpoint;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../../../fuzz/targets/docker.rs"]
mod fuzz;
mod http;
mod ipam;
mod names;
mod network;
mod pool;
mod protocol;
mod server;
mod turns;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzz::fuzz;

pub(crate) use names::container_names;

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::network::ADDRESS_SPACE;
use self::pool::Pool;
use self::protocol::{CreateEndpoint, GATEWAY, Join, OfEndpoint, ReleaseAddress, RequestAddress};
use self::server::{Answer, Service};
use self::turns::Turns;
use crate::error::{Error, Result};
use crate::escape::printable;
use crate::json;
use crate::kernel::PluginSocket;
use crate::ledger::Store;
use crate::lifecycle::context::Context;

/// What the names of calls to an IPAM driver begin with.
const IPAM: &str = "/IpamDriver.";
/// How long after its pool Docker asks for the addresses that a new network names.
const CREATED: Duration = Duration::from_secs(3);

/// Serves Docker's calls until none has come for `idle`.
///
/// # Errors
/// When the socket cannot be used.
pub(crate) fn serve(store: &Store, socket: &PluginSocket, idle: Duration) -> Result<()> {
    server::serve(socket, idle, Plugin::new(store.another()))
}

struct Plugin {
    store: Store,
    /// The pools that were asked for lately, of networks that are to be created: Docker does not tell them again with the network.
    /// With the time of each.
    pools: Mutex<Vec<(Pool, Instant)>>,
    /// The addresses of endpoints that were deleted: Docker gives each back once more, when another endpoint to come may have it.
    given_back: Mutex<Vec<IpAddr>>,
    turns: Turns,
}

impl Service for Plugin {
    fn call(&self, path: &str, body: &[u8]) -> Answer {
        // Each call has a store of its own, because a process has the lock once.
        let store = self.store.another();
        match self.answer(&store, path, body) {
            Ok(Some(answer)) => {
                log::debug!("{path}: {answer}");
                (200, answer.to_string())
            }
            Ok(None) => (404, json!({ "Err": format!("{path} is not served") }).to_string()),
            Err(error) => {
                log::warn!("{path}: {}", error.in_full());
                self.failed(path, &error)
            }
        }
    }

    fn failed(&self, path: &str, error: &Error) -> Answer {
        let text = match error.hint_text() {
            Some(hint) => format!("{error}: {hint}"),
            None => error.to_string(),
        };
        let key = if path.starts_with(IPAM) { "Error" } else { "Err" };
        (200, json!({ key: printable::message(&text) }).to_string())
    }
}

impl Plugin {
    fn new(store: Store) -> Self {
        Self { store, pools: Mutex::default(), given_back: Mutex::default(), turns: Turns::default() }
    }

    /// The answer to the call of `path`; `None` if there is no such call.
    fn answer(&self, store: &Store, path: &str, body: &[u8]) -> Result<Option<Value>> {
        let context = || Context::new(store);
        let done = json!({});
        Ok(Some(match path {
            "/Plugin.Activate" => json!({ "Implements": ["NetworkDriver", "IpamDriver"] }),
            "/NetworkDriver.GetCapabilities" => {
                json!({ "Scope": "local", "ConnectivityScope": "global", "GwAllocChecker": true })
            }
            // A network without --gateway has none.
            "/NetworkDriver.GwAllocCheck" => json!({ "SkipIPv4": true, "SkipIPv6": true }),
            // With a MAC address for each request, Docker would choose those that are not asked for.
            "/IpamDriver.GetCapabilities" => {
                json!({ "RequiresMACAddress": false, "RequiresRequestReplay": true })
            }
            "/IpamDriver.GetDefaultAddressSpaces" => json!({
                "LocalDefaultAddressSpace": ADDRESS_SPACE, "GlobalDefaultAddressSpace": ADDRESS_SPACE,
            }),
            "/IpamDriver.RequestPool" => self.request_pool(store, body)?,
            "/IpamDriver.RequestAddress" => {
                let call: RequestAddress = read(body)?;
                let is_new = self
                    .pools()
                    .iter()
                    .any(|(pool, at)| pool.to_string() == call.pool && at.elapsed() < CREATED);
                ipam::request_address(&mut context()?, &call, is_new)?
            }
            "/IpamDriver.ReleaseAddress" => {
                let call: ReleaseAddress = read(body)?;
                if !self.was_given_back(&call) {
                    ipam::release_address(&mut Context::for_removal(store), &call)?;
                }
                done
            }
            "/NetworkDriver.CreateNetwork" => {
                let pools: Vec<_> = self.pools().iter().map(|(pool, _)| pool.clone()).collect();
                defined::create(&mut context()?, &pools, &read(body)?)?;
                done
            }
            "/NetworkDriver.DeleteNetwork" => {
                defined::delete(&mut Context::for_removal(store), &read(body)?)?;
                done
            }
            "/NetworkDriver.CreateEndpoint" => {
                let call: CreateEndpoint = read(body)?;
                let _turn = self.turns.take(&call.endpoint);
                endpoint::create(&mut context()?, &call)?
            }
            "/NetworkDriver.Join" => {
                let call: Join = read(body)?;
                let _turn = self.turns.take(&call.endpoint);
                endpoint::join(&mut context()?, &call)?
            }
            "/NetworkDriver.DeleteEndpoint" => {
                let call: OfEndpoint = read(body)?;
                let _turn = self.turns.take(&call.endpoint);
                let addresses = endpoint::delete(&mut Context::for_removal(store), &call)?;
                self.given_back.lock().unwrap_or_else(PoisonError::into_inner).extend(addresses);
                done
            }
            "/NetworkDriver.EndpointOperInfo" => json!({ "Value": {} }),
            "/NetworkDriver.AllocateNetwork" => json!({ "Options": {} }),
            // The link is in the container still when Docker calls Leave. Pools are no more than their names.
            "/NetworkDriver.Leave"
            | "/NetworkDriver.ProgramExternalConnectivity"
            | "/NetworkDriver.RevokeExternalConnectivity"
            | "/NetworkDriver.DiscoverNew"
            | "/NetworkDriver.DiscoverDelete"
            | "/NetworkDriver.FreeNetwork"
            | "/IpamDriver.ReleasePool" => done,
            _ => return Ok(None),
        }))
    }

    fn pools(&self) -> MutexGuard<'_, Vec<(Pool, Instant)>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the address of `call` was that of an endpoint that was deleted.
    fn was_given_back(&self, call: &ReleaseAddress) -> bool {
        let mut known = self.given_back.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().position(|address| address.to_string() == call.address);
        found.map(|index| known.swap_remove(index)).is_some()
    }

    fn request_pool(&self, store: &Store, body: &[u8]) -> Result<Value> {
        let (pool, gateway) = ipam::request_pool(store, &read(body)?)?;
        let data = match gateway {
            Some(gateway) => json!({ GATEWAY: gateway }),
            None => json!({}),
        };
        let answer = json!({ "PoolID": pool.to_string(), "Pool": pool.subnet, "Data": data });
        let mut pools = self.pools();
        pools.retain(|(known, _)| *known != pool);
        pools.push((pool, Instant::now()));
        Ok(answer)
    }
}

/// Reads the body of a call.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    // It repeats a call whose connection was cut without its body.
    if body.is_empty() {
        return Err(Error::input("Docker has called again, and does not say for what")
            .hint("the plugin was killed while it served the call before: try again"));
    }
    json::object(body)
}
