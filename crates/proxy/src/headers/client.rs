//! What an origin is told of the client. Pure.
//!
//! A client has no address that anybody knows, and none is invented: there is
//! no `X-Forwarded-For`. What it says of itself in the fields by which proxies
//! speak of clients is taken out first, whatever the settings are, or it could
//! pass for somebody else.

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

use super::hop::ESSENTIAL;
use super::reserved::{self, matches};
use super::site::Site;
use crate::settings::HeaderSettings;
use crate::token;
use crate::visitor::Visitor;

/// Takes out what a client must not say: what only servers and proxies may
/// ([`reserved`]), unless the operator lets it pass, what the operator does not
/// want, what an origin is told of the client, and the number of its circuit.
/// Names with other characters than letters, digits and `-` go first: origins
/// that make variables of fields take them for others ([`token::plain`]).
pub(super) fn forget(settings: &HeaderSettings, headers: &mut HeaderMap) {
    let circuit_id = settings.circuit_id.as_deref().map(|name| plain(name.as_bytes()));
    let unwanted = |name: &str| {
        let strip = &settings.strip_request;
        !ESSENTIAL.contains(&name) && strip.iter().any(|pattern| matches(pattern, name))
    };
    let passes =
        |name: &str| settings.pass_request.iter().any(|passing| passing.eq_ignore_ascii_case(name));
    let goes = |name: &&HeaderName| {
        let name = name.as_str();
        !name.bytes().all(token::is_plain)
            || is_told(name)
            || (reserved::is_reserved(name) && !passes(name))
            || unwanted(name)
            || circuit_id.as_deref().is_some_and(|id| id == reserved::without_http(name).as_bytes())
    };
    let names: Vec<HeaderName> = headers.keys().filter(goes).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Whether a field of this name says how and for what site a client has come, which
/// none can say of itself.
pub fn is_told(name: &str) -> bool {
    ["forwarded", "x-forwarded*"].iter().any(|told| matches(told, reserved::without_http(name)))
}

fn plain(name: &[u8]) -> Vec<u8> {
    token::plain(name).collect()
}

/// Says what the settings want to be said: how, for what site and on which
/// circuit the client has come.
pub(super) fn tell(
    settings: &HeaderSettings,
    visitor: &Visitor,
    site: &Site,
    headers: &mut HeaderMap,
) {
    if settings.x_forwarded {
        headers.insert("x-forwarded-proto", HeaderValue::from_static(site.scheme));
        headers.insert("x-forwarded-host", text(&site.host()));
        headers.insert("x-forwarded-port", site.port().into());
    }
    if settings.forwarded {
        // The client is an obfuscated identifier (RFC 7239, section 6.3): the
        // number of its circuit. The host is quoted, since it may hold a colon.
        let (circuit, host, scheme) = (visitor.circuit, site.host(), site.scheme);
        let value = format!("for=_c{circuit};host=\"{host}\";proto={scheme}");
        headers.insert(FORWARDED, text(&value));
    }
    if let Some(Ok(name)) = settings.circuit_id.as_ref().map(HeaderName::try_from) {
        headers.insert(name, visitor.circuit.into());
    }
}

/// The value of a field that is made of hosts: these are letters, digits and
/// punctuation.
pub(super) fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of those of these fields that a client may send.
    fn kept(settings: &HeaderSettings, names: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for name in names {
            let name = HeaderName::try_from(*name).unwrap();
            headers.append(name, HeaderValue::from_static("x"));
        }
        forget(settings, &mut headers);
        let mut left: Vec<String> = headers.keys().map(ToString::to_string).collect();
        left.sort();
        left
    }

    #[test]
    fn names_that_origins_take_for_others_are_dropped() {
        let settings = HeaderSettings::default();
        let odd = [
            "SCRIPT_NAME",
            "remote_user",
            "x_own",
            "x.own",
            "x~own",
            "x!own",
            "x$own",
            "x|own",
            "_",
            "x_",
            "Content_Type",
            "x+own",
            "x'own",
            "x*own",
            "x`own",
            "x^own",
            "x&own",
        ];
        assert_eq!(kept(&settings, &odd), [""; 0]);
        assert_eq!(kept(&settings, &["X-Own", "x2", "content-type"]).len(), 3);
    }

    #[test]
    fn what_only_servers_and_proxies_say_is_dropped() {
        let settings = HeaderSettings::default();
        let names = [
            "Script-Name",
            "Path-Info",
            "Remote-User",
            "Remote-Groups",
            "Https",
            "Server-Name",
            "Request-Uri",
            "Request-Method",
            "Query-String",
            "Auth-Type",
            "Document-Root",
            "X-Original-Url",
            "X-Rewrite-Url",
            "X-Original-Uri",
            "X-Original-Method",
            "X-Remote-User",
            "X-Forwarded-User",
            "X-Forwarded-Email",
            "X-Forwarded-Groups",
            "X-Forwarded-Prefix",
            "X-Forwarded-Client-Cert",
            "X-Forwarded-Ssl",
            "X-SSL-Client-Verify",
            "X-SSL-Client-DN",
            "X-SSL-Cert",
            "SSL-Client-Cert",
            "Ssl-Client-S-Dn",
            "X-Client-Cert",
            "X-Client-DN",
            "X-Client-Verify",
            "Client-Cert",
            "Client-Cert-Chain",
            "X-Sendfile-Type",
            "X-Accel-Mapping",
            "X-Accel-Redirect",
            "X-Script-Name",
            "Proxy",
            "Proxy-User",
            "X-Auth-Request-User",
            "X-Auth-Request-Email",
            "X-Authenticated-User",
            "X-Authenticated-Userid",
            "X-Webauth-User",
            "X-Amzn-Oidc-Data",
            "X-Amzn-Oidc-Identity",
            "X-Amzn-Mtls-Clientcert",
            "Tailscale-User-Login",
            "Cf-Access-Authenticated-User-Email",
            "Cf-Access-Jwt-Assertion",
            "CF-IPCountry",
            "X-Goog-Authenticated-User-Email",
            "X-Goog-Iap-Jwt-Assertion",
            "X-Ms-Client-Principal",
            "X-Ms-Client-Principal-Name",
            "X-Authentik-Username",
            "X-Pomerium-Jwt-Assertion",
            "X-Vouch-User",
            "X-Consumer-Username",
            "X-Arr-Clientcert",
            "Oidc-Claim-Sub",
            "Iv-User",
            "Sm-User",
            "Shib-Session-Id",
            "Eppn",
            "Logon-User",
            "Ms-Aspnetcore-Token",
            "X-Middleware-Subrequest",
            "X-Envoy-Original-Path",
            "Front-End-Https",
            "X-Url-Scheme",
            "X-Scheme",
            "Http-Remote-User",
            "HTTP-Proxy",
            "Teleport-Jwt-Assertion",
            "Ngrok-Auth-User-Email",
            "YNH-USER",
            "X-Verified-User",
            "Cluster-Client-Ip",
            "Disguised-Host",
            "X-RemoteUser",
            "X-Azure-FDID",
            "CloudFront-Viewer-Address",
            "X-Vercel-Forwarded-For",
            "X-NF-Client-Connection-IP",
            "DO-Connecting-IP",
            "GeoIP-Country-Code",
            "Surrogate-Capability",
            "X-Ingress-Path",
            "X-Request-Path",
            "X-User-Role",
            "X-User-Info",
            "X-Preferred-Username",
            "X-Jwt-Claim-Sub",
            "X-Token-Subject",
            "X-Cert-Subject",
            "TLS-Client-Cert",
            "Kubeflow-Userid",
            "X-Cas-User",
        ];
        assert_eq!(kept(&settings, &names), [""; 0]);
    }

    #[test]
    fn what_the_operator_lets_pass_does_and_nothing_else() {
        let pass_request =
            ["X-Username", "x-email", "X-Forwarded-Host", "Forwarded", "X-Circuit", "X_Role"];
        let settings = HeaderSettings {
            pass_request: pass_request.map(str::to_owned).to_vec(),
            circuit_id: Some("X-Circuit".into()),
            ..HeaderSettings::default()
        };
        let names = [
            "x-username",
            "X-EMAIL",
            "x-usernames",
            "x-user",
            "http-x-username",
            "x_username",
            "x-forwarded-host",
            "forwarded",
            "x-circuit",
            "x_role",
        ];
        assert_eq!(kept(&settings, &names), ["x-email", "x-username", "x-usernames"]);
        assert_eq!(kept(&HeaderSettings::default(), &names[..2]), [""; 0]);
    }

    #[test]
    fn the_operators_own_list_counts_too_but_for_what_makes_the_message() {
        let strip_request = vec!["X-Own".into(), "X-Their*".into(), "c*".into(), "h*".into()];
        let settings = HeaderSettings { strip_request, ..HeaderSettings::default() };
        let names = [
            "x-own",
            "x-own-too",
            "x-their",
            "X-Their-Id",
            "x-the",
            "cookie",
            "content-length",
            "content-type",
            "host",
            "accept",
        ];
        let left = ["accept", "content-length", "content-type", "host", "x-own-too", "x-the"];
        assert_eq!(kept(&settings, &names), left);
    }
}
