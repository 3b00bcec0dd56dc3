//! With which certificates does a port speak TLS? The option `tls` of an entry of
//! `proxy_ports`.
//!
//! Text in, paths out; what is in the files, whoever serves the port reads.

use super::document::Value;
use super::error::{ConfigReport, Expected};
use super::files;
use super::reader::TableItem;
use super::units::{path, table};
use onionbraid_proxy::rules::{CertificateFiles, MAX_CERTIFICATES};

const ONE: &str = "{ certificate = \"certificate.pem\", key = \"key.pem\" }";

/// Reads one certificate, or an array of them.
pub(super) fn read(
    item: &TableItem<'_>,
    report: &mut ConfigReport,
) -> Option<Vec<CertificateFiles>> {
    let items = match &item.node.value {
        Value::Table(_) => vec![item.clone()],
        Value::Array(_) => item.array("an array of certificates", report)?,
        _ => {
            item.wrong(format!("this must be {ONE}, or an array of such tables"), report);
            return None;
        }
    };
    if !(1..=MAX_CERTIFICATES).contains(&items.len()) {
        let count = items.len();
        let problem = format!("there must be 1 to {MAX_CERTIFICATES} certificates, not {count}");
        item.wrong(problem, report);
        return None;
    }
    let mut found: Vec<CertificateFiles> = Vec::new();
    for item in &items {
        let Some(files) = one(item, report) else { continue };
        if found.iter().any(|other| other.certificate == files.certificate) {
            item.wrong("this certificate is there already", report);
        } else {
            found.push(files);
        }
    }
    (found.len() == items.len()).then_some(found)
}

fn one(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<CertificateFiles> {
    let mut table = item.table(report)?;
    let (certificate, key) = (table.get("certificate"), table.get("key"));
    table.finish(report);
    for (present, name) in [(&certificate, "certificate"), (&key, "key")] {
        if present.is_none() {
            item.wrong(format!("`{name}` is missing: {ONE}"), report);
        }
    }
    let certificate = files::read(&certificate?, Expected::Certificate, report);
    let key = files::read(&key?, Expected::TlsKey, report);
    Some(CertificateFiles { certificate: certificate?, key: key? })
}

/// The option with these certificates; nothing for none.
pub(super) fn to_toml(certificates: &[CertificateFiles]) -> Option<toml::Value> {
    let one = |files: &CertificateFiles| {
        table([("certificate", path(&files.certificate)), ("key", path(&files.key))])
    };
    match certificates {
        [] => None,
        [files] => Some(one(files)),
        all => Some(all.iter().map(one).collect::<Vec<_>>().into()),
    }
}
