//! Which fields of requests only servers and proxies may set: the names, and
//! whether a field has one of them. Pure.
//!
//! An origin that knows such a field believes it, since it comes from what stands
//! in front of it. Nothing stands between the client and this proxy, so none of
//! them is anybody's but the client's. Names that programs of clients use as well
//! are not here, whatever some gateways make of them: `X-User-Id`,
//! `X-Auth-Token`, `X-Access-Token`, `X-Amz-*`; operators have a list of their own.

use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Names in small letters; a `*` at the end stands for anything.
const NAMES: &[&str] = &[
    // Variables of CGI (RFC 3875, section 4.1) and of the servers that follow it:
    // gunicorn cuts `SCRIPT_NAME` off the path, others take the user or the target
    // from there.
    "appl-*",
    "auth-password",
    "auth-type",
    "auth-user",
    "cert-*",
    "context-document-root",
    "context-prefix",
    "document-*",
    "gateway-interface",
    "https",
    "https-*",
    "logon-user",
    "orig-path-info",
    "orig-script-name",
    "path-info",
    "path-translated",
    "php-*",
    "query-string",
    "redirect-*",
    "remote-*",
    "request-filename",
    "request-method",
    "request-scheme",
    "request-uri",
    "request-url",
    "script-*",
    "server-addr",
    "server-admin",
    "server-name",
    "server-port",
    "server-port-secure",
    "server-protocol",
    "server-signature",
    "server-software",
    "ssl-*",
    "unencoded-url",
    "url-scheme",
    "uwsgi-*",
    "wsgi-*",
    // Where the client comes from, and by which scheme and name it has asked.
    "akamai-*",
    "ali-cdn-real-ip",
    "cdn-client-ip",
    "cdn-src-ip",
    "cf-*",
    "client-ip",
    "cloudfront-*",
    "do-connecting-ip",
    "fastly-*",
    "fly-*",
    "forwarded",
    "forwarded-*",
    "front-end-https",
    "geoip-*",
    "incap-client-ip",
    // `Proxy` also becomes `HTTP_PROXY`, which programs take for the proxy that
    // they should use (CVE-2016-5385).
    "proxy",
    "proxy-*",
    "true-client-ip",
    "wl-proxy-*",
    "x-akamai-*",
    "x-appengine-*",
    "x-arr-*",
    "x-azure-*",
    "x-client-ip",
    "x-client-port",
    "x-client-proto",
    "x-client-scheme",
    "x-cluster-client-ip",
    "x-envoy-*",
    "x-fd-*",
    "x-forward-*",
    "x-forwarded*",
    "x-forwarder-for",
    "x-geoip-*",
    "x-host",
    "x-https",
    "x-ip",
    "x-nf-client-connection-ip",
    "x-nginx-proxy",
    "x-originating-*",
    "x-peer-ip",
    "x-proxyuser-*",
    "x-real-*",
    "x-remote-*",
    "x-scheme",
    "x-source-ip",
    "x-sucuri-clientip",
    "x-true-client-ip",
    "x-url-scheme",
    "x-vercel-forwarded-for",
    "x-vercel-ip-*",
    "x-vercel-proxied-for",
    "z-forwarded-for",
    // Another target, host or way than the one that the rules were held against.
    "base-url",
    // Who sends this is taken for a cache that puts pages together of parts.
    "surrogate-*",
    "x-base-path",
    "x-base-url",
    "x-document-root",
    "x-host-override",
    "x-http-destinationurl",
    "x-http-host-override",
    "x-http-path-override",
    "x-ingress-path",
    "x-invoke-*",
    "x-matched-path",
    "x-middleware-*",
    "x-original-*",
    "x-override-url",
    "x-path-info",
    "x-path-prefix",
    "x-request-path",
    "x-request-uri",
    "x-request-url",
    "x-rewrite-*",
    "x-script-name",
    "x-waws-unencoded-url",
    // Files of the origin: sent by itself, or named by what stands before it.
    "x-accel-*",
    "x-lighttpd-send-file",
    "x-sendfile",
    "x-sendfile-*",
    // The certificate of the client, as who has ended its TLS tells it.
    "client-cert",
    "client-cert-*",
    "tls-client-*",
    "x-amzn-mtls-*",
    "x-amzn-tls-*",
    "x-cert-*",
    "x-certificate",
    "x-client-cert*",
    "x-client-dn*",
    "x-client-s-dn",
    "x-client-ssl-*",
    "x-client-subject*",
    "x-client-verif*",
    "x-mtls-*",
    "x-ssl",
    "x-ssl-*",
    "x-tls-*",
    // Who the client is, as what has asked for its password tells it.
    "ajp-*",
    "cas-*",
    "eppn",
    "iv-*",
    "kubeflow-userid",
    "mellon-*",
    "ms-aspnetcore-*",
    "oam-*",
    "oidc-*",
    "osso-*",
    "persistent-id",
    "remoteuser",
    "shib-*",
    "sm-*",
    "smuser",
    "sso-*",
    "tailscale-*",
    "targeted-id",
    "x-amzn-cognito-*",
    "x-amzn-lattice-*",
    "x-amzn-oidc-*",
    "x-anonymous-consumer",
    "x-auth-email",
    "x-auth-group",
    "x-auth-groups",
    "x-auth-name",
    "x-auth-request-*",
    "x-auth-role",
    "x-auth-roles",
    "x-auth-subject",
    "x-auth-uid",
    "x-auth-user",
    "x-auth-user-*",
    "x-auth-userid",
    "x-auth-username",
    "x-authelia-*",
    "x-authenticated",
    "x-authenticated-*",
    "x-authentik-*",
    "x-authuser",
    "x-cas-*",
    "x-consumer-*",
    "x-credential-*",
    "x-email",
    "x-goog-authenticated-*",
    "x-goog-iap-*",
    "x-groups",
    "x-httpd-username",
    "x-identity-*",
    "x-idp-*",
    "x-iis-windowsauthtoken",
    "x-jwt-assertion",
    "x-jwt-claim*",
    "x-jwt-payload",
    "x-jwt-user",
    "x-kerberos-*",
    "x-ldap-*",
    "x-logged-in-user",
    "x-ms-client-principal*",
    "x-ms-token-*",
    "x-oidc-*",
    "x-openidc-*",
    "x-pomerium-*",
    "x-preferred-username",
    "x-principal",
    "x-proxy-*",
    "x-remoteuser",
    "x-roles",
    "x-saml-*",
    "x-shib-*",
    "x-spiffe-*",
    "x-sso-*",
    "x-tailscale-*",
    "x-token-subject",
    "x-token-user-*",
    "x-trusted-user",
    "x-user",
    "x-user-dn",
    "x-user-email",
    "x-user-group",
    "x-user-groups",
    "x-user-info",
    "x-user-name",
    "x-user-role",
    "x-user-roles",
    "x-userinfo",
    "x-username",
    "x-vouch-*",
    "x-webauth-*",
];

