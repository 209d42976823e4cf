//! Docker's network and IPAM plugin: `docker network create -d underlay --ipam-driver underlay`, with Docker 20.10 and later.
//!
//! `server.rs` and `http.rs` take the calls, `protocol.rs` has them as types, `network.rs` and `pool.rs` read the words of users;
//! `ipam.rs` and `endpoint.rs` answer. Docker holds locks while it waits for an answer: no call may ask Docker for anything.

mod endpoint;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../../../fuzz/targets/docker.rs"]
mod fuzz;
mod http;
mod ipam;
mod network;
mod pool;
mod protocol;
mod server;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzz::fuzz;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::network::{ADDRESS_SPACE, Defined};
use self::pool::Pool;
use self::protocol::{CreateNetwork, GATEWAY, OfNetwork};
use self::server::{Answer, Service};
use crate::error::{Error, Kind, Result};
use crate::json;
use crate::kernel::PluginSocket;
use crate::ledger::Store;
use crate::ledger::docker::{DockerNetwork, VERSION};
use crate::lifecycle::context::Context;
use crate::lifecycle::parents;
use crate::lifecycle::repair;
use crate::net::name::ContainerId;

/// What the names of calls to an IPAM driver begin with.
const IPAM: &str = "/IpamDriver.";

/// Serves Docker's calls until none has come for `idle`.
///
/// # Errors
/// When the socket cannot be used.
pub(crate) fn serve(store: &Store, socket: &PluginSocket, idle: Duration) -> Result<()> {
    server::serve(socket, idle, Plugin { store: store.another(), pools: Mutex::default() })
}

struct Plugin {
    store: Store,
    /// The pools that were asked for lately, of networks that are to be created: Docker does not tell them again with the network.
    pools: Mutex<Vec<Pool>>,
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
        (200, json!({ key: text }).to_string())
    }
}

impl Plugin {
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
            "/IpamDriver.RequestAddress" => ipam::request_address(&mut context()?, &read(body)?)?,
            "/IpamDriver.ReleaseAddress" => {
                ipam::release_address(&mut Context::for_removal(store), &read(body)?)?;
                done
            }
            "/NetworkDriver.CreateNetwork" => {
                self.create_network(&mut context()?, &read(body)?)?;
                done
            }
            "/NetworkDriver.DeleteNetwork" => {
                delete_network(&mut Context::for_removal(store), &read(body)?)?;
                done
            }
            "/NetworkDriver.CreateEndpoint" => endpoint::create(&mut context()?, &read(body)?)?,
            "/NetworkDriver.Join" => endpoint::join(&mut context()?, &read(body)?)?,
            "/NetworkDriver.DeleteEndpoint" => {
                endpoint::delete(&mut Context::for_removal(store), &read(body)?)?;
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

    fn request_pool(&self, store: &Store, body: &[u8]) -> Result<Value> {
        let (pool, gateway) = ipam::request_pool(store, &read(body)?)?;
        let data = match gateway {
            Some(gateway) => json!({ GATEWAY: gateway }),
            None => json!({}),
        };
        let answer = json!({ "PoolID": pool.to_string(), "Pool": pool.subnet, "Data": data });
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|known| *known != pool);
        pools.push(pool);
        Ok(answer)
    }

    /// Creates a network, unless that is done already.
    ///
    /// # Errors
    /// When the operator does not permit it, or containers of Docker could have no links of it.
    fn create_network(&self, context: &mut Context<'_>, call: &CreateNetwork) -> Result<()> {
        let id: ContainerId = call.network.parse()?;
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let asked = |subnet, network: Option<&Defined>| {
            let suits = |pool: &&Pool| {
                let is_on = |defined: &Defined| {
                    let is_named = pool.network.is_none() || pool.network == defined.network;
                    is_named && (pool.parent.is_none() || pool.parent == defined.definition.parent)
                };
                pool.subnet == subnet && network.is_none_or(is_on)
            };
            pools.iter().rev().find(suits).cloned()
        };
        let mut defined = Defined::read(call, |_| None)?;
        let of_settings = |error: Error| error.within(context.store.settings_path().display());
        if defined.network.is_none() {
            context.settings.allow_docker_networks().map_err(of_settings)?;
        }
        let plain = |subnet| Pool { subnet, range: None, parent: None, network: None };
        let subnets: Vec<_> = defined.definition.subnets.iter().map(|file| file.subnet).collect();
        let pools: Vec<_> =
            subnets.iter().map(|&subnet| asked(subnet, Some(&defined)).unwrap_or(plain(subnet))).collect();
        for (file, pool) in defined.definition.subnets.iter_mut().zip(&pools) {
            file.ip_range = pool.range.map(|range| range.to_string());
        }
        let Defined { network, definition } = defined;
        let new = DockerNetwork {
            version: VERSION,
            id,
            network,
            definition,
            pools: pools.iter().map(ToString::to_string).collect(),
        };
        let network = new.network(context.store)?;
        network::check(&network)?;
        if new.network.is_some() {
            context.settings.allow_network(&network.name).map_err(of_settings)?;
        }
        parents::find(&network, &mut context.host_netlink)?;
        repair::recover(context)?;
        let locked = context.lock()?;
        for known in context.store.docker_networks()?.iter().filter(|known| known.id != new.id) {
            let shared = pools.iter().find(|pool| known.pools.contains(&pool.to_string()));
            let other = shared.and_then(|pool| Some((pool, known.network(context.store).ok()?)));
            if let Some((pool, other)) = other.filter(|(_, other)| other.parent != network.parent) {
                return Err(ipam::on_two_parents(pool, &other, &network));
            }
        }
        locked.write_docker_network(&new)?;
        let host = &mut context.host_netlink;
        if let Err(error) = parents::ensure(&locked, &network, host) {
            locked.remove_docker_network(&new.id)?;
            parents::delete_unused_of(&locked, &network, host)?;
            return Err(error);
        }
        Ok(())
    }
}

/// Removes a network, and its parent if nothing else needs that. One that is not known is removed already.
fn delete_network(context: &mut Context<'_>, call: &OfNetwork) -> Result<()> {
    let id: ContainerId = call.network.parse()?;
    let locked = context.lock()?;
    let Some(known) = context.store.docker_network(&id)? else { return Ok(()) };
    locked.remove_docker_network(&id)?;
    match known.network(context.store) {
        Ok(network) => parents::delete_unused_of(&locked, &network, &mut context.host_netlink),
        // The network of underlay is removed, with its parent.
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Reads the body of a call.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    json::object(body)
}
