//! Which links of the host are connected, and how that has changed since they were looked at last.

use std::collections::BTreeMap;

use crate::net::link::Link;

/// The links that are connected, by ifindex.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Connected(BTreeMap<u32, Way>);

/// How a link is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    /// How often it was: what was gone and came again in no time may be another LAN.
    ups: u32,
    /// The active port of the bond that it is, or that is below it.
    port: Option<u32>,
}

/// A parent that is connected now, in another way than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) parent: u32,
    /// How often it was connected.
    pub(crate) ups: u32,
    /// Whether it leads to the LAN that it led to before.
    pub(crate) is_same_lan: bool,
}

impl Connected {
    pub(crate) fn of(links: &[Link]) -> Self {
        let way = |link: &Link| Way { ups: link.carrier_ups, port: active_port(link, links) };
        let connected = links.iter().filter(|link| link.is_connected());
        Self(connected.map(|link| (link.ifindex, way(link))).collect())
    }

    /// What has changed since `before` for those of `links` that are on `segments`: most changes are those of links that are no
    /// parents. Without `before` each of them is new.
    pub(crate) fn changes(&self, before: Option<&Self>, links: &[Link], segments: &[u32]) -> Vec<Change> {
        let of_segments = links.iter().filter(|link| segments.contains(&link.segment()));
        let changed = of_segments.filter_map(|&Link { ifindex: parent, .. }| {
            let way = self.0.get(&parent)?;
            let before = before.and_then(|before| before.0.get(&parent));
            let is_same_lan = before.is_some_and(|before| before.ups == way.ups);
            (before != Some(way)).then_some(Change { parent, ups: way.ups, is_same_lan })
        });
        changed.collect()
    }
}

/// Returns the active port of the bond that `link` is, or that is below it.
fn active_port(link: &Link, links: &[Link]) -> Option<u32> {
    let below = |link: &&Link| links.iter().find(|lower| Some(lower.ifindex) == link.lower);
    std::iter::successors(Some(link), below).take(links.len()).find_map(|link| link.active_port)
}
