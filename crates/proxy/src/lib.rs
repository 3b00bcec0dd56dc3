//! From a client's stream to the origin. Takes any duplex stream and knows
//! nothing of Tor.
//!
//! [`rules`] say what a virtual port leads to, and [`setup`] makes what serves
//! such a target. Then:
//!
//! | a stream to | goes to |
//! |---|---|
//! | an `http://` or `https://` target | [`http::Proxy`], and for each request [`origins`] |
//! | a port with `tls` | [`tls`] first |
//! | a `redirect` target | [`http::Proxy`], and for each request [`redirect`] |
//! | a `file:` target | [`http::Proxy`], and for each request [`files`] |
//! | anything else that accepts connections | [`origin`], which connects, and [`forward`], which copies |
//! | nothing, in a daemon without configuration | [`welcome`] |
//!
//! A request passes these, in this order:
//!
//! | part | does |
//! |---|---|
//! | [`http`] | serves HTTP/1 and HTTP/2 with hyper, which it gives one message of HTTP/1 at a time; leads each request through the rest; limits circuits |
//! | [`guard`] | refuses requests before anything else is done with them |
//! | [`headers`] | rewrites the fields of requests and responses |
//! | [`upstream`] | whoever answers: [`origins`], which chooses one, connects, retries and checks health, [`files`], which answers from a directory, or [`redirect`], which names another place |
//! | [`failure`], [`pages`] | turn whatever fails into one answer and one counter |
//!
//! Values that several of these share: [`settings`] from the configuration,
//! [`visitor`] for the client, [`body`] for what passes through, [`host`] and
//! [`token`] for names in HTTP, [`proxy_line`] for the PROXY protocol,
//! [`shares`] for what one circuit may take of scarce things, [`tasks`] for what ends
//! with a client, [`status`] for what is counted, [`histogram`] for how long it took,
//! [`causes`] for what errors say.

pub mod answer;
pub mod body;
mod buffer;
pub mod causes;
mod clock;
pub mod failure;
pub mod files;
pub mod forward;
pub mod guard;
pub mod headers;
pub mod histogram;
pub mod host;
pub mod http;
pub mod origin;
pub mod origins;
pub mod pace;
pub mod pages;
pub mod proxy_line;
pub mod redirect;
pub mod rules;
pub mod settings;
pub mod setup;
pub mod shares;
pub mod status;
pub mod tasks;
pub mod tls;
pub mod token;
pub mod upstream;
pub mod visitor;
pub mod welcome;
