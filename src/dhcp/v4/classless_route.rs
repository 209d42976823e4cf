//! Routes by option 121 (RFC 3442): the length of the prefix, as many bytes of it as count, and the router.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// A route that a server gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClasslessRoute {
    /// The destination.
    pub to: Ipv4Net,
    /// `0.0.0.0` if the destination is on the link.
    pub router: Ipv4Addr,
}

/// The routes in `bytes`; `None` if they are no routes.
pub(super) fn read(mut bytes: &[u8]) -> Option<Vec<ClasslessRoute>> {
    let mut routes = Vec::new();
    while let [length, rest @ ..] = bytes {
        let (destination, rest) = rest.split_at_checked(usize::from(length.div_ceil(8)))?;
        let (router, rest) = rest.split_first_chunk::<4>()?;
        let mut octets = [0; 4];
        octets.get_mut(..destination.len())?.copy_from_slice(destination);
        // Bits behind the prefix are nothing (RFC 3442, page 3).
        let to = Ipv4Net::new(octets.into(), *length).ok()?.trunc();
        routes.push(ClasslessRoute { to, router: Ipv4Addr::from(*router) });
        bytes = rest;
    }
    Some(routes)
}

pub(super) fn write(routes: &[ClasslessRoute]) -> Vec<u8> {
    let route = |route: &ClasslessRoute| {
        let length = route.to.prefix_len();
        let octets = route.to.trunc().addr().octets();
        let destination = octets.into_iter().take(usize::from(length.div_ceil(8)));
        [length].into_iter().chain(destination).chain(route.router.octets()).collect::<Vec<_>>()
    };
    routes.iter().flat_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(bytes: &[u8]) -> Option<Vec<String>> {
        let text = |route: ClasslessRoute| format!("{} {}", route.to, route.router);
        read(bytes).map(|routes| routes.into_iter().map(text).collect())
    }

    /// The table of RFC 3442, page 3.
    #[test]
    fn widths() {
        let bytes = [
            &[0, 10, 0, 0, 1][..],
            &[8, 10, 10, 0, 0, 1],
            &[17, 10, 17, 0, 10, 0, 0, 1],
            &[24, 10, 27, 129, 0, 0, 0, 0],
            &[32, 10, 198, 122, 47, 10, 0, 0, 1],
        ]
        .concat();
        assert_eq!(
            texts(&bytes).unwrap(),
            [
                "0.0.0.0/0 10.0.0.1",
                "10.0.0.0/8 10.0.0.1",
                "10.17.0.0/17 10.0.0.1",
                "10.27.129.0/24 0.0.0.0",
                "10.198.122.47/32 10.0.0.1"
            ]
        );
        assert_eq!(write(&read(&bytes).unwrap()), bytes);
        assert_eq!(
            texts(&[9, 10, 255, 1, 2, 3, 4]).unwrap(),
            ["10.128.0.0/9 1.2.3.4"],
            "bits behind the prefix"
        );
        assert_eq!(texts(&[]).unwrap(), [""; 0]);
    }

    #[test]
    fn what_are_no_routes() {
        for bytes in [&[0][..], &[0, 10, 0, 0], &[24, 10, 0], &[33, 10, 0, 0, 0, 0, 1, 2, 3, 4], &[255; 40]] {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
    }
}