/// Whether a field of this name, in small letters, is not the client's to send.
/// Also with `http-` in front: some applications look for a field of the name that
/// only its variable has (`HTTP_CLIENT_IP`).
pub(super) fn is_reserved(name: &str) -> bool {
    let name = without_http(name);
    let (whole, starts) = &*BY_NAME;
    // Of starts of which none begins with another, the only one that can be the
    // start of a name is the last one before it.
    let start = starts.range(..=name).next_back();
    whole.contains(name) || start.is_some_and(|start| name.starts_with(start))
}

/// The names, and the starts of names, as they are looked up for every field.
static BY_NAME: LazyLock<(BTreeSet<&str>, BTreeSet<&str>)> = LazyLock::new(|| {
    let starts = NAMES.iter().filter_map(|name| name.strip_suffix('*')).collect();
    (NAMES.iter().copied().filter(|name| !name.ends_with('*')).collect(), starts)
});

/// Whether a name is one of these; in any case, and a `*` at the end stands for
/// anything.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        None => pattern.eq_ignore_ascii_case(name),
        Some(start) => name.get(..start.len()).is_some_and(|name| name.eq_ignore_ascii_case(start)),
    }
}

/// A name without `http-` in front.
pub(super) fn without_http(name: &str) -> &str {
    name.strip_prefix("http-").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_they_are_compared() {
        for name in NAMES {
            let plain = name.strip_suffix('*').unwrap_or(name);
            assert!(!plain.is_empty() && plain.bytes().all(crate::token::is_plain), "{name}");
            assert_eq!(*name, name.to_ascii_lowercase());
            assert_eq!(NAMES.iter().filter(|other| other == &name).count(), 1, "{name} twice");
            let covers = |other: &&&str| {
                let start = other.strip_suffix('*').filter(|_| other != &name);
                start.is_some_and(|start| plain.starts_with(start))
            };
            assert_eq!(NAMES.iter().find(covers), None, "{name} is covered");
        }
    }

    #[test]
    fn what_clients_send_of_themselves_is_not_reserved() {
        // What browsers, WebDAV, gRPC, tracing and common APIs send.
        for name in [
            "host",
            "accept",
            "accept-encoding",
            "accept-language",
            "access-control-request-method",
            "access-control-request-headers",
            "authorization",
            "cache-control",
            "connection",
            "content-encoding",
            "content-language",
            "content-length",
            "content-range",
            "content-type",
            "cookie",
            "date",
            "depth",
            "destination",
            "dnt",
            "downlink",
            "dpop",
            "early-data",
            "from",
            "grpc-timeout",
            "hx-request",
            "idempotency-key",
            "if",
            "if-match",
            "if-modified-since",
            "if-none-match",
            "if-range",
            "if-unmodified-since",
            "last-event-id",
            "lock-token",
            "max-forwards",
            "mcp-session-id",
            "next-action",
            "next-router-state-tree",
            "ocs-apirequest",
            "oc-checksum",
            "origin",
            "overwrite",
            "pragma",
            "prefer",
            "priority",
            "purpose",
            "range",
            "referer",
            "request-id",
            "rsc",
            "save-data",
            "sec-ch-ua",
            "sec-fetch-site",
            "sec-gpc",
            "sec-websocket-key",
            "te",
            "timeout",
            "traceparent",
            "tracestate",
            "trailer",
            "transfer-encoding",
            "tus-resumable",
            "upgrade",
            "upgrade-insecure-requests",
            "upload-length",
            "user-agent",
            "via",
            "x-api-key",
            "x-auth-token",
            "x-access-token",
            "x-amz-date",
            "x-amz-content-sha256",
            "x-csrf-token",
            "x-csrftoken",
            "x-goog-api-key",
            "x-grpc-web",
            "x-hasura-role",
            "x-http-method-override",
            "x-hub-signature",
            "x-inertia",
            "x-livewire",
            "x-ms-date",
            "x-requested-with",
            "x-request-id",
            "x-turbo-request-id",
            "x-update",
            "x-user-agent",
            "x-user-id",
            "x-xsrf-token",
            "http-alive",
            "ce-type",
            "webhook-id",
        ] {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
